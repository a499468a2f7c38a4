/* base/file.c - see file.h. */
#define _GNU_SOURCE
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_LINKS 40 /* as the kernel */

static const char *kind_of(mode_t mode)
{
    if (S_ISDIR(mode)) return "a folder";
    if (S_ISFIFO(mode)) return "a named pipe";
    if (S_ISSOCK(mode)) return "a socket";
    return "a device";
}

int cn_file_open(const char *path, int64_t *size, struct cn_error *err)
{
    /* without O_NONBLOCK the open itself would wait for a pipe's writer */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return cn_fail_errno(err, "%s", path);
    struct stat st;
    int rc = 0;
    if (fstat(fd, &st))
        rc = cn_fail_errno(err, "%s", path);
    else if (!S_ISREG(st.st_mode))
        rc = cn_fail(err, CN_EINVALID, "%s: %s, where a file is read; copy its content into a file",
                     path, kind_of(st.st_mode));
    if (rc) {
        close(fd);
        return rc;
    }
    if (size) *size = st.st_size;
    return fd;
}

int cn_file_read(const char *path, size_t limit, char **data, size_t *n, struct cn_error *err)
{
    *data = NULL;
    int64_t size = 0;
    int fd = cn_file_open(path, &size, err), rc = 0;
    if (fd < 0) return fd;
    size_t cap = (size_t)size + 1, len = 0;
    if (cap > limit + 1) rc = cn_fail(err, CN_ELIMIT, "%s: larger than %zu bytes", path, limit);
    if (cap < 4096) cap = 4096; /* files of /proc say 0 */
    char *buf = NULL;
    while (!rc) {
        if (len > limit) {
            rc = cn_fail(err, CN_ELIMIT, "%s: larger than %zu bytes", path, limit);
            break;
        }
        if (!buf || len + 1 >= cap) {
            if (buf) cap *= 2;
            char *grown = realloc(buf, cap + 1);
            if (!grown) {
                rc = cn_fail(err, CN_ENOMEM, "%s: out of memory", path);
                break;
            }
            buf = grown;
        }
        ssize_t got = read(fd, buf + len, cap - len);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) rc = cn_fail_errno(err, "%s", path);
        if (got <= 0) break;
        len += (size_t)got;
    }
    close(fd);
    if (rc) {
        free(buf);
        return rc;
    }
    buf[len] = 0;
    *data = buf;
    if (n) *n = len;
    return 0;
}

struct cn_writer {
    int fd;
    bool keep;  /* fail rather than replace a file that is there */
    char *path; /* where the bytes end: links are followed */
    char *tmp;  /* NULL: straight into a device or a FIFO */
};

char *cn_file_target(const char *path, struct cn_error *err)
{
    char *now = strdup(path), to[PATH_MAX];
    for (int hop = 0; now && hop < MAX_LINKS; hop++) {
        ssize_t n = readlink(now, to, sizeof to - 1);
        if (n < 0) return now; /* no link: a file, or nothing yet */
        to[n] = 0;
        const char *slash = *to == '/' ? NULL : strrchr(now, '/');
        char *next = NULL;
        if (asprintf(&next, "%.*s%s", slash ? (int)(slash + 1 - now) : 0, now, to) < 0) next = NULL;
        free(now);
        now = next;
    }
    if (now)
        cn_fail(err, CN_EIO, "%s: links that lead in a circle", path);
    else
        cn_fail(err, CN_ENOMEM, "%s: out of memory", path);
    free(now);
    return NULL;
}

/* A terminal, /dev/null, a FIFO: nothing that a rename could replace. */
static bool takes_a_stream(const struct stat *st)
{
    return S_ISCHR(st->st_mode) || S_ISFIFO(st->st_mode);
}

static int open_stream(struct cn_writer *w, const char *path, struct cn_error *err)
{
    w->path = strdup(path);
    if (!w->path) return cn_fail(err, CN_ENOMEM, "%s: out of memory", path);
    w->fd = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
    return w->fd < 0 ? cn_fail_errno(err, "%s: cannot write", path) : 0;
}

static int open_temporary(struct cn_writer *w, const char *path, struct cn_error *err)
{
    w->path = cn_file_target(path, err);
    if (!w->path) return CN_EIO;
    if (asprintf(&w->tmp, "%s.tmp-XXXXXX", w->path) < 0) {
        w->tmp = NULL;
        return cn_fail(err, CN_ENOMEM, "%s: out of memory", path);
    }
    w->fd = mkostemp(w->tmp, O_CLOEXEC);
    if (w->fd < 0) {
        int rc = cn_fail_errno(err, "%s: cannot create", path);
        free(w->tmp);
        w->tmp = NULL;
        return rc;
    }
    mode_t mask = umask(0);
    umask(mask);
    fchmod(w->fd, 0666 & ~mask);
    return 0;
}

static int writer_open(struct cn_writer **out, const char *path, bool keep, struct cn_error *err)
{
    struct stat st;
    *out = NULL;
    bool there = !stat(path, &st);
    if (there && !S_ISREG(st.st_mode) && !takes_a_stream(&st))
        return cn_fail(err, CN_EINVALID, "%s is %s, not a file", path, kind_of(st.st_mode));
    struct cn_writer *w = calloc(1, sizeof *w);
    if (!w) return cn_fail(err, CN_ENOMEM, "%s: out of memory", path);
    w->fd = -1;
    w->keep = keep;
    int rc =
        there && takes_a_stream(&st) ? open_stream(w, path, err) : open_temporary(w, path, err);
    if (rc)
        cn_writer_abandon(w);
    else
        *out = w;
    return rc;
}

int cn_writer_open(struct cn_writer **w, const char *path, struct cn_error *err)
{
    return writer_open(w, path, false, err);
}

int cn_writer_add(struct cn_writer *w, const void *data, size_t n, struct cn_error *err)
{
    const char *p = data;
    while (n) {
        ssize_t put = write(w->fd, p, n);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return cn_fail_errno(err, "%s: cannot write", w->path);
        p += put;
        n -= (size_t)put;
    }
    return 0;
}

static int sync_folder_of(const char *path, struct cn_error *err)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (!slash)
        strcpy(dir, ".");
    else
        snprintf(dir, sizeof dir, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return cn_fail_errno(err, "%s", dir);
    int rc = fsync(fd) && errno != EINVAL ? cn_fail_errno(err, "%s: fsync", dir) : 0;
    close(fd);
    return rc;
}

/* Gives the temporary file its name; where that must not replace, as one step of the file system, so
 * that nothing that appeared meanwhile is lost. */
static int take_name(struct cn_writer *w, struct cn_error *err)
{
    if (!w->keep) {
        if (!rename(w->tmp, w->path)) return 0;
        return cn_fail_errno(err, "%s: rename", w->path);
    }
    if (!renameat2(AT_FDCWD, w->tmp, AT_FDCWD, w->path, RENAME_NOREPLACE)) return 0;
    if ((errno == EINVAL || errno == ENOSYS) && !link(w->tmp, w->path)) return unlink(w->tmp), 0;
    if (errno == EEXIST) return cn_fail(err, CN_EEXISTS, "%s exists already", w->path);
    return cn_fail_errno(err, "%s: rename", w->path);
}

/* Devices and FIFOs have nothing to sync. */
static int sync_file(const struct cn_writer *w, struct cn_error *err)
{
    if (!fsync(w->fd) || (!w->tmp && (errno == EINVAL || errno == ENOTSUP || errno == EROFS)))
        return 0;
    return cn_fail_errno(err, "%s: fsync", w->path);
}

int cn_file_rename(const char *from, const char *to, struct cn_error *err)
{
    return rename(from, to) ? cn_fail_errno(err, "%s: rename", to) : sync_folder_of(to, err);
}

int cn_writer_commit(struct cn_writer *w, struct cn_error *err)
{
    int rc = sync_file(w, err);
    if (close(w->fd) && !rc) rc = cn_fail_errno(err, "%s: close", w->path);
    w->fd = -1;
    if (!rc && w->tmp) {
        rc = take_name(w, err);
        if (!rc) {
            free(w->tmp);
            w->tmp = NULL;
            rc = sync_folder_of(w->path, err);
        }
    }
    cn_writer_abandon(w);
    return rc;
}

void cn_writer_abandon(struct cn_writer *w)
{
    if (!w) return;
    int saved = errno;
    if (w->fd >= 0) close(w->fd);
    if (w->tmp) unlink(w->tmp);
    free(w->tmp);
    free(w->path);
    free(w);
    errno = saved;
}

static int write_all(struct cn_writer *w, const void *data, size_t n, struct cn_error *err)
{
    int rc = cn_writer_add(w, data, n, err);
    if (!rc) return cn_writer_commit(w, err);
    cn_writer_abandon(w);
    return rc;
}

int cn_file_write(const char *path, const void *data, size_t n, struct cn_error *err)
{
    struct cn_writer *w;
    int rc = writer_open(&w, path, false, err);
    return rc ? rc : write_all(w, data, n, err);
}

int cn_file_write_new(const char *path, const void *data, size_t n, struct cn_error *err)
{
    struct cn_writer *w;
    int rc = writer_open(&w, path, true, err);
    return rc ? rc : write_all(w, data, n, err);
}

/* A block in the place where the file will be made: a folder that is missing or shut, a disk that is
 * full or read-only and a spent quota all show. */
int cn_file_probe(const char *path, struct cn_error *err)
{
    static const char block[4096];
    struct stat st;
    struct cn_writer *w;
    if (!stat(path, &st) && takes_a_stream(&st))
        return access(path, W_OK) ? cn_fail_errno(err, "%s", path) : 0;
    int rc = writer_open(&w, path, false, err);
    if (rc) return rc;
    rc = cn_writer_add(w, block, sizeof block, err);
    cn_writer_abandon(w);
    return rc;
}

int cn_map_open(struct cn_map *m, const char *path, struct cn_error *err)
{
    memset(m, 0, sizeof *m);
    int64_t size = 0;
    int fd = cn_file_open(path, &size, err), rc = 0;
    if (fd < 0) return fd;
    if (size == 0) rc = cn_fail(err, CN_ECORRUPT, "%s: empty file", path);
    if (!rc) {
        void *p = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            rc = cn_fail_errno(err, "%s: mmap", path);
        else {
            m->data = p;
            m->n = (size_t)size;
        }
    }
    close(fd);
    return rc;
}

void cn_map_close(struct cn_map *m)
{
    if (m->data) munmap((void *)m->data, m->n);
    memset(m, 0, sizeof *m);
}

int cn_mkdirs(const char *path, struct cn_error *err)
{
    char buf[PATH_MAX];
    if (snprintf(buf, sizeof buf, "%s", path) >= (int)sizeof buf)
        return cn_fail(err, CN_EINVALID, "%s: path too long", path);
    for (char *p = buf + 1;; p++) {
        if (*p && *p != '/') continue;
        char c = *p;
        *p = 0;
        if (mkdir(buf, 0777) && errno != EEXIST)
            return cn_fail_errno(err, "%s: cannot create folder", buf);
        if (!c) break;
        *p = c;
    }
    return cn_dir_exists(path) ? 0
                               : cn_fail(err, CN_EEXISTS, "%s: exists and is not a folder", path);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

int cn_rmtree(const char *path, struct cn_error *err)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) && errno != ENOENT)
        return cn_fail_errno(err, "%s: cannot remove", path);
    return 0;
}

bool cn_file_exists(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISREG(st.st_mode);
}

bool cn_dir_exists(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

int cn_std_open(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_RDONLY : O_WRONLY) < 0) return -1;
    return 0;
}

int cn_stdout_end(struct cn_error *err)
{
    int lost = ferror(stdout);
    if (fflush(stdout)) return cn_fail_errno(err, "cannot write to stdout");
    int last = fcntl(1, F_DUPFD_CLOEXEC, 3); /* some file systems tell of a full disk on close */
    if (last >= 0 && close(last)) return cn_fail_errno(err, "cannot write to stdout");
    return lost ? cn_fail(err, CN_EIO, "cannot write to stdout: part of the output is lost") : 0;
}
