/* The techniques of mode `best`, each on its own: equalisation leaves the float net as it was, bias
 * correction takes away the mean error, what is chosen is never worse than the plain plan. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cpu/quant/improve.h"
#include "tests/unit/quant/made.h"

static const int cnn_widths[] = {7, 10, 13, 5}, resnet_widths[] = {5, 8, 3, 7, 9, 11, 4, 6, 10};

struct fixture {
    struct nn_model *m;
    struct made *made;
    struct quant_graph *g;
    struct quant_calibration *c;
    uint32_t rows[16];
    struct quant_sample s;
    struct quant_trial t;
};

static void set_up(struct fixture *f, const char *net, const int *widths, int n)
{
    memset(f, 0, sizeof *f);
    f->m = unfused_model(net, widths, n, 21);
    f->made = made_dataset(f->m->net, 8);
    for (uint32_t i = 0; i < 8; i++) f->rows[i] = i;
    f->s = (struct quant_sample){.d = &f->made->d, .rows = f->rows, .n = 8};
    assert_int_equal(quant_graph_create(&f->g, f->m, NULL), 0);
    assert_int_equal(quant_calibrate(&f->c, f->g, &f->s, NULL), 0);
    f->t = (struct quant_trial){&f->s, f->c, f->m};
}

static void tear_down(struct fixture *f)
{
    quant_calibration_destroy(f->c);
    quant_graph_destroy(f->g);
    made_destroy(f->made);
    nn_model_destroy(f->m);
}

static float spread(const float *v, int n)
{
    float lo = INFINITY, hi = 0;
    for (int i = 0; i < n; i++) {
        if (v[i] <= 0) continue;
        lo = fminf(lo, v[i]);
        hi = fmaxf(hi, v[i]);
    }
    return hi / lo;
}

static void test_equalise(void **state)
{
    (void)state;
    const struct {
        const char *net;
        const int *widths;
        int n, pairs;
    } nets[] = {{"cnn", cnn_widths, 4, 4}, {"resnet", resnet_widths, 9, 6}};
    for (int k = 0; k < 2; k++) {
        struct fixture f;
        struct quant_calibration *after;
        int equalised[QUANT_MAX_NODES] = {0};
        set_up(&f, nets[k].net, nets[k].widths, nets[k].n);
        for (int j = 0; j < f.g->node[0].cin * f.g->node[0].k; j++) f.g->node[0].w[j] *= 9;
        quant_calibration_destroy(f.c);
        assert_int_equal(quant_calibrate(&f.c, f.g, &f.s, NULL), 0);
        assert_int_equal(quant_equalise(f.g, f.c, equalised), nets[k].pairs);
        assert_int_equal(equalised[0], 1);
        assert_int_equal(quant_calibrate(&after, f.g, &f.s, NULL), 0);
        for (int i = 0; i < 8 * f.g->n_labels; i++)
            assert_true(fabsf(after->logits[i] - f.c->logits[i]) <
                        1e-4f * (1 + fabsf(f.c->logits[i])));
        int cout = f.g->node[0].cout;
        assert_true(spread(after->tensor[1].most, cout) < spread(f.c->tensor[1].most, cout));
        quant_calibration_destroy(after);
        tear_down(&f);
    }
}

/* Weights that all round the same way: what bias correction is for. */
static void lean(struct fixture *f)
{
    struct quant_node *node = &f->g->node[1];
    for (int i = 0; i < node->cout * node->cin * node->k; i++)
        node->w[i] = i % (node->cin * node->k) ? 0.0104f : 1;
    quant_calibration_destroy(f->c);
    assert_int_equal(quant_calibrate(&f->c, f->g, &f->s, NULL), 0);
    f->t.c = f->c;
}

static void test_bias(void **state)
{
    (void)state;
    struct fixture f;
    struct quant_plan *p;
    double rmse[2], shift[2][8], moved = 0;
    set_up(&f, "cnn", cnn_widths, 4);
    lean(&f);
    assert_int_equal(quant_plan_create(&p, f.g, QUANT_FULL, 255, f.c, NULL), 0);
    assert_int_equal(quant_try(&f.t, p, &rmse[0], shift[0], NULL), 0);
    assert_int_equal(quant_correct_bias(p, f.c, NULL), 0);
    assert_int_equal(quant_try(&f.t, p, &rmse[1], shift[1], NULL), 0);
    for (int l = 0; l < 5; l++) moved += fabs(shift[1][l]) - fabs(shift[0][l]);
    assert_true(rmse[1] < 0.85 * rmse[0]);
    assert_true(moved < 0);
    quant_plan_destroy(p);
    tear_down(&f);
}

/* How far one more call of quant_match_means moves the first three layers' biases, in steps of their outputs. */
static double moved_by_matching(struct quant_plan *p, const struct fixture *f)
{
    double moved = 0;
    float before[3][64];
    for (int i = 0; i < 3; i++)
        memcpy(before[i], p->g->node[i].bias, (size_t)p->g->node[i].cout * sizeof(float));
    assert_int_equal(quant_match_means(p, &f->t, NULL), 0);
    for (int i = 0; i < 3; i++)
        for (int r = 0; r < p->g->node[i].cout; r++)
            moved +=
                fabs((double)(p->g->node[i].bias[r] - before[i][r]) / (double)p->act[i + 1].scale);
    return moved;
}

/* Once the means are matched there is little left to do, and the answer is nearer. */
static void test_means(void **state)
{
    (void)state;
    struct fixture f;
    struct quant_plan *p;
    double rmse[2];
    set_up(&f, "cnn", cnn_widths, 4);
    lean(&f);
    assert_int_equal(quant_plan_create(&p, f.g, QUANT_FULL, 127, f.c, NULL), 0);
    assert_int_equal(quant_try(&f.t, p, &rmse[0], NULL, NULL), 0);
    double first = moved_by_matching(p, &f), second = moved_by_matching(p, &f);
    assert_int_equal(quant_try(&f.t, p, &rmse[1], NULL, NULL), 0);
    print_message("biases moved %.2f, then %.2f steps; rmse %.5f, %.5f\n", first, second, rmse[0],
                  rmse[1]);
    assert_true(first > 0.5 && second < 0.35 * first);
    assert_true(rmse[1] < 0.85 * rmse[0]);
    assert_true(p->corrected[0] && p->corrected[2] && !p->corrected[p->g->n - 1]);
    quant_plan_destroy(p);
    tear_down(&f);
}

static double best_rmse(const struct fixture *f, struct quant_options opt)
{
    struct quant_artifact a;
    struct cn_error err = {0};
    if (quant_convert(&a, f->m, &f->made->d, &opt, &err)) fail_msg("%s", err.text);
    double rmse = a.report.output_rmse;
    quant_artifact_release(&a);
    return rmse;
}

static void test_choice(void **state)
{
    (void)state;
    const enum quant_switch off = QUANT_OFF, on = QUANT_ON;
    struct fixture f;
    set_up(&f, "resnet", resnet_widths, 9);
    double full = best_rmse(&f, (struct quant_options){.mode = QUANT_FULL});
    double best = best_rmse(&f, (struct quant_options){.mode = QUANT_BEST});
    double none = best_rmse(&f, (struct quant_options){.mode = QUANT_BEST,
                                                       .bias_correction = off,
                                                       .equalisation = off,
                                                       .observer_choice = off});
    double bias = best_rmse(
        &f,
        (struct quant_options){.mode = QUANT_BEST, .equalisation = off, .observer_choice = off});
    double seven = best_rmse(&f, (struct quant_options){.mode = QUANT_FULL, .reduce_range = 1});
    double forced = best_rmse(&f, (struct quant_options){.mode = QUANT_FULL, .equalisation = on});
    assert_true(best < full);
    assert_true(none == full);
    assert_true(bias <= none && best <= bias);
    assert_true(forced != full);
    assert_true(seven > 1.3 * full); /* half the steps */
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equalise),
        cmocka_unit_test(test_bias),
        cmocka_unit_test(test_means),
        cmocka_unit_test(test_choice),
    };
    return cmocka_run_group_tests_name("quant_improve", tests, NULL, NULL);
}
