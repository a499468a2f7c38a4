/* coordinator/folder.c - see folder.h. */
#define _GNU_SOURCE /* nftw */
#include "coordinator/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"

int fo_sync(const char *path, struct cn_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return cn_fail_errno(err, "%s", path);
    int rc = fsync(fd) && errno != EINVAL ? cn_fail_errno(err, "%s: fsync", path) : 0;
    close(fd);
    return rc;
}

int fo_make(const char *path, struct cn_error *err)
{
    if (mkdir(path, 0700))
        return errno == EEXIST && cn_dir_exists(path)
                   ? 0
                   : cn_fail_errno(err, "%s: cannot create folder", path);
    char above[PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(above, sizeof above, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    int rc = fo_sync(*above ? above : "/", err);
    if (rc) rmdir(path); /* or the next one would find it and think that it is safe */
    return rc;
}

/* ---- modes */

/* What we make in the state folder; a person may keep other things there. */
static const struct {
    const char *name;
    bool secret;
} ours[] = {
    {"blobs", false},     {"partial", false},      {"quarantine", false},   {"lock", false},
    {"queue.db", false},  {"queue.db-wal", false}, {"queue.db-shm", false}, {"running", false},
    {"server.key", true}, {"http.token", true},
};

static bool group_too; /* nftw takes no argument; the state folder is opened by one thread */

static int tighten(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    mode_t no = group_too ? 027 : 077;
    if (S_ISLNK(st->st_mode) || S_ISSOCK(st->st_mode) || st->st_uid != geteuid() ||
        !(st->st_mode & no))
        return 0;
    return chmod(path, st->st_mode & 07777 & ~no) ? -1 : 0;
}

static int tighten_all(const char *state, bool group, struct cn_error *err)
{
    char path[PATH_MAX];
    struct stat st;
    int bad = 0;
    for (size_t i = 0; i < sizeof ours / sizeof *ours && !bad; i++) {
        group_too = group && !ours[i].secret;
        snprintf(path, sizeof path, "%s/%s", state, ours[i].name);
        bad = nftw(path, tighten, 16, FTW_PHYS) && errno != ENOENT;
    }
    if (bad) return cn_fail_errno(err, "%s: cannot close it to others", path);
    if (group && !stat(state, &st) && st.st_uid == geteuid())
        return chmod(state, (st.st_mode & 07777 & ~027) | 0050)
                   ? cn_fail_errno(err, "%s: cannot open it to its group", state)
                   : 0;
    return 0;
}

int fo_open(const char *state, bool group, struct cn_error *err)
{
    struct stat st;
    bool fresh = !cn_dir_exists(state);
    int rc = cn_mkdirs(state, err);
    if (rc) return rc;
    if (stat(state, &st)) return cn_fail_errno(err, "%s", state);
    mode_t no = group ? 027 : 077;
    if (st.st_uid != geteuid() && st.st_mode & no)
        cn_warn("coordinator", "%s belongs to another account and is open to others (mode %03o)",
                state, (unsigned)st.st_mode & 0777);
    else if (fresh ? chmod(state, 0700)
                   : (st.st_mode & no) && chmod(state, st.st_mode & 07777 & ~no))
        return cn_fail_errno(err, "%s: cannot close it to others", state);
    static const char *const folder[] = {"blobs", "partial", "quarantine"};
    for (size_t i = 0; i < sizeof folder / sizeof *folder && !rc; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", state, folder[i]);
        rc = fo_make(path, err);
    }
    return rc ? rc : tighten_all(state, group, err);
}

/* ---- in order or not */

int fo_begin(const char *state, bool *unclean, struct cn_error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/running", state);
    *unclean = cn_file_exists(path);
    if (*unclean) return 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return cn_fail_errno(err, "%s", path);
    close(fd);
    return fo_sync(state, err);
}

void fo_end(const char *state)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/running", state);
    unlink(path);
}
