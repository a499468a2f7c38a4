/* coordinator/service.c - the workers' half of the handler table, hello, and blob traffic. What
 * people ask for is in client.c. Which role may send what stands in proto/message.h; net.c has
 * checked it before anything here runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/core.h"
#include "coordinator/room.h"
#include "proto/check.h"
#include "proto/client.h"
#include "proto/spec.h"
#include "proto/words.h"

/* ---- hello */

uint32_t service_reserved(const struct coordinator *c, const char *host, uint32_t *cores,
                          uint32_t cap)
{
    uint32_t n = 0;
    for (uint32_t i = 1; c->cores_reserved && i < c->s->n_workers && n < cap; i++) {
        const struct sc_worker *w = &c->s->worker[i];
        if (w->used && w->connected && w->core >= 0 && !strcmp(w->host, host))
            cores[n++] = (uint32_t)w->core + 1;
    }
    return n;
}

/* Two latency workers on one core would measure each other. */
static int core_taken(struct coordinator *c, const Cinch__WorkerInfo *w, struct cn_error *err)
{
    for (uint32_t i = 1; w->core > 0 && i < c->s->n_workers; i++) {
        const struct sc_worker *o = &c->s->worker[i];
        if (o->used && o->connected && o->core == w->core - 1 && !strcmp(o->host, w->host) &&
            memcmp(o->instance, w->instance.data, PR_INSTANCE_BYTES))
            return cn_fail(err, CN_EBUSY,
                           "core %d of %s is reserved by worker %s; give another --core",
                           w->core - 1, w->host, o->name);
    }
    return 0;
}

static struct cn_hash *read_datasets(const Cinch__WorkerInfo *w)
{
    struct cn_hash *fp = calloc(w->n_datasets + 1, sizeof *fp);
    for (size_t i = 0; fp && i < w->n_datasets; i++)
        memcpy(fp[i].b, w->datasets[i].data, CN_HASH_BYTES);
    return fp;
}

static struct sc_held *read_held(Cinch__Held *const *list, size_t n)
{
    struct sc_held *held = calloc(n + 1, sizeof *held);
    for (size_t i = 0; held && i < n; i++) {
        held[i].job = list[i]->job < UINT32_MAX ? (uint32_t)list[i]->job : 0;
        held[i].attempt = list[i]->attempt;
        held[i].started = list[i]->started;
        held[i].unit = list[i]->unit;
    }
    return held;
}

/* Results of one job must not depend on who made them. */
static int same_engine(const Cinch__WorkerInfo *w, struct cn_error *err)
{
    if (w->engine != PR_ENGINE || (w->bits && w->bits != PR_BITS))
        return cn_fail(
            err, CN_EVERSION,
            "worker %s has engine %u.%u, this coordinator needs %d.%d: results would not "
            "be comparable",
            w->name, w->engine, w->bits, PR_ENGINE, PR_BITS);
    if (!w->bits)
        cn_warn("coordinator",
                "worker %s does not say which bits it makes: if it is older than this coordinator, "
                "the last digits of its results differ from others'; update it",
                w->name);
    return 0;
}

static int register_worker(struct coordinator *c, struct peer *p, const Cinch__Hello *h,
                           struct cn_error *err)
{
    const Cinch__WorkerInfo *w = h->worker;
    int rc = same_engine(w, err);
    if (!rc) rc = core_taken(c, w, err);
    if (!rc && !sc_find_worker(c->s, w->instance.data)) rc = entries_worker(c, p, err);
    if (rc) return rc;
    struct sc_worker info = {.slots = w->slots,
                             .capacity = w->slots + (w->prefetch ? w->prefetch : w->slots),
                             .max_gang = w->max_gang ? w->max_gang : 1,
                             .gpu_bytes = w->gpu_bytes,
                             .compute_capability = w->compute_capability,
                             .gpus = w->gpus,
                             .core = w->core - 1,
                             .n_datasets = (uint32_t)w->n_datasets};
    /* What a newer worker knows and this coordinator does not is of no use here: left out. */
    sc_allocators(w->allocators, w->n_allocators, &info.allocators);
    for (size_t i = 0; i < w->n_kinds; i++)
        if (w->kinds[i] >= CINCH__JOB_KIND__TRAIN && w->kinds[i] <= CINCH__JOB_KIND__EVALUATE)
            info.kinds |= 1u << w->kinds[i];
    memcpy(info.instance, w->instance.data, PR_INSTANCE_BYTES);
    snprintf(info.name, sizeof info.name, "%s", w->name);
    snprintf(info.host, sizeof info.host, "%s", w->host);
    if (pr_word(PR_WORDS_ISA, w->isa) >= 0) snprintf(info.isa, sizeof info.isa, "%s", w->isa);
    snprintf(info.device, sizeof info.device, "%s", w->device);
    info.datasets = read_datasets(w);
    struct sc_held *held = read_held(h->held, h->n_held);
    uint32_t known = sc_find_worker(c->s, info.instance);
    if (p->worker && p->worker != known) /* one connection is one worker */
        sc_on_bye(c->s, p->worker, cn_mono_ms());
    uint32_t id = held && info.datasets
                      ? sc_on_worker(c->s, &info, held, (uint32_t)h->n_held, cn_mono_ms())
                      : 0;
    free(held);
    free(info.datasets);
    if (w->core > 0) c->cores_reserved = true;
    if (!id || net_bind_worker(c, p, id))
        return cn_fail(err, CN_ENOMEM, "no room for another worker");
    note(c, (struct st_op){.kind = ST_WORKER, .worker = id});
    if (!known) cn_info("coordinator", "worker %s joined: %u slots", info.name, info.slots);
    return 0;
}

static int check_hello(struct coordinator *c, const char *key, const struct pr_message *m,
                       struct cn_error *err)
{
    if (m->error.code) {
        *err = m->error;
        return m->error.code;
    }
    int rc = pr_check(PR_HELLO, m->body, err);
    if (rc) return rc;
    const Cinch__Hello *h = (const void *)m->body;
    if (h->version != PR_VERSION)
        return cn_fail(err, CN_EVERSION,
                       "this coordinator speaks protocol %d, you speak %u; update the older one",
                       PR_VERSION, h->version);
    if (h->worker && *key) { /* the instance belongs to the key that brought it first */
        uint32_t known = sc_find_worker(c->s, h->worker->instance.data);
        const struct peer *p = known ? net_peer_of_worker(c, known) : NULL;
        if (p && strcmp(p->public_key, key))
            return cn_fail(err, CN_EREFUSED, "this worker belongs to another key");
    }
    return 0;
}

static void welcome(struct coordinator *c, const struct peer *p, uint64_t id)
{
    uint32_t cores[64];
    Cinch__Welcome w = CINCH__WELCOME__INIT;
    w.version = PR_VERSION;
    w.engine = PR_ENGINE;
    w.bits = PR_BITS;
    w.role = (char *)pr_role_name(p->roles);
    w.user = (char *)p->user;
    w.lost_ms = (uint32_t)c->s->limits.lost_ms;
    w.heartbeat_ms = w.lost_ms / 4;
    w.coordinator = (ProtobufCBinaryData){sizeof c->instance, c->instance};
    if (p->worker) {
        w.n_reserved_cores = service_reserved(c, c->s->worker[p->worker].host, cores, 64);
        w.reserved_cores = cores;
    }
    struct pr_header h = {.type = PR_WELCOME, .id = id};
    net_send(c, p, h, &w.base, NULL, p->worker && net_must_wait(c)); /* a worker was noted */
}

void service_hello(struct coordinator *c, int socket, const void *identity, size_t n,
                   const char *key, const struct pr_message *m)
{
    struct peer stranger = {.socket = socket, .n_identity = (int)n};
    memcpy(stranger.identity, identity, n);
    struct cn_error err = {0};
    bool curve = *key != 0;
    char name[PR_MAX_NAME + 1] = "";
    bool guest = net_guest(c, socket, identity, n, name);
    int rc = check_hello(c, key, m, &err);
    const Cinch__Hello *h = (const void *)m->body;
    unsigned roles = PR_ROLE_READ | PR_ROLE_SUBMIT | PR_ROLE_WORKER | PR_ROLE_ADMIN;
    if (guest) roles = PR_ROLE_READ | PR_ROLE_SUBMIT;
    if (!rc && curve && !(roles = key_roles(c, key, name)))
        rc = cn_fail(&err, CN_EREFUSED, "this key was revoked");
    if (!rc && h->worker && !(roles & PR_ROLE_WORKER))
        rc = cn_fail(&err, CN_EREFUSED,
                     "role '%s' may not work here; ask for a key with role worker",
                     pr_role_name(roles));
    struct peer *p = rc ? NULL : net_find_peer(c, socket, identity, n, true);
    if (!rc && !p) rc = cn_fail(&err, CN_ELIMIT, "too many connections");
    if (!rc) {
        snprintf(p->public_key, sizeof p->public_key, "%s", key);
        snprintf(p->user, sizeof p->user, "%s",
                 curve || guest ? name
                 : *h->user     ? h->user
                                : "nobody");
        p->roles = roles;
        p->results = h->results;
        p->last_seen = cn_mono_ms();
        net_known(c, p);
        if (h->worker) rc = register_worker(c, p, h, &err);
    }
    if (rc)
        net_error(c, &stranger, m->h.id, PR_ERROR, &err);
    else
        welcome(c, p, m->h.id);
}

/* ---- workers */

static int empty(struct coordinator *c, const struct request *r)
{
    Cinch__Empty e = CINCH__EMPTY__INIT;
    net_reply(c, r, PR_EMPTY, &e.base);
    return 0;
}

static int need_worker(struct request *r)
{
    return r->peer->worker
               ? 0
               : cn_fail(&r->error, CN_EINVALID, "this connection has not said hello as a worker");
}

static int on_lease_request(struct coordinator *c, struct request *r)
{
    sc_on_capacity(c->s, r->peer->worker,
                   ((const Cinch__LeaseRequest *)(const void *)r->body)->capacity);
    return empty(c, r);
}

static int on_heartbeat(struct coordinator *c, struct request *r)
{
    const Cinch__Heartbeat *h = (const void *)r->body;
    const struct sc_worker *w = &c->s->worker[r->peer->worker];
    struct sc_held *held = read_held(h->held, h->n_held);
    if (!held) return cn_fail(&r->error, CN_ENOMEM, "out of memory");
    sc_on_heartbeat(c->s, r->peer->worker, held, (uint32_t)h->n_held, cn_mono_ms());
    free(held);
    char *engines = *h->engines ? given_engines(h->engines) : NULL;
    if (engines) sc_on_engines(c->s, r->peer->worker, engines);
    free(engines);
    uint32_t cores[64];
    Cinch__HeartbeatReply reply = CINCH__HEARTBEAT_REPLY__INIT; /* drops are pushed by effects */
    reply.n_reserved_cores = service_reserved(c, w->host, cores, 64);
    reply.reserved_cores = cores;
    reply.drain = w->draining;
    struct pr_header head = {.type = PR_HEARTBEAT_REPLY, .id = r->h.id};
    net_send(c, r->peer, head, &reply.base, NULL, false);
    return 0;
}

static int stale(struct request *r, uint64_t job, uint32_t attempt)
{
    return cn_fail(&r->error, CN_ESTALE, "attempt %u of j%llu is not the live one; stop it",
                   attempt, (unsigned long long)job);
}

static int on_progress(struct coordinator *c, struct request *r)
{
    const Cinch__Progress *p = (const void *)r->body;
    if (sc_live(c->s, r->peer->worker, p->job, p->attempt)) return stale(r, p->job, p->attempt);
    uint32_t job = (uint32_t)p->job;
    sc_on_started(c->s, job, cn_mono_ms());
    struct live *l = live_of(c, job, true);
    if (!l) return 0;
    l->attempt = p->attempt;
    l->p = *p;
    snprintf(l->stage, sizeof l->stage, "%.31s", p->stage);
    l->time = cn_wall_ms();
    struct happening h = {.job = job, .attempt = p->attempt, .progress = true, .state = SC_LEASED};
    name_worker(c, &h, r->peer->worker);
    struct buf b = {0};
    buf_printf(&b, "\"epoch\":%u,\"epochs\":%u,\"batch\":%u,\"batches\":%u", p->epoch, p->epochs,
               p->batch, p->batches);
    if (p->epoch_done) {
        buf_puts(&b, ",\"val_score\":");
        buf_number(&b, p->val_score);
    }
    if (b.text && b.n < sizeof h.text) strcpy(h.text, b.text);
    buf_free(&b);
    note_event(c, h);
    if (!p->epoch_done) return 0;
    note(c,
         (struct st_op){.kind = ST_CURVE,
                        .job = job,
                        .attempt = p->attempt,
                        .first = p->epoch,
                        .f = {p->train_loss, p->val_loss, p->val_score, p->lr, p->records_per_s}});
    return 0;
}

static int need_blob(struct coordinator *c, const Cinch__Blob *b, struct request *r)
{
    struct cn_hash h;
    uint64_t size;
    memcpy(h.b, b->hash.data, CN_HASH_BYTES);
    if (!bl_has(c->blobs, &h, &size))
        return cn_fail(&r->error, CN_ENOTFOUND, "blob '%s' is not in the store; put it first",
                       b->role);
    if (size != b->size)
        return cn_fail(&r->error, CN_EINVALID, "blob '%s' has another size", b->role);
    return 0;
}

static int on_checkpoint(struct coordinator *c, struct request *r)
{
    const Cinch__Checkpoint *p = (const void *)r->body;
    if (sc_live(c->s, r->peer->worker, p->job, p->attempt)) return stale(r, p->job, p->attempt);
    int rc = need_blob(c, p->blob, r);
    if (rc) return rc;
    struct st_blob old;
    uint32_t epoch, job = (uint32_t)p->job;
    struct st_op op = {.kind = ST_CHECKPOINT, .job = job, .size = p->blob->size, .first = p->epoch};
    memcpy(op.hash.b, p->blob->hash.data, CN_HASH_BYTES);
    bool had = st_checkpoint(c->st, job, &old, &epoch) == 1;
    if (had && memcmp(&old.hash, &op.hash, sizeof op.hash) &&
        sc__grow(&c->stale, &c->cap_stale, c->n_stale + 1, sizeof *c->stale))
        c->stale[c->n_stale++] = old.hash;
    if (had) ro_sub(c->room, user_of_job(c, job), old.size);
    ro_add(c->room, user_of_job(c, job), op.size);
    note(c, op);
    sc_on_started(c->s, job, cn_mono_ms());
    return empty(c, r);
}

static void keep_outputs(struct coordinator *c, uint32_t job, uint32_t worker,
                         const Cinch__Result *p)
{
    for (size_t i = 0; i < p->n_outputs; i++) {
        struct st_op op = {.kind = ST_OUTPUT, .job = job, .size = p->outputs[i]->size};
        memcpy(op.hash.b, p->outputs[i]->hash.data, CN_HASH_BYTES);
        if (!(op.text = strdup(p->outputs[i]->role))) c->s->nomem = true;
        ro_add(c->room, user_of_job(c, job), op.size);
        note(c, op);
    }
    struct st_op op = {
        .kind = ST_METRICS, .job = job, .size = p->wall_ms, .worker = worker, .time = cn_wall_ms()};
    if (!(op.text = strdup(p->metrics))) c->s->nomem = true;
    note(c, op);
}

static void note_failure(struct coordinator *c, uint32_t job, uint32_t attempt, int code,
                         const char *reason)
{
    struct happening h = {
        .job = job, .attempt = attempt, .why = SC_WHY_CRASH, .state = c->s->job[job].state};
    name_worker(c, &h, c->s->job[job].worker);
    snprintf(h.text, sizeof h.text, "%s%s%.120s", code ? cn_code_name(code) : "", code ? ": " : "",
             reason);
    note_event(c, h);
}

/* What a result means for its job. Out of time under a limit that a live run has raised since is no
 * crash: the next attempt goes on with the new one. */
static enum sc_outcome outcome_of(const struct coordinator *c, const Cinch__Result *p)
{
    if (!p->code) return SC_OK;
    const struct sc_job *j = sc_job_of(c->s, p->job);
    uint32_t limit = j ? sc_time_limit(c->s, (uint32_t)p->job) : 0;
    if (j && p->code == CN_ETIMEOUT && j->limit_s && (!limit || limit > j->limit_s))
        return SC_GIVEN_BACK;
    return p->permanent ? SC_HOPELESS : SC_CRASHED;
}

static int on_result(struct coordinator *c, struct request *r)
{
    const Cinch__Result *p = (const void *)r->body;
    uint32_t worker = r->peer->worker, job = (uint32_t)p->job;
    enum sc_outcome outcome = outcome_of(c, p);
    if (!sc_live(c->s, worker, p->job, p->attempt)) {
        int rc = given_object("result: its metrics", p->metrics, &r->error);
        for (size_t i = 0; !rc && i < p->n_outputs; i++) rc = need_blob(c, p->outputs[i], r);
        if (rc) return rc;
        if (outcome == SC_OK)
            keep_outputs(c, job, worker, p);
        else
            note_failure(c, job, p->attempt, p->code, p->reason);
    }
    int rc = sc_on_result(c->s, worker, p->job, p->attempt, outcome, cn_mono_ms());
    if (rc < 0) return stale(r, p->job, p->attempt);
    if (!rc) c->n_results++;
    return empty(c, r);
}

static int on_release(struct coordinator *c, struct request *r)
{
    const Cinch__Release *p = (const void *)r->body;
    enum sc_outcome outcome = p->lost ? SC_MACHINE_FAILED : SC_GIVEN_BACK;
    if (p->lost)
        cn_warn("coordinator", "worker %s lost its machine with j%llu: %s",
                c->s->worker[r->peer->worker].name, (unsigned long long)p->job, p->reason);
    int rc = sc_on_result(c->s, r->peer->worker, p->job, p->attempt, outcome, cn_mono_ms());
    return rc < 0 ? stale(r, p->job, p->attempt) : empty(c, r);
}

static int on_bye(struct coordinator *c, struct request *r)
{
    cn_info("coordinator", "worker %s leaves", c->s->worker[r->peer->worker].name);
    sc_on_bye(c->s, r->peer->worker, cn_mono_ms());
    empty(c, r);
    return 0;
}

/* ---- blobs */

/* What the blob thread holds for the peer is charged to its account until the reply is out. */
static void charge(struct coordinator *c, struct bl_request *q, struct account *a, size_t n)
{
    q->account = a;
    q->charged = n;
    a->charges++;
    if (q->what == BL_GET)
        ac_take_out(&c->accounts, a, n);
    else
        ac_move_in(&c->accounts, a, n); /* from the inbox, which gives it back next */
}

static void discharge(struct coordinator *c, const struct bl_request *q)
{
    q->account->charges--;
    if (q->what == BL_GET)
        ac_give_out(&c->accounts, q->account, q->charged);
    else
        ac_give_in(&c->accounts, q->account, q->charged);
}

static int on_blob(struct coordinator *c, struct request *r)
{
    struct bl_request *q = calloc(1, sizeof *q);
    if (!q) return cn_fail(&r->error, CN_ENOMEM, "out of memory");
    q->socket = r->peer->socket;
    q->n_identity = r->peer->n_identity;
    memcpy(q->identity, r->peer->identity, sizeof q->identity);
    q->id = r->h.id;
    zmq_msg_init(&q->data);
    const ProtobufCBinaryData *hash;
    if (r->h.type == PR_BLOB_HAVE) {
        q->what = BL_HAVE;
        hash = &((const Cinch__BlobHave *)(const void *)r->body)->hash;
        q->suspect = ((const Cinch__BlobHave *)(const void *)r->body)->suspect;
    } else if (r->h.type == PR_BLOB_GET) {
        const Cinch__BlobGet *g = (const void *)r->body;
        q->what = BL_GET;
        q->offset = g->offset;
        q->length = g->length;
        hash = &g->hash;
    } else {
        const Cinch__BlobPut *p = (const void *)r->body;
        if (c->low_space) {
            free(q);
            return cn_fail(&r->error, CN_ENOSPACE,
                           "the coordinator's disk is full; it goes on when there is room");
        }
        q->what = BL_PUT;
        q->size = p->size;
        q->offset = p->offset;
        hash = &p->hash;
        memcpy(q->final.b, p->final.len ? p->final.data : hash->data, CN_HASH_BYTES);
        zmq_msg_move(&q->data, r->data);
    }
    memcpy(q->hash.b, hash->data, CN_HASH_BYTES);
    int rc = transfer_begin(c, r->peer, q, &r->error);
    if (rc) {
        bl_request_free(q);
        return rc;
    }
    charge(c, q, r->peer->account, q->what == BL_GET ? q->length : zmq_msg_size(&q->data));
    bl_ask(c->blobs, q);
    return 0;
}

static void blob_reply(struct coordinator *c, struct bl_request *q)
{
    struct peer to = {.socket = q->socket, .n_identity = q->n_identity};
    memcpy(to.identity, q->identity, sizeof to.identity);
    if (q->error.code) {
        net_error(c, &to, q->id, PR_ERROR, &q->error);
    } else if (q->what == BL_GET) {
        Cinch__BlobChunk b = CINCH__BLOB_CHUNK__INIT;
        b.size = q->size;
        b.offset = q->offset;
        struct pr_header h = {.type = PR_BLOB_CHUNK, .id = q->id};
        net_send(c, &to, h, &b.base, &q->data, false);
    } else {
        Cinch__BlobState b = CINCH__BLOB_STATE__INIT;
        b.complete = q->complete;
        b.size = q->size;
        b.offset = q->offset;
        struct pr_header h = {.type = PR_BLOB_STATE, .id = q->id};
        net_send(c, &to, h, &b.base, NULL, false);
    }
}

void service_blob_replies(struct coordinator *c)
{
    struct bl_request *q;
    bool any = false;
    while ((q = bl_reply(c->blobs))) {
        transfer_end(c, q);
        if (q->account) discharge(c, q);
        if (q->what == BL_HAVE || q->what == BL_PUT || q->what == BL_GET) blob_reply(c, q);
        bl_request_free(q);
        any = true;
    }
    if (any && c->door) door_room(c->door);
}

/* ---- the table */

static const struct {
    int type;
    bool worker;  /* needs a connection that is a worker */
    bool changes; /* refused while the disk is full */
    enum cost cost;
    int (*fn)(struct coordinator *c, struct request *r);
} handler[] = {
    {PR_LEASE_REQUEST, true, false, COST_ONE, on_lease_request},
    {PR_HEARTBEAT, true, false, COST_ONE, on_heartbeat},
    {PR_PROGRESS, true, true, COST_ONE, on_progress},
    {PR_CHECKPOINT, true, true, COST_ONE, on_checkpoint},
    {PR_RESULT, true, true, COST_ONE, on_result},
    {PR_RELEASE, true, true, COST_ONE, on_release},
    {PR_BYE, true, false, COST_ONE, on_bye},
    {PR_BLOB_HAVE, false, false, COST_ONE, on_blob},
    {PR_BLOB_PUT, false, true, COST_UPLOAD, on_blob},
    {PR_BLOB_GET, false, false, COST_CHUNK, on_blob},
    {PR_SUBMIT, false, true, COST_GRID, client_submit},
    {PR_QUERY, false, false, COST_VIEW, client_query},
    {PR_WATCH, false, false, COST_ONE, client_watch},
    {PR_CONTROL, false, true, COST_ONE, client_control},
    {PR_DATA_ADD, false, true, COST_ONE, client_data_add},
    {PR_DATA_GET, false, false, COST_ONE, client_data_get},
    {PR_KEY_CREATE, false, true, COST_ONE, client_key_create},
    {PR_KEY_REVOKE, false, false, COST_ONE, client_key_revoke},
};

enum cost service_cost(int type)
{
    for (size_t i = 0; i < sizeof handler / sizeof *handler; i++)
        if (handler[i].type == type) return handler[i].cost;
    return COST_ONE;
}

int service_handle(struct coordinator *c, struct request *r)
{
    for (size_t i = 0; i < sizeof handler / sizeof *handler; i++) {
        if (handler[i].type != r->h.type) continue;
        int rc = handler[i].worker ? need_worker(r) : 0;
        if (!rc && handler[i].changes && c->broken)
            rc = cn_fail(
                &r->error, c->broken,
                "the coordinator cannot write its queue (%s); it goes on by itself when it can",
                cn_code_text(c->broken));
        if (!rc && r->peer->worker) sc_on_alive(c->s, r->peer->worker, cn_mono_ms());
        return rc ? rc : handler[i].fn(c, r);
    }
    return cn_fail(&r->error, CN_EUNSUPPORTED, "message type %d is not handled", r->h.type);
}
