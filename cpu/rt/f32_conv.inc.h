/* cpu/rt/f32_conv.inc.h - float convolution, linear layer, mean and the
 * transposition of the input for one instruction set; a template. It is
 * i8_conv.inc.h in float: output channels in lanes, TILE_M steps by two vectors
 * in registers, one loop over the contiguous window. The includer has included
 * a vec*.h and defined TILE_M.
 */
#include "cpu/rt/ref.h"

struct f32_packed {
    int32_t depth, depth1, blocks;
    int32_t unused[13];
    /* then: float bias[blocks][VL], w in panels of two blocks
   * [panel][depth][2][VL], w1 alike with depth1 */
};

static int f32_rows(const struct rt_layer *l)
{
    return l->f.op == CINCHRT_CONV_F32 ? l->f.k : l->tin;
}

static int f32_blocks(const struct rt_layer *l)
{
    return (l->f.cout + VL - 1) / VL;
}

/* Spreads w[cout][cin][rows] over panels at `to`. */
struct f32_spread {
    const uint8_t *w;
    float *to;
    int cout, cin, rows, stride, blocks, depth;
};
static void f32_spread_weights(const struct f32_spread *s)
{
    int o, c, j;
    for (o = 0; o < s->cout; o++) {
        int b = o / VL, single = b == s->blocks - 1 && (s->blocks & 1);
        float *panel = s->to + (size_t)(b / 2) * 2 * (size_t)s->depth * VL +
                       (single ? 0 : b & 1) * VL + o % VL;
        for (c = 0; c < s->cin; c++)
            for (j = 0; j < s->rows; j++)
                panel[(size_t)(j * s->stride + c) * (single ? VL : 2 * VL)] =
                    rt_f32(s->w + 4 * (((size_t)o * (size_t)s->cin + (size_t)c) * (size_t)s->rows +
                                       (size_t)j));
    }
}

struct f32_job {
    const float *x, *x1;
    size_t row, row1; /* elements */
    const float *w, *w1, *bias;
    int depth, depth1;
    float *y;
    size_t yrow;
    int pool, relu;
    int part; /* floats of the panel's last vector that are stored */
};

#define F32_TILE(M, NV)                                                                            \
    static inline __attribute__((always_inline)) void f32_walk_##M##x##NV(                         \
        vf(*acc)[NV], const float *x, size_t row, const float *w, int depth)                       \
    {                                                                                              \
        const float *p[(M + 2) / 3];                                                               \
        int d, i, v;                                                                               \
        _Pragma("GCC unroll 8") for (i = 0; i < (M + 2) / 3; i++) p[i] = x + 3 * (size_t)i * row;  \
        for (d = 0; d < depth; d++, w += NV * VL) {                                                \
            vf wv[NV];                                                                             \
            _Pragma("GCC unroll 4") for (v = 0; v < NV; v++) wv[v] = vf_load(w + v * VL);          \
            _Pragma("GCC unroll 16") for (i = 0; i < M; i++)                                       \
            {                                                                                      \
                vf b = vf_set(p[i / 3][(size_t)(i % 3) * row + (size_t)d]);                        \
                _Pragma("GCC unroll 4") for (v = 0; v < NV; v++) acc[i][v] =                       \
                    vf_fma(b, wv[v], acc[i][v]);                                                   \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    static inline __attribute__((always_inline)) void f32_sum_##M##x##NV(                          \
        vf(*acc)[NV], const struct f32_job *j, size_t t)                                           \
    {                                                                                              \
        int i, v;                                                                                  \
        _Pragma("GCC unroll 16") for (i = 0; i < M; i++)                                           \
        {                                                                                          \
            _Pragma("GCC unroll 4") for (v = 0; v < NV; v++) acc[i][v] =                           \
                vf_load(j->bias + v * VL);                                                         \
        }                                                                                          \
        if (j->depth1) f32_walk_##M##x##NV(acc, j->x1 + t * j->row1, j->row1, j->w1, j->depth1);   \
        f32_walk_##M##x##NV(acc, j->x + t * j->row, j->row, j->w, j->depth);                       \
    }
#define F32_TILE_OF(m, nv) F32_TILE(m, nv) /* expands TILE_M first */

F32_TILE_OF(TILE_M, 2)
F32_TILE_OF(TILE_M, 1)
F32_TILE(1, 2)
F32_TILE(1, 1)

static inline __attribute__((always_inline)) void f32_finish(const struct f32_job *j, vf a, int v,
                                                             int last, float *y)
{
    if (j->relu) a = vf_max(a, vf_zero());
    vf_store_part(y + v * VL, a, last ? j->part : VL);
}

#define F32_JOIN(m, nv) f32_sum_##m##x##nv
#define f32_sum(m, nv) F32_JOIN(m, nv)
#define F32_POOLED(NV, POOL)                                                                       \
    static void f32_tile_##NV##_pool##POOL(const struct f32_job *j, size_t t)                      \
    {                                                                                              \
        vf acc[TILE_M][NV];                                                                        \
        float *y = j->y + t * j->yrow;                                                             \
        int i, v, q;                                                                               \
        f32_sum(TILE_M, NV)(acc, j, t * POOL);                                                     \
        _Pragma("GCC unroll 16") for (i = 0; i < TILE_M / POOL; i++, y += j->yrow)                 \
        {                                                                                          \
            _Pragma("GCC unroll 4") for (v = 0; v < NV; v++)                                       \
            {                                                                                      \
                vf a = acc[i * POOL][v];                                                           \
                _Pragma("GCC unroll 4") for (q = 1; q < POOL; q++) a =                             \
                    vf_max(a, acc[i * POOL + q][v]);                                               \
                f32_finish(j, a, v, v == NV - 1, y);                                               \
            }                                                                                      \
        }                                                                                          \
    }

F32_POOLED(2, 1)
F32_POOLED(2, 2)
F32_POOLED(2, 3)
F32_POOLED(1, 1)
F32_POOLED(1, 2)
F32_POOLED(1, 3)

#define F32_SINGLE(NV)                                                                             \
    static void f32_single_##NV(const struct f32_job *j, size_t t)                                 \
    {                                                                                              \
        vf best[NV], acc[1][NV];                                                                   \
        int q, v;                                                                                  \
        f32_sum_1x##NV(acc, j, t *(size_t)j->pool);                                                \
        _Pragma("GCC unroll 4") for (v = 0; v < NV; v++) best[v] = acc[0][v];                      \
        for (q = 1; q < j->pool; q++) {                                                            \
            f32_sum_1x##NV(acc, j, t *(size_t)j->pool + (size_t)q);                                \
            _Pragma("GCC unroll 4") for (v = 0; v < NV; v++) best[v] = vf_max(best[v], acc[0][v]); \
        }                                                                                          \
        _Pragma("GCC unroll 4") for (v = 0; v < NV; v++)                                           \
            f32_finish(j, best[v], v, v == NV - 1, j->y + t * j->yrow);                            \
    }
F32_SINGLE(2)
F32_SINGLE(1)

typedef void f32_tile_fn(const struct f32_job *j, size_t t);

/* As i8_panel: the last tile is moved back to end with the output. */
static void f32_panel(const struct f32_job *j, int pair, size_t tout)
{
    static f32_tile_fn *const tiles[2][3] = {
        {f32_tile_1_pool1, f32_tile_1_pool2, f32_tile_1_pool3},
        {f32_tile_2_pool1, f32_tile_2_pool2, f32_tile_2_pool3},
    };
    f32_tile_fn *tile;
    size_t step = j->pool <= 3 ? (size_t)(TILE_M / j->pool) : 0, t;
    if (!step || tout < step) {
        for (t = 0; t < tout; t++) (pair ? f32_single_2 : f32_single_1)(j, t);
        return;
    }
    tile = tiles[pair][j->pool - 1];
    for (t = 0; t + step <= tout; t += step) tile(j, t);
    if (t < tout) tile(j, tout - step);
}

#include "cpu/rt/f32_narrow.inc.h"
#include "cpu/rt/f32_wino.inc.h"

static size_t f32_conv_pack_size(const struct cinchrt_model *m, const struct rt_layer *l)
{
    size_t blocks = (size_t)f32_blocks(l), floats = blocks * VL;
    if (f32_wino_outputs(m, l))
        floats += f32_wino_weights(l);
    else if (f32_steps(m, l) > 1)
        return sizeof(struct f32_packed) + 4 * (VL + f32_narrow_weights(m, l));
    else
        floats += blocks * (size_t)f32_rows(l) * (size_t)m->edge[l->in].stride * VL;
    if (l->in1 >= 0) floats += blocks * (size_t)m->edge[l->in1].stride * VL;
    return sizeof(struct f32_packed) + 4 * floats;
}

static void f32_conv_pack(const struct cinchrt_model *m, const struct rt_layer *l,
                          const uint8_t *block, void *dst)
{
    struct rt_block b = rt_block_of(l, block);
    struct f32_packed *p = dst;
    float *bias = (float *)(p + 1), *w;
    int o;
    memset(dst, 0, f32_conv_pack_size(m, l));
    p->blocks = f32_blocks(l);
    p->depth = f32_rows(l) * m->edge[l->in].stride;
    p->depth1 = l->in1 >= 0 ? m->edge[l->in1].stride : 0;
    for (o = 0; o < l->f.cout; o++) bias[o] = rt_f32(b.bias + 4 * o);
    w = bias + p->blocks * VL;
    if (!f32_wino_outputs(m, l) && f32_steps(m, l) > 1) {
        f32_narrow_pack(m, l, &b, bias);
        return;
    }
    if (f32_wino_outputs(m, l)) {
        p->depth = 0;
        f32_wino_pack(l, b.w, w);
        w += f32_wino_weights(l);
    } else {
        struct f32_spread s = {
            b.w, w, l->f.cout, l->f.cin, f32_rows(l), m->edge[l->in].stride, p->blocks, p->depth};
        f32_spread_weights(&s);
        w += (size_t)p->blocks * (size_t)p->depth * VL;
    }
    if (l->in1 >= 0) {
        struct f32_spread s = {b.w1, w, l->f.cout, l->f.cin1, 1, p->depth1, p->blocks, p->depth1};
        f32_spread_weights(&s);
    }
}

/* Direct: all panels of one layer. With depth 0 only bias and side input are
 * summed, without ReLU and pool: the ground that Winograd adds to. */
static void f32_direct_run(const struct rt_edge *out, const struct f32_packed *p, struct f32_job j,
                           const float *w, const float *w1, size_t tout)
{
    const float *bias = j.bias;
    float *y = j.y;
    int b;
    j.depth = p->depth, j.depth1 = p->depth1;
    if (!p->depth) j.pool = 1, j.relu = 0;
    for (b = 0; b < p->blocks; b += 2) {
        int pair = b + 1 < p->blocks, nv = pair ? 2 : 1;
        j.bias = bias + b * VL;
        j.w = w + (size_t)b * (size_t)p->depth * VL;
        j.w1 = w1 + (size_t)b * (size_t)p->depth1 * VL;
        j.y = y + b * VL;
        j.part = out->stride - (b + nv - 1) * VL;
        if (j.part > VL) j.part = VL;
        f32_panel(&j, pair, tout);
    }
}

static size_t f32_conv_scratch(const struct cinchrt_model *m, const struct rt_layer *l)
{
    return f32_wino_outputs(m, l) ? f32_wino_scratch(l) : 0;
}

static void f32_conv_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch)
{
    const struct rt_edge *in = &m->edge[l->in], *out = &m->edge[l->out];
    const struct f32_packed *p = l->packed;
    const float *bias = (const float *)(p + 1), *w = bias + p->blocks * VL;
    int wino = f32_wino_outputs(m, l);
    const float *w1 = w + (wino ? f32_wino_weights(l) : (size_t)p->blocks * (size_t)p->depth * VL);
    struct f32_job j;
    memset(&j, 0, sizeof j);
    j.row = (size_t)in->stride;
    j.x = (const float *)(const void *)rt_rows(m, l->in, scratch) - (size_t)l->f.pad * j.row;
    if (l->in1 >= 0) {
        j.x1 = (const float *)(const void *)rt_rows(m, l->in1, scratch);
        j.row1 = (size_t)m->edge[l->in1].stride;
    }
    j.pool = l->f.pool;
    j.relu = l->f.flags & CINCHRT_RELU;
    j.y = (float *)(void *)rt_rows(m, l->out, scratch);
    j.yrow = (size_t)out->stride;
    j.bias = bias;
    if (!wino && f32_steps(m, l) > 1) {
        f32_narrow_run(m, l, j);
        return;
    }
    if (!wino || l->in1 >= 0) f32_direct_run(out, p, j, w, w1, (size_t)l->tout);
    if (wino) f32_wino_run(m, l, scratch, &j, w);
}

/* ref_f32.c's bits: it may stand in dynamically quantised nets. */
static void f32_mean_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch)
{
    const struct rt_edge *in = &m->edge[l->in], *out = &m->edge[l->out];
    const float *x = (const float *)(const void *)rt_rows(m, l->in, scratch);
    float *y = (float *)(void *)rt_rows(m, l->out, scratch), last[VL];
    vf scale = vf_set(1.0f / (float)in->t);
    int c, t, i;
    for (c = 0; c < out->stride; c += VL) {
        vf a = vf_zero(), b = vf_zero();
        for (t = 0; t + 1 < in->t; t += 2) {
            a = vf_add(a, vf_load(x + (size_t)t * (size_t)in->stride + (size_t)c));
            b = vf_add(b, vf_load(x + (size_t)(t + 1) * (size_t)in->stride + (size_t)c));
        }
        if (t < in->t) a = vf_add(a, vf_load(x + (size_t)t * (size_t)in->stride + (size_t)c));
        vf_store(last, vf_mul(vf_add(a, b), scale));
        for (i = 0; i < VL && c + i < out->stride; i++) y[c + i] = c + i < in->c ? last[i] : 0;
    }
}

/* Four leads by four samples at a time. */
static void f32_transpose_input(const struct rt_edge *e, const float *x, float *rows)
{
    size_t n = (size_t)e->t, stride = (size_t)e->stride;
    int c, t, i;
    if (e->c == 1 && e->stride == 1) {
        memcpy(rows, x, sizeof *x * n);
        return;
    }
    if (e->t < 4 || e->c % 4) {
        rt_transpose__portable(e, x, rows);
        return;
    }
    for (t = 0; t < e->t; t += 4) {
        if (t + 4 > e->t) t = e->t - 4;
        for (c = 0; c < e->c; c += 4) {
            __m128 v[4];
            float *to = rows + (size_t)t * stride + c;
            for (i = 0; i < 4; i++) v[i] = _mm_loadu_ps(x + (size_t)(c + i) * n + t);
            _MM_TRANSPOSE4_PS(v[0], v[1], v[2], v[3]);
            for (i = 0; i < 4; i++) _mm_storeu_ps(to + (size_t)i * stride, v[i]);
        }
    }
}
