/* Observers on their own: defaults, hostile values, batches in any cut, the clipped share. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "cpu/quant/observer.h"

static void fill(float *x, int n, uint64_t seed)
{
    for (int i = 0; i < n; i++)
        x[i] = cn_rng_uniform(cn_rng(seed, CN_RNG_NOISE, 0, (uint64_t)i).v[0]) * 4 - 1;
}

static void test_grids(void **state)
{
    (void)state;
    struct quant_grid g = quant_grid_default(0, 1, QUANT_AFFINE);
    assert_int_equal(g.qmin, 0);
    assert_int_equal(g.qmax, 127);
    g = quant_grid_default(1, 0, QUANT_SYMMETRIC);
    assert_int_equal(g.qmin, -128);
    assert_int_equal(g.qmax, 127);
    g = quant_grid_default(1, 1, QUANT_SYMMETRIC);
    assert_int_equal(g.qmin, -64);
    assert_int_equal(g.qmax, 63);
    struct quant_params p = quant_params_of(-1, 1, quant_grid_default(0, 0, QUANT_SYMMETRIC));
    assert_int_equal(p.zero, 128);
}

/* Zero must be one of the grid's values: padding and ReLU depend on it. */
static void test_zero_is_exact(void **state)
{
    (void)state;
    const float range[][2] = {{-3, 5}, {2, 7}, {-9, -4}, {0, 0}, {1e-30f, 2e-30f}, {-1e30f, 1e-3f}};
    for (size_t i = 0; i < sizeof range / sizeof range[0]; i++) {
        struct quant_params p =
            quant_params_of(range[i][0], range[i][1], quant_grid_default(0, 0, QUANT_AFFINE));
        assert_in_range(p.zero, 0, 255);
        assert_true(p.scale > 0);
    }
}

static void test_not_finite(void **state)
{
    (void)state;
    struct cn_error err;
    struct quant_range r = {0, 1};
    const float bad[3] = {5, NAN, 0}, wide[2] = {-3e38f, 3e38f}, inf[3] = {INFINITY, 2, -INFINITY};
    assert_int_equal(quant_range_observe(&r, bad, 3, &err), CN_EINVALID);
    assert_non_null(strstr(err.text, "value 1"));
    assert_true(r.min == 0 && r.max == 1);
    assert_int_equal(quant_range_observe(&r, inf, 3, &err), CN_EINVALID);
    struct quant_range two[2] = {QUANT_RANGE_EMPTY, QUANT_RANGE_EMPTY};
    const float second[4] = {1, 2, 3, NAN};
    assert_int_equal(quant_channels_observe(two, second, 2, 2, &err), CN_EINVALID);
    assert_non_null(strstr(err.text, "channel 1"));

    struct quant_histogram *h = NULL;
    assert_int_equal(quant_histogram_create(&h, &err), 0);
    assert_int_equal(quant_histogram_observe(h, bad, 3, &err), CN_EINVALID);
    assert_int_equal(quant_histogram_observe(h, wide, 2, &err), CN_ELIMIT);
    assert_true(quant_histogram_range(h).min > quant_histogram_range(h).max);
    assert_int_equal(quant_histogram_observe(h, inf, 3, &err), 0); /* infinities are left out */
    assert_true(quant_histogram_range(h).min == 2 && quant_histogram_range(h).max == 2);
    quant_histogram_destroy(h);
    quant_histogram_destroy(NULL);
}

/* Once the range is known, cutting the rest into batches changes nothing. */
static void test_cut(void **state)
{
    (void)state;
    enum { N = 6000 };
    float *x = malloc(N * sizeof *x);
    struct quant_histogram *a = NULL, *b = NULL;
    assert_non_null(x);
    fill(x, N, 7);
    x[0] = -2;
    x[1] = 4;
    assert_int_equal(quant_histogram_create(&a, NULL), 0);
    assert_int_equal(quant_histogram_create(&b, NULL), 0);
    assert_int_equal(quant_histogram_observe(a, x, N, NULL), 0);
    for (int i = 0; i < N; i += 500)
        assert_int_equal(quant_histogram_observe(b, x + i, 500, NULL), 0);
    struct quant_range ra = quant_histogram_search(a), rb = quant_histogram_search(b);
    assert_true(ra.min == rb.min && ra.max == rb.max);
    assert_true(quant_histogram_clipped(a, quant_histogram_range(a)) == 0);
    double half = quant_histogram_clipped(a, (struct quant_range){1, 4});
    assert_true(half > 0.45 && half < 0.55);
    quant_histogram_destroy(a);
    quant_histogram_destroy(b);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grids),
        cmocka_unit_test(test_zero_is_exact),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_cut),
    };
    return cmocka_run_group_tests_name("quant_observer", tests, NULL, NULL);
}
