/* cli/checkpoint.c - see checkpoint.h. */
#include "cli/checkpoint.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "cli/out.h"

#define MOST_NAMES 99

static void name_of(const struct cli_checkpoint *ck, int k, char path[4096])
{
    char number[16] = "";
    if (k > 1) snprintf(number, sizeof number, "-%d", k);
    snprintf(path, 4096, "%s.checkpoint%s.safetensors", ck->stem, number);
}

static void claim(struct cli_checkpoint *ck, const char *path)
{
    struct stat st;
    if (stat(path, &st)) return;
    snprintf(ck->path, sizeof ck->path, "%s", path);
    ck->dev = st.st_dev;
    ck->ino = st.st_ino;
}

static bool still_own(const struct cli_checkpoint *ck)
{
    struct stat st;
    return *ck->path && !stat(ck->path, &st) && st.st_dev == ck->dev && st.st_ino == ck->ino;
}

void cli_checkpoint_start(struct cli_checkpoint *ck, const char *out, const char *net,
                          const char *resume)
{
    static const char ending[] = ".safetensors";
    struct stat st;
    char path[4096];
    bool plain = strcmp(out, "-") && (stat(out, &st) || S_ISREG(st.st_mode));
    *ck = (struct cli_checkpoint){.written = false};
    snprintf(ck->stem, sizeof ck->stem, "%s", plain ? out : net);
    size_t n = strlen(ck->stem), e = sizeof ending - 1;
    if (n > e && !strcmp(ck->stem + n - e, ending)) ck->stem[n - e] = 0;
    for (int k = 1; resume && k <= MOST_NAMES; k++) {
        name_of(ck, k, path);
        if (!cli_same_file(path, resume)) continue;
        claim(ck, path);
        return;
    }
}

const char *cli_checkpoint_other(const struct cli_checkpoint *ck, char path[4096])
{
    struct stat st;
    name_of(ck, 1, path);
    if (*ck->path || lstat(path, &st)) path[0] = 0;
    return path;
}

int cli_checkpoint_write(struct cli_checkpoint *ck, const void *data, size_t n)
{
    char path[4096];
    int rc = CN_EEXISTS;
    ck->err = (struct cn_error){0};
    if (still_own(ck)) {
        snprintf(path, sizeof path, "%s", ck->path);
        rc = cn_file_write(path, data, n, &ck->err);
    } else {
        for (int k = 1; rc == CN_EEXISTS && k <= MOST_NAMES; k++) {
            name_of(ck, k, path);
            rc = cn_file_write_new(path, data, n, &ck->err);
        }
    }
    if (rc) return rc;
    ck->err = (struct cn_error){0};
    ck->written = true;
    claim(ck, path);
    return 0;
}

void cli_checkpoint_done(struct cli_checkpoint *ck)
{
    if (still_own(ck)) remove(ck->path);
}
