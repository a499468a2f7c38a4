/* The scheduler in a random world: 10,000 seeds of workers that come, go, lie, repeat themselves and arrive late, users who submit,
 * cancel, pause and retry, restarts of the coordinator, and a clock that steps. After each event every invariant is checked against
 * what the world itself knows, not against the scheduler's own bookkeeping. The seed is in each message: run one with
 * CINCH_SIM_SEED=n, another number of seeds with CINCH_SIM_SEEDS=n. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "sched_invariants.h"
#include "sim_world.h"

enum { WORKERS = 5, MAIL = 64, EVENTS = 160, MAX_JOBS = 400 };

struct letter { /* a result under way, perhaps doubled or late */
    int worker;
    uint32_t job, attempt;
    enum sc_outcome outcome;
};

struct agent { /* a worker as it sees itself */
    bool alive;
    struct sc_worker info;
    uint32_t id; /* in the scheduler; 0: not known there (restart: until hello) */
    struct sc_held held[256];
    uint32_t n_held;
};

struct world {
    struct sched *s;
    uint64_t seed, draws;
    int64_t now;
    struct agent agent[WORKERS];
    struct letter mail[MAIL];
    uint32_t n_mail;
    uint32_t highest[MAX_JOBS]; /* attempt ever granted, per job */
    uint32_t ended[MAX_JOBS];   /* attempt whose end was accepted last */
    bool accepted[MAX_JOBS];
    int instances;
};

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond))                                                                               \
            fail_msg("seed %llu: %s (line %d)", (unsigned long long)w->seed, #cond, __LINE__);     \
    } while (0)

static uint32_t pick(struct world *w, uint32_t n)
{
    return cn_rng(w->seed, 77, 0, w->draws++).v[0] % n;
}

/* ---- invariants */

static void check_tables(struct world *w)
{
    const char *broken = sched_broken(w->s);
    if (broken) fail_msg("seed %llu: %s", (unsigned long long)w->seed, broken);
    for (uint32_t j = 1; j < w->s->n_jobs; j++) /* accepted once, never lost */
        CHECK((w->s->job[j].state == SC_SUCCEEDED) == w->accepted[j]);
}

/* Whatever can run, runs: no worker with a free place while something suits it. */
static void check_busy(struct world *w)
{
    const struct sched *s = w->s;
    for (uint32_t i = 1; i < s->n_workers; i++) {
        const struct sc_worker *k = &s->worker[i];
        if (!k->used || !k->connected || k->draining || k->units >= k->capacity) continue;
        for (uint32_t j = 1; j < s->n_jobs; j++)
            CHECK(!s->job[j].queued || !sc_suits(s, k, &s->job[j]));
    }
}

/* What was granted just now came before everything that is still ready and would have suited the same worker. */
static void check_order(struct world *w, const struct sc_effect *e)
{
    const struct sched *s = w->s;
    uint32_t mine = s->job[e->job].payer;
    int priority = -100000;
    for (uint32_t i = s->job[e->job].want; i; i = s->want[i].next_of_job) {
        const struct sc_run *r = &s->run[s->want[i].run];
        if (!r->paused && !r->cancelled && r->priority > priority) priority = r->priority;
    }
    for (uint32_t i = 1; i < s->n_wants; i++) {
        const struct sc_want *k = &s->want[i];
        if (!k->heap || !sc_suits(s, &s->worker[e->worker], &s->job[k->job])) continue;
        const struct sc_run *r = &s->run[k->run];
        CHECK(r->priority <= priority);
        if (r->priority < priority || r->user == mine) continue;
        uint32_t unit = 0; /* what this grant itself added */
        for (uint32_t l = s->worker[e->worker].lease; l; l = s->job[l].next_lease)
            unit += l == e->job || (e->unit && s->job[l].unit == e->unit);
        uint32_t later = 0; /* and what the same user was given after it */
        for (uint32_t x = 0; x < s->n_effects; x++)
            later += s->effect[x].what == SC_DO_GRANT && &s->effect[x] > e &&
                     (!e->unit || s->effect[x].unit != e->unit) &&
                     s->job[s->effect[x].job].payer == mine;
        if (!later && s->user[mine].leased >= unit)
            CHECK(s->user[mine].leased - unit <= s->user[r->user].leased);
    }
}

/* ---- effects, as the shell and the wire would carry them out */

static struct agent *agent_of(struct world *w, uint32_t id)
{
    for (int i = 0; i < WORKERS; i++)
        if (w->agent[i].alive && w->agent[i].id == id) return &w->agent[i];
    return NULL;
}

static void forget(struct agent *a, uint32_t job, uint32_t attempt)
{
    for (uint32_t i = 0; a && i < a->n_held; i++)
        if (a->held[i].job == job && a->held[i].attempt == attempt)
            a->held[i--] = a->held[--a->n_held];
}

static void carry_out(struct world *w, bool after_assign)
{
    struct sched *s = w->s;
    for (uint32_t i = 0; i < s->n_effects; i++) {
        const struct sc_effect *e = &s->effect[i];
        struct agent *a = agent_of(w, e->worker);
        if (e->what == SC_DO_DROP) {
            if (pick(w, 4)) forget(a, e->job, e->attempt); /* the message may be lost */
        } else if (e->what == SC_DO_GRANT) {
            if (e->why == SC_WHY_GRANT) {
                CHECK(e->attempt == w->highest[e->job] + 1); /* attempts only grow */
                CHECK(s->worker[e->worker].connected && !s->worker[e->worker].draining);
                w->highest[e->job] = e->attempt;
                if (after_assign) check_order(w, e);
            } else {
                CHECK(e->attempt == w->highest[e->job] && s->job[e->job].state == SC_LEASED);
            }
            CHECK(e->attempt > w->ended[e->job]); /* what has ended does not begin again */
            bool has = false;
            for (uint32_t k = 0; a && k < a->n_held; k++)
                has = has || (a->held[k].job == e->job && a->held[k].attempt == e->attempt);
            if (a && !has && a->n_held < 256 && pick(w, 8))
                a->held[a->n_held++] = (struct sc_held){e->job, e->attempt, false,
                                                        e->why == SC_WHY_GRANT ? e->unit : 0};
        } else {
            CHECK(e->why != SC_WHY_ADOPT || e->attempt > w->ended[e->job]);
            CHECK(e->state == s->job[e->job].state || i + 1 < s->n_effects);
        }
    }
    s->n_effects = 0;
}

static void settle(struct world *w)
{
    carry_out(w, false);
    sc_assign(w->s, w->now);
    carry_out(w, true);
    check_tables(w);
    check_busy(w);
}

/* ---- events */

static void submit(struct world *w)
{
    struct sched *s = w->s;
    if (s->n_jobs > MAX_JOBS - 40) return;
    static const char *const user[] = {"anna", "bert", "cleo"};
    uint32_t run = sc_run_add(s, sc_user(s, user[pick(w, 3)]), (int)pick(w, 3) - 1, !pick(w, 6),
                              pick(w, 2) * 100);
    uint32_t base = 1 + pick(w, 3), seed = pick(w, 4), n = 1 + pick(w, 3);
    for (uint32_t k = 0; k < n; k++) { /* overlaps with other runs on purpose */
        uint32_t train = sim_job(s, TRAIN, base, seed + k, 0, 0), last = train;
        sc_want_add(s, run, train);
        if (pick(w, 2)) sc_want_add(s, run, last = sim_job(s, DISTILL, base, seed + k, train, 0));
        for (uint32_t r = pick(w, 4); r; r--)
            sc_want_add(s, run, last = sim_job(s, PRUNE, base, seed + k, last, train));
        sc_want_add(s, run, sim_job(s, EVALUATE, base, seed + k, last, 0));
    }
    sc_on_submit(s, run, w->now);
}

/* What the scheduler did not confirm is dropped, told or not; of the rest it counts as one what the worker runs as one. */
static void confirmed(struct world *w, struct agent *a)
{
    const struct sched *s = w->s;
    for (uint32_t i = 0; i < a->n_held; i++)
        if (sc_live(s, a->id, a->held[i].job, a->held[i].attempt))
            a->held[i--] = a->held[--a->n_held];
    for (uint32_t i = 0; i < a->n_held; i++)
        for (uint32_t k = 0; k < i; k++) {
            uint32_t x = s->job[a->held[i].job].unit, y = s->job[a->held[k].job].unit;
            CHECK((x && x == y) == (a->held[i].unit && a->held[i].unit == a->held[k].unit));
        }
}

static void hello(struct world *w, struct agent *a)
{
    a->id = sc_on_worker(w->s, &a->info, a->held, a->n_held, w->now);
    CHECK(a->id != 0);
    confirmed(w, a);
}

static void birth(struct world *w)
{
    struct agent *a = &w->agent[pick(w, WORKERS)];
    *a = (struct agent){.alive = true,
                        .info = sim_worker_info(w->instances++, 1 + pick(w, 3), pick(w, 3))};
    if (!pick(w, 3)) a->info.kinds = 1u << EVALUATE;
    if (!pick(w, 3)) a->info.kinds = 1u << TRAIN | 1u << DISTILL | 1u << PRUNE;
    a->info.max_gang = 1 + pick(w, 4);
    a->info.gpu_bytes = pick(w, 2) * 8;
    hello(w, a);
}

static struct agent *someone(struct world *w)
{
    struct agent *a = &w->agent[pick(w, WORKERS)];
    return a->alive && a->id ? a : NULL;
}

static uint64_t digest(const struct sched *s)
{
    uint64_t h = 1;
    for (uint32_t j = 1; j < s->n_jobs; j++)
        h = h * 1099511628211ull + s->job[j].state * 7919u + s->job[j].attempt * 31u +
            s->job[j].crashes;
    return h + s->n_effects;
}

static void deliver(struct world *w, const struct letter *l)
{
    const struct agent *a = &w->agent[l->worker];
    if (!a->alive || !a->id) return;
    uint64_t before = digest(w->s);
    const struct sc_job *j = sc_job_of(w->s, l->job);
    bool live = j && j->state == SC_LEASED && j->worker == a->id && j->attempt == l->attempt;
    int rc = sc_on_result(w->s, a->id, l->job, l->attempt, l->outcome, w->now);
    CHECK(live == (rc == 0));
    if (rc) CHECK(digest(w->s) == before); /* stale or said twice: nothing changed */
    if (!rc) w->ended[l->job] = l->attempt;
    if (!rc && l->outcome == SC_OK) {
        CHECK(!w->accepted[l->job]);
        w->accepted[l->job] = true;
    }
}

static void work(struct world *w)
{
    struct agent *a = someone(w);
    if (!a || !a->n_held) return;
    uint32_t at = pick(w, a->n_held), dice = pick(w, 20);
    struct letter l = {(int)(a - w->agent), a->held[at].job, a->held[at].attempt,
                       dice < 14   ? SC_OK
                       : dice < 17 ? SC_CRASHED
                       : dice < 18 ? SC_HOPELESS
                                   : SC_GIVEN_BACK};
    if (pick(w, 4)) a->held[at] = a->held[--a->n_held]; /* else until it hears of it */
    deliver(w, &l);
    if (!pick(w, 3) && w->n_mail < MAIL)
        w->mail[w->n_mail++] = l; /* it will come again, sometime */
}

static void lie(struct world *w)
{
    struct letter l = {(int)pick(w, WORKERS), pick(w, w->s->n_jobs + 3), pick(w, 4), pick(w, 4)};
    const struct agent *a = &w->agent[l.worker];
    const struct sc_job *j = sc_job_of(w->s, l.job);
    if (a->alive && j && j->worker == a->id && j->attempt == l.attempt)
        return; /* that would be true */
    deliver(w, &l);
}

static void beat(struct world *w)
{
    struct agent *a = someone(w);
    if (!a) return;
    for (uint32_t i = 0; i < a->n_held; i++) a->held[i].started = a->held[i].started || !pick(w, 3);
    sc_on_heartbeat(w->s, a->id, a->held, a->n_held, w->now);
    confirmed(w, a);
}

/* As the shell does: a job that no live run wants brings one of its cancelled runs back. */
static void retry(struct world *w, uint32_t job)
{
    struct sched *s = w->s;
    bool may = sc_may_retry(s, job), live = sc__wanted(s, job, 0);
    uint32_t run = live ? 0 : s->want[s->job[job].want].run;
    uint32_t n = sc_retry_job(s, job, run, w->now);
    CHECK(may == (n > 0));
    int state = s->job[job].state;
    if (may) CHECK(state == SC_READY || state == SC_WAITING);
}

static void control(struct world *w)
{
    struct sched *s = w->s;
    uint32_t run = s->n_runs > 1 ? 1 + pick(w, s->n_runs - 1) : 0,
             job = s->n_jobs > 1 ? 1 + pick(w, s->n_jobs - 1) : 0;
    if (!run || !job) return;
    switch (pick(w, 9)) {
    case 7: /* the disk loses a result */
        w->accepted[job] = false;
        sc_on_damage(s, job, w->now);
        break;
    case 0:
        sc_cancel_run(s, run, w->now);
        break;
    case 1:
        sc_cancel_job(s, job, w->now);
        break;
    case 2:
        retry(w, job);
        break;
    case 3:
    case 4:
        sc_retry_run(s, run, w->now);
        break;
    case 5:
        sc_pause(s, run, pick(w, 2), w->now);
        break;
    case 6:
        sc_priority(s, run, (int)pick(w, 5) - 2, w->now);
        break;
    default:
        if (s->n_workers > 1) sc_drain(s, 1 + pick(w, s->n_workers - 1), !pick(w, 3));
        break;
    }
}

/* The tables as the store would bring them back. */
static void restart(struct world *w)
{
    struct sched *old = w->s, *s = sc_create(NULL);
    for (uint32_t i = 1; i < old->n_users; i++) sc_user(s, old->user[i].name);
    for (uint32_t i = 1; i < old->n_datasets; i++) {
        sc_dataset(s, &old->dataset[i].fingerprint);
        s->dataset[i].stored = old->dataset[i].stored;
    }
    for (uint32_t i = 1; i < old->n_bases; i++) sc_base(s, &old->base[i]);
    CHECK(sc__grow(&s->worker, &s->cap_workers, old->n_workers, sizeof *s->worker));
    s->n_workers = old->n_workers;
    for (uint32_t i = 1; i < old->n_workers; i++) {
        struct sc_worker *k = &s->worker[i];
        k->used = true;
        k->core = -1;
        memcpy(k->instance, old->worker[i].instance, sizeof k->instance);
    }
    for (uint32_t i = 1; i < old->n_jobs; i++) CHECK(sc_job_add(s, &old->job[i], true) == i);
    for (uint32_t r = 1; r < old->n_runs; r++) {
        sc_run_add(s, old->run[r].user, old->run[r].priority, old->run[r].paused,
                   old->run[r].time_limit_s);
        s->run[r].cancelled = old->run[r].cancelled;
        for (uint32_t i = old->run[r].want; i; i = old->want[i].next_of_run)
            sc_want_add(s, r, old->want[i].job);
    }
    s->damages = old->damages;
    sc_destroy(old);
    w->s = s;
    sc_on_restart(s, w->now);
    for (int i = 0; i < WORKERS; i++) w->agent[i].id = 0;
    settle(w);
    for (int i = 0; i < WORKERS; i++) {
        if (!w->agent[i].alive || !pick(w, 4)) continue;
        uint32_t before = w->agent[i].n_held;
        hello(w, &w->agent[i]);
        CHECK(w->agent[i].n_held <= before);
    }
}

static void event(struct world *w)
{
    switch (pick(w, 24)) {
    case 0:
    case 1:
        submit(w);
        break;
    case 2:
        birth(w);
        break;
    case 3: { /* death, with or without a word */
        struct agent *a = someone(w);
        if (!a) break;
        if (pick(w, 2)) sc_on_bye(w->s, a->id, w->now);
        a->alive = false;
        break;
    }
    case 4:
        lie(w);
        break;
    case 5:
        if (w->n_mail) deliver(w, &w->mail[pick(w, w->n_mail)]);
        break;
    case 6:
        control(w);
        break;
    case 7: /* time passes; now and then it jumps */
        w->now += pick(w, 6) ? pick(w, 3000) : pick(w, 2) ? 20000 : 0;
        if (!pick(w, 10)) w->now -= pick(w, 50000);
        sc_on_tick(w->s, w->now);
        break;
    case 8:
        if (!pick(w, 6)) restart(w);
        break;
    case 9: { /* hello said again, on a new connection perhaps */
        struct agent *a = someone(w);
        if (a) hello(w, a);
        break;
    }
    case 10: {
        struct agent *a = someone(w);
        if (a) sc_on_capacity(w->s, a->id, pick(w, 5));
        break;
    }
    case 11:
    case 12:
    case 13:
        beat(w);
        break;
    default:
        work(w);
        break;
    }
}

/* Peace at last: with honest workers for everything, all that anyone wants ends. */
static void finish(struct world *w)
{
    struct sched *s = w->s;
    for (uint32_t r = 1; r < s->n_runs; r++) sc_pause(s, r, false, w->now);
    for (int i = 0; i < WORKERS; i++) w->agent[i].alive = false;
    for (uint32_t i = 1; i < s->n_workers; i++) sc_on_bye(s, i, w->now);
    struct agent *a = &w->agent[0];
    *a = (struct agent){.alive = true, .info = sim_worker_info(w->instances++, 3, 2)};
    a->info.gpu_bytes = 100;
    a->info.max_gang = 3;
    hello(w, a);
    for (int i = 0; i < 4 * MAX_JOBS; i++) {
        settle(w);
        if (!s->total[SC_LEASED]) break;
        uint32_t job = s->worker[a->id].lease;
        CHECK(job != 0);
        struct letter l = {0, job, s->job[job].attempt, SC_OK};
        deliver(w, &l);
    }
    settle(w);
    for (uint32_t r = 1; r < s->n_runs; r++) {
        CHECK(sc_run_over(s, r) && !sc_run_paused(s, r));
    }
    for (uint32_t j = 1; j < s->n_jobs; j++)
        if (sc_find_run_of(s, j))
            CHECK(s->job[j].state != SC_READY && s->job[j].state != SC_LEASED &&
                  s->job[j].state != SC_WAITING);
}

static void one_world(uint64_t seed, uint64_t *events)
{
    struct world *w = calloc(1, sizeof *w);
    w->seed = seed;
    w->s = sc_create(NULL);
    w->now = 1000000;
    for (uint32_t n = 1; n <= 3; n++) sim_base(w->s, n, n == 3 ? 8 : 0);
    for (int i = 0; i < EVENTS; i++) {
        event(w);
        settle(w);
    }
    finish(w);
    for (uint32_t j = 1; j < w->s->n_jobs; j++) *events += w->s->job[j].attempt;
    assert_false(w->s->nomem);
    sc_destroy(w->s);
    free(w);
}

static void ten_thousand_worlds(void **state)
{
    const char *one = getenv("CINCH_SIM_SEED"), *many = getenv("CINCH_SIM_SEEDS");
    uint64_t first = one ? strtoull(one, NULL, 10) : 0,
             n = one    ? 1
                 : many ? strtoull(many, NULL, 10)
                        : 10000,
             attempts = 0;
    for (uint64_t seed = first; seed < first + n; seed++) one_world(seed, &attempts);
    printf("%llu worlds, %llu attempts granted\n", (unsigned long long)n,
           (unsigned long long)attempts);
    assert_true(attempts > n); /* the worlds are not idle */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(ten_thousand_worlds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
