/* Training on a backend that can record steps: a recording that fails, at any op or at its end, leaves
 * the training as it would be without. The backend is the CPU's, with recordings that run nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/train/backend.h"
#include "nn/train.h"
#include "tests/unit/nn/synthetic.h"

static struct synthetic ecg;
static struct nn_backend *be;
static struct nn_backend_ops real, table;
static int recording, begun, dropped, fail_at, calls;

static int begin(struct nn_backend *b)
{
    begun++;
    recording = 1;
    calls = 0;
    return 0;
}

static int end(struct nn_backend *b, struct nn_graph **g)
{
    *g = NULL;
    recording = 0;
    return cn_fail(&b->error, CN_EINTERNAL, "no graph here");
}

static void drop(struct nn_backend *b)
{
    dropped++;
    recording = 0;
    memset(&b->error, 0, sizeof b->error);
}

/* Ops that are recorded do not run; the one of number fail_at fails. */
static int conv(struct nn_backend *b, const struct nn_conv1d *a)
{
    if (!recording) return real.conv1d_forward(b, a);
    return ++calls == fail_at ? cn_fail(&b->error, CN_EINTERNAL, "op %d", calls) : 0;
}

static int recorded(int rc)
{
    return recording ? 0 : rc;
}

static int update(struct nn_backend *b, const struct nn_update *a)
{
    return recording ? recorded(0) : real.update(b, a);
}

static int average(struct nn_backend *b, const struct nn_average *a)
{
    return recording ? recorded(0) : real.average(b, a);
}

static int loss(struct nn_backend *b, const struct nn_loss_args *a)
{
    return recording ? recorded(0) : real.loss(b, a);
}

static int batchnorm(struct nn_backend *b, const struct nn_batchnorm *a)
{
    return recording ? recorded(0) : real.batchnorm_forward(b, a);
}

static struct nn_model *train(int records)
{
    static const int widths[] = {4, 5, 6, 4};
    struct nn_net *net;
    struct nn_model *m;
    struct nn_recipe r;
    struct cn_error err;
    struct nn_shape shape = {12, 170, 5};
    assert_int_equal(
        cpu_train_create(&be, &(struct cpu_train_options){.threads = 1, .isa = "ref"}, &err), 0);
    real = table = *be->ops;
    table.conv_block_forward = NULL; /* plain ops alone */
    table.conv_block_backward = NULL;
    table.conv_block_save_floats = NULL;
    if (records) {
        table.capture_begin = begin;
        table.capture_end = end;
        table.capture_drop = drop;
        table.conv1d_forward = conv;
        table.update = update;
        table.average = average;
        table.loss = loss;
        table.batchnorm_forward = batchnorm;
    }
    be->ops = &table;
    assert_int_equal(nn_recipe_named(&r, "cinch", "cnn", &err), 0);
    r.epochs = 2;
    r.batch = 4;
    if (nn_net_build(&net, "cnn", widths, 4, shape, &err) ||
        nn_model_create(&m, net, 8, &ecg.d, &err))
        fail_msg("%s", err.text);
    struct nn_train_member one = {.model = m, .seed = 3};
    struct nn_train t = {.backend = be, .data = &ecg.d, .recipe = &r, .m = 1, .member = &one};
    if (nn_train_run(&t, &err)) fail_msg("%s", err.text);
    be->ops = &real;
    real.destroy(be);
    return m;
}

static void a_failed_recording_changes_nothing(void **state)
{
    struct nn_model *plain = train(0);
    for (fail_at = 0; fail_at <= 3; fail_at++) { /* 0: at the end */
        begun = dropped = recording = 0;
        struct nn_model *m = train(1);
        assert_true(begun > 0);
        assert_int_equal(begun, dropped);
        assert_int_equal(recording, 0);
        assert_memory_equal(m->params, plain->params, m->net->n_floats * sizeof(float));
        nn_model_destroy(m);
    }
    nn_model_destroy(plain);
}

int main(void)
{
    synthetic_make(&ecg, ECG_MULTI_LABEL, 40, 12, 170);
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_failed_recording_changes_nothing)};
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    synthetic_free(&ecg);
    return rc;
}
