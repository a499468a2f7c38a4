/* nn/metrics.c - see metrics.h.
 *
 * AUROC is the Mann-Whitney statistic: the share of (positive, negative) pairs in the right order,
 * ties counting half. The bootstrap sorts each label once; a resample is then a weight per record
 * and one pass over that order.
 */
#include "nn/metrics.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/rng.h"

#define RESAMPLES 1000

struct scored {
    float p;
    uint8_t y;
    int record;
};

static int by_score(const void *a, const void *b)
{
    float x = ((const struct scored *)a)->p, y = ((const struct scored *)b)->p;
    return (x > y) - (x < y);
}

/* Records in ascending order of score into *out (the caller's to free, NULL with an error).
 * CN_EINVALID: a score is not a number; CN_ENOMEM. */
static int sort_label(const float *p, const uint8_t *y, int n, int stride, struct scored **out)
{
    struct scored *s = *out = malloc((size_t)(n > 0 ? n : 1) * sizeof *s);
    int rc = s ? 0 : CN_ENOMEM;
    for (int i = 0; i < n && rc == 0; i++) {
        s[i] = (struct scored){p[(size_t)i * stride], y[(size_t)i * stride] != 0, i};
        if (isnan(s[i].p)) rc = CN_EINVALID;
    }
    if (rc == 0) {
        qsort(s, (size_t)n, sizeof *s, by_score);
        return 0;
    }
    free(s);
    *out = NULL;
    return rc;
}

/* weight: times that each record counts, or NULL: once. */
static double auroc_sorted(const struct scored *s, int n, const uint16_t *weight)
{
    double right = 0, below = 0, positives = 0;
    for (int i = 0; i < n;) {
        double pos = 0, neg = 0;
        int j = i;
        for (; j < n && s[j].p == s[i].p; j++) {
            double w = weight ? weight[s[j].record] : 1;
            if (s[j].y)
                pos += w;
            else
                neg += w;
        }
        right += pos * (below + 0.5 * neg);
        below += neg;
        positives += pos;
        i = j;
    }
    return positives > 0 && below > 0 ? right / (positives * below) : NAN;
}

double nn_auroc(const float *p, const uint8_t *y, int n, int stride)
{
    struct scored *s;
    double a = sort_label(p, y, n, stride, &s) ? NAN : auroc_sorted(s, n, NULL);
    free(s);
    return a;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Linear interpolation between order statistics, as NumPy's default. */
static double percentile(const double *sorted, int n, double q)
{
    double at = q * (n - 1);
    int i = (int)at;
    if (i + 1 >= n) return sorted[n - 1];
    return sorted[i] + (at - i) * (sorted[i + 1] - sorted[i]);
}

/* How often each record is drawn in one resample of n with replacement. */
static void draw_weights(int resample, int n, uint16_t *weight)
{
    cn_rng4 r = {{0}};
    memset(weight, 0, (size_t)n * sizeof *weight);
    for (int i = 0; i < n; i++) {
        if (i % 4 == 0) r = cn_rng(0, CN_RNG_BOOTSTRAP, (uint32_t)resample, (uint64_t)(i / 4));
        weight[(uint64_t)r.v[i % 4] * (uint64_t)n >> 32]++;
    }
}

static void bootstrap_interval(struct scored *const *sorted, int n, int labels, double ci[2])
{
    uint16_t *weight = malloc((size_t)(n > 0 ? n : 1) * sizeof *weight);
    double macro[RESAMPLES];
    int valid = 0;
    for (int k = 0; weight && k < RESAMPLES; k++) {
        double sum = 0;
        int defined = 0;
        draw_weights(k, n, weight);
        for (int l = 0; l < labels; l++) {
            double a = sorted[l] ? auroc_sorted(sorted[l], n, weight) : NAN;
            if (isnan(a)) continue;
            sum += a;
            defined++;
        }
        if (defined) macro[valid++] = sum / defined;
    }
    free(weight);
    if (!valid) return;
    qsort(macro, (size_t)valid, sizeof *macro, by_value);
    ci[0] = percentile(macro, valid, 0.025);
    ci[1] = percentile(macro, valid, 0.975);
}

int nn_auroc_all(const float *p, const uint8_t *y, int n, int labels, int bootstrap,
                 struct nn_auroc_report *out)
{
    struct scored *sorted[NN_MAX_LABELS] = {0};
    double sum = 0;
    int rc = 0;
    assert(labels >= 1 && labels <= NN_MAX_LABELS);
    *out = (struct nn_auroc_report){.ci95 = {NAN, NAN}};
    for (int l = 0; l < NN_MAX_LABELS; l++) out->per_label[l] = NAN;
    for (int l = 0; l < labels; l++) {
        int bad = sort_label(p + l, y + l, n, labels, &sorted[l]);
        if (bad)
            rc = bad;
        else
            out->per_label[l] = auroc_sorted(sorted[l], n, NULL);
        if (isnan(out->per_label[l]))
            out->undefined++;
        else
            sum += out->per_label[l];
    }
    out->macro = labels > out->undefined ? sum / (labels - out->undefined) : NAN;
    if (bootstrap) bootstrap_interval(sorted, n, labels, out->ci95);
    for (int l = 0; l < labels; l++) free(sorted[l]);
    return rc;
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

void nn_classify(const float *p, const uint8_t *y, int n, int labels, struct nn_class_report *out)
{
    memset(out, 0, sizeof *out);
    assert(labels >= 1 && labels <= NN_MAX_LABELS);
    uint32_t right = 0;
    for (int i = 0; i < n; i++) {
        const float *pi = p + (size_t)i * labels;
        const uint8_t *yi = y + (size_t)i * labels;
        int guess = 0, truth = 0;
        for (int l = 1; l < labels; l++) {
            if (pi[l] > pi[guess]) guess = l;
            if (yi[l] > yi[truth]) truth = l;
        }
        out->confusion[truth][guess]++;
        right += guess == truth;
    }
    out->accuracy = ratio(right, n);
    for (int l = 0; l < labels; l++) {
        double hit = out->confusion[l][l], is = 0, said = 0;
        for (int k = 0; k < labels; k++) {
            is += out->confusion[l][k];
            said += out->confusion[k][l];
        }
        out->sensitivity[l] = ratio(hit, is);
        out->precision[l] = ratio(hit, said);
        out->f1[l] = ratio(2 * hit, is + said);
        out->macro_f1 += out->f1[l] / labels;
    }
}
