/* Tests of the things that are timed: the yardsticks over OpenBLAS and oneDNN give the same logits
 * as cinchrt for every net, whole and narrow; and measure_run starts a real cinch-lat under each
 * allocator, which proves what is live. No time is asserted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "cpu/measure/engine.h"
#include "cpu/quant/quant.h"
#include "nn/model.h"

static char folder[64];

static int setup(void **state)
{
    snprintf(folder, sizeof folder, "/tmp/measure-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    setenv("XDG_RUNTIME_DIR", folder, 1);
    return setenv("CINCH_LAT", CINCH_BINARY_DIR "/bin/cinch-lat", 1);
}

static int teardown(void **state)
{
    return cn_rmtree(folder, NULL);
}

/* A checkpoint with random weights and running statistics that are not the identity. */
static void make(const char *net, const int *widths, int n, char path[128])
{
    struct nn_net *built;
    struct nn_model *m;
    struct nn_shape shape = {0};
    assert_int_equal(nn_net_build(&built, net, widths, n, shape, NULL), 0);
    assert_int_equal(nn_model_create(&m, built, 7, NULL, NULL), 0);
    for (int i = 0; i < m->net->n_tensors; i++) {
        const struct nn_tensor *t = &m->net->tensor[i];
        for (size_t k = 0; !t->trainable && k < t->count; k++)
            m->params[t->offset + k] =
                strstr(t->name, "var") ? 0.5f + 0.01f * (float)(k % 7) : 0.02f * (float)(k % 5);
    }
    for (int l = 0; l < ECG_MAX_LEADS; l++) m->std[l] = 1;
    snprintf(path, 128, "%s/%s-%d.safetensors", folder, net, n ? widths[0] : 0);
    assert_int_equal(nn_model_save(m, path, NULL), 0);
    nn_model_destroy(m);
}

static void logits_of(const struct measure_engine_ops *engine, const char *path, float out[8])
{
    struct measure_subject s = {0};
    struct cn_error err = {0};
    int rc = engine->open(&s, path, NULL, &err);
    if (rc) fail_msg("%s", err.text);
    s.x = malloc(sizeof(float) * (size_t)(s.leads * s.samples));
    measure_input(s.x, s.leads, s.samples);
    s.logits = calloc((size_t)s.labels, sizeof(float));
    engine->run(&s);
    engine->run(&s); /* a second run must not depend on the first */
    memcpy(out, s.logits, sizeof(float) * (size_t)s.labels);
    engine->close(&s);
    free(s.x);
    free(s.logits);
}

static void same_logits(const char *path)
{
    float rt[8], blas[8], dnnl[8];
    logits_of(&measure_engine_rt, path, rt);
    logits_of(&measure_engine_openblas, path, blas);
    logits_of(&measure_engine_onednn, path, dnnl);
    for (int l = 0; l < 5; l++) {
        assert_true(fabsf(rt[l]) > 1e-6f);
        assert_float_equal(blas[l], rt[l], 1e-3f * (1 + fabsf(rt[l])));
        assert_float_equal(dnnl[l], rt[l], 1e-3f * (1 + fabsf(rt[l])));
    }
}

static void engines_agree_on_every_net(void **state)
{
    char path[128];
    const int narrow_cnn[] = {7, 13, 5, 3}, narrow_rnn[] = {11};
    const int narrow_resnet[] = {6, 7, 8, 9, 10, 11, 12, 13, 14};
    make("cnn", NULL, 0, path);
    same_logits(path);
    make("rnn", NULL, 0, path);
    same_logits(path);
    make("resnet", narrow_resnet, 9, path);
    same_logits(path);
    make("cnn", narrow_cnn, 4, path);
    same_logits(path);
    make("rnn", narrow_rnn, 1, path);
    same_logits(path);
}

static void input_is_normalised_and_fixed(void **state)
{
    static float a[12 * 1000], b[12 * 1000];
    double sum = 0, squares = 0;
    measure_input(a, 12, 1000);
    measure_input(b, 12, 1000);
    assert_memory_equal(a, b, sizeof a);
    for (int i = 0; i < 12000; i++) {
        sum += a[i];
        squares += a[i] * a[i];
    }
    assert_true(fabs(sum / 12000) < 0.1);
    assert_true(squares / 12000 > 0.3 && squares / 12000 < 3);
}

static void the_childs_allocator_is_proved(void **state)
{
    char path[128];
    const int narrow[] = {4, 4, 4, 4};
    make("cnn", narrow, 4, path);
    for (int a = MEASURE_GLIBC; a <= MEASURE_PAPER; a++) {
        struct measure_spec spec = {.file = {path, NULL},
                                    .allocator = (enum measure_allocator)a,
                                    .warmup = 3,
                                    .runs = 20,
                                    .core = -1};
        struct measure_result r;
        struct cn_error err = {0};
        int rc = measure_run(&spec, &r, &err);
        if (rc) fail_msg("%s", err.text);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
        assert_string_equal(r.allocator, "other"); /* a sanitiser's malloc cannot be replaced */
#else
        const char *want = measure_allocator_names[a == MEASURE_PAPER ? MEASURE_JEMALLOC : a];
        assert_string_equal(r.allocator, want);
        json_t *o = json_loads(r.json, 0, NULL);
        json_t *proof = json_object_get(o, "allocator");
        assert_true(json_is_true(json_object_get(proof, "counted")));
        assert_non_null(strstr(json_string_value(json_object_get(proof, "library")),
                               strcmp(want, "glibc") == 0 ? "libc" : want));
        json_decref(o);
#endif
        assert_string_equal(r.net, "cnn");
        assert_string_equal(r.kind, "float");
        assert_string_equal(r.engine, "rt");
        assert_true(*r.version && *r.isa);
        assert_int_equal(r.figures[0].n, 20);
        assert_int_equal(r.figures[0].warmup, 3);
        assert_true(r.figures[0].mean_us > 0 && r.figures[0].p99_us >= r.figures[0].p50_us);
        assert_true(isnan(r.ratio));
        assert_true(r.clock_resolution_ns > 0 && r.pinned);
        assert_int_equal(r.figures[0].processes, MEASURE_PROCESSES);
        measure_result_clear(&r);
    }
}

/* Runs are shared out over fresh processes, none is lost, and every one is told. */
static void runs_are_spread_over_processes(void **state)
{
    char path[128];
    const int narrow[] = {4, 4, 4, 4},
              asked[][3] = {/* runs, processes, processes that it takes */ {23, 0, 5},
                            {3, 0, 3},
                            {1, 0, 1},
                            {20, 7, 7}};
    make("cnn", narrow, 4, path);
    for (size_t k = 0; k < sizeof asked / sizeof *asked; k++) {
        struct measure_spec spec = {.file = {path, NULL},
                                    .warmup = 1,
                                    .runs = asked[k][0],
                                    .processes = asked[k][1],
                                    .core = -1};
        struct measure_result r;
        assert_int_equal(measure_run(&spec, &r, NULL), 0);
        assert_int_equal(r.figures[0].n, asked[k][0]);
        assert_int_equal(r.figures[0].processes, asked[k][2]);
        assert_true(r.figures[0].p50_low_us <= r.figures[0].p50_us &&
                    r.figures[0].p50_us <= r.figures[0].p50_high_us);
        json_t *o = measure_figures_json(&r, 0);
        assert_int_equal(json_array_size(json_object_get(o, "process_p50_us")), asked[k][2]);
        assert_int_equal(json_integer_value(json_object_get(o, "n")), asked[k][0]);
        const char *by = json_string_value(json_object_get(o, "disturbed_by"));
        assert_string_equal(by ? by : "", r.disturbed_by[0]);
        json_decref(o);
        measure_result_clear(&r);
    }
}

/* Outputs need as much room as the file says. */
static void a_net_of_many_labels_is_measured(void **state)
{
    char path[128];
    struct nn_net *built;
    struct nn_model *m;
    struct nn_shape shape = {.n_labels = NN_MAX_LABELS};
    const int narrow[] = {4, 4, 4, 4};
    assert_int_equal(nn_net_build(&built, "cnn", narrow, 4, shape, NULL), 0);
    assert_int_equal(nn_model_create(&m, built, 7, NULL, NULL), 0);
    for (int l = 0; l < ECG_MAX_LEADS; l++) m->std[l] = 1;
    snprintf(path, sizeof path, "%s/many.safetensors", folder);
    assert_int_equal(nn_model_save(m, path, NULL), 0);
    nn_model_destroy(m);
    struct measure_spec spec = {.file = {path, NULL}, .warmup = 3, .runs = 20, .core = -1};
    struct measure_result r;
    struct cn_error err = {0};
    int rc = measure_run(&spec, &r, &err);
    if (rc) fail_msg("%s", err.text);
    assert_int_equal(r.figures[0].n, 20);
    measure_result_clear(&r);
}

static void two_files_are_compared(void **state)
{
    char small[128], large[128];
    const int narrow[] = {4, 4, 4, 4};
    make("cnn", narrow, 4, small);
    make("cnn", NULL, 0, large);
    struct measure_spec spec = {
        .file = {small, large}, .allocator = MEASURE_GLIBC, .warmup = 3, .runs = 30, .core = -1};
    struct measure_result r;
    assert_int_equal(measure_run(&spec, &r, NULL), 0);
    assert_int_equal(r.figures[1].n, 30);
    assert_true(r.ratio > 0 && r.ratio_ci95[0] <= r.ratio && r.ratio <= r.ratio_ci95[1]);
    measure_result_clear(&r);
}

static void expect_failure(struct measure_spec spec, int code, const char *text)
{
    struct measure_result r;
    struct cn_error err = {0};
    spec.runs = 5;
    spec.core = -1;
    assert_int_equal(measure_run(&spec, &r, &err), code);
    if (!strstr(err.text, text)) fail_msg("'%s' lacks '%s'", err.text, text);
}

static int stop_at_once(void *arg)
{
    return 1;
}

static void errors_name_what_is_wrong(void **state)
{
    char path[128], artifact[128], junk[128];
    const int narrow[] = {4, 4, 4, 4};
    make("cnn", narrow, 4, path);
    snprintf(junk, sizeof junk, "%s/junk", folder);
    assert_int_equal(cn_file_write(junk, "no model", 8, NULL), 0);
    expect_failure((struct measure_spec){.file = {"/nowhere", NULL}}, CN_ENOTFOUND, "/nowhere");
    expect_failure((struct measure_spec){.file = {junk, NULL}}, CN_ECORRUPT, "junk");
    expect_failure((struct measure_spec){.file = {path, NULL}, .isa = "mmx"}, CN_EUNSUPPORTED,
                   "mmx");
    struct nn_model *m;
    struct quant_artifact a;
    struct quant_options opt = {.mode = QUANT_FLOAT};
    assert_int_equal(nn_model_load(&m, path, NULL), 0);
    assert_int_equal(quant_convert(&a, m, NULL, &opt, NULL), 0);
    snprintf(artifact, sizeof artifact, "%s/a.cinch", folder);
    assert_int_equal(cn_file_write(artifact, a.data, a.n, NULL), 0);
    expect_failure(
        (struct measure_spec){.file = {path, NULL}, .engine = MEASURE_ONEDNN, .isa = "avx2"},
        CN_EUNSUPPORTED, "avx2");
    expect_failure((struct measure_spec){.file = {artifact, NULL}, .engine = MEASURE_OPENBLAS},
                   CN_EINVALID, "checkpoint");
    expect_failure((struct measure_spec){.file = {artifact, NULL}, .stop = stop_at_once},
                   CN_EINTERRUPTED, "stopped");
    quant_artifact_release(&a);
    nn_model_destroy(m);
    setenv("CINCH_LAT", "/nowhere/cinch-lat", 1);
    expect_failure((struct measure_spec){.file = {path, NULL}}, CN_ENOTFOUND, "CINCH_LAT");
    setenv("CINCH_LAT", "/bin/false", 1);
    expect_failure((struct measure_spec){.file = {path, NULL}}, CN_EINTERNAL, "without an answer");
    setenv("CINCH_LAT", CINCH_BINARY_DIR "/bin/cinch-lat", 1);
}

static void the_study_decides_the_defaults(void **state)
{
    assert_int_equal(measure_paper_allocator("rnn"), MEASURE_TCMALLOC);
    assert_int_equal(measure_paper_allocator("cnn"), MEASURE_JEMALLOC);
    assert_int_equal(measure_paper_allocator("resnet"), MEASURE_JEMALLOC);
    assert_int_equal(measure_paper_runs("cnn"), 10000);
    assert_int_equal(measure_paper_runs("rnn"), 2000);
    assert_int_equal(measure_paper_runs("resnet"), 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(engines_agree_on_every_net),
        cmocka_unit_test(input_is_normalised_and_fixed),
        cmocka_unit_test(the_childs_allocator_is_proved),
        cmocka_unit_test(runs_are_spread_over_processes),
        cmocka_unit_test(a_net_of_many_labels_is_measured),
        cmocka_unit_test(two_files_are_compared),
        cmocka_unit_test(errors_name_what_is_wrong),
        cmocka_unit_test(the_study_decides_the_defaults),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
