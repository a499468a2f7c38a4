/* coordinator/net.c - who is connected, whose message is handled next, what goes out. ipc and tcp
 * come through the door (door.h); inproc, which never leaves the process, through a ROUTER of
 * ZeroMQ's. See core.h. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/core.h"
#include "coordinator/guest.h"
#include "proto/check.h"

enum {
    IDLE_MS = 120 * 1000,     /* who said nothing for so long must say hello again (inproc) */
    TURNS_MS = 10,            /* of messages before the next commit */
    KEEP_FILES = 64,          /* for the queue, blobs and their like ... */
    KEEP_HTTP = 96,           /* ... and for HTTP */
    UNREAD = 256 << 10,       /* who left so much unread is not answered more ... */
    UNREAD_CHUNKS = 10 << 20, /* ... nor sent more chunks */
    UNREAD_PUSHES = 4 << 20,  /* ... nor given leases */
    MAX_CHUNKS = 32,          /* chunks on their way to the disk, of all */
};

/* ---- opening */

static int open_inproc(struct coordinator *c, const char *endpoint, struct cn_error *err)
{
    int zero = 0, one = 1;
    if (!c->inproc) c->inproc = zmq_socket(c->zmq, ZMQ_ROUTER);
    if (!c->inproc || zmq_setsockopt(c->inproc, ZMQ_LINGER, &zero, sizeof zero) ||
        zmq_setsockopt(c->inproc, ZMQ_ROUTER_MANDATORY, &one, sizeof one) ||
        zmq_bind(c->inproc, endpoint))
        return cn_fail(err, CN_EIO, "cannot listen on %s: %s", endpoint, zmq_strerror(zmq_errno()));
    return 0;
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
    if (!rc) door_keys(c->door, &c->server_key);
    return rc;
}

/* Live keys pass. */
static bool admit_key(void *arg, const char *key)
{
    struct coordinator *c = arg;
    char name[PR_MAX_NAME + 1];
    if (key_roles(c, key, name)) return true;
    c->n_refused++;
    cn_warn("coordinator", "refused a connection with key %s", key);
    return false;
}

static void gone(void *arg, struct conn *k);

static int listen_on(struct coordinator *c, int i, struct cn_error *err)
{
    const char *ep = c->o.listen[i];
    bool tcp = !strncmp(ep, "tcp://", 6), inproc = !strncmp(ep, "inproc://", 9);
    if (pr_endpoint_check(ep, err)) return cn_fail_prefix(err, "--listen");
    if (inproc) {
        c->endpoint[i] = strdup(ep);
        return open_inproc(c, ep, err);
    }
    const struct door_host host = {c, c->o.socket_group, admit_key, gone};
    unsigned keep = KEEP_FILES + (c->o.http ? KEEP_HTTP : 0);
    int rc = c->door ? 0 : door_open(&c->door, &c->accounts, &host, keep, err);
    if (!rc && tcp && !c->has_server_key) rc = server_key(c, err);
    return rc ? rc : door_listen(c->door, ep, &c->endpoint[i], err);
}

int net_open(struct coordinator *c, struct cn_error *err)
{
    int rc = as_open(&c->aside, c->wake_fd, err);
    for (int i = 0; i < c->o.n_listen && !rc; i++) rc = listen_on(c, i, err);
    return rc;
}

static void drop_outgoing(struct outgoing *o)
{
    zmq_msg_close(&o->body);
    zmq_msg_close(&o->data);
    free(o);
}

static void free_task(struct coordinator *c, struct task *t)
{
    if (t->end) t->end(c, t);
    pr_message_clear(&t->m);
    free(t);
}

void net_close(struct coordinator *c)
{
    as_close(c->aside); /* before what it reads goes */
    c->aside = NULL;
    door_close(c->door);
    if (c->abandoned) free_task(c, c->abandoned);
    for (uint32_t i = 0; i < c->n_out; i++) drop_outgoing(c->out[i]);
    free(c->out);
    free(c->peer_of);
    if (c->inproc) zmq_close(c->inproc);
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
    ac_close(&c->accounts);
    pr_key_wipe(&c->server_key);
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
    if (!make || c->n_peers >= DOOR_MOST || n > BL_IDENTITY) return NULL;
    struct peer *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->socket = socket;
    p->n_identity = (int)n;
    memcpy(p->identity, identity, n);
    p->next = *bucket;
    *bucket = p;
    c->n_peers++;
    return p;
}

/* A connection's identity is its number at the door. */
static struct conn *conn_of(const struct coordinator *c, int socket, const void *identity, int n)
{
    uint64_t id;
    if (socket != CO_DOOR || n != sizeof id) return NULL;
    memcpy(&id, identity, sizeof id);
    return door_find(c->door, id);
}

bool net_guest(const struct coordinator *c, int socket, const void *identity, size_t n,
               char name[PR_MAX_NAME + 1])
{
    const struct conn *k = conn_of(c, socket, identity, (int)n);
    if (!k || !k->guest) return false;
    guest_name(k->uid, name);
    return true;
}

void net_known(struct coordinator *c, struct peer *p)
{
    bool key = *p->public_key;
    struct account *a =
        ac_of(&c->accounts, key ? "key" : "user", key ? p->public_key : p->user, cn_mono_ms());
    p->conn = conn_of(c, p->socket, p->identity, p->n_identity);
    if (p->conn) {
        door_known(c->door, p->conn, p, a);
    } else if (p->account != a) {
        if (p->account) p->account->connections--;
        a->connections++;
    }
    p->account = a;
}

static void forget(struct coordinator *c, struct peer *p)
{
    struct peer **at = bucket_of(c, p->socket, p->identity, (size_t)p->n_identity);
    while (*at && *at != p) at = &(*at)->next;
    if (*at) *at = p->next;
    if (p->worker && c->peer_of[p->worker] == p) c->peer_of[p->worker] = NULL;
    if (p->conn)
        p->conn->peer = NULL;
    else if (p->account)
        p->account->connections--;
    if (p->watched) client_forget_watches(c, p);
    free(p);
    c->n_peers--;
}

/* A connection has ended, at the door. */
static void gone(void *arg, struct conn *k)
{
    struct coordinator *c = arg;
    if (k->task && !client_keeps(c, k->task)) free_task(c, k->task);
    k->task = NULL;
    if (k->peer) forget(c, k->peer);
    k->peer = NULL;
}

struct peer *net_peer_of_worker(const struct coordinator *c, uint32_t worker)
{
    return worker < c->cap_peer_of ? c->peer_of[worker] : NULL;
}

int net_bind_worker(struct coordinator *c, struct peer *p, uint32_t worker)
{
    if (!sc__grow(&c->peer_of, &c->cap_peer_of, worker + 1, sizeof *c->peer_of)) return CN_ENOMEM;
    struct peer *old = c->peer_of[worker];
    if (old && old != p) { /* the connection that it had before */
        if (old->conn)
            door_end(c->door, old->conn, false);
        else
            forget(c, old);
    }
    if (p->worker && p->worker != worker) c->peer_of[p->worker] = NULL;
    c->peer_of[worker] = p;
    p->worker = worker;
    return 0;
}

void net_forget_idle(struct coordinator *c, int64_t now)
{
    if (c->door) door_tick(c->door, now);
    for (int i = 0; i < CO_PEER_BUCKETS; i++)
        for (struct peer *p = c->peer[i], *next; p; p = next) {
            next = p->next;
            if (!p->conn && now - p->last_seen >= IDLE_MS) forget(c, p);
        }
}

void net_end_key(struct coordinator *c, const char *key, const struct request *r)
{
    for (uint32_t i = 1; i < c->cap_peer_of; i++)
        if (c->peer_of[i] && !strcmp(c->peer_of[i]->public_key, key))
            sc_on_bye(c->s, i, cn_mono_ms());
    if (c->door) door_end_key(c->door, key, r->peer->conn);
    if (r->peer->conn && !strcmp(r->peer->public_key, key)) c->end_after = r->peer->conn->id;
}

/* ---- one message */

/* Checks everything about the message that does not need its content understood, then hands it on.
 */
static int admit(struct coordinator *c, struct request *r, const struct pr_message *m, bool again)
{
    const struct pr_message_info *info = pr_message_info(m->h.type);
    if (m->error.code) {
        r->error = m->error;
        return m->error.code;
    }
    if (m->h.code || !info || info->roles == 0xff)
        return cn_fail(&r->error, CN_EUNSUPPORTED, "message type %d does not belong here",
                       m->h.type);
    if (*r->peer->public_key) { /* a key's role may have changed since the last message */
        r->peer->roles = key_roles(c, r->peer->public_key, r->peer->user);
        if (!r->peer->roles) return cn_fail(&r->error, CN_EREFUSED, "this key was revoked");
    }
    if (!(r->peer->roles & info->roles)) {
        c->n_refused++;
        return cn_fail(&r->error, CN_EREFUSED,
                       "role '%s' may not send %s; ask the coordinator's admin",
                       pr_role_name(r->peer->roles), info->name);
    }
    r->peer->last_seen = cn_mono_ms();
    /* workers are trusted with their rate */
    if (!again && !r->peer->worker && !ac_rate(r->peer->account, 1, r->peer->last_seen))
        return cn_fail(&r->error, CN_ELIMIT, "too many messages; slow down");
    return pr_check(m->h.type, m->body, &r->error);
}

static void stranger_of(struct peer *p, int socket, const void *identity, size_t n)
{
    memset(p, 0, sizeof *p);
    p->socket = socket;
    p->n_identity = (int)n;
    memcpy(p->identity, identity, n);
}

/* 0: done with; NET_LATER, or NET_TASK with *task. */
static int dispatch(struct coordinator *c, struct peer *p, struct pr_message *m, bool again,
                    struct task **task)
{
    struct request r = {.peer = p, .h = m->h, .body = m->body, .data = &m->data};
    int rc = admit(c, &r, m, again);
    if (!rc) rc = service_handle(c, &r);
    if (rc < 0) net_error(c, p, m->h.id, PR_ERROR, &r.error);
    if (rc != NET_TASK) return rc > 0 ? rc : 0;
    *task = r.task;
    r.task->r = r;
    return rc;
}

static void say_hello(struct coordinator *c, int socket, const void *identity, size_t n,
                      uint64_t id)
{
    struct peer stranger;
    struct cn_error e = {CN_ESTALE, "say hello first"};
    stranger_of(&stranger, socket, identity, n);
    net_error(c, &stranger, id, PR_HELLO, &e);
}

/* ---- turns at the door */

static void finish_task(struct coordinator *c, struct conn *k)
{
    struct task *t = k->task;
    k->task = NULL;
    free_task(c, t);
    door_drop_letter(c->door, k);
}

static void task_turn(struct coordinator *c, struct conn *k)
{
    struct task *t = k->task;
    int rc = t->step(c, t);
    if (k->fd < 0) return;
    if (rc < 0) net_error(c, k->peer, t->m.h.id, PR_ERROR, &t->r.error);
    if (rc <= 0) finish_task(c, k);
    if (k->fd >= 0 && !(k->task && k->task->parked)) door_turn(c->door, k);
}

/* Whether the message may begin now, as far as its type tells. */
static bool may_begin(struct coordinator *c, const struct conn *k, enum cost cost)
{
    if (cost == COST_CHUNK) return k->out < UNREAD_CHUNKS && ac_room_out(&c->accounts, k->account);
    if (cost == COST_UPLOAD && bl_waiting(c->blobs) >= MAX_CHUNKS) return false;
    if (cost == COST_GRID && !as_free(c->aside)) return false;
    return k->out < UNREAD;
}

static void read_letter(struct pr_message *m, struct letter *l)
{
    struct pr_header h;
    struct cn_error err;
    const struct pr_message_info *info =
        pr_header_get(&h, zmq_msg_data(&l->frame[0]), zmq_msg_size(&l->frame[0]), &err)
            ? NULL
            : pr_message_info(h.type);
    size_t n = zmq_msg_size(&l->frame[1]);
    bool large = info && info->largest && n > info->largest;
    pr_message_read(m, &l->frame[0], l->frames > 1 && !large ? &l->frame[1] : NULL);
    if (large)
        cn_fail(&m->error, CN_ELIMIT, "%s: %zu bytes, the limit is %zu", info->name, n,
                info->largest);
    if (l->frames > PR_ZMTP_FRAMES)
        cn_fail(&m->error, CN_ECORRUPT, "message of more than three frames");
    zmq_msg_move(&m->data, &l->frame[2]);
}

static enum cost cost_of(struct letter *l)
{
    struct pr_header h = {0};
    pr_header_get(&h, zmq_msg_data(&l->frame[0]), zmq_msg_size(&l->frame[0]), NULL);
    return service_cost(h.type);
}

static int handle(struct coordinator *c, struct conn *k, struct letter *l)
{
    struct pr_message m;
    struct task *task = NULL;
    int rc = 0;
    read_letter(&m, l);
    if (!m.h.type) { /* not one of ours */
    } else if (m.h.type == PR_HELLO) {
        service_hello(c, CO_DOOR, &k->id, sizeof k->id, k->key, &m);
    } else if (!k->peer) {
        say_hello(c, CO_DOOR, &k->id, sizeof k->id, m.h.id);
    } else {
        rc = dispatch(c, k->peer, &m, l->counted, &task);
    }
    l->counted = true;
    if (rc == NET_TASK) {
        task->m = m;
        task->r.data = &task->m.data;
        k->task = task;
        return rc;
    }
    if (rc == NET_LATER) zmq_msg_move(&l->frame[2], &m.data);
    pr_message_clear(&m);
    return rc;
}

static void letter_turn(struct coordinator *c, struct conn *k)
{
    struct letter *l = k->first;
    if (k->peer && !may_begin(c, k, cost_of(l))) {
        door_wait(c->door, k);
        return;
    }
    c->n_messages += !l->counted;
    int rc = handle(c, k, l);
    if (k->fd < 0) return;
    if (rc == NET_LATER) {
        door_wait(c->door, k);
        return;
    }
    if (!rc) door_drop_letter(c->door, k);
    if (k->fd >= 0 && !(k->task && k->task->parked)) door_turn(c->door, k);
}

/* ---- inproc */

static void whole_task(struct coordinator *c, struct task *t, struct pr_message *m)
{
    int rc;
    while ((rc = t->step(c, t)) > 0) continue;
    if (rc < 0) net_error(c, t->r.peer, m->h.id, PR_ERROR, &t->r.error);
    if (t->end) t->end(c, t);
    free(t);
}

static void from_inproc(struct coordinator *c, zmq_msg_t *identity, struct pr_message *m)
{
    size_t n = zmq_msg_size(identity);
    const void *id = zmq_msg_data(identity);
    struct task *task;
    if (n > BL_IDENTITY || !m->h.type) return; /* not one of ours */
    if (m->h.type == PR_HELLO) {
        service_hello(c, CO_INPROC, id, n, "", m);
        return;
    }
    struct peer *p = net_find_peer(c, CO_INPROC, id, n, false);
    if (!p)
        say_hello(c, CO_INPROC, id, n, m->h.id);
    else if (dispatch(c, p, m, false, &task) == NET_TASK)
        whole_task(c, task, m);
}

static int receive_inproc(struct coordinator *c, int most)
{
    int n = 0;
    for (; n < most; n++) {
        zmq_msg_t identity;
        zmq_msg_init(&identity);
        if (zmq_msg_recv(&identity, c->inproc, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&identity);
            break;
        }
        struct pr_message m;
        struct cn_error err;
        if (zmq_msg_more(&identity) && pr_recv(c->inproc, &m, &err) == 1) {
            c->n_messages++;
            from_inproc(c, &identity, &m);
            pr_message_clear(&m);
        }
        zmq_msg_close(&identity);
    }
    return n;
}

bool net_turns(struct coordinator *c, int most)
{
    bool more = c->inproc && receive_inproc(c, most) == most;
    if (!c->door) return more;
    int64_t now = cn_mono_ms();
    door_work(c->door, now);
    for (int n = 0; n < most; n++) {
        if (n % 8 == 7 && cn_mono_ms() - now >= TURNS_MS) return true;
        struct conn *k = door_next(c->door);
        if (!k) return more;
        if (k->task)
            task_turn(c, k);
        else if (k->first)
            letter_turn(c, k);
    }
    return true;
}

/* ---- out */

/* Takes body and data over. */
static void queue_out(struct coordinator *c, const struct peer *to, struct pr_header h,
                      zmq_msg_t *body, zmq_msg_t *data, bool durable)
{
    struct outgoing *o = calloc(1, sizeof *o);
    if (!o || !sc__grow(&c->out, &c->cap_out, c->n_out + 1, sizeof *c->out)) {
        zmq_msg_close(body);
        free(o); /* the peer asks again */
        return;
    }
    zmq_msg_init(&o->body);
    zmq_msg_init(&o->data);
    zmq_msg_move(&o->body, body);
    zmq_msg_move(&o->data, data);
    o->socket = to->socket;
    o->n_identity = to->n_identity;
    memcpy(o->identity, to->identity, sizeof o->identity);
    o->h = h;
    o->durable = durable;
    c->out[c->n_out++] = o;
    struct conn *k = conn_of(c, to->socket, to->identity, to->n_identity);
    if (k) k->leaving += zmq_msg_size(&o->body) + zmq_msg_size(&o->data);
}

bool net_unread(const struct coordinator *c, const struct peer *p)
{
    return p->conn && p->conn->out + p->conn->leaving > UNREAD_PUSHES;
}

void net_send_packed(struct coordinator *c, const struct peer *to, struct pr_header h,
                     zmq_msg_t *body, bool durable)
{
    zmq_msg_t none;
    zmq_msg_init(&none);
    queue_out(c, to, h, body, &none, durable);
}

void net_send(struct coordinator *c, const struct peer *to, struct pr_header h,
              const ProtobufCMessage *body, zmq_msg_t *data, bool durable)
{
    zmq_msg_t packed, none;
    if (zmq_msg_init_size(&packed, protobuf_c_message_get_packed_size(body)))
        return; /* the peer asks again */
    protobuf_c_message_pack(body, zmq_msg_data(&packed));
    zmq_msg_init(&none);
    queue_out(c, to, h, &packed, data ? data : &none, durable);
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
static void send_inproc(struct coordinator *c, struct outgoing *o, const uint8_t *head)
{
    void *s = c->inproc;
    if (zmq_send(s, o->identity, (size_t)o->n_identity, ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0) return;
    bool third = zmq_msg_size(&o->data) > 0;
    zmq_send(s, head, PR_HEADER_BYTES, ZMQ_DONTWAIT | ZMQ_SNDMORE);
    zmq_msg_send(&o->body, s, ZMQ_DONTWAIT | (third ? ZMQ_SNDMORE : 0));
    if (third) zmq_msg_send(&o->data, s, ZMQ_DONTWAIT);
}

static void send_one(struct coordinator *c, struct outgoing *o)
{
    uint8_t head[PR_HEADER_BYTES];
    pr_header_put(head, &o->h);
    if (o->socket == CO_INPROC) {
        send_inproc(c, o, head);
        return;
    }
    struct conn *k = conn_of(c, o->socket, o->identity, o->n_identity);
    if (!k) return;
    k->leaving -= zmq_msg_size(&o->body) + zmq_msg_size(&o->data);
    door_send(c->door, k, head, &o->body, &o->data);
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
    struct conn *k = c->end_after ? door_find(c->door, c->end_after) : NULL;
    if (k && !kept) door_end(c->door, k, true);
    if (!kept) c->end_after = 0;
}
