/* Whole training steps of each net on both backends: batch from the resident dataset, forward, loss with a teacher, backward,
 * update, weight average. The GPU runs its first step call by call and the others as one captured graph, replayed. Losses,
 * gradients and weights must agree with the CPU's plain loops; a gang must give the bits of its members alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "nn/exec.h"
#include "nn/net.h"
#include "tests/gpu/pair.h"

enum { GANG = 2, MOST = 16, BATCH = 3, ROWS = 7, STEPS = 3, LABELS = 5 };

struct step_case {
    const char *net;
    int samples;
    int n_widths, width[9];
    enum nn_optimiser optimiser;
};

static const struct step_case cases[] = {
    {"cnn", 170, 4, {6, 5, 9, 3}, NN_SGD},
    {"rnn", 48, 1, {11}, NN_ADAM},
    {"resnet", 24, 9, {5, 4, 3, 6, 5, 7, 4, 6, 5}, NN_ADAM},
    {"beat", 90, 5, {5, 7, 4, 6, 5}, NN_ADAMW},
};

/* All that one training of one backend holds. */
struct training {
    struct nn_backend *be;
    const struct nn_net *net;
    const struct step_case *c;
    struct nn_exec *ex;
    int m;
    int64_t stride;
    float *w, *g, *m1, *m2, *avg, *y, *t, *loss, *data, *label, *teacher;
    uint32_t *index;
    struct nn_scalars *s;
};

static void *device(struct nn_backend *be, size_t bytes, const void *from)
{
    void *p;
    assert_int_equal(be->ops->alloc(be, bytes, &p), 0);
    assert_int_equal(from ? be->ops->upload(be, p, from, bytes) : be->ops->zero(be, p, bytes), 0);
    assert_int_equal(be->ops->sync(be), 0);
    return p;
}

static float *random_floats(size_t n, float lo, float hi, uint64_t key)
{
    float *v = malloc(n * sizeof *v);
    for (size_t i = 0; i < n; i++)
        v[i] = lo + (hi - lo) * cn_rng_uniform(cn_rng(key, 0, 0, i).v[0]);
    return v;
}

static void *random_device(struct nn_backend *be, size_t n, float lo, float hi, uint64_t key)
{
    float *v = random_floats(n, lo, hi, key);
    void *p = device(be, n * sizeof *v, v);
    free(v);
    return p;
}

/* Member i of the gang starts from weights and seed number `first` + i. */
static void training_open(struct training *r, struct nn_backend *be, const struct nn_net *net,
                          const struct step_case *c, int m, int first)
{
    struct cn_error err;
    *r = (struct training){.be = be, .net = net, .c = c, .m = m, .stride = (int64_t)net->n_floats};
    if (nn_exec_create(&r->ex, be, net, m, BATCH, 1, &err)) fail_msg("%s", err.text);
    size_t n = net->n_floats * (size_t)m, record = (size_t)net->n_leads * net->n_samples;
    float *w = malloc(n * sizeof *w);
    for (int i = 0; i < m; i++) {
        float *one = random_floats(net->n_floats, -0.25f, 0.25f, 100 + (uint64_t)(first + i));
        for (size_t k = net->n_params; k < net->n_floats; k++) one[k] = 1; /* running statistics */
        memcpy(w + (size_t)i * net->n_floats, one, net->n_floats * sizeof *one);
        free(one);
    }
    r->w = device(be, n * sizeof *w, w);
    free(w);
    float **zeroed[] = {&r->g, &r->m1, &r->m2, &r->avg};
    for (size_t i = 0; i < 4; i++) *zeroed[i] = device(be, n * sizeof(float), NULL);
    r->y = device(be, sizeof(float) * (size_t)m * BATCH * LABELS, NULL);
    r->t = device(be, sizeof(float) * (size_t)m * BATCH * LABELS, NULL);
    r->loss = device(be, sizeof(float) * (size_t)m, NULL);
    r->s = device(be, sizeof(struct nn_scalars) * (size_t)m, NULL);
    r->data = random_device(be, ROWS * record, -1, 1, 1);
    r->label = random_device(be, ROWS * LABELS, 0, 1, 2);
    r->teacher = random_device(be, (size_t)m * ROWS * LABELS, 0, 1, 3);
    uint32_t index[ROWS];
    for (uint32_t i = 0; i < ROWS; i++) index[i] = ROWS - 1 - i;
    r->index = device(be, sizeof index, index);
}

static void training_close(struct training *r)
{
    nn_exec_destroy(r->ex);
    void *all[] = {r->w,    r->g,    r->m1,    r->m2,      r->avg,   r->y, r->t,
                   r->loss, r->data, r->label, r->teacher, r->index, r->s};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) r->be->ops->release(r->be, all[i]);
}

static void set_scalars(struct training *r, int step, int first)
{
    struct nn_scalars s[MOST];
    memset(s, 0, sizeof s);
    for (int i = 0; i < r->m; i++)
        s[i] = (struct nn_scalars){.seed = 500 + (uint64_t)(first + i),
                                   .epoch = 1,
                                   .row0 = (uint32_t)step,
                                   .step = 1 + (uint32_t)step,
                                   .lr = 0.01f / (float)(1 + step),
                                   .alpha = 0.4f,
                                   .momentum = 0.9f,
                                   .weight_decay = 0.001f,
                                   .beta1 = 0.9f,
                                   .beta2 = 0.999f,
                                   .eps = 1e-3f,
                                   .ema = 0.5f,
                                   .aug_shift = 3,
                                   .aug_scale = 0.1f,
                                   .aug_noise = 0.05f};
    assert_int_equal(r->be->ops->upload(r->be, r->s, s, sizeof *s * (size_t)r->m), 0);
}

static void step_ops(struct training *r)
{
    const struct nn_backend_ops *o = r->be->ops;
    const struct nn_net *net = r->net;
    int ce = net->loss == NN_CROSS_ENTROPY;
    struct nn_gather gather = {.m = r->m,
                               .b = BATCH,
                               .leads = net->n_leads,
                               .samples = net->n_samples,
                               .labels = LABELS,
                               .data_x = r->data,
                               .data_y = r->label,
                               .index = r->index,
                               .n = ROWS,
                               .one_label = ce,
                               .train = 1,
                               .teacher = r->teacher,
                               .s = r->s,
                               .x = nn_exec_input(r->ex),
                               .y = r->y,
                               .t = r->t};
    struct nn_exec_pass pass = {
        .params = r->w, .grads = r->g, .stride = r->stride, .b = BATCH, .train = 1, .s = r->s};
    struct nn_loss_args loss = {.m = r->m,
                                .b = BATCH,
                                .labels = LABELS,
                                .cross_entropy = ce,
                                .s = r->s,
                                .z = nn_exec_logits(r->ex),
                                .y = r->y,
                                .t = r->t,
                                .loss = r->loss,
                                .dz = nn_exec_dlogits(r->ex)};
    struct nn_update update = {.m = r->m,
                               .p = (int64_t)net->n_params,
                               .stride = r->stride,
                               .kind = r->c->optimiser,
                               .nesterov = 1,
                               .s = r->s,
                               .w = r->w,
                               .g = r->g,
                               .m1 = r->m1,
                               .m2 = r->m2};
    struct nn_average average = {.m = r->m,
                                 .n = (int64_t)net->n_floats,
                                 .stride = r->stride,
                                 .s = r->s,
                                 .w = r->w,
                                 .avg = r->avg};
    int rc = o->gather(r->be, &gather);
    if (!rc) rc = nn_exec_forward(r->ex, &pass);
    if (!rc) rc = o->loss(r->be, &loss);
    if (!rc) rc = nn_exec_backward(r->ex, &pass);
    if (!rc) rc = o->update(r->be, &update);
    if (!rc) rc = o->average(r->be, &average);
    if (rc) fail_msg("%s: %s", net->name, r->be->error.text);
}

/* One step; from the second on as a graph where the backend has graphs. */
static void run_step(struct training *r, int step, int first, struct nn_graph **graph)
{
    const struct nn_backend_ops *o = r->be->ops;
    set_scalars(r, step, first);
    if (step == 0 || !o->capture_begin) {
        step_ops(r);
        return;
    }
    if (!*graph) {
        assert_int_equal(o->capture_begin(r->be), 0);
        step_ops(r);
        if (o->capture_end(r->be, graph)) fail_msg("capture: %s", r->be->error.text);
    }
    if (o->replay(r->be, *graph)) fail_msg("replay: %s", r->be->error.text);
}

static void download(struct training *r, float *to, const float *from, size_t n)
{
    if (r->be->ops->download(r->be, to, from, n * sizeof *to)) fail_msg("%s", r->be->error.text);
}

static void compare(struct training r[BOTH], size_t offset, size_t n, const char *what,
                    double bound)
{
    float *v[BOTH];
    double most = 0, scale = 1e-6;
    for (int i = 0; i < BOTH; i++) {
        const float *from = !strcmp(what, "gradients") ? r[i].g
                            : !strcmp(what, "loss")    ? r[i].loss
                                                       : r[i].w;
        v[i] = malloc(n * sizeof(float));
        download(&r[i], v[i], from + offset, n);
    }
    for (size_t k = 0; k < n; k++) {
        double d = fabs((double)v[CPU][k] - v[GPU][k]);
        if (!(d <= most)) most = d;
        if (fabs(v[CPU][k]) > scale) scale = fabs(v[CPU][k]);
    }
    free(v[CPU]);
    free(v[GPU]);
    if (!(most <= bound * scale))
        fail_msg("%s: %s differ by %g of %g", r[CPU].net->name, what, most, scale);
}

static struct nn_net *build(const struct step_case *c)
{
    struct nn_net *net;
    struct cn_error err;
    struct nn_shape shape = {.n_samples = c->samples};
    if (nn_net_build(&net, c->net, c->width, c->n_widths, shape, &err)) fail_msg("%s", err.text);
    return net;
}

static void steps_agree(void **state)
{
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct nn_net *net = build(&cases[k]);
        struct training r[BOTH];
        struct nn_graph *graph = NULL;
        for (int i = 0; i < BOTH; i++) training_open(&r[i], pair_be[i], net, &cases[k], GANG, 0);
        for (int step = 0; step < STEPS; step++) {
            for (int i = 0; i < BOTH; i++) run_step(&r[i], step, 0, &graph);
            compare(r, 0, GANG, "loss", 1e-4);
            for (int m = 0; m < GANG; m++) {
                compare(r, net->n_floats * (size_t)m, net->n_params, "gradients", 1e-4);
                compare(r, net->n_floats * (size_t)m, net->n_floats, "weights", 1e-4);
            }
        }
        if (graph) pair_be[GPU]->ops->graph_destroy(pair_be[GPU], graph);
        for (int i = 0; i < BOTH; i++) training_close(&r[i]);
        nn_net_destroy(net);
    }
}

/* Weights of `m` members, the first of number `first`, after some steps. */
static float *train_gang(const struct nn_net *net, const struct step_case *c, int m, int first,
                         int steps)
{
    size_t n = net->n_floats * (size_t)m, each = ROWS * LABELS;
    float *w = malloc(n * sizeof *w), *teacher = random_floats(MOST * each, 0, 1, 3);
    struct training r;
    struct nn_graph *graph = NULL;
    training_open(&r, pair_be[GPU], net, c, m, first);
    assert_int_equal(r.be->ops->upload(r.be, r.teacher, teacher + (size_t)first * each,
                                       sizeof(float) * each * (size_t)m),
                     0);
    assert_int_equal(r.be->ops->sync(r.be), 0);
    free(teacher);
    for (int step = 0; step < steps; step++) run_step(&r, step, first, &graph);
    download(&r, w, r.w, n);
    if (graph) pair_be[GPU]->ops->graph_destroy(pair_be[GPU], graph);
    training_close(&r);
    return w;
}

/* The first and the last of m members have the bits that they have alone. */
static void gang_of(const struct step_case *c, int m, int steps)
{
    struct nn_net *net = build(c);
    size_t n = net->n_floats;
    float *gang = train_gang(net, c, m, 0, steps);
    for (int i = 0; i < m; i += m - 1) {
        float *alone = train_gang(net, c, 1, i, steps);
        if (memcmp(alone, gang + (size_t)i * n, n * sizeof *alone))
            fail_msg("%s: member %d of %d has other bits than alone", c->net, i, m);
        free(alone);
    }
    free(gang);
    nn_net_destroy(net);
}

static void gang_has_the_bits_of_its_members(void **state)
{
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        gang_of(&cases[k], GANG, STEPS);
        gang_of(&cases[k], 7, 1);
        gang_of(&cases[k], MOST, 1);
    }
}

int main(void)
{
    int rc = pair_open();
    if (rc) return rc;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_agree),
        cmocka_unit_test(gang_has_the_bits_of_its_members),
    };
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    pair_close();
    return rc;
}
