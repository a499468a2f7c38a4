/* coordinator/effects.c - carries out what the scheduler decided: operations for the store, events
 * for watchers, and, once the commit is through, leases for workers. See core.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/core.h"
#include "coordinator/room.h"
#include "proto/client.h"

enum { PART = 5000 }; /* effects in one round */

const char *why_text(int why)
{
    static const char *const text[SC_WHYS] = {
        "submitted", "parents", "leased",    "succeeded", "crashed", "failed", "lost",
        "released",  "kept",    "cancelled", "retried",   "timeout", "moved",  "damaged"};
    return why >= 0 && why < SC_WHYS ? text[why] : "?";
}

void note(struct coordinator *c, struct st_op op)
{
    if (st_note(c->st, op)) c->s->nomem = true;
}

/* ---- last progress of live leases: a small table keyed by job */

struct live *live_of(struct coordinator *c, uint32_t job, bool make)
{
    if (make && (c->n_live + 1) * 2 > c->cap_live) {
        uint32_t cap = c->cap_live ? c->cap_live * 2 : 256;
        struct live *old = c->live, *grown = calloc(cap, sizeof *grown);
        if (!grown) return NULL;
        for (uint32_t i = 0; i < c->cap_live; i++)
            if (old[i].job) {
                uint32_t at = old[i].job & (cap - 1);
                while (grown[at].job) at = (at + 1) & (cap - 1);
                grown[at] = old[i];
            }
        free(old);
        c->live = grown;
        c->cap_live = cap;
    }
    if (!c->cap_live) return NULL;
    uint32_t at = job & (c->cap_live - 1);
    while (c->live[at].job && c->live[at].job != job) at = (at + 1) & (c->cap_live - 1);
    if (c->live[at].job) return &c->live[at];
    if (!make) return NULL;
    c->live[at].job = job;
    c->n_live++;
    return &c->live[at];
}

void live_drop(struct coordinator *c, uint32_t job)
{
    struct live *l = live_of(c, job, false);
    if (!l) return;
    uint32_t mask = c->cap_live - 1, hole = (uint32_t)(l - c->live);
    memset(l, 0, sizeof *l);
    c->n_live--;
    /* what was pushed past the hole moves back, so that lookups do not stop early */
    for (uint32_t at = (hole + 1) & mask; c->live[at].job; at = (at + 1) & mask) {
        uint32_t home = c->live[at].job & mask;
        if (((at - home) & mask) < ((at - hole) & mask)) continue;
        c->live[hole] = c->live[at];
        memset(&c->live[at], 0, sizeof c->live[at]);
        hole = at;
    }
}

/* ---- events */

static void ring_add(struct coordinator *c, const struct happening *h)
{
    c->ring[c->next_seq++ % CO_RING] = *h;
}

void name_worker(const struct coordinator *c, struct happening *h, uint32_t worker)
{
    if (!worker) return;
    h->worker_id = worker;
    snprintf(h->worker, sizeof h->worker, "%.47s", c->s->worker[worker].name);
}

void note_event(struct coordinator *c, struct happening h)
{
    h.time = cn_wall_ms();
    ring_add(c, &h);
    if (h.progress) return;
    struct st_op op = {.kind = ST_EVENT,
                       .time = h.time,
                       .why = h.why,
                       .state = h.state,
                       .run = h.run,
                       .job = h.job,
                       .attempt = h.attempt};
    if (*h.text && !(op.text = strdup(h.text))) c->s->nomem = true;
    op.worker = h.worker_id;
    note(c, op);
}

void note_run_event(struct coordinator *c, uint32_t run, const char *fmt, ...)
{
    struct happening h = {.run = run, .why = SC_WHY_SUBMIT};
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(h.text, sizeof h.text, fmt, ap);
    va_end(ap);
    note_event(c, h);
}

/* ---- effects */

static void send_drop(struct coordinator *c, const struct sc_effect *e)
{
    const struct peer *p = net_peer_of_worker(c, e->worker);
    if (!p) return; /* it learns at its next hello */
    Cinch__Held held = CINCH__HELD__INIT;
    Cinch__Drop drop = CINCH__DROP__INIT;
    held.job = e->job;
    held.attempt = e->attempt;
    drop.lease = &held;
    drop.reason = (char *)why_text(e->why);
    struct pr_header h = {.type = PR_DROP};
    net_send(c, p, h, &drop.base, NULL, net_must_wait(c));
}

static void forget_checkpoint(struct coordinator *c, uint32_t job)
{
    struct st_blob b;
    uint32_t epoch;
    if (st_checkpoint(c->st, job, &b, &epoch) != 1) return;
    note(c, (struct st_op){.kind = ST_NO_CHECKPOINT, .job = job});
    ro_sub(c->room, user_of_job(c, job), b.size);
    if (sc__grow(&c->stale, &c->cap_stale, c->n_stale + 1, sizeof *c->stale))
        c->stale[c->n_stale++] = b.hash;
}

static void changed(struct coordinator *c, const struct sc_effect *e)
{
    note(c, (struct st_op){.kind = ST_JOB, .job = e->job});
    if (e->what == SC_DO_STATE) live_drop(c, e->job);
    if (e->state == SC_SUCCEEDED && c->s->job[e->job].kind != CINCH__JOB_KIND__EVALUATE)
        forget_checkpoint(c, e->job);
    bool quiet = e->why == SC_WHY_PARENTS && e->state != SC_BLOCKED;
    if (quiet) return;
    struct happening h = {.job = e->job, .attempt = e->attempt, .why = e->why, .state = e->state};
    if (e->attempt) name_worker(c, &h, e->worker);
    note_event(c, h);
}

bool effects_apply(struct coordinator *c)
{
    struct sched *s = c->s;
    uint32_t i = c->next_effect, end = s->n_effects - i < PART ? s->n_effects : i + PART;
    for (; i < end; i++) {
        const struct sc_effect *e = &s->effect[i];
        if (e->what == SC_DO_DROP) {
            send_drop(c, e);
            continue;
        }
        changed(c, e);
        if (e->what != SC_DO_GRANT) continue;
        if (sc__grow(&c->grant, &c->cap_grants, c->n_grants + 1, sizeof *c->grant))
            c->grant[c->n_grants++] = *e;
        else
            s->nomem = true;
    }
    c->next_effect = end < s->n_effects ? end : 0;
    if (!c->next_effect) s->n_effects = 0;
    return !s->n_effects;
}

/* ---- leases: put together after the commit, when their parents' outputs can be read */

struct lease_room { /* what one Lease message borrows */
    Cinch__Lease lease;
    Cinch__JobSpec spec;
    Cinch__JobBase *base;
    Cinch__Blob blob[3], *inputs[2];
    struct st_blob found[3];
    char run[16];
};

/* The output `role` of job `parent` as the next input. */
static void add_input(struct coordinator *c, struct lease_room *m, uint32_t parent,
                      const char *role)
{
    struct st_blob out[PR_MAX_OUTPUTS];
    int n = st_outputs(c->st, parent, out, PR_MAX_OUTPUTS);
    for (int i = 0; i < n; i++) {
        if (strcmp(out[i].role, "model")) continue;
        size_t at = m->lease.n_inputs;
        m->found[at] = out[i];
        cinch__blob__init(&m->blob[at]);
        m->blob[at].role = (char *)role;
        m->blob[at].hash = pr_hash_field(&m->found[at].hash);
        m->blob[at].size = out[i].size;
        m->inputs[at] = &m->blob[at];
        m->lease.n_inputs++;
        m->lease.inputs = m->inputs;
    }
}

static void fill_spec(struct coordinator *c, struct lease_room *m, const struct sc_job *j)
{
    const struct sc_base *b = &c->s->base[j->base];
    cinch__job_spec__init(&m->spec);
    m->base = cinch__job_base__unpack(NULL, b->n_body, b->body);
    m->spec.common = m->base;
    m->spec.kind = (Cinch__JobKind)j->kind;
    m->spec.seed = j->seed;
    m->spec.distilled = j->distilled;
    m->spec.rounds = j->rounds;
    m->spec.round = j->round;
    m->spec.keep = j->keep;
    m->spec.norm = (char *)sc_norm_name(j->norm);
    m->spec.nonce = j->nonce;
}

static void fill_lease(struct coordinator *c, struct lease_room *m, uint32_t id)
{
    struct sc_job *j = &c->s->job[id];
    memset(m, 0, sizeof *m);
    cinch__lease__init(&m->lease);
    fill_spec(c, m, j);
    m->lease.job = id;
    m->lease.attempt = j->attempt;
    m->lease.key = pr_hash_field(&j->key);
    m->lease.spec = &m->spec;
    bool teacher_first = j->kind == CINCH__JOB_KIND__DISTILL;
    if (j->parent[0]) add_input(c, m, j->parent[0], teacher_first ? "teacher" : "model");
    if (j->parent[1]) add_input(c, m, j->parent[1], "teacher");
    if (st_checkpoint(c->st, id, &m->found[2], &m->lease.resume_epoch) == 1) {
        cinch__blob__init(&m->blob[2]);
        m->blob[2].role = m->found[2].role;
        m->blob[2].hash = pr_hash_field(&m->found[2].hash);
        m->blob[2].size = m->found[2].size;
        m->lease.resume = &m->blob[2];
    }
    uint32_t run = sc_find_run_of(c->s, id);
    if (!run && j->want) run = c->s->want[j->want].run;
    m->lease.time_limit_s = j->limit_s = sc_time_limit(c->s, id); /* maybe granted once more */
    snprintf(m->run, sizeof m->run, "r%u", run);
    m->lease.run = m->run;
}

/* Sends leases [i, n) of one unit. */
static void send_unit(struct coordinator *c, const struct sc_effect *e, uint32_t n)
{
    const struct peer *p = net_peer_of_worker(c, e->worker);
    if (p && net_unread(c, p)) p = NULL; /* its heartbeats will tell that it has none of these */
    struct lease_room *m = p ? calloc(n, sizeof *m) : NULL;
    Cinch__Lease **list = m ? calloc(n, sizeof *list) : NULL;
    Cinch__LeaseGrant g = CINCH__LEASE_GRANT__INIT;
    for (uint32_t i = 0; list && i < n; i++) {
        const struct sc_job *j = &c->s->job[e[i].job];
        if (j->state != SC_LEASED || j->attempt != e[i].attempt || j->worker != e[i].worker)
            continue;
        fill_lease(c, &m[g.n_leases], e[i].job);
        list[g.n_leases] = &m[g.n_leases].lease;
        g.n_leases++;
    }
    g.leases = list;
    struct pr_header h = {.type = PR_LEASE_GRANT};
    if (g.n_leases) net_send(c, p, h, &g.base, NULL, false);
    for (size_t i = 0; i < g.n_leases; i++) cinch__job_base__free_unpacked(m[i].base, NULL);
    free(list);
    free(m);
}

void effects_after_commit(struct coordinator *c)
{
    for (uint32_t i = 0, n; i < c->n_grants; i += n) {
        const struct sc_effect *e = &c->grant[i];
        for (n = 1;
             e->unit && i + n < c->n_grants && e[n].unit == e->unit && e[n].worker == e->worker;)
            n++;
        send_unit(c, e, n);
    }
    c->n_grants = 0;
    for (uint32_t i = 0; i < c->n_stale; i++) {
        if (st_blob_needed(c->st, &c->stale[i])) continue;
        bl_remove(c->blobs, &c->stale[i]);
        transfer_unhold(c, &c->stale[i]);
    }
    c->n_stale = 0;
}
