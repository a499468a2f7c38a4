/* bench_gpu.c - training steps on a GPU: microseconds a step and records a second of each net, alone and in
 * gangs, as nn/gang.c runs them (a recorded step, replayed).
 *
 * usage: bench_gpu PLUGIN [tiny]. Prints a table, tab-separated: net, precision, batch, members, µs a step,
 * records/s over all members, and how many times the records/s of one alone. `tiny` is for machines
 * without a card, where the figures mean nothing: small nets, few steps.
 */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "gpu/gpu.h"
#include "nn/gang.h"

struct bench_net {
    const char *net;
    int batch;
    int n_widths, width[9], samples; /* of `tiny` */
};

static const struct bench_net nets[] = {
    {"rnn", 64, 1, {5}, 16},
    {"cnn", 64, 4, {4, 5, 6, 4}, 170},
    {"resnet", 128, 9, {5, 4, 3, 6, 5, 7, 4, 6, 5}, 24},
};

static int (*create)(struct nn_backend **, const struct cinch_gpu_options *, struct cn_error *);

/* n records of noise; all are for training but one. */
static void make_data(struct ecg_dataset *d, const struct nn_net *net, int n)
{
    size_t floats = (size_t)n * net->n_leads * net->n_samples;
    float *x = malloc(floats * sizeof *x);
    for (size_t i = 0; i < floats; i++) x[i] = 2 * cn_rng_uniform(cn_rng(1, 0, 0, i).v[0]) - 1;
    *d = (struct ecg_dataset){.task =
                                  net->loss == NN_CROSS_ENTROPY ? ECG_ONE_LABEL : ECG_MULTI_LABEL};
    d->n = n;
    d->n_leads = net->n_leads;
    d->n_samples = net->n_samples;
    d->n_labels = net->n_labels;
    d->x = x;
    d->y = calloc((size_t)n, (size_t)net->n_labels);
    uint8_t *part = calloc((size_t)n, 1);
    for (int i = 0; i < n; i++) part[i] = i ? ECG_TRAIN : ECG_VALIDATION;
    d->part = part;
    strcpy(d->name, "noise");
}

static void free_data(struct ecg_dataset *d)
{
    free((void *)d->x);
    free((void *)d->y);
    free((void *)d->part);
}

static int put_members(struct nn_gang *g, int m)
{
    size_t n = g->net->n_floats;
    float *v = calloc(4 * n, sizeof *v);
    for (size_t i = 0; i < n; i++)
        v[i] = i < g->net->n_params ? 0.1f * (cn_rng_uniform(cn_rng(2, 0, 0, i).v[0]) - 0.5f) : 1;
    struct nn_state s = {.params = v, .m1 = v + n, .m2 = v + 2 * n, .average = v + 3 * n};
    int rc = 0;
    for (int i = 0; i < m && !rc; i++) rc = nn_gang_put(g, i, &s);
    free(v);
    return rc;
}

/* Microseconds of a step of m members, or < 0. */
static double time_steps(struct nn_gang *g, int m, int steps)
{
    struct nn_scalars s[NN_MAX_GANG] = {{0}};
    for (int i = 0; i < m; i++)
        s[i] = (struct nn_scalars){.seed = (uint64_t)i,
                                   .step = 1,
                                   .lr = 1e-4f,
                                   .alpha = 1,
                                   .momentum = 0.9f,
                                   .beta1 = 0.9f,
                                   .beta2 = 0.999f,
                                   .eps = 1e-8f};
    int rc = put_members(g, m);
    for (int i = 0; i < 3 && !rc; i++)
        rc = nn_gang_step(g, s, g->batch); /* plain, recorded, warm */
    if (!rc) rc = g->be->ops->sync(g->be);
    int64_t from = cn_mono_ns();
    for (int i = 0; i < steps && !rc; i++) rc = nn_gang_step(g, s, g->batch);
    if (!rc) rc = g->be->ops->sync(g->be);
    return rc ? -1 : (double)(cn_mono_ns() - from) * 1e-3 / steps;
}

static int bench(const struct bench_net *b, enum nn_precision precision, int m, int tiny,
                 double *alone)
{
    static const char *const names[] = {"fp32", "tf32", "bf16"};
    struct cinch_gpu_options opt = {.precision = precision};
    struct nn_backend *be;
    struct nn_net *net;
    struct ecg_dataset d;
    struct cn_error err = {0};
    struct nn_gang g;
    struct nn_shape shape = {.n_samples = tiny ? b->samples : 0};
    int who[NN_MAX_GANG];
    struct nn_train_member member[NN_MAX_GANG] = {{0}};
    if (create(&be, &opt, &err) ||
        nn_net_build(&net, b->net, tiny ? b->width : NULL, tiny ? b->n_widths : 0, shape, &err)) {
        fprintf(stderr, "%s: %s\n", b->net, err.text);
        return 1;
    }
    int batch = tiny ? 4 : b->batch;
    make_data(&d, net, 2 * batch + 1);
    struct nn_model model = {.net = net};
    struct nn_recipe r = {.batch = batch, .optimiser = NN_ADAM, .precision = precision};
    struct nn_train t = {.backend = be, .data = &d, .recipe = &r, .m = m, .member = member};
    for (int i = 0; i < m; i++) who[i] = i, member[i].model = &model;
    int rc = nn_gang_create(&g, &t, who, m, &err);
    double us = rc ? -1 : time_steps(&g, m, tiny ? 2 : 200);
    if (us < 0) fprintf(stderr, "%s: %s\n", b->net, rc ? err.text : be->error.text);
    double rate = us > 0 ? 1e6 * batch * m / us : 0;
    if (m == 1) *alone = rate;
    if (us > 0)
        printf("%s\t%s\t%d\t%d\t%.1f\t%.0f\t%.2f\n", b->net, names[precision], batch, m, us, rate,
               *alone > 0 ? rate / *alone : NAN);
    fflush(stdout);
    if (!rc) nn_gang_destroy(&g);
    free_data(&d);
    nn_net_destroy(net);
    be->ops->destroy(be);
    return us <= 0;
}

int main(int argc, char **argv)
{
    int tiny = argc > 2 && !strcmp(argv[2], "tiny"), bad = 0;
    void *lib = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    void *f = lib ? dlsym(lib, "cinch_gpu_create") : NULL;
    if (!f) {
        fprintf(stderr, "usage: bench_gpu PLUGIN [tiny]%s%s\n", argc > 1 ? ": " : "",
                argc > 1 ? dlerror() : "");
        return 2;
    }
    memcpy(&create, &f, sizeof create);
    printf("net\tprecision\tbatch\tmembers\tus_a_step\trecords_per_s\ttimes_alone\n");
    for (size_t k = 0; k < sizeof nets / sizeof *nets; k++)
        for (int p = NN_FP32; p <= (tiny ? NN_FP32 : NN_BF16); p++) {
            double alone = 0;
            for (int m = 1; m <= (tiny ? 2 : NN_MAX_GANG); m *= 2)
                bad += bench(&nets[k], (enum nn_precision)p, m, tiny, &alone);
        }
    return bad != 0;
}
