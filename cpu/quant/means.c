/* cpu/quant/means.c - empirical bias correction: makes the mean of every channel, as the artifact puts it out, that of the
 * float net.
 *
 * Rounding weights shifts a channel's mean by a known amount (improve.c takes that away). Rounding activations shifts it
 * too: behind a ReLU most values are small, those below half a step become 0, and the loss is the larger the coarser the
 * scale. A mean over 1,000 steps removes the noise of rounding but not such a shift. So the artifact is run by the runtime
 * on the calibration records, layer by layer from the first, and the bias is moved by what its channels' means are off.
 * After Nagel et al. 2019, appendix D (empirical bias correction); the slope of a mean towards its bias is the share of
 * outputs that the ReLU lets pass.
 */
#include "cpu/quant/improve.h"

#include <stdlib.h>
#include <string.h>

#define LEAST_SLOPE 0.2 /* a channel that is nearly always 0 says little */

struct means {
    int layer;
    double *sum; /* [cout] of its outputs, over time and records */
    double *on;  /* [cout] steps not at the lower end */
    long steps;  /* per channel */
};

static void add_layer(void *context, const struct cinchrt_probe *probe)
{
    struct means *m = context;
    const uint8_t *q = probe->data;
    if (probe->layer != m->layer || probe->type != CINCHRT_PROBE_U8) return;
    for (int t = 0; t < probe->time; t++)
        for (int c = 0; c < probe->channels; c++) {
            int v = q[t * probe->stride + c] - probe->zero;
            m->sum[c] += (double)probe->scale * v;
            m->on[c] += v != 0;
        }
    m->steps += probe->time;
}

static int run_records(struct means *m, const struct quant_trial *t, const struct quant_plan *p,
                       struct cn_error *err)
{
    void *file, *memory = NULL, *scratch = NULL;
    struct cinchrt_model *model;
    size_t n, size = (size_t)t->s->d->n_leads * (size_t)t->s->d->n_samples;
    int rc = quant_encode(&file, &n, p, t->m, err);
    if (rc) return rc;
    rc = quant_load(&model, &memory, file, n, err);
    if (!rc && !(scratch = malloc(cinchrt_scratch_size(model))))
        rc = cn_fail(err, CN_ENOMEM, "no memory to try an artifact");
    for (int r = 0; !rc && r < t->c->n; r++) {
        rc = cinchrt_run_probed(model, t->s->d->x + t->s->rows[r] * size, NULL, NULL, scratch,
                                add_layer, m);
        if (rc) cn_fail(err, CN_EINTERNAL, "artifact does not run: %s", cinchrt_error_text(rc));
    }
    free(scratch);
    free(memory);
    free(file);
    return rc;
}

static int match_node(struct quant_plan *p, int i, const struct quant_trial *t,
                      struct cn_error *err)
{
    struct quant_node *node = &p->g->node[i];
    struct means m = {.layer = i};
    m.sum = calloc(2 * (size_t)node->cout, sizeof *m.sum);
    if (!m.sum) return cn_fail(err, CN_ENOMEM, "no memory for bias correction");
    m.on = m.sum + node->cout;
    int rc = run_records(&m, t, p, err);
    const double *want = t->c->tensor[i + 1].mean;
    for (int r = 0; !rc && m.steps && r < node->cout; r++) {
        double slope = node->relu ? m.on[r] / (double)m.steps : 1;
        if (slope < LEAST_SLOPE) slope = LEAST_SLOPE;
        node->bias[r] += (float)((want[r] - m.sum[r] / (double)m.steps) / slope);
        p->corrected[i] = 1;
    }
    free(m.sum);
    return rc;
}

int quant_match_means(struct quant_plan *p, const struct quant_trial *t, struct cn_error *err)
{
    int rc = 0;
    for (int i = 0; !rc && i < p->g->n; i++) {
        enum quant_kind kind = p->g->node[i].kind;
        if ((kind != QUANT_CONV && kind != QUANT_LINEAR) || !quant_plan_quantised(p, i + 1))
            continue;
        quant_plan_settle(p);
        rc = match_node(p, i, t, err);
    }
    return rc;
}
