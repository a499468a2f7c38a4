/* proto/wire.c - see wire.h. */
#include "proto/wire.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static int send_failed(struct cn_error *err)
{
    int e = zmq_errno();
    if (e == EAGAIN) return cn_fail(err, CN_EBUSY, "the peer takes no more messages now");
    if (e == EHOSTUNREACH) return cn_fail(err, CN_ECONNECT, "the peer is gone");
    return cn_fail(err, CN_EIO, "sending failed: %s", zmq_strerror(e));
}

static int send_part(void *socket, const void *data, size_t n, int more, struct cn_error *err)
{
    while (zmq_send(socket, data, n, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)) < 0)
        if (zmq_errno() != EINTR) return send_failed(err);
    return 0;
}

static int send_body(void *socket, const ProtobufCMessage *body, int more, struct cn_error *err)
{
    zmq_msg_t msg;
    size_t n = protobuf_c_message_get_packed_size(body);
    if (zmq_msg_init_size(&msg, n))
        return cn_fail(err, CN_ENOMEM, "out of memory for a message of %zu bytes", n);
    protobuf_c_message_pack(body, zmq_msg_data(&msg));
    while (zmq_msg_send(&msg, socket, ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)) < 0) {
        if (zmq_errno() == EINTR) continue;
        int rc = send_failed(err);
        zmq_msg_close(&msg);
        return rc;
    }
    return 0;
}

int pr_send(void *socket, const struct pr_header *h, const ProtobufCMessage *body, const void *data,
            size_t n_data, struct cn_error *err)
{
    uint8_t head[PR_HEADER_BYTES];
    pr_header_put(head, h);
    int rc = send_part(socket, head, sizeof head, 1, err);
    if (!rc) rc = send_body(socket, body, n_data > 0, err);
    if (!rc && n_data) rc = send_part(socket, data, n_data, 0, err);
    return rc;
}

/* Receives one frame; 1, or 0 when there is none now. *more tells whether another follows. */
static int recv_frame(void *socket, zmq_msg_t *msg, int *more, struct cn_error *err)
{
    zmq_msg_init(msg);
    while (zmq_msg_recv(msg, socket, ZMQ_DONTWAIT) < 0) {
        if (zmq_errno() == EINTR) continue;
        int e = zmq_errno();
        zmq_msg_close(msg);
        zmq_msg_init(msg);
        *more = 0;
        return e == EAGAIN ? 0 : cn_fail(err, CN_EIO, "receiving failed: %s", zmq_strerror(e));
    }
    *more = zmq_msg_more(msg);
    return 1;
}

static int drop_rest(void *socket, int more)
{
    int dropped = 0;
    while (more) {
        zmq_msg_t msg;
        if (recv_frame(socket, &msg, &more, NULL) != 1) break;
        zmq_msg_close(&msg);
        dropped++;
    }
    return dropped;
}

int pr_recv(void *socket, struct pr_message *m, struct cn_error *err)
{
    memset(m, 0, sizeof *m);
    zmq_msg_init(&m->data);
    zmq_msg_t frame;
    int more, rc = recv_frame(socket, &frame, &more, err);
    if (rc != 1) return rc;
    rc = pr_header_get(&m->h, zmq_msg_data(&frame), zmq_msg_size(&frame), &m->error);
    const char *user = zmq_msg_gets(&frame, "User-Id");
    if (user) snprintf(m->key, sizeof m->key, "%s", user);
    zmq_msg_close(&frame);
    if (rc || !more) {
        if (!rc) cn_fail(&m->error, CN_ECORRUPT, "message without a body");
        drop_rest(socket, more);
        return 1;
    }
    if (recv_frame(socket, &frame, &more, err) != 1)
        return cn_fail(err, CN_EIO, "message broke off");
    int type = m->h.code ? PR_ERROR : m->h.type;
    pr_unpack(&m->body, type, zmq_msg_data(&frame), zmq_msg_size(&frame), &m->error);
    zmq_msg_close(&frame);
    if (more && recv_frame(socket, &m->data, &more, err) != 1)
        return cn_fail(err, CN_EIO, "message broke off");
    if (drop_rest(socket, more))
        cn_fail(&m->error, CN_ECORRUPT, "message of more than three frames");
    return 1;
}

void pr_message_read(struct pr_message *m, zmq_msg_t *header, zmq_msg_t *body)
{
    memset(m, 0, sizeof *m);
    zmq_msg_init(&m->data);
    if (pr_header_get(&m->h, zmq_msg_data(header), zmq_msg_size(header), &m->error)) return;
    if (!body) {
        cn_fail(&m->error, CN_ECORRUPT, "message without a body");
        return;
    }
    int type = m->h.code ? PR_ERROR : m->h.type;
    pr_unpack(&m->body, type, zmq_msg_data(body), zmq_msg_size(body), &m->error);
}

void pr_message_clear(struct pr_message *m)
{
    pr_free(m->body);
    zmq_msg_close(&m->data);
    memset(m, 0, sizeof *m);
    zmq_msg_init(&m->data);
}

static int set_int(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof value);
}

static int set_keys(void *socket, const struct pr_key *key)
{
    return zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, key->server, PR_Z85) ||
           zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, key->public_key, PR_Z85) ||
           zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, key->secret, PR_Z85);
}

int pr_endpoint_check(const char *endpoint, struct cn_error *err)
{
    size_t most = sizeof((struct sockaddr_un *)0)->sun_path - 1; /* 107: a 0 ends it */
    bool ipc = !strncmp(endpoint, "ipc://", 6);
    if (ipc && strlen(endpoint + 6) > most)
        return cn_fail(
            err, CN_EINVALID,
            "the path of ipc://..%s has %zu bytes, and a Unix socket's at most %zu; take "
            "a shorter one, such as /tmp/cinch.sock",
            endpoint + strlen(endpoint) - 20, strlen(endpoint + 6), most);
    if ((ipc && endpoint[6]) || (!strncmp(endpoint, "tcp://", 6) && endpoint[6]) ||
        !strncmp(endpoint, "inproc://", 9))
        return 0;
    return cn_fail(err, CN_EINVALID, "%s: not an address; give ipc://PATH or tcp://HOST:PORT",
                   endpoint);
}

int pr_dealer(void **out, void *zmq, const char *endpoint, const struct pr_key *key,
              struct cn_error *err)
{
    *out = NULL;
    int tcp = !strncmp(endpoint, "tcp://", 6), rc = pr_endpoint_check(endpoint, err);
    if (rc) return rc;
    if (tcp && (!key || !*key->server))
        return cn_fail(err, CN_EREFUSED,
                       "%s: tcp needs a key file; ask for one made by: cinch keys create NAME",
                       endpoint);
    void *s = zmq_socket(zmq, ZMQ_DEALER);
    if (!s) return cn_fail(err, CN_ENOMEM, "no socket: %s", zmq_strerror(zmq_errno()));
    int64_t largest = PR_MAX_REPLY;
    int bad = set_int(s, ZMQ_LINGER, 0) || set_int(s, ZMQ_RECONNECT_IVL, 50) ||
              set_int(s, ZMQ_RECONNECT_IVL_MAX, 2000) || set_int(s, ZMQ_IPV6, 1) ||
              zmq_setsockopt(s, ZMQ_MAXMSGSIZE, &largest, sizeof largest) ||
              (tcp && (set_int(s, ZMQ_HEARTBEAT_IVL, 4000) ||
                       set_int(s, ZMQ_HEARTBEAT_TIMEOUT, 8000) || set_keys(s, key)));
    if (bad || zmq_connect(s, endpoint)) {
        rc = cn_fail(err, bad ? CN_EINTERNAL : CN_EINVALID, "%s: %s", endpoint,
                     zmq_strerror(zmq_errno()));
        zmq_close(s);
        return rc;
    }
    *out = s;
    return 0;
}
