/* coordinator/backup.c - a copy of a state folder, also of one that a coordinator works on. See admin.h.
 *
 * The database comes first, by SQLite's online backup; then every blob that the copy refers to, read
 * and hashed on the way. A blob is never changed, so what is copied later than the database still fits
 * it. queue.db gets its name at the very end: a folder without it is no backup.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "coordinator/admin_private.h"
#include "coordinator/folder.h"
#include "coordinator/store.h"

struct copying {
    const char *from, *to;
    bool link;
    sqlite3 *live, *copy;
    FILE *out;
    int bad;
    char first[200]; /* what is wrong with the first one */
};

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

/* 0: no such blob in that database, 1: there is, -1: it cannot be asked. */
static int refers(sqlite3 *db, const struct cn_hash *hash)
{
    sqlite3_stmt *q;
    if (sqlite3_prepare_v2(db,
                           "SELECT 1 WHERE EXISTS (SELECT 1 FROM output WHERE hash=?1) OR EXISTS "
                           "(SELECT 1 FROM checkpoint WHERE hash=?1) OR EXISTS (SELECT 1 FROM "
                           "dataset WHERE hash=?1 AND size > 0)",
                           -1, &q, NULL))
        return -1;
    sqlite3_bind_blob(q, 1, hash->b, CN_HASH_BYTES, SQLITE_STATIC);
    int got = sqlite3_step(q);
    sqlite3_finalize(q);
    return got == SQLITE_ROW ? 1 : got == SQLITE_DONE ? 0 : -1;
}

/* A checkpoint that was replaced since the database was copied: in the copy, its job starts over. */
static bool replaced(struct copying *k, const struct cn_hash *hash)
{
    sqlite3_stmt *q;
    if (refers(k->live, hash) ||
        sqlite3_prepare_v2(k->copy, "DELETE FROM checkpoint WHERE hash=?", -1, &q, NULL))
        return false;
    sqlite3_bind_blob(q, 1, hash->b, CN_HASH_BYTES, SQLITE_STATIC);
    bool gone = sqlite3_step(q) == SQLITE_DONE;
    sqlite3_finalize(q);
    return gone && !refers(k->copy, hash);
}

static void say(struct copying *k, const char *hex, const char *what, const char *why)
{
    fprintf(k->out, "blob %s (%s): %s\n", hex, what, why);
    if (!k->bad++) snprintf(k->first, sizeof k->first, "blob %s (%.60s): %.50s", hex, what, why);
}

/* Copies, or gives a second name to, what fits the hash. CN_ECORRUPT, CN_ENOTFOUND, or why not. */
static int copy_bytes(int fd, const char *dest, const struct cn_hash *want, struct cn_error *err)
{
    static char buf[1 << 18];
    struct cn_writer *w = NULL;
    struct cn_hash got;
    struct cn_hasher *h = cn_hasher_create();
    int rc = h ? 0 : cn_fail(err, CN_ENOMEM, "backup: out of memory");
    if (!rc && dest) rc = cn_writer_open(&w, dest, err);
    while (!rc) {
        ssize_t n = read(fd, buf, sizeof buf);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) rc = cn_fail(err, CN_ECORRUPT, "cannot be read: %s", strerror(errno));
        if (n <= 0) break;
        cn_hasher_add(h, buf, (size_t)n);
        if (dest) rc = cn_writer_add(w, buf, (size_t)n, err);
    }
    if (!rc) cn_hasher_finish(h, &got);
    if (!rc && memcmp(&got, want, sizeof got))
        rc = cn_fail(err, CN_ECORRUPT, "its content has changed");
    cn_hasher_destroy(h);
    if (!rc && dest) return cn_writer_commit(w, err);
    cn_writer_abandon(w);
    return rc;
}

static int copy_blob(const struct copying *k, const char *from, const char *to,
                     const struct cn_hash *want, struct cn_error *err)
{
    int fd = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT) return cn_fail(err, CN_ENOTFOUND, "missing");
    if (fd < 0) return cn_fail(err, CN_ECORRUPT, "cannot be opened: %s", strerror(errno));
    int rc = copy_bytes(fd, k->link ? NULL : to, want, err);
    if (!rc && k->link && link(from, to)) { /* another disk, perhaps */
        rc =
            lseek(fd, 0, SEEK_SET) ? cn_fail_errno(err, "%s", from) : copy_bytes(fd, to, want, err);
    }
    close(fd);
    return rc;
}

static int take_blob(void *arg, const struct cn_hash *hash, int64_t size, const char *what,
                     struct cn_error *err)
{
    struct copying *k = arg;
    char hex[CN_HASH_HEX], from[PATH_MAX], dest[PATH_MAX];
    struct cn_error why;
    cn_hash_hex(hash, hex);
    snprintf(dest, sizeof dest, "%s/blobs/%.2s", k->to, hex);
    int rc = fo_make(dest, err);
    if (rc) return rc;
    snprintf(from, sizeof from, "%s/blobs/%.2s/%s", k->from, hex, hex);
    snprintf(dest, sizeof dest, "%s/blobs/%.2s/%s", k->to, hex, hex);
    rc = copy_blob(k, from, dest, hash, &why);
    if (!rc || (rc == CN_ENOTFOUND && replaced(k, hash))) return 0;
    if (rc == CN_ENOTFOUND || rc == CN_ECORRUPT) {
        say(k, hex, what, why.text);
        return 0;
    }
    if (err) *err = why;
    return rc;
}

static int copy_secret(const char *from, const char *to, struct cn_error *err)
{
    char *text;
    size_t n;
    int rc = cn_file_read(from, 1 << 20, &text, &n, err);
    if (rc) return rc;
    rc = cn_file_write(to, text, n, err);
    explicit_bzero(text, n);
    free(text);
    return rc;
}

static int copy_secrets(const struct copying *k, struct cn_error *err)
{
    static const char *const secret[] = {"server.key", "http.token"};
    char path[PATH_MAX], dest[PATH_MAX];
    int rc = 0;
    for (int i = 0; i < 2 && !rc; i++) {
        snprintf(path, sizeof path, "%s/%s", k->from, secret[i]);
        snprintf(dest, sizeof dest, "%s/%s", k->to, secret[i]);
        if (cn_file_exists(path)) rc = copy_secret(path, dest, err);
    }
    return rc;
}

static int copy_all(struct copying *k, const char *db, struct cn_error *err)
{
    int rc = copy_db(k->live, k->copy, err);
    if (!rc) rc = st_quick_check(k->copy, db, err);
    if (!rc) rc = ad__each_blob(k->copy, take_blob, k, err);
    if (!rc) rc = copy_secrets(k, err);
    if (sqlite3_close(k->copy) != SQLITE_OK && !rc) rc = st_fail(k->copy, err, db);
    return rc;
}

/* The copy is complete, and everything in it on the disk, before it is called one. */
static int name_it(const char *to, const char *db, struct cn_error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/queue.db", to);
    int fd = open(db, O_RDWR | O_CLOEXEC);
    if (fd < 0) return cn_fail_errno(err, "%s", db);
    int rc = fsync(fd) ? cn_fail_errno(err, "%s: fsync", db) : 0;
    close(fd);
    if (!rc && rename(db, path)) rc = cn_fail_errno(err, "%s: rename", path);
    return rc ? rc : fo_sync(to, err);
}

static int backup(struct copying *k, struct cn_error *err)
{
    char db[PATH_MAX];
    int rc = fo_open(k->to, false, err);
    snprintf(db, sizeof db, "%s/queue.db.new", k->to);
    if (rc) return rc;
    unlink(db); /* of a try that was broken off */
    if (sqlite3_open(db, &k->copy)) {
        rc = st_fail(k->copy, err, db);
        sqlite3_close(k->copy);
        return rc;
    }
    rc = copy_all(k, db, err);
    if (!rc) rc = name_it(k->to, db, err);
    if (rc) unlink(db);
    return rc;
}

int ad_backup(const char *state, const char *to, bool links, FILE *out, struct cn_error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/queue.db", to);
    if (cn_file_exists(path))
        return cn_fail(err, CN_EEXISTS, "%s: there is a state folder already; give a new one", to);
    struct copying k = {.from = state, .to = to, .link = links, .out = out};
    int rc = ad__open_db(state, &k.live, err);
    mode_t mask = umask(0077);
    if (!rc) rc = backup(&k, err);
    umask(mask);
    sqlite3_close(k.live);
    if (rc || !k.bad) return rc;
    return cn_fail(err, CN_ECORRUPT, "%s; %d blob%s missing or damaged in all, the copy lacks %s",
                   k.first, k.bad, k.bad == 1 ? " is" : "s are", k.bad == 1 ? "it" : "them");
}
