/* cpu/train/norm_impl.h - BatchNorm, ReLU and max-pool of one row, and back, for the instruction set
 * of the including file.
 *
 * Normalisation and ReLU are monotonous, so the pool may come first, while the convolution's row is
 * still in cache: it only has to know the sign of the channel's weight. What is left (a window's
 * place of the maximum and the value there) serves all later passes but one: the dense gradient
 * dc = a*e + b*(c - mean) + c0 is rebuilt row by row, straight into the padded row that the
 * convolution's backward kernels read, so it never travels to memory. The ReLU's gradient at 0 is
 * 0. NaN passes through (max(0, z) with z second). Arguments are copied into locals so that stores
 * cannot seem to change them.
 */
#include "cpu/train/kernels.h"
#include "cpu/train/simd.h"

static void ISA(f32_bn_forward)(const struct bn_rows *args)
{
    const struct bn_rows a = *args;
    for (int o = 0; o < a.rows; o++) {
        const float *c = a.c + (int64_t)o * a.t;
        float *y = a.y + (int64_t)o * a.t;
        vf mean = v_set(a.mean[o]), scale = v_set(a.a[o]), bias = v_set(a.bias[o]);
        for (int t = 0; t < a.t; t += VL) {
            vf z = v_fma(scale, v_sub(v_load_tail(c + t, a.t - t), mean), bias);
            if (a.relu) z = v_max(v_zero(), z);
            v_store_tail(y + t, z, a.t - t);
        }
    }
}

struct pool_row {
    int t_pool, pool, nan;
    float sign;
    const float *c;
    float *c_max;
    uint8_t *arg;
};

/* Windows p.. of a pool of k = 2 or 3; n of the VL are real. */
INLINE void pool_block(const int k, const int nan, const struct pool_row *a, int p, int n)
{
    vf c[3], best, at, value;
    if (k == 2)
        v_phases2(a->c + p * k, n, c);
    else
        v_phases3(a->c + p * k, n, c);
    value = c[0];
    best = v_mul(v_set(a->sign), value);
    at = v_zero();
    UNROLL(2)
    for (int j = 1; j < k; j++) {
        vf z = v_mul(v_set(a->sign), c[j]);
        vm m = nan ? v_or(v_gt(z, best), v_nan(z)) : v_gt(z, best);
        best = v_select(m, z, best);
        at = v_select(m, v_set((float)j), at);
        value = v_select(m, c[j], value);
    }
    v_store_tail(a->c_max + p, value, n);
    if (a->arg) v_store_u8(a->arg + p, at, n);
}

static void pool_any(const struct pool_row *a)
{
    for (int p = 0; p < a->t_pool; p++) {
        const float *c = a->c + p * a->pool;
        int at = 0;
        for (int j = 1; j < a->pool; j++)
            if (a->sign * c[j] > a->sign * c[at] || (a->nan && c[j] != c[j])) at = j;
        a->c_max[p] = c[at];
        if (a->arg) a->arg[p] = (uint8_t)at;
    }
}

INLINE void pool_blocks(const int k, const int nan, const struct pool_row *args)
{
    const struct pool_row copy = *args, *a = &copy;
    int p = 0;
    for (; p + VL <= a->t_pool; p += VL) pool_block(k, nan, a, p, VL);
    if (p < a->t_pool) pool_block(k, nan, a, p, a->t_pool - p);
}

static void ISA(f32_pool)(const struct pool_rows *args)
{
    const struct pool_rows a = *args;
    struct pool_row r = {.t_pool = a.t_pool, .pool = a.pool, .nan = a.nan, .sign = 1};
    for (int o = 0; o < a.rows; o++) {
        if (a.w) r.sign = (float)((a.w[o] > 0) - (a.w[o] < 0));
        r.c = a.c + (int64_t)o * a.t;
        r.c_max = a.c_max + (int64_t)o * a.t_pool;
        r.arg = a.arg ? a.arg + (int64_t)o * a.t_pool : NULL;
        if (a.pool == 2 && a.nan)
            pool_blocks(2, 1, &r);
        else if (a.pool == 3 && a.nan)
            pool_blocks(3, 1, &r);
        else if (a.pool == 2)
            pool_blocks(2, 0, &r);
        else if (a.pool == 3)
            pool_blocks(3, 0, &r);
        else
            pool_any(&r);
    }
}

/* One row of a bn_grad. */
struct bn_grad_row {
    int t, t_pool, pool, relu;
    float mean, a, bias, b, c0;
    const float *c, *c_max;
    const uint8_t *arg;
    const float *dy;
    float *dc;
};

INLINE struct bn_grad_row grad_row(const struct bn_grad *g, int o)
{
    int64_t out = g->pool > 1 ? g->t_pool : g->t;
    return (struct bn_grad_row){
        .t = g->t,
        .t_pool = g->t_pool,
        .pool = g->pool,
        .relu = g->relu,
        .mean = g->mean[o],
        .a = g->a[o],
        .bias = g->bias[o],
        .b = g->b[o],
        .c0 = g->c0[o],
        .c = g->c + (int64_t)o * g->t,
        .c_max = g->c_max + o * out,
        .arg = g->arg + o * out,
        .dy = g->dy + o * out,
        .dc = g->dc + o * g->dc_stride,
    };
}

/* The gradient behind the ReLU, dy where z > 0; d = c - mean. */
INLINE vf relu_back(const struct bn_grad_row *a, vf dy, vf d)
{
    if (!a->relu) return dy;
    return v_keep(v_gt(v_fma(v_set(a->a), d, v_set(a->bias)), v_zero()), dy);
}

INLINE void reduce_row(const struct bn_grad_row *a, float *sum, float *sum_c)
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

static void ISA(f32_bn_reduce)(const struct bn_grad *args, float *sum, float *sum_c)
{
    const struct bn_grad g = *args;
    for (int o = 0; o < g.rows; o++) {
        struct bn_grad_row r = grad_row(&g, o);
        reduce_row(&r, sum + o, sum_c + o);
    }
}

INLINE vf bn_base(const struct bn_grad_row *a, vf c)
{
    return v_fma(v_set(a->b), v_sub(c, v_set(a->mean)), v_set(a->c0));
}

static void expand_dense(const struct bn_grad_row *args)
{
    const struct bn_grad_row copy = *args, *a = &copy;
    for (int t = 0; t < a->t; t += VL) {
        vf c = v_load_tail(a->c + t, a->t - t), d = v_sub(c, v_set(a->mean));
        vf e = relu_back(a, v_load_tail(a->dy + t, a->t - t), d);
        v_store_tail(a->dc + t, v_fma(v_set(a->a), e, bn_base(a, c)), a->t - t);
    }
}

static void expand_pool(const struct bn_grad_row *a)
{
    for (int t = 0; t < a->t; t += VL)
        v_store_tail(a->dc + t, bn_base(a, v_load_tail(a->c + t, a->t - t)), a->t - t);
    for (int p = 0; p < a->t_pool; p++)
        if (!a->relu || a->a * (a->c_max[p] - a->mean) + a->bias > 0)
            a->dc[p * a->pool + a->arg[p]] += a->a * a->dy[p];
}

#if VL == 16
/* Vector q of the k that sixteen windows of k = 2 or 3 span: e[w] at place arg[w] of window w, else
 * 0. Its lanes take windows (16q + lane) / k by a permutation. */
INLINE vf spread(const int k, const int q, vi arg, vf e)
{
    const vi lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    vi i = _mm512_add_epi32(lane, _mm512_set1_epi32(16 * q));
    /* i / 3 for i < 48 as (43 i) >> 7 */
    vi window = k == 2 ? _mm512_srli_epi32(i, 1)
                       : _mm512_srli_epi32(_mm512_mullo_epi32(i, _mm512_set1_epi32(43)), 7);
    vi place = _mm512_sub_epi32(i, _mm512_mullo_epi32(window, _mm512_set1_epi32(k)));
    vm hit = _mm512_cmpeq_epi32_mask(_mm512_permutexvar_epi32(window, arg), place);
    return _mm512_maskz_permutexvar_ps(hit, window, e);
}

/* Sixteen windows of k = 2 or 3, n of them real. Columns up to the row's end are written, and those
 * behind the last window too. */
INLINE void expand_block(const int k, const struct bn_grad_row *a, int p, int n)
{
    vm real = n >= VL ? (vm)0xFFFF : v_first(n);
    vf d = v_sub(_mm512_maskz_loadu_ps(real, a->c_max + p), v_set(a->mean));
    vf dy = relu_back(a, _mm512_maskz_loadu_ps(real, a->dy + p), d), e = v_mul(v_set(a->a), dy);
    vi arg = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(real, a->arg + p));
    UNROLL(3)
    for (int q = 0; q < k; q++) {
        int t = p * k + q * VL;
        if (t >= a->t) break;
        vf base = bn_base(a, v_load_tail(a->c + t, a->t - t));
        base = v_add(base, spread(k, q, arg, e));
        v_store_tail(a->dc + t, base, a->t - t);
    }
}

/* Columns behind the last window may need a block without windows. */
INLINE void expand_blocks(const int k, const struct bn_grad_row *args)
{
    const struct bn_grad_row copy = *args, *a = &copy;
    int p = 0;
    for (; p + VL <= a->t_pool; p += VL) expand_block(k, a, p, VL);
    for (; p * k < a->t; p += VL) expand_block(k, a, p, a->t_pool > p ? a->t_pool - p : 0);
}
#endif

#if VL == 16
INLINE void unpool_block(const int k, vm real, vi at, const float *dy, float *dx, int floats)
{
    vf e = _mm512_maskz_loadu_ps(real, dy);
    UNROLL(3)
    for (int q = 0; q < k; q++)
        if (q * VL < floats) v_store_tail(dx + q * VL, spread(k, q, at, e), floats - q * VL);
}

INLINE void unpool_blocks(const int k, const uint8_t *arg, const float *dy, float *dx, int n)
{
    for (int p = 0; p < n; p += VL) {
        vm real = n - p >= VL ? (vm)0xFFFF : v_first(n - p);
        vi at = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(real, arg + p));
        unpool_block(k, real, at, dy + p, dx + p * k, (n - p) * k);
    }
}
#endif

static void ISA(f32_unpool)(const uint8_t *arg, const float *dy, float *dx, int k, int n)
{
#if VL == 16
    if (k == 2) return unpool_blocks(2, arg, dy, dx, n);
    if (k == 3) return unpool_blocks(3, arg, dy, dx, n);
#endif
    for (int p = 0; p < n; p++)
        for (int j = 0; j < k; j++) dx[p * k + j] = arg[p] == j ? dy[p] : 0;
}

INLINE void expand_row(const struct bn_grad_row *a)
{
    if (a->pool <= 1) expand_dense(a);
#if VL == 16
    else if (a->pool == 2)
        expand_blocks(2, a);
    else if (a->pool == 3)
        expand_blocks(3, a);
#endif
    else
        expand_pool(a);
    for (int t = a->t; t < ((a->t + 15) & ~15); t++) a->dc[t] = 0;
}

static void ISA(f32_bn_expand)(const struct bn_grad *args)
{
    const struct bn_grad g = *args;
    for (int o = 0; o < g.rows; o++) {
        struct bn_grad_row r = grad_row(&g, o);
        expand_row(&r);
    }
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
