/* coordinator/store.c - see store.h: what is written, and how. The schema is in migrate.c, what a start
 * reads in load.c, opening and the write-ahead log in store_open.c. */
#include "coordinator/store.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "coordinator/store_private.h"
#include "proto/words.h"

static const char *const sql[Q_COUNT] = {
    [Q_BEGIN] = "BEGIN IMMEDIATE",
    [Q_COMMIT] = "COMMIT",
    [Q_ROLLBACK] = "ROLLBACK",
    [Q_JOB_NEW] = "INSERT INTO job (id, key, base, kind, distilled, seed, rounds, round, keep, "
                  "norm, nonce, parent0,"
                  " parent1, state, attempt, crashes, lost, worker) VALUES "
                  "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    [Q_JOB] = "UPDATE job SET state=?, attempt=?, crashes=?, lost=?, worker=? WHERE id=?",
    [Q_RUN_NEW] = "INSERT INTO run (id, nonce, name, user, priority, paused, cancelled, "
                  "time_limit, created, dataset,"
                  " fingerprint, cells, fresh, grid) VALUES (?,?,?,?,?,?,0,?,?,?,?,?,?,?)",
    [Q_RUN] = "UPDATE run SET priority=?, paused=?, cancelled=? WHERE id=?",
    [Q_WANT] = "INSERT INTO want (run, first, last) VALUES (?,?,?)",
    [Q_BASE] = "INSERT INTO base (id, hash, body, gpu_bytes, allocators, fingerprint) VALUES "
               "(?,?,?,?,?,?)",
    [Q_WORKER] = "INSERT OR REPLACE INTO worker (id, instance, name, host) VALUES (?,?,?,?)",
    [Q_EVENT] = "INSERT INTO event (seq, time, why, state, run, job, attempt, worker, text) VALUES "
                "(?,?,?,?,?,?,?,?,?)",
    [Q_OUTPUT] = "INSERT OR REPLACE INTO output (job, role, hash, size) VALUES (?,?,?,?)",
    [Q_METRICS] =
        "INSERT OR REPLACE INTO metrics (job, json, wall_ms, worker, ended) VALUES (?,?,?,?,?)",
    [Q_CHECKPOINT] = "INSERT OR REPLACE INTO checkpoint (job, hash, size, epoch) VALUES (?,?,?,?)",
    [Q_NO_CHECKPOINT] = "DELETE FROM checkpoint WHERE job=?",
    [Q_CURVE] = "INSERT OR REPLACE INTO curve (job, attempt, epoch, train_loss, val_loss, "
                "val_score, lr, records_per_s)"
                " VALUES (?,?,?,?,?,?,?,?)",
    [Q_DATASET] =
        "INSERT OR REPLACE INTO dataset (name, fingerprint, hash, size, info, owner) VALUES "
        "(?,?,?,?,?,?)",
    [Q_KEY] =
        "INSERT OR REPLACE INTO key (public, name, role, created, revoked) VALUES (?,?,?,?,0)",
    [Q_KEY_REVOKE] = "UPDATE key SET revoked=? WHERE public=?",
    [Q_HOLD] = "INSERT OR IGNORE INTO holding (hash, user, size, time) VALUES (?,?,?,?)",
    [Q_UNHOLD] = "DELETE FROM holding WHERE hash=?",
    [Q_NO_OUTPUT] = "DELETE FROM output WHERE job=? AND hash=?",
    [Q_HELD] = "SELECT user, size FROM holding WHERE hash=?",
    [Q_ORPHANS] = "SELECT hash, size FROM holding h WHERE time < ?1 AND NOT EXISTS (SELECT 1 FROM "
                  "output WHERE hash=h.hash) AND NOT EXISTS (SELECT 1 FROM checkpoint WHERE "
                  "hash=h.hash) AND NOT EXISTS (SELECT 1 FROM dataset WHERE hash=h.hash) LIMIT ?2",
    [Q_JOBS_OF_BLOB] =
        "SELECT job, 0, size FROM output WHERE hash=?1 UNION ALL SELECT job, 1, size "
        "FROM checkpoint WHERE hash=?1",
    [Q_NEXT_BLOBS] = "SELECT hash, size FROM (SELECT hash, size FROM output WHERE hash > ?1 UNION "
                     "SELECT hash, size FROM checkpoint WHERE hash > ?1 UNION SELECT hash, size "
                     "FROM dataset WHERE size > 0 AND hash > ?1 ORDER BY 1) WHERE typeof(hash) = "
                     "'blob' AND length(hash) = 32 LIMIT ?2",
    [Q_GET_OUTPUTS] = "SELECT role, hash, size FROM output WHERE job=?",
    [Q_GET_CHECKPOINT] = "SELECT hash, size, epoch FROM checkpoint WHERE job=?",
    [Q_GET_METRICS] = "SELECT json, wall_ms FROM metrics WHERE job=?",
    [Q_GET_GRID] = "SELECT grid FROM run WHERE id=?",
    [Q_BLOB_NEEDED] = "SELECT 1 WHERE EXISTS (SELECT 1 FROM output WHERE hash=?1) OR EXISTS "
                      "(SELECT 1 FROM checkpoint"
                      " WHERE hash=?1) OR EXISTS (SELECT 1 FROM dataset WHERE hash=?1)",
    [Q_JOB_EVENTS] = "SELECT * FROM (SELECT seq, time, why, state, run, job, attempt, worker, text "
                     "FROM event WHERE job=?1"
                     " ORDER BY seq DESC LIMIT ?3) ORDER BY seq",
    [Q_RUN_EVENTS] = "SELECT * FROM (SELECT seq, time, why, state, run, job, attempt, worker, text "
                     "FROM event WHERE run=?2"
                     " OR job IN (SELECT j.id FROM want w JOIN job j ON j.id BETWEEN w.first AND "
                     "w.last WHERE w.run=?2)"
                     " ORDER BY seq DESC LIMIT ?3) ORDER BY seq",
    [Q_GET_CURVE] = "SELECT attempt, epoch, train_loss, val_loss, val_score, lr, records_per_s "
                    "FROM curve WHERE job=?"
                    " ORDER BY epoch",
};

int st_fail(sqlite3 *db, struct cn_error *err, const char *what)
{
    int e = sqlite3_extended_errcode(db), code = CN_EIO;
    bool synced = e != SQLITE_IOERR_FSYNC && e != SQLITE_IOERR_DIR_FSYNC;
    switch (e & 0xff) {
    case SQLITE_FULL:
        code = CN_ENOSPACE;
        break;
    case SQLITE_IOERR: /* an fsync that failed is final, whatever the reason */
        if (synced && sqlite3_system_errno(db) == ENOSPC) code = CN_ENOSPACE;
        if (e == SQLITE_IOERR_NOMEM) code = CN_ENOMEM;
        break;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        code = CN_EBUSY;
        break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        code = CN_ECORRUPT;
        break;
    case SQLITE_NOMEM:
        code = CN_ENOMEM;
        break;
    }
    return cn_fail(err, code, "%s: %s", what, sqlite3_errmsg(db));
}

/* ---- binding */

static void put_text(sqlite3_stmt *q, int i, const char *t)
{
    sqlite3_bind_text(q, i, t ? t : "", -1, SQLITE_STATIC);
}

void st__put_hash(sqlite3_stmt *q, int i, const struct cn_hash *h)
{
    sqlite3_bind_blob(q, i, h->b, CN_HASH_BYTES, SQLITE_STATIC);
}

static int finish(sqlite3_stmt *q)
{
    int rc = sqlite3_step(q);
    sqlite3_reset(q);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : -1;
}

static int write_new_job(struct store *st, uint32_t id)
{
    sqlite3_stmt *q = st->q[Q_JOB_NEW];
    const struct sc_job *j = &st->s->job[id];
    int64_t v[] = {j->base, j->kind, j->distilled, (int64_t)j->seed, j->rounds, j->round};
    int64_t u[] = {j->nonce,   j->parent[0], j->parent[1], j->state,
                   j->attempt, j->crashes,   j->lost,      j->worker};
    sqlite3_bind_int64(q, 1, id);
    st__put_hash(q, 2, &j->key);
    for (int i = 0; i < 6; i++) sqlite3_bind_int64(q, 3 + i, v[i]);
    sqlite3_bind_double(q, 9, j->keep);
    put_text(q, 10, sc_norm_name(j->norm));
    for (int i = 0; i < 8; i++) sqlite3_bind_int64(q, 11 + i, u[i]);
    return finish(q);
}

static int write_job(struct store *st, uint32_t id)
{
    sqlite3_stmt *q = st->q[Q_JOB];
    const struct sc_job *j = &st->s->job[id];
    int64_t v[] = {j->state, j->attempt, j->crashes, j->lost, j->worker, id};
    for (int i = 0; i < 6; i++) sqlite3_bind_int64(q, 1 + i, v[i]);
    return finish(q);
}

static int write_new_run(struct store *st, const struct st_op *op)
{
    sqlite3_stmt *q = st->q[Q_RUN_NEW];
    const struct sc_run *r = &st->s->run[op->run];
    const struct st_run *d = &st->state->run[op->run];
    sqlite3_bind_int64(q, 1, op->run);
    sqlite3_bind_blob(q, 2, d->nonce, PR_INSTANCE_BYTES, SQLITE_STATIC);
    put_text(q, 3, d->name);
    put_text(q, 4, st->s->user[r->user].name);
    sqlite3_bind_int(q, 5, r->priority);
    sqlite3_bind_int(q, 6, r->paused);
    sqlite3_bind_int64(q, 7, r->time_limit_s);
    sqlite3_bind_int64(q, 8, d->created);
    put_text(q, 9, d->dataset);
    st__put_hash(q, 10, &d->fingerprint);
    sqlite3_bind_int64(q, 11, d->cells);
    sqlite3_bind_int(q, 12, d->fresh);
    put_text(q, 13, op->text);
    return finish(q);
}

static int write_run(struct store *st, uint32_t run)
{
    sqlite3_stmt *q = st->q[Q_RUN];
    const struct sc_run *r = &st->s->run[run];
    sqlite3_bind_int(q, 1, r->priority);
    sqlite3_bind_int(q, 2, r->paused);
    sqlite3_bind_int(q, 3, r->cancelled);
    sqlite3_bind_int64(q, 4, run);
    return finish(q);
}

static int write_base(struct store *st, uint32_t id)
{
    sqlite3_stmt *q = st->q[Q_BASE];
    const struct sc_base *b = &st->s->base[id];
    char names[32 * 64] = "";
    const char *const *word = pr_words(PR_WORDS_ALLOCATOR);
    for (int a = 0; word[a]; a++)
        if (b->allocators & 1u << a) {
            size_t n = strlen(names);
            snprintf(names + n, sizeof names - n, "%s%s", n ? "," : "", word[a]);
        }
    sqlite3_bind_int64(q, 1, id);
    st__put_hash(q, 2, &b->hash);
    sqlite3_bind_blob(q, 3, b->body, (int)b->n_body, SQLITE_STATIC);
    sqlite3_bind_int64(q, 4, (int64_t)b->gpu_bytes);
    put_text(q, 5, names);
    st__put_hash(q, 6, &st->s->dataset[b->dataset].fingerprint);
    return finish(q);
}

static int write_worker(struct store *st, uint32_t id)
{
    sqlite3_stmt *q = st->q[Q_WORKER];
    const struct sc_worker *w = &st->s->worker[id];
    sqlite3_bind_int64(q, 1, id);
    sqlite3_bind_blob(q, 2, w->instance, PR_INSTANCE_BYTES, SQLITE_STATIC);
    put_text(q, 3, w->name);
    put_text(q, 4, w->host);
    return finish(q);
}

static int write_event(struct store *st, const struct st_op *op)
{
    sqlite3_stmt *q = st->q[Q_EVENT];
    int64_t v[] = {(int64_t)op->size, op->time, op->why, op->state, op->run, op->job, op->attempt};
    for (int i = 0; i < 7; i++) sqlite3_bind_int64(q, 1 + i, v[i]);
    put_text(q, 8, op->worker ? st->s->worker[op->worker].name : "");
    put_text(q, 9, op->text);
    return finish(q);
}

static int write_output(struct store *st, const struct st_op *op)
{
    sqlite3_stmt *q = st->q[Q_OUTPUT];
    sqlite3_bind_int64(q, 1, op->job);
    put_text(q, 2, op->text);
    st__put_hash(q, 3, &op->hash);
    sqlite3_bind_int64(q, 4, (int64_t)op->size);
    return finish(q);
}

static int write_metrics(struct store *st, const struct st_op *op)
{
    sqlite3_stmt *q = st->q[Q_METRICS];
    sqlite3_bind_int64(q, 1, op->job);
    put_text(q, 2, op->text);
    sqlite3_bind_int64(q, 3, (int64_t)op->size);
    put_text(q, 4, st->s->worker[op->worker].name);
    sqlite3_bind_int64(q, 5, op->time);
    return finish(q);
}

static int write_checkpoint(struct store *st, const struct st_op *op)
{
    sqlite3_stmt *q = st->q[Q_CHECKPOINT];
    sqlite3_bind_int64(q, 1, op->job);
    st__put_hash(q, 2, &op->hash);
    sqlite3_bind_int64(q, 3, (int64_t)op->size);
    sqlite3_bind_int64(q, 4, op->first);
    return finish(q);
}

static int write_curve(struct store *st, const struct st_op *op)
{
    sqlite3_stmt *q = st->q[Q_CURVE];
    sqlite3_bind_int64(q, 1, op->job);
    sqlite3_bind_int64(q, 2, op->attempt);
    sqlite3_bind_int64(q, 3, op->first);
    for (int i = 0; i < 5; i++) sqlite3_bind_double(q, 4 + i, op->f[i]);
    return finish(q);
}

static int write_dataset(struct store *st, const struct st_op *op)
{
    sqlite3_stmt *q = st->q[Q_DATASET];
    put_text(q, 1, op->text);
    st__put_hash(q, 2, &op->hash);
    st__put_hash(q, 3, &op->hash2);
    sqlite3_bind_int64(q, 4, (int64_t)op->size);
    put_text(q, 5, op->text2);
    put_text(q, 6, op->text3);
    return finish(q);
}

static int write_key(struct store *st, const struct st_op *op)
{
    bool revoke = op->kind == ST_KEY_REVOKE;
    sqlite3_stmt *q = st->q[revoke ? Q_KEY_REVOKE : Q_KEY];
    put_text(q, revoke ? 2 : 1, op->text3);
    if (!revoke) put_text(q, 2, op->text);
    if (!revoke) put_text(q, 3, op->text2);
    sqlite3_bind_int64(q, revoke ? 1 : 4, op->time);
    return finish(q);
}

static int write_hold(struct store *st, const struct st_op *op)
{
    bool more = op->kind == ST_HOLD;
    sqlite3_stmt *q = st->q[more ? Q_HOLD : Q_UNHOLD];
    st__put_hash(q, 1, &op->hash);
    if (more) put_text(q, 2, op->text);
    if (more) sqlite3_bind_int64(q, 3, (int64_t)op->size);
    if (more) sqlite3_bind_int64(q, 4, op->time);
    return finish(q);
}

static int write_no_output(struct store *st, const struct st_op *op)
{
    sqlite3_stmt *q = st->q[Q_NO_OUTPUT];
    sqlite3_bind_int64(q, 1, op->job);
    st__put_hash(q, 2, &op->hash);
    return finish(q);
}

enum { PARTLY = 1, PART = 3000 /* rows in one part of a transaction */ };

static int write_range(struct store *st, const struct st_op *op)
{
    if (op->kind == ST_WANT) {
        sqlite3_stmt *q = st->q[Q_WANT];
        sqlite3_bind_int64(q, 1, op->run);
        sqlite3_bind_int64(q, 2, op->first);
        sqlite3_bind_int64(q, 3, op->last);
        return finish(q);
    }
    for (uint32_t id = op->first + st->row; id <= op->last && st->left; id++, st->row++) {
        if (write_new_job(st, id)) return -1;
        st->left--;
    }
    if (op->first + st->row <= op->last) return PARTLY;
    st->row = 0;
    return 0;
}

static int write_op(struct store *st, const struct st_op *op)
{
    switch ((enum st_kind)op->kind) {
    case ST_JOBS:
    case ST_WANT:
        return write_range(st, op);
    case ST_JOB:
        return write_job(st, op->job);
    case ST_RUN_NEW:
        return write_new_run(st, op);
    case ST_RUN:
        return write_run(st, op->run);
    case ST_BASE:
        return write_base(st, op->first);
    case ST_WORKER:
        return write_worker(st, op->worker);
    case ST_EVENT:
        return write_event(st, op);
    case ST_OUTPUT:
        return write_output(st, op);
    case ST_METRICS:
        return write_metrics(st, op);
    case ST_CHECKPOINT:
        return write_checkpoint(st, op);
    case ST_NO_CHECKPOINT:
        sqlite3_bind_int64(st->q[Q_NO_CHECKPOINT], 1, op->job);
        return finish(st->q[Q_NO_CHECKPOINT]);
    case ST_CURVE:
        return write_curve(st, op);
    case ST_DATASET:
        return write_dataset(st, op);
    case ST_KEY:
    case ST_KEY_REVOKE:
        return write_key(st, op);
    case ST_HOLD:
    case ST_UNHOLD:
        return write_hold(st, op);
    case ST_NO_OUTPUT:
        return write_no_output(st, op);
    case ST_KINDS:
        break;
    }
    return 0;
}

/* ---- noting and committing */

void st__free_ops(struct store *st)
{
    for (uint32_t i = 0; i < st->n_ops; i++) {
        free(st->op[i].text);
        free(st->op[i].text2);
        free(st->op[i].text3);
    }
    st->n_ops = 0;
}

int st_note(struct store *st, struct st_op op)
{
    if (!sc__grow(&st->op, &st->cap_ops, st->n_ops + 1, sizeof *st->op)) {
        free(op.text);
        free(op.text2);
        free(op.text3);
        return CN_ENOMEM;
    }
    if (op.kind == ST_EVENT) op.size = ++st->last_event;
    st->op[st->n_ops++] = op;
    return 0;
}

uint64_t st_next_event(const struct store *st)
{
    return st->last_event + 1;
}

bool st_pending(const struct store *st)
{
    return st->n_ops != 0;
}

static int give_up(struct store *st, struct cn_error *err)
{
    int rc = st_fail(st->db, err, "writing the queue");
    st__note_final(st, err);
    if (!sqlite3_get_autocommit(st->db)) finish(st->q[Q_ROLLBACK]);
    st->written = st->row = 0;
    st->begun = false;
    return rc;
}

/* Operations from where the last part ended: 0 all, PARTLY, negative. */
static int write_part(struct store *st)
{
    int rc = 0;
    for (st->left = PART; st->written < st->n_ops && !rc; st->written += !rc) {
        if (!st->left) return PARTLY;
        rc = write_op(st, &st->op[st->written]);
        st->left -= st->left > 0;
    }
    return rc;
}

int st_commit(struct store *st, struct cn_error *err)
{
    struct cn_error own;
    if (!err) err = &own;
    int rc = st_final(st, err);
    if (rc || !st->n_ops) return rc;
    if (!st->begun) rc = finish(st->q[Q_BEGIN]);
    st->begun = !rc;
    if (!rc) rc = write_part(st);
    if (rc == PARTLY) return ST_PART;
    if (!rc) rc = finish(st->q[Q_COMMIT]);
    if (rc) return give_up(st, err);
    st->begun = false;
    st->written = st->row = 0;
    st__free_ops(st);
    if (st->cap_ops > 65536) { /* a huge submit should not be remembered in memory */
        free(st->op);
        st->op = NULL;
        st->cap_ops = 0;
    }
    return 0;
}

int st__prepare(struct store *st, struct cn_error *err)
{
    for (int i = 0; i < Q_COUNT; i++)
        if (sqlite3_prepare_v3(st->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &st->q[i], NULL))
            return st_fail(st->db, err, sql[i]);
    return 0;
}
