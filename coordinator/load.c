/* coordinator/load.c - what st_open reads at a start: the scheduler's tables and what is kept
 * beside them.
 *
 * A row that makes no sense (made by hand, by a damaged disk, or by a version that let anything in)
 * is set aside and told: a job or base keeps its number but never runs, a run in its place is
 * cancelled, anything else is left out. Only what SQLite itself cannot read ends the start. */
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/store.h"
#include "proto/check.h"
#include "proto/keys.h"
#include "proto/spec.h"

struct loading {
    sqlite3 *db;
    struct sched *s;
    struct st_state *state;
    struct cn_error *err;
};

static int nomem(const struct loading *l)
{
    return cn_fail(l->err, CN_ENOMEM, "loading the queue: out of memory");
}

enum {
    TOLD = 20,      /* rows set aside that get a line each */
    GAP = 1000000,  /* missing ids in a row that are bridged */
    WORKERS = 65536 /* ids of workers are small: their places are used again */
};

/* A row that makes no sense must not keep everything else from starting. */
__attribute__((format(printf, 4, 5))) static void aside(struct loading *l, const char *what,
                                                        long long id, const char *fmt, ...)
{
    char why[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    if (l->state->set_aside++ < TOLD)
        cn_warn("coordinator", "queue.db: %s %lld is set aside: %s", what, id, why);
}

static const char *text(sqlite3_stmt *q, int col)
{
    const char *t = (const char *)sqlite3_column_text(q, col);
    return t ? t : "";
}

static bool blob(sqlite3_stmt *q, int col, void *out, int n)
{
    if (sqlite3_column_bytes(q, col) != n) return false;
    if (n) memcpy(out, sqlite3_column_blob(q, col), (size_t)n);
    return true;
}

/* Calls `row` for each row of `sql`. */
static int each(struct loading *l, const char *sql, int (*row)(struct loading *l, sqlite3_stmt *q))
{
    sqlite3_stmt *q;
    if (sqlite3_prepare_v2(l->db, sql, -1, &q, NULL))
        return st_fail(l->db, l->err, "loading the queue");
    int rc = 0, got;
    while (!rc && (got = sqlite3_step(q)) == SQLITE_ROW) rc = row(l, q);
    if (!rc && got != SQLITE_DONE) rc = st_fail(l->db, l->err, "loading the queue");
    sqlite3_finalize(q);
    return rc;
}

/* ---- bases */

/* What is wrong with a base, or 0. Its allocators go into *b. */
static int check_base(struct sc_base *b, sqlite3_stmt *q, struct cn_hash *fp, struct cn_error *err)
{
    struct cn_hash hash;
    if (!blob(q, 1, &b->hash, CN_HASH_BYTES) || !blob(q, 5, fp, CN_HASH_BYTES))
        return cn_fail(err, CN_ECORRUPT, "its hash or fingerprint has another length");
    Cinch__JobBase *body = cinch__job_base__unpack(NULL, b->n_body, b->body);
    if (!body) return cn_fail(err, CN_ECORRUPT, "its body cannot be decoded");
    int rc = pr_check_base(body, err);
    if (!rc) rc = pr_base_hash(body, &hash, err);
    if (!rc && memcmp(&hash, &b->hash, sizeof hash))
        rc = cn_fail(err, CN_ECORRUPT, "its body is not what its hash says");
    if (!rc) sc_allocators(body->allocators, body->n_allocators, &b->allocators);
    b->gpus = rc ? 0 : body->gpus;
    cinch__job_base__free_unpacked(body, NULL);
    return rc;
}

static int row_base(struct loading *l, sqlite3_stmt *q)
{
    int64_t id = sqlite3_column_int64(q, 0);
    struct sched *s = l->s;
    struct sc_base b = {.gpu_bytes = (uint64_t)sqlite3_column_int64(q, 3),
                        .body = (uint8_t *)sqlite3_column_blob(q, 2),
                        .n_body = (uint32_t)sqlite3_column_bytes(q, 2)};
    struct cn_hash fp;
    struct cn_error why;
    if (id < s->n_bases || id - s->n_bases > GAP) {
        aside(l, "base", id, "its number is out of place");
        return 0;
    }
    while (s->n_bases < id) /* jobs know their base by its number */
        if (!sc_base(s, &(struct sc_base){.broken = true})) return nomem(l);
    b.broken = check_base(&b, q, &fp, &why) != 0;
    if (!b.broken && sc_find_base(s, &b.hash)) {
        b.broken = true;
        cn_fail(&why, CN_ECORRUPT, "another base has the same hash");
    }
    if (b.broken)
        aside(l, "base", id, "%s", why.text);
    else if (!(b.dataset = sc_dataset(s, &fp)))
        return nomem(l);
    return sc_base(s, &b) ? 0 : nomem(l);
}

/* ---- workers */

static int row_worker(struct loading *l, sqlite3_stmt *q)
{
    int64_t id = sqlite3_column_int64(q, 0);
    struct sched *s = l->s;
    if (id < 1 || id > WORKERS || !pr_name_valid(text(q, 2)) || !pr_name_valid(text(q, 3)) ||
        sqlite3_column_bytes(q, 1) != PR_INSTANCE_BYTES) {
        aside(l, "worker", id, "its number or name is impossible");
        return 0;
    }
    if (!sc__grow(&s->worker, &s->cap_workers, (uint32_t)id + 1, sizeof *s->worker))
        return nomem(l);
    if (s->n_workers <= id) s->n_workers = (uint32_t)id + 1;
    struct sc_worker *w = &s->worker[id];
    blob(q, 1, w->instance, PR_INSTANCE_BYTES);
    snprintf(w->name, sizeof w->name, "%s", text(q, 2));
    snprintf(w->host, sizeof w->host, "%s", text(q, 3));
    w->used = w->served = true;
    w->core = -1;
    return 0;
}

/* ---- jobs */

static bool within(sqlite3_stmt *q, int col, int64_t most)
{
    int64_t v = sqlite3_column_int64(q, col);
    return v >= 0 && v <= most;
}

/* What is wrong with a job, or NULL. */
static const char *job_fault(const struct sched *s, sqlite3_stmt *q, int64_t id)
{
    int64_t base = sqlite3_column_int64(q, 2);
    double keep = sqlite3_column_double(q, 8);
    if (sqlite3_column_bytes(q, 1) != CN_HASH_BYTES) return "its key has another length";
    if (base < 1 || base >= s->n_bases || s->base[base].broken) return "its base is set aside";
    if (!within(q, 3, CINCH__JOB_KIND__EVALUATE) || !sqlite3_column_int(q, 3))
        return "there is no such kind of job";
    if (!within(q, 6, PR_MAX_ROUNDS) || !within(q, 7, PR_MAX_ROUNDS) || !(keep > 0 && keep <= 1))
        return "its round or fraction is impossible";
    if (sc_norm(text(q, 9)) < 0) return "its norm is not known here";
    if (!within(q, 11, id - 1) || !within(q, 12, id - 1)) return "it builds on a later job";
    if (!within(q, 13, SC_STATES - 1) || !within(q, 14, UINT32_MAX) || !within(q, 15, 255) ||
        !within(q, 16, 255) || !within(q, 10, UINT32_MAX))
        return "its state is impossible";
    return NULL;
}

/* Stands in the place of a job that cannot be read, so that all others keep their numbers. */
static struct sc_job broken_job(bool succeeded)
{
    return (struct sc_job){.keep = 1, .state = succeeded ? SC_SUCCEEDED : SC_FAILED, .broken = 1};
}

static struct sc_job read_job(const struct sched *s, sqlite3_stmt *q)
{
    struct sc_job j = {
        .base = (uint32_t)sqlite3_column_int64(q, 2),
        .kind = (uint8_t)sqlite3_column_int(q, 3),
        .distilled = sqlite3_column_int(q, 4) != 0,
        .seed = (uint64_t)sqlite3_column_int64(q, 5),
        .rounds = (uint16_t)sqlite3_column_int(q, 6),
        .round = (uint16_t)sqlite3_column_int(q, 7),
        .keep = sqlite3_column_double(q, 8),
        .norm = (uint8_t)sc_norm(text(q, 9)),
        .nonce = (uint32_t)sqlite3_column_int64(q, 10),
        .parent = {(uint32_t)sqlite3_column_int64(q, 11), (uint32_t)sqlite3_column_int64(q, 12)},
        .state = (uint8_t)sqlite3_column_int(q, 13),
        .attempt = (uint32_t)sqlite3_column_int64(q, 14),
        .crashes = (uint8_t)sqlite3_column_int(q, 15),
        .lost = (uint8_t)sqlite3_column_int(q, 16)};
    int64_t worker = sqlite3_column_int64(q, 17);
    blob(q, 1, &j.key, CN_HASH_BYTES);
    if (worker > 0 && worker < s->n_workers && s->worker[worker].used) j.worker = (uint32_t)worker;
    if (j.state == SC_LEASED && !j.worker) j.state = SC_READY; /* nobody can come back with it */
    return j;
}

static int row_job(struct loading *l, sqlite3_stmt *q)
{
    struct sched *s = l->s;
    int64_t id = sqlite3_column_int64(q, 0);
    if (id < s->n_jobs || id - s->n_jobs > GAP) {
        aside(l, "job", id, "its number is out of place");
        return 0;
    }
    while (s->n_jobs < id) {
        struct sc_job hole = broken_job(false);
        aside(l, "job", s->n_jobs, "its row is missing");
        if (!sc_job_add(s, &hole, true)) return nomem(l);
    }
    const char *fault = job_fault(s, q, id);
    if (fault) aside(l, "job", id, "%s", fault);
    struct sc_job j =
        fault ? broken_job(sqlite3_column_int(q, 13) == SC_SUCCEEDED) : read_job(s, q);
    return sc_job_add(s, &j, true) ? 0 : nomem(l);
}

/* ---- runs */

/* A run of this number in both tables. */
static struct st_run *add_run(struct loading *l, const char *user, const char *name,
                              const char *dataset)
{
    struct st_state *st = l->state;
    uint32_t id = sc_user(l->s, user);
    uint32_t made = id ? sc_run_add(l->s, id, 0, false, 0) : 0;
    if (!made || !sc__grow(&st->run, &st->cap_runs, made + 1, sizeof *st->run)) return NULL;
    struct st_run *r = &st->run[made];
    st->n_runs = made + 1;
    r->name = strdup(name);
    r->dataset = strdup(dataset);
    return r->name && r->dataset ? r : NULL;
}

static int read_run(struct loading *l, sqlite3_stmt *q, int64_t id)
{
    struct st_run *r = add_run(l, text(q, 3), text(q, 2), text(q, 9));
    if (!r) return nomem(l);
    struct sc_run *run = &l->s->run[id];
    int priority = sqlite3_column_int(q, 4);
    run->priority = priority < -1000 ? -1000 : priority > 1000 ? 1000 : priority;
    run->paused = sqlite3_column_int(q, 5) != 0;
    run->cancelled = sqlite3_column_int(q, 6) != 0;
    run->time_limit_s = within(q, 7, 30 * 86400) ? (uint32_t)sqlite3_column_int64(q, 7) : 0;
    r->created = sqlite3_column_int64(q, 8);
    r->cells = (uint32_t)sqlite3_column_int64(q, 11);
    r->fresh = sqlite3_column_int(q, 12) != 0;
    l->s->user[run->user].text += (uint64_t)sqlite3_column_int64(q, 13);
    blob(q, 1, r->nonce, PR_INSTANCE_BYTES);
    blob(q, 10, &r->fingerprint, CN_HASH_BYTES);
    return 0;
}

static int row_run(struct loading *l, sqlite3_stmt *q)
{
    int64_t id = sqlite3_column_int64(q, 0);
    bool known = pr_name_valid(text(q, 2)) && pr_name_valid(text(q, 3)) &&
                 sqlite3_column_bytes(q, 1) == PR_INSTANCE_BYTES &&
                 sqlite3_column_bytes(q, 10) == CN_HASH_BYTES;
    if (id < l->s->n_runs || id - l->s->n_runs > GAP) {
        aside(l, "run", id, "its number is out of place");
        return 0;
    }
    while (l->s->n_runs < id + !known) { /* a cancelled one in its place */
        uint32_t hole = l->s->n_runs;
        aside(l, "run", hole, hole < id ? "its row is missing" : "its row is impossible");
        if (!add_run(l, "nobody", "lost", "")) return nomem(l);
        l->s->run[hole].cancelled = true;
    }
    return known ? read_run(l, q, id) : 0;
}

static int row_want(struct loading *l, sqlite3_stmt *q)
{
    int64_t run = sqlite3_column_int64(q, 0), first = sqlite3_column_int64(q, 1),
            last = sqlite3_column_int64(q, 2);
    if (run < 1 || run >= l->s->n_runs || first < 1 || last < first || last >= l->s->n_jobs) {
        aside(l, "a list of jobs of run", run, "it names what is not there");
        return 0;
    }
    for (int64_t j = first; j <= last; j++)
        if (sc_want_add(l->s, (uint32_t)run, (uint32_t)j)) return nomem(l);
    return 0;
}

/* ---- datasets and keys */

/* What is wrong with a dataset, or NULL. Of two that claim one fingerprint the older one is right. */
static const char *dataset_fault(const struct st_state *st, const struct st_dataset *d,
                                 sqlite3_stmt *q)
{
    if (!pr_name_valid(text(q, 0))) return "its name is impossible";
    if (sqlite3_column_bytes(q, 1) != CN_HASH_BYTES ||
        (d->size && sqlite3_column_bytes(q, 2) != CN_HASH_BYTES))
        return "its hash or fingerprint has another length";
    for (uint32_t i = 0; i < st->n_datasets; i++) {
        const struct st_dataset *o = &st->dataset[i];
        if (d->size && o->size &&
            !memcmp(&o->fingerprint, &d->fingerprint, sizeof o->fingerprint) &&
            memcmp(&o->blob, &d->blob, sizeof o->blob))
            return "an older one has the same fingerprint and other bytes";
    }
    return NULL;
}

static int row_dataset(struct loading *l, sqlite3_stmt *q)
{
    struct st_state *st = l->state;
    struct st_dataset d = {.size = (uint64_t)sqlite3_column_int64(q, 3)};
    blob(q, 1, &d.fingerprint, CN_HASH_BYTES);
    blob(q, 2, &d.blob, CN_HASH_BYTES);
    const char *fault = dataset_fault(st, &d, q);
    if (fault) {
        aside(l, "dataset", sqlite3_column_int64(q, 6), "%s", fault);
        return 0;
    }
    if (!sc__grow(&st->dataset, &st->cap_datasets, st->n_datasets + 1, sizeof *st->dataset))
        return nomem(l);
    d.name = strdup(text(q, 0));
    d.info = strdup(pr_text_valid(text(q, 4), PR_MAX_JSON) ? text(q, 4) : "");
    d.owner = strdup(pr_name_valid(text(q, 5)) ? text(q, 5) : "");
    st->dataset[st->n_datasets++] = d;
    if (!d.name || !d.info || !d.owner) return nomem(l);
    uint32_t id = sc_find_dataset(l->s, &d.fingerprint);
    if (d.size && id) l->s->dataset[id].stored = true;
    return 0;
}

static int row_key(struct loading *l, sqlite3_stmt *q)
{
    struct st_state *st = l->state;
    if (!pr_z85_valid(text(q, 0)) || !pr_name_valid(text(q, 1)) || !pr_role_parse(text(q, 2))) {
        aside(l, "key", sqlite3_column_int64(q, 5), "its name, role or public half is impossible");
        return 0;
    }
    if (!sc__grow(&st->key, &st->cap_keys, st->n_keys + 1, sizeof *st->key)) return nomem(l);
    struct st_key *k = &st->key[st->n_keys++];
    memset(k, 0, sizeof *k);
    snprintf(k->public_key, sizeof k->public_key, "%s", text(q, 0));
    snprintf(k->name, sizeof k->name, "%s", text(q, 1));
    snprintf(k->role, sizeof k->role, "%s", text(q, 2));
    k->created = sqlite3_column_int64(q, 3);
    k->revoked = sqlite3_column_int64(q, 4);
    return 0;
}

static int row_event(struct loading *l, sqlite3_stmt *q)
{
    l->state->last_event = (uint64_t)sqlite3_column_int64(q, 0);
    return 0;
}

int st_load(sqlite3 *db, struct sched *s, struct st_state *state, struct cn_error *err)
{
    struct loading l = {db, s, state, err};
    memset(state, 0, sizeof *state);
    if (!sc__grow(&state->run, &state->cap_runs, 1, sizeof *state->run)) return nomem(&l);
    state->n_runs = 1;
    int rc =
        each(&l, "SELECT id, hash, body, gpu_bytes, allocators, fingerprint FROM base ORDER BY id",
             row_base);
    if (!rc) rc = each(&l, "SELECT id, instance, name, host FROM worker ORDER BY id", row_worker);
    if (!rc)
        rc = each(&l,
                  "SELECT id, key, base, kind, distilled, seed, rounds, round, keep, norm, nonce, "
                  "parent0, parent1, state,"
                  " attempt, crashes, lost, worker FROM job ORDER BY id",
                  row_job);
    if (!rc)
        rc = each(&l,
                  "SELECT id, nonce, name, user, priority, paused, cancelled, time_limit, created, "
                  "dataset, fingerprint,"
                  " cells, fresh, length(CAST(grid AS BLOB)) FROM run ORDER BY id",
                  row_run);
    if (!rc) rc = each(&l, "SELECT run, first, last FROM want ORDER BY rowid", row_want);
    if (!rc)
        rc = each(&l,
                  "SELECT name, fingerprint, hash, size, info, owner, rowid FROM dataset ORDER BY "
                  "rowid",
                  row_dataset);
    if (!rc)
        rc =
            each(&l, "SELECT public, name, role, created, revoked, rowid FROM key ORDER BY created",
                 row_key);
    if (!rc) rc = each(&l, "SELECT coalesce(max(seq), 0) FROM event", row_event);
    return rc;
}

void st_state_clear(struct st_state *state)
{
    for (uint32_t i = 0; i < state->n_runs && state->run; i++) {
        free(state->run[i].name);
        free(state->run[i].dataset);
    }
    for (uint32_t i = 0; i < state->n_datasets; i++) {
        free(state->dataset[i].name);
        free(state->dataset[i].info);
        free(state->dataset[i].owner);
    }
    free(state->run);
    free(state->dataset);
    free(state->key);
    memset(state, 0, sizeof *state);
}
