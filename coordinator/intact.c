/* coordinator/intact.c - see intact.h. */
#include "coordinator/intact.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    KNOWN = 1 << 13, /* blobs remembered; a forgotten one is hashed once more */
    LOOKING = 16,    /* files being hashed at once */
    PIECE = 1 << 18, /* bytes read at a time */
    RACY_MS = 20,    /* file times are as coarse as that: a change so soon after would not show */
    JUST_MS = 30000,
};

struct stamp {
    uint64_t inode, size;
    int64_t written, changed; /* ns */
};

struct known {
    struct cn_hash hash;
    struct stamp stamp;
    int64_t seen; /* monotonic ms */
    bool used;
};

struct look { /* a file that is being hashed */
    bool used;
    struct cn_hash hash;
    struct cn_hasher *hasher;
    struct stamp stamp; /* of its beginning */
    uint64_t have, turn;
    int fd;
};

struct intact {
    struct known known[KNOWN]; /* by the hash's first bytes: the last one of a place stays */
    struct look look[LOOKING];
    uint64_t turn;
    uint8_t piece[PIECE];
};

static struct stamp stamp_of(const struct stat *st)
{
    return (struct stamp){.inode = (uint64_t)st->st_ino,
                          .size = (uint64_t)st->st_size,
                          .written = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
                          .changed =
                              (int64_t)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec};
}

static bool same_stamp(const struct stamp *a, const struct stamp *b)
{
    return a->inode == b->inode && a->size == b->size && a->written == b->written &&
           a->changed == b->changed;
}

static bool same_hash(const struct cn_hash *a, const struct cn_hash *b)
{
    return !memcmp(a, b, sizeof *a);
}

static size_t place_of(const struct cn_hash *hash)
{
    return ((size_t)hash->b[0] << 8 | hash->b[1]) % KNOWN;
}

static void end_look(struct look *l)
{
    if (!l->used) return;
    close(l->fd);
    cn_hasher_destroy(l->hasher);
    memset(l, 0, sizeof *l);
}

struct intact *in_create(void)
{
    return calloc(1, sizeof(struct intact));
}

void in_destroy(struct intact *t)
{
    for (int i = 0; t && i < LOOKING; i++) end_look(&t->look[i]);
    free(t);
}

bool in_known(const struct intact *t, const struct cn_hash *hash, const struct stat *st)
{
    const struct known *k = &t->known[place_of(hash)];
    struct stamp now = stamp_of(st);
    return k->used && same_hash(&k->hash, hash) && same_stamp(&k->stamp, &now);
}

bool in_just_seen(const struct intact *t, const struct cn_hash *hash, const struct stat *st)
{
    return in_known(t, hash, st) && cn_mono_ms() - t->known[place_of(hash)].seen < JUST_MS;
}

void in_note(struct intact *t, const struct cn_hash *hash, const struct stat *st)
{
    struct timespec now;
    struct stamp s = stamp_of(st);
    clock_gettime(CLOCK_REALTIME, &now);
    if (((int64_t)now.tv_sec * 1000000000 + now.tv_nsec) - s.changed < RACY_MS * 1000000ll) return;
    t->known[place_of(hash)] =
        (struct known){.hash = *hash, .stamp = s, .seen = cn_mono_ms(), .used = true};
}

void in_forget(struct intact *t, const struct cn_hash *hash)
{
    struct known *k = &t->known[place_of(hash)];
    if (same_hash(&k->hash, hash)) k->used = false;
    for (int i = 0; i < LOOKING; i++)
        if (t->look[i].used && same_hash(&t->look[i].hash, hash)) end_look(&t->look[i]);
}

/* The one that is under way, or a new one in the place longest unused. NULL: `errno` says why. */
static struct look *look_for(struct intact *t, const struct cn_hash *hash, const char *path,
                             bool cold)
{
    struct look *l = &t->look[0];
    for (int i = 0; i < LOOKING; i++) {
        struct look *o = &t->look[i];
        if (o->used && same_hash(&o->hash, hash)) {
            o->turn = ++t->turn;
            return o;
        }
        if (l->used && (!o->used || o->turn < l->turn)) l = o;
    }
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return NULL;
    struct cn_hasher *hasher = fstat(fd, &st) ? NULL : cn_hasher_create();
    if (!hasher) {
        close(fd);
        errno = ENOMEM;
        return NULL;
    }
    end_look(l);
    if (cold) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    *l = (struct look){.used = true,
                       .hash = *hash,
                       .hasher = hasher,
                       .stamp = stamp_of(&st),
                       .fd = fd,
                       .turn = ++t->turn};
    return l;
}

/* All of it is read. A file that changed meanwhile is not judged by what it was. */
static enum in_result judge(struct intact *t, struct look *l)
{
    struct cn_hash got, want = l->hash;
    struct stat st;
    cn_hasher_finish(l->hasher, &got);
    bool known = !fstat(l->fd, &st);
    struct stamp now = stamp_of(&st);
    bool still = known && same_stamp(&now, &l->stamp);
    end_look(l);
    if (!still) return IN_MORE;
    if (!same_hash(&got, &want)) return IN_DAMAGED;
    in_note(t, &want, &st);
    return IN_WHOLE;
}

enum in_result in_look(struct intact *t, const struct cn_hash *hash, const char *path,
                       uint64_t budget, bool cold)
{
    struct look *l = look_for(t, hash, path, cold);
    if (!l) return errno == ENOENT ? IN_GONE : errno == EIO ? IN_DAMAGED : IN_BUSY;
    for (uint64_t done = 0; done < budget;) {
        ssize_t got = pread(l->fd, t->piece, PIECE, (off_t)l->have);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            end_look(l);
            return IN_DAMAGED;
        }
        if (!got) return judge(t, l);
        cn_hasher_add(l->hasher, t->piece, (size_t)got);
        l->have += (uint64_t)got;
        done += (uint64_t)got;
    }
    return IN_MORE;
}
