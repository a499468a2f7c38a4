/* cpu/rt/i8_wino.inc.h - int8 convolution with kernels of 3, 5 and 7 taps by 1-D minimal filtering
 * in exact integers, for instruction sets without 8-bit dot products; a template inside
 * i8_conv.inc.h, whose register tile it uses.
 *
 * It is f32_wino.inc.h (Cook-Toom, 8 points give 9 - k outputs instead of (9 - k) * k products)
 * times 360. The points are 0, 1, -1, 2, -2, (1:2), (-1:2) and infinity; with the last two pairs as
 * ratios nothing is divided: a weight's image is sum w_j a^j b^(k-1-j), an output's coefficient
 * a^i b^(m-1-i), and the factors 90, 20, 20, 1, 1, 1, 1, 90 make up for the input transform B, whose
 * entries are whole. So every number fits where it stands,
 *   transformed input   |v| <= 2 * 17 * 255 = 8670 < 2^14 (points 1 and -1)
 *   transformed weight  |u| <= 20 * 7 * 128 = 17920 < 2^15 (7 taps, points 1 and -1)
 * VPMADDWD multiplies them exactly, and the sums may wrap: what comes out is 360 * S modulo 2^32, S
 * the convolution's sum. 360 = 8 * 45, so times 45^-1 gives 8 * S modulo 2^32, and a shift S itself
 * as long as |S| < 2^28, which cin * k <= 8192 ensures. The bits are the direct kernel's.
 */
#define WINO8_TILES 48 /* a multiple of TILE_M */
#define WINO8_SKEW 64  /* bytes between points, so that they do not meet in the same cache sets */
#define WINO8_INVERSE ((int32_t)0xa4fa4fa5u) /* of 45, modulo 2^32 */
#define WINO8_PRODUCT (WINO8_TILES * 2 * VL + WINO8_SKEW / 4)

/* Outputs of a tile: 9 - k. 0: this layer is summed directly. */
static int i8_wino_outputs(const struct cinchrt_model *model, const struct rt_layer *l)
{
    int k = l->f.k, m = 9 - k, vectors = (l->f.cout + VL - 1) / VL;
    int words = (model->edge[l->in].stride + 1) / 2;
    int inputs = (words + VL - 1) / VL;
    int direct = 2 * m * k * words * vectors;
    int wino = 16 * words * vectors + 50 * inputs + (24 + 6 * m) * vectors;
    if (l->f.op != CINCHRT_CONV_I8 || (k != 3 && k != 5 && k != 7)) return 0;
    if (l->f.cin * k > 8192 || l->tout * l->f.pool < m || m % l->f.pool) return 0;
    if (l->in1 >= 0 && m != 6) return 0; /* side tiles have 6 steps */
    return 8 * wino < 7 * direct ? m : 0;
}

/* Words of 2 channels in a transformed row. */
static int i8_wino_words(const struct cinchrt_model *m, const struct rt_layer *l)
{
    return (m->edge[l->in].stride + 1) / 2;
}

/* Image of taps w[0..k) at point p, times 360 / B's share. */
static int i8_wino_weight(const int8_t *w, int k, int p)
{
    static const int factor[8] = {90, 20, 20, 1, 1, 1, 1, 90};
    static const int a[8] = {0, 1, -1, 2, -2, 1, -1, 1}, b[8] = {1, 1, 1, 1, 1, 2, 2, 0};
    int sum = 0, j, i;
    for (j = 0; j < k; j++) {
        int term = w[j];
        for (i = 0; i < j; i++) term *= a[p];
        for (i = j + 1; i < k; i++) term *= b[p];
        sum += term;
    }
    return sum * factor[p];
}

/* Channel o's images into [panel][8][words][NV][VL]; returns the sum of its weights. */
static int32_t i8_wino_spread(const struct i8_spread *s, int o)
{
    const int8_t *w = (const int8_t *)s->w + (size_t)o * (size_t)s->cin * (size_t)s->rows;
    int b, lane = i8_lane(o, s->blocks, &b), c, p, j;
    int32_t sum = 0;
    for (c = 0; c < s->cin; c++, w += s->rows) {
        for (j = 0; j < s->rows; j++) sum += w[j];
        for (p = 0; p < 8; p++)
            i8_put_weight(
                i8_weight_at(s->to, s->blocks, s->depth, b, p * (s->depth / 8) * 2 + c, lane),
                i8_wino_weight(w, s->rows, p));
    }
    return sum;
}

/* Bytes of a transformed row: whole vectors. */
static size_t i8_wino_row(const struct cinchrt_model *m, const struct rt_layer *l)
{
    return rt_round(4 * (size_t)i8_wino_words(m, l), 4 * VL);
}

static size_t i8_wino_scratch(const struct cinchrt_model *m, const struct rt_layer *l)
{
    return rt_round(8 * (WINO8_TILES * i8_wino_row(m, l) + WINO8_SKEW) + 8 * 4 * WINO8_PRODUCT,
                    RT_ALIGN);
}

/* 2 VL channels of one tile: eight rows at x to one row of each point; the words of
 * f32_wino_input. */
static inline void i8_wino_input(const uint8_t *x, size_t row, uint8_t *v, size_t point)
{
    vi d0 = v_widen_bytes(x), d1 = v_widen_bytes(x + row), d2 = v_widen_bytes(x + 2 * row);
    vi d3 = v_widen_bytes(x + 3 * row), d4 = v_widen_bytes(x + 4 * row);
    vi d5 = v_widen_bytes(x + 5 * row), d6 = v_widen_bytes(x + 6 * row);
    vi d7 = v_widen_bytes(x + 7 * row), a, b;
    vi c5 = v_set16(5), c17 = v_set16(17), c21 = v_set16(21);
    a = v_mullo16(c21, v_sub16(d4, d2));
    v_store(v, v_add16(a, v_sll16(v_sub16(d0, d6), 2)));
    b = v_mullo16(c21, v_sub16(d3, d5));
    v_store(v + 7 * point, v_add16(b, v_sll16(v_sub16(d7, d1), 2)));
    a = v_sub16(v_mullo16(c17, d4), v_sll16(v_add16(d2, d6), 2));
    b = v_sub16(v_mullo16(c17, d3), v_sll16(v_add16(d1, d5), 2));
    v_store(v + point, v_add16(a, b));
    v_store(v + 2 * point, v_sub16(a, b));
    d4 = v_mullo16(c5, d4), d3 = v_mullo16(c5, d3);
    a = v_add16(v_sub16(d2, d4), v_sll16(d6, 2));
    b = v_sub16(d1, d3);
    b = v_add16(v_add16(b, b), v_sll16(d5, 3));
    v_store(v + 3 * point, v_add16(a, b));
    v_store(v + 4 * point, v_sub16(a, b));
    a = v_sub16(d6, d4);
    a = v_add16(v_add16(a, a), v_sll16(d2, 3));
    b = v_add16(v_sub16(d5, d3), v_sll16(d1, 2));
    v_store(v + 5 * point, v_add16(a, b));
    v_store(v + 6 * point, v_sub16(a, b));
}

struct i8_wino {
    const struct i8_job *j;
    int m;        /* outputs of a tile */
    size_t total; /* unpooled outputs */
    uint8_t *v;   /* [8][WINO8_TILES][vrow] */
    int32_t *products;
    size_t vrow, point; /* bytes */
    size_t xrow;        /* bytes of an input row */
    int words;
};

/* First output of tile n: the last tile is moved back to end with the output. */
static size_t i8_wino_start(const struct i8_wino *s, size_t n)
{
    size_t at = n * (size_t)s->m;
    return at + (size_t)s->m > s->total ? s->total - (size_t)s->m : at;
}

static void i8_wino_transform(const struct i8_wino *s, const uint8_t *x, size_t first, size_t n)
{
    size_t i, c;
    for (i = 0; i < n; i++) {
        const uint8_t *from = x + i8_wino_start(s, first + i) * s->xrow;
        for (c = 0; c < s->vrow; c += 4 * VL)
            i8_wino_input(from + c / 2, s->xrow, s->v + i * s->vrow + c, s->point);
    }
}

#define I8_WINO_MULTIPLY(NV)                                                                       \
    static void i8_wino_multiply_##NV(const struct i8_wino *s, size_t n)                           \
    {                                                                                              \
        size_t i;                                                                                  \
        int p, k, v;                                                                               \
        for (p = 0; p < 8; p++)                                                                    \
            for (i = 0; i < n; i += TILE_M) {                                                      \
                vi acc[TILE_M][NV];                                                                \
                int32_t *to = s->products + (size_t)p * WINO8_PRODUCT + i * 2 * VL;                \
                _Pragma("GCC unroll 16") for (k = 0; k < TILE_M; k++)                              \
                {                                                                                  \
                    _Pragma("GCC unroll 4") for (v = 0; v < NV; v++) acc[k][v] = v_zero();         \
                }                                                                                  \
                i8_walk(TILE_M, NV)(acc, s->v + (size_t)p * s->point + i * s->vrow, s->vrow,       \
                                    s->j->w + (size_t)(p * s->words) * NV * VL * 4, s->words);     \
                _Pragma("GCC unroll 16") for (k = 0; k < TILE_M; k++)                              \
                {                                                                                  \
                    _Pragma("GCC unroll 4") for (v = 0; v < NV; v++)                               \
                        v_store(to + (2 * k + v) * VL, acc[k][v]);                                 \
                }                                                                                  \
            }                                                                                      \
    }
#define I8_WALK_JOIN(m, nv) i8_walk_##m##x##nv
#define i8_walk(m, nv) I8_WALK_JOIN(m, nv)
I8_WINO_MULTIPLY(2)
I8_WINO_MULTIPLY(1)

/* 8 products of one vector back to m = 2, 4 or 6 sums, in units of 1. */
static inline __attribute__((always_inline)) void i8_wino_output(const int32_t *p, vi *y, int m)
{
    const size_t point = WINO8_PRODUCT;
    vi q0 = v_load(p), q7 = v_load(p + 7 * point);
    vi a = v_load(p + point), b = v_load(p + 2 * point);
    vi s1 = v_add32(a, b), d1 = v_sub32(a, b), s2, d2, s3, d3, inverse = v_set32(WINO8_INVERSE);
    int i;
    a = v_load(p + 3 * point), b = v_load(p + 4 * point);
    s2 = v_add32(a, b), d2 = v_sub32(a, b);
    a = v_load(p + 5 * point), b = v_load(p + 6 * point);
    s3 = v_add32(a, b), d3 = v_sub32(a, b);
    _Pragma("GCC unroll 8") for (i = 0; i < m; i++)
    {
        vi one = i & 1 ? d1 : s1, two = i & 1 ? d2 : s2, half = i & 1 ? d3 : s3;
        y[i] = v_add32(one, v_add32(v_slli32(two, i), v_slli32(half, m - 1 - i)));
    }
    y[0] = v_add32(y[0], q0);
    y[m - 1] = v_add32(y[m - 1], q7);
    _Pragma("GCC unroll 8") for (i = 0; i < m; i++) y[i] = v_srai32(v_mullo32(y[i], inverse), 3);
}

/* Tile i of the chunk, tile `n` of all: sums, pooled, then rounded and stored. */
#define I8_WINO_WRITE(NV, M)                                                                       \
    static void i8_wino_write_##NV##_##M(const struct i8_wino *s, size_t n, size_t i)              \
    {                                                                                              \
        int32_t ground[6 * NV * VL], sums[M * NV * VL];                                            \
        const int32_t *from = s->j->bias;                                                          \
        size_t start = i8_wino_start(s, n), pool = (size_t)s->j->pool, step = 0, t, q;             \
        int v;                                                                                     \
        if (s->j->depth1) i8_side_6x##NV(s->j, start, ground), from = ground, step = NV * VL;      \
        for (v = 0; v < NV; v++) {                                                                 \
            vi y[M];                                                                               \
            i8_wino_output(s->products + (2 * i + (size_t)v) * VL, y, M);                          \
            _Pragma("GCC unroll 8") for (t = 0; t < M; t++) y[t] =                                 \
                v_add32(y[t], v_load(from + t * step + (size_t)v * VL));                           \
            for (t = 0; t < M / pool; t++) {                                                       \
                vi a = y[t * pool];                                                                \
                for (q = 1; q < pool; q++) a = v_max32(a, y[t * pool + q]);                        \
                v_store(sums + (t * NV + (size_t)v) * VL, a);                                      \
            }                                                                                      \
        }                                                                                          \
        i8_finish_##NV(s->j, sums, s->j->y + start / pool * s->j->yrow, (int)(M / pool));          \
    }
I8_WINO_WRITE(2, 6)
I8_WINO_WRITE(2, 4)
I8_WINO_WRITE(2, 2)
I8_WINO_WRITE(1, 6)
I8_WINO_WRITE(1, 4)
I8_WINO_WRITE(1, 2)

typedef void i8_wino_write_fn(const struct i8_wino *s, size_t n, size_t i);

/* One panel of a chunk of n tiles whose input is transformed. */
static void i8_wino_panel(const struct i8_wino *s, int pair, size_t first, size_t n)
{
    static i8_wino_write_fn *const write[2][3] = {
        {i8_wino_write_1_2, i8_wino_write_1_4, i8_wino_write_1_6},
        {i8_wino_write_2_2, i8_wino_write_2_4, i8_wino_write_2_6},
    };
    size_t i;
    (pair ? i8_wino_multiply_2 : i8_wino_multiply_1)(s, n);
    for (i = 0; i < n; i++) write[pair][s->m / 2 - 1](s, first + i, i);
}
