/* Observers against PyTorch 2.15 (observers.tsv, made by make_observers.py): range and scale must
 * be the same bits, the zero point equal. Inputs are drawn here by the same arithmetic as in the
 * generator. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/quant/observer.h"

#define MAX_N 20000
#define MAX_CHANNELS 16

struct row {
    char kind[16], name[40], dist[64], pairs[1024];
    unsigned seed;
    double scale, shift, growth, min, max;
    int batches, n, channels, is_signed, symmetric, qmin, qmax;
};

static double uniform(uint64_t seed, uint64_t index)
{
    uint64_t z = (index + 1) * 0x9E3779B97F4A7C15u + seed;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    z = z ^ (z >> 31);
    return (double)(z >> 40) / 16777216.0;
}

static double draw(const char *dist, uint64_t seed, int i)
{
    double u[12], bell = 0;
    for (int k = 0; k < 12; k++) u[k] = uniform(seed, (uint64_t)i * 12 + (uint64_t)k);
    for (int k = 0; k < 12; k++) bell += u[k];
    bell -= 6.0;
    double v = u[0] * 2.0 - 1.0;
    if (!strcmp(dist, "uniform")) return v;
    if (!strcmp(dist, "bell")) return bell;
    if (!strcmp(dist, "heavy")) return v / (1.0001 - v * v);
    if (!strcmp(dist, "relu")) return bell > 0 ? bell : 0;
    if (!strcmp(dist, "negative")) return bell > 0 ? -bell : 0;
    if (!strcmp(dist, "constant")) return 1;
    if (!strcmp(dist, "sparse")) return u[11] < 0.05 ? bell : 0;
    if (!strcmp(dist, "bimodal")) return u[11] < 0.5 ? bell * 0.1 - 1.0 : bell * 0.3 + 2.0;
    if (!strcmp(dist, "cubic")) return bell * bell * bell;
    if (!strcmp(dist, "outlier")) return u[11] < 0.001 ? bell * 50.0 : bell;
    assert_string_equal(dist, "zero");
    return 0;
}

/* Fills x with batch b; returns its length. */
static size_t make_batch(const struct row *r, int b, float *x)
{
    char list[64], *dist[8], *save = NULL;
    int n_dist = 0;
    snprintf(list, sizeof list, "%s", r->dist);
    for (char *p = strtok_r(list, ",", &save); p && n_dist < 8; p = strtok_r(NULL, ",", &save))
        dist[n_dist++] = p;
    const char *d = dist[b % n_dist];
    if (!strcmp(d, "empty")) return 0;
    double scale = r->scale;
    for (int i = 0; i < b; i++) scale *= r->growth;
    for (int i = 0; i < r->n; i++)
        x[i] = (float)(draw(d, (uint64_t)r->seed * 1000 + (uint64_t)b, i) * scale + r->shift);
    return (size_t)r->n;
}

static void check_params(const struct row *r, const struct quant_params *got, int n)
{
    const char *p = r->pairs;
    for (int c = 0; c < n; c++) {
        char *end;
        double scale = strtod(p, &end);
        assert_int_equal(*end, ':');
        long zero = strtol(end + 1, &end, 10);
        if (got[c].zero != zero || (double)got[c].scale != scale)
            fail_msg("%s %s channel %d: scale %.9g zero %d, PyTorch says %.9g and %ld", r->kind,
                     r->name, c, (double)got[c].scale, got[c].zero, scale, zero);
        p = *end == ',' ? end + 1 : end;
    }
    assert_int_equal(*p, 0);
}

static void check_range(const struct row *r, struct quant_range range)
{
    if ((double)range.min != r->min || (double)range.max != r->max)
        fail_msg("%s %s: range %a..%a, PyTorch says %a..%a", r->kind, r->name, (double)range.min,
                 (double)range.max, r->min, r->max);
}

static void run_histogram(const struct row *r, struct quant_grid grid, float *x)
{
    struct quant_histogram *h = NULL;
    struct cn_error err;
    assert_int_equal(quant_histogram_create(&h, &err), 0);
    for (int b = 0; b < r->batches; b++)
        assert_int_equal(quant_histogram_observe(h, x, make_batch(r, b, x), &err), 0);
    check_range(r, quant_histogram_range(h));
    struct quant_range best = quant_histogram_search(h);
    struct quant_params p = quant_params_of(best.min, best.max, grid);
    check_params(r, &p, 1);
    quant_histogram_destroy(h);
}

static void run_minmax(const struct row *r, struct quant_grid grid, float *x)
{
    struct quant_range range[MAX_CHANNELS], all = QUANT_RANGE_EMPTY;
    struct quant_params p[MAX_CHANNELS];
    struct cn_error err;
    assert_in_range(r->channels, 1, MAX_CHANNELS);
    for (int c = 0; c < r->channels; c++) range[c] = QUANT_RANGE_EMPTY;
    for (int b = 0; b < r->batches; b++) {
        size_t n = make_batch(r, b, x) / (size_t)r->channels;
        assert_int_equal(quant_channels_observe(range, x, r->channels, n, &err), 0);
    }
    for (int c = 0; c < r->channels; c++) {
        p[c] = quant_params_of(range[c].min, range[c].max, grid);
        if (range[c].min < all.min) all.min = range[c].min;
        if (range[c].max > all.max) all.max = range[c].max;
    }
    check_range(r, all);
    check_params(r, p, r->channels);
}

static void test_observers(void **state)
{
    (void)state;
    FILE *f = fopen(CINCH_SOURCE_DIR "/tests/golden/quant/observers.tsv", "r");
    char line[2048];
    int cases = 0, histograms = 0;
    float *x = malloc(MAX_N * sizeof *x);
    assert_non_null(f);
    assert_non_null(x);
    while (fgets(line, sizeof line, f)) {
        if (line[0] == '#') continue;
        struct row r;
        int got = sscanf(line, "%15s %39s %u %63s %la %la %la %d %d %d %d %d %d %d %la %la %1023s",
                         r.kind, r.name, &r.seed, r.dist, &r.scale, &r.shift, &r.growth, &r.batches,
                         &r.n, &r.channels, &r.is_signed, &r.symmetric, &r.qmin, &r.qmax, &r.min,
                         &r.max, r.pairs);
        assert_int_equal(got, 17);
        assert_in_range(r.n, 1, MAX_N);
        struct quant_grid grid = {r.symmetric ? QUANT_SYMMETRIC : QUANT_AFFINE, r.qmin, r.qmax};
        if (!strcmp(r.kind, "histogram")) {
            run_histogram(&r, grid, x);
            histograms++;
        } else {
            run_minmax(&r, grid, x);
        }
        cases++;
    }
    free(x);
    fclose(f);
    assert_true(cases >= 80 && histograms >= 55);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_observers)};
    return cmocka_run_group_tests_name("quant_golden", tests, NULL, NULL);
}
