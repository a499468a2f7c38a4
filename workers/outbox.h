/* workers/outbox.h - what leaves a worker: blobs, then the message that names them, in order, by a
 * thread of its own. A slot that has ended a job hands it over here and goes on with the next.
 */
#ifndef CINCH_WORKERS_OUTBOX_H
#define CINCH_WORKERS_OUTBOX_H

#include "proto/client.h"
#include "workers/exec.h"
#include "workers/link.h"

struct outbox;

struct outbox_options {
    struct link *link;       /* borrowed; outlives the outbox */
    struct pr_connect blobs; /* how to reach the coordinator for blobs; strings are borrowed */
    /* A lease's last message was answered: 0, CN_ESTALE, ... Called from the outbox's thread. */
    void (*ended)(void *arg, uint64_t job, uint32_t attempt, int code);
    /* A checkpoint was refused as stale: stop that job. */
    void (*stale)(void *arg, uint64_t job, uint32_t attempt);
    void *arg;
};

int outbox_create(struct outbox **out, const struct outbox_options *o, struct cn_error *err);
/* Stops, leaving unsent what is not sent; accepts NULL. */
void outbox_destroy(struct outbox *b);

/* Copies the data. A checkpoint of the same lease that has not left yet is replaced. */
int outbox_checkpoint(struct outbox *b, uint64_t job, uint32_t attempt, const void *data, size_t n,
                      uint32_t epoch);

/* The end of a lease by what its job came to: Result, or Release for CN_EINTERRUPTED, or nothing
 * for CN_ECANCELLED. Takes the job's outputs. */
int outbox_end(struct outbox *b, uint64_t job, uint32_t attempt, struct exec_job *done,
               uint64_t wall_ms);

/* A lease that was never begun. */
int outbox_release(struct outbox *b, uint64_t job, uint32_t attempt, const char *reason);

#endif
