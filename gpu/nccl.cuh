/* gpu/nccl.cuh - one job on several GPUs: gradients summed over ranks while backward still runs. */
#ifndef CINCH_GPU_NCCL_CUH
#define CINCH_GPU_NCCL_CUH

#include "gpu/common.cuh"

/* Joins the ranks of be's options and fills grad_ready and grad_wait. Waits for all ranks, at most fail_after_s. */
int gpu_nccl_create(struct nn_backend *be, struct nn_backend_ops *t);
/* failed: abort, so that kernels which wait for a lost rank end; else leave in order. */
void gpu_nccl_destroy(struct gpu_ctx *g, int failed);

/* Waits for the stream; with ranks it watches them: one that died or is silent for fail_after_s ends the wait with an error
 * and the communicator is aborted, so that this rank's kernels end too. */
int gpu_wait(struct nn_backend *be, const char *what);

/* all[rank][n] = every rank's mine[n]; in order of ranks. On be's stream. */
int gpu_nccl_gather(struct nn_backend *be, const float *mine, float *all, size_t n);
/* In place sum over ranks. On be's stream. */
int gpu_nccl_sum(struct nn_backend *be, float *v, size_t n);

#endif
