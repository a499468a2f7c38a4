/* gpu/gather.cu - a batch from the resident dataset: shuffled, augmented, mixed; the draws of
 * cpu/train/ref_gather.c.
 *
 * A block owns one row of the batch and draws its augmentation once (thread 0 of the block, into
 * shared memory); every thread then writes values. Mixup is a second kernel over the pairs (r,
 * b-1-r). Nothing is stored between steps.
 */
#include "gpu/common.cuh"

#include <cuda_fp16.h>

#include "base/rng.h"

enum { THREADS = 256, MIXUP_TRIES = 64 };
#define NOISE_UNIT                                                                                 \
    (1.0f / 147.8006f) /* 1 / standard deviation of the sum of four uniform bytes   \
                                       */

struct augment {
    int shift, mask_at, mask_n;
    float scale, noise;
    uint32_t zeroed; /* bit per lead */
};

__device__ augment draw_augment(const struct nn_gather &a, const struct nn_scalars &s, uint32_t pos)
{
    augment g;
    cn_rng4 r = cn_rng(s.seed, CN_RNG_AUGMENT, s.epoch, (uint64_t)pos << 8);
    g.shift = (int)rintf((2 * cn_rng_uniform(r.v[0]) - 1) * s.aug_shift);
    g.scale = 1 + (2 * cn_rng_uniform(r.v[1]) - 1) * s.aug_scale;
    g.noise = s.aug_noise;
    g.mask_n = (int)(cn_rng_uniform(r.v[2]) * s.aug_mask * (float)a.samples);
    g.mask_at = (int)(cn_rng_uniform(r.v[3]) * (float)(a.samples - g.mask_n + 1));
    g.zeroed = 0;
    for (int l = 0; s.aug_lead > 0 && l < a.leads; l++) {
        if (l % 4 == 0)
            r = cn_rng(s.seed, CN_RNG_AUGMENT, s.epoch, (uint64_t)pos << 8 | (uint64_t)(1 + l / 4));
        if (cn_rng_uniform(r.v[l % 4]) < s.aug_lead) g.zeroed |= 1u << l;
    }
    return g;
}

__device__ float draw_noise(const struct nn_scalars &s, uint32_t pos, int e)
{
    uint32_t v =
        cn_rng(s.seed, CN_RNG_NOISE, s.epoch, (uint64_t)pos << 32 | (uint64_t)(e / 4)).v[e % 4];
    int sum = (int)(v & 255) + (int)(v >> 8 & 255) + (int)(v >> 16 & 255) + (int)(v >> 24);
    return (float)(sum - 510) * NOISE_UNIT;
}

/* Element i of the resident dataset, T float or __half. */
__device__ __forceinline__ float stored(const float *v, int64_t i)
{
    return v[i];
}

__device__ __forceinline__ float stored(const __half *v, int64_t i)
{
    return __half2float(v[i]);
}

/* grid: M·B rows */
template <typename T> __global__ void __launch_bounds__(THREADS) f32_gather(struct nn_gather a)
{
    __shared__ augment g;
    __shared__ uint32_t place;
    const int item = blockIdx.x, m = item / a.b, r = item % a.b, record = a.leads * a.samples;
    const struct nn_scalars &s = a.s[m]; /* read when a.train alone */
    const uint32_t pos = a.train ? s.row0 + (uint32_t)r : 0;
    if (threadIdx.x == 0) {
        place = a.train ? cn_rng_shuffle(s.seed, s.epoch, pos, (uint32_t)a.n)
                        : (a.cursor ? *a.cursor : (uint32_t)a.row0) + (uint32_t)r;
        if (a.train) g = draw_augment(a, s, pos);
    }
    __syncthreads();
    const int64_t row = a.index[place];
    const T *in = (const T *)a.data_x + row * record;
    float *out = a.x + (int64_t)item * record;
    for (int e = threadIdx.x; e < record; e += THREADS) {
        if (!a.train) {
            out[e] = stored(in, e);
            continue;
        }
        int t = e % a.samples, from = t - g.shift;
        float v = from >= 0 && from < a.samples ? stored(in, e - g.shift) * g.scale : 0.0f;
        if (g.noise > 0) v += g.noise * draw_noise(s, pos, e);
        bool gone =
            (g.zeroed >> (e / a.samples) & 1) || (t >= g.mask_at && t < g.mask_at + g.mask_n);
        out[e] = gone ? 0.0f : v;
    }
    for (int l = threadIdx.x; a.data_y && l < a.labels; l += THREADS) {
        float y = a.data_y[row * a.labels + l];
        if (a.train && s.smooth > 0)
            y = y * (1 - s.smooth) + s.smooth / (a.one_label ? (float)a.labels : 2.0f);
        a.y[(int64_t)item * a.labels + l] = y;
        if (a.t && a.teacher)
            a.t[(int64_t)item * a.labels + l] =
                a.teacher[((int64_t)m * a.n + place) * a.labels + l];
    }
}

/* Jöhnk, 1964: x = u^(1/a), y = v^(1/a), accepted when x + y ≤ 1. */
__device__ float draw_lambda(const struct nn_scalars &s, uint32_t pos)
{
    for (uint64_t k = 0; k < MIXUP_TRIES; k++) {
        cn_rng4 r = cn_rng(s.seed, CN_RNG_MIXUP, s.epoch, (uint64_t)pos << 8 | k);
        float x = powf(cn_rng_uniform(r.v[0]), 1 / s.mixup),
              y = powf(cn_rng_uniform(r.v[1]), 1 / s.mixup);
        if (x + y <= 1 && x + y > 0) return x / (x + y);
    }
    return 0.5f;
}

__device__ void mix_pair(float *v, int n, int64_t p, int64_t q, float lp, float lq)
{
    float *vp = v + p * n, *vq = v + q * n;
    for (int i = threadIdx.x; i < n; i += THREADS) {
        float old_p = vp[i], old_q = vq[i];
        vp[i] = lp * old_p + (1 - lp) * old_q;
        vq[i] = lq * old_q + (1 - lq) * old_p;
    }
}

/* grid (b/2, M): rows r and b-1-r become their mixtures */
__global__ void __launch_bounds__(THREADS) f32_mixup(struct nn_gather a)
{
    __shared__ float lambda[2];
    const int m = blockIdx.y, r = blockIdx.x, q = a.b - 1 - r;
    const struct nn_scalars &s = a.s[m];
    if (s.mixup <= 0) return;
    if (threadIdx.x < 2)
        lambda[threadIdx.x] = draw_lambda(s, s.row0 + (uint32_t)(threadIdx.x ? q : r));
    __syncthreads();
    const int64_t p = (int64_t)m * a.b + r, o = (int64_t)m * a.b + q;
    mix_pair(a.x, a.leads * a.samples, p, o, lambda[0], lambda[1]);
    mix_pair(a.y, a.labels, p, o, lambda[0], lambda[1]);
    if (a.t && a.teacher) mix_pair(a.t, a.labels, p, o, lambda[0], lambda[1]);
}

static int gather(struct nn_backend *be, const struct nn_gather *a)
{
    cudaStream_t st = gpu_of(be)->stream;
    if (a->half)
        f32_gather<__half><<<a->m * a->b, THREADS, 0, st>>>(*a);
    else
        f32_gather<float><<<a->m * a->b, THREADS, 0, st>>>(*a);
    if (a->train && a->b > 1) f32_mixup<<<dim3(a->b / 2, a->m), THREADS, 0, st>>>(*a);
    return gpu_launched(be, "gather");
}

void gpu_gather_ops(struct nn_backend_ops *t)
{
    t->gather = gather;
}
