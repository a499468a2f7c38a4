/* cpu/quant/report.c - the report per layer, measured on the finished artifact.
 *
 * The runtime's probe shows every layer's output; the float net runs beside it on the same records.
 * Signal-to-noise is 10·log10(Σ y² / Σ (y - ŷ)²). What is clipped is counted on the float outputs
 * against the range that scale and zero point cover.
 */
#include "cpu/quant/report.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MEASURED 32 /* records */

struct measure {
    const struct quant_graph *g;
    const struct quant_plan *p;
    const struct quant_forward *f;
    double signal[QUANT_MAX_NODES], noise[QUANT_MAX_NODES];
    uint64_t clipped[QUANT_MAX_NODES + 1], seen[QUANT_MAX_NODES + 1];
};

static double probe_value(const struct cinchrt_probe *probe, int c, int t)
{
    size_t at = (size_t)t * (size_t)probe->stride + (size_t)c;
    switch (probe->type) {
    case CINCHRT_PROBE_U8:
        return (((const uint8_t *)probe->data)[at] - probe->zero) * (double)probe->scale;
    case CINCHRT_PROBE_U16:
        return (((const int16_t *)probe->data)[at] - probe->zero) * (double)probe->scale;
    case CINCHRT_PROBE_H16:
        return ((const int16_t *)probe->data)[at] / 32768.0;
    default:
        return (double)((const float *)probe->data)[at];
    }
}

static void compare_layer(void *context, const struct cinchrt_probe *probe)
{
    struct measure *m = context;
    const float *want = quant_forward_output(m->f, probe->layer);
    for (int c = 0; c < probe->channels; c++)
        for (int t = 0; t < probe->time; t++) {
            double y = (double)want[(size_t)c * (size_t)probe->time + (size_t)t];
            double d = y - probe_value(probe, c, t);
            m->signal[probe->layer] += y * y;
            m->noise[probe->layer] += d * d;
        }
}

/* The real values that the 8-bit grid of tensor i spans; half a step more is rounded, not clipped. */
static void count_clipped(struct measure *m, int tensor, const float *x, size_t n)
{
    const struct quant_params *a = &m->p->act[tensor];
    if (!quant_plan_quantised(m->p, tensor)) return;
    double lo = ((double)-a->zero - 0.5) * (double)a->scale;
    double hi = ((double)(m->p->qmax - a->zero) + 0.5) * (double)a->scale;
    for (size_t i = 0; i < n; i++) m->clipped[tensor] += (double)x[i] < lo || (double)x[i] > hi;
    m->seen[tensor] += n;
}

static int measure_records(struct measure *m, const struct quant_trial *t,
                           const struct cinchrt_model *model, struct cn_error *err)
{
    struct quant_forward *f = NULL;
    size_t size = (size_t)m->g->n_leads * (size_t)m->g->n_samples;
    void *scratch = malloc(cinchrt_scratch_size(model));
    int rc = scratch ? quant_forward_create(&f, m->g, err)
                     : cn_fail(err, CN_ENOMEM, "no memory for the report");
    m->f = f;
    for (int r = 0; !rc && r < t->c->n && r < MEASURED; r++) {
        const float *x = t->s->d->x + t->s->rows[r] * size;
        quant_forward_run(f, x);
        rc = cinchrt_run_probed(model, x, NULL, NULL, scratch, compare_layer, m);
        if (rc) cn_fail(err, CN_EINTERNAL, "artifact does not run: %s", cinchrt_error_text(rc));
        count_clipped(m, 0, x, size);
        for (int i = 0; i < m->g->n; i++)
            count_clipped(m, i + 1, quant_forward_output(f, i),
                          (size_t)m->g->node[i].cout * (size_t)m->g->node[i].tout);
    }
    quant_forward_destroy(f);
    free(scratch);
    return rc;
}

static double decibel(double signal, double noise)
{
    return noise > 0 ? 10 * log10(signal / noise) : INFINITY;
}

static void weights_snr(struct quant_row *row, const struct quant_node *node,
                        const struct quant_weights *q)
{
    double signal = 0, noise = 0;
    row->weight_scale[0] = q->scale[0];
    for (int r = 0; r < q->rows; r++) {
        row->weight_scale[0] = fminf(row->weight_scale[0], q->scale[r]);
        row->weight_scale[1] = fmaxf(row->weight_scale[1], q->scale[r]);
        for (int j = 0; j < q->columns; j++) {
            double w = (double)node->w[r * q->columns + j];
            double d = w - (double)q->scale[r] * q->w[r * q->columns + j];
            signal += w * w;
            noise += d * d;
        }
        for (int j = 0; j < q->columns1; j++) {
            double w = (double)node->w1[r * q->columns1 + j];
            double d = w - (double)q->scale1[r] * q->w1[r * q->columns1 + j];
            signal += w * w;
            noise += d * d;
        }
    }
    row->weight_snr_db = decibel(signal, noise);
}

/* Row 0 is the net's input, row i + 1 node i. */
static int fill_row(struct quant_report *r, int tensor, const struct measure *m,
                    const struct quant_watch *watch, struct cn_error *err)
{
    const struct quant_plan *p = m->p;
    struct quant_row *row = &r->row[tensor];
    struct quant_weights q;
    int rc = 0, i = tensor - 1;
    *row = (struct quant_row){
        .name = "input", .kind = "input", .weight_snr_db = INFINITY, .snr_db = NAN};
    if (watch) {
        row->min = watch->range.min;
        row->max = watch->range.max;
    }
    if (quant_plan_quantised(p, tensor)) {
        row->scale = p->act[tensor].scale;
        row->zero = p->act[tensor].zero;
        row->clipped = m->seen[tensor] ? (double)m->clipped[tensor] / (double)m->seen[tensor] : 0;
        strcpy(row->observer, quant_watcher_names[p->watcher[tensor]]);
    }
    if (i < 0) return 0;
    const struct quant_node *node = &p->g->node[i];
    memcpy(row->name, node->name, sizeof row->name);
    strcpy(row->kind, quant_node_kind(node));
    if (p->dynamic && quant_node_rows(node)) strcpy(row->observer, "dynamic");
    row->corrected = p->corrected[i];
    row->equalised = p->equalised[i];
    row->snr_db = watch ? decibel(m->signal[i], m->noise[i]) : NAN;
    if (p->mode == QUANT_FLOAT || !quant_node_rows(node)) return 0;
    rc = quant_plan_weights(&q, p, i, err);
    if (rc) return rc;
    weights_snr(row, node, &q);
    quant_weights_release(&q);
    return 0;
}

int quant_report_fill(struct quant_report *r, const struct quant_plan *p,
                      const struct quant_graph *reference, const struct quant_trial *t,
                      const struct quant_artifact *a, struct cn_error *err)
{
    struct measure *m = calloc(1, sizeof *m);
    struct cinchrt_model *model;
    void *memory = NULL;
    if (!m) return cn_fail(err, CN_ENOMEM, "no memory for the report");
    m->g = reference;
    m->p = p;
    int rc = quant_load(&model, &memory, a->data, a->n, err);
    if (!rc && t->c) rc = measure_records(m, t, model, err);
    r->mode = p->mode;
    r->n = p->g->n + 1;
    for (int i = 0; !rc && i < r->n; i++)
        rc = fill_row(r, i, m, t->c ? &t->c->tensor[i] : NULL, err);
    free(memory);
    free(m);
    return rc;
}

/* JSON has no infinity and no NaN. */
static json_t *number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *row_json(const struct quant_row *row)
{
    json_t *o = json_pack("{s:s, s:s, s:[f, f]}", "name", row->name, "kind", row->kind, "range",
                          (double)row->min, (double)row->max);
    if (row->observer[0]) json_object_set_new(o, "observer", json_string(row->observer));
    if (row->scale > 0) {
        json_object_set_new(o, "scale", json_real((double)row->scale));
        json_object_set_new(o, "zero", json_integer(row->zero));
        json_object_set_new(o, "clipped", number(row->clipped));
    }
    if (row->weight_scale[1] > 0) {
        json_object_set_new(
            o, "weight_scale",
            json_pack("[f, f]", (double)row->weight_scale[0], (double)row->weight_scale[1]));
        json_object_set_new(o, "weight_snr_db", number(row->weight_snr_db));
    }
    if (!isnan(row->snr_db)) json_object_set_new(o, "snr_db", number(row->snr_db));
    json_object_set_new(o, "bias_corrected", json_boolean(row->corrected));
    json_object_set_new(o, "equalised", json_boolean(row->equalised));
    return o;
}

char *quant_report_json(const struct quant_report *r)
{
    json_t *rows = json_array();
    for (int i = 0; i < r->n; i++) json_array_append_new(rows, row_json(&r->row[i]));
    json_t *o = json_pack("{s:s, s:i, s:I, s:o, s:o}", "mode", quant_mode_names[r->mode],
                          "calibration", r->calibration, "seed", (json_int_t)r->seed, "output_rmse",
                          number(r->output_rmse), "layers", rows);
    char *text =
        o ? json_dumps(o, JSON_INDENT(1) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(o);
    return text;
}
