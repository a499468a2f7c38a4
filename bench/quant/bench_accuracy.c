/* bench/quant/bench_accuracy.c - what int8 costs: float minus int8 macro-AUROC, of each checkpoint given and on
 * average, for the quantiser's modes (best7: mode best with 7-bit activations) or, with --techniques, for each
 * technique of mode best alone. `test`: on the test fold; `all` (with --all): on every record, where chance moves fewer ranks. rmse: of the
 * probabilities on the calibration records. accuracy.sh trains the checkpoints.
 *
 * usage: bench_accuracy [--techniques] [--all] --data DIR MODEL.safetensors..
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "bench/quant/score.h"

#define MAX_WAYS 5

struct way {
    const char *name;
    struct quant_options opt;
};

static const struct way modes[] = {{"paper", {.mode = QUANT_PAPER}},
                                   {"best7", {.mode = QUANT_BEST, .reduce_range = 1}},
                                   {"full", {.mode = QUANT_FULL}},
                                   {"best", {.mode = QUANT_BEST}},
                                   {NULL, {.mode = QUANT_FLOAT}}};
static const struct way techniques[] = {
    {"full", {.mode = QUANT_FULL}},
    {"bias correction", {.mode = QUANT_FULL, .bias_correction = QUANT_ON}},
    {"equalisation", {.mode = QUANT_FULL, .equalisation = QUANT_ON}},
    {"observer choice", {.mode = QUANT_FULL, .observer_choice = QUANT_ON}},
    {"best", {.mode = QUANT_BEST}},
    {NULL, {.mode = QUANT_FLOAT}}};
static int score_all; /* --all */
static const struct way real_way = {"float", {.mode = QUANT_FLOAT}};

struct outcome {
    size_t bytes;
    double test, all, rmse, seconds; /* test, all: AUROC; in sums: drops */
};

static int one_way(const struct nn_model *m, const struct ecg_dataset *d, const struct way *way,
                   struct outcome *o)
{
    struct quant_artifact a = {0};
    struct cn_error err = {0};
    int64_t start = cn_mono_ms();
    int rc = quant_convert(&a, m, d, &way->opt, &err);
    o->seconds = (double)(cn_mono_ms() - start) / 1e3;
    o->bytes = a.n;
    o->rmse = a.report.output_rmse;
    if (!rc) rc = score_artifact(&a, d, ECG_TEST, &o->test, &err);
    o->all = 0;
    if (!rc && score_all) rc = score_artifact(&a, d, SCORE_ALL, &o->all, &err);
    if (rc) fprintf(stderr, "bench_accuracy: %s\n", err.text);
    quant_artifact_release(&a);
    return rc;
}

static void print_line(const char *name, const struct outcome *o)
{
    printf("  %-16s %7zu B  drop %+.5f test", name, o->bytes, o->test);
    if (score_all) printf(" %+.5f all", o->all);
    printf("  rmse %.4f  %5.1f s\n", o->rmse, o->seconds);
    fflush(stdout);
}

/* Adds to sum[] by way. */
static int one_model(const char *path, const struct ecg_dataset *d, const struct way *ways,
                     struct outcome *sum)
{
    struct nn_model *m;
    struct cn_error err;
    struct outcome real, o;
    const char *name = strrchr(path, '/');
    int rc = nn_model_load(&m, path, &err);
    if (rc) {
        fprintf(stderr, "bench_accuracy: %s\n", err.text);
        return rc;
    }
    rc = one_way(m, d, &real_way, &real);
    if (!rc)
        printf("%s: float %zu B, AUROC %.4f test\n", name ? name + 1 : path, real.bytes, real.test);
    for (int k = 0; !rc && ways[k].name; k++) {
        rc = one_way(m, d, &ways[k], &o);
        if (rc) break;
        o.test = real.test - o.test;
        o.all = real.all - o.all;
        print_line(ways[k].name, &o);
        sum[k].bytes += o.bytes;
        sum[k].test += o.test;
        sum[k].all += o.all;
        sum[k].rmse += o.rmse;
        sum[k].seconds += o.seconds;
    }
    nn_model_destroy(m);
    return rc;
}

static void print_means(const struct way *ways, struct outcome *sum, int n)
{
    printf("mean of %d\n", n);
    for (int k = 0; ways[k].name; k++) {
        struct outcome *s = &sum[k];
        s->bytes /= (size_t)n;
        s->test /= n;
        s->all /= n;
        s->rmse /= n;
        s->seconds /= n;
        print_line(ways[k].name, s);
    }
}

int main(int argc, char **argv)
{
    struct ecg_dataset *d = NULL;
    struct cn_error err;
    struct outcome sum[MAX_WAYS] = {{0}};
    const struct way *ways = modes;
    int i = 1;
    for (; i < argc && strcmp(argv[i], "--data") != 0; i++) {
        if (!strcmp(argv[i], "--techniques")) ways = techniques;
        if (!strcmp(argv[i], "--all")) score_all = 1;
    }
    if (argc < i + 3) {
        fprintf(stderr,
                "usage: bench_accuracy [--techniques] [--all] --data DIR MODEL.safetensors..\n");
        return 2;
    }
    struct ecg_build build = {.dir = argv[i + 1]};
    int first = i + 2, rc = ecg_dataset_open(&d, &build, &err);
    if (rc) {
        fprintf(stderr, "bench_accuracy: %s\n", err.text);
        return 2;
    }
    for (i = first; !rc && i < argc; i++) rc = one_model(argv[i], d, ways, sum);
    if (!rc) print_means(ways, sum, argc - first);
    ecg_dataset_close(d);
    return rc ? 1 : 0;
}
