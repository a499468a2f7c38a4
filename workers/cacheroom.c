/* cacheroom.c - see cacheroom.h. Sizes are what the files take; times are access times, which are set
 * by hand because file systems are mounted so that reading does not.
 */
#define _GNU_SOURCE
#include "workers/cacheroom.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

struct stored {
    struct cn_hash fingerprint;
    uint64_t bytes;
    struct timespec used;
    bool fetched;
};

struct folder {
    const char *path;
    struct stored *file;
    int n, cap;
    uint64_t bytes;
};

int cacheroom_lock(const char *path, bool make)
{
    char lock[2200];
    snprintf(lock, sizeof lock, "%s.lock", path);
    return open(lock, O_RDWR | O_CLOEXEC | (make ? O_CREAT : 0), 0666);
}

void cacheroom_used(const char *path)
{
    struct timespec t[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_OMIT}};
    utimensat(AT_FDCWD, path, t, 0); /* a cache that is read-only has no limit either */
}

static void path_of(const struct folder *f, const struct stored *s, char *out, size_t cap)
{
    char hex[CN_HASH_HEX];
    cn_hash_hex(&s->fingerprint, hex);
    snprintf(out, cap, "%s/%s.ecg", f->path, hex);
}

static void add(struct folder *f, const char *name)
{
    char hex[CN_HASH_HEX], path[2150], lock[2200];
    struct stored s = {.bytes = 0};
    struct stat st;
    if (strlen(name) != CN_HASH_HEX - 1 + 4 || strcmp(name + CN_HASH_HEX - 1, ".ecg") != 0) return;
    memcpy(hex, name, CN_HASH_HEX - 1);
    hex[CN_HASH_HEX - 1] = 0;
    if (cn_hash_parse(hex, &s.fingerprint)) return;
    path_of(f, &s, path, sizeof path);
    snprintf(lock, sizeof lock, "%s.lock", path);
    if (stat(path, &st)) return;
    s.bytes = (uint64_t)st.st_size;
    s.used = st.st_atim;
    s.fetched = access(lock, F_OK) == 0;
    if (f->n == f->cap) {
        int cap = f->cap ? 2 * f->cap : 16;
        struct stored *more = realloc(f->file, (size_t)cap * sizeof *more);
        if (!more) return; /* the rest is looked at the next time */
        f->file = more;
        f->cap = cap;
    }
    f->file[f->n++] = s;
    f->bytes += s.bytes;
}

static int older_first(const void *a, const void *b)
{
    const struct stored *x = a, *y = b;
    if (x->used.tv_sec != y->used.tv_sec) return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
    return (x->used.tv_nsec > y->used.tv_nsec) - (x->used.tv_nsec < y->used.tv_nsec);
}

/* Whether it is gone now; not when some process has it open. */
static bool remove_file(const struct folder *f, const struct stored *s)
{
    char path[2150];
    path_of(f, s, path, sizeof path);
    int fd = cacheroom_lock(path, false);
    bool ours = fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB);
    bool gone = ours && !unlink(path);
    if (gone)
        cn_info("worker", "the cache is full: removed a dataset of %.1f MB",
                (double)s->bytes * 1e-6);
    if (fd >= 0) close(fd);
    return gone;
}

uint64_t cacheroom_make(const char *folder, uint64_t limit, uint64_t incoming,
                        void (*close_idle)(void *arg, const struct cn_hash *fingerprint), void *arg)
{
    struct folder f = {.path = folder};
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) add(&f, e->d_name);
    if (d) closedir(d);
    if (f.n) qsort(f.file, (size_t)f.n, sizeof *f.file, older_first);
    for (int i = 0; i < f.n && f.bytes + incoming > limit; i++) {
        if (!f.file[i].fetched) continue;
        close_idle(arg, &f.file[i].fingerprint);
        if (remove_file(&f, &f.file[i])) f.bytes -= f.file[i].bytes;
    }
    free(f.file);
    return f.bytes + incoming > limit ? f.bytes + incoming - limit : 0;
}
