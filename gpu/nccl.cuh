/* gpu/nccl.cuh - one job on several GPUs: gradients summed over ranks while backward still runs. */
#ifndef CINCH_GPU_NCCL_CUH
#define CINCH_GPU_NCCL_CUH

#include "gpu/common.cuh"

/* Joins the ranks of be's options and fills grad_ready and grad_wait. Waits for all ranks, at most
 * fail_after_s (0: a minute), then CN_ECONNECT. */
int gpu_nccl_create(struct nn_backend *be, struct nn_backend_ops *t);
/* After an error of be: aborts, so that kernels which wait for a lost rank end; else leaves in order. */
void gpu_nccl_destroy(struct nn_backend *be);

/* For a wait (gpu/wait.cu): 0, or CN_ECONNECT when a rank was lost or, with `late`, is silent; the
 * communicator is aborted then. */
int gpu_nccl_check(struct nn_backend *be, int late);
/* 0: there was a communicator, and it is aborted now. */
int gpu_nccl_abort(struct nn_backend *be);
/* A capture was dropped: what it announced was not sent. */
void gpu_nccl_forget(struct gpu_ctx *g);

/* all[rank][n] = every rank's mine[n]; in order of ranks. On be's stream. */
int gpu_nccl_gather(struct nn_backend *be, const float *mine, float *all, size_t n);
/* In place sum over ranks. On be's stream. */
int gpu_nccl_sum(struct nn_backend *be, float *v, size_t n);

#endif
