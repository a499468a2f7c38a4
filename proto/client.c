/* proto/client.c - see client.h. */
#include "proto/client_private.h"

#include <pwd.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "proto/check.h"
#include "proto/wire.h"

enum {
    DEFAULT_TIMEOUT_MS = 10000,
    OPEN_WAIT_MS = 3000, /* for a first connection: nobody is there */
    REPEAT_MS = 2500,    /* an unanswered request is sent again after this */
    SLICE_MS = 100,      /* how often `stop` is asked */
};

void pr_local_endpoint(char *out, size_t cap)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (runtime && *runtime)
        snprintf(out, cap, "ipc://%s/cinch.sock", runtime);
    else
        snprintf(out, cap, "ipc:///tmp/cinch-%u.sock", (unsigned)geteuid());
}

void pr_default_endpoint(char *out, size_t cap)
{
    const char *given = getenv("CINCH_COORDINATOR");
    if (given && *given)
        snprintf(out, cap, "%s", given);
    else
        pr_local_endpoint(out, cap);
}

void pr_find_endpoint(char *out, size_t cap)
{
    static const char service[] = "ipc:///run/cinch/cinch.sock"; /* packaging/systemd */
    pr_default_endpoint(out, cap);
    if (!strncmp(out, "ipc:///", 7) && access(out + 6, F_OK) && !access(service + 6, F_OK))
        snprintf(out, cap, "%s", service);
}

static int monitor_open(struct pr_client *c, struct cn_error *err)
{
    /* Not the client's address: the next client may get the same one before ZeroMQ has let go of
     * this name. */
    static atomic_uint number;
    char name[64];
    snprintf(name, sizeof name, "inproc://cinch-client-%u", atomic_fetch_add(&number, 1));
    int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                 ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;
    if (zmq_socket_monitor(c->socket, name, events) ||
        !(c->monitor = zmq_socket(c->zmq, ZMQ_PAIR)) || zmq_connect(c->monitor, name))
        return cn_fail(err, CN_EINTERNAL, "socket monitor: %s", zmq_strerror(zmq_errno()));
    int zero = 0;
    zmq_setsockopt(c->monitor, ZMQ_LINGER, &zero, sizeof zero);
    return 0;
}

/* Notes what the handshakes came to. A wrong server key shows as "no detail": the coordinator hangs
 * up. */
static void monitor_read(struct pr_client *c)
{
    zmq_msg_t msg;
    zmq_msg_init(&msg);
    while (zmq_msg_recv(&msg, c->monitor, ZMQ_DONTWAIT) >= 0) {
        uint16_t event = 0;
        if (zmq_msg_size(&msg) == 6) {
            memcpy(&event, zmq_msg_data(&msg), sizeof event);
            if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
                c->connected = 1;
                c->refused = 0;
            } else if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) {
                c->refused += 2; /* by name: ZeroMQ does not offer the key again */
            } else if (!strncmp(c->how.endpoint, "tcp://", 6) && !c->connected && !c->how.known) {
                /* a wrong server key looks like this; so does a tunnel whose far end is away, but
                 * that counts only while no handshake has succeeded yet */
                c->refused++;
            }
        }
        while (zmq_msg_more(&msg) && zmq_msg_recv(&msg, c->monitor, ZMQ_DONTWAIT) >= 0) continue;
    }
    zmq_msg_close(&msg);
}

int pr_client_send(struct pr_client *c, int type, uint64_t id, const void *body, const void *data,
                   size_t n, struct cn_error *err)
{
    struct pr_header h = {.type = (uint16_t)type, .id = id};
    return pr_send(c->socket, &h, body, data, n, err);
}

int pr_client_recv(struct pr_client *c, struct pr_message *m, int64_t deadline,
                   struct cn_error *err)
{
    for (;;) {
        int rc = pr_recv(c->socket, m, err);
        if (rc) return rc;
        if (c->how.stop && c->how.stop(c->how.stop_arg))
            return cn_fail(err, CN_EINTERRUPTED, "stopped");
        int64_t left = deadline - cn_mono_ms();
        if (left <= 0) return 0;
        zmq_pollitem_t item[2] = {{c->socket, 0, ZMQ_POLLIN, 0}, {c->monitor, 0, ZMQ_POLLIN, 0}};
        zmq_poll(item, 2, left < SLICE_MS ? left : SLICE_MS);
        if (item[1].revents) monitor_read(c);
        if (c->refused >= 2)
            return cn_fail(err, CN_EREFUSED,
                           "%s refused the key in %s: it is unknown there, was revoked, or belongs "
                           "to another coordinator",
                           c->how.endpoint, c->how.key_file ? c->how.key_file : "(none)");
    }
}

int pr_says_hello(const struct pr_message *m)
{
    return m->h.type == PR_HELLO && m->h.code == CN_ESTALE;
}

int pr_reply_error(const struct pr_message *m, struct cn_error *err)
{
    if (m->error.code) {
        if (err) *err = m->error;
        return m->error.code;
    }
    if (!m->h.code) return 0;
    return cn_fail(err, m->h.code, "%s", ((const Cinch__Error *)(const void *)m->body)->text);
}

static int nobody(struct pr_client *c, struct cn_error *err)
{
    return cn_fail(err, CN_ECONNECT, "no answer from a coordinator at %s; is cinchd running there?",
                   c->how.endpoint);
}

int pr_client_hello(struct pr_client *c, int64_t deadline, struct cn_error *err)
{
    Cinch__Hello hello = CINCH__HELLO__INIT;
    hello.version = PR_VERSION;
    hello.software = (char *)"cinch";
    hello.user = (char *)c->how.user;
    hello.results = c->how.results != 0;
    uint64_t first = c->next_id;
    int64_t again = 0;
    for (;;) {
        int64_t now = cn_mono_ms();
        if (now >= deadline) return nobody(c, err);
        if (now >= again) {
            int rc = pr_client_send(c, PR_HELLO, c->next_id++, &hello, NULL, 0, err);
            if (rc && rc != CN_EBUSY && rc != CN_ECONNECT) return rc;
            again = now + REPEAT_MS;
        }
        struct pr_message m;
        int rc = pr_client_recv(c, &m, again < deadline ? again : deadline, err);
        if (rc < 0) return rc;
        if (!rc) continue;
        int mine = m.h.id >= first && !pr_says_hello(&m);
        rc = mine ? pr_reply_error(&m, err) : 0;
        if (mine && !rc && m.h.type == PR_WELCOME) {
            pr_free(c->welcome);
            c->welcome = (Cinch__Welcome *)(void *)m.body;
            m.body = NULL;
            pr_message_clear(&m);
            return 0;
        }
        pr_message_clear(&m);
        if (rc) return rc;
    }
}

static int copy_how(struct pr_client *c, const struct pr_connect *how, struct cn_error *err)
{
    c->how = *how;
    struct passwd room, *pw = NULL;
    char text[4096];
    if (!how->user) getpwuid_r(geteuid(), &room, text, sizeof text, &pw); /* threads open clients */
    const char *user = how->user                          ? how->user
                       : pw && pr_name_valid(pw->pw_name) ? pw->pw_name
                                                          : "nobody";
    c->how.endpoint = strdup(how->endpoint);
    c->how.key_file = how->key_file ? strdup(how->key_file) : NULL;
    c->how.user = strdup(user);
    if (c->how.timeout_ms <= 0) c->how.timeout_ms = DEFAULT_TIMEOUT_MS;
    if (!c->how.endpoint || !c->how.user || (how->key_file && !c->how.key_file))
        return cn_fail(err, CN_ENOMEM, "client: out of memory");
    return 0;
}

static int connect_client(struct pr_client *c, struct cn_error *err)
{
    const char *ep = c->how.endpoint;
    int rc = pr_endpoint_check(ep, err);
    if (rc) return rc;
    if (!strncmp(ep, "ipc://", 6) && access(ep + 6, F_OK)) return nobody(c, err);
    rc = c->how.key_file ? pr_key_load(&c->key, c->how.key_file, err) : 0;
    if (rc) return rc;
    c->zmq = c->how.zmq ? c->how.zmq : zmq_ctx_new();
    if (!c->zmq) return cn_fail(err, CN_ENOMEM, "client: no ZeroMQ context");
    rc = pr_dealer(&c->socket, c->zmq, ep, c->how.key_file ? &c->key : NULL, err);
    if (!rc) rc = monitor_open(c, err);
    if (rc) return rc;
    int wait = c->how.timeout_ms < OPEN_WAIT_MS ? c->how.timeout_ms : OPEN_WAIT_MS;
    rc = pr_client_hello(c, cn_mono_ms() + wait, err);
    /* It is there, only slow: a long wait is worth while. */
    if (rc == CN_ECONNECT && c->connected)
        rc = pr_client_hello(c, cn_mono_ms() + c->how.timeout_ms, err);
    return rc;
}

int pr_client_open(struct pr_client **out, const struct pr_connect *how, struct cn_error *err)
{
    *out = NULL;
    struct pr_client *c = calloc(1, sizeof *c);
    if (!c) return cn_fail(err, CN_ENOMEM, "client: out of memory");
    randombytes_buf(&c->next_id, 4); /* two clients behind one name never share ids by habit */
    c->next_id++;
    int rc = copy_how(c, how, err);
    if (!rc) rc = connect_client(c, err);
    if (rc) {
        pr_client_close(c);
        return rc;
    }
    *out = c;
    return 0;
}

void pr_client_close(struct pr_client *c)
{
    if (!c) return;
    if (c->socket) {
        zmq_socket_monitor(c->socket, NULL, 0);
        zmq_close(c->socket);
    }
    if (c->monitor) zmq_close(c->monitor);
    if (c->zmq && c->zmq != c->how.zmq) zmq_ctx_term(c->zmq);
    pr_free(c->welcome);
    pr_key_wipe(&c->key);
    free((char *)c->how.endpoint);
    free((char *)c->how.key_file);
    free((char *)c->how.user);
    free(c);
}

const Cinch__Welcome *pr_client_welcome(const struct pr_client *c)
{
    return c->welcome;
}

void pr_client_timeout(struct pr_client *c, int timeout_ms)
{
    c->how.timeout_ms = timeout_ms > 0 ? timeout_ms : DEFAULT_TIMEOUT_MS;
}

/* Takes the reply out of m; frees what is not wanted. */
static int accept_reply(struct pr_message *m, int reply_type, void *reply, struct cn_error *err)
{
    int rc = pr_reply_error(m, err);
    if (!rc && m->h.type != reply_type)
        rc = cn_fail(err, CN_EVERSION, "the coordinator answered with message type %d", m->h.type);
    if (!rc && reply) {
        memcpy(reply, &m->body, sizeof m->body);
        m->body = NULL;
    }
    return rc;
}

int pr_call(struct pr_client *c, int type, const void *body, int reply_type, void *reply,
            struct cn_error *err)
{
    if (reply) memset(reply, 0, sizeof(void *));
    int patience = type == PR_WATCH ? (int)((const Cinch__Watch *)body)->timeout_ms : 0;
    int64_t deadline = cn_mono_ms() + c->how.timeout_ms + patience, again = 0;
    uint64_t id = c->next_id++;
    for (;;) {
        int64_t now = cn_mono_ms();
        if (now >= deadline) return nobody(c, err);
        if (now >= again) {
            int rc = pr_client_send(c, type, id, body, NULL, 0, err);
            if (rc && rc != CN_EBUSY && rc != CN_ECONNECT) return rc;
            again = now + REPEAT_MS + patience;
        }
        struct pr_message m;
        int rc = pr_client_recv(c, &m, again < deadline ? again : deadline, err);
        if (rc < 0) return rc;
        if (!rc) continue;
        if (m.h.id == id && !pr_says_hello(&m)) {
            rc = accept_reply(&m, reply_type, reply, err);
            pr_message_clear(&m);
            return rc;
        }
        int hello = pr_says_hello(&m);
        pr_message_clear(&m);
        if (hello) {
            rc = pr_client_hello(c, deadline, err);
            if (rc) return rc;
            again = 0;
        }
    }
}

static int call_json(struct pr_client *c, int type, const void *body, char **json,
                     struct cn_error *err)
{
    Cinch__Json *reply = NULL;
    if (json) *json = NULL;
    int rc = pr_call(c, type, body, PR_JSON, &reply, err);
    if (!rc && json) {
        *json = strdup(reply->text);
        if (!*json) rc = cn_fail(err, CN_ENOMEM, "client: out of memory");
    }
    pr_free(reply);
    return rc;
}

int pr_query(struct pr_client *c, Cinch__Query__What what, const char *id, char **json,
             struct cn_error *err)
{
    Cinch__Query q = CINCH__QUERY__INIT;
    q.what = what;
    if (id) q.id = (char *)id;
    return call_json(c, PR_QUERY, &q, json, err);
}

int pr_control(struct pr_client *c, Cinch__Control__What what, const char *id, int value,
               char **json, struct cn_error *err)
{
    Cinch__Control q = CINCH__CONTROL__INIT;
    q.what = what;
    if (id) q.id = (char *)id;
    q.value = value;
    return call_json(c, PR_CONTROL, &q, json, err);
}

ProtobufCBinaryData pr_hash_field(const struct cn_hash *h)
{
    ProtobufCBinaryData f = {CN_HASH_BYTES, (uint8_t *)h->b};
    return f;
}

int pr_hash_read(const ProtobufCBinaryData *f, struct cn_hash *h, struct cn_error *err)
{
    if (f->len != CN_HASH_BYTES) return cn_fail(err, CN_ECORRUPT, "a hash of %zu bytes", f->len);
    memcpy(h->b, f->data, CN_HASH_BYTES);
    return 0;
}
