/* coordinator/blobs.c - see blobs.h.
 *
 * Of a chunk that comes in, one thread writes the bytes while another hashes them: both take about as
 * long. What was written is handed to the disk as it comes, so that the fsync at the end finds little
 * left to do.
 */
#define _GNU_SOURCE /* sync_file_range */
#include "coordinator/blobs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "coordinator/hashing.h"
#include "proto/limits.h"

enum {
    OPEN_UPLOADS = 64,
    OPEN_READS = 32,
    SMALL = 1 << 16,     /* bytes of a chunk that are hashed before another thread would be awake */
    WRITE_BACK = 8 << 20 /* bytes of an upload that the disk is given at a time */
};

struct upload { /* one blob on its way in */
    bool used;
    struct cn_hash hash;
    struct cn_hasher *hasher; /* over the first `have` bytes */
    uint64_t have, given;     /* bytes in the file; of them already handed to the disk */
    int fd;
    uint64_t turn; /* last use */
};

struct reading {
    bool used;
    struct cn_hash hash;
    int fd;
    uint64_t size, turn;
};

struct blobs {
    char dir[PATH_MAX - 128];
    int wake_fd;
    pthread_t thread;
    bool threaded;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct bl_request *in, **in_tail, *out, **out_tail;
    int waiting;
    bool stop;
    /* the thread's own */
    struct upload upload[OPEN_UPLOADS];
    struct reading reading[OPEN_READS];
    uint64_t turn;
    struct hashing *side; /* NULL: chunks are written, then hashed */
};

void bl_path(const struct blobs *b, const struct cn_hash *hash, char *out, size_t cap)
{
    char hex[CN_HASH_HEX];
    cn_hash_hex(hash, hex);
    snprintf(out, cap, "%s/blobs/%.2s/%s", b->dir, hex, hex);
}

static void partial_path(const struct blobs *b, const struct cn_hash *hash, char *out, size_t cap)
{
    char hex[CN_HASH_HEX];
    cn_hash_hex(hash, hex);
    snprintf(out, cap, "%s/partial/%s", b->dir, hex);
}

bool bl_has(const struct blobs *b, const struct cn_hash *hash, uint64_t *size)
{
    char path[PATH_MAX];
    struct stat st;
    bl_path(b, hash, path, sizeof path);
    if (stat(path, &st) || !S_ISREG(st.st_mode)) return false;
    if (size) *size = (uint64_t)st.st_size;
    return true;
}

void bl_remove(struct blobs *b, const struct cn_hash *hash)
{
    char path[PATH_MAX];
    bl_path(b, hash, path, sizeof path);
    unlink(path);
}

/* ---- in */

static void close_upload(struct upload *u)
{
    if (!u->used) return;
    if (u->fd >= 0) close(u->fd);
    cn_hasher_destroy(u->hasher);
    memset(u, 0, sizeof *u);
}

/* Takes up an earlier, broken-off upload: what the file holds is hashed again. */
static int hash_part(struct upload *u, struct cn_error *err)
{
    static char buf[1 << 16];
    ssize_t got;
    while ((got = pread(u->fd, buf, sizeof buf, (off_t)u->have)) > 0) {
        cn_hasher_add(u->hasher, buf, (size_t)got);
        u->have += (uint64_t)got;
    }
    return got < 0 ? cn_fail_errno(err, "reading a partial blob") : 0;
}

static struct upload *find_upload(struct blobs *b, const struct cn_hash *hash)
{
    for (int i = 0; i < OPEN_UPLOADS; i++)
        if (b->upload[i].used && !memcmp(&b->upload[i].hash, hash, sizeof *hash))
            return &b->upload[i];
    return NULL;
}

static struct upload *open_upload(struct blobs *b, const struct cn_hash *hash, struct cn_error *err)
{
    struct upload *u = find_upload(b, hash);
    if (u) {
        u->turn = ++b->turn;
        return u;
    }
    u = &b->upload[0];
    for (int i = 0; i < OPEN_UPLOADS && u->used; i++)
        if (!b->upload[i].used || b->upload[i].turn < u->turn) u = &b->upload[i];
    close_upload(u); /* the one longest unused goes on from its file when it comes back */
    char path[PATH_MAX];
    partial_path(b, hash, path, sizeof path);
    *u = (struct upload){
        .used = true, .hash = *hash, .hasher = cn_hasher_create(), .turn = ++b->turn};
    u->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    int rc = u->fd < 0    ? cn_fail_errno(err, "%s", path)
             : !u->hasher ? cn_fail(err, CN_ENOMEM, "blobs: out of memory")
                          : hash_part(u, err);
    if (!rc) return u;
    close_upload(u);
    return NULL;
}

static int sync_dir(const char *path, struct cn_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return cn_fail_errno(err, "%s", path);
    int rc = fsync(fd) ? cn_fail_errno(err, "%s", path) : 0;
    close(fd);
    return rc;
}

/* All bytes are there: verify, fsync, rename, fsync of the folder. */
static int complete_upload(struct blobs *b, struct upload *u, const struct cn_hash *want,
                           struct cn_error *err)
{
    char part[PATH_MAX], path[PATH_MAX], *slash;
    struct cn_hash got;
    partial_path(b, &u->hash, part, sizeof part);
    bl_path(b, want, path, sizeof path);
    cn_hasher_finish(u->hasher, &got);
    int rc = 0;
    if (memcmp(&got, want, sizeof got))
        rc = cn_fail(err, CN_ECORRUPT,
                     "blob: the bytes that arrived have another hash; send it again");
    if (rc) unlink(part);
    if (!rc && fsync(u->fd)) rc = cn_fail_errno(err, "%s", part);
    slash = strrchr(path, '/');
    *slash = 0;
    if (!rc && mkdir(path, 0700) && errno != EEXIST) rc = cn_fail_errno(err, "%s", path);
    *slash = '/';
    if (!rc && rename(part, path)) rc = cn_fail_errno(err, "%s", path);
    *slash = 0;
    if (!rc) rc = sync_dir(path, err);
    close_upload(u);
    return rc;
}

static int write_chunk(struct upload *u, const char *data, size_t n, struct cn_error *err)
{
    for (size_t at = 0; at < n;) {
        ssize_t put = pwrite(u->fd, data + at, n - at, (off_t)(u->have + at));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) {
            int rc = cn_fail_errno(err, "storing a blob");
            if (ftruncate(u->fd, (off_t)u->have))
                return rc; /* what the hasher has not seen must not stay */
            return rc;
        }
        at += (size_t)put;
    }
    return 0;
}

/* Writes a chunk and hashes it, side by side. On an error the upload is of no use any more. */
static int take_chunk(struct blobs *b, struct upload *u, const void *data, size_t n,
                      struct cn_error *err)
{
    struct hashing *side = n >= SMALL ? b->side : NULL;
    if (side) hashing_begin(side, u->hasher, data, n);
    int rc = n ? write_chunk(u, data, n, err) : 0;
    if (side)
        hashing_wait(side);
    else
        cn_hasher_add(u->hasher, data, n);
    if (rc) return rc;
    u->have += n;
    if (u->have - u->given >= WRITE_BACK) {
        sync_file_range(u->fd, (off_t)u->given, (off_t)(u->have - u->given), SYNC_FILE_RANGE_WRITE);
        u->given = u->have; /* a hint: fsync is what counts */
    }
    return 0;
}

/* Under its own hash, or an upload that was called otherwise. */
static bool is_there(struct blobs *b, struct bl_request *r)
{
    if (bl_has(b, &r->hash, &r->size)) return true;
    if (!memcmp(&r->hash, &r->final, sizeof r->hash) || !bl_has(b, &r->final, &r->size))
        return false;
    struct upload *u = find_upload(b, &r->hash);
    char part[PATH_MAX];
    if (u) close_upload(u);
    partial_path(b, &r->hash, part, sizeof part);
    unlink(part);
    return true;
}

static void do_put(struct blobs *b, struct bl_request *r)
{
    if (is_there(b, r)) {
        r->complete = true;
        return;
    }
    struct upload *u = open_upload(b, &r->hash, &r->error);
    if (!u) return;
    size_t n = zmq_msg_size(&r->data);
    if (u->have > r->size) { /* leftovers of another story */
        if (!ftruncate(u->fd, 0)) u->have = u->given = 0;
        cn_hasher_destroy(u->hasher);
        u->hasher = cn_hasher_create();
        if (!u->hasher || u->have) {
            cn_fail(&r->error, CN_ENOMEM, "blobs: out of memory");
            close_upload(u);
            return;
        }
    }
    if (r->offset == u->have && n <= PR_CHUNK && n <= r->size - u->have) {
        if (take_chunk(b, u, zmq_msg_data(&r->data), n, &r->error)) {
            close_upload(u);
            return;
        }
    }
    r->offset = u->have;
    if (u->have == r->size) r->complete = !complete_upload(b, u, &r->final, &r->error);
}

static void do_have(struct blobs *b, struct bl_request *r)
{
    r->offset = 0;
    r->size = 0;
    if (bl_has(b, &r->hash, &r->size)) {
        r->complete = true;
        return;
    }
    const struct upload *u = find_upload(b, &r->hash);
    char path[PATH_MAX];
    struct stat st;
    partial_path(b, &r->hash, path, sizeof path);
    if (u)
        r->offset = u->have;
    else if (!stat(path, &st))
        r->offset = (uint64_t)st.st_size;
}

/* ---- out */

static struct reading *open_reading(struct blobs *b, const struct cn_hash *hash,
                                    struct cn_error *err)
{
    struct reading *r = &b->reading[0];
    for (int i = 0; i < OPEN_READS; i++) {
        struct reading *o = &b->reading[i];
        if (o->used && !memcmp(&o->hash, hash, sizeof *hash)) {
            o->turn = ++b->turn;
            return o;
        }
        if (r->used && (!o->used || o->turn < r->turn)) r = o;
    }
    if (r->used) close(r->fd);
    memset(r, 0, sizeof *r);
    char path[PATH_MAX], hex[CN_HASH_HEX];
    bl_path(b, hash, path, sizeof path);
    cn_hash_hex(hash, hex);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    if (fd < 0 || fstat(fd, &st)) {
        if (fd >= 0) close(fd);
        cn_fail(err, CN_ENOTFOUND, "no blob %.12s… here", hex);
        return NULL;
    }
    *r = (struct reading){
        .used = true, .hash = *hash, .fd = fd, .size = (uint64_t)st.st_size, .turn = ++b->turn};
    return r;
}

static void do_get(struct blobs *b, struct bl_request *r)
{
    struct reading *f = open_reading(b, &r->hash, &r->error);
    if (!f) return;
    r->size = f->size;
    uint64_t left = r->offset < f->size ? f->size - r->offset : 0;
    size_t n = left < r->length ? left : r->length;
    zmq_msg_close(&r->data);
    if (zmq_msg_init_size(&r->data, n)) {
        zmq_msg_init(&r->data);
        cn_fail(&r->error, CN_ENOMEM, "blobs: out of memory");
        return;
    }
    for (size_t at = 0; at < n;) {
        ssize_t got =
            pread(f->fd, (char *)zmq_msg_data(&r->data) + at, n - at, (off_t)(r->offset + at));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            cn_fail(&r->error, CN_EIO, "blobs: reading failed");
            return;
        }
        at += (size_t)got;
    }
}

/* ---- the thread */

static void serve(struct blobs *b, struct bl_request *r)
{
    switch (r->what) {
    case BL_HAVE:
        do_have(b, r);
        break;
    case BL_PUT:
        do_put(b, r);
        zmq_msg_close(&r->data);
        zmq_msg_init(&r->data);
        break;
    case BL_GET:
        do_get(b, r);
        break;
    }
}

static void *work(void *arg)
{
    struct blobs *b = arg;
    pthread_mutex_lock(&b->lock);
    while (!b->stop) {
        struct bl_request *r = b->in;
        if (!r) {
            pthread_cond_wait(&b->work, &b->lock);
            continue;
        }
        b->in = r->next;
        if (!b->in) b->in_tail = &b->in;
        pthread_mutex_unlock(&b->lock);
        serve(b, r);
        pthread_mutex_lock(&b->lock);
        r->next = NULL;
        *b->out_tail = r;
        b->out_tail = &r->next;
        uint64_t one = 1;
        if (write(b->wake_fd, &one, sizeof one) < 0) continue; /* the loop polls anyway */
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

int bl_open(struct blobs **out, const char *state_dir, int wake_fd, struct cn_error *err)
{
    *out = NULL;
    struct blobs *b = calloc(1, sizeof *b);
    if (!b) return cn_fail(err, CN_ENOMEM, "blobs: out of memory");
    b->wake_fd = wake_fd;
    b->in_tail = &b->in;
    b->out_tail = &b->out;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->work, NULL);
    b->side = hashing_create();
    char path[PATH_MAX];
    int rc = strlen(state_dir) < sizeof b->dir
                 ? 0
                 : cn_fail(err, CN_ELIMIT, "%s: path too long", state_dir);
    snprintf(b->dir, sizeof b->dir, "%s", state_dir);
    snprintf(path, sizeof path, "%s/blobs", b->dir);
    if (!rc) rc = cn_mkdirs(path, err);
    snprintf(path, sizeof path, "%s/partial", b->dir);
    if (!rc) rc = cn_mkdirs(path, err);
    if (!rc) {
        b->threaded = !pthread_create(&b->thread, NULL, work, b);
        if (!b->threaded) rc = cn_fail(err, CN_ENOMEM, "blobs: no thread");
    }
    if (rc) {
        bl_close(b);
        return rc;
    }
    *out = b;
    return 0;
}

static void free_list(struct bl_request *r)
{
    while (r) {
        struct bl_request *next = r->next;
        bl_request_free(r);
        r = next;
    }
}

void bl_close(struct blobs *b)
{
    if (!b) return;
    if (b->threaded) {
        pthread_mutex_lock(&b->lock);
        b->stop = true;
        pthread_cond_signal(&b->work);
        pthread_mutex_unlock(&b->lock);
        pthread_join(b->thread, NULL);
    }
    hashing_destroy(b->side);
    free_list(b->in);
    free_list(b->out);
    for (int i = 0; i < OPEN_UPLOADS; i++) close_upload(&b->upload[i]);
    for (int i = 0; i < OPEN_READS; i++)
        if (b->reading[i].used) close(b->reading[i].fd);
    pthread_cond_destroy(&b->work);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

void bl_ask(struct blobs *b, struct bl_request *r)
{
    pthread_mutex_lock(&b->lock);
    r->next = NULL;
    *b->in_tail = r;
    b->in_tail = &r->next;
    b->waiting++;
    pthread_cond_signal(&b->work);
    pthread_mutex_unlock(&b->lock);
}

struct bl_request *bl_reply(struct blobs *b)
{
    pthread_mutex_lock(&b->lock);
    struct bl_request *r = b->out;
    if (r) {
        b->out = r->next;
        if (!b->out) b->out_tail = &b->out;
        b->waiting--;
    }
    pthread_mutex_unlock(&b->lock);
    return r;
}

int bl_waiting(struct blobs *b)
{
    pthread_mutex_lock(&b->lock);
    int n = b->waiting;
    pthread_mutex_unlock(&b->lock);
    return n;
}

void bl_request_free(struct bl_request *r)
{
    if (!r) return;
    zmq_msg_close(&r->data);
    free(r);
}
