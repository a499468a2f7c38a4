/* tests/unit/quant/unfused.h - the plainest float inference: every layer of the list on its own, in
 * double. What folding and fusing are checked against. Header only; used by several tests. */
#ifndef CINCH_TESTS_UNFUSED_H
#define CINCH_TESTS_UNFUSED_H

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "nn/model.h"

static inline const float *unfused_tensor(const struct nn_model *m, const struct nn_layer *l,
                                          int which)
{
    return m->params + m->net->tensor[l->tensor + which].offset;
}

static inline void unfused_conv(const struct nn_model *m, const struct nn_layer *l, const double *x,
                                double *y)
{
    const float *w = unfused_tensor(m, l, 0), *b = l->bias ? unfused_tensor(m, l, 1) : NULL;
    for (int c = 0; c < l->cout; c++)
        for (int t = 0; t < l->tout; t++) {
            double sum = b ? (double)b[c] : 0;
            for (int i = 0; i < l->cin; i++)
                for (int k = 0; k < l->k; k++) {
                    int at = t + k - l->pad;
                    if (at >= 0 && at < l->tin)
                        sum += (double)w[(c * l->cin + i) * l->k + k] * x[i * l->tin + at];
                }
            y[c * l->tout + t] = sum;
        }
}

static inline void unfused_lstm(const struct nn_model *m, const struct nn_layer *l, const double *x,
                                double *y)
{
    const float *wi = unfused_tensor(m, l, 0), *wh = unfused_tensor(m, l, 1);
    const float *bi = unfused_tensor(m, l, 2), *bh = unfused_tensor(m, l, 3);
    int h = l->cout;
    double *cell = calloc((size_t)h * 6, sizeof *cell), *hid = cell + h, *g = hid + h;
    for (int t = 0; t < l->tout; t++) {
        for (int r = 0; r < 4 * h; r++) {
            g[r] = (double)bi[r] + (double)bh[r];
            for (int c = 0; c < l->cin; c++) g[r] += (double)wi[r * l->cin + c] * x[c * l->tin + t];
            for (int j = 0; j < h; j++) g[r] += (double)wh[r * h + j] * hid[j];
        }
        for (int j = 0; j < h; j++) {
            double i = 1 / (1 + exp(-g[j])), f = 1 / (1 + exp(-g[h + j])),
                   o = 1 / (1 + exp(-g[3 * h + j]));
            cell[j] = f * cell[j] + i * tanh(g[2 * h + j]);
            hid[j] = o * tanh(cell[j]);
            y[j * l->tout + t] = hid[j];
        }
    }
    free(cell);
}

static inline void unfused_norm(const struct nn_model *m, const struct nn_layer *l, const double *x,
                                double *y)
{
    const float *w = unfused_tensor(m, l, 0), *b = unfused_tensor(m, l, 1);
    for (int t = 0; t < l->tout; t++) {
        double mean = 0, var = 0;
        for (int c = 0; c < l->cin; c++) mean += x[c * l->tin + t] / l->cin;
        for (int c = 0; c < l->cin; c++)
            var += (x[c * l->tin + t] - mean) * (x[c * l->tin + t] - mean) / l->cin;
        for (int c = 0; c < l->cin; c++)
            y[c * l->tin + t] =
                (x[c * l->tin + t] - mean) / sqrt(var + 1e-5) * (double)w[c] + (double)b[c];
    }
}

static inline void unfused_linear(const struct nn_model *m, const struct nn_layer *l,
                                  const double *x, double *y)
{
    const float *w = unfused_tensor(m, l, 0), *b = unfused_tensor(m, l, 1);
    int n = l->cin * l->tin;
    for (int c = 0; c < l->cout; c++) {
        y[c] = (double)b[c];
        for (int j = 0; j < n; j++) y[c] += (double)w[c * n + j] * x[j];
    }
}

/* Layers that only move or compare values. */
static inline void unfused_simple(const struct nn_model *m, const struct nn_layer *l,
                                  const double *x, const double *x2, double *y)
{
    for (int c = 0; c < l->cout; c++) {
        double mean = 0;
        for (int t = 0; t < l->tin; t++) mean += x[c * l->tin + t] / l->tin;
        for (int t = 0; t < l->tout; t++) {
            double v = x[c * l->tin + t];
            if (l->op == NN_RELU) v = v > 0 ? v : 0;
            if (l->op == NN_ADD) v += x2[c * l->tin + t];
            if (l->op == NN_MEAN) v = mean;
            if (l->op == NN_MAXPOOL) {
                v = x[c * l->tin + t * l->k];
                for (int k = 1; k < l->k; k++) v = fmax(v, x[c * l->tin + t * l->k + k]);
            }
            if (l->op == NN_BATCHNORM)
                v = (v - (double)unfused_tensor(m, l, 2)[c]) /
                        sqrt((double)unfused_tensor(m, l, 3)[c] + 1e-5) *
                        (double)unfused_tensor(m, l, 0)[c] +
                    (double)unfused_tensor(m, l, 1)[c];
            y[c * l->tout + t] = v;
        }
    }
}

/* x [n_leads, n_samples] -> logits [n_labels]. */
static inline void unfused_run(const struct nn_model *m, const float *x, double *logits)
{
    const struct nn_net *net = m->net;
    double *out[NN_MAX_LAYERS + 1],
        *in = calloc((size_t)(net->n_leads * net->n_samples), sizeof *in);
    for (int i = 0; i < net->n_leads * net->n_samples; i++) in[i] = (double)x[i];
    for (int i = 0; i < net->n_layers; i++) {
        const struct nn_layer *l = &net->layer[i];
        const double *a = l->input[0] < 0 ? in : out[l->input[0]];
        const double *b = l->op == NN_ADD ? out[l->input[1]] : NULL;
        out[i] = calloc((size_t)(l->cout * l->tout), sizeof *in);
        if (l->op == NN_CONV1D)
            unfused_conv(m, l, a, out[i]);
        else if (l->op == NN_LSTM)
            unfused_lstm(m, l, a, out[i]);
        else if (l->op == NN_LAYERNORM)
            unfused_norm(m, l, a, out[i]);
        else if (l->op == NN_LINEAR)
            unfused_linear(m, l, a, out[i]);
        else
            unfused_simple(m, l, a, b, out[i]);
    }
    for (int c = 0; c < net->n_labels; c++) logits[c] = out[net->n_layers - 1][c];
    for (int i = 0; i < net->n_layers; i++) free(out[i]);
    free(in);
}

static inline float unfused_noise(uint64_t seed, int i)
{
    cn_rng4 r = cn_rng(seed, CN_RNG_NOISE, 1, (uint64_t)i);
    return cn_rng_uniform(r.v[0]) + cn_rng_uniform(r.v[1]) + cn_rng_uniform(r.v[2]) +
           cn_rng_uniform(r.v[3]) - 2;
}

/* A random net whose normalisation layers are not neutral. widths as nn_net_build. */
static inline struct nn_model *unfused_model(const char *name, const int *widths, int n,
                                             uint64_t seed)
{
    struct nn_net *net = NULL;
    struct nn_model *m = NULL;
    struct nn_shape shape = {0, 0, 0};
    if (nn_net_build(&net, name, widths, n, shape, NULL) ||
        nn_model_create(&m, net, seed, NULL, NULL))
        return NULL;
    for (int i = 0; i < net->n_tensors; i++) {
        const struct nn_tensor *t = &net->tensor[i];
        const struct nn_layer *l = &net->layer[t->layer];
        if (l->op != NN_BATCHNORM && l->op != NN_LAYERNORM) continue;
        for (size_t j = 0; j < t->count; j++) {
            float u = unfused_noise(seed + 1, (int)(t->offset + j)), *p = &m->params[t->offset + j];
            int role = i - l->tensor;
            *p = role == 3 ? 0.3f + fabsf(u) : role == 0 ? 1 + 0.4f * u : 0.2f * u;
        }
    }
    return m;
}

#endif
