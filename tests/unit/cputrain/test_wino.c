/* tests/unit/cputrain/test_wino.c - the error of Winograd's tiles against a sum in double, bounded
 * for every filter size at the widths and lengths of the nets, forward, towards dx and towards dw;
 * and that these sizes really go by tiles. The direct sum in single precision is printed beside
 * it. */
#include "tests/unit/cputrain/common.h"

#include <math.h>
#include <stdlib.h>

#include "cpu/train/wino.h"

/* Relative (2-norm) error allowed: k = 3, 5, 7. The weights' gradient sums over all time too. */
static const double bound[3] = {1.5e-6, 2.5e-6, 6e-6};

struct sizes {
    int k, cin, cout, t, b;
};

static double relative(const float *got, const double *want, size_t n)
{
    double diff = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        diff += (got[i] - want[i]) * (got[i] - want[i]);
        norm += want[i] * want[i];
    }
    return sqrt(diff / norm);
}

static double *doubles(size_t n)
{
    double *p = calloc(n, sizeof *p);
    assert_non_null(p);
    return p;
}

/* y, dx and dw in double; same padding, so tin = tout. */
static void exact(const struct nn_conv1d *a, double *y, double *dx, double *dw)
{
    for (int r = 0; r < a->b; r++)
        for (int o = 0; o < a->cout; o++)
            for (int c = 0; c < a->cin; c++)
                for (int k = 0; k < a->k; k++) {
                    int64_t xr = ((int64_t)r * a->cin + c) * a->tin + k - a->pad;
                    int64_t yr = ((int64_t)r * a->cout + o) * a->tout;
                    int64_t w = ((int64_t)o * a->cin + c) * a->k + k;
                    for (int t = 0; t < a->tout; t++) {
                        if (t + k - a->pad < 0 || t + k - a->pad >= a->tin) continue;
                        y[yr + t] += (double)a->w[w] * a->x[xr + t];
                        dx[xr + t] += (double)a->w[w] * a->dy[yr + t];
                        dw[w] += (double)a->x[xr + t] * a->dy[yr + t];
                    }
                }
}

static void run_case(const char *isa, struct sizes s, double allowed)
{
    struct nn_backend *be = backend_of(isa, 1);
    struct nn_conv1d a = {.m = 1, .b = s.b, .cin = s.cin, .cout = s.cout, .tin = s.t, .k = s.k};
    a.pad = s.k / 2;
    a.tout = s.t;
    size_t nx = (size_t)s.b * s.cin * s.t, ny = (size_t)s.b * s.cout * s.t;
    size_t nw = (size_t)s.cin * s.cout * s.k;
    float *x = array_random(nx, 1), *w = array_random(nw, 2), *dy = array_random(ny, 3);
    for (size_t i = 0; i < nx; i++) x[i] = x[i] > 0 ? x[i] : 0; /* as behind a ReLU */
    a.x = x, a.w = w, a.dy = dy;
    a.y = array_filled(ny, 0);
    a.dx = array_filled(nx, 0);
    a.dw = array_filled(nw, 0);
    double *y = doubles(ny), *dx = doubles(nx), *dw = doubles(nw);
    exact(&a, y, dx, dw);
    assert_int_equal(be->ops->conv1d_forward(be, &a), 0);
    assert_int_equal(be->ops->conv1d_backward(be, &a), 0);
    double e[3] = {relative(a.y, y, ny), relative(a.dx, dx, nx), relative(a.dw, dw, nw)};
    print_message("%s %d -> %d k%d: y %.1e, dx %.1e, dw %.1e\n", isa, s.cin, s.cout, s.k, e[0],
                  e[1], e[2]);
    for (int i = 0; i < 3; i++) assert_true(e[i] <= allowed);
    free(y);
    free(dx);
    free(dw);
    backend_free(be);
    arrays_free();
}

static void test_error(void **state)
{
    static const struct sizes cases[] = {{3, 64, 96, 108, 5},  {5, 64, 64, 400, 1},
                                         {7, 64, 128, 300, 1}, {3, 128, 128, 250, 1},
                                         {5, 33, 45, 97, 3},   {7, 57, 29, 61, 4}};
    const char *isa[MAX_ISA];
    int n = isa_list(isa);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(wino_pays(cases[i].k, cases[i].cin, cases[i].cout));
        for (int f = 0; f < n; f++) run_case(isa[f], cases[i], bound[cases[i].k / 2 - 1]);
    }
    assert_true(wino_pays_dw(5, 64, 64) && wino_pays_dw(7, 64, 128) && wino_pays_dw(3, 128, 128));
    assert_false(wino_pays(4, 64, 64) || wino_pays(3, 2, 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_error)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
