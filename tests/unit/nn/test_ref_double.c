/* Finite differences of every reference op, in double: this file compiles the ops of cpu/train a
 * second time with `float` spelled `double`, so that central differences have twelve digits to work
 * with. For a fixed random vector v, f(input) = Σ v·output; each gradient that backward gives for
 * dy = v is compared with (f(x + h) - f(x - h)) / 2h, element by element. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/pool.h"

#define float double
#define expf exp
#define tanhf tanh
#define sqrtf sqrt
#define powf pow
#define rintf rint

#include "cpu/train/ref_conv.c"
#include "cpu/train/ref_eltwise.c"
#include "cpu/train/ref_linear.c"
#include "cpu/train/ref_loss.c"
#include "cpu/train/ref_lstm.c"
#include "cpu/train/ref_norm.c"

#define STEP 1e-6
#define LIMIT 4096

static struct cpu_train context;
static struct nn_backend *const be = &context.be;

/* Random numbers in (-1, 1). */
static double *random_array(size_t n, uint64_t seed)
{
    double *v = malloc((n + 1) * sizeof *v);
    for (size_t i = 0; i < n; i++) {
        cn_rng4 r = cn_rng(seed, 1003, 0, i);
        v[i] = ((double)r.v[0] + 0.5) / 2147483648.0 - 1;
    }
    return v;
}

/* An op under test: what it reads, what it writes, and its gradients. */
struct probe {
    int (*forward)(void *op);
    void *op;
    double *out; /* what forward writes */
    size_t n_out;
    const double *v; /* [n_out] */
    const char *name;
};

static double value(const struct probe *p)
{
    double sum = 0;
    assert_int_equal(p->forward(p->op), 0);
    for (size_t i = 0; i < p->n_out; i++) sum += p->v[i] * p->out[i];
    return sum;
}

/* Compares `grad` with differences in `input`, all n of them. */
static void check(const struct probe *p, const char *what, double *input, const double *grad,
                  size_t n)
{
    double worst = 0, scale = 0;
    for (size_t i = 0; i < n; i++) scale = fmax(scale, fabs(grad[i]));
    assert_true(scale > 1e-9 && n < LIMIT); /* a gradient that is zero everywhere tests nothing */
    for (size_t i = 0; i < n; i++) {
        double keep = input[i];
        input[i] = keep + STEP;
        double up = value(p);
        input[i] = keep - STEP;
        double down = value(p);
        input[i] = keep;
        worst = fmax(worst, fabs((up - down) / (2 * STEP) - grad[i]) / scale);
    }
    if (worst > 1e-7) fail_msg("%s: gradient of %s off by %g", p->name, what, worst);
}

static int conv_op(void *op)
{
    return ref_conv1d_forward(be, op);
}

/* Gang of two, with bias, padding wider than the kernel needs, and an input gradient that adds to
 * what is there. */
static void conv1d(void **state)
{
    for (int pad = 0; pad <= 3; pad++) {
        struct nn_conv1d a = {.m = 2, .b = 2, .cin = 3, .cout = 4, .tin = 9, .k = 4, .pad = pad};
        a.tout = a.tin + 2 * pad - a.k + 1;
        size_t nx = 2 * 2 * 3 * 9, ny = (size_t)(2 * 2 * 4 * a.tout), nw = 2 * 52;
        double *x = random_array(nx, 1), *w = random_array(nw, 2), *v = random_array(ny, 3);
        double *y = random_array(ny, 4), *dx = random_array(nx, 5), *dw = random_array(nw, 6);
        double *before = random_array(nx, 5);
        a.stride = 52;
        a.x = x, a.w = w, a.bias = w + 48, a.y = y;
        a.dy = v, a.dx = dx, a.dx_add = pad % 2, a.dw = dw, a.dbias = dw + 48;
        assert_int_equal(ref_conv1d_backward(be, &a), 0);
        for (size_t i = 0; i < nx && a.dx_add; i++) dx[i] -= before[i];
        struct probe p = {conv_op, &a, y, ny, v, "conv1d"};
        check(&p, "x", x, dx, nx);
        check(&p, "weights and biases", w, dw, nw);
        double *const own[] = {x, w, v, y, dx, dw, before};
        for (int i = 0; i < 7; i++) free(own[i]);
    }
}

static int batchnorm_op(void *op)
{
    return ref_batchnorm_forward(be, op);
}

static void batchnorm(void **state)
{
    struct nn_batchnorm a = {.m = 2, .b = 3, .c = 4, .t = 5, .stride = 8, .train = 1};
    size_t n = 2 * 3 * 4 * 5;
    double *x = random_array(n, 1), *w = random_array(16, 2), *v = random_array(n, 3);
    double *y = random_array(n, 4), *dx = random_array(n, 5), *dw = random_array(16, 6);
    double mean[16] = {0}, var[16] = {0}, save[16];
    a.eps = 1e-5, a.momentum = 0.1;
    a.x = x, a.w = w, a.bias = w + 4, a.y = y, a.dy = v, a.dx = dx, a.dw = dw, a.dbias = dw + 4;
    a.running_mean = mean, a.running_var = var, a.save_mean = save, a.save_rstd = save + 8;
    struct probe p = {batchnorm_op, &a, y, n, v, "batchnorm"};
    value(&p);
    assert_int_equal(ref_batchnorm_backward(be, &a), 0);
    check(&p, "x", x, dx, n);
    check(&p, "weight and bias", w, dw, 16);
    double *const own[] = {x, w, v, y, dx, dw};
    for (int i = 0; i < 6; i++) free(own[i]);
}

static int layernorm_op(void *op)
{
    return ref_layernorm_forward(be, op);
}

static void layernorm(void **state)
{
    struct nn_layernorm a = {.m = 2, .b = 3, .c = 4, .t = 5, .stride = 8, .eps = 1e-5};
    size_t n = 2 * 3 * 4 * 5;
    double *x = random_array(n, 1), *w = random_array(16, 2), *v = random_array(n, 3);
    double *y = random_array(n, 4), *dx = random_array(n, 5), *dw = random_array(16, 6), save[60];
    a.x = x, a.w = w, a.bias = w + 4, a.y = y, a.dy = v, a.dx = dx, a.dw = dw, a.dbias = dw + 4;
    a.save_mean = save, a.save_rstd = save + 30;
    struct probe p = {layernorm_op, &a, y, n, v, "layernorm"};
    value(&p);
    assert_int_equal(ref_layernorm_backward(be, &a), 0);
    check(&p, "x", x, dx, n);
    check(&p, "weight and bias", w, dw, 16);
    double *const own[] = {x, w, v, y, dx, dw};
    for (int i = 0; i < 6; i++) free(own[i]);
}

static int lstm_op(void *op)
{
    return ref_lstm_forward(be, op);
}

static void lstm(void **state)
{
    enum { M = 2, B = 2, C = 3, H = 4, T = 6, P = 4 * H * (C + H + 2) };
    struct nn_lstm a = {.m = M, .b = B, .c = C, .h = H, .t = T, .stride = P, .train = 1};
    size_t nx = M * B * C * T, ny = M * B * H * T, ns = (size_t)ref_lstm_save_floats(be, &a);
    double *x = random_array(nx, 1), *w = random_array(M * P, 2), *v = random_array(ny, 3);
    double *y = random_array(ny, 4), *dx = random_array(nx, 5), *dw = random_array(M * P, 6);
    double *save = random_array(ns, 7);
    double *part[2] = {w, dw};
    a.x = x, a.y = y, a.save = save, a.dy = v, a.dx = dx;
    a.w_ih = part[0], a.w_hh = a.w_ih + 4 * H * C;
    a.b_ih = a.w_hh + 4 * H * H, a.b_hh = a.b_ih + 4 * H;
    a.dw_ih = part[1], a.dw_hh = a.dw_ih + 4 * H * C;
    a.db_ih = a.dw_hh + 4 * H * H, a.db_hh = a.db_ih + 4 * H;
    struct probe p = {lstm_op, &a, y, ny, v, "lstm"};
    value(&p);
    assert_int_equal(ref_lstm_backward(be, &a), 0);
    check(&p, "x", x, dx, nx);
    check(&p, "weights and biases", w, dw, M * P);
    double *const own[] = {x, w, v, y, dx, dw, save};
    for (int i = 0; i < 7; i++) free(own[i]);
}

static int linear_op(void *op)
{
    return ref_linear_forward(be, op);
}

static void linear(void **state)
{
    struct nn_linear a = {.m = 2, .b = 3, .in = 7, .out = 4, .stride = 32};
    double *x = random_array(42, 1), *w = random_array(64, 2), *v = random_array(24, 3);
    double *y = random_array(24, 4), *dx = random_array(42, 5), *dw = random_array(64, 6);
    a.x = x, a.w = w, a.bias = w + 28, a.y = y, a.dy = v, a.dx = dx, a.dw = dw, a.dbias = dw + 28;
    struct probe p = {linear_op, &a, y, 24, v, "linear"};
    assert_int_equal(ref_linear_backward(be, &a), 0);
    check(&p, "x", x, dx, 42);
    check(&p, "weights and biases", w, dw, 64);
    double *const own[] = {x, w, v, y, dx, dw};
    for (int i = 0; i < 6; i++) free(own[i]);
}

static int relu_op(void *op)
{
    return ref_relu_forward(be, op);
}

static int add_op(void *op)
{
    return ref_add_forward(be, op);
}

static void relu_and_add(void **state)
{
    size_t n = 100;
    double *x = random_array(n, 1), *x2 = random_array(n, 2), *v = random_array(n, 3);
    double *y = random_array(n, 4), *dx = random_array(n, 5), *before = random_array(n, 5);
    for (int add = 0; add < 2; add++) {
        struct nn_eltwise a = {.n = (int64_t)n, .x = x, .x2 = x2, .y = y, .dy = v, .dx = dx};
        struct probe p = {relu_op, &a, y, n, v, "relu"};
        memcpy(dx, before, n * sizeof *dx);
        a.dx_add = add;
        value(&p);
        assert_int_equal(ref_relu_backward(be, &a), 0);
        for (size_t i = 0; i < n && add; i++) dx[i] -= before[i];
        check(&p, "x", x, dx, n);
        p = (struct probe){add_op, &a, y, n, v, "add"};
        memcpy(dx, before, n * sizeof *dx);
        assert_int_equal(ref_add_backward(be, &a), 0);
        for (size_t i = 0; i < n && add; i++) dx[i] -= before[i];
        check(&p, "x", x, dx, n);
        check(&p, "x2", x2, dx, n);
    }
    double *const own[] = {x, x2, v, y, dx, before};
    for (int i = 0; i < 6; i++) free(own[i]);
}

static int pool_op(void *op)
{
    return ref_maxpool_forward(be, op);
}

static int mean_op(void *op)
{
    return ref_mean_forward(be, op);
}

static void pools(void **state)
{
    double *x = random_array(6 * 11, 1), *v = random_array(18, 2), *y = random_array(18, 3);
    double *dx = random_array(6 * 11, 4);
    uint8_t arg[18];
    struct nn_pool a = {.rows = 6, .tin = 11, .tout = 3, .k = 3, .x = x, .y = y, .arg = arg};
    a.dy = v, a.dx = dx;
    struct probe p = {pool_op, &a, y, 18, v, "maxpool"};
    value(&p);
    assert_int_equal(ref_maxpool_backward(be, &a), 0);
    check(&p, "x", x, dx, 66);
    struct nn_mean m = {.rows = 6, .t = 11, .x = x, .y = y, .dy = v, .dx = dx};
    p = (struct probe){mean_op, &m, y, 6, v, "mean"};
    assert_int_equal(ref_mean_backward(be, &m), 0);
    check(&p, "x", x, dx, 66);
    double *const own[] = {x, v, y, dx};
    for (int i = 0; i < 4; i++) free(own[i]);
}

static int dropout_op(void *op)
{
    return ref_dropout_forward(be, op);
}

/* Also: a share of about 1-p stays, scaled by 1/(1-p), and the draw does not depend on how rows are
 * cut into batches. */
static void dropout(void **state)
{
    struct nn_scalars s[2] = {{.seed = 5, .epoch = 3, .row0 = 7}, {.seed = 6}};
    struct nn_dropout a = {.m = 2, .b = 10, .width = 100, .layer = 4, .p = 0.3, .s = s};
    double *x = random_array(2000, 1), *v = random_array(2000, 2), *y = random_array(2000, 3);
    double *dx = random_array(2000, 4), *row = random_array(100, 5);
    a.x = x, a.y = y, a.dy = v, a.dx = dx;
    struct probe p = {dropout_op, &a, y, 2000, v, "dropout"};
    value(&p);
    int stay = 0;
    for (int i = 0; i < 2000; i++) {
        stay += y[i] != 0;
        assert_true(y[i] == 0 || fabs(y[i] - x[i] / 0.7) < 1e-12);
    }
    assert_true(abs(stay - 1400) < 80);
    assert_int_equal(ref_dropout_backward(be, &a), 0);
    check(&p, "x", x, dx, 2000);
    struct nn_scalars later = {.seed = 5, .epoch = 3, .row0 = 12};
    struct nn_dropout one = {.m = 1, .b = 1, .width = 100, .layer = 4, .p = 0.3, .s = &later};
    one.x = x + 500, one.y = row;
    assert_int_equal(ref_dropout_forward(be, &one), 0);
    assert_memory_equal(row, y + 500, 100 * sizeof *row);
    double *const own[] = {x, v, y, dx, row};
    for (int i = 0; i < 5; i++) free(own[i]);
}

static int loss_op(void *op)
{
    return ref_loss(be, op);
}

static void losses(void **state)
{
    for (int kind = 0; kind < 4; kind++) {
        int ce = kind / 2, distilled = kind % 2;
        struct nn_scalars s[2] = {{.alpha = 0.4, .step = 1}, {.alpha = 1, .step = 1}};
        double class_weight[] = {1, 2, 0.5, 1.5, 1}, out[2], sum[2] = {1, 2};
        const double one[] = {1, 1}; /* f = loss of member 0 + loss of member 1 */
        double *z = random_array(40, 1), *y = random_array(40, 2), *t = random_array(40, 3);
        double *dz = random_array(40, 4);
        for (int r = 0; r < 8; r++) {
            double total = 0;
            for (int l = 0; l < 5; l++) total += t[r * 5 + l] = 0.5 + 0.45 * t[r * 5 + l];
            for (int l = 0; l < 5 && ce; l++) t[r * 5 + l] /= total;
            for (int l = 0; l < 5; l++) y[r * 5 + l] = ce ? r % 5 == l : y[r * 5 + l] > 0;
        }
        struct nn_loss_args a = {.m = 2, .b = 4, .labels = 5, .cross_entropy = ce, .s = s};
        a.z = z, a.y = y, a.t = distilled ? t : NULL, a.loss = out;
        a.class_weight = class_weight;
        struct probe p = {loss_op, &a, out, 2, one, ce ? "cross-entropy" : "bce"};
        value(&p);
        a.dz = dz, a.loss_sum = sum;
        assert_int_equal(ref_loss(be, &a), 0);
        assert_true(fabs(sum[1] - 2 - 4 * out[1]) < 1e-12);
        a.dz = NULL, a.loss_sum = NULL;
        check(&p, "logits", z, dz, 40);
        double *const own[] = {z, y, t, dz};
        for (int i = 0; i < 4; i++) free(own[i]);
    }
}

/* The first step whose loss is not finite is remembered, later ones do not replace it. */
static void bad_losses_latch(void **state)
{
    struct nn_scalars s[2] = {{.alpha = 1, .step = 7}, {.alpha = 1, .step = 7}};
    double z[2] = {1, NAN}, y[2] = {1, 0}, out[2];
    uint32_t bad[2] = {0, 0};
    struct nn_loss_args a = {.m = 2, .b = 1, .labels = 1, .s = s, .z = z, .y = y, .loss = out};
    a.bad = bad;
    assert_int_equal(ref_loss(be, &a), 0);
    assert_true(bad[0] == 0 && bad[1] == 7);
    s[0].step = s[1].step = 8;
    z[0] = -INFINITY;
    assert_int_equal(ref_loss(be, &a), 0);
    assert_true(bad[0] == 8 && bad[1] == 7);
}

int main(void)
{
    context.be.ctx = &context;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv1d),    cmocka_unit_test(batchnorm),
        cmocka_unit_test(layernorm), cmocka_unit_test(lstm),
        cmocka_unit_test(linear),    cmocka_unit_test(relu_and_add),
        cmocka_unit_test(pools),     cmocka_unit_test(dropout),
        cmocka_unit_test(losses),    cmocka_unit_test(bad_losses_latch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
