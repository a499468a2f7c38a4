/* cpu/quant/forward.c - float inference of the folded net, one record at a time, keeping every
 * node's output: what calibration observes and the int8 net is compared with. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/quant/f32_kernels.h"
#include "cpu/quant/graph.h"

#define LN_EPS 1e-5
#define MAX_CHANNELS 4096 /* what nn_net_build allows */

struct quant_forward {
    const struct quant_graph *g;
    const struct quant_f32_kernels *kernels;
    const float *x;              /* the net's input, during a run */
    float *out[QUANT_MAX_NODES]; /* [cout, tout] each */
    float *padded;               /* a convolution's input with room around each row */
    float *raw;                  /* its output before the pool, rows padded */
    float *gates;                /* LSTM: [tin, lstm_row] input part, then gates */
    float *w_hh_t;               /* [H, lstm_row] of the net's LSTM (one per net at most) */
    float *cells;                /* [H] largest |cell| so far */
    int lstm_row;                /* 4H rounded up to 64; 0: no LSTM */
};

static int round_up(int n, int to)
{
    return (n + to - 1) / to * to;
}

static int input_stride(const struct quant_node *node)
{
    return round_up(node->tmid, QUANT_T_BLOCK) + node->k - 1;
}

struct sizes {
    size_t padded, raw, gates, w_hh_t;
};

static void grow(size_t *to, size_t n)
{
    if (n > *to) *to = n;
}

static void measure(const struct quant_graph *g, struct quant_forward *f, struct sizes *s)
{
    for (int i = 0; i < g->n; i++) {
        const struct quant_node *node = &g->node[i];
        if (node->kind == QUANT_CONV) {
            size_t raw = (size_t)node->cout * (size_t)round_up(node->tmid, QUANT_T_BLOCK);
            grow(&s->padded, (size_t)node->cin * (size_t)input_stride(node));
            grow(&s->padded, (size_t)node->cin1 * (size_t)input_stride(node));
            grow(&s->raw, node->cin1 ? 2 * raw : raw);
        } else if (node->kind == QUANT_LSTM) {
            int row = round_up(4 * node->cout, 64), stride = round_up(node->tin, QUANT_T_BLOCK);
            f->lstm_row = row;
            grow(&s->padded, (size_t)node->cin * (size_t)stride);
            grow(&s->raw, (size_t)(4 * node->cout) * (size_t)stride);
            grow(&s->gates, (size_t)row * 2);
            grow(&s->w_hh_t, (size_t)row * (size_t)node->cout);
        }
    }
}

static int allocate(struct quant_forward *f, const struct sizes *s)
{
    int ok = 1;
    for (int i = 0; i < f->g->n; i++) {
        const struct quant_node *node = &f->g->node[i];
        f->out[i] = calloc((size_t)node->cout * (size_t)node->tout + 1, sizeof(float));
        ok = ok && f->out[i];
    }
    f->padded = calloc(s->padded + 1, sizeof(float));
    f->raw = calloc(s->raw + 1, sizeof(float));
    f->gates = calloc(s->gates + 1, sizeof(float));
    f->w_hh_t = calloc(s->w_hh_t + 1, sizeof(float));
    f->cells = calloc((size_t)f->lstm_row + 1, sizeof(float));
    return ok && f->padded && f->raw && f->gates && f->w_hh_t && f->cells;
}

int quant_forward_create(struct quant_forward **out, const struct quant_graph *g,
                         struct cn_error *err)
{
    struct sizes s = {0};
    struct quant_forward *f = calloc(1, sizeof *f);
    *out = NULL;
    if (f) {
        f->g = g;
        f->kernels = quant_f32_best();
        measure(g, f, &s);
    }
    if (!f || !allocate(f, &s)) {
        quant_forward_destroy(f);
        return cn_fail(err, CN_ENOMEM, "no memory for the calibration run");
    }
    *out = f;
    return 0;
}

void quant_forward_destroy(struct quant_forward *f)
{
    if (!f) return;
    for (int i = 0; i < QUANT_MAX_NODES; i++) free(f->out[i]);
    free(f->padded);
    free(f->raw);
    free(f->gates);
    free(f->w_hh_t);
    free(f->cells);
    free(f);
}

static const float *input_of(const struct quant_forward *f, const struct quant_node *node, int slot)
{
    return node->input[slot] < 0 ? f->x : f->out[node->input[slot]];
}

/* Largest of each `k` values; relu: at least 0. x rows are `stride` apart. */
static void pool_rows(const float *x, int stride, const struct quant_node *node, float *y)
{
    for (int c = 0; c < node->cout; c++)
        for (int t = 0; t < node->tout; t++) {
            const float *at = x + (size_t)c * (size_t)stride + (size_t)t * (size_t)node->pool;
            float most = at[0];
            for (int k = 1; k < node->pool; k++)
                if (at[k] > most) most = at[k];
            y[(size_t)c * (size_t)node->tout + (size_t)t] = node->relu && most < 0 ? 0 : most;
        }
}

/* Copies x [channels, t] into f->padded with `pad` zeros before each row of `stride` floats. */
static void pad_input(struct quant_forward *f, const float *x, int channels, int t, int pad,
                      int stride)
{
    memset(f->padded, 0, (size_t)channels * (size_t)stride * sizeof(float));
    for (int c = 0; c < channels; c++)
        memcpy(f->padded + (size_t)c * (size_t)stride + pad, x + (size_t)c * (size_t)t,
               (size_t)t * sizeof(float));
}

/* Adds the 1 × 1 shortcut to the rows in f->raw. */
static void add_shortcut(struct quant_forward *f, const struct quant_node *node, int raw)
{
    static const float zero[MAX_CHANNELS];
    float *y = f->raw + (size_t)node->cout * (size_t)raw;
    pad_input(f, input_of(f, node, 1), node->cin1, node->tmid, 0, raw);
    f->kernels->conv(&(struct quant_f32_conv){.cin = node->cin1,
                                              .cout = node->cout,
                                              .k = 1,
                                              .t = node->tmid,
                                              .x_stride = raw,
                                              .y_stride = raw,
                                              .x = f->padded,
                                              .w = node->w1,
                                              .bias = zero,
                                              .y = y});
    for (size_t i = 0; i < (size_t)node->cout * (size_t)raw; i++) f->raw[i] += y[i];
}

static void run_conv(struct quant_forward *f, const struct quant_node *node, float *y)
{
    int stride = input_stride(node), raw = round_up(node->tmid, QUANT_T_BLOCK);
    pad_input(f, input_of(f, node, 0), node->cin, node->tin, node->pad, stride);
    f->kernels->conv(&(struct quant_f32_conv){.cin = node->cin,
                                              .cout = node->cout,
                                              .k = node->k,
                                              .t = node->tmid,
                                              .x_stride = stride,
                                              .y_stride = raw,
                                              .x = f->padded,
                                              .w = node->w,
                                              .bias = node->bias,
                                              .y = f->raw});
    if (node->cin1) add_shortcut(f, node, raw);
    pool_rows(f->raw, raw, node, y);
}

static void run_linear(struct quant_forward *f, const struct quant_node *node, float *y)
{
    const float *x = input_of(f, node, 0);
    int columns = quant_node_columns(node);
    for (int c = 0; c < node->cout; c++) {
        double sum = (double)node->bias[c];
        const float *w = node->w + (size_t)c * (size_t)columns;
        for (int j = 0; j < columns; j++) sum += (double)w[j] * (double)x[j];
        y[c] = node->relu && sum < 0 ? 0 : (float)sum;
    }
}

static float sigmoid(float v)
{
    return 1.0f / (1.0f + expf(-v));
}

/* One step: gates [4H] before their functions, c and h [H] in and out. */
static void lstm_cell(const float *gates, int h, float *cell, float *hidden)
{
    for (int j = 0; j < h; j++) {
        float i = sigmoid(gates[j]), fg = sigmoid(gates[h + j]);
        float g = tanhf(gates[2 * h + j]), o = sigmoid(gates[3 * h + j]);
        cell[j] = fg * cell[j] + i * g;
        hidden[j] = o * tanhf(cell[j]);
    }
}

static void run_lstm(struct quant_forward *f, const struct quant_node *node, float *y)
{
    const float *x = input_of(f, node, 0);
    int h = node->cout, stride = round_up(node->tin, QUANT_T_BLOCK), row = f->lstm_row;
    pad_input(f, x, node->cin, node->tin, 0, stride);
    f->kernels->conv(&(struct quant_f32_conv){.cin = node->cin,
                                              .cout = 4 * h,
                                              .k = 1,
                                              .t = node->tin,
                                              .x_stride = stride,
                                              .y_stride = stride,
                                              .x = f->padded,
                                              .w = node->w,
                                              .bias = node->bias,
                                              .y = f->raw});
    for (int j = 0; j < h; j++)
        for (int r = 0; r < 4 * h; r++) f->w_hh_t[j * row + r] = node->w1[r * h + j];
    float *gates = f->gates, *cell = f->gates + row, *hidden = cell + h;
    memset(f->gates, 0, (size_t)row * 2 * sizeof(float));
    for (int t = 0; t < node->tin; t++) {
        for (int r = 0; r < 4 * h; r++) gates[r] = f->raw[(size_t)r * (size_t)stride + (size_t)t];
        f->kernels->axpys(gates, hidden, f->w_hh_t, h, row);
        lstm_cell(gates, h, cell, hidden);
        for (int j = 0; j < h; j++) {
            y[(size_t)j * (size_t)node->tout + (size_t)t] = hidden[j];
            f->cells[j] = fmaxf(f->cells[j], fabsf(cell[j]));
        }
    }
}

/* One step: column t of x, rows `stride` apart, normalised into v [cout]. */
static void norm_column(const struct quant_node *node, const float *x, size_t stride, float *v)
{
    double mean = 0, var = 0;
    for (int c = 0; c < node->cout; c++) mean += (double)x[(size_t)c * stride];
    mean /= node->cout;
    for (int c = 0; c < node->cout; c++) {
        double d = (double)x[(size_t)c * stride] - mean;
        var += d * d;
    }
    double scale = 1 / sqrt(var / node->cout + LN_EPS);
    for (int c = 0; c < node->cout; c++)
        v[c] = (float)(((double)x[(size_t)c * stride] - mean) * scale * (double)node->w[c] +
                       (double)node->bias[c]);
}

static void run_layernorm(struct quant_forward *f, const struct quant_node *node, float *y)
{
    const float *x = input_of(f, node, 0);
    float v[MAX_CHANNELS];
    for (int t = 0; t < node->tout * node->pool; t++) {
        norm_column(node, x + t, (size_t)node->tin, v);
        for (int c = 0; c < node->cout; c++) {
            float *to = &y[c * node->tout + t / node->pool];
            if (t % node->pool == 0 || v[c] > *to) *to = v[c];
        }
    }
}

static void run_mean(struct quant_forward *f, const struct quant_node *node, float *y)
{
    const float *x = input_of(f, node, 0);
    for (int c = 0; c < node->cout; c++) {
        double sum = 0;
        for (int t = 0; t < node->tin; t++) sum += (double)x[c * node->tin + t];
        y[c] = (float)(sum / node->tin);
    }
}

void quant_forward_run(struct quant_forward *f, const float *x)
{
    f->x = x;
    for (int i = 0; i < f->g->n; i++) {
        const struct quant_node *node = &f->g->node[i];
        switch (node->kind) {
        case QUANT_CONV:
            run_conv(f, node, f->out[i]);
            break;
        case QUANT_LINEAR:
            run_linear(f, node, f->out[i]);
            break;
        case QUANT_LSTM:
            run_lstm(f, node, f->out[i]);
            break;
        case QUANT_LAYERNORM:
            run_layernorm(f, node, f->out[i]);
            break;
        case QUANT_MEAN:
            run_mean(f, node, f->out[i]);
            break;
        }
    }
    f->x = NULL;
}

const float *quant_forward_output(const struct quant_forward *f, int node)
{
    return f->out[node];
}

const float *quant_forward_cells(const struct quant_forward *f)
{
    return f->lstm_row ? f->cells : NULL;
}
