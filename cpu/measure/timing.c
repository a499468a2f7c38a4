/* timing.c - times single inferences one by one, in blocks that are thrown away when disturbed.
 *
 * Purpose: mean and percentiles of a quiet core, as study A measured: warm-up, then `runs` timed
 * single calls. Method: the samples are cut into blocks of about two milliseconds. Before and after
 * each block the loop looks at this thread's involuntary context switches, the core it runs on, how
 * much wall time it spent without a processor (a switch, or where the kernel knows it a hypervisor)
 * and a probe: a fixed chain of dependent multiplications, whose duration is the inverse of the
 * core's real frequency (it works inside virtual machines, where nothing else tells). A block with a
 * switch, a migration, time away, or a probe 15 % slower than the fastest so far is timed again.
 * After five times as many blocks as needed the rest is kept and counted as disturbed: the caller
 * sees that the machine never got quiet. One untimed call follows each look, so that the look itself
 * leaves no trace in the caches. Caveat: stolen time that the kernel does not know of shows only as
 * slow samples (p99).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "cpu/measure/timing.h"

#define BLOCK_NS 2000000 /* wanted duration of a block */
#define BLOCK_MIN 3
#define BLOCK_MAX 100
#define ATTEMPTS 5        /* blocks timed at most, as a multiple of the blocks needed */
#define AWAY_NS 20000     /* without a processor, in one block */
#define SLOW_PROBE 1.15   /* a probe this much over the fastest marks its block */
#define PROBE_STEPS 8000  /* × 3 cycles ≈ 6-10 µs */
#define CLOCK_READS 20001 /* to find the clock's own cost */

static int64_t real_now_ns(void *arg)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Dependent multiplications in registers: each waits for the one before. */
static int64_t probe_ns(void)
{
    uint64_t x = 3;
    int64_t t0 = real_now_ns(NULL);
    for (int i = 0; i < PROBE_STEPS; i++) {
        x *= x;
        __asm__ volatile("" : "+r"(x));
    }
    return real_now_ns(NULL) - t0;
}

static void real_sense(void *arg, struct measure_sense *out)
{
    struct rusage u;
    getrusage(RUSAGE_THREAD, &u);
    out->switches = u.ru_nivcsw;
    out->core = sched_getcpu();
    struct timespec cpu;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    out->away_ns = real_now_ns(NULL) - ((int64_t)cpu.tv_sec * 1000000000 + cpu.tv_nsec);
    out->probe_ns = probe_ns();
}

static const struct measure_world real_world = {NULL, real_now_ns, real_sense};

/* One loop's state. */
struct loop {
    const struct measure_plan *plan;
    const struct measure_world *world;
    double overhead_ns;
    int64_t best_probe_ns;
    int per_block, blocks_needed, attempts_left;
    double *sample_us[2];            /* [plan->runs] each */
    double *mean_us[2];              /* [blocks_needed]: the means of kept blocks, for the ratio */
    struct measure_figures *figures; /* [2] */
};

/* The cost of the clock: what it shows between reads that have nothing in between. */
static int clock_overhead(const struct measure_world *w, double *ns)
{
    double *d = malloc((CLOCK_READS - 1) * sizeof *d);
    if (!d) return CN_ENOMEM;
    int64_t last = w->now_ns(w->arg);
    for (int i = 0; i < CLOCK_READS - 1; i++) {
        int64_t now = w->now_ns(w->arg);
        d[i] = (double)(now - last);
        last = now;
    }
    /* The mean without the slowest 1 %: right on a coarse clock too, where a median would be 0. */
    struct measure_figures f = {0};
    measure_statistics(d, CLOCK_READS - 1, &f);
    double sum = 0;
    int n = 0;
    for (int i = 0; i < CLOCK_READS - 1; i++) {
        if (d[i] > f.p99_us) break; /* sorted: interrupts sit at the end */
        sum += d[i];
        n++;
    }
    *ns = n ? sum / n : 0;
    free(d);
    return 0;
}

static void warm_up(struct loop *l)
{
    int64_t t0 = l->world->now_ns(l->world->arg);
    for (int i = 0; i < l->plan->warmup; i++)
        for (int j = 0; j < l->plan->jobs; j++) l->plan->job[j].run(l->plan->job[j].arg);
    int64_t spent = l->world->now_ns(l->world->arg) - t0;
    int calls = l->plan->warmup * l->plan->jobs;
    int64_t each = calls ? spent / calls : 0;
    int64_t per_block = each > 0 ? BLOCK_NS / each : BLOCK_MAX;
    if (per_block < BLOCK_MIN) per_block = BLOCK_MIN;
    if (per_block > BLOCK_MAX) per_block = BLOCK_MAX;
    if (per_block > l->plan->runs) per_block = l->plan->runs;
    l->per_block = (int)per_block;
    l->blocks_needed = (l->plan->runs + l->per_block - 1) / l->per_block;
    l->attempts_left = ATTEMPTS * l->blocks_needed * l->plan->jobs;
}

/* Times n calls of job j into `us`. */
static void time_calls(const struct loop *l, int j, int n, double *us)
{
    const struct measure_job *job = &l->plan->job[j];
    const struct measure_world *w = l->world;
    job->run(job->arg);
    for (int i = 0; i < n; i++) {
        int64_t t0 = w->now_ns(w->arg);
        job->run(job->arg);
        int64_t t1 = w->now_ns(w->arg);
        double ns = (double)(t1 - t0) - l->overhead_ns;
        us[i] = ns > 0 ? ns * 1e-3 : 0;
    }
}

static bool is_disturbed(struct loop *l, const struct measure_sense *a,
                         const struct measure_sense *b)
{
    if (a->probe_ns < l->best_probe_ns) l->best_probe_ns = a->probe_ns;
    if (b->probe_ns < l->best_probe_ns) l->best_probe_ns = b->probe_ns;
    double limit = (double)l->best_probe_ns * SLOW_PROBE;
    return a->switches != b->switches || a->core != b->core || b->away_ns - a->away_ns > AWAY_NS ||
           (double)a->probe_ns > limit || (double)b->probe_ns > limit;
}

/* Times block k of job j, again while it is disturbed and attempts are left. */
static void one_block(struct loop *l, int j, int k)
{
    int at = k * l->per_block;
    int n = l->plan->runs - at < l->per_block ? l->plan->runs - at : l->per_block;
    struct measure_figures *f = &l->figures[j];
    for (;;) {
        struct measure_sense before, after;
        l->world->sense(l->world->arg, &before);
        time_calls(l, j, n, l->sample_us[j] + at);
        l->world->sense(l->world->arg, &after);
        l->attempts_left--;
        bool disturbed = is_disturbed(l, &before, &after);
        /* Attempts must still reach for every block that is not timed yet. */
        int still = (l->blocks_needed - k) * l->plan->jobs;
        if (!disturbed || l->attempts_left < still) {
            f->blocks++;
            f->disturbed += disturbed;
            break;
        }
        f->repeated++;
    }
    double sum = 0;
    for (int i = 0; i < n; i++) sum += l->sample_us[j][at + i];
    l->mean_us[j][k] = sum / n;
}

static void all_blocks(struct loop *l)
{
    l->best_probe_ns = INT64_MAX;
    for (int k = 0; k < l->blocks_needed; k++) {
        /* A B, B A, A B ...: a drift meets both alike. */
        for (int i = 0; i < l->plan->jobs; i++)
            one_block(l, l->plan->jobs == 2 && k % 2 ? 1 - i : i, k);
    }
}

/* Means of blocks of both jobs, neighbours put together until they fit. */
static void tell_pairs(const struct loop *l, struct measure_timing *out)
{
    out->pairs = l->blocks_needed < MEASURE_PAIRS ? l->blocks_needed : MEASURE_PAIRS;
    for (int g = 0; g < out->pairs; g++) {
        int from = (int)((int64_t)g * l->blocks_needed / out->pairs);
        int to = (int)((int64_t)(g + 1) * l->blocks_needed / out->pairs);
        for (int j = 0; j < 2; j++) {
            double sum = 0;
            for (int k = from; k < to; k++) sum += l->mean_us[j][k];
            out->pair_us[j][g] = sum / (to - from);
        }
    }
}

static int loop_alloc(struct loop *l)
{
    for (int j = 0; j < l->plan->jobs; j++) {
        l->sample_us[j] = calloc((size_t)l->plan->runs, sizeof(double));
        l->mean_us[j] = calloc((size_t)l->plan->runs, sizeof(double));
        if (!l->sample_us[j] || !l->mean_us[j]) return CN_ENOMEM;
    }
    return 0;
}

int measure_time(const struct measure_plan *plan, struct measure_timing *out, struct cn_error *err)
{
    memset(out, 0, sizeof *out);
    if (plan->runs < 1 || plan->warmup < 0 || plan->jobs < 1 || plan->jobs > 2)
        return cn_fail(err, CN_EINVALID, "measure: runs must be at least 1 and warm-ups 0 or more");
    struct loop l = {.plan = plan, .figures = out->figures};
    l.world = plan->world ? plan->world : &real_world;
    int rc = loop_alloc(&l);
    if (rc == 0) rc = clock_overhead(l.world, &l.overhead_ns);
    if (rc == 0) {
        warm_up(&l);
        all_blocks(&l);
        out->overhead_ns = l.overhead_ns;
        out->probe_ns = l.best_probe_ns;
        if (plan->jobs == 2) tell_pairs(&l, out);
        for (int j = 0; j < plan->jobs; j++) {
            measure_statistics(l.sample_us[j], plan->runs, &out->figures[j]);
            out->figures[j].warmup = plan->warmup;
        }
    }
    for (int j = 0; j < 2; j++) {
        free(l.sample_us[j]);
        free(l.mean_us[j]);
    }
    return rc ? cn_fail(err, rc, "measure: out of memory for %d samples", plan->runs) : 0;
}
