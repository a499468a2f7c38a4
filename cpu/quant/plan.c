/* cpu/quant/plan.c - from observed ranges to scales, and from float weights to int8 rows.
 *
 * A row of weights gets the scale max|w| / 127 (PyTorch's symmetric per-channel observer on the grid
 * [-127, 127]), with two exceptions that keep the integer rules of cpu/rt/format.h safe and exact:
 *   - a row whose weights are tiny beside its bias (a dead channel) gets a larger scale, so that the
 *     bias fits the accumulator;
 *   - a row of the static LSTM gets the next larger scale whose 12-bit multiplier is exact.
 * An output scale is raised where a channel could otherwise be requantised beyond 2^29.
 */
#include "cpu/quant/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/rt/format.h"

#define ACC_ROOM 134217728.0 /* 2^27: bias and shortcut in units of the accumulator */
#define OUT_ROOM 536870912.0 /* 2^29: largest requantised value */
#define GATE_ONE 2048        /* 1.0 in Q4.11 */
#define MULT16_MOST (29 << 11 | 2046)

static const struct quant_grid weight_grid = {QUANT_SYMMETRIC, -127, 127};

int quant_plan_quantised(const struct quant_plan *p, int tensor)
{
    if (p->mode == QUANT_FLOAT || p->dynamic) return 0;
    return tensor < p->g->n;
}

const char *const quant_watcher_names[] = {"histogram", "minmax", "narrowed"};

void quant_plan_watch(struct quant_plan *p, int i, enum quant_watcher watcher, float factor,
                      const struct quant_calibration *c)
{
    const struct quant_watch *w = &c->tensor[i];
    struct quant_grid grid = {QUANT_AFFINE, 0, p->qmax};
    p->watcher[i] = watcher;
    p->covered[i] = watcher == QUANT_MINMAX ? w->range : quant_histogram_search(w->histogram);
    if (watcher == QUANT_NARROWED) {
        p->covered[i].min *= factor;
        p->covered[i].max *= factor;
    }
    p->act[i] = quant_params_of(p->covered[i].min, p->covered[i].max, grid);
    if (i == 0 || p->g->node[i - 1].kind != QUANT_LSTM) return;
    /* The copy of h that feeds back has the scale 1 / integer. */
    float inverse = nearbyintf(1 / p->act[i].scale);
    p->act[i].scale = 1 / fminf(fmaxf(inverse, 1), 32767);
}

/* Largest real value that a channel of a CONV or LINEAR can reach in its accumulator. */
static double most_reached(const struct quant_plan *p, const struct quant_node *node)
{
    double most = 0, sx = (double)p->act[node->input[0] + 1].scale;
    double sx1 = node->cin1 ? (double)p->act[node->input[1] + 1].scale : 0;
    int columns = quant_node_columns(node), columns1 = quant_node_columns1(node);
    for (int r = 0; r < node->cout; r++) {
        double sum = fabs((double)node->bias[r]);
        for (int j = 0; j < columns; j++) sum += 255 * sx * fabs((double)node->w[r * columns + j]);
        for (int j = 0; j < columns1; j++)
            sum += 255 * sx1 * fabs((double)node->w1[r * columns1 + j]);
        most = fmax(most, sum);
    }
    return most;
}

/* The same for any node with an 8-bit output. */
static double most_output(const struct quant_plan *p, const struct quant_node *node)
{
    double most = 0;
    switch (node->kind) {
    case QUANT_CONV:
    case QUANT_LINEAR:
        return most_reached(p, node);
    case QUANT_LAYERNORM: /* a normalised value is below 32 */
        for (int c = 0; c < node->cout; c++)
            most = fmax(most, fabs((double)node->bias[c]) + 32 * fabs((double)node->w[c]));
        return most;
    case QUANT_MEAN:
        return 255 * (double)p->act[node->input[0] + 1].scale;
    default:
        return 0;
    }
}

void quant_plan_settle(struct quant_plan *p)
{
    for (int i = 0; i < p->g->n - 1; i++) {
        float least = (float)(most_output(p, &p->g->node[i]) / OUT_ROOM);
        if (quant_plan_quantised(p, i + 1) && p->act[i + 1].scale < least)
            p->act[i + 1].scale = least;
    }
}

static int plan_alloc(struct quant_plan **out, const struct quant_graph *g, const float *cells,
                      struct cn_error *err)
{
    struct quant_plan *p = calloc(1, sizeof *p);
    *out = NULL;
    if (!p) return cn_fail(err, CN_ENOMEM, "no memory for a conversion plan");
    int rc = quant_graph_copy(&p->g, g, err);
    for (int i = 0; !rc && cells && i < g->n; i++) {
        if (g->node[i].kind != QUANT_LSTM) continue;
        size_t size = (size_t)g->node[i].cout * sizeof *cells;
        p->cells = malloc(size);
        if (!p->cells) {
            rc = cn_fail(err, CN_ENOMEM, "no memory for a conversion plan");
            break;
        }
        memcpy(p->cells, cells, size);
        break;
    }
    if (rc) {
        quant_plan_destroy(p);
        return rc;
    }
    *out = p;
    return 0;
}

int quant_plan_create(struct quant_plan **out, const struct quant_graph *g, enum quant_mode mode,
                      int qmax, const struct quant_calibration *c, struct cn_error *err)
{
    int rc = plan_alloc(out, g, c ? c->cells : NULL, err);
    if (rc) return rc;
    struct quant_plan *p = *out;
    p->mode = mode;
    p->qmax = qmax;
    for (int i = 0; mode == QUANT_PAPER && i < g->n; i++)
        if (g->node[i].kind == QUANT_LSTM) p->dynamic = 1;
    if (mode == QUANT_FLOAT || p->dynamic) return 0;
    for (int i = 0; i < g->n; i++) quant_plan_watch(p, i, QUANT_HISTOGRAM, 1, c);
    quant_plan_settle(p);
    return 0;
}

int quant_plan_copy(struct quant_plan **out, const struct quant_plan *p, struct cn_error *err)
{
    int rc = plan_alloc(out, p->g, p->cells, err);
    if (rc) return rc;
    struct quant_graph *g = (*out)->g;
    float *cells = (*out)->cells;
    **out = *p;
    (*out)->g = g;
    (*out)->cells = cells;
    return 0;
}

void quant_plan_destroy(struct quant_plan *p)
{
    if (!p) return;
    quant_graph_destroy(p->g);
    free(p->cells);
    free(p);
}

static float most_of(const float *w, int n)
{
    float most = 0;
    for (int i = 0; i < n; i++) most = fmaxf(most, fabsf(w[i]));
    return most;
}

static float weight_scale(const float *w, int n)
{
    float most = most_of(w, n);
    return quant_params_of(-most, most, weight_grid).scale;
}

/* Row r of a CONV or LINEAR: room for its bias and shortcut in the accumulator. */
static void row_scales(struct quant_weights *q, const struct quant_plan *p,
                       const struct quant_node *node, int r)
{
    double sx = (double)p->act[node->input[0] + 1].scale, beside = fabs((double)node->bias[r]);
    q->scale[r] = weight_scale(node->w + r * q->columns, q->columns);
    if (q->columns1) {
        const float *row = node->w1 + r * q->columns1;
        double sum = 0;
        q->scale1[r] = weight_scale(row, q->columns1);
        for (int j = 0; j < q->columns1; j++) sum += fabs((double)row[j]);
        beside += 255 * sum * (double)p->act[node->input[1] + 1].scale;
    }
    q->scale[r] = fmaxf(q->scale[r], (float)(beside / (sx * ACC_ROOM)));
}

/* The least scale ≥ max|w| / 127 with an exact multiplier scale · unit · 2048. */
static float gate_scale(const float *w, int n, double unit)
{
    double want = (double)most_of(w, n) / 127 * unit * GATE_ONE;
    uint16_t m = cinchrt_mult16((float)want);
    if ((double)cinchrt_mult16_value(m) < want && m < MULT16_MOST) m++;
    return (float)((double)cinchrt_mult16_value(m) / (unit * GATE_ONE));
}

static void lstm_scales(struct quant_weights *q, const struct quant_plan *p, int i, int r)
{
    const struct quant_node *node = &p->g->node[i];
    q->scale[r] =
        gate_scale(node->w + r * q->columns, q->columns, (double)p->act[node->input[0] + 1].scale);
    q->scale1[r] = gate_scale(node->w1 + r * q->columns1, q->columns1, (double)p->act[i + 1].scale);
}

/* One scale for all rows: study A's LSTM and what follows it. */
static void tensor_scales(struct quant_weights *q, const struct quant_node *node, int r)
{
    q->scale[r] = r ? q->scale[0] : weight_scale(node->w, q->rows * q->columns);
    if (q->columns1)
        q->scale1[r] = r ? q->scale1[0] : weight_scale(node->w1, q->rows * q->columns1);
}

static void round_row(const float *w, int n, float scale, int8_t *q)
{
    for (int i = 0; i < n; i++) q[i] = (int8_t)fminf(fmaxf(nearbyintf(w[i] / scale), -127), 127);
}

static int weights_alloc(struct quant_weights *q, const struct quant_node *node,
                         struct cn_error *err)
{
    *q = (struct quant_weights){.rows = quant_node_rows(node),
                                .columns = quant_node_columns(node),
                                .columns1 = quant_node_columns1(node)};
    size_t rows = (size_t)q->rows;
    q->w = malloc(rows * (size_t)q->columns + 1);
    q->w1 = malloc(rows * (size_t)q->columns1 + 1);
    q->scale = calloc(rows + 1, sizeof *q->scale);
    q->scale1 = calloc(rows + 1, sizeof *q->scale1);
    if (q->w && q->w1 && q->scale && q->scale1) return 0;
    quant_weights_release(q);
    return cn_fail(err, CN_ENOMEM, "no memory for the rounded weights of '%s'", node->name);
}

int quant_plan_weights(struct quant_weights *out, const struct quant_plan *p, int i,
                       struct cn_error *err)
{
    const struct quant_node *node = &p->g->node[i];
    int rc = weights_alloc(out, node, err);
    for (int r = 0; !rc && r < out->rows; r++) {
        if (p->dynamic)
            tensor_scales(out, node, r);
        else if (node->kind == QUANT_LSTM)
            lstm_scales(out, p, i, r);
        else
            row_scales(out, p, node, r);
        round_row(node->w + r * out->columns, out->columns, out->scale[r],
                  out->w + r * out->columns);
        if (out->columns1)
            round_row(node->w1 + r * out->columns1, out->columns1, out->scale1[r],
                      out->w1 + r * out->columns1);
    }
    return rc;
}

void quant_weights_release(struct quant_weights *w)
{
    free(w->w);
    free(w->w1);
    free(w->scale);
    free(w->scale1);
    *w = (struct quant_weights){0};
}
