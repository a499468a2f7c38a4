/* exec_train.c - the training kinds: a fresh net, a distilled one, a pruning round with its
 * fine-tuning.
 *
 * Purpose: from a job's spec and input models to one nn_train_run with as many members as the unit
 * has jobs. A round of pruning is a pure function of its input model, so a resumed attempt prunes
 * again and then continues from the checkpoint. Jobs of a gang share net shape and recipe; each has
 * its own seed, weights and teacher, and the bits it would have alone.
 */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "nn/prune.h"
#include "nn/train.h"
#include "workers/budget.h"
#include "workers/exec.h"
#include "workers/ranks.h"
#include "workers/steps.h"

struct training {
    struct exec_unit *unit;
    struct nn_recipe recipe;
    struct nn_model *model[NN_MAX_GANG], *teacher[NN_MAX_GANG];
    float *mask[NN_MAX_GANG]; /* of pruned single weights, or NULL */
    size_t full_params;       /* of the unpruned net */
    struct nn_train_member member[NN_MAX_GANG];
    int job_of[NN_MAX_GANG]; /* member -> job: jobs whose inputs are bad take no part */
    int m;
};

static int parse_input(const struct exec_job *job, const char *role, struct nn_model **out,
                       struct cn_error *err)
{
    const struct exec_blob *b = exec_input(job, role);
    if (!b) return cn_fail(err, CN_EINVALID, "the job has no input '%s'", role);
    return nn_model_parse(out, role, b->data, b->n, err);
}

/* Initial weights of one job. */
static int initial_model(struct training *t, int i, struct cn_error *err)
{
    struct exec_job *job = &t->unit->job[i];
    const Cinch__JobSpec *s = job->spec;
    if (s->kind != CINCH__JOB_KIND__PRUNE)
        return step_fresh_model(&t->model[i], s, t->unit->data, err);
    struct nn_model *before;
    int rc = parse_input(job, "model", &before, err);
    if (rc) return rc;
    rc = step_prune(&t->model[i], &t->mask[i], before, s, t->unit->backend, t->unit->data, err);
    nn_model_destroy(before);
    return rc;
}

static int prepare(struct training *t, int i, struct cn_error *err)
{
    struct exec_job *job = &t->unit->job[i];
    int rc = initial_model(t, i, err);
    if (rc == 0 && job->spec->distilled) rc = parse_input(job, "teacher", &t->teacher[i], err);
    if (rc == 0) rc = step_fits(t->model[i]->net, t->unit->data, err);
    return rc;
}

static void on_progress(void *arg, int member, const struct nn_epoch *e)
{
    struct training *t = arg;
    struct exec_progress p = {.stage = "train",
                              .epoch = e->epoch,
                              .epochs = e->epochs,
                              .batch = e->batch,
                              .batches = e->batches,
                              .epoch_done = e->epoch_done,
                              .train_loss = e->train_loss,
                              .val_loss = e->val_loss,
                              .val_score = e->val_score,
                              .lr = e->lr,
                              .records_per_s = e->records_per_s};
    t->unit->events.progress(t->unit->events.arg, t->job_of[member], &p);
}

static int on_checkpoint(void *arg, int member, const void *data, size_t n)
{
    struct training *t = arg;
    return t->unit->events.checkpoint(t->unit->events.arg, t->job_of[member], data, n);
}

static int on_poll(void *arg, int member)
{
    struct training *t = arg;
    corewatch_pause_point(t->unit->watch);
    return t->unit->events.poll(t->unit->events.arg, t->job_of[member]);
}

/* The model and its figures become the job's result. */
static int finish(struct training *t, int k, double seconds)
{
    struct exec_job *job = &t->unit->job[t->job_of[k]];
    const struct nn_train_member *m = &t->member[k];
    const struct nn_net *net = m->model->net;
    void *data;
    size_t n;
    int rc = nn_model_bytes(m->model, &data, &n, &job->error);
    if (rc == 0) rc = exec_output(job, "model", data, n);
    if (rc) return rc;
    json_t *o = json_object(), *widths = json_array();
    json_object_set_new(o, "best_score",
                        isfinite(m->best_score) ? json_real(m->best_score) : json_null());
    json_object_set_new(o, "best_epoch", json_integer(m->best_epoch));
    json_object_set_new(o, "epochs", json_integer(t->recipe.epochs));
    json_object_set_new(o, "params", json_integer((json_int_t)net->n_params));
    json_object_set_new(o, "seconds", json_real(seconds));
    for (int i = 0; i < net->n_widths; i++)
        json_array_append_new(widths, json_integer(net->width[i]));
    json_object_set_new(o, "widths", widths);
    json_object_set_new(o, "kept", json_real(step_kept(m->model, t->full_params)));
    job->metrics = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    return job->metrics ? 0 : cn_fail(&job->error, CN_ENOMEM, "out of memory for the metrics");
}

/* Leaves out what does not fit into the device's memory together; `waiting` are those. */
static int fit_members(struct training *t, struct nn_train *run, bool *done)
{
    struct cn_error err = {0};
    int m = 1, rc = budget_members(run, &m, &err);
    for (int k = m; k < t->m; k++) done[t->job_of[k]] = false;
    t->m = run->m = m;
    struct exec_job *job = &t->unit->job[t->job_of[0]];
    if (rc) job->code = cn_fail(&job->error, rc, "%s", err.text);
    return rc;
}

/* nn_train_run, on as many GPUs as the job asks for. */
static int train_on_gpus(struct training *t, struct nn_train *run, struct cn_error *err)
{
    int gpus = (int)t->unit->job[t->job_of[0]].spec->common->gpus;
    struct ranks *ranks = NULL;
    if (gpus < 2) return nn_train_run(run, err);
    int rc = ranks_open(&ranks, t->unit->device, gpus, t->unit->scratch, run, err);
    if (rc) return rc;
    rc = nn_train_run(run, err);
    bool lost = rc && rc != CN_EINTERRUPTED && rc != CN_ECANCELLED;
    struct cn_error *why = &run->member[0].error;
    ranks_close(ranks, lost, lost ? why : NULL);
    if (lost && why->code == CN_ENODEVICE) t->unit->job[t->job_of[0]].lost = true;
    return rc;
}

/* Runs the members that are ready, together. */
static void run_members(struct training *t, bool *done)
{
    struct nn_train run = {.backend = t->unit->backend,
                           .data = t->unit->data,
                           .recipe = &t->recipe,
                           .m = t->m,
                           .member = t->member,
                           .events = {.arg = t,
                                      .progress = on_progress,
                                      .checkpoint = on_checkpoint,
                                      .checkpoint_every_s = t->unit->checkpoint_every_s,
                                      .poll = on_poll}};
    struct cn_error err = {0};
    if (fit_members(t, &run, done)) return;
    int64_t start = cn_mono_ms();
    int rc = train_on_gpus(t, &run, &err);
    double seconds = (double)(cn_mono_ms() - start) * 1e-3;
    for (int k = 0; k < t->m; k++) {
        struct exec_job *job = &t->unit->job[t->job_of[k]];
        job->code = t->member[k].result;
        job->error = t->member[k].error;
        if (rc && job->code == 0 && t->m == 1) { /* it failed before any member began */
            job->code = rc;
            job->error = err;
        }
        if (job->code == 0) job->code = finish(t, k, seconds);
    }
}

static void add_member(struct training *t, int i)
{
    struct exec_job *job = &t->unit->job[i];
    t->job_of[t->m] = i;
    t->member[t->m++] = (struct nn_train_member){.model = t->model[i],
                                                 .seed = job->spec->seed,
                                                 .teacher = t->teacher[i],
                                                 .mask = t->mask[i],
                                                 .resume = job->resume,
                                                 .resume_n = job->resume_n,
                                                 .or_afresh = true};
}

static bool same_shape(const struct nn_model *a, const struct nn_model *b)
{
    return strcmp(a->net->name, b->net->name) == 0 && a->net->n_widths == b->net->n_widths &&
           memcmp(a->net->width, b->net->width, sizeof(int) * (size_t)a->net->n_widths) == 0;
}

/* Fills t with jobs that can train as one array: the first that is left, and its like. What does not
 * fit to it has its turn later. */
static bool next_members(struct training *t, bool *done)
{
    struct exec_unit *u = t->unit;
    int most = u->max_members > 0 ? u->max_members : NN_MAX_GANG;
    if (u->job[0].spec->common->gpus > 1) most = 1;
    t->m = 0;
    for (int i = 0; i < u->n && t->m < most; i++) {
        if (done[i] || u->job[i].code) continue;
        bool fits = t->m == 0 || (same_shape(t->model[t->job_of[0]], t->model[i]) &&
                                  strcmp(u->job[t->job_of[0]].spec->common->recipe,
                                         u->job[i].spec->common->recipe) == 0);
        if (!fits) continue;
        add_member(t, i);
        done[i] = true;
    }
    return t->m > 0;
}

void exec_train(struct exec_unit *u)
{
    struct training t = {.unit = u};
    struct cn_error err = {0};
    const Cinch__JobSpec *first = u->job[0].spec;
    int rc = nn_recipe_parse_json(&t.recipe, first->common->recipe, &err);
    if (rc == 0) rc = step_full_params(&t.full_params, first, u->data, &err);
    for (int i = 0; i < u->n; i++) {
        struct exec_job *job = &u->job[i];
        if (!job->done)
            job->code = rc ? cn_fail(&job->error, rc, "%s", err.text) : prepare(&t, i, &job->error);
    }
    bool done[NN_MAX_GANG];
    for (int i = 0; i < u->n; i++) done[i] = u->job[i].done;
    while (rc == 0 && next_members(&t, done)) {
        const char *recipe = u->job[t.job_of[0]].spec->common->recipe;
        rc = nn_recipe_parse_json(&t.recipe, recipe, &err);
        if (rc == 0) run_members(&t, done);
        for (int k = 0; rc && k < t.m; k++)
            u->job[t.job_of[k]].code = cn_fail(&u->job[t.job_of[k]].error, rc, "%s", err.text);
        rc = 0;
    }
    for (int i = 0; i < u->n; i++) {
        nn_model_destroy(t.model[i]);
        nn_model_destroy(t.teacher[i]);
        free(t.mask[i]);
    }
}
