/* cpu/quant/improve.c - bias correction, and the choice of techniques by trial.
 *
 * Nothing is believed: every candidate is written out as an artifact, run by the deployment runtime on
 * the calibration records, and kept when its probabilities are nearer to the float net's. (Not its
 * logits: their error is ruled by a few extreme records on whose answer nothing hangs.) That is cheap,
 * since the int8 net runs in microseconds to a millisecond per record.
 */
#include "cpu/quant/improve.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Σ_j (w[j] - rounded[j]) · E[x_j] of one row; runs of `run` weights read one channel. */
static double row_shift(const float *w, const int8_t *q, double scale, int columns, int run,
                        const double *mean)
{
    double shift = 0;
    for (int j = 0; j < columns; j++) shift += ((double)w[j] - scale * q[j]) * mean[j / run];
    return shift;
}

static int correct_node(struct quant_plan *p, int i, const struct quant_calibration *c,
                        struct cn_error *err)
{
    struct quant_node *node = &p->g->node[i];
    struct quant_weights q;
    int rc = quant_plan_weights(&q, p, i, err);
    if (rc) return rc;
    int run = node->kind == QUANT_CONV ? node->k : node->tin;
    const double *mean = c->tensor[node->input[0] + 1].mean;
    for (int r = 0; r < node->cout; r++) {
        double shift = row_shift(node->w + r * q.columns, q.w + r * q.columns, (double)q.scale[r],
                                 q.columns, run, mean);
        if (q.columns1)
            shift +=
                row_shift(node->w1 + r * q.columns1, q.w1 + r * q.columns1, (double)q.scale1[r],
                          q.columns1, 1, c->tensor[node->input[1] + 1].mean);
        node->bias[r] += (float)shift;
    }
    p->corrected[i] = 1;
    quant_weights_release(&q);
    return 0;
}

int quant_correct_bias(struct quant_plan *p, const struct quant_calibration *c,
                       struct cn_error *err)
{
    for (int i = 0; i < p->g->n; i++) {
        enum quant_kind kind = p->g->node[i].kind;
        int rc = kind == QUANT_CONV || kind == QUANT_LINEAR ? correct_node(p, i, c, err) : 0;
        if (rc) return rc;
    }
    return 0;
}

/* Root mean square error of the probabilities, mean difference of the logits. */
static int run_records(const struct quant_trial *t, const struct cinchrt_model *model, double *rmse,
                       double *shift, struct cn_error *err)
{
    int labels = t->m->net->n_labels;
    size_t size = (size_t)t->s->d->n_leads * (size_t)t->s->d->n_samples;
    float logits[256], probability[256];
    double square = 0;
    void *scratch = malloc(cinchrt_scratch_size(model));
    if (!scratch) return cn_fail(err, CN_ENOMEM, "no memory to try an artifact");
    for (int l = 0; shift && l < labels; l++) shift[l] = 0;
    int rc = 0;
    for (int r = 0; !rc && r < t->c->n; r++) {
        rc = cinchrt_run(model, t->s->d->x + t->s->rows[r] * size, logits, probability, scratch);
        for (int l = 0; l < labels; l++) {
            double d = (double)t->c->probability[r * labels + l] - (double)probability[l];
            square += d * d;
            if (shift)
                shift[l] += ((double)t->c->logits[r * labels + l] - (double)logits[l]) / t->c->n;
        }
    }
    free(scratch);
    *rmse = sqrt(square / ((double)t->c->n * labels));
    return rc ? cn_fail(err, CN_EINTERNAL, "artifact does not run: %s", cinchrt_error_text(rc)) : 0;
}

int quant_load(struct cinchrt_model **model, void **memory, const void *file, size_t n,
               struct cn_error *err)
{
    size_t bytes = 0;
    *memory = NULL;
    int rc = cinchrt_model_size(file, n, CINCHRT_BEST, &bytes);
    if (!rc && !(*memory = malloc(bytes)))
        return cn_fail(err, CN_ENOMEM, "no memory to try an artifact");
    if (!rc) rc = cinchrt_load(model, file, n, CINCHRT_BEST, *memory, bytes);
    if (!rc) return 0;
    free(*memory);
    *memory = NULL;
    return cn_fail(err, CN_EINTERNAL, "the converted net is refused by the runtime: %s",
                   cinchrt_error_text(rc));
}

int quant_try(const struct quant_trial *t, const struct quant_plan *p, double *rmse, double *shift,
              struct cn_error *err)
{
    void *file, *memory = NULL;
    struct cinchrt_model *model;
    size_t n;
    int rc = quant_encode(&file, &n, p, t->m, err);
    if (rc) return rc;
    rc = quant_load(&model, &memory, file, n, err);
    if (!rc) rc = run_records(t, model, rmse, shift, err);
    free(memory);
    free(file);
    return rc;
}

/* A plan under trial and how far its logits are off. */
struct candidate {
    struct quant_plan *plan;
    double rmse;
};

/* Keeps the better of *best and *new; the other is destroyed. `force`: new wins whatever it costs. */
static void keep_better(struct candidate *best, struct candidate *new, int force)
{
    struct candidate *loser = force || new->rmse < best->rmse ? best : new;
    quant_plan_destroy(loser->plan);
    if (loser == best) *best = *new;
    new->plan = NULL;
}

/* Finishes a copy of the best plan that was changed by one technique, and keeps the better. */
static int judge(struct candidate *best, struct quant_plan *changed, const struct quant_trial *t,
                 int force, struct cn_error *err)
{
    struct candidate new = {.plan = changed};
    quant_plan_settle(changed);
    int rc = quant_try(t, changed, &new.rmse, NULL, err);
    if (rc)
        quant_plan_destroy(changed);
    else
        keep_better(best, &new, force);
    return rc;
}

static int try_bias(struct candidate *best, const struct quant_trial *t, int force,
                    struct cn_error *err)
{
    struct quant_plan *p;
    int rc = quant_plan_copy(&p, best->plan, err);
    if (!rc) rc = quant_correct_bias(p, t->c, err);
    return rc ? rc : judge(best, p, t, force, err);
}

static int try_means(struct candidate *best, const struct quant_trial *t, int force,
                     struct cn_error *err)
{
    struct quant_plan *p;
    int rc = quant_plan_copy(&p, best->plan, err);
    if (rc) return rc;
    rc = quant_match_means(p, t, err);
    if (!rc) return judge(best, p, t, force, err);
    quant_plan_destroy(p);
    return rc;
}

/* The mean difference that is left in the logits goes into the last bias. */
static int try_logits(struct candidate *best, const struct quant_trial *t, int force,
                      struct cn_error *err)
{
    struct quant_plan *p;
    double rmse, shift[256];
    int rc = quant_try(t, best->plan, &rmse, shift, err);
    if (!rc) rc = quant_plan_copy(&p, best->plan, err);
    if (rc) return rc;
    int last = p->g->n - 1;
    for (int l = 0; l < p->g->node[last].cout; l++) p->g->node[last].bias[l] += (float)shift[l];
    p->corrected[last] = 1;
    return judge(best, p, t, force, err);
}

static int try_watcher(struct candidate *best, int tensor, enum quant_watcher watcher, float factor,
                       const struct quant_trial *t, struct cn_error *err)
{
    struct quant_plan *p;
    int rc = quant_plan_copy(&p, best->plan, err);
    if (rc) return rc;
    quant_plan_watch(p, tensor, watcher, factor, t->c);
    return judge(best, p, t, 0, err);
}

/* For each tensor in turn: the whole range, or a narrower one than the histogram's, kept when better.
 * Narrowing stops at the first factor that does not help. */
static int try_watchers(struct candidate *best, const struct quant_trial *t, struct cn_error *err)
{
    static const float factor[] = {0.85f, 0.7f, 0.58f, 0.48f, 0.4f, 0.33f, 0.27f, 0.22f};
    for (int i = 0; i < best->plan->g->n; i++) {
        int rc = try_watcher(best, i, QUANT_MINMAX, 1, t, err);
        for (size_t k = 0; !rc && k < sizeof factor / sizeof factor[0]; k++) {
            double before = best->rmse;
            rc = try_watcher(best, i, QUANT_NARROWED, factor[k], t, err);
            if (best->rmse == before && k > 0) break;
        }
        if (rc) return rc;
    }
    return 0;
}

/* Whether a technique is to be used at all. */
static int wanted(const struct quant_options *opt, enum quant_switch technique)
{
    return technique == QUANT_ON || (technique == QUANT_AUTO && opt->mode == QUANT_BEST);
}

/* One way through the techniques for a graph and its calibration, from the plain plan on. */
static int climb(struct candidate *best, const struct quant_trial *t, const struct quant_graph *g,
                 const struct quant_options *opt, struct cn_error *err)
{
    int bias = wanted(opt, opt->bias_correction), force = opt->bias_correction == QUANT_ON;
    int qmax = opt->reduce_range || opt->mode == QUANT_PAPER ? 127 : 255;
    int rc = quant_plan_create(&best->plan, g, opt->mode, qmax, t->c, err);
    if (!rc) rc = quant_try(t, best->plan, &best->rmse, NULL, err);
    if (!rc && bias) rc = try_bias(best, t, force, err);
    if (!rc && bias) rc = try_means(best, t, force, err);
    if (!rc && wanted(opt, opt->observer_choice)) {
        rc = try_watchers(best, t, err);
        if (!rc && bias) rc = try_means(best, t, 0, err);
    }
    if (!rc && bias) rc = try_logits(best, t, force, err);
    if (rc) {
        quant_plan_destroy(best->plan);
        best->plan = NULL;
    }
    return rc;
}

/* The same net equalised, calibrated anew, and climbed. *pairs 0: nothing to equalise. */
static int climb_equalised(struct candidate *best, struct quant_graph *g,
                           const struct quant_trial *t, const struct quant_options *opt, int *pairs,
                           struct cn_error *err)
{
    struct quant_calibration *c = NULL;
    int equalised[QUANT_MAX_NODES] = {0};
    *pairs = quant_equalise(g, t->c, equalised);
    if (!*pairs) return 0;
    int rc = quant_calibrate(&c, g, t->s, err);
    struct quant_trial own = {t->s, c, t->m};
    if (!rc) rc = climb(best, &own, g, opt, err);
    if (!rc) memcpy(best->plan->equalised, equalised, sizeof equalised);
    quant_calibration_destroy(c);
    return rc;
}

int quant_improve(struct quant_improved *out, const struct quant_trial *t,
                  const struct quant_graph *g, const struct quant_options *opt,
                  struct cn_error *err)
{
    struct candidate best = {0}, new = {0};
    struct quant_graph *other = NULL;
    int pairs = 0, rc = quant_graph_copy(&out->reference, g, err);
    if (!rc) rc = climb(&best, t, g, opt, err);
    if (!rc && wanted(opt, opt->equalisation)) {
        rc = quant_graph_copy(&other, g, err);
        if (!rc) rc = climb_equalised(&new, other, t, opt, &pairs, err);
    }
    if (!rc && pairs) {
        int take = opt->equalisation == QUANT_ON || new.rmse < best.rmse;
        keep_better(&best, &new, opt->equalisation == QUANT_ON);
        if (take) {
            struct quant_graph *swap = out->reference;
            out->reference = other;
            other = swap;
        }
    }
    quant_graph_destroy(other);
    if (rc) {
        quant_plan_destroy(best.plan);
        quant_graph_destroy(out->reference);
        out->reference = NULL;
        best.plan = NULL;
    }
    out->plan = best.plan;
    out->rmse = best.rmse;
    return rc;
}
