/* Tests of pruning: targets hit exactly, the shrunken net equals the big one with those structures
 * zeroed, the right structures go, masks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/train/backend.h"
#include "nn/prune.h"
#include "nn/train.h"
#include "tests/unit/nn/synthetic.h"

static struct synthetic ecg, beats;
static struct nn_backend *be;

static struct nn_model *model_of(const char *net, const int *width, int n, uint64_t seed)
{
    struct nn_net *built;
    struct nn_model *m;
    struct cn_error err;
    struct nn_shape shape = {12, 250, 5}, beat = {1, 260, 5};
    assert_int_equal(nn_net_build(&built, net, width, n, strcmp(net, "beat") ? shape : beat, &err),
                     0);
    assert_int_equal(nn_model_create(&m, built, seed, NULL, &err), 0);
    /* running statistics and affine parameters that are not 0 and 1 */
    for (size_t i = 0; i < m->net->n_floats; i++)
        if (m->params[i] == 0 || m->params[i] == 1)
            m->params[i] = 0.2f + cn_rng_uniform(cn_rng(seed, 1001, 0, i).v[0]);
        else
            m->params[i] *= 3; /* so that the outputs depend on the input */
    return m;
}

static void keeps_are_exact(void **state)
{
    static const double f[] = {0.75, 0.5, 0.125};
    static const int rounds[] = {1, 5, 10};
    for (int n = 1; n <= 130; n++)
        for (int i = 0; i < 3; i++)
            for (int r = 0; r < 3; r++) {
                int before = n;
                for (int k = 1; k <= rounds[r]; k++) {
                    int left = nn_prune_keep(n, f[i], k, rounds[r]);
                    assert_true(left >= 1 && left <= before);
                    before = left;
                }
                int target = (int)lround(n * f[i]);
                assert_int_equal(before, target < 1 ? 1 : target);
            }
    assert_true(nn_prune_stage(NN_STAGES_LINEAR, 0.4, 3, 6) == 0.7);
    assert_true(fabs(nn_prune_stage(NN_STAGES_GEOMETRIC, 0.25, 1, 2) - 0.5) < 1e-12);
}

/* Every schedule of study A on every net, one call per round. */
static void rounds_hit_their_targets(void **state)
{
    static const char *const nets[] = {"cnn", "rnn", "resnet", "beat"};
    static const double f[] = {0.75, 0.5, 0.125};
    static const int rounds[] = {1, 5, 10};
    for (int n = 0; n < 4; n++)
        for (int i = 0; i < 9; i++) {
            struct nn_model *m = model_of(nets[n], NULL, 0, 1), *small;
            struct cn_error err;
            int r = rounds[i % 3], keep[NN_MAX_WIDTHS];
            for (int k = 1; k <= r; k++) {
                for (int w = 0; w < m->net->n_widths; w++)
                    keep[w] = nn_prune_keep(m->net->full_width[w], f[i / 3], k, r);
                assert_int_equal(nn_prune(&small, m, keep, i % 2 ? NN_L2 : NN_L1, NULL, &err), 0);
                nn_model_destroy(m);
                m = small;
            }
            for (int w = 0; w < m->net->n_widths; w++)
                assert_int_equal(m->net->width[w], lround(m->net->full_width[w] * f[i / 3]));
            nn_model_destroy(m);
        }
}

/* Scores that keep what `stay` says, for every width. */
static void set_scores(const struct nn_net *net, double *score, uint64_t seed, int *keep)
{
    for (int w = 0; w < net->n_widths; w++) {
        keep[w] = 0;
        for (int s = 0; s < net->width[w]; s++) {
            int stays = s == 0 || cn_rng(seed, 1002, (uint32_t)w, (uint64_t)s).v[0] % 3 != 0;
            *score++ = stays;
            keep[w] += stays;
        }
    }
}

/* Zeroes what produces a structure: its rows, its bias, and its BatchNorm's affine pair. */
static void zero_structures(struct nn_model *m, const double *score)
{
    const struct nn_net *net = m->net;
    size_t first[NN_MAX_WIDTHS], at = 0;
    for (int w = 0; w < net->n_widths; w++) {
        first[w] = at;
        at += (size_t)net->width[w];
    }
    for (int i = 0; i < net->n_layers; i++) {
        const struct nn_layer *l = &net->layer[i];
        int w = l->op == NN_BATCHNORM ? net->layer[l->input[0]].width : l->width;
        if (w < 0) continue;
        for (int k = 0; k < (l->op == NN_BATCHNORM ? 2 : l->n_tensors); k++) {
            const struct nn_tensor *t = &net->tensor[l->tensor + k];
            size_t row = t->count / (size_t)l->cout;
            for (int s = 0; s < l->cout; s++)
                if (score[first[w] + (size_t)s] == 0)
                    memset(m->params + t->offset + (size_t)s * row, 0, row * sizeof(float));
        }
    }
}

static void same_predictions(const struct nn_model *a, const struct nn_model *b)
{
    const struct ecg_dataset *d = a->net->n_leads == 1 ? &beats.d : &ecg.d;
    uint32_t index[20];
    float pa[100], pb[100], spread = 0;
    struct cn_error err;
    for (uint32_t i = 0; i < 20; i++) index[i] = i;
    assert_int_equal(nn_predict(be, a, d, index, 20, pa, &err), 0);
    assert_int_equal(nn_predict(be, b, d, index, 20, pb, &err), 0);
    for (int i = 0; i < 100; i++) {
        assert_true(fabsf(pa[i] - pb[i]) < 2e-6f);
        spread = fmaxf(spread, fabsf(pa[i] - pa[i % 5]));
    }
    assert_true(spread > 1e-3f); /* the outputs do depend on the input */
}

static void shrunken_equals_zeroed(void **state)
{
    static const char *const nets[] = {"cnn", "resnet", "beat"};
    static const int cnn[] = {7, 9, 5, 6}, resnet[] = {5, 4, 6, 7, 5, 8, 4, 6, 5};
    for (int n = 0; n < 3; n++)
        for (uint64_t seed = 1; seed < 4; seed++) {
            double score[NN_MAX_WIDTHS * 32];
            int keep[NN_MAX_WIDTHS];
            struct nn_model *big = model_of(nets[n],
                                            n == 0   ? cnn
                                            : n == 1 ? resnet
                                                     : NULL,
                                            n == 0   ? 4
                                            : n == 1 ? 9
                                                     : 0,
                                            seed);
            struct nn_model *small;
            struct cn_error err;
            set_scores(big->net, score, seed, keep);
            assert_int_equal(nn_prune(&small, big, keep, NN_TAYLOR, score, &err), 0);
            assert_true(small->net->n_params < big->net->n_params);
            zero_structures(big, score);
            same_predictions(big, small);
            nn_model_destroy(big);
            nn_model_destroy(small);
        }
}

/* LayerNorm sees fewer channels after pruning, so the RNN is compared at the LSTM's output. */
static void shrunken_lstm_equals_zeroed(void **state)
{
    enum { H = 9, T = 40, B = 3 };
    const int width[] = {H};
    double score[H];
    int keep[1], at[H], n = 0;
    struct nn_model *big = model_of("rnn", width, 1, 5), *small;
    struct cn_error err;
    set_scores(big->net, score, 2, keep);
    assert_int_equal(nn_prune(&small, big, keep, NN_TAYLOR, score, &err), 0);
    assert_true(keep[0] < H);
    for (int u = 0; u < H; u++)
        if (score[u] > 0) at[n++] = u;
    const struct nn_tensor *t = big->net->tensor;
    for (int k = 0; k < 4; k++) /* its rows in all gates give i = f = o = 1/2, g = 0: h stays 0 */
        for (int row = 0; row < 4 * H; row++)
            if (score[row % H] == 0) {
                size_t span = t[k].count / (4 * H);
                memset(big->params + t[k].offset + (size_t)row * span, 0, span * 4);
            }
    float y[2][B * H * T];
    const struct nn_model *both[2] = {big, small};
    for (int i = 0; i < 2; i++) {
        const struct nn_tensor *v = both[i]->net->tensor;
        struct nn_lstm a = {.m = 1, .b = B, .c = 12, .h = both[i]->net->width[0], .t = T};
        a.x = ecg.x;
        a.w_ih = both[i]->params + v[0].offset;
        a.w_hh = both[i]->params + v[1].offset;
        a.b_ih = both[i]->params + v[2].offset;
        a.b_hh = both[i]->params + v[3].offset;
        a.y = y[i];
        assert_int_equal(be->ops->lstm_forward(be, &a), 0);
    }
    for (int b = 0; b < B; b++)
        for (int u = 0; u < n; u++)
            for (int s = 0; s < T; s++)
                assert_true(fabsf(y[0][(b * H + at[u]) * T + s] - y[1][(b * n + u) * T + s]) <
                            1e-6f);
    const char *const with[] = {"norm.weight", "norm.bias"};
    for (int k = 0; k < 2; k++)
        for (int u = 0; u < n; u++) {
            assert_string_equal(t[4 + k].name, with[k]);
            assert_true(small->params[small->net->tensor[4 + k].offset + (size_t)u] ==
                        big->params[t[4 + k].offset + (size_t)at[u]]);
        }
    nn_model_destroy(big);
    nn_model_destroy(small);
}

static float *weight(struct nn_model *m, const char *name)
{
    for (int i = 0; i < m->net->n_tensors; i++)
        if (!strcmp(m->net->tensor[i].name, name)) return m->params + m->net->tensor[i].offset;
    fail_msg("no tensor %s", name);
    return NULL;
}

/* By hand: which of three channels go, under L1, L2, ties, and with an upstream removal. */
static void the_right_ones_go(void **state)
{
    const int width[] = {3, 3, 1, 1}, keep[] = {2, 2, 1, 1};
    struct nn_model *m = model_of("cnn", width, 4, 1), *small;
    struct cn_error err;
    float *w1 = weight(m, "conv1.weight"), *w2 = weight(m, "conv2.weight");
    memset(w1, 0, 3 * 12 * 3 * 4);
    memset(w2, 0, 3 * 3 * 3 * 4);
    w1[0] = 3;            /* channel 0: L1 3, L2 3 */
    w1[36] = w1[37] = -2; /* channel 1: L1 4, L2 2.83 */
    w1[72] = 3.5f;        /* channel 2: L1 3.5, L2 3.5 */
    /* channel 1 of conv2 is large only in what it reads from channel 0 of conv1 */
    w2[0 * 9 + 3] = 1, w2[1 * 9 + 0] = 9, w2[1 * 9 + 3] = 0.5f, w2[2 * 9 + 6] = 1;
    assert_int_equal(nn_prune(&small, m, keep, NN_L1, NULL, &err), 0);
    assert_true(weight(small, "conv1.weight")[0] == -2); /* 1 and 2 stay */
    assert_true(weight(small, "conv1.weight")[36] == 3.5f);
    assert_true(weight(small, "conv2.weight")[0] == 1); /* 0 and 2 stay, reading 1 and 2 */
    assert_true(weight(small, "conv2.weight")[6 + 3] == 1);
    nn_model_destroy(small);
    assert_int_equal(nn_prune(&small, m, keep, NN_L2, NULL, &err), 0);
    assert_true(weight(small, "conv1.weight")[0] == 3); /* 0 and 2 stay */
    assert_true(weight(small, "conv2.weight")[0] == 9); /* and so does channel 1 of conv2 */
    nn_model_destroy(small);
    for (int i = 0; i < 108; i++) w1[i] = 1; /* all equal: the higher index goes */
    weight(m, "bn1.weight")[2] = 77;
    assert_int_equal(nn_prune(&small, m, keep, NN_L1, NULL, &err), 0);
    assert_true(weight(small, "bn1.weight")[1] == weight(m, "bn1.weight")[1]);
    nn_model_destroy(small);
    const int none[] = {0, 2, 1, 1}, more[] = {4, 2, 1, 1};
    assert_int_equal(nn_prune(&small, m, none, NN_L1, NULL, &err), CN_EINVALID);
    assert_int_equal(nn_prune(&small, m, more, NN_L1, NULL, &err), CN_EINVALID);
    assert_int_equal(nn_prune(&small, m, keep, NN_TAYLOR, NULL, &err), CN_EINVALID);
    nn_model_destroy(m);
}

/* A channel that nothing reads does not matter to the loss; Taylor says so although its norm is
 * the largest. */
static void taylor_sees_the_loss(void **state)
{
    const int width[] = {4, 4, 4, 4};
    struct nn_model *m = model_of("cnn", width, 4, 3);
    struct cn_error err;
    double score[16];
    float *w1 = weight(m, "conv1.weight"), *w2 = weight(m, "conv2.weight");
    for (int i = 0; i < 36; i++) w1[2 * 36 + i] = 5;
    for (int o = 0; o < 4; o++)
        for (int k = 0; k < 3; k++) w2[(o * 4 + 2) * 3 + k] = 0;
    assert_int_equal(nn_prune_taylor(be, m, &ecg.d, 100, score, &err), 0);
    for (int s = 0; s < 16; s++) assert_true(s == 2 ? score[s] == 0 : score[s] > 0);
    nn_model_destroy(m);
}

static void masks(void **state)
{
    struct nn_model *m = model_of("rnn", NULL, 0, 1);
    struct cn_error err;
    float *mask = malloc(m->net->n_params * sizeof *mask), least = 10, most = 0;
    assert_int_equal(nn_prune_mask(m, 0.6, mask, &err), 0);
    size_t lstm = m->net->tensor[0].count + m->net->tensor[1].count, gone = 0;
    for (size_t i = 0; i < lstm; i++) {
        float size = fabsf(m->params[i]);
        gone += mask[i] == 0;
        if (mask[i] == 0) most = fmaxf(most, size);
        if (mask[i] == 1) least = fminf(least, size);
    }
    assert_int_equal(gone, llround(0.6 * (double)lstm));
    assert_true(most <= least);
    for (size_t i = lstm; i < lstm + 512; i++) assert_true(mask[i] == 1); /* biases */
    assert_int_equal(nn_prune_mask(m, 1, mask, &err), CN_EINVALID);
    free(mask);
    nn_model_destroy(m);
}

static int set_up(void **state)
{
    struct cpu_train_options opt = {.threads = 1};
    struct cn_error err;
    synthetic_make(&ecg, ECG_MULTI_LABEL, 100, 12, 250);
    synthetic_make(&beats, ECG_ONE_LABEL, 40, 1, 260);
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
        cmocka_unit_test(keeps_are_exact),
        cmocka_unit_test(rounds_hit_their_targets),
        cmocka_unit_test(shrunken_equals_zeroed),
        cmocka_unit_test(shrunken_lstm_equals_zeroed),
        cmocka_unit_test(the_right_ones_go),
        cmocka_unit_test(taylor_sees_the_loss),
        cmocka_unit_test(masks),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
