/* A coordinator in this process, with null workers and clients over real sockets: a grid runs
 * through its whole DAG. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "harness.h"

static void a_grid_runs_through(void **state)
{
    struct fixture f;
    fixture_open(&f, NULL);
    fixture_worker(&f, (struct null_options){.slots = 4, .epochs = 3});
    struct grid g = {
        .seeds = 2, .distill = true, .rounds = {1, 3}, .keep = {0.5, 0.125}, .norms = {"L1", "L2"}};
    Cinch__Submitted *s = fixture_submit(&f, &g);
    /* per seed: train, distill; 2 kinds x (1 + 3 rounds) x 2 keeps x 2 norms prunes; 2 + 2 x 8
     * evaluations */
    assert_int_equal(s->jobs, 2 * (2 + 2 * 4 * 4 + 18));
    assert_int_equal(s->cells, 2 * 18);
    fixture_wait(&f, s->run, "done", 20);
    char *report;
    assert_int_equal(pr_query(f.client, CINCH__QUERY__WHAT__REPORT, s->run, &report, &f.err), 0);
    assert_int_equal(count(report, "\"auroc_int8\":"), 2 * 18);
    assert_non_null(strstr(report, "\"failed\":[]"));
    free(report);
    pr_free(s);
    fixture_close(&f);
}

/* The worker counts a result when its acknowledgement arrives: a moment after the run shows as
 * done. */
static void wait_done(struct fixture *f, long n)
{
    for (int i = 0; i < 500 && atomic_load(&f->done) < n; i++) cn_sleep_ms(10);
    cn_sleep_ms(50);
    assert_int_equal(atomic_load(&f->done), n);
}

static void the_same_grid_again_costs_nothing(void **state)
{
    struct fixture f;
    fixture_open(&f, NULL);
    fixture_worker(&f, (struct null_options){.slots = 2, .epochs = 1});
    struct grid g = {.seeds = 3, .rounds = {2}, .keep = {0.5}, .norms = {"L1"}};
    Cinch__Submitted *a = fixture_submit(&f, &g), *b;
    fixture_wait(&f, a->run, "done", 20);
    long done = a->jobs;
    wait_done(&f, done);
    b = fixture_submit(&f, &g);
    assert_int_equal(b->reused, b->jobs);
    assert_string_not_equal(a->run, b->run);
    fixture_wait(&f, b->run, "done", 1);
    wait_done(&f, done);
    pr_free(b);
    g.fresh = true;
    b = fixture_submit(&f, &g);
    assert_int_equal(b->reused, 0);
    fixture_wait(&f, b->run, "done", 20);
    wait_done(&f, 2 * done);
    pr_free(a);
    pr_free(b);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_grid_runs_through),
        cmocka_unit_test(the_same_grid_again_costs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
