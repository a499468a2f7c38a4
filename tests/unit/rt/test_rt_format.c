/* The .cinch file as a hostile sender would write it: every lie must be refused, with its own code,
 * before anything is read beyond the file. Also the small public helpers.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/rt/cinchrt.h"
#include "tests/unit/rt/rt_make.h"

static int verdict(const uint8_t *file, size_t n)
{
    /* An exact copy, so that AddressSanitizer sees one byte too far. */
    uint8_t *copy = malloc(n ? n : 1);
    size_t bytes;
    int code;
    memcpy(copy, file, n);
    code = cinchrt_model_size(copy, n, CINCHRT_BEST, &bytes);
    free(copy);
    return code;
}

static void test_crc(void **state)
{
    assert_int_equal(cinchrt_crc32("123456789", 9), 0xcbf43926);
    assert_int_equal(cinchrt_crc32("", 0), 0);
}

static void test_truncation(void **state)
{
    size_t n;
    int widths[4] = {4, 5, 6, 4};
    uint8_t *file = rt_make_net("cnn", CINCHRT_KIND_INT8, widths, 255, 1, &n);
    assert_int_equal(verdict(file, n), 0);
    for (size_t cut = 0; cut < n; cut++) assert_int_not_equal(verdict(file, cut), 0);
    free(file);
}

/* One byte of the file set to a value, CRC made right again: the expected code. */
static void test_header_lies(void **state)
{
    static const struct {
        size_t at;
        uint8_t value;
        int code;
    } lies[] = {
        {0, 'X', CINCHRT_EMAGIC},   {4, 9, CINCHRT_EVERSION},   {6, 7, CINCHRT_EFORMAT},
        {7, 2, CINCHRT_EFORMAT},    {8, 1, CINCHRT_ETRUNCATED}, {36, 0, CINCHRT_EFORMAT},
        {37, 255, CINCHRT_EFORMAT}, {38, 7, CINCHRT_EFORMAT},   {48, 100, CINCHRT_EFORMAT},
        {49, 1, CINCHRT_EFORMAT},   {47, 0x80, CINCHRT_ERANGE},
    };
    size_t n;
    uint8_t *file = rt_make_net("beat", CINCHRT_KIND_INT8, NULL, 255, 1, &n);
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        uint8_t old = file[lies[i].at];
        file[lies[i].at] = lies[i].value;
        rt_make_seal(file, n);
        assert_int_equal(verdict(file, n), lies[i].code);
        file[lies[i].at] = old;
        rt_make_seal(file, n);
    }
    assert_int_equal(verdict(file, n), 0);
    file[n - 1] ^= 1;
    assert_int_equal(verdict(file, n), CINCHRT_ECRC);
    free(file);
}

/* Every field of every layer record set to every byte value: refused or runnable, never a crash. */
static void test_layer_lies(void **state)
{
    static const char *const nets[] = {"cnn", "rnn", "beat", "resnet"};
    static const int narrow[9] = {2, 3, 2, 3, 2, 3, 2, 3, 2};
    for (int i = 0; i < 4; i++)
        for (int kind = 0; kind < 3; kind++) {
            size_t n, table;
            uint8_t *file = rt_make_net(nets[i], kind, narrow, 255, 2, &n);
            struct cinchrt_file_header h;
            int refused = 0;
            memcpy(&h, file, sizeof h);
            table = sizeof h + 8u * h.leads + 8u * h.labels;
            for (size_t at = table; at < table + sizeof(struct cinchrt_file_layer) * h.layers;
                 at++) {
                uint8_t old = file[at];
                for (int v = 0; v < 256; v += v < 3 || v > 252 ? 1 : 50) {
                    file[at] = (uint8_t)v;
                    rt_make_seal(file, n);
                    refused += verdict(file, n) != 0;
                }
                file[at] = old;
            }
            assert_true(refused > 60);
            free(file);
        }
}

static void test_sums_that_overflow(void **state)
{
    size_t n;
    struct rt_make k;
    struct cinchrt_file_layer f = {.op = CINCHRT_LINEAR_I8,
                                   .flags = CINCHRT_LOGITS,
                                   .in0 = CINCHRT_NET_INPUT,
                                   .in1 = CINCHRT_NO_INPUT,
                                   .cout = 1};
    int32_t bias = 0x7fffff00;
    uint8_t *file;
    rt_make_begin(&k, 1, 1, 8, 1);
    rt_make_layer(&k, f);
    file = rt_make_end(&k, &n);
    assert_int_equal(verdict(file, n), 0);
    memcpy(file + n - 16, &bias, 4); /* bias, mult, 8 weights */
    rt_make_seal(file, n);
    assert_int_equal(verdict(file, n), CINCHRT_ERANGE);
    free(file);
}

/* Finite numbers of which no finite sums come: the first of the first or the last layer's block. */
static void test_float_sums_that_overflow(void **state)
{
    static const char *const nets[] = {"cnn", "rnn", "resnet", "beat"};
    static const int widths[9] = {3, 2, 3, 2, 3, 1, 2, 3, 2};
    for (int i = 0; i < 4; i++)
        for (int kind = 0; kind <= CINCHRT_KIND_DYNAMIC; kind += CINCHRT_KIND_DYNAMIC)
            for (int at = 0; at < 2; at++) {
                if (kind && strcmp(nets[i], "rnn") != 0) continue;
                size_t n;
                uint8_t *file = rt_make_net(nets[i], kind, widths, 255, 3, &n);
                struct cinchrt_file_header h;
                struct cinchrt_file_layer l;
                float huge = -3e38f, large = 1e5f;
                memcpy(&h, file, sizeof h);
                size_t table = sizeof h + 8u * h.leads + 8u * h.labels;
                memcpy(&l, file + table + sizeof l * (at ? h.layers - 1u : 0u), sizeof l);
                assert_int_equal(verdict(file, n), 0);
                memcpy(file + l.offset, &large, 4);
                rt_make_seal(file, n);
                assert_int_equal(verdict(file, n), 0);
                memcpy(file + l.offset, &huge, 4);
                rt_make_seal(file, n);
                assert_int_equal(verdict(file, n), CINCHRT_ERANGE);
                free(file);
            }
}

static void test_caller_mistakes(void **state)
{
    size_t n, bytes;
    uint8_t *file = rt_make_net("beat", CINCHRT_KIND_INT8, NULL, 255, 1, &n);
    struct cinchrt_model *m;
    char *mem;
    assert_int_equal(cinchrt_model_size(file, n, CINCHRT_BEST, NULL), CINCHRT_EARG);
    assert_int_equal(cinchrt_model_size(NULL, n, CINCHRT_BEST, &bytes), CINCHRT_EARG);
    assert_int_equal(cinchrt_model_size(file, n, CINCHRT_ISA_PORTABLE, &bytes), 0);
    mem = malloc(bytes);
    assert_int_equal(cinchrt_load(&m, file, n, CINCHRT_ISA_PORTABLE, mem, 10), CINCHRT_EMEMORY);
    assert_int_equal(cinchrt_load(&m, file, n, CINCHRT_ISA_PORTABLE, mem, bytes - 64),
                     CINCHRT_EMEMORY);
    assert_null(m);
    assert_int_equal(cinchrt_load(&m, file, n, (enum cinchrt_isa)77, mem, bytes), CINCHRT_EISA);
    assert_int_equal(cinchrt_load(&m, file, n, CINCHRT_ISA_PORTABLE, mem, bytes), 0);
    assert_int_equal(cinchrt_run(m, NULL, NULL, NULL, mem), CINCHRT_EARG);
    assert_string_equal(cinchrt_info(m)->net, "beat");
    assert_string_equal(cinchrt_info(m)->label[1], "L1");
    free(mem);
    free(file);
}

/* Facts of the file in all layers and in total. */
static struct cinchrt_info info_of(const uint8_t *file, size_t n, struct cinchrt_layer_info *layer)
{
    struct cinchrt_model *m;
    struct cinchrt_info info;
    size_t bytes;
    char *mem;
    assert_int_equal(cinchrt_model_size(file, n, CINCHRT_ISA_PORTABLE, &bytes), 0);
    mem = malloc(bytes);
    assert_int_equal(cinchrt_load(&m, file, n, CINCHRT_ISA_PORTABLE, mem, bytes), 0);
    info = *cinchrt_info(m);
    for (int i = 0; i < info.layers; i++) assert_int_equal(cinchrt_layer_info(m, i, &layer[i]), 0);
    free(mem);
    return info;
}

/* Zeros written over the last weights of each layer: each is used once per output step. */
static void test_macs_nonzero(void **state)
{
    static const char *const nets[] = {"cnn", "rnn", "beat", "resnet"};
    struct cinchrt_layer_info before[CINCHRT_MAX_LAYERS], after[CINCHRT_MAX_LAYERS];
    for (int i = 0; i < 4; i++)
        for (int kind = 0; kind < 3; kind++) {
            size_t n;
            uint8_t *file = rt_make_net(nets[i], kind, NULL, 255, 4, &n);
            struct cinchrt_info all = info_of(file, n, before);
            struct cinchrt_file_header h;
            uint64_t saved = 0, sum = 0;
            memcpy(&h, file, sizeof h);
            for (int l = 0; l < h.layers; l++) {
                struct cinchrt_file_layer f;
                size_t width = before[l].op[strlen(before[l].op) - 2] == '3' ? 4 : 1; /* _f32 */
                memcpy(&f, file + sizeof h + 8u * h.leads + 8u * h.labels + sizeof f * (size_t)l,
                       sizeof f);
                if (!before[l].weights) continue;
                /* every data block with matrices ends with them, and so before the next begins */
                size_t end = n;
                if (l + 1 < h.layers)
                    memcpy(&f,
                           file + sizeof h + 8u * h.leads + 8u * h.labels +
                               sizeof f * (size_t)(l + 1),
                           sizeof f),
                        end = f.offset;
                memset(file + end - 3 * width, 0, 3 * width);
            }
            rt_make_seal(file, n);
            struct cinchrt_info less = info_of(file, n, after);
            for (int l = 0; l < h.layers; l++) {
                assert_int_equal(after[l].macs, before[l].macs);
                if (!before[l].weights) continue;
                uint64_t times = before[l].macs / before[l].weights;
                /* int8 weights that the generator drew as zero were none before either */
                saved = before[l].macs_nonzero - after[l].macs_nonzero;
                assert_true(saved <= 3 * times && saved >= 2 * times && saved % times == 0);
                sum += after[l].macs_nonzero;
            }
            assert_int_equal(less.macs, all.macs);
            assert_int_equal(less.macs_nonzero, sum);
            assert_true(less.macs_nonzero < all.macs_nonzero && all.macs_nonzero <= all.macs);
            free(file);
        }
}

static void test_isa_names(void **state)
{
    enum cinchrt_isa isa;
    for (int i = 0; i < CINCHRT_ISA_COUNT; i++) {
        assert_int_equal(cinchrt_isa_parse(cinchrt_isa_name((enum cinchrt_isa)i), &isa), 0);
        assert_int_equal(isa, i);
    }
    assert_int_equal(cinchrt_isa_parse("sse2", &isa), CINCHRT_EISA);
    assert_true(cinchrt_isa_available(CINCHRT_ISA_PORTABLE));
    assert_true(cinchrt_isa_available(cinchrt_isa_best()));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_header_lies),
        cmocka_unit_test(test_layer_lies),
        cmocka_unit_test(test_sums_that_overflow),
        cmocka_unit_test(test_float_sums_that_overflow),
        cmocka_unit_test(test_caller_mistakes),
        cmocka_unit_test(test_macs_nonzero),
        cmocka_unit_test(test_isa_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
