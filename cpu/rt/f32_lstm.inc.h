/* cpu/rt/f32_lstm.inc.h - float LSTM and LayerNorm for one instruction set; a
 * template that follows f32_conv.inc.h. LayerNorm has ref_f32.c's bits: it
 * stands in dynamically quantised nets.
 *
 * Units are taken in blocks of VL, one lane each; a pair of blocks has eight
 * sums (4 gates x 2), enough to hide the latency of FMA. The recurrent weights
 * of 64 units are 64 KB, more than L1 holds, so odd steps walk them backwards:
 * what the last step left in L1 is used first. The input's part of the next
 * step is computed while the gates of this one are.
 */
#include "cpu/rt/model.h"

struct f32_lstm_packed {
    int32_t blocks, cin, hidden;
    int32_t unused[13];
    /* then float bias[blocks][4][VL], wx[blocks][cin][4][VL],
   * wh[pairs][hidden][nv*4][VL]: the last block stands alone when their number
   * is odd */
};

static int f32_lstm_blocks(const struct rt_layer *l)
{
    return (l->f.cout + VL - 1) / VL;
}

static size_t f32_lstm_pack_size(const struct cinchrt_model *m, const struct rt_layer *l)
{
    (void)m;
    return sizeof(struct f32_lstm_packed) +
           (size_t)f32_lstm_blocks(l) * 4 * VL * 4 * (1 + (size_t)l->f.cin + l->f.cout);
}

static void f32_lstm_pack(const struct cinchrt_model *m, const struct rt_layer *l,
                          const uint8_t *block, void *dst)
{
    struct f32_lstm_packed *p = dst;
    size_t hidden = l->f.cout, cin = l->f.cin, u, g, i;
    const uint8_t *wih = block + 16 * hidden, *whh = wih + 16 * hidden * cin;
    float *bias = (float *)(p + 1), *wx, *wh;
    memset(dst, 0, f32_lstm_pack_size(m, l));
    p->blocks = f32_lstm_blocks(l), p->cin = (int32_t)cin, p->hidden = (int32_t)hidden;
    wx = bias + (size_t)p->blocks * 4 * VL;
    wh = wx + (size_t)p->blocks * cin * 4 * VL;
    for (u = 0; u < hidden; u++)
        for (g = 0; g < 4; g++) {
            size_t b = u / VL, lane = u % VL, row = g * hidden + u;
            size_t nv = b == (size_t)p->blocks - 1 && (p->blocks & 1) ? 1 : 2;
            float *to = wh + (b & ~(size_t)1) * hidden * 4 * VL +
                        ((nv == 2 ? b & 1 : 0) * 4 + g) * VL + lane;
            bias[(b * 4 + g) * VL + lane] = rt_f32(block + 4 * row);
            for (i = 0; i < cin; i++)
                wx[((b * cin + i) * 4 + g) * VL + lane] = rt_f32(wih + 4 * (row * cin + i));
            for (i = 0; i < hidden; i++) to[i * nv * 4 * VL] = rt_f32(whh + 4 * (row * hidden + i));
        }
}

/* c, px[4] per unit, and two copies of h. */
static size_t f32_lstm_scratch(const struct cinchrt_model *m, const struct rt_layer *l)
{
    (void)m;
    return (size_t)f32_lstm_blocks(l) * VL * 4 * 7 + RT_ALIGN;
}

/* 1 / (1 + 2^y): 2^y from its whole part and a polynomial of degree 5
 * (Chebyshev fit, relative error 2e-7). */
static inline __attribute__((always_inline)) vf f32_logistic2(vf y)
{
    vf n, f, f2, p, q;
    y = vf_min(vf_max(y, vf_set(-125)), vf_set(125));
    n = vf_rint(y);
    f = vf_sub(y, n);
    f2 = vf_mul(f, f);
    p = vf_fma(f, vf_set(0x1.62e43p-1f), vf_set(1.0f));
    q = vf_fma(f, vf_set(0x1.c6af6cp-5f), vf_set(0x1.ebfa4ap-3f));
    q = vf_fma(f2, vf_fma(f, vf_set(0x1.5f0896p-10f), vf_set(0x1.3cbf6cp-7f)), q);
    p = vf_scale2(vf_fma(f2, q, p), n);
    return vf_div(vf_set(1.0f), vf_add(p, vf_set(1.0f)));
}

static inline __attribute__((always_inline)) vf f32_sigmoid(vf x)
{
    return f32_logistic2(vf_mul(x, vf_set(-1.44269504f)));
}

static inline __attribute__((always_inline)) vf f32_tanh(vf x)
{
    vf s = f32_logistic2(vf_mul(x, vf_set(-2.88539008f)));
    return vf_fma(s, vf_set(2.0f), vf_set(-1.0f));
}

struct f32_lstm_run {
    const struct f32_lstm_packed *p;
    const float *bias, *wx, *wh, *x;
    size_t row, yrow;
    float *c, *px, *y, *h[2];
    int steps;
};

/* Input's part of step t for block b. */
static inline __attribute__((always_inline)) void f32_lstm_input(const struct f32_lstm_run *r,
                                                                 int t, int b)
{
    const float *x = r->x + (size_t)t * r->row, *w = r->wx + (size_t)b * (size_t)r->p->cin * 4 * VL;
    float *px = r->px + (size_t)b * 4 * VL;
    vf a[4];
    int i, g;
    _Pragma("GCC unroll 4") for (g = 0; g < 4; g++) a[g] = vf_load(r->bias + (b * 4 + g) * VL);
    for (i = 0; i < r->p->cin; i++, w += 4 * VL) {
        vf v = vf_set(x[i]);
        _Pragma("GCC unroll 4") for (g = 0; g < 4; g++) a[g] = vf_fma(v, vf_load(w + g * VL), a[g]);
    }
    _Pragma("GCC unroll 4") for (g = 0; g < 4; g++) vf_store(px + g * VL, a[g]);
}

static inline __attribute__((always_inline)) void f32_lstm_gates(const struct f32_lstm_run *r,
                                                                 int t, int b, const vf *a)
{
    vf i = f32_sigmoid(a[0]), f = f32_sigmoid(a[1]), g = f32_tanh(a[2]), o = f32_sigmoid(a[3]);
    vf c = vf_fma(f, vf_load(r->c + b * VL), vf_mul(i, g)), h;
    vf_store(r->c + b * VL, c);
    h = vf_mul(o, f32_tanh(c));
    vf_store(r->h[(t + 1) & 1] + b * VL, h);
    vf_store(r->y + (size_t)t * r->yrow + b * VL, h);
}

/* Two blocks. `back`: walk h from its end. */
static inline __attribute__((always_inline)) void f32_lstm_pair(const struct f32_lstm_run *r, int t,
                                                                int b)
{
    const float *h = r->h[t & 1], *px = r->px + (size_t)b * 4 * VL;
    const float *w = r->wh + (size_t)b * (size_t)r->p->hidden * 4 * VL;
    ptrdiff_t step = 1, n = r->p->hidden, i;
    vf a[8];
    int k;
    if (t & 1) h += n - 1, w += (n - 1) * 8 * VL, step = -1;
    _Pragma("GCC unroll 8") for (k = 0; k < 8; k++) a[k] = vf_load(px + k * VL);
    for (i = 0; i < n; i++, h += step, w += step * 8 * VL) {
        vf v = vf_set(*h);
        _Pragma("GCC unroll 8") for (k = 0; k < 8; k++) a[k] = vf_fma(v, vf_load(w + k * VL), a[k]);
    }
    f32_lstm_gates(r, t, b, a);
    f32_lstm_gates(r, t, b + 1, a + 4);
}

/* One block alone: even and odd h in separate sums, to have eight of them. */
static inline __attribute__((always_inline)) void f32_lstm_single(const struct f32_lstm_run *r,
                                                                  int t, int b)
{
    const float *h = r->h[t & 1], *px = r->px + (size_t)b * 4 * VL;
    const float *w = r->wh + (size_t)b * (size_t)r->p->hidden * 4 * VL;
    int n = r->p->hidden, i, k;
    vf a[4], odd[4];
    _Pragma("GCC unroll 4") for (k = 0; k < 4; k++) a[k] = vf_load(px + k * VL), odd[k] = vf_zero();
    for (i = 0; i + 1 < n; i += 2, w += 8 * VL) {
        vf v = vf_set(h[i]), u = vf_set(h[i + 1]);
        _Pragma("GCC unroll 4") for (k = 0; k < 4; k++) a[k] = vf_fma(v, vf_load(w + k * VL), a[k]);
        _Pragma("GCC unroll 4") for (k = 0; k < 4; k++) odd[k] =
            vf_fma(u, vf_load(w + (k + 4) * VL), odd[k]);
    }
    if (i < n) {
        vf v = vf_set(h[i]);
        _Pragma("GCC unroll 4") for (k = 0; k < 4; k++) a[k] = vf_fma(v, vf_load(w + k * VL), a[k]);
    }
    _Pragma("GCC unroll 4") for (k = 0; k < 4; k++) a[k] = vf_add(a[k], odd[k]);
    f32_lstm_gates(r, t, b, a);
}

static void f32_lstm_step(const struct f32_lstm_run *r, int t)
{
    int pairs = r->p->blocks / 2, i, b;
    for (i = 0; i < pairs; i++) f32_lstm_pair(r, t, 2 * (t & 1 ? pairs - 1 - i : i));
    if (r->p->blocks & 1) f32_lstm_single(r, t, r->p->blocks - 1);
    if (t + 1 < r->steps)
        for (b = 0; b < r->p->blocks; b++) f32_lstm_input(r, t + 1, b);
}

static void f32_lstm_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch)
{
    const struct rt_edge *in = &m->edge[l->in], *out = &m->edge[l->out];
    struct f32_lstm_run r;
    size_t units;
    int t, b;
    r.p = l->packed;
    units = (size_t)r.p->blocks * VL;
    r.bias = (const float *)(r.p + 1);
    r.wx = r.bias + 4 * units;
    r.wh = r.wx + 4 * units * l->f.cin;
    r.x = (const float *)(const void *)rt_rows(m, l->in, scratch), r.row = (size_t)in->stride;
    r.y = (float *)(void *)rt_rows(m, l->out, scratch), r.yrow = (size_t)out->stride;
    r.c = (float *)(void *)(scratch + m->tmp);
    r.h[0] = r.c + units, r.h[1] = r.h[0] + units, r.px = r.h[1] + units;
    r.steps = l->tin;
    memset(r.c, 0, 2 * units * sizeof(float));
    for (b = 0; b < r.p->blocks; b++) f32_lstm_input(&r, 0, b);
    for (t = 0; t < r.steps; t++) f32_lstm_step(&r, t);
}

struct f32_norm_packed {
    int32_t blocks;
    int32_t unused[15];
    /* then float gamma[blocks][VL], beta[blocks][VL], 0 behind the last channel; keep[VL]: 1 for the
     * channels of the last block, else 0 */
};

static size_t f32_norm_pack_size(const struct cinchrt_model *m, const struct rt_layer *l)
{
    (void)m;
    return sizeof(struct f32_norm_packed) + ((size_t)f32_lstm_blocks(l) * 2 + 1) * VL * 4;
}

static void f32_norm_pack(const struct cinchrt_model *m, const struct rt_layer *l,
                          const uint8_t *block, void *dst)
{
    struct f32_norm_packed *p = dst;
    float *gamma = (float *)(p + 1), *beta, *keep;
    int i;
    memset(dst, 0, f32_norm_pack_size(m, l));
    p->blocks = f32_lstm_blocks(l);
    beta = gamma + p->blocks * VL, keep = beta + p->blocks * VL;
    memcpy(gamma, block, 4 * (size_t)l->f.cin);
    memcpy(beta, block + 4 * (size_t)l->f.cin, 4 * (size_t)l->f.cin);
    for (i = (p->blocks - 1) * VL; i < l->f.cin; i++) keep[i % VL] = 1;
}

/* The window's largest value per channel so far, and a row of x filled up with zeros. */
static size_t f32_norm_scratch(const struct cinchrt_model *m, const struct rt_layer *l)
{
    (void)m;
    return (size_t)f32_lstm_blocks(l) * VL * 8;
}

/* The mean and reciprocal standard deviation of a row: sixteen sums, whatever VL is, added up by halves.
 * x is 0 behind the last channel; the mean is not taken from those lanes. */
static inline __attribute__((always_inline)) void
f32_norm_moments(const struct f32_norm_packed *p, const float *x, int c, float *mean, float *rstd)
{
    const float *keep = (const float *)(p + 1) + 2 * p->blocks * VL;
    vf even = vf_zero(), odd = vf_zero(), mu, d;
    int b, last = p->blocks - 1;
    for (b = 0; b <= last; b++) {
        if (VL < 16 && b & 1)
            odd = vf_add(odd, vf_load(x + b * VL));
        else
            even = vf_add(even, vf_load(x + b * VL));
    }
    *mean = vf_sum(vf_add(even, odd)) / (float)c;
    mu = vf_set(*mean), even = odd = vf_zero();
    for (b = 0; b <= last; b++) {
        d = vf_sub(vf_load(x + b * VL), b < last ? mu : vf_mul(mu, vf_load(keep)));
        d = vf_mul(d, d);
        if (VL < 16 && b & 1)
            odd = vf_add(odd, d);
        else
            even = vf_add(even, d);
    }
    *rstd = 1.0f / f32_root(vf_sum(vf_add(even, odd)) / (float)c + 1e-5f);
}

static void f32_norm_row(const struct f32_norm_packed *p, const float *x, int c, float *top)
{
    const float *gamma = (const float *)(p + 1), *beta = gamma + p->blocks * VL;
    float mu, root;
    vf mean, rstd;
    int b;
    f32_norm_moments(p, x, c, &mu, &root);
    mean = vf_set(mu), rstd = vf_set(root);
    for (b = 0; b < p->blocks; b++) {
        vf d = vf_mul(vf_sub(vf_load(x + b * VL), mean), rstd);
        d = vf_add(vf_mul(d, vf_load(gamma + b * VL)), vf_load(beta + b * VL));
        vf_store(top + b * VL, vf_max(d, vf_load(top + b * VL))); /* a NaN d leaves top */
    }
}

static void f32_norm_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch)
{
    const struct rt_edge *in = &m->edge[l->in], *out = &m->edge[l->out];
    const struct f32_norm_packed *p = l->packed;
    const float *x = (const float *)(const void *)rt_rows(m, l->in, scratch);
    float *y = (float *)(void *)rt_rows(m, l->out, scratch);
    float *top = (float *)(void *)(scratch + m->tmp), *own = top + p->blocks * VL;
    int narrow = in->stride < p->blocks * VL; /* the next row lies within a row's last vector */
    int t, j, i;
    if (narrow) memset(own, 0, (size_t)p->blocks * VL * 4);
    for (t = 0; t < l->tout; t++, y += out->stride) {
        for (i = 0; i < p->blocks * VL; i++) top[i] = -3.4e38f;
        for (j = 0; j < l->f.pool; j++, x += in->stride) {
            if (narrow) memcpy(own, x, 4 * (size_t)l->f.cin);
            f32_norm_row(p, narrow ? own : x, l->f.cin, top);
        }
        for (i = 0; i < out->stride; i++) y[i] = i < l->f.cin ? top[i] : 0;
    }
}
