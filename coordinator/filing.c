/* coordinator/filing.c - a submit's way: checked, expanded aside, put into the queue, or only counted. See core.h.
 *
 * A grid may have a million jobs, so it goes in turns: some thousand jobs in each, with others'
 * messages in between. What it notes for the store is held back until all of it is in memory, and is
 * then one transaction: a crash leaves all of a run or nothing. One grid at a time is on this way; its
 * asker may leave meanwhile.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/core.h"
#include "coordinator/expand.h"
#include "proto/client.h"

enum { PART = 4000 }; /* jobs in one turn */

struct filing {
    struct peer who; /* a copy: the connection may go */
    struct ex_grid g;
    struct cn_hash fp;
    bool expanded;
    enum { COUNT, JOBS, WANTS, STATES } stage;
    uint32_t at;         /* job of the grid at hand; in STATES: the want */
    uint32_t reused;     /* jobs that are known */
    uint32_t *id, *base; /* of g.job[i] and g.base[i] in the queue */
    uint32_t run, from;  /* from: where the range of ids at hand begins */
};

/* What the grid would add to what its user keeps here. */
static int check_entries(struct coordinator *c, const struct peer *p, const Cinch__Submit *s,
                         const struct ex_grid *g, struct cn_error *err)
{
    uint32_t bases = 0;
    uint64_t text = strlen(s->grid);
    for (uint32_t i = 0; i < g->n_bases; i++) {
        if (sc_find_base(c->s, &g->base[i].hash)) continue;
        bases++;
        text += g->base[i].n_body;
    }
    int rc = entries_run(c, p, g->n, bases, text, err);
    return rc ? rc : transfer_quota(c, p->user, text, err);
}

static int add_bases(struct coordinator *c, const struct ex_grid *g, uint32_t *ids,
                     struct cn_error *err)
{
    bool ok = true;
    for (uint32_t i = 0; i < g->n_bases && ok; i++) {
        const struct ex_base *e = &g->base[i];
        uint32_t dataset = sc_dataset(c->s, &e->fingerprint);
        if (!(ok = dataset != 0)) break;
        dataset_tell(c, &e->fingerprint);
        struct sc_base b = {.hash = e->hash,
                            .gpu_bytes = e->gpu_bytes,
                            .gpus = e->gpus,
                            .dataset = dataset,
                            .body = e->body,
                            .n_body = e->n_body};
        ok = !sc_allocators(e->allocators, e->n_allocators, &b.allocators);
        uint32_t known = c->s->n_bases;
        ids[i] = ok ? sc_base(c->s, &b) : 0;
        ok = ok && ids[i];
        if (ok && ids[i] == known) note(c, (struct st_op){.kind = ST_BASE, .first = known});
    }
    return ok ? 0 : cn_fail(err, CN_ENOMEM, "no room for the grid");
}

/* Some of the grid's jobs into the scheduler; f->id[i] is that of g->job[i]. */
static int add_jobs(struct coordinator *c, struct filing *f, uint32_t nonce, struct cn_error *err)
{
    struct sched *s = c->s;
    uint32_t first = s->n_jobs, end = f->g.n - f->at < PART ? f->g.n : f->at + PART;
    bool ok = true;
    for (; f->at < end && ok; f->at++) {
        const struct ex_job *e = &f->g.job[f->at];
        uint32_t *id = &f->id[f->at];
        if ((*id = sc_find_job(s, &e->key))) continue;
        struct sc_job j = {.key = e->key,
                           .seed = e->seed,
                           .keep = e->keep,
                           .base = f->base[e->base],
                           .nonce = nonce,
                           .rounds = (uint16_t)e->rounds,
                           .round = (uint16_t)e->round,
                           .kind = e->kind,
                           .distilled = e->distilled};
        int norm = sc_norm(e->norm);
        ok = norm >= 0;
        j.norm = (uint8_t)norm;
        for (int k = 0; k < 2; k++) j.parent[k] = e->parent[k] ? f->id[e->parent[k] - 1] : 0;
        *id = ok ? sc_job_add(s, &j, false) : 0;
        ok = ok && *id;
    }
    if (s->n_jobs > first)
        note(c, (struct st_op){.kind = ST_JOBS, .first = first, .last = s->n_jobs - 1});
    return ok ? 0 : cn_fail(err, CN_ENOMEM, "no room for the grid's jobs");
}

static int add_wants(struct coordinator *c, struct filing *f, struct cn_error *err)
{
    const uint32_t *id = f->id;
    uint32_t end = f->g.n - f->at < PART ? f->g.n : f->at + PART;
    for (; f->at < end; f->at++) {
        uint32_t i = f->at;
        if (sc_want_add(c->s, f->run, id[i]))
            return cn_fail(err, CN_ENOMEM, "no room for the grid's jobs");
        if (i + 1 < f->g.n && id[i + 1] == id[i] + 1) continue;
        note(c,
             (struct st_op){.kind = ST_WANT, .run = f->run, .first = id[f->from], .last = id[i]});
        f->from = i + 1;
    }
    return 0;
}

static uint32_t add_run(struct coordinator *c, const struct peer *p, const Cinch__Submit *s,
                        const struct ex_grid *g, const struct cn_hash *fp)
{
    uint32_t user = sc_user(c->s, p->user);
    uint32_t run = user ? sc_run_add(c->s, user, s->priority, s->paused, s->time_limit_s) : 0;
    struct st_state *st = &c->state;
    if (!run || !sc__grow(&st->run, &st->cap_runs, run + 1, sizeof *st->run)) return 0;
    struct st_run *d = &st->run[run];
    st->n_runs = run + 1;
    *d = (struct st_run){.name = strdup(s->name),
                         .dataset = strdup(s->dataset),
                         .fingerprint = *fp,
                         .created = cn_wall_ms(),
                         .cells = g->cells,
                         .fresh = s->fresh};
    memcpy(d->nonce, s->nonce.data, PR_INSTANCE_BYTES);
    c->s->user[user].text += strlen(s->grid);
    struct st_op op = {.kind = ST_RUN_NEW, .run = run, .text = strdup(s->grid)};
    note(c, op);
    return d->name && d->dataset && op.text ? run : 0;
}

static int fingerprint_of(struct coordinator *c, const Cinch__Submit *s, struct cn_hash *fp,
                          struct cn_error *err)
{
    if (s->fingerprint.len) {
        memcpy(fp->b, s->fingerprint.data, CN_HASH_BYTES);
        return 0;
    }
    const struct st_dataset *d = dataset_named(c, s->dataset);
    if (!d)
        return cn_fail(err, CN_ENOTFOUND,
                       "no dataset '%.60s' here; send it with: cinch submit --data DIR",
                       s->dataset);
    *fp = d->fingerprint;
    return 0;
}

/* The same submit again (its answer was lost): 1, with the run that it made. */
static int submitted_before(const struct coordinator *c, const struct peer *p,
                            const Cinch__Submit *s, char name[16], Cinch__Submitted *reply)
{
    uint32_t user = sc_find_user(c->s, p->user);
    for (uint32_t i = c->state.n_runs - 1; i >= 1; i--)
        if (c->s->run[i].user == user &&
            !memcmp(c->state.run[i].nonce, s->nonce.data, PR_INSTANCE_BYTES)) {
            snprintf(name, 16, "r%u", i);
            reply->run = name;
            reply->jobs = c->s->run[i].jobs;
            reply->cells = c->state.run[i].cells;
            return 1;
        }
    return 0;
}

/* ---- the turns */

static void filing_end(struct coordinator *c, struct task *t)
{
    struct filing *f = t->state;
    bool mine = c->aside && (c->expanding == t || c->abandoned == t);
    if (mine && as_ready(c->aside)) f->expanded = !as_take(c->aside, &f->g, NULL);
    if (f->expanded) ex_clear(&f->g);
    if (c->filing == t) c->filing = NULL;
    free(f->id);
    free(f->base);
    free(f);
    if (!mine) return;
    c->expanding = c->abandoned = NULL;
    as_release(c->aside);
    if (c->door) door_room(c->door);
}

/* Some jobs of the grid: are they there? True: all are counted. */
static bool count_known(struct coordinator *c, struct filing *f)
{
    for (int i = 0; i < PART && f->at < f->g.n; i++, f->at++)
        f->reused += sc_find_job(c->s, &f->g.job[f->at].key) != 0;
    return f->at == f->g.n;
}

/* From here on it cannot fail but for memory, and room for all is taken at once. */
static int begin_changes(struct coordinator *c, struct task *t, const Cinch__Submit *s)
{
    struct filing *f = t->state;
    uint32_t bases = 0;
    int rc = check_entries(c, &f->who, s, &f->g, &t->r.error);
    if (rc) return rc;
    for (uint32_t i = 0; i < f->g.n_bases; i++) bases += !sc_find_base(c->s, &f->g.base[i].hash);
    f->id = malloc((f->g.n + 1) * sizeof *f->id);
    f->base = malloc((f->g.n_bases + 1) * sizeof *f->base);
    if (!f->id || !f->base || !sc_reserve(c->s, f->g.n, f->g.n - f->reused, bases))
        return cn_fail(&t->r.error, CN_ENOMEM, "no memory for a grid of %u jobs", f->g.n);
    c->filing = t;
    return add_bases(c, &f->g, f->base, &t->r.error);
}

static int answer(struct coordinator *c, struct task *t)
{
    const struct filing *f = t->state;
    Cinch__Submitted reply = CINCH__SUBMITTED__INIT;
    char name[16];
    snprintf(name, sizeof name, "r%u", f->run);
    if (f->run) reply.run = name;
    reply.jobs = f->g.n;
    reply.cells = f->g.cells;
    reply.reused = f->reused;
    net_reply(c, &t->r, PR_SUBMITTED, &reply.base);
    return 0;
}

/* The run itself, between its jobs and what it wants of them. */
static int begin_run(struct coordinator *c, struct task *t, const Cinch__Submit *s)
{
    struct filing *f = t->state;
    f->run = add_run(c, &f->who, s, &f->g, &f->fp);
    return f->run ? 0 : cn_fail(&t->r.error, CN_ENOMEM, "out of memory");
}

/* One turn of a stage. 1: it goes on, 0: it is done. */
static int stage_part(struct coordinator *c, struct task *t, const Cinch__Submit *s)
{
    struct filing *f = t->state;
    int rc = 0;
    if (f->stage == COUNT) {
        if (!count_known(c, f)) return 1;
        return s->dry_run ? 0 : begin_changes(c, t, s);
    }
    if (f->stage == STATES) return sc_on_submit_part(c->s, f->run, &f->at, PART, cn_mono_ms());
    rc = f->stage == JOBS ? add_jobs(c, f, s->fresh ? c->s->n_runs : 0, &t->r.error)
                          : add_wants(c, f, &t->r.error);
    if (!rc && f->at < f->g.n) return 1;
    return rc || f->stage == WANTS ? rc : begin_run(c, t, s);
}

static int file_part(struct coordinator *c, struct task *t, const Cinch__Submit *s)
{
    struct filing *f = t->state;
    int rc = stage_part(c, t, s);
    if (rc < 0 &&
        c->filing) /* half of a grid is in memory: stop here rather than go on wrongly; the store */
        c->s->nomem = true; /* has none of it */
    if (rc) return rc;
    if (s->dry_run) return answer(c, t);
    if (f->stage == STATES) {
        note_run_event(c, f->run, "%s submitted %.60s: %u jobs, %u of them known", f->who.user,
                       s->name, f->g.n, f->reused);
        return answer(c, t);
    }
    f->stage++;
    f->at = f->stage == STATES ? c->s->run[f->run].want : 0;
    return 1;
}

static int filing_step(struct coordinator *c, struct task *t)
{
    struct filing *f = t->state;
    Cinch__Submit *s = (Cinch__Submit *)(void *)t->r.body;
    if (f->expanded) return file_part(c, t, s);
    int rc = t->r.peer->conn ? as_take(c->aside, &f->g, &t->r.error)
                             : ex_expand(&f->g, s, s->fresh ? c->s->n_runs : 0, &t->r.error);
    f->expanded = !rc;
    if (rc) return rc;
    f->who = *t->r.peer;
    t->r.peer = &f->who;
    return 1;
}

/* Nobody else's grid enters the queue from here to filing_end: a fresh run's nonce is its number. */
static int filing_begin(struct coordinator *c, struct request *r, const struct cn_hash *fp)
{
    Cinch__Submit *s = (Cinch__Submit *)(void *)r->body;
    struct filing *f = calloc(1, sizeof *f);
    struct task *t = calloc(1, sizeof *t);
    uint8_t *own = s->fingerprint.len ? NULL : malloc(CN_HASH_BYTES); /* freed with the body */
    if (!f || !t || (!own && !s->fingerprint.len)) {
        free(f);
        free(t);
        free(own);
        return cn_fail(&r->error, CN_ENOMEM, "out of memory");
    }
    f->fp = *fp;
    if (own)
        s->fingerprint = (ProtobufCBinaryData){CN_HASH_BYTES, memcpy(own, fp->b, CN_HASH_BYTES)};
    t->state = f;
    t->step = filing_step;
    t->end = filing_end;
    r->task = t;
    if (!r->peer->conn) return NET_TASK;
    t->parked = true;
    c->expanding = t;
    as_start(c->aside, s, s->fresh ? c->s->n_runs : 0);
    return NET_TASK;
}

static void free_filing(struct coordinator *c, struct task *t)
{
    filing_end(c, t);
    pr_message_clear(&t->m);
    free(t);
}

bool client_keeps(struct coordinator *c, struct task *t)
{
    if (t->end != filing_end || !c->aside || (!t->parked && c->filing != t)) return false;
    if (t->parked) as_stop(c->aside); /* it reads the body: freed when it has ended */
    c->abandoned = t;
    c->expanding = NULL;
    return true;
}

void client_expanded(struct coordinator *c)
{
    struct task *t = c->expanding;
    if (t && t->parked && t->r.peer->conn->left &&
        ((const Cinch__Submit *)(const void *)t->r.body)->dry_run)
        as_stop(c->aside); /* it counts for nobody */
    if (c->abandoned) {    /* its asker has gone */
        t = c->abandoned;
        if (t->parked ? as_ready(c->aside) : t->step(c, t) <= 0) free_filing(c, t);
    } else if (t && t->parked && as_ready(c->aside)) {
        t->parked = false;
        door_turn(c->door, t->r.peer->conn);
    }
}

int client_submit(struct coordinator *c, struct request *r)
{
    const Cinch__Submit *s = (const void *)r->body;
    Cinch__Submitted reply = CINCH__SUBMITTED__INIT;
    struct cn_hash fp;
    char name[16];
    if (!s->dry_run && submitted_before(c, r->peer, s, name, &reply)) {
        net_reply(c, r, PR_SUBMITTED, &reply.base);
        return 0;
    }
    if (s->dry_run && r->peer->conn && r->peer->conn->left) return 0; /* for nobody */
    if (c->low_space && !s->dry_run)
        return cn_fail(&r->error, CN_ENOSPACE,
                       "the coordinator's disk is full; it accepts grids again when there is room");
    int rc = given_submit(s, &r->error);
    if (!rc) rc = fingerprint_of(c, s, &fp, &r->error);
    return rc ? rc : filing_begin(c, r, &fp);
}
