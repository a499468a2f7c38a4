/* What a card or a library does wrong, or may do: the plugin's calls are watched and disturbed (spy.h).
 * Copies go by pinned memory and the backend's stream; no wait is without a limit when a rank is silent;
 * a capture that fails is ended and training goes on; grids stay within the runtime's limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cpu/train/backend.h"
#include "gpu/gpu.h"
#include "nn/exec.h"
#include "nn/train.h"
#include "tests/gpu/spy.h"
#include "tests/unit/nn/synthetic.h"

enum { RECORDS = 20, SAMPLES = 170, BATCH = 4, EPOCHS = 3, RANKS = 2 };

static struct synthetic ecg;
static int (*create)(struct nn_backend **, const struct cinch_gpu_options *, struct cn_error *);
static int (*nccl_id)(void *, struct cn_error *);
static int (*count)(int *, struct cn_error *);
static char log_text[16384];

static void keep_line(void *arg, const char *line)
{
    size_t n = strlen(log_text);
    snprintf(log_text + n, sizeof log_text - n, "%s\n", line);
}

static struct nn_backend *backend(void)
{
    struct nn_backend *be;
    struct cn_error err;
    struct cinch_gpu_options opt = {.engine = CINCH_ENGINE_NATIVE, .log = keep_line};
    log_text[0] = 0;
    if (create(&be, &opt, &err)) fail_msg("%s", err.text);
    return be;
}

static struct nn_model *fresh(void)
{
    static const int widths[] = {4, 5, 6, 4};
    struct nn_net *net;
    struct nn_model *m;
    struct cn_error err;
    struct nn_shape shape = {12, SAMPLES, 5};
    if (nn_net_build(&net, "cnn", widths, 4, shape, &err) ||
        nn_model_create(&m, net, 8, &ecg.d, &err))
        fail_msg("%s", err.text);
    return m;
}

static int no_checkpoint(void *arg, int member, const void *data, size_t n)
{
    return 0;
}

/* Trains on a backend of its own; the model. With a teacher, and checkpoints. */
static struct nn_model *train(void)
{
    struct nn_recipe r;
    struct cn_error err;
    struct nn_backend *be = backend();
    assert_int_equal(nn_recipe_named(&r, "cinch", "cnn", &err), 0);
    r.epochs = EPOCHS;
    r.batch = BATCH;
    struct nn_model *teacher = fresh();
    struct nn_train_member m = {.model = fresh(), .seed = 8, .teacher = teacher};
    struct nn_train t = {.backend = be, .data = &ecg.d, .recipe = &r, .m = 1, .member = &m};
    t.events = (struct nn_train_events){.checkpoint = no_checkpoint, .checkpoint_every_s = -1};
    if (nn_train_run(&t, &err)) fail_msg("%s", err.text);
    be->ops->destroy(be);
    nn_model_destroy(teacher);
    return m.model;
}

static void copies_are_pinned_and_on_the_stream(void **state)
{
    const char *as[] = {"fp32", "fp16"};
    for (int i = 0; i < 2; i++) {
        setenv("CINCH_GPU_DATA", as[i], 1);
        spy_reset();
        nn_model_destroy(train());
        assert_int_equal(spy.pageable, 0);
        assert_int_equal(spy.default_stream, 0);
        assert_int_equal(spy.in_capture_calls, 0);
        assert_true(spy.captures_begun == 2); /* steps, and validation */
        assert_true(spy.launches_of_graphs > 2);
    }
    unsetenv("CINCH_GPU_DATA");
}

static void a_failed_capture_is_ended_and_done_without(void **state)
{
    spy_reset();
    struct nn_model *calm = train();
    assert_true(spy.captures_begun > 0);
    int places[] = {1, 7, 40}; /* of the launches in the step's capture */
    for (int i = 0; i < 3; i++) {
        spy_reset();
        spy.fail_launch_in_capture = places[i];
        struct nn_model *m = train();
        assert_int_equal(spy.captures_begun, spy.captures_ended);
        assert_int_equal(spy.graphs_made, 0); /* what was made is destroyed */
        assert_int_equal(spy.in_capture_calls, 0);
        if (!strstr(log_text, "no graph")) fail_msg("the log says nothing of it: %s", log_text);
        assert_memory_equal(m->params, calm->params, m->net->n_floats * sizeof(float));
        nn_model_destroy(m);
    }
    nn_model_destroy(calm);
}

/* Nothing that would spoil a capture reaches the runtime during one. */
static void a_capture_refuses_what_would_spoil_it(void **state)
{
    struct nn_backend *be = backend();
    const struct nn_backend_ops *o = be->ops;
    float v[4] = {0};
    void *p, *q;
    assert_int_equal(o->alloc(be, sizeof v, &p), 0);
    assert_int_equal(o->zero(be, p, sizeof v), 0);
    assert_int_equal(o->sync(be), 0);
    spy_reset();
    for (int i = 0; i < 4; i++) {
        assert_int_equal(o->capture_begin(be), 0);
        int rc = i == 0   ? o->alloc(be, 64, &q)
                 : i == 1 ? o->upload(be, p, v, sizeof v)
                 : i == 2 ? o->download(be, v, p, sizeof v)
                          : o->sync(be);
        assert_int_equal(rc, CN_EINTERNAL);
        assert_int_equal(spy.in_capture_calls, 0);
        o->capture_drop(be);
        assert_int_equal(be->error.code, 0);
    }
    assert_int_equal(o->download(be, v, p, sizeof v), 0); /* and it works again */
    o->release(be, p);
    o->destroy(be);
}

struct rank {
    int rank, hangs, rc;
    char text[480];
    char *id;
    pthread_barrier_t *met;
    pthread_t thread;
};

static void *run_rank(void *arg)
{
    struct rank *r = arg;
    struct nn_backend *be;
    struct cn_error err = {0};
    struct cinch_gpu_options opt = {.device = r->rank,
                                    .engine = CINCH_ENGINE_NATIVE,
                                    .ranks = RANKS,
                                    .rank = r->rank,
                                    .nccl_id = r->id,
                                    .fail_after_s = 1};
    float v[3000] = {0};
    void *p;
    r->rc = create(&be, &opt, &err);
    snprintf(r->text, sizeof r->text, "%s", err.text);
    if (r->met) pthread_barrier_wait(r->met);
    if (r->rc) return NULL;
    r->rc = be->ops->alloc(be, sizeof v, &p);
    if (r->hangs) { /* the other says nothing: kernels that wait for it never end */
        spy_hang = 1;
        r->rc = be->ops->download(be, v, p, sizeof v);
        snprintf(r->text, sizeof r->text, "%s", be->error.text);
        be->ops->release(be, p);
    }
    be->ops->destroy(be);
    return NULL;
}

static void a_silent_rank_ends_every_wait(void **state)
{
    int devices = 0;
    char id[128];
    struct cn_error err;
    pthread_barrier_t met;
    if (count(&devices, &err) || devices < RANKS || nccl_id(id, &err)) {
        print_message("skipped: needs %d GPUs and NCCL\n", RANKS);
        skip();
    }
    spy_reset();
    pthread_barrier_init(&met, NULL, RANKS);
    struct rank r[RANKS];
    for (int i = 0; i < RANKS; i++) {
        r[i] = (struct rank){.rank = i, .hangs = i == 0, .id = id, .met = &met};
        pthread_create(&r[i].thread, NULL, run_rank, &r[i]);
    }
    for (int i = 0; i < RANKS; i++) pthread_join(r[i].thread, NULL);
    pthread_barrier_destroy(&met);
    assert_int_equal(r[1].rc, 0);
    assert_int_equal(r[0].rc, CN_ECONNECT);
    assert_non_null(strstr(r[0].text, "silent"));
    assert_int_equal(spy.blocking, 0);
    assert_int_equal(spy.blocking_nccl, 0);
}

static void a_rank_that_never_comes_ends_the_joining(void **state)
{
    int devices = 0;
    char id[128];
    struct cn_error err;
    if (count(&devices, &err) || devices < RANKS || nccl_id(id, &err)) skip();
    spy_reset();
    struct rank r = {.rank = 0, .id = id};
    run_rank(&r);
    assert_int_equal(r.rc, CN_ECONNECT);
    assert_int_equal(spy.blocking_nccl, 0);
}

/* Probabilities of rows, from the dataset on the card or from a copy of few of them: gathered there, recorded,
 * fetched once; and right. */
static void predictions_stay_on_the_card(void **state)
{
    enum { MANY = 200, FEW = 8 };
    uint32_t index[MANY];
    static float gpu[MANY * 5], cpu[MANY * 5];
    struct nn_backend *be = backend(), *plain;
    struct nn_model *m = fresh();
    struct cn_error err;
    struct cpu_train_options opt = {.threads = 1, .isa = "ref"};
    if (cpu_train_create(&plain, &opt, &err)) fail_msg("%s", err.text);
    for (uint32_t i = 0; i < MANY; i++) index[i] = i * 7 % RECORDS;
    for (int few = 0; few < 2; few++) {
        int n = few ? FEW : MANY;
        spy_reset();
        if (nn_predict(be, m, &ecg.d, index, n, gpu, &err)) fail_msg("%s", err.text);
        assert_int_equal(spy.downloads, 1);
        assert_int_equal(spy.pageable, 0);
        assert_int_equal(spy.launches_of_graphs, few ? 0 : 2); /* 64 plainly, 64, 64, and 8 */
        if (nn_predict(plain, m, &ecg.d, index, n, cpu, &err)) fail_msg("%s", err.text);
        for (int i = 0; i < n * 5; i++)
            if (!(fabsf(gpu[i] - cpu[i]) < 1e-5f))
                fail_msg("row %d of %d: %g, on the CPU %g", i / 5, n, gpu[i], cpu[i]);
    }
    nn_model_destroy(m);
    plain->ops->destroy(plain);
    be->ops->destroy(be);
}

/* ---- grids ---- */

/* Calls every op on `rows` rows of a member, with kernels that do not run: memory is not touched. */
static void run_all_ops(struct nn_backend *be, int rows, int k)
{
    const struct nn_backend_ops *o = be->ops;
    float *p;
    assert_int_equal(o->alloc(be, 4096, (void **)&p), 0);
    struct nn_conv1d conv = {1, rows, 1, 1, 9, 9, k, k / 2, 64, p, p, p, p, p, p, 0, p, p};
    struct nn_batchnorm bn = {.m = 1,
                              .b = rows,
                              .c = 2,
                              .t = 3,
                              .stride = 64,
                              .x = p,
                              .w = p,
                              .bias = p,
                              .running_mean = p,
                              .running_var = p,
                              .save_mean = p,
                              .save_rstd = p,
                              .y = p,
                              .dy = p,
                              .dx = p,
                              .dw = p,
                              .dbias = p};
    struct nn_lstm lstm = {1, rows, 1, 4, 5, 64, 1, p, p, p, p, p, p, p, p, p, p, p, p, p};
    struct nn_layernorm ln = {1, rows, 2, 3, 64, 1e-5f, p, p, p, p, p, p, p, p, p, p};
    struct nn_linear linear = {1, rows, 4, 2, 64, p, p, p, p, p, p, p, p};
    struct nn_gather gather = {.m = 1,
                               .b = rows,
                               .leads = 1,
                               .samples = 4,
                               .labels = 2,
                               .data_x = p,
                               .data_y = p,
                               .n = rows,
                               .train = 1,
                               .s = (void *)p,
                               .x = p,
                               .y = p};
    int rc = o->conv1d_forward(be, &conv);
    if (!rc) rc = o->conv1d_backward(be, &conv);
    for (int train = 0; train < 2; train++) {
        bn.train = train;
        if (!rc) rc = o->batchnorm_forward(be, &bn);
    }
    if (!rc) rc = o->batchnorm_backward(be, &bn);
    if (!rc) rc = o->lstm_forward(be, &lstm);
    if (!rc) rc = o->lstm_backward(be, &lstm);
    if (!rc) rc = o->layernorm_forward(be, &ln);
    if (!rc) rc = o->layernorm_backward(be, &ln);
    if (!rc) rc = o->linear_forward(be, &linear);
    if (!rc) rc = o->linear_backward(be, &linear);
    if (!rc) rc = o->gather(be, &gather);
    if (rc) fail_msg("%s", be->error.text);
    o->release(be, p);
}

static void grids_stay_within_the_limits(void **state)
{
    static const int kernels[] = {1, 3, 5, 7, 9};
    struct nn_backend *be = backend();
    for (int i = 0; i < 5; i++) {
        spy_reset();
        spy.dry = 1;
        run_all_ops(be, 70000, kernels[i]);
        assert_true(spy.launches > 10);
        assert_true(spy.most[0] <= 2147483647u);
        assert_true(spy.most[1] <= 65535);
        assert_true(spy.most[2] <= 65535);
    }
    spy_reset();
    be->ops->destroy(be);
}

/* The rows past the first 65,535 are computed: small ones of a BatchNorm, against the first. */
static void rows_past_a_grid_are_computed(void **state)
{
    enum { ROWS = 65537 };
    struct nn_backend *be = backend();
    const struct nn_backend_ops *o = be->ops;
    float w[4] = {2, 1, 0, 1}, *v = malloc(ROWS * sizeof *v), *x, *y, *p;
    for (int i = 0; i < ROWS; i++) v[i] = (float)(i % 7);
    assert_int_equal(o->alloc(be, ROWS * sizeof *v, (void **)&x), 0);
    assert_int_equal(o->alloc(be, ROWS * sizeof *v, (void **)&y), 0);
    assert_int_equal(o->alloc(be, sizeof w, (void **)&p), 0);
    assert_int_equal(o->upload(be, x, v, ROWS * sizeof *v), 0);
    assert_int_equal(o->upload(be, p, w, sizeof w), 0);
    struct nn_batchnorm bn = {.m = 1,
                              .b = ROWS,
                              .c = 1,
                              .t = 1,
                              .stride = 4,
                              .x = x,
                              .w = p,
                              .bias = p + 1,
                              .running_mean = p + 2,
                              .running_var = p + 3,
                              .y = y};
    if (o->batchnorm_forward(be, &bn)) fail_msg("%s", be->error.text);
    memset(v, 0, ROWS * sizeof *v);
    assert_int_equal(o->download(be, v, y, ROWS * sizeof *v), 0);
    for (int i = 0; i < ROWS; i++)
        if (!(v[i] > 2.0f * (float)(i % 7) + 0.99f && v[i] < 2.0f * (float)(i % 7) + 1.01f))
            fail_msg("row %d: %g", i, v[i]);
    free(v);
    o->release(be, x);
    o->release(be, y);
    o->release(be, p);
    o->destroy(be);
}

/* ---- what the libraries are asked ---- */

struct net_case {
    const char *net;
    int samples, n_widths, width[9];
};

static const struct net_case nets[] = {
    {"cnn", 170, 4, {6, 5, 9, 3}},
    {"rnn", 16, 1, {5}},
    {"resnet", 24, 9, {5, 4, 3, 6, 5, 7, 4, 6, 5}},
    {"beat", 90, 5, {5, 7, 4, 6, 5}},
};

/* One pass forward and back of m members of 3 rows; the calls of libraries that computed are in spy_call. */
static void one_pass_by(enum cinch_gpu_engine engine, const struct net_case *c, int m,
                        enum nn_precision precision)
{
    enum { ROWS = 3 };
    struct cn_error err;
    struct nn_backend *be;
    struct nn_net *net;
    struct nn_exec *ex;
    struct cinch_gpu_options opt = {.engine = engine, .precision = precision, .log = keep_line};
    struct nn_shape shape = {.n_samples = c->samples};
    float *w, *g;
    if (create(&be, &opt, &err) || nn_net_build(&net, c->net, c->width, c->n_widths, shape, &err) ||
        nn_exec_create(&ex, be, net, m, ROWS, 1, &err))
        fail_msg("%s", err.text);
    int64_t stride = ((int64_t)net->n_floats + 63) / 64 * 64; /* as nn/gang.c has it */
    size_t bytes = (size_t)stride * (size_t)m * sizeof(float);
    struct nn_scalars s[16] = {{0}}, *sd;
    be->ops->alloc(be, bytes, (void **)&w);
    be->ops->alloc(be, bytes, (void **)&g);
    be->ops->alloc(be, sizeof s, (void **)&sd);
    be->ops->upload(be, sd, s, sizeof s);
    be->ops->zero(be, w, bytes);
    be->ops->zero(be, nn_exec_input(ex),
                  sizeof(float) * (size_t)m * ROWS * net->n_leads * net->n_samples);
    be->ops->zero(be, nn_exec_dlogits(ex), sizeof(float) * (size_t)m * ROWS * net->n_labels);
    struct nn_exec_pass pass = {w, g, stride, ROWS, 1, sd, 0};
    spy.keep_calls = 1;
    spy_calls = 0;
    if (nn_exec_forward(ex, &pass) || nn_exec_backward(ex, &pass)) fail_msg("%s", be->error.text);
    spy.keep_calls = 0;
    be->ops->release(be, w);
    be->ops->release(be, g);
    be->ops->release(be, sd);
    nn_exec_destroy(ex);
    nn_net_destroy(net);
    be->ops->destroy(be);
}

static void one_pass(const struct net_case *c, int m, enum nn_precision precision)
{
    one_pass_by(CINCH_ENGINE_CUDNN, c, m, precision);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static int has_cudnn(void)
{
    spy_reset();
    one_pass(&nets[0], 1, NN_FP32);
    return spy_calls > 0;
}

/* A member's products are asked for as if it were alone, so that it has the bits that it has alone. */
static void libraries_never_see_the_gang(void **state)
{
    static const int gangs[] = {2, 7, 16};
    char(*alone)[160] = malloc(SPY_CALLS * sizeof *alone);
    if (!has_cudnn()) skip();
    for (size_t k = 0; k < sizeof nets / sizeof *nets; k++) {
        one_pass(&nets[k], 1, NN_FP32);
        int n = spy_calls;
        memcpy(alone, spy_call, (size_t)n * sizeof *alone);
        qsort(alone, (size_t)n, sizeof *alone, by_text);
        for (int i = 0; i < 3; i++) {
            one_pass(&nets[k], gangs[i], NN_FP32);
            assert_int_equal(spy_calls, n * gangs[i]);
            qsort(spy_call, (size_t)spy_calls, sizeof *spy_call, by_text);
            for (int j = 0; j < spy_calls; j++)
                assert_string_equal(spy_call[j], alone[j / gangs[i]]);
        }
    }
    free(alone);
}

enum { DEFAULT_MATH = 1 << 0, TENSOR_OP = 1 << 1, CONVERSION = 1 << 2, FMA = 1 << 3 };
enum { CUBLAS_TF32 = 3, CUBLAS_PEDANTIC = 2 };

/* Whatever math cuDNN offers its algorithms under. */
static void precisions_ask_for_their_math(void **state)
{
    static const struct {
        enum nn_precision precision;
        int conv, rnn, blas;
    } want[] = {{NN_FP32, FMA, FMA, CUBLAS_PEDANTIC},
                {NN_TF32, DEFAULT_MATH, DEFAULT_MATH, CUBLAS_TF32},
                {NN_BF16, TENSOR_OP, DEFAULT_MATH, CUBLAS_TF32}};
    if (!has_cudnn()) skip();
    for (int i = 0; i < 3; i++)
        for (int offer = 0; offer <= 4; offer++)
            for (int k = 0; k < 2; k++) { /* cnn, rnn */
                spy_reset();
                spy.offer_math = offer;
                one_pass(&nets[k], 1, want[i].precision);
                assert_true((spy.math & ~want[i].conv) == 0);
                assert_true((spy.rnn_math & ~want[i].rnn) == 0);
                assert_true(offer != 0 || (k ? spy.rnn_math : spy.math) != 0);
                assert_int_equal(spy.blas_math, want[i].blas);
            }
}

/* Files of `dir` whose names hold `part`; the first one's name is kept. */
static int files_with(const char *dir, const char *part, char name[256])
{
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strstr(e->d_name, part) && !n++) snprintf(name, 256, "%s", e->d_name);
    if (d) closedir(d);
    return n;
}

/* Engines are timed inside graphs, with the job's own gang; another backend takes over the choice, for its
 * precision; the file's name tells plugin and precision. */
static void engines_are_chosen_as_they_will_run(void **state)
{
    char cache[] = "/tmp/cinch-engines-XXXXXX", dir[64], name[256], hash[20];
    if (!has_cudnn()) skip();
    assert_non_null(mkdtemp(cache));
    snprintf(dir, sizeof dir, "%s/cinch", cache);
    setenv("XDG_CACHE_HOME", cache, 1);
    spy_reset();
    log_text[0] = 0;
    one_pass_by(CINCH_ENGINE_AUTO, &nets[0], 3, NN_FP32);
    assert_true(spy.launches_of_graphs > 0);
    assert_int_equal(spy.captures_begun, spy.captures_ended);
    assert_int_equal(spy.in_capture_calls, 0);
    assert_non_null(strstr(log_text, "3 at once"));
    assert_int_equal(files_with(dir, "-fp32.txt", name), 1);
    const char *plugin = strstr(name, "-plugin");
    assert_non_null(plugin);
    assert_int_equal(sscanf(plugin, "-plugin%16[0-9a-f]-fp32.txt", hash), 1);
    assert_int_equal(strlen(hash), 16);
    for (int m = 1; m <= 5; m += 4) { /* chosen already, whatever the gang */
        spy_reset();
        one_pass_by(CINCH_ENGINE_AUTO, &nets[0], m, NN_FP32);
        assert_int_equal(spy.launches_of_graphs, 0);
    }
    one_pass_by(CINCH_ENGINE_AUTO, &nets[0], 1, NN_TF32);
    assert_true(spy.launches_of_graphs > 0);
    assert_int_equal(files_with(dir, "-tf32.txt", name), 1);
    unsetenv("XDG_CACHE_HOME");
    cn_rmtree(cache, NULL);
}

int main(void)
{
    void *lib = dlopen(CINCH_BINARY_DIR "/bin/cinch-gpu.so", RTLD_NOW | RTLD_LOCAL);
    struct cn_error err = {0};
    int devices;
    if (lib) {
        *(void **)&create = dlsym(lib, "cinch_gpu_create");
        *(void **)&nccl_id = dlsym(lib, "cinch_gpu_nccl_id");
        *(void **)&count = dlsym(lib, "cinch_gpu_count");
    }
    if (!lib || count(&devices, &err)) {
        fprintf(stderr, "skipped: %s\n", lib ? err.text : dlerror());
        return 77;
    }
    synthetic_make(&ecg, ECG_MULTI_LABEL, RECORDS, 12, SAMPLES);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_are_pinned_and_on_the_stream),
        cmocka_unit_test(a_failed_capture_is_ended_and_done_without),
        cmocka_unit_test(a_capture_refuses_what_would_spoil_it),
        cmocka_unit_test(a_silent_rank_ends_every_wait),
        cmocka_unit_test(a_rank_that_never_comes_ends_the_joining),
        cmocka_unit_test(predictions_stay_on_the_card),
        cmocka_unit_test(grids_stay_within_the_limits),
        cmocka_unit_test(rows_past_a_grid_are_computed),
        cmocka_unit_test(libraries_never_see_the_gang),
        cmocka_unit_test(precisions_ask_for_their_math),
        cmocka_unit_test(engines_are_chosen_as_they_will_run),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    synthetic_free(&ecg);
    return rc;
}
