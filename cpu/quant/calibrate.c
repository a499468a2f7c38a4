/* cpu/quant/calibrate.c - choosing calibration records and observing the float net on them. */
#include "cpu/quant/calibrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cpu/quant/quant.h"

/* The first `calibration` places of a Fisher-Yates shuffle of the validation records: Philox, so
 * the choice depends on seed and part alone. */
int quant_calibration_rows(const struct ecg_dataset *d, int calibration, uint64_t seed,
                           uint32_t **idx, int *n, struct cn_error *err)
{
    *idx = NULL;
    *n = 0;
    int have = 0;
    uint32_t *rows = malloc(((size_t)d->n + 1) * sizeof *rows);
    if (!rows) return cn_fail(err, CN_ENOMEM, "no memory for the calibration records");
    for (int i = 0; i < d->n; i++)
        if (d->part[i] == ECG_VALIDATION) rows[have++] = (uint32_t)i;
    if (have == 0) {
        free(rows);
        return cn_fail(err, CN_EINVALID,
                       "dataset '%s' has no validation records to calibrate with (fold 9)",
                       d->name);
    }
    if (calibration <= 0) calibration = 128;
    if (calibration > have) calibration = have;
    for (int i = 0; i < calibration; i++) {
        uint64_t u = cn_rng(seed, CN_RNG_CALIBRATE, 0, (uint64_t)i).v[0];
        int j = i + (int)(u * (uint64_t)(have - i) >> 32);
        uint32_t t = rows[i];
        rows[i] = rows[j];
        rows[j] = t;
    }
    *idx = rows;
    *n = calibration;
    return 0;
}

static int watch_create(struct quant_watch *w, int channels, struct cn_error *err)
{
    w->range = QUANT_RANGE_EMPTY;
    w->channels = channels;
    w->mean = calloc((size_t)channels, sizeof *w->mean);
    w->most = calloc((size_t)channels, sizeof *w->most);
    if (!w->mean || !w->most) return cn_fail(err, CN_ENOMEM, "no memory for calibration");
    return quant_histogram_create(&w->histogram, err);
}

/* x [channels, t] of one record. */
static int watch_tensor(struct quant_watch *w, const float *x, int t, struct cn_error *err)
{
    size_t n = (size_t)w->channels * (size_t)t;
    int rc = quant_range_observe(&w->range, x, n, err);
    if (!rc) rc = quant_histogram_observe(w->histogram, x, n, err);
    for (int c = 0; !rc && c < w->channels; c++) {
        double sum = 0;
        for (int i = 0; i < t; i++) {
            float v = x[(size_t)c * (size_t)t + (size_t)i];
            sum += (double)v;
            if (fabsf(v) > w->most[c]) w->most[c] = fabsf(v);
        }
        w->mean[c] += sum / t; /* divided by the records at the end */
    }
    return rc;
}

static int calibration_create(struct quant_calibration **out, const struct quant_graph *g, int n,
                              struct cn_error *err)
{
    struct quant_calibration *c = calloc(1, sizeof *c);
    *out = c;
    if (!c) return cn_fail(err, CN_ENOMEM, "no memory for calibration");
    c->n = n;
    c->n_tensors = g->n + 1;
    c->logits = calloc((size_t)n * (size_t)g->n_labels, sizeof *c->logits);
    c->probability = calloc((size_t)n * (size_t)g->n_labels, sizeof *c->probability);
    if (!c->logits || !c->probability) return cn_fail(err, CN_ENOMEM, "no memory for calibration");
    int rc = watch_create(&c->tensor[0], g->n_leads, err);
    for (int i = 0; !rc && i < g->n; i++)
        rc = watch_create(&c->tensor[i + 1], g->node[i].cout, err);
    return rc;
}

static int watch_record(struct quant_calibration *c, const struct quant_graph *g,
                        const struct quant_forward *f, const float *x, struct cn_error *err)
{
    if (watch_tensor(&c->tensor[0], x, g->n_samples, err)) return cn_fail_prefix(err, "input");
    for (int i = 0; i < g->n; i++) {
        const struct quant_node *node = &g->node[i];
        if (watch_tensor(&c->tensor[i + 1], quant_forward_output(f, i), node->tout, err))
            return cn_fail_prefix(err, "output of layer '%s'", node->name);
    }
    return 0;
}

static int keep_cells(struct quant_calibration *c, const struct quant_graph *g, const float *cells,
                      struct cn_error *err)
{
    for (int i = 0; i < g->n; i++) {
        if (g->node[i].kind != QUANT_LSTM) continue;
        size_t size = (size_t)g->node[i].cout * sizeof *cells;
        c->cells = malloc(size);
        if (!c->cells) return cn_fail(err, CN_ENOMEM, "no memory for calibration");
        memcpy(c->cells, cells, size);
        break;
    }
    return 0;
}

/* Logits and probabilities (sigmoid or softmax) of record r. */
static void keep_output(struct quant_calibration *c, const struct quant_graph *g, int r,
                        const float *logits)
{
    float *p = c->probability + (size_t)r * (size_t)g->n_labels;
    float most = logits[0], sum = 0;
    memcpy(c->logits + (size_t)r * (size_t)g->n_labels, logits, (size_t)g->n_labels * sizeof *p);
    for (int l = 1; l < g->n_labels; l++) most = fmaxf(most, logits[l]);
    for (int l = 0; l < g->n_labels; l++) {
        p[l] = g->loss == NN_BCE ? 1 / (1 + expf(-logits[l])) : expf(logits[l] - most);
        sum += p[l];
    }
    for (int l = 0; g->loss != NN_BCE && l < g->n_labels; l++) p[l] /= sum;
}

static int observe_all(struct quant_calibration *c, const struct quant_graph *g,
                       struct quant_sample *s, struct cn_error *err)
{
    struct quant_forward *f;
    int rc = quant_forward_create(&f, g, err);
    size_t size = (size_t)g->n_leads * (size_t)g->n_samples;
    for (int r = 0; !rc && r < c->n; r++) {
        const float *x = s->d->x + s->rows[r] * size;
        quant_forward_run(f, x);
        rc = watch_record(c, g, f, x, err);
        if (rc) cn_fail_prefix(err, "calibration record '%s'", s->d->id[s->rows[r]]);
        if (!rc) keep_output(c, g, r, quant_forward_output(f, g->n - 1));
        if (s->progress) s->progress(s->progress_arg, ++s->done, s->total);
    }
    if (!rc) rc = keep_cells(c, g, quant_forward_cells(f), err);
    quant_forward_destroy(f);
    for (int i = 0; i < c->n_tensors; i++)
        for (int k = 0; k < c->tensor[i].channels; k++) c->tensor[i].mean[k] /= c->n;
    return rc;
}

int quant_calibrate(struct quant_calibration **out, const struct quant_graph *g,
                    struct quant_sample *s, struct cn_error *err)
{
    const struct ecg_dataset *d = s->d;
    *out = NULL;
    if (d->n_leads != g->n_leads || d->n_samples != g->n_samples)
        return cn_fail(err, CN_EINVALID,
                       "dataset '%s' has records of %d x %d, the net '%s' reads %d x %d", d->name,
                       d->n_leads, d->n_samples, g->net, g->n_leads, g->n_samples);
    int rc = calibration_create(out, g, s->n, err);
    if (!rc) rc = observe_all(*out, g, s, err);
    if (rc) {
        quant_calibration_destroy(*out);
        *out = NULL;
    }
    return rc;
}

void quant_calibration_destroy(struct quant_calibration *c)
{
    if (!c) return;
    for (int i = 0; i < c->n_tensors; i++) {
        quant_histogram_destroy(c->tensor[i].histogram);
        free(c->tensor[i].mean);
        free(c->tensor[i].most);
    }
    free(c->logits);
    free(c->probability);
    free(c->cells);
    free(c);
}
