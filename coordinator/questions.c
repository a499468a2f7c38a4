/* coordinator/questions.c - what the store can be asked: everything committed. See store.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/store_private.h"

static void read_hash(sqlite3_stmt *q, int col, struct cn_hash *h)
{
    memset(h, 0, sizeof *h);
    if (sqlite3_column_bytes(q, col) == CN_HASH_BYTES)
        memcpy(h->b, sqlite3_column_blob(q, col), CN_HASH_BYTES);
}

static const char *column(sqlite3_stmt *q, int col)
{
    const char *t = (const char *)sqlite3_column_text(q, col);
    return t ? t : "";
}

bool st__row(struct store *st, sqlite3_stmt *q)
{
    int rc = sqlite3_step(q);
    struct cn_error err;
    if (rc != SQLITE_ROW && rc != SQLITE_DONE && st_fail(st->db, &err, "reading the queue"))
        st__note_final(st, &err);
    return rc == SQLITE_ROW;
}

int st_outputs(struct store *st, uint32_t job, struct st_blob *out, int cap)
{
    sqlite3_stmt *q = st->q[Q_GET_OUTPUTS];
    sqlite3_bind_int64(q, 1, job);
    int n = 0;
    while (n < cap && st__row(st, q)) {
        snprintf(out[n].role, sizeof out[n].role, "%s", column(q, 0));
        read_hash(q, 1, &out[n].hash);
        out[n++].size = (uint64_t)sqlite3_column_int64(q, 2);
    }
    sqlite3_reset(q);
    return n;
}

int st_checkpoint(struct store *st, uint32_t job, struct st_blob *out, uint32_t *epoch)
{
    sqlite3_stmt *q = st->q[Q_GET_CHECKPOINT];
    sqlite3_bind_int64(q, 1, job);
    int found = st__row(st, q);
    if (found) {
        strcpy(out->role, "checkpoint");
        read_hash(q, 0, &out->hash);
        out->size = (uint64_t)sqlite3_column_int64(q, 1);
        *epoch = (uint32_t)sqlite3_column_int64(q, 2);
    }
    sqlite3_reset(q);
    return found;
}

static char *one_text(struct store *st, sqlite3_stmt *q, uint32_t id, int64_t *second)
{
    sqlite3_bind_int64(q, 1, id);
    char *text = NULL;
    if (st__row(st, q)) {
        text = strdup(column(q, 0));
        if (second) *second = sqlite3_column_int64(q, 1);
    }
    sqlite3_reset(q);
    return text;
}

char *st_metrics(struct store *st, uint32_t job, int64_t *wall_ms)
{
    return one_text(st, st->q[Q_GET_METRICS], job, wall_ms);
}

char *st_grid(struct store *st, uint32_t run)
{
    return one_text(st, st->q[Q_GET_GRID], run, NULL);
}

bool st_blob_needed(struct store *st, const struct cn_hash *hash)
{
    sqlite3_stmt *q = st->q[Q_BLOB_NEEDED];
    st__put_hash(q, 1, hash);
    bool needed = st__row(st, q);
    sqlite3_reset(q);
    return needed;
}

int st_events(struct store *st, uint32_t run, uint32_t job, int limit,
              int (*each)(void *arg, const struct st_event *e), void *arg)
{
    sqlite3_stmt *q = st->q[job ? Q_JOB_EVENTS : Q_RUN_EVENTS];
    sqlite3_bind_int64(q, job ? 1 : 2, job ? job : run);
    sqlite3_bind_int(q, 3, limit);
    int rc = 0;
    while (!rc && st__row(st, q)) {
        struct st_event e = {.seq = (uint64_t)sqlite3_column_int64(q, 0),
                             .time = sqlite3_column_int64(q, 1),
                             .why = sqlite3_column_int(q, 2),
                             .state = sqlite3_column_int(q, 3),
                             .run = (uint32_t)sqlite3_column_int64(q, 4),
                             .job = (uint32_t)sqlite3_column_int64(q, 5),
                             .attempt = (uint32_t)sqlite3_column_int64(q, 6),
                             .worker = column(q, 7),
                             .text = column(q, 8)};
        rc = each(arg, &e);
    }
    sqlite3_reset(q);
    return rc;
}

int st_curve(struct store *st, uint32_t job, int (*each)(void *arg, const struct st_point *p),
             void *arg)
{
    sqlite3_stmt *q = st->q[Q_GET_CURVE];
    sqlite3_bind_int64(q, 1, job);
    int rc = 0;
    while (!rc && st__row(st, q)) {
        struct st_point p = {.attempt = (uint32_t)sqlite3_column_int64(q, 0),
                             .epoch = (uint32_t)sqlite3_column_int64(q, 1)};
        for (int i = 0; i < 5; i++)
            p.f[i] = sqlite3_column_type(q, 2 + i) == SQLITE_NULL ? 0.0 / 0.0
                                                                  : sqlite3_column_double(q, 2 + i);
        rc = each(arg, &p);
    }
    sqlite3_reset(q);
    return rc;
}

static int take_blobs(struct store *st, sqlite3_stmt *q, struct st_blob *out, int cap)
{
    int n = 0;
    while (n < cap && st__row(st, q)) {
        *out[n].role = 0;
        read_hash(q, 0, &out[n].hash);
        out[n++].size = (uint64_t)sqlite3_column_int64(q, 1);
    }
    sqlite3_reset(q);
    return n;
}

int st_next_blobs(struct store *st, const struct cn_hash *after, struct st_blob *out, int cap)
{
    sqlite3_stmt *q = st->q[Q_NEXT_BLOBS];
    st__put_hash(q, 1, after);
    sqlite3_bind_int(q, 2, cap);
    return take_blobs(st, q, out, cap);
}

int st_orphans(struct store *st, int64_t before, struct st_blob *out, int cap)
{
    sqlite3_stmt *q = st->q[Q_ORPHANS];
    sqlite3_bind_int64(q, 1, before);
    sqlite3_bind_int(q, 2, cap);
    return take_blobs(st, q, out, cap);
}

int st_jobs_of_blob(struct store *st, const struct cn_hash *hash,
                    int (*each)(void *arg, uint32_t job, bool checkpoint, uint64_t size), void *arg)
{
    sqlite3_stmt *q = st->q[Q_JOBS_OF_BLOB];
    st__put_hash(q, 1, hash);
    int rc = 0;
    while (!rc && st__row(st, q))
        rc = each(arg, (uint32_t)sqlite3_column_int64(q, 0), sqlite3_column_int(q, 1) != 0,
                  (uint64_t)sqlite3_column_int64(q, 2));
    sqlite3_reset(q);
    return rc;
}

bool st_held(struct store *st, const struct cn_hash *hash, char user[PR_MAX_NAME + 1],
             uint64_t *size)
{
    sqlite3_stmt *q = st->q[Q_HELD];
    st__put_hash(q, 1, hash);
    bool held = st__row(st, q);
    if (held) snprintf(user, PR_MAX_NAME + 1, "%s", column(q, 0));
    if (held) *size = (uint64_t)sqlite3_column_int64(q, 1);
    sqlite3_reset(q);
    return held;
}

int st_each_size(struct store *st,
                 int (*each)(void *arg, const char *user, uint32_t job, uint64_t size), void *arg)
{
    sqlite3_stmt *q;
    int rc = 0;
    if (sqlite3_prepare_v2(
            st->db,
            "SELECT user, 0, size FROM holding UNION ALL SELECT NULL, job, size FROM "
            "output UNION ALL SELECT NULL, job, size FROM checkpoint",
            -1, &q, NULL))
        return CN_EIO;
    while (!rc && st__row(st, q))
        rc = each(arg, (const char *)sqlite3_column_text(q, 0),
                  (uint32_t)sqlite3_column_int64(q, 1), (uint64_t)sqlite3_column_int64(q, 2));
    sqlite3_finalize(q);
    return rc;
}
