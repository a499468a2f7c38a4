/* tests/gpu/pair.c - see pair.h. */
#include "tests/gpu/pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "cpu/train/backend.h"

enum { MAX_BUFS = 256 };

struct nn_backend *pair_be[BOTH];
int (*pair_gpu_create)(struct nn_backend **, const struct cinch_gpu_options *, struct cn_error *);
int (*pair_gpu_describe)(int, struct cinch_gpu_info *, struct cn_error *);
static double pair_slack = 1; /* reduced precision: bounds are multiplied by it */
static struct pair_buf bufs[MAX_BUFS];
static int n_bufs;
static uint64_t draws;

static int no_pair(const char *why)
{
    fprintf(stderr, "skipped: %s\n", why);
    return 77;
}

static void print_line(void *arg, const char *line)
{
    fprintf(stderr, "%s\n", line);
}

int pair_open(void)
{
    struct cn_error err;
    void *lib = dlopen(CINCH_BINARY_DIR "/bin/cinch-gpu.so", RTLD_NOW | RTLD_LOCAL);
    if (!lib) return no_pair(dlerror());
    *(void **)&pair_gpu_create = dlsym(lib, "cinch_gpu_create");
    *(void **)&pair_gpu_describe = dlsym(lib, "cinch_gpu_describe");
    if (!pair_gpu_create || !pair_gpu_describe) return no_pair("the plugin lacks its entry points");
    const char *engine = getenv("CINCH_TEST_ENGINE");
    struct cinch_gpu_options opt = {.engine = CINCH_ENGINE_NATIVE, .log = print_line};
    if (engine && !strcmp(engine, "cudnn")) opt.engine = CINCH_ENGINE_CUDNN;
    const char *precision = getenv("CINCH_TEST_PRECISION");
    if (precision && !strcmp(precision, "tf32")) opt.precision = NN_TF32;
    if (precision && !strcmp(precision, "bf16")) opt.precision = NN_BF16;
    pair_slack = opt.precision == NN_BF16 ? 2000 : opt.precision == NN_TF32 ? 200 : 1;
    if (engine && !strcmp(engine, "auto")) opt.engine = CINCH_ENGINE_AUTO;
    if (pair_gpu_create(&pair_be[GPU], &opt, &err)) return no_pair(err.text);
    if (cpu_train_create(&pair_be[CPU], &(struct cpu_train_options){.threads = 1, .isa = "ref"},
                         &err))
        return no_pair(err.text);
    return 0;
}

void pair_release_all(void)
{
    for (int k = 0; k < n_bufs; k++)
        for (int i = 0; i < BOTH; i++) pair_be[i]->ops->release(pair_be[i], bufs[k].dev[i]);
    n_bufs = 0;
}

void pair_close(void)
{
    pair_release_all();
    for (int i = 0; i < BOTH; i++) pair_be[i]->ops->destroy(pair_be[i]);
}

void pair_ok(int rc, int i, const char *what)
{
    if (rc) fail_msg("%s on %s: %s", what, i == CPU ? "cpu" : "gpu", pair_be[i]->error.text);
}

struct pair_buf pair_from(const void *data, size_t bytes)
{
    struct pair_buf b = {.n = bytes / 4};
    assert_true(n_bufs < MAX_BUFS);
    for (int i = 0; i < BOTH; i++) {
        pair_ok(pair_be[i]->ops->alloc(pair_be[i], bytes, &b.dev[i]), i, "alloc");
        pair_ok(pair_be[i]->ops->upload(pair_be[i], b.dev[i], data, bytes), i, "upload");
        pair_ok(pair_be[i]->ops->sync(pair_be[i]), i, "sync");
    }
    bufs[n_bufs++] = b;
    return b;
}

struct pair_buf pair_new(size_t n, float lo, float hi)
{
    float *host = malloc((n + 1) * sizeof *host);
    for (size_t k = 0; k < n; k++)
        host[k] = lo > hi ? NAN : lo + (hi - lo) * cn_rng_uniform(cn_rng(42, 0, 0, draws++).v[0]);
    struct pair_buf b = pair_from(host, n * sizeof *host);
    free(host);
    return b;
}

double pair_difference(struct pair_buf b)
{
    float *v[BOTH];
    double most = 0, scale = 1e-20;
    for (int i = 0; i < BOTH; i++) {
        v[i] = malloc((b.n + 1) * sizeof(float));
        pair_ok(pair_be[i]->ops->download(pair_be[i], v[i], b.dev[i], b.n * sizeof(float)), i,
                "download");
    }
    for (size_t k = 0; k < b.n; k++) {
        if (isnan(v[CPU][k]) && isnan(v[GPU][k])) continue;
        double d =
            isnan(v[CPU][k]) || isnan(v[GPU][k]) ? 1e30 : fabs((double)v[CPU][k] - v[GPU][k]);
        if (d > most) most = d;
        if (fabs(v[CPU][k]) > scale) scale = fabs(v[CPU][k]);
    }
    free(v[CPU]);
    free(v[GPU]);
    return most / scale;
}

void pair_equal(const char *what, struct pair_buf b, double bound)
{
    double d = pair_difference(b);
    bound *= pair_slack;
    if (!(d <= bound))
        fail_msg("%s: cpu and gpu differ by %g of the largest value (bound %g)", what, d, bound);
}
