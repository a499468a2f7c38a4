/* cpu/rt/ref_dyn.c - the study's LSTM and linear layer: int8 weights with one
 * scale per matrix, activations quantised at inference from their own minimum
 * and maximum, as PyTorch's dynamic quantisation does. Integer products, float
 * everything else, by dyn.h's rules; the vector LSTM (dyn_lstm.inc.h) has the same bits.
 */
#include "cpu/rt/dyn.h"
#include "cpu/rt/ref.h"

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

/* c [H], h [H], the next h [H] float; then quantised x [C] and h [H]. */
static size_t lstm_scratch(const struct cinchrt_model *m, const struct rt_layer *l)
{
    (void)m;
    return 13 * (size_t)l->f.cout + l->f.cin;
}

/* One step's quantised input and state, and what brings their sums back to float. */
struct step {
    const uint8_t *x, *h;
    struct rt_dyn_range rx, rh;
    float sx, sh;
};

static float next_h(const struct rt_layer *l, const struct step *s, int u, float *cell)
{
    int hidden = l->f.cout, cin = l->f.cin, g;
    const float *bias = l->packed;
    const int8_t *wih = (const int8_t *)(bias + 4 * hidden + 2);
    const int8_t *whh = wih + (size_t)4 * hidden * cin;
    float gate[4];
    for (g = 0; g < 4; g++) {
        size_t r = (size_t)(g * hidden + u);
        int32_t x = dot(wih + r * (size_t)cin, s->x, cin, s->rx.zero);
        int32_t h = dot(whh + r * (size_t)hidden, s->h, hidden, s->rh.zero);
        gate[g] = rt_dyn_gate(x, s->sx, h, s->sh, bias[r]);
    }
    return rt_dyn_unit(gate, cell);
}

static void lstm_run(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch)
{
    const struct rt_edge *in = &m->edge[l->in], *out = &m->edge[l->out];
    int hidden = l->f.cout, cin = l->f.cin, t, u;
    const float *scales = (const float *)l->packed + 4 * hidden;
    const float *x = (const float *)(const void *)rt_rows(m, l->in, scratch);
    float *y = (float *)(void *)rt_rows(m, l->out, scratch);
    float *c = (float *)(void *)(scratch + m->tmp), *h = c + hidden, *next = h + hidden;
    uint8_t *xq = (uint8_t *)(next + hidden), *hq = xq + cin;
    struct step s;
    memset(c, 0, 8 * (size_t)hidden);
    s.x = xq, s.h = hq;
    for (t = 0; t < l->tin; t++, x += in->stride, y += out->stride) {
        s.rx = rt_dyn_quantise(x, cin, l->f.qmax, xq);
        s.rh = rt_dyn_quantise(h, hidden, l->f.qmax, hq);
        s.sx = s.rx.scale * scales[0], s.sh = s.rh.scale * scales[1];
        for (u = 0; u < hidden; u++) next[u] = next_h(l, &s, u, &c[u]);
        memcpy(h, next, 4 * (size_t)hidden);
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
    struct rt_dyn_range r;
    float one;
    for (c = 0; c < l->f.cin; c++)
        for (t = 0; t < l->tin; t++)
            flat[c * l->tin + t] = x[(size_t)t * (size_t)in->stride + (size_t)c];
    r = rt_dyn_quantise(flat, n, l->f.qmax, q);
    one = r.scale * *scale;
    for (o = 0; o < out->stride; o++) {
        float a = 0;
        if (o < l->f.cout) {
            a = (float)dot(w + (size_t)o * (size_t)n, q, n, r.zero);
            a = a * one;
            a = a + bias[o];
            if (l->f.flags & CINCHRT_RELU && a < 0) a = 0;
        }
        y[o] = a;
    }
}

const struct rt_kernel rt_dyn_linear__portable = {"dyn_linear__portable", copy_size, copy_block,
                                                  linear_scratch, linear_run};
