/* fake.c - see fake.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/unit/workers/fake.h"

static void bind_router(struct fake *f)
{
    int zero = 0;
    f->router = zmq_socket(f->zmq, ZMQ_ROUTER);
    zmq_setsockopt(f->router, ZMQ_LINGER, &zero, sizeof zero);
    zmq_bind(f->router, f->endpoint);
    f->n_worker = 0;
}

void fake_open(struct fake *f)
{
    static int number;
    memset(f, 0, sizeof *f);
    f->zmq = zmq_ctx_new();
    snprintf(f->endpoint, sizeof f->endpoint, "ipc:///tmp/cinch-fake-%d-%d", (int)getpid(),
             number++);
    bind_router(f);
}

void fake_close(struct fake *f)
{
    zmq_close(f->router);
    zmq_ctx_term(f->zmq);
    unlink(f->endpoint + strlen("ipc://"));
    for (int i = 0; i < f->blobs; i++) free(f->blob[i].data);
}

void fake_restart(struct fake *f)
{
    zmq_close(f->router);
    cn_sleep_ms(100); /* ZeroMQ removes the old socket's file in its own time */
    bind_router(f);
}

struct peer {
    uint8_t id[64];
    size_t n;
    uint64_t request;
};

static void reply(struct fake *f, const struct peer *to, int type, int code, const void *body,
                  const void *data, size_t n)
{
    struct pr_header h = {.type = (uint16_t)type, .code = (int16_t)code, .id = to->request};
    zmq_send(f->router, to->id, to->n, ZMQ_SNDMORE);
    pr_send(f->router, &h, body, data, n, NULL);
}

static void reply_code(struct fake *f, const struct peer *to, int type, int code)
{
    Cinch__Error e = CINCH__ERROR__INIT;
    Cinch__Empty empty = CINCH__EMPTY__INIT;
    e.text = (char *)"the fake says so";
    reply(f, to, code ? type : PR_EMPTY, code, code ? (void *)&e : (void *)&empty, NULL, 0);
}

static void on_hello(struct fake *f, const struct peer *from, const Cinch__Hello *m)
{
    Cinch__Welcome w = CINCH__WELCOME__INIT;
    if (f->refuse_hello) {
        reply_code(f, from, PR_HELLO, f->refuse_hello);
        return;
    }
    if (m->worker) {
        f->hellos++;
        f->held_said = (int)m->n_held;
        memcpy(f->worker, from->id, from->n);
        f->n_worker = from->n;
    }
    w.version = PR_VERSION;
    w.engine = PR_ENGINE;
    w.role = (char *)"worker";
    w.user = (char *)"tester";
    w.heartbeat_ms = 50;
    w.lost_ms = 1000;
    reply(f, from, PR_WELCOME, 0, &w, NULL, 0);
}

static void on_heartbeat(struct fake *f, const struct peer *from, const Cinch__Heartbeat *m)
{
    Cinch__HeartbeatReply r = CINCH__HEARTBEAT_REPLY__INIT;
    f->beats++;
    f->held_beat = (int)m->n_held;
    for (size_t i = 0; i < m->n_held && m->n_held > 1; i++)
        if (!m->held[i]->unit || m->held[i]->unit != m->held[0]->unit) f->apart = true;
    f->together = f->together || m->n_held > 1;
    if (f->forget) {
        f->forget = false;
        reply_code(f, from, PR_HELLO, CN_ESTALE);
        return;
    }
    if (f->refuse_beat) {
        reply_code(f, from, PR_HEARTBEAT, f->refuse_beat);
        return;
    }
    r.drain = f->drain;
    reply(f, from, PR_HEARTBEAT_REPLY, 0, &r, NULL, 0);
}

static struct fake_blob *find_blob(struct fake *f, const ProtobufCBinaryData *hash)
{
    for (int i = 0; i < f->blobs; i++)
        if (hash->len == CN_HASH_BYTES && memcmp(f->blob[i].hash.b, hash->data, hash->len) == 0)
            return &f->blob[i];
    return NULL;
}

static void on_have(struct fake *f, const struct peer *from, const Cinch__BlobHave *m)
{
    Cinch__BlobState s = CINCH__BLOB_STATE__INIT;
    const struct fake_blob *b = find_blob(f, &m->hash);
    s.complete = b && b->complete;
    s.size = b ? b->n : 0;
    s.offset = b && !b->complete ? b->n : 0;
    reply(f, from, PR_BLOB_STATE, 0, &s, NULL, 0);
}

static void on_put(struct fake *f, const struct peer *from, const Cinch__BlobPut *m,
                   const void *data, size_t n)
{
    Cinch__BlobState s = CINCH__BLOB_STATE__INIT;
    struct fake_blob *b = find_blob(f, &m->hash);
    if (!b) {
        if (f->blobs == FAKE_LOG) fail_msg("the fake coordinator's store is full");
        b = &f->blob[f->blobs++];
        memset(b, 0, sizeof *b);
        memcpy(b->hash.b, m->hash.data, CN_HASH_BYTES);
    }
    if (m->offset == b->n && !b->complete) {
        b->data = realloc(b->data, b->n + n + 1);
        memcpy(b->data + b->n, data, n);
        b->n += n;
        b->complete = b->n == m->size;
    }
    s.complete = b->complete;
    s.size = b->n;
    s.offset = b->n;
    reply(f, from, PR_BLOB_STATE, 0, &s, NULL, 0);
}

static void on_get(struct fake *f, const struct peer *from, const Cinch__BlobGet *m)
{
    Cinch__BlobChunk c = CINCH__BLOB_CHUNK__INIT;
    const struct fake_blob *b = find_blob(f, &m->hash);
    if (!b || m->offset > b->n) {
        reply_code(f, from, PR_BLOB_GET, CN_ENOTFOUND);
        return;
    }
    size_t n = b->n - m->offset < m->length ? b->n - m->offset : m->length;
    c.size = b->n;
    c.offset = m->offset;
    reply(f, from, PR_BLOB_CHUNK, 0, &c, b->data + m->offset, n);
}

static struct fake_entry *note(struct fake *f, int type, uint64_t job, uint32_t attempt)
{
    if (f->logged == FAKE_LOG) fail_msg("the fake coordinator's log is full");
    struct fake_entry *e = &f->log[f->logged++];
    memset(e, 0, sizeof *e);
    e->type = type;
    e->job = job;
    e->attempt = attempt;
    return e;
}

static void on_checkpoint(struct fake *f, const struct peer *from, const Cinch__Checkpoint *m)
{
    struct fake_entry *e = note(f, PR_CHECKPOINT, m->job, m->attempt);
    e->n_outputs = 1;
    memcpy(e->output[0].b, m->blob->hash.data, CN_HASH_BYTES);
    reply_code(f, from, PR_CHECKPOINT, f->checkpoint_code);
}

static void on_result(struct fake *f, const struct peer *from, const Cinch__Result *m)
{
    int code = f->result_code;
    f->result_code = 0;
    if (code) {
        for (int i = 0; i < f->blobs; i++) free(f->blob[i].data);
        f->blobs = 0;
        reply_code(f, from, PR_RESULT, code);
        return;
    }
    struct fake_entry *e = note(f, PR_RESULT, m->job, m->attempt);
    e->code = m->code;
    e->permanent = m->permanent;
    snprintf(e->reason, sizeof e->reason, "%s", m->reason);
    snprintf(e->metrics, sizeof e->metrics, "%s", m->metrics);
    for (size_t i = 0; i < m->n_outputs && i < 4; i++)
        memcpy(e->output[e->n_outputs++].b, m->outputs[i]->hash.data, CN_HASH_BYTES);
    reply_code(f, from, PR_RESULT, 0);
}

static void on_release(struct fake *f, const struct peer *from, const Cinch__Release *m)
{
    struct fake_entry *e = note(f, PR_RELEASE, m->job, m->attempt);
    snprintf(e->reason, sizeof e->reason, "%s", m->reason);
    reply_code(f, from, PR_RELEASE, 0);
}

static void handle(struct fake *f, struct peer *from, struct pr_message *m)
{
    const void *body = m->body;
    from->request = m->h.id;
    switch (m->h.type) {
    case PR_HELLO:
        on_hello(f, from, body);
        return;
    case PR_HEARTBEAT:
        on_heartbeat(f, from, body);
        return;
    case PR_LEASE_REQUEST:
        f->capacity = (int)((const Cinch__LeaseRequest *)body)->capacity;
        reply_code(f, from, PR_LEASE_REQUEST, 0);
        return;
    case PR_PROGRESS:
        f->progress++;
        f->epochs += ((const Cinch__Progress *)body)->epoch_done;
        return;
    case PR_CHECKPOINT:
        on_checkpoint(f, from, body);
        return;
    case PR_RESULT:
        on_result(f, from, body);
        return;
    case PR_RELEASE:
        on_release(f, from, body);
        return;
    case PR_BLOB_HAVE:
        on_have(f, from, body);
        return;
    case PR_BLOB_PUT:
        on_put(f, from, body, zmq_msg_data(&m->data), zmq_msg_size(&m->data));
        return;
    case PR_BLOB_GET:
        on_get(f, from, body);
        return;
    case PR_BYE:
        f->byes++;
        reply_code(f, from, PR_BYE, 0);
        return;
    default:
        reply_code(f, from, m->h.type, CN_ENOTFOUND);
    }
}

bool fake_serve(struct fake *f, bool (*done)(struct fake *f), int limit_ms)
{
    int64_t end = cn_mono_ms() + limit_ms;
    while (!done(f)) {
        if (cn_mono_ms() > end) return false;
        zmq_pollitem_t item = {f->router, 0, ZMQ_POLLIN, 0};
        if (zmq_poll(&item, 1, 20) <= 0) continue;
        struct peer from = {0};
        int n = zmq_recv(f->router, from.id, sizeof from.id, 0);
        if (n <= 0) continue;
        from.n = (size_t)n;
        struct pr_message m;
        if (pr_recv(f->router, &m, NULL) != 1) continue;
        if (!m.error.code) handle(f, &from, &m);
        pr_message_clear(&m);
    }
    return true;
}

void fake_push(struct fake *f, int type, const void *body)
{
    struct peer to = {.n = f->n_worker};
    memcpy(to.id, f->worker, f->n_worker);
    reply(f, &to, type, 0, body, NULL, 0);
}

void fake_put(struct fake *f, const void *data, size_t n, struct cn_hash *hash)
{
    struct fake_blob *b = &f->blob[f->blobs++];
    cn_hash_bytes(data, n, hash);
    *b = (struct fake_blob){.hash = *hash, .data = malloc(n), .n = n, .complete = true};
    memcpy(b->data, data, n);
}

const struct fake_blob *fake_blob(struct fake *f, const struct cn_hash *hash)
{
    ProtobufCBinaryData field = {CN_HASH_BYTES, (uint8_t *)hash->b};
    return find_blob(f, &field);
}

const struct fake_entry *fake_entry(struct fake *f, int type, int i)
{
    for (int k = 0; k < f->logged; k++)
        if (f->log[k].type == type && i-- == 0) return &f->log[k];
    return NULL;
}

int fake_count(struct fake *f, int type)
{
    int n = 0;
    for (int k = 0; k < f->logged; k++) n += f->log[k].type == type;
    return n;
}
