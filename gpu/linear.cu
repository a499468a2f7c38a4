/* gpu/linear.cu - Linear: y = x·wᵀ + bias, dx = dy·w, dw = dyᵀ·x, dbias = Σ dy. The nets' linear
 * layers are small (352 → 5): a warp owns an output and sums over the inner dimension in a fixed
 * order. */
#include "gpu/common.cuh"

enum { THREADS = 256, WARPS = THREADS / 32 };

__global__ void f32_linear(struct nn_linear a)
{
    int64_t i = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int lane = threadIdx.x & 31;
    if (i >= (int64_t)a.m * a.b * a.out) return;
    int64_t row = i / a.out, m = row / a.b;
    int o = (int)(i % a.out);
    const float *x = a.x + row * a.in, *w = a.w + m * a.stride + (int64_t)o * a.in;
    float v = 0.0f;
    for (int k = lane; k < a.in; k += 32) v += x[k] * w[k];
    v = warp_sum(v);
    if (lane == 0) a.y[i] = v + (a.bias ? a.bias[m * a.stride + o] : 0.0f);
}

__global__ void f32_linear_dx(struct nn_linear a)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= (int64_t)a.m * a.b * a.in) return;
    int64_t row = i / a.in;
    const float *w = a.w + row / a.b * a.stride + i % a.in, *dy = a.dy + row * a.out;
    float v = 0.0f;
    for (int o = 0; o < a.out; o++) v += dy[o] * w[(int64_t)o * a.in];
    a.dx[i] = v;
}

__global__ void f32_linear_dw(struct nn_linear a)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, per = (int64_t)a.in * a.out;
    if (i >= per * a.m) return;
    int64_t m = i / per, e = i % per;
    int o = (int)(e / a.in), k = (int)(e % a.in);
    const float *x = a.x + m * a.b * a.in + k, *dy = a.dy + m * a.b * a.out + o;
    float v = 0.0f, d = 0.0f;
    for (int b = 0; b < a.b; b++) {
        float g = dy[(int64_t)b * a.out];
        v += g * x[(int64_t)b * a.in];
        d += g;
    }
    a.dw[m * a.stride + e] = v;
    if (k == 0 && a.dbias) a.dbias[m * a.stride + o] = d;
}

static int linear_forward(struct nn_backend *be, const struct nn_linear *a)
{
    f32_linear<<<gpu_blocks((int64_t)a->m * a->b * a->out, WARPS), THREADS, 0,
                 gpu_of(be)->stream>>>(*a);
    return gpu_launched(be, "linear");
}

static int linear_backward(struct nn_backend *be, const struct nn_linear *a)
{
    cudaStream_t st = gpu_of(be)->stream;
    f32_linear_dw<<<gpu_blocks((int64_t)a->m * a->in * a->out, THREADS), THREADS, 0, st>>>(*a);
    if (a->dx)
        f32_linear_dx<<<gpu_blocks((int64_t)a->m * a->b * a->in, THREADS), THREADS, 0, st>>>(*a);
    return gpu_launched(be, "linear gradient");
}

void gpu_linear_ops(struct nn_backend_ops *t)
{
    t->linear_forward = linear_forward;
    t->linear_backward = linear_backward;
}
