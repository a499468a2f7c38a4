/* stats.c - from samples to the figures people read. Percentiles are linear between ranks, as
 * NumPy's default; the deviation divides by n - 1. The interval of a ratio is a bootstrap over
 * pairs of neighbouring blocks, because what disturbs a machine (frequency, neighbours) moves both
 * halves of a pair alike. Source: Efron, Tibshirani, An Introduction to the Bootstrap, 1993,
 * ch. 13.
 */
#include <math.h>
#include <stdlib.h>

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
}

int measure_ratio(const double *a, const double *b, int n, double *ratio, double ci95[2])
{
    double *r = malloc(RESAMPLES * sizeof *r);
    if (!r) return CN_ENOMEM;
    double sum_a = 0, sum_b = 0;
    for (int i = 0; i < n; i++) {
        sum_a += a[i];
        sum_b += b[i];
    }
    *ratio = sum_a / sum_b;
    for (int k = 0; k < RESAMPLES; k++) {
        double ra = 0, rb = 0;
        for (int i = 0; i < n; i++) {
            uint32_t bits = cn_rng(0, CN_RNG_BOOTSTRAP, (uint32_t)k, (uint64_t)i).v[0];
            int pick = (int)(((uint64_t)bits * (uint64_t)n) >> 32);
            ra += a[pick];
            rb += b[pick];
        }
        r[k] = ra / rb;
    }
    qsort(r, RESAMPLES, sizeof *r, by_value);
    ci95[0] = percentile(r, RESAMPLES, 0.025);
    ci95[1] = percentile(r, RESAMPLES, 0.975);
    free(r);
    return 0;
}
