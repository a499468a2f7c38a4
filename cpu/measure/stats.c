/* stats.c - from samples to the figures people read. Percentiles are linear between ranks, as
 * NumPy's default; the deviation divides by n - 1. The interval of a ratio is a bootstrap over
 * processes and, within each, over pairs of neighbouring blocks, because what disturbs a machine
 * (frequency, neighbours) moves both halves of a pair alike, and where memory comes to lie moves a
 * whole process. Sources: Efron, Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13; Davison,
 * Hinkley, Bootstrap Methods and their Application, 1997, 3.8.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cpu/measure/timing.h"

#define RESAMPLES 2000

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* q in [0, 1] of n ≥ 1 sorted values. */
static double percentile(const double *sorted, int n, double q)
{
    double at = q * (n - 1);
    int i = (int)at;
    if (i >= n - 1) return sorted[n - 1];
    return sorted[i] + (at - i) * (sorted[i + 1] - sorted[i]);
}

void measure_statistics(double *us, int n, struct measure_figures *out)
{
    out->n = n;
    if (n < 1) return;
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++) sum += us[i];
    double mean = sum / n;
    for (int i = 0; i < n; i++) squares += (us[i] - mean) * (us[i] - mean);
    qsort(us, (size_t)n, sizeof *us, by_value);
    out->mean_us = mean;
    out->std_us = n > 1 ? sqrt(squares / (n - 1)) : 0;
    out->p50_us = percentile(us, n, 0.50);
    out->p90_us = percentile(us, n, 0.90);
    out->p99_us = percentile(us, n, 0.99);
    out->min_us = us[0];
    out->max_us = us[n - 1];
    out->processes = 1;
    out->p50_low_us = out->p50_high_us = out->p50_us;
}

static double median(const double *v, int n, double *work)
{
    memcpy(work, v, (size_t)n * sizeof *v);
    qsort(work, (size_t)n, sizeof *work, by_value);
    return percentile(work, n, 0.50);
}

/* Mean and deviation of all runs from those of the parts. */
static void pool(const struct measure_figures *part, int n, struct measure_figures *out)
{
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++) {
        out->n += part[i].n;
        sum += part[i].n * part[i].mean_us;
    }
    out->mean_us = sum / out->n;
    for (int i = 0; i < n; i++) {
        double d = part[i].mean_us - out->mean_us;
        squares += (part[i].n - 1) * part[i].std_us * part[i].std_us + part[i].n * d * d;
    }
    out->std_us = out->n > 1 ? sqrt(squares / (out->n - 1)) : 0;
}

void measure_combine(const struct measure_figures *part, int n, double *p50,
                     struct measure_figures *out)
{
    double v[MEASURE_MAX_PROCESSES], work[MEASURE_MAX_PROCESSES];
    *out = (struct measure_figures){
        .warmup = part[0].warmup, .processes = n, .min_us = INFINITY, .max_us = 0};
    pool(part, n, out);
    for (int i = 0; i < n; i++) {
        p50[i] = part[i].p50_us;
        if (part[i].min_us < out->min_us) out->min_us = part[i].min_us;
        if (part[i].max_us > out->max_us) out->max_us = part[i].max_us;
        out->blocks += part[i].blocks;
        out->repeated += part[i].repeated;
        out->disturbed += part[i].disturbed;
    }
    out->p50_us = median(p50, n, work);
    out->p50_low_us = work[0];
    out->p50_high_us = work[n - 1];
    for (int i = 0; i < n; i++) v[i] = part[i].p90_us;
    out->p90_us = median(v, n, work);
    for (int i = 0; i < n; i++) v[i] = part[i].p99_us;
    out->p99_us = median(v, n, work);
}

/* A number below n, drawn for counter i of resample k. */
static int pick(int k, uint64_t i, int n)
{
    uint32_t bits = cn_rng(0, CN_RNG_BOOTSTRAP, (uint32_t)k, i).v[0];
    return (int)(((uint64_t)bits * (uint64_t)n) >> 32);
}

/* One resample: processes with replacement, then the pairs of each. */
static double resample(const double *a, const double *b, const int *count, int processes, int k)
{
    double ra = 0, rb = 0;
    uint64_t draw = 0;
    for (int p = 0; p < processes; p++) {
        int of = processes > 1 ? pick(k, (uint64_t)1 << 32 | (uint64_t)p, processes) : 0, from = 0;
        for (int q = 0; q < of; q++) from += count[q];
        for (int i = 0; i < count[of]; i++) {
            int at = from + pick(k, draw++, count[of]);
            ra += a[at];
            rb += b[at];
        }
    }
    return ra / rb;
}

int measure_ratio(const double *a, const double *b, const int *count, int processes, double *ratio,
                  double ci95[2])
{
    double *r = malloc(RESAMPLES * sizeof *r);
    if (!r) return CN_ENOMEM;
    double sum_a = 0, sum_b = 0;
    for (int p = 0, at = 0; p < processes; at += count[p++]) {
        for (int i = 0; i < count[p]; i++) {
            sum_a += a[at + i];
            sum_b += b[at + i];
        }
    }
    *ratio = sum_a / sum_b;
    for (int k = 0; k < RESAMPLES; k++) r[k] = resample(a, b, count, processes, k);
    qsort(r, RESAMPLES, sizeof *r, by_value);
    ci95[0] = percentile(r, RESAMPLES, 0.025);
    ci95[1] = percentile(r, RESAMPLES, 0.975);
    free(r);
    return 0;
}
