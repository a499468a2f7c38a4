/* coordinator/entries.c - how many things one user may keep here: runs, jobs, recipes, datasets, keys,
 * watchers, workers. See core.h.
 *
 * Bytes on the disk have their own quota; this one is of entries, each of which costs memory and a
 * place in a table for good, because runs are never forgotten. So everything that is kept counts,
 * whatever became of it: to submit and cancel again and again leads to the limit too. What counts is
 * in the tables that a start loads, so a restart changes nothing. What has succeeded counts less: it
 * cost its user the time of a worker. Orders that touch many jobs are counted by those, and forgiven with
 * time: to cancel and retry a large run again and again would fill the log and delay everybody.
 */
#include <string.h>

#include "base/clock.h"
#include "coordinator/core.h"

enum {
    RUNS = 1000,        /* that are not done; the options may say otherwise */
    RUNS_IN_ALL = 20,   /* times that */
    JOBS_OF_RUN = 1000, /* that have not succeeded, times the number of runs */
    JOBS_IN_ALL = 4,    /* times that: a run of known jobs costs places too */
    BASES_OF_RUN = 20,  /* recipes and what else jobs share, times the number of runs */
    TEXT = 64 << 20,    /* bytes of recipes and grids */
    DATASETS = 256,
    KEYS = 4096, /* of everybody, revoked ones too: names must stay clear */
    WATCHERS = 256,
    WORKERS = 4096,    /* of everybody */
    TOUCHED = 2000000, /* jobs that the orders of one user may touch at once ... */
    TOUCHED_A_SECOND =
        500, /* ... and, in the long run, in a second: each leaves a line in the log */
};

static uint32_t most_runs(const struct coordinator *c)
{
    return c->o.user_runs > 0 ? (uint32_t)c->o.user_runs : RUNS;
}

struct held {
    uint64_t runs, jobs; /* not done; not succeeded */
};

static struct held held_by(const struct sched *s, uint32_t user)
{
    struct held h = {0};
    for (uint32_t i = 1; user && i < s->n_runs; i++) {
        const struct sc_run *r = &s->run[i];
        if (r->user != user) continue;
        h.jobs += r->jobs - r->count[SC_SUCCEEDED];
        h.runs += r->count[SC_SUCCEEDED] < r->jobs;
    }
    return h;
}

static int over(struct cn_error *err, const struct peer *p, uint64_t would, const char *what,
                uint64_t limit)
{
    return cn_fail(
        err, CN_ELIMIT,
        "%s would have %llu %s here, the limit is %llu; let some run to their end, or ask "
        "for a larger limit (cinchd --user-runs)",
        p->user, (unsigned long long)would, what, (unsigned long long)limit);
}

int entries_run(const struct coordinator *c, const struct peer *p, uint32_t jobs, uint32_t bases,
                uint64_t text, struct cn_error *err)
{
    uint64_t runs = most_runs(c), most = runs * JOBS_OF_RUN;
    uint32_t id = sc_find_user(c->s, p->user);
    const struct sc_user *u = &c->s->user[id]; /* 0: a user who has nothing yet */
    struct held h = held_by(c->s, id);
    if (h.jobs + jobs > most)
        return over(err, p, h.jobs + jobs, "jobs that have not succeeded, cancelled ones too,",
                    most);
    if (h.runs + 1 > runs)
        return over(err, p, h.runs + 1, "runs that are not done, cancelled ones too,", runs);
    if (u->runs + 1ull > runs * RUNS_IN_ALL)
        return over(err, p, u->runs + 1ull, "runs", runs * RUNS_IN_ALL);
    if (u->jobs + jobs > most * JOBS_IN_ALL)
        return over(err, p, u->jobs + jobs, "jobs", most * JOBS_IN_ALL);
    if (u->bases + (uint64_t)bases > runs * BASES_OF_RUN)
        return over(err, p, u->bases + (uint64_t)bases, "recipes", runs * BASES_OF_RUN);
    if (u->text + text > TEXT)
        return over(err, p, u->text + text, "bytes of recipes and grids", TEXT);
    return 0;
}

int entries_order(struct coordinator *c, const struct peer *p, uint32_t jobs, struct cn_error *err)
{
    uint32_t id = sc_find_user(c->s, p->user);
    struct sc_user *u = &c->s->user[id]; /* 0: whoever has filed nothing, admins mostly */
    int64_t now = cn_mono_ms();
    double left = u->touched - (double)(now - u->touched_at) * 1e-3 * TOUCHED_A_SECOND;
    u->touched = left > 0 ? left : 0;
    u->touched_at = now;
    if (u->touched > 0 && u->touched + jobs > TOUCHED)
        return cn_fail(
            err, CN_ELIMIT,
            "the orders of %s have touched %.0f jobs lately, the limit is %d; wait a while",
            p->user, u->touched, TOUCHED);
    u->touched += jobs;
    return 0;
}

void entries_touched(struct coordinator *c, const struct peer *p, uint32_t jobs)
{
    c->s->user[sc_find_user(c->s, p->user)].touched += jobs;
}

int entries_dataset(const struct coordinator *c, const struct peer *p, struct cn_error *err)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->state.n_datasets; i++)
        n += !strcmp(c->state.dataset[i].owner, p->user);
    if (n < DATASETS) return 0;
    return cn_fail(err, CN_ELIMIT,
                   "%s has %u datasets here, which is the limit; replace one of them", p->user, n);
}

int entries_key(const struct coordinator *c, struct cn_error *err)
{
    if (c->state.n_keys < KEYS) return 0;
    return cn_fail(err, CN_ELIMIT,
                   "%u keys were made here, which is the limit; use those that exist",
                   c->state.n_keys);
}

int entries_watcher(const struct coordinator *c, const struct peer *p, struct cn_error *err)
{
    uint32_t n = 0;
    for (const struct watcher *w = c->watchers; w; w = w->next) n += !strcmp(w->peer.user, p->user);
    if (n < WATCHERS) return 0;
    return cn_fail(err, CN_ELIMIT, "%s watches %u times already, which is the limit; end some",
                   p->user, n);
}

int entries_worker(const struct coordinator *c, const struct peer *p, struct cn_error *err)
{
    uint32_t n = 0;
    for (uint32_t i = 1; i < c->s->n_workers; i++) {
        const struct sc_worker *w = &c->s->worker[i];
        n += w->used && (w->connected || w->served);
    }
    if (n < WORKERS) return 0;
    return cn_fail(err, CN_ELIMIT,
                   "%u workers are known here, which is the limit; one that has gone makes room "
                   "within the hour",
                   n);
}
