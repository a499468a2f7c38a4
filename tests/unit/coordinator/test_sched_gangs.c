/* Gangs, and what a worker still lists: after a restart of the coordinator the worker alone knows which of its jobs run
 * together, and an attempt whose end was accepted is not taken up again because a heartbeat crossed it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sim_world.h"

static void new_run(struct sched *s, const uint32_t *jobs, int n)
{
    uint32_t run = sc_run_add(s, sc_user(s, "anna"), 0, false, 0);
    for (int i = 0; i < n; i++) sc_want_add(s, run, jobs[i]);
    sc_on_submit(s, run, 0);
}

static void gangs_are_of_equal_shape(void **state)
{
    struct sched *s = sc_create(NULL);
    uint32_t base = sim_base(s, 1, 0), other = sim_base(s, 2, 0), j[9];
    for (int i = 0; i < 6; i++) j[i] = sim_job(s, TRAIN, base, (uint64_t)i, 0, 0);
    for (int i = 6; i < 8; i++) j[i] = sim_job(s, TRAIN, other, (uint64_t)i, 0, 0);
    j[8] = sim_job(s, DISTILL, base, 0, j[0], 0);
    new_run(s, j, 9);
    struct sc_worker info = sim_worker_info(0, 2, 0);
    info.capacity = 2;
    info.max_gang = 4;
    uint32_t w = sc_on_worker(s, &info, NULL, 0, 0);
    sc_assign(s, 0);
    assert_int_equal(s->worker[w].units, 2);
    assert_int_equal(s->worker[w].leases,
                     6); /* four of one shape, then the two that are left of it */
    uint32_t unit = s->job[j[1]].unit;
    for (int i = 0; i < 9; i++)
        if (s->job[j[i]].unit == unit) assert_int_equal(s->job[j[i]].base, base);
    /* members end one by one; the place is free with the last */
    int ended = 0;
    for (int i = 0; i < 6; i++) {
        if (s->job[j[i]].unit != unit) continue;
        assert_int_equal(sc_on_result(s, w, j[i], 1, i == 2 ? SC_GIVEN_BACK : SC_OK, 0), 0);
        assert_int_equal(s->worker[w].units, ++ended < 4 ? 2 : 1);
    }
    assert_int_equal(ended, 4);
    sc_destroy(s);
}

/* Six jobs of one shape as a restart finds them: leased to one worker, which may hold two units of up to four. */
struct restarted {
    struct sched *s;
    struct sc_worker info;
    struct sc_held held[6];
    uint32_t job[6], spare;
};

static void restart(struct restarted *r)
{
    memset(r, 0, sizeof *r);
    struct sched *s = r->s = sc_create(NULL);
    uint32_t base = sim_base(s, 1, 0);
    r->info = sim_worker_info(0, 2, 0);
    r->info.max_gang = 4;
    assert_true(sc__grow(&s->worker, &s->cap_workers, 2, sizeof *s->worker));
    s->n_workers = 2;
    s->worker[1].used = true;
    memcpy(s->worker[1].instance, r->info.instance, sizeof r->info.instance);
    for (int i = 0; i < 7; i++) {
        struct sc_job j = {.kind = TRAIN, .base = base, .seed = (uint64_t)i + 1, .keep = 1};
        cn_hash_bytes(&j.seed, sizeof j.seed, &j.key);
        j.state = i < 6 ? SC_LEASED : SC_READY;
        j.attempt = j.worker = i < 6;
        uint32_t id = sc_job_add(s, &j, true);
        if (i < 6)
            r->job[i] = id;
        else
            r->spare = id;
        if (i < 6) r->held[i] = (struct sc_held){.job = id, .attempt = 1, .started = true};
    }
    uint32_t run = sc_run_add(s, sc_user(s, "anna"), 0, false, 0);
    for (int i = 0; i < 6; i++) sc_want_add(s, run, r->job[i]);
    sc_want_add(s, run, r->spare);
    sc_on_restart(s, 1000);
}

static void a_gang_is_one_unit_again_after_a_restart(void **state)
{
    struct restarted r;
    restart(&r);
    for (int i = 0; i < 4; i++) r.held[i].unit = 17;
    for (int i = 4; i < 6; i++) r.held[i].unit = 18;
    assert_int_equal(sc_on_worker(r.s, &r.info, r.held, 6, 1001), 1);
    assert_int_equal(r.s->worker[1].leases, 6);
    assert_int_equal(r.s->worker[1].units, 2);
    sc_assign(r.s, 1001);
    assert_int_equal(r.s->job[r.spare].state, SC_READY); /* both places are taken */
    for (int i = 0; i < 6; i++) {
        assert_int_equal(r.s->job[r.job[i]].unit == r.s->job[r.job[0]].unit, i < 4);
        assert_int_equal(r.s->job[r.job[i]].attempt, 1);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(r.s->worker[1].units, 2);
        assert_int_equal(sc_on_result(r.s, 1, r.job[i], 1, SC_OK, 1002), 0);
    }
    assert_int_equal(r.s->worker[1].units, 1); /* the place is free with the last member */
    sc_assign(r.s, 1003);
    assert_int_equal(r.s->job[r.spare].state, SC_LEASED);
    sc_destroy(r.s);
}

static void a_gang_that_was_thought_lost_comes_back_as_one(void **state)
{
    struct restarted r;
    restart(&r);
    sc_on_tick(r.s, 60000);
    assert_int_equal(r.s->job[r.job[0]].state, SC_READY);
    for (int i = 0; i < 6; i++) r.held[i].unit = i < 4 ? 5 : 0;
    assert_int_equal(sc_on_worker(r.s, &r.info, r.held, 6, 60001), 1);
    assert_int_equal(r.s->worker[1].leases, 6);
    assert_int_equal(r.s->worker[1].units, 3); /* a gang and two alone */
    sc_destroy(r.s);
}

/* Reconnecting takes longer than a heartbeat: three times as long as a worker may be silent. */
static void workers_have_longer_to_come_back_after_a_restart(void **state)
{
    struct restarted r;
    restart(&r);
    sc_on_tick(r.s, 1000 + 29000);
    assert_int_equal(r.s->job[r.job[0]].state, SC_LEASED);
    sc_on_worker(r.s, &r.info, r.held, 6, 30001);
    sc_on_tick(r.s, 30001 + 11000); /* then as always */
    assert_int_equal(r.s->job[r.job[0]].state, SC_READY);
    sc_destroy(r.s);
    restart(&r);
    sc_on_tick(r.s, 1000 + 31000);
    assert_int_equal(r.s->job[r.job[0]].state, SC_READY);
    sc_destroy(r.s);
}

/* A member whose lease got lost on its way is sent again, and then runs apart. */
static void a_member_that_runs_apart_is_counted_apart(void **state)
{
    struct restarted r;
    restart(&r);
    for (int i = 0; i < 6; i++) r.held[i].unit = 5;
    sc_on_worker(r.s, &r.info, r.held, 6, 1001);
    assert_int_equal(r.s->worker[1].units, 1);
    r.held[2].unit = 0;
    r.held[4].unit = r.held[5].unit = 6;
    sc_on_heartbeat(r.s, 1, r.held, 6, 1500);
    assert_int_equal(r.s->worker[1].units, 3);
    assert_int_equal(r.s->job[r.job[2]].unit, 0);
    assert_int_equal(r.s->job[r.job[4]].unit, r.s->job[r.job[5]].unit);
    assert_int_not_equal(r.s->job[r.job[4]].unit, r.s->job[r.job[0]].unit);
    sc_destroy(r.s);
}

/* A result and a heartbeat that still lists the job may cross. */
static void an_attempt_that_has_ended_is_not_taken_up_again(void **state)
{
    static const enum sc_outcome end[] = {SC_CRASHED, SC_GIVEN_BACK};
    for (int i = 0; i < 2; i++) {
        struct restarted r;
        restart(&r);
        sc_on_worker(r.s, &r.info, r.held, 6, 1001);
        assert_int_equal(sc_on_result(r.s, 1, r.job[0], 1, end[i], 1002), 0);
        r.s->n_effects = 0;
        sc_on_heartbeat(r.s, 1, r.held, 6, 1003);
        assert_int_equal(r.s->job[r.job[0]].state, SC_READY);
        assert_int_equal(sim_effects(r.s, SC_DO_DROP, r.job[0]), 1);
        sc_on_capacity(r.s, 1, 10);
        sc_assign(r.s, 1004);
        assert_int_equal(r.s->job[r.job[0]].attempt, 2);
        sc_destroy(r.s);
    }
}

/* A job that has several cards fills them by itself. */
static void jobs_of_several_cards_go_alone(void **state)
{
    struct sched *s = sc_create(NULL);
    uint32_t base = sim_base(s, 1, 0), j[3];
    s->base[base].gpus = 2;
    for (int i = 0; i < 3; i++) j[i] = sim_job(s, TRAIN, base, (uint64_t)i, 0, 0);
    new_run(s, j, 3);
    struct sc_worker info = sim_worker_info(0, 1, 0), more = sim_worker_info(1, 1, 0);
    info.capacity = more.capacity = 1;
    info.max_gang = more.max_gang = 4;
    info.gpus = 1;
    more.gpus = 2;
    uint32_t w = sc_on_worker(s, &info, NULL, 0, 0), v = sc_on_worker(s, &more, NULL, 0, 0);
    sc_assign(s, 0);
    assert_int_equal(s->worker[w].leases, 0);
    assert_int_equal(s->worker[v].leases, 1);
    sc_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gangs_are_of_equal_shape),
        cmocka_unit_test(jobs_of_several_cards_go_alone),
        cmocka_unit_test(a_gang_is_one_unit_again_after_a_restart),
        cmocka_unit_test(a_gang_that_was_thought_lost_comes_back_as_one),
        cmocka_unit_test(workers_have_longer_to_come_back_after_a_restart),
        cmocka_unit_test(a_member_that_runs_apart_is_counted_apart),
        cmocka_unit_test(an_attempt_that_has_ended_is_not_taken_up_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
