/* gpu/batchnorm.cu - BatchNorm over (batch, time) per channel, training and evaluation, forward and
 * backward.
 *
 *   y = (x - μ)·rstd·w + bias,   rstd = 1/sqrt(σ² + eps)
 *   dx = w·rstd·(dy - mean(dy) - x̂·mean(dy·x̂)),   dw = Σ dy·x̂,   dbias = Σ dy
 *
 * Sums are taken per (channel, share of the batch) and combined in a fixed order, so results do not
 * depend on scheduling. The variance combines the shares' means and squared deviations (Chan,
 * Golub, LeVeque 1979), which keeps fp32 exact enough where |μ| >> σ. Shares depend on one member's
 * shape only.
 */
#include "gpu/common.cuh"
#include "gpu/nccl.cuh"

enum { THREADS = 256 };

struct bn_shape {
    int b, c, t, shares, ranks;
    int64_t rows; /* M·B */
    int64_t stride;
};

__device__ __forceinline__ void share_rows(const bn_shape &s, int share, int *b0, int *b1)
{
    *b0 = (int)((int64_t)s.b * share / s.shares);
    *b1 = (int)((int64_t)s.b * (share + 1) / s.shares);
}

__device__ __forceinline__ const float *bn_row(const bn_shape &s, const float *x, int m, int b,
                                               int c)
{
    return x + (((int64_t)m * s.b + b) * s.c + c) * s.t;
}

/* grid (c, shares, M): part[m][c][share] = {mean, Σ(x-mean)²} of the share. */
__global__ void __launch_bounds__(THREADS)
    f32_bn_moments(bn_shape s, const float *__restrict__ x, float2 *__restrict__ part)
{
    __shared__ float buf[32];
    int c = blockIdx.x, share = blockIdx.y, m = blockIdx.z, b0, b1;
    share_rows(s, share, &b0, &b1);
    float sum = 0.0f, sq = 0.0f;
    for (int b = b0; b < b1; b++) {
        const float *r = bn_row(s, x, m, b, c);
        for (int t = threadIdx.x; t < s.t; t += THREADS) sum += r[t];
    }
    float n = (float)((int64_t)(b1 - b0) * s.t), mean = n > 0 ? block_sum(sum, buf) / n : 0.0f;
    for (int b = b0; b < b1; b++) {
        const float *r = bn_row(s, x, m, b, c);
        for (int t = threadIdx.x; t < s.t; t += THREADS) sq += (r[t] - mean) * (r[t] - mean);
    }
    sq = block_sum(sq, buf);
    if (threadIdx.x == 0) part[((int64_t)m * s.c + c) * s.shares + share] = make_float2(mean, sq);
}

/* One thread per (m, c): combines the shares, updates the running statistics. */
__global__ void f32_bn_combine(bn_shape s, int m_all, float eps, float momentum,
                               const float2 *__restrict__ part, float *__restrict__ save_mean,
                               float *__restrict__ save_rstd, float *__restrict__ running_mean,
                               float *__restrict__ running_var)
{
    int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= m_all * s.c) return;
    int m = e / s.c, c = e % s.c;
    double n = 0, mean = 0, sq = 0;
    for (int i = 0; i < s.ranks * s.shares; i++) {
        int b0, b1;
        share_rows(s, i % s.shares, &b0, &b1);
        double k = (double)(b1 - b0) * s.t;
        if (k == 0) continue;
        float2 p = part[((int64_t)(i / s.shares) * m_all * s.c + e) * s.shares + i % s.shares];
        double d = p.x - mean;
        sq += p.y + d * d * n * k / (n + k);
        mean += d * k / (n + k);
        n += k;
    }
    double var = sq / n;
    save_mean[e] = (float)mean;
    save_rstd[e] = (float)(1.0 / sqrt(var + eps));
    float *rm = running_mean + m * s.stride + c, *rv = running_var + m * s.stride + c;
    *rm = (1.0f - momentum) * *rm + momentum * (float)mean;
    *rv = (1.0f - momentum) * *rv + momentum * (float)(n > 1 ? sq / (n - 1) : var);
}

/* One block a tile of THREADS times of a channel of a row. grid: gpu_row_grid(tiles · c, rows) */
__global__ void f32_bn_apply(bn_shape s, int train, float eps, const float *__restrict__ x,
                             const float *__restrict__ w, const float *__restrict__ bias,
                             const float *__restrict__ mean, const float *__restrict__ second,
                             float *__restrict__ y)
{
    const int tiles = (s.t + THREADS - 1) / THREADS;
    int c = blockIdx.x / tiles, t = blockIdx.x % tiles * THREADS + threadIdx.x;
    int64_t row = gpu_row(), m = row / s.b;
    if (t >= s.t || row >= s.rows) return;
    int64_t p = m * s.stride + c, e = (row * s.c + c) * s.t + t;
    float mu = train ? mean[m * s.c + c] : mean[p];
    float rstd = train ? second[m * s.c + c] : 1.0f / sqrtf(second[p] + eps);
    y[e] = (x[e] - mu) * (rstd * w[p]) + bias[p];
}

/* grid (c, shares, M): part = {Σdy, Σdy·x̂} */
__global__ void __launch_bounds__(THREADS)
    f32_bn_grad_sums(bn_shape s, const float *__restrict__ x, const float *__restrict__ dy,
                     const float *__restrict__ save_mean, const float *__restrict__ save_rstd,
                     float2 *__restrict__ part)
{
    __shared__ float buf[32];
    int c = blockIdx.x, share = blockIdx.y, m = blockIdx.z, b0, b1;
    share_rows(s, share, &b0, &b1);
    float mu = save_mean[m * s.c + c], rstd = save_rstd[m * s.c + c], sum = 0.0f, dot = 0.0f;
    for (int b = b0; b < b1; b++) {
        const float *xr = bn_row(s, x, m, b, c), *yr = bn_row(s, dy, m, b, c);
        for (int t = threadIdx.x; t < s.t; t += THREADS) {
            sum += yr[t];
            dot += yr[t] * (xr[t] - mu) * rstd;
        }
    }
    sum = block_sum(sum, buf);
    dot = block_sum(dot, buf);
    if (threadIdx.x == 0) part[((int64_t)m * s.c + c) * s.shares + share] = make_float2(sum, dot);
}

__global__ void f32_bn_grad_combine(bn_shape s, int m_all, const float2 *__restrict__ part,
                                    float *__restrict__ dw, float *__restrict__ dbias,
                                    float2 *__restrict__ total)
{
    int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= m_all * s.c) return;
    float sum = 0.0f, dot = 0.0f;
    for (int i = 0; i < s.shares; i++) {
        float2 p = part[(int64_t)e * s.shares + i];
        sum += p.x;
        dot += p.y;
    }
    int64_t at = e / s.c * s.stride + e % s.c;
    dw[at] = dot;
    dbias[at] = sum;
    total[e] = make_float2(sum, dot);
}

__global__ void f32_bn_grad_apply(bn_shape s, const float *__restrict__ x,
                                  const float *__restrict__ dy, const float *__restrict__ w,
                                  const float *__restrict__ save_mean,
                                  const float *__restrict__ save_rstd,
                                  const float2 *__restrict__ total, float *__restrict__ dx)
{
    const int tiles = (s.t + THREADS - 1) / THREADS;
    int c = blockIdx.x / tiles, t = blockIdx.x % tiles * THREADS + threadIdx.x;
    int64_t row = gpu_row(), m = row / s.b;
    if (t >= s.t || row >= s.rows) return;
    int64_t e = (row * s.c + c) * s.t + t;
    float inv = 1.0f / (float)((int64_t)s.ranks * s.b * s.t), rstd = save_rstd[m * s.c + c];
    float2 g = total[m * s.c + c];
    float xhat = (x[e] - save_mean[m * s.c + c]) * rstd;
    dx[e] = w[m * s.stride + c] * rstd * (dy[e] - g.x * inv - xhat * g.y * inv);
}

static bn_shape shape_of(struct nn_backend *be, const struct nn_batchnorm *a)
{
    int shares =
        (512 + a->c - 1) / a->c; /* about 4 blocks per SM of a large card, from one member alone */
    if (shares > a->b) shares = a->b;
    const struct cinch_gpu_options *o = &gpu_of(be)->opt;
    int ranks = o->sync_batchnorm && o->ranks > 1 && !a->alone ? o->ranks : 1;
    bn_shape s = {a->b,     a->c, a->t, shares < 1 ? 1 : shares, ranks, (int64_t)a->m * a->b,
                  a->stride};
    return s;
}

static dim3 apply_grid(const bn_shape *s)
{
    return gpu_row_grid((int64_t)gpu_blocks(s->t, THREADS) * s->c, s->rows);
}

static int batchnorm_forward(struct nn_backend *be, const struct nn_batchnorm *a)
{
    bn_shape s = shape_of(be, a);
    cudaStream_t st = gpu_of(be)->stream;
    dim3 all = apply_grid(&s);
    if (!a->train) {
        f32_bn_apply<<<all, THREADS, 0, st>>>(s, 0, a->eps, a->x, a->w, a->bias, a->running_mean,
                                              a->running_var, a->y);
        return gpu_launched(be, "batchnorm");
    }
    size_t n = (size_t)a->m * a->c * s.shares;
    float2 *part =
        (float2 *)gpu_scratch(be, sizeof(float2) * n * (size_t)(s.ranks > 1 ? 1 + s.ranks : 1));
    if (!part) return be->error.code;
    f32_bn_moments<<<dim3(a->c, s.shares, a->m), THREADS, 0, st>>>(s, a->x, part);
    if (s.ranks > 1) {
        int rc = gpu_nccl_gather(be, (const float *)part, (float *)(part + n), 2 * n);
        if (rc) return rc;
        part += n;
    }
    f32_bn_combine<<<gpu_blocks(a->m * a->c, 64), 64, 0, st>>>(s, a->m, a->eps, a->momentum, part,
                                                               a->save_mean, a->save_rstd,
                                                               a->running_mean, a->running_var);
    f32_bn_apply<<<all, THREADS, 0, st>>>(s, 1, a->eps, a->x, a->w, a->bias, a->save_mean,
                                          a->save_rstd, a->y);
    return gpu_launched(be, "batchnorm");
}

static int batchnorm_backward(struct nn_backend *be, const struct nn_batchnorm *a)
{
    bn_shape s = shape_of(be, a);
    cudaStream_t st = gpu_of(be)->stream;
    size_t n = (size_t)a->m * a->c * s.shares, k = (size_t)a->m * a->c;
    float2 *part = (float2 *)gpu_scratch(be, sizeof(float2) * (n + k));
    if (!part) return be->error.code;
    float2 *total = part + n;
    f32_bn_grad_sums<<<dim3(a->c, s.shares, a->m), THREADS, 0, st>>>(s, a->x, a->dy, a->save_mean,
                                                                     a->save_rstd, part);
    f32_bn_grad_combine<<<gpu_blocks(k, 64), 64, 0, st>>>(s, a->m, part, a->dw, a->dbias, total);
    int rc = s.ranks > 1 ? gpu_nccl_sum(be, (float *)total, 2 * k) : 0;
    if (rc) return rc;
    if (a->dx)
        f32_bn_grad_apply<<<apply_grid(&s), THREADS, 0, st>>>(s, a->x, a->dy, a->w, a->save_mean,
                                                              a->save_rstd, total, a->dx);
    return gpu_launched(be, "batchnorm gradient");
}

void gpu_batchnorm_ops(struct nn_backend_ops *t)
{
    t->batchnorm_forward = batchnorm_forward;
    t->batchnorm_backward = batchnorm_backward;
}
