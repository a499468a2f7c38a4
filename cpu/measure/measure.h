/* cpu/measure/measure.h - how long one inference takes: one thread, batch 1, told honestly.
 *
 * `measure_run` starts several fresh `cinch-lat` children, one after another, under the asked
 * allocator, pinned to one core with nothing of cinch beside them, and puts their figures together:
 * where a process's memory comes to lie moves its times by per cents, so one process is one draw.
 * docs/measurement.md says how a figure comes about and what is recorded with it.
 */
#ifndef CINCH_CPU_MEASURE_MEASURE_H
#define CINCH_CPU_MEASURE_MEASURE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum measure_allocator {
    MEASURE_GLIBC,
    MEASURE_JEMALLOC,
    MEASURE_TCMALLOC,
    MEASURE_PAPER, /* study A's: tcmalloc for rnn, jemalloc for the others */
};

enum measure_engine {
    MEASURE_RT,       /* cinchrt on a .cinch artifact */
    MEASURE_OPENBLAS, /* a checkpoint's float layers over OpenBLAS: the study's "without oneDNN" */
    MEASURE_ONEDNN,   /* the same with oneDNN's LSTM and convolutions */
};

extern const char *const measure_allocator_names[]; /* "glibc" .. "paper", NULL */
extern const char *const measure_engine_names[];    /* "rt", "openblas", "onednn", NULL */

#define MEASURE_PROCESSES 5 /* that one measurement is spread over */
#define MEASURE_MAX_PROCESSES 100

struct measure_spec {
    const char *file[2]; /* [0] measured; [1] NULL, or compared with it by alternating blocks */
    enum measure_engine engine;
    enum measure_allocator allocator;
    const char *isa; /* NULL: CINCH_ISA, else the best; "portable", "avx2", ... caps the kernels */
    int warmup;      /* ≤ 0: study A's 100 */
    int runs;        /* of all processes; ≤ 0: study A's 2,000 for rnn and resnet, 10,000 else */
    int processes;   /* ≤ 0: MEASURE_PROCESSES; as many as there are runs at most */
    int core;        /* < 0: the last core that this process may use */
    int (*stop)(void *arg); /* NULL, or asked several times a second: non-zero ends it with
                               CN_EINTERRUPTED */
    void *stop_arg;
};

/* Single inferences, in microseconds, the clock's own cost subtracted. Over several processes: mean,
 * deviation, least and most are of all runs; each percentile is the median of the processes' own. */
struct measure_figures {
    int n, warmup; /* warmup: of each process */
    int processes;
    double mean_us, p50_us, p90_us, p99_us, std_us, min_us, max_us;
    double p50_low_us, p50_high_us; /* least and most of the processes' own p50 */
    int blocks;                     /* timed blocks that the n samples come from */
    int repeated;  /* blocks thrown away and timed again because something disturbed them */
    int disturbed; /* blocks kept although disturbed: the machine never got quiet */
};

struct measure_result {
    char net[24], kind[8];             /* "cnn", "int8" */
    char engine[16], isa[24];          /* what really ran */
    char allocator[16], version[64];   /* what really was live, proved from inside */
    struct measure_figures figures[2]; /* [1] only when two files were compared */
    double *process_p50_us[2];         /* [figures.processes] in the order they ran; owned */
    char disturbed_by[2]
                     [400]; /* what disturbed the measurement of each file, in words; "": nothing */
    double ratio, ratio_ci95[2]; /* mean time of file[0] over file[1]; NaN without file[1] */
    double clock_overhead_ns, clock_resolution_ns;
    int core;
    bool pinned, raised; /* whether the core and the priority were granted */
    char *json;          /* the last child's whole document, machine facts included; owned */
};

/* Blocks until the measurement is done. Waits for its turn: one measurement at a time on a machine,
 * and training that cinch placed on the core moves away first (cpu/measure/corelock.h).
 * CN_ENOTFOUND: no cinch-lat, or the allocator's library is not installed; CN_EINVALID: the engine
 * cannot run this file. *out is to be freed with measure_result_clear. */
int measure_run(const struct measure_spec *spec, struct measure_result *out, struct cn_error *err);
void measure_result_clear(struct measure_result *r); /* accepts a zeroed one */

/* The figures of file i and what they were taken with, as one JSON object with a member for each
 * fact: what `bench --json` and an evaluation's metrics have in common. `disturbed_by` is null on a
 * quiet machine. NULL: out of memory. */
json_t *measure_figures_json(const struct measure_result *r, int i);

/* Whether the allocator can be preloaded on this machine; `detail` gets its version or what to
 * install. `cap` bytes. */
bool measure_allocator_available(enum measure_allocator a, char *detail, int cap);

/* Study A's choice for a net. */
enum measure_allocator measure_paper_allocator(const char *net);
int measure_paper_runs(const char *net);

/* Facts of this machine as JSON text (malloc'ed, caller frees; NULL when out of memory): CPU,
 * governor, turbo, frequencies, load, kernel, hypervisor, clock. Unreadable facts are null.
 * core < 0: of core 0. */
char *measure_machine_json(int core);

#endif
