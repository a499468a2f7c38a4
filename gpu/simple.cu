/* gpu/simple.cu - the ops that move each number once: ReLU, add, max-pool, mean over time, dropout.
 * One thread an element. */
#include "gpu/common.cuh"

#include "base/rng.h"

enum { THREADS = 256 };

__global__ void f32_relu(int64_t n, const float *x, float *y)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n) y[i] = x[i] > 0.0f ? x[i] : 0.0f;
}

__global__ void f32_relu_grad(int64_t n, int add, const float *y, const float *dy, float *dx)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n) dx[i] = (add ? dx[i] : 0.0f) + (y[i] > 0.0f ? dy[i] : 0.0f);
}

__global__ void f32_add(int64_t n, const float *x, const float *x2, float *y)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n) y[i] = x[i] + x2[i];
}

__global__ void f32_add_grad(int64_t n, int add, const float *dy, float *dx)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n) dx[i] = (add ? dx[i] : 0.0f) + dy[i];
}

__global__ void f32_maxpool(struct nn_pool a)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= (int64_t)a.rows * a.tout) return;
    const float *x = a.x + i / a.tout * a.tin + i % a.tout * a.k;
    float best = x[0];
    int arg = 0;
    for (int k = 1; k < a.k; k++)
        if (x[k] > best) {
            best = x[k];
            arg = k;
        }
    a.y[i] = best;
    if (a.arg) a.arg[i] = (uint8_t)arg;
}

__global__ void f32_maxpool_grad(struct nn_pool a)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= (int64_t)a.rows * a.tin) return;
    int64_t row = i / a.tin;
    int t = (int)(i % a.tin), o = t / a.k;
    a.dx[i] = o < a.tout && a.arg[row * a.tout + o] == t % a.k ? a.dy[row * a.tout + o] : 0.0f;
}

/* one warp a row */
__global__ void f32_mean(struct nn_mean a)
{
    int row = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, lane = threadIdx.x & 31;
    if (row >= a.rows) return;
    float v = 0.0f;
    for (int t = lane; t < a.t; t += 32) v += a.x[(int64_t)row * a.t + t];
    v = warp_sum(v);
    if (lane == 0) a.y[row] = v / (float)a.t;
}

__global__ void f32_mean_grad(struct nn_mean a)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < (int64_t)a.rows * a.t) a.dx[i] = a.dy[i / a.t] / (float)a.t;
}

/* The mask is drawn again in backward: no memory for it. */
__global__ void f32_dropout(struct nn_dropout a, const float *in, float *out)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, per = (int64_t)a.b * a.width;
    if (i >= per * a.m) return;
    const struct nn_scalars *s = a.s + i / per;
    uint64_t row = s->row0 + (uint64_t)(i % per / a.width);
    uint64_t index = (uint64_t)a.layer << 40 | (row * (uint64_t)a.width + (uint64_t)(i % a.width));
    float u = cn_rng_uniform(cn_rng(s->seed, CN_RNG_DROPOUT, s->epoch, index).v[0]);
    out[i] = u >= a.p ? in[i] * (1.0f / (1.0f - a.p)) : 0.0f;
}

static int relu_forward(struct nn_backend *be, const struct nn_eltwise *a)
{
    f32_relu<<<gpu_blocks(a->n, THREADS), THREADS, 0, gpu_of(be)->stream>>>(a->n, a->x, a->y);
    return gpu_launched(be, "relu");
}

static int relu_backward(struct nn_backend *be, const struct nn_eltwise *a)
{
    f32_relu_grad<<<gpu_blocks(a->n, THREADS), THREADS, 0, gpu_of(be)->stream>>>(
        a->n, a->dx_add, a->y, a->dy, a->dx);
    return gpu_launched(be, "relu gradient");
}

static int add_forward(struct nn_backend *be, const struct nn_eltwise *a)
{
    f32_add<<<gpu_blocks(a->n, THREADS), THREADS, 0, gpu_of(be)->stream>>>(a->n, a->x, a->x2, a->y);
    return gpu_launched(be, "add");
}

static int add_backward(struct nn_backend *be, const struct nn_eltwise *a)
{
    f32_add_grad<<<gpu_blocks(a->n, THREADS), THREADS, 0, gpu_of(be)->stream>>>(a->n, a->dx_add,
                                                                                a->dy, a->dx);
    return gpu_launched(be, "add gradient");
}

static int maxpool_forward(struct nn_backend *be, const struct nn_pool *a)
{
    f32_maxpool<<<gpu_blocks((int64_t)a->rows * a->tout, THREADS), THREADS, 0,
                  gpu_of(be)->stream>>>(*a);
    return gpu_launched(be, "maxpool");
}

static int maxpool_backward(struct nn_backend *be, const struct nn_pool *a)
{
    f32_maxpool_grad<<<gpu_blocks((int64_t)a->rows * a->tin, THREADS), THREADS, 0,
                       gpu_of(be)->stream>>>(*a);
    return gpu_launched(be, "maxpool gradient");
}

static int mean_forward(struct nn_backend *be, const struct nn_mean *a)
{
    f32_mean<<<gpu_blocks(a->rows, THREADS / 32), THREADS, 0, gpu_of(be)->stream>>>(*a);
    return gpu_launched(be, "mean");
}

static int mean_backward(struct nn_backend *be, const struct nn_mean *a)
{
    f32_mean_grad<<<gpu_blocks((int64_t)a->rows * a->t, THREADS), THREADS, 0, gpu_of(be)->stream>>>(
        *a);
    return gpu_launched(be, "mean gradient");
}

static int dropout_any(struct nn_backend *be, const struct nn_dropout *a, const float *in,
                       float *out)
{
    int64_t n = (int64_t)a->m * a->b * a->width;
    f32_dropout<<<gpu_blocks(n, THREADS), THREADS, 0, gpu_of(be)->stream>>>(*a, in, out);
    return gpu_launched(be, "dropout");
}

static int dropout_forward(struct nn_backend *be, const struct nn_dropout *a)
{
    return dropout_any(be, a, a->x, a->y);
}

static int dropout_backward(struct nn_backend *be, const struct nn_dropout *a)
{
    return dropout_any(be, a, a->dy, a->dx);
}

void gpu_simple_ops(struct nn_backend_ops *t)
{
    t->relu_forward = relu_forward;
    t->relu_backward = relu_backward;
    t->add_forward = add_forward;
    t->add_backward = add_backward;
    t->maxpool_forward = maxpool_forward;
    t->maxpool_backward = maxpool_backward;
    t->mean_forward = mean_forward;
    t->mean_backward = mean_backward;
    t->dropout_forward = dropout_forward;
    t->dropout_backward = dropout_backward;
}
