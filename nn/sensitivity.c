/* nn/sensitivity.c - see sensitivity.h. Deterministic: the records are the part's own, in order, and
 * ties go to the earlier layer. */
#include "nn/sensitivity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/train.h"

#define RECORDS 1024
#define LEAST_PROBABILITY                                                                          \
    1e-7 /* a wrong answer given with certainty costs this much, not infinity */

const double nn_scan_fraction[NN_SCAN_POINTS] = {0.25, 0.5, 0.75, 0.9};

/* ------------------------------------------------------------------------------------ measuring */

/* The records that the scan looks at, and room for what a net says about them. */
struct sight {
    const struct nn_scan_how *how;
    uint32_t *row;
    int n;
    float *p; /* [n, labels] */
};

static int sight_open(struct sight *s, const struct nn_scan_how *how, struct cn_error *err)
{
    int all = 0, most = how->records ? how->records : RECORDS;
    *s = (struct sight){.how = how};
    int rc = ecg_dataset_part(how->data, ECG_VALIDATION, &s->row, &all, err);
    if (!rc && !all) {
        free(s->row);
        rc = ecg_dataset_part(how->data, ECG_TRAIN, &s->row, &all, err);
    }
    if (rc) return rc;
    s->n = all < most ? all : most;
    for (int i = 0; i < s->n; i++) s->row[i] = s->row[(int64_t)i * all / s->n];
    s->p = malloc(((size_t)s->n * (size_t)how->data->n_labels + 1) * sizeof *s->p);
    if (!s->n) return cn_fail(err, CN_EINVALID, "the dataset %s has no records", how->data->name);
    return s->p ? 0 : cn_fail(err, CN_ENOMEM, "out of memory");
}

static void sight_close(struct sight *s)
{
    free(s->row);
    free(s->p);
}

static double surprise(double p)
{
    return -log(p > LEAST_PROBABILITY ? p : LEAST_PROBABILITY);
}

/* The mean loss of `m` on what is in sight. */
static int loss_of(struct sight *s, const struct nn_model *m, double *loss, struct cn_error *err)
{
    const struct ecg_dataset *d = s->how->data;
    int labels = d->n_labels;
    int rc = nn_predict(s->how->backend, m, d, s->row, s->n, s->p, err);
    double sum = 0;
    for (int i = 0; i < s->n && !rc; i++)
        for (int l = 0; l < labels; l++) {
            double p = s->p[(size_t)i * (size_t)labels + (size_t)l];
            bool is = d->y[(size_t)s->row[i] * (size_t)labels + (size_t)l];
            if (is)
                sum += surprise(p);
            else if (d->task == ECG_MULTI_LABEL)
                sum += surprise(1 - p);
        }
    *loss = sum / s->n;
    return rc;
}

/* Of n, after a fraction went; one stays. */
static int64_t stay(int64_t n, double fraction)
{
    int64_t left = n - llround((double)n * fraction);
    return left < 1 ? 1 : left;
}

/* One point of a curve: group `at` alone with `keep` left. */
typedef int (*pruned_f)(const struct nn_model *m, int at, int64_t keep, const void *arg,
                        struct nn_model **out, struct cn_error *err);

static int scan(const struct nn_scan_how *how, const struct nn_model *m, pruned_f pruned,
                const void *arg, struct nn_scan *out, struct cn_error *err)
{
    struct sight s;
    double whole = 0, loss = 0;
    int rc = sight_open(&s, how, err);
    if (!rc) rc = loss_of(&s, m, &whole, err);
    for (int g = 0; g < out->n && !rc; g++) {
        struct nn_scan_group *group = &out->group[g];
        for (int k = 0; k < NN_SCAN_POINTS && !rc; k++) {
            struct nn_model *less = NULL;
            rc = pruned(m, group->index, stay(group->left, nn_scan_fraction[k]), arg, &less, err);
            if (!rc) rc = loss_of(&s, less, &loss, err);
            group->hurt[k] = loss - whole;
            nn_model_destroy(less);
        }
    }
    sight_close(&s);
    return rc;
}

struct criterion {
    enum nn_norm norm;
    const double *score;
};

static int fewer_structures(const struct nn_model *m, int at, int64_t keep, const void *arg,
                            struct nn_model **out, struct cn_error *err)
{
    const struct criterion *c = arg;
    int widths[NN_MAX_WIDTHS];
    memcpy(widths, m->net->width, sizeof widths);
    widths[at] = (int)keep;
    return nn_prune(out, m, widths, c->norm, c->score, err);
}

int nn_scan_structures(const struct nn_scan_how *how, const struct nn_model *m, enum nn_norm norm,
                       const double *score, struct nn_scan *out, struct cn_error *err)
{
    const struct criterion c = {norm, score};
    memset(out, 0, sizeof *out);
    for (int w = 0; w < m->net->n_widths; w++)
        out->group[out->n++] = (struct nn_scan_group){.index = w, .left = m->net->width[w]};
    return scan(how, m, fewer_structures, &c, out, err);
}

static int fewer_weights(const struct nn_model *m, int at, int64_t keep, const void *arg,
                         struct nn_model **out, struct cn_error *err)
{
    size_t left[NN_MAX_LAYERS], n = m->net->n_params;
    float *mask = malloc((n + 1) * sizeof *mask);
    if (!mask) return cn_fail(err, CN_ENOMEM, "out of memory");
    for (int i = 0; i < m->net->n_layers; i++) left[i] = nn_prune_weights(m, i, NULL);
    left[at] = (size_t)keep;
    int rc = nn_prune_mask_layers(m, left, mask, err);
    if (!rc) rc = nn_model_copy(out, m, err);
    for (size_t i = 0; i < n && !rc; i++) (*out)->params[i] *= mask[i];
    free(mask);
    return rc;
}

int nn_scan_weights(const struct nn_scan_how *how, const struct nn_model *m, struct nn_scan *out,
                    struct cn_error *err)
{
    size_t left = 0;
    memset(out, 0, sizeof *out);
    for (int i = 0; i < m->net->n_layers; i++)
        if (nn_prune_weights(m, i, &left) && left)
            out->group[out->n++] = (struct nn_scan_group){.index = i, .left = (int64_t)left};
    return scan(how, m, fewer_weights, NULL, out, err);
}

/* -------------------------------------------------------------------------------------- sharing */

/* What it costs to remove fraction f of a group: straight between the scan's points, never falling,
 * steeper than before beyond the last one. The small slope lets layers that cost nothing at all give
 * alike. */
static double cost(const struct nn_scan_group *g, double f)
{
    double x0 = 0, y0 = 0, before = 0;
    for (int k = 0; k <= NN_SCAN_POINTS; k++) {
        bool past = k == NN_SCAN_POINTS;
        double x1 = past ? 1 : nn_scan_fraction[k];
        double y1 = past ? y0 + 4 * (y0 - before) : g->hurt[k] > y0 ? g->hurt[k] : y0;
        if (f <= x1 || past) return y0 + (y1 - y0) * (f - x0) / (x1 - x0) + 1e-9 * f;
        before = y0;
        x0 = x1;
        y0 = y1;
    }
    return y0;
}

/* Of taking one more than `taken`; infinite when the last one must stay. */
static double next_cost(const struct nn_scan_group *g, int64_t taken)
{
    if (taken + 1 >= g->left) return HUGE_VAL;
    return cost(g, (double)(taken + 1) / (double)g->left);
}

int nn_scan_share(const struct nn_scan *s, int64_t remove, int64_t *take, struct cn_error *err)
{
    double next[NN_MAX_LAYERS];
    for (int g = 0; g < s->n; g++) {
        take[g] = 0;
        next[g] = next_cost(&s->group[g], 0);
    }
    for (int64_t i = 0; i < remove; i++) {
        int best = 0;
        for (int g = 1; g < s->n; g++)
            if (next[g] < next[best]) best = g;
        if (!s->n || next[best] == HUGE_VAL)
            return cn_fail(err, CN_EINVALID,
                           "a stage would remove %lld, which leaves a layer with nothing; keep "
                           "more",
                           (long long)remove);
        next[best] = next_cost(&s->group[best], ++take[best]);
    }
    return 0;
}

int nn_sensitivity_structures(const struct nn_scan_how *how, const struct nn_model *m,
                              enum nn_norm norm, const double *score, int64_t total, int *keep,
                              struct cn_error *err)
{
    struct nn_scan s;
    int64_t take[NN_MAX_LAYERS], all = 0;
    int rc = nn_scan_structures(how, m, norm, score, &s, err);
    for (int w = 0; w < m->net->n_widths; w++) all += m->net->width[w];
    if (!rc) rc = nn_scan_share(&s, all > total ? all - total : 0, take, err);
    for (int g = 0; g < s.n && !rc; g++) keep[s.group[g].index] = (int)(s.group[g].left - take[g]);
    return rc;
}

int nn_sensitivity_weights(const struct nn_scan_how *how, const struct nn_model *m, int64_t total,
                           size_t *keep, struct cn_error *err)
{
    struct nn_scan s;
    int64_t take[NN_MAX_LAYERS], all = 0;
    int rc = nn_scan_weights(how, m, &s, err);
    for (int i = 0; i < m->net->n_layers; i++) keep[i] = 0; /* a layer of zeros stays one */
    for (int g = 0; g < s.n && !rc; g++) all += s.group[g].left;
    if (!rc) rc = nn_scan_share(&s, all > total ? all - total : 0, take, err);
    for (int g = 0; g < s.n && !rc; g++)
        keep[s.group[g].index] = (size_t)(s.group[g].left - take[g]);
    return rc;
}
