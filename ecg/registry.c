/* ecg/registry.c - see registry.h. One file per name, written whole, so that two `cinch data add`
 * at once cannot lose each other's entry. */
#define _GNU_SOURCE
#include "ecg/registry.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/yaml.h"
#include "ecg/ptbxl.h"

#define NAME_MAX_LENGTH 63

static bool join(char *out, size_t cap, const char *a, const char *b, const char *c)
{
    return snprintf(out, cap, "%s/%s%s", a, b, c) < (int)cap;
}

/* --- what lies in a folder ------------------------------------------------------------------- */

static bool annotated(const char *dir, const char *header)
{
    char path[PATH_MAX];
    int stem = (int)strlen(header) - 4;
    if (snprintf(path, sizeof path, "%s/%.*s.atr", dir, stem, header) >= (int)sizeof path)
        return false;
    return !access(path, F_OK);
}

static bool is_header(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && name[0] != '.' && !strcmp(name + n - 4, ".hea");
}

enum ecg_kind ecg_folder_kind(const char *dir)
{
    char path[PATH_MAX];
    if (join(path, sizeof path, dir, "ptbxl_database.csv", "") && !access(path, F_OK))
        return ECG_PTBXL; /* of any kind: what is no file is refused when it is read */
    DIR *d = opendir(dir);
    if (!d) return ECG_NO_DATA;
    enum ecg_kind kind = ECG_NO_DATA;
    for (struct dirent *e; kind == ECG_NO_DATA && (e = readdir(d));)
        if (is_header(e->d_name) && annotated(dir, e->d_name)) kind = ECG_MITDB;
    closedir(d);
    return kind;
}

const char *ecg_kind_name(enum ecg_kind kind)
{
    return kind == ECG_PTBXL ? "ptbxl" : kind == ECG_MITDB ? "mitdb" : "-";
}

/* --- the registry ---------------------------------------------------------------------------- */

static int registry_folder(char *out, size_t cap, struct cn_error *err)
{
    const char *own = getenv("CINCH_DATA"), *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    bool fits;
    if (own && *own)
        fits = join(out, cap, own, "datasets", "");
    else if (xdg && *xdg)
        fits = join(out, cap, xdg, "cinch/datasets", "");
    else if (home && *home)
        fits = join(out, cap, home, ".local/share/cinch/datasets", "");
    else
        return cn_fail(err, CN_EINVALID,
                       "no place for the list of datasets: set CINCH_DATA, XDG_DATA_HOME or HOME");
    return fits ? 0 : cn_fail(err, CN_EINVALID, "the path of the list of datasets is too long");
}

static bool good_name(const char *name)
{
    size_t n = strlen(name);
    if (n < 1 || n > NAME_MAX_LENGTH || !isalnum((unsigned char)name[0])) return false;
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("._-", *p)) return false;
    return true;
}

static int name_path(const char *name, char *path, size_t cap, struct cn_error *err)
{
    char folder[PATH_MAX];
    if (!good_name(name))
        return cn_fail(err, CN_EINVALID,
                       "'%.80s' cannot name a dataset: 1 to 63 letters, digits, '.', '_', '-', the "
                       "first a letter or digit",
                       name);
    int rc = registry_folder(folder, sizeof folder, err);
    if (rc) return rc;
    if (join(path, cap, folder, name, "")) return 0;
    return cn_fail(err, CN_EINVALID, "the path of dataset '%s' is too long", name);
}

/* The folder that the file of a name holds, malloc'ed; NULL when there is no such file. */
static char *read_name(const char *path)
{
    char *text;
    size_t n = 0;
    if (cn_file_read(path, PATH_MAX, &text, &n, NULL)) return NULL;
    while (n && (text[n - 1] == '\n' || text[n - 1] == '\r')) text[--n] = 0;
    if (n && text[0] == '/') return text;
    free(text);
    return NULL;
}

static int no_data(const char *dir, struct cn_error *err)
{
    char inner[PATH_MAX];
    static const char *const nested[] = {"ptbxl", "mitdb", "files"};
    for (size_t i = 0; i < sizeof nested / sizeof *nested; i++)
        if (join(inner, sizeof inner, dir, nested[i], "") && ecg_folder_kind(inner) != ECG_NO_DATA)
            return cn_fail(err, CN_ENOTFOUND, "%.200s: no dataset here; did you mean %.200s?", dir,
                           inner);
    return cn_fail(
        err, CN_ENOTFOUND,
        "%s: no dataset here; expected ptbxl_database.csv (PTB-XL) or records with .hea, "
        ".dat and .atr (MIT-BIH)",
        dir);
}

int ecg_registry_add(const char *name, const char *dir, struct cn_error *err)
{
    char path[PATH_MAX], folder[PATH_MAX], full[PATH_MAX + 2];
    int rc = name_path(name, path, sizeof path, err);
    if (!rc && !realpath(dir, full)) rc = cn_fail_errno(err, "%s", dir);
    if (!rc && !cn_dir_exists(full)) rc = cn_fail(err, CN_EINVALID, "%s: not a folder", dir);
    if (!rc && strchr(full, '\n'))
        rc = cn_fail(err, CN_EINVALID, "%s: a line break in the folder's name", dir);
    if (!rc && ecg_folder_kind(full) == ECG_NO_DATA) rc = no_data(full, err);
    if (!rc) rc = registry_folder(folder, sizeof folder, err);
    if (!rc) rc = cn_mkdirs(folder, err);
    if (rc) return rc;
    char *old = read_name(path);
    if (old && strcmp(old, full) != 0) cn_info("ecg", "dataset %s was %s", name, old);
    free(old);
    size_t n = strlen(full);
    full[n++] = '\n';
    return cn_file_write(path, full, n, err);
}

int ecg_registry_remove(const char *name, struct cn_error *err)
{
    char path[PATH_MAX];
    int rc = name_path(name, path, sizeof path, err);
    if (rc) return rc;
    if (!unlink(path)) return 0;
    if (errno == ENOENT)
        return cn_fail(err, CN_ENOTFOUND, "no dataset is named '%s'; `cinch data list` shows them",
                       name);
    return cn_fail_errno(err, "%s: cannot remove", path);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct ecg_named *)a)->name, ((const struct ecg_named *)b)->name);
}

static int append(struct ecg_registry *r, const char *name, char *dir)
{
    struct ecg_named *grown = realloc(r->of, ((size_t)r->n + 1) * sizeof *r->of);
    if (!grown) return -1;
    r->of = grown;
    snprintf(r->of[r->n].name, sizeof r->of[r->n].name, "%.63s", name);
    r->of[r->n++].dir = dir;
    return 0;
}

static int list_folder(struct ecg_registry *r, DIR *d, const char *folder, struct cn_error *err)
{
    char path[PATH_MAX];
    for (struct dirent *e; (e = readdir(d));) {
        if (!good_name(e->d_name) || strstr(e->d_name, ".tmp-")) continue;
        if (!join(path, sizeof path, folder, e->d_name, "")) continue;
        char *dir = read_name(path);
        if (!dir) continue;
        if (append(r, e->d_name, dir)) {
            free(dir);
            return cn_fail(err, CN_ENOMEM, "out of memory");
        }
    }
    if (r->n) qsort(r->of, (size_t)r->n, sizeof *r->of, by_name);
    return 0;
}

int ecg_registry_list(struct ecg_registry **out, struct cn_error *err)
{
    char folder[PATH_MAX];
    *out = NULL;
    int rc = registry_folder(folder, sizeof folder, err);
    if (rc) return rc;
    struct ecg_registry *r = calloc(1, sizeof *r);
    if (!r) return cn_fail(err, CN_ENOMEM, "out of memory");
    DIR *d = opendir(folder);
    if (d) {
        rc = list_folder(r, d, folder, err);
        closedir(d);
    } else if (errno != ENOENT) {
        rc = cn_fail_errno(err, "%s", folder);
    }
    if (rc) {
        ecg_registry_destroy(r);
        return rc;
    }
    *out = r;
    return 0;
}

void ecg_registry_destroy(struct ecg_registry *r)
{
    if (!r) return;
    for (int i = 0; i < r->n; i++) free(r->of[i].dir);
    free(r->of);
    free(r);
}

/* --- by name --------------------------------------------------------------------------------- */

static int unknown_name(const char *data, struct cn_error *err)
{
    struct ecg_registry *r;
    if (ecg_registry_list(&r, err)) return err ? err->code : CN_EINTERNAL;
    const char **names = calloc((size_t)r->n + 1, sizeof *names);
    for (int i = 0; names && i < r->n; i++) names[i] = r->of[i].name;
    const char *near = names ? cn_nearest(data, names) : NULL;
    if (near)
        cn_fail(err, CN_ENOTFOUND,
                "'%s' is neither a folder nor a dataset's name; did you mean "
                "'%s'?",
                data, near);
    else
        cn_fail(err, CN_ENOTFOUND,
                "'%s' is neither a folder nor a dataset's name; name one with: cinch data add NAME "
                "DIR",
                data);
    free(names);
    ecg_registry_destroy(r);
    return CN_ENOTFOUND;
}

int ecg_data_dir(const char *data, char *dir, size_t cap, struct cn_error *err)
{
    char path[PATH_MAX];
    if (cn_dir_exists(data)) {
        if (snprintf(dir, cap, "%s", data) < (int)cap) return 0;
        return cn_fail(err, CN_EINVALID, "%s: path too long", data);
    }
    char *named = NULL;
    if (good_name(data) && !name_path(data, path, sizeof path, NULL)) named = read_name(path);
    if (!named) return unknown_name(data, err);
    int fits = snprintf(dir, cap, "%s", named) < (int)cap, there = cn_dir_exists(named), rc = 0;
    if (!fits)
        rc = cn_fail(err, CN_EINVALID, "%s: path too long", named);
    else if (!there)
        rc =
            cn_fail(err, CN_ENOTFOUND,
                    "dataset %s lay in %s, which is gone; say where it is now with: cinch data add "
                    "%s DIR",
                    data, named, data);
    free(named);
    return rc;
}

/* --- records --------------------------------------------------------------------------------- */

/* Whether `path` (with or without .hea, .dat or .mat) is a record; if so, without the ending in out. */
static bool is_record(const char *path, char *out, size_t cap)
{
    char header[PATH_MAX];
    size_t n = strlen(path);
    if (n > 4 && (!strcmp(path + n - 4, ".hea") || !strcmp(path + n - 4, ".dat") ||
                  !strcmp(path + n - 4, ".mat")))
        n -= 4;
    if (n + 5 > sizeof header || n + 1 > cap) return false;
    snprintf(header, sizeof header, "%.*s.hea", (int)n, path);
    if (!cn_file_exists(header)) return false;
    memmove(out, path, n);
    out[n] = 0;
    return true;
}

static bool matches(const struct ecg_ptbxl_row *row, const char *record)
{
    char id[16];
    const char *slash = strrchr(row->file, '/');
    snprintf(id, sizeof id, "%d", row->ecg_id);
    return !strcmp(record, row->file) || !strcmp(record, slash ? slash + 1 : row->file) ||
           !strcmp(record, id);
}

/* 1 found, 0 not, or a negative code. */
static int locate_in(const char *dir, const char *record, char *path, size_t cap,
                     struct cn_error *err)
{
    char full[PATH_MAX];
    if (ecg_folder_kind(dir) != ECG_PTBXL)
        return join(full, sizeof full, dir, record, "") && is_record(full, path, cap);
    struct ecg_ptbxl *p;
    int found = 0, rc = ecg_ptbxl_load(&p, dir, false, err);
    if (rc) return rc;
    for (int i = 0; i < p->n && !found; i++)
        if (matches(&p->row[i], record))
            found = join(full, sizeof full, dir, p->row[i].file, "") && is_record(full, path, cap);
    ecg_ptbxl_destroy(p);
    return found;
}

static int locate_anywhere(const char *record, char *path, size_t cap, struct cn_error *err)
{
    struct ecg_registry *r;
    int rc = ecg_registry_list(&r, err), found = 0;
    if (rc) return rc;
    for (int i = 0; i < r->n && found == 0; i++)
        found = locate_in(r->of[i].dir, record, path, cap, err);
    ecg_registry_destroy(r);
    return found;
}

int ecg_record_locate(const char *data, const char *record, char *path, size_t cap,
                      struct cn_error *err)
{
    char dir[PATH_MAX];
    if (is_record(record, path, cap)) return 0;
    int found = 0;
    if (data) {
        found = ecg_data_dir(data, dir, sizeof dir, err);
        if (!found) found = locate_in(dir, record, path, cap, err);
    } else {
        found = locate_anywhere(record, path, cap, err);
    }
    if (found > 0) return 0;
    if (found < 0) return found;
    return cn_fail(err, CN_ENOTFOUND,
                   "no record '%s' %s%s; give its path, or its name and a dataset", record,
                   data ? "in " : "among the registered datasets", data ? data : "");
}
