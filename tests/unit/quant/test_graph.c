/* Folding and fusing against the unfused net, for every net of the zoo, whole and at odd widths. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/quant/f32_kernels.h"
#include "cpu/quant/graph.h"
#include "tests/unit/quant/unfused.h"

static void compare(const char *name, const int *widths, int n, int nodes)
{
    struct nn_model *m = unfused_model(name, widths, n, 11);
    struct quant_graph *g = NULL, *copy = NULL;
    struct quant_forward *f = NULL;
    struct cn_error err;
    double want[8];
    assert_non_null(m);
    assert_int_equal(quant_graph_create(&g, m, &err), 0);
    assert_int_equal(g->n, nodes);
    assert_int_equal(quant_graph_copy(&copy, g, &err), 0);
    quant_graph_destroy(g);
    assert_int_equal(quant_forward_create(&f, copy, &err), 0);
    int size = m->net->n_leads * m->net->n_samples;
    float *x = malloc((size_t)size * sizeof *x);
    assert_non_null(x);
    for (int r = 0; r < 2; r++) {
        for (int i = 0; i < size; i++) x[i] = 2 * unfused_noise(77 + (uint64_t)r, i);
        unfused_run(m, x, want);
        quant_forward_run(f, x);
        const float *got = quant_forward_output(f, copy->n - 1);
        for (int c = 0; c < m->net->n_labels; c++)
            if (!(fabs((double)got[c] - want[c]) < 2e-5 * (1 + fabs(want[c]))))
                fail_msg("%s: logit %d is %.8g folded, %.8g unfused", name, c, (double)got[c],
                         want[c]);
    }
    free(x);
    quant_forward_destroy(f);
    quant_graph_destroy(copy);
    nn_model_destroy(m);
}

static void test_folding(void **state)
{
    (void)state;
    const int cnn[] = {7, 1, 13, 5}, rnn[] = {9}, beat[] = {5, 3, 7, 9, 11};
    const int resnet[] = {5, 8, 3, 7, 9, 11, 4, 6, 10};
    compare("cnn", NULL, 0, 5);
    compare("cnn", cnn, 4, 5);
    compare("rnn", NULL, 0, 3);
    compare("rnn", rnn, 1, 3);
    compare("resnet", resnet, 9, 11);
    compare("beat", NULL, 0, 6);
    compare("beat", beat, 5, 6);
}

static void test_refuses(void **state)
{
    (void)state;
    struct nn_model *m = unfused_model("cnn", NULL, 0, 3);
    struct quant_graph *g = NULL;
    struct cn_error err;
    assert_non_null(m);
    const struct nn_tensor *t = &m->net->tensor[2];
    float old = m->params[t->offset + 4];
    m->params[t->offset + 4] = NAN;
    assert_int_equal(quant_graph_create(&g, m, &err), CN_EINVALID);
    assert_null(g);
    assert_non_null(strstr(err.text, t->name));
    m->params[t->offset + 4] = old;
    for (int i = 0; i < m->net->n_tensors; i++)
        if (strstr(m->net->tensor[i].name, "bn2.running_var"))
            m->params[m->net->tensor[i].offset] = -1;
    assert_int_equal(quant_graph_create(&g, m, &err), CN_EINVALID);
    assert_non_null(strstr(err.text, "bn2"));
    nn_model_destroy(m);

    /* A ReLU straight on the input has nothing to ride on. */
    m = unfused_model("cnn", NULL, 0, 3);
    m->net->layer[0].op = NN_RELU;
    assert_int_equal(quant_graph_create(&g, m, &err), CN_EUNSUPPORTED);
    nn_model_destroy(m);
}

/* All instruction sets give the same bits. */
static void test_kernels_agree(void **state)
{
    (void)state;
    enum { CIN = 5, COUT = 7, K = 3, T = 70, STRIDE = 96 + K - 1 };
    float x[CIN * STRIDE], w[COUT * CIN * K], bias[COUT], want[COUT * 96], got[COUT * 96];
    const struct quant_f32_kernels *best = quant_f32_best();
    for (int i = 0; i < CIN * STRIDE; i++) x[i] = unfused_noise(1, i);
    for (int i = 0; i < COUT * CIN * K; i++) w[i] = unfused_noise(2, i);
    for (int i = 0; i < COUT; i++) bias[i] = unfused_noise(3, i);
    struct quant_f32_conv a = {.cin = CIN,
                               .cout = COUT,
                               .k = K,
                               .t = T,
                               .x_stride = STRIDE,
                               .y_stride = 96,
                               .x = x,
                               .w = w,
                               .bias = bias,
                               .y = want};
    quant_f32_portable.conv(&a);
    a.y = got;
    best->conv(&a);
    assert_memory_equal(got, want, sizeof got);
    float s = bias[2];
    for (int i = 0; i < CIN; i++)
        for (int k = 0; k < K; k++) s += w[(2 * CIN + i) * K + k] * x[i * STRIDE + 40 + k];
    assert_true(s == want[2 * 96 + 40]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folding),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_kernels_agree),
    };
    return cmocka_run_group_tests_name("quant_graph", tests, NULL, NULL);
}
