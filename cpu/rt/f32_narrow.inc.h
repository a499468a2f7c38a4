/* cpu/rt/f32_narrow.inc.h - float convolution with so few output channels that
 * a vector holds several steps of time; a template behind f32_conv.inc.h, whose
 * register tile it uses.
 *
 * Lane (s, o) is channel o at step t + s, s < S = VL / channels. The window of
 * S steps is k + S - 1 rows; a lane's weights are zero outside its own k of
 * them (a Toeplitz matrix). That is (k + S - 1) / S products a step instead of
 * k. S steps of output are contiguous, so a vector is stored as it is; pooling
 * takes a pass over the tile's outputs.
 */

/* Steps of time in a vector; 1: this layer is not narrow. */
static int f32_steps(const struct cinchrt_model *m, const struct rt_layer *l)
{
    int stride = m->edge[l->out].stride, steps = VL / stride;
    if (l->f.op != CINCHRT_CONV_F32 || stride > VL / 2 || VL % stride) return 1;
    if (l->tout * l->f.pool < TILE_M * steps || TILE_M * steps % l->f.pool) return 1;
    return steps;
}

/* Weights of one matrix for one channel and one step: taps j at rows s + j. */
static void f32_narrow_put(const uint8_t *w, const struct f32_spread *s, int o, int step, int lane)
{
    int c, j;
    for (c = 0; c < s->cin; c++)
        for (j = 0; j < s->rows; j++)
            s->to[((step + j) * s->stride + c) * VL + lane] = rt_f32(
                w + 4 * (((size_t)o * (size_t)s->cin + (size_t)c) * (size_t)s->rows + (size_t)j));
}

static size_t f32_narrow_weights(const struct cinchrt_model *m, const struct rt_layer *l)
{
    int steps = f32_steps(m, l);
    size_t rows = (size_t)(l->f.k + steps - 1) * (size_t)m->edge[l->in].stride;
    if (l->in1 >= 0) rows += (size_t)steps * (size_t)m->edge[l->in1].stride;
    return rows * VL;
}

/* bias[VL], w[(k + S - 1) * stride][VL], w1[S * stride1][VL]. */
static void f32_narrow_pack(const struct cinchrt_model *m, const struct rt_layer *l,
                            const struct rt_block *b, float *bias)
{
    int steps = f32_steps(m, l), channels = VL / steps, o, s;
    int stride = m->edge[l->in].stride, stride1 = l->in1 >= 0 ? m->edge[l->in1].stride : 0;
    float *w = bias + VL, *w1 = w + (size_t)(l->f.k + steps - 1) * (size_t)stride * VL;
    struct f32_spread main_w = {b->w, w, l->f.cout, l->f.cin, l->f.k, stride, 1, 0};
    struct f32_spread side_w = {b->w1, w1, l->f.cout, l->f.cin1, 1, stride1, 1, 0};
    for (o = 0; o < l->f.cout; o++)
        for (s = 0; s < steps; s++) {
            int lane = s * channels + o;
            bias[lane] = rt_f32(b->bias + 4 * o);
            f32_narrow_put(b->w, &main_w, o, s, lane);
            if (l->in1 >= 0) f32_narrow_put(b->w1, &side_w, o, s, lane);
        }
}

/* `n` pooled steps from `steps` unpooled ones, `row` floats each (4 or 8). */
static void f32_narrow_pool(const float *from, float *y, int n, int pool, int row)
{
    int i, q, c;
    for (i = 0; i < n; i++, y += row, from += pool * row)
        for (c = 0; c < row; c += 4) {
            __m128 a = _mm_loadu_ps(from + c);
            for (q = 1; q < pool; q++) a = _mm_max_ps(a, _mm_loadu_ps(from + q * row + c));
            _mm_storeu_ps(y + c, a);
        }
}

/* `j` as for the direct kernel, j.x and j.y at step 0. The last tile is moved
 * back to end with the output. */
static void f32_narrow_run(const struct cinchrt_model *m, const struct rt_layer *l,
                           struct f32_job j)
{
    int steps = f32_steps(m, l), tile = TILE_M * steps, total = l->tout * l->f.pool, t;
    const float *x = j.x, *x1 = j.x1;
    float *y = j.y, unpooled[TILE_M * VL];
    size_t row = j.row, row1 = j.row1, yrow = j.yrow;
    j.row *= (size_t)steps, j.row1 *= (size_t)steps, j.yrow = VL;
    j.part = VL;
    j.w = j.bias + VL;
    j.depth = (l->f.k + steps - 1) * (int)row;
    j.w1 = j.w + (size_t)j.depth * VL;
    j.depth1 = steps * (int)row1;
    for (t = 0; t < total; t += tile) {
        if (t + tile > total) t = total - tile;
        j.x = x + (size_t)t * row;
        j.x1 = x1 ? x1 + (size_t)t * row1 : 0;
        j.y = l->f.pool == 1 ? y + (size_t)t * yrow : unpooled;
        f32_tile_1_pool1(&j, 0);
        if (l->f.pool > 1)
            f32_narrow_pool(unpooled, y + (size_t)(t / l->f.pool) * yrow, tile / l->f.pool,
                            l->f.pool, (int)yrow);
    }
}
