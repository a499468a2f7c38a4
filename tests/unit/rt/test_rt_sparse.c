/* Layers stored without their zeros: the same net in fewer bytes, on every instruction set, in the
 * memory that was asked for; and every way such a file can lie. */
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

static const char *const nets[] = {"cnn", "rnn", "beat", "resnet"};
static const int narrow[9] = {3, 5, 2, 7, 4, 3, 6, 5, 9};

static int verdict(const uint8_t *file, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1); /* exactly n bytes: one too far is seen */
    size_t bytes;
    memcpy(copy, file, n);
    int code = cinchrt_model_size(copy, n, CINCHRT_BEST, &bytes);
    free(copy);
    return code;
}

/* ------------------------------------------------------------------------------- blocks alone */

static void pack_and_unpack(void **state)
{
    static const int ops[] = {CINCHRT_CONV_I8,    CINCHRT_LINEAR_I8,  CINCHRT_LSTM_I8,
                              CINCHRT_CONV_F32,   CINCHRT_LINEAR_F32, CINCHRT_LSTM_F32,
                              CINCHRT_LINEAR_DYN, CINCHRT_LSTM_DYN};
    struct rt_make k = {.seed = 3};
    int packed = 0, refused = 0;
    for (int round = 0; round < 800; round++) {
        int op = ops[round % 8];
        int conv = op == CINCHRT_CONV_I8 || op == CINCHRT_CONV_F32, side = conv && round / 8 % 2;
        struct cinchrt_file_layer l = {.op = (uint8_t)op,
                                       .k = (uint8_t)(conv ? 1 + round % 5 : 0),
                                       .pool = 1,
                                       .in1 = side ? 0 : CINCHRT_NO_INPUT,
                                       .cin = (uint16_t)(1 + round % 7),
                                       .cout = (uint16_t)(1 + round % 9),
                                       .cin1 = (uint16_t)(side ? 3 : 0)};
        uint32_t tin = 1 + (uint32_t)round % 6;
        size_t plain_n = (size_t)cinchrt_layer_bytes(&l, tin), width = cinchrt_weight_bytes(op);
        size_t weights = (size_t)cinchrt_layer_weights(&l, tin), zeros = 0;
        uint8_t *plain = malloc(plain_n), *stored = malloc(plain_n), *back = malloc(plain_n);
        double share = rt_make_uniform(&k, 0, 1);
        for (size_t i = 0; i < plain_n; i++) plain[i] = (uint8_t)(1 + rt_make_random(&k) % 200);
        for (size_t w = 1; w <= weights; w++)
            if (rt_make_uniform(&k, 0, 1) < share)
                memset(plain + plain_n - width * w, 0, width), zeros++;
        size_t n = (size_t)cinchrt_sparse_pack(&l, tin, plain, stored);
        if (n == 0) {
            assert_true(width * zeros <= (weights + 7) / 8);
            refused++;
        } else {
            assert_int_equal(n, plain_n - width * zeros + (weights + 7) / 8);
            assert_true(n < plain_n);
            assert_int_equal(cinchrt_sparse_bytes(&l, tin, stored, n), n);
            assert_int_equal(cinchrt_sparse_bytes(&l, tin, stored, n + 100), n);
            assert_int_equal(cinchrt_sparse_bytes(&l, tin, stored, n - 1), 0);
            cinchrt_sparse_unpack(&l, tin, stored, back);
            assert_memory_equal(back, plain, plain_n);
            packed++;
        }
        free(plain), free(stored), free(back);
    }
    assert_true(packed > 300 && refused > 50);
}

static void negative_zero_is_zero(void **state)
{
    struct cinchrt_file_layer l = {
        .op = CINCHRT_LINEAR_F32, .in1 = CINCHRT_NO_INPUT, .cin = 9, .cout = 1, .pool = 1};
    float plain[10] = {1, -0.0f, 2, 0, -0.0f, 3}, back[10];
    uint8_t stored[40];
    assert_int_equal(cinchrt_sparse_pack(&l, 1, (uint8_t *)plain, stored), 4 + 2 + 2 * 4);
    cinchrt_sparse_unpack(&l, 1, stored, (uint8_t *)back);
    for (int i = 0; i < 10; i++) {
        assert_true(back[i] == plain[i]);
        assert_false(signbit(back[i]));
    }
}

/* ------------------------------------------------------------------------------------ whole nets */

static void run(const uint8_t *file, size_t n, enum cinchrt_isa isa, const float *x, float *z)
{
    struct cinchrt_model *m;
    size_t bytes;
    assert_int_equal(cinchrt_model_size(file, n, isa, &bytes), 0);
    char *mem = malloc(bytes);
    assert_int_equal(cinchrt_load(&m, file, n, isa, mem, bytes), 0);
    void *scratch = malloc(cinchrt_scratch_size(m));
    assert_int_equal(cinchrt_run(m, x, z, NULL, scratch), 0);
    free(scratch);
    free(mem);
}

static void compare_all(const uint8_t *plain, size_t plain_n, const uint8_t *sparse, size_t n)
{
    static float x[12 * 1000];
    struct cinchrt_file_header h;
    float want[8], got[8];
    memcpy(&h, plain, sizeof h);
    rt_make_signal(5, x, h.leads, h.samples);
    for (int isa = 0; isa < CINCHRT_ISA_COUNT; isa++) {
        if (!cinchrt_isa_available((enum cinchrt_isa)isa)) continue;
        run(plain, plain_n, (enum cinchrt_isa)isa, x, want);
        run(sparse, n, (enum cinchrt_isa)isa, x, got);
        assert_memory_equal(got, want, sizeof *got * h.labels);
    }
}

static void same_net_in_fewer_bytes(void **state)
{
    static const double share[] = {0.3, 0.6, 0.97, 1};
    for (int i = 0; i < 4; i++)
        for (int kind = 0; kind < 3; kind++)
            for (int s = 0; s < 4; s++) {
                size_t plain_n, n;
                uint8_t *plain = rt_make_net(nets[i], kind, narrow, 255, 7, &plain_n);
                rt_make_zeros(plain, plain_n, share[s], (uint64_t)s);
                uint8_t *sparse = rt_make_sparse(plain, plain_n, &n);
                assert_int_equal(verdict(sparse, n), 0);
                assert_true(n < plain_n);
                compare_all(plain, plain_n, sparse, n);
                free(plain);
                free(sparse);
            }
}

/* Full widths: where a layer's plain form needs more memory than what comes behind it. */
static void full_widths(void **state)
{
    for (int kind = 0; kind < 2; kind++) {
        size_t plain_n, n;
        uint8_t *plain = rt_make_net("cnn", kind, NULL, 255, 7, &plain_n);
        rt_make_zeros(plain, plain_n, 0.6, 1);
        uint8_t *sparse = rt_make_sparse(plain, plain_n, &n);
        assert_true((double)n < (kind ? 0.56 : 0.45) * (double)plain_n);
        compare_all(plain, plain_n, sparse, n);
        free(plain);
        free(sparse);
    }
}

/* Zeros in one layer only: that one is sparse, and the facts are those of the plain file. */
static void layers_decide_alone(void **state)
{
    struct cinchrt_model *m, *dense;
    struct cinchrt_layer_info l, d;
    size_t plain_n, n, bytes, dense_bytes;
    uint8_t *plain = rt_make_net("beat", CINCHRT_KIND_INT8, NULL, 255, 7, &plain_n);
    memset(plain + plain_n - (5 * 8 + 100) - 300, 0, 300); /* half of fc2, before fc3 */
    rt_make_seal(plain, plain_n);
    uint8_t *sparse = rt_make_sparse(plain, plain_n, &n);
    assert_int_equal(cinchrt_model_size(sparse, n, CINCHRT_ISA_PORTABLE, &bytes), 0);
    assert_int_equal(cinchrt_model_size(plain, plain_n, CINCHRT_ISA_PORTABLE, &dense_bytes), 0);
    char *mem = malloc(bytes), *dense_mem = malloc(dense_bytes);
    assert_int_equal(cinchrt_load(&m, sparse, n, CINCHRT_ISA_PORTABLE, mem, bytes - 1),
                     CINCHRT_EMEMORY);
    assert_int_equal(cinchrt_load(&m, sparse, n, CINCHRT_ISA_PORTABLE, mem, bytes), 0);
    assert_int_equal(
        cinchrt_load(&dense, plain, plain_n, CINCHRT_ISA_PORTABLE, dense_mem, dense_bytes), 0);
    assert_int_equal(cinchrt_info(m)->macs_nonzero, cinchrt_info(dense)->macs_nonzero);
    assert_int_equal(cinchrt_info(m)->macs, cinchrt_info(dense)->macs);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(cinchrt_layer_info(m, i, &l), 0);
        assert_int_equal(cinchrt_layer_info(dense, i, &d), 0);
        assert_int_equal(l.sparse, i == 4);
        assert_int_equal(d.sparse, 0);
        assert_int_equal(l.macs_nonzero, d.macs_nonzero);
        assert_true(i == 4 ? l.bytes < d.bytes : l.bytes == d.bytes);
    }
    free(mem), free(dense_mem), free(plain), free(sparse);
}

/* ----------------------------------------------------------------------------------------- lies */

static void truncation_and_fields(void **state)
{
    for (int i = 0; i < 4; i++)
        for (int kind = 0; kind < 3; kind++) {
            size_t plain_n, n, table;
            struct cinchrt_file_header h;
            uint8_t *plain = rt_make_net(nets[i], kind, narrow, 255, 3, &plain_n);
            rt_make_zeros(plain, plain_n, 0.6, 2);
            uint8_t *file = rt_make_sparse(plain, plain_n, &n);
            memcpy(&h, file, sizeof h);
            assert_int_equal(verdict(file, n), 0);
            for (size_t cut = 0; cut < n; cut += 1 + cut / 100)
                assert_int_not_equal(verdict(file, cut), 0);
            table = sizeof h + 8u * h.leads + 8u * h.labels;
            for (size_t at = table; at < table + sizeof(struct cinchrt_file_layer) * h.layers;
                 at++) {
                uint8_t old = file[at];
                for (int v = 0; v < 256; v += v < 7 || v > 252 ? 1 : 61) {
                    file[at] = (uint8_t)v;
                    rt_make_seal(file, n);
                    verdict(file, n); /* anything but a crash */
                }
                file[at] = old;
            }
            free(plain);
            free(file);
        }
}

/* A net of one LINEAR layer, 20 inputs to 1 output, with 8 of its weights at zero: bias (and
 * multiplier), 3 bytes of bitmap, 12 weights at the end of the file. */
static uint8_t *one_layer(int i8, size_t *n)
{
    struct rt_make k;
    struct cinchrt_file_layer f = {.op = (uint8_t)(i8 ? CINCHRT_LINEAR_I8 : CINCHRT_LINEAR_F32),
                                   .flags = CINCHRT_LOGITS,
                                   .in0 = CINCHRT_NET_INPUT,
                                   .in1 = CINCHRT_NO_INPUT,
                                   .cout = 1};
    size_t plain_n, width = i8 ? 1 : 4;
    rt_make_begin(&k, 1, 1, 20, 1);
    rt_make_layer(&k, f);
    uint8_t *plain = rt_make_end(&k, &plain_n);
    for (int i = 0; i < 20; i++)
        memset(plain + plain_n - width * (size_t)(i + 1), i % 5 < 2 ? 0 : 17, width);
    rt_make_seal(plain, plain_n);
    uint8_t *file = rt_make_sparse(plain, plain_n, n);
    assert_int_equal(*n, plain_n - 8 * width + 3);
    assert_int_equal(verdict(file, *n), 0);
    free(plain);
    return file;
}

/* The verdict on the file with one byte changed. */
static int with_byte(const uint8_t *file, size_t n, size_t at, int value)
{
    uint8_t *copy = malloc(n);
    memcpy(copy, file, n);
    copy[at] = (uint8_t)value;
    rt_make_seal(copy, n);
    int code = verdict(copy, n);
    free(copy);
    return code;
}

static void bitmaps_that_lie(void **state)
{
    for (int i8 = 0; i8 < 2; i8++) {
        size_t n, width = i8 ? 1 : 4;
        uint8_t *file = one_layer(i8, &n);
        size_t values = n - 12 * width, map = values - 3;
        size_t flags = sizeof(struct cinchrt_file_header) + 8 + 8 + 1;
        assert_int_equal(file[flags], CINCHRT_LOGITS | CINCHRT_SPARSE);
        assert_int_equal(with_byte(file, n, 4, CINCHRT_VERSION), CINCHRT_EFORMAT);
        assert_int_equal(with_byte(file, n, 4, 3), CINCHRT_EVERSION);
        assert_int_equal(with_byte(file, n, flags, CINCHRT_LOGITS), CINCHRT_EFORMAT);
        assert_int_equal(with_byte(file, n, map, 0xff), CINCHRT_EFORMAT); /* more than there are */
        for (int bit = 4; bit < 8; bit++) /* weights past the twentieth */
            assert_int_equal(with_byte(file, n, map + 2, file[map + 2] | 1 << bit),
                             CINCHRT_EFORMAT);
        for (size_t i = 0; i < 12; i++) { /* a stored zero */
            uint8_t *copy = malloc(n);
            memcpy(copy, file, n);
            memset(copy + values + width * i, 0, width);
            rt_make_seal(copy, n);
            assert_int_equal(verdict(copy, n), CINCHRT_EFORMAT);
            free(copy);
        }
        free(file);
    }
}

static void values_that_lie(void **state)
{
    size_t n;
    uint8_t *file = one_layer(0, &n);
    float inf = INFINITY, minus = -0.0f;
    memcpy(file + n - 4, &inf, 4);
    rt_make_seal(file, n);
    assert_int_equal(verdict(file, n), CINCHRT_ERANGE);
    memcpy(file + n - 4, &minus, 4);
    rt_make_seal(file, n);
    assert_int_equal(verdict(file, n), CINCHRT_EFORMAT);
    free(file);
    file = one_layer(1, &n);
    int32_t bias = 0x7fffffff - 255 * 17 * 12; /* the largest that fits, then one more */
    memcpy(file + n - 12 - 3 - 8, &bias, 4);
    rt_make_seal(file, n);
    assert_int_equal(verdict(file, n), 0);
    bias++;
    memcpy(file + n - 12 - 3 - 8, &bias, 4);
    rt_make_seal(file, n);
    assert_int_equal(verdict(file, n), CINCHRT_ERANGE);
    free(file);
}

/* Sparse must be smaller: 8 weights, 7 of them stored behind a byte of bitmap, are not. */
static void sparse_but_not_smaller(void **state)
{
    struct cinchrt_file_layer l = {
        .op = CINCHRT_LINEAR_I8, .in1 = CINCHRT_NO_INPUT, .cin = 8, .cout = 1, .pool = 1};
    uint8_t block[8 + 8] = {0}, stored[16] = {0};
    memset(block + 8, 5, 7);
    assert_int_equal(cinchrt_sparse_pack(&l, 1, block, stored), 0);
    stored[8] = 0x7f;
    memset(stored + 9, 5, 7);
    assert_int_equal(cinchrt_sparse_bytes(&l, 1, stored, 16), 0);
    stored[8] = 0x3f;
    assert_int_equal(cinchrt_sparse_bytes(&l, 1, stored, 16), 15);
    l.op = CINCHRT_LAYERNORM_F32; /* nothing to be sparse in */
    assert_int_equal(cinchrt_sparse_bytes(&l, 1, stored, 16), 0);
    assert_int_equal(cinchrt_sparse_pack(&l, 1, block, stored), 0);
    l.op = CINCHRT_LINEAR_I8; /* a few bytes that promise more weights than are allowed */
    l.cin = l.cout = CINCHRT_MAX_CHANNELS;
    assert_int_equal(cinchrt_sparse_bytes(&l, 5, stored, UINT64_MAX), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pack_and_unpack),         cmocka_unit_test(negative_zero_is_zero),
        cmocka_unit_test(same_net_in_fewer_bytes), cmocka_unit_test(full_widths),
        cmocka_unit_test(layers_decide_alone),     cmocka_unit_test(truncation_and_fields),
        cmocka_unit_test(bitmaps_that_lie),        cmocka_unit_test(values_that_lie),
        cmocka_unit_test(sparse_but_not_smaller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
