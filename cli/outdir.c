/* cli/outdir.c - see outdir.h. The list is written before the files are, so that a process that is
 * killed in between finds its own files again; for a name it then has two hashes. */
#define _GNU_SOURCE /* asprintf */
#include "cli/outdir.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#define LIST ".cinch-files"
#define MAX_LIST (16u << 20)
#define MAX_FILE ((size_t)1 << 30)

struct cli_outdir {
    char *dir;
    bool force;
    char *list; /* its text; "" when there is none */
    size_t n;
    size_t replaced; /* files with other bytes that made way */
};

static char *path_of(const struct cli_outdir *d, const char *name)
{
    char *path;
    return asprintf(&path, "%s/%s", d->dir, name) < 0 ? NULL : path;
}

const char *cli_outdir_path(const struct cli_outdir *d)
{
    return d->dir;
}

/* Whether cinch put such a file there. */
static bool is_listed(const struct cli_outdir *d, const char *name, const struct cn_hash *hash)
{
    char hex[CN_HASH_HEX];
    size_t n = strlen(name);
    cn_hash_hex(hash, hex);
    for (const char *line = d->list; line && *line;) {
        const char *end = strchrnul(line, '\n');
        if ((size_t)(end - line) == CN_HASH_HEX + n && !memcmp(line, hex, CN_HASH_HEX - 1) &&
            !memcmp(line + CN_HASH_HEX, name, n))
            return true;
        line = *end ? end + 1 : end;
    }
    return false;
}

/* `hash` NULL: of bytes that are not known yet. */
static int may(struct cli *c, const struct cli_outdir *d, const char *name,
               const struct cn_hash *hash, bool *there)
{
    struct stat st;
    struct cn_hash has;
    char *path = path_of(d, name);
    *there = false;
    if (!path) return cn_fail(&c->err, CN_ENOMEM, "out of memory");
    int rc = 0;
    if (!stat(path, &st)) {
        if (!S_ISREG(st.st_mode))
            rc = cn_fail(&c->err, CN_EEXISTS, "%s is there already and is no plain file", path);
        else
            rc = cn_hash_file(path, &has, &c->err);
        if (!rc) *there = hash && !memcmp(&has, hash, sizeof has);
        if (!rc && !*there && !d->force && !is_listed(d, name, &has))
            rc = cn_fail(&c->err, CN_EEXISTS,
                         "%s exists already, and not as cinch wrote it; name another folder, or "
                         "--force replaces it",
                         path);
    }
    free(path);
    return rc;
}

/* The folder that is there of a path of which the end may be missing; in place. */
static void nearest_folder(char *path)
{
    struct stat st;
    while (stat(path, &st) && (errno == ENOENT || errno == ENOTDIR)) {
        char *slash = strrchr(path, '/');
        if (!slash) {
            strcpy(path, ".");
            return;
        }
        slash[slash == path] = 0;
    }
}

static int check_folder(struct cli *c, const char *dir)
{
    if (!strcmp(dir, "-"))
        return cn_fail(&c->err, CN_EINVALID,
                       "- is standard output, and this command fills a folder; ./- names one");
    char *path = strdup(dir);
    if (!path || !*path) {
        free(path);
        return cn_fail(&c->err, CN_EINVALID, "'%s' is not a folder", dir);
    }
    nearest_folder(path);
    int rc = 0;
    if (!cn_dir_exists(path))
        rc = cn_fail(&c->err, CN_EINVALID, "%s: %s is not a folder", dir, path);
    else if (access(path, W_OK | X_OK))
        rc = cn_fail_errno(&c->err, "%s: nothing can be made in the folder %s", dir, path);
    free(path);
    return rc;
}

int cli_outdir_open(struct cli *c, const char *dir, bool force, const char *const *names,
                    struct cli_outdir **out)
{
    bool there;
    *out = NULL;
    int rc = check_folder(c, dir);
    if (rc) return rc;
    struct cli_outdir *d = calloc(1, sizeof *d);
    char *list = NULL;
    if (d && (d->dir = strdup(dir))) {
        d->force = force;
        list = path_of(d, LIST);
    }
    if (!list) rc = cn_fail(&c->err, CN_ENOMEM, "out of memory");
    if (!rc && cn_dir_exists(dir)) rc = cn_file_probe(list, &c->err);
    if (!rc && cn_file_exists(list)) rc = cn_file_read(list, MAX_LIST, &d->list, &d->n, &c->err);
    for (; !rc && names && *names; names++) rc = may(c, d, *names, NULL, &there);
    free(list);
    if (rc)
        cli_outdir_close(d);
    else
        *out = d;
    return rc;
}

void cli_outdir_close(struct cli_outdir *d)
{
    if (!d) return;
    free(d->dir);
    free(d->list);
    free(d);
}

int cli_outdir_may(struct cli *c, struct cli_outdir *d, const char *name,
                   const struct cn_hash *hash, bool *there)
{
    bool same, other = false;
    char *path = path_of(d, name);
    int rc = path ? cn_mkdirs(d->dir, &c->err) : cn_fail(&c->err, CN_ENOMEM, "out of memory");
    if (!rc) rc = may(c, d, name, hash, &same);
    if (!rc) other = !same && cn_file_exists(path);
    if (!rc && there) *there = same;
    d->replaced += other;
    free(path);
    return rc;
}

size_t cli_outdir_replaced(const struct cli_outdir *d)
{
    return d->replaced;
}

/* A line in memory; save() writes all of them. */
static int add_line(struct cli *c, struct cli_outdir *d, const char *name,
                    const struct cn_hash *hash)
{
    char hex[CN_HASH_HEX], *grown = NULL;
    if (is_listed(d, name, hash)) return 0;
    cn_hash_hex(hash, hex);
    int n = asprintf(&grown, "%s%s %s\n", d->list ? d->list : "", hex, name);
    if (n < 0) return cn_fail(&c->err, CN_ENOMEM, "out of memory");
    free(d->list);
    d->list = grown;
    d->n = (size_t)n;
    return 0;
}

static int save(struct cli *c, struct cli_outdir *d)
{
    char *path = path_of(d, LIST);
    if (!path) return cn_fail(&c->err, CN_ENOMEM, "out of memory");
    int rc = cn_file_write(path, d->list ? d->list : "", d->n, &c->err);
    free(path);
    return rc;
}

int cli_outdir_note(struct cli *c, struct cli_outdir *d, const char *name,
                    const struct cn_hash *hash)
{
    size_t before = d->n;
    int rc = add_line(c, d, name, hash);
    return rc || d->n == before ? rc : save(c, d);
}

/* ---- a folder of files */

typedef int act_fn(struct cli *c, struct cli_outdir *d, const char *from, const char *name);

static int check_one(struct cli *c, struct cli_outdir *d, const char *from, const char *name)
{
    struct cn_hash hash;
    int rc = cn_hash_file(from, &hash, &c->err);
    bool ignored;
    if (!rc) rc = cn_mkdirs(d->dir, &c->err);
    if (!rc) rc = may(c, d, name, &hash, &ignored);
    return rc ? rc : add_line(c, d, name, &hash);
}

static int put_one(struct cli *c, struct cli_outdir *d, const char *from, const char *name)
{
    struct cn_hash hash;
    bool there = false;
    char *to = path_of(d, name), *data = NULL;
    size_t n = 0;
    int rc = to ? cn_hash_file(from, &hash, &c->err) : cn_fail(&c->err, CN_ENOMEM, "out of memory");
    if (!rc) rc = may(c, d, name, &hash, &there);
    if (!rc && !there) {
        *strrchr(to, '/') = 0;
        rc = cn_mkdirs(to, &c->err);
        to[strlen(to)] = '/';
        if (!rc) rc = cn_file_read(from, MAX_FILE, &data, &n, &c->err);
        if (!rc) rc = cn_file_write(to, data, n, &c->err);
    }
    free(to);
    free(data);
    return rc;
}

static int each_file(struct cli *c, struct cli_outdir *d, const char *from, const char *prefix,
                     act_fn *act)
{
    DIR *folder = opendir(from);
    if (!folder) return cn_fail_errno(&c->err, "%s", from);
    int rc = 0;
    for (struct dirent *e; !rc && (e = readdir(folder));) {
        char *path = NULL, *name = NULL;
        if (e->d_name[0] == '.') continue;
        if (asprintf(&path, "%s/%s", from, e->d_name) < 0) path = NULL;
        if (asprintf(&name, "%s%s%s", prefix, *prefix ? "/" : "", e->d_name) < 0) name = NULL;
        if (!path || !name)
            rc = cn_fail(&c->err, CN_ENOMEM, "out of memory");
        else
            rc = cn_dir_exists(path) ? each_file(c, d, path, name, act) : act(c, d, path, name);
        free(path);
        free(name);
    }
    closedir(folder);
    return rc;
}

int cli_outdir_take(struct cli *c, struct cli_outdir *d, const char *from)
{
    int rc = each_file(c, d, from, "", check_one);
    if (!rc) rc = save(c, d);
    return rc ? rc : each_file(c, d, from, "", put_one);
}
