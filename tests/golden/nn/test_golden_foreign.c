/* Checkpoints that the Python package safetensors wrote (gen_foreign.py): each is recognised by its
 * tensors' names, its numbers are widened exactly, its counters passed over. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "nn/model.h"

#define FOLDER CINCH_SOURCE_DIR "/tests/golden/nn/foreign/"

static const struct expected {
    const char *file, *net;
    int widths[9], n_widths, leads, labels, unsaid;
} files[] = {
    {"cnn_f16", "cnn", {3, 2, 4, 2}, 4, 12, 5, 1},
    {"cnn_sequential_bf16", "cnn", {3, 2, 4, 2}, 4, 12, 16, 0},
    {"rnn_f64", "rnn", {3}, 1, 12, 5, 1},
    {"resnet_f32", "resnet", {1, 2, 3, 2, 1, 2, 3, 1, 2}, 9, 12, 5, 1},
    {"beat_f16", "beat", {2, 3, 2, 4, 3}, 5, 1, 5, 1},
};

static float value(int tensor, size_t j, int variance)
{
    float v = (float)((31 * tensor + 7 * (int)j) % 61 - 30) / 32;
    return variance ? fabsf(v) : v;
}

static struct nn_model *load(const char *file)
{
    char path[512];
    struct nn_model *m;
    struct cn_error err;
    snprintf(path, sizeof path, FOLDER "%s.safetensors", file);
    if (nn_model_load(&m, path, &err)) fail_msg("%s", err.text);
    return m;
}

static void test_files(void **state)
{
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        const struct expected *e = &files[f];
        struct nn_model *m = load(e->file);
        const struct nn_net *net = m->net;
        assert_string_equal(net->name, e->net);
        assert_int_equal(net->n_leads, e->leads);
        assert_int_equal(net->n_labels, e->labels);
        assert_int_equal(net->n_widths, e->n_widths);
        assert_int_equal(m->unsaid, e->unsaid);
        for (int i = 0; i < e->n_widths; i++) assert_int_equal(net->width[i], e->widths[i]);
        for (int i = 0; i < net->n_tensors; i++) {
            const struct nn_tensor *t = &net->tensor[i];
            int variance = strstr(t->name, "running_var") != NULL;
            for (size_t j = 0; j < t->count; j++)
                if (m->params[t->offset + j] != value(i, j, variance))
                    fail_msg("%s: '%s' %zu is %g, not %g", e->file, t->name, j,
                             (double)m->params[t->offset + j], (double)value(i, j, variance));
        }
        nn_model_destroy(m);
    }
}

/* What the metadata of another tool may say. */
static void test_said(void **state)
{
    struct nn_model *m = load("cnn_sequential_bf16");
    assert_string_equal(m->label[0], "L0");
    assert_string_equal(m->label[15], "L15");
    assert_true(m->hz == 100 && m->mean[3] == 3.0f / 64 && m->std[11] == 0.25f);
    nn_model_destroy(m);
}

/* A foreign model is written as cinch's own, and reads back as the same bytes. */
static void test_written_again(void **state)
{
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        struct nn_model *m = load(files[f].file), *back;
        struct cn_error err;
        void *a, *b;
        size_t na, nb;
        assert_int_equal(nn_model_bytes(m, &a, &na, &err), 0);
        assert_int_equal(nn_model_parse(&back, "again", a, na, &err), 0);
        assert_int_equal(nn_model_bytes(back, &b, &nb, &err), 0);
        assert_int_equal(na, nb);
        assert_memory_equal(a, b, na);
        assert_int_equal(back->unsaid, m->unsaid);
        free(a);
        free(b);
        nn_model_destroy(m);
        nn_model_destroy(back);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_said),
        cmocka_unit_test(test_written_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
