/* slot.c - a computing thread: takes a unit, fetches its inputs and dataset, runs the executor,
 * hands what came out to the outbox. It never touches the worker's socket.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "proto/spec.h"
#include "workers/short.h"
#include "workers/worker_private.h"

#define INPUT_LIMIT ((size_t)1 << 30)
#define PROGRESS_MS 1000
#define RETRY_MS 1000

/* A unit being run. */
struct running {
    struct slot *slot;
    struct unit *unit;
    struct exec_job job[NN_MAX_GANG];
    bool afresh[NN_MAX_GANG]; /* its checkpoint is not to be had */
    struct shortage shortage;
};

/* ---- what the executor asks ---- */

static int stop_of(struct held *h)
{
    if (h->deadline_ms && cn_mono_ms() > h->deadline_ms) held_stop(h, OUT_OF_TIME);
    return atomic_load(&h->stop);
}

static int on_poll(void *arg, int member)
{
    struct running *r = arg;
    switch (stop_of(r->unit->held[member])) {
    case GO_ON:
        return 0;
    case NOT_OURS:
        return 2;
    default:
        return 1;
    }
}

static void on_progress(void *arg, int member, const struct exec_progress *p)
{
    struct running *r = arg;
    struct held *h = r->unit->held[member];
    int64_t now = cn_mono_ms();
    atomic_store(&h->epoch, (unsigned)(p->epoch > 0 ? p->epoch : 0));
    if (p->records_per_s > 0) h->rate = p->records_per_s;
    if (!p->epoch_done && now - h->told_ms < PROGRESS_MS) return;
    h->told_ms = now;
    engines_learn(r->slot->w->engines, r->slot->w->device, r->slot->backend);
    Cinch__Progress m = CINCH__PROGRESS__INIT;
    m.job = h->job;
    m.attempt = h->attempt;
    m.epoch = (uint32_t)p->epoch;
    m.epochs = (uint32_t)p->epochs;
    m.batch = (uint32_t)p->batch;
    m.batches = (uint32_t)p->batches;
    m.epoch_done = p->epoch_done;
    m.train_loss = p->train_loss;
    m.val_loss = p->val_loss;
    m.val_score = p->val_score;
    m.lr = p->lr;
    m.records_per_s = p->records_per_s;
    m.stage = (char *)(p->stage ? p->stage : "");
    link_post(r->slot->w->link, PR_PROGRESS, &m);
}

static int on_checkpoint(void *arg, int member, const void *data, size_t n)
{
    struct running *r = arg;
    struct held *h = r->unit->held[member];
    if (outbox_checkpoint(r->slot->w->outbox, h->job, h->attempt, data, n, atomic_load(&h->epoch)))
        cn_warn("worker", "j%llu: no memory for a checkpoint; training goes on without",
                (unsigned long long)h->job);
    return 0;
}

/* ---- fetching ---- */

/* Whether every lease of the unit has been stopped: no use in waiting for anything. */
static int all_stopped(void *arg)
{
    const struct slot *s = arg;
    for (int i = 0; s->unit && i < s->unit->n; i++)
        if (stop_of(s->unit->held[i]) == GO_ON) return 0;
    return 1;
}

static int connect_slot(struct slot *s, struct cn_error *err)
{
    if (s->client) return 0;
    struct pr_connect how = {.zmq = s->w->zmq,
                             .endpoint = s->w->endpoint,
                             .key_file = s->w->o.key_file,
                             .results = 1,
                             .known = 1, /* the link has been welcomed */
                             .stop = all_stopped,
                             .stop_arg = s};
    return pr_client_open(&s->client, &how, err);
}

static void disconnect_slot(struct slot *s)
{
    pr_client_close(s->client);
    s->client = NULL;
}

static int fetch_blob(struct slot *s, const Cinch__Blob *b, void **data, size_t *n,
                      struct cn_error *err)
{
    struct cn_hash hash;
    int rc = pr_hash_read(&b->hash, &hash, err);
    return rc ? rc : pr_blob_get(s->client, &hash, INPUT_LIMIT, data, n, err);
}

/* All inputs of one job; what an earlier try fetched is kept. */
static int fetch_inputs(struct running *r, int i, struct cn_error *err)
{
    const Cinch__Lease *l = r->unit->grant->leases[i];
    struct exec_job *job = &r->job[i];
    if (l->n_inputs > PR_MAX_OUTPUTS)
        return cn_fail(err, CN_ELIMIT, "a lease with %zu inputs", l->n_inputs);
    while (job->n_in < (int)l->n_inputs) {
        const Cinch__Blob *b = l->inputs[job->n_in];
        struct exec_blob *in = &job->in[job->n_in];
        int rc = fetch_blob(r->slot, b, &in->data, &in->n, err);
        if (rc) return rc;
        snprintf(in->role, sizeof in->role, "%s", b->role);
        job->n_in++;
    }
    if (!l->resume || job->resume || r->afresh[i]) return 0;
    int rc = fetch_blob(r->slot, l->resume, &job->resume, &job->resume_n, err);
    if (rc != CN_ENOTFOUND && rc != CN_ECORRUPT) return rc;
    /* What it saves is time: without it the job takes longer and ends the same. */
    cn_warn("worker",
            "j%llu: its checkpoint cannot be had (%s); the training starts from its beginning",
            (unsigned long long)l->job, err->text);
    r->afresh[i] = true;
    return 0;
}

static int fetch_once(struct running *r, const struct ecg_dataset **data, struct cn_error *err)
{
    struct cn_hash fingerprint;
    const Cinch__JobBase *base = r->unit->grant->leases[0]->spec->common;
    int rc = connect_slot(r->slot, err);
    if (rc == 0) rc = pr_hash_read(&base->fingerprint, &fingerprint, err);
    if (rc == 0 && !*data)
        rc = datasets_get(r->slot->w->datasets, &fingerprint, r->slot->client, data, err);
    for (int i = 0; rc == 0 && i < r->unit->n; i++) rc = fetch_inputs(r, i, err);
    return rc;
}

/* Waits through outages of the coordinator, until the leases are stopped. */
static int fetch(struct running *r, const struct ecg_dataset **data, struct cn_error *err)
{
    for (;;) {
        int rc = fetch_once(r, data, err);
        if (rc) disconnect_slot(r->slot); /* whatever is wrong with it, the next one is new */
        if (rc != CN_ECONNECT && rc != CN_ETIMEOUT) return rc;
        if (all_stopped(r->slot)) return cn_fail(err, CN_EINTERRUPTED, "stopped before it began");
        cn_sleep_ms(RETRY_MS);
    }
}

/* ---- running ---- */

/* A backend that has failed refuses everything: the next job gets a new one. */
static int backend(struct slot *s, struct cn_error *err)
{
    if (s->backend && s->backend->error.code) {
        s->backend->ops->destroy(s->backend);
        s->backend = NULL;
    }
    if (s->backend || s->w->o.role != WORKER_TRAIN) return 0;
    return device_backend(s->w->device, s->w->o.threads, &s->backend, err);
}

static void run_unit(struct running *r, const struct ecg_dataset *data)
{
    struct worker *w = r->slot->w;
    struct exec_unit u = {.n = r->unit->n,
                          .job = r->job,
                          .max_members = r->shortage.members,
                          .data = data,
                          .backend = r->slot->backend,
                          .device = w->device,
                          .events = {r, on_progress, on_checkpoint, on_poll},
                          .checkpoint_every_s = w->o.checkpoint_every_s,
                          .watch = w->watch,
                          .core = w->o.core,
                          .scratch = r->slot->scratch};
    corewatch_enter(w->watch);
    exec_run(&u);
    corewatch_leave(w->watch);
    engines_learn(w->engines, w->device, r->slot->backend);
}

/* After a unit: jobs that ended with a card that has failed have not failed themselves. This process will
 * never compute again, so the worker leaves; who started it starts another (docs/workers.md). */
static void look_for_losses(struct running *r)
{
    struct worker *w = r->slot->w;
    struct cn_error why = {0};
    bool lost = device_lost(w->device, &why);
    for (int i = 0; i < r->unit->n; i++) {
        struct exec_job *job = &r->job[i];
        bool failed = job->code && job->code != CN_EINTERRUPTED && job->code != CN_ECANCELLED;
        if (job->lost && !lost) why = job->error; /* a further rank's card */
        lost |= job->lost;
        if (lost && failed) job->lost = true;
        if (lost && failed)
            job->code = cn_fail(&job->error, CN_ENODEVICE, "lost machine: %s", why.text);
    }
    if (!lost || atomic_load(&w->lost)) return;
    w->lost_why = why;
    atomic_store(&w->lost, true);
}

/* What a stop meant, seen from outside the executor. */
static void settle(struct running *r, int i)
{
    struct exec_job *job = &r->job[i];
    if (job->code != CN_EINTERRUPTED) return;
    int stop = atomic_load(&r->unit->held[i]->stop);
    if (stop == NOT_OURS)
        job->code = CN_ECANCELLED;
    else if (stop == OUT_OF_TIME)
        job->code =
            cn_fail(&job->error, CN_ETIMEOUT, "the job did not end within its time limit of %u s",
                    r->unit->grant->leases[i]->time_limit_s);
}

static void begin(struct running *r)
{
    int64_t now = cn_mono_ms();
    if (r->unit->n > 1) cn_info("worker", "a gang of %d:", r->unit->n);
    for (int i = 0; i < r->unit->n; i++) {
        const Cinch__Lease *l = r->unit->grant->leases[i];
        r->job[i].spec = l->spec;
        atomic_store(&r->unit->held[i]->started, true);
        if (l->time_limit_s) r->unit->held[i]->deadline_ms = now + (int64_t)l->time_limit_s * 1000;
        cn_info("worker", "%s j%llu attempt %u: %s %s seed %llu%s", l->run,
                (unsigned long long)l->job, l->attempt, pr_kind_name((int)l->spec->kind),
                l->spec->common->net, (unsigned long long)l->spec->seed,
                l->resume ? ", resumed" : "");
    }
}

static void end(struct running *r, int i, uint64_t wall_ms)
{
    struct worker *w = r->slot->w;
    struct held *h = r->unit->held[i];
    struct exec_job *job = &r->job[i];
    settle(r, i);
    if (job->code && job->code != CN_EINTERRUPTED && job->code != CN_ECANCELLED)
        cn_warn("worker", "j%llu failed: %s", (unsigned long long)h->job, job->error.text);
    if (outbox_end(w->outbox, h->job, h->attempt, job, wall_ms)) {
        cn_err("worker", "j%llu: out of memory for its result", (unsigned long long)h->job);
        pthread_mutex_lock(&w->lock);
        held_remove(w, h); /* unanswered: the coordinator leases it again */
        pthread_mutex_unlock(&w->lock);
    }
    exec_job_clear(job);
}

/* Out of memory before anything began: what is not held any more is pushed to us again. */
static void forget(struct worker *w, struct unit *unit)
{
    pthread_mutex_lock(&w->lock);
    for (int i = 0; i < unit->n; i++) held_remove(w, unit->held[i]);
    pthread_mutex_unlock(&w->lock);
    cn_sleep_ms(RETRY_MS);
}

/* Runs the unit; what found no memory is tried again as long as less can be asked for at once. */
static void run_to_end(struct running *r, const struct ecg_dataset *data)
{
    struct slot *s = r->slot;
    struct unit *unit = r->unit;
    for (;;) {
        struct cn_error err = {0};
        int rc = backend(s, &err);
        if (rc == 0) run_unit(r, data);
        bool again = false;
        for (int i = 0; i < unit->n; i++) {
            struct exec_job *job = &r->job[i];
            if (job->done) continue;
            if (rc) job->code = cn_fail(&job->error, rc, "%s", err.text);
            job->done = job->code != CN_ENOMEM;
            again |= !job->done;
        }
        if (!again || !shortage_retry(s->w, &r->shortage, unit->n)) return;
        for (int i = 0; i < unit->n; i++) {
            if (r->job[i].done) continue;
            r->job[i].code = 0;
            r->job[i].error = (struct cn_error){0};
        }
        if (all_stopped(s)) r->shortage.alone = true; /* this is the last try */
    }
}

static void work(struct slot *s, struct unit *unit)
{
    struct running *r = calloc(1, sizeof *r);
    if (!r) {
        forget(s->w, unit);
        return;
    }
    s->unit = r->unit = unit;
    r->slot = s;
    const struct ecg_dataset *data = NULL;
    struct cn_error err = {0};
    int64_t start = cn_mono_ms();
    begin(r);
    int rc = fetch(r, &data, &err);
    if (rc == 0)
        run_to_end(r, data);
    else
        for (int i = 0; i < unit->n; i++)
            r->job[i].code = cn_fail(&r->job[i].error, rc, "%s", err.text);
    look_for_losses(r);
    datasets_put(s->w->datasets, data);
    uint64_t wall_ms = (uint64_t)(cn_mono_ms() - start);
    for (int i = 0; i < unit->n; i++) end(r, i, wall_ms);
    s->unit = NULL;
    free(r);
}

/* The next unit; NULL when the end has come. */
static struct unit *next(struct slot *s)
{
    struct worker *w = s->w;
    pthread_mutex_lock(&w->lock);
    while (!w->leaving && (!w->queue || s->index >= w->n_slots))
        pthread_cond_wait(&w->work, &w->lock);
    struct unit *u = w->leaving ? NULL : w->queue;
    if (u) {
        w->queue = u->next;
        w->busy++;
    }
    pthread_mutex_unlock(&w->lock);
    return u;
}

void *slot_main(void *arg)
{
    struct slot *s = arg;
    for (struct unit *u; (u = next(s));) {
        work(s, u);
        unit_destroy(u);
        pthread_mutex_lock(&s->w->lock);
        s->w->busy--;
        pthread_mutex_unlock(&s->w->lock);
        link_wake(s->w->link);
    }
    return NULL;
}

void slot_clear(struct slot *s)
{
    if (s->backend) s->backend->ops->destroy(s->backend);
    s->backend = NULL;
    disconnect_slot(s);
    if (s->scratch[0]) cn_rmtree(s->scratch, NULL);
}
