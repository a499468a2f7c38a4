/* cpu/rt/i8_conv.inc.h - int8 convolution and linear layer for one instruction set; a template. The
 * includer has included a vec*.h, after defining RT_DOT_VNNI or not, and defined TILE_M: the time
 * steps of a register tile, a multiple of 6, so that pools of 1, 2 and 3 fit.
 *
 * Output channels lie in lanes, TILE_M steps and two vectors of channels make a
 * tile that stays in registers while the window is walked; its 32-bit words (4
 * channels with VNNI, 2 without) are broadcast. The window of a step, k rows,
 * is contiguous, so there is one loop over `depth` words. Pooling takes the
 * maximum of the accumulators (requantisation is monotone), then bias,
 * requantisation and clamp. Without VNNI the input is first widened to 16 bits
 * and multiplied by pairs (VPMADDWD), which is exact for all 8-bit values where
 * VPMADDUBSW would saturate; kernels of 3, 5 and 7 taps go through i8_wino.inc.h there.
 *
 * The zero-points: sum w (x - z) = sum w x - z sum w, the second part goes into
 * the bias at load. All in 32-bit wrapping arithmetic, whose true result fits
 * (rt_check).
 */
#include "cpu/rt/model.h"

#ifndef DEPTH_WORDS
#define DEPTH_WORDS 1 /* windows are packed as a multiple of so many words */
#endif
#ifdef RT_DOT_VNNI
#define GROUP 4 /* input elements per 32-bit word */
#define ELEMENT 1
#else
#define GROUP 2
#define ELEMENT 2
#endif

/* Constants of VL channels, in the order the epilogue reads them. The 64-bit
 * ones serve even and odd lanes. */
struct i8_lanes {
    int32_t bias[VL]; /* zero-point folded in */
    int32_t m[VL];
    int64_t round_even[VL / 2], round_odd[VL / 2]; /* 2^(s-1) + 2^62 */
    int64_t shift_even[VL / 2], shift_odd[VL / 2];
    int32_t offset[VL]; /* zero - low32(2^(62-s)) */
    float logit[VL];
};

struct i8_packed {
    int32_t depth, depth1; /* words of a window; of the side input */
    int32_t blocks;        /* vectors of output channels */
    int32_t unused[13];    /* to 64 bytes */
                           /* then: struct i8_lanes lanes[blocks], struct i8_lanes side[blocks] when
   * depth1; int32 w[blocks][depth][VL] in panels of two blocks:
   * [panel][depth][2][VL] (a last single: [depth][VL]); the same for w1 with
   * depth1 */
};

static int i8_rows(const struct rt_layer *l)
{
    return l->f.op == CINCHRT_CONV_I8 ? l->f.k : l->tin;
}

static int i8_depth(int rows, int stride)
{
    int words = (rows * stride + GROUP - 1) / GROUP;
    return (words + DEPTH_WORDS - 1) / DEPTH_WORDS * DEPTH_WORDS;
}

static int i8_blocks(const struct rt_layer *l)
{
    return (l->f.cout + VL - 1) / VL;
}

/* Lane constants from bias (before folding), multiplier bits and the output's
 * zero-point. */
static void i8_set_lane(struct i8_lanes *lanes, int i, int32_t bias, uint32_t bits, int zero)
{
    struct rt_mult k;
    memcpy(&lanes->logit[i], &bits, 4);
    lanes->bias[i] = bias;
    if (!rt_mult_decode(bits, &k)) k.m = 1 << 23, k.s = 24; /* a logit's scale: not used */
    lanes->m[i] = k.m;
    if (i & 1) {
        lanes->round_odd[i / 2] = ((int64_t)1 << (k.s - 1)) + ((int64_t)1 << 62);
        lanes->shift_odd[i / 2] = k.s;
    } else {
        lanes->round_even[i / 2] = ((int64_t)1 << (k.s - 1)) + ((int64_t)1 << 62);
        lanes->shift_even[i / 2] = k.s;
    }
    lanes->offset[i] = (int32_t)((uint32_t)zero - (uint32_t)((uint64_t)1 << (62 - k.s)));
}

/* Channels of a panel of two vectors are dealt by fours, so that v_packs32 of
 * both restores their order; a single vector has them in order. Where channel o
 * stands: vector *b (of all) and lane. */
static int i8_lane(int o, int blocks, int *b)
{
    int in_panel = o % (2 * VL);
    *b = o / VL;
    if (*b == blocks - 1 && (blocks & 1)) return o % VL;
    *b = o / (2 * VL) * 2 + (in_panel >> 2 & 1);
    return (in_panel >> 3) * 4 + (in_panel & 3);
}

/* Where input element `e` (a byte of the window) of block b stands: panels of
 * two blocks. */
static uint8_t *i8_weight_at(uint8_t *w, int blocks, int depth, int b, int e, int lane)
{
    int single = b == blocks - 1 && (blocks & 1);
    size_t panel = (size_t)(b / 2) * 2 * (size_t)depth;
    size_t word = panel + (size_t)(e / GROUP) * (single ? 1 : 2) + (size_t)(single ? 0 : b & 1);
    return w + (word * VL + (size_t)lane) * 4 + (size_t)(e % GROUP) * ELEMENT;
}

static void i8_put_weight(uint8_t *at, int value)
{
    if (ELEMENT == 1) {
        *at = (uint8_t)value;
    } else {
        int16_t v = (int16_t)value;
        memcpy(at, &v, 2);
    }
}

/* Spreads w[cout][cin][rows] over the panels; sums[o] = sum of the channel's
 * weights. */
struct i8_spread {
    const uint8_t *w;
    uint8_t *to;
    int cout, cin, rows, stride, blocks, depth;
};
static int32_t i8_spread_channel(const struct i8_spread *s, int o)
{
    int32_t sum = 0;
    int b, lane = i8_lane(o, s->blocks, &b), c, j;
    for (c = 0; c < s->cin; c++)
        for (j = 0; j < s->rows; j++) {
            int v =
                (int8_t)
                    s->w[((size_t)o * (size_t)s->cin + (size_t)c) * (size_t)s->rows + (size_t)j];
            sum += v;
            i8_put_weight(i8_weight_at(s->to, s->blocks, s->depth, b, j * s->stride + c, lane), v);
        }
    return sum;
}

/* A vector's constants, in registers where there are enough. */
struct i8_rounder {
    vi m, m_high, round_even, round_odd, shift_even, shift_odd, offset;
};
static inline __attribute__((always_inline)) struct i8_rounder
i8_rounder_of(const struct i8_lanes *k)
{
    struct i8_rounder r;
    r.m = v_load(k->m), r.m_high = v_high(r.m);
    r.round_even = v_load(k->round_even), r.round_odd = v_load(k->round_odd);
    r.shift_even = v_load(k->shift_even), r.shift_odd = v_load(k->shift_odd);
    r.offset = v_load(k->offset);
    return r;
}

/* rq(a) + offset's zero: low 32 bits of (a*m + 2^(s-1)) >> s. The 2^62 in
 * `round` makes the sum positive, so a logical shift serves; `offset` takes its
 * shifted image away again. */
static inline __attribute__((always_inline)) vi i8_requant(vi a, const struct i8_rounder *r)
{
    vi even = v_add64(v_mul64(a, r->m), r->round_even);
    vi odd = v_add64(v_mul64(v_high(a), r->m_high), r->round_odd);
    even = v_srlv64(even, r->shift_even);
    odd = v_srlv64(odd, r->shift_odd);
    return v_add32(v_join(even, v_sll64(odd, 32)), r->offset);
}

struct i8_job {
    const uint8_t *x, *x1; /* first row read; its own side row */
    size_t row, row1;      /* bytes from step to step */
    const uint8_t *w, *w1; /* this panel's */
    int depth, depth1;
    const struct i8_lanes *lanes, *side;
    uint8_t *y;
    size_t yrow;
    int pool, lo, hi;
    int part; /* channels of the panel's last vector that are stored */
    int logits;
    int32_t bias[2 * VL]; /* the panel's, where sums start */
};

/* Sums of M steps by NV vectors over `depth` words, on top of what acc holds.
 */
#define I8_WALK(M, NV)                                                                             \
    static inline __attribute__((always_inline)) void i8_walk_##M##x##NV(                          \
        vi(*acc)[NV], const uint8_t *x, size_t row, const uint8_t *w, int depth)                   \
    {                                                                                              \
        const uint8_t *p[(M + 2) / 3];                                                             \
        int d, i, v;                                                                               \
        _Pragma("GCC unroll 8") for (i = 0; i < (M + 2) / 3; i++) p[i] = x + 3 * (size_t)i * row;  \
        for (d = 0; d < depth; d++, w += NV * VL * 4) {                                            \
            vi wv[NV];                                                                             \
            _Pragma("GCC unroll 4") for (v = 0; v < NV; v++) wv[v] = v_load(w + v * VL * 4);       \
            _Pragma("GCC unroll 16") for (i = 0; i < M; i++)                                       \
            {                                                                                      \
                vi b = v_bcast32(p[i / 3] + (size_t)(i % 3) * row + 4 * (size_t)d);                \
                _Pragma("GCC unroll 4") for (v = 0; v < NV; v++) acc[i][v] =                       \
                    v_dot(acc[i][v], b, wv[v]);                                                    \
            }                                                                                      \
        }                                                                                          \
    }

/* Side sums of vector v at `to`, `rows` of them each `step` further on: to the main sums' unit, plus bias. */
static __attribute__((noinline)) void i8_side_round(const struct i8_job *j, int v, int32_t *to,
                                                    int rows, int step)
{
    const struct i8_rounder r = i8_rounder_of(&j->side[v]);
    vi bias = v_load(j->bias + v * VL);
    int i;
    for (i = 0; i < rows; i++, to += step) v_store(to, v_add32(i8_requant(v_load(to), &r), bias));
}

/* Sums of the side input, requantised to the main sums' unit, plus bias: where
 * the main sums start. Apart from the tile and not inlined, to leave it all the
 * registers. */
#define I8_SIDE(M, NV)                                                                             \
    static __attribute__((noinline)) void i8_side_##M##x##NV(const struct i8_job *j, size_t t,     \
                                                             int32_t *to)                          \
    {                                                                                              \
        vi acc[M][NV];                                                                             \
        int i, v;                                                                                  \
        _Pragma("GCC unroll 16") for (i = 0; i < M; i++)                                           \
        {                                                                                          \
            _Pragma("GCC unroll 4") for (v = 0; v < NV; v++) acc[i][v] = v_load(j->side[v].bias);  \
        }                                                                                          \
        i8_walk_##M##x##NV(acc, j->x1 + t * j->row1, j->row1, j->w1, j->depth1);                   \
        _Pragma("GCC unroll 16") for (i = 0; i < M; i++)                                           \
        {                                                                                          \
            _Pragma("GCC unroll 4") for (v = 0; v < NV; v++)                                       \
                v_store(to + (i * NV + v) * VL, acc[i][v]);                                        \
        }                                                                                          \
        for (v = 0; v < NV; v++) i8_side_round(j, v, to + v * VL, M, NV * VL);                     \
    }

#define I8_TILE(M, NV)                                                                             \
    I8_WALK(M, NV)                                                                                 \
    I8_SIDE(M, NV)                                                                                 \
    static inline __attribute__((always_inline)) void i8_sum_##M##x##NV(                           \
        vi(*acc)[NV], const struct i8_job *j, size_t t)                                            \
    {                                                                                              \
        int32_t ground[M * NV * VL];                                                               \
        const int32_t *from = j->bias;                                                             \
        size_t step = 0;                                                                           \
        int i, v;                                                                                  \
        if (j->depth1) i8_side_##M##x##NV(j, t, ground), from = ground, step = NV * VL;            \
        _Pragma("GCC unroll 16") for (i = 0; i < M; i++, from += step)                             \
        {                                                                                          \
            _Pragma("GCC unroll 4") for (v = 0; v < NV; v++) acc[i][v] = v_load(from + v * VL);    \
        }                                                                                          \
        i8_walk_##M##x##NV(acc, j->x + t * j->row, j->row, j->w, j->depth);                        \
    }
#define I8_TILE_OF(m, nv) I8_TILE(m, nv) /* expands TILE_M first */

I8_TILE_OF(TILE_M, 2)
I8_TILE_OF(TILE_M, 1)
I8_TILE(1, 2)
I8_TILE(1, 1)
#if !defined RT_DOT_VNNI && TILE_M != 6
I8_WALK(6, 2) /* i8_wino.inc.h's side tiles */
I8_WALK(6, 1)
I8_SIDE(6, 2)
I8_SIDE(6, 1)
#endif

static void i8_finish_logits(const struct i8_job *j, const int32_t *sums, uint8_t *y, int nv)
{
    int o, v, n = (nv - 1) * VL + j->part;
    for (o = 0; o < n; o++) {
        int lane = i8_lane(o, nv, &v);
        ((float *)(void *)y)[o] = (float)sums[v * VL + lane] * j->lanes[v].logit[lane];
    }
}

/* Requantisation, clamp and store of `rows` pooled steps: sums [rows][2][VL].
 */
static __attribute__((noinline)) void i8_finish_2(const struct i8_job *j, const int32_t *sums,
                                                  uint8_t *y, int rows)
{
    vi lo = v_set16(j->lo), hi = v_set16(j->hi);
    const struct i8_rounder first = i8_rounder_of(&j->lanes[0]);
    const struct i8_rounder second = i8_rounder_of(&j->lanes[1]);
    int i;
    if (j->logits) {
        i8_finish_logits(j, sums, y, 2);
        return;
    }
    for (i = 0; i < rows; i++, y += j->yrow, sums += 2 * VL) {
        vi a = v_packs32(i8_requant(v_load(sums), &first), i8_requant(v_load(sums + VL), &second));
        a = v_min16(v_max16(a, lo), hi);
        if (j->part == VL)
            v_store_bytes16(y, a);
        else
            v_store_part16(y, a, VL + j->part);
    }
}

static __attribute__((noinline)) void i8_finish_1(const struct i8_job *j, const int32_t *sums,
                                                  uint8_t *y, int rows)
{
    vi lo = v_set32(j->lo), hi = v_set32(j->hi);
    const struct i8_rounder first = i8_rounder_of(&j->lanes[0]);
    int i;
    if (j->logits) {
        i8_finish_logits(j, sums, y, 1);
        return;
    }
    for (i = 0; i < rows; i++, y += j->yrow, sums += VL) {
        vi a = i8_requant(v_load(sums), &first);
        v_store_bytes32(y, v_min32(v_max32(a, lo), hi), j->part);
    }
}

/* One tile of TILE_M steps from pooled step t on; pool is a constant in each
 * use. */
#define I8_POOLED(NV, POOL)                                                                        \
    static void i8_tile_##NV##_pool##POOL(const struct i8_job *j, size_t t)                        \
    {                                                                                              \
        vi acc[TILE_M][NV];                                                                        \
        int32_t sums[TILE_M / POOL * NV * VL];                                                     \
        int i, v, q;                                                                               \
        i8_sum(TILE_M, NV)(acc, j, t * POOL);                                                      \
        _Pragma("GCC unroll 16") for (i = 0; i < TILE_M / POOL; i++)                               \
        {                                                                                          \
            _Pragma("GCC unroll 4") for (v = 0; v < NV; v++)                                       \
            {                                                                                      \
                vi a = acc[i * POOL][v];                                                           \
                _Pragma("GCC unroll 4") for (q = 1; q < POOL; q++) a =                             \
                    v_max32(a, acc[i * POOL + q][v]);                                              \
                v_store(sums + (i * NV + v) * VL, a);                                              \
            }                                                                                      \
        }                                                                                          \
        i8_finish_##NV(j, sums, j->y + t * j->yrow, TILE_M / POOL);                                \
    }
#define I8_JOIN(m, nv) i8_sum_##m##x##nv
#define i8_sum(m, nv) I8_JOIN(m, nv)

I8_POOLED(2, 1)
I8_POOLED(2, 2)
I8_POOLED(2, 3)
I8_POOLED(1, 1)
I8_POOLED(1, 2)
I8_POOLED(1, 3)

/* Any pool, one pooled step: short outputs, linear layers, odd pools. */
#define I8_SINGLE(NV)                                                                              \
    static void i8_single_##NV(const struct i8_job *j, size_t t)                                   \
    {                                                                                              \
        vi acc[1][NV];                                                                             \
        int32_t best[NV * VL];                                                                     \
        int q, v;                                                                                  \
        for (q = 0; q < j->pool; q++) {                                                            \
            i8_sum_1x##NV(acc, j, t *(size_t)j->pool + (size_t)q);                                 \
            _Pragma("GCC unroll 4") for (v = 0; v < NV; v++)                                       \
                v_store(best + v * VL, q ? v_max32(acc[0][v], v_load(best + v * VL)) : acc[0][v]); \
        }                                                                                          \
        i8_finish_##NV(j, best, j->y + t * j->yrow, 1);                                            \
    }
I8_SINGLE(2)
I8_SINGLE(1)

typedef void i8_tile_fn(const struct i8_job *j, size_t t);

/* All pooled steps of one panel. The last tile is moved back to end with the
 * output: its steps are computed twice, to the same bytes. */
static void i8_panel(const struct i8_job *j, int pair, size_t tout)
{
    static i8_tile_fn *const tiles[2][3] = {
        {i8_tile_1_pool1, i8_tile_1_pool2, i8_tile_1_pool3},
        {i8_tile_2_pool1, i8_tile_2_pool2, i8_tile_2_pool3},
    };
    i8_tile_fn *tile;
    size_t step = j->pool <= 3 ? (size_t)(TILE_M / j->pool) : 0, t;
    if (!step || tout < step) {
        for (t = 0; t < tout; t++) (pair ? i8_single_2 : i8_single_1)(j, t);
        return;
    }
    tile = tiles[pair][j->pool - 1];
    for (t = 0; t + step <= tout; t += step) tile(j, t);
    if (t < tout) tile(j, tout - step);
}

#ifndef RT_DOT_VNNI
/* Input rows widened to 16 bits, pads and slack included, so that windows stay
 * contiguous. */
static size_t i8_wide_bytes(const struct rt_edge *e)
{
    return rt_round(2 * (size_t)e->stride * (size_t)(e->t + 2 * e->pad) + 2 * RT_SLACK, RT_ALIGN);
}

static const uint8_t *i8_widen(const struct rt_edge *e, const uint8_t *rows, uint8_t *to)
{
    size_t lead = (size_t)e->pad * (size_t)e->stride;
    size_t n = (size_t)e->stride * (size_t)(e->t + 2 * e->pad) + 4, i;
    const uint8_t *from = rows - lead;
    for (i = 0; i < n; i += 2 * VL) v_store(to + 2 * i, v_widen_bytes(from + i));
    return to + 2 * lead;
}
#endif

#ifdef RT_DOT_VNNI
#define i8_wino_outputs(m, l) 0
#else
#include "cpu/rt/i8_wino.inc.h"
#endif

/* Words of a channel's weights: of its window, or of its images at 8 points. */
static int i8_weight_words(const struct cinchrt_model *m, const struct rt_layer *l)
{
    if (i8_wino_outputs(m, l)) return 8 * i8_depth(1, m->edge[l->in].stride);
    return i8_depth(i8_rows(l), m->edge[l->in].stride);
}

static size_t i8_conv_pack_size(const struct cinchrt_model *m, const struct rt_layer *l)
{
    size_t blocks = (size_t)i8_blocks(l), depth1 = 0;
    size_t depth = (size_t)i8_weight_words(m, l);
    if (l->in1 >= 0) depth1 = (size_t)i8_depth(1, m->edge[l->in1].stride);
    return sizeof(struct i8_packed) + blocks * sizeof(struct i8_lanes) * (depth1 ? 2 : 1) +
           blocks * (depth + depth1) * VL * 4;
}

typedef int32_t i8_spread_fn(const struct i8_spread *s, int o);

static void i8_conv_pack(const struct cinchrt_model *m, const struct rt_layer *l,
                         const uint8_t *block, void *dst)
{
    struct rt_block b = rt_block_of(l, block);
    struct i8_packed *p = dst;
    const struct rt_edge *in = &m->edge[l->in], *out = &m->edge[l->out];
    const struct rt_edge *side_in = l->in1 >= 0 ? &m->edge[l->in1] : 0;
    int blocks = i8_blocks(l), rows = i8_rows(l), o;
    i8_spread_fn *spread = i8_spread_channel;
    struct i8_lanes *lanes = (struct i8_lanes *)(p + 1), *side = lanes + blocks;
    struct i8_spread main_w = {b.w, 0, l->f.cout, l->f.cin, rows, in->stride, blocks, 0};
    struct i8_spread side_w = {b.w1,   0, l->f.cout, l->f.cin1, 1, side_in ? side_in->stride : 0,
                               blocks, 0};
#ifndef RT_DOT_VNNI
    if (i8_wino_outputs(m, l)) spread = i8_wino_spread;
#endif
    memset(dst, 0, i8_conv_pack_size(m, l));
    p->blocks = blocks;
    p->depth = main_w.depth = i8_weight_words(m, l);
    p->depth1 = side_w.depth = side_in ? i8_depth(1, side_in->stride) : 0;
    main_w.to = (uint8_t *)(side + (side_in ? blocks : 0));
    side_w.to = main_w.to + (size_t)blocks * (size_t)p->depth * VL * 4;
    for (o = 0; o < blocks * VL; o++) {
        /* lanes behind the last channel: weights and bias 0, any multiplier */
        uint32_t half = 0x3f000000u;
        int real = o < l->f.cout, at, lane = i8_lane(o, blocks, &at);
        int32_t bias = real ? (int32_t)rt_u32(b.bias + 4 * o) - in->zero * spread(&main_w, o) : 0;
        i8_set_lane(&lanes[at], lane, bias, real ? rt_u32(b.mult + 4 * o) : half, out->zero);
        if (!side_in) continue;
        bias = real ? -side_in->zero * i8_spread_channel(&side_w, o) : 0;
        i8_set_lane(&side[at], lane, bias, real ? rt_u32(b.mult1 + 4 * o) : half, 0);
    }
}

static size_t i8_conv_scratch(const struct cinchrt_model *m, const struct rt_layer *l)
{
#ifdef RT_DOT_VNNI
    (void)m, (void)l;
    return 0;
#else
    size_t n = i8_wino_outputs(m, l) ? i8_wino_scratch(m, l) : i8_wide_bytes(&m->edge[l->in]);
    return l->in1 < 0 ? n : n + i8_wide_bytes(&m->edge[l->in1]);
#endif
}

/* What the panels of a layer share, and where they begin. */
struct i8_layer {
    const struct i8_packed *p;
    const struct i8_lanes *lanes;
    const uint8_t *w, *w1;
    uint8_t *y;
    int stride; /* of the output */
};

/* The job of the panel that begins with block b; 1 when it has two. */
static int i8_job_of(const struct i8_layer *s, struct i8_job *j, int b)
{
    int pair = b + 1 < s->p->blocks, nv = pair ? 2 : 1;
    j->lanes = s->lanes + b;
    j->side = s->lanes + s->p->blocks + b;
    memcpy(j->bias, j->lanes[0].bias, 4 * VL);
    if (pair) memcpy(j->bias + VL, j->lanes[1].bias, 4 * VL);
    j->w = s->w + (size_t)b * (size_t)s->p->depth * VL * 4;
    j->w1 = s->w1 + (size_t)b * (size_t)s->p->depth1 * VL * 4;
    j->y = s->y + (size_t)b * VL * (j->logits ? 4 : 1);
    j->part = s->stride - (b + nv - 1) * VL;
    if (j->part > VL) j->part = VL;
    return pair;
}

#ifndef RT_DOT_VNNI
/* All chunks of tiles of a layer; x at the first step's window. */
static void i8_wino_run(const struct cinchrt_model *m, const struct rt_layer *l,
                        const struct i8_layer *layer, struct i8_job *j, uint8_t *tmp)
{
    const struct rt_edge *in = &m->edge[l->in];
    struct i8_wino s;
    size_t tiles, first;
    int b;
    s.j = j;
    s.m = i8_wino_outputs(m, l);
    s.total = (size_t)l->tout * l->f.pool;
    s.words = i8_wino_words(m, l);
    s.vrow = i8_wino_row(m, l);
    s.point = WINO8_TILES * s.vrow + WINO8_SKEW;
    s.v = tmp;
    s.products = (int32_t *)(void *)(tmp + 8 * s.point);
    s.xrow = (size_t)in->stride;
    tiles = (s.total + (size_t)s.m - 1) / (size_t)s.m;
    for (first = 0; first < tiles; first += WINO8_TILES) {
        size_t n = tiles - first < WINO8_TILES ? tiles - first : WINO8_TILES;
        i8_wino_transform(&s, j->x, first, n);
        for (b = 0; b < layer->p->blocks; b += 2) {
            int pair = i8_job_of(layer, j, b);
            i8_wino_panel(&s, pair, first, n);
        }
    }
}
#endif

/* Everything about the layer's panels but j->x and j->row. */
static struct i8_layer i8_begin(const struct cinchrt_model *m, const struct rt_layer *l,
                                uint8_t *scratch, struct i8_job *j)
{
    const struct rt_edge *out = &m->edge[l->out];
    struct i8_layer s;
    s.p = l->packed;
    s.lanes = (const struct i8_lanes *)(s.p + 1);
    s.w = (const uint8_t *)(s.lanes + (s.p->depth1 ? 2 : 1) * s.p->blocks);
    s.w1 = s.w + (size_t)s.p->blocks * (size_t)s.p->depth * VL * 4;
    s.y = rt_rows(m, l->out, scratch);
    s.stride = out->stride;
    memset(j, 0, sizeof *j);
    if (l->in1 >= 0) {
        j->x1 = rt_rows(m, l->in1, scratch);
        j->row1 = ELEMENT * (size_t)m->edge[l->in1].stride;
    }
    j->depth = s.p->depth, j->depth1 = s.p->depth1;
    j->pool = l->f.pool;
    j->logits = l->f.flags & CINCHRT_LOGITS;
    j->lo = l->f.flags & CINCHRT_RELU ? out->zero : 0, j->hi = out->qmax;
    j->yrow = (size_t)out->stride;
    return s;
}

static void i8_conv_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch)
{
    const uint8_t *x = rt_rows(m, l->in, scratch);
    size_t row = (size_t)m->edge[l->in].stride;
    struct i8_job j;
    struct i8_layer s = i8_begin(m, l, scratch, &j);
    int b;
#ifndef RT_DOT_VNNI
    uint8_t *tmp = scratch + m->tmp;
    if (j.x1) {
        j.x1 = i8_widen(&m->edge[l->in1], j.x1, tmp);
        tmp += i8_wide_bytes(&m->edge[l->in1]);
    }
    if (i8_wino_outputs(m, l)) {
        j.x = x - (size_t)l->f.pad * row;
        i8_wino_run(m, l, &s, &j, tmp);
        return;
    }
    x = i8_widen(&m->edge[l->in], x, tmp);
#endif
    j.row = ELEMENT * row;
    j.x = x - (size_t)l->f.pad * j.row;
    for (b = 0; b < s.p->blocks; b += 2) {
        int pair = i8_job_of(&s, &j, b);
        i8_panel(&j, pair, (size_t)l->tout);
    }
}
