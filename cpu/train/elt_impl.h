/* cpu/train/elt_impl.h - element by element: ReLU, sums, optimiser steps, for the instruction set
 * of the including file. The arithmetic and its order are those of the ref_ loops, so the optimiser
 * steps have the same bits wherever multiply-add is not fused. */
#include "base/rng.h"
#include "cpu/train/kernels.h"
#include "cpu/train/simd.h"

/* for (i in steps of VL) with m = lanes that exist */
#define EACH(i, m, n) for (int64_t i = 0, m; i < (n) && (m = (n)-i < VL ? (n)-i : VL, 1); i += VL)

static void ISA(f32_relu)(const float *x, float *y, int64_t n)
{
    EACH(i, m, n) v_store_tail(y + i, v_max(v_zero(), v_load_tail(x + i, (int)m)), (int)m);
}

static void ISA(f32_relu_grad)(const float *y, const float *dy, float *dx, int add, int64_t n)
{
    EACH(i, m, n)
    {
        vf g = v_keep(v_gt(v_load_tail(y + i, (int)m), v_zero()), v_load_tail(dy + i, (int)m));
        if (add) g = v_add(v_load_tail(dx + i, (int)m), g);
        v_store_tail(dx + i, g, (int)m);
    }
}

static void ISA(f32_add)(const float *x, const float *x2, float *y, int64_t n)
{
    EACH(i, m, n)
    v_store_tail(y + i, v_add(v_load_tail(x + i, (int)m), v_load_tail(x2 + i, (int)m)), (int)m);
}

static void ISA(f32_axpy)(float a, const float *x, float *y, int64_t n)
{
    EACH(i, m, n)
    v_store_tail(y + i, v_fma(v_set(a), v_load_tail(x + i, (int)m), v_load_tail(y + i, (int)m)),
                 (int)m);
}

static float ISA(f32_dot)(const float *x, const float *y, int64_t n)
{
    vf s[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    int64_t i = 0;
    for (; i + 4 * VL <= n; i += 4 * VL) {
        UNROLL(4)
        for (int u = 0; u < 4; u++)
            s[u] = v_fma(v_load(x + i + u * VL), v_load(y + i + u * VL), s[u]);
    }
    for (; i < n; i += VL) {
        int m = n - i < VL ? (int)(n - i) : VL;
        s[0] = v_fma(v_load_tail(x + i, m), v_load_tail(y + i, m), s[0]);
    }
    return v_sum(v_add(v_add(s[0], s[1]), v_add(s[2], s[3])));
}

static float ISA(f32_sum)(const float *x, int64_t n)
{
    vf s[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    int64_t i = 0;
    for (; i + 4 * VL <= n; i += 4 * VL) {
        UNROLL(4)
        for (int u = 0; u < 4; u++) s[u] = v_add(s[u], v_load(x + i + u * VL));
    }
    for (; i < n; i += VL) s[0] = v_add(s[0], v_load_tail(x + i, n - i < VL ? (int)(n - i) : VL));
    return v_sum(v_add(v_add(s[0], s[1]), v_add(s[2], s[3])));
}

static void ISA(f32_sgd)(const struct update_args *a)
{
    const vf decay = v_set(a->decay), mom = v_set(a->beta1), lr = v_set(a->lr);
    EACH(i, m, a->n)
    {
        vf w = v_load_tail(a->w + i, (int)m), g = v_load_tail(a->g + i, (int)m);
        g = v_add(v_mul(g, v_set(a->scale)), v_mul(decay, w));
        vf v = v_add(v_mul(mom, v_load_tail(a->m1 + i, (int)m)), g);
        v_store_tail(a->m1 + i, v, (int)m);
        g = a->nesterov ? v_add(g, v_mul(mom, v)) : v;
        w = v_sub(w, v_mul(lr, g));
        if (a->mask) w = v_mul(w, v_load_tail(a->mask + i, (int)m));
        v_store_tail(a->w + i, w, (int)m);
    }
}

static void ISA(f32_adam)(const struct update_args *a)
{
    const vf b1 = v_set(a->beta1), b2 = v_set(a->beta2), one = v_set(1.0f);
    const vf c1 = v_sub(one, b1), c2 = v_sub(one, b2);
    EACH(i, m, a->n)
    {
        vf w = v_load_tail(a->w + i, (int)m), g = v_load_tail(a->g + i, (int)m);
        g = v_add(v_mul(g, v_set(a->scale)), v_mul(v_set(a->decay), w));
        vf m1 = v_add(v_mul(b1, v_load_tail(a->m1 + i, (int)m)), v_mul(c1, g));
        vf m2 = v_add(v_mul(b2, v_load_tail(a->m2 + i, (int)m)), v_mul(v_mul(c2, g), g));
        v_store_tail(a->m1 + i, m1, (int)m);
        v_store_tail(a->m2 + i, m2, (int)m);
        vf d = v_add(v_div(v_sqrt(m2), v_set(a->root)), v_set(a->eps));
        w = v_sub(v_mul(w, v_set(a->shrink)), v_div(v_mul(v_set(a->rate), m1), d));
        if (a->mask) w = v_mul(w, v_load_tail(a->mask + i, (int)m));
        v_store_tail(a->w + i, w, (int)m);
    }
}

static void ISA(f32_average)(const float *w, float *avg, float ema, int64_t n)
{
    EACH(i, m, n)
    {
        vf v = v_load_tail(w + i, (int)m);
        if (ema > 0)
            v = v_add(v_mul(v_set(ema), v_load_tail(avg + i, (int)m)), v_mul(v_set(1 - ema), v));
        v_store_tail(avg + i, v, (int)m);
    }
}

/* First place of the largest of x[0..n); a NaN wins (the last of them), as in PyTorch. */
static int ISA(f32_max_at)(const float *x, int n)
{
    vf top = v_set(x[0]);
    vf sum = v_zero(); /* NaN when any is */
    for (int i = 0; i < n; i += VL) {
        vf v = n - i >= VL ? v_load(x + i) : v_select(v_first(n - i), v_load_n(x + i, n - i), top);
        top = v_max(v, top);
        sum = v_add(sum, v_sub(v, v));
    }
    float best = v_hmax(top);
    int at = 0;
    if (v_sum(sum) != 0) { /* NaN or infinity: slowly */
        for (int i = 1; i < n; i++)
            if (x[i] > x[at] || x[i] != x[i]) at = i;
        return at;
    }
    while (x[at] != best) at++;
    return at;
}

/* The four words of cn_rng(seed, purpose, epoch, index + lane): base/rng.h's rounds on VL/2 counters
 * at once. The high halves of the lanes hold leftovers that no product reads. */
INLINE void philox_rounds(const struct philox_args *a, vu index, vu c[4])
{
    const vu zero = {0};
    uint32_t k0 = (uint32_t)a->seed, k1 = (uint32_t)(a->seed >> 32);
    c[0] = index;
    c[1] = index >> 32;
    c[2] = zero + a->epoch;
    c[3] = zero + a->purpose;
    for (int round = 0; round < 10; round++) {
        vu p0 = vu_mul32(c[0], zero + 0xD2511F53u), p1 = vu_mul32(c[2], zero + 0xCD9E8D57u);
        vu n0 = (p1 >> 32) ^ c[1] ^ k0, n2 = (p0 >> 32) ^ c[3] ^ k1;
        c[1] = p1;
        c[3] = p0;
        c[0] = n0;
        c[2] = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

INLINE vu first_index(const struct philox_args *a)
{
    vu index;
    for (int l = 0; l < VL / 2; l++) index[l] = a->index + (uint64_t)l;
    return index;
}

static void ISA(u32_philox)(const struct philox_args *a, uint32_t *out, int n)
{
    vu index = first_index(a), c[4];
    for (int i = 0; i < n; i += VL / 2, index += VL / 2) {
        philox_rounds(a, index, c);
#if VL == 16
        if (i + VL / 2 <= n) {
            _mm256_storeu_si256((__m256i *)(out + i), _mm512_cvtepi64_epi32((__m512i)c[0]));
            continue;
        }
#endif
        for (int l = 0; l < VL / 2 && i + l < n; l++) out[i + l] = (uint32_t)c[0][l];
    }
}

/* Counter i's words are elements 4i .. 4i+3; of each word the four bytes are summed. */
static void ISA(f32_noise)(const struct philox_args *a, float strength, float unit, float *x, int n)
{
    const vu low = (vu){0} + 0xFFFFFFFFu, pairs = (vu){0} + 0x00FF00FF00FF00FFu;
    const vu halves = (vu){0} + 0x0000FFFF0000FFFFu;
    vu index = first_index(a), c[4];
    for (int e = 0; e < n; e += 2 * VL, index += VL / 2) {
        uint64_t sum[2][VL / 2]; /* words 0 and 1 of each counter, then 2 and 3 */
        philox_rounds(a, index, c);
        for (int h = 0; h < 2; h++) {
            vu w = (c[2 * h] & low) | (c[2 * h + 1] << 32);
            w = (w & pairs) + ((w >> 8) & pairs);
            w = (w & halves) + ((w >> 16) & halves);
            memcpy(sum[h], &w, sizeof w);
        }
        for (int i = 0; i < 2 * VL && e + i < n; i++) {
            int bytes = (int)(uint32_t)(sum[i / 2 % 2][i / 4] >> (i % 2 * 32));
            x[e + i] += strength * ((float)(bytes - 510) * unit);
        }
    }
}
