/* cpu/rt/i8_lstm.inc.h - the static int8 LSTM for one instruction set; a
 * template like i8_conv.inc.h, which it follows. Units are taken in blocks of
 * W16, one 16-bit lane each; a block has two 32-bit vectors of sums per gate,
 * whose rows are dealt so that packing two of them restores the units' order.
 * The recurrent weights of 64 units are 16 KB and stay in L1. Everything behind
 * the sums happens in 16 bits: table lookups with one parabola each, VPMULHRSW,
 * saturating adds. The input's part of the next step is computed while the
 * chain of this one is under way.
 */
#include "cpu/rt/model.h"

#define W16 (2 * VL) /* units of a block */

/* Constants of a block. Row vectors: [gate][half][VL]. */
struct i8_lstm_block {
    int32_t sumx[8][VL], mx[8][VL], roundx[8][VL], shiftx[8][VL], lowx[8][VL],
        highx[8][VL]; /* of the input */
    int32_t sumh[8][VL], mh[8][VL], roundh[8][VL], shifth[8][VL], lowh[8][VL],
        highh[8][VL]; /* of h */
    int16_t bias[4][W16];
    int16_t put[W16], limit[W16], up[W16]; /* 1 << n; 32767 >> (12-n); 1 << (12-n) */
};

/* How sums are requantised: products a*m fit 31 bits; they do once the sum is held at a limit beyond which the result
 * saturates anyway (s <= 15); they need 64 bits. */
enum i8_lstm_mode { I8_SHORT, I8_HELD, I8_LONG };

struct i8_lstm_packed {
    int32_t blocks, depthx, depthh; /* words per row */
    int32_t mode;                   /* enum i8_lstm_mode */
    int32_t unused[12];
    /* then struct i8_lstm_block [blocks], int32 wx[blocks][depthx][8][VL],
   * wh[blocks][depthh][8][VL] */
};

static int i8_lstm_blocks(const struct rt_layer *l)
{
    return (l->f.cout + W16 - 1) / W16;
}

static int i8_lstm_depthx(const struct cinchrt_model *m, const struct rt_layer *l)
{
    return i8_depth(1, m->edge[l->in].stride);
}

static int i8_lstm_depthh(const struct rt_layer *l)
{
    return (l->f.cout + GROUP - 1) / GROUP;
}

static size_t i8_lstm_pack_size(const struct cinchrt_model *m, const struct rt_layer *l)
{
    size_t depth = (size_t)i8_lstm_depthx(m, l) + (size_t)i8_lstm_depthh(l);
    return sizeof(struct i8_lstm_packed) +
           (size_t)i8_lstm_blocks(l) * (sizeof(struct i8_lstm_block) + depth * 8 * VL * 4);
}

/* Unit u of a block: which half, which lane. v_packs32 joins 4 lanes of either
 * half per 128 bits. */
static int i8_lstm_half(int u)
{
    return u >> 2 & 1;
}
static int i8_lstm_lane(int u)
{
    return (u >> 3) * 4 + (u & 3);
}

struct i8_lstm_row {
    const uint8_t *w; /* [n] */
    int n, depth, vector, lane;
    uint8_t *to; /* this block's [depth][8][VL] */
};

/* Spreads one row's weights; returns their sum, *most gets the sum of
 * magnitudes. */
static int32_t i8_lstm_spread(const struct i8_lstm_row *r, int32_t *most)
{
    int32_t sum = 0;
    int i;
    *most = 0;
    for (i = 0; i < r->n; i++) {
        int v = (int8_t)r->w[i];
        size_t word = ((size_t)(i / GROUP) * 8 + (size_t)r->vector) * VL + (size_t)r->lane;
        sum += v;
        *most += v < 0 ? -v : v;
        i8_put_weight(r->to + word * 4 + (size_t)(i % GROUP) * ELEMENT, v);
    }
    return sum;
}

/* A row's multiplier without its trailing zeros: (a*m + 2^(s-1)) >> s is the same with m/2, s-1. */
struct i8_lstm_short {
    int32_t m, s;
};
static struct i8_lstm_short i8_lstm_shorten(uint16_t v)
{
    struct i8_lstm_short k = {rt_mult16_m(v), rt_mult16_s(v)};
    while (!(k.m & 1) && k.s > 1) k.m >>= 1, k.s--;
    return k;
}

/* The mode that a row of weights with this sum of magnitudes needs. */
static int i8_lstm_mode_of(int32_t most, int range, const struct i8_lstm_short *k)
{
    int64_t product = (int64_t)most * range * k->m + ((int64_t)1 << (k->s - 1));
    return product <= 0x7fffffff ? I8_SHORT : k->s <= 15 ? I8_HELD : I8_LONG;
}

/* Fills the limits of 8 x VL rows: I8_HELD: |a|*m + 2^(s-1) < 2^31, and beyond it |result| >= 2^15 as s <= 15. Rows
 * with s > 15 need none there. I8_LONG: the result stays below 2^30 in size. */
static void i8_lstm_limits(int32_t *low, int32_t *high, const int32_t *m, const int32_t *shift,
                           int mode)
{
    int i;
    for (i = 0; i < 8 * VL; i++) {
        int64_t limit = 0x7fffffff;
        if (mode == I8_HELD && m[i] && shift[i] <= 15)
            limit = (0x7fffffff - (1 << (shift[i] - 1))) / m[i];
        if (mode == I8_LONG && m[i]) limit = ((int64_t)1 << (29 + shift[i])) / m[i];
        if (limit > 0x7fffffff) limit = 0x7fffffff;
        high[i] = (int32_t)limit;
        low[i] = -(int32_t)limit;
    }
}

static void i8_raise(int32_t *mode, int to)
{
    if (*mode < to) *mode = to;
}

static int i8_range(int zero, int qmax)
{
    return zero > qmax - zero ? zero : qmax - zero;
}

static void i8_lstm_pack(const struct cinchrt_model *m, const struct rt_layer *l,
                         const uint8_t *block, void *dst)
{
    const struct rt_edge *in = &m->edge[l->in];
    int hidden = l->f.cout, rows = 4 * hidden, cin = l->f.cin, u, g;
    const uint8_t *bias = block, *mx = bias + 2 * rows, *mh = mx + 2 * rows, *cell = mh + 2 * rows;
    const uint8_t *wih = cell + hidden, *whh = wih + (size_t)rows * (size_t)cin;
    struct i8_lstm_packed *p = dst;
    struct i8_lstm_block *blocks = (struct i8_lstm_block *)(p + 1);
    uint8_t *wx, *wh;
    memset(dst, 0, i8_lstm_pack_size(m, l));
    p->blocks = i8_lstm_blocks(l);
    p->depthx = i8_lstm_depthx(m, l);
    p->depthh = i8_lstm_depthh(l);
    wx = (uint8_t *)(blocks + p->blocks);
    wh = wx + (size_t)p->blocks * (size_t)p->depthx * 8 * VL * 4;
    for (u = 0; u < p->blocks * W16; u++) {
        struct i8_lstm_block *b = &blocks[u / W16];
        int n = u < hidden ? cell[u] : 12, at = u % W16, lane = i8_lstm_lane(at);
        b->put[at] = (int16_t)(1 << n);
        b->limit[at] = (int16_t)(32767 >> (12 - n));
        b->up[at] = (int16_t)(1 << (12 - n));
        for (g = 0; u < hidden && g < 4; g++) {
            int row = g * hidden + u, v = 2 * g + i8_lstm_half(at);
            struct i8_lstm_short kx = i8_lstm_shorten(rt_u16(mx + 2 * row));
            struct i8_lstm_short kh = i8_lstm_shorten(rt_u16(mh + 2 * row));
            size_t skip = (size_t)(u / W16) * 8 * VL * 4;
            struct i8_lstm_row rx = {wih + (size_t)row * (size_t)cin, cin, p->depthx, v, lane,
                                     wx + skip * (size_t)p->depthx};
            struct i8_lstm_row rh = {whh + (size_t)row * (size_t)hidden, hidden, p->depthh, v, lane,
                                     wh + skip * (size_t)p->depthh};
            int32_t most;
            b->bias[g][at] = (int16_t)rt_u16(bias + 2 * row);
            b->sumx[v][lane] = -in->zero * i8_lstm_spread(&rx, &most);
            i8_raise(&p->mode, i8_lstm_mode_of(most, i8_range(in->zero, in->qmax), &kx));
            b->sumh[v][lane] = -l->f.zero * i8_lstm_spread(&rh, &most);
            i8_raise(&p->mode, i8_lstm_mode_of(most, i8_range(l->f.zero, l->f.qmax), &kh));
            b->mx[v][lane] = kx.m, b->shiftx[v][lane] = kx.s;
            b->mh[v][lane] = kh.m, b->shifth[v][lane] = kh.s;
            b->roundx[v][lane] = 1 << (kx.s - 1);
            b->roundh[v][lane] = 1 << (kh.s - 1);
        }
    }
    for (u = 0; u < p->blocks; u++) {
        struct i8_lstm_block *b = &blocks[u];
        i8_lstm_limits(b->lowx[0], b->highx[0], b->mx[0], b->shiftx[0], p->mode);
        i8_lstm_limits(b->lowh[0], b->highh[0], b->mh[0], b->shifth[0], p->mode);
    }
}

/* c (int16), px (int16 [4]) per unit, then two copies of h as the dot product
 * wants it. */
static size_t i8_lstm_h_bytes(const struct i8_lstm_packed *p)
{
    return rt_round((size_t)p->blocks * W16 * ELEMENT, RT_ALIGN);
}

static size_t i8_lstm_scratch(const struct cinchrt_model *m, const struct rt_layer *l)
{
    size_t units = (size_t)i8_lstm_blocks(l) * W16;
    size_t bytes = units * 10 + 2 * rt_round(units * ELEMENT, RT_ALIGN) + RT_ALIGN;
#ifndef RT_DOT_VNNI
    bytes += i8_wide_bytes(&m->edge[l->in]);
#endif
    (void)m;
    return bytes;
}

/* rq16 of VL sums, not yet saturated to 16 bits (packing does that). */
struct i8_lstm_mult {
    const int32_t *m, *round, *shift, *low, *high;
};

static inline __attribute__((always_inline)) vi i8_lstm_requant(vi a, const struct i8_lstm_mult *k,
                                                                int mode)
{
    vi m = v_load(k->m), shift = v_load(k->shift), half = v_load(k->round), even, odd;
    if (mode != I8_SHORT) a = v_max32(v_min32(a, v_load(k->high)), v_load(k->low));
    if (mode != I8_LONG) return v_srav32(v_add32(v_mullo32(a, m), half), shift);
    even = v_srlv64(v_add64(v_mul64(a, m), v_low(half)), v_low(shift));
    odd = v_srlv64(v_add64(v_mul64(v_high(a), v_high(m)), v_high(half)), v_high(shift));
    return v_join(even,
                  v_sll64(odd, 32)); /* low 32 bits: logical and arithmetic shift agree, s <= 30 */
}

/* The four gates' sums over one row of `words` words: packed to 16 bits, each
 * vector a gate. */
struct i8_lstm_sum {
    const uint8_t *x, *w;
    int words;
    const int32_t (*sum)[VL], (*m)[VL], (*round)[VL], (*shift)[VL], (*low)[VL], (*high)[VL];
};

static inline __attribute__((always_inline)) void i8_lstm_gates(const struct i8_lstm_sum *s,
                                                                vi v[4], int mode)
{
    const uint8_t *w = s->w;
    vi a[8];
    int d, i;
    _Pragma("GCC unroll 8") for (i = 0; i < 8; i++) a[i] = v_load(s->sum[i]);
    for (d = 0; d < s->words; d++, w += 8 * VL * 4) {
        vi b = v_bcast32(s->x + 4 * (size_t)d);
        _Pragma("GCC unroll 8") for (i = 0; i < 8; i++) a[i] =
            v_dot(a[i], b, v_load(w + i * VL * 4));
    }
    _Pragma("GCC unroll 8") for (i = 0; i < 8; i++)
    {
        struct i8_lstm_mult k = {s->m[i], s->round[i], s->shift[i], s->low[i], s->high[i]};
        a[i] = i8_lstm_requant(a[i], &k, mode);
    }
    _Pragma("GCC unroll 4") for (i = 0; i < 4; i++) v[i] = v_packs32(a[2 * i], a[2 * i + 1]);
}

struct i8_tanh {
    v_table32 c0, c1, c2;
};

static inline __attribute__((always_inline)) vi i8_tanh16(const struct i8_tanh *t, vi a)
{
    vi u = v_minu16(v_abs16(a), v_set16(32767));
    vi i = v_srl16(u, 10), f = v_and(v_sll16(u, 5), v_set16(0x7fe0));
    vi y = v_add16(v_lookup(t->c1, i), v_mulhrs(f, v_lookup(t->c2, i)));
    return v_sign16(v_add16(v_lookup(t->c0, i), v_mulhrs(f, y)), a);
}

static inline __attribute__((always_inline)) vi i8_sig16(const struct i8_tanh *t, vi a)
{
    return v_add16(v_set16(16384), v_sra16(i8_tanh16(t, a), 1));
}

/* Everything one block touches in one step. */
struct i8_lstm_step {
    const struct i8_lstm_block *k;
    struct i8_lstm_sum next, now; /* input row of the next step (words 0: none), h of the last */
    int16_t *c, *px;
    int16_t *y;
    uint8_t *hq; /* where the new 8-bit h goes */
    int zero, qmax, gain;
};

static inline __attribute__((always_inline)) void i8_lstm_input(const struct i8_lstm_step *s,
                                                                int mode)
{
    vi v[4];
    int g;
    i8_lstm_gates(&s->next, v, mode);
    _Pragma("GCC unroll 4") for (g = 0; g < 4; g++)
        v_store(s->px + g * W16, v_adds16(v[g], v_load(s->k->bias[g])));
}

static inline __attribute__((always_inline)) void i8_lstm_unit(const struct i8_lstm_step *s,
                                                               const struct i8_tanh *t, int mode)
{
    vi v[4], i, f, g, o, c, lim, h, q;
    int n;
    i8_lstm_gates(&s->now, v, mode);
    _Pragma("GCC unroll 4") for (n = 0; n < 4; n++) v[n] = v_adds16(v[n], v_load(s->px + n * W16));
    i = i8_sig16(t, v[0]);
    f = i8_sig16(t, v[1]);
    g = i8_tanh16(t, v_adds16(v[2], v[2]));
    o = i8_sig16(t, v[3]);
    c = v_adds16(v_mulhrs(f, v_load(s->c)), v_mulhrs(v_mulhrs(i, g), v_load(s->k->put)));
    v_store(s->c, c);
    lim = v_load(s->k->limit);
    c = v_max16(v_min16(c, lim), v_sub16(v_zero(), lim));
    h = v_mulhrs(o, i8_tanh16(t, v_mullo16(c, v_load(s->k->up))));
    v_store(s->y, h);
    q = v_adds16(v_mulhrs(h, v_set16(s->gain)), v_set16(s->zero));
    q = v_max16(v_min16(q, v_set16(s->qmax)), v_zero());
    if (ELEMENT == 1)
        v_store_bytes16(s->hq, q);
    else
        v_store(s->hq, q);
}

/* The 8-bit h before the first step: its zero-point. */
static void i8_lstm_start(uint8_t *h, size_t units, int zero)
{
    size_t i;
    memset(h, 0, units * ELEMENT);
    for (i = 0; i < units; i++) h[i * ELEMENT] = (uint8_t)zero;
}

struct i8_lstm_run {
    const struct i8_lstm_packed *p;
    const struct i8_lstm_block *blocks;
    const uint8_t *wx, *wh, *x;
    size_t row; /* bytes of an input row */
    int16_t *c, *px, *y;
    size_t yrow; /* elements */
    uint8_t *h[2];
    int steps, zero, qmax, gain;
};

static inline __attribute__((always_inline)) struct i8_lstm_step
i8_lstm_at(const struct i8_lstm_run *r, int t, int b)
{
    const struct i8_lstm_block *k = &r->blocks[b];
    size_t block = (size_t)b * 8 * VL * 4;
    struct i8_lstm_step s;
    s.k = k;
    s.now.x = r->h[t & 1], s.now.w = r->wh + block * (size_t)r->p->depthh,
    s.now.words = r->p->depthh;
    s.now.sum = k->sumh, s.now.m = k->mh, s.now.round = k->roundh, s.now.shift = k->shifth;
    s.now.low = k->lowh, s.now.high = k->highh;
    s.next.x = r->x + (size_t)(t + 1) * r->row, s.next.w = r->wx + block * (size_t)r->p->depthx;
    s.next.words = r->p->depthx;
    s.next.sum = k->sumx, s.next.m = k->mx, s.next.round = k->roundx, s.next.shift = k->shiftx;
    s.next.low = k->lowx, s.next.high = k->highx;
    s.c = r->c + b * W16, s.px = r->px + (size_t)b * 4 * W16;
    s.y = r->y + (size_t)(t < 0 ? 0 : t) * r->yrow + b * W16; /* t = -1: only the input part */
    s.hq = r->h[(t + 1) & 1] + (size_t)b * W16 * ELEMENT;
    s.zero = r->zero, s.qmax = r->qmax, s.gain = r->gain;
    return s;
}

/* All steps; `mode` is a constant in each use. */
static inline __attribute__((always_inline)) void i8_lstm_steps(const struct i8_lstm_run *r,
                                                                int mode)
{
    struct i8_tanh tables = {v_table_load(rt_tanh_c0), v_table_load(rt_tanh_c1),
                             v_table_load(rt_tanh_c2)};
    int t, b;
    for (b = 0; b < r->p->blocks; b++) {
        struct i8_lstm_step s = i8_lstm_at(r, -1, b);
        i8_lstm_input(&s, mode);
    }
    for (t = 0; t < r->steps; t++)
        for (b = 0; b < r->p->blocks; b++) {
            struct i8_lstm_step s = i8_lstm_at(r, t, b);
            i8_lstm_unit(&s, &tables, mode);
            if (t + 1 < r->steps) i8_lstm_input(&s, mode);
        }
}

static void i8_lstm_steps_short(const struct i8_lstm_run *r)
{
    i8_lstm_steps(r, I8_SHORT);
}

static void i8_lstm_steps_held(const struct i8_lstm_run *r)
{
    i8_lstm_steps(r, I8_HELD);
}

static void i8_lstm_steps_long(const struct i8_lstm_run *r)
{
    i8_lstm_steps(r, I8_LONG);
}

static void i8_lstm_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch)
{
    const struct rt_edge *in = &m->edge[l->in];
    struct i8_lstm_run r;
    size_t units;
    uint8_t *at = scratch + m->tmp;
    r.p = l->packed;
    r.blocks = (const struct i8_lstm_block *)(r.p + 1);
    r.wx = (const uint8_t *)(r.blocks + r.p->blocks);
    r.wh = r.wx + (size_t)r.p->blocks * (size_t)r.p->depthx * 8 * VL * 4;
    units = (size_t)r.p->blocks * W16;
    r.c = (int16_t *)(void *)at, at += 2 * units;
    r.px = (int16_t *)(void *)at, at += 8 * units;
    at += (RT_ALIGN - (uintptr_t)at % RT_ALIGN) % RT_ALIGN;
    r.h[0] = at, at += i8_lstm_h_bytes(r.p);
    r.h[1] = at, at += i8_lstm_h_bytes(r.p);
    r.x = rt_rows(m, l->in, scratch);
#ifndef RT_DOT_VNNI
    r.x = i8_widen(in, r.x, at);
#endif
    r.row = ELEMENT * (size_t)in->stride;
    r.y = (int16_t *)(void *)rt_rows(m, l->out, scratch);
    r.yrow = (size_t)m->edge[l->out].stride;
    r.steps = l->tin, r.zero = l->f.zero, r.qmax = l->f.qmax, r.gain = (int)l->f.param;
    memset(r.c, 0, 2 * units);
    i8_lstm_start(r.h[0], units, r.zero);
    if (r.p->mode == I8_SHORT)
        i8_lstm_steps_short(&r);
    else
        (r.p->mode == I8_HELD ? i8_lstm_steps_held : i8_lstm_steps_long)(&r);
}
