/* cpu/rt/dyn_lstm.inc.h - the study's LSTM (LSTM_DYN) for one instruction set; a template behind
 * i8_conv.inc.h. The rules are dyn.h's and the bits ref_dyn.c's.
 *
 * Units lie in lanes, VL to a block with its four gates; even and odd words of h go to sums of their
 * own, to have eight in flight. The zero-points' share, zero * sum of weights, is taken away after.
 * Everything is padded to pairs of blocks: lanes behind the last unit have no weights, so their h
 * stays 0, which is part of every range anyway.
 */
#include "cpu/rt/dyn.h"

#define DYN_PAIR (2 * VL)

struct dyn_packed {
    int32_t blocks;         /* even */
    int32_t wordsx, wordsh; /* even; of GROUP elements */
    float scale[2];
    int32_t unused[11];
    /* then float bias[blocks][4][VL], int32 sumx[blocks][4][VL], sumh alike, words
     * wx[blocks][wordsx][4][VL], wh[blocks][wordsh][4][VL] */
};

static int dyn_words(int n)
{
    return ((n + GROUP - 1) / GROUP + 1) & ~1;
}

static size_t dyn_pack_size(const struct cinchrt_model *m, const struct rt_layer *l)
{
    size_t blocks = rt_round(l->f.cout, DYN_PAIR) / VL;
    size_t words = (size_t)dyn_words(l->f.cin) + (size_t)dyn_words(l->f.cout);
    (void)m;
    return sizeof(struct dyn_packed) + blocks * 4 * VL * 4 * (3 + words);
}

/* One matrix [4 * hidden][n] into words and row sums. */
static void dyn_spread(const uint8_t *w, int hidden, int n, int32_t *sums, uint8_t *to)
{
    int words = dyn_words(n), g, u, i;
    for (g = 0; g < 4; g++)
        for (u = 0; u < hidden; u++) {
            size_t b = (size_t)(u / VL), lane = (size_t)(u % VL);
            int32_t sum = 0;
            for (i = 0; i < n; i++, w++) {
                size_t word = (b * (size_t)words + (size_t)(i / GROUP)) * 4 + (size_t)g;
                i8_put_weight(to + (word * VL + lane) * 4 + (size_t)(i % GROUP) * ELEMENT,
                              (int8_t)*w);
                sum += (int8_t)*w;
            }
            sums[(b * 4 + (size_t)g) * VL + lane] = sum;
        }
}

static void dyn_pack(const struct cinchrt_model *m, const struct rt_layer *l, const uint8_t *block,
                     void *dst)
{
    struct dyn_packed *p = dst;
    int hidden = l->f.cout, cin = l->f.cin, g, u;
    float *bias = (float *)(p + 1);
    const uint8_t *scales = block + 16 * (size_t)hidden, *w = scales + 8;
    int32_t *sumx, *sumh;
    uint8_t *wx;
    memset(dst, 0, dyn_pack_size(m, l));
    p->blocks = (int32_t)(rt_round((size_t)hidden, DYN_PAIR) / VL);
    p->wordsx = dyn_words(cin), p->wordsh = dyn_words(hidden);
    p->scale[0] = rt_f32(scales), p->scale[1] = rt_f32(scales + 4);
    sumx = (int32_t *)(void *)(bias + p->blocks * 4 * VL);
    sumh = sumx + p->blocks * 4 * VL;
    wx = (uint8_t *)(sumh + p->blocks * 4 * VL);
    for (g = 0; g < 4; g++)
        for (u = 0; u < hidden; u++)
            bias[(u / VL * 4 + g) * VL + u % VL] = rt_f32(block + 4 * (size_t)(g * hidden + u));
    dyn_spread(w, hidden, cin, sumx, wx);
    dyn_spread(w + (size_t)4 * hidden * cin, hidden, hidden, sumh,
               wx + (size_t)p->blocks * (size_t)p->wordsx * 16 * VL);
}

/* c and h per unit, a padded row of x; then x and h quantised. */
static size_t dyn_scratch(const struct cinchrt_model *m, const struct rt_layer *l)
{
    size_t units = rt_round(l->f.cout, DYN_PAIR), inputs = rt_round(l->f.cin, DYN_PAIR);
    (void)m;
    return 8 * units + 4 * inputs + ELEMENT * (units + inputs) + 3 * RT_ALIGN;
}

/* rt_dyn_quantise of n floats, whole pairs of vectors of which the rest is 0. */
static inline __attribute__((always_inline)) struct rt_dyn_range
dyn_quantise(const float *x, size_t n, int qmax, uint8_t *q)
{
    vf lo = vf_zero(), hi = vf_zero(), scale;
    vi zero, most = v_set16(qmax);
    struct rt_dyn_range r;
    float inverse;
    size_t i;
    for (i = 0; i < n; i += VL) {
        lo = vf_min(vf_load(x + i), lo);
        hi = vf_max(vf_load(x + i), hi);
    }
    r = rt_dyn_range_of(vf_least(lo), vf_most(hi), qmax, &inverse);
    scale = vf_set(inverse), zero = v_set16(r.zero);
    for (i = 0; i < n; i += DYN_PAIR) {
        vf a = vf_mul(vf_load(x + i), scale), b = vf_mul(vf_load(x + i + VL), scale);
        vi v;
        a = vf_min(vf_max(a, vf_set(-1024.0f)), vf_set(1024.0f));
        b = vf_min(vf_max(b, vf_set(-1024.0f)), vf_set(1024.0f));
        v = v_add16(v_narrow16(vf_round32(a), vf_round32(b)), zero);
        v = v_max16(v_min16(v, most), v_zero());
        if (ELEMENT == 1)
            v_store_bytes16(q + i, v);
        else
            v_store(q + 2 * i, v);
    }
    return r;
}

/* The four gates' sums of n elements at q, zero-point taken out. */
static inline __attribute__((always_inline)) void
dyn_sums(const uint8_t *q, int words, const uint8_t *w, const int32_t *sums, int zero, vi *a)
{
    vi odd[4], z = v_set32(zero);
    int d, g;
    _Pragma("GCC unroll 4") for (g = 0; g < 4; g++) a[g] = v_zero(), odd[g] = v_zero();
    for (d = 0; d < words; d += 2, q += 8, w += 32 * VL) {
        vi x0 = v_bcast32(q), x1 = v_bcast32(q + 4);
        _Pragma("GCC unroll 4") for (g = 0; g < 4; g++)
        {
            a[g] = v_dot(a[g], x0, v_load(w + g * VL * 4));
            odd[g] = v_dot(odd[g], x1, v_load(w + (g + 4) * VL * 4));
        }
    }
    _Pragma("GCC unroll 4") for (g = 0; g < 4; g++) a[g] =
        v_sub32(v_add32(a[g], odd[g]), v_mullo32(z, v_load(sums + g * VL)));
}

/* rt_dyn_logistic2 */
static inline __attribute__((always_inline)) vf dyn_logistic2(vf y)
{
    vf n, f, f2, p, a, b;
    y = vf_min(vf_max(y, vf_set(-125.0f)), vf_set(125.0f));
    n = vf_rint(y);
    f = vf_sub(y, n);
    f2 = vf_mul(f, f);
    p = vf_add(vf_mul(f, vf_set(RT_DYN_C5)), vf_set(RT_DYN_C4));
    b = vf_add(vf_mul(f, vf_set(RT_DYN_C3)), vf_set(RT_DYN_C2));
    a = vf_add(vf_mul(f, vf_set(RT_DYN_C1)), vf_set(1.0f));
    p = vf_add(vf_mul(p, f2), b);
    p = vf_add(vf_mul(p, f2), a);
    p = vf_scale2(p, n);
    return vf_div(vf_set(1.0f), vf_add(p, vf_set(1.0f)));
}

static inline __attribute__((always_inline)) vf dyn_sigmoid(vf x)
{
    return dyn_logistic2(vf_mul(x, vf_set(-RT_DYN_LOG2E)));
}

static inline __attribute__((always_inline)) vf dyn_tanh(vf x)
{
    vf s = dyn_logistic2(vf_mul(x, vf_set(-2 * RT_DYN_LOG2E)));
    return vf_sub(vf_add(s, s), vf_set(1.0f));
}

struct dyn_step {
    const struct dyn_packed *p;
    const float *bias;
    const int32_t *sumx, *sumh;
    const uint8_t *wx, *wh, *xq, *hq;
    struct rt_dyn_range rx, rh;
    float *c, *h;
};

static inline __attribute__((always_inline)) void dyn_block(const struct dyn_step *s, int b)
{
    const size_t at = (size_t)b * 4 * VL;
    vf sx = vf_set(s->rx.scale * s->p->scale[0]), sh = vf_set(s->rh.scale * s->p->scale[1]), v[4];
    vf c, h;
    vi x[4], y[4];
    int g;
    dyn_sums(s->xq, s->p->wordsx, s->wx + at * 4 * (size_t)s->p->wordsx, s->sumx + at, s->rx.zero,
             x);
    dyn_sums(s->hq, s->p->wordsh, s->wh + at * 4 * (size_t)s->p->wordsh, s->sumh + at, s->rh.zero,
             y);
    _Pragma("GCC unroll 4") for (g = 0; g < 4; g++) v[g] =
        vf_add(vf_add(vf_mul(vf_from32(x[g]), sx), vf_mul(vf_from32(y[g]), sh)),
               vf_load(s->bias + at + (size_t)g * VL));
    c = vf_mul(dyn_sigmoid(v[1]), vf_load(s->c + b * VL));
    c = vf_add(c, vf_mul(dyn_sigmoid(v[0]), dyn_tanh(v[2])));
    vf_store(s->c + b * VL, c);
    h = vf_mul(dyn_sigmoid(v[3]), dyn_tanh(c));
    vf_store(s->h + b * VL, h);
}

static struct dyn_step dyn_begin(const struct dyn_packed *p)
{
    struct dyn_step s;
    size_t rows = (size_t)p->blocks * 4 * VL;
    s.p = p;
    s.bias = (const float *)(p + 1);
    s.sumx = (const int32_t *)(const void *)(s.bias + rows);
    s.sumh = s.sumx + rows;
    s.wx = (const uint8_t *)(s.sumh + rows);
    s.wh = s.wx + rows * 4 * (size_t)p->wordsx;
    return s;
}

static void dyn_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch)
{
    const struct rt_edge *in = &m->edge[l->in], *out = &m->edge[l->out];
    struct dyn_step s = dyn_begin(l->packed);
    size_t units = (size_t)s.p->blocks * VL, inputs = rt_round(l->f.cin, DYN_PAIR);
    const float *x = (const float *)(const void *)rt_rows(m, l->in, scratch);
    float *y = (float *)(void *)rt_rows(m, l->out, scratch), *row;
    size_t used = units < (size_t)out->stride ? units : (size_t)out->stride;
    uint8_t *xq, *hq;
    int t, b;
    s.c = (float *)(void *)(scratch + m->tmp), s.h = s.c + units, row = s.h + units;
    xq = (uint8_t *)(row + inputs), hq = xq + ELEMENT * inputs;
    s.xq = xq, s.hq = hq;
    memset(s.c, 0, 8 * units + 4 * inputs);
    for (t = 0; t < l->tin; t++, x += in->stride, y += out->stride) {
        memcpy(row, x, 4 * (size_t)l->f.cin);
        s.rx = dyn_quantise(row, inputs, l->f.qmax, xq);
        s.rh = dyn_quantise(s.h, units, l->f.qmax, hq);
        for (b = 0; b < s.p->blocks; b++) dyn_block(&s, b);
        memcpy(y, s.h, 4 * used);
        memset(y + used, 0, 4 * ((size_t)out->stride - used));
    }
}
