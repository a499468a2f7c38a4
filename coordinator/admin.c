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
#include "coordinator/admin_private.h"
#include "coordinator/folder.h"
#include "coordinator/sched.h"
#include "coordinator/store.h"

/* Beside whoever writes. */
int ad__open_db(const char *state, sqlite3 **db, struct cn_error *err)
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
    int got;
    while ((got = sqlite3_step(q)) == SQLITE_ROW) {
        const char *line = (const char *)sqlite3_column_text(q, 0);
        if (!line || !strcmp(line, "ok")) continue;
        fprintf(k->out, "queue.db: %s\n", line);
        k->bad++;
    }
    int rc = got == SQLITE_DONE ? 0 : st_fail(db, err, "integrity check");
    sqlite3_finalize(q);
    return rc;
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

/* What does not fit its hash is put aside: the coordinator then knows it for missing, and has it made
 * again. */
static void put_aside(struct checking *k, const char *path, const char *hex)
{
    char to[PATH_MAX];
    struct cn_error err;
    snprintf(to, sizeof to, "%s/quarantine", k->state);
    fo_make(to, &err);
    snprintf(to, sizeof to, "%s/quarantine/%s", k->state, hex);
    if (rename(path, to))
        fprintf(k->out, "; it cannot be put aside: %s\n", strerror(errno));
    else
        fprintf(k->out, "; put aside as %s\n", to);
}

static void check_blob(struct checking *k, const struct cn_hash *want, int64_t size,
                       const char *what)
{
    char hex[CN_HASH_HEX], path[PATH_MAX];
    struct cn_hash got;
    struct stat st;
    cn_hash_hex(want, hex);
    snprintf(path, sizeof path, "%s/blobs/%.2s/%s", k->state, hex, hex);
    k->blobs++;
    if (lstat(path, &st)) {
        fprintf(k->out, "blob %s (%s): missing\n", hex, what);
        k->bad++;
        return;
    }
    struct cn_error err = {0};
    bool readable = !cn_hash_file(path, &got, &err);
    if (readable && st.st_size == size && !memcmp(&got, want, sizeof got)) return;
    k->bad++;
    if (!readable)
        fprintf(k->out, "blob %s (%s): %s", hex, what, err.text);
    else if (st.st_size != size)
        fprintf(k->out, "blob %s (%s): %lld bytes instead of %lld", hex, what,
                (long long)st.st_size, (long long)size);
    else
        fprintf(k->out, "blob %s (%s): its content has changed", hex, what);
    if (readable || err.code == CN_EIO)
        put_aside(k, path, hex);
    else
        fprintf(k->out, "\n");
}

int ad__each_blob(sqlite3 *db,
                  int (*each)(void *arg, const struct cn_hash *hash, int64_t size, const char *what,
                              struct cn_error *err),
                  void *arg, struct cn_error *err)
{
    sqlite3_stmt *q;
    if (sqlite3_prepare_v2(db,
                           "SELECT hash, size, 'the ' || role || ' of j' || job FROM output UNION "
                           "ALL SELECT hash, size, 'the checkpoint of j' || job FROM checkpoint "
                           "UNION ALL SELECT hash, size, 'dataset ' || name FROM dataset WHERE "
                           "size > 0 ORDER BY 1",
                           -1, &q, NULL))
        return st_fail(db, err, "reading blobs");
    struct cn_hash h, last = {0};
    int rc = 0, got = SQLITE_DONE;
    while (!rc && (got = sqlite3_step(q)) == SQLITE_ROW) {
        if (sqlite3_column_bytes(q, 0) != CN_HASH_BYTES) continue;
        memcpy(h.b, sqlite3_column_blob(q, 0), CN_HASH_BYTES);
        if (!memcmp(&h, &last, sizeof h)) continue; /* of several: the first one's name will do */
        last = h;
        const char *what = (const char *)sqlite3_column_text(q, 2);
        rc = each(arg, &h, sqlite3_column_int64(q, 1), what ? what : "?", err);
    }
    if (!rc && got != SQLITE_DONE) rc = st_fail(db, err, "reading blobs");
    sqlite3_finalize(q);
    return rc;
}

static int check_each(void *arg, const struct cn_hash *hash, int64_t size, const char *what,
                      struct cn_error *err)
{
    check_blob(arg, hash, size, what);
    return 0;
}

int ad_check(const char *state, FILE *out, struct cn_error *err)
{
    struct checking k = {state, out, 0, 0};
    sqlite3 *db;
    int rc = ad__open_db(state, &db, err);
    if (!rc) rc = check_integrity(&k, db, err);
    if (!rc) check_load(&k, db);
    if (!rc) rc = ad__each_blob(db, check_each, &k, err);
    sqlite3_close(db);
    if (rc) return rc;
    fprintf(out, "blobs: %d checked\n", k.blobs);
    if (!k.bad) return 0;
    return cn_fail(err, CN_ECORRUPT, "%d thing%s wrong in %s (listed above)", k.bad,
                   k.bad == 1 ? " is" : "s are", state);
}

/* ---- gc */

struct collecting {
    sqlite3 *db;
    sqlite3_stmt *needed;
    int rc; /* the database could not be asked: nothing is removed any more */
    struct cn_error *err;
    int removed;
    long long bytes;
};

static bool is_needed(struct collecting *g, const char *name)
{
    struct cn_hash h;
    if (cn_hash_parse(name, &h)) return false; /* not one of ours: a leftover */
    sqlite3_bind_blob(g->needed, 1, h.b, CN_HASH_BYTES, SQLITE_STATIC);
    int got = sqlite3_step(g->needed);
    if (got != SQLITE_ROW && got != SQLITE_DONE) g->rc = st_fail(g->db, g->err, "gc");
    sqlite3_reset(g->needed);
    return got != SQLITE_DONE;
}

/* Removes what is not needed from one folder of files. */
static void sweep(struct collecting *g, const char *dir, bool all)
{
    DIR *d = opendir(dir);
    if (!d) return;
    char path[PATH_MAX];
    struct stat st;
    for (struct dirent *e; !g->rc && (e = readdir(d));) {
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
    struct collecting g = {.err = err};
    sqlite3 *db;
    int fd, rc = ad__open_db(state, &db, err);
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
    g.db = db;
    for (int i = 0; i < 256 && !rc; i++) {
        snprintf(path, sizeof path, "%s/blobs/%02x", state, i);
        sweep(&g, path, false);
        rc = g.rc;
    }
    static const char unhold[] = /* a store of an older schema has none */
        "DELETE FROM holding WHERE NOT EXISTS (SELECT 1 FROM output o WHERE o.hash=holding.hash) "
        "AND NOT EXISTS (SELECT 1 FROM checkpoint c WHERE c.hash=holding.hash) AND NOT EXISTS "
        "(SELECT 1 FROM dataset d WHERE d.hash=holding.hash)";
    if (!rc) sqlite3_exec(db, unhold, NULL, NULL, NULL);
    snprintf(path, sizeof path, "%s/partial", state);
    if (!rc) sweep(&g, path, true);
    sqlite3_finalize(g.needed);
    sqlite3_close(db);
    if (fd >= 0) close(fd);
    if (!rc) fprintf(out, "removed %d files, %lld bytes\n", g.removed, g.bytes);
    return rc;
}
