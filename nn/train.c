/* nn/train.c - see train.h: when to step, validate, keep, checkpoint and stop.
 *
 * Members of a gang that stand at the same step run together (nn/gang.c); after a resume from
 * different places they run one group after the other, with the same bits. A member that ends early
 * (diverged, cancelled, stopped) is computed along and ignored; its neighbours do not notice.
 */
#include "nn/train.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "nn/check.h"
#include "nn/gang.h"
#include "nn/metrics.h"

#define PROGRESS_MS 200      /* least time between two words within an epoch */
#define ASYNC_CHECK_STEPS 32 /* a device is asked for losses this often, so that it never waits */

struct extra { /* hashes of what a member has besides its net */
    struct cn_hash teacher, mask;
};

struct group {
    struct nn_train *t;
    struct nn_gang gang;
    int who[NN_MAX_GANG]; /* member of t->member */
    struct nn_state state[NN_MAX_GANG];
    struct extra extra[NN_MAX_GANG];
    int ended[NN_MAX_GANG];
    int m, batches;
    char *recipe; /* canonical */
    float *probability;
    uint8_t *truth; /* [n_val, labels] */
    int64_t epoch_began_ns, epoch_ended_ns, epoch_first_row;
    int64_t last_progress_ms, last_checkpoint_ms;
};

static struct nn_train_member *member(const struct group *g, int i)
{
    return &g->t->member[g->who[i]];
}

static int first_alive(const struct group *g)
{
    for (int i = 0; i < g->m; i++)
        if (!g->ended[i]) return i;
    return -1;
}

/* Ends one member; its neighbours go on. */
static void end_member(struct group *g, int i, int code, const char *text)
{
    if (g->ended[i]) return;
    g->ended[i] = 1;
    member(g, i)->result = code;
    cn_fail(&member(g, i)->error, code, "%s", text);
}

/* Checks before anything is allocated */

static int check_member(const struct nn_train *t, int i, struct cn_error *err)
{
    const struct nn_model *m = t->member[i].model, *teacher = t->member[i].teacher;
    const struct ecg_dataset *d = t->data;
    const struct nn_net *net = m->net, *first = t->member[0].model->net;
    if (net->n_leads != d->n_leads || net->n_samples != d->n_samples ||
        net->n_labels != d->n_labels)
        return cn_fail(err, CN_EINVALID,
                       "net %s reads %d leads of %d samples and gives %d labels; the dataset %s "
                       "has %d, %d, %d",
                       net->name, net->n_leads, net->n_samples, net->n_labels, d->name, d->n_leads,
                       d->n_samples, d->n_labels);
    if (net->loss == NN_CROSS_ENTROPY && d->task != ECG_ONE_LABEL)
        return cn_fail(err, CN_EINVALID,
                       "net %s tells exclusive classes apart; the records of dataset %s may have "
                       "several labels",
                       net->name, d->name);
    if (strcmp(net->name, first->name) || memcmp(net->width, first->width, sizeof net->width))
        return cn_fail(err, CN_EINVALID, "members of a gang have nets of different shapes");
    if (teacher && teacher->net->loss != net->loss)
        return cn_fail(err, CN_EINVALID,
                       "the teacher's net %s and the student's %s have different losses",
                       teacher->net->name, net->name);
    return 0;
}

static int check_train(const struct nn_train *t, struct cn_error *err)
{
    if (t->m < 1 || t->m > NN_MAX_GANG)
        return cn_fail(err, CN_EINVALID, "a gang has 1 to %d members, not %d", NN_MAX_GANG, t->m);
    int rc = 0;
    for (int i = 0; i < t->m && !rc; i++) rc = check_member(t, i, err);
    return rc;
}

/* Starting and finishing members */

/* The weights a teacher answers with, or a mask: what of them changes the result. */
static int hash_floats(const struct nn_net *net, const float *v, size_t n, struct cn_hash *out)
{
    struct cn_hasher *h = cn_hasher_create();
    if (!h) return CN_ENOMEM;
    cn_hasher_add(h, net->name, strlen(net->name) + 1);
    cn_hasher_add(h, net->width, (size_t)net->n_widths * sizeof *net->width);
    cn_hasher_add(h, v, n * sizeof *v);
    cn_hasher_finish(h, out);
    cn_hasher_destroy(h);
    return 0;
}

static struct nn_identity identity_of(const struct group *g, int i, int n_train)
{
    const struct nn_train_member *m = member(g, i);
    const struct extra *x = &g->extra[i];
    return (struct nn_identity){m->model->net,
                                g->recipe,
                                m->seed,
                                n_train,
                                &g->t->data->fingerprint,
                                m->teacher ? &x->teacher : NULL,
                                m->mask ? &x->mask : NULL};
}

static int hash_extra(struct group *g, int i)
{
    const struct nn_train_member *m = member(g, i);
    const struct nn_model *t = m->teacher;
    int rc = t ? hash_floats(t->net, t->params, t->net->n_floats, &g->extra[i].teacher) : 0;
    if (!rc && m->mask)
        rc = hash_floats(m->model->net, m->mask, m->model->net->n_params, &g->extra[i].mask);
    return rc;
}

/* The state before the first step. */
static int fresh_state(struct group *g, int i, struct cn_error *err)
{
    struct nn_train_member *m = member(g, i);
    struct nn_state *s = &g->state[i];
    int rc = nn_state_create(s, m->model->net, g->t->recipe, err);
    if (rc) return rc;
    size_t bytes = m->model->net->n_floats * sizeof(float);
    memcpy(s->params, m->model->params, bytes);
    for (size_t k = 0; m->mask && k < m->model->net->n_params; k++) s->params[k] *= m->mask[k];
    memcpy(s->average, s->params, bytes);
    return 0;
}

static int start_member(struct group *g, int i, int n_train, struct cn_error *err)
{
    struct nn_train_member *m = member(g, i);
    struct nn_state *s = &g->state[i];
    int rc = fresh_state(g, i, err);
    if (rc) return rc;
    if (hash_extra(g, i)) return cn_fail(err, CN_ENOMEM, "out of memory");
    if (!m->resume) return 0;
    struct nn_identity id = identity_of(g, i, n_train);
    rc = nn_checkpoint_read(s, &id, g->t->recipe->epochs, m->resume, m->resume_n, err);
    if (!m->or_afresh || (rc != CN_EINVALID && rc != CN_ECORRUPT)) return rc;
    cn_warn("nn", "%s; the training starts from its beginning", err->text);
    *err = (struct cn_error){0};
    nn_state_free(s);
    return fresh_state(g, i, err);
}

/* The model's meta: what was there, with recipe, seed and history replaced. */
static char *meta_text(const struct group *g, const struct nn_train_member *m,
                       const struct nn_state *s)
{
    char seed[24];
    snprintf(seed, sizeof seed, "%" PRIu64, m->seed);
    json_t *meta = m->model->meta ? json_loads(m->model->meta, 0, NULL) : NULL;
    if (!json_is_object(meta)) {
        json_decref(meta);
        meta = json_object();
    }
    char *history = nn_history_json(s);
    int bad = !history || json_object_set_new(meta, "recipe", json_loads(g->recipe, 0, NULL));
    bad = bad || json_object_set_new(meta, "seed", json_string(seed));
    bad = bad || json_object_set_new(meta, "history", json_loads(history, 0, NULL));
    bad = bad || json_object_set_new(meta, "best_epoch", json_integer(s->best_epoch));
    bad = bad ||
          json_object_set_new(meta, "best_score",
                              isfinite(s->best_score) ? json_real(s->best_score) : json_null());
    bad = bad || json_object_set_new(meta, "distilled", json_boolean(m->teacher != NULL));
    char *text = bad ? NULL : json_dumps(meta, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(meta);
    free(history);
    return text;
}

/* Hands the best weights back in the member's model. */
static int finish_member(struct group *g, int i)
{
    struct nn_train_member *m = member(g, i);
    const struct nn_state *s = &g->state[i];
    m->best_score = s->best_score;
    m->best_epoch = s->best_epoch;
    if (s->best_epoch) memcpy(m->model->params, s->best, m->model->net->n_floats * sizeof(float));
    if (nn_params_check(m->model->net, m->model->params, m->model->net->n_floats,
                        "the weights kept", &m->error))
        return m->error.code = CN_EDIVERGED;
    char *meta = meta_text(g, m, s);
    if (!meta) return cn_fail(&m->error, CN_ENOMEM, "out of memory");
    free(m->model->meta);
    m->model->meta = meta;
    return 0;
}

/* Checkpoints, progress, divergence */

static int all_finite(const float *v, size_t n)
{
    double sum = 0; /* stays 0 */
    for (size_t i = 0; i < n; i++) sum += 0 * (double)v[i];
    return isfinite(sum);
}

/* A loss tells of a step before it; weights that the last step spoiled must not replace the last
 * good checkpoint. */
static void end_spoiled(struct group *g, int i)
{
    const struct nn_state *s = &g->state[i];
    int epoch = s->batch ? s->epoch + 1 : s->epoch, batch = s->batch ? s->batch : g->batches;
    char text[120];
    snprintf(text, sizeof text,
             "the weights are not finite after epoch %d, batch %d; try a smaller learning rate",
             epoch, batch);
    end_member(g, i, CN_EDIVERGED, text);
}

static void checkpoint_member(struct group *g, int i)
{
    const struct nn_train_events *e = &g->t->events;
    struct nn_identity id = identity_of(g, i, g->gang.n_train);
    struct cn_error err = {0};
    void *data;
    size_t n;
    if (!e->checkpoint) return;
    int rc = nn_gang_get(&g->gang, i, &g->state[i]);
    if (rc) err = g->gang.be->error;
    if (!rc && !all_finite(g->state[i].params, g->gang.net->n_floats)) {
        end_spoiled(g, i);
        return;
    }
    if (!rc) rc = nn_checkpoint_write(&g->state[i], &id, &data, &n, &err);
    if (rc) {
        end_member(g, i, rc, err.text);
        return;
    }
    if (e->checkpoint(e->arg, g->who[i], data, n))
        end_member(g, i, CN_EINTERRUPTED, "stopped: its checkpoint was not taken");
    free(data);
}

/* Looks at the losses so far; members whose loss is not finite end here. */
static int check_losses(struct group *g, float *loss_sum)
{
    uint32_t bad[NN_MAX_GANG];
    int rc = nn_gang_losses(&g->gang, bad, loss_sum);
    for (int i = 0; i < g->m && !rc; i++) {
        char text[120];
        if (!bad[i]) continue;
        snprintf(text, sizeof text,
                 "the loss is not finite in epoch %u, batch %u; try a smaller learning rate",
                 (bad[i] - 1) / (unsigned)g->batches + 1, (bad[i] - 1) % (unsigned)g->batches + 1);
        end_member(g, i, CN_EDIVERGED, text);
    }
    return rc;
}

static void report(struct group *g, int i, struct nn_epoch *e)
{
    const struct nn_recipe *r = g->t->recipe;
    int64_t now = e->epoch_done ? g->epoch_ended_ns : cn_mono_ns();
    double seconds = (double)(now - g->epoch_began_ns) * 1e-9;
    int64_t rows = (int64_t)e->batch * g->gang.batch;
    if (rows > g->gang.n_train) rows = g->gang.n_train;
    e->epochs = r->epochs;
    e->batches = g->batches;
    e->records_per_s = seconds > 0 ? (double)(rows - g->epoch_first_row) / seconds : 0;
    if (g->t->events.progress) g->t->events.progress(g->t->events.arg, g->who[i], e);
}

/* A word within an epoch, not too often. Called after check_losses. */
static void report_within(struct group *g, int epoch, int batch, const float *loss_sum)
{
    int64_t now = cn_mono_ms();
    if (!g->t->events.progress || now - g->last_progress_ms < PROGRESS_MS) return;
    g->last_progress_ms = now;
    for (int i = 0; i < g->m; i++) {
        struct nn_epoch e = {.epoch = epoch + 1, .batch = batch, .val_loss = NAN};
        int64_t rows = (int64_t)batch * g->gang.batch;
        e.val_score = NAN;
        e.train_loss = loss_sum[i] / (double)rows;
        e.lr = nn_schedule_lr(g->t->recipe, &g->state[i].plateau, epoch, batch - 1, g->batches);
        if (!g->ended[i]) report(g, i, &e);
    }
}

/* One epoch's end */

static double score_of(const struct group *g, const float *probability)
{
    int labels = g->gang.net->n_labels, n = g->gang.n_val;
    if (g->t->data->task == ECG_ONE_LABEL) {
        struct nn_class_report r;
        nn_classify(probability, g->truth, n, labels, &r);
        return n ? r.macro_f1 : NAN;
    }
    struct nn_auroc_report r;
    nn_auroc_all(probability, g->truth, n, labels, 0, &r);
    return r.macro;
}

/* By score; where that is undefined, by validation loss; without validation records, the last. */
static int is_better(const struct nn_state *s, const struct nn_point *p, int n_val)
{
    if (!n_val || !s->best_epoch) return 1;
    if (isnan(p->val_score)) return p->val_loss < s->best_loss;
    return p->val_score > s->best_score;
}

static int close_epoch_member(struct group *g, int i, struct nn_point *p)
{
    struct nn_state *s = &g->state[i];
    int better = is_better(s, p, g->gang.n_val), rc = 0;
    p->epoch = s->epoch + 1;
    p->lr = nn_schedule_lr(g->t->recipe, &s->plateau, s->epoch, g->batches - 1, g->batches);
    s->history[s->n_history++] = *p;
    if (better) {
        rc = nn_gang_keep(&g->gang, i, s->best);
        s->best_epoch = p->epoch;
        s->best_score = p->val_score;
        s->best_loss = p->val_loss;
    }
    nn_plateau_epoch(&s->plateau, g->t->recipe, p->val_loss);
    struct nn_epoch e = {.epoch = p->epoch, .batch = g->batches, .epoch_done = true};
    e.train_loss = p->train_loss;
    e.val_loss = p->val_loss;
    e.val_score = p->val_score;
    e.lr = p->lr;
    e.best = better;
    report(g, i, &e);
    return rc;
}

static int close_epoch(struct group *g, const float *loss_sum)
{
    double val_loss[NN_MAX_GANG];
    size_t each = (size_t)g->gang.n_val * (size_t)g->gang.net->n_labels;
    g->epoch_ended_ns = cn_mono_ns();
    int rc = nn_gang_validate(&g->gang, g->probability, val_loss);
    for (int i = 0; i < g->m && !rc; i++) {
        if (g->ended[i]) continue;
        if (g->gang.n_val && !isfinite(val_loss[i])) {
            char text[100];
            snprintf(text, sizeof text, "the validation loss is not finite after epoch %d",
                     g->state[i].epoch + 1);
            end_member(g, i, CN_EDIVERGED, text);
            continue;
        }
        struct nn_point p = {.train_loss = loss_sum[i] / (double)g->gang.n_train};
        p.val_loss = val_loss[i];
        p.val_score = score_of(g, g->probability + (size_t)i * each);
        rc = close_epoch_member(g, i, &p);
    }
    g->epoch_began_ns = cn_mono_ns();
    g->epoch_first_row = 0;
    return rc ? rc : nn_gang_zero_losses(&g->gang);
}

/* The loop */

static void fill_scalars(const struct group *g, int i, struct nn_scalars *s)
{
    const struct nn_recipe *r = g->t->recipe;
    const struct nn_state *st = &g->state[i];
    double early = st->step / (1.0 + st->step); /* at first a plain mean of all weights so far */
    *s = (struct nn_scalars){.seed = member(g, i)->seed};
    s->epoch = (uint32_t)st->epoch;
    s->row0 = (uint32_t)st->batch * (uint32_t)g->gang.batch;
    s->step = st->step + 1;
    s->lr = (float)nn_schedule_lr(r, &st->plateau, st->epoch, st->batch, g->batches);
    s->alpha = member(g, i)->teacher ? (float)r->alpha : 1;
    s->momentum = (float)r->momentum;
    s->weight_decay = (float)r->weight_decay;
    s->beta1 = (float)r->beta1;
    s->beta2 = (float)r->beta2;
    s->eps = (float)r->eps;
    s->ema = (float)(r->ema < early ? r->ema : early);
    s->smooth = (float)r->smooth;
    s->mixup = (float)r->mixup;
    s->aug_shift = (float)r->aug_shift;
    s->aug_scale = (float)r->aug_scale;
    s->aug_noise = (float)r->aug_noise;
    s->aug_lead = (float)r->aug_lead;
    s->aug_mask = (float)r->aug_mask;
}

static int one_step(struct group *g)
{
    struct nn_scalars scalars[NN_MAX_GANG];
    int at = g->state[0].batch * g->gang.batch;
    int rows = g->gang.n_train - at < g->gang.batch ? g->gang.n_train - at : g->gang.batch;
    for (int i = 0; i < g->m; i++) fill_scalars(g, i, &scalars[i]);
    int rc = nn_gang_step(&g->gang, scalars, rows);
    for (int i = 0; i < g->m; i++) {
        g->state[i].step++;
        g->state[i].batch++;
    }
    return rc;
}

/* Checkpoints that are due, and what the callers want. */
static void attend(struct group *g, int epoch_ended)
{
    const struct nn_train_events *e = &g->t->events;
    int64_t now = cn_mono_ms();
    int due = (e->checkpoint_every_s < 0 && epoch_ended) ||
              (e->checkpoint_every_s > 0 &&
               now - g->last_checkpoint_ms >= (int64_t)(e->checkpoint_every_s * 1000));
    if (due) g->last_checkpoint_ms = now;
    for (int i = 0; i < g->m; i++) {
        if (g->ended[i]) continue;
        int wish = e->poll ? e->poll(e->arg, g->who[i]) : 0;
        if (wish == 2)
            end_member(g, i, CN_ECANCELLED, "cancelled");
        else if (wish == 1 || due)
            checkpoint_member(g, i);
        if (wish == 1) end_member(g, i, CN_EINTERRUPTED, "stopped on request");
    }
}

/* A member that ended on one rank ends on all: they must go on calling the device alike. */
static int share_ends(struct group *g)
{
    float ended[NN_MAX_GANG];
    struct nn_backend *be = g->gang.be;
    if (be->ranks < 2) return 0;
    for (int i = 0; i < g->m; i++) ended[i] = (float)g->ended[i];
    int rc = be->ops->rank_sum(be, ended, g->m);
    for (int i = 0; i < g->m && !rc; i++)
        if (ended[i] > 0) end_member(g, i, CN_EINTERRUPTED, "ended with the other ranks");
    return rc;
}

/* Whether the losses are looked at after this step. */
static int is_check(const struct group *g, int epoch_ended)
{
    if (epoch_ended || !g->gang.be->ops->capture_begin) return 1;
    return g->state[0].step % ASYNC_CHECK_STEPS == 0;
}

static int train_loop(struct group *g)
{
    int rc = 0, epochs = g->t->recipe->epochs;
    float loss_sum[NN_MAX_GANG];
    while (!rc && g->state[0].epoch < epochs && first_alive(g) >= 0) {
        int epoch = g->state[0].epoch;
        rc = one_step(g);
        int batch = g->state[0].batch, ended = batch == g->batches;
        int look = is_check(g, ended);
        if (!rc && look) rc = check_losses(g, loss_sum);
        if (!rc && look && !ended) report_within(g, epoch, batch, loss_sum);
        if (!rc && ended) {
            rc = close_epoch(g, loss_sum);
            for (int i = 0; i < g->m; i++) {
                g->state[i].epoch = epoch + 1;
                g->state[i].batch = 0;
            }
        }
        if (!rc && look) attend(g, ended);
        if (!rc && look) rc = share_ends(g);
    }
    return rc;
}

/* Groups */

static int open_group(struct group *g, struct cn_error *err)
{
    int rc = nn_gang_create(&g->gang, g->t, g->who, g->m, err);
    if (rc) return rc;
    size_t labels = (size_t)g->gang.net->n_labels, n_val = (size_t)g->gang.n_val;
    g->batches = (g->gang.n_train + g->gang.batch - 1) / g->gang.batch;
    g->probability = malloc((size_t)g->m * n_val * labels * sizeof(float) + 1);
    g->truth = malloc(n_val * labels + 1);
    if (!g->probability || !g->truth) return cn_fail(err, CN_ENOMEM, "out of memory");
    for (size_t i = 0; i < n_val; i++)
        memcpy(g->truth + i * labels, g->t->data->y + g->gang.rows_val[i] * labels, labels);
    for (int i = 0; i < g->m && !rc; i++) {
        if (g->state[i].batch >= g->batches)
            return cn_fail(err, CN_ECORRUPT, "checkpoint: 'batch' is missing or impossible");
        if (nn_gang_put(&g->gang, i, &g->state[i])) {
            if (err) *err = g->gang.be->error;
            rc = g->gang.be->error.code;
        }
    }
    g->epoch_began_ns = cn_mono_ns();
    g->epoch_first_row = (int64_t)g->state[0].batch * g->gang.batch;
    g->last_progress_ms = g->last_checkpoint_ms = cn_mono_ms();
    return rc;
}

/* Runs members that stand at one step; every member has its result afterwards. */
static void run_group(struct group *g)
{
    struct cn_error err = {0};
    int rc = open_group(g, &err);
    if (!rc && train_loop(g)) {
        err = g->gang.be->error;
        rc = err.code ? err.code : CN_EINTERNAL;
    }
    for (int i = 0; i < g->m; i++) {
        if (rc) end_member(g, i, rc, err.text);
        if (!g->ended[i]) member(g, i)->result = finish_member(g, i);
    }
    nn_gang_destroy(&g->gang);
    free(g->probability);
    free(g->truth);
}

/* Moves the members that stand where `all`'s first waiting one stands into `g`. */
static void pick_group(struct group *all, char *taken, struct group *g)
{
    const struct nn_state *first = NULL;
    for (int i = 0; i < all->m; i++) {
        if (taken[i] || all->ended[i]) continue;
        if (!first) first = &all->state[i];
        if (all->state[i].epoch != first->epoch || all->state[i].batch != first->batch) continue;
        taken[i] = 1;
        g->who[g->m] = all->who[i];
        g->extra[g->m] = all->extra[i];
        g->state[g->m++] = all->state[i];
    }
}

static int count_train_rows(const struct ecg_dataset *d)
{
    int n = 0;
    for (int i = 0; i < d->n; i++) n += d->part[i] == ECG_TRAIN;
    return n;
}

int nn_train_run(struct nn_train *t, struct cn_error *err)
{
    char taken[NN_MAX_GANG] = {0};
    int rc = check_train(t, err);
    if (rc) return rc;
    struct group *all = calloc(2, sizeof *all), *g = all + 1;
    char *recipe = nn_recipe_json(t->recipe);
    if (!all || !recipe) {
        free(all);
        free(recipe);
        return cn_fail(err, CN_ENOMEM, "out of memory");
    }
    all->t = t;
    all->recipe = recipe;
    int n_train = count_train_rows(t->data);
    for (all->m = 0; all->m < t->m; all->m++) {
        int i = all->m;
        struct cn_error why = {0};
        all->who[i] = i;
        t->member[i].result = 0;
        t->member[i].error = (struct cn_error){0};
        if (start_member(all, i, n_train, &why)) end_member(all, i, why.code, why.text);
    }
    for (;;) {
        *g = (struct group){.t = t, .recipe = recipe};
        pick_group(all, taken, g);
        if (!g->m) break;
        run_group(g);
    }
    for (int i = 0; i < t->m; i++) {
        nn_state_free(&all->state[i]);
        if (rc || !t->member[i].result) continue;
        rc = t->member[i].result;
        if (err) *err = t->member[i].error;
    }
    free(all);
    free(recipe);
    return rc;
}
