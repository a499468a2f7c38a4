/* cpu/rt/ref_dyn.c - the study's LSTM and linear layer: int8 weights with one
 * scale per matrix, activations quantised at inference from their own minimum
 * and maximum, as PyTorch's dynamic quantisation does. Integer products, float
 * everything else.
 */
#include "cpu/rt/ref.h"

struct range {
    float scale;
    int zero;
};

/* Quantises n floats to 0 .. qmax. PyTorch's rule for unsigned, asymmetric: the
 * range holds zero; a range of nothing gets scale 0.1. */
static struct range quantise(const float *x, int n, int qmax, uint8_t *q)
{
    float lo = 0, hi = 0, inverse;
    struct range r;
    int i;
    for (i = 0; i < n; i++) {
        if (x[i] < lo) lo = x[i];
        if (x[i] > hi) hi = x[i];
    }
    r.scale = (hi - lo) / (float)qmax;
    if (!(r.scale > 1e-30f) || !(r.scale < 1e30f)) r.scale = 0.1f;
    inverse = 1.0f / r.scale;
    r.zero = rt_clamp((int)rt_rint(lo * inverse < -1024.0f ? 1024.0f : -lo * inverse), 0, qmax);
    for (i = 0; i < n; i++) {
        float v = x[i] * inverse;
        if (!(v > -1024.0f)) v = -1024.0f;
        if (v > 1024.0f) v = 1024.0f;
        q[i] = (uint8_t)rt_clamp((int)rt_rint(v) + r.zero, 0, qmax);
    }
    return r;
}

static int32_t dot(const int8_t *w, const uint8_t *x, int n, int zero)
{
    int32_t sum = 0;
    int i;
    for (i = 0; i < n; i++) sum += w[i] * (x[i] - zero);
    return sum;
}

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

/* c [H], h [H], gates [4H] float; then quantised x [C] and h [H]. */
static size_t lstm_scratch(const struct cinchrt_model *m, const struct rt_layer *l)
{
    (void)m;
    return 24 * (size_t)l->f.cout + l->f.cout + l->f.cin;
}

static void lstm_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch)
{
    const struct rt_edge *in = &m->edge[l->in], *out = &m->edge[l->out];
    int hidden = l->f.cout, cin = l->f.cin, t, u, r;
    const float *bias = l->packed, *scales = bias + 4 * hidden;
    const int8_t *wih = (const int8_t *)(scales + 2), *whh = wih + (size_t)4 * hidden * cin;
    const float *x = (const float *)(const void *)rt_rows(m, l->in, scratch);
    float *y = (float *)(void *)rt_rows(m, l->out, scratch);
    float *c = (float *)(void *)(scratch + m->tmp), *h = c + hidden, *gate = h + hidden;
    uint8_t *xq = (uint8_t *)(gate + 4 * hidden), *hq = xq + cin;
    memset(c, 0, 8 * (size_t)hidden);
    for (t = 0; t < l->tin; t++, x += in->stride, y += out->stride) {
        struct range rx = quantise(x, cin, l->f.qmax, xq);
        struct range rh = quantise(h, hidden, l->f.qmax, hq);
        float sx = rx.scale * scales[0], sh = rh.scale * scales[1];
        for (r = 0; r < 4 * hidden; r++)
            gate[r] = (float)dot(wih + (size_t)r * (size_t)cin, xq, cin, rx.zero) * sx +
                      (float)dot(whh + (size_t)r * (size_t)hidden, hq, hidden, rh.zero) * sh +
                      bias[r];
        for (u = 0; u < hidden; u++) {
            c[u] = (float)(rt_sigmoid(gate[hidden + u]) * c[u] +
                           rt_sigmoid(gate[u]) * rt_tanh(gate[2 * hidden + u]));
            h[u] = (float)(rt_sigmoid(gate[3 * hidden + u]) * rt_tanh(c[u]));
        }
        memcpy(y, h, 4 * (size_t)hidden);
        for (u = hidden; u < out->stride; u++) y[u] = 0;
    }
}

const struct rt_kernel rt_dyn_lstm__portable = {"dyn_lstm__portable", copy_size, copy_block,
                                                lstm_scratch, lstm_run};

/* The input, channel-major as float, then as u8. */
static size_t linear_scratch(const struct cinchrt_model *m, const struct rt_layer *l)
{
    (void)m;
    return 5 * (size_t)l->f.cin * (size_t)l->tin;
}

static void linear_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch)
{
    const struct rt_edge *in = &m->edge[l->in], *out = &m->edge[l->out];
    int n = l->f.cin * l->tin, c, t, o;
    const float *bias = l->packed, *scale = bias + l->f.cout;
    const int8_t *w = (const int8_t *)(scale + 1);
    const float *x = (const float *)(const void *)rt_rows(m, l->in, scratch);
    float *y = (float *)(void *)rt_rows(m, l->out, scratch);
    float *flat = (float *)(void *)(scratch + m->tmp);
    uint8_t *q = (uint8_t *)(flat + n);
    struct range r;
    for (c = 0; c < l->f.cin; c++)
        for (t = 0; t < l->tin; t++)
            flat[c * l->tin + t] = x[(size_t)t * (size_t)in->stride + (size_t)c];
    r = quantise(flat, n, l->f.qmax, q);
    for (o = 0; o < out->stride; o++) {
        float a = 0;
        if (o < l->f.cout) {
            a = (float)dot(w + (size_t)o * (size_t)n, q, n, r.zero) * (r.scale * *scale) + bias[o];
            if (l->f.flags & CINCHRT_RELU && a < 0) a = 0;
        }
        y[o] = a;
    }
}

const struct rt_kernel rt_dyn_linear__portable = {"dyn_linear__portable", copy_size, copy_block,
                                                  linear_scratch, linear_run};
