/* coordinator/blobs.c - see blobs.h. */
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
#include "base/log.h"
#include "coordinator/folder.h"
#include "coordinator/intact.h"
#include "coordinator/upload.h"
#include "proto/limits.h"

enum {
    OPEN_READS = 32,
    SLICE = 4 << 20, /* bytes of a blob that are looked at before others have their turn */
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
    struct uploads *uploads;
    struct intact *intact;
    struct reading reading[OPEN_READS];
    uint64_t turn;
    bool synced[256]; /* folders whose names were seen to be safe since the start */
};

void bl_path(const struct blobs *b, const struct cn_hash *hash, char *out, size_t cap)
{
    char hex[CN_HASH_HEX];
    cn_hash_hex(hash, hex);
    snprintf(out, cap, "%s/blobs/%.2s/%s", b->dir, hex, hex);
}

static void folder_path(const struct blobs *b, const struct cn_hash *hash, char *out, size_t cap)
{
    snprintf(out, cap, "%s/blobs/%02x", b->dir, hash->b[0]);
}

bool bl_has(const struct blobs *b, const struct cn_hash *hash, uint64_t *size)
{
    char path[PATH_MAX];
    struct stat st;
    bl_path(b, hash, path, sizeof path);
    if (lstat(path, &st) || !S_ISREG(st.st_mode)) return false;
    if (size) *size = (uint64_t)st.st_size;
    return true;
}

void bl_remove(struct blobs *b, const struct cn_hash *hash)
{
    char path[PATH_MAX];
    bl_path(b, hash, path, sizeof path);
    unlink(path);
}

/* ---- whole or not */

static void stop_reading(struct blobs *b, const struct cn_hash *hash)
{
    for (int i = 0; i < OPEN_READS; i++) {
        struct reading *r = &b->reading[i];
        if (!r->used || memcmp(&r->hash, hash, sizeof *hash)) continue;
        close(r->fd);
        r->used = false;
    }
}

/* What does not fit its hash is of no use, but perhaps of interest. */
static void put_aside(struct blobs *b, const struct cn_hash *hash)
{
    char from[PATH_MAX], to[PATH_MAX], hex[CN_HASH_HEX], folder[PATH_MAX];
    bl_path(b, hash, from, sizeof from);
    cn_hash_hex(hash, hex);
    snprintf(to, sizeof to, "%s/quarantine/%s", b->dir, hex);
    stop_reading(b, hash);
    in_forget(b->intact, hash);
    if (rename(from, to))
        cn_err("coordinator", "blob %s is damaged, and cannot be put aside: %s", hex,
               strerror(errno));
    else
        cn_err("coordinator", "blob %s is damaged; put aside as %s", hex, to);
    unlink(from); /* where renaming failed */
    folder_path(b, hash, folder, sizeof folder);
    struct cn_error ignored; /* a name that comes back after a crash is found damaged again */
    fo_sync(folder, &ignored);
}

static void lose(struct blobs *b, struct bl_request *r, const struct cn_hash *hash)
{
    put_aside(b, hash);
    r->damaged = true;
    r->lost = *hash;
}

/* Whether the blob lies here whole: 1 yes, 0 no (r->damaged: not any more), -1 not known yet, ask
 * again; or r->error. */
static int is_whole(struct blobs *b, struct bl_request *r, const struct cn_hash *hash)
{
    char path[PATH_MAX];
    struct stat st;
    bl_path(b, hash, path, sizeof path);
    if (lstat(path, &st) || !S_ISREG(st.st_mode)) return 0;
    if (r->suspect && !in_just_seen(b->intact, hash, &st)) in_forget(b->intact, hash);
    r->suspect = false;
    if (in_known(b->intact, hash, &st)) return 1;
    switch (in_look(b->intact, hash, path, SLICE, false)) {
    case IN_MORE:
        return -1;
    case IN_WHOLE:
        return 1;
    case IN_DAMAGED:
        lose(b, r, hash);
        return 0;
    case IN_GONE:
        return 0;
    case IN_BUSY:
        break;
    }
    cn_fail(&r->error, CN_EBUSY, "blobs: no room to look at it now; ask again");
    return 0;
}

/* As is_whole, and its name is safe: what may be called complete. A folder is synced once; what is
 * stored from then on syncs it each time. */
static int is_complete(struct blobs *b, struct bl_request *r, const struct cn_hash *hash)
{
    char folder[PATH_MAX];
    int rc = is_whole(b, r, hash);
    if (rc <= 0 || b->synced[hash->b[0]]) return rc;
    folder_path(b, hash, folder, sizeof folder);
    if (fo_sync(folder, &r->error)) return 0;
    b->synced[hash->b[0]] = true;
    return 1;
}

/* ---- in; each returns false when the request is to come again */

static struct up_key key_of(const struct bl_request *r)
{
    return (struct up_key){.name = r->hash, .size = r->size, .user = r->user};
}

/* Under its own hash, or an upload that was called otherwise. As is_complete. */
static int is_there(struct blobs *b, struct bl_request *r)
{
    struct up_key key = key_of(r);
    bool named = !memcmp(&r->hash, &r->final, sizeof r->hash);
    int rc = is_complete(b, r, &r->hash);
    if (!rc && !named && !r->error.code) rc = is_complete(b, r, &r->final);
    if (rc == 1) up_forget(b->uploads, &key);
    return rc;
}

static void store(struct blobs *b, struct bl_request *r)
{
    char folder[PATH_MAX], path[PATH_MAX];
    struct up_key key = key_of(r);
    bl_path(b, &r->final, path, sizeof path);
    folder_path(b, &r->final, folder, sizeof folder);
    in_forget(b->intact, &r->final);
    r->complete = !up_complete(b->uploads, &key, &r->final, folder, path, &r->error);
    r->stored = r->complete;
    if (r->complete) b->synced[r->final.b[0]] = true;
    if (!r->complete) r->offset = 0;
}

static bool do_put(struct blobs *b, struct bl_request *r)
{
    struct up_key key = key_of(r);
    int there = is_there(b, r);
    if (there < 0) return false;
    r->complete = there;
    if (there || r->error.code) return true;
    size_t n = zmq_msg_size(&r->data);
    uint64_t have = 0;
    if (n > PR_CHUNK) n = 0;
    if (!up_add(b->uploads, &key, r->offset, zmq_msg_data(&r->data), n, &have, &r->error) &&
        have == r->size) {
        r->offset = have;
        store(b, r);
        return true;
    }
    r->offset = have;
    return true;
}

static bool do_have(struct blobs *b, struct bl_request *r)
{
    struct up_key key = key_of(r);
    int there = is_complete(b, r, &r->hash);
    if (there < 0) return false;
    r->complete = there;
    r->offset = !there && r->size ? up_have(b->uploads, &key) : 0;
    uint64_t size = 0;
    if (there) bl_has(b, &r->hash, &size);
    r->size = size;
    return true;
}

static bool do_scrub(struct blobs *b, struct bl_request *r)
{
    char path[PATH_MAX];
    bl_path(b, &r->hash, path, sizeof path);
    enum in_result seen = in_look(b->intact, &r->hash, path, r->length, true);
    r->complete = seen != IN_MORE && seen != IN_BUSY;
    r->gone = seen == IN_GONE;
    if (seen == IN_DAMAGED) lose(b, r, &r->hash);
    return true;
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

static void read_chunk(struct blobs *b, struct bl_request *r)
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
            if (got < 0 && errno == EIO) lose(b, r, &r->hash);
            cn_fail(&r->error, CN_EIO, "blobs: reading failed");
            return;
        }
        at += (size_t)got;
    }
}

static bool do_get(struct blobs *b, struct bl_request *r)
{
    char hex[CN_HASH_HEX];
    int there = is_whole(b, r, &r->hash);
    if (there < 0) return false;
    if (there) {
        read_chunk(b, r);
        return true;
    }
    if (r->error.code) return true;
    cn_hash_hex(&r->hash, hex);
    r->gone = !r->damaged;
    if (r->damaged)
        cn_fail(&r->error, CN_ENOTFOUND,
                "blob %s was damaged on the coordinator's disk; it is put "
                "aside, and made again where that is possible",
                hex);
    else
        cn_fail(&r->error, CN_ENOTFOUND, "no blob %.12s… here", hex);
    return true;
}

/* ---- the thread */

/* False: it is to come again, after the others. */
static bool serve(struct blobs *b, struct bl_request *r)
{
    struct up_key key = key_of(r);
    bool done = true;
    switch (r->what) {
    case BL_HAVE:
        return do_have(b, r);
    case BL_GET:
        return do_get(b, r);
    case BL_SCRUB:
        return do_scrub(b, r);
    case BL_LOOK:
        return is_whole(b, r, &r->hash) >= 0;
    case BL_FORGET:
        up_forget(b->uploads, &key);
        break;
    case BL_PUT:
        done = do_put(b, r);
        if (!done) break;
        zmq_msg_close(&r->data);
        zmq_msg_init(&r->data);
        break;
    }
    return done;
}

/* With the lock held: the request, looked after, becomes a reply or waits again. */
static void hand_back(struct blobs *b, struct bl_request *r, bool done)
{
    uint64_t one = 1;
    r->next = NULL;
    if (!done) {
        *b->in_tail = r;
        b->in_tail = &r->next;
        return;
    }
    *b->out_tail = r;
    b->out_tail = &r->next;
    if (write(b->wake_fd, &one, sizeof one) < 0) return; /* the loop polls anyway */
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
        bool done = serve(b, r);
        pthread_mutex_lock(&b->lock);
        hand_back(b, r, done);
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
    int rc = strlen(state_dir) < sizeof b->dir - 256
                 ? 0
                 : cn_fail(err, CN_ELIMIT, "%s: path too long", state_dir);
    snprintf(b->dir, sizeof b->dir, "%s", state_dir);
    b->uploads = up_create(state_dir);
    b->intact = in_create();
    if (!rc && (!b->uploads || !b->intact)) rc = cn_fail(err, CN_ENOMEM, "blobs: out of memory");
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
    free_list(b->in);
    free_list(b->out);
    up_destroy(b->uploads);
    in_destroy(b->intact);
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
