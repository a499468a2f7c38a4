/* tests/unit/cputrain/test_ops.c - the small fast ops of every instruction set against ref_: layer
 * normalisation, ReLU, addition, max-pool with ties and NaN, mean, linear, optimiser steps,
 * weight average; the accuracy of sigmoid and tanh; the choice of instruction set. */
#include "tests/unit/cputrain/common.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/train/context.h"

#define TOLERANCE 3e-6

typedef void (*case_f)(struct nn_backend *ref, struct nn_backend *fast, const char *isa, int i);

/* Runs `fn` for every instruction set and n cases. */
static void each(case_f fn, int n)
{
    const char *isa[MAX_ISA];
    int n_isa = isa_list(isa);
    struct nn_backend *ref = backend_of("ref", 1);
    for (int f = 0; f < n_isa; f++) {
        struct nn_backend *fast = backend_of(isa[f], 1 + f);
        for (int i = 0; i < n; i++) {
            fn(ref, fast, isa[f], i);
            arrays_free();
        }
        backend_free(fast);
    }
    backend_free(ref);
}

static void layernorm_case(struct nn_backend *ref, struct nn_backend *fast, const char *isa, int i)
{
    uint64_t s = 700 + (uint64_t)i;
    struct nn_layernorm a = {.m = pick(s, 0, 1, 3), .b = pick(s, 1, 1, 9), .c = pick(s, 2, 1, 130)};
    a.t = pick(s, 3, 1, 200);
    a.stride = 2 * a.c + 1;
    a.eps = 1e-5f;
    size_t n = (size_t)a.m * a.b * a.c * a.t, np = (size_t)a.m * a.stride, nt = n / (size_t)a.c;
    float *p = array_random(np, s), *g[2] = {array_filled(np, 0), array_filled(np, 0)};
    a.w = p, a.bias = p + a.c;
    a.x = array_random(n, s + 1);
    a.dy = array_random(n, s + 2);
    float *y[2], *dx[2], *mean[2], *rstd[2];
    for (int k = 0; k < 2; k++) {
        struct nn_backend *be = k ? fast : ref;
        a.y = y[k] = array_filled(n, 0);
        a.dx = dx[k] = array_filled(n, 0);
        a.save_mean = mean[k] = array_filled(nt, 0);
        a.save_rstd = rstd[k] = array_filled(nt, 0);
        a.dw = g[k], a.dbias = g[k] + a.c;
        be->ops->layernorm_forward(be, &a);
        be->ops->layernorm_backward(be, &a);
    }
    /* with one channel x - mean is 0 but for rounding */
    double tol = a.c == 1 ? 1 : 2e-5;
    assert_close(isa, y[1], y[0], n, tol);
    assert_close(isa, mean[1], mean[0], nt, tol);
    assert_close(isa, rstd[1], rstd[0], nt, tol);
    if (a.c > 1) assert_close(isa, dx[1], dx[0], n, 5e-4); /* near-equal pairs of channels */
    assert_close(isa, g[1], g[0], np, a.c == 1 ? 1 : 1e-4);
}

static void test_layernorm(void **state)
{
    each(layernorm_case, 24);
}

static void eltwise_case(struct nn_backend *ref, struct nn_backend *fast, const char *isa, int i)
{
    size_t n = (size_t)pick(800 + (uint64_t)i, 0, 1, 40000);
    struct nn_eltwise a = {.n = (int64_t)n, .x = array_random(n, 1), .x2 = array_random(n, 2)};
    float *out[2][4];
    a.dy = array_random(n, 3);
    ((float *)a.x)[n / 2] = NAN; /* passes through */
    for (int k = 0; k < 2; k++) {
        const struct nn_backend_ops *o = k ? fast->ops : ref->ops;
        struct nn_backend *be = k ? fast : ref;
        a.y = out[k][0] = array_filled(n, 0);
        o->relu_forward(be, &a);
        a.dx = out[k][1] = array_random(n, 4);
        a.dx_add = i % 2;
        o->relu_backward(be, &a);
        a.y = out[k][2] = array_filled(n, 0);
        o->add_forward(be, &a);
        a.dx = out[k][3] = array_random(n, 5);
        o->add_backward(be, &a);
    }
    assert_true(isnan(out[1][0][n / 2]) && isnan(out[1][2][n / 2]));
    for (int k = 0; k < 4; k++) {
        out[0][k][n / 2] = out[1][k][n / 2] = 0;
        for (size_t e = 0; e < n; e++) out[0][k][e] += 0.0f; /* -0 and 0 are one */
        for (size_t e = 0; e < n; e++) out[1][k][e] += 0.0f;
        assert_same_bits(isa, out[1][k], out[0][k], n);
    }
}

static void test_eltwise(void **state)
{
    each(eltwise_case, 12);
}

static void pool_case(struct nn_backend *ref, struct nn_backend *fast, const char *isa, int i)
{
    uint64_t s = 900 + (uint64_t)i;
    struct nn_pool a = {.rows = pick(s, 0, 1, 20)};
    a.k = i % 2 ? pick(s, 1, 1, 5) : pick(s, 1, 1, 255);
    a.tin = a.k + pick(s, 2, 0, 700);
    a.tout = a.tin / a.k;
    size_t n = (size_t)a.rows * a.tin, ny = (size_t)a.rows * a.tout;
    float *x = array_random(n, s);
    for (size_t e = 0; e < n; e++) x[e] = rintf(x[e] * 8) / 8; /* ties */
    if (i % 4 == 1) x[n / 2] = NAN;
    if (i % 8 == 1) x[n / 2 + 1 < n ? n / 2 + 1 : 0] = NAN;
    if (i % 4 == 2) x[n / 2] = INFINITY;
    a.x = x;
    a.dy = array_random(ny, s + 1);
    float *y[2], *dx[2];
    uint8_t *arg[2];
    for (int k = 0; k < 2; k++) {
        struct nn_backend *be = k ? fast : ref;
        a.y = y[k] = array_filled(ny, 0);
        a.arg = arg[k] = (uint8_t *)array_filled(ny, 0);
        be->ops->maxpool_forward(be, &a);
        a.dx = dx[k] = array_filled(n, 7);
        be->ops->maxpool_backward(be, &a);
    }
    assert_same_bits(isa, y[1], y[0], ny);
    assert_memory_equal(arg[1], arg[0], ny);
    assert_same_bits(isa, dx[1], dx[0], n);
}

static void test_maxpool(void **state)
{
    each(pool_case, 80);
}

static void linear_case(struct nn_backend *ref, struct nn_backend *fast, const char *isa, int i)
{
    uint64_t s = 1000 + (uint64_t)i;
    struct nn_linear a = {.m = pick(s, 0, 1, 3), .b = pick(s, 1, 1, 130), .in = pick(s, 2, 1, 600)};
    a.out = pick(s, 3, 1, 30);
    a.stride = (int64_t)a.in * a.out + a.out + 2;
    size_t nx = (size_t)a.m * a.b * a.in, ny = (size_t)a.m * a.b * a.out;
    size_t np = (size_t)a.m * a.stride;
    float *p = array_random(np, s), *g[2], *y[2], *dx[2], *mean[2];
    a.w = p, a.bias = p + (int64_t)a.in * a.out;
    a.x = array_random(nx, s + 1);
    a.dy = array_random(ny, s + 2);
    for (int k = 0; k < 2; k++) {
        struct nn_backend *be = k ? fast : ref;
        a.y = y[k] = array_filled(ny, 0);
        a.dx = dx[k] = array_filled(nx, 0);
        a.dw = g[k] = array_filled(np, 0);
        a.dbias = a.dw + (int64_t)a.in * a.out;
        be->ops->linear_forward(be, &a);
        be->ops->linear_backward(be, &a);
        struct nn_mean mean_of = {.rows = a.m * a.b, .t = a.in, .x = a.x};
        mean_of.y = mean[k] = array_filled((size_t)mean_of.rows, 0);
        be->ops->mean_forward(be, &mean_of);
        for (int r = 0; r < mean_of.rows; r++) mean[k][r] += 1; /* means near 0 cancel */
    }
    assert_close(isa, y[1], y[0], ny, TOLERANCE);
    assert_close(isa, dx[1], dx[0], nx, TOLERANCE);
    assert_close(isa, g[1], g[0], np, TOLERANCE);
    assert_close(isa, mean[1], mean[0], (size_t)(a.m * a.b), TOLERANCE);
}

static void test_linear_and_mean(void **state)
{
    each(linear_case, 16);
}

static void update_case(struct nn_backend *ref, struct nn_backend *fast, const char *isa, int i)
{
    uint64_t seed = 1100 + (uint64_t)i;
    int64_t p = pick(seed, 0, 1, 40000);
    struct nn_scalars s[2];
    memset(s, 0, sizeof s);
    for (int m = 0; m < 2; m++)
        s[m] = (struct nn_scalars){.lr = 1e-2f,
                                   .momentum = 0.9f,
                                   .weight_decay = 0.01f * (float)i,
                                   .beta1 = 0.9f,
                                   .beta2 = 0.999f,
                                   .eps = 1e-8f,
                                   .ema = m ? 0.99f : 0};
    struct nn_update u = {.m = 2, .p = p, .stride = p + 3, .s = s};
    size_t n = (size_t)(2 * u.stride);
    u.kind = (enum nn_optimiser)(i % 3);
    u.nesterov = i % 2;
    u.clip = i % 4 == 3 ? 0.5f : 0;
    float *mask = array_random((size_t)(2 * p), 3), *w[2], *m1[2], *avg[2];
    for (size_t e = 0; e < (size_t)(2 * p); e++) mask[e] = mask[e] > -0.5f;
    u.mask = i % 5 == 4 ? mask : NULL;
    for (int k = 0; k < 2; k++) {
        struct nn_backend *be = k ? fast : ref;
        u.w = w[k] = array_random(n, 1);
        u.m1 = m1[k] = array_filled(n, 0);
        u.m2 = u.kind == NN_SGD ? NULL : array_filled(n, 0);
        struct nn_average av = {.m = 2, .n = p, .stride = u.stride, .s = s, .w = u.w};
        av.avg = avg[k] = array_random(n, 2);
        for (uint32_t step = 1; step <= 3; step++) {
            s[0].step = s[1].step = step;
            u.g = array_random(n, 10 + step);
            be->ops->update(be, &u);
            be->ops->average(be, &av);
        }
    }
    assert_close(isa, w[1], w[0], n, 1e-6);
    assert_close(isa, m1[1], m1[0], n, 1e-6);
    assert_close(isa, avg[1], avg[0], n, 1e-6);
}

static void test_update(void **state)
{
    each(update_case, 15);
}

/* Gathering with every augmentation, and dropout: the same bits as the reference, whose draws define
 * them. */
static void random_case(struct nn_backend *ref, struct nn_backend *fast, const char *isa, int i)
{
    enum { N = 40 };
    uint64_t seed = 1200 + (uint64_t)i;
    struct nn_scalars s[2];
    struct nn_gather g = {.m = 2, .b = 7, .leads = 3, .labels = 2, .n = N, .train = 1, .s = s};
    uint32_t index[N];
    memset(s, 0, sizeof s);
    for (int m = 0; m < 2; m++)
        s[m] = (struct nn_scalars){.seed = seed << 33 | (uint64_t)m,
                                   .epoch = 3,
                                   .row0 = 9,
                                   .mixup = 0.3f,
                                   .smooth = 0.1f,
                                   .aug_shift = 9,
                                   .aug_scale = 0.2f,
                                   .aug_noise = 0.1f,
                                   .aug_lead = 0.2f,
                                   .aug_mask = 0.2f};
    for (uint32_t r = 0; r < N; r++) index[r] = r;
    g.samples = pick(seed, 0, 1, 200);
    g.index = index;
    g.data_x = array_random((size_t)(N * g.leads * g.samples), 1);
    g.data_y = array_filled((size_t)(N * g.labels), 1);
    size_t nx = (size_t)(g.m * g.b * g.leads * g.samples), ny = (size_t)(g.m * g.b * g.labels);
    float *x[2], *kept[2];
    struct nn_dropout d = {.m = 2, .b = 7, .width = g.leads * g.samples, .layer = 5, .p = 0.3f};
    d.s = s;
    for (int k = 0; k < 2; k++) {
        struct nn_backend *be = k ? fast : ref;
        g.x = x[k] = array_filled(nx, 0);
        g.y = array_filled(ny, 0);
        be->ops->gather(be, &g);
        d.x = x[0];
        d.y = kept[k] = array_filled(nx, 7);
        be->ops->dropout_forward(be, &d);
    }
    assert_same_bits(isa, x[1], x[0], nx);
    assert_same_bits(isa, kept[1], kept[0], nx);
}

static void test_random(void **state)
{
    each(random_case, 12);
}

/* Largest error of got against want in units of the last place of want. */
static double ulps(float got, double want)
{
    float w = (float)want;
    double unit = fmax(fabs((double)nextafterf(w, INFINITY) - w), 1e-45);
    return fabs(got - want) / unit;
}

/* The approximations stay within 4 units in the last place over the whole range, and keep limits. */
static void test_math(void **state)
{
    enum { N = 400001 };
    const char *isa[MAX_ISA];
    int n = isa_list(isa);
    float *x = array_filled(N, 0), *y = array_filled(N, 0), *z = array_filled(N, 0);
    for (int i = 0; i < N; i++) x[i] = (float)(i - N / 2) * 4.3e-4f;
    for (int i = 0; i < 2000; i++) x[i * 17] = ldexpf(1.0f + (float)i / 2000, -(i % 60));
    for (int f = 0; f < n; f++) {
        struct nn_backend *be = backend_of(isa[f], 1);
        const struct cpu_kernels *k = cpu_train_of(be)->k;
        double worst[2] = {0, 0};
        k->sigmoid(x, y, N);
        k->tanh(x, z, N);
        for (int i = 0; i < N; i++) {
            worst[0] = fmax(worst[0], ulps(y[i], 1 / (1 + exp(-(double)x[i]))));
            worst[1] = fmax(worst[1], ulps(z[i], tanh(x[i])));
        }
        print_message("%s: sigmoid within %.2f units in the last place, tanh %.2f\n", isa[f],
                      worst[0], worst[1]);
        assert_true(worst[0] <= 4 && worst[1] <= 4);
        float odd[5] = {NAN, INFINITY, -INFINITY, 1e30f, -0.0f}, s[5], t[5];
        k->sigmoid(odd, s, 5);
        k->tanh(odd, t, 5);
        assert_true(isnan(s[0]) && isnan(t[0]));
        assert_true(s[1] == 1 && s[2] < 1e-37f && s[4] == 0.5f);
        assert_true(t[1] == 1 && t[2] == -1 && t[3] == 1 && t[4] == 0);
        backend_free(be);
    }
    arrays_free();
}

static void test_choice(void **state)
{
    struct nn_backend *be;
    struct cn_error err;
    struct cpu_train_options opt = {.threads = 1};
    const char *isa[MAX_ISA];
    int n = isa_list(isa);
    unsetenv("CINCH_ISA");
    assert_int_equal(cpu_train_create(&be, &opt, &err), 0);
    assert_string_equal(cpu_train_of(be)->k->isa, isa[n - 1]); /* the best there is */
    backend_free(be);
    for (int i = 0; i < n; i++) {
        setenv("CINCH_ISA", isa[i], 1);
        assert_int_equal(cpu_train_create(&be, &opt, &err), 0);
        assert_string_equal(cpu_train_of(be)->k->isa, isa[i]);
        backend_free(be);
    }
    setenv("CINCH_ISA", "avx1024", 1);
    assert_int_equal(cpu_train_create(&be, &opt, &err), CN_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "avx1024"));
    unsetenv("CINCH_ISA");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layernorm), cmocka_unit_test(test_eltwise),
        cmocka_unit_test(test_maxpool),   cmocka_unit_test(test_linear_and_mean),
        cmocka_unit_test(test_update),    cmocka_unit_test(test_random),
        cmocka_unit_test(test_math),      cmocka_unit_test(test_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
