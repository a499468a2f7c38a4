/* gpu/update.cu - optimiser steps over the flat [M, P] vectors, equal to PyTorch's, and the weight
 * average.
 *
 *   SGD    g += wd·w;  v = μ·v + g;  w -= lr·(nesterov ? g + μ·v : v)
 *   Adam   g += wd·w;  m = β1·m + (1-β1)·g;  v = β2·v + (1-β2)·g²;  w -= lr/(1-β1ᵗ) ·
 * m/(sqrt(v/(1-β2ᵗ)) + eps) AdamW  w -= lr·wd·w first, and no wd in g
 */
#include "gpu/common.cuh"

enum { THREADS = 256 };

/* 2-norm of each member's gradient in a fixed order. One block a member. */
__global__ void __launch_bounds__(1024) f32_grad_norm(struct nn_update a, float *norm)
{
    __shared__ float buf[32];
    const float *g = a.g + blockIdx.x * a.stride;
    float v = 0.0f;
    for (int64_t i = threadIdx.x; i < a.p; i += blockDim.x) v += g[i] * g[i];
    v = block_sum(v, buf);
    if (threadIdx.x == 0) norm[blockIdx.x] = sqrtf(v);
}

__device__ __forceinline__ float sgd(const struct nn_update &a, const struct nn_scalars &s,
                                     int64_t e, float g)
{
    float w = a.w[e];
    g += s.weight_decay * w;
    float v = s.momentum * a.m1[e] + g;
    a.m1[e] = v;
    return w - s.lr * (a.nesterov ? g + s.momentum * v : v);
}

__device__ __forceinline__ float adam(const struct nn_update &a, const struct nn_scalars &s,
                                      int64_t e, float g)
{
    float w = a.w[e];
    if (a.kind == NN_ADAMW)
        w -= s.lr * s.weight_decay * w;
    else
        g += s.weight_decay * w;
    float m = s.beta1 * a.m1[e] + (1.0f - s.beta1) * g,
          v = s.beta2 * a.m2[e] + (1.0f - s.beta2) * g * g;
    a.m1[e] = m;
    a.m2[e] = v;
    double c1 = 1.0 - pow((double)s.beta1, (double)s.step),
           c2 = 1.0 - pow((double)s.beta2, (double)s.step);
    return w - (float)(s.lr / c1) * m / (sqrtf(v) / (float)sqrt(c2) + s.eps);
}

/* grid (blocks over p, M) */
__global__ void f32_update(struct nn_update a, const float *norm)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= a.p) return;
    int64_t e = blockIdx.y * a.stride + i;
    struct nn_scalars s = a.s[blockIdx.y];
    float g = a.g[e];
    if (norm) g *= fminf(1.0f, a.clip / (norm[blockIdx.y] + 1e-6f));
    float w = a.kind == NN_SGD ? sgd(a, s, e, g) : adam(a, s, e, g);
    a.w[e] = a.mask ? w * a.mask[blockIdx.y * a.p + i] : w;
}

__global__ void f32_average(struct nn_average a)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= a.n) return;
    int64_t e = blockIdx.y * a.stride + i;
    float ema = a.s[blockIdx.y].ema;
    a.avg[e] = ema * a.avg[e] + (1.0f - ema) * a.w[e];
}

static int update(struct nn_backend *be, const struct nn_update *a)
{
    cudaStream_t st = gpu_of(be)->stream;
    float *norm = NULL;
    if (a->clip > 0.0f) {
        norm = (float *)gpu_scratch(be, sizeof(float) * (size_t)a->m);
        if (!norm) return be->error.code;
        f32_grad_norm<<<a->m, 1024, 0, st>>>(*a, norm);
    }
    f32_update<<<dim3(gpu_blocks(a->p, THREADS), a->m), THREADS, 0, st>>>(*a, norm);
    return gpu_launched(be, "update");
}

static int average(struct nn_backend *be, const struct nn_average *a)
{
    f32_average<<<dim3(gpu_blocks(a->n, THREADS), a->m), THREADS, 0, gpu_of(be)->stream>>>(*a);
    return gpu_launched(be, "average");
}

void gpu_update_ops(struct nn_backend_ops *t)
{
    t->update = update;
    t->average = average;
}
