/* cpu/train/norm_impl.h - BatchNorm, ReLU and max-pool of one row in one pass, and back, for the
 * instruction set of the including file.
 *
 * The forward pass reads the convolution's output once and writes only what is left after the pool.
 * For the way back it keeps, per window, the place of the maximum and the value that stood there:
 * the reductions then read a third of the data, and the dense gradient
 * dc = a*e + b*(c - mean) + c0 is rebuilt row by row, straight into the padded row that the
 * convolution's backward kernels read, so it never travels to memory. The ReLU's gradient at 0 is
 * 0. NaN passes through (max(0, z) with z second).
 */
#include "cpu/train/kernels.h"
#include "cpu/train/simd.h"

INLINE vf bn_value(const struct bn_row *a, vf c)
{
    return v_fma(v_set(a->a), v_sub(c, v_set(a->mean)), v_set(a->bias));
}

static void ISA(f32_bn_dense)(const struct bn_row *a)
{
    for (int t = 0; t < a->t; t += VL) {
        vf z = bn_value(a, v_load_tail(a->c + t, a->t - t));
        if (a->relu) z = v_max(v_zero(), z);
        v_store_tail(a->y + t, z, a->t - t);
    }
}

/* Windows p.. of a pool of k = 2 or 3; n of the VL are real. */
INLINE void bn_pool_block(const int k, const struct bn_row *a, int p, int n)
{
    float tail[3 * VL];
    vf c[3], best, at, cm;
    const float *src = a->c + p * k;
    if (n < VL) {
        memset(tail, 0, sizeof tail);
        memcpy(tail, src, sizeof(float) * (size_t)(n * k));
        src = tail;
    }
    if (k == 2)
        v_phases2(src, c);
    else
        v_phases3(src, c);
    best = bn_value(a, c[0]);
    at = v_zero();
    cm = c[0];
    UNROLL(2)
    for (int j = 1; j < k; j++) {
        vf z = bn_value(a, c[j]);
        vm m = v_gt(z, best);
        best = v_select(m, z, best);
        at = v_select(m, v_set((float)j), at);
        cm = v_select(m, c[j], cm);
    }
    if (a->relu) best = v_max(v_zero(), best);
    v_store_tail(a->y + p, best, n);
    if (a->c_max) v_store_tail(a->c_max + p, cm, n);
    if (a->arg) v_store_u8(a->arg + p, at, n);
}

static void ISA(f32_bn_pool_any)(const struct bn_row *a)
{
    for (int p = 0; p < a->t_pool; p++) {
        const float *c = a->c + p * a->pool;
        float best = a->a * (c[0] - a->mean) + a->bias;
        int at = 0;
        for (int j = 1; j < a->pool; j++) {
            float z = a->a * (c[j] - a->mean) + a->bias;
            if (z > best) {
                best = z;
                at = j;
            }
        }
        a->y[p] = a->relu && best < 0 ? 0 : best;
        if (a->c_max) a->c_max[p] = c[at];
        if (a->arg) a->arg[p] = (uint8_t)at;
    }
}

static void ISA(f32_bn_forward)(const struct bn_row *a)
{
    if (a->pool <= 1) {
        ISA(f32_bn_dense)(a);
    } else if (a->pool == 2) {
        for (int p = 0; p < a->t_pool; p += VL)
            bn_pool_block(2, a, p, a->t_pool - p < VL ? a->t_pool - p : VL);
    } else if (a->pool == 3) {
        for (int p = 0; p < a->t_pool; p += VL)
            bn_pool_block(3, a, p, a->t_pool - p < VL ? a->t_pool - p : VL);
    } else {
        ISA(f32_bn_pool_any)(a);
    }
}

/* The gradient behind the ReLU, dy where z > 0; d = c - mean. */
INLINE vf relu_back(const struct bn_grad_row *a, vf dy, vf d)
{
    if (!a->relu) return dy;
    return v_keep(v_gt(v_fma(v_set(a->a), d, v_set(a->bias)), v_zero()), dy);
}

static void ISA(f32_bn_reduce)(const struct bn_grad_row *a, float *sum, float *sum_c)
{
    int n = a->pool > 1 ? a->t_pool : a->t;
    const float *c = a->pool > 1 ? a->c_max : a->c;
    vf s[2] = {v_zero(), v_zero()}, q[2] = {v_zero(), v_zero()};
    int t = 0, u = 0;
    for (; t + VL <= n; t += VL, u ^= 1) {
        vf d = v_sub(v_load(c + t), v_set(a->mean)), e = relu_back(a, v_load(a->dy + t), d);
        s[u] = v_add(s[u], e);
        q[u] = v_fma(e, d, q[u]);
    }
    if (t < n) { /* lanes behind the end have dy = 0 */
        vf d = v_sub(v_load_n(c + t, n - t), v_set(a->mean));
        vf e = relu_back(a, v_load_n(a->dy + t, n - t), d);
        s[u] = v_add(s[u], e);
        q[u] = v_fma(e, d, q[u]);
    }
    *sum = v_sum(v_add(s[0], s[1]));
    *sum_c = v_sum(v_add(q[0], q[1]));
}

/* b*(c - mean) + c0 for whole vectors, then zeros up to a multiple of 16. */
INLINE vf bn_base(const struct bn_grad_row *a, vf c)
{
    return v_fma(v_set(a->b), v_sub(c, v_set(a->mean)), v_set(a->c0));
}

static void zero_to_16(float *dc, int t)
{
    for (int i = t; i < ((t + 15) & ~15); i++) dc[i] = 0;
}

static void ISA(f32_bn_expand_dense)(const struct bn_grad_row *a)
{
    for (int t = 0; t < a->t; t += VL) {
        vf c = v_load_tail(a->c + t, a->t - t), d = v_sub(c, v_set(a->mean));
        vf e = relu_back(a, v_load_tail(a->dy + t, a->t - t), d);
        v_store_tail(a->dc + t, v_fma(v_set(a->a), e, bn_base(a, c)), a->t - t);
    }
    zero_to_16(a->dc, a->t);
}

static void ISA(f32_bn_expand_any)(const struct bn_grad_row *a, int from)
{
    for (int t = from * a->pool; t < a->t; t += VL)
        v_store_tail(a->dc + t, bn_base(a, v_load_tail(a->c + t, a->t - t)), a->t - t);
    for (int p = from; p < a->t_pool; p++)
        if (!a->relu || a->a * (a->c_max[p] - a->mean) + a->bias > 0)
            a->dc[p * a->pool + a->arg[p]] += a->a * a->dy[p];
    zero_to_16(a->dc, a->t);
}

#if VL == 16
/* Sixteen windows of k = 2 or 3: output vector q takes windows (16q + lane) / k by a permutation.
 */
INLINE void bn_expand_block(const int k, const struct bn_grad_row *a, int p)
{
    const vi lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    vf d = v_sub(v_load(a->c_max + p), v_set(a->mean));
    vf e = v_mul(v_set(a->a), relu_back(a, v_load(a->dy + p), d));
    vi arg = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(a->arg + p)));
    UNROLL(3)
    for (int q = 0; q < k; q++) {
        vi i = _mm512_add_epi32(lane, _mm512_set1_epi32(16 * q));
        /* i / 3 for i < 48 as (43 i) >> 7 */
        vi window = k == 2 ? _mm512_srli_epi32(i, 1)
                           : _mm512_srli_epi32(_mm512_mullo_epi32(i, _mm512_set1_epi32(43)), 7);
        vi place = _mm512_sub_epi32(i, _mm512_mullo_epi32(window, _mm512_set1_epi32(k)));
        vm hit = _mm512_cmpeq_epi32_mask(_mm512_permutexvar_epi32(window, arg), place);
        vf base = bn_base(a, v_load(a->c + p * k + q * VL));
        v_store(a->dc + p * k + q * VL,
                _mm512_mask_add_ps(base, hit, base, _mm512_permutexvar_ps(window, e)));
    }
}
#endif

static void ISA(f32_bn_expand)(const struct bn_grad_row *a)
{
    if (a->pool <= 1) {
        ISA(f32_bn_expand_dense)(a);
        return;
    }
    int p = 0;
#if VL == 16
    if (a->pool == 2)
        for (; p + VL <= a->t_pool; p += VL) bn_expand_block(2, a, p);
    if (a->pool == 3)
        for (; p + VL <= a->t_pool; p += VL) bn_expand_block(3, a, p);
#endif
    ISA(f32_bn_expand_any)(a, p);
}

/* LayerNorm over channels, lanes = time: `cb` vectors of columns from t0, n valid. Two passes over
 * the channels for the moments, as rows are at most a few kilobytes apart in cache. */
INLINE void ln_forward_block(const int cb, const struct ln_record *a, int t0, int n)
{
    vf mean[4], var[4], rstd[4];
    const vf inv = v_set(1.0f / (float)a->c);
    UNROLL(4)
    for (int v = 0; v < cb; v++) mean[v] = var[v] = v_zero();
    for (int c = 0; c < a->c; c++) {
        UNROLL(4)
        for (int v = 0; v < cb; v++)
            mean[v] =
                v_add(mean[v], v_load_tail(a->x + (int64_t)c * a->t + t0 + v * VL, n - v * VL));
    }
    UNROLL(4)
    for (int v = 0; v < cb; v++) mean[v] = v_mul(mean[v], inv);
    for (int c = 0; c < a->c; c++) {
        UNROLL(4)
        for (int v = 0; v < cb; v++) {
            vf x = v_load_tail(a->x + (int64_t)c * a->t + t0 + v * VL, n - v * VL);
            vf d = v_sub(x, mean[v]);
            var[v] = v_fma(d, d, var[v]);
        }
    }
    UNROLL(4)
    for (int v = 0; v < cb; v++) {
        rstd[v] = v_div(v_set(1.0f), v_sqrt(v_fma(var[v], inv, v_set(a->eps))));
        if (a->mean) v_store_tail(a->mean + t0 + v * VL, mean[v], n - v * VL);
        if (a->rstd) v_store_tail(a->rstd + t0 + v * VL, rstd[v], n - v * VL);
    }
    for (int c = 0; c < a->c; c++) {
        UNROLL(4)
        for (int v = 0; v < cb; v++) {
            int64_t at = (int64_t)c * a->t + t0 + v * VL;
            vf h = v_mul(v_sub(v_load_tail(a->x + at, n - v * VL), mean[v]), rstd[v]);
            v_store_tail(a->y + at, v_fma(h, v_set(a->w[c]), v_set(a->bias[c])), n - v * VL);
        }
    }
}

/* Sums of dy and dy*xhat by channel go to `lanes` [C][2][VL]; dx when wanted. */
INLINE void ln_backward_block(const int cb, const struct ln_record *a, int t0, int n)
{
    vf mean[4], rstd[4], sum[4], dot[4];
    const vf inv = v_set(1.0f / (float)a->c);
    UNROLL(4)
    for (int v = 0; v < cb; v++) {
        mean[v] = v_load_tail(a->mean + t0 + v * VL, n - v * VL);
        rstd[v] = v_load_tail(a->rstd + t0 + v * VL, n - v * VL);
        sum[v] = dot[v] = v_zero();
    }
    for (int c = 0; c < a->c; c++) {
        vf s = v_load(a->lanes + c * 2 * VL), q = v_load(a->lanes + c * 2 * VL + VL);
        vf w = v_set(a->w[c]);
        UNROLL(4)
        for (int v = 0; v < cb; v++) {
            int64_t at = (int64_t)c * a->t + t0 + v * VL;
            vf dy = v_load_tail(a->dy + at, n - v * VL), g = v_mul(dy, w);
            vf h = v_mul(v_sub(v_load_tail(a->x + at, n - v * VL), mean[v]), rstd[v]);
            s = v_add(s, dy);
            q = v_fma(dy, h, q);
            sum[v] = v_add(sum[v], g);
            dot[v] = v_fma(g, h, dot[v]);
        }
        v_store(a->lanes + c * 2 * VL, s);
        v_store(a->lanes + c * 2 * VL + VL, q);
    }
    if (!a->dx) return;
    for (int c = 0; c < a->c; c++) {
        vf w = v_set(a->w[c]);
        UNROLL(4)
        for (int v = 0; v < cb; v++) {
            int64_t at = (int64_t)c * a->t + t0 + v * VL;
            vf h = v_mul(v_sub(v_load_tail(a->x + at, n - v * VL), mean[v]), rstd[v]);
            vf g = v_mul(v_load_tail(a->dy + at, n - v * VL), w);
            vf part = v_mul(v_fma(h, dot[v], sum[v]), inv);
            v_store_tail(a->dx + at, v_mul(rstd[v], v_sub(g, part)), n - v * VL);
        }
    }
}

static void ISA(f32_ln_forward)(const struct ln_record *a)
{
    int t = 0;
    for (; t + 4 * VL <= a->t; t += 4 * VL) ln_forward_block(4, a, t, 4 * VL);
    for (; t < a->t; t += VL) ln_forward_block(1, a, t, a->t - t);
}

static void ISA(f32_ln_backward)(const struct ln_record *a)
{
    int t = 0;
    memset(a->lanes, 0, sizeof(float) * 2 * VL * (size_t)a->c);
    for (; t + 4 * VL <= a->t; t += 4 * VL) ln_backward_block(4, a, t, 4 * VL);
    for (; t < a->t; t += VL) ln_backward_block(1, a, t, a->t - t);
    for (int c = 0; c < a->c; c++) {
        a->sum[c] = v_sum(v_load(a->lanes + c * 2 * VL));
        a->dot[c] = v_sum(v_load(a->lanes + c * 2 * VL + VL));
    }
}
