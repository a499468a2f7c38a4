/* Every kernel of every instruction set this CPU has, against the portable one: the same bits in int8, rounding apart
 * in float, at every width from 1 to the study's full one, and on odd kernels, pools and paddings.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/rt/cinchrt.h"
#include "tests/unit/rt/rt_make.h"

#ifndef RT_FIRST_ISA
#define RT_FIRST_ISA CINCHRT_ISA_AVX2
#endif

/* What a run left: every layer's output, channel by channel, as doubles. */
struct trace {
    double *v;
    size_t n, room;
};

static void record(void *context, const struct cinchrt_probe *p)
{
    struct trace *tr = context;
    size_t more = (size_t)p->time * (size_t)p->channels;
    if (tr->n + more > tr->room) {
        tr->room = 2 * (tr->n + more);
        tr->v = realloc(tr->v, tr->room * sizeof *tr->v);
    }
    for (int t = 0; t < p->time; t++)
        for (int c = 0; c < p->channels; c++) {
            size_t at = (size_t)t * (size_t)p->stride + (size_t)c;
            tr->v[tr->n++] = p->type == CINCHRT_PROBE_U8    ? ((const uint8_t *)p->data)[at]
                             : p->type == CINCHRT_PROBE_H16 ? ((const int16_t *)p->data)[at]
                                                            : (double)((const float *)p->data)[at];
        }
}

static int run(const uint8_t *file, size_t n, enum cinchrt_isa isa, const float *x,
               struct trace *tr, float *logits)
{
    size_t bytes;
    struct cinchrt_model *m;
    int code = cinchrt_model_size(file, n, isa, &bytes);
    if (code < 0) return code;
    /* Exact sizes and an odd address: AddressSanitizer watches the ends, the runtime must not count on alignment. */
    char *mem = malloc(bytes + 1), *scratch;
    code = cinchrt_load(&m, file, n, isa, mem + 1, bytes);
    if (code < 0) {
        free(mem);
        return code;
    }
    scratch = malloc(cinchrt_scratch_size(m) + 1);
    memset(scratch, 0xff,
           cinchrt_scratch_size(m) + 1); /* NaNs, if anything is read before it is written */
    tr->n = 0;
    code = cinchrt_run_probed(m, x, logits, NULL, scratch + 1, record, tr);
    free(mem);
    free(scratch);
    return code;
}

static long compared, differing_widths;

/* Runs a file on all sets and compares with portable. tolerance 0: bits. Frees the file. */
static void compare(uint8_t *file, size_t n, const char *what, int id, double tolerance)
{
    static float x[12 * 1000];
    struct cinchrt_file_header h;
    struct trace want = {0}, got = {0};
    float z0[128], z[128];
    memcpy(&h, file, sizeof h);
    rt_make_signal(11 + (uint64_t)id, x, h.leads, h.samples);
    assert_int_equal(run(file, n, CINCHRT_ISA_PORTABLE, x, &want, z0), 0);
    double low = 1e30, high = -1e30;
    for (size_t i = 0; i < want.n; i++) low = fmin(low, want.v[i]), high = fmax(high, want.v[i]);
    differing_widths += high > low;
    for (int isa = RT_FIRST_ISA; isa < CINCHRT_ISA_COUNT; isa++) {
        if (!cinchrt_isa_available((enum cinchrt_isa)isa)) continue;
        assert_int_equal(run(file, n, (enum cinchrt_isa)isa, x, &got, z), 0);
        assert_int_equal(got.n, want.n);
        for (size_t i = 0; i < want.n; i++) {
            double off = fabs(got.v[i] - want.v[i]);
            if (!(off <= tolerance * (1 + fabs(want.v[i]))))
                fail_msg("%s %d on %s: element %zu of %zu is %g, not %g", what, id,
                         cinchrt_isa_name((enum cinchrt_isa)isa), i, want.n, got.v[i], want.v[i]);
        }
        compared++;
        if (tolerance == 0) assert_memory_equal(z, z0, sizeof(float) * h.labels);
    }
    free(want.v);
    free(got.v);
    free(file);
}

static struct cinchrt_file_layer op(int code, int in0, int cout)
{
    struct cinchrt_file_layer f = {
        .op = (uint8_t)code, .in0 = (uint8_t)in0, .in1 = CINCHRT_NO_INPUT, .cout = (uint16_t)cout};
    return f;
}

static void finish_linear(struct rt_make *k, int i8)
{
    struct cinchrt_file_layer f =
        op(i8 ? CINCHRT_LINEAR_I8 : CINCHRT_LINEAR_F32, k->h.layers - 1, k->h.labels);
    f.flags = CINCHRT_LOGITS;
    rt_make_layer(k, f);
}

struct conv_case {
    int cin, cout, k, pad, pool, side, time, relu;
};

static uint8_t *conv_file(const struct conv_case *c, int i8, int qmax, uint64_t seed, size_t *n)
{
    int code = i8 ? CINCHRT_CONV_I8 : CINCHRT_CONV_F32;
    struct rt_make k;
    struct cinchrt_file_layer f;
    rt_make_begin(&k, seed, 5, c->time, 3);
    k.qmax = qmax, k.h.in_qmax = (uint8_t)qmax, k.h.in_zero = (uint8_t)(qmax / 2 - 3);
    f = op(code, CINCHRT_NET_INPUT, c->cin); /* its width is the next one's input width */
    f.k = 3, f.pad = 1, f.flags = CINCHRT_RELU, f.zero = i8 ? 3 : 0;
    rt_make_layer(&k, f);
    f = op(code, 0, c->cout);
    f.k = (uint8_t)c->k, f.pad = (uint8_t)c->pad, f.pool = (uint8_t)c->pool;
    f.flags = c->relu ? CINCHRT_RELU : 0;
    if (c->side) f.in1 = CINCHRT_NET_INPUT;
    rt_make_layer(&k, f);
    finish_linear(&k, i8);
    return rt_make_end(&k, n);
}

/* Widths 1..128 in and out of step, so that every remainder of every vector length meets every other. */
static void conv_widths(int i8, double tolerance)
{
    for (int w = 1; w <= 128; w++) {
        struct conv_case c = {1 + (w * 7) % 31, w, 3, 1, 1 + w % 3, w & 1, 41, w % 3 != 1};
        size_t n;
        uint8_t *file;
        if (c.side) c.pool = 1;
        file = conv_file(&c, i8, w & 2 ? 255 : 127, (uint64_t)w, &n);
        compare(file, n, "conv out width", w, tolerance);
        c.cin = w, c.cout = 1 + (w * 5) % 37;
        file = conv_file(&c, i8, w & 2 ? 127 : 255, (uint64_t)w + 999, &n);
        compare(file, n, "conv in width", w, tolerance);
    }
}

/* Odd kernels, pads, pools, lengths down to one step. */
static void conv_shapes(int i8, double tolerance)
{
    static const struct conv_case cases[] = {
        {4, 9, 1, 0, 1, 0, 1, 1},    {4, 9, 1, 0, 1, 1, 2, 1},    {3, 5, 7, 6, 1, 0, 3, 0},
        {8, 17, 2, 0, 4, 0, 50, 1},  {8, 33, 4, 3, 5, 0, 60, 1},  {8, 16, 5, 2, 6, 0, 61, 1},
        {6, 40, 9, 4, 7, 0, 64, 1},  {2, 3, 64, 63, 1, 0, 70, 1}, {16, 16, 7, 3, 1, 1, 101, 1},
        {13, 21, 5, 2, 1, 1, 37, 0}, {12, 8, 3, 0, 3, 0, 34, 1},  {1, 1, 3, 0, 2, 0, 260, 1},
        {7, 50, 3, 1, 1, 1, 13, 1},  {9, 64, 3, 0, 3, 0, 38, 1},  {5, 6, 3, 1, 250, 0, 251, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n;
        uint8_t *file = conv_file(&cases[i], i8, 255, i + 5, &n);
        compare(file, n, "conv case", (int)i, tolerance);
    }
}

static void test_conv_i8(void **state)
{
    conv_widths(1, 0);
    conv_shapes(1, 0);
}

static void test_conv_f32(void **state)
{
    conv_widths(0, 2e-5);
    conv_shapes(0, 2e-5);
}

/* LSTM, LayerNorm with pool, linear: every width to 64, then beyond one vector of everything. */
static void rnn_widths(int kind, double tolerance)
{
    for (int w = 1; w <= 64 || w == 100 || w == 129; w = w < 64     ? w + 1
                                                         : w == 64  ? 100
                                                         : w == 100 ? 129
                                                                    : 1000) {
        struct rt_make k;
        struct cinchrt_file_layer f;
        size_t n;
        int i8 = kind == CINCHRT_KIND_INT8, dyn = kind == CINCHRT_KIND_DYNAMIC;
        rt_make_begin(&k, (uint64_t)w * 3, 1 + w % 13, 40, 2);
        k.qmax = w & 1 ? 255 : 127;
        rt_make_layer(&k, op(i8    ? CINCHRT_LSTM_I8
                             : dyn ? CINCHRT_LSTM_DYN
                                   : CINCHRT_LSTM_F32,
                             CINCHRT_NET_INPUT, w));
        f = op(i8 ? CINCHRT_LAYERNORM_I8 : CINCHRT_LAYERNORM_F32, 0, 0);
        f.pool = 13;
        rt_make_layer(&k, f);
        if (dyn) {
            f = op(CINCHRT_LINEAR_DYN, 1, 2);
            f.flags = CINCHRT_LOGITS;
            rt_make_layer(&k, f);
        } else {
            finish_linear(&k, i8);
        }
        uint8_t *file = rt_make_end(&k, &n);
        compare(file, n, "rnn width", w, tolerance);
    }
}

static void test_lstm_i8(void **state)
{
    rnn_widths(CINCHRT_KIND_INT8, 0);
}

static void test_lstm_f32(void **state)
{
    rnn_widths(CINCHRT_KIND_FLOAT, 2e-4);
}

/* The study's LSTM and linear layer: float, yet the same bits everywhere, with the LayerNorm between. */
static void test_lstm_dyn(void **state)
{
    rnn_widths(CINCHRT_KIND_DYNAMIC, 0);
    for (int w = 1; w <= 70 || w == 129; w = w == 70 ? 129 : w + 1) {
        struct rt_make k;
        struct cinchrt_file_layer f;
        size_t n;
        rt_make_begin(&k, (uint64_t)w * 7, 1 + w % 17, 60, 3);
        k.qmax = w & 1 ? 127 : 255;
        rt_make_layer(&k, op(CINCHRT_LSTM_DYN, CINCHRT_NET_INPUT, w));
        f = op(CINCHRT_LINEAR_DYN, 0, 3);
        f.flags = CINCHRT_LOGITS;
        rt_make_layer(&k, f);
        uint8_t *file = rt_make_end(&k, &n);
        compare(file, n, "dynamic LSTM width", w, 0);
    }
}

/* Hidden linear layers (u8 or float out), means, all leads from 1 to 20. */
static void small_ops(int i8, double tolerance)
{
    for (int w = 1; w <= 70; w++) {
        struct rt_make k;
        struct cinchrt_file_layer f;
        size_t n;
        rt_make_begin(&k, (uint64_t)w + 50, 1 + w % 20, 30 + w, 4);
        f = op(i8 ? CINCHRT_CONV_I8 : CINCHRT_CONV_F32, CINCHRT_NET_INPUT, w);
        f.k = 4;
        rt_make_layer(&k, f);
        if (w & 1) rt_make_layer(&k, op(i8 ? CINCHRT_MEAN_I8 : CINCHRT_MEAN_F32, 0, 0));
        f = op(i8 ? CINCHRT_LINEAR_I8 : CINCHRT_LINEAR_F32, k.h.layers - 1, 1 + (w * 11) % 40);
        f.flags = CINCHRT_RELU;
        rt_make_layer(&k, f);
        finish_linear(&k, i8);
        uint8_t *file = rt_make_end(&k, &n);
        compare(file, n, "small net", w, tolerance);
    }
}

/* LayerNorm of rows that are no whole vectors (behind a mean's or linear layer's output, or the net's
 * input), and mean: the same bits, as in a dynamic net. */
static void test_exact_f32(void **state)
{
    for (int w = 1; w <= 70; w++) {
        struct rt_make k;
        struct cinchrt_file_layer f;
        size_t n;
        rt_make_begin(&k, (uint64_t)w + 500, w < 13 ? w : 13, 20 + w, 4);
        k.h.kind = CINCHRT_KIND_DYNAMIC;
        f = op(CINCHRT_LAYERNORM_F32, CINCHRT_NET_INPUT, 0);
        f.pool = 1 + w % 3;
        rt_make_layer(&k, f);
        f = op(CINCHRT_LINEAR_DYN, 0, w);
        rt_make_layer(&k, f);
        f = op(CINCHRT_LAYERNORM_F32, 1, 0);
        f.pool = 1;
        rt_make_layer(&k, f);
        rt_make_layer(&k, op(CINCHRT_MEAN_F32, 0, 0));
        f = op(CINCHRT_LINEAR_DYN, w & 1 ? 2 : 3, 4);
        f.flags = CINCHRT_LOGITS;
        rt_make_layer(&k, f);
        uint8_t *file = rt_make_end(&k, &n);
        compare(file, n, "exact float layers", w, 0);
    }
}

static void test_small_i8(void **state)
{
    small_ops(1, 0);
}

static void test_small_f32(void **state)
{
    small_ops(0, 2e-5);
}

/* The zoo at the study's widths: 100, 75, 50, 12.5 % of structures, and 1 everywhere. */
static void test_zoo(void **state)
{
    static const char *const nets[] = {"cnn", "rnn", "beat", "resnet"};
    static const int full[4][9] = {
        {32, 64, 96, 32}, {64}, {5, 10, 20, 30, 20}, {64, 64, 64, 128, 128, 128, 128, 128, 128}};
    static const double keep[] = {0.75, 0.5, 0.125, 0.001, 1};
    for (int i = 0; i < 4; i++)
        for (int f = 0; f < (i == 3 ? 4 : 5); f++) /* the full resnet is slow in portable C */
            for (int kind = 0; kind < 3; kind++) {
                int w[9];
                size_t n;
                for (int j = 0; j < 9; j++) w[j] = (int)fmax(1, rint(full[i][j] * keep[f]));
                if (i == 3 && f == 0) continue;
                double tolerance = kind == CINCHRT_KIND_FLOAT ? 1e-3 : 0;
                uint8_t *file = rt_make_net(nets[i], kind, w, f & 1 ? 127 : 255, (uint64_t)f, &n);
                compare(file, n, nets[i], f, tolerance);
            }
}

static void test_something_was_compared(void **state)
{
    if (cinchrt_isa_best() < RT_FIRST_ISA) {
        puts("SKIPPED: this CPU has none of the vector instruction sets to compare");
        return;
    }
    assert_true(compared > 500);
    assert_true(differing_widths > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv_i8),   cmocka_unit_test(test_small_i8),
        cmocka_unit_test(test_lstm_i8),   cmocka_unit_test(test_conv_f32),
        cmocka_unit_test(test_small_f32), cmocka_unit_test(test_lstm_f32),
        cmocka_unit_test(test_lstm_dyn),  cmocka_unit_test(test_exact_f32),
        cmocka_unit_test(test_zoo),       cmocka_unit_test(test_something_was_compared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
