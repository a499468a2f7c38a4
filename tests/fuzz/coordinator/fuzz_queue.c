/* Fuzz target of the rows of queue.db: a queue of every kind of job (the stores' v2.sql) with some cells replaced, rows deleted or
 * doubled, as a disk, a hand or a stranger might. Opening it ends in tables that the scheduler can work with, or in a complaint;
 * never in a crash, a hang or a leak. Input: edits of 4 bytes (table, row, column, what) and what they need. */
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "coordinator/store.h"

#define MAX_EDITS 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char folder[64], file[96];
static char *whole; /* the queue.db that every run starts from */
static size_t n_whole;

static void must(int ok)
{
    if (!ok) __builtin_trap();
}

static void clean_up(void)
{
    cn_rmtree(folder, NULL);
    free(whole);
}

/* The template, once; in memory where the system has such a folder. */
static void prepare(void)
{
    char *sql;
    size_t n;
    sqlite3 *db;
    cn_log_level(CN_SILENT);
    snprintf(folder, sizeof folder, "%s/fuzz-queue-%ld",
             cn_dir_exists("/dev/shm") ? "/dev/shm" : "/tmp", (long)getpid());
    snprintf(file, sizeof file, "%s/queue.db", folder);
    must(!cn_mkdirs(folder, NULL));
    must(!cn_file_read(CINCH_STORES "/v2.sql", 1 << 20, &sql, &n, NULL));
    must(sqlite3_open(file, &db) == SQLITE_OK &&
         sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK);
    sqlite3_close(db);
    free(sql);
    must(!cn_file_read(file, 8 << 20, &whole, &n_whole, NULL));
    atexit(clean_up);
}

static void start_over(void)
{
    static const char *const tail[] = {"", "-wal", "-shm"};
    char path[128];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s%s", file, tail[i]);
        unlink(path);
    }
    FILE *f = fopen(file, "wb");
    must(f && fwrite(whole, 1, n_whole, f) == n_whole && !fclose(f));
}

struct input {
    const uint8_t *at;
    size_t left;
};

static uint64_t take(struct input *in, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n && in->left; i++, in->left--) v |= (uint64_t)*in->at++ << 8 * i;
    return v;
}

/* A value of any type; texts and blobs of up to 63 bytes of the input. */
static void bind_value(sqlite3_stmt *q, int what, struct input *in)
{
    size_t n = (size_t)take(in, 1) & 63;
    if (n > in->left) n = in->left;
    switch (what % 6) {
    case 0:
        sqlite3_bind_null(q, 1);
        break;
    case 1:
        sqlite3_bind_int64(q, 1, (int64_t)take(in, 8));
        break;
    case 2:
        sqlite3_bind_int64(q, 1, (int8_t)take(in, 1));
        break;
    case 3:
        sqlite3_bind_double(q, 1, (double)(int32_t)take(in, 4) * 1e30);
        break;
    case 4:
        sqlite3_bind_text(q, 1, (const char *)in->at, (int)n, SQLITE_TRANSIENT);
        break;
    default:
        sqlite3_bind_blob(q, 1, in->at, (int)n, SQLITE_TRANSIENT);
    }
}

/* The first primary key column of a table finds its row, whether it has a rowid or not. */
static const struct table {
    const char *name, *key, *column[18];
    int n;
} table[] = {
    {"base", "id", {"id", "hash", "body", "gpu_bytes", "allocators", "fingerprint"}, 6},
    {"checkpoint", "job", {"job", "hash", "size", "epoch"}, 4},
    {"curve", "job", {"job", "attempt", "epoch", "train_loss", "val_score", "lr"}, 6},
    {"dataset", "name", {"name", "fingerprint", "hash", "size", "info"}, 5},
    {"event", "seq", {"seq", "time", "why", "state", "run", "job", "attempt", "worker", "text"}, 9},
    {"job",
     "id",
     {"id", "key", "base", "kind", "distilled", "seed", "rounds", "round", "keep", "norm", "nonce",
      "parent0", "parent1", "state", "attempt", "crashes", "lost", "worker"},
     18},
    {"key", "public", {"public", "name", "role", "created", "revoked"}, 5},
    {"metrics", "job", {"job", "json", "wall_ms", "worker", "ended"}, 5},
    {"output", "job", {"job", "role", "hash", "size"}, 4},
    {"run",
     "id",
     {"id", "nonce", "name", "user", "priority", "paused", "cancelled", "time_limit", "created",
      "dataset", "fingerprint", "cells", "fresh", "grid"},
     14},
    {"want", "run", {"run", "first", "last"}, 3},
    {"worker", "id", {"id", "instance", "name", "host"}, 4},
};

static void edit(sqlite3 *db, struct input *in)
{
    const struct table *t = &table[take(in, 1) % (sizeof table / sizeof *table)];
    unsigned row = (unsigned)take(in, 1), column = (unsigned)take(in, 1),
             what = (unsigned)take(in, 1);
    char sql[256];
    if (what < 16)
        snprintf(sql, sizeof sql, "DELETE FROM %s WHERE %s = (SELECT %s FROM %s LIMIT 1 OFFSET %u)",
                 t->name, t->key, t->key, t->name, row);
    else
        snprintf(sql, sizeof sql,
                 "UPDATE OR IGNORE %s SET %s = ?1 WHERE %s = (SELECT %s FROM %s LIMIT 1 OFFSET %u)",
                 t->name, t->column[column % (unsigned)t->n], t->key, t->key, t->name, row);
    sqlite3_stmt *q;
    if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) != SQLITE_OK) return;
    if (what >= 16) bind_value(q, (int)what, in);
    sqlite3_step(q);
    sqlite3_finalize(q);
}

static int any_event(void *arg, const struct st_event *e)
{
    *(size_t *)arg += strlen(e->text) + strlen(e->worker);
    return 0;
}

/* What a coordinator does first with what it loaded. */
static void work(struct store *st, struct sched *s)
{
    char words[1000];
    size_t seen = 0;
    sc_on_restart(s, 1000);
    for (int64_t now = 1000; now < 200000; now += 40000) {
        sc_on_tick(s, now);
        sc_assign(s, now);
    }
    for (uint32_t j = 1; j < s->n_jobs; j++) {
        must(s->job[j].state < SC_STATES);
        sc_explain(s, j, 200000, words, sizeof words);
        st_events(st, 0, j, 50, any_event, &seen);
        free(st_metrics(st, j, NULL));
    }
    for (uint32_t r = 1; r < s->n_runs; r++) {
        sc_cancel_run(s, r, 200000);
        sc_retry_run(s, r, 200000);
        free(st_grid(st, r));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct input in = {data, n};
    struct cn_error err = {0};
    struct store *st = NULL;
    struct st_state state = {0};
    sqlite3 *db;
    if (!whole) prepare();
    start_over();
    must(sqlite3_open(file, &db) == SQLITE_OK);
    sqlite3_exec(db, "PRAGMA synchronous=OFF; BEGIN", NULL, NULL, NULL);
    for (int i = 0; i < MAX_EDITS && in.left; i++) edit(db, &in);
    sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    sqlite3_close(db);
    struct sched *s = sc_create(NULL);
    int rc = s ? st_open(&st, folder, true, s, &state, &err) : 0;
    if (rc) must(rc == err.code && *err.text && cn_text_clean(err.text, sizeof err.text));
    if (s && !rc) work(st, s);
    st_close(st);
    st_state_clear(&state);
    sc_destroy(s);
    return 0;
}
