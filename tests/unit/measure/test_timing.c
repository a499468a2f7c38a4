/* Tests of the timed loop on a false machine (its clock, switches and probe are scripted), of the
 * statistics, of the allocator's proof and of the machine facts. No real time is asserted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/measure/around.h"
#include "cpu/measure/timing.h"

/* A machine in which reading the clock takes 20 ns, a look 1 µs and job j takes job_ns[j]. */
struct false_machine {
    int64_t now;
    int64_t job_ns[2];
    int64_t calls[2];
    int looks;
    int disturb_until;      /* looks before this number see a switch each */
    int slow_from, slow_to; /* looks in this range see a slow probe */
    int away_at;            /* from this look on, a millisecond was spent elsewhere */
    int migrate_at;         /* this look sees another core, and all later ones */
    char order[64];         /* which job began each of the first blocks */
};

static int64_t false_now(void *arg)
{
    return ((struct false_machine *)arg)->now += 20;
}

static void false_sense(void *arg, struct measure_sense *out)
{
    struct false_machine *m = arg;
    m->looks++;
    m->now += 1000;
    out->switches = m->looks < m->disturb_until ? m->looks : m->disturb_until;
    out->core = m->migrate_at && m->looks >= m->migrate_at ? 1 : 0;
    out->away_ns = m->away_at && m->looks >= m->away_at ? 1000000 : 0;
    out->probe_ns = m->looks >= m->slow_from && m->looks < m->slow_to ? 1300 : 1000;
}

static void job_a(void *arg)
{
    struct false_machine *m = arg;
    m->now += m->job_ns[0];
    m->calls[0]++;
    size_t n = strlen(m->order);
    if (n < 60 && (n == 0 || m->order[n - 1] != 'A')) m->order[n] = 'A';
}

static void job_b(void *arg)
{
    struct false_machine *m = arg;
    m->now += m->job_ns[1];
    m->calls[1]++;
    size_t n = strlen(m->order);
    if (n < 60 && (n == 0 || m->order[n - 1] != 'B')) m->order[n] = 'B';
}

static void run_false(struct false_machine *m, int jobs, int runs, struct measure_timing *t)
{
    struct measure_world w = {m, false_now, false_sense};
    struct measure_plan p = {.warmup = 10, .runs = runs, .jobs = jobs, .world = &w};
    p.job[0] = (struct measure_job){job_a, m};
    p.job[1] = (struct measure_job){job_b, m};
    assert_int_equal(measure_time(&p, t, NULL), 0);
}

static void quiet_machine_gives_the_exact_time(void **state)
{
    struct false_machine m = {.job_ns = {40000, 0}};
    struct measure_timing t;
    run_false(&m, 1, 1000, &t);
    /* The clock's 20 ns are inside each sample and subtracted again. */
    assert_float_equal(t.overhead_ns, 20, 1e-9);
    assert_float_equal(t.figures[0].mean_us, 40.0, 1e-9);
    assert_float_equal(t.figures[0].p99_us, 40.0, 1e-9);
    assert_float_equal(t.figures[0].std_us, 0, 1e-9);
    assert_int_equal(t.figures[0].n, 1000);
    assert_int_equal(t.figures[0].warmup, 10);
    assert_int_equal(t.figures[0].repeated, 0);
    assert_int_equal(t.figures[0].disturbed, 0);
    /* warm-ups, samples, and one untimed call after each look before a block */
    assert_int_equal(m.calls[0], 10 + 1000 + t.figures[0].blocks);
    assert_int_equal(t.pairs, 0);
    assert_int_equal(t.probe_ns, 1000);
}

static void a_switch_repeats_the_block(void **state)
{
    struct false_machine m = {.job_ns = {40000, 0}, .disturb_until = 4};
    struct measure_timing t;
    run_false(&m, 1, 1000, &t);
    /* looks 1-2 and 3-4 see the count grow; from the third block on it stands still */
    assert_int_equal(t.figures[0].repeated, 2);
    assert_int_equal(t.figures[0].disturbed, 0);
}

static void a_slow_probe_repeats_the_block(void **state)
{
    struct false_machine m = {.job_ns = {40000, 0}, .slow_from = 4, .slow_to = 6};
    struct measure_timing t;
    run_false(&m, 1, 1000, &t);
    assert_int_equal(t.figures[0].repeated, 2); /* looks 4 (after) and 5 (before) */
    assert_int_equal(t.figures[0].disturbed, 0);
}

static void a_migration_repeats_the_block(void **state)
{
    struct false_machine m = {.job_ns = {40000, 0}, .migrate_at = 2};
    struct measure_timing t;
    run_false(&m, 1, 1000, &t);
    assert_int_equal(t.figures[0].repeated, 1);
}

static void time_away_repeats_the_block(void **state)
{
    struct false_machine m = {.job_ns = {40000, 0}, .away_at = 4};
    struct measure_timing t;
    run_false(&m, 1, 1000, &t);
    assert_int_equal(t.figures[0].repeated, 1);
    assert_int_equal(t.figures[0].disturbed, 0);
}

static void a_machine_never_quiet_ends_and_says_so(void **state)
{
    struct false_machine m = {.job_ns = {40000, 0}, .disturb_until = 1 << 30};
    struct measure_timing t;
    run_false(&m, 1, 1000, &t);
    assert_int_equal(t.figures[0].n, 1000);
    assert_int_equal(t.figures[0].disturbed, t.figures[0].blocks);
    assert_true(t.figures[0].repeated <= 5 * t.figures[0].blocks);
    assert_true(t.figures[0].repeated > 0);
}

static void two_jobs_alternate_and_give_their_ratio(void **state)
{
    struct false_machine m = {.job_ns = {30000, 60000}};
    struct measure_timing t;
    run_false(&m, 2, 1000, &t);
    assert_float_equal(t.figures[0].mean_us, 30, 1e-9);
    assert_float_equal(t.figures[1].mean_us, 60, 1e-9);
    assert_int_equal(t.pairs, t.figures[0].blocks);
    for (int i = 0; i < t.pairs; i++) {
        assert_float_equal(t.pair_us[0][i], 30, 1e-9);
        assert_float_equal(t.pair_us[1][i], 60, 1e-9);
    }
    /* warm-up alternates call by call; then blocks go A B B A A B: runs of a letter merge */
    assert_int_equal(strncmp(m.order,
                             "ABABABABABABABABABAB"
                             "ABABAB",
                             26),
                     0);
    assert_true(t.figures[0].blocks > 3);
}

/* More blocks than one process tells: neighbours are put together, none is left out. */
static void many_blocks_are_told_in_few_pairs(void **state)
{
    struct false_machine m = {.job_ns = {900000, 300000}};
    struct measure_timing t;
    run_false(&m, 2, 3001, &t);
    assert_true(t.figures[0].blocks > MEASURE_PAIRS);
    assert_int_equal(t.pairs, MEASURE_PAIRS);
    assert_float_equal(t.pair_us[0][0], 900, 1e-9);
    assert_float_equal(t.pair_us[1][MEASURE_PAIRS - 1], 300, 1e-9);
}

static void bad_plans_are_refused(void **state)
{
    struct measure_timing t;
    struct cn_error err = {0};
    struct measure_plan p = {.warmup = 1, .runs = 0, .jobs = 1};
    assert_int_equal(measure_time(&p, &t, &err), CN_EINVALID);
    assert_non_null(strstr(err.text, "runs"));
}

/* numpy.percentile(range(1, 101), [50, 90, 99]) and numpy.std(..., ddof=1) */
static void statistics_are_numpys(void **state)
{
    double v[100];
    for (int i = 0; i < 100; i++) v[i] = (i * 37) % 100 + 1; /* 1..100, shuffled */
    struct measure_figures f = {0};
    measure_statistics(v, 100, &f);
    assert_float_equal(f.mean_us, 50.5, 1e-12);
    assert_float_equal(f.p50_us, 50.5, 1e-12);
    assert_float_equal(f.p90_us, 90.1, 1e-9);
    assert_float_equal(f.p99_us, 99.01, 1e-9);
    assert_float_equal(f.std_us, 29.011491975882016, 1e-9);
    assert_float_equal(f.min_us, 1, 0);
    assert_float_equal(f.max_us, 100, 0);
    double one[1] = {7};
    measure_statistics(one, 1, &f);
    assert_float_equal(f.std_us, 0, 0);
    assert_float_equal(f.p99_us, 7, 0);
    assert_int_equal(f.processes, 1);
    assert_float_equal(f.p50_low_us, 7, 0);
}

/* Of three processes: mean and deviation as of all samples in one list, percentiles the median of
 * the processes' own, least and most p50 as the spread. */
static void processes_are_put_together(void **state)
{
    double all[60], part[3][20], p50[3];
    struct measure_figures one[3] = {{0}}, pooled = {0}, f;
    for (int i = 0; i < 60; i++) all[i] = part[i / 20][i % 20] = 10 * (i / 20) + (i * 7) % 20;
    for (int k = 0; k < 3; k++) {
        measure_statistics(part[k], 20, &one[k]);
        one[k].blocks = 4;
        one[k].repeated = k;
        one[k].disturbed = k == 2;
        one[k].warmup = 100;
    }
    measure_combine(one, 3, p50, &f);
    measure_statistics(all, 60, &pooled);
    assert_int_equal(f.n, 60);
    assert_int_equal(f.processes, 3);
    assert_int_equal(f.warmup, 100);
    assert_float_equal(f.mean_us, pooled.mean_us, 1e-12);
    assert_float_equal(f.std_us, pooled.std_us, 1e-9);
    assert_float_equal(f.min_us, pooled.min_us, 0);
    assert_float_equal(f.max_us, pooled.max_us, 0);
    assert_float_equal(f.p50_us, 19.5, 1e-12); /* the processes' are 9.5, 19.5, 29.5 */
    assert_float_equal(f.p50_low_us, 9.5, 1e-12);
    assert_float_equal(f.p50_high_us, 29.5, 1e-12);
    assert_float_equal(p50[2], 29.5, 1e-12);
    assert_float_equal(f.p99_us, one[1].p99_us, 0);
    assert_true(f.blocks == 12 && f.repeated == 3 && f.disturbed == 1);
}

/* The interval must hold the ratio, and shrink when the pairs agree. */
static void ratio_interval_follows_the_spread(void **state)
{
    double a[200], b[200], wide[2], narrow[2], r;
    const int one[] = {200}, five[] = {40, 40, 40, 40, 40};
    for (int i = 0; i < 200; i++) {
        a[i] = 10 + (i % 7) * 0.5;
        b[i] = 20 + (i % 5) * 1.0;
    }
    assert_int_equal(measure_ratio(a, b, one, 1, &r, wide), 0);
    assert_true(wide[0] < r && r < wide[1]);
    for (int i = 0; i < 200; i++) {
        a[i] = 10 + (i % 7) * 0.05;
        b[i] = 20 + (i % 5) * 0.1;
    }
    assert_int_equal(measure_ratio(a, b, one, 1, &r, narrow), 0);
    assert_true(narrow[1] - narrow[0] < 0.3 * (wide[1] - wide[0]));
    /* Processes that differ widen the interval, although the pairs within each agree. */
    for (int i = 0; i < 200; i++) a[i] = 10 * (1 + 0.02 * (i / 40));
    for (int i = 0; i < 200; i++) b[i] = 20;
    double pairs[2];
    assert_int_equal(measure_ratio(a, b, one, 1, &r, pairs), 0);
    assert_int_equal(measure_ratio(a, b, five, 5, &r, wide), 0);
    assert_float_equal(r, 0.52, 1e-12);
    assert_true(wide[1] - wide[0] > 3 * (pairs[1] - pairs[0]));
}

static const char *const quiet_stat = "cpu  0 0 0 0 0 0 0 0 0 0\n"
                                      "cpu0 100 0 10 1000 5 0 0 0 0 0\n"
                                      "cpu1 200 0 20 2000 5 0 0 0 0 0\n"
                                      "cpu2 300 0 30 3000 5 0 0 0 0 0\nintr 5\n";

static const char *words_between(const char *before, const char *after, int core, int sibling,
                                 double cpu_s)
{
    static char words[400];
    struct around_look a, b;
    around_parse(before, core, sibling, &a);
    around_parse(after, core, sibling, &b);
    *words = 0;
    around_words(&a, &b, core, cpu_s, 100, words, sizeof words);
    return words;
}

/* Work beside the measurement, on its core, its hyperthread, or the other cores, is told; the
 * measurement's own is not. */
static void what_the_machine_did_beside_is_told(void **state)
{
    const char *own = "cpu0 100 0 10 1100 5 0 0 0\ncpu1 298 0 22 2000 5 0 0 0\n"
                      "cpu2 300 0 30 3100 5 0 0 0\n";
    assert_string_equal(words_between(quiet_stat, own, 1, -1, 1), "");
    assert_string_equal(words_between(quiet_stat, own, 1, -1, 0.4),
                        "other work took 60 % of core 1");
    const char *busy = "cpu0 200 0 10 1000 5 0 0 0\ncpu1 298 0 22 2000 5 0 0 0\n"
                       "cpu2 300 0 30 3100 5 0 0 0\n";
    assert_string_equal(words_between(quiet_stat, busy, 1, -1, 1),
                        "the other cores were busy for 50 %");
    assert_string_equal(words_between(quiet_stat, busy, 1, 0, 1),
                        "the core's other hyperthread was busy for 100 %");
    const char *stolen = "cpu0 100 0 10 1100 5 0 0 0\ncpu1 290 0 20 2000 5 0 0 10\n"
                         "cpu2 300 0 30 3100 5 0 0 0\n";
    assert_string_equal(words_between(quiet_stat, stolen, 1, -1, 0.9),
                        "the hypervisor took 10 % of core 1");
    /* three ticks of thirty are no fact, and a kernel that tells nothing is no disturbance */
    const char *few = "cpu0 103 0 10 1007 5 0 0 0\ncpu1 210 0 20 2000 5 0 0 0\n";
    assert_string_equal(words_between(quiet_stat, few, 1, -1, 0.1), "");
    assert_string_equal(words_between("", busy, 1, -1, 0), "");
}

static void proof_names_the_live_allocator(void **state)
{
    struct measure_proof p;
    measure_allocator_proof(&p);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    assert_string_equal(p.name, "other"); /* the sanitizer's own malloc */
#else
    assert_string_equal(p.name, "glibc");
    assert_true(p.counted);
    assert_non_null(strstr(p.library, "libc"));
    assert_true(p.version[0] == '2');
#endif
}

static void machine_facts_are_json_with_every_key(void **state)
{
    char *text = measure_machine_json(0);
    assert_non_null(text);
    json_t *o = json_loads(text, 0, NULL);
    assert_non_null(o);
    const char *keys[] = {"cpu",      "cpuinfo_mhz",
                          "virtual",  "cores",
                          "governor", "driver",
                          "mhz_now",  "turbo",
                          "smt",      "load",
                          "kernel",   "clocksource",
                          "steal_s",  "clock_resolution_ns"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        assert_non_null(json_object_get(o, keys[i]));
    assert_true(json_integer_value(json_object_get(o, "cores")) >= 1);
    assert_true(json_array_size(json_object_get(o, "load")) == 3);
    json_decref(o);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quiet_machine_gives_the_exact_time),
        cmocka_unit_test(a_switch_repeats_the_block),
        cmocka_unit_test(a_slow_probe_repeats_the_block),
        cmocka_unit_test(a_migration_repeats_the_block),
        cmocka_unit_test(time_away_repeats_the_block),
        cmocka_unit_test(a_machine_never_quiet_ends_and_says_so),
        cmocka_unit_test(two_jobs_alternate_and_give_their_ratio),
        cmocka_unit_test(many_blocks_are_told_in_few_pairs),
        cmocka_unit_test(bad_plans_are_refused),
        cmocka_unit_test(statistics_are_numpys),
        cmocka_unit_test(processes_are_put_together),
        cmocka_unit_test(ratio_interval_follows_the_spread),
        cmocka_unit_test(what_the_machine_did_beside_is_told),
        cmocka_unit_test(proof_names_the_live_allocator),
        cmocka_unit_test(machine_facts_are_json_with_every_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
