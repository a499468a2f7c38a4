/* Trained nets (committed beside this file; README.md says how they came about) through the quantiser and the
 * runtime on the sample's test fold: what int8 may cost in macro-AUROC, and that `best` is nearest to float. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/quant/score.h"

#define MODELS CINCH_SOURCE_DIR "/tests/integration/quant/"

static struct ecg_dataset *data;

static int open_data(void **state)
{
    (void)state;
    struct cn_error err;
    struct ecg_build b = {.dir = CINCH_BINARY_DIR "/samples/ptbxl",
                          .cache_dir = CINCH_BINARY_DIR "/samples/cache"};
    if (!ecg_dataset_open(&data, &b, &err)) return 0;
    print_error("%s\n", err.text);
    return -1;
}

static int close_data(void **state)
{
    (void)state;
    ecg_dataset_close(data);
    return 0;
}

struct result {
    double auroc, all, rmse; /* auroc: on the test fold; all: on every record */
    size_t bytes;
};

static struct result measure(const struct nn_model *m, enum quant_mode mode, int seven_bits)
{
    struct quant_artifact a;
    struct cn_error err = {0};
    struct result r = {0};
    struct quant_options opt = {.mode = mode, .reduce_range = seven_bits};
    if (quant_convert(&a, m, data, &opt, &err) ||
        score_artifact(&a, data, ECG_TEST, &r.auroc, &err) ||
        score_artifact(&a, data, SCORE_ALL, &r.all, &err))
        fail_msg("%s: %s", m->net->name, err.text);
    r.rmse = a.report.output_rmse;
    r.bytes = a.n;
    quant_artifact_release(&a);
    return r;
}

/* One net alone scatters by 0.0005 (8 bits) to 0.002 (7 bits) on the 200 records of the test fold, a fifth of that on
 * all; the bounds leave room for twice that. bench/quant/accuracy.sh measures means of three seeds. */
static void check(const char *file, double at_least)
{
    struct nn_model *m;
    struct cn_error err;
    char path[512];
    snprintf(path, sizeof path, "%s%s", MODELS, file);
    if (nn_model_load(&m, path, &err)) fail_msg("%s", err.text);
    struct result f = measure(m, QUANT_FLOAT, 0), paper = measure(m, QUANT_PAPER, 0);
    struct result full = measure(m, QUANT_FULL, 0), best = measure(m, QUANT_BEST, 0);
    struct result seven = measure(m, QUANT_BEST, 1);
    print_message("%s: float %.4f, drop on the test fold (on all): %+.5f (%+.5f) paper, "
                  "%+.5f (%+.5f) best in 7 bits, %+.5f (%+.5f) full, %+.5f (%+.5f) best; "
                  "rmse %.4f %.4f %.4f %.4f\n",
                  file, f.auroc, f.auroc - paper.auroc, f.all - paper.all, f.auroc - seven.auroc,
                  f.all - seven.all, f.auroc - full.auroc, f.all - full.all, f.auroc - best.auroc,
                  f.all - best.all, paper.rmse, seven.rmse, full.rmse, best.rmse);
    assert_true(f.auroc > at_least);
    assert_true(f.auroc - paper.auroc < 0.005 && f.all - paper.all < 0.001);
    assert_true(f.auroc - seven.auroc < 0.003 && f.all - seven.all < 0.001);
    assert_true(f.auroc - full.auroc < 0.002 && f.all - full.all < 0.0005);
    assert_true(f.auroc - best.auroc < 0.0015 && f.all - best.all < 0.0005);
    assert_true(best.rmse < full.rmse && best.rmse < 0.008 && seven.rmse < 0.015);
    assert_true(best.bytes < f.bytes && full.bytes < f.bytes && paper.bytes < f.bytes);
    nn_model_destroy(m);
}

static void test_cnn(void **state)
{
    (void)state;
    check("cnn.safetensors", 0.85);
}

static void test_rnn(void **state)
{
    (void)state;
    check("rnn.safetensors", 0.80);
}

static void test_resnet(void **state)
{
    (void)state;
    check("resnet.safetensors", 0.80);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cnn),
        cmocka_unit_test(test_rnn),
        cmocka_unit_test(test_resnet),
    };
    return cmocka_run_group_tests_name("quant_accuracy", tests, open_data, close_data);
}
