/* Tests of ecg/filter and ecg/preprocess beyond the golden values: what the filters must do whatever
 * the implementation, and a derivation of the constants. */
#include "fake.h"

#include <complex.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ecg/filter.h"
#include "ecg/preprocess.h"

#define N 4000
#define PI 3.14159265358979323846

/* |H|^2 of a 5th-order Butterworth high-pass (cut 0.5 Hz) made digital by the bilinear transform at
 * 100 Hz; forward and backward together give |H|^2 as the gain. */
static double gain_of_theory(double hz)
{
    double w = tan(PI * hz / 100), cut = tan(PI * 0.5 / 100);
    return 1 / (1 + pow(cut / w, 10));
}

static void highpass_has_the_butterworth_response(void **state)
{
    static const double hz[] = {0.1, 0.3, 0.5, 0.7, 1, 2, 10, 40};
    double *x = malloc(N * sizeof *x), *scratch = malloc((N + 64) * sizeof *scratch);
    for (size_t k = 0; k < sizeof hz / sizeof *hz; k++) {
        double complex in = 0, out = 0;
        for (int t = 0; t < N; t++) x[t] = cos(2 * PI * hz[k] * t / 100);
        for (int t = 1000; t < 3000; t++) in += x[t] * cexp(-I * 2 * PI * hz[k] * t / 100);
        ecg_highpass(x, N, scratch);
        for (int t = 1000; t < 3000; t++) out += x[t] * cexp(-I * 2 * PI * hz[k] * t / 100);
        double complex h = out / in;
        assert_true(fabs(creal(h) - gain_of_theory(hz[k])) < 2e-3);
        assert_true(fabs(cimag(h)) < 2e-3); /* zero phase */
    }
    free(scratch);
    free(x);
}

static void constants_and_drifts_vanish(void **state)
{
    double x[1000], scratch[1064];
    for (int t = 0; t < 1000; t++) x[t] = 3.25;
    ecg_highpass(x, 1000, scratch);
    for (int t = 0; t < 1000; t++) assert_true(fabs(x[t]) < 1e-9);
}

/* The definition, in plain loops: extend by reflection, average forward, average backward. */
static void average_by_definition(const double *x, int n, int width, double *y)
{
    int pad = 3 * width, all = n + 2 * pad;
    double *a = malloc((size_t)all * sizeof *a), *b = malloc((size_t)all * sizeof *b);
    for (int i = 0; i < all; i++) {
        int t = i - pad;
        a[i] = t < 0 ? 2 * x[0] - x[-t] : t >= n ? 2 * x[n - 1] - x[2 * (n - 1) - t] : x[t];
    }
    for (int i = 0; i < all; i++) {
        b[i] = 0;
        for (int k = 0; k < width; k++) b[i] += a[i - k < 0 ? 0 : i - k] / width;
    }
    for (int t = 0; t < n; t++) {
        y[t] = 0;
        for (int k = 0; k < width; k++) {
            int i = t + pad + k;
            y[t] += b[i >= all ? all - 1 : i] / width;
        }
    }
    free(b);
    free(a);
}

static void moving_average_by_definition(void **state)
{
    double x[100], want[100], got[100], scratch[400];
    for (int t = 0; t < 100; t++) x[t] = (t * 37 % 41) * 0.25 - t * 0.01;
    for (int width = 1; width <= 25; width++) {
        average_by_definition(x, 100, width, want);
        memcpy(got, x, sizeof x);
        ecg_moving_average(got, 100, width, scratch);
        for (int t = 0; t < 100; t++) assert_true(fabs(got[t] - want[t]) < 1e-12);
    }
}

static void mains_hum_vanishes(void **state)
{
    double x[1000], scratch[1064];
    for (int t = 0; t < 1000; t++) x[t] = t % 2 ? 0.4 : -0.4; /* 50 Hz at 100 Hz */
    ecg_moving_average(x, 1000, 2, scratch);
    for (int t = 1; t < 999; t++) assert_true(fabs(x[t]) < 1e-12);
}

static void normalisation_and_stages(void **state)
{
    char dir[256], path[512];
    struct cn_error err;
    static float raw[12000], filtered[12000], normalised[12000];
    float mean[12], std[12];
    struct ecg_norm norm = {mean, std};
    for (int l = 0; l < 12; l++) {
        mean[l] = 0.01f * (float)l;
        std[l] = 0.5f + 0.1f * (float)l;
    }
    fake_folder(dir, "stages");
    fake_ptbxl(dir, 1);
    snprintf(path, sizeof path, "%s/records100/00000/00001_lr", dir);
    must((int)ecg_preprocess_file(path, &(struct ecg_prep){.stage = ECG_RAW}, raw, &err), &err);
    must((int)ecg_preprocess_file(path, &(struct ecg_prep){.stage = ECG_FILTERED}, filtered, &err),
         &err);
    must((int)ecg_preprocess_file(path, &(struct ecg_prep){.stage = ECG_NORMALISED, .norm = &norm},
                                  normalised, &err),
         &err);
    for (int i = 0; i < 12000; i++) {
        int l = i / 1000;
        assert_true(raw[i] == (float)(fake_sample(1, l, i % 1000) / 1000.0));
        assert_true(normalised[i] == (filtered[i] - mean[l]) / std[l]);
    }
}

static void leads_are_found_by_name(void **state)
{
    char dir[256], path[512];
    struct cn_error err;
    static float x[12000], y[12000];
    fake_folder(dir, "leads");
    fake_ptbxl(dir, 2);
    snprintf(path, sizeof path, "%s/records100/00000/00002_lr.hea", dir);
    must((int)ecg_preprocess_file(path, &(struct ecg_prep){.stage = ECG_RAW}, x, &err), &err);
    fake_replace(path, " 0 V1\n", " 0 temporary\n");
    fake_replace(path, " 0 V6\n", " 0 v1\n");
    must_fail((int)ecg_preprocess_file(path, &(struct ecg_prep){.stage = ECG_RAW}, y, &err),
              CN_EINVALID, &err, "no lead named V6");
    fake_replace(path, " 0 temporary\n", " 0 V6\n");
    must((int)ecg_preprocess_file(path, &(struct ecg_prep){.stage = ECG_RAW}, y, &err), &err);
    assert_memory_equal(y, x, 6000 * sizeof *x);
    assert_memory_equal(y + 6000, x + 11000, 1000 * sizeof *x);
    assert_memory_equal(y + 11000, x + 6000, 1000 * sizeof *x);
    fake_replace(path, "12 100 1000", "12 500 1000");
    must_fail((int)ecg_preprocess_file(path, &(struct ecg_prep){.stage = ECG_RAW}, y, &err),
              CN_EINVALID, &err, "1000 samples at 500 Hz");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(highpass_has_the_butterworth_response),
        cmocka_unit_test(constants_and_drifts_vanish),
        cmocka_unit_test(moving_average_by_definition),
        cmocka_unit_test(mains_hum_vanishes),
        cmocka_unit_test(normalisation_and_stages),
        cmocka_unit_test(leads_are_found_by_name),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fake_clear();
    return failed;
}
