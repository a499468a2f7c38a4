/* Conversion of every net in every mode: the runtime takes the file and its layers follow the float
 * net; sizes keep the rule; same inputs give the same bytes; degenerate nets convert, hostile ones get
 * an error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cpu/quant/improve.h"
#include "nn/prune.h"
#include "tests/unit/quant/made.h"

static const int cnn_widths[] = {7, 10, 13, 5}, rnn_widths[] = {11},
                 beat_widths[] = {5, 3, 7, 9, 11};
static const int resnet_widths[] = {5, 8, 3, 7, 9, 11, 4, 6, 10};
static const struct zoo {
    const char *name;
    const int *widths;
    int n, records;
} zoo[] = {{"cnn", cnn_widths, 4, 12},
           {"rnn", rnn_widths, 1, 8},
           {"resnet", resnet_widths, 9, 8},
           {"beat", beat_widths, 5, 20}};
#define ZOO (int)(sizeof zoo / sizeof zoo[0])

static void convert(struct quant_artifact *a, const struct nn_model *m, const struct made *made,
                    struct quant_options opt)
{
    struct cn_error err = {0};
    if (quant_convert(a, m, made ? &made->d : NULL, &opt, &err))
        fail_msg("%s, mode %s: %s", m->net->name, quant_mode_names[opt.mode], err.text);
}

static size_t size_rule(const struct nn_net *net)
{
    size_t limit = 512;
    for (int i = 0; i < net->n_layers; i++) {
        const struct nn_layer *l = &net->layer[i];
        size_t rows = (size_t)l->cout * (l->op == NN_LSTM ? 4 : 1);
        if (l->op == NN_CONV1D) limit += rows * (size_t)(l->cin * l->k) + 8 * rows;
        if (l->op == NN_LINEAR) limit += rows * (size_t)(l->cin * l->tin) + 8 * rows;
        if (l->op == NN_LSTM) limit += rows * (size_t)(l->cin + l->cout) + 8 * rows;
        if (l->op == NN_LAYERNORM) limit += 8 * rows;
    }
    return limit;
}

static void check_report(const struct quant_report *r, const char *net)
{
    assert_true(r->n >= 4);
    for (int i = 0; i < r->n; i++) {
        const struct quant_row *q = &r->row[i];
        if (i > 0 && !(q->snr_db > 16)) /* 7 bits give about 25 dB less what adds up */
            fail_msg("%s in mode %s: layer '%s' (%s) has %.1f dB", net, quant_mode_names[r->mode],
                     q->name, q->kind, q->snr_db);
        assert_true(q->min <= q->max && q->clipped >= 0 && q->clipped < 0.05);
    }
}

static void test_modes(void **state)
{
    (void)state;
    for (int z = 0; z < ZOO; z++) {
        struct nn_model *m = unfused_model(zoo[z].name, zoo[z].widths, zoo[z].n, 5);
        struct made *made = made_dataset(m->net, zoo[z].records);
        struct quant_artifact a, f;
        convert(&f, m, NULL, (struct quant_options){.mode = QUANT_FLOAT});
        for (int mode = QUANT_PAPER; mode <= QUANT_BEST; mode++) {
            convert(&a, m, made, (struct quant_options){.mode = (enum quant_mode)mode});
            check_report(&a.report, zoo[z].name);
            assert_true(a.n <= size_rule(m->net));
            assert_true(a.n < f.n);
            assert_int_equal(a.report.calibration, zoo[z].records);
            quant_artifact_release(&a);
        }
        quant_artifact_release(&f);
        made_destroy(made);
        nn_model_destroy(m);
    }
}

/* The float artifact is the folded net itself. */
static void test_float(void **state)
{
    (void)state;
    for (int z = 0; z < ZOO; z++) {
        struct nn_model *m = unfused_model(zoo[z].name, zoo[z].widths, zoo[z].n, 6);
        struct made *made = made_dataset(m->net, 1);
        struct quant_artifact a;
        struct cinchrt_model *model;
        struct cn_error err;
        void *memory;
        double want[8];
        float got[8];
        convert(&a, m, NULL, (struct quant_options){.mode = QUANT_FLOAT});
        assert_int_equal(quant_load(&model, &memory, a.data, a.n, &err), 0);
        void *scratch = malloc(cinchrt_scratch_size(model));
        assert_int_equal(cinchrt_run(model, made->x, got, NULL, scratch), 0);
        unfused_run(m, made->x, want);
        for (int l = 0; l < m->net->n_labels; l++)
            assert_true(fabs((double)got[l] - want[l]) < 1e-4 * (1 + fabs(want[l])));
        free(scratch);
        free(memory);
        quant_artifact_release(&a);
        made_destroy(made);
        nn_model_destroy(m);
    }
}

static void test_same_bytes(void **state)
{
    (void)state;
    struct nn_model *m = unfused_model("cnn", cnn_widths, 4, 5);
    struct made *made = made_dataset(m->net, 30);
    struct quant_artifact a, b, c;
    struct quant_options opt = {.mode = QUANT_BEST, .calibration = 6, .seed = 1};
    convert(&a, m, made, opt);
    convert(&b, m, made, opt);
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.data, b.data, a.n);
    opt.seed = 2; /* other records */
    convert(&c, m, made, opt);
    assert_true(a.n == c.n && memcmp(a.data, c.data, a.n) != 0);
    char *text = quant_report_json(&a.report);
    assert_non_null(text);
    assert_non_null(strstr(text, "\"mode\": \"best\""));
    assert_non_null(strstr(text, "\"snr_db\""));
    free(text);
    quant_artifact_release(&a);
    quant_artifact_release(&b);
    quant_artifact_release(&c);
    made_destroy(made);
    nn_model_destroy(m);
}

/* Bytes of the same net with no weight at zero. */
static size_t dense_size(const struct nn_model *m, const struct made *made, enum quant_mode mode)
{
    struct quant_artifact a;
    convert(&a, m, made, (struct quant_options){.mode = mode});
    size_t n = a.n;
    quant_artifact_release(&a);
    return n;
}

/* The share of the artifact's layers with weights that are stored sparse. */
static double share_sparse(const struct quant_artifact *a, uint64_t *nonzero)
{
    struct cinchrt_model *m;
    struct cinchrt_layer_info l;
    struct cn_error err;
    void *memory;
    int sparse = 0, all = 0;
    assert_int_equal(quant_load(&m, &memory, a->data, a->n, &err), 0);
    for (int i = 0; i < cinchrt_info(m)->layers; i++) {
        cinchrt_layer_info(m, i, &l);
        sparse += l.sparse;
        all += l.weights > 0;
    }
    *nonzero = cinchrt_info(m)->macs_nonzero;
    free(memory);
    return (double)sparse / all;
}

/* Weights that a mask zeroed are not stored, in any net and mode, and the file is never larger for
 * them; without zeros nothing is sparse. */
static void test_sparse(void **state)
{
    (void)state;
    static const double sparsity[] = {0, 0.02, 0.3, 0.6, 0.95};
    static const enum quant_mode modes[] = {QUANT_FLOAT, QUANT_PAPER, QUANT_FULL};
    for (int z = 0; z < ZOO; z++)
        for (int k = 0; k < 3; k++) {
            struct nn_model *m = unfused_model(zoo[z].name, zoo[z].widths, zoo[z].n, 5);
            struct made *made = made_dataset(m->net, 4);
            float *mask = malloc(sizeof *mask * m->net->n_params);
            size_t dense = dense_size(m, made, modes[k]), last = dense;
            for (int s = 0; s < 5; s++) {
                struct quant_artifact a;
                uint64_t nonzero;
                assert_int_equal(nn_prune_mask(m, sparsity[s], mask, NULL), 0);
                for (size_t i = 0; i < m->net->n_params; i++) m->params[i] *= mask[i];
                convert(&a, m, made, (struct quant_options){.mode = modes[k]});
                double share = share_sparse(&a, &nonzero);
                assert_true(a.n <= last); /* masks only grow */
                assert_true(sparsity[s] < 0.1 ? share < 0.5 : share > 0.6);
                if (s > 1)
                    assert_true((double)a.n < (double)dense - 0.5 * (sparsity[s] - 0.125) *
                                                                  (double)(dense - 800));
                assert_true(nonzero <= nn_model_macs_nonzero(m, NULL));
                if (modes[k] == QUANT_FLOAT)
                    assert_int_equal(nonzero, nn_model_macs_nonzero(m, NULL));
                last = a.n;
                quant_artifact_release(&a);
            }
            free(mask);
            made_destroy(made);
            nn_model_destroy(m);
        }
}

/* Calibration rows: distinct, of the validation part, all of it when there are fewer. */
static void test_rows(void **state)
{
    (void)state;
    struct nn_model *m = unfused_model("beat", beat_widths, 5, 5);
    struct made *made = made_dataset(m->net, 40);
    uint32_t *rows;
    int n, seen[40] = {0};
    for (int i = 0; i < 40; i += 2) made->part[i] = ECG_TRAIN;
    assert_int_equal(quant_calibration_rows(&made->d, 15, 3, &rows, &n, NULL), 0);
    assert_int_equal(n, 15);
    for (int i = 0; i < n; i++) {
        assert_true(rows[i] % 2 == 1 && rows[i] < 40);
        assert_int_equal(seen[rows[i]]++, 0);
    }
    free(rows);
    assert_int_equal(quant_calibration_rows(&made->d, 0, 3, &rows, &n, NULL), 0);
    assert_int_equal(n, 20);
    free(rows);
    made_destroy(made);
    nn_model_destroy(m);
}

/* Writes v over tensor `name`, from element `first`, `count` values. */
static void overwrite(struct nn_model *m, const char *name, size_t first, size_t count, float v)
{
    for (int i = 0; i < m->net->n_tensors; i++) {
        const struct nn_tensor *t = &m->net->tensor[i];
        if (strcmp(t->name, name) != 0) continue;
        assert_true(first + count <= t->count);
        for (size_t j = 0; j < count; j++) m->params[t->offset + first + j] = v;
        return;
    }
    fail_msg("no tensor '%s'", name);
}

static void check_converts(const struct nn_model *m, const struct made *made, double least_db)
{
    for (int mode = QUANT_PAPER; mode <= QUANT_BEST; mode++) {
        struct quant_artifact a;
        convert(&a, m, made, (struct quant_options){.mode = (enum quant_mode)mode});
        const struct quant_row *last = &a.report.row[a.report.n - 1];
        if (!(last->snr_db >= least_db))
            fail_msg("%s, mode %s: %.1f dB", m->net->name, quant_mode_names[mode], last->snr_db);
        quant_artifact_release(&a);
    }
}

static void test_degenerate(void **state)
{
    (void)state;
    struct nn_model *m = unfused_model("cnn", cnn_widths, 4, 5);
    struct made *made = made_dataset(m->net, 6);
    overwrite(m, "conv2.weight", 0, 3 * 7 * 3, 0); /* dead, and one with a large constant output */
    overwrite(m, "bn2.bias", 1, 1, 3);
    overwrite(m, "bn3.weight", 0, 2, 0); /* switched off by BatchNorm */
    overwrite(m, "bn3.bias", 0, 1, -2);
    check_converts(m, made, 15);
    overwrite(m, "bn1.weight", 0, 7, 0); /* a layer of constants */
    check_converts(m, made, 20);
    overwrite(m, "bn1.bias", 0, 7, -1); /* ... of zeros */
    check_converts(m, made, 20);
    memset(made->x, 0, sizeof *made->x * 6 * 12000); /* flat records */
    check_converts(m, made, 20);
    made_destroy(made);
    nn_model_destroy(m);

    m = unfused_model("rnn", rnn_widths, 1, 5);
    made = made_dataset(m->net, 4);
    overwrite(m, "lstm.weight_hh_l0", 0, 11 * 11, 0); /* input gates without memory */
    overwrite(m, "lstm.weight_ih_l0", 5 * 12, 12, 0);
    overwrite(m, "norm.weight", 3, 1, 0);
    check_converts(m, made, 15);
    memset(made->x, 0, sizeof *made->x * 4 * 12000);
    check_converts(m, made, 15);
    made_destroy(made);
    nn_model_destroy(m);

    m = unfused_model("resnet", resnet_widths, 9, 5);
    made = made_dataset(m->net, 3);
    overwrite(m, "block1.bn3.weight", 0, 3, 0); /* only the shortcut is left */
    overwrite(m, "block2.bns.weight", 0, 11, 0);
    check_converts(m, made, 15);
    made_destroy(made);
    nn_model_destroy(m);
}

static void refused(const struct nn_model *m, const struct made *made, struct quant_options opt,
                    int code, const char *word)
{
    struct quant_artifact a;
    struct cn_error err = {0};
    assert_int_equal(quant_convert(&a, m, made ? &made->d : NULL, &opt, &err), code);
    if (!strstr(err.text, word)) fail_msg("'%s' does not say '%s'", err.text, word);
    assert_null(a.data);
}

static void test_refused(void **state)
{
    (void)state;
    struct nn_model *m = unfused_model("cnn", cnn_widths, 4, 5);
    struct nn_model *beat = unfused_model("beat", beat_widths, 5, 5);
    struct made *made = made_dataset(m->net, 4);
    struct quant_options full = {.mode = QUANT_FULL};
    refused(m, NULL, full, CN_EINVALID, "dataset");
    refused(beat, made, full, CN_EINVALID, "12 x 1000");
    refused(m, made, (struct quant_options){.mode = QUANT_PAPER, .bias_correction = QUANT_ON},
            CN_EINVALID, "paper");
    made->x[2 * 12000 + 77] = NAN;
    refused(m, made, full, CN_EINVALID, "made002");
    made->x[2 * 12000 + 77] = INFINITY;
    refused(m, made, full, CN_EINVALID, "infinite");
    made->x[2 * 12000 + 77] = 0;
    overwrite(m, "conv3.weight", 4, 1, INFINITY);
    refused(m, made, full, CN_EINVALID, "conv3.weight");
    overwrite(m, "conv3.weight", 4, 1, 3e38f); /* finite, but activations are not */
    overwrite(m, "conv3.weight", 5, 1, 3e38f);
    refused(m, made, full, CN_EINVALID, "conv");
    for (int i = 0; i < 4; i++) made->part[i] = ECG_TEST;
    refused(m, made, full, CN_EINVALID, "validation");
    made_destroy(made);
    nn_model_destroy(m);
    nn_model_destroy(beat);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_modes),      cmocka_unit_test(test_float),
        cmocka_unit_test(test_same_bytes), cmocka_unit_test(test_sparse),
        cmocka_unit_test(test_rows),       cmocka_unit_test(test_degenerate),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests_name("quant_convert", tests, NULL, NULL);
}
