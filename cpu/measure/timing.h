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

struct measure_timing {
    struct measure_figures figures[2];
    double overhead_ns;          /* of reading the clock; already subtracted */
    double ratio, ratio_ci95[2]; /* jobs == 2: mean A over mean B, bootstrap over pairs of blocks */
};

int measure_time(const struct measure_plan *plan, struct measure_timing *out, struct cn_error *err);

/* Fills mean, percentiles (linear between ranks, as NumPy), deviation (n - 1). Sorts `us`. */
void measure_statistics(double *us, int n, struct measure_figures *out);

/* Ratio of the means of n pairs and its 95 % percentile interval over 2,000 bootstrap resamples of
 * pairs, drawn from Philox(0, CN_RNG_BOOTSTRAP). n ≥ 1; 0, or CN_ENOMEM. */
int measure_ratio(const double *a, const double *b, int n, double *ratio, double ci95[2]);

/* Which malloc is live in this process, proved by asking it and by where the symbol lies. */
struct measure_proof {
    char name[16];     /* glibc, jemalloc, tcmalloc, or other */
    char version[64];  /* what the allocator itself says */
    char library[256]; /* the file that holds `malloc` */
    bool counted;      /* a test allocation showed up in the allocator's own counters */
};
void measure_allocator_proof(struct measure_proof *out);

#endif
