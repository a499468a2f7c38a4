/* cpu/measure/timing.h - the timed loop and its statistics; private to cinch-lat and the tests. */
#ifndef CINCH_CPU_MEASURE_TIMING_H
#define CINCH_CPU_MEASURE_TIMING_H

#include "cpu/measure/measure.h"

/* What is looked at between blocks to tell whether the last one was disturbed. */
struct measure_sense {
    long switches;    /* involuntary context switches of this thread */
    int core;         /* where it runs */
    int64_t away_ns;  /* wall time minus processor time so far: grows while somebody else runs */
    int64_t probe_ns; /* duration of a fixed chain of dependent multiplications: the inverse of the
                         clock frequency, and longer when the core was taken away */
};

/* The outside world, so that tests can play it. All NULL: the real one. */
struct measure_world {
    void *arg;
    int64_t (*now_ns)(void *arg);
    void (*sense)(void *arg, struct measure_sense *out);
};

struct measure_job { /* one inference, already bound to its input and output */
    void (*run)(void *arg);
    void *arg;
};

struct measure_plan {
    int warmup, runs; /* per job */
    int jobs;         /* 1, or 2 to alternate blocks A B B A ... */
    struct measure_job job[2];
    const struct measure_world *world; /* NULL: the real one */
};

#define MEASURE_PAIRS 256 /* that one process tells of a comparison */

struct measure_timing {
    struct measure_figures figures[2];
    double overhead_ns; /* of reading the clock; already subtracted */
    int64_t probe_ns;   /* the shortest probe: the clock frequency at its best */
    /* jobs == 2: means of blocks that were timed in turn, neighbours put together where there are
     * more than MEASURE_PAIRS */
    int pairs;
    double pair_us[2][MEASURE_PAIRS];
};

int measure_time(const struct measure_plan *plan, struct measure_timing *out, struct cn_error *err);

/* Fills mean, percentiles (linear between ranks, as NumPy), deviation (n - 1). Sorts `us`. */
void measure_statistics(double *us, int n, struct measure_figures *out);

/* Puts the figures of n ≥ 1 processes together, as measure.h says. p50 [n] gets each process's own.
 */
void measure_combine(const struct measure_figures *part, int n, double *p50,
                     struct measure_figures *out);

/* Pairs of block means (a, b)[sum of count] of `processes` processes: the ratio of their means and
 * its 95 % percentile interval over 2,000 bootstrap resamples, of processes and of the pairs within
 * each (Davison, Hinkley 1997, 3.8), drawn from Philox(0, CN_RNG_BOOTSTRAP). All counts ≥ 1;
 * 0, or CN_ENOMEM. */
int measure_ratio(const double *a, const double *b, const int *count, int processes, double *ratio,
                  double ci95[2]);

/* Which malloc is live in this process, proved by asking it and by where the symbol lies. */
struct measure_proof {
    char name[16];     /* glibc, jemalloc, tcmalloc, or other */
    char version[64];  /* what the allocator itself says */
    char library[256]; /* the file that holds `malloc` */
    bool counted;      /* a test allocation showed up in the allocator's own counters */
};
void measure_allocator_proof(struct measure_proof *out);

#endif
