/* Every op of the GPU backend against the CPU's plain loops: odd shapes, pruned widths, gangs. Runs
 * on a card, or on a PTX interpreter where there is none (tests/gpu/run.sh). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "tests/gpu/pair.h"

#define EACH(i) for (int i = 0; i < BOTH; i++)
#define OPS(i) (pair_be[i]->ops)

static const float NEW_LO = 1, NEW_HI = 0; /* pair_new: filled with NaN */

struct conv_case {
    int m, b, cin, cout, tin, k, pad, bias, dx_add;
};

static void conv_one(struct conv_case c)
{
    int tout = c.tin + 2 * c.pad - c.k + 1;
    size_t nw = (size_t)c.cout * c.cin * c.k, stride = nw + (size_t)c.cout + 3;
    size_t nx = (size_t)c.m * c.b * c.cin * c.tin, ny = (size_t)c.m * c.b * c.cout * tout;
    struct pair_buf x = pair_new(nx, -1, 1), w = pair_new(stride * c.m, -1, 1),
                    y = pair_new(ny, NEW_LO, NEW_HI);
    struct pair_buf dy = pair_new(ny, -1, 1), dx = pair_new(nx, -1, 1),
                    dw = pair_new(stride * c.m, 0, 0);
    EACH(i)
    {
        struct nn_conv1d a = {.m = c.m,
                              .b = c.b,
                              .cin = c.cin,
                              .cout = c.cout,
                              .tin = c.tin,
                              .tout = tout,
                              .k = c.k,
                              .pad = c.pad,
                              .stride = (int64_t)stride,
                              .x = AT(x, i),
                              .w = AT(w, i),
                              .bias = c.bias ? AT(w, i) + nw : NULL,
                              .y = AT(y, i)};
        pair_ok(OPS(i)->conv1d_forward(pair_be[i], &a), i, "conv1d");
        a.dy = AT(dy, i);
        a.dx = AT(dx, i);
        a.dx_add = c.dx_add;
        a.dw = AT(dw, i);
        a.dbias = c.bias ? AT(dw, i) + nw : NULL;
        pair_ok(OPS(i)->conv1d_backward(pair_be[i], &a), i, "conv1d gradient");
    }
    char what[96];
    snprintf(what, sizeof what, "conv m%d b%d %d->%d t%d k%d pad%d", c.m, c.b, c.cin, c.cout, c.tin,
             c.k, c.pad);
    pair_equal(what, y, 1e-5);
    pair_equal(what, dx, 1e-5);
    pair_equal(what, dw, 2e-5);
    pair_release_all();
}

static void conv(void **state)
{
    static const struct conv_case cases[] = {
        {1, 2, 12, 32, 150, 3, 0, 0, 0}, {1, 1, 32, 64, 41, 3, 0, 0, 0},
        {2, 2, 7, 9, 37, 3, 0, 0, 1},    {1, 1, 12, 64, 70, 7, 3, 0, 0},
        {1, 2, 13, 65, 33, 7, 3, 0, 1},  {1, 1, 17, 40, 50, 5, 2, 0, 0},
        {2, 1, 5, 3, 20, 1, 0, 0, 1},    {1, 2, 1, 5, 60, 3, 0, 1, 0},
        {1, 1, 5, 10, 40, 4, 0, 1, 0},   {1, 3, 10, 20, 40, 4, 0, 1, 0},
        {3, 1, 1, 1, 3, 3, 0, 0, 0},     {1, 1, 65, 2, 9, 10, 4, 1, 0},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) conv_one(cases[k]);
}

static void batchnorm_one(int m, int b, int c, int t, int train)
{
    size_t stride = (size_t)2 * c + 5, n = (size_t)m * b * c * t;
    struct pair_buf x = pair_new(n, 3, 5), w = pair_new(stride * m, -1, 1),
                    run = pair_new(stride * m, 0.5f, 1.5f);
    struct pair_buf save = pair_new((size_t)2 * m * c, NEW_LO, NEW_HI),
                    y = pair_new(n, NEW_LO, NEW_HI);
    struct pair_buf dy = pair_new(n, -1, 1), dx = pair_new(n, NEW_LO, NEW_HI),
                    dw = pair_new(stride * m, 0, 0);
    EACH(i)
    {
        struct nn_batchnorm a = {.m = m,
                                 .b = b,
                                 .c = c,
                                 .t = t,
                                 .stride = (int64_t)stride,
                                 .train = train,
                                 .eps = 1e-5f,
                                 .momentum = 0.1f,
                                 .x = AT(x, i),
                                 .w = AT(w, i),
                                 .bias = AT(w, i) + c,
                                 .running_mean = AT(run, i),
                                 .running_var = AT(run, i) + c,
                                 .save_mean = AT(save, i),
                                 .save_rstd = AT(save, i) + m * c,
                                 .y = AT(y, i)};
        pair_ok(OPS(i)->batchnorm_forward(pair_be[i], &a), i, "batchnorm");
        if (!train) continue;
        a.dy = AT(dy, i);
        a.dx = AT(dx, i);
        a.dw = AT(dw, i);
        a.dbias = AT(dw, i) + c;
        pair_ok(OPS(i)->batchnorm_backward(pair_be[i], &a), i, "batchnorm gradient");
    }
    pair_equal("batchnorm y", y, 2e-5);
    pair_equal("running statistics", run, 1e-5);
    if (train) {
        pair_equal("batchnorm dx", dx, 5e-5);
        pair_equal("batchnorm dw", dw, 5e-5);
    }
    pair_release_all();
}

static void batchnorm(void **state)
{
    batchnorm_one(1, 4, 3, 50, 1);
    batchnorm_one(2, 3, 7, 11, 1);
    batchnorm_one(1, 1, 1, 2, 1);
    batchnorm_one(2, 2, 5, 9, 0);
}

static void relu_add_mean(void **state)
{
    enum { N = 1003 };
    struct pair_buf x = pair_new(N, -1, 1), x2 = pair_new(N, -1, 1),
                    y = pair_new(N, NEW_LO, NEW_HI), dy = pair_new(N, -1, 1);
    struct pair_buf dx = pair_new(N, -1, 1), sum = pair_new(N, NEW_LO, NEW_HI),
                    dsum = pair_new(N, -1, 1);
    struct pair_buf mean = pair_new(17, NEW_LO, NEW_HI), dmean = pair_new(17 * 59, NEW_LO, NEW_HI);
    EACH(i)
    {
        struct nn_eltwise a = {
            .n = N, .x = AT(x, i), .y = AT(y, i), .dy = AT(dy, i), .dx = AT(dx, i), .dx_add = 1};
        pair_ok(OPS(i)->relu_forward(pair_be[i], &a), i, "relu");
        pair_ok(OPS(i)->relu_backward(pair_be[i], &a), i, "relu gradient");
        struct nn_eltwise s = {.n = N,
                               .x = AT(x, i),
                               .x2 = AT(x2, i),
                               .y = AT(sum, i),
                               .dy = AT(dy, i),
                               .dx = AT(dsum, i)};
        pair_ok(OPS(i)->add_forward(pair_be[i], &s), i, "add");
        pair_ok(OPS(i)->add_backward(pair_be[i], &s), i, "add gradient");
        struct nn_mean e = {.rows = 17,
                            .t = 59,
                            .x = AT(x, i),
                            .y = AT(mean, i),
                            .dy = AT(x2, i),
                            .dx = AT(dmean, i)};
        pair_ok(OPS(i)->mean_forward(pair_be[i], &e), i, "mean");
        pair_ok(OPS(i)->mean_backward(pair_be[i], &e), i, "mean gradient");
    }
    pair_equal("relu", y, 0);
    pair_equal("relu gradient", dx, 0);
    pair_equal("add", sum, 0);
    pair_equal("add gradient", dsum, 0);
    pair_equal("mean", mean, 1e-6);
    pair_equal("mean gradient", dmean, 1e-6);
    pair_release_all();
}

static void maxpool_one(int rows, int tin, int k, float lo)
{
    int tout = tin / k;
    size_t nx = (size_t)rows * tin, ny = (size_t)rows * tout;
    /* lo = 0 with hi = 0: all equal, the first of equal maxima must win */
    struct pair_buf x = pair_new(nx, lo, -lo), y = pair_new(ny, NEW_LO, NEW_HI),
                    arg = pair_new(ny / 4 + 1, 0, 0);
    struct pair_buf dy = pair_new(ny, -1, 1), dx = pair_new(nx, NEW_LO, NEW_HI);
    EACH(i)
    {
        struct nn_pool a = {.rows = rows,
                            .tin = tin,
                            .tout = tout,
                            .k = k,
                            .x = AT(x, i),
                            .y = AT(y, i),
                            .arg = (uint8_t *)arg.dev[i],
                            .dy = AT(dy, i),
                            .dx = AT(dx, i)};
        pair_ok(OPS(i)->maxpool_forward(pair_be[i], &a), i, "maxpool");
        pair_ok(OPS(i)->maxpool_backward(pair_be[i], &a), i, "maxpool gradient");
    }
    pair_equal("maxpool", y, 0);
    pair_equal("maxpool gradient", dx, 0);
    pair_release_all();
}

static void maxpool(void **state)
{
    maxpool_one(7, 100, 3, -1);
    maxpool_one(5, 128, 125, -1);
    maxpool_one(3, 9, 3, 0);
    maxpool_one(4, 11, 2, -1);
}

static void lstm_one(int m, int b, int c, int h, int t)
{
    size_t nih = (size_t)4 * h * c, nhh = (size_t)4 * h * h, stride = nih + nhh + (size_t)8 * h + 1;
    size_t nx = (size_t)m * b * c * t, ny = (size_t)m * b * h * t;
    struct pair_buf x = pair_new(nx, -1, 1), w = pair_new(stride * m, -0.3f, 0.3f),
                    y = pair_new(ny, NEW_LO, NEW_HI);
    struct pair_buf dy = pair_new(ny, -1, 1), dx = pair_new(nx, NEW_LO, NEW_HI),
                    dw = pair_new(stride * m, 0, 0);
    EACH(i)
    {
        float *p = AT(w, i), *g = AT(dw, i);
        struct nn_lstm a = {.m = m,
                            .b = b,
                            .c = c,
                            .h = h,
                            .t = t,
                            .stride = (int64_t)stride,
                            .train = 1,
                            .x = AT(x, i),
                            .w_ih = p,
                            .w_hh = p + nih,
                            .b_ih = p + nih + nhh,
                            .b_hh = p + nih + nhh + 4 * h,
                            .y = AT(y, i)};
        int64_t n = OPS(i)->lstm_save_floats(pair_be[i], &a);
        pair_ok(OPS(i)->alloc(pair_be[i], (size_t)n * sizeof(float), (void **)&a.save), i, "alloc");
        pair_ok(OPS(i)->lstm_forward(pair_be[i], &a), i, "lstm");
        a.dy = AT(dy, i);
        a.dx = AT(dx, i);
        a.dw_ih = g;
        a.dw_hh = g + nih;
        a.db_ih = g + nih + nhh;
        a.db_hh = g + nih + nhh + 4 * h;
        pair_ok(OPS(i)->lstm_backward(pair_be[i], &a), i, "lstm gradient");
        OPS(i)->release(pair_be[i], a.save);
    }
    char what[64];
    snprintf(what, sizeof what, "lstm m%d b%d c%d h%d t%d", m, b, c, h, t);
    pair_equal(what, y, 1e-5);
    pair_equal(what, dx, 5e-5);
    pair_equal(what, dw, 5e-5);
    pair_release_all();
}

static void lstm(void **state)
{
    lstm_one(1, 2, 12, 64, 40);
    lstm_one(2, 1, 12, 8, 33);
    lstm_one(1, 2, 5, 3, 32);
    lstm_one(1, 1, 12, 48, 9);
    lstm_one(1, 1, 1, 17, 1);
    lstm_one(1, 1, 18, 20, 5); /* more inputs than registers hold: the _any kernels */
    lstm_one(1, 1, 2, 70, 4);
}

static void layernorm_one(int m, int b, int c, int t)
{
    size_t stride = (size_t)2 * c + 1, n = (size_t)m * b * c * t;
    struct pair_buf x = pair_new(n, -1, 3), w = pair_new(stride * m, -1, 1),
                    y = pair_new(n, NEW_LO, NEW_HI);
    struct pair_buf save = pair_new((size_t)2 * m * b * t, NEW_LO, NEW_HI), dy = pair_new(n, -1, 1);
    struct pair_buf dx = pair_new(n, NEW_LO, NEW_HI), dw = pair_new(stride * m, 0, 0);
    EACH(i)
    {
        struct nn_layernorm a = {.m = m,
                                 .b = b,
                                 .c = c,
                                 .t = t,
                                 .stride = (int64_t)stride,
                                 .eps = 1e-5f,
                                 .x = AT(x, i),
                                 .w = AT(w, i),
                                 .bias = AT(w, i) + c,
                                 .save_mean = AT(save, i),
                                 .save_rstd = AT(save, i) + m * b * t,
                                 .y = AT(y, i),
                                 .dy = AT(dy, i),
                                 .dx = AT(dx, i),
                                 .dw = AT(dw, i),
                                 .dbias = AT(dw, i) + c};
        pair_ok(OPS(i)->layernorm_forward(pair_be[i], &a), i, "layernorm");
        pair_ok(OPS(i)->layernorm_backward(pair_be[i], &a), i, "layernorm gradient");
    }
    pair_equal("layernorm", y, 2e-5);
    pair_equal("layernorm dx", dx, 5e-5);
    pair_equal("layernorm dw", dw, 5e-5);
    pair_release_all();
}

static void layernorm(void **state)
{
    layernorm_one(1, 3, 64, 20);
    layernorm_one(2, 2, 7, 35);
    layernorm_one(1, 1, 3, 1);
}

static void linear_one(int m, int b, int in, int out)
{
    size_t nw = (size_t)in * out, stride = nw + (size_t)out + 2;
    struct pair_buf x = pair_new((size_t)m * b * in, -1, 1), w = pair_new(stride * m, -1, 1);
    struct pair_buf y = pair_new((size_t)m * b * out, NEW_LO, NEW_HI),
                    dy = pair_new((size_t)m * b * out, -1, 1);
    struct pair_buf dx = pair_new((size_t)m * b * in, NEW_LO, NEW_HI),
                    dw = pair_new(stride * m, 0, 0);
    EACH(i)
    {
        struct nn_linear a = {.m = m,
                              .b = b,
                              .in = in,
                              .out = out,
                              .stride = (int64_t)stride,
                              .x = AT(x, i),
                              .w = AT(w, i),
                              .bias = AT(w, i) + nw,
                              .y = AT(y, i),
                              .dy = AT(dy, i),
                              .dx = AT(dx, i),
                              .dw = AT(dw, i),
                              .dbias = AT(dw, i) + nw};
        pair_ok(OPS(i)->linear_forward(pair_be[i], &a), i, "linear");
        pair_ok(OPS(i)->linear_backward(pair_be[i], &a), i, "linear gradient");
    }
    pair_equal("linear", y, 1e-5);
    pair_equal("linear dx", dx, 1e-5);
    pair_equal("linear dw", dw, 1e-5);
    pair_release_all();
}

static void linear(void **state)
{
    linear_one(1, 9, 352, 5);
    linear_one(3, 2, 31, 7);
    linear_one(1, 1, 1, 1);
}

static void fill_scalars(struct nn_scalars *s, int m)
{
    memset(s, 0, sizeof *s * (size_t)m);
    for (int i = 0; i < m; i++)
        s[i] = (struct nn_scalars){.seed = 77 + (uint64_t)i,
                                   .epoch = 3,
                                   .row0 = 5,
                                   .step = 2 + (uint32_t)i,
                                   .lr = 0.01f,
                                   .alpha = i ? 1.0f : 0.4f,
                                   .momentum = 0.9f,
                                   .weight_decay = 0.01f,
                                   .beta1 = 0.9f,
                                   .beta2 = 0.999f,
                                   .eps = 1e-8f,
                                   .ema = 0.9f,
                                   .smooth = 0.1f,
                                   .mixup = i ? 0.0f : 0.4f,
                                   .aug_shift = 9,
                                   .aug_scale = 0.2f,
                                   .aug_noise = 0.1f,
                                   .aug_lead = 0.3f,
                                   .aug_mask = 0.4f};
}

static void dropout(void **state)
{
    enum { M = 2, B = 3, W = 101, N = M * B * W };
    struct nn_scalars s[M];
    fill_scalars(s, M);
    struct pair_buf sc = pair_from(s, sizeof s), x = pair_new(N, -1, 1),
                    y = pair_new(N, NEW_LO, NEW_HI);
    struct pair_buf dx = pair_new(N, NEW_LO, NEW_HI);
    EACH(i)
    {
        struct nn_dropout a = {.m = M,
                               .b = B,
                               .width = W,
                               .layer = 4,
                               .p = 0.3f,
                               .s = sc.dev[i],
                               .x = AT(x, i),
                               .y = AT(y, i),
                               .dy = AT(x, i),
                               .dx = AT(dx, i)};
        pair_ok(OPS(i)->dropout_forward(pair_be[i], &a), i, "dropout");
        pair_ok(OPS(i)->dropout_backward(pair_be[i], &a), i, "dropout gradient");
    }
    pair_equal("dropout", y, 1e-6);
    pair_equal("dropout gradient", dx, 1e-6);
    pair_release_all();
}

static void loss_one(int cross_entropy, int teacher, int weights)
{
    enum { M = 2, B = 37, L = 5, N = M * B * L };
    struct nn_scalars s[M];
    fill_scalars(s, M);
    struct pair_buf sc = pair_from(s, sizeof s), z = pair_new(N, -20, 20), y = pair_new(N, 0, 1),
                    t = pair_new(N, 0, 1);
    struct pair_buf loss = pair_new(M, NEW_LO, NEW_HI), sum = pair_new(M, 0, 1),
                    dz = pair_new(N, NEW_LO, NEW_HI);
    struct pair_buf cw = pair_new(L, 0.5f, 2), p = pair_new(N, NEW_LO, NEW_HI);
    EACH(i)
    {
        struct nn_loss_args a = {.m = M,
                                 .b = B,
                                 .labels = L,
                                 .cross_entropy = cross_entropy,
                                 .s = sc.dev[i],
                                 .z = AT(z, i),
                                 .y = AT(y, i),
                                 .t = teacher ? AT(t, i) : NULL,
                                 .class_weight = weights ? AT(cw, i) : NULL,
                                 .loss = AT(loss, i),
                                 .loss_sum = AT(sum, i),
                                 .dz = AT(dz, i)};
        pair_ok(OPS(i)->loss(pair_be[i], &a), i, "loss");
        struct nn_probability q = {.rows = M * B,
                                   .labels = L,
                                   .cross_entropy = cross_entropy,
                                   .z = AT(z, i),
                                   .p = AT(p, i)};
        pair_ok(OPS(i)->probability(pair_be[i], &q), i, "probability");
    }
    pair_equal("loss", loss, 1e-5);
    pair_equal("loss sum", sum, 1e-5);
    pair_equal("loss gradient", dz, 1e-5);
    pair_equal("probability", p, 1e-5);
    pair_release_all();
}

static void loss(void **state)
{
    for (int k = 0; k < 8; k++) loss_one(k & 1, k >> 1 & 1, k >> 2 & 1);
}

static void update_one(enum nn_optimiser kind, int nesterov, int mask, float clip)
{
    enum { M = 3, P = 777, STRIDE = 800, N = M * STRIDE };
    struct nn_scalars s[M];
    fill_scalars(s, M);
    struct pair_buf sc = pair_from(s, sizeof s), w = pair_new(N, -1, 1), g = pair_new(N, -1, 1),
                    m1 = pair_new(N, -1, 1);
    struct pair_buf m2 = pair_new(N, 0, 1), keep = pair_new(M * P, 0, 1), avg = pair_new(N, -1, 1);
    EACH(i)
    {
        struct nn_update a = {.m = M,
                              .p = P,
                              .stride = STRIDE,
                              .kind = kind,
                              .nesterov = nesterov,
                              .s = sc.dev[i],
                              .w = AT(w, i),
                              .g = AT(g, i),
                              .m1 = AT(m1, i),
                              .m2 = AT(m2, i),
                              .mask = mask ? AT(keep, i) : NULL,
                              .clip = clip};
        pair_ok(OPS(i)->update(pair_be[i], &a), i, "update");
        struct nn_average v = {
            .m = M, .n = P, .stride = STRIDE, .s = sc.dev[i], .w = AT(w, i), .avg = AT(avg, i)};
        pair_ok(OPS(i)->average(pair_be[i], &v), i, "average");
    }
    pair_equal("weights", w, 2e-6);
    pair_equal("first moment", m1, 2e-6);
    pair_equal("second moment", m2, 2e-6);
    pair_equal("average", avg, 2e-6);
    pair_release_all();
}

static void update(void **state)
{
    update_one(NN_SGD, 1, 0, 0);
    update_one(NN_SGD, 0, 1, 0);
    update_one(NN_ADAM, 0, 0, 1.0f);
    update_one(NN_ADAMW, 0, 1, 0);
}

static void gather_one(int train, int b)
{
    enum { M = 2, N = 23, LEADS = 12, T = 57, L = 5, PART = 19 };
    struct nn_scalars s[M];
    uint32_t index[PART];
    fill_scalars(s, M);
    for (uint32_t i = 0; i < PART; i++) index[i] = i * 5 % N;
    struct pair_buf sc = pair_from(s, sizeof s), data = pair_new(N * LEADS * T, -1, 1),
                    label = pair_new(N * L, 0, 1);
    struct pair_buf idx = pair_from(index, sizeof index), teach = pair_new(M * PART * L, 0, 1);
    struct pair_buf x = pair_new((size_t)M * b * LEADS * T, NEW_LO, NEW_HI),
                    y = pair_new((size_t)M * b * L, NEW_LO, NEW_HI);
    struct pair_buf t = pair_new((size_t)M * b * L, NEW_LO, NEW_HI);
    EACH(i)
    {
        struct nn_gather a = {.m = M,
                              .b = b,
                              .leads = LEADS,
                              .samples = T,
                              .labels = L,
                              .data_x = AT(data, i),
                              .data_y = AT(label, i),
                              .index = idx.dev[i],
                              .n = PART,
                              .row0 = 2,
                              .train = train,
                              .teacher = AT(teach, i),
                              .s = sc.dev[i],
                              .x = AT(x, i),
                              .y = AT(y, i),
                              .t = AT(t, i)};
        pair_ok(OPS(i)->gather(pair_be[i], &a), i, "gather");
    }
    pair_equal("gather x", x, 1e-6);
    pair_equal("gather y", y, 1e-6);
    pair_equal("gather teacher", t, 1e-6);
    pair_release_all();
}

static void gather(void **state)
{
    gather_one(1, 7);
    gather_one(1, 1);
    gather_one(0, 6);
}

int main(void)
{
    int rc = pair_open();
    if (rc) return rc;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv),    cmocka_unit_test(batchnorm), cmocka_unit_test(relu_add_mean),
        cmocka_unit_test(maxpool), cmocka_unit_test(lstm),      cmocka_unit_test(layernorm),
        cmocka_unit_test(linear),  cmocka_unit_test(dropout),   cmocka_unit_test(loss),
        cmocka_unit_test(update),  cmocka_unit_test(gather),
    };
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    pair_close();
    return rc;
}
