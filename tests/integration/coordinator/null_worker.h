/* null_worker.h - a worker without nets, for tests and benchmarks of the coordinator.
 *
 * A job's "training" is a chain of hashes: state = H(spec, inputs), then state = H(state) once per
 * epoch; the model blob is the last state. So its bits depend on the whole history, a lost epoch or
 * a wrong input shows, and a checkpoint (state, epoch) resumes it. Evaluations return artifacts and
 * metrics made the same way.
 */
#ifndef CINCH_TESTS_NULL_WORKER_H
#define CINCH_TESTS_NULL_WORKER_H

#include <stdatomic.h>

#include "base/error.h"

struct null_options {
    void *zmq; /* NULL: own */
    const char *endpoint, *key_file, *name;
    int slots, prefetch, max_gang;
    int epochs;           /* of each job; 0: results without blobs at once */
    int epoch_ms;         /* time of an epoch */
    int checkpoint_every; /* epochs; 0: never */
    int core;             /* reserved core, -1 none */
    unsigned kinds;       /* mask of 1 << JobKind; 0: all */
    int fail_per_mille;   /* so many attempts in a thousand crash */
    const char *host;
    int no_data;       /* has no dataset of its own */
    atomic_int *stop;  /* leave in order when set */
    atomic_long *done; /* counts accepted results; may be NULL */
    int waiting_ms;    /* gives up when no coordinator answers for so long; 0: never */
};

int null_run(const struct null_options *o, struct cn_error *err);

#endif
