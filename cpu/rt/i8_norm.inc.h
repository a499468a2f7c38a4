/* cpu/rt/i8_norm.inc.h - integer LayerNorm with its max-pool, the mean over
 * time and the quantisation of the input for one instruction set; a template
 * like i8_conv.inc.h, which it follows.
 *
 * LayerNorm keeps the largest and the smallest normalised value of a window and
 * applies gamma, bias and requantisation once per window: where gamma is
 * negative the smallest gives the maximum.
 */
#include "cpu/rt/ref.h"

struct i8_norm_packed {
    struct rt_mult mult;
    int32_t blocks; /* of W16 channels */
    int32_t unused[13];
    /* then per block: int32 bias[W16], gamma[W16] */
};

static int i8_norm_blocks(const struct rt_layer *l)
{
    return (l->f.cin + W16 - 1) / W16;
}

static size_t i8_norm_pack_size(const struct cinchrt_model *m, const struct rt_layer *l)
{
    (void)m;
    return sizeof(struct i8_norm_packed) + (size_t)i8_norm_blocks(l) * W16 * 8;
}

static void i8_norm_pack(const struct cinchrt_model *m, const struct rt_layer *l,
                         const uint8_t *block, void *dst)
{
    struct i8_norm_packed *p = dst;
    int32_t *bias = (int32_t *)(p + 1), *gamma;
    int i;
    memset(dst, 0, i8_norm_pack_size(m, l));
    p->blocks = i8_norm_blocks(l);
    rt_mult_decode(l->f.param, &p->mult);
    gamma = bias + p->blocks * W16;
    for (i = 0; i < l->f.cin; i++) {
        bias[i] = (int32_t)rt_u32(block + 4 * i);
        gamma[i] = (int16_t)rt_u16(block + 4 * (size_t)l->f.cin + 2 * i);
    }
}

/* max and min of n over the window so far: int16 [units] each. */
static size_t i8_norm_scratch(const struct cinchrt_model *m, const struct rt_layer *l)
{
    (void)m;
    return (size_t)i8_norm_blocks(l) * W16 * 4;
}

static int32_t i8_floor_div(int32_t a, int32_t b)
{
    int32_t q = a / b;
    return a % b < 0 ? q - 1 : q;
}

struct i8_norm_row {
    int32_t mu, r, s;
};

/* Mean and reciprocal deviation of one row; lanes behind the last channel hold
 * 0. */
static inline struct i8_norm_row i8_norm_statistics(const int16_t *h, int blocks, int c)
{
    struct i8_norm_row row;
    vi s1 = v_zero(), s2 = v_zero(), one = v_set16(1);
    int32_t sum;
    int b;
    for (b = 0; b < blocks; b++) { /* a lane of squares holds up to 2 * 2^30: summed in 64 bits */
        vi v = v_load(h + b * W16), square = v_madd16(v, v);
        s1 = v_add32(s1, v_madd16(v, one));
        s2 = v_add64(s2, v_add64(v_low(square), v_high(square)));
    }
    sum = v_sum32(s1);
    row.mu = i8_floor_div(2 * sum + c, 2 * c);
    rt_rstd((uint64_t)c * v_sum64(s2) - (uint64_t)((int64_t)sum * sum) +
                10737 * (uint64_t)c * (uint64_t)c,
            (uint32_t)c, &row.r, &row.s);
    return row;
}

static inline vi i8_norm_half(vi h, vi mu, vi r, vi half, int s)
{
    return v_sra32(v_add32(v_mullo32(v_sub32(h, mu), r), half), s);
}

static inline void i8_norm_window(const int16_t *h, int blocks, const struct i8_norm_row *row,
                                  int16_t *top)
{
    vi mu = v_set32(row->mu), r = v_set32(row->r), half = v_set32(1 << (row->s - 1));
    int16_t *bottom = top + blocks * W16;
    int b;
    for (b = 0; b < blocks; b++) {
        vi v = v_load(h + b * W16);
        vi n = v_narrow16(i8_norm_half(v_widen_lo(v), mu, r, half, row->s),
                          i8_norm_half(v_widen_hi(v), mu, r, half, row->s));
        v_store(top + b * W16, v_max16(v_load(top + b * W16), n));
        v_store(bottom + b * W16, v_min16(v_load(bottom + b * W16), n));
    }
}

static void i8_norm_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch)
{
    const struct rt_edge *in = &m->edge[l->in], *out = &m->edge[l->out];
    const struct i8_norm_packed *p = l->packed;
    const int32_t *bias = (const int32_t *)(p + 1), *gamma = bias + p->blocks * W16;
    const int16_t *h = (const int16_t *)(const void *)rt_rows(m, l->in, scratch);
    int16_t *top = (int16_t *)(void *)(scratch + m->tmp), *bottom = top + p->blocks * W16;
    uint8_t *y = rt_rows(m, l->out, scratch);
    int t, j, i;
    for (t = 0; t < l->tout; t++, y += out->stride) {
        for (i = 0; i < p->blocks * W16; i++) top[i] = -32768, bottom[i] = 32767;
        for (j = 0; j < l->f.pool; j++, h += in->stride) {
            struct i8_norm_row row = i8_norm_statistics(h, p->blocks, l->f.cin);
            i8_norm_window(h, p->blocks, &row, top);
        }
        for (i = 0; i < l->f.cin; i++) {
            int32_t a = gamma[i] * (gamma[i] < 0 ? bottom[i] : top[i]) + bias[i];
            y[i] = (uint8_t)rt_clamp(out->zero + rt_rq(a, p->mult), 0, out->qmax);
        }
    }
}

/* Sums of 16 bits over at most 128 rows (255 * 128 < 2^15), then of 32. */
static void i8_mean_block(const uint8_t *x, size_t row, int t, int32_t *sum)
{
    vi lo = v_zero(), hi = v_zero();
    while (t > 0) {
        int n = t < 128 ? t : 128, i;
        vi part = v_zero();
        for (i = 0; i < n; i++, x += row) part = v_add16(part, v_widen_bytes(x));
        lo = v_add32(lo, v_widen_lo(part));
        hi = v_add32(hi, v_widen_hi(part));
        t -= n;
    }
    v_store(sum, lo);
    v_store(sum + VL, hi);
}

static void i8_mean_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch)
{
    const struct rt_edge *in = &m->edge[l->in], *out = &m->edge[l->out];
    const uint8_t *x = rt_rows(m, l->in, scratch);
    uint8_t *y = rt_rows(m, l->out, scratch);
    struct rt_mult k;
    int32_t sum[W16];
    int c, i;
    if (!rt_mult_decode(l->f.param, &k)) return; /* never: rt_check refused it */
    for (c = 0; c < l->f.cin; c += W16) {
        i8_mean_block(x + c, (size_t)in->stride, in->t, sum);
        for (i = 0; i < W16 && c + i < l->f.cin; i++)
            y[c + i] =
                (uint8_t)rt_clamp(out->zero + rt_rq(sum[i] - in->zero * in->t, k), 0, out->qmax);
    }
}

static size_t i8_nothing_size(const struct cinchrt_model *m, const struct rt_layer *l)
{
    (void)m, (void)l;
    return 0;
}

static void i8_nothing(const struct cinchrt_model *m, const struct rt_layer *l,
                       const uint8_t *block, void *dst)
{
    (void)m, (void)l, (void)block, (void)dst;
}

/* VL samples of one lead -> 32-bit values 0..qmax. The order of max and min
 * maps NaN to the lower bound. */
struct i8_quantise {
    vf inverse, lo, hi;
    vi zero;
};
static inline vi i8_quantise_vector(const struct i8_quantise *q, const float *x)
{
    vf v = vf_min(vf_max(vf_mul(vf_load(x), q->inverse), q->lo), q->hi);
    return v_add32(vf_round32(v), q->zero);
}

/* VL samples of `leads` (1 to 4) leads from x on, one behind another in a word. */
static inline vi i8_quantise_word(const struct i8_quantise *q, const float *x, size_t n, int leads)
{
    vi w = i8_quantise_vector(q, x);
    int i;
    for (i = 1; i < leads; i++)
        w = v_add32(w, v_shl32(i8_quantise_vector(q, x + (size_t)i * n), 8 * i));
    return w;
}

/* Leads in fours: a 32-bit lane gathers four leads of a sample, then goes to
 * its row. One to three leads left over are written byte by byte. */
static void i8_quantise_columns(const struct i8_quantise *q, const struct rt_edge *e,
                                const float *x, uint8_t *rows, int t)
{
    uint32_t word[VL];
    size_t n = (size_t)e->t, stride = (size_t)e->stride;
    int c, i;
    for (c = 0; c < e->c; c += 4) {
        int left = e->c - c < 4 ? e->c - c : 4;
        v_store(word, i8_quantise_word(q, x + (size_t)c * n + (size_t)t, n, left));
        for (i = 0; i < VL; i++) {
            uint8_t *to = rows + (size_t)(t + i) * stride + c;
            if (left == 4)
                memcpy(to, &word[i], 4);
            else
                memcpy(to, &word[i], (size_t)left);
        }
    }
}

/* Twelve leads without gaps, as most ECGs have: whole vectors of rows. */
static void i8_quantise_twelve(const struct i8_quantise *q, const struct rt_edge *e, const float *x,
                               uint8_t *rows, int t)
{
    size_t n = (size_t)e->t;
    x += t;
    v_store_by3(rows + 12 * (size_t)t, i8_quantise_word(q, x, n, 4),
                i8_quantise_word(q, x + 4 * n, n, 4), i8_quantise_word(q, x + 8 * n, n, 4));
}

/* One lead is a row of bytes. */
static void i8_quantise_one(const struct i8_quantise *q, const struct rt_edge *e, const float *x,
                            uint8_t *rows, int t)
{
    v_store_bytes32(rows + t, i8_quantise_vector(q, x + t), VL);
}
static void i8_quantise_input(const struct rt_edge *e, const float *x, uint8_t *rows)
{
    struct i8_quantise q = {vf_set(1.0f / e->scale), vf_set((float)-e->zero),
                            vf_set((float)(e->qmax - e->zero)), v_set32(e->zero)};
    void (*some)(const struct i8_quantise *, const struct rt_edge *, const float *, uint8_t *,
                 int) = e->c == 12 && e->stride == 12 ? i8_quantise_twelve
                        : e->c == 1 && e->stride == 1 ? i8_quantise_one
                                                      : i8_quantise_columns;
    int t;
    if (e->t < VL) {
        rt_quantise__portable(e, x, rows);
        return;
    }
    for (t = 0; t + VL <= e->t; t += VL) some(&q, e, x, rows, t);
    if (t < e->t) some(&q, e, x, rows, e->t - VL);
}
