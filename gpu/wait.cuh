/* gpu/wait.cuh - every wait of the host for the card. With several ranks each has a time limit: a kernel
 * that waits for a lost rank never ends by itself. */
#ifndef CINCH_GPU_WAIT_CUH
#define CINCH_GPU_WAIT_CUH

#include "gpu/common.cuh"

/* Until the stream is done, or `event` has passed (gpu_wait_event). With ranks it watches them: one that
 * died or is silent for fail_after_s ends the wait with CN_ECONNECT, and the communicator is aborted, so
 * that this rank's kernels end too. Alone it waits as long as the kernels run. */
int gpu_wait(struct nn_backend *be, const char *what);
int gpu_wait_event(struct nn_backend *be, cudaEvent_t event, const char *what);

/* Before something is freed: waits for the stream whatever has gone wrong before. Non-zero: it does not
 * come to an end (g->stuck), and what the kernels may touch must stay. */
int gpu_drain(struct nn_backend *be);

double gpu_now_s(void);
void gpu_nap(void);                             /* a short sleep between two looks */
double gpu_patience_s(const struct gpu_ctx *g); /* the limit of a wait, in seconds */

#endif
