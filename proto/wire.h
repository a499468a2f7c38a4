/* proto/wire.h - messages over ZeroMQ sockets: frames, socket options, CURVE. */
#ifndef CINCH_PROTO_WIRE_H
#define CINCH_PROTO_WIRE_H

#include <zmq.h>

#include "proto/keys.h"
#include "proto/message.h"

/* Sends one message on a DEALER: header, body, and `data` as a third frame when n_data > 0
 * (copied). Does not block: CN_EBUSY when the peer takes no more now, CN_ECONNECT when it is gone.
 */
int pr_send(void *socket, const struct pr_header *h, const ProtobufCMessage *body, const void *data,
            size_t n_data, struct cn_error *err);

/* A received message. */
struct pr_message {
    struct pr_header h;
    ProtobufCMessage
        *body;        /* of type h.type (Error when h.code is not 0); NULL when error.code is set */
    zmq_msg_t data;   /* third frame; empty when there was none */
    char key[PR_Z85]; /* the sender's CURVE key as ZAP admitted it; "" without CURVE */
    struct cn_error error; /* a frame that could not be decoded: h is valid when h.type is not 0 */
};

/* Takes one message off a DEALER. 1: *m is filled, release it with pr_message_clear; 0: nothing
 * there; negative: the socket failed. */
int pr_recv(void *socket, struct pr_message *m, struct cn_error *err);
/* The same from frames that are in memory: the header and, unless body is NULL, the body. `data` and
 * `key` are left empty. What cannot be decoded is in m->error. */
void pr_message_read(struct pr_message *m, zmq_msg_t *header, zmq_msg_t *body);
void pr_message_clear(struct pr_message *m);

/* CN_EINVALID unless `endpoint` is an address: ipc://PATH with a path that a Unix socket can have (107
 * bytes), tcp://HOST:PORT or inproc://NAME. */
int pr_endpoint_check(const char *endpoint, struct cn_error *err);

/* A DEALER connected to `endpoint` ("ipc://PATH", "tcp://HOST:PORT", "inproc://NAME"). tcp needs
 * `key`. Sets linger 0, on tcp ZeroMQ's own heartbeats (a half-open connection is noticed within 12 s) and
 * size bounds. Close with zmq_close. */
int pr_dealer(void **socket, void *zmq, const char *endpoint, const struct pr_key *key,
              struct cn_error *err);

#endif
