/* coordinator/store_open.c - opening and closing STATE/queue.db, and the thread that moves its
 * write-ahead log. See store.h.
 *
 * After an error of the disk nothing is tried again in this process: the kernel forgets what it could
 * not write, so that a second fsync that succeeds means nothing. The coordinator stops, and the next
 * start moves the whole log into the database before it reads anything. What it then knows is on the
 * disk, whether or not it had been answered.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "coordinator/folder.h"
#include "coordinator/store_private.h"

/* ---- the write-ahead log */

enum { WAL_PAGES = 2000, WAL_LONG = 16000 }; /* move it from 8 MB on; start it anew from 64 MB on */

static int on_wal(void *arg, sqlite3 *db, const char *name, int pages)
{
    struct store *st = arg;
    pthread_mutex_lock(&st->lock);
    st->wal_pages = pages;
    if (pages >= WAL_PAGES) pthread_cond_signal(&st->wake);
    pthread_mutex_unlock(&st->lock);
    return SQLITE_OK;
}

/* PASSIVE never makes the writer wait. Under a load without a pause it never comes to an end
 * either, so a long log gets a RESTART right after: what is then left to move is little. */
static void checkpoint(struct store *st, sqlite3 *db, int pages)
{
    int log = 0, moved = 0;
    int rc = sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, &log, &moved);
    if (rc == SQLITE_OK && pages >= WAL_LONG)
        rc = sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_RESTART, &log, &moved);
    struct cn_error err;
    if (rc != SQLITE_OK && st_fail(db, &err, "moving the queue's log")) st__note_final(st, &err);
}

static void *checkpointer(void *arg)
{
    struct store *st = arg;
    sqlite3 *db;
    if (sqlite3_open_v2(st->path, &db, SQLITE_OPEN_READWRITE, NULL)) {
        cn_err("coordinator", "%s: the log will grow: %s", st->path, sqlite3_errmsg(db));
        sqlite3_close(db);
        return NULL;
    }
    sqlite3_exec(db, "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0", NULL, NULL, NULL);
    pthread_mutex_lock(&st->lock);
    while (!st->stop) {
        if (st->wal_pages < WAL_PAGES) {
            pthread_cond_wait(&st->wake, &st->lock);
            continue;
        }
        int pages = st->wal_pages;
        st->wal_pages = 0;
        pthread_mutex_unlock(&st->lock);
        checkpoint(st, db, pages);
        cn_sleep_ms(50);
        pthread_mutex_lock(&st->lock);
    }
    pthread_mutex_unlock(&st->lock);
    sqlite3_close(db);
    return NULL;
}

/* ---- what is final */

void st__note_final(struct store *st, const struct cn_error *err)
{
    if (err->code != CN_EIO && err->code != CN_ECORRUPT) return;
    pthread_mutex_lock(&st->lock);
    if (!st->final.code) st->final = *err;
    pthread_mutex_unlock(&st->lock);
}

int st_final(struct store *st, struct cn_error *err)
{
    pthread_mutex_lock(&st->lock);
    int code = st->final.code;
    if (code && err) *err = st->final;
    pthread_mutex_unlock(&st->lock);
    return code;
}

/* ---- opening */

/* Made here, so that its mode is not the umask's; SQLite gives its log the same. */
static int make_file(const char *path, struct cn_error *err)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, fo_file_mode());
    if (fd < 0) return cn_fail_errno(err, "%s", path);
    close(fd);
    return 0;
}

int st_quick_check(sqlite3 *db, const char *path, struct cn_error *err)
{
    sqlite3_stmt *q;
    if (sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &q, NULL))
        return st_fail(db, err, path);
    int rc = 0, got = sqlite3_step(q);
    const char *line = got == SQLITE_ROW ? (const char *)sqlite3_column_text(q, 0) : NULL;
    if (got != SQLITE_ROW)
        rc = st_fail(db, err, path);
    else if (!line || strcmp(line, "ok"))
        rc = cn_fail(err, CN_ECORRUPT,
                     "%s is damaged (%.200s); restore a backup of the state folder", path,
                     line ? line : "?");
    sqlite3_finalize(q);
    return rc;
}

/* What the last coordinator left in the log is written anew: after an error it may be in memory only. */
static int settle_log(struct store *st, struct cn_error *err)
{
    int rc = sqlite3_wal_checkpoint_v2(st->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    return rc == SQLITE_OK || rc == SQLITE_BUSY ? 0 : st_fail(st->db, err, st->path);
}

static int open_db(struct store *st, bool doubt, struct cn_error *err)
{
    int rc = make_file(st->path, err);
    if (rc) return rc;
    if (sqlite3_open_v2(st->path, &st->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL))
        return st_fail(st->db, err, st->path);
    sqlite3_busy_timeout(
        st->db,
        500); /* someone else's lock may delay the loop by so much, then it goes on without */
    if (sqlite3_exec(
            st->db,
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0;"
            "PRAGMA cache_size=-8000; PRAGMA temp_store=MEMORY",
            NULL, NULL, NULL))
        return st_fail(st->db, err, st->path);
    rc = settle_log(st, err);
    if (!rc && doubt) rc = st_quick_check(st->db, st->path, err);
    return rc ? rc : st_migrate(st->db, st->path, err);
}

int st_open(struct store **out, const char *state_dir, bool doubt, struct sched *s,
            struct st_state *state, struct cn_error *err)
{
    *out = NULL;
    struct store *st = calloc(1, sizeof *st);
    if (!st) return cn_fail(err, CN_ENOMEM, "store: out of memory");
    st->s = s;
    st->state = state;
    snprintf(st->path, sizeof st->path, "%s/queue.db", state_dir);
    pthread_mutex_init(&st->lock, NULL);
    pthread_cond_init(&st->wake, NULL);
    int rc = open_db(st, doubt, err);
    if (!rc) rc = st_load(st->db, s, state, err);
    if (!rc) rc = st__prepare(st, err);
    if (!rc) {
        st->last_event = state->last_event;
        sqlite3_wal_hook(st->db, on_wal, st);
        st->threaded = !pthread_create(&st->thread, NULL, checkpointer, st);
        if (!st->threaded) rc = cn_fail(err, CN_ENOMEM, "store: no thread");
    }
    if (rc) {
        st_close(st);
        return rc;
    }
    *out = st;
    return 0;
}

void st_close(struct store *st)
{
    if (!st) return;
    if (st->threaded) {
        pthread_mutex_lock(&st->lock);
        st->stop = true;
        pthread_cond_signal(&st->wake);
        pthread_mutex_unlock(&st->lock);
        pthread_join(st->thread, NULL);
    }
    for (int i = 0; i < Q_COUNT; i++) sqlite3_finalize(st->q[i]);
    sqlite3_close(st->db);
    st__free_ops(st);
    free(st->op);
    pthread_cond_destroy(&st->wake);
    pthread_mutex_destroy(&st->lock);
    free(st);
}
