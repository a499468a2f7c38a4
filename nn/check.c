/* nn/check.c - see check.h.
 *
 * Weights that are finite can still make sums that are not, and a ReLU or a maximum behind them may
 * hide it. So each channel's largest possible value is followed through the net: |out| <= sum |w|
 * |in| + |b|, with BatchNorm's running statistics. A trained net stays twenty orders of magnitude
 * below the limit.
 */
#include "nn/check.h"

#include <math.h>
#include <stdlib.h>

#define MOST 1e34 /* float ends at 3.4e38; transforms of convolutions add some hundreds */

int nn_params_check(const struct nn_net *net, const float *params, size_t n, const char *name,
                    struct cn_error *err)
{
    for (int i = 0; i < net->n_tensors; i++) {
        const struct nn_tensor *t = &net->tensor[i];
        const struct nn_layer *l = &net->layer[t->layer];
        int variance = l->op == NN_BATCHNORM && i - l->tensor == 3;
        for (size_t j = 0; j < t->count && t->offset + j < n; j++) {
            double v = (double)params[t->offset + j];
            if (isfinite(v) && (!variance || v >= 0)) continue;
            return cn_fail(err, CN_ECORRUPT, "%s: tensor '%s': value %zu of %zu is %g, %s", name,
                           t->name, j, t->count, v,
                           isfinite(v) ? "but a variance cannot be below 0"
                                       : "not a finite number");
        }
    }
    return 0;
}

struct reach {
    const struct nn_model *m;
    double *of[NN_MAX_LAYERS]; /* [cout] of each layer's output */
    double input[NN_MAX_LEADS];
};

static const float *tensor(const struct reach *r, const struct nn_layer *l, int which)
{
    return r->m->params + r->m->net->tensor[l->tensor + which].offset;
}

static double sum_abs(const float *w, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += fabs((double)w[i]);
    return sum;
}

/* A row of weights [cin, n] over inputs that reach in[cin]. */
static double row_reach(const float *w, const double *in, int cin, int n)
{
    double sum = 0;
    for (int c = 0; c < cin; c++) sum += in[c] * sum_abs(w + (size_t)c * (size_t)n, n);
    return sum;
}

static double weighted_reach(const struct reach *r, const struct nn_layer *l, const double *in,
                             int o)
{
    int n = l->op == NN_CONV1D ? l->k : l->tin;
    double bias = l->bias ? fabs((double)tensor(r, l, 1)[o]) : 0;
    return row_reach(tensor(r, l, 0) + (size_t)o * (size_t)l->cin * (size_t)n, in, l->cin, n) +
           bias;
}

/* The largest sum before a unit's gates; behind them everything lies within 1. */
static double lstm_reach(const struct reach *r, const struct nn_layer *l, const double *in, int u)
{
    double most = 0;
    for (int g = 0; g < 4; g++) {
        int row = g * l->cout + u;
        double a = row_reach(tensor(r, l, 0) + (size_t)row * (size_t)l->cin, in, l->cin, 1) +
                   sum_abs(tensor(r, l, 1) + (size_t)row * (size_t)l->cout, l->cout) +
                   fabs((double)tensor(r, l, 2)[row]) + fabs((double)tensor(r, l, 3)[row]);
        most = fmax(most, a);
    }
    return most;
}

/* The largest value on the way to channel o of layer l; *out: what it can hand on. */
static double channel_reach(const struct reach *r, const struct nn_layer *l, const double *in,
                            int o, double *out)
{
    double v = in[l->op == NN_CONV1D || l->op == NN_LINEAR || l->op == NN_LSTM ? 0 : o], most = 0;
    switch (l->op) {
    case NN_CONV1D:
    case NN_LINEAR:
        v = weighted_reach(r, l, in, o);
        break;
    case NN_BATCHNORM:
        v = fabs((double)tensor(r, l, 0)[o]) / sqrt((double)tensor(r, l, 3)[o] + 1e-5) *
                (v + fabs((double)tensor(r, l, 2)[o])) +
            fabs((double)tensor(r, l, 1)[o]);
        break;
    case NN_LSTM:
        most = lstm_reach(r, l, in, o);
        v = 1;
        break;
    case NN_LAYERNORM:
        most = 4 * v * v * l->cin; /* its sum of squares */
        v = sqrt(l->cin) * fabs((double)tensor(r, l, 0)[o]) + fabs((double)tensor(r, l, 1)[o]);
        break;
    case NN_ADD:
        v += r->of[l->input[1]][o];
        break;
    default:
        break;
    }
    *out = v;
    return fmax(most, v);
}

static double largest_weight(const struct reach *r, const struct nn_layer *l)
{
    double most = 0;
    for (int i = 0; i < l->n_tensors; i++) {
        const float *w = tensor(r, l, i);
        for (size_t j = 0; j < r->m->net->tensor[l->tensor + i].count; j++)
            most = fmax(most, fabs((double)w[j]));
    }
    return most;
}

static int layer_reach(struct reach *r, int i, const char *name, struct cn_error *err)
{
    const struct nn_layer *l = &r->m->net->layer[i];
    const double *in = l->input[0] < 0 ? r->input : r->of[l->input[0]];
    for (int o = 0; o < l->cout; o++) {
        double v = channel_reach(r, l, in, o, &r->of[i][o]);
        if (v < MOST) continue;
        return cn_fail(
            err, CN_ECORRUPT,
            "%s: layer '%s': with parameters as large as %.3g, output %d could reach %.3g, and "
            "sums in float would not stay finite",
            name, l->name, largest_weight(r, l), o, v);
    }
    return 0;
}

int nn_model_check(const struct nn_model *m, const char *name, struct cn_error *err)
{
    const struct nn_net *net = m->net;
    struct reach r = {.m = m};
    size_t n = 0;
    int rc = nn_params_check(net, m->params, net->n_floats, name, err);
    if (rc) return rc;
    for (int i = 0; i < net->n_layers; i++) n += (size_t)net->layer[i].cout;
    double *memory = malloc((n + 1) * sizeof *memory), *at = memory;
    if (!memory) return cn_fail(err, CN_ENOMEM, "%s: out of memory", name);
    for (int i = 0; i < net->n_leads; i++) r.input[i] = NN_CHECK_INPUT;
    for (int i = 0; i < net->n_layers && !rc; i++) {
        r.of[i] = at;
        at += net->layer[i].cout;
        rc = layer_reach(&r, i, name, err);
    }
    free(memory);
    return rc;
}
