/* steps.c - see steps.h. */
#include "workers/steps.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "cpu/rt/cinchrt.h"
#include "nn/prune.h"
#include "nn/sensitivity.h"
#include "nn/train.h"

int step_full_net(struct nn_net **out, const Cinch__JobSpec *s, const struct ecg_dataset *d,
                  struct cn_error *err)
{
    const Cinch__JobBase *b = s->common;
    int width[NN_MAX_WIDTHS];
    if (b->n_widths > NN_MAX_WIDTHS)
        return cn_fail(err, CN_EINVALID, "the job gives %zu widths; no net has more than %d",
                       b->n_widths, NN_MAX_WIDTHS);
    for (size_t i = 0; i < b->n_widths; i++) width[i] = (int)b->widths[i];
    struct nn_shape shape = {d->n_leads, d->n_samples, d->n_labels};
    return nn_net_build(out, b->net, b->n_widths ? width : NULL, (int)b->n_widths, shape, err);
}

int step_full_params(size_t *out, const Cinch__JobSpec *s, const struct ecg_dataset *d,
                     struct cn_error *err)
{
    struct nn_net *net;
    int rc = step_full_net(&net, s, d, err);
    if (rc) return rc;
    *out = net->n_params;
    nn_net_destroy(net);
    return 0;
}

int step_fresh_model(struct nn_model **out, const Cinch__JobSpec *s, const struct ecg_dataset *d,
                     struct cn_error *err)
{
    struct nn_net *net;
    int rc = step_full_net(&net, s, d, err);
    return rc ? rc : nn_model_create(out, net, s->seed, d, err);
}

static const char *const norm_names[] = {"L1", "L2", "taylor", NULL}; /* enum nn_norm */
static const char *const stage_names[] = {"geometric", "linear", "sensitivity",
                                          NULL}; /* enum nn_stages */
static const char *const unit_names[] = {"structure", "weight", NULL};
enum { UNIT_STRUCTURE, UNIT_WEIGHT };

/* The index of `given` in `names`; "" is the first. */
static int choice(const char *what, const char *given, const char *const *names, int *out,
                  struct cn_error *err)
{
    *out = 0;
    if (!*given) return 0;
    for (int i = 0; names[i]; i++) {
        if (strcmp(names[i], given) != 0) continue;
        *out = i;
        return 0;
    }
    return cn_fail(err, CN_EUNSUPPORTED, "this worker knows no pruning %s '%s'", what, given);
}

/* Widths after this round. Fractions are of the full widths, so rounding does not add up. */
static int target_widths(const struct nn_net *net, const Cinch__JobSpec *s, int stages, int *keep,
                         struct cn_error *err)
{
    const Cinch__JobBase *b = s->common;
    if (b->n_widths && (int)b->n_widths != net->n_widths)
        return cn_fail(err, CN_EINVALID, "the job gives %zu widths, its model has %d", b->n_widths,
                       net->n_widths);
    double f = nn_prune_stage((enum nn_stages)stages, s->keep, (int)s->round, (int)s->rounds);
    for (int w = 0; w < net->n_widths; w++) {
        int full = b->n_widths ? (int)b->widths[w] : net->full_width[w];
        keep[w] = stages == NN_STAGES_LINEAR
                      ? nn_prune_keep(full, f, 1, 1)
                      : nn_prune_keep(full, s->keep, (int)s->round, (int)s->rounds);
    }
    return 0;
}

/* Every training record scores: the choice must not hang on how many. */
static int taylor_scores(double **out, const struct nn_model *m, struct nn_backend *be,
                         const struct ecg_dataset *d, struct cn_error *err)
{
    size_t n = 0;
    for (int w = 0; w < m->net->n_widths; w++) n += (size_t)m->net->width[w];
    *out = malloc((n + 1) * sizeof **out);
    if (!*out) return cn_fail(err, CN_ENOMEM, "out of memory for pruning scores");
    return nn_prune_taylor(be, m, d, d->n, *out, err);
}

static int prune_structures(struct nn_model **out, const struct nn_model *m,
                            const Cinch__JobSpec *s, int stages, struct nn_backend *be,
                            const struct ecg_dataset *d, struct cn_error *err)
{
    int keep[NN_MAX_WIDTHS], norm;
    double *score = NULL;
    int rc = choice("norm", s->norm, norm_names, &norm, err);
    if (rc == 0) rc = target_widths(m->net, s, stages, keep, err);
    int64_t total = 0;
    for (int w = 0; w < m->net->n_widths && rc == 0; w++) {
        total += keep[w];
        if (keep[w] > m->net->width[w]) keep[w] = m->net->width[w];
    }
    if (rc == 0 && norm == NN_TAYLOR) rc = taylor_scores(&score, m, be, d, err);
    if (rc == 0 && stages == NN_STAGES_SENSITIVITY) { /* as many in all, shared out otherwise */
        const struct nn_scan_how how = {.backend = be, .data = d};
        rc = nn_sensitivity_structures(&how, m, (enum nn_norm)norm, score, total, keep, err);
    }
    if (rc == 0) rc = nn_prune(out, m, keep, (enum nn_norm)norm, score, err);
    free(score);
    return rc;
}

static int prune_weights(struct nn_model **out, float **mask, const struct nn_model *m,
                         const Cinch__JobSpec *s, int stages, const struct nn_scan_how *how,
                         struct cn_error *err)
{
    double f = nn_prune_stage((enum nn_stages)stages, s->keep, (int)s->round, (int)s->rounds);
    size_t keep[NN_MAX_LAYERS];
    int64_t total = 0;
    int rc = 0;
    *mask = malloc((m->net->n_params + 1) * sizeof **mask);
    if (!*mask) return cn_fail(err, CN_ENOMEM, "out of memory for a pruning mask");
    for (int i = 0; i < m->net->n_layers; i++) {
        size_t n = nn_prune_weights(m, i, NULL);
        keep[i] = n - (size_t)llround((double)n * (1 - f));
        total += (int64_t)keep[i];
    }
    if (stages == NN_STAGES_SENSITIVITY) rc = nn_sensitivity_weights(how, m, total, keep, err);
    if (rc == 0) rc = nn_prune_mask_layers(m, keep, *mask, err);
    return rc ? rc : nn_model_copy(out, m, err);
}

int step_prune(struct nn_model **out, float **mask, const struct nn_model *m,
               const Cinch__JobSpec *s, struct nn_backend *be, const struct ecg_dataset *d,
               struct cn_error *err)
{
    const struct nn_scan_how how = {.backend = be, .data = d};
    int unit, stages;
    *out = NULL;
    *mask = NULL;
    int rc = choice("unit", s->common->prune_unit, unit_names, &unit, err);
    if (rc == 0) rc = choice("schedule", s->common->prune_schedule, stage_names, &stages, err);
    if (rc == 0)
        rc = unit == UNIT_WEIGHT ? prune_weights(out, mask, m, s, stages, &how, err)
                                 : prune_structures(out, m, s, stages, be, d, err);
    if (rc) {
        free(*mask);
        *mask = NULL;
    }
    return rc;
}

double step_kept(const struct nn_model *m, size_t full)
{
    size_t gone = 0, left = 0;
    for (int i = 0; i < m->net->n_layers; i++) {
        size_t n = nn_prune_weights(m, i, &left);
        gone += n - left;
    }
    return (double)(m->net->n_params - gone) / (double)full;
}

int step_fits(const struct nn_net *net, const struct ecg_dataset *d, struct cn_error *err)
{
    if (net->n_leads == d->n_leads && net->n_samples == d->n_samples &&
        net->n_labels == d->n_labels &&
        (net->loss == NN_CROSS_ENTROPY) == (d->task == ECG_ONE_LABEL))
        return 0;
    return cn_fail(err, CN_EINVALID,
                   "net %s takes %d leads of %d samples and gives %d labels; dataset %s has %d of "
                   "%d and %d%s",
                   net->name, net->n_leads, net->n_samples, net->n_labels, d->name, d->n_leads,
                   d->n_samples, d->n_labels,
                   d->task == ECG_ONE_LABEL ? ", of which each record has exactly one" : "");
}

/* ---- inference with cinchrt over many records ---- */

struct sweep {
    const struct cinchrt_model *model;
    const struct ecg_dataset *data;
    const uint32_t *rows;
    float *p;      /* [n, labels] */
    char *scratch; /* [threads, scratch_bytes] */
    size_t scratch_bytes;
    struct cn_error *bad; /* [threads] the first failure of each */
};

static void sweep_row(void *arg, int item, int thread)
{
    struct sweep *s = arg;
    const struct ecg_dataset *d = s->data;
    const float *x = d->x + s->rows[item] * ((size_t)d->n_leads * (size_t)d->n_samples);
    float *p = s->p + (size_t)item * (size_t)d->n_labels;
    struct cn_error *bad = &s->bad[thread];
    if (bad->code || nn_check_input(x, s->rows[item], d->n_leads, d->n_samples, bad)) return;
    cinchrt_run(s->model, x, NULL, p, s->scratch + (size_t)thread * s->scratch_bytes);
    nn_check_probability(p, s->rows[item], d->n_labels, bad);
}

static int sweep_result(const struct sweep *s, int threads, struct cn_error *err)
{
    for (int i = 0; i < threads; i++) {
        if (!s->bad[i].code) continue;
        if (err) *err = s->bad[i];
        return s->bad[i].code;
    }
    return 0;
}

/* Predictions and truth to figures. y [n, labels] */
static int judge(const struct sweep *s, const uint8_t *y, int n, struct step_quality *out,
                 struct cn_error *err)
{
    const struct ecg_dataset *d = s->data;
    out->n = n;
    if (nn_auroc_all(s->p, y, n, d->n_labels, 0, &out->auroc))
        return cn_fail(err, CN_ENOMEM, "out of memory for the AUROC of %d records", n);
    if (d->task == ECG_ONE_LABEL) nn_classify(s->p, y, n, d->n_labels, &out->classes);
    return 0;
}

static int sweep(const struct cinchrt_model *model, const struct ecg_dataset *d, enum ecg_part part,
                 int threads, struct step_quality *out, struct cn_error *err)
{
    struct sweep s = {.model = model, .data = d};
    uint32_t *rows = NULL;
    int n = 0;
    int rc = ecg_dataset_part(d, part, &rows, &n, err);
    if (rc) return rc;
    size_t labels = (size_t)d->n_labels;
    /* Rounded up so that threads do not share a cache line. */
    s.scratch_bytes = (cinchrt_scratch_size(model) + 127) & ~(size_t)63;
    s.rows = rows;
    s.scratch = malloc(s.scratch_bytes * (size_t)threads);
    s.p = malloc(((size_t)n * labels + 1) * sizeof(float));
    s.bad = calloc((size_t)threads, sizeof *s.bad);
    uint8_t *y = malloc((size_t)n * labels + 1);
    struct cn_pool *pool = cn_pool_create(threads);
    if (s.scratch && s.p && s.bad && y && pool) {
        cn_pool_run(pool, n, sweep_row, &s);
        rc = sweep_result(&s, threads, err);
        for (int i = 0; i < n; i++) memcpy(y + (size_t)i * labels, d->y + rows[i] * labels, labels);
        if (!rc) rc = judge(&s, y, n, out, err);
    } else {
        rc = cn_fail(err, CN_ENOMEM, "out of memory for %d predictions", n);
    }
    cn_pool_destroy(pool);
    free(y);
    free(s.bad);
    free(s.p);
    free(s.scratch);
    free(rows);
    return rc;
}

static int score(const struct cinchrt_model *model, const struct ecg_dataset *d, int threads,
                 struct step_scores **out, struct cn_error *err)
{
    struct step_scores *r = *out = calloc(1, sizeof *r);
    if (!r) return cn_fail(err, CN_ENOMEM, "out of memory for scores");
    int rc = sweep(model, d, ECG_TEST, threads, &r->test, err);
    if (rc == 0) rc = sweep(model, d, ECG_VALIDATION, threads, &r->validation, err);
    r->macs = cinchrt_info(model)->macs;
    r->macs_nonzero = cinchrt_info(model)->macs_nonzero;
    if (rc == 0) return 0;
    free(r);
    *out = NULL;
    return rc;
}

int step_artifact_scores(const void *artifact, size_t n, const struct ecg_dataset *d, int threads,
                         struct step_scores **out, struct cn_error *err)
{
    size_t bytes;
    struct cinchrt_model *model;
    enum cinchrt_isa cap = CINCHRT_BEST;
    const char *isa = getenv("CINCH_ISA");
    *out = NULL;
    if (isa && *isa && cinchrt_isa_parse(isa, &cap))
        return cn_fail(err, CN_EINVALID, "CINCH_ISA=%s: no such instruction set", isa);
    int bad = cinchrt_model_size(artifact, n, cap, &bytes);
    void *memory = bad ? NULL : malloc(bytes);
    if (!bad && !memory) return cn_fail(err, CN_ENOMEM, "out of memory for an artifact");
    if (!bad) bad = cinchrt_load(&model, artifact, n, cap, memory, bytes);
    int rc = bad ? cn_fail(err, bad == CINCHRT_EISA ? CN_EINVALID : CN_ECORRUPT,
                           "the artifact cannot be loaded: %s", cinchrt_error_text(bad))
                 : score(model, d, threads, out, err);
    free(memory);
    return rc;
}
