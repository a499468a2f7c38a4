/* nn/gang.c - see gang.h. Everything is allocated once; a step allocates nothing. Where the backend
 * can record a sequence of ops, the second full step is recorded and later ones replay it. */
#include "nn/gang.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 }; /* floats */

/* Setting up */

/* A device array holding a copy of host memory (NULL: zeros). `slot` is the address of a pointer of
 * whatever type. */
static int put_new(struct nn_gang *g, void *slot, const void *host, size_t bytes)
{
    const struct nn_backend_ops *ops = g->be->ops;
    void *p = NULL;
    int rc = ops->alloc(g->be, bytes, &p);
    memcpy(slot, &p, sizeof p);
    if (rc) return rc;
    return host ? ops->upload(g->be, p, host, bytes) : ops->zero(g->be, p, bytes);
}

static int put_dataset(struct nn_gang *g)
{
    const struct ecg_dataset *d = g->data;
    size_t n = (size_t)d->n, labels = (size_t)d->n_labels;
    size_t floats = n * (size_t)d->n_leads * (size_t)d->n_samples;
    const void *shared = NULL;
    int rc = 0;
    if (g->be->ops->attach)
        rc = g->be->ops->attach(g->be, d->x, floats, &shared, &g->half);
    else
        rc = put_new(g, &g->own_x, d->x, floats * sizeof(float));
    g->data_x = g->own_x ? g->own_x : shared;
    float *y = malloc(n * labels * sizeof *y);
    if (!y) return cn_fail(&g->be->error, CN_ENOMEM, "out of memory");
    for (size_t i = 0; i < n * labels; i++) y[i] = d->y[i];
    if (!rc) rc = put_new(g, &g->data_y, y, n * labels * sizeof *y);
    free(y);
    if (!rc) rc = put_new(g, &g->index_train, g->rows_train, (size_t)g->n_train * 4);
    if (!rc) rc = put_new(g, &g->index_val, g->rows_val, (size_t)g->n_val * 4);
    return rc;
}

/* Inverse square root of each class's frequency, scaled so that the mean over records is 1. */
static int put_class_weights(struct nn_gang *g)
{
    int labels = g->data->n_labels;
    double count[NN_MAX_LABELS] = {0}, sum = 0;
    float weight[NN_MAX_LABELS];
    if (!g->recipe->class_weights || g->data->task != ECG_ONE_LABEL) return 0;
    for (int i = 0; i < g->n_train; i++)
        for (int l = 0; l < labels; l++) count[l] += g->data->y[g->rows_train[i] * labels + l];
    for (int l = 0; l < labels; l++) sum += sqrt(count[l]); /* count · count^-1/2 */
    for (int l = 0; l < labels; l++)
        weight[l] = (float)(count[l] > 0 ? g->n_train / sum / sqrt(count[l]) : 1);
    return put_new(g, &g->class_weight, weight, (size_t)labels * sizeof *weight);
}

/* Teachers' probabilities of all training rows, once. */
static int put_teachers(struct nn_gang *g, const struct nn_train *t, const int *who,
                        struct cn_error *err)
{
    size_t each = (size_t)g->n_train * (size_t)g->data->n_labels;
    int any = 0, rc = 0;
    for (int i = 0; i < g->m; i++) any |= t->member[who[i]].teacher != NULL;
    if (!any) return 0;
    float *p = calloc(each * (size_t)g->m, sizeof *p);
    if (!p) return cn_fail(err, CN_ENOMEM, "out of memory");
    for (int i = 0; i < g->m && !rc; i++)
        if (t->member[who[i]].teacher)
            rc = nn_predict(g->be, t->member[who[i]].teacher, g->data, g->rows_train, g->n_train,
                            p + (size_t)i * each, err);
    if (rc)
        cn_fail_prefix(err, "teacher");
    else if (put_new(g, &g->teacher, p, each * (size_t)g->m * sizeof *p)) {
        rc = g->be->error.code;
        if (err) *err = g->be->error;
    }
    free(p);
    return rc;
}

static int put_masks(struct nn_gang *g, const struct nn_train *t, const int *who)
{
    size_t each = g->net->n_params;
    int any = 0;
    for (int i = 0; i < g->m; i++) any |= t->member[who[i]].mask != NULL;
    if (!any) return 0;
    float *mask = malloc(each * (size_t)g->m * sizeof *mask);
    if (!mask) return cn_fail(&g->be->error, CN_ENOMEM, "out of memory");
    for (int i = 0; i < g->m; i++)
        for (size_t k = 0; k < each; k++)
            mask[(size_t)i * each + k] = t->member[who[i]].mask ? t->member[who[i]].mask[k] : 1;
    int rc = put_new(g, &g->mask, mask, each * (size_t)g->m * sizeof *mask);
    free(mask);
    return rc;
}

static int put_arrays(struct nn_gang *g)
{
    size_t flat = (size_t)g->m * (size_t)g->stride * sizeof(float), m = (size_t)g->m;
    size_t labels = m * (size_t)g->rows_max * (size_t)g->net->n_labels * sizeof(float);
    int rc = put_new(g, &g->w, NULL, flat);
    if (!rc) rc = put_new(g, &g->g, NULL, flat);
    if (!rc) rc = put_new(g, &g->m1, NULL, flat);
    if (!rc && g->recipe->optimiser != NN_SGD) rc = put_new(g, &g->m2, NULL, flat);
    if (!rc && g->recipe->ema > 0) rc = put_new(g, &g->average, NULL, flat);
    if (!rc) rc = put_new(g, &g->scalars, NULL, m * sizeof *g->scalars);
    if (!rc) rc = put_new(g, &g->loss, NULL, m * sizeof(float));
    if (!rc) rc = put_new(g, &g->loss_sum, NULL, m * sizeof(float));
    if (!rc) rc = put_new(g, &g->bad, NULL, m * sizeof *g->bad);
    if (!rc) rc = put_new(g, &g->y, NULL, labels);
    if (!rc) rc = put_new(g, &g->t, NULL, labels);
    if (!rc) rc = put_new(g, &g->cursor, NULL, sizeof *g->cursor);
    if (!rc)
        rc = put_new(g, &g->probability, NULL,
                     m * (size_t)g->n_val * (size_t)g->net->n_labels * sizeof(float));
    return rc;
}

/* Room for a whole batch where mixup pairs rows of different ranks. */
static int put_wide(struct nn_gang *g)
{
    size_t rows = (size_t)g->m * (size_t)g->batch, labels = (size_t)g->net->n_labels;
    size_t record = (size_t)g->net->n_leads * (size_t)g->net->n_samples;
    if (g->be->ranks < 2 || g->recipe->mixup <= 0) return 0;
    int rc = put_new(g, &g->wide_scalars, NULL, (size_t)g->m * sizeof *g->wide_scalars);
    if (!rc) rc = put_new(g, &g->wide_x, NULL, rows * record * sizeof(float));
    if (!rc) rc = put_new(g, &g->wide_y, NULL, rows * labels * sizeof(float));
    if (!rc && g->teacher) rc = put_new(g, &g->wide_t, NULL, rows * labels * sizeof(float));
    return rc;
}

static int list_rows(struct nn_gang *g, struct cn_error *err)
{
    int rc = ecg_dataset_part(g->data, ECG_TRAIN, &g->rows_train, &g->n_train, err);
    if (!rc) rc = ecg_dataset_part(g->data, ECG_VALIDATION, &g->rows_val, &g->n_val, err);
    if (rc) return rc;
    if (g->n_train < 1)
        return cn_fail(err, CN_EINVALID, "the dataset %s has no training records", g->data->name);
    g->batch = g->recipe->batch < g->n_train ? g->recipe->batch : g->n_train;
    return 0;
}

/* Of `rows` of a batch: how many this rank runs, and the first of them. */
static int share_of(const struct nn_gang *g, int rows, int *first)
{
    int ranks = g->be->ranks > 1 ? g->be->ranks : 1;
    *first = 0;
    if (rows % ranks) return rows; /* all ranks run all */
    *first = g->be->rank * (rows / ranks);
    return rows / ranks;
}

static int plan_rows(struct nn_gang *g, struct cn_error *err)
{
    int first, last = g->n_train % g->batch;
    g->rows_max = share_of(g, g->batch, &first);
    int tail = share_of(g, last, &first);
    if (tail > g->rows_max) g->rows_max = tail;
    if (g->be->ranks < 2 || g->m == 1) return 0;
    return cn_fail(err, CN_EINVALID, "a job on several GPUs trains alone, not in a gang of %d",
                   g->m);
}

int nn_gang_create(struct nn_gang *g, const struct nn_train *t, const int *who, int m,
                   struct cn_error *err)
{
    *g = (struct nn_gang){.be = t->backend, .data = t->data, .recipe = t->recipe, .m = m};
    g->net = t->member[who[0]].model->net;
    /* whole cache lines apart: a member's tensors are aligned as they would be alone */
    g->stride = ((int64_t)g->net->n_floats + ALIGN - 1) / ALIGN * ALIGN;
    int rc = list_rows(g, err);
    if (!rc && g->be->ops->set_precision)
        rc = g->be->ops->set_precision(g->be, g->recipe->precision);
    if (!rc) rc = plan_rows(g, err);
    if (!rc && put_dataset(g)) { /* first: it may choose how much memory to take */
        rc = g->be->error.code;
        if (err) *err = g->be->error;
    }
    if (!rc) rc = put_teachers(g, t, who, err);
    if (!rc) rc = nn_exec_create(&g->ex, g->be, g->net, m, g->rows_max, 1, err);
    if (!rc && (put_class_weights(g) || put_masks(g, t, who) || put_arrays(g) || put_wide(g))) {
        rc = g->be->error.code;
        if (err) *err = g->be->error;
    }
    if (rc) nn_gang_destroy(g);
    return rc;
}

void nn_gang_destroy(struct nn_gang *g)
{
    if (!g->be) return;
    const struct nn_backend_ops *ops = g->be->ops;
    void *const own[] = {
        g->own_x,   g->data_y,      g->index_train,  g->index_val, g->teacher, g->mask,
        g->w,       g->g,           g->m1,           g->m2,        g->average, g->loss,
        g->scalars, g->loss_sum,    g->bad,          g->y,         g->t,       g->class_weight,
        g->cursor,  g->probability, g->wide_scalars, g->wide_x,    g->wide_y,  g->wide_t};
    nn_recording_clear(&g->step, g->be);
    nn_recording_clear(&g->look, g->be);
    nn_exec_destroy(g->ex);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) ops->release(g->be, own[i]);
    if (g->data_x && !g->own_x) ops->detach(g->be, g->data_x);
    free(g->rows_train);
    free(g->rows_val);
    *g = (struct nn_gang){0};
}

/* Moving a member's state */

static float *member_of(const struct nn_gang *g, float *array, int member)
{
    return array ? array + member * g->stride : NULL;
}

int nn_gang_put(struct nn_gang *g, int member, const struct nn_state *s)
{
    const struct nn_backend_ops *ops = g->be->ops;
    size_t floats = g->net->n_floats * sizeof(float), params = g->net->n_params * sizeof(float);
    int rc = ops->upload(g->be, member_of(g, g->w, member), s->params, floats);
    if (!rc) rc = ops->upload(g->be, member_of(g, g->m1, member), s->m1, params);
    if (!rc && g->m2) rc = ops->upload(g->be, member_of(g, g->m2, member), s->m2, params);
    if (!rc && g->average)
        rc = ops->upload(g->be, member_of(g, g->average, member), s->average, floats);
    g->sum_told[member] = s->loss_sum;
    float sum = g->be->rank == 0 ? s->loss_sum : 0; /* it is the sum over all ranks */
    if (!rc) rc = ops->upload(g->be, g->loss_sum + member, &sum, sizeof(float));
    return rc ? rc : ops->sync(g->be);
}

int nn_gang_get(struct nn_gang *g, int member, struct nn_state *s)
{
    const struct nn_backend_ops *ops = g->be->ops;
    size_t floats = g->net->n_floats * sizeof(float), params = g->net->n_params * sizeof(float);
    int rc = ops->download(g->be, s->params, member_of(g, g->w, member), floats);
    if (!rc) rc = ops->download(g->be, s->m1, member_of(g, g->m1, member), params);
    if (!rc && g->m2) rc = ops->download(g->be, s->m2, member_of(g, g->m2, member), params);
    if (!rc && g->average)
        rc = ops->download(g->be, s->average, member_of(g, g->average, member), floats);
    if (g->be->ranks > 1)
        s->loss_sum = g->sum_told[member];
    else if (!rc)
        rc = ops->download(g->be, &s->loss_sum, g->loss_sum + member, sizeof(float));
    return rc;
}

/* A step */

static void fill_gather(const struct nn_gang *g, int rows, struct nn_gather *a)
{
    const struct ecg_dataset *d = g->data;
    *a = (struct nn_gather){.m = g->m, .b = rows, .leads = d->n_leads, .samples = d->n_samples};
    a->labels = d->n_labels;
    a->data_x = g->data_x;
    a->half = g->half;
    a->data_y = g->data_y;
    a->one_label = d->task == ECG_ONE_LABEL;
    a->s = g->scalars;
    a->x = nn_exec_input(g->ex);
    a->y = g->y;
}

/* Ranks' running statistics become their average too, so that all judge and keep the same net. */
static int join_ranks(struct nn_gang *g)
{
    const struct nn_backend_ops *ops = g->be->ops;
    int64_t params = (int64_t)g->net->n_params, rest = (int64_t)g->net->n_floats - params;
    if (!ops->grad_wait) return 0;
    int rc = rest ? ops->grad_ready(g->be, g->w, params, rest) : 0;
    return rc ? rc : ops->grad_wait(g->be);
}

static int run_update(struct nn_gang *g)
{
    const struct nn_backend_ops *ops = g->be->ops;
    struct nn_update u = {.m = g->m, .p = (int64_t)g->net->n_params, .stride = g->stride};
    u.kind = g->recipe->optimiser;
    u.nesterov = g->recipe->nesterov;
    u.s = g->scalars;
    u.w = g->w;
    u.g = g->g;
    u.m1 = g->m1;
    u.m2 = g->m2;
    u.mask = g->mask;
    u.clip = (float)g->recipe->clip;
    int rc = join_ranks(g);
    if (!rc) rc = ops->update(g->be, &u);
    if (rc || !g->average) return rc;
    struct nn_average a = {.m = g->m, .n = (int64_t)g->net->n_floats, .stride = g->stride};
    a.s = g->scalars;
    a.w = g->w;
    a.avg = g->average;
    return ops->average(g->be, &a);
}

static void fill_loss(const struct nn_gang *g, int rows, struct nn_loss_args *l)
{
    *l = (struct nn_loss_args){.m = g->m, .b = rows, .labels = g->net->n_labels};
    l->cross_entropy = g->net->loss == NN_CROSS_ENTROPY;
    l->s = g->scalars;
    l->z = nn_exec_logits(g->ex);
    l->y = g->y;
    l->loss = g->loss;
    l->loss_sum = g->loss_sum;
}

/* Fetches the whole batch and moves this rank's rows, from `first`, to where they belong. */
static int gather_wide(struct nn_gang *g, const struct nn_gather *a, int whole, int first)
{
    const struct nn_backend_ops *ops = g->be->ops;
    size_t record = (size_t)a->leads * (size_t)a->samples, labels = (size_t)a->labels;
    size_t at = (size_t)first, rows = (size_t)a->b;
    struct nn_gather wide = *a;
    wide.b = whole;
    wide.s = g->wide_scalars;
    wide.x = g->wide_x;
    wide.y = g->wide_y;
    wide.t = a->t ? g->wide_t : NULL;
    int rc = ops->gather(g->be, &wide);
    if (!rc) rc = ops->copy(g->be, a->x, g->wide_x + at * record, rows * record * sizeof(float));
    if (!rc) rc = ops->copy(g->be, a->y, g->wide_y + at * labels, rows * labels * sizeof(float));
    if (!rc && a->t)
        rc = ops->copy(g->be, a->t, g->wide_t + at * labels, rows * labels * sizeof(float));
    return rc;
}

/* All ops of a training step on this rank's rows, in order. */
static int enqueue_step(struct nn_gang *g, int whole)
{
    struct nn_gather gather;
    struct nn_loss_args loss;
    int first, rows = share_of(g, whole, &first), split = rows < whole;
    struct nn_exec_pass pass = {g->w, g->g, g->stride, rows, 1, g->scalars, !split};
    fill_gather(g, rows, &gather);
    gather.train = 1;
    gather.index = g->index_train;
    gather.n = g->n_train;
    gather.teacher = g->teacher;
    gather.t = g->teacher ? g->t : NULL;
    fill_loss(g, rows, &loss);
    loss.t = gather.t;
    loss.class_weight = g->class_weight;
    loss.bad = g->bad;
    loss.dz = nn_exec_dlogits(g->ex);
    if (!split && g->be->rank > 0) loss.loss_sum = NULL; /* rank 0 counts what all have run */
    int rc = split && g->wide_x ? gather_wide(g, &gather, whole, first)
                                : g->be->ops->gather(g->be, &gather);
    if (!rc) rc = nn_exec_forward(g->ex, &pass);
    if (!rc) rc = g->be->ops->loss(g->be, &loss);
    if (!rc) rc = nn_exec_backward(g->ex, &pass);
    return rc ? rc : run_update(g);
}

/* This rank's first row decides what it draws: rows of all ranks have the draws of one batch. */
static int put_scalars(struct nn_gang *g, const struct nn_scalars *scalars, int rows)
{
    struct nn_scalars mine[NN_MAX_GANG];
    size_t bytes = (size_t)g->m * sizeof *scalars;
    int first;
    share_of(g, rows, &first);
    memcpy(mine, scalars, bytes);
    for (int i = 0; i < g->m; i++) mine[i].row0 += (uint32_t)first;
    int rc = g->be->ops->upload(g->be, g->scalars, mine, bytes);
    if (!rc && g->wide_scalars) rc = g->be->ops->upload(g->be, g->wide_scalars, scalars, bytes);
    return rc;
}

static int full_step(void *gang)
{
    struct nn_gang *g = gang;
    return enqueue_step(g, g->batch);
}

int nn_gang_step(struct nn_gang *g, const struct nn_scalars *scalars, int rows)
{
    int rc = put_scalars(g, scalars, rows);
    if (rc) return rc;
    if (rows != g->batch) return enqueue_step(g, rows);
    return nn_recording_run(&g->step, g->be, full_step, g);
}

/* Loss sums, and whether any rank met a loss that is not finite. Weights are the same on all ranks, so
 * such a loss spreads with the next step; this makes all of them end in the same one. */
static int sum_losses(struct nn_gang *g, uint32_t *bad, float *loss_sum)
{
    float v[3 * NN_MAX_GANG], *steps = v + g->m, *ranks = steps + g->m;
    for (int i = 0; i < g->m; i++) {
        v[i] = loss_sum[i];
        steps[i] = (float)bad[i];
        ranks[i] = bad[i] != 0;
    }
    int rc = g->be->ops->rank_sum(g->be, v, 3 * g->m);
    for (int i = 0; i < g->m && !rc; i++) {
        loss_sum[i] = g->sum_told[i] = v[i];
        if (ranks[i] > 0) bad[i] = (uint32_t)(steps[i] / ranks[i]);
    }
    return rc;
}

int nn_gang_losses(struct nn_gang *g, uint32_t *bad, float *loss_sum)
{
    const struct nn_backend_ops *ops = g->be->ops;
    int rc = ops->download(g->be, bad, g->bad, (size_t)g->m * sizeof *bad);
    if (!rc) rc = ops->download(g->be, loss_sum, g->loss_sum, (size_t)g->m * sizeof *loss_sum);
    return rc || g->be->ranks < 2 ? rc : sum_losses(g, bad, loss_sum);
}

int nn_gang_zero_losses(struct nn_gang *g)
{
    memset(g->sum_told, 0, sizeof g->sum_told);
    return g->be->ops->zero(g->be, g->loss_sum, (size_t)g->m * sizeof *g->loss_sum);
}

/* Validation */

/* All ops on the next `rows` of every member: loss sums and probabilities stay on the device. */
static int validate_rows(struct nn_gang *g, int rows)
{
    struct nn_gather gather;
    struct nn_loss_args loss;
    struct nn_exec_pass pass = {.stride = g->stride, .b = rows, .s = g->scalars};
    pass.params = g->average ? g->average : g->w;
    fill_gather(g, rows, &gather);
    gather.index = g->index_val;
    gather.n = g->n_val;
    gather.cursor = g->cursor;
    fill_loss(g, rows, &loss);
    struct nn_probability q = {.rows = g->m * rows, .labels = loss.labels, .m = g->m};
    q.cross_entropy = loss.cross_entropy;
    q.z = loss.z;
    q.p = g->probability;
    q.cursor = g->cursor;
    q.total = g->n_val;
    int rc = g->be->ops->gather(g->be, &gather);
    if (!rc) rc = nn_exec_forward(g->ex, &pass);
    if (!rc) rc = g->be->ops->loss(g->be, &loss);
    return rc ? rc : g->be->ops->probability(g->be, &q);
}

static int validate_full(void *gang)
{
    struct nn_gang *g = gang;
    return validate_rows(g, g->rows_max);
}

int nn_gang_validate(struct nn_gang *g, float *probability, double *loss)
{
    float sum[NN_MAX_GANG];
    int rc = nn_gang_zero_losses(g);
    for (int at = 0; at < g->n_val && !rc; at += g->rows_max) {
        int rows = g->n_val - at < g->rows_max ? g->n_val - at : g->rows_max;
        uint32_t from = (uint32_t)at;
        rc = g->be->ops->upload(g->be, g->cursor, &from, sizeof from);
        if (rc) break;
        rc = rows < g->rows_max ? validate_rows(g, rows)
                                : nn_recording_run(&g->look, g->be, validate_full, g);
    }
    size_t all = (size_t)g->m * (size_t)g->n_val * (size_t)g->net->n_labels;
    if (!rc) rc = g->be->ops->download(g->be, probability, g->probability, all * sizeof(float));
    if (!rc) rc = g->be->ops->download(g->be, sum, g->loss_sum, (size_t)g->m * sizeof *sum);
    /* the schedule follows this loss: it must be the same on all ranks to the last bit */
    int ranks = g->be->ranks > 1 ? g->be->ranks : 1;
    if (!rc && ranks > 1) rc = g->be->ops->rank_sum(g->be, sum, g->m);
    for (int m = 0; m < g->m && !rc; m++) loss[m] = g->n_val ? sum[m] / ranks / g->n_val : NAN;
    return rc;
}

int nn_gang_keep(struct nn_gang *g, int member, float *best)
{
    float *from = member_of(g, g->average ? g->average : g->w, member);
    return g->be->ops->download(g->be, best, from, g->net->n_floats * sizeof(float));
}
