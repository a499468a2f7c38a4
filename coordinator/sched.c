/* coordinator/sched.c - what each event does to jobs and workers. See sched.h for the rules; the
 * choice of what runs next is in queue.c, what people order in control.c.
 *
 * The states of a job and what moves it ("-": impossible, changes nothing):
 *
 *            ready  wait     block    lease   succeed    crash  fail    lost   adopt   cancel     retry    damage
 * waiting    ready  -        blocked  -       -          -      -       -      -       cancelled  -        -
 * ready      -      waiting  -        leased  -          -      failed  -      leased  cancelled  -        -
 * leased     -      -        -        -       succeeded  ready  failed  ready  -       cancelled  -        -
 * succeeded  -      -        -        -       -          -      -       -      -       -          -        waiting
 * failed     -      -        -        -       -          -      -       -      -       -          waiting  -
 * cancelled  -      -        -        -       -          -      -       -      -       -          waiting  -
 * blocked    ready  waiting  -        -       -          -      -       -      -       cancelled  -        -
 */
#include "coordinator/sched.h"

#include <stdlib.h>
#include <string.h>

int sc_next(enum sc_state state, enum sc_event event)
{
#define W SC_WAITING
#define R SC_READY
#define L SC_LEASED
#define S SC_SUCCEEDED
#define F SC_FAILED
#define C SC_CANCELLED
#define B SC_BLOCKED
    static const signed char next[SC_STATES][SC_EVENTS] = {
        /* ready wait block lease succeed crash fail lost adopt cancel retry damage */
        [SC_WAITING] = {R, -1, B, -1, -1, -1, -1, -1, -1, C, -1, -1},
        [SC_READY] = {-1, W, -1, L, -1, -1, F, -1, L, C, -1, -1},
        [SC_LEASED] = {-1, -1, -1, -1, S, R, F, R, -1, C, -1, -1},
        [SC_SUCCEEDED] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, W},
        [SC_FAILED] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, W, -1},
        [SC_CANCELLED] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, W, -1},
        [SC_BLOCKED] = {R, W, -1, -1, -1, -1, -1, -1, -1, C, -1, -1},
    };
#undef W
#undef R
#undef L
#undef S
#undef F
#undef C
#undef B
    return next[state][event];
}

const char *sc_state_name(int state)
{
    static const char *const name[SC_STATES] = {"waiting", "ready",     "leased", "succeeded",
                                                "failed",  "cancelled", "blocked"};
    return state >= 0 && state < SC_STATES ? name[state] : "?";
}

/* ---- leases */

static bool unit_shared(const struct sched *s, const struct sc_worker *w, uint32_t unit)
{
    for (uint32_t id = unit ? w->lease : 0; id; id = s->job[id].next_lease)
        if (s->job[id].unit == unit) return true;
    return false;
}

void sc__link(struct sched *s, uint32_t job, uint32_t worker, uint32_t unit, uint32_t payer)
{
    struct sc_worker *w = &s->worker[worker];
    struct sc_job *j = &s->job[job];
    if (!unit_shared(s, w, unit)) w->units++;
    j->worker = worker;
    j->unit = unit;
    j->payer = payer;
    j->prev_lease = 0;
    j->next_lease = w->lease;
    if (w->lease) s->job[w->lease].prev_lease = job;
    w->lease = job;
    w->leases++;
    w->served = true;
    s->user[payer].leased++;
}

/* Takes the lease off its worker's list; the unit's place is free when its last member has left. */
static void unlink_lease(struct sched *s, uint32_t id)
{
    struct sc_job *j = &s->job[id];
    struct sc_worker *w = &s->worker[j->worker];
    if (j->prev_lease)
        s->job[j->prev_lease].next_lease = j->next_lease;
    else
        w->lease = j->next_lease;
    if (j->next_lease) s->job[j->next_lease].prev_lease = j->prev_lease;
    j->next_lease = j->prev_lease = 0;
    w->leases--;
    if (!unit_shared(s, w, j->unit)) w->units--;
    s->user[j->payer].leased--;
    j->unit = 0;
}

static void set_unit(struct sched *s, uint32_t id, uint32_t unit)
{
    struct sc_job *j = &s->job[id];
    struct sc_worker *w = &s->worker[j->worker];
    uint32_t old = j->unit;
    j->unit = 0;
    if (!unit_shared(s, w, old)) w->units--;
    if (!unit_shared(s, w, unit)) w->units++;
    j->unit = unit;
}

/* ---- transitions */

bool sc__move(struct sched *s, uint32_t id, enum sc_event event, enum sc_why why, int64_t now)
{
    struct sc_job *j = &s->job[id];
    int to = sc_next(j->state, event);
    if (to < 0) return false;
    uint32_t worker = j->worker, attempt = j->attempt;
    if (j->state == SC_LEASED) unlink_lease(s, id);
    if (j->state == SC_READY) sc__dequeue(s, id);
    for (uint32_t w = j->want; w; w = s->want[w].next_of_job) {
        s->run[s->want[w].run].count[j->state]--;
        s->run[s->want[w].run].count[to]++;
    }
    s->total[j->state]--;
    s->total[to]++;
    j->state = (uint8_t)to;
    if (to == SC_READY) {
        j->since = now;
        sc__enqueue(s, id);
    }
    sc__effect(s, (struct sc_effect){.what = SC_DO_STATE,
                                     .state = (uint8_t)to,
                                     .why = (uint8_t)why,
                                     .job = id,
                                     .attempt = attempt,
                                     .worker = worker});
    return true;
}

/* What a job's parents allow: SC_EV_READY, SC_EV_WAIT or SC_EV_BLOCK. */
static enum sc_event parents_say(const struct sched *s, const struct sc_job *j)
{
    enum sc_event say = SC_EV_READY;
    for (int i = 0; i < 2; i++) {
        if (!j->parent[i]) continue;
        int p = s->job[j->parent[i]].state;
        if (p == SC_FAILED || p == SC_CANCELLED || p == SC_BLOCKED) return SC_EV_BLOCK;
        if (p != SC_SUCCEEDED) say = SC_EV_WAIT;
    }
    return say;
}

/* Brings a waiting or blocked job to where its parents allow, and then its own children. */
static void settle(struct sched *s, uint32_t id, int64_t now)
{
    struct sc_job *j = &s->job[id];
    if (j->state != SC_WAITING && j->state != SC_BLOCKED) return;
    if (!sc__move(s, id, parents_say(s, j), SC_WHY_PARENTS, now)) return;
    for (uint32_t e = s->job[id].child; e; e = s->edge[e].next) settle(s, s->edge[e].job, now);
}

void sc__settle_children(struct sched *s, uint32_t id, int64_t now)
{
    for (uint32_t e = s->job[id].child; e; e = s->edge[e].next) settle(s, s->edge[e].job, now);
}

/* A parent's result was lost since this one became ready, or was leased. */
static void unready(struct sched *s, uint32_t id, int64_t now)
{
    const struct sc_job *j = &s->job[id];
    if (j->state != SC_READY || parents_say(s, j) == SC_EV_READY) return;
    sc__move(s, id, SC_EV_WAIT, SC_WHY_PARENTS, now);
    settle(s, id, now); /* blocked, perhaps */
}

/* A lease ended without success. */
static void end_lease(struct sched *s, uint32_t id, enum sc_event event, enum sc_why why,
                      int64_t now)
{
    struct sc_job *j = &s->job[id];
    if (event == SC_EV_CRASH && ++j->crashes >= s->limits.crashes) event = SC_EV_FAIL;
    if (why == SC_WHY_LOST && j->started && ++j->lost >= s->limits.losses) event = SC_EV_FAIL;
    if (event == SC_EV_FAIL && why == SC_WHY_CRASH) why = SC_WHY_FAIL;
    sc__move(s, id, event, why, now);
    unready(s, id, now);
    if (why != SC_WHY_LOST) j->worker = 0; /* this attempt is over: nobody comes back with it */
    if (j->state == SC_FAILED) sc__settle_children(s, id, now);
}

void sc__drop(struct sched *s, uint32_t worker, uint32_t job, uint32_t attempt, enum sc_why why)
{
    sc__effect(s, (struct sc_effect){.what = SC_DO_DROP,
                                     .why = (uint8_t)why,
                                     .job = job,
                                     .attempt = attempt,
                                     .worker = worker});
}

/* ---- submit and restart */

bool sc__wanted(const struct sched *s, uint32_t job, uint32_t but)
{
    for (uint32_t w = s->job[job].want; w; w = s->want[w].next_of_job)
        if (s->want[w].run != but && !s->run[s->want[w].run].cancelled) return true;
    return false;
}

bool sc__cancel(struct sched *s, uint32_t id, int64_t now)
{
    struct sc_job *j = &s->job[id];
    if (j->state == SC_LEASED) sc__drop(s, j->worker, id, j->attempt, SC_WHY_CANCEL);
    if (!sc__move(s, id, SC_EV_CANCEL, SC_WHY_CANCEL, now)) return false;
    j->worker = 0;
    return true;
}

bool sc__revive(struct sched *s, uint32_t id, int64_t now)
{
    struct sc_job *j = &s->job[id];
    if (j->broken || !sc__move(s, id, SC_EV_RETRY, SC_WHY_RETRY, now)) return false;
    j->crashes = j->lost = 0;
    settle(s, id, now);
    sc__settle_children(s, id, now);
    return true;
}

bool sc_on_submit_part(struct sched *s, uint32_t run, uint32_t *want, uint32_t n, int64_t now)
{
    /* Jobs of a run stand in an order where parents come first. */
    for (; *want && n; *want = s->want[*want].next_of_run, n--) {
        uint32_t id = s->want[*want].job;
        if (s->job[id].state == SC_FAILED || s->job[id].state == SC_CANCELLED)
            sc__revive(s, id, now);
        settle(s, id, now);
        if (s->job[id].state == SC_READY) sc__enqueue(s, id); /* this run may rank higher */
    }
    return *want != 0;
}

void sc_on_submit(struct sched *s, uint32_t run, int64_t now)
{
    uint32_t want = s->run[run].want;
    sc_on_submit_part(s, run, &want, UINT32_MAX, now);
}

void sc_on_restart(struct sched *s, int64_t now)
{
    for (uint32_t i = 1; i < s->n_workers; i++) {
        s->worker[i].last_seen = now;
        s->worker[i].restored = true;
    }
    for (uint32_t id = 1; id < s->n_jobs; id++) {
        struct sc_job *j = &s->job[id];
        j->since = now;
        if (j->state == SC_READY) sc__enqueue(s, id);
        if (j->state == SC_LEASED) sc__link(s, id, j->worker, 0, s->run[s->want[j->want].run].user);
        settle(s, id, now); /* a crash may have come between a result and what it released */
    }
    /* An older version could leave jobs that could run and that no live run wanted, for ever. */
    for (uint32_t id = 1; id < s->n_jobs; id++)
        if (!sc__wanted(s, id, 0)) sc__cancel(s, id, now);
}

/* ---- workers */

/* The worker says that it works on (job, attempt): 0 when it may go on. */
static int claim(struct sched *s, uint32_t worker, const struct sc_held *h, int64_t now)
{
    struct sc_job *j = sc_job_of(s, h->job);
    if (!j || j->attempt != h->attempt || j->worker != worker || !h->attempt) return CN_ESTALE;
    if (j->state == SC_READY) { /* it was thought lost, but nobody else has the job yet */
        uint32_t run = sc_find_run_of(s, h->job);
        if (!run || !sc__move(s, h->job, SC_EV_ADOPT, SC_WHY_ADOPT, now)) return CN_ESTALE;
        sc__link(s, h->job, worker, 0, s->run[run].user);
        j->since = now;
    }
    if (j->state != SC_LEASED) return CN_ESTALE;
    if (h->started) sc_on_started(s, h->job, now);
    return 0;
}

static uint32_t worker_slot(struct sched *s, int64_t now)
{
    for (uint32_t i = 1; i < s->n_workers; i++) { /* long gone ones make room */
        struct sc_worker *w = &s->worker[i];
        if (w->used && !w->connected && !w->leases &&
            (!w->served || now - w->last_seen > 3600 * 1000))
            w->used = false;
        if (!w->used) {
            free(w->datasets);
            free(w->engines);
            memset(w, 0, sizeof *w);
            return i;
        }
    }
    if (!sc__grow(&s->worker, &s->cap_workers, s->n_workers + 1, sizeof *s->worker)) return 0;
    return s->n_workers++;
}

static bool listed(const struct sc_held *held, uint32_t n, uint32_t job, uint32_t attempt)
{
    for (uint32_t i = 0; i < n; i++)
        if (held[i].job == job && held[i].attempt == attempt) return true;
    return false;
}

/* What runs together is the worker's to say: after a restart of the coordinator nobody else knows. */
static void regroup(struct sched *s, uint32_t worker, const struct sc_held *held, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (sc_live(s, worker, held[i].job, held[i].attempt)) continue;
        uint32_t id = held[i].job, unit = held[i].unit ? s->job[id].unit : 0;
        bool joined = false;
        for (uint32_t k = 0; held[i].unit && k < i && !joined; k++) {
            if (sc_live(s, worker, held[k].job, held[k].attempt)) continue;
            uint32_t other = s->job[held[k].job].unit;
            joined = held[k].unit == held[i].unit;
            if (joined || other == unit) unit = joined ? other : 0;
        }
        if (held[i].unit && !unit) unit = ++s->next_unit;
        if (unit != s->job[id].unit) set_unit(s, id, unit);
    }
}

/* Settles what the worker lists against what it was given. Leases older than `settled` that it does
 * not list never reached it, and are granted again under the same attempt. */
static void reconcile(struct sched *s, uint32_t worker, const struct sc_held *held, uint32_t n,
                      int64_t settled, int64_t now)
{
    for (uint32_t i = 0; i < n; i++)
        if (claim(s, worker, &held[i], now))
            sc__drop(s, worker, held[i].job, held[i].attempt, SC_WHY_LOST);
    regroup(s, worker, held, n);
    for (uint32_t id = s->worker[worker].lease; id; id = s->job[id].next_lease) {
        struct sc_job *j = &s->job[id];
        if (j->since > settled || listed(held, n, id, j->attempt)) continue;
        j->since = now;
        sc__effect(s, (struct sc_effect){.what = SC_DO_GRANT,
                                         .state = SC_LEASED,
                                         .why = SC_WHY_ADOPT,
                                         .job = id,
                                         .attempt = j->attempt,
                                         .worker = worker,
                                         .unit = j->unit});
    }
}

uint32_t sc_on_worker(struct sched *s, const struct sc_worker *info, const struct sc_held *held,
                      uint32_t n, int64_t now)
{
    uint32_t id = sc_find_worker(s, info->instance);
    if (!id && !(id = worker_slot(s, now))) return 0;
    struct sc_worker *w = &s->worker[id];
    struct sc_worker old = *w;
    free(w->datasets);
    *w = *info;
    w->datasets = info->n_datasets ? malloc(info->n_datasets * sizeof *w->datasets) : NULL;
    if (w->datasets)
        memcpy(w->datasets, info->datasets, info->n_datasets * sizeof *w->datasets);
    else
        w->n_datasets = 0;
    w->used = w->connected = true;
    w->draining = old.used && old.draining;
    w->served = old.used && old.served;
    w->engines = old.engines;
    w->lease = old.lease;
    w->units = old.units;
    w->leases = old.leases;
    w->done = old.done;
    w->since = old.used && old.since ? old.since : now;
    w->last_seen = now;
    reconcile(s, id, held, n, now, now);
    return id;
}

void sc_on_capacity(struct sched *s, uint32_t worker, uint32_t capacity)
{
    s->worker[worker].capacity = capacity < PR_MAX_CAPACITY ? capacity : PR_MAX_CAPACITY;
}

void sc_on_engines(struct sched *s, uint32_t worker, const char *json)
{
    char *copy = strdup(json);
    if (!copy) return; /* for people only: the old ones stay */
    free(s->worker[worker].engines);
    s->worker[worker].engines = copy;
}

void sc_on_alive(struct sched *s, uint32_t worker, int64_t now)
{
    struct sc_worker *w = &s->worker[worker];
    if (now > w->last_seen) w->last_seen = now;
    w->connected = true;
}

void sc_on_heartbeat(struct sched *s, uint32_t worker, const struct sc_held *held, uint32_t n,
                     int64_t now)
{
    int64_t settled = s->worker[worker].last_seen;
    /* What was leased since the last message may still be on its way. */
    if (settled > now - s->limits.lost_ms / 4) settled = now - s->limits.lost_ms / 4;
    reconcile(s, worker, held, n, settled, now);
    sc_on_alive(s, worker, now);
}

int sc_live(const struct sched *s, uint32_t worker, uint64_t job, uint32_t attempt)
{
    const struct sc_job *j = sc_job_of(s, job);
    return j && j->state == SC_LEASED && j->worker == worker && j->attempt == attempt ? 0
                                                                                      : CN_ESTALE;
}

void sc_on_started(struct sched *s, uint32_t job, int64_t now)
{
    struct sc_job *j = &s->job[job];
    if (j->started) return;
    j->started = 1;
    j->since = now;
}

int sc_on_result(struct sched *s, uint32_t worker, uint64_t job, uint32_t attempt,
                 enum sc_outcome outcome, int64_t now)
{
    struct sc_job *j = sc_job_of(s, job);
    if (j && j->state == SC_SUCCEEDED && j->attempt == attempt && j->worker == worker &&
        outcome == SC_OK)
        return 1;
    if (sc_live(s, worker, job, attempt)) return CN_ESTALE;
    uint32_t id = (uint32_t)job;
    switch (outcome) {
    case SC_OK:
        sc__move(s, id, SC_EV_SUCCEED, SC_WHY_RESULT, now);
        s->worker[worker].done++;
        sc__settle_children(s, id, now);
        break;
    case SC_CRASHED:
        end_lease(s, id, SC_EV_CRASH, SC_WHY_CRASH, now);
        break;
    case SC_HOPELESS:
        end_lease(s, id, SC_EV_FAIL, SC_WHY_FAIL, now);
        break;
    case SC_GIVEN_BACK:
        end_lease(s, id, SC_EV_LOST, SC_WHY_RELEASE, now);
        break;
    case SC_MACHINE_FAILED:
        j->started = 1; /* it was at work, told or not */
        end_lease(s, id, SC_EV_LOST, SC_WHY_LOST, now);
        j->worker = 0;
        break;
    }
    return 0;
}

void sc_on_damage(struct sched *s, uint32_t id, int64_t now)
{
    struct sc_job *j = &s->job[id];
    if (!sc__move(s, id, SC_EV_DAMAGE, SC_WHY_DAMAGE, now)) return;
    s->damages++;
    j->crashes = j->lost = 0;
    j->worker = 0;
    if (sc__wanted(s, id, 0))
        settle(s, id, now);
    else
        sc__move(s, id, SC_EV_CANCEL, SC_WHY_DAMAGE, now);
    for (uint32_t e = s->job[id].child; e; e = s->edge[e].next) {
        unready(s, s->edge[e].job, now);
        settle(s, s->edge[e].job, now);
    }
}

static void take_all(struct sched *s, uint32_t worker, enum sc_why why, int64_t now)
{
    uint32_t id;
    while ((id = s->worker[worker].lease)) end_lease(s, id, SC_EV_LOST, why, now);
}

void sc_on_bye(struct sched *s, uint32_t worker, int64_t now)
{
    take_all(s, worker, SC_WHY_RELEASE, now);
    s->worker[worker].connected = false;
    s->worker[worker].last_seen = now;
}

/* A worker that runs far over a job's time limit without saying so loses it. */
static void check_times(struct sched *s, uint32_t worker, int64_t now)
{
    for (uint32_t id = s->worker[worker].lease, next; id; id = next) {
        struct sc_job *j = &s->job[id];
        next = j->next_lease;
        uint32_t limit = sc_time_limit(s, id);
        if (!limit || !j->started || now - j->since < limit * 1000ll + s->limits.grace_ms) continue;
        sc__drop(s, worker, id, j->attempt, SC_WHY_TIME);
        end_lease(s, id, SC_EV_CRASH, SC_WHY_TIME, now);
    }
}

/* The worker with a free slot that suits the job, or 0. */
static uint32_t idle_for(const struct sched *s, uint32_t id)
{
    for (uint32_t i = 1; i < s->n_workers; i++) {
        const struct sc_worker *w = &s->worker[i];
        if (w->used && w->connected && !w->draining && w->units < w->slots &&
            w->units < w->capacity && i != s->job[id].worker && sc_suits(s, w, &s->job[id]))
            return i;
    }
    return 0;
}

/* With nothing ready, what waits behind a busy worker's slots goes to an idle one. */
static void steal(struct sched *s, uint32_t worker, int64_t now)
{
    struct sc_worker *w = &s->worker[worker];
    for (uint32_t id = w->lease, next; id && w->units > w->slots; id = next) {
        struct sc_job *j = &s->job[id];
        next = j->next_lease;
        if (j->started || j->unit || now - j->since < s->limits.steal_ms || !idle_for(s, id))
            continue;
        sc__drop(s, worker, id, j->attempt, SC_WHY_STEAL);
        end_lease(s, id, SC_EV_LOST, SC_WHY_STEAL, now);
        sc_assign(s, now);
    }
}

static void check_silence(struct sched *s, uint32_t worker, int64_t now)
{
    struct sc_worker *w = &s->worker[worker];
    if (w->last_seen > now) w->last_seen = now; /* the clock was stepped back */
    /* To find the way back over a slow network takes longer than a heartbeat. */
    if (now - w->last_seen <= s->limits.lost_ms * (w->restored ? 3 : 1)) return;
    w->connected = w->restored = false;
    if (w->lease) take_all(s, worker, SC_WHY_LOST, now);
}

void sc_on_tick(struct sched *s, int64_t now)
{
    /* All of them first: what moves below must not go to one that is lost. */
    for (uint32_t i = 1; i < s->n_workers; i++)
        if (s->worker[i].used) check_silence(s, i, now);
    for (uint32_t i = 1; i < s->n_workers; i++) {
        struct sc_worker *w = &s->worker[i];
        if (!w->used) continue;
        if (w->lease) check_times(s, i, now);
        if (!s->n_ready && w->units > w->slots) steal(s, i, now);
    }
}
