/* The scheduler by cases: every cell of the transition table, and one test a rule. No socket, no clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "sim_world.h"

static void transition_table(void **state)
{
    /* the table of docs/protocol.md, spelled out again: -1 impossible */
    enum {
        W = SC_WAITING,
        R = SC_READY,
        L = SC_LEASED,
        S = SC_SUCCEEDED,
        F = SC_FAILED,
        C = SC_CANCELLED,
        B = SC_BLOCKED
    };
    static const int want[SC_STATES][SC_EVENTS] = {
        /* ready wait block lease succeed crash fail lost adopt cancel retry damage */
        [W] = {R, -1, B, -1, -1, -1, -1, -1, -1, C, -1, -1},
        [R] = {-1, W, -1, L, -1, -1, F, -1, L, C, -1, -1},
        [L] = {-1, -1, -1, -1, S, R, F, R, -1, C, -1, -1},
        [S] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, W},
        [F] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, W, -1},
        [C] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, W, -1},
        [B] = {R, W, -1, -1, -1, -1, -1, -1, -1, C, -1, -1},
    };
    for (int s = 0; s < SC_STATES; s++)
        for (int e = 0; e < SC_EVENTS; e++) assert_int_equal(sc_next(s, e), want[s][e]);
    for (int e = 0; e < SC_EVENTS; e++) /* nothing undoes a success but the loss of its bytes */
        if (e != SC_EV_DAMAGE) assert_int_equal(sc_next(SC_SUCCEEDED, e), -1);
}

/* train → distill, prune (from distill, taught by train) → evaluate; one run of user 1. */
struct chain {
    struct sched *s;
    uint32_t run, train, distill, prune, eval, worker;
};

static uint32_t new_run(struct sched *s, const char *user, int priority, const uint32_t *jobs,
                        int n)
{
    uint32_t run = sc_run_add(s, sc_user(s, user), priority, false, 0);
    for (int i = 0; i < n; i++) sc_want_add(s, run, jobs[i]);
    sc_on_submit(s, run, 0);
    return run;
}

static void chain_open(struct chain *c)
{
    c->s = sc_create(NULL);
    uint32_t base = sim_base(c->s, 1, 0);
    c->train = sim_job(c->s, TRAIN, base, 1, 0, 0);
    c->distill = sim_job(c->s, DISTILL, base, 1, c->train, 0);
    c->prune = sim_job(c->s, PRUNE, base, 1, c->distill, c->train);
    c->eval = sim_job(c->s, EVALUATE, base, 1, c->prune, 0);
    uint32_t jobs[] = {c->train, c->distill, c->prune, c->eval};
    c->run = new_run(c->s, "anna", 0, jobs, 4);
    struct sc_worker w = sim_worker_info(0, 1, 1);
    c->worker = sc_on_worker(c->s, &w, NULL, 0, 0);
    sc_assign(c->s, 0);
}

static int state_of(const struct chain *c, uint32_t job)
{
    return c->s->job[job].state;
}

static int result(struct chain *c, uint32_t job, uint32_t attempt, enum sc_outcome o)
{
    int rc = sc_on_result(c->s, c->worker, job, attempt, o, 0);
    sc_assign(c->s, 0);
    return rc;
}

static void a_chain_runs_in_order(void **state)
{
    struct chain c;
    chain_open(&c);
    assert_int_equal(c.s->job[c.train].chain, 4);
    const uint32_t order[] = {c.train, c.distill, c.prune, c.eval};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(state_of(&c, order[i]), SC_LEASED);
        for (int k = i + 1; k < 4; k++) assert_int_equal(state_of(&c, order[k]), SC_WAITING);
        assert_int_equal(result(&c, order[i], 1, SC_OK), 0);
    }
    assert_int_equal(sc_run_state(c.s, c.run), SC_RUN_DONE);
    sc_destroy(c.s);
}

static void stale_and_doubled_results_change_nothing(void **state)
{
    struct chain c;
    chain_open(&c);
    assert_int_equal(result(&c, c.train, 2, SC_OK), CN_ESTALE); /* from the future */
    assert_int_equal(result(&c, c.train, 0, SC_OK), CN_ESTALE);
    assert_int_equal(result(&c, c.prune, 1, SC_OK), CN_ESTALE); /* not leased */
    assert_int_equal(result(&c, 4711, 1, SC_OK), CN_ESTALE);
    assert_int_equal(
        sc_on_result(c.s, c.worker, (uint64_t)c.train + ((uint64_t)1 << 32), 1, SC_OK, 0),
        CN_ESTALE);
    struct sc_worker other = sim_worker_info(1, 1, 0);
    uint32_t w2 = sc_on_worker(c.s, &other, NULL, 0, 0);
    assert_int_equal(sc_on_result(c.s, w2, c.train, 1, SC_OK, 0), CN_ESTALE); /* another's lease */
    assert_int_equal(state_of(&c, c.train), SC_LEASED);
    assert_int_equal(result(&c, c.train, 1, SC_OK), 0);
    assert_int_equal(result(&c, c.train, 1, SC_OK), 1); /* said twice */
    assert_int_equal(result(&c, c.train, 1, SC_CRASHED),
                     CN_ESTALE); /* too late to change one's mind */
    assert_int_equal(state_of(&c, c.train), SC_SUCCEEDED);
    sc_destroy(c.s);
}

static void crashes_count_and_losses_do_not(void **state)
{
    struct chain c;
    chain_open(&c);
    struct sc_worker info = sim_worker_info(0, 1, 1);
    uint32_t attempt = 1;
    int64_t now = 0;
    for (int i = 0; i < 8; i++) { /* lost eight times: still alive */
        now += 20000;
        sc_on_tick(c.s, now);
        assert_int_equal(state_of(&c, c.train), SC_READY);
        info.instance[2]++; /* started anew */
        c.worker = sc_on_worker(c.s, &info, NULL, 0, now);
        sc_assign(c.s, now);
        assert_int_equal(c.s->job[c.train].attempt, ++attempt);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(result(&c, c.train, attempt, SC_CRASHED), 0);
        assert_int_equal(state_of(&c, c.train), SC_LEASED);
        assert_int_equal(c.s->job[c.train].attempt, ++attempt);
    }
    assert_int_equal(result(&c, c.train, attempt, SC_CRASHED), 0); /* the fifth */
    assert_int_equal(state_of(&c, c.train), SC_FAILED);
    assert_int_equal(state_of(&c, c.distill), SC_BLOCKED);
    assert_int_equal(state_of(&c, c.eval), SC_BLOCKED);
    assert_int_equal(sc_run_state(c.s, c.run), SC_RUN_FAILED);
    char text[400];
    sc_explain(c.s, c.eval, now, text, sizeof text);
    assert_non_null(strstr(text, "j1 (train)")); /* the root cause, not the neighbour */
    assert_int_equal(sc_retry_run(c.s, c.run, now), 1);
    assert_int_equal(state_of(&c, c.train), SC_READY);
    assert_int_equal(state_of(&c, c.eval), SC_WAITING);
    sc_assign(c.s, now);
    assert_int_equal(c.s->job[c.train].attempt,
                     attempt + 1); /* never again a number that was used */
    sc_destroy(c.s);
}

static void a_job_that_kills_its_workers_ends(void **state)
{
    struct chain c;
    chain_open(&c);
    struct sc_worker info = sim_worker_info(0, 1, 1);
    int64_t now = 0;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(state_of(&c, c.train), SC_LEASED);
        sc_on_started(c.s, c.train, now);
        sc_on_tick(c.s, now += 20000);
        info.instance[2]++;
        c.worker = sc_on_worker(c.s, &info, NULL, 0, now);
        sc_assign(c.s, now);
    }
    assert_int_equal(state_of(&c, c.train), SC_FAILED);
    sc_destroy(c.s);
}

/* A model that is lost after its children were given out, or before. */
static void a_lost_result_is_made_again(void **state)
{
    struct chain c;
    chain_open(&c);
    assert_int_equal(result(&c, c.train, 1, SC_OK), 0);
    assert_int_equal(state_of(&c, c.distill), SC_LEASED);
    sc_on_damage(c.s, c.train, 0);
    assert_int_equal(state_of(&c, c.train), SC_READY);
    assert_int_equal(state_of(&c, c.distill), SC_LEASED);      /* it may have fetched it before */
    assert_int_equal(result(&c, c.distill, 1, SC_CRASHED), 0); /* it had not */
    assert_int_equal(state_of(&c, c.train), SC_LEASED);
    assert_int_equal(c.s->job[c.train].attempt, 2);
    assert_int_equal(state_of(&c, c.distill), SC_WAITING);
    assert_int_equal(result(&c, c.train, 1, SC_OK), CN_ESTALE);
    assert_int_equal(result(&c, c.train, 2, SC_OK), 0);
    assert_int_equal(result(&c, c.distill, 2, SC_OK), 0);
    sc_on_damage(c.s, c.train, 0);
    assert_int_equal(state_of(&c, c.prune), SC_LEASED);
    assert_int_equal(result(&c, c.prune, 1, SC_GIVEN_BACK), 0);
    assert_int_equal(state_of(&c, c.prune), SC_WAITING);
    assert_int_equal(result(&c, c.train, 3, SC_HOPELESS), 0); /* it cannot be made again */
    assert_int_equal(state_of(&c, c.prune), SC_BLOCKED);
    assert_string_equal(sc_run_state_name(sc_run_state(c.s, c.run)), "failed");
    sc_cancel_run(c.s, c.run, 0);
    sc_on_damage(c.s, c.distill, 0); /* nobody wants it: it runs when somebody does */
    assert_int_equal(state_of(&c, c.distill), SC_CANCELLED);
    sc_destroy(c.s);
}

static void hopeless_fails_at_once(void **state)
{
    struct chain c;
    chain_open(&c);
    assert_int_equal(result(&c, c.train, 1, SC_HOPELESS), 0);
    assert_int_equal(state_of(&c, c.train), SC_FAILED);
    sc_destroy(c.s);
}

static void a_worker_that_comes_back_keeps_its_job(void **state)
{
    struct chain c;
    chain_open(&c);
    struct sc_worker info = sim_worker_info(0, 1, 1);
    struct sc_held held = {.job = c.train, .attempt = 1, .started = true};
    sc_on_tick(c.s, 20000);
    assert_int_equal(state_of(&c, c.train), SC_READY);
    c.s->n_effects = 0;
    sc_on_worker(c.s, &info, &held, 1, 20001);
    assert_int_equal(state_of(&c, c.train), SC_LEASED);
    assert_int_equal(c.s->job[c.train].attempt, 1);
    assert_int_equal(sim_effects(c.s, SC_DO_DROP, 0), 0);
    assert_int_equal(result(&c, c.train, 1, SC_OK), 0);
    sc_destroy(c.s);
}

static void a_worker_that_comes_back_too_late_is_told_to_stop(void **state)
{
    struct chain c;
    chain_open(&c);
    struct sc_worker info = sim_worker_info(0, 1, 1), other = sim_worker_info(1, 1, 0);
    struct sc_held held = {.job = c.train, .attempt = 1, .started = true};
    sc_on_tick(c.s, 20000);
    sc_on_worker(c.s, &other, NULL, 0, 20000);
    sc_assign(c.s, 20000);
    assert_int_equal(c.s->job[c.train].attempt, 2);
    c.s->n_effects = 0;
    sc_on_worker(c.s, &info, &held, 1, 20001);
    assert_int_equal(sim_effects(c.s, SC_DO_DROP, c.train), 1);
    assert_int_equal(result(&c, c.train, 1, SC_OK), CN_ESTALE);
    sc_destroy(c.s);
}

static void a_lease_that_never_arrived_is_sent_again(void **state)
{
    struct chain c;
    chain_open(&c);
    c.s->n_effects = 0;
    sc_on_heartbeat(c.s, c.worker, NULL, 0, 100); /* may still be on its way */
    assert_int_equal(sim_effects(c.s, SC_DO_GRANT, c.train), 0);
    sc_on_heartbeat(c.s, c.worker, NULL, 0, 5000);
    assert_int_equal(sim_effects(c.s, SC_DO_GRANT, c.train), 1);
    assert_int_equal(c.s->job[c.train].attempt, 1); /* the same attempt */
    sc_destroy(c.s);
}

static void priority_then_fair_share_then_chain(void **state)
{
    struct sched *s = sc_create(NULL);
    uint32_t base = sim_base(s, 1, 0), a[3], b[3], e[2];
    for (int i = 0; i < 3; i++) a[i] = sim_job(s, TRAIN, base, 10 + (uint64_t)i, 0, 0);
    for (int i = 0; i < 3; i++) b[i] = sim_job(s, TRAIN, base, 20 + (uint64_t)i, 0, 0);
    e[0] = sim_job(s, TRAIN, base, 30, 0, 0);
    e[1] = sim_job(s, EVALUATE, base, 30, e[0], 0);
    new_run(s, "anna", 0, a, 3);
    new_run(s, "bert", 0, b, 3);
    uint32_t last = new_run(s, "anna", 5, e, 2);
    struct sc_worker info = sim_worker_info(0, 5, 0);
    info.capacity = 5;
    sc_on_worker(s, &info, NULL, 0, 0);
    s->n_effects = 0;
    sc_assign(s, 0);
    assert_int_equal(s->n_effects, 5);
    assert_int_equal(s->effect[0].job, e[0]); /* priority 5 first */
    assert_int_equal(s->effect[1].job, b[0]); /* then bert, who has nothing yet */
    assert_int_equal(s->effect[2].job, a[0]); /* one each: anna was served longer ago */
    assert_int_equal(s->user[1].leased + s->user[2].leased, 5);
    assert_true(s->user[1].leased >= 2 && s->user[2].leased >= 2); /* fair */
    sc_priority(s, last, -1, 0);
    sc_destroy(s);
}

static void longest_chain_first(void **state)
{
    struct sched *s = sc_create(NULL);
    uint32_t base = sim_base(s, 1, 0), other = sim_base(s, 2, 0);
    uint32_t j[4];
    j[0] = sim_job(s, TRAIN, base, 1, 0, 0);
    j[1] = sim_job(s, TRAIN, other, 2, 0, 0);
    j[2] = sim_job(s, PRUNE, other, 2, j[1], 0);
    j[3] = sim_job(s, EVALUATE, other, 2, j[2], 0);
    new_run(s, "anna", 0, j, 4);
    struct sc_worker info = sim_worker_info(0, 1, 0);
    info.capacity = 1;
    sc_on_worker(s, &info, NULL, 0, 0);
    sc_assign(s, 0);
    assert_int_equal(s->job[j[1]].state, SC_LEASED); /* the second, with three to go */
    sc_destroy(s);
}

static void slots_fill_before_anything_is_prefetched(void **state)
{
    struct sched *s = sc_create(NULL);
    uint32_t base = sim_base(s, 1, 0), j[4];
    for (int i = 0; i < 4; i++) j[i] = sim_job(s, TRAIN, base, (uint64_t)i, 0, 0);
    struct sc_worker a = sim_worker_info(0, 2, 2), b = sim_worker_info(1, 2, 2);
    uint32_t wa = sc_on_worker(s, &a, NULL, 0, 0), wb = sc_on_worker(s, &b, NULL, 0, 0);
    new_run(s, "anna", 0, j, 4);
    sc_assign(s, 0);
    assert_int_equal(s->worker[wa].leases, 2);
    assert_int_equal(s->worker[wb].leases, 2);
    sc_destroy(s);
}

static void prefetched_jobs_move_to_an_idle_worker(void **state)
{
    struct sched *s = sc_create(NULL);
    uint32_t base = sim_base(s, 1, 0), j[2];
    for (int i = 0; i < 2; i++) j[i] = sim_job(s, TRAIN, base, (uint64_t)i, 0, 0);
    struct sc_worker a = sim_worker_info(0, 1, 1), b = sim_worker_info(1, 1, 1);
    uint32_t wa = sc_on_worker(s, &a, NULL, 0, 0);
    new_run(s, "anna", 0, j, 2);
    sc_assign(s, 0);
    assert_int_equal(s->worker[wa].leases, 2);
    sc_on_started(s, j[0], 0);
    uint32_t wb = sc_on_worker(s, &b, NULL, 0, 0);
    s->n_effects = 0;
    sc_on_tick(s, 100); /* too early: it may be about to start */
    assert_int_equal(s->worker[wb].leases, 0);
    sc_on_tick(s, 4000);
    sc_assign(s, 4000);
    assert_int_equal(s->worker[wb].leases, 1);
    assert_int_equal(s->job[j[1]].attempt, 2);
    assert_int_equal(sim_effects(s, SC_DO_DROP, j[1]), 1);
    assert_int_equal(s->job[j[0]].attempt, 1); /* what runs is left alone */
    sc_destroy(s);
}

static void needs_are_respected(void **state)
{
    struct sched *s = sc_create(NULL);
    char *names[] = {"jemalloc", "glibc", "mimalloc"};
    struct cn_hash fp = {{1}};
    struct sc_base b = {.gpu_bytes = 8, .gpus = 2, .hash = {{1}}};
    assert_int_equal(sc_allocators(names, 1, &b.allocators), 0);
    b.dataset = sc_dataset(s, &fp);
    uint32_t base = sc_base(s, &b), job = sim_job(s, EVALUATE, base, 1, 0, 0);
    struct sc_worker w = sim_worker_info(0, 1, 0);
    w.connected = true;
    struct cn_hash ds[] = {fp};
    assert_false(sc_suits(s, &w, &s->job[job]));
    w.gpu_bytes = 8;
    assert_false(sc_suits(s, &w, &s->job[job]));
    assert_int_equal(sc_allocators(names + 1, 2, &w.allocators), 1);
    assert_false(sc_suits(s, &w, &s->job[job]));
    w.allocators |= b.allocators;
    w.gpus = 1;
    assert_false(sc_suits(s, &w, &s->job[job]));
    w.gpus = 2;
    assert_false(sc_suits(s, &w, &s->job[job])); /* the dataset is nowhere */
    w.datasets = ds;
    w.n_datasets = 1;
    assert_true(sc_suits(s, &w, &s->job[job]));
    w.n_datasets = 0;
    sc_dataset_stored(s, b.dataset, true);
    assert_true(sc_suits(s, &w, &s->job[job]));
    w.kinds = 1u << TRAIN;
    assert_false(sc_suits(s, &w, &s->job[job]));
    sc_destroy(s);
}

static void cancel_takes_dependants_and_spares_others(void **state)
{
    struct chain c;
    chain_open(&c);
    uint32_t shared[] = {c.train};
    uint32_t other = new_run(c.s, "bert", 0, shared, 1);
    c.s->n_effects = 0;
    assert_int_equal(sc_cancel_run(c.s, c.run, 0), 3); /* all but what bert wants */
    assert_int_equal(state_of(&c, c.train), SC_LEASED);
    assert_int_equal(sim_effects(c.s, SC_DO_DROP, 0), 0);
    assert_int_equal(sc_run_state(c.s, c.run), SC_RUN_CANCELLED);
    assert_int_equal(sc_cancel_run(c.s, other, 0), 1);
    assert_int_equal(sim_effects(c.s, SC_DO_DROP, c.train), 1);
    assert_int_equal(result(&c, c.train, 1, SC_OK), CN_ESTALE);
    assert_int_equal(sc_retry_run(c.s, c.run, 0), 4);
    assert_int_equal(state_of(&c, c.train), SC_READY);
    assert_int_equal(state_of(&c, c.eval), SC_WAITING);
    assert_int_equal(sc_cancel_job(c.s, c.distill, 0), 3);
    assert_int_equal(state_of(&c, c.eval), SC_CANCELLED);
    assert_int_equal(state_of(&c, c.train), SC_READY);
    sc_destroy(c.s);
}

static void paused_runs_keep_still_unless_wanted_elsewhere(void **state)
{
    struct sched *s = sc_create(NULL);
    uint32_t base = sim_base(s, 1, 0),
             j[2] = {sim_job(s, TRAIN, base, 1, 0, 0), sim_job(s, TRAIN, base, 2, 0, 0)};
    uint32_t a = new_run(s, "anna", 0, j, 2);
    sc_pause(s, a, true, 0);
    struct sc_worker info = sim_worker_info(0, 4, 0);
    info.capacity = 4;
    sc_on_worker(s, &info, NULL, 0, 0);
    sc_assign(s, 0);
    assert_int_equal(s->total[SC_LEASED], 0);
    uint32_t b = new_run(s, "bert", 0, j, 1);
    sc_assign(s, 0);
    assert_int_equal(s->job[j[0]].state, SC_LEASED);
    assert_int_equal(s->job[j[1]].state, SC_READY);
    assert_int_equal(s->user[s->run[b].user].leased, 1); /* on bert's account */
    sc_pause(s, a, false, 0);
    sc_assign(s, 0);
    assert_int_equal(s->job[j[1]].state, SC_LEASED);
    sc_destroy(s);
}

static void draining_workers_get_nothing_new(void **state)
{
    struct chain c;
    chain_open(&c);
    sc_drain(c.s, c.worker, true);
    assert_int_equal(result(&c, c.train, 1, SC_OK), 0);
    assert_int_equal(state_of(&c, c.distill), SC_READY);
    char text[400];
    sc_explain(c.s, c.distill, 0, text, sizeof text);
    assert_non_null(strstr(text, "draining"));
    sc_drain(c.s, c.worker, false);
    sc_assign(c.s, 0);
    assert_int_equal(state_of(&c, c.distill), SC_LEASED);
    sc_destroy(c.s);
}

static void a_time_limit_ends_a_silent_overrun(void **state)
{
    struct chain c;
    chain_open(&c);
    c.s->run[c.run].time_limit_s = 60;
    sc_on_started(c.s, c.train, 0);
    for (int64_t t = 1000; t <= 80000; t += 1000) { /* it heartbeats happily */
        struct sc_held held = {.job = c.train, .attempt = 1, .started = true};
        sc_on_heartbeat(c.s, c.worker, &held, 1, t);
        sc_on_tick(c.s, t);
    }
    assert_int_equal(state_of(&c, c.train),
                     SC_LEASED); /* within the grace that the worker itself has to stop it */
    struct sc_held held = {.job = c.train, .attempt = 1, .started = true};
    sc_on_heartbeat(c.s, c.worker, &held, 1, 95000);
    c.s->n_effects = 0;
    sc_on_tick(c.s, 95000);
    assert_int_equal(state_of(&c, c.train), SC_READY);
    assert_int_equal(c.s->job[c.train].crashes, 1);
    assert_int_equal(sim_effects(c.s, SC_DO_DROP, c.train), 1);
    sc_destroy(c.s);
}

static void a_clock_step_loses_nothing(void **state)
{
    struct chain c;
    chain_open(&c);
    struct sc_held held = {.job = c.train, .attempt = 1, .started = true};
    sc_on_heartbeat(c.s, c.worker, &held, 1, 1000);
    sc_on_tick(c.s, 3600 * 1000); /* an hour ahead: everyone seems lost ... */
    sc_assign(c.s, 3600 * 1000);
    sc_on_heartbeat(c.s, c.worker, &held, 1,
                    3600 * 1000 + 1); /* ... and is back under the same attempt */
    assert_int_equal(state_of(&c, c.train), SC_LEASED);
    assert_int_equal(c.s->job[c.train].attempt, 1);
    sc_on_tick(c.s, 2000); /* and an hour back */
    assert_int_equal(state_of(&c, c.train), SC_LEASED);
    sc_on_tick(c.s, 2000 + 11000); /* silence is noticed on the new time */
    assert_int_equal(state_of(&c, c.train), SC_READY);
    sc_destroy(c.s);
}

static void jobs_are_small(void **state)
{
    assert_true(sizeof(struct sc_job) + sizeof(struct sc_want) + 2 * sizeof(struct sc_edge) + 12 <
                240);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transition_table),
        cmocka_unit_test(a_chain_runs_in_order),
        cmocka_unit_test(stale_and_doubled_results_change_nothing),
        cmocka_unit_test(crashes_count_and_losses_do_not),
        cmocka_unit_test(a_job_that_kills_its_workers_ends),
        cmocka_unit_test(a_lost_result_is_made_again),
        cmocka_unit_test(hopeless_fails_at_once),
        cmocka_unit_test(a_worker_that_comes_back_keeps_its_job),
        cmocka_unit_test(a_worker_that_comes_back_too_late_is_told_to_stop),
        cmocka_unit_test(a_lease_that_never_arrived_is_sent_again),
        cmocka_unit_test(priority_then_fair_share_then_chain),
        cmocka_unit_test(longest_chain_first),
        cmocka_unit_test(slots_fill_before_anything_is_prefetched),
        cmocka_unit_test(prefetched_jobs_move_to_an_idle_worker),
        cmocka_unit_test(needs_are_respected),
        cmocka_unit_test(cancel_takes_dependants_and_spares_others),
        cmocka_unit_test(paused_runs_keep_still_unless_wanted_elsewhere),
        cmocka_unit_test(draining_workers_get_nothing_new),
        cmocka_unit_test(a_time_limit_ends_a_silent_overrun),
        cmocka_unit_test(a_clock_step_loses_nothing),
        cmocka_unit_test(jobs_are_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
