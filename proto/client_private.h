/* proto/client_private.h - the client's inside, shared by client.c (requests), blobio.c and
 * blobput.c (blobs). */
#ifndef CINCH_PROTO_CLIENT_PRIVATE_H
#define CINCH_PROTO_CLIENT_PRIVATE_H

#include "proto/client.h"
#include "proto/wire.h"

struct pr_client {
    struct pr_connect how; /* strings owned */
    struct pr_key key;
    void *zmq; /* owned unless how.zmq */
    void *socket;
    void *monitor; /* tells why a connection does not come about */
    int connected; /* a handshake has succeeded on this socket */
    int refused;   /* the coordinator refused our key */
    uint64_t next_id;
    Cinch__Welcome *welcome;
};

/* Sends one request; the id is the caller's. */
int pr_client_send(struct pr_client *c, int type, uint64_t id, const void *body, const void *data,
                   size_t n, struct cn_error *err);
/* Waits until `deadline` (cn_mono_ms) for any message: 1 filled, 0 nothing came, negative: refused,
 * stopped, broken. */
int pr_client_recv(struct pr_client *c, struct pr_message *m, int64_t deadline,
                   struct cn_error *err);
/* Says hello (again). */
int pr_client_hello(struct pr_client *c, int64_t deadline, struct cn_error *err);
/* 1: this reply asks for a hello first. */
int pr_says_hello(const struct pr_message *m);
/* The error that a reply carries: its code and text. */
int pr_reply_error(const struct pr_message *m, struct cn_error *err);

/* ---- blobs, both ways */
enum { PR_BLOB_WINDOW = 8 }; /* chunks under way */
/* Waits for the next message. 1: a reply with id in [first, next); 0: start over (stalled, or hello
 * was needed); negative as pr_client_recv. */
int pr_blob_reply(struct pr_client *c, struct pr_message *m, uint64_t first, struct cn_error *err);
/* Tells of progress; CN_EINTERRUPTED when that asks to stop. p may be NULL. */
int pr_blob_report(const struct pr_blob_progress *p, uint64_t done, uint64_t total,
                   struct cn_error *err);

#endif
