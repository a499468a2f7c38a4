/* coordinator/migrate.c - the schema of STATE/queue.db, as the steps that lead from each version to
 * the next.
 *
 * PRAGMA user_version holds the version. A step is never changed once released:
 * tests/integration/coordinator/stores keeps a database of each version.
 */
#include <sqlite3.h>
#include <stdio.h>

#include "base/log.h"
#include "coordinator/store.h"

static const char *const step[ST_SCHEMA] = {
    /* 0 → 1 */
    "CREATE TABLE run (id INTEGER PRIMARY KEY, nonce BLOB, name TEXT, user TEXT, priority INT, "
    "paused INT, cancelled INT,"
    "  time_limit INT, created INT, dataset TEXT, fingerprint BLOB, cells INT, fresh INT, grid "
    "TEXT);"
    /* what thousands of jobs share; allocators: names joined by commas */
    "CREATE TABLE base (id INTEGER PRIMARY KEY, hash BLOB, body BLOB, gpu_bytes INT, allocators "
    "TEXT, fingerprint BLOB);"
    "CREATE TABLE job (id INTEGER PRIMARY KEY, key BLOB, base INT, kind INT, distilled INT, seed "
    "INT, rounds INT,"
    "  round INT, keep REAL, norm TEXT, nonce INT, parent0 INT, parent1 INT, state INT, attempt "
    "INT, crashes INT,"
    "  lost INT, worker INT);"
    /* jobs first..last are wanted by run */
    "CREATE TABLE want (run INT, first INT, last INT);"
    "CREATE TABLE worker (id INTEGER PRIMARY KEY, instance BLOB, name TEXT, host TEXT);"
    "CREATE TABLE output (job INT, role TEXT, hash BLOB, size INT, PRIMARY KEY (job, role)) "
    "WITHOUT ROWID;"
    "CREATE INDEX output_hash ON output (hash);"
    "CREATE TABLE metrics (job INTEGER PRIMARY KEY, json TEXT, wall_ms INT, worker TEXT, ended "
    "INT);"
    "CREATE TABLE checkpoint (job INTEGER PRIMARY KEY, hash BLOB, size INT, epoch INT);"
    "CREATE TABLE event (seq INTEGER PRIMARY KEY, time INT, why INT, state INT, run INT, job INT, "
    "attempt INT,"
    "  worker TEXT, text TEXT);"
    "CREATE TABLE dataset (name TEXT PRIMARY KEY, fingerprint BLOB, hash BLOB, size INT, info "
    "TEXT);"
    "CREATE TABLE key (public TEXT PRIMARY KEY, name TEXT, role TEXT, created INT, revoked INT);",
    /* 1 → 2: training curves; a job's own log without reading everyone's */
    "CREATE TABLE curve (job INT, attempt INT, epoch INT, train_loss REAL, val_loss REAL, "
    "val_score REAL, lr REAL,"
    "  records_per_s REAL, PRIMARY KEY (job, epoch)) WITHOUT ROWID;"
    "CREATE INDEX event_job ON event (job);",
    /* 2 → 3: whose a dataset is */
    "ALTER TABLE dataset ADD COLUMN owner TEXT NOT NULL DEFAULT '';",
    /* 3 → 4: who sent a blob, for the quota. What was there before counts by its jobs alone */
    "CREATE TABLE holding (hash BLOB PRIMARY KEY, user TEXT NOT NULL, size INT, time INT) WITHOUT "
    "ROWID;"
    "CREATE INDEX checkpoint_hash ON checkpoint (hash);",
};

static int version_of(sqlite3 *db)
{
    sqlite3_stmt *q;
    if (sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &q, NULL)) return -1;
    int v = sqlite3_step(q) == SQLITE_ROW ? sqlite3_column_int(q, 0) : -1;
    sqlite3_finalize(q);
    return v;
}

int st_migrate(sqlite3 *db, const char *path, struct cn_error *err)
{
    int have = version_of(db);
    if (have < 0) return st_fail(db, err, path);
    if (have > ST_SCHEMA)
        return cn_fail(err, CN_EVERSION,
                       "%s: made by a newer cinch (schema %d, this one knows %d); use that one",
                       path, have, ST_SCHEMA);
    if (have && have < ST_SCHEMA)
        cn_info("coordinator", "%s: schema %d becomes %d", path, have, ST_SCHEMA);
    for (; have < ST_SCHEMA; have++) {
        char pragma[48];
        snprintf(pragma, sizeof pragma, "PRAGMA user_version = %d", have + 1);
        if (sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) ||
            sqlite3_exec(db, step[have], NULL, NULL, NULL) ||
            sqlite3_exec(db, pragma, NULL, NULL, NULL) ||
            sqlite3_exec(db, "COMMIT", NULL, NULL, NULL)) {
            int rc = st_fail(db, err, path);
            sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
            return rc;
        }
    }
    return 0;
}
