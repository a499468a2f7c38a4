/* workers/exec.h - one unit of work, from its inputs to its outputs, without a socket in sight: what
 * the worker loop hands to an executor, and what the executor hands back.
 */
#ifndef CINCH_WORKERS_EXEC_H
#define CINCH_WORKERS_EXEC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "cpu/measure/corelock.h"
#include "ecg/dataset.h"
#include "nn/backend.h"
#include "proto/message.h"

struct exec_blob {
    char role[24];
    void *data; /* malloc'ed, owned by the job */
    size_t n;
};

/* One lease: spec and inputs go in, outputs or an error come out. */
struct exec_job {
    const Cinch__JobSpec *spec; /* borrowed */
    struct exec_blob in[PR_MAX_OUTPUTS];
    int n_in;
    void *resume; /* a checkpoint of an earlier attempt, or NULL; owned */
    size_t resume_n;
    bool done; /* in: ended in an earlier call; left alone */
    int code;  /* out: 0; CN_EINTERRUPTED: checkpointed and to be handed back; CN_ECANCELLED: not
                 wanted any more; else why it failed */
    struct cn_error error;
    bool lost; /* out, with a code: the machine failed, not the job (error says how) */
    struct exec_blob out[PR_MAX_OUTPUTS];
    int n_out;
    char *metrics; /* JSON object, malloc'ed, owned */
};

void exec_job_clear(struct exec_job *job);

/* An input by role; NULL when the lease has none. */
const struct exec_blob *exec_input(const struct exec_job *job, const char *role);
/* Adds an output (data is taken, also on failure). */
int exec_output(struct exec_job *job, const char *role, void *data, size_t n);

struct exec_progress {
    const char *stage;
    int epoch, epochs, batch, batches;
    bool epoch_done;
    double train_loss, val_loss, val_score, lr, records_per_s;
};

/* What an executor asks of its surroundings; `member` is the job's index in the unit. */
struct exec_events {
    void *arg;
    void (*progress)(void *arg, int member, const struct exec_progress *p);
    int (*checkpoint)(void *arg, int member, const void *data, size_t n);
    int (*poll)(void *arg, int member); /* as in nn/train.h: 0 go on, 1 stop, 2 leave */
};

struct exec_unit {
    int n; /* 1, or a gang of training jobs of equal shape */
    struct exec_job *job;
    int max_members; /* trained as one array at most; 0: all that fit */
    const struct ecg_dataset *data;
    struct nn_backend *backend; /* training kinds; evaluation predicts with cinchrt */
    struct device *device;      /* jobs on several GPUs open their ranks on it; else may be NULL */
    struct exec_events events;
    double checkpoint_every_s;
    struct corewatch *watch; /* left while measuring; may be NULL */
    int core;                /* to measure on; < 0: the last one */
    const char *scratch;     /* a folder for files that the measuring child reads */
};

/* Fills every job's code. */
void exec_train(struct exec_unit *u);    /* TRAIN, DISTILL, PRUNE */
void exec_evaluate(struct exec_unit *u); /* EVALUATE; n = 1 */
void exec_run(struct exec_unit *u);      /* the one that the spec's kind names */

/* Whether another attempt at a job that failed so cannot help. */
bool exec_is_permanent(int code);

#endif
