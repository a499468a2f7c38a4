/* link.c - see link.h.
 *
 * Purpose: hide outages. Input: bodies from other threads, packed at once, so that nothing of the
 * caller is touched later. Action: a list of open requests, each sent when the line is up and again
 * every RESEND_MS until its reply comes. "Say hello" (HELLO with CN_ESTALE) means that the
 * coordinator does not know this connection: hello again, then everything open again. When nothing
 * at all was heard for the time after which the coordinator gives a worker up, the socket is made
 * anew, because a half-open connection may swallow everything. Caveat: replies to requests of an
 * earlier socket never come; the resend covers that.
 */
#include "workers/link.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define HELLO_MS 1000 /* between hellos while unanswered; doubles up to HELLO_MAX_MS */
#define HELLO_MAX_MS 8000
#define RESEND_MS 3000
#define REFUSALS 2     /* refused handshakes in a row that end it */
#define MAX_POSTS 1024 /* queued progress messages; more are dropped */

struct request {
    struct request *next;
    uint64_t id; /* 0: a post */
    int type;
    uint8_t *body; /* packed */
    size_t n;
    int64_t sent_ms; /* 0: not since the line came up */
    bool waited;     /* somebody waits in link_call; else freed when answered */
    bool done;
    int code;
    struct cn_error error;
};

struct link {
    struct link_options o;
    void *socket;
    void *monitor; /* tells of refused handshakes; tcp only, else NULL */
    int refused;   /* of them, since the last that succeeded */
    int wake;      /* eventfd */
    /* owner's thread only */
    bool welcomed, ever;
    uint64_t hello_id, beat_id; /* of the last hello, the last heartbeat */
    int64_t start_ms, heard_ms, hello_ms, hello_wait_ms, beat_ms;
    uint32_t beat_every_ms, lost_ms;
    /* shared */
    pthread_mutex_t lock;
    pthread_cond_t answered;
    struct request *first, *last; /* in order of asking */
    int posts;
    uint64_t next_id;
    bool closing;
    int waiting; /* threads inside link_call */
};

static void close_socket(struct link *l)
{
    if (l->monitor) zmq_close(l->monitor);
    if (l->socket) zmq_close(l->socket);
    l->monitor = l->socket = NULL;
}

/* CURVE refuses inside the handshake, where no message of ours can: a monitor sees it. */
static int open_monitor(struct link *l, struct cn_error *err)
{
    static atomic_uint number;
    char name[48];
    int linger = 0;
    if (strncmp(l->o.endpoint, "tcp://", 6) != 0) return 0;
    snprintf(name, sizeof name, "inproc://cinch-link-%u", atomic_fetch_add(&number, 1));
    if (zmq_socket_monitor(l->socket, name,
                           ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                               ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL) ||
        !(l->monitor = zmq_socket(l->o.zmq, ZMQ_PAIR)) || zmq_connect(l->monitor, name))
        return cn_fail(err, CN_EINTERNAL, "socket monitor: %s", zmq_strerror(zmq_errno()));
    zmq_setsockopt(l->monitor, ZMQ_LINGER, &linger, sizeof linger);
    return 0;
}

static int open_socket(struct link *l, struct cn_error *err)
{
    close_socket(l);
    int rc = pr_dealer(&l->socket, l->o.zmq, l->o.endpoint, l->o.key, err);
    return rc ? rc : open_monitor(l, err);
}

/* A key that is unknown or revoked is refused by name; a key for another coordinator only shows as
 * a peer that hangs up, which a coordinator that dies does too: that counts before the first
 * welcome alone. */
static int read_monitor(struct link *l, struct cn_error *err)
{
    zmq_msg_t m;
    zmq_msg_init(&m);
    while (l->monitor && zmq_msg_recv(&m, l->monitor, ZMQ_DONTWAIT) >= 0) {
        uint16_t event = 0;
        if (zmq_msg_size(&m) == 6) memcpy(&event, zmq_msg_data(&m), sizeof event);
        if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) l->refused = 0;
        if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) l->refused++;
        if (event == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL && !l->ever) l->refused++;
        while (zmq_msg_more(&m) && zmq_msg_recv(&m, l->monitor, ZMQ_DONTWAIT) >= 0) {
        }
    }
    zmq_msg_close(&m);
    if (l->refused < REFUSALS) return 0;
    return cn_fail(err, CN_EREFUSED,
                   "%s refuses this worker's key: it is unknown there, was revoked, or belongs to "
                   "another coordinator",
                   l->o.endpoint);
}

int link_create(struct link **out, const struct link_options *o, struct cn_error *err)
{
    *out = NULL;
    struct link *l = calloc(1, sizeof *l);
    if (!l) return cn_fail(err, CN_ENOMEM, "out of memory for a connection");
    l->o = *o;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->answered, NULL);
    l->next_id = 1;
    l->beat_every_ms = 1000;
    l->lost_ms = 10000;
    l->hello_wait_ms = HELLO_MS;
    l->start_ms = l->heard_ms = cn_mono_ms();
    l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = l->wake < 0 ? cn_fail_errno(err, "cannot make an eventfd") : open_socket(l, err);
    if (rc) {
        link_destroy(l);
        return rc;
    }
    *out = l;
    return 0;
}

static void request_free(struct request *r)
{
    if (!r) return;
    free(r->body);
    free(r);
}

void link_close(struct link *l)
{
    pthread_mutex_lock(&l->lock);
    l->closing = true;
    pthread_cond_broadcast(&l->answered);
    while (l->waiting) pthread_cond_wait(&l->answered, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

void link_destroy(struct link *l)
{
    if (!l) return;
    link_close(l);
    for (struct request *r = l->first, *next; r; r = next) {
        next = r->next;
        request_free(r);
    }
    close_socket(l);
    if (l->wake >= 0) close(l->wake);
    pthread_cond_destroy(&l->answered);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

void link_wake(struct link *l)
{
    uint64_t one = 1;
    ssize_t n = write(l->wake, &one, sizeof one);
    (void)n; /* full means it is awake already */
}

bool link_welcomed(const struct link *l)
{
    return l->welcomed;
}

/* ---- requests ---- */

static struct request *request_new(int type, const void *body)
{
    const ProtobufCMessage *m = body;
    struct request *r = calloc(1, sizeof *r);
    size_t n = protobuf_c_message_get_packed_size(m);
    if (r) r->body = malloc(n + 1);
    if (!r || !r->body) {
        free(r);
        return NULL;
    }
    r->type = type;
    r->n = protobuf_c_message_pack(m, r->body);
    return r;
}

/* With the lock held. */
static void append(struct link *l, struct request *r)
{
    if (l->last)
        l->last->next = r;
    else
        l->first = r;
    l->last = r;
}

/* With the lock held: takes r out of the list. */
static void unlink_request(struct link *l, struct request *r)
{
    struct request **at = &l->first, *before = NULL;
    while (*at && *at != r) {
        before = *at;
        at = &(*at)->next;
    }
    if (!*at) return;
    *at = r->next;
    if (l->last == r) l->last = before;
    r->next = NULL;
}

int link_call(struct link *l, int type, const void *body, struct cn_error *err)
{
    struct request *r = request_new(type, body);
    if (!r) return cn_fail(err, CN_ENOMEM, "out of memory for a message");
    r->waited = true;
    pthread_mutex_lock(&l->lock);
    l->waiting++;
    r->id = l->next_id++;
    append(l, r);
    link_wake(l);
    while (!r->done && !l->closing) pthread_cond_wait(&l->answered, &l->lock);
    int code = r->done ? r->code : cn_fail(&r->error, CN_ECANCELLED, "the worker is leaving");
    if (err && code) *err = r->error;
    unlink_request(l, r);
    l->waiting--;
    pthread_cond_broadcast(&l->answered);
    pthread_mutex_unlock(&l->lock);
    request_free(r);
    return code;
}

void link_post(struct link *l, int type, const void *body)
{
    struct request *r = request_new(type, body);
    if (!r) return; /* progress is for people: it may get lost */
    pthread_mutex_lock(&l->lock);
    bool room = l->posts < MAX_POSTS && !l->closing;
    if (room) {
        append(l, r);
        l->posts++;
    }
    pthread_mutex_unlock(&l->lock);
    if (room)
        link_wake(l);
    else
        request_free(r);
}

int link_ask(struct link *l, int type, const void *body)
{
    struct request *r = request_new(type, body);
    if (!r) return CN_ENOMEM;
    pthread_mutex_lock(&l->lock);
    for (struct request *old = l->first, *next; old; old = next) {
        next = old->next;
        if (old->type != type || old->waited) continue;
        unlink_request(l, old);
        request_free(old);
    }
    r->id = l->next_id++;
    append(l, r);
    pthread_mutex_unlock(&l->lock);
    return 0;
}

bool link_waits(struct link *l, int type)
{
    pthread_mutex_lock(&l->lock);
    bool found = false;
    for (struct request *r = l->first; r; r = r->next) found |= r->type == type && !r->done;
    pthread_mutex_unlock(&l->lock);
    return found;
}

/* Frames of an already packed body: pr_send packs, so this writes them itself. */
static int send_packed(struct link *l, const struct request *r)
{
    uint8_t head[PR_HEADER_BYTES];
    struct pr_header h = {.type = (uint16_t)r->type, .id = r->id};
    pr_header_put(head, &h);
    if (zmq_send(l->socket, head, sizeof head, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) return CN_EBUSY;
    return zmq_send(l->socket, r->body, r->n, ZMQ_DONTWAIT) < 0 ? CN_EBUSY : 0;
}

/* Sends what is new or has waited too long for its answer. */
static void send_requests(struct link *l)
{
    int64_t now = cn_mono_ms();
    pthread_mutex_lock(&l->lock);
    for (struct request *r = l->first, *next; r; r = next) {
        next = r->next;
        if (r->done || (r->sent_ms && now - r->sent_ms < RESEND_MS)) continue;
        if (send_packed(l, r)) break; /* no room now: in order, later */
        r->sent_ms = now;
        if (r->id == 0) {
            unlink_request(l, r);
            l->posts--;
            request_free(r);
        }
    }
    pthread_mutex_unlock(&l->lock);
}

/* The line came up anew: everything open has to be said again. */
static void forget_sent(struct link *l)
{
    pthread_mutex_lock(&l->lock);
    for (struct request *r = l->first; r; r = r->next) r->sent_ms = 0;
    pthread_mutex_unlock(&l->lock);
}

static void answer(struct link *l, const struct pr_message *m)
{
    pthread_mutex_lock(&l->lock);
    struct request *r = l->first;
    while (r && (r->id != m->h.id || r->done)) r = r->next;
    if (r) {
        r->code = m->h.code;
        if (m->h.code && m->body)
            cn_fail(&r->error, m->h.code, "%s",
                    ((const Cinch__Error *)(const void *)m->body)->text);
        r->done = true;
        if (r->waited) {
            pthread_cond_broadcast(&l->answered);
        } else {
            unlink_request(l, r);
            request_free(r);
        }
    }
    pthread_mutex_unlock(&l->lock);
}

/* ---- the conversation ---- */

static void say_hello(struct link *l)
{
    Cinch__Hello hello = CINCH__HELLO__INIT;
    hello.version = PR_VERSION;
    hello.software = (char *)"cinch";
    l->o.events.hello(l->o.events.arg, &hello);
    pthread_mutex_lock(&l->lock);
    l->hello_id = l->next_id++;
    pthread_mutex_unlock(&l->lock);
    struct pr_header h = {.type = PR_HELLO, .id = l->hello_id};
    pr_send(l->socket, &h, &hello.base, NULL, 0, NULL);
    l->hello_ms = cn_mono_ms();
}

static void line_down(struct link *l)
{
    l->welcomed = false;
    l->hello_ms = 0;
    l->hello_wait_ms = HELLO_MS;
}

static int on_welcome(struct link *l, const struct pr_message *m, struct cn_error *err)
{
    const Cinch__Welcome *w = (const Cinch__Welcome *)(const void *)m->body;
    if (w->version != PR_VERSION || w->engine != PR_ENGINE || (w->bits && w->bits != PR_BITS))
        return cn_fail(err, CN_EVERSION,
                       "the coordinator speaks version %u with engine %u.%u, this worker %d with "
                       "%d.%d: install the same cinch on both",
                       w->version, w->engine, w->bits, PR_VERSION, PR_ENGINE, PR_BITS);
    l->welcomed = l->ever = true;
    l->hello_wait_ms = HELLO_MS;
    if (w->heartbeat_ms) l->beat_every_ms = w->heartbeat_ms;
    if (w->lost_ms) l->lost_ms = w->lost_ms;
    l->beat_ms = 0;
    forget_sent(l);
    l->o.events.welcome(l->o.events.arg, w);
    return 0;
}

static bool is_final(int code)
{
    return code == CN_EREFUSED || code == CN_EVERSION || code == CN_EINVALID;
}

/* One message. Non-zero: there is no use in going on. */
static int on_message(struct link *l, struct pr_message *m, struct cn_error *err)
{
    l->heard_ms = cn_mono_ms();
    if (m->error.code) {
        cn_warn("worker", "a message of the coordinator cannot be read: %s", m->error.text);
        return 0;
    }
    if (m->h.type == PR_HELLO && m->h.code == CN_ESTALE) {
        if (l->welcomed) line_down(l);
        return 0;
    }
    if (m->h.id && (m->h.id == l->hello_id || m->h.id == l->beat_id)) {
        if (m->h.code && is_final(m->h.code)) /* unknown, revoked, of another version */
            return cn_fail(err, m->h.code, "%s",
                           ((const Cinch__Error *)(const void *)m->body)->text);
        if (m->h.code == 0 && m->h.type == PR_WELCOME) return on_welcome(l, m, err);
    }
    if (m->h.code == 0 && m->h.type == PR_LEASE_GRANT) {
        l->o.events.grant(l->o.events.arg, (Cinch__LeaseGrant *)(void *)m->body);
        m->body = NULL;
    } else if (m->h.code == 0 && m->h.type == PR_DROP) {
        l->o.events.drop(l->o.events.arg, (const Cinch__Drop *)(const void *)m->body);
    } else if (m->h.code == 0 && m->h.type == PR_HEARTBEAT_REPLY) {
        l->o.events.beaten(l->o.events.arg, (const Cinch__HeartbeatReply *)(const void *)m->body);
    } else if (m->h.id) {
        answer(l, m);
    }
    return 0;
}

static int receive_all(struct link *l, struct cn_error *err)
{
    for (;;) {
        struct pr_message m;
        int got = pr_recv(l->socket, &m, err);
        if (got <= 0) return got;
        int rc = on_message(l, &m, err);
        pr_message_clear(&m);
        if (rc) return rc;
    }
}

static void beat(struct link *l)
{
    Cinch__Heartbeat b = CINCH__HEARTBEAT__INIT;
    l->o.events.heartbeat(l->o.events.arg, &b);
    pthread_mutex_lock(&l->lock);
    l->beat_id = l->next_id++;
    struct pr_header h = {.type = PR_HEARTBEAT, .id = l->beat_id};
    pthread_mutex_unlock(&l->lock);
    pr_send(l->socket, &h, &b.base, NULL, 0, NULL);
    l->beat_ms = cn_mono_ms();
}

/* What the clock asks for: hello, heartbeat, a new socket. */
static int on_time(struct link *l, struct cn_error *err)
{
    int64_t now = cn_mono_ms();
    if (!l->ever && l->o.first_wait_ms >= 0 && now - l->start_ms > l->o.first_wait_ms)
        return cn_fail(err, CN_ECONNECT,
                       "no answer from a coordinator at %s for %d s; is cinchd running there, and "
                       "is the key its own?",
                       l->o.endpoint, l->o.first_wait_ms / 1000);
    if (now - l->heard_ms > (int64_t)l->lost_ms) {
        if (l->welcomed) cn_warn("worker", "the coordinator is silent; trying again");
        line_down(l);
        l->heard_ms = now; /* the next socket gets as long */
        int rc = open_socket(l, err);
        if (rc) return rc;
    }
    if (!l->welcomed && (l->hello_ms == 0 || now - l->hello_ms >= l->hello_wait_ms)) {
        if (l->hello_ms) l->hello_wait_ms *= 2;
        if (l->hello_wait_ms > HELLO_MAX_MS) l->hello_wait_ms = HELLO_MAX_MS;
        say_hello(l);
    }
    if (l->welcomed && now - l->beat_ms >= (int64_t)l->beat_every_ms) beat(l);
    if (l->welcomed) send_requests(l);
    return 0;
}

int link_turn(struct link *l, int wait_ms, struct cn_error *err)
{
    int rc = on_time(l, err);
    if (rc) return rc;
    zmq_pollitem_t item[3] = {{l->socket, 0, ZMQ_POLLIN, 0},
                              {NULL, l->wake, ZMQ_POLLIN, 0},
                              {l->monitor, 0, ZMQ_POLLIN, 0}};
    zmq_poll(item, l->monitor ? 3 : 2, wait_ms);
    uint64_t count;
    ssize_t n = read(l->wake, &count, sizeof count);
    (void)n; /* nothing there is fine: it is only a bell */
    rc = read_monitor(l, err);
    if (rc == 0) rc = receive_all(l, err);
    if (rc == 0 && l->welcomed) send_requests(l);
    return rc;
}
