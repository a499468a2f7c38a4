/* workers/ranks.h - one training on several GPUs of this machine: rank 0 is the caller's thread, the
 * others are processes (cinch-rank), one per GPU, that run the same training on their shares of each
 * batch. Only rank 0 reports, checkpoints and is asked to stop.
 *
 * A rank that dies or falls silent ends rank 0's training with an error within seconds (gpu/nccl.cu
 * aborts the communicator); ranks_close then says which it was, and the job's next attempt resumes
 * from its checkpoint.
 */
#ifndef CINCH_WORKERS_RANKS_H
#define CINCH_WORKERS_RANKS_H

#include "nn/train.h"
#include "workers/device.h"

struct ranks;

/* Starts the processes for `run` (m = 1), waits until all are ready, joins them and puts rank 0's
 * backend into run->backend. `scratch` is a folder of the caller's. CN_ENODEVICE when the device has
 * fewer than `n` GPUs, CN_EUNSUPPORTED without NCCL. On failure nothing runs. */
int ranks_open(struct ranks **out, struct device *d, int n, const char *scratch,
               struct nn_train *run, struct cn_error *err);

/* Ends all ranks and destroys the backend. `failed`: the training's code; when a process had died, its
 * story is added to *err. Accepts NULL. */
void ranks_close(struct ranks *r, int failed, struct cn_error *err);

#endif
