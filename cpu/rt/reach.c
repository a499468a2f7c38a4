/* cpu/rt/reach.c - how large the values of float layers can become, so that no sum leaves float's range
 * and becomes infinite or no number at all, which a ReLU or a maximum behind it may hide.
 *
 * |out| <= sum |w| |in| + |bias|, the largest over the channels of an edge, for inputs up to
 * RT_REACH_INPUT (normalised: standard deviations). What a trained net reaches lies some twenty orders
 * of magnitude below the limit.
 */
#include "cpu/rt/model.h"
#include "cpu/rt/real.h"

#define REACH_LIMIT 1e34 /* float ends at 3.4e38; transforms of convolutions add some hundreds */

static double magnitude(double v)
{
    return v < 0 ? -v : v;
}

static double next_weight(struct rt_walk *w, int floats)
{
    size_t i;
    float v;
    if (!floats) return rt_next_i8(w);
    i = w->i++;
    if (w->map && !(w->map[i >> 3] >> (i & 7) & 1)) return 0;
    v = rt_f32(w->at);
    w->at += 4;
    return v;
}

static double row_sum(struct rt_walk *w, size_t n, int floats)
{
    double sum = 0;
    size_t i;
    for (i = 0; i < n; i++) sum += magnitude(next_weight(w, floats));
    return sum;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* What a layer's two matrices see: inputs, columns, and the factor of their weights. */
struct sides {
    double in[2], scale[2];
    size_t rows, columns[2];
};

/* The largest of the rows' sums, biases (float [rows] at `bias`) included. */
static double matrix_reach(const struct rt_layer *l, const uint8_t *block, const struct sides *s)
{
    int floats = cinchrt_weight_bytes(l->f.op) == 4;
    struct rt_walk w = rt_walk_of(l, block), w1 = w;
    double most = 0;
    size_t r;
    if (s->columns[1]) row_sum(&w1, s->rows * s->columns[0], floats); /* on to the second matrix */
    for (r = 0; r < s->rows; r++) {
        double v = magnitude((double)rt_f32(block + 4 * r));
        v += s->in[0] * s->scale[0] * row_sum(&w, s->columns[0], floats);
        if (s->columns[1]) v += s->in[1] * s->scale[1] * row_sum(&w1, s->columns[1], floats);
        most = larger(most, v);
    }
    return most;
}

static struct sides sides_of(const struct cinchrt_model *m, const struct rt_layer *l,
                             const uint8_t *block)
{
    struct sides s = {{0, 0}, {1, 1}, 0, {0, 0}};
    int lstm = l->f.op == CINCHRT_LSTM_F32 || l->f.op == CINCHRT_LSTM_DYN;
    int dynamic = l->f.op == CINCHRT_LSTM_DYN || l->f.op == CINCHRT_LINEAR_DYN;
    s.rows = lstm ? 4 * (size_t)l->f.cout : l->f.cout;
    s.in[0] = m->edge[l->in].reach;
    s.in[1] = lstm ? 1 : l->in1 >= 0 ? m->edge[l->in1].reach : 0;
    s.columns[0] = (size_t)l->f.cin * (l->f.op == CINCHRT_CONV_F32 ? l->f.k
                                       : lstm                      ? 1
                                                                   : (size_t)l->tin);
    s.columns[1] = lstm ? l->f.cout : l->in1 >= 0 ? l->f.cin1 : 0;
    if (!dynamic) return s;
    s.in[0] *= 2, s.in[1] *= 2; /* a quantised vector spans its whole range */
    s.scale[0] = magnitude((double)rt_f32(block + 4 * s.rows));
    if (lstm) s.scale[1] = magnitude((double)rt_f32(block + 4 * s.rows + 4));
    return s;
}

static double norm_reach(const struct rt_layer *l, const uint8_t *block)
{
    double gamma = 0, beta = 0;
    size_t c = l->f.cin, i;
    for (i = 0; i < c; i++) {
        gamma = larger(gamma, magnitude((double)rt_f32(block + 4 * i)));
        beta = larger(beta, magnitude((double)rt_f32(block + 4 * (c + i))));
    }
    return (double)c * rt_rsqrt((double)c) * gamma + beta;
}

int rt_reach(struct cinchrt_model *m, const struct rt_layer *l, const uint8_t *block)
{
    double in = m->edge[l->in].reach, most = in, out;
    struct sides s;
    switch (l->f.op) {
    case CINCHRT_MEAN_F32:
        out = in;
        break;
    case CINCHRT_LAYERNORM_F32:
        most = 4 * in * in * l->f.cin; /* its sum of squares */
        out = norm_reach(l, block);
        break;
    case CINCHRT_LSTM_F32:
    case CINCHRT_LSTM_DYN:
        s = sides_of(m, l, block);
        most = matrix_reach(l, block, &s);
        out = 1;
        break;
    default:
        s = sides_of(m, l, block);
        out = matrix_reach(l, block, &s);
        break;
    }
    m->edge[l->out].reach = out;
    return larger(most, out) < REACH_LIMIT ? 0 : CINCHRT_ERANGE;
}
