/* gpu/layernorm.cu - LayerNorm over channels at every (batch, time).
 *
 *   y = (x - μ)·rstd·w + bias;   dx = rstd·(g - mean(g) - x̂·mean(g·x̂)),  g = dy·w
 *
 * Activations are [B, C, T] with time fastest: a thread owns one (b, t) and walks the channels, so
 * neighbouring threads read neighbouring addresses. dw and dbias are summed per (channel, share of
 * the batch), then over shares in order.
 */
#include "gpu/common.cuh"

enum { THREADS = 128 };

__global__ void f32_layernorm(struct nn_layernorm a)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, n = (int64_t)a.m * a.b * a.t;
    if (i >= n) return;
    int64_t row = i / a.t, m = row / a.b;
    const float *x = a.x + row * a.c * a.t + i % a.t;
    float mean = 0.0f, var = 0.0f;
    for (int c = 0; c < a.c; c++) mean += x[(int64_t)c * a.t];
    mean /= (float)a.c;
    for (int c = 0; c < a.c; c++) {
        float d = x[(int64_t)c * a.t] - mean;
        var += d * d;
    }
    float rstd = 1.0f / sqrtf(var / (float)a.c + a.eps);
    float *y = a.y + row * a.c * a.t + i % a.t;
    const float *w = a.w + m * a.stride, *bias = a.bias + m * a.stride;
    for (int c = 0; c < a.c; c++)
        y[(int64_t)c * a.t] = (x[(int64_t)c * a.t] - mean) * rstd * w[c] + bias[c];
    if (a.save_mean) a.save_mean[i] = mean;
    if (a.save_rstd) a.save_rstd[i] = rstd;
}

__global__ void f32_layernorm_dx(struct nn_layernorm a)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, n = (int64_t)a.m * a.b * a.t;
    if (i >= n) return;
    int64_t row = i / a.t, at = row * a.c * a.t + i % a.t;
    const float *w = a.w + row / a.b * a.stride;
    float mean = a.save_mean[i], rstd = a.save_rstd[i], sum = 0.0f, dot = 0.0f;
    for (int c = 0; c < a.c; c++) {
        int64_t e = at + (int64_t)c * a.t;
        float g = a.dy[e] * w[c];
        sum += g;
        dot += g * (a.x[e] - mean) * rstd;
    }
    sum /= (float)a.c;
    dot /= (float)a.c;
    for (int c = 0; c < a.c; c++) {
        int64_t e = at + (int64_t)c * a.t;
        a.dx[e] = rstd * (a.dy[e] * w[c] - sum - (a.x[e] - mean) * rstd * dot);
    }
}

/* grid (c, shares, M) */
__global__ void __launch_bounds__(256)
    f32_layernorm_dw(struct nn_layernorm a, int shares, float2 *__restrict__ part)
{
    __shared__ float buf[32];
    int c = blockIdx.x, share = blockIdx.y, m = blockIdx.z;
    int b0 = (int)((int64_t)a.b * share / shares), b1 = (int)((int64_t)a.b * (share + 1) / shares);
    float sum = 0.0f, dot = 0.0f;
    for (int b = b0; b < b1; b++) {
        int64_t row = (int64_t)m * a.b + b;
        for (int t = threadIdx.x; t < a.t; t += blockDim.x) {
            int64_t e = (row * a.c + c) * a.t + t;
            sum += a.dy[e];
            dot += a.dy[e] * (a.x[e] - a.save_mean[row * a.t + t]) * a.save_rstd[row * a.t + t];
        }
    }
    sum = block_sum(sum, buf);
    dot = block_sum(dot, buf);
    if (threadIdx.x == 0) part[((int64_t)m * a.c + c) * shares + share] = make_float2(sum, dot);
}

__global__ void f32_layernorm_dw_sum(struct nn_layernorm a, int shares,
                                     const float2 *__restrict__ part)
{
    int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= a.m * a.c) return;
    float sum = 0.0f, dot = 0.0f;
    for (int i = 0; i < shares; i++) {
        sum += part[(int64_t)e * shares + i].x;
        dot += part[(int64_t)e * shares + i].y;
    }
    int64_t at = e / a.c * a.stride + e % a.c;
    a.dw[at] = dot;
    a.dbias[at] = sum;
}

static int layernorm_forward(struct nn_backend *be, const struct nn_layernorm *a)
{
    int64_t n = (int64_t)a->m * a->b * a->t;
    f32_layernorm<<<gpu_blocks(n, THREADS), THREADS, 0, gpu_of(be)->stream>>>(*a);
    return gpu_launched(be, "layernorm");
}

static int layernorm_backward(struct nn_backend *be, const struct nn_layernorm *a)
{
    int64_t n = (int64_t)a->m * a->b * a->t;
    int shares = a->b < 8 ? a->b : 8;
    cudaStream_t st = gpu_of(be)->stream;
    float2 *part = (float2 *)gpu_scratch(be, sizeof(float2) * (size_t)a->m * a->c * shares);
    if (!part) return be->error.code;
    f32_layernorm_dw<<<dim3(a->c, shares, a->m), 256, 0, st>>>(*a, shares, part);
    f32_layernorm_dw_sum<<<gpu_blocks(a->m * a->c, 64), 64, 0, st>>>(*a, shares, part);
    if (a->dx) f32_layernorm_dx<<<gpu_blocks(n, THREADS), THREADS, 0, st>>>(*a);
    return gpu_launched(be, "layernorm gradient");
}

void gpu_layernorm_ops(struct nn_backend_ops *t)
{
    t->layernorm_forward = layernorm_forward;
    t->layernorm_backward = layernorm_backward;
}
