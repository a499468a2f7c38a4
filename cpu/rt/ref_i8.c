/* cpu/rt/ref_i8.c - portable convolution, linear layer and mean in int8: the
 * rules of format.h, word by word. Every vector kernel must equal these bit by
 * bit.
 */
#include "cpu/rt/ref.h"

/* Packed form shared by CONV_I8 and LINEAR_I8: per channel facts, then weights
 * with the inner index running as the activations lie: [o][row of
 * time][channel]. */
struct packed {
    int32_t *bias;         /* [cout] */
    struct rt_mult *mult;  /* [cout] */
    struct rt_mult *mult1; /* [cout] */
    float *logit_scale;    /* [cout] */
    int8_t *w;             /* [cout][rows][cin] */
    int8_t *w1;            /* [cout][cin1] */
};

static int rows_of(const struct rt_layer *l)
{
    return l->f.op == CINCHRT_CONV_I8 ? l->f.k : l->tin;
}

static struct packed lay_out(const struct rt_layer *l, uint8_t *at)
{
    size_t n = l->f.cout;
    struct packed p;
    p.bias = (int32_t *)(void *)at, at += 4 * n;
    p.mult = (struct rt_mult *)(void *)at, at += 8 * n;
    p.mult1 = (struct rt_mult *)(void *)at, at += 8 * n;
    p.logit_scale = (float *)(void *)at, at += 4 * n;
    p.w = (int8_t *)at, at += n * (size_t)rows_of(l) * l->f.cin;
    p.w1 = (int8_t *)at;
    return p;
}

static size_t dot_pack_size(const struct cinchrt_model *m, const struct rt_layer *l)
{
    (void)m;
    return (size_t)l->f.cout * (24 + (size_t)rows_of(l) * l->f.cin + l->f.cin1);
}

static void dot_pack(const struct cinchrt_model *m, const struct rt_layer *l, const uint8_t *block,
                     void *dst)
{
    struct packed p = lay_out(l, dst);
    struct rt_block b = rt_block_of(l, block);
    size_t rows = (size_t)rows_of(l), cin = l->f.cin, o, c, j;
    (void)m;
    for (o = 0; o < l->f.cout; o++) {
        p.bias[o] = (int32_t)rt_u32(b.bias + 4 * o);
        p.logit_scale[o] = rt_f32(b.mult + 4 * o);
        rt_mult_decode(rt_u32(b.mult + 4 * o), &p.mult[o]);
        if (b.mult1) rt_mult_decode(rt_u32(b.mult1 + 4 * o), &p.mult1[o]);
        for (j = 0; j < rows; j++)
            for (c = 0; c < cin; c++)
                p.w[(o * rows + j) * cin + c] = (int8_t)b.w[(o * cin + c) * rows + j];
    }
    if (b.w1) memcpy(p.w1, b.w1, (size_t)l->f.cout * l->f.cin1);
}

static int32_t dot_row(const int8_t *w, const uint8_t *x, int n, int zero)
{
    int32_t sum = 0;
    int c;
    for (c = 0; c < n; c++) sum += w[c] * (x[c] - zero);
    return sum;
}

/* Accumulator of channel o at unpooled step t. */
static int32_t accumulate(const struct cinchrt_model *m, const struct rt_layer *l,
                          const struct packed *p, uint8_t *scratch, int o, int t)
{
    const struct rt_edge *in = &m->edge[l->in];
    const uint8_t *x = rt_rows(m, l->in, scratch);
    int rows = rows_of(l), j;
    int32_t a = p->bias[o];
    for (j = 0; j < rows; j++) {
        ptrdiff_t row = (ptrdiff_t)t + j - l->f.pad;
        a += dot_row(p->w + ((size_t)o * (size_t)rows + (size_t)j) * l->f.cin, x + row * in->stride,
                     l->f.cin, in->zero);
    }
    if (l->in1 >= 0) {
        const struct rt_edge *side = &m->edge[l->in1];
        const uint8_t *x1 = rt_rows(m, l->in1, scratch) + (ptrdiff_t)t * side->stride;
        int32_t s = dot_row(p->w1 + (size_t)o * l->f.cin1, x1, l->f.cin1, side->zero);
        a += rt_rq(s, p->mult1[o]);
    }
    return a;
}

static void dot_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch)
{
    struct packed p = lay_out(l, (uint8_t *)(uintptr_t)l->packed);
    const struct rt_edge *out = &m->edge[l->out];
    uint8_t *y = rt_rows(m, l->out, scratch);
    int lo = l->f.flags & CINCHRT_RELU ? out->zero : 0, o, t, j;
    for (t = 0; t < l->tout; t++)
        for (o = 0; o < l->f.cout; o++) {
            int32_t a = accumulate(m, l, &p, scratch, o, t * l->f.pool);
            for (j = 1; j < l->f.pool; j++) {
                int32_t b = accumulate(m, l, &p, scratch, o, t * l->f.pool + j);
                if (b > a) a = b;
            }
            if (l->f.flags & CINCHRT_LOGITS)
                ((float *)(void *)y)[o] = (float)a * p.logit_scale[o];
            else
                y[(size_t)t * (size_t)out->stride + (size_t)o] =
                    (uint8_t)rt_clamp(out->zero + rt_rq(a, p.mult[o]), lo, out->qmax);
        }
}

const struct rt_kernel rt_i8_conv__portable = {"i8_conv__portable", dot_pack_size, dot_pack, 0,
                                               dot_run};
const struct rt_kernel rt_i8_linear__portable = {"i8_linear__portable", dot_pack_size, dot_pack, 0,
                                                 dot_run};

size_t rt_pack_nothing_size(const struct cinchrt_model *m, const struct rt_layer *l)
{
    (void)m, (void)l;
    return 0;
}

void rt_pack_nothing(const struct cinchrt_model *m, const struct rt_layer *l, const uint8_t *block,
                     void *dst)
{
    (void)m, (void)l, (void)block, (void)dst;
}

static void mean_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch)
{
    const struct rt_edge *in = &m->edge[l->in], *out = &m->edge[l->out];
    const uint8_t *x = rt_rows(m, l->in, scratch);
    uint8_t *y = rt_rows(m, l->out, scratch);
    struct rt_mult k;
    int c, t;
    if (!rt_mult_decode(l->f.param, &k)) return; /* never: rt_check refused it */
    for (c = 0; c < l->f.cin; c++) {
        int32_t sum = -in->zero * in->t;
        for (t = 0; t < in->t; t++) sum += x[(size_t)t * (size_t)in->stride + (size_t)c];
        y[c] = (uint8_t)rt_clamp(out->zero + rt_rq(sum, k), 0, out->qmax);
    }
}

const struct rt_kernel rt_i8_mean__portable = {"i8_mean__portable", rt_pack_nothing_size,
                                               rt_pack_nothing, 0, mean_run};

void rt_quantise__portable(const struct rt_edge *e, const float *x, uint8_t *rows)
{
    float inverse = 1.0f / e->scale;
    float lo = (float)-e->zero, hi = (float)(e->qmax - e->zero);
    int c, t;
    for (c = 0; c < e->c; c++)
        for (t = 0; t < e->t; t++) {
            float v = x[(size_t)c * (size_t)e->t + (size_t)t] * inverse;
            if (!(v > lo)) v = lo; /* NaN too */
            if (!(v < hi)) v = hi;
            rows[(size_t)t * (size_t)e->stride + (size_t)c] = (uint8_t)((int)rt_rint(v) + e->zero);
        }
}
