/* coordinator/upload.c - see upload.h.
 *
 * Of a chunk that comes in, one thread writes the bytes while another hashes them: both take about as
 * long. What was written is handed to the disk as it comes, so that the fsync at the end finds little
 * left to do.
 */
#define _GNU_SOURCE /* sync_file_range */
#include "coordinator/upload.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coordinator/folder.h"
#include "coordinator/hashing.h"

enum {
    OPEN = 64,
    SMALL = 1 << 16,     /* bytes of a chunk that are hashed before another thread would be awake */
    WRITE_BACK = 8 << 20 /* bytes of an upload that the disk is given at a time */
};

struct upload {
    bool used;
    struct up_key key;
    struct cn_hasher *hasher; /* over the first `have` bytes */
    uint64_t have, given;     /* bytes in the file; of them already handed to the disk */
    int fd;
    uint64_t turn; /* last use */
};

struct uploads {
    char state[PATH_MAX - 256];
    struct upload upload[OPEN];
    uint64_t turn;
    struct hashing *side; /* NULL: chunks are written, then hashed */
};

uint64_t up_user(const char *name)
{
    struct cn_hash h;
    uint64_t id;
    cn_hash_bytes(name, strlen(name), &h);
    memcpy(&id, h.b, sizeof id);
    return id;
}

void up_part_path(const char *state, const struct up_key *key, char *out, size_t cap)
{
    char hex[CN_HASH_HEX];
    cn_hash_hex(&key->name, hex);
    snprintf(out, cap, "%s/partial/%s.%llx.%016llx", state, hex, (unsigned long long)key->size,
             (unsigned long long)key->user);
}

static bool parse_name(const char *name, struct up_key *key)
{
    char hex[CN_HASH_HEX], again[160], *end = NULL;
    const char *dot = strchr(name, '.');
    if (!dot || dot - name != CN_HASH_HEX - 1) return false;
    memcpy(hex, name, CN_HASH_HEX - 1);
    hex[CN_HASH_HEX - 1] = 0;
    if (cn_hash_parse(hex, &key->name)) return false;
    key->size = strtoull(dot + 1, &end, 16);
    if (*end != '.') return false;
    key->user = strtoull(end + 1, &end, 16);
    up_part_path("", key, again, sizeof again);
    return !strcmp(again + strlen("/partial/"), name);
}

void up_each(const char *state,
             void (*each)(void *arg, const struct up_key *key, uint64_t have, int64_t time),
             void *arg)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/partial", state);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        struct up_key key;
        struct stat st;
        if (*e->d_name == '.' || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW)) continue;
        if (!S_ISREG(st.st_mode)) continue;
        if (parse_name(e->d_name, &key))
            each(arg, &key, (uint64_t)st.st_size,
                 (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000);
        else
            unlinkat(dirfd(d), e->d_name, 0); /* of an older version: nobody asks for it any more */
    }
    if (d) closedir(d);
}

static bool same_key(const struct up_key *a, const struct up_key *b)
{
    return a->size == b->size && a->user == b->user && !memcmp(&a->name, &b->name, sizeof a->name);
}

static void close_upload(struct upload *u)
{
    if (!u->used) return;
    if (u->fd >= 0) close(u->fd);
    cn_hasher_destroy(u->hasher);
    memset(u, 0, sizeof *u);
}

struct uploads *up_create(const char *state)
{
    struct uploads *u = calloc(1, sizeof *u);
    if (!u) return NULL;
    snprintf(u->state, sizeof u->state, "%s", state);
    u->side = hashing_create();
    return u;
}

void up_destroy(struct uploads *u)
{
    if (!u) return;
    hashing_destroy(u->side);
    for (int i = 0; i < OPEN; i++) close_upload(&u->upload[i]);
    free(u);
}

static struct upload *find(struct uploads *u, const struct up_key *key)
{
    for (int i = 0; i < OPEN; i++)
        if (u->upload[i].used && same_key(&u->upload[i].key, key)) return &u->upload[i];
    return NULL;
}

void up_forget(struct uploads *u, const struct up_key *key)
{
    struct upload *o = find(u, key);
    char path[PATH_MAX];
    if (o) close_upload(o);
    up_part_path(u->state, key, path, sizeof path);
    unlink(path);
}

uint64_t up_have(struct uploads *u, const struct up_key *key)
{
    const struct upload *o = find(u, key);
    char path[PATH_MAX];
    struct stat st;
    if (o) return o->have;
    up_part_path(u->state, key, path, sizeof path);
    return stat(path, &st) || (uint64_t)st.st_size > key->size ? 0 : (uint64_t)st.st_size;
}

/* Takes up an earlier, broken-off upload: what the file holds is hashed again. More than all is
 * another story. */
static int hash_part(struct upload *o, struct cn_error *err)
{
    static char buf[1 << 16];
    struct stat st;
    ssize_t got;
    if (fstat(o->fd, &st) || ((uint64_t)st.st_size > o->key.size && ftruncate(o->fd, 0)))
        return cn_fail_errno(err, "a partial blob");
    while ((got = pread(o->fd, buf, sizeof buf, (off_t)o->have)) > 0) {
        cn_hasher_add(o->hasher, buf, (size_t)got);
        o->have += (uint64_t)got;
    }
    return got < 0 ? cn_fail_errno(err, "reading a partial blob") : 0;
}

/* NULL with the reason in *err; a part that cannot be gone on with is gone then. */
static struct upload *open_upload(struct uploads *u, const struct up_key *key, struct cn_error *err)
{
    struct upload *o = find(u, key);
    if (o) {
        o->turn = ++u->turn;
        return o;
    }
    o = &u->upload[0];
    for (int i = 0; i < OPEN && o->used; i++)
        if (!u->upload[i].used || u->upload[i].turn < o->turn) o = &u->upload[i];
    close_upload(o); /* the one longest unused goes on from its file when it comes back */
    char path[PATH_MAX];
    up_part_path(u->state, key, path, sizeof path);
    *o =
        (struct upload){.used = true, .key = *key, .hasher = cn_hasher_create(), .turn = ++u->turn};
    o->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, fo_file_mode());
    if (o->fd < 0)
        cn_fail_errno(err, "%s", path);
    else if (!o->hasher)
        cn_fail(err, CN_ENOMEM, "blobs: out of memory");
    else if (!hash_part(o, err))
        return o;
    else
        unlink(path);
    close_upload(o);
    return NULL;
}

/* A full disk passes, and what was written stays good. After anything else nobody knows. */
static bool is_final(int error)
{
    return error != ENOSPC && error != EDQUOT;
}

static int write_all(struct upload *o, const char *data, size_t n, bool *final,
                     struct cn_error *err)
{
    for (size_t at = 0; at < n;) {
        ssize_t put = pwrite(o->fd, data + at, n - at, (off_t)(o->have + at));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) {
            *final = is_final(errno);
            int rc = cn_fail_errno(err, "storing a blob");
            /* what the hasher has not seen must not stay */
            if (ftruncate(o->fd, (off_t)o->have)) *final = true;
            return rc;
        }
        at += (size_t)put;
    }
    return 0;
}

static int hand_over(struct upload *o, bool *final, struct cn_error *err)
{
    if (o->have - o->given < WRITE_BACK) return 0;
    uint64_t from = o->given;
    o->given = o->have;
    if (!sync_file_range(o->fd, (off_t)from, (off_t)(o->have - from), SYNC_FILE_RANGE_WRITE) ||
        (errno != EIO && errno != ENOSPC && errno != EDQUOT))
        return 0; /* where it does not exist: fsync is what counts */
    *final = true;
    return cn_fail_errno(err, "storing a blob");
}

/* Writes a chunk and hashes it, side by side. On an error the upload is closed. */
static int take_chunk(struct uploads *u, struct upload *o, const void *data, size_t n,
                      struct cn_error *err)
{
    struct hashing *side = n >= SMALL ? u->side : NULL;
    bool final = false;
    if (side) hashing_begin(side, o->hasher, data, n);
    int rc = write_all(o, data, n, &final, err);
    if (side)
        hashing_wait(side);
    else
        cn_hasher_add(o->hasher, data, n);
    if (!rc) o->have += n;
    if (!rc) rc = hand_over(o, &final, err);
    if (!rc) return 0;
    struct up_key key = o->key;
    close_upload(o);
    if (final) up_forget(u, &key);
    return rc;
}

int up_add(struct uploads *u, const struct up_key *key, uint64_t offset, const void *data, size_t n,
           uint64_t *have, struct cn_error *err)
{
    struct upload *o = open_upload(u, key, err);
    int rc = o ? 0 : err->code;
    if (o && n && offset == o->have && n <= key->size - o->have)
        rc = take_chunk(u, o, data, n, err);
    *have = up_have(u, key);
    return rc;
}

/* Its bytes are on the disk under its own name, or it is an error. */
static int store(struct upload *o, const char *part, const char *folder, const char *path,
                 struct cn_error *err)
{
    if (fsync(o->fd)) return cn_fail_errno(err, "storing a blob: fsync");
    int rc = fo_make(folder, err);
    if (!rc && rename(part, path)) rc = cn_fail_errno(err, "%s: rename", path);
    if (!rc && (rc = fo_sync(folder, err))) unlink(path);
    return rc;
}

int up_complete(struct uploads *u, const struct up_key *key, const struct cn_hash *want,
                const char *folder, const char *path, struct cn_error *err)
{
    struct upload *o = open_upload(u, key, err);
    if (!o) return err->code;
    char part[PATH_MAX];
    struct cn_hash got;
    up_part_path(u->state, key, part, sizeof part);
    cn_hasher_finish(o->hasher, &got);
    int rc = !memcmp(&got, want, sizeof got)
                 ? store(o, part, folder, path, err)
                 : cn_fail(err, CN_ECORRUPT,
                           "blob: the bytes that arrived have another hash; send it again");
    close_upload(o);
    if (rc) unlink(part);
    return rc;
}
