/* coordinator/admin.c - see admin.h. */
#include "coordinator/admin.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "coordinator/sched.h"
#include "coordinator/store.h"

/* Opened read-only, beside whoever writes. */
static int open_db(const char *state, sqlite3 **db, struct cn_error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/queue.db", state);
    *db = NULL;
    if (!cn_file_exists(path))
        return cn_fail(err, CN_ENOTFOUND,
                       "%s: no queue here; is that a coordinator's state folder?", path);
    if (sqlite3_open_v2(path, db, SQLITE_OPEN_READWRITE, NULL)) return st_fail(*db, err, path);
    sqlite3_busy_timeout(*db, 10000);
    return 0;
}

/* ---- check */

struct checking {
    const char *state;
    FILE *out;
    int bad, blobs;
};

static int check_integrity(struct checking *k, sqlite3 *db, struct cn_error *err)
{
    sqlite3_stmt *q;
    if (sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &q, NULL))
        return st_fail(db, err, "integrity check");
    while (sqlite3_step(q) == SQLITE_ROW) {
        const char *line = (const char *)sqlite3_column_text(q, 0);
        if (!line || !strcmp(line, "ok")) continue;
        fprintf(k->out, "queue.db: %s\n", line);
        k->bad++;
    }
    sqlite3_finalize(q);
    return 0;
}

static void check_load(struct checking *k, sqlite3 *db)
{
    struct cn_error err;
    struct st_state state = {0};
    struct sched *s = sc_create(NULL);
    if (!s) return;
    if (st_load(db, s, &state, &err)) {
        fprintf(k->out, "%s\n", err.text);
        k->bad++;
    } else {
        fprintf(k->out, "queue: %u runs, %u jobs\n", s->n_runs - 1, s->n_jobs - 1);
        if (state.set_aside)
            fprintf(k->out, "queue: %u rows make no sense and are set aside\n", state.set_aside);
        k->bad += (int)state.set_aside;
    }
    st_state_clear(&state);
    sc_destroy(s);
}

static void check_blob(struct checking *k, const struct cn_hash *want, int64_t size)
{
    char hex[CN_HASH_HEX], path[PATH_MAX];
    struct cn_hash got;
    struct stat st;
    cn_hash_hex(want, hex);
    snprintf(path, sizeof path, "%s/blobs/%.2s/%s", k->state, hex, hex);
    k->blobs++;
    if (stat(path, &st))
        fprintf(k->out, "blob %s: missing\n", hex);
    else if (st.st_size != size)
        fprintf(k->out, "blob %s: %lld bytes instead of %lld\n", hex, (long long)st.st_size,
                (long long)size);
    else if (cn_hash_file(path, &got, NULL) || memcmp(&got, want, sizeof got))
        fprintf(k->out, "blob %s: its content has changed\n", hex);
    else
        return;
    k->bad++;
}

static const char every_blob[] =
    "SELECT hash, size FROM output UNION SELECT hash, size FROM checkpoint UNION"
    " SELECT hash, size FROM dataset WHERE size > 0";

static int check_blobs(struct checking *k, sqlite3 *db, struct cn_error *err)
{
    sqlite3_stmt *q;
    if (sqlite3_prepare_v2(db, every_blob, -1, &q, NULL)) return st_fail(db, err, "reading blobs");
    while (sqlite3_step(q) == SQLITE_ROW) {
        struct cn_hash h;
        if (sqlite3_column_bytes(q, 0) != CN_HASH_BYTES) continue;
        memcpy(h.b, sqlite3_column_blob(q, 0), CN_HASH_BYTES);
        check_blob(k, &h, sqlite3_column_int64(q, 1));
    }
    sqlite3_finalize(q);
    return 0;
}

int ad_check(const char *state, FILE *out, struct cn_error *err)
{
    struct checking k = {state, out, 0, 0};
    sqlite3 *db;
    int rc = open_db(state, &db, err);
    if (!rc) rc = check_integrity(&k, db, err);
    if (!rc) check_load(&k, db);
    if (!rc) rc = check_blobs(&k, db, err);
    sqlite3_close(db);
    if (rc) return rc;
    fprintf(out, "blobs: %d checked\n", k.blobs);
    if (!k.bad) return 0;
    return cn_fail(err, CN_ECORRUPT, "%d thing%s wrong in %s (listed above)", k.bad,
                   k.bad == 1 ? " is" : "s are", state);
}

/* ---- gc */

struct collecting {
    sqlite3_stmt *needed;
    int removed;
    long long bytes;
};

static bool is_needed(struct collecting *g, const char *name)
{
    struct cn_hash h;
    if (cn_hash_parse(name, &h)) return false; /* not one of ours: a leftover */
    sqlite3_bind_blob(g->needed, 1, h.b, CN_HASH_BYTES, SQLITE_STATIC);
    bool needed = sqlite3_step(g->needed) == SQLITE_ROW;
    sqlite3_reset(g->needed);
    return needed;
}

/* Removes what is not needed from one folder of files. */
static void sweep(struct collecting *g, const char *dir, bool all)
{
    DIR *d = opendir(dir);
    if (!d) return;
    char path[PATH_MAX];
    struct stat st;
    for (struct dirent *e; (e = readdir(d));) {
        if (*e->d_name == '.' || (!all && is_needed(g, e->d_name))) continue;
        if (snprintf(path, sizeof path, "%s/%s", dir, e->d_name) >= (int)sizeof path) continue;
        if (lstat(path, &st) || !S_ISREG(st.st_mode) || unlink(path)) continue;
        g->removed++;
        g->bytes += st.st_size;
    }
    closedir(d);
}

static int lock_state(const char *state, int *fd, struct cn_error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/lock", state);
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd < 0) return cn_fail_errno(err, "%s", path);
    if (!flock(*fd, LOCK_EX | LOCK_NB)) return 0;
    close(*fd);
    *fd = -1;
    return cn_fail(err, CN_EBUSY, "%s: a coordinator works on this folder; stop it first", state);
}

int ad_gc(const char *state, FILE *out, struct cn_error *err)
{
    struct collecting g = {0};
    sqlite3 *db;
    int fd, rc = open_db(state, &db, err);
    if (rc) return rc;
    rc = lock_state(state, &fd, err);
    if (!rc &&
        sqlite3_prepare_v2(
            db,
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM output WHERE hash=?1) OR EXISTS (SELECT 1 FROM"
            " checkpoint WHERE hash=?1) OR EXISTS (SELECT 1 FROM dataset WHERE hash=?1)",
            -1, &g.needed, NULL))
        rc = st_fail(db, err, "gc");
    char path[PATH_MAX];
    for (int i = 0; i < 256 && !rc; i++) {
        snprintf(path, sizeof path, "%s/blobs/%02x", state, i);
        sweep(&g, path, false);
    }
    snprintf(path, sizeof path, "%s/partial", state);
    if (!rc) sweep(&g, path, true);
    sqlite3_finalize(g.needed);
    sqlite3_close(db);
    if (fd >= 0) close(fd);
    if (!rc) fprintf(out, "removed %d files, %lld bytes\n", g.removed, g.bytes);
    return rc;
}

/* ---- backup */

static int copy_file(const char *from, const char *to, struct cn_error *err)
{
    char *text;
    size_t n;
    int rc = cn_file_read(from, 1 << 20, &text, &n, err);
    if (rc) return rc;
    mode_t mask = umask(0077);
    rc = cn_file_write(to, text, n, err);
    umask(mask);
    free(text);
    return rc;
}

static int copy_blob(const char *from, const char *to, struct cn_error *err)
{
    if (!link(from, to) || errno == EEXIST)
        return 0; /* blobs never change: a second name is a copy */
    struct cn_map m;
    int rc = cn_map_open(&m, from, err);
    if (rc) return rc;
    rc = cn_file_write(to, m.data, m.n, err);
    cn_map_close(&m);
    return rc;
}

static int copy_blobs(const char *state, const char *to, sqlite3 *copy, struct cn_error *err)
{
    sqlite3_stmt *q;
    if (sqlite3_prepare_v2(copy, every_blob, -1, &q, NULL))
        return st_fail(copy, err, "reading blobs");
    int rc = 0;
    while (!rc && sqlite3_step(q) == SQLITE_ROW) {
        struct cn_hash h;
        char hex[CN_HASH_HEX], from[PATH_MAX], dest[PATH_MAX];
        if (sqlite3_column_bytes(q, 0) != CN_HASH_BYTES) continue;
        memcpy(h.b, sqlite3_column_blob(q, 0), CN_HASH_BYTES);
        cn_hash_hex(&h, hex);
        snprintf(dest, sizeof dest, "%s/blobs/%.2s", to, hex);
        rc = cn_mkdirs(dest, err);
        snprintf(from, sizeof from, "%s/blobs/%.2s/%s", state, hex, hex);
        snprintf(dest, sizeof dest, "%s/blobs/%.2s/%s", to, hex, hex);
        /* a checkpoint may have been replaced since the database was copied: the job then starts
         * over */
        if (!rc && cn_file_exists(from)) rc = copy_blob(from, dest, err);
    }
    sqlite3_finalize(q);
    return rc;
}

static int copy_db(sqlite3 *from, sqlite3 *to, struct cn_error *err)
{
    sqlite3_backup *b = sqlite3_backup_init(to, "main", from, "main");
    if (!b) return st_fail(to, err, "backup");
    int got;
    do {
        got = sqlite3_backup_step(b, 1000);
        if (got == SQLITE_BUSY || got == SQLITE_LOCKED) sqlite3_sleep(20);
    } while (got == SQLITE_OK || got == SQLITE_BUSY || got == SQLITE_LOCKED);
    sqlite3_backup_finish(b);
    return got == SQLITE_DONE ? 0 : st_fail(to, err, "backup");
}

int ad_backup(const char *state, const char *to, struct cn_error *err)
{
    char path[PATH_MAX], dest[PATH_MAX];
    sqlite3 *db, *copy = NULL;
    snprintf(path, sizeof path, "%s/queue.db", to);
    if (cn_file_exists(path))
        return cn_fail(err, CN_EEXISTS, "%s: there is a state folder already; give a new one", to);
    int rc = open_db(state, &db, err);
    if (!rc) rc = cn_mkdirs(to, err);
    if (!rc && sqlite3_open(path, &copy)) rc = st_fail(copy, err, path);
    if (!rc) rc = copy_db(db, copy, err);
    if (!rc) rc = copy_blobs(state, to, copy, err);
    sqlite3_close(copy);
    sqlite3_close(db);
    static const char *const also[] = {"server.key", "http.token"};
    for (int i = 0; i < 2 && !rc; i++) {
        snprintf(path, sizeof path, "%s/%s", state, also[i]);
        snprintf(dest, sizeof dest, "%s/%s", to, also[i]);
        if (cn_file_exists(path)) rc = copy_file(path, dest, err);
    }
    return rc;
}
