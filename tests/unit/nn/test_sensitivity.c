/* Tests of the sensitivity scan: totals exact to the last weight, layers that hurt less give more, a
 * layer that does not matter goes first, and nothing dies out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/train/backend.h"
#include "nn/sensitivity.h"
#include "nn/train.h"
#include "tests/unit/nn/synthetic.h"

static struct synthetic ecg, beats;
static struct nn_backend *be;

static struct nn_model *model_of(const char *net)
{
    bool beat = !strcmp(net, "beat");
    struct nn_shape shape = {beat ? 1 : 12, beat ? 260 : 250, 5};
    const int cnn[] = {8, 6, 10, 5}, resnet[] = {4, 6, 5, 7, 4, 6, 5, 7, 8}, rnn[] = {9};
    const int *width = !strcmp(net, "cnn")      ? cnn
                       : !strcmp(net, "resnet") ? resnet
                       : !strcmp(net, "rnn")    ? rnn
                                                : NULL;
    int n = width == cnn ? 4 : width == resnet ? 9 : width ? 1 : 0;
    struct nn_net *built;
    struct nn_model *m;
    assert_int_equal(nn_net_build(&built, net, width, n, shape, NULL), 0);
    assert_int_equal(nn_model_create(&m, built, 3, NULL, NULL), 0);
    return m;
}

static const struct ecg_dataset *data_of(const char *net)
{
    return strcmp(net, "beat") ? &ecg.d : &beats.d;
}

static void shares_are_exact_and_fair(void **state)
{
    struct nn_scan s = {.n = 3};
    int64_t take[3];
    struct cn_error err;
    s.group[0] = (struct nn_scan_group){0, 100, {0.1, 0.3, 1, 2}};
    s.group[1] = (struct nn_scan_group){1, 1000, {0.01, 0.02, 0.1, 0.5}}; /* hurts least */
    s.group[2] = (struct nn_scan_group){2, 40, {-0.2, 0.5, 0.4, 3}};      /* not even monotone */
    for (int64_t remove = 0; remove <= 1140 - 3; remove += 7) {
        int64_t sum = 0;
        assert_int_equal(nn_scan_share(&s, remove, take, &err), 0);
        for (int g = 0; g < 3; g++) {
            assert_true(take[g] >= 0 && take[g] < s.group[g].left);
            sum += take[g];
        }
        assert_int_equal(sum, remove);
        /* not before it costs as much as a quarter of the others does */
        if (remove <= 700) assert_true(take[0] <= 25);
    }
    assert_int_equal(nn_scan_share(&s, 500, take, &err), 0);
    assert_true(take[1] / 1000.0 > take[0] / 100.0);
    assert_int_equal(nn_scan_share(&s, 1140 - 3, take, &err), 0);
    for (int g = 0; g < 3; g++) assert_int_equal(take[g], s.group[g].left - 1);
    assert_int_equal(nn_scan_share(&s, 1140 - 2, take, &err), CN_EINVALID);
}

/* Layers that cost nothing give alike. */
static void no_cost_no_preference(void **state)
{
    struct nn_scan s = {.n = 2};
    int64_t take[2];
    s.group[0] = (struct nn_scan_group){0, 100, {0}};
    s.group[1] = (struct nn_scan_group){1, 300, {0}};
    assert_int_equal(nn_scan_share(&s, 200, take, NULL), 0);
    assert_int_equal(take[0], 50);
    assert_int_equal(take[1], 150);
}

/* On every net the total is met, weights already gone count, and nothing grows. */
static void totals_are_exact(void **state)
{
    static const char *const nets[] = {"cnn", "rnn", "resnet", "beat"};
    for (int i = 0; i < 4; i++) {
        struct nn_model *m = model_of(nets[i]);
        struct nn_scan_how how = {be, data_of(nets[i]), 16};
        int64_t all = 0, structures = 0, sum = 0;
        size_t keep[NN_MAX_LAYERS], again[NN_MAX_LAYERS];
        int widths[NN_MAX_WIDTHS];
        float *mask = malloc(m->net->n_params * sizeof *mask);
        for (int l = 0; l < m->net->n_layers; l++) all += (int64_t)nn_prune_weights(m, l, NULL);
        assert_int_equal(nn_sensitivity_weights(&how, m, all / 2, keep, NULL), 0);
        for (int l = 0; l < m->net->n_layers; l++) sum += (int64_t)keep[l];
        assert_int_equal(sum, all / 2);
        assert_int_equal(nn_prune_mask_layers(m, keep, mask, NULL), 0);
        for (size_t k = 0; k < m->net->n_params; k++) m->params[k] *= mask[k];
        assert_int_equal(nn_sensitivity_weights(&how, m, all / 5, again, NULL), 0);
        sum = 0;
        for (int l = 0; l < m->net->n_layers; l++) {
            assert_true(again[l] <= keep[l]);
            sum += (int64_t)again[l];
        }
        assert_int_equal(sum, all / 5);
        for (int w = 0; w < m->net->n_widths; w++) structures += m->net->width[w];
        assert_int_equal(
            nn_sensitivity_structures(&how, m, NN_L1, NULL, structures / 2, widths, NULL), 0);
        sum = 0;
        for (int w = 0; w < m->net->n_widths; w++) {
            assert_true(widths[w] >= 1 && widths[w] <= m->net->width[w]);
            sum += widths[w];
        }
        assert_int_equal(sum, structures / 2);
        free(mask);
        nn_model_destroy(m);
    }
}

static float *weight(struct nn_model *m, const char *name, size_t *n)
{
    for (int i = 0; i < m->net->n_tensors; i++)
        if (!strcmp(m->net->tensor[i].name, name)) {
            *n = m->net->tensor[i].count;
            return m->params + m->net->tensor[i].offset;
        }
    fail_msg("no tensor %s", name);
    return NULL;
}

/* In a beat net whose second linear layer's outputs are not read, that layer costs nothing. */
static void what_does_not_matter_goes_first(void **state)
{
    struct nn_model *m = model_of("beat");
    struct nn_scan_how how = {be, &beats.d, 0};
    struct nn_scan s;
    size_t n, fc2;
    float *fc3 = weight(m, "fc3.weight", &n), *w2 = weight(m, "fc2.weight", &fc2);
    for (size_t i = 0; i < n; i++) fc3[i] *= i % 20 < 2 ? 20 : 0; /* 2 of its 20 inputs are read */
    for (size_t i = 0; i < fc2; i++) w2[i] *= i / 30 < 2 ? 8 : 0.01f;
    assert_int_equal(nn_scan_weights(&how, m, &s, NULL), 0);
    assert_int_equal(s.n, 6);
    const struct nn_scan_group *dead = &s.group[4], *alive = &s.group[3];
    assert_int_equal(dead->left, fc2);
    for (int k = 0; k < 3; k++) assert_true(fabs(dead->hurt[k]) < 1e-6); /* up to 75 % */
    double most = 0;
    for (int k = 0; k < NN_SCAN_POINTS; k++) most = fmax(most, fabs(alive->hurt[k]));
    assert_true(most > 1e-4);
    nn_model_destroy(m);
}

static int set_up(void **state)
{
    struct cpu_train_options opt = {.threads = 1};
    struct cn_error err;
    synthetic_make(&ecg, ECG_MULTI_LABEL, 60, 12, 250);
    synthetic_make(&beats, ECG_ONE_LABEL, 100, 1, 260);
    return cpu_train_create(&be, &opt, &err);
}

static int tear_down(void **state)
{
    synthetic_free(&ecg);
    synthetic_free(&beats);
    be->ops->destroy(be);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_are_exact_and_fair),
        cmocka_unit_test(no_cost_no_preference),
        cmocka_unit_test(totals_are_exact),
        cmocka_unit_test(what_does_not_matter_goes_first),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
