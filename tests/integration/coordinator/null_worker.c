/* null_worker.c - see null_worker.h. One thread: a DEALER for the queue, a synchronous client for
 * blobs. */
#include "null_worker.h"

#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "proto/client.h"
#include "proto/wire.h"

enum { MAX_JOBS = 8192 };

struct job {
    bool used, started, result_sent;
    uint64_t id, unit;
    uint32_t attempt;
    Cinch__LeaseGrant *grant; /* counted: freed with the last of its leases */
    const Cinch__Lease *lease;
    int *grant_users;
    struct cn_hash state;
    int epoch;
    int64_t next;     /* when the next epoch is due */
    int64_t resend;   /* result not acknowledged by then: again */
    uint64_t request; /* id of the result message */
    struct cn_hash out[2];
    uint64_t order; /* of arrival: first come, first served */
};

struct worker {
    const struct null_options *o;
    void *zmq, *socket;
    struct pr_client *blobs;
    struct pr_key key;
    uint8_t instance[PR_INSTANCE_BYTES];
    struct job job[MAX_JOBS];
    int used, high; /* jobs, and one past the last used place */
    uint64_t next_id, arrivals;
    bool welcome;
    int64_t last_heard, next_beat, next_hello, beat_ms;
    Cinch__Held held_room[MAX_JOBS], *held_list[MAX_JOBS];
};

static int send(struct worker *w, int type, uint64_t id, const void *body)
{
    struct pr_header h = {.type = (uint16_t)type, .id = id};
    return pr_send(w->socket, &h, body, NULL, 0, NULL);
}

static size_t list_held(struct worker *w, Cinch__Held *room, Cinch__Held **list)
{
    size_t n = 0;
    for (int i = 0; i < w->high; i++) {
        if (!w->job[i].used) continue;
        cinch__held__init(&room[n]);
        room[n].job = w->job[i].id;
        room[n].attempt = w->job[i].attempt;
        room[n].started = w->job[i].started;
        room[n].unit = w->job[i].unit;
        list[n] = &room[n];
        n++;
    }
    return n;
}

static void say_hello(struct worker *w)
{
    static const char *const allocators[] = {"glibc", "jemalloc", "tcmalloc"};
    static uint8_t dataset[CN_HASH_BYTES] = {7}; /* the fingerprint that the tests' grids name */
    ProtobufCBinaryData datasets[] = {{sizeof dataset, dataset}};
    Cinch__JobKind kinds[4];
    Cinch__WorkerInfo info = CINCH__WORKER_INFO__INIT;
    Cinch__Hello h = CINCH__HELLO__INIT;
    for (int k = 1; k <= 4; k++)
        if (!w->o->kinds || w->o->kinds & 1u << k) kinds[info.n_kinds++] = (Cinch__JobKind)k;
    info.kinds = kinds;
    info.instance = (ProtobufCBinaryData){sizeof w->instance, w->instance};
    info.name = (char *)(w->o->name ? w->o->name : "null");
    info.host = (char *)(w->o->host ? w->o->host : "testhost");
    info.engine = PR_ENGINE;
    info.slots = (uint32_t)w->o->slots;
    info.prefetch = (uint32_t)w->o->prefetch;
    info.max_gang = (uint32_t)w->o->max_gang;
    info.isa = (char *)"portable";
    info.n_allocators = 3;
    info.allocators = (char **)allocators;
    info.core = w->o->core + 1;
    info.n_datasets = w->o->no_data ? 0 : 1;
    info.datasets = datasets;
    h.version = PR_VERSION;
    h.software = (char *)"null worker";
    h.user = (char *)"tester";
    h.worker = &info;
    h.n_held = list_held(w, w->held_room, w->held_list);
    h.held = w->held_list;
    send(w, PR_HELLO, w->next_id++, &h);
    w->next_hello = cn_mono_ms() + 1000;
}

static struct job *find(struct worker *w, uint64_t id, uint32_t attempt)
{
    for (int i = 0; i < w->high; i++)
        if (w->job[i].used && w->job[i].id == id && w->job[i].attempt == attempt) return &w->job[i];
    return NULL;
}

static void drop(struct worker *w, struct job *j)
{
    if (!j) return;
    if (!--*j->grant_users) {
        free(j->grant_users);
        pr_free(j->grant);
    }
    memset(j, 0, sizeof *j);
    w->used--;
    while (w->high && !w->job[w->high - 1].used) w->high--;
}

static void take(struct worker *w, Cinch__LeaseGrant *g)
{
    int *users = calloc(1, sizeof *users);
    for (size_t i = 0; i < g->n_leases; i++) {
        const Cinch__Lease *l = g->leases[i];
        if (find(w, l->job, l->attempt)) continue; /* granted again: it was on its way */
        int at = 0;
        while (at < MAX_JOBS && w->job[at].used) at++;
        if (at == MAX_JOBS) break;
        w->job[at] = (struct job){.used = true,
                                  .id = l->job,
                                  .unit = g->n_leases > 1 ? g->leases[0]->job : 0,
                                  .attempt = l->attempt,
                                  .grant = g,
                                  .lease = l,
                                  .grant_users = users,
                                  .order = ++w->arrivals};
        ++*users;
        w->used++;
        if (at >= w->high) w->high = at + 1;
    }
    if (*users) return;
    free(users);
    pr_free(g);
}

/* ---- the "work" */

static int start(struct worker *w, struct job *j)
{
    const Cinch__Lease *l = j->lease;
    struct cn_hasher *h = cn_hasher_create();
    struct {
        uint64_t seed, numbers[4];
        double keep;
    } spec = {l->spec->seed,
              {l->spec->kind, l->spec->distilled, l->spec->rounds, l->spec->round},
              l->spec->keep};
    cn_hasher_add(h, &spec, sizeof spec); /* not the key: a fresh run must give the same bits */
    cn_hasher_add(h, l->spec->norm, strlen(l->spec->norm));
    for (size_t i = 0; i < l->n_inputs; i++)
        cn_hasher_add(h, l->inputs[i]->hash.data, l->inputs[i]->hash.len);
    cn_hasher_finish(h, &j->state);
    cn_hasher_destroy(h);
    j->started = true;
    j->next = cn_mono_ms() + w->o->epoch_ms;
    if (!w->o->epochs) return 0;
    for (size_t i = 0; i < l->n_inputs; i++) { /* inputs must really be there */
        struct cn_hash in;
        void *data;
        size_t n;
        memcpy(in.b, l->inputs[i]->hash.data, CN_HASH_BYTES);
        int rc = pr_blob_get(w->blobs, &in, 1 << 20, &data, &n, NULL);
        if (rc) return rc;
        free(data);
    }
    if (l->resume) {
        struct cn_hash in;
        void *data;
        size_t n;
        memcpy(in.b, l->resume->hash.data, CN_HASH_BYTES);
        if (!pr_blob_get(w->blobs, &in, 1 << 20, &data, &n, NULL) &&
            n == sizeof j->state + sizeof j->epoch) {
            memcpy(&j->state, data, sizeof j->state);
            memcpy(&j->epoch, (char *)data + sizeof j->state, sizeof j->epoch);
        }
        free(data);
    }
    return 0;
}

static void send_checkpoint(struct worker *w, struct job *j)
{
    char data[sizeof j->state + sizeof j->epoch];
    struct cn_hash hash;
    memcpy(data, &j->state, sizeof j->state);
    memcpy(data + sizeof j->state, &j->epoch, sizeof j->epoch);
    if (pr_blob_put(w->blobs, data, sizeof data, &hash, NULL)) return;
    Cinch__Blob b = CINCH__BLOB__INIT;
    Cinch__Checkpoint c = CINCH__CHECKPOINT__INIT;
    b.hash = pr_hash_field(&hash);
    b.size = sizeof data;
    c.job = j->id;
    c.attempt = j->attempt;
    c.blob = &b;
    c.epoch = (uint32_t)j->epoch;
    send(w, PR_CHECKPOINT, w->next_id++, &c);
}

static void send_progress(struct worker *w, struct job *j)
{
    Cinch__Progress p = CINCH__PROGRESS__INIT;
    p.job = j->id;
    p.attempt = j->attempt;
    p.epoch = (uint32_t)j->epoch;
    p.epochs = (uint32_t)w->o->epochs;
    p.epoch_done = 1;
    p.val_score = 0.9;
    p.stage = (char *)"null";
    send(w, PR_PROGRESS, w->next_id++, &p);
}

/* The metrics of an evaluation, with numbers that the inputs decide. */
static void metrics_of(const struct job *j, char *out, size_t cap)
{
    double q = j->state.b[0] / 255.0;
    if (j->lease->spec->kind != CINCH__JOB_KIND__EVALUATE)
        snprintf(out, cap, "{\"best_score\":%.4f}", q);
    else
        snprintf(out, cap,
                 "{\"auroc_float\":%.4f,\"auroc_int8\":%.4f,\"auroc_float_validation\":%.4f,"
                 "\"auroc_int8_validation\":%.4f,\"auroc_per_label\":{\"NORM\":0.9},"
                 "\"bytes_float\":1000,"
                 "\"bytes_int8\":300,\"params\":%.0f,\"kept\":%.3f,\"latency_float\":{},\"latency_"
                 "int8\":{},\"machine\":{}}",
                 q, q - 0.01, j->state.b[1] / 255.0, j->state.b[2] / 255.0,
                 1000 * j->lease->spec->keep, j->lease->spec->keep);
}

static int put_outputs(struct worker *w, struct job *j)
{
    int n = j->lease->spec->kind == CINCH__JOB_KIND__EVALUATE ? 2 : 1;
    for (int i = 0; i < n; i++) {
        char data[CN_HASH_BYTES + 1];
        memcpy(data, &j->state, CN_HASH_BYTES);
        data[CN_HASH_BYTES] = (char)('0' + i);
        if (pr_blob_put(w->blobs, data, sizeof data, &j->out[i], NULL)) return -1;
    }
    return 0;
}

static void send_result(struct worker *w, struct job *j, int code)
{
    static const char *const role[2][2] = {{"model", ""}, {"float", "int8"}};
    int eval = j->lease->spec->kind == CINCH__JOB_KIND__EVALUATE;
    char metrics[640];
    Cinch__Blob b[2], *list[2];
    Cinch__Result r = CINCH__RESULT__INIT;
    metrics_of(j, metrics, sizeof metrics);
    for (int i = 0; i < 1 + eval && w->o->epochs && !code; i++) {
        cinch__blob__init(&b[i]);
        b[i].role = (char *)role[eval][i];
        b[i].hash = pr_hash_field(&j->out[i]);
        b[i].size = CN_HASH_BYTES + 1;
        list[r.n_outputs++] = &b[i];
    }
    r.outputs = list;
    r.job = j->id;
    r.attempt = j->attempt;
    r.code = code;
    r.reason = (char *)(code ? "thrown for the test" : "");
    r.metrics = w->o->epochs ? metrics : (char *)"";
    if (!j->request) j->request = w->next_id++; /* repeated under its id: a late answer counts */
    j->result_sent = true;
    j->resend = cn_mono_ms() + 2000;
    send(w, PR_RESULT, j->request, &r);
}

static void finish(struct worker *w, struct job *j)
{
    int fails = (int)(randombytes_random() % 1000) < w->o->fail_per_mille;
    if (!fails && w->o->epochs && put_outputs(w, j)) return; /* tries again */
    send_result(w, j, fails ? CN_EINTERNAL : 0);
}

static void step(struct worker *w, struct job *j, int64_t now)
{
    if (j->result_sent) {
        if (now >= j->resend && w->welcome) finish(w, j);
        return;
    }
    int rc = j->started ? 0 : start(w, j);
    if (rc) j->started = false;
    if (rc == CN_ENOTFOUND) send_result(w, j, rc); /* an input was lost meanwhile */
    if (rc) return;
    while (j->epoch < w->o->epochs && now >= j->next) {
        cn_hash_bytes(&j->state, sizeof j->state, &j->state);
        j->epoch++;
        j->next += w->o->epoch_ms;
        send_progress(w, j);
        if (w->o->checkpoint_every && j->epoch % w->o->checkpoint_every == 0 &&
            j->epoch < w->o->epochs)
            send_checkpoint(w, j);
        if (w->o->epoch_ms) break;
    }
    if (j->epoch >= w->o->epochs && now >= j->next - w->o->epoch_ms) finish(w, j);
}

/* ---- messages */

static void on_ack(struct worker *w, const struct pr_message *m)
{
    for (int i = 0; i < w->high; i++) {
        struct job *j = &w->job[i];
        if (!j->used || !j->result_sent || j->request != m->h.id) continue;
        if (m->h.code == CN_ENOSPACE || m->h.code == CN_EIO || m->h.code == CN_EBUSY ||
            m->h.code == CN_ENOTFOUND)
            return; /* later */
        if (!m->h.code && w->o->done) atomic_fetch_add(w->o->done, 1);
        drop(w, j);
        return;
    }
}

static void on_message(struct worker *w, struct pr_message *m)
{
    w->last_heard = cn_mono_ms();
    if (m->h.type == PR_HELLO) { /* say hello */
        w->welcome = false;
        if (cn_mono_ms() >= w->next_hello - 900) say_hello(w);
    } else if (m->h.type == PR_WELCOME && m->body) {
        w->welcome = true;
        w->beat_ms = ((Cinch__Welcome *)(void *)m->body)->heartbeat_ms;
        for (int i = 0; i < w->high; i++)
            if (w->job[i].result_sent) w->job[i].resend = 0;
    } else if (m->h.type == PR_LEASE_GRANT && m->body) {
        take(w, (Cinch__LeaseGrant *)(void *)m->body);
        m->body = NULL;
    } else if (m->h.type == PR_DROP && m->body) {
        const Cinch__Held *h = ((Cinch__Drop *)(void *)m->body)->lease;
        if (h) drop(w, find(w, h->job, h->attempt));
    } else if (m->h.type == PR_EMPTY || m->h.type == PR_ERROR) {
        on_ack(w, m);
    }
}

static void beat(struct worker *w, int64_t now)
{
    Cinch__Heartbeat h = CINCH__HEARTBEAT__INIT;
    if (!w->welcome) {
        if (now >= w->next_hello) say_hello(w);
        return;
    }
    if (now < w->next_beat) return;
    w->next_beat = now + w->beat_ms;
    h.n_held = list_held(w, w->held_room, w->held_list);
    h.held = w->held_list;
    send(w, PR_HEARTBEAT, w->next_id++, &h);
}

static void leave(struct worker *w)
{
    Cinch__Bye bye = CINCH__BYE__INIT;
    send(w, PR_BYE, w->next_id++, &bye);
    cn_sleep_ms(50);
}

/* The oldest lease that has not begun, or NULL. */
static struct job *oldest_waiting(struct worker *w)
{
    struct job *best = NULL;
    for (int i = 0; i < w->high; i++)
        if (w->job[i].used && !w->job[i].started && (!best || w->job[i].order < best->order))
            best = &w->job[i];
    return best;
}

static void work(struct worker *w, int64_t now)
{
    int running = 0;
    for (int i = 0; i < w->high; i++) {
        if (!w->job[i].used || (!w->job[i].started && w->o->epochs)) continue;
        running++;
        step(w, &w->job[i], now);
    }
    struct job *j;
    while (w->o->epochs && running++ < w->o->slots && (j = oldest_waiting(w))) step(w, j, now);
}

static int loop(struct worker *w)
{
    w->last_heard = cn_mono_ms();
    while (!atomic_load(w->o->stop)) {
        int64_t now = cn_mono_ms();
        work(w, now);
        beat(w, now);
        if (w->o->waiting_ms && now - w->last_heard > w->o->waiting_ms) return CN_ECONNECT;
        zmq_pollitem_t item = {w->socket, 0, ZMQ_POLLIN, 0};
        int wait = !w->used ? 100 : w->o->epochs ? (w->o->epoch_ms < 10 ? w->o->epoch_ms : 10) : 50;
        zmq_poll(&item, 1, wait);
        struct pr_message m;
        while (pr_recv(w->socket, &m, NULL) == 1) {
            on_message(w, &m);
            pr_message_clear(&m);
        }
    }
    leave(w);
    return 0;
}

int null_run(const struct null_options *o, struct cn_error *err)
{
    struct worker *w = calloc(1, sizeof *w);
    w->o = o;
    w->zmq = o->zmq ? o->zmq : zmq_ctx_new();
    w->beat_ms = 500;
    w->next_id = 1;
    randombytes_buf(w->instance, sizeof w->instance);
    int rc = o->key_file ? pr_key_load(&w->key, o->key_file, err) : 0;
    if (!rc) rc = pr_dealer(&w->socket, w->zmq, o->endpoint, o->key_file ? &w->key : NULL, err);
    struct pr_connect how = {
        .zmq = w->zmq, .endpoint = o->endpoint, .key_file = o->key_file, .timeout_ms = 20000};
    while (!rc && o->epochs && !w->blobs && !atomic_load(o->stop))
        if (pr_client_open(&w->blobs, &how, err)) cn_sleep_ms(200);
    if (!rc) rc = loop(w);
    while (w->high) drop(w, &w->job[w->high - 1]);
    pr_client_close(w->blobs);
    if (w->socket) zmq_close(w->socket);
    if (!o->zmq) zmq_ctx_term(w->zmq);
    free(w);
    return rc;
}
