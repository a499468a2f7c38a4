/* Nets, losses, gradients, optimisers, schedules and metrics against values that gen.py made with
 * PyTorch in float64 and scikit-learn. Every case runs on the reference loops and on the kernels
 * that the CPU would choose, nets on those of the smaller instruction sets too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cpu/train/backend.h"
#include "nn/exec_private.h"
#include "nn/metrics.h"
#include "nn/safetensors.h"
#include "nn/schedule.h"

#define STEPS 10 /* of the optimisers alone */
#define SAMPLED 64

/* The golden file of a case. */
struct golden {
    char *bytes;
    struct nn_st *st;
};

static void golden_open(struct golden *g, const char *name)
{
    char path[512];
    size_t n;
    struct cn_error err;
    snprintf(path, sizeof path, "%s/tests/golden/nn/data/%s.safetensors", CINCH_SOURCE_DIR, name);
    assert_int_equal(cn_file_read(path, 1 << 24, &g->bytes, &n, &err), 0);
    assert_int_equal(nn_st_parse(&g->st, name, g->bytes, n, &err), 0);
}

static void golden_close(struct golden *g)
{
    nn_st_destroy(g->st);
    free(g->bytes);
}

/* malloc'ed copy of a tensor; *n its length. */
static float *golden_get(const struct golden *g, const char *name, size_t *n)
{
    const struct nn_st_tensor *t = nn_st_find(g->st, name);
    if (!t) fail_msg("no golden tensor %s", name);
    float *v = malloc(t->count * sizeof *v);
    memcpy(v, t->data, t->count * sizeof *v);
    *n = t->count;
    return v;
}

/* gen.py's `noise`. */
static double noise(size_t i, double phase)
{
    double x = sin((double)(i % 7919 + 1) * 12.9898 + phase * 78.233 + (double)(i / 7919) * 0.731) *
               4375.85453;
    return x - floor(x);
}

static struct nn_backend *backend(const char *isa)
{
    struct nn_backend *be;
    struct cpu_train_options opt = {.threads = 1, .isa = isa};
    struct cn_error err;
    assert_int_equal(cpu_train_create(&be, &opt, &err), 0);
    return be;
}

/* Nets */

struct net_case {
    const char *name, *net, *which;
    int n_widths, width[9];
    int records, samples;
    enum nn_optimiser kind;
};

#define RESNET_WHOLE                                                                               \
    {                                                                                              \
        64, 64, 64, 128, 128, 128, 128, 128, 128                                                   \
    }
#define RESNET_PRUNED                                                                              \
    {                                                                                              \
        8, 7, 9, 16, 13, 11, 5, 16, 3                                                              \
    }

static const struct net_case cases[] = {
    {"rnn", "rnn", "whole", 1, {64}, 2, 1000, NN_ADAM},
    {"rnn", "rnn", "pruned", 1, {7}, 2, 1000, NN_ADAM},
    {"cnn", "cnn", "whole", 4, {32, 64, 96, 32}, 3, 1000, NN_SGD},
    {"cnn", "cnn", "pruned", 4, {4, 8, 12, 5}, 3, 1000, NN_SGD},
    {"resnet", "resnet", "whole", 9, RESNET_WHOLE, 2, 1000, NN_ADAM},
    {"resnet", "resnet", "pruned", 9, RESNET_PRUNED, 2, 1000, NN_ADAM},
    {"resnet-short", "resnet", "whole", 9, RESNET_WHOLE, 2, 12, NN_ADAM},
    {"resnet-short", "resnet", "pruned", 9, RESNET_PRUNED, 2, 12, NN_ADAM},
    {"beat", "beat", "whole", 5, {5, 10, 20, 30, 20}, 5, 260, NN_ADAMW},
    {"beat", "beat", "pruned", 5, {3, 5, 9, 7, 4}, 5, 260, NN_ADAMW},
};

/* One case on one backend. */
struct trial {
    struct nn_backend *be;
    struct nn_net *net;
    struct nn_exec *ex;
    struct golden g;
    float *w, *grad, *m1, *m2, *y, *t, loss;
    struct nn_scalars s;
    double phase; /* of the inputs */
    int records, beat, distilled;
    enum nn_optimiser kind;
};

static void fill_tensor(const struct nn_tensor *t, float *p)
{
    double sum = 0;
    size_t row = t->count / (size_t)t->dim[0];
    const char *end = strrchr(t->name, '.') + 1;
    for (const char *c = t->name; *c; c++) sum += *c;
    double phase = (double)strlen(t->name) + 0.1 * sum;
    for (size_t i = 0; i < t->count; i++) {
        double u = noise(i, phase);
        if (t->ndim > 1)
            p[i] = (float)((2 * u - 1) * sqrt(3.0 / (double)row));
        else if (!strcmp(end, "running_mean") || !strncmp(end, "bias", 4))
            p[i] = (float)(0.4 * (u - 0.5));
        else
            p[i] = (float)(0.6 + 0.8 * u);
    }
}

static void fill_inputs(struct trial *c)
{
    size_t samples = (size_t)c->net->n_samples;
    size_t n = (size_t)c->records * (size_t)c->net->n_leads * samples;
    float *x = nn_exec_input(c->ex);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(1.5 * (2 * noise(i, c->phase) - 1) +
                       sin(0.05 * (double)(i % samples) * (double)(1 + i / samples % 5)));
    for (int r = 0; r < c->records; r++) {
        double sum = 0;
        for (int l = 0; l < 5; l++) {
            size_t i = (size_t)(r * 5 + l);
            double t = 0.02 + 0.96 * noise(i, 3);
            sum += t;
            c->y[i] = c->beat ? r * 2 % 5 == l : noise(i, 2) > 0.5;
            c->t[i] = (float)t;
        }
        for (int l = 0; l < 5 && c->beat; l++)
            c->t[r * 5 + l] = (float)((0.02 + 0.96 * noise((size_t)(r * 5 + l), 3)) / sum);
    }
}

static struct nn_scalars scalars_of(enum nn_optimiser kind, int distilled)
{
    struct nn_scalars s = {.lr = 1e-3f, .alpha = distilled ? 0.4f : 1, .beta1 = 0.9f};
    s.beta2 = 0.999f;
    s.eps = 1e-4f; /* gen.py says why */
    if (kind == NN_SGD) {
        s.momentum = 0.995f;
        s.weight_decay = 0.007f;
    }
    if (kind == NN_ADAMW) s.weight_decay = 0.01f;
    return s;
}

static void trial_open(struct trial *c, const struct net_case *k, int distilled, const char *isa)
{
    char name[64];
    struct cn_error err;
    *c = (struct trial){.be = backend(isa), .records = k->records, .kind = k->kind};
    c->beat = !strcmp(k->net, "beat");
    c->distilled = distilled;
    snprintf(name, sizeof name, "%s-%s-%s", k->name, k->which, distilled ? "distilled" : "plain");
    golden_open(&c->g, name);
    size_t n;
    float *phase = golden_get(&c->g, "phase", &n);
    c->phase = *phase;
    free(phase);
    struct nn_shape shape = {.n_samples = k->samples};
    assert_int_equal(nn_net_build(&c->net, k->net, k->width, k->n_widths, shape, &err), 0);
    for (int i = 0; i < c->net->n_layers; i++) c->net->layer[i].p = 0; /* dropout: tested apart */
    assert_int_equal(nn_exec_create(&c->ex, c->be, c->net, 1, k->records, 1, &err), 0);
    n = c->net->n_floats;
    c->w = calloc(n, 4);
    c->grad = calloc(n, 4);
    c->m1 = calloc(n, 4);
    c->m2 = calloc(n, 4);
    c->y = calloc((size_t)k->records * 5, 4);
    c->t = calloc((size_t)k->records * 5, 4);
    for (int i = 0; i < c->net->n_tensors; i++)
        fill_tensor(&c->net->tensor[i], c->w + c->net->tensor[i].offset);
    c->s = scalars_of(k->kind, distilled);
}

static void trial_close(struct trial *c)
{
    nn_exec_destroy(c->ex);
    nn_net_destroy(c->net);
    c->be->ops->destroy(c->be);
    golden_close(&c->g);
    float *const own[] = {c->w, c->grad, c->m1, c->m2, c->y, c->t};
    for (int i = 0; i < 6; i++) free(own[i]);
}

/* Forward, loss, backward; the input is filled anew, since buffers are shared. */
static void trial_gradients(struct trial *c)
{
    struct nn_exec_pass pass = {c->w, c->grad, (int64_t)c->net->n_floats, c->records, 1, &c->s, 0};
    struct nn_loss_args l = {.m = 1, .b = c->records, .labels = 5, .cross_entropy = c->beat};
    l.s = &c->s;
    l.z = nn_exec_logits(c->ex);
    l.y = c->y;
    l.t = c->distilled ? c->t : NULL;
    l.loss = &c->loss;
    l.dz = nn_exec_dlogits(c->ex);
    fill_inputs(c);
    assert_int_equal(nn_exec_forward(c->ex, &pass), 0);
    assert_int_equal(c->be->ops->loss(c->be, &l), 0);
}

static void trial_backward(struct trial *c)
{
    struct nn_exec_pass pass = {c->w, c->grad, (int64_t)c->net->n_floats, c->records, 1, &c->s, 0};
    assert_int_equal(nn_exec_backward(c->ex, &pass), 0);
}

static void trial_update(struct trial *c)
{
    struct nn_update u = {.m = 1, .p = (int64_t)c->net->n_params, .kind = c->kind};
    u.stride = (int64_t)c->net->n_floats;
    u.nesterov = c->kind == NN_SGD;
    u.s = &c->s;
    u.w = c->w;
    u.g = c->grad;
    u.m1 = c->m1;
    u.m2 = c->m2;
    c->s.step++;
    assert_int_equal(c->be->ops->update(c->be, &u), 0);
}

/* The largest difference between v and the stored sample of a tensor, relative to the tensor's root
 * mean square. */
static double difference(const struct golden *g, const char *name, const float *v, size_t n)
{
    size_t stored;
    double worst = 0, square = 0, want_square = 0;
    float *want = golden_get(g, name, &stored);
    size_t samples = n <= SAMPLED ? n : SAMPLED;
    assert_int_equal(stored, samples + (n > SAMPLED));
    for (size_t i = 0; i < n; i++) square += (double)v[i] * v[i];
    for (size_t i = 0; i < samples; i++) want_square += (double)want[i] * want[i];
    double norm = n > SAMPLED ? want[SAMPLED] : sqrt(want_square);
    double rms = norm / sqrt((double)n) + 1e-30;
    for (size_t i = 0; i < samples; i++)
        worst = fmax(worst, fabs((double)v[i * n / samples] - want[i]) / rms);
    worst = fmax(worst, fabs(sqrt(square) - norm) / (norm + 1e-30));
    free(want);
    return worst;
}

static double worst_tensor(const struct trial *c, const char *prefix, const float *flat, int all,
                           char at[96])
{
    double worst = 0;
    for (int i = 0; i < c->net->n_tensors; i++) {
        const struct nn_tensor *t = &c->net->tensor[i];
        char name[96];
        if (!all && !t->trainable) continue;
        snprintf(name, sizeof name, "%s.%s", prefix, t->name);
        double d = difference(&c->g, name, flat + t->offset, t->count);
        if (d > worst) {
            worst = d;
            strcpy(at, name);
        }
    }
    return worst;
}

static double worst_logits(const struct trial *c, const char *name)
{
    return difference(&c->g, name, nn_exec_logits(c->ex), (size_t)c->records * 5);
}

static void evaluate(struct trial *c)
{
    struct nn_exec_pass pass = {c->w, NULL, (int64_t)c->net->n_floats, c->records, 0, &c->s, 0};
    fill_inputs(c);
    assert_int_equal(nn_exec_forward(c->ex, &pass), 0);
}

/* ReLUs at which float32 and float64 disagree. */

/* Input i of a step's ReLU, and a float whose reflection at zero turns the input's sign for backward:
 * the convolution's output in a fused block, the ReLU's own output elsewhere. */
static double relu_input(const struct trial *c, const struct nn_step *s, size_t i, float **value)
{
    float *y = nn_exec_buffer(c->ex, s->y), *pre = nn_exec_buffer(c->ex, s->pre);
    const struct nn_layer *l = &c->net->layer[s->out_layer];
    if (!s->fused) return *(*value = y + i);
    const struct nn_layer *bn = &c->net->layer[s->bn];
    size_t o = i / (size_t)l->tout % (size_t)l->cout;
    const float *w = c->w + c->net->tensor[bn->tensor].offset;
    const float *bias = c->w + c->net->tensor[bn->tensor + 1].offset;
    const float *mean = nn_exec_buffer(c->ex, s->mean), *rstd = nn_exec_buffer(c->ex, s->rstd);
    *value = pre + i;
    return fmaf(w[o] * rstd[o], pre[i] - mean[o], bias[o]);
}

/* Puts input i on float64's side of zero if it is not. Returns whether it was not. */
static int match_relu(const struct trial *c, const struct nn_step *s, size_t i, int positive)
{
    float *value;
    double z = relu_input(c, s, i, &value), to = positive ? 1e-6 : -1e-6;
    if ((z > 0) == positive) return 0;
    assert_true(fabs(z) < 1e-4);
    if (!s->fused) {
        *value = positive ? 1e-30f : 0;
        return 1;
    }
    const struct nn_layer *l = &c->net->layer[s->out_layer], *bn = &c->net->layer[s->bn];
    size_t o = i / (size_t)l->tout % (size_t)l->cout;
    const float *rstd = nn_exec_buffer(c->ex, s->rstd);
    *value += (float)((to - z) / ((double)c->w[c->net->tensor[bn->tensor].offset + o] * rstd[o]));
    assert_true((relu_input(c, s, i, &value) > 0) == positive);
    return 1;
}

/* Compares the ReLU inputs that the golden file lists as near zero in this step; puts those that
 * rounding moved across it back, for backward. Returns how many there were. */
static int match_relus(const struct trial *c, size_t step)
{
    int flipped = 0, relu = 0;
    char name[32];
    size_t n;
    snprintf(name, sizeof name, "near%zu", step);
    if (!nn_st_find(c->g.st, name)) return 0;
    float *place = golden_get(&c->g, name, &n); /* (ReLU << 18) + place + 1; the last is a 0 */
    for (int i = 0; i < c->ex->n_steps; i++) {
        const struct nn_step *s = &c->ex->step[i];
        if (!strstr(c->net->layer[s->out_layer].name, "relu")) continue;
        for (size_t e = 0; e + 1 < n; e++) {
            int code = (int)fabsf(place[e]) - 1;
            if (code >> 18 == relu)
                flipped += match_relu(c, s, (size_t)(code & 0x3FFFF), place[e] > 0);
        }
        relu++;
    }
    free(place);
    return flipped;
}

static void run_case(const struct net_case *k, int distilled, const char *isa)
{
    struct trial c;
    size_t n;
    char at[96] = "", after[96] = "";
    double logits = 0, grads = 0, losses = 0;
    int flipped = 0;
    trial_open(&c, k, distilled, isa);
    float *want = golden_get(&c.g, "losses", &n);
    for (size_t step = 0; step < n; step++) {
        trial_gradients(&c);
        if (step == 0) logits = worst_logits(&c, "logits");
        flipped += match_relus(&c, step);
        trial_backward(&c);
        if (step == 0) grads = worst_tensor(&c, "grad", c.grad, 0, at);
        losses = fmax(losses, fabs(c.loss - want[step]) / fabs(want[step]));
        trial_update(&c);
    }
    double params = worst_tensor(&c, "after", c.w, 1, after);
    evaluate(&c);
    double eval = worst_logits(&c, "eval");
    print_message("%-12s %-6s %-9s %-4s logits %.1e  gradients %.1e (%s)  losses %.1e  "
                  "parameters %.1e (%s)  evaluation %.1e\n",
                  k->name, k->which, distilled ? "distilled" : "plain", isa ? isa : "best", logits,
                  grads, at, losses, params, after, eval);
    if (flipped) print_message("    %d ReLUs on the other side of zero than float64's\n", flipped);
    /* Kernels round near 1e-6, so among the millions of ReLUs of a ResNet at full length a few fall on
     * zero's other side, and one gradient in a thousand shows it (1e-2). That is all that is wrong:
     * with those ReLUs as in float64, the gradients agree as everywhere else. */
    assert_in_range(flipped, 0, 40);
    assert_true(logits < 2e-5);
    assert_true(grads < 1e-4);
    assert_true(losses < 1e-4);
    assert_true(params < 1e-4);
    assert_true(eval < 1e-4);
    free(want);
    trial_close(&c);
}

static int exists(const char *isa)
{
    struct nn_backend *be;
    struct cpu_train_options opt = {.threads = 1, .isa = isa};
    struct cn_error err;
    if (cpu_train_create(&be, &opt, &err)) return 0;
    be->ops->destroy(be);
    return 1;
}

static void nets_equal_pytorch(void **state)
{
    static const char *const other[] = {"portable", "avx2"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int distilled = 0; distilled < 2; distilled++) {
            run_case(&cases[i], distilled, "ref");
            run_case(&cases[i], distilled, NULL);
            for (int k = 0; k < 2; k++)
                if (exists(other[k])) run_case(&cases[i], distilled, other[k]);
        }
}

/* Optimisers alone, on given gradients */

static const struct {
    const char *name;
    enum nn_optimiser kind;
    int nesterov;
    float lr, momentum, weight_decay, beta1, beta2, eps, clip;
} optimisers[] = {
    {"sgd", NN_SGD, 0, 0.05f, 0, 0, 0, 0, 0, 0},
    {"momentum", NN_SGD, 0, 0.05f, 0.9f, 0.01f, 0, 0, 0, 0},
    {"nesterov", NN_SGD, 1, 0.05f, 0.995f, 0.007f, 0, 0, 0, 0},
    {"adam", NN_ADAM, 0, 0.01f, 0, 0.02f, 0.9f, 0.999f, 1e-8f, 0},
    {"adamw", NN_ADAMW, 0, 0.01f, 0, 0.05f, 0.8f, 0.95f, 1e-6f, 0},
    {"clip", NN_ADAM, 0, 0.01f, 0, 0, 0.9f, 0.999f, 1e-8f, 0.7f},
};

static void run_optimiser(const struct golden *g, size_t k, const char *isa)
{
    enum { N = 100 };
    float w[N], grad[N], m1[N] = {0}, m2[N] = {0};
    struct nn_backend *be = backend(isa);
    struct nn_scalars s = {.lr = optimisers[k].lr, .momentum = optimisers[k].momentum};
    struct nn_update u = {.m = 1, .p = N, .stride = N, .kind = optimisers[k].kind};
    s.weight_decay = optimisers[k].weight_decay;
    s.beta1 = optimisers[k].beta1;
    s.beta2 = optimisers[k].beta2;
    s.eps = optimisers[k].eps;
    u.nesterov = optimisers[k].nesterov;
    u.clip = optimisers[k].clip;
    u.s = &s;
    u.w = w;
    u.g = grad;
    u.m1 = m1;
    u.m2 = m2;
    for (size_t i = 0; i < N; i++) w[i] = (float)(2 * noise(i, 4) - 1);
    for (int step = 0; step < STEPS; step++) {
        for (size_t i = 0; i < N; i++)
            grad[i] = (float)((2 * noise(i, 5 + step) - 1) * pow(10, step % 3 - 1));
        s.step++;
        assert_int_equal(be->ops->update(be, &u), 0);
    }
    size_t n;
    float *want = golden_get(g, optimisers[k].name, &n);
    for (size_t i = 0; i < N; i++)
        if (fabsf(w[i] - want[i]) > 2e-6f * (1 + fabsf(want[i])))
            fail_msg("%s: %.8g instead of %.8g", optimisers[k].name, (double)w[i], (double)want[i]);
    free(want);
    be->ops->destroy(be);
}

static void optimisers_equal_pytorch(void **state)
{
    struct golden g;
    golden_open(&g, "optimisers");
    for (size_t k = 0; k < sizeof optimisers / sizeof *optimisers; k++) {
        run_optimiser(&g, k, "ref");
        run_optimiser(&g, k, NULL);
    }
    golden_close(&g);
}

/* Schedules */

static void same_rates(const struct golden *g, const char *name, const double *lr, size_t n)
{
    size_t stored;
    float *want = golden_get(g, name, &stored);
    assert_int_equal(stored, n);
    for (size_t i = 0; i < n; i++)
        if (fabs(lr[i] - want[i]) > 1e-6 * want[i] + 1e-12)
            fail_msg("%s: step %zu: %g instead of %g", name, i, lr[i], (double)want[i]);
    free(want);
}

static void schedules_equal_pytorch(void **state)
{
    struct golden g;
    double lr[64];
    size_t n;
    golden_open(&g, "schedules");
    struct nn_recipe r = {.epochs = 30, .lr = 1e-3, .lr_min = 1e-6, .schedule = NN_COSINE};
    r.period = 7;
    for (int e = 0; e < 30; e++) lr[e] = nn_schedule_lr(&r, NULL, e, 0, 10);
    same_rates(&g, "cosine", lr, 30);

    struct nn_plateau p;
    float *losses = golden_get(&g, "plateau_losses", &n);
    r = (struct nn_recipe){.epochs = 48, .lr = 1e-3, .lr_min = 2e-4, .schedule = NN_PLATEAU};
    r.period = 2;
    r.factor = 0.5;
    nn_plateau_start(&p, &r);
    for (int e = 0; e < 48; e++) {
        lr[e] = nn_schedule_lr(&r, &p, e, 3, 10);
        nn_plateau_epoch(&p, &r, losses[e]);
    }
    same_rates(&g, "plateau", lr, 48);
    free(losses);

    r = (struct nn_recipe){.epochs = 6, .lr = 4e-3, .lr_min = 1e-6, .schedule = NN_ONE_CYCLE};
    r.warmup = 0.2;
    r.per_step = 1;
    for (int i = 0; i < 59; i++) lr[i] = nn_schedule_lr(&r, NULL, i / 10, i % 10, 10);
    same_rates(&g, "one_cycle", lr, 59);
    golden_close(&g);
}

/* Max-pool with ties */

static void pool_ties_equal_pytorch(void **state)
{
    struct golden g;
    golden_open(&g, "pools");
    for (int round = 0; round < 6; round++) {
        static const int kernels[] = {2, 3, 7};
        int k = kernels[round / 2], tout = 50 / k;
        struct nn_backend *be = backend(round % 2 ? NULL : "ref");
        float x[600], y[600], dy[600], dx[600];
        uint8_t arg[600];
        char name[8];
        size_t n;
        for (size_t i = 0; i < 600; i++) x[i] = (float)floor(noise(i, 30) * 4);
        struct nn_pool a = {.rows = 12, .tin = 50, .tout = tout, .k = k, .x = x, .y = y};
        a.arg = arg;
        a.dy = dy;
        a.dx = dx;
        for (int i = 0; i < 12 * tout; i++) dy[i] = (float)(1 + i);
        assert_int_equal(be->ops->maxpool_forward(be, &a), 0);
        assert_int_equal(be->ops->maxpool_backward(be, &a), 0);
        snprintf(name, sizeof name, "y%d", k);
        float *want = golden_get(&g, name, &n);
        assert_memory_equal(want, y, n * sizeof *y);
        free(want);
        snprintf(name, sizeof name, "dx%d", k);
        want = golden_get(&g, name, &n);
        assert_memory_equal(want, dx, n * sizeof *dx);
        free(want);
        be->ops->destroy(be);
    }
    golden_close(&g);
}

/* Metrics */

static void check_report(const struct golden *g, int i, const float *p, const uint8_t *y, int n)
{
    char name[16];
    size_t stored;
    struct nn_class_report r;
    snprintf(name, sizeof name, "report%d", i);
    float *want = golden_get(g, name, &stored);
    nn_classify(p, y, n, 5, &r);
    double f1 = 0;
    for (int l = 0; l < 5; l++) {
        assert_true(fabs(r.precision[l] - want[l]) < 1e-6);
        assert_true(fabs(r.sensitivity[l] - want[5 + l]) < 1e-6);
        assert_true(fabs(r.f1[l] - want[10 + l]) < 1e-6);
        f1 += want[10 + l] / 5;
    }
    assert_true(fabs(r.macro_f1 - f1) < 1e-6);
    free(want);
}

static void metrics_equal_sklearn(void **state)
{
    struct golden g;
    golden_open(&g, "metrics");
    for (int i = 0; i < 4; i++) {
        char name[16];
        size_t n, stored;
        snprintf(name, sizeof name, "p%d", i);
        float *p = golden_get(&g, name, &n);
        snprintf(name, sizeof name, "y%d", i);
        float *yf = golden_get(&g, name, &n);
        snprintf(name, sizeof name, "auroc%d", i);
        float *want = golden_get(&g, name, &stored);
        uint8_t *y = malloc(n);
        for (size_t k = 0; k < n; k++) y[k] = yf[k] > 0;
        struct nn_auroc_report r;
        nn_auroc_all(p, y, (int)n / 5, 5, 1, &r);
        double macro = 0;
        for (int l = 0; l < 5; l++) {
            assert_true(fabs(r.per_label[l] - want[l]) < 1e-6);
            assert_true(fabs(nn_auroc(p + l, y + l, (int)n / 5, 5) - want[l]) < 1e-6);
            macro += want[l] / 5;
        }
        assert_true(fabs(r.macro - macro) < 1e-6);
        assert_true(r.ci95[0] < r.macro && r.macro < r.ci95[1]);
        check_report(&g, i, p, y, (int)n / 5);
        free(p);
        free(yf);
        free(y);
        free(want);
    }
    golden_close(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nets_equal_pytorch),      cmocka_unit_test(optimisers_equal_pytorch),
        cmocka_unit_test(schedules_equal_pytorch), cmocka_unit_test(pool_ties_equal_pytorch),
        cmocka_unit_test(metrics_equal_sklearn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
