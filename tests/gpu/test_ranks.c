/* Data parallel on two ranks (threads, one device each): gradients averaged, BatchNorm statistics over all rows on request,
 * and a rank that leaves ends the other's wait with an error instead of hanging. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cpu/train/backend.h"
#include "gpu/gpu.h"

enum { RANKS = 2, B = 4, C = 3, T = 19, ROW = C * T };

static int (*create)(struct nn_backend **, const struct cinch_gpu_options *, struct cn_error *);
static int (*nccl_id)(void *, struct cn_error *);
static int (*count)(int *, struct cn_error *);
static char id[128];

struct rank {
    int rank, sync, leave;
    pthread_t thread;
    int rc;
    char text[480];
    float y[B / RANKS * ROW], dx[B / RANKS * ROW], grad[2 * C];
};

static void fill(float *v, size_t n, uint64_t key)
{
    for (size_t i = 0; i < n; i++) v[i] = 2 * cn_rng_uniform(cn_rng(key, 0, 0, i).v[0]) - 0.5f;
}

/* Device memory holding `n` floats; the first failure sticks in *rc. */
static float *put(struct nn_backend *be, const float *v, size_t n, int *rc)
{
    void *p = NULL;
    if (!*rc) *rc = be->ops->alloc(be, n * sizeof *v, &p);
    if (!*rc)
        *rc = v ? be->ops->upload(be, p, v, n * sizeof *v) : be->ops->zero(be, p, n * sizeof *v);
    return p;
}

/* BatchNorm over rows [first, first + rows) of the shared batch, forward and backward; grad = {dw, dbias}. */
static int batchnorm(struct nn_backend *be, int first, int rows, float *y_out, float *dx_out,
                     float *grad_out)
{
    float x[B * ROW], dy[B * ROW], w[2 * C];
    int rc = 0;
    fill(x, B * ROW, 1);
    fill(dy, B * ROW, 2);
    fill(w, 2 * C, 3);
    size_t n = (size_t)rows * ROW;
    float *dw = put(be, w, 2 * C, &rc), *g = put(be, NULL, 2 * C, &rc),
          *run = put(be, NULL, 2 * C, &rc);
    float *save = put(be, NULL, 2 * C, &rc), *y = put(be, NULL, n, &rc),
          *dx = put(be, NULL, n, &rc);
    struct nn_batchnorm a = {.m = 1,
                             .b = rows,
                             .c = C,
                             .t = T,
                             .stride = 2 * C,
                             .train = 1,
                             .eps = 1e-5f,
                             .momentum = 0.1f,
                             .x = put(be, x + (size_t)first * ROW, n, &rc),
                             .w = dw,
                             .bias = dw + C,
                             .running_mean = run,
                             .running_var = run + C,
                             .save_mean = save,
                             .save_rstd = save + C,
                             .y = y,
                             .dy = put(be, dy + (size_t)first * ROW, n, &rc),
                             .dx = dx,
                             .dw = g,
                             .dbias = g + C};
    if (!rc) rc = be->ops->batchnorm_forward(be, &a);
    if (!rc) rc = be->ops->batchnorm_backward(be, &a);
    if (!rc && be->ops->grad_ready) rc = be->ops->grad_ready(be, g, C, C);
    if (!rc && be->ops->grad_ready) rc = be->ops->grad_ready(be, g, 0, C);
    if (!rc && be->ops->grad_wait) rc = be->ops->grad_wait(be);
    if (!rc) rc = be->ops->download(be, y_out, y, n * sizeof *y_out);
    if (!rc) rc = be->ops->download(be, dx_out, dx, n * sizeof *dx_out);
    if (!rc) rc = be->ops->download(be, grad_out, g, 2 * C * sizeof *grad_out);
    return rc;
}

static void *run_rank(void *arg)
{
    struct rank *r = arg;
    struct nn_backend *be;
    struct cn_error err = {0};
    struct cinch_gpu_options opt = {.device = r->rank,
                                    .engine = CINCH_ENGINE_NATIVE,
                                    .ranks = RANKS,
                                    .rank = r->rank,
                                    .nccl_id = id,
                                    .sync_batchnorm = r->sync,
                                    .fail_after_s = 5};
    r->rc = create(&be, &opt, &err);
    if (r->rc) {
        snprintf(r->text, sizeof r->text, "%s", err.text);
        return NULL;
    }
    if (!r->leave) r->rc = batchnorm(be, r->rank * B / RANKS, B / RANKS, r->y, r->dx, r->grad);
    snprintf(r->text, sizeof r->text, "%s", be->error.text);
    be->ops->destroy(be);
    return NULL;
}

static void run_ranks(struct rank r[RANKS], int sync, int leaver)
{
    struct cn_error err;
    if (nccl_id(id, &err)) fail_msg("%s", err.text);
    for (int i = 0; i < RANKS; i++) {
        r[i] = (struct rank){.rank = i, .sync = sync, .leave = i == leaver};
        pthread_create(&r[i].thread, NULL, run_rank, &r[i]);
    }
    for (int i = 0; i < RANKS; i++) pthread_join(r[i].thread, NULL);
}

static void near(const float *a, const float *b, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(a[i] - b[i]) <= 2e-5f * (1 + fabsf(b[i]))))
            fail_msg("%s[%zu]: %g, expected %g", what, i, a[i], b[i]);
}

static void synced_batchnorm_is_that_of_the_whole_batch(void **state)
{
    struct rank r[RANKS];
    struct nn_backend *cpu;
    struct cn_error err;
    float y[B * ROW], dx[B * ROW], grad[2 * C];
    run_ranks(r, 1, -1);
    for (int i = 0; i < RANKS; i++)
        if (r[i].rc) fail_msg("rank %d: %s", i, r[i].text);
    assert_int_equal(
        cpu_train_create(&cpu, &(struct cpu_train_options){.threads = 1, .isa = "ref"}, &err), 0);
    assert_int_equal(batchnorm(cpu, 0, B, y, dx, grad), 0);
    cpu->ops->destroy(cpu);
    for (int i = 0; i < RANKS; i++) {
        near(r[i].y, y + i * B / RANKS * ROW, B / RANKS * ROW, "y");
        near(r[i].dx, dx + i * B / RANKS * ROW, B / RANKS * ROW, "dx");
    }
    for (int k = 0; k < 2 * C; k++)
        grad[k] /= RANKS; /* the sum over all rows, as an average of the ranks' sums */
    near(r[0].grad, grad, 2 * C, "gradient");
    assert_memory_equal(r[0].grad, r[1].grad, sizeof r[0].grad);
}

static void gradients_are_averaged(void **state)
{
    struct rank r[RANKS];
    struct nn_backend *cpu;
    struct cn_error err;
    float y[B * ROW], dx[B * ROW], grad[RANKS][2 * C], mean[2 * C];
    run_ranks(r, 0, -1);
    for (int i = 0; i < RANKS; i++)
        if (r[i].rc) fail_msg("rank %d: %s", i, r[i].text);
    assert_int_equal(
        cpu_train_create(&cpu, &(struct cpu_train_options){.threads = 1, .isa = "ref"}, &err), 0);
    for (int i = 0; i < RANKS; i++)
        assert_int_equal(batchnorm(cpu, i * B / RANKS, B / RANKS, y, dx, grad[i]), 0);
    cpu->ops->destroy(cpu);
    for (int k = 0; k < 2 * C; k++) mean[k] = (grad[0][k] + grad[1][k]) / 2;
    near(r[0].grad, mean, 2 * C, "gradient");
    assert_memory_equal(r[0].grad, r[1].grad, sizeof r[0].grad);
}

static void a_lost_rank_ends_the_attempt(void **state)
{
    struct rank r[RANKS];
    run_ranks(r, 1, 1);
    assert_int_equal(r[1].rc, 0);
    assert_true(r[0].rc < 0);
    assert_non_null(strstr(r[0].text, "rank 0 of 2"));
}

int main(void)
{
    struct cn_error err;
    int devices = 0;
    void *lib = dlopen(CINCH_BINARY_DIR "/bin/cinch-gpu.so", RTLD_NOW | RTLD_LOCAL);
    if (lib) {
        *(void **)&create = dlsym(lib, "cinch_gpu_create");
        *(void **)&nccl_id = dlsym(lib, "cinch_gpu_nccl_id");
        *(void **)&count = dlsym(lib, "cinch_gpu_count");
    }
    if (!lib || count(&devices, &err) || devices < RANKS || nccl_id(id, &err)) {
        fprintf(stderr, "skipped: needs the plugin, NCCL and %d GPUs (%d here)\n", RANKS, devices);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(synced_batchnorm_is_that_of_the_whole_batch),
        cmocka_unit_test(gradients_are_averaged),
        cmocka_unit_test(a_lost_rank_ends_the_attempt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
