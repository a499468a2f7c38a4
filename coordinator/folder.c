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

/* Of the process: folders are opened at its start, before there are threads. */
static bool group_access;

int fo_sync(const char *path, struct cn_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return cn_fail_errno(err, "%s", path);
    int rc = fsync(fd) && errno != EINVAL ? cn_fail_errno(err, "%s: fsync", path) : 0;
    close(fd);
    return rc;
}

static int sync_above(const char *path, struct cn_error *err)
{
    char above[PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(above, sizeof above, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    return fo_sync(*above ? above : "/", err);
}

int fo_make(const char *path, struct cn_error *err)
{
    if (mkdir(path, group_access ? 0750 : 0700))
        return errno == EEXIST && cn_dir_exists(path)
                   ? 0
                   : cn_fail_errno(err, "%s: cannot create folder", path);
    int rc = sync_above(path, err);
    if (rc) rmdir(path); /* or the next one would find it and think that it is safe */
    return rc;
}

/* ---- modes */

/* What we make in the state folder; a person may keep other things there. */
static const struct {
    const char *name;
    bool secret;
} ours[] = {
    {"blobs", false},        {"partial", false},  {"quarantine", false},
    {"lock", false},         {"queue.db", false}, {"queue.db-wal", false},
    {"queue.db-shm", false}, {"running", false},  {"server.key", true},
};

static bool secret_now; /* nftw takes no argument */

mode_t fo_file_mode(void)
{
    return group_access ? 0640 : 0600;
}

static int set_mode(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    bool folder = S_ISDIR(st->st_mode), group = group_access && !secret_now;
    mode_t now = st->st_mode & 07777, want = now & ~(mode_t)(group ? 027 : 077);
    if (S_ISLNK(st->st_mode) || S_ISSOCK(st->st_mode) || st->st_uid != geteuid()) return 0;
    if (group) want |= folder ? 0050 : 0040;
    if (want == now) return 0;
    if (secret_now)
        cn_warn(
            "coordinator",
            "%s could be read by others until now (mode %03o); where one of them may have, remove "
            "it, and make the keys anew",
            path, (unsigned)now & 0777);
    return chmod(path, want) ? -1 : 0;
}

static int set_modes(const char *state, struct cn_error *err)
{
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) {
        secret_now = ours[i].secret;
        snprintf(path, sizeof path, "%s/%s", state, ours[i].name);
        if (nftw(path, set_mode, 16, FTW_PHYS) && errno != ENOENT)
            return cn_fail_errno(err, "%s: cannot change who may read it", path);
    }
    return 0;
}

/* The folder itself; one that another account owns is theirs to close. */
static int set_own_mode(const char *state, struct cn_error *err)
{
    struct stat st;
    if (stat(state, &st)) return cn_fail_errno(err, "%s", state);
    if (st.st_uid != geteuid() && st.st_mode & (group_access ? 027 : 077))
        cn_warn("coordinator", "%s belongs to another account and is open to others (mode %03o)",
                state, (unsigned)st.st_mode & 0777);
    secret_now = false;
    return set_mode(state, &st, 0, NULL)
               ? cn_fail_errno(err, "%s: cannot change who may read it", state)
               : 0;
}

int fo_open(const char *state, bool group, struct cn_error *err)
{
    bool fresh = !cn_dir_exists(state);
    int rc = cn_mkdirs(state, err);
    group_access = group;
    if (!rc && fresh && chmod(state, 0700)) rc = cn_fail_errno(err, "%s", state);
    if (!rc && fresh) rc = sync_above(state, err);
    if (!rc) rc = set_own_mode(state, err);
    static const char *const folder[] = {"blobs", "partial", "quarantine"};
    for (size_t i = 0; i < sizeof folder / sizeof *folder && !rc; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", state, folder[i]);
        rc = fo_make(path, err);
    }
    return rc ? rc : set_modes(state, err);
}

/* ---- in order or not */

int fo_begin(const char *state, bool *unclean, struct cn_error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/running", state);
    *unclean = cn_file_exists(path);
    if (*unclean) return 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, fo_file_mode());
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
