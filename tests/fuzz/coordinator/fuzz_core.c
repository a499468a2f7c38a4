/* Stateful fuzz target of the coordinator: several peers send valid, odd and mutated messages to a live core, in any order, while a
 * false clock runs and the coordinator is restarted now and then. The input is the script: one byte says who does what, the next ones
 * with which numbers. After each act the scheduler's tables agree with each other; at the end, and after a restart, nothing that was
 * acknowledged is lost: runs, results, datasets, keys. Memory that is not given back shows in LeakSanitizer, memory that grows in the
 * bound of held messages.
 *
 * The clock of base/clock.c is replaced by the one below: this file defines all of its functions. */
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "coordinator/core.h"
#include "proto/wire.h"
#include "tests/unit/coordinator/sched_invariants.h"

enum { PEERS = 5, ASKED = 64, KEPT = 128, ACTS = 120, MAX_RAW = 512 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* ---- the false clock */

static int64_t now_ms;

int64_t cn_mono_ns(void)
{
    return now_ms * 1000000;
}
int64_t cn_mono_ms(void)
{
    return now_ms;
}
int64_t cn_wall_ms(void)
{
    return 1700000000000 + now_ms;
}
void cn_sleep_ms(int64_t ms)
{
    now_ms += ms;
}
void cn_wall_text(int64_t wall_ms, char out[25])
{
    snprintf(out, 25, "2026-01-01T00:00:00.000Z");
}

/* ---- the world */

struct asked { /* what a peer waits for */
    uint64_t id;
    int type;
    uint64_t job;  /* RESULT that says all went well */
    char name[32]; /* DATA_ADD, KEY_CREATE, KEY_REVOKE */
};

struct lease {
    uint64_t job;
    uint32_t attempt;
};

struct peer_of_ours {
    void *socket;
    uint64_t next_id;
    struct asked asked[ASKED];
    struct lease lease[32]; /* the last ones granted */
    uint32_t n_leases;
};

struct names {
    char name[KEPT][32];
    int n;
};

static struct world {
    char folder[64], endpoint[32];
    unsigned starts;
    void *zmq;
    struct coordinator *c;
    struct peer_of_ours peer[PEERS];
    uint32_t run[KEPT]; /* acknowledged */
    int n_runs;
    uint32_t done[KEPT];
    int n_done;
    struct names datasets, keys;
    uint64_t nonce;
    uint8_t last[MAX_RAW]; /* the last body that was sent, to be sent again spoilt */
    size_t n_last;
    int last_type;
} * w;

static struct input {
    const uint8_t *at;
    size_t left;
} in;

static unsigned take(void)
{
    if (!in.left) return 0;
    in.left--;
    return *in.at++;
}

static void must(int ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "fuzz_core: %s\n", what);
    __builtin_trap();
}

/* ---- the coordinator */

static void start(void)
{
    /* ZeroMQ frees a name a little after its socket was closed: each start has its own */
    snprintf(w->endpoint, sizeof w->endpoint, "inproc://core-%u", ++w->starts);
    struct co_options o = {.state = w->folder,
                           .listen = {w->endpoint},
                           .n_listen = 1,
                           .zmq = w->zmq,
                           .reserve_mb = -1};
    struct cn_error err = {0};
    must(!co_create(&w->c, &o, &err), err.text);
}

static void check_tables(void)
{
    const char *broken = sched_broken(w->c->s);
    must(!broken, broken ? broken : "");
    must(w->c->n_out < 5000, "messages pile up");
}

static void answers(struct peer_of_ours *p);

/* Lets the coordinator work until blobs that are under way have been written. */
static void turn(void)
{
    struct cn_error err = {0};
    bool busy = true;
    for (int i = 0; i < 3 || (bl_waiting(w->c->blobs) && i < 2000); i++) {
        must(!co_step(w->c, &busy, &err), err.text);
        busy = true; /* never wait */
        for (int k = 0; k < PEERS; k++) answers(&w->peer[k]);
        if (i > 3) usleep(50);
    }
    check_tables();
}

/* ---- peers */

static void connect_peer(struct peer_of_ours *p)
{
    struct cn_error err = {0};
    if (p->socket) zmq_close(p->socket);
    memset(p, 0, sizeof *p);
    must(!pr_dealer(&p->socket, w->zmq, w->endpoint, NULL, &err), err.text);
}

static void keep_name(struct names *to, const char *name)
{
    for (int i = 0; i < to->n; i++)
        if (!strcmp(to->name[i], name)) return;
    if (to->n < KEPT) snprintf(to->name[to->n++], sizeof to->name[0], "%s", name);
}

static void drop_name(struct names *from, const char *name)
{
    for (int i = 0; i < from->n; i++)
        if (!strcmp(from->name[i], name))
            memmove(from->name[i], from->name[from->n - 1], sizeof from->name[0]), from->n--;
}

/* An answer that promises something is written down. */
static void acknowledged(const struct asked *a, const struct pr_message *m)
{
    if (m->h.code) return;
    if (a->type == PR_SUBMIT && m->h.type == PR_SUBMITTED) {
        const char *run = ((const Cinch__Submitted *)(const void *)m->body)->run;
        if (*run == 'r' && w->n_runs < KEPT)
            w->run[w->n_runs++] = (uint32_t)strtoul(run + 1, NULL, 10);
    } else if (a->type == PR_RESULT && a->job && w->n_done < KEPT) {
        w->done[w->n_done++] = (uint32_t)a->job;
    } else if (a->type == PR_DATA_ADD) {
        keep_name(&w->datasets, a->name);
    } else if (a->type == PR_KEY_CREATE) {
        keep_name(&w->keys, a->name);
    } else if (a->type == PR_KEY_REVOKE) {
        drop_name(&w->keys, a->name);
    }
}

static void granted(struct peer_of_ours *p, const Cinch__LeaseGrant *g)
{
    for (size_t i = 0; i < g->n_leases; i++)
        p->lease[p->n_leases++ % 32] = (struct lease){g->leases[i]->job, g->leases[i]->attempt};
}

static void answers(struct peer_of_ours *p)
{
    struct pr_message m;
    struct cn_error err;
    while (p->socket && pr_recv(p->socket, &m, &err) == 1) {
        must(!m.error.code, "the coordinator sent what cannot be decoded");
        if (m.h.type == PR_LEASE_GRANT) granted(p, (const void *)m.body);
        struct asked *a = &p->asked[m.h.id % ASKED];
        if (m.h.id && a->id == m.h.id) acknowledged(a, &m);
        pr_message_clear(&m);
    }
}

/* Sends it and notes what it asks for; returns the note. */
static struct asked *ask(struct peer_of_ours *p, int type, const ProtobufCMessage *body,
                         const void *data, size_t n)
{
    struct pr_header h = {.type = (uint16_t)type, .id = ++p->next_id};
    struct asked *a = &p->asked[h.id % ASKED];
    *a = (struct asked){.id = h.id, .type = type};
    size_t size = protobuf_c_message_get_packed_size(body);
    if (size <= MAX_RAW) {
        w->n_last = protobuf_c_message_pack(body, w->last);
        w->last_type = type;
    }
    pr_send(p->socket, &h, body, data, n, NULL);
    return a;
}

/* The last message with some bytes of it changed, perhaps as one of another type. */
static void spoilt(struct peer_of_ours *p)
{
    uint8_t body[MAX_RAW], head[PR_HEADER_BYTES];
    memcpy(body, w->last, w->n_last);
    for (unsigned k = take() % 4 + 1; k && w->n_last; k--)
        body[take() % w->n_last] = (uint8_t)take();
    unsigned cut = take();
    size_t n = cut < 40 && w->n_last ? w->n_last - cut % w->n_last : w->n_last;
    struct pr_header h = {.type = (uint16_t)(take() < 200 ? w->last_type : (int)take() % 48),
                          .id = ++p->next_id};
    pr_header_put(head, &h);
    p->asked[h.id % ASKED].id = 0; /* what it means now, nobody knows */
    if (zmq_send(p->socket, head, sizeof head, ZMQ_DONTWAIT | ZMQ_SNDMORE) == (int)sizeof head)
        zmq_send(p->socket, body, n, ZMQ_DONTWAIT);
}

/* Frames that are no message at all. */
static void raw(struct peer_of_ours *p)
{
    uint8_t bytes[64];
    unsigned frames = take() % 4 + 1;
    for (unsigned i = 1; i <= frames; i++) {
        size_t n = take() % sizeof bytes;
        for (size_t k = 0; k < n; k++) bytes[k] = (uint8_t)take();
        if (i == 1 && n >= 4 && take() & 1) memcpy(bytes, "CNH1", 4);
        zmq_send(p->socket, bytes, n, ZMQ_DONTWAIT | (i < frames ? ZMQ_SNDMORE : 0));
    }
}

/* ---- messages, made of small numbers so that they often fit together */

static const char *const user_name[] = {"anna", "bert", "cleo", "dora"};
static const char *const thing_name[] = {"ptbxl", "clinic", "r1", "j1",    "r2",
                                         "j2",    "j7",     "",   "key-a", "key-b"};

static uint8_t fingerprint[32];

static ProtobufCBinaryData bytes_of(const void *p, size_t n)
{
    return (ProtobufCBinaryData){n, (uint8_t *)p};
}

static void hello(struct peer_of_ours *p, bool worker)
{
    Cinch__Hello h = CINCH__HELLO__INIT;
    Cinch__WorkerInfo info = CINCH__WORKER_INFO__INIT;
    Cinch__JobKind kinds[] = {1, 2, 3, 4};
    char *allocators[] = {"glibc", "jemalloc", "tcmalloc"};
    uint8_t instance[16] = {(uint8_t)((take() + (unsigned)(p - w->peer)) % 6 + 1)};
    ProtobufCBinaryData have = bytes_of(fingerprint, 32);
    h.version = PR_VERSION;
    h.software = "fuzz";
    h.user = (char *)user_name[take() % 4];
    if (worker) {
        info.instance = bytes_of(instance, 16);
        info.name = "w@box";
        info.host = take() & 1 ? "box" : "other";
        info.engine = PR_ENGINE;
        info.kinds = kinds;
        info.n_kinds = 4 - take() % 5; /* no input left: a worker that can do everything */
        info.slots = take() % 5 + 1;
        info.max_gang = take() % 5;
        info.isa = "avx2";
        info.allocators = allocators;
        info.n_allocators = 3 - take() % 4;
        info.core = (int)(take() % 3);
        info.datasets = &have;
        info.n_datasets = !(take() & 1);
        h.worker = &info;
    }
    ask(p, PR_HELLO, &h.base, NULL, 0);
}

static void submit(struct peer_of_ours *p)
{
    Cinch__Submit s = CINCH__SUBMIT__INIT;
    Cinch__Net net = CINCH__NET__INIT, *nets[] = {&net};
    Cinch__Prune prune = CINCH__PRUNE__INIT;
    char *norms[] = {take() & 1 ? "L1" : "L2"}, *allocators[] = {"jemalloc"};
    uint64_t seeds[] = {take() % 4, 4 + take() % 4};
    protobuf_c_boolean distill[] = {false, true};
    uint32_t rounds[] = {take() % 3 + 1};
    double keep[] = {0.5, 0.125};
    uint8_t nonce[16];
    w->nonce += take() < 230; /* now and then the same submission again */
    memset(nonce, 0, sizeof nonce);
    memcpy(nonce, &w->nonce, sizeof w->nonce);
    net.name = take() < 200 ? "cnn" : "rnn";
    net.recipe = net.finetune = "{\"epochs\":3}";
    net.allocators = allocators;
    net.n_allocators = take() & 1;
    net.latency_runs = 10;
    prune.rounds = rounds, prune.n_rounds = 1;
    prune.keep = keep, prune.n_keep = 1 + (take() & 1);
    prune.norms = norms, prune.n_norms = 1;
    s.nonce = bytes_of(nonce, 16);
    s.name = "study";
    s.priority = (int)(take() % 5) - 2;
    s.dataset = "ptbxl";
    s.fingerprint = bytes_of(fingerprint, 32);
    s.nets = nets, s.n_nets = 1;
    s.seeds = seeds, s.n_seeds = 1 + (take() & 1);
    s.distill = distill, s.n_distill = 1 + (take() & 1);
    if (take() & 1) s.prune = &prune;
    s.measure = take() % 3;
    s.fresh = take() > 240;
    s.dry_run = take() > 230;
    s.paused = take() > 220;
    s.time_limit_s = take() % 3 * 50;
    s.grid = "nets: [cnn]\n";
    ask(p, PR_SUBMIT, &s.base, NULL, 0);
}

static struct lease some_lease(struct peer_of_ours *p)
{
    unsigned k = take();
    uint32_t n = p->n_leases < 32 ? p->n_leases : 32;
    if (k < 200 && n) return p->lease[k % n];
    return (struct lease){k % 30, take() % 4};
}

static void heartbeat(struct peer_of_ours *p)
{
    Cinch__Heartbeat h = CINCH__HEARTBEAT__INIT;
    Cinch__Held held[4], *list[4];
    h.n_held = take() % 5;
    for (size_t i = 0; i < h.n_held; i++) {
        struct lease l = some_lease(p);
        held[i] = (Cinch__Held)CINCH__HELD__INIT;
        held[i].job = l.job;
        held[i].attempt = l.attempt;
        held[i].started = take() & 1;
        list[i] = &held[i];
    }
    h.held = list;
    ask(p, PR_HEARTBEAT, &h.base, NULL, 0);
}

static void progress(struct peer_of_ours *p)
{
    Cinch__Progress g = CINCH__PROGRESS__INIT;
    struct lease l = some_lease(p);
    g.job = l.job;
    g.attempt = l.attempt;
    g.epoch = take() % 4;
    g.epochs = 3;
    g.epoch_done = take() & 1;
    g.stage = "train";
    ask(p, PR_PROGRESS, &g.base, NULL, 0);
}

static char small[4][8] = {"blob-a", "blob-b", "blob-c", "blob-d"};

static void blob_of(Cinch__Blob *b, struct cn_hash *h, unsigned k, const char *role)
{
    *b = (Cinch__Blob)CINCH__BLOB__INIT;
    cn_hash_bytes(small[k % 4], 6, h);
    b->role = (char *)role;
    b->hash = bytes_of(h->b, 32);
    b->size = k > 250 ? 7 : 6;
}

static void put(struct peer_of_ours *p)
{
    Cinch__BlobPut b = CINCH__BLOB_PUT__INIT;
    struct cn_hash h;
    unsigned k = take(), n = k > 200 ? take() % 7 : 6;
    cn_hash_bytes(small[k % 4], 6, &h);
    b.hash = bytes_of(h.b, 32);
    b.size = 6;
    b.offset = take() > 220 ? take() % 7 : 0;
    ask(p, PR_BLOB_PUT, &b.base, small[(k + (k > 240)) % 4], n);
}

static void fetch(struct peer_of_ours *p)
{
    struct cn_hash h;
    unsigned k = take();
    cn_hash_bytes(small[k % 4], 6, &h);
    Cinch__BlobGet g = CINCH__BLOB_GET__INIT;
    Cinch__BlobHave v = CINCH__BLOB_HAVE__INIT;
    g.hash = v.hash = bytes_of(h.b, 32);
    g.offset = take() % 8;
    g.length = take() % 10;
    ask(p, k & 16 ? PR_BLOB_GET : PR_BLOB_HAVE, k & 16 ? &g.base : &v.base, NULL, 0);
}

static void checkpoint(struct peer_of_ours *p)
{
    Cinch__Checkpoint k = CINCH__CHECKPOINT__INIT;
    Cinch__Blob b;
    struct cn_hash h;
    struct lease l = some_lease(p);
    blob_of(&b, &h, take(), "checkpoint");
    k.job = l.job;
    k.attempt = l.attempt;
    k.blob = &b;
    k.epoch = take() % 4;
    ask(p, PR_CHECKPOINT, &k.base, NULL, 0);
}

static void result(struct peer_of_ours *p)
{
    Cinch__Result r = CINCH__RESULT__INIT;
    Cinch__Blob b, *list[] = {&b};
    struct cn_hash h;
    struct lease l = some_lease(p);
    blob_of(&b, &h, take(), "model");
    r.job = l.job;
    r.attempt = l.attempt;
    r.code = take() > 200 ? CN_EDIVERGED : 0;
    r.permanent = take() & 1;
    r.reason = "no reason";
    r.outputs = list;
    r.n_outputs = take() < 230;
    r.metrics = "{\"params\":7}";
    struct asked *a = ask(p, PR_RESULT, &r.base, NULL, 0);
    if (!r.code) a->job = l.job;
}

static void release(struct peer_of_ours *p)
{
    Cinch__Release r = CINCH__RELEASE__INIT;
    struct lease l = some_lease(p);
    r.job = l.job;
    r.attempt = l.attempt;
    r.reason = "stopped";
    ask(p, PR_RELEASE, &r.base, NULL, 0);
}

static void capacity(struct peer_of_ours *p)
{
    Cinch__LeaseRequest r = CINCH__LEASE_REQUEST__INIT;
    r.capacity = 8 - take() % 9;
    ask(p, PR_LEASE_REQUEST, &r.base, NULL, 0);
}

static void query(struct peer_of_ours *p)
{
    Cinch__Query q = CINCH__QUERY__INIT;
    q.what = take() % 10;
    q.id = (char *)thing_name[take() % 10];
    ask(p, PR_QUERY, &q.base, NULL, 0);
}

static void watch(struct peer_of_ours *p)
{
    Cinch__Watch q = CINCH__WATCH__INIT;
    q.after = take();
    q.timeout_ms = take() * 100;
    q.id = (char *)thing_name[take() & 1 ? 7 : 2];
    ask(p, PR_WATCH, &q.base, NULL, 0);
}

static void control(struct peer_of_ours *p)
{
    Cinch__Control q = CINCH__CONTROL__INIT;
    char id[16];
    unsigned k = take();
    q.what = take() % 8;
    snprintf(id, sizeof id, "%c%u", k & 1 ? 'r' : 'j', k / 2 % 24);
    q.id = k > 250 ? "w@box" : id;
    q.value = (int)(take() % 9) - 4;
    ask(p, PR_CONTROL, &q.base, NULL, 0);
}

static void data_add(struct peer_of_ours *p)
{
    Cinch__DataAdd d = CINCH__DATA_ADD__INIT;
    Cinch__Blob b;
    struct cn_hash h;
    uint8_t fp[32] = {(uint8_t)(take() % 3)};
    blob_of(&b, &h, take(), "dataset");
    d.name = (char *)thing_name[take() % 2];
    d.fingerprint = bytes_of(fp, 32);
    d.blob = &b;
    d.info = "{}";
    d.replace = take() & 1;
    snprintf(ask(p, PR_DATA_ADD, &d.base, NULL, 0)->name, 32, "%s", d.name);
}

static void data_get(struct peer_of_ours *p)
{
    Cinch__DataGet d = CINCH__DATA_GET__INIT;
    d.name = (char *)thing_name[take() % 10];
    if (take() & 1) d.fingerprint = bytes_of(fingerprint, 32);
    ask(p, PR_DATA_GET, &d.base, NULL, 0);
}

static const char *const public_key[] = {"rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
                                         "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"};

static void key(struct peer_of_ours *p, bool create)
{
    Cinch__KeyCreate k = CINCH__KEY_CREATE__INIT;
    Cinch__KeyRevoke r = CINCH__KEY_REVOKE__INIT;
    static const char *const role[] = {"read", "submit", "worker", "admin", "server", "queen"};
    unsigned which = take() & 1;
    k.name = r.key = (char *)thing_name[8 + which];
    k.role = (char *)role[take() % 6];
    k.public_ = (char *)public_key[which];
    struct asked *a =
        ask(p, create ? PR_KEY_CREATE : PR_KEY_REVOKE, create ? &k.base : &r.base, NULL, 0);
    snprintf(a->name, sizeof a->name, "%s", k.name);
    if (!create) drop_name(&w->keys, k.name); /* gone at once, or soon */
}

static void bye(struct peer_of_ours *p)
{
    Cinch__Bye b = CINCH__BYE__INIT;
    ask(p, PR_BYE, &b.base, NULL, 0);
}

/* ---- what was acknowledged is there */

static bool has_key(const char *name)
{
    const struct st_state *s = &w->c->state;
    for (uint32_t i = 0; i < s->n_keys; i++)
        if (!strcmp(s->key[i].name, name) && !s->key[i].revoked) return true;
    return false;
}

static void nothing_is_lost(void)
{
    const struct sched *s = w->c->s;
    for (int i = 0; i < w->n_runs; i++)
        must(w->run[i] && w->run[i] < s->n_runs && w->run[i] < w->c->state.n_runs, "a run is lost");
    for (int i = 0; i < w->n_done; i++)
        must(w->done[i] < s->n_jobs && s->job[w->done[i]].state == SC_SUCCEEDED,
             "a result is lost");
    for (int i = 0; i < w->datasets.n; i++)
        must(dataset_named(w->c, w->datasets.name[i]) != NULL, "a dataset is lost");
    for (int i = 0; i < w->keys.n; i++) must(has_key(w->keys.name[i]), "a key is lost");
}

static void restart(void)
{
    co_destroy(w->c);
    start();
    for (int i = 0; i < PEERS; i++) connect_peer(&w->peer[i]);
    turn();
    nothing_is_lost();
}

/* ---- the script */

static void act(void)
{
    unsigned what = take();
    struct peer_of_ours *p = &w->peer[what / 32 % PEERS];
    static void (*const plain[])(struct peer_of_ours *) = {
        submit, capacity, heartbeat, progress, checkpoint, result, release, put, fetch,
        query,  watch,    control,   data_add, data_get,   bye,    spoilt,  raw};
    what %= 32;
    if (what < 17)
        plain[what](p);
    else if (what < 20)
        hello(p, what > 17);
    else if (what < 22)
        key(p, what == 20);
    else if (what < 24)
        now_ms += (int64_t)1 << take() % 18;
    else if (what == 24)
        restart();
    else if (what == 25)
        connect_peer(p);
    else
        plain[what % 2 ? 5 : 2](p); /* results and heartbeats are what a queue sees most */
}

static void prepare(void)
{
    cn_log_level(CN_SILENT);
    snprintf(w->folder, sizeof w->folder, "%s/fuzz-core-%ld",
             cn_dir_exists("/dev/shm") ? "/dev/shm" : "/tmp", (long)getpid());
    cn_rmtree(w->folder, NULL);
    now_ms = 1000000;
    w->zmq = zmq_ctx_new();
    start();
    for (int i = 0; i < PEERS; i++) {
        connect_peer(&w->peer[i]);
        hello(&w->peer[i], i > 2);
    }
    turn();
    put(&w->peer[0]);
    capacity(&w->peer[3]);
    turn();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    w = calloc(1, sizeof *w);
    if (!w) return 0;
    in.left = 0;
    prepare();
    in = (struct input){data, n};
    for (int i = 0; i < ACTS && in.left; i++) {
        act();
        turn();
    }
    nothing_is_lost();
    restart();
    struct mallinfo2 used = mallinfo2();
    must(used.uordblks < (size_t)200 << 20, "memory grows");
    for (int i = 0; i < PEERS; i++) zmq_close(w->peer[i].socket);
    co_destroy(w->c);
    zmq_ctx_term(w->zmq);
    cn_rmtree(w->folder, NULL);
    free(w);
    w = NULL;
    return 0;
}
