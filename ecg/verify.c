/* ecg/verify.c - see verify.h. Every record is read in parallel; what is wrong with it is kept per
 * record and told in their order at the end. */
#define _GNU_SOURCE
#include "ecg/verify.h"

#include <dirent.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/pool.h"
#include "ecg/annotation.h"
#include "ecg/cache.h"
#include "ecg/mitdb.h"
#include "ecg/preprocess.h"
#include "ecg/ptbxl.h"
#include "ecg/wfdb.h"

/* One record on the list. */
struct entry {
    char *path;    /* without .hea */
    char *problem; /* NULL: sound */
    int code;
    int64_t bytes;
    int count[ECG_CLASSES]; /* MIT-BIH: beats */
    int unknown;
};

struct job {
    const struct ecg_verify *v;
    enum ecg_kind kind;
    int n, done;
    struct entry *entry; /* [n] */
    pthread_mutex_t lock;
};

/* --- one record ------------------------------------------------------------------------------ */

static int check_ptbxl(const struct ecg_record *r, struct cn_error *err)
{
    float *x = malloc(sizeof *x * ECG_PTBXL_LEADS * ECG_PTBXL_SAMPLES);
    if (!x) return cn_fail(err, CN_ENOMEM, "out of memory");
    int rc = ecg_preprocess(&r->header, r->path, r->adc, ECG_RAW, NULL, x, err);
    free(x);
    return rc;
}

static int check_mitdb(struct entry *e, const struct ecg_record *r, struct cn_error *err)
{
    struct ecg_annotations a;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s.atr", e->path);
    int rc = ecg_annotations_read(&a, path, r->header.n_samples, err);
    if (rc) return rc;
    for (int i = 0; i < a.n; i++) {
        int class = ecg_beat_class(a.of[i].code);
        if (class >= 0) e->count[class]++;
    }
    e->unknown = a.unknown;
    ecg_annotations_clear(&a);
    return 0;
}

static int check_entry(const struct job *j, struct entry *e, struct cn_error *err)
{
    struct ecg_record *r;
    int rc = ecg_record_read(&r, e->path, err);
    if (rc) return rc;
    e->bytes = r->header.n_samples * r->header.n_signals * 2;
    rc = j->kind == ECG_PTBXL ? check_ptbxl(r, err) : check_mitdb(e, r, err);
    ecg_record_destroy(r);
    return rc;
}

static void run_entry(void *arg, int item, int thread)
{
    struct job *j = arg;
    struct cn_error err = {0};
    struct entry *e = &j->entry[item];
    e->code = check_entry(j, e, &err);
    if (e->code) e->problem = strdup(err.text);
    pthread_mutex_lock(&j->lock);
    j->done++;
    if (j->v->progress) j->v->progress(j->v->arg, j->done, j->n);
    pthread_mutex_unlock(&j->lock);
}

/* --- the list -------------------------------------------------------------------------------- */

static int add_entry(struct job *j, const char *name, int stem, struct cn_error *err)
{
    struct entry *grown = realloc(j->entry, ((size_t)j->n + 1) * sizeof *grown);
    if (!grown) return cn_fail(err, CN_ENOMEM, "out of memory");
    j->entry = grown;
    memset(&grown[j->n], 0, sizeof *grown);
    if (asprintf(&grown[j->n].path, "%s/%.*s", j->v->dir, stem, name) < 0)
        return cn_fail(err, CN_ENOMEM, "out of memory");
    j->n++;
    return 0;
}

static int list_ptbxl(struct job *j, struct ecg_verified *out, struct cn_error *err)
{
    struct ecg_ptbxl *p;
    int rc = ecg_ptbxl_load(&p, j->v->dir, false, err);
    if (rc) return rc;
    out->n_labels = ECG_PTBXL_LABELS;
    for (int l = 0; l < ECG_PTBXL_LABELS; l++)
        snprintf(out->label[l], sizeof out->label[l], "%s", ecg_ptbxl_label[l]);
    for (int i = 0; !rc && i < p->n; i++) {
        const struct ecg_ptbxl_row *row = &p->row[i];
        int any = 0;
        for (int l = 0; l < ECG_PTBXL_LABELS; l++) {
            out->count[row->fold][l] += row->label[l];
            any |= row->label[l];
        }
        out->rows[row->fold]++;
        out->unlabelled += !any;
        rc = add_entry(j, row->file, (int)strlen(row->file), err);
    }
    ecg_ptbxl_destroy(p);
    return rc;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->path, ((const struct entry *)b)->path);
}

/* Every annotated record; a header without annotations is no beat record and stays out. */
static int list_mitdb(struct job *j, struct ecg_verified *out, struct cn_error *err)
{
    DIR *d = opendir(j->v->dir);
    if (!d) return cn_fail_errno(err, "%s", j->v->dir);
    out->n_labels = ECG_CLASSES;
    for (int l = 0; l < ECG_CLASSES; l++)
        snprintf(out->label[l], sizeof out->label[l], "%s", ecg_class_name[l]);
    int rc = 0;
    for (struct dirent *e; !rc && (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        if (n > 4 && e->d_name[0] != '.' && !strcmp(e->d_name + n - 4, ".atr"))
            rc = add_entry(j, e->d_name, (int)n - 4, err);
    }
    closedir(d);
    if (j->n) qsort(j->entry, (size_t)j->n, sizeof *j->entry, by_path);
    return rc;
}

static int list(struct job *j, struct ecg_verified *out, struct cn_error *err)
{
    out->kind = j->kind = ecg_folder_kind(j->v->dir);
    if (j->kind == ECG_PTBXL) return list_ptbxl(j, out, err);
    if (j->kind == ECG_MITDB) return list_mitdb(j, out, err);
    return cn_fail(err, CN_ENOTFOUND, "%s: no dataset here", j->v->dir);
}

/* --- caches ---------------------------------------------------------------------------------- */

static int check_cache(const struct ecg_verify *v, const struct ecg_build *b,
                       struct ecg_verified *out, struct cn_error *err)
{
    struct ecg_dataset *d;
    char path[PATH_MAX];
    int rc = ecg_dataset_peek(&d, b, err);
    if (rc || !d) return rc;
    out->caches++;
    rc = ecg_cache_check_samples(d, err);
    if (rc == CN_ECORRUPT) {
        out->damaged_caches++;
        if (!ecg_dataset_path(d, path, sizeof path)) unlink(path);
        if (v->problem) v->problem(v->arg, err->text);
    }
    ecg_dataset_close(d);
    return rc;
}

/* With the options that a command line gives when nothing is said. Keeps the first complaint. */
static int check_caches(const struct ecg_verify *v, enum ecg_kind kind, struct ecg_verified *out,
                        struct cn_error *err)
{
    struct ecg_build b[2] = {{.dir = v->dir, .cache_dir = v->cache_dir, .threads = v->threads}};
    struct cn_error other;
    b[1] = b[0];
    if (kind == ECG_PTBXL)
        b[1].drop_unlabelled = 1;
    else
        b[1].split = ECG_SPLIT_INTER_PATIENT;
    int first = check_cache(v, &b[0], out, err);
    int second = check_cache(v, &b[1], out, first ? &other : err);
    return first ? first : second;
}

/* --- the whole ------------------------------------------------------------------------------- */

/* Adds the entries up; 0, or CN_ECORRUPT with the first problem. */
static int sum_up(const struct job *j, struct ecg_verified *out, struct cn_error *err)
{
    const struct entry *first = NULL;
    for (int i = 0; i < j->n; i++) {
        const struct entry *e = &j->entry[i];
        out->records++;
        out->bytes += e->bytes;
        out->unknown += e->unknown;
        for (int c = 0; c < ECG_CLASSES && j->kind == ECG_MITDB; c++) {
            out->count[0][c] += e->count[c];
            out->rows[0] += e->count[c];
        }
        if (!e->code) continue;
        if (!first) first = e;
        out->damaged++;
        if (j->v->problem) j->v->problem(j->v->arg, e->problem ? e->problem : "out of memory");
    }
    if (!first) return 0;
    return cn_fail(err, CN_ECORRUPT, "%d of %d records are damaged; the first: %s", out->damaged,
                   out->records, first->problem ? first->problem : "out of memory");
}

int ecg_verify(const struct ecg_verify *v, struct ecg_verified *out, struct cn_error *err)
{
    struct job j = {.v = v};
    memset(out, 0, sizeof *out);
    pthread_mutex_init(&j.lock, NULL);
    int rc = list(&j, out, err);
    long threads = v->threads > 0 ? v->threads : sysconf(_SC_NPROCESSORS_ONLN);
    struct cn_pool *pool = rc ? NULL : cn_pool_create(threads < 1 ? 1 : (int)threads);
    if (!rc) {
        cn_pool_run(pool, j.n, run_entry, &j); /* without a pool: in this thread */
        rc = sum_up(&j, out, err);
        if (!rc) rc = check_caches(v, j.kind, out, err);
    }
    cn_pool_destroy(pool);
    for (int i = 0; i < j.n; i++) {
        free(j.entry[i].path);
        free(j.entry[i].problem);
    }
    free(j.entry);
    pthread_mutex_destroy(&j.lock);
    return rc;
}
