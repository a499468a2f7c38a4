/* What orders do to runs and jobs in every state (the table of coordinator/control.c, spelled out again), and
 * what one user's submit means for jobs that another user wants too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "sim_world.h"

/* One run of a training (j1) and what is built on it (j2); another (j3) beside them; and a worker. */
struct stage {
    struct sched *s;
    uint32_t run, train, prune, beside, worker;
};

static uint32_t new_run(struct sched *s, const char *user, int priority, uint32_t limit,
                        const uint32_t *jobs, int n)
{
    uint32_t run = sc_run_add(s, sc_user(s, user), priority, false, limit);
    for (int i = 0; i < n; i++) sc_want_add(s, run, jobs[i]);
    sc_on_submit(s, run, 0);
    return run;
}

static void stage_open(struct stage *t)
{
    t->s = sc_create(NULL);
    uint32_t base = sim_base(t->s, 1, 0);
    t->train = sim_job(t->s, TRAIN, base, 1, 0, 0);
    t->prune = sim_job(t->s, PRUNE, base, 1, t->train, 0);
    t->beside = sim_job(t->s, TRAIN, base, 2, 0, 0);
    uint32_t jobs[] = {t->train, t->prune, t->beside};
    t->run = new_run(t->s, "anna", 0, 0, jobs, 3);
    struct sc_worker w = sim_worker_info(0, 1, 0);
    t->worker = sc_on_worker(t->s, &w, NULL, 0, 0);
}

/* The worker takes what there is, one after another, and ends each so. */
static void work(struct stage *t, enum sc_outcome how)
{
    for (sc_assign(t->s, 0); t->s->worker[t->worker].lease; sc_assign(t->s, 0)) {
        uint32_t id = t->s->worker[t->worker].lease;
        assert_int_equal(sc_on_result(t->s, t->worker, id, t->s->job[id].attempt, how, 0), 0);
    }
}

enum from { WAITING, RUNNING, PAUSED, DONE, FAILED, CANCELLED, FROMS };
enum order { CANCEL, RETRY, PAUSE, RESUME, PRIORITY, ORDERS };

static void bring_to(struct stage *t, enum from from)
{
    stage_open(t);
    if (from == RUNNING) sc_assign(t->s, 0);
    if (from == PAUSED) assert_true(sc_pause(t->s, t->run, true, 0));
    if (from == DONE) work(t, SC_OK);
    if (from == FAILED) work(t, SC_HOPELESS);
    if (from == CANCELLED) assert_int_equal(sc_cancel_run(t->s, t->run, 0), 3);
}

static uint32_t give(struct stage *t, enum order o)
{
    switch (o) {
    case CANCEL:
        return sc_cancel_run(t->s, t->run, 0);
    case RETRY:
        return sc_retry_run(t->s, t->run, 0);
    case PRIORITY:
        return sc_priority(t->s, t->run, 7, 0);
    default:
        return sc_pause(t->s, t->run, o == PAUSE, 0);
    }
}

static void every_order_in_every_state(void **state)
{
    enum { W = SC_RUN_WAITING, R, D, F, C };
    /* the state that it leads to; paused; how much changed */
    static const struct {
        int state, paused;
        uint32_t changed;
    } want[FROMS][ORDERS] = {
        /*            cancel     retry      pause      resume     priority */
        [WAITING] = {{C, 0, 3}, {W, 0, 0}, {W, 1, 1}, {W, 0, 0}, {W, 0, 1}},
        [RUNNING] = {{C, 0, 3}, {R, 0, 0}, {R, 1, 1}, {R, 0, 0}, {R, 0, 1}},
        [PAUSED] = {{C, 0, 3}, {W, 1, 0}, {W, 1, 0}, {W, 0, 1}, {W, 1, 1}},
        [DONE] = {{D, 0, 0}, {D, 0, 0}, {D, 0, 0}, {D, 0, 0}, {D, 0, 0}},
        [FAILED] = {{C, 0, 1}, {W, 0, 2}, {F, 0, 0}, {F, 0, 0}, {F, 0, 1}},
        [CANCELLED] = {{C, 0, 0}, {W, 0, 3}, {C, 0, 0}, {C, 0, 0}, {C, 0, 1}},
    };
    for (int from = 0; from < FROMS; from++)
        for (int o = 0; o < ORDERS; o++) {
            struct stage t;
            bring_to(&t, (enum from)from);
            uint32_t changed = give(&t, (enum order)o);
            int got = sc_run_state(t.s, t.run), paused = sc_run_paused(t.s, t.run);
            if (got != want[from][o].state || paused != want[from][o].paused ||
                changed != want[from][o].changed)
                fail_msg("from %d by %d: %d, paused %d, changed %u", from, o, got, paused, changed);
            /* once more is no change, and after all of it the run can still come to its end */
            give(&t, (enum order)o);
            assert_int_equal(sc_run_state(t.s, t.run), want[from][o].state);
            sc_retry_run(t.s, t.run, 0);
            sc_pause(t.s, t.run, false, 0);
            work(&t, SC_OK);
            assert_int_equal(sc_run_state(t.s, t.run), SC_RUN_DONE);
            sc_destroy(t.s);
        }
}

static const char *explained(const struct stage *t, uint32_t job)
{
    static char text[600];
    sc_explain(t->s, job, 0, text, sizeof text);
    return text;
}

static void a_job_of_a_cancelled_run_comes_back_with_what_it_builds_on(void **state)
{
    struct stage t;
    bring_to(&t, CANCELLED);
    assert_true(sc_may_retry(t.s, t.prune));
    assert_int_equal(sc_retry_job(t.s, t.prune, t.run, 0), 2);
    assert_int_equal(t.s->job[t.train].state, SC_READY);
    assert_int_equal(t.s->job[t.prune].state, SC_WAITING);
    assert_int_equal(t.s->job[t.beside].state, SC_CANCELLED);
    assert_int_equal(sc_run_state(t.s, t.run), SC_RUN_WAITING);
    work(&t, SC_OK);
    assert_int_equal(t.s->job[t.prune].state, SC_SUCCEEDED);
    assert_int_equal(sc_run_state(t.s, t.run), SC_RUN_CANCELLED); /* the rest still is */
    assert_int_equal(sc_retry_job(t.s, t.prune, 0, 0), 0);        /* nothing undoes a success */
    assert_int_equal(sc_retry_run(t.s, t.run, 0), 1);
    work(&t, SC_OK);
    assert_int_equal(sc_run_state(t.s, t.run), SC_RUN_DONE);
    sc_destroy(t.s);
}

static void a_retry_in_a_paused_run_waits_and_says_so(void **state)
{
    struct stage t;
    bring_to(&t, WAITING);
    sc_cancel_job(t.s, t.train, 0);
    sc_pause(t.s, t.run, true, 0);
    assert_int_equal(sc_retry_job(t.s, t.train, 0, 0), 1);
    sc_assign(t.s, 0);
    assert_int_equal(t.s->job[t.train].state, SC_READY);
    assert_true(sc_run_paused(t.s, t.run));
    assert_non_null(strstr(explained(&t, t.train), "r1 is paused"));
    char text[600];
    sc_explain_run(t.s, t.run, 0, text, sizeof text);
    assert_non_null(strstr(text, "the run is paused"));
    sc_pause(t.s, t.run, false, 0);
    work(&t, SC_OK);
    assert_int_equal(t.s->job[t.train].state, SC_SUCCEEDED);
    sc_destroy(t.s);
}

/* As an older version left it: retried in a cancelled run, so ready and wanted by nobody. */
static void a_start_cancels_what_no_live_run_wants(void **state)
{
    struct stage t;
    bring_to(&t, WAITING);
    t.s->run[t.run].cancelled = true;
    sc_on_restart(t.s, 0);
    assert_int_equal(t.s->job[t.train].state, SC_CANCELLED);
    assert_int_equal(t.s->n_ready, 0);
    sc_destroy(t.s);
}

static void a_shared_job_has_the_longest_limit_of_its_live_runs(void **state)
{
    struct stage t;
    stage_open(&t);
    uint32_t shared[] = {t.beside}, own = sim_job(t.s, TRAIN, 1, 77, 0, 0);
    uint32_t bert = new_run(t.s, "bert", 1000, 1, shared, 1);
    assert_int_equal(sc_time_limit(t.s, t.beside), 0); /* anna's has none: bert's is not hers */
    sc_cancel_run(t.s, t.run, 0);
    assert_int_equal(sc_time_limit(t.s, t.beside), 1); /* a cancelled run asks for nothing */
    uint32_t cleo = new_run(t.s, "cleo", -5, 60, shared, 1);
    assert_int_equal(sc_time_limit(t.s, t.beside), 60);
    sc_pause(t.s, cleo, true, 0);
    assert_int_equal(sc_time_limit(t.s, t.beside), 60); /* a paused one is live */
    sc_cancel_run(t.s, cleo, 0);
    sc_cancel_run(t.s, bert, 0);
    uint32_t alone[] = {own};
    new_run(t.s, "bert", 0, 5, alone, 1);
    assert_int_equal(sc_time_limit(t.s, own), 5);
    sc_destroy(t.s);
}

static uint32_t next_of(struct stage *t)
{
    sc_assign(t->s, 0);
    uint32_t id = t->s->worker[t->worker].lease;
    assert_int_equal(sc_on_result(t->s, t->worker, id, t->s->job[id].attempt, SC_OK, 0), 0);
    return id;
}

/* Each run asks for a shared job under its own priority and in its own user's turn. */
static void a_shared_job_stands_in_the_queue_of_each_run(void **state)
{
    struct stage t;
    stage_open(&t);
    struct sched *s = t.s;
    uint32_t base = 1, mine = sim_job(s, TRAIN, base, 50, 0, 0), shared[] = {t.beside, mine};
    uint32_t bert = new_run(s, "bert", 3, 0, shared, 2);
    assert_int_equal(s->job[t.beside].queued, 2);
    sc_assign(s, 0); /* bert's priority, so bert's turn and bert's lease */
    assert_int_equal(s->worker[t.worker].lease, t.beside);
    assert_int_equal(s->job[t.beside].payer, s->run[bert].user);
    sc_on_result(s, t.worker, t.beside, 1, SC_GIVEN_BACK, 0);
    sc_priority(s, bert, -3, 0); /* and back where anna's own order has it */
    assert_int_equal(s->job[t.beside].queued, 2);
    assert_int_equal(next_of(&t), t.train);
    sc_cancel_run(s, bert, 0); /* what bert takes away is bert's */
    assert_int_equal(s->job[mine].state, SC_CANCELLED);
    assert_int_equal(s->job[t.beside].queued, 1);
    assert_int_equal(next_of(&t), t.prune);
    sc_assign(s, 0);
    assert_int_equal(s->worker[t.worker].lease, t.beside);
    assert_int_equal(s->job[t.beside].payer, s->run[t.run].user);
    sc_destroy(s);
}

/* Anna has many leases, bert none: a job that both want is bert's turn as much as his own are. */
static void fairness_counts_for_shared_jobs_too(void **state)
{
    struct stage t;
    stage_open(&t);
    struct sched *s = t.s;
    uint32_t shared[] = {t.beside};
    uint32_t bert = new_run(s, "bert", 0, 0, shared, 1);
    s->user[s->run[t.run].user].leased = 5;
    sc_assign(s, 0);
    assert_int_equal(s->worker[t.worker].lease, t.beside);
    assert_int_equal(s->job[t.beside].payer, s->run[bert].user);
    sc_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_order_in_every_state),
        cmocka_unit_test(a_job_of_a_cancelled_run_comes_back_with_what_it_builds_on),
        cmocka_unit_test(a_retry_in_a_paused_run_waits_and_says_so),
        cmocka_unit_test(a_start_cancels_what_no_live_run_wants),
        cmocka_unit_test(a_shared_job_has_the_longest_limit_of_its_live_runs),
        cmocka_unit_test(a_shared_job_stands_in_the_queue_of_each_run),
        cmocka_unit_test(fairness_counts_for_shared_jobs_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
