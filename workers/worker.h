/* workers/worker.h - a worker inside a process: takes leases from a coordinator, runs them in its
 * slots, sends checkpoints and results back. cinch-train and cinch-eval are thin mains around this,
 * and `cinch run` embeds it.
 *
 * Threads: one talks (heartbeats, leases; never computes), one per slot computes, one sends blobs
 * and results, so that a slow network never holds up a slot. docs/workers.md says what happens at
 * each fault.
 */
#ifndef CINCH_WORKERS_WORKER_H
#define CINCH_WORKERS_WORKER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "ecg/dataset.h"
#include "workers/device.h"

enum worker_role { WORKER_TRAIN, WORKER_EVALUATE };

struct worker_options {
    enum worker_role role;
    const char *endpoint; /* ipc://, tcp:// (needs key_file) or inproc:// (needs zmq) */
    const char *key_file;
    void *zmq;        /* a ZeroMQ context to share, or NULL: its own */
    const char *name; /* for people; NULL: "train@host" */
    int slots;        /* jobs at once; 0: auto (docs/workers.md) */
    int threads;      /* of one job on the CPU; 0: 1 */
    int max_gang;     /* equal-shape jobs trained as one array; 0: 1 on the CPU, 8 on a GPU */
    struct device_spec device;
    int core;                  /* evaluators: where latency is measured; < 0: the last one */
    bool keep_core;            /* ... and nothing of cinch ever computes there */
    double checkpoint_every_s; /* 0: 30 */
    const char *cache_dir;     /* datasets; NULL: as ecg/dataset.h */
    uint64_t cache_limit;      /* bytes that they may take there; 0: any */
    const struct ecg_dataset *const
        *data;         /* already open ones, borrowed; NULL-terminated, or NULL */
    int first_wait_ms; /* how long the first connection may take; 0: 30,000; < 0: for ever */
};

struct worker;

/* Opens the device and the sockets. CN_ENODEVICE, CN_EBUSY (core kept by another), CN_EINVALID. */
int worker_create(struct worker **out, const struct worker_options *o, struct cn_error *err);

/* Works until stopped: 0 after an ordered leave; CN_ECONNECT (nobody there at first), CN_EREFUSED,
 * CN_EVERSION. */
int worker_run(struct worker *w, struct cn_error *err);
int worker_start(struct worker *w, struct cn_error *err); /* worker_run in a thread of its own */

/* Any thread; async-signal-safe. Finishes the batch, checkpoints, hands the leases back, leaves. */
void worker_stop(struct worker *w);

/* After worker_start: waits for the end and gives worker_run's result. */
int worker_join(struct worker *w, struct cn_error *err);

void worker_destroy(struct worker *w); /* stops and joins first; accepts NULL */

#endif
