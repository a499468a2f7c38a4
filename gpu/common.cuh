/* gpu/common.cuh - what every kernel file shares: the backend's context, launch checks, reductions.
 */
#ifndef CINCH_GPU_COMMON_CUH
#define CINCH_GPU_COMMON_CUH

#include <cuda_runtime.h>
#include <stdint.h>

#include "gpu/gpu.h"

struct gpu_ctx {
    int device;
    int sms;
    cudaStream_t stream;
    struct cinch_gpu_options opt;
    /* One growing scratch area; kernels of one stream run in order, so ops share it. */
    void *scratch;
    size_t scratch_bytes;
    void *work; /* likewise, of the library engines (gpu/product.cu) */
    size_t work_bytes;
    size_t used, limit; /* bytes allocated through `alloc`, and their bound */
    int capturing;
    int stuck;                 /* 1: work on the card does not end; nothing may be freed */
    int graphs;                /* captured ones alive: they hold addresses of scratch */
    struct gpu_block *blocks;  /* sizes of live allocations */
    struct gpu_block *retired; /* outgrown scratch that a graph may still use */
    struct gpu_cudnn *cudnn;   /* NULL: native engine only */
    struct gpu_engine *engine; /* NULL: native engine only */
    struct gpu_nccl *nccl;     /* NULL: one rank */
    struct gpu_stage *stage;   /* pinned memory that copies go through */
};

static inline struct gpu_ctx *gpu_of(struct nn_backend *be)
{
    return (struct gpu_ctx *)be->ctx;
}

/* Records the first failure in be->error and returns its code. */
int gpu_fail(struct nn_backend *be, cudaError_t e, const char *what);

/* At least `bytes` of scratch, valid until the next call for more. NULL on failure (be->error is
 * set). */
void *gpu_scratch(struct nn_backend *be, size_t bytes);

/* cudaMalloc and cudaFree, counted against CINCH_GPU_MEMORY. give accepts NULL. */
cudaError_t gpu_take(int device, size_t bytes, void **p);
void gpu_give(int device, void *p, size_t bytes);

/* For scratch that is outgrown, a smaller batch's cuDNN workspace, say, after a step was captured: frees
 * it as soon as no captured graph is alive. Waits for the stream. */
void gpu_retire(struct nn_backend *be, void *p, size_t bytes);

/* CN_EINTERNAL while ops are being captured, where allocations, waits and copies from and to the host
 * have no place: the runtime would spoil the capture, or record an address that changes. */
int gpu_not_capturing(struct nn_backend *be, const char *what);

/* Pinned memory for upload and download (gpu/copies.cu). destroy accepts NULL. */
int gpu_stage_create(struct nn_backend *be);
void gpu_stage_destroy(struct gpu_stage *s);

/* One line to the log callback, if there is one. */
void gpu_log(struct gpu_ctx *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* After each launch: reports a launch that was refused. Faults inside a kernel show at the next
 * sync. */
static inline int gpu_launched(struct nn_backend *be, const char *what)
{
    cudaError_t e = cudaPeekAtLastError();
    return e == cudaSuccess ? 0 : gpu_fail(be, e, what);
}

static inline unsigned gpu_blocks(int64_t n, int per)
{
    return (unsigned)((n + per - 1) / per);
}

/* A grid of `tiles` blocks for each of `rows` (M·B), however many: x takes 2³¹ - 1 blocks, y and z 65,535
 * each, so rows are counted in both. Blocks past the last row must return: gpu_row() >= rows. */
enum { GPU_ROWS_Y = 65535 };

static inline dim3 gpu_row_grid(int64_t tiles, int64_t rows)
{
    int64_t y = rows < GPU_ROWS_Y ? rows : GPU_ROWS_Y;
    return dim3((unsigned)tiles, (unsigned)y, gpu_blocks(rows, GPU_ROWS_Y));
}

__device__ __forceinline__ int64_t gpu_row(void)
{
    return (int64_t)blockIdx.z * GPU_ROWS_Y + blockIdx.y;
}

/* Sum over a warp in a fixed order; every lane gets it. */
__device__ __forceinline__ float warp_sum(float v)
{
#pragma unroll
    for (int d = 16; d > 0; d >>= 1) v += __shfl_xor_sync(0xffffffffu, v, d);
    return v;
}

/* Sum over a block of `blockDim.x` threads (a multiple of 32, at most 1024); every thread gets it.
 * `buf` has 32 floats. Contains barriers: all threads must call. */
__device__ __forceinline__ float block_sum(float v, float *buf)
{
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    v = warp_sum(v);
    __syncthreads();
    if (lane == 0) buf[warp] = v;
    __syncthreads();
    v = lane < warps ? buf[lane] : 0.0f;
    return warp_sum(v);
}

/* dbias[m, co] = sum of dy over batch and time. */
int gpu_conv1d_dbias(struct nn_backend *be, const struct nn_conv1d *a);

/* Each op's file fills its part of the table. */
void gpu_conv_ops(struct nn_backend_ops *t);
void gpu_batchnorm_ops(struct nn_backend_ops *t);
void gpu_simple_ops(struct nn_backend_ops *t);
void gpu_lstm_ops(struct nn_backend_ops *t);
void gpu_layernorm_ops(struct nn_backend_ops *t);
void gpu_linear_ops(struct nn_backend_ops *t);
void gpu_loss_ops(struct nn_backend_ops *t);
void gpu_update_ops(struct nn_backend_ops *t);
void gpu_gather_ops(struct nn_backend_ops *t);
void gpu_data_ops(struct nn_backend_ops *t);
void gpu_copy_ops(struct nn_backend_ops *t);

#endif
