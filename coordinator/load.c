/* coordinator/load.c - what st_open reads at a start: the scheduler's tables and what is kept
 * beside them. */
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/store.h"
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

static int corrupt(const struct loading *l, const char *what, long long id)
{
    return cn_fail(l->err, CN_ECORRUPT, "queue.db: %s %lld makes no sense; run cinchd check", what,
                   id);
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

static int row_base(struct loading *l, sqlite3_stmt *q)
{
    struct sc_base b = {.gpu_bytes = (uint64_t)sqlite3_column_int64(q, 3),
                        .body = (uint8_t *)sqlite3_column_blob(q, 2),
                        .n_body = (uint32_t)sqlite3_column_bytes(q, 2)};
    b.gpus = pr_base_gpus(b.body, b.n_body);
    struct cn_hash fp;
    if (!blob(q, 1, &b.hash, CN_HASH_BYTES) || !blob(q, 5, &fp, CN_HASH_BYTES))
        return corrupt(l, "base", sqlite3_column_int64(q, 0));
    char *names = strdup(text(q, 4)), *list[32], *save = NULL;
    size_t n = 0;
    if (!names) return nomem(l);
    for (char *a = strtok_r(names, ",", &save); a && n < 32; a = strtok_r(NULL, ",", &save))
        list[n++] = a;
    bool ok = true;
    b.allocators = sc_allocators(l->s, list, n, &ok);
    free(names);
    b.dataset = sc_dataset(l->s, &fp);
    uint32_t id = ok && b.dataset ? sc_base(l->s, &b) : 0;
    if (!id) return nomem(l);
    return id == sqlite3_column_int64(q, 0) ? 0 : corrupt(l, "base", sqlite3_column_int64(q, 0));
}

static int row_worker(struct loading *l, sqlite3_stmt *q)
{
    int64_t id = sqlite3_column_int64(q, 0);
    struct sched *s = l->s;
    if (id < 1 || id > 10000000) return corrupt(l, "worker", id);
    if (!sc__grow(&s->worker, &s->cap_workers, (uint32_t)id + 1, sizeof *s->worker))
        return nomem(l);
    if (s->n_workers <= id) s->n_workers = (uint32_t)id + 1;
    struct sc_worker *w = &s->worker[id];
    if (!blob(q, 1, w->instance, PR_INSTANCE_BYTES)) return corrupt(l, "worker", id);
    strncpy(w->name, text(q, 2), sizeof w->name - 1);
    strncpy(w->host, text(q, 3), sizeof w->host - 1);
    w->used = true;
    w->core = -1;
    return 0;
}

static int row_job(struct loading *l, sqlite3_stmt *q)
{
    struct sched *s = l->s;
    int64_t id = sqlite3_column_int64(q, 0);
    bool ok = true;
    struct sc_job j = {
        .base = (uint32_t)sqlite3_column_int64(q, 2),
        .kind = (uint8_t)sqlite3_column_int(q, 3),
        .distilled = (uint8_t)sqlite3_column_int(q, 4),
        .seed = (uint64_t)sqlite3_column_int64(q, 5),
        .rounds = (uint16_t)sqlite3_column_int(q, 6),
        .round = (uint16_t)sqlite3_column_int(q, 7),
        .keep = sqlite3_column_double(q, 8),
        .norm = (uint8_t)sc_norm(s, text(q, 9), &ok),
        .nonce = (uint32_t)sqlite3_column_int64(q, 10),
        .parent = {(uint32_t)sqlite3_column_int64(q, 11), (uint32_t)sqlite3_column_int64(q, 12)},
        .state = (uint8_t)sqlite3_column_int(q, 13),
        .attempt = (uint32_t)sqlite3_column_int64(q, 14),
        .crashes = (uint8_t)sqlite3_column_int(q, 15),
        .lost = (uint8_t)sqlite3_column_int(q, 16),
        .worker = (uint32_t)sqlite3_column_int64(q, 17)};
    if (!blob(q, 1, &j.key, CN_HASH_BYTES) || id != s->n_jobs || !j.base || j.base >= s->n_bases ||
        j.parent[0] >= id || j.parent[1] >= id || j.state >= SC_STATES ||
        j.worker >= s->n_workers || (j.state == SC_LEASED && !j.worker))
        return corrupt(l, "job", id);
    return ok && sc_job_add(s, &j, true) ? 0 : nomem(l);
}

static int row_run(struct loading *l, sqlite3_stmt *q)
{
    int64_t id = sqlite3_column_int64(q, 0);
    struct st_state *st = l->state;
    uint32_t user = sc_user(l->s, text(q, 3));
    uint32_t made =
        user ? sc_run_add(l->s, user, sqlite3_column_int(q, 4), sqlite3_column_int(q, 5) != 0,
                          (uint32_t)sqlite3_column_int64(q, 7))
             : 0;
    if (!made || !sc__grow(&st->run, &st->cap_runs, made + 1, sizeof *st->run)) return nomem(l);
    if (made != id) return corrupt(l, "run", id);
    l->s->run[made].cancelled = sqlite3_column_int(q, 6) != 0;
    struct st_run *r = &st->run[made];
    st->n_runs = made + 1;
    r->name = strdup(text(q, 2));
    r->dataset = strdup(text(q, 9));
    r->created = sqlite3_column_int64(q, 8);
    r->cells = (uint32_t)sqlite3_column_int64(q, 11);
    r->fresh = sqlite3_column_int(q, 12) != 0;
    if (!r->name || !r->dataset) return nomem(l);
    if (!blob(q, 1, r->nonce, PR_INSTANCE_BYTES) || !blob(q, 10, &r->fingerprint, CN_HASH_BYTES))
        return corrupt(l, "run", id);
    return 0;
}

static int row_want(struct loading *l, sqlite3_stmt *q)
{
    int64_t run = sqlite3_column_int64(q, 0), first = sqlite3_column_int64(q, 1),
            last = sqlite3_column_int64(q, 2);
    if (run < 1 || run >= l->s->n_runs || first < 1 || last < first || last >= l->s->n_jobs)
        return corrupt(l, "want of run", run);
    for (int64_t j = first; j <= last; j++)
        if (sc_want_add(l->s, (uint32_t)run, (uint32_t)j)) return nomem(l);
    return 0;
}

static int row_dataset(struct loading *l, sqlite3_stmt *q)
{
    struct st_state *st = l->state;
    if (!sc__grow(&st->dataset, &st->cap_datasets, st->n_datasets + 1, sizeof *st->dataset))
        return nomem(l);
    struct st_dataset *d = &st->dataset[st->n_datasets++];
    d->name = strdup(text(q, 0));
    d->info = strdup(text(q, 4));
    d->size = (uint64_t)sqlite3_column_int64(q, 3);
    if (!d->name || !d->info) return nomem(l);
    if (!blob(q, 1, &d->fingerprint, CN_HASH_BYTES)) return corrupt(l, "dataset", st->n_datasets);
    if (d->size && !blob(q, 2, &d->blob, CN_HASH_BYTES))
        return corrupt(l, "dataset", st->n_datasets);
    uint32_t id = sc_dataset(l->s, &d->fingerprint);
    if (!id) return nomem(l);
    if (d->size) l->s->dataset[id].stored = true;
    return 0;
}

static int row_key(struct loading *l, sqlite3_stmt *q)
{
    struct st_state *st = l->state;
    if (!sc__grow(&st->key, &st->cap_keys, st->n_keys + 1, sizeof *st->key)) return nomem(l);
    struct st_key *k = &st->key[st->n_keys++];
    memset(k, 0, sizeof *k);
    strncpy(k->public_key, text(q, 0), sizeof k->public_key - 1);
    strncpy(k->name, text(q, 1), sizeof k->name - 1);
    strncpy(k->role, text(q, 2), sizeof k->role - 1);
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
                  " cells, fresh FROM run ORDER BY id",
                  row_run);
    if (!rc) rc = each(&l, "SELECT run, first, last FROM want ORDER BY rowid", row_want);
    if (!rc)
        rc = each(&l, "SELECT name, fingerprint, hash, size, info FROM dataset ORDER BY name",
                  row_dataset);
    if (!rc)
        rc = each(&l, "SELECT public, name, role, created, revoked FROM key ORDER BY created",
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
    }
    free(state->run);
    free(state->dataset);
    free(state->key);
    memset(state, 0, sizeof *state);
}
