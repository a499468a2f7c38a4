/* tests/unit/nn/test_alone.c - a record's probabilities depend on that record alone: the same bits
 * alone, in any company, at any place, in batches of any size and on any number of threads, for every
 * net and every instruction set that this CPU has. Widths and lengths are odd, so that every kernel
 * has a tail, and wide enough for Winograd's tiles. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "cpu/train/backend.h"
#include "nn/train.h"
#include "tests/unit/nn/synthetic.h"

#define RECORDS 67
#define LABELS 5

struct net_case {
    const char *net;
    int n_widths, widths[9];
    int leads, samples;
};

static const struct net_case cases[] = {
    {"cnn", 4, {9, 17, 23, 11}, 3, 251},
    {"cnn", 4, {33, 5, 19, 7}, 12, 254},
    {"cnn", 4, {32, 64, 96, 32}, 12, 253},
    {"rnn", 1, {3}, 12, 19},
    {"rnn", 1, {13}, 12, 37},
    {"resnet", 9, {7, 9, 11, 13, 15, 17, 19, 21, 23}, 5, 47},
    {"beat", 5, {5, 10, 20, 30, 20}, 1, 61},
    {"beat", 5, {13, 29, 33, 7, 3}, 1, 75},
};

/* Weights as large as after training, so that every last bit of the sums shows in the answers. */
static struct nn_model *model_of(const struct net_case *k)
{
    struct nn_net *net;
    struct nn_model *m;
    struct cn_error err;
    struct nn_shape shape = {k->leads, k->samples, LABELS};
    assert_int_equal(nn_net_build(&net, k->net, k->widths, k->n_widths, shape, &err), 0);
    assert_int_equal(nn_model_create(&m, net, 5, NULL, &err), 0);
    for (int i = 0; i < m->net->n_tensors; i++) {
        const struct nn_tensor *t = &m->net->tensor[i];
        for (size_t j = t->offset; t->trainable && j < t->offset + t->count; j++)
            m->params[j] *= 1.5f;
    }
    return m;
}

/* Records of very different size: what leaks from one to the next is not lost in rounding. */
static void scale_records(struct synthetic *s)
{
    size_t record = (size_t)s->d.n_leads * (size_t)s->d.n_samples;
    for (int i = 0; i < s->d.n; i++)
        for (size_t j = 0; j < record; j++)
            s->x[(size_t)i * record + j] *= i % 5 == 3 ? 1000.0f : i % 7 == 2 ? 1e-3f : 1.0f;
}

static void predict(const char *isa, int threads, const struct nn_model *m,
                    const struct ecg_dataset *d, const uint32_t *idx, int n, float *p)
{
    struct nn_backend *be;
    struct cn_error err = {0};
    const struct cpu_train_options opt = {.threads = threads, .isa = isa};
    assert_int_equal(cpu_train_create(&be, &opt, &err), 0);
    if (nn_predict(be, m, d, idx, n, p, &err)) fail_msg("%s", err.text);
    be->ops->destroy(be);
}

static void check(const struct net_case *k, const char *isa, const float *alone,
                  const struct nn_model *m, const struct ecg_dataset *d, int n, int threads)
{
    uint32_t idx[RECORDS] = {0};
    float p[RECORDS * LABELS];
    for (int i = 0; i < n; i++) idx[i] = (uint32_t)((i * 29 + n * 5 + threads) % RECORDS);
    predict(isa, threads, m, d, idx, n, p);
    for (int i = 0; i < n; i++)
        for (int l = 0; l < LABELS; l++)
            if (p[i * LABELS + l] != alone[idx[i] * LABELS + (uint32_t)l])
                fail_msg("%s of %d samples on %s: record %u, label %d is %.9g alone, %.9g at place "
                         "%d of %d on %d threads",
                         k->net, k->samples, isa, idx[i], l,
                         (double)alone[idx[i] * LABELS + (uint32_t)l], (double)p[i * LABELS + l], i,
                         n, threads);
}

static void check_net(const struct net_case *k, const char *isa)
{
    struct synthetic s;
    float alone[RECORDS * LABELS], spread = 0;
    struct nn_model *m = model_of(k);
    synthetic_make(&s, m->net->loss == NN_BCE ? ECG_MULTI_LABEL : ECG_ONE_LABEL, RECORDS, k->leads,
                   k->samples);
    scale_records(&s);
    for (uint32_t i = 0; i < RECORDS; i++) predict(isa, 1, m, &s.d, &i, 1, alone + i * LABELS);
    for (int i = LABELS; i < RECORDS * LABELS; i++)
        spread = fmaxf(spread, fabsf(alone[i] - alone[i % LABELS]));
    if (!(spread > 1e-3f)) fail_msg("%s: all records score alike", k->net);
    for (int n = 2; n <= RECORDS; n += n < 20 ? 1 : 7) check(k, isa, alone, m, &s.d, n, 1 + n % 2);
    for (int n = 62; n <= RECORDS; n++) check(k, isa, alone, m, &s.d, n, 1 + (n & 2) / 2);
    nn_model_destroy(m);
    synthetic_free(&s);
}

static void test_isa(void **state)
{
    const char *isa = *state;
    struct nn_backend *be;
    const struct cpu_train_options opt = {.threads = 1, .isa = isa};
    if (cpu_train_create(&be, &opt, NULL)) {
        printf("SKIPPED: this CPU has no %s\n", isa);
        return;
    }
    be->ops->destroy(be);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_net(&cases[i], isa);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_isa, "ref"),
        cmocka_unit_test_prestate(test_isa, "portable"),
        cmocka_unit_test_prestate(test_isa, "avx2"),
        cmocka_unit_test_prestate(test_isa, "avx512"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
