/* cpu/rt/ref_f32.c - portable float kernels: convolution (with side input,
 * ReLU, max-pool), linear, mean, LSTM, LayerNorm. Plain loops in the order of
 * the textbook; the vector kernels agree to rounding. Mean and LayerNorm, which
 * stand in dynamically quantised nets (ref_dyn.c), have the vector kernels'
 * order of sums, one rounding per step, and so their bits.
 */
#include "cpu/rt/ref.h"

static size_t copy_size(const struct cinchrt_model *m, const struct rt_layer *l)
{
    (void)m;
    return l->block_bytes;
}

static void copy_block(const struct cinchrt_model *m, const struct rt_layer *l,
                       const uint8_t *block, void *dst)
{
    (void)m;
    memcpy(dst, block, l->block_bytes);
}

struct conv {
    const float *bias, *w, *w1; /* [cout], [cout][cin][rows], [cout][cin1] */
    const float *x, *x1;
    int rows, stride, stride1;
};

static struct conv conv_of(const struct cinchrt_model *m, const struct rt_layer *l,
                           uint8_t *scratch)
{
    struct rt_block b = rt_block_of(l, l->packed);
    struct conv v;
    v.bias = (const float *)(const void *)b.bias;
    v.w = (const float *)(const void *)b.w;
    v.w1 = (const float *)(const void *)b.w1;
    v.x = (const float *)(const void *)rt_rows(m, l->in, scratch);
    v.stride = m->edge[l->in].stride;
    v.x1 = l->in1 < 0 ? 0 : (const float *)(const void *)rt_rows(m, l->in1, scratch);
    v.stride1 = l->in1 < 0 ? 0 : m->edge[l->in1].stride;
    v.rows = l->f.op == CINCHRT_CONV_F32 ? l->f.k : l->tin;
    return v;
}

static float conv_at(const struct conv *v, const struct rt_layer *l, int o, int t)
{
    int cin = l->f.cin, c, j;
    const float *w = v->w + (size_t)o * (size_t)cin * (size_t)v->rows;
    float a = v->bias[o];
    for (c = 0; c < cin; c++)
        for (j = 0; j < v->rows; j++)
            a += w[c * v->rows + j] * v->x[(ptrdiff_t)(t + j - l->f.pad) * v->stride + c];
    for (c = 0; c < l->f.cin1; c++)
        a += v->w1[(size_t)o * l->f.cin1 + (size_t)c] * v->x1[(ptrdiff_t)t * v->stride1 + c];
    return a;
}

static void conv_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch)
{
    const struct rt_edge *out = &m->edge[l->out];
    struct conv v = conv_of(m, l, scratch);
    float *y = (float *)(void *)rt_rows(m, l->out, scratch);
    int o, t, j;
    for (t = 0; t < l->tout; t++, y += out->stride) {
        for (o = 0; o < l->f.cout; o++) {
            float a = conv_at(&v, l, o, t * l->f.pool);
            for (j = 1; j < l->f.pool; j++) {
                float b = conv_at(&v, l, o, t * l->f.pool + j);
                if (b > a) a = b;
            }
            y[o] = l->f.flags & CINCHRT_RELU && a < 0 ? 0 : a;
        }
        for (o = l->f.cout; o < out->stride; o++) y[o] = 0;
    }
}

const struct rt_kernel rt_f32_conv__portable = {"f32_conv__portable", copy_size, copy_block, 0,
                                                conv_run};
const struct rt_kernel rt_f32_linear__portable = {"f32_linear__portable", copy_size, copy_block, 0,
                                                  conv_run};

static void mean_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch)
{
    const struct rt_edge *in = &m->edge[l->in], *out = &m->edge[l->out];
    const float *x = (const float *)(const void *)rt_rows(m, l->in, scratch);
    float *y = (float *)(void *)rt_rows(m, l->out, scratch);
    int c, t;
    for (c = 0; c < out->stride; c++) { /* even and odd steps in sums of their own */
        float sum[2] = {0, 0}, scale = 1.0f / (float)in->t, all;
        for (t = 0; c < in->c && t < in->t; t++) {
            float add = sum[t & 1] + x[(size_t)t * (size_t)in->stride + (size_t)c];
            sum[t & 1] = add;
        }
        all = sum[0] + sum[1];
        all = all * scale;
        y[c] = all;
    }
}

const struct rt_kernel rt_f32_mean__portable = {"f32_mean__portable", rt_pack_nothing_size,
                                                rt_pack_nothing, 0, mean_run};

/* c [H], h [H], h of the next step [H]. */
static size_t lstm_scratch(const struct cinchrt_model *m, const struct rt_layer *l)
{
    (void)m;
    return 12 * (size_t)l->f.cout;
}

static float dot(const float *a, const float *b, int n)
{
    float sum = 0;
    int i;
    for (i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static void lstm_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch)
{
    const struct rt_edge *in = &m->edge[l->in], *out = &m->edge[l->out];
    int hidden = l->f.cout, cin = l->f.cin, t, u, g;
    const float *bias = l->packed, *wih = bias + 4 * hidden, *whh = wih + (size_t)4 * hidden * cin;
    const float *x = (const float *)(const void *)rt_rows(m, l->in, scratch);
    float *y = (float *)(void *)rt_rows(m, l->out, scratch);
    float *c = (float *)(void *)(scratch + m->tmp), *h = c + hidden, *next = h + hidden;
    memset(c, 0, 8 * (size_t)hidden);
    for (t = 0; t < l->tin; t++, x += in->stride, y += out->stride) {
        for (u = 0; u < hidden; u++) {
            float v[4];
            for (g = 0; g < 4; g++) {
                size_t r = (size_t)(g * hidden + u);
                v[g] = bias[r] + dot(wih + r * (size_t)cin, x, cin) +
                       dot(whh + r * (size_t)hidden, h, hidden);
            }
            c[u] = (float)(rt_sigmoid(v[1]) * c[u] + rt_sigmoid(v[0]) * rt_tanh(v[2]));
            next[u] = (float)(rt_sigmoid(v[3]) * rt_tanh(c[u]));
        }
        memcpy(h, next, 4 * (size_t)hidden);
        memcpy(y, next, 4 * (size_t)hidden);
        for (u = hidden; u < out->stride; u++) y[u] = 0;
    }
}

const struct rt_kernel rt_f32_lstm__portable = {"f32_lstm__portable", copy_size, copy_block,
                                                lstm_scratch, lstm_run};

static void layernorm_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch)
{
    const struct rt_edge *in = &m->edge[l->in], *out = &m->edge[l->out];
    const float *x = (const float *)(const void *)rt_rows(m, l->in, scratch);
    const float *gamma = l->packed, *beta = gamma + l->f.cin;
    float *y = (float *)(void *)rt_rows(m, l->out, scratch), mean, rstd;
    int n = l->f.cin, t, j, c;
    for (t = 0; t < l->tout; t++, y += out->stride) {
        for (c = 0; c < out->stride; c++) y[c] = c < n ? -3.4e38f : 0;
        for (j = 0; j < l->f.pool; j++, x += in->stride) {
            rt_norm_moments(x, n, &mean, &rstd);
            for (c = 0; c < n; c++) {
                float v = rt_norm_value(x[c], mean, rstd, gamma[c], beta[c]);
                if (v > y[c]) y[c] = v;
            }
        }
    }
}

const struct rt_kernel rt_f32_layernorm__portable = {"f32_layernorm__portable", copy_size,
                                                     copy_block, 0, layernorm_run};

void rt_transpose__portable(const struct rt_edge *e, const float *x, float *rows)
{
    int c, t;
    for (c = 0; c < e->c; c++)
        for (t = 0; t < e->t; t++)
            rows[(size_t)t * (size_t)e->stride + (size_t)c] =
                x[(size_t)c * (size_t)e->t + (size_t)t];
}
