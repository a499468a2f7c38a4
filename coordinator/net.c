/* coordinator/net.c - sockets: who is connected, what comes in, what goes out, and CURVE's
 * gatekeeper (ZAP). See core.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/core.h"
#include "proto/check.h"

enum {
    MAX_PEERS = 50000,
    IDLE_MS = 120 * 1000, /* who said nothing for so long must say hello again */
    CLIENT_RATE = 2000,   /* messages a second that one client may send for long ... */
    CLIENT_BURST = 20000, /* ... and at once */
};

/* ---- opening */

static int set_int(void *s, int option, int value)
{
    return zmq_setsockopt(s, option, &value, sizeof value);
}

static int router(struct coordinator *c, int i, struct cn_error *err)
{
    void *s = zmq_socket(c->zmq, ZMQ_ROUTER);
    if (!s) return cn_fail(err, CN_ENOMEM, "no socket: %s", zmq_strerror(zmq_errno()));
    int64_t largest = PR_MAX_BODY;
    int bad = set_int(s, ZMQ_LINGER, 0) || set_int(s, ZMQ_ROUTER_MANDATORY, 1) ||
              set_int(s, ZMQ_SNDHWM, 4096) || set_int(s, ZMQ_RCVHWM, 4096) ||
              set_int(s, ZMQ_BACKLOG, 1024) || set_int(s, ZMQ_TCP_KEEPALIVE, 1) ||
              set_int(s, ZMQ_TCP_KEEPALIVE_IDLE, 60) || set_int(s, ZMQ_TCP_KEEPALIVE_INTVL, 20) ||
              set_int(s, ZMQ_TCP_KEEPALIVE_CNT, 3) || set_int(s, ZMQ_HANDSHAKE_IVL, 5000) ||
              set_int(s, ZMQ_IPV6, 1) ||
              zmq_setsockopt(s, ZMQ_MAXMSGSIZE, &largest, sizeof largest);
    if (i == 1)
        bad = bad || set_int(s, ZMQ_CURVE_SERVER, 1) ||
              zmq_setsockopt(s, ZMQ_CURVE_SECRETKEY, c->server_key.secret, PR_Z85) ||
              zmq_setsockopt(s, ZMQ_ZAP_DOMAIN, "cinch", 5);
    c->socket[i] = s;
    return bad ? cn_fail(err, CN_EINTERNAL, "socket options: %s", zmq_strerror(zmq_errno())) : 0;
}

/* The coordinator's own pair lies in STATE/server.key; made at the first tcp listen. */
static int server_key(struct coordinator *c, struct cn_error *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/server.key", c->state_dir);
    int rc = 0;
    if (access(path, F_OK)) {
        rc = pr_key_make(&c->server_key, "coordinator", "server", err);
        if (!rc) rc = pr_key_save(&c->server_key, path, err);
    } else {
        rc = pr_key_load(&c->server_key, path, err);
    }
    c->has_server_key = !rc;
    return rc;
}

static int listen_on(struct coordinator *c, int i, struct cn_error *err)
{
    const char *ep = c->o.listen[i];
    int tcp = !strncmp(ep, "tcp://", 6);
    if (pr_endpoint_check(ep, err)) return cn_fail_prefix(err, "--listen");
    int rc = tcp && !c->has_server_key ? server_key(c, err) : 0;
    if (!rc && !c->socket[tcp]) rc = router(c, tcp, err);
    if (rc) return rc;
    mode_t mask = umask(0077); /* an ipc socket is guarded by its permissions alone */
    int bad = zmq_bind(c->socket[tcp], ep);
    umask(mask);
    if (bad) return cn_fail(err, CN_EIO, "cannot listen on %s: %s", ep, zmq_strerror(zmq_errno()));
    char last[512];
    size_t n = sizeof last;
    zmq_getsockopt(c->socket[tcp], ZMQ_LAST_ENDPOINT, last, &n);
    c->endpoint[i] = strdup(last);
    return c->endpoint[i] ? 0 : cn_fail(err, CN_ENOMEM, "out of memory");
}

static int zap_open(struct coordinator *c, struct cn_error *err)
{
    c->zap = zmq_socket(c->zmq, ZMQ_REP);
    if (!c->zap || set_int(c->zap, ZMQ_LINGER, 0) || zmq_bind(c->zap, "inproc://zeromq.zap.01"))
        return cn_fail(err, CN_EBUSY, "key check: %s", zmq_strerror(zmq_errno()));
    return 0;
}

int net_open(struct coordinator *c, struct cn_error *err)
{
    bool tcp = false;
    for (int i = 0; i < c->o.n_listen; i++) tcp = tcp || !strncmp(c->o.listen[i], "tcp://", 6);
    int rc = tcp ? zap_open(c, err) : 0; /* before the first client can knock */
    for (int i = 0; i < c->o.n_listen && !rc; i++) rc = listen_on(c, i, err);
    return rc;
}

static void drop_outgoing(struct outgoing *o)
{
    zmq_msg_close(&o->body);
    zmq_msg_close(&o->data);
    free(o);
}

void net_close(struct coordinator *c)
{
    for (uint32_t i = 0; i < c->n_out; i++) drop_outgoing(c->out[i]);
    free(c->out);
    free(c->peer_of);
    for (int i = 0; i < CO_SOCKETS; i++)
        if (c->socket[i]) zmq_close(c->socket[i]);
    if (c->zap) zmq_close(c->zap);
    for (int i = 0; i < CO_MAX_LISTEN; i++) free(c->endpoint[i]);
    for (int i = 0; i < CO_PEER_BUCKETS; i++)
        while (c->peer[i]) {
            struct peer *p = c->peer[i];
            c->peer[i] = p->next;
            free(p);
        }
    while (c->watchers) {
        struct watcher *w = c->watchers;
        c->watchers = w->next;
        free(w);
    }
    pr_key_wipe(&c->server_key);
}

/* ---- who may connect: RFC 27 */

/* Live keys pass; the key itself becomes the connection's user id, so that a later revocation is
 * seen at each message. */
void net_zap(struct coordinator *c)
{
    char part[7][256];
    size_t n[7] = {0};
    for (int i = 0;; i++) {
        zmq_msg_t m;
        zmq_msg_init(&m);
        if (zmq_msg_recv(&m, c->zap, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&m);
            return;
        }
        if (i < 7) {
            n[i] = zmq_msg_size(&m) < 255 ? zmq_msg_size(&m) : 255;
            memcpy(part[i], zmq_msg_data(&m), n[i]);
            part[i][n[i]] = 0;
        }
        int more = zmq_msg_more(&m);
        zmq_msg_close(&m);
        if (!more) break;
    }
    char key[PR_Z85] = "", name[PR_MAX_NAME + 1];
    bool curve =
        !strcmp(part[5], "CURVE") && n[6] == 32 && zmq_z85_encode(key, (uint8_t *)part[6], 32);
    bool good = curve && key_roles(c, key, name);
    if (!good) {
        c->n_refused++;
        cn_warn("coordinator", "refused a connection from %.60s: key %s", part[3],
                curve ? key : "missing");
    }
    zmq_send(c->zap, "1.0", 3, ZMQ_SNDMORE);
    zmq_send(c->zap, part[1], n[1], ZMQ_SNDMORE);
    zmq_send(c->zap, good ? "200" : "400", 3, ZMQ_SNDMORE);
    zmq_send(c->zap, good ? "OK" : "unknown key", good ? 2 : 11, ZMQ_SNDMORE);
    zmq_send(c->zap, key, good ? strlen(key) : 0, ZMQ_SNDMORE);
    zmq_send(c->zap, "", 0, 0);
}

/* ---- peers */

static struct peer **bucket_of(struct coordinator *c, int socket, const void *identity, size_t n)
{
    uint64_t h = 14695981039346656037ull ^ (uint64_t)socket;
    for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)identity)[i]) * 1099511628211ull;
    return &c->peer[(h ^ h >> 32) % CO_PEER_BUCKETS];
}

struct peer *net_find_peer(struct coordinator *c, int socket, const void *identity, size_t n,
                           bool make)
{
    struct peer **bucket = bucket_of(c, socket, identity, n);
    for (struct peer *p = *bucket; p; p = p->next)
        if (p->socket == socket && p->n_identity == (int)n && !memcmp(p->identity, identity, n))
            return p;
    if (!make || c->n_peers >= MAX_PEERS || n > BL_IDENTITY) return NULL;
    struct peer *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->socket = socket;
    p->n_identity = (int)n;
    memcpy(p->identity, identity, n);
    p->tokens = CLIENT_BURST;
    p->next = *bucket;
    *bucket = p;
    c->n_peers++;
    return p;
}

static void forget(struct coordinator *c, struct peer *p)
{
    struct peer **at = bucket_of(c, p->socket, p->identity, (size_t)p->n_identity);
    while (*at && *at != p) at = &(*at)->next;
    if (*at) *at = p->next;
    if (p->worker && c->peer_of[p->worker] == p) c->peer_of[p->worker] = NULL;
    free(p);
    c->n_peers--;
}

struct peer *net_peer_of_worker(const struct coordinator *c, uint32_t worker)
{
    return worker < c->cap_peer_of ? c->peer_of[worker] : NULL;
}

int net_bind_worker(struct coordinator *c, struct peer *p, uint32_t worker)
{
    if (!sc__grow(&c->peer_of, &c->cap_peer_of, worker + 1, sizeof *c->peer_of)) return CN_ENOMEM;
    struct peer *old = c->peer_of[worker];
    if (old && old != p) forget(c, old); /* the connection that it had before */
    if (p->worker && p->worker != worker) c->peer_of[p->worker] = NULL;
    c->peer_of[worker] = p;
    p->worker = worker;
    return 0;
}

void net_forget_idle(struct coordinator *c, int64_t now)
{
    for (int i = 0; i < CO_PEER_BUCKETS; i++)
        for (struct peer *p = c->peer[i], *next; p; p = next) {
            next = p->next;
            if (now - p->last_seen >= IDLE_MS) forget(c, p);
        }
}

/* ---- in */

/* A flooding client gets CN_ELIMIT instead of work; workers are trusted with their rate. */
static bool within_rate(struct peer *p, int64_t now)
{
    if (p->worker) return true;
    p->tokens += (double)(now - p->last_seen) * CLIENT_RATE / 1000;
    if (p->tokens > CLIENT_BURST) p->tokens = CLIENT_BURST;
    if (p->tokens < 1) return false;
    p->tokens -= 1;
    return true;
}

/* Checks everything about the message that does not need its content understood, then hands it on.
 */
static int admit(struct coordinator *c, struct request *r, const struct pr_message *m)
{
    const struct pr_message_info *info = pr_message_info(m->h.type);
    if (m->error.code) {
        r->error = m->error;
        return m->error.code;
    }
    if (m->h.code || !info || info->roles == 0xff)
        return cn_fail(&r->error, CN_EUNSUPPORTED, "message type %d does not belong here",
                       m->h.type);
    if (r->peer->socket == 1) { /* the key may have been revoked since the last message */
        r->peer->roles = key_roles(c, r->peer->public_key, r->peer->user);
        if (!r->peer->roles) return cn_fail(&r->error, CN_EREFUSED, "this key was revoked");
    }
    if (!(r->peer->roles & info->roles)) {
        c->n_refused++;
        return cn_fail(&r->error, CN_EREFUSED,
                       "role '%s' may not send %s; ask the coordinator's admin",
                       pr_role_name(r->peer->roles), info->name);
    }
    int64_t now = cn_mono_ms();
    bool ok = within_rate(r->peer, now);
    r->peer->last_seen = now;
    if (!ok) return cn_fail(&r->error, CN_ELIMIT, "too many messages; slow down");
    return pr_check(m->h.type, m->body, &r->error);
}

static void dispatch(struct coordinator *c, int i, zmq_msg_t *identity, struct pr_message *m,
                     const char *key)
{
    size_t n = zmq_msg_size(identity);
    const void *id = zmq_msg_data(identity);
    if (n > BL_IDENTITY || !m->h.type) return; /* not one of ours */
    if (m->h.type == PR_HELLO) {
        service_hello(c, i, id, n, key, m);
        return;
    }
    struct peer *p = net_find_peer(c, i, id, n, false);
    if (!p || strcmp(p->public_key, key)) {
        struct peer stranger = {.socket = i, .n_identity = (int)n};
        struct cn_error e = {CN_ESTALE, "say hello first"};
        memcpy(stranger.identity, id, n);
        net_error(c, &stranger, m->h.id, PR_HELLO, &e);
        return;
    }
    struct request r = {.peer = p, .h = m->h, .body = m->body, .data = &m->data};
    int rc = admit(c, &r, m);
    if (!rc) rc = service_handle(c, &r);
    if (rc) net_error(c, p, m->h.id, PR_ERROR, &r.error);
}

int net_receive(struct coordinator *c, int i, int most)
{
    int n = 0;
    for (; n < most; n++) {
        zmq_msg_t identity;
        zmq_msg_init(&identity);
        if (zmq_msg_recv(&identity, c->socket[i], ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&identity);
            break;
        }
        struct pr_message m;
        struct cn_error err;
        if (zmq_msg_more(&identity) && pr_recv(c->socket[i], &m, &err) == 1) {
            c->n_messages++;
            /* from the sender's frame: ROUTER's own identity frame carries no ZAP properties */
            dispatch(c, i, &identity, &m, m.key);
            pr_message_clear(&m);
        }
        zmq_msg_close(&identity);
    }
    return n;
}

/* ---- out */

void net_send(struct coordinator *c, const struct peer *to, struct pr_header h,
              const ProtobufCMessage *body, zmq_msg_t *data, bool durable)
{
    size_t n = protobuf_c_message_get_packed_size(body);
    struct outgoing *o = calloc(1, sizeof *o);
    if (!o || !sc__grow(&c->out, &c->cap_out, c->n_out + 1, sizeof *c->out) ||
        zmq_msg_init_size(&o->body, n)) {
        free(o); /* the peer asks again */
        return;
    }
    protobuf_c_message_pack(body, zmq_msg_data(&o->body));
    zmq_msg_init(&o->data);
    if (data) zmq_msg_move(&o->data, data);
    o->socket = to->socket;
    o->n_identity = to->n_identity;
    memcpy(o->identity, to->identity, sizeof o->identity);
    o->h = h;
    o->durable = durable;
    c->out[c->n_out++] = o;
}

bool net_must_wait(const struct coordinator *c)
{
    return st_pending(c->st) || c->s->n_effects;
}

void net_reply(struct coordinator *c, const struct request *r, int type,
               const ProtobufCMessage *body)
{
    struct pr_header h = {.type = (uint16_t)type, .id = r->h.id};
    net_send(c, r->peer, h, body, NULL, net_must_wait(c));
}

void net_error(struct coordinator *c, const struct peer *to, uint64_t id, int type,
               const struct cn_error *e)
{
    Cinch__Error body = CINCH__ERROR__INIT;
    body.text = (char *)e->text;
    struct pr_header h = {.type = (uint16_t)type, .code = (int16_t)e->code, .id = id};
    net_send(c, to, h, &body.base, NULL, false);
}

/* ROUTER is mandatory: a peer that is gone, or does not read, shows here; it will say hello or ask
 * again. */
static void send_one(struct coordinator *c, struct outgoing *o)
{
    void *s = c->socket[o->socket];
    uint8_t head[PR_HEADER_BYTES];
    pr_header_put(head, &o->h);
    if (zmq_send(s, o->identity, (size_t)o->n_identity, ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0) return;
    bool third = zmq_msg_size(&o->data) > 0;
    zmq_send(s, head, sizeof head, ZMQ_DONTWAIT | ZMQ_SNDMORE);
    zmq_msg_send(&o->body, s, ZMQ_DONTWAIT | (third ? ZMQ_SNDMORE : 0));
    if (third) zmq_msg_send(&o->data, s, ZMQ_DONTWAIT);
}

void net_flush(struct coordinator *c, bool committed)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < c->n_out; i++) {
        struct outgoing *o = c->out[i];
        if (o->durable && !committed) {
            c->out[kept++] = o;
            continue;
        }
        send_one(c, o);
        drop_outgoing(o);
    }
    c->n_out = kept;
}
