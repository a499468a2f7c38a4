/* cpu/rt/f32_wino.inc.h - float convolution with kernels of 3, 5 and 7 by the
 * 1-D minimal filtering of Winograd (Cook-Toom with the points 0, 1, -1, 2, -2,
 * 1/2, -1/2, infinity): 8 products give 6, 4 or 2 outputs instead of 18, 20 or
 * 14 products. A template behind f32_conv.inc.h, whose register tile it uses.
 *
 * The 8 points are the same for all three kernels, so they share the input
 * transform B: 8 rows in, 8 rows out. A chunk of WINO_TILES tiles is
 * transformed, multiplied point by point as a matrix product [tiles, cin] x
 * [cin, cout], and transformed back with bias, side input, ReLU and pooling.
 * Rounding error is a few times that of the direct sum.
 */
#define WINO_TILES 48 /* a multiple of TILE_M */
#define WINO_SKEW                                                                                  \
    16 /* floats between points, so that they do not meet in the same cache sets \
      */

#define WINO_PRODUCT (WINO_TILES * 2 * VL + WINO_SKEW)

/* Outputs of a tile: 9 - k. 0: this layer is computed directly. */
static int f32_wino_outputs(const struct cinchrt_model *model, const struct rt_layer *l)
{
    int steps = f32_steps(model, l);
    int k = l->f.k, m = 9 - k, vectors = (l->f.cout + VL - 1) / VL;
    int inputs = (l->f.cin + VL - 1) / VL;
    int direct = m * (k + steps - 1) * l->f.cin * vectors / steps;
    int wino = 8 * l->f.cin * vectors + 44 * inputs + (16 + 3 * m) * vectors;
    if (l->f.op != CINCHRT_CONV_F32 || (k != 3 && k != 5 && k != 7)) return 0;
    if (l->tout * l->f.pool < m || m % l->f.pool) return 0;
    if (l->in1 >= 0 && l->f.pool > 1) return 0; /* the side input is summed unpooled */
    return 8 * wino < 7 * direct ? m : 0;
}

/* Weight of point p for taps w[0..k): the row of G times w. */
static double f32_wino_weight(const uint8_t *w, int k, int p)
{
    static const double point[7] = {0, 1, -1, 2, -2, 0.5, -0.5};
    static const double scale[7] = {1.0 / 4,   1.0 / 18,  1.0 / 18, 1.0 / 360,
                                    1.0 / 360, 16.0 / 45, 16.0 / 45};
    double sum = 0, power = 1;
    int j;
    if (p == 7) return rt_f32(w + 4 * (k - 1)) * 0.25;
    for (j = 0; j < k; j++, power *= point[p]) sum += power * rt_f32(w + 4 * j);
    return sum * scale[p];
}

static size_t f32_wino_weights(const struct rt_layer *l)
{
    return (size_t)f32_blocks(l) * 8 * l->f.cin * VL;
}

/* [panel][8][cin][2][VL], a last single block [8][cin][VL]. */
static void f32_wino_pack(const struct rt_layer *l, const uint8_t *w, float *to)
{
    size_t blocks = (size_t)f32_blocks(l), cin = l->f.cin, k = l->f.k, o, c, p;
    for (o = 0; o < l->f.cout; o++) {
        size_t b = o / VL, nv = b == blocks - 1 && (blocks & 1) ? 1 : 2;
        float *panel = to + (b & ~(size_t)1) * 8 * cin * VL + (nv == 2 ? b & 1 : 0) * VL + o % VL;
        for (p = 0; p < 8; p++)
            for (c = 0; c < cin; c++)
                panel[(p * cin + c) * nv * VL] =
                    (float)f32_wino_weight(w + 4 * (o * cin + c) * k, (int)k, (int)p);
    }
}

/* Transformed input [8][WINO_TILES][cin in whole vectors], then products
 * [8][WINO_TILES][2][VL]. */
static size_t f32_wino_v_row(const struct rt_layer *l)
{
    return rt_round(l->f.cin, VL);
}

static size_t f32_wino_scratch(const struct rt_layer *l)
{
    return 8 * (WINO_TILES * (f32_wino_v_row(l) + 2 * VL) + 2 * WINO_SKEW) * sizeof(float);
}

/* One vector of channels of one tile: eight rows at x to one row of each point.
 */
static inline void f32_wino_input(const float *x, size_t row, float *v, size_t point)
{
    vf d0 = vf_load(x), d1 = vf_load(x + row), d2 = vf_load(x + 2 * row), d3 = vf_load(x + 3 * row);
    vf d4 = vf_load(x + 4 * row), d5 = vf_load(x + 5 * row), d6 = vf_load(x + 6 * row);
    vf d7 = vf_load(x + 7 * row), a, b;
    vf c4 = vf_set(4), c5 = vf_set(5), c21 = vf_set(21), c17 = vf_set(17), c2 = vf_set(2);
    vf_store(v, vf_fma(c4, vf_sub(d0, d6), vf_mul(c21, vf_sub(d4, d2))));
    vf_store(v + 7 * point, vf_fma(c4, vf_sub(d7, d1), vf_mul(c21, vf_sub(d3, d5))));
    a = vf_fnma(c4, vf_add(d2, d6), vf_mul(c17, d4));
    b = vf_fnma(c4, vf_add(d1, d5), vf_mul(c17, d3));
    vf_store(v + point, vf_add(a, b));
    vf_store(v + 2 * point, vf_sub(a, b));
    a = vf_fma(c4, d6, vf_fnma(c5, d4, d2));
    b = vf_mul(c2, vf_fma(c4, d5, vf_fnma(c5, d3, d1)));
    vf_store(v + 3 * point, vf_add(a, b));
    vf_store(v + 4 * point, vf_sub(a, b));
    a = vf_mul(c2, vf_fma(c4, d2, vf_fnma(c5, d4, d6)));
    b = vf_fma(c4, d1, vf_fnma(c5, d3, d5));
    vf_store(v + 5 * point, vf_add(a, b));
    vf_store(v + 6 * point, vf_sub(a, b));
}

struct f32_wino {
    const struct f32_job *j;
    int m;        /* outputs of a tile */
    int side;     /* 1: y holds bias and side input already */
    size_t total; /* unpooled outputs needed */
    float *v, *products;
    size_t vrow;
    const float *w; /* this panel's */
    int cin;
};

/* First output of tile n: the last tile is moved back to end with the output.
 */
static size_t f32_wino_start(const struct f32_wino *s, size_t n)
{
    size_t at = n * (size_t)s->m;
    return at + (size_t)s->m > s->total ? s->total - (size_t)s->m : at;
}

static void f32_wino_transform(const struct f32_wino *s, size_t first, size_t n)
{
    size_t i, c, point = WINO_TILES * s->vrow + WINO_SKEW;
    for (i = 0; i < n; i++) {
        const float *x = s->j->x + f32_wino_start(s, first + i) * s->j->row;
        for (c = 0; c < (size_t)s->cin; c += VL)
            f32_wino_input(x + c, s->j->row, s->v + i * s->vrow + c, point);
    }
}

#define F32_WINO_MULTIPLY(NV)                                                                      \
    static void f32_wino_multiply_##NV(const struct f32_wino *s, size_t n)                         \
    {                                                                                              \
        size_t i, point = WINO_TILES * s->vrow + WINO_SKEW;                                        \
        int p, k, v;                                                                               \
        for (p = 0; p < 8; p++)                                                                    \
            for (i = 0; i < n; i += TILE_M) {                                                      \
                vf acc[TILE_M][NV];                                                                \
                float *to = s->products + (size_t)p * WINO_PRODUCT + i * 2 * VL;                   \
                _Pragma("GCC unroll 16") for (k = 0; k < TILE_M; k++)                              \
                {                                                                                  \
                    _Pragma("GCC unroll 4") for (v = 0; v < NV; v++) acc[k][v] = vf_zero();        \
                }                                                                                  \
                f32_walk(TILE_M, NV)(acc, s->v + (size_t)p * point + i * s->vrow, s->vrow,         \
                                     s->w + (size_t)(p * s->cin) * NV * VL, s->cin);               \
                _Pragma("GCC unroll 16") for (k = 0; k < TILE_M; k++)                              \
                {                                                                                  \
                    _Pragma("GCC unroll 4") for (v = 0; v < NV; v++)                               \
                        vf_store(to + (2 * k + v) * VL, acc[k][v]);                                \
                }                                                                                  \
            }                                                                                      \
    }
#define F32_WALK_JOIN(m, nv) f32_walk_##m##x##nv
#define f32_walk(m, nv) F32_WALK_JOIN(m, nv)
F32_WINO_MULTIPLY(2)
F32_WINO_MULTIPLY(1)

/* Back to m = 2, 4 or 6 outputs. */
static inline void f32_wino_output(const float *p, vf *y, int m)
{
    const size_t point = WINO_PRODUCT;
    vf q0 = vf_load(p), q7 = vf_load(p + 7 * point);
    vf a = vf_load(p + point), b = vf_load(p + 2 * point);
    vf s1 = vf_add(a, b), d1 = vf_sub(a, b), s2, d2, s3, d3;
    a = vf_load(p + 3 * point), b = vf_load(p + 4 * point);
    s2 = vf_add(a, b), d2 = vf_sub(a, b);
    a = vf_load(p + 5 * point), b = vf_load(p + 6 * point);
    s3 = vf_add(a, b), d3 = vf_sub(a, b);
    y[0] = vf_add(vf_add(q0, s1), vf_add(s2, s3));
    y[1] = vf_fma(vf_set(2), d2, vf_fma(vf_set(0.5f), d3, d1));
    if (m > 2) {
        y[2] = vf_fma(vf_set(4), s2, vf_fma(vf_set(0.25f), s3, s1));
        y[3] = vf_fma(vf_set(8), d2, vf_fma(vf_set(0.125f), d3, d1));
    }
    if (m > 4) {
        y[4] = vf_fma(vf_set(16), s2, vf_fma(vf_set(0.0625f), s3, s1));
        y[5] = vf_fma(vf_set(32), d2, vf_fma(vf_set(0.03125f), d3, d1));
    }
    y[m - 1] = vf_add(y[m - 1], q7);
}

/* Outputs of tile `tile`, i-th of the chunk, vector v of the panel. Those that the tile before wrote
 * are left alone. m and pool are constants in each use, so that y stays in registers. */
static inline __attribute__((always_inline)) void
f32_wino_write(const struct f32_wino *s, size_t tile, size_t i, int v, int n, int m, int pool)
{
    const struct f32_job *j = s->j;
    size_t start = f32_wino_start(s, tile);
    int skip = (int)(tile * (size_t)m - start), t, q;
    float *to = j->y + start / (size_t)pool * j->yrow + v * VL;
    vf y[6], bias = s->side ? vf_zero() : vf_load(j->bias + v * VL);
    f32_wino_output(s->products + (2 * i + (size_t)v) * VL, y, m);
    _Pragma("GCC unroll 6") for (t = 0; t < m; t += pool, to += j->yrow)
    {
        vf a = y[t];
        _Pragma("GCC unroll 6") for (q = 1; q < pool; q++) a = vf_max(a, y[t + q]);
        if (t < skip) continue;
        a = vf_add(a, s->side ? vf_load(to) : bias);
        if (j->relu) a = vf_max(a, vf_zero());
        vf_store_part(to, a, n);
    }
}

#define F32_WINO_BACK(M, POOL)                                                                     \
    static void f32_wino_back_##M##_##POOL(const struct f32_wino *s, size_t first, size_t n,       \
                                           int nv)                                                 \
    {                                                                                              \
        size_t i;                                                                                  \
        int v;                                                                                     \
        for (i = 0; i < n; i++)                                                                    \
            for (v = 0; v < nv; v++)                                                               \
                f32_wino_write(s, first + i, i, v, v == nv - 1 ? s->j->part : VL, M, POOL);        \
    }
F32_WINO_BACK(6, 1)
F32_WINO_BACK(6, 2)
F32_WINO_BACK(6, 3)
F32_WINO_BACK(6, 6)
F32_WINO_BACK(4, 1)
F32_WINO_BACK(4, 2)
F32_WINO_BACK(4, 4)
F32_WINO_BACK(2, 1)
F32_WINO_BACK(2, 2)

typedef void f32_wino_back_fn(const struct f32_wino *s, size_t first, size_t n, int nv);

/* By m / 2 and pool, a divisor of m. */
static f32_wino_back_fn *f32_wino_back_of(int m, int pool)
{
    static f32_wino_back_fn *const back[4][7] = {
        {0},
        {0, f32_wino_back_2_1, f32_wino_back_2_2},
        {0, f32_wino_back_4_1, f32_wino_back_4_2, 0, f32_wino_back_4_4},
        {0, f32_wino_back_6_1, f32_wino_back_6_2, f32_wino_back_6_3, 0, 0, f32_wino_back_6_6},
    };
    return back[m / 2][pool];
}

/* All panels of the layer; `side`: y holds bias and side input already. */
static void f32_wino_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch,
                         struct f32_job *j, const float *w)
{
    const struct rt_edge *out = &m->edge[l->out];
    const float *bias = j->bias;
    float *y = j->y;
    int blocks = f32_blocks(l), b;
    f32_wino_back_fn *back = f32_wino_back_of(f32_wino_outputs(m, l), l->f.pool);
    struct f32_wino s;
    size_t tiles, first;
    s.j = j;
    s.m = f32_wino_outputs(m, l);
    s.side = l->in1 >= 0;
    s.total = (size_t)l->tout * l->f.pool;
    s.vrow = f32_wino_v_row(l);
    s.v = (float *)(void *)(scratch + m->tmp);
    s.products = s.v + 8 * (WINO_TILES * s.vrow + WINO_SKEW);
    s.cin = l->f.cin;
    tiles = (s.total + (size_t)s.m - 1) / (size_t)s.m;
    for (first = 0; first < tiles; first += WINO_TILES) {
        size_t n = tiles - first < WINO_TILES ? tiles - first : WINO_TILES;
        f32_wino_transform(&s, first, n);
        for (b = 0; b < blocks; b += 2) {
            int nv = b + 1 < blocks ? 2 : 1;
            s.w = w + (size_t)b * 8 * (size_t)s.cin * VL;
            j->bias = bias + b * VL;
            j->y = y + b * VL;
            j->part = out->stride - (b + nv - 1) * VL;
            if (j->part > VL) j->part = VL;
            (nv == 2 ? f32_wino_multiply_2 : f32_wino_multiply_1)(&s, n);
            back(&s, first, n, nv);
        }
    }
}
