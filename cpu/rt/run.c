/* cpu/rt/run.c - one inference: quantise or transpose the input, run the
 * layers, apply the head.
 */
#include "cpu/rt/model.h"
#include "cpu/rt/real.h"

/* Rows before and behind an edge, read by padded convolutions: the zero-point.
 */
static void fill_pads(const struct rt_edge *e, uint8_t *rows)
{
    size_t bytes = (size_t)e->pad * (size_t)e->stride * (e->type == RT_F32 ? 4 : 1);
    size_t body = (size_t)e->t * (size_t)e->stride * (e->type == RT_F32 ? 4 : 1);
    if (!e->pad) return;
    memset(rows - bytes, e->zero, bytes);
    memset(rows + body, e->zero, bytes);
}

static void take_input(const struct cinchrt_model *m, const float *x, uint8_t *scratch)
{
    const struct rt_edge *e = &m->edge[0];
    uint8_t *rows = rt_rows(m, 0, scratch);
    if (e->type == RT_U8)
        m->quantise(e, x, rows);
    else
        m->transpose(e, x, (float *)(void *)rows);
    fill_pads(e, rows);
}

static void read_logits(const struct cinchrt_model *m, const uint8_t *scratch, float *logits)
{
    const struct rt_edge *e = &m->edge[m->n_layers];
    const uint8_t *row = scratch + e->offset;
    int i;
    if (e->type == RT_F32)
        memcpy(logits, row, 4 * (size_t)e->c);
    else
        for (i = 0; i < e->c; i++) logits[i] = (float)(row[i] - e->zero) * e->scale;
}

/* In double, so that the result does not hang on the width of the FPU's
 * registers. */
static void apply_head(int head, int n, const float *z, float *p)
{
    double e[CINCHRT_MAX_LABELS], sum = 0, top = z[0];
    int i;
    if (head == CINCHRT_SIGMOID) {
        for (i = 0; i < n; i++) p[i] = (float)rt_sigmoid(z[i]);
        return;
    }
    for (i = 1; i < n; i++)
        if (z[i] > top) top = z[i];
    for (i = 0; i < n; i++) {
        e[i] = rt_exp(z[i] - top);
        sum += e[i];
    }
    for (i = 0; i < n; i++) p[i] = (float)(e[i] / sum);
}

static void show(const struct cinchrt_model *m, int layer, const uint8_t *scratch,
                 cinchrt_probe_fn *fn, void *context)
{
    const struct rt_edge *e = &m->edge[layer + 1];
    struct cinchrt_probe p;
    p.layer = layer;
    p.type = e->type == RT_U8    ? CINCHRT_PROBE_U8
             : e->type == RT_H16 ? CINCHRT_PROBE_H16
                                 : CINCHRT_PROBE_F32;
    p.data = scratch + e->offset;
    p.channels = e->c, p.time = e->t, p.stride = e->stride;
    p.scale = e->scale, p.zero = e->zero;
    fn(context, &p);
}

int cinchrt_run_probed(const struct cinchrt_model *m, const float *x, float *logits,
                       float *probability, void *scratch, cinchrt_probe_fn *fn, void *context)
{
    float z[CINCHRT_MAX_LABELS];
    uint8_t *base;
    int i;
    if (!m || !x || !scratch) return CINCHRT_EARG;
    base =
        (uint8_t *)scratch + ((RT_ALIGN - ((uintptr_t)scratch & (RT_ALIGN - 1))) & (RT_ALIGN - 1));
    take_input(m, x, base);
    for (i = 0; i < m->n_layers; i++) {
        const struct rt_layer *l = &m->layer[i];
        l->kernel->run(m, l, base);
        fill_pads(&m->edge[l->out], rt_rows(m, l->out, base));
        if (fn) show(m, i, base, fn, context);
    }
    read_logits(m, base, z);
    if (logits) memcpy(logits, z, sizeof(float) * (size_t)m->info.labels);
    if (probability) apply_head(m->head, m->info.labels, z, probability);
    return 0;
}

int cinchrt_run(const struct cinchrt_model *m, const float *x, float *logits, float *probability,
                void *scratch)
{
    return cinchrt_run_probed(m, x, logits, probability, scratch, 0, 0);
}

void cinchrt_normalise(const struct cinchrt_model *m, const float *mv, float *x)
{
    int lead, t, samples;
    if (!m || !mv || !x) return;
    samples = m->info.samples;
    for (lead = 0; lead < m->info.leads; lead++)
        for (t = 0; t < samples; t++)
            x[lead * samples + t] = (mv[lead * samples + t] - m->mean[lead]) / m->std[lead];
}
