/* ecg/verify.c - see verify.h. Records are read in parallel by the source's check(), which is what its
 * build is made of; what is wrong with one is kept and told in their order at the end. */
#define _GNU_SOURCE
#include "ecg/verify.h"

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/pool.h"
#include "ecg/cache.h"
#include "ecg/remarks.h"
#include "ecg/source.h"

struct job {
    const struct ecg_verify *v;
    struct ecg_source source;
    char **problem; /* [items], NULL: sound */
    int done;
    pthread_mutex_t lock;
};

static void run_item(void *arg, int item, int thread)
{
    struct job *j = arg;
    struct cn_error err = {0};
    if (j->source.check(&j->source, item, &err)) {
        j->problem[item] = strdup(err.text);
        j->source.item_of[item].read = false;
    }
    pthread_mutex_lock(&j->lock);
    j->done++;
    if (j->v->progress) j->v->progress(j->v->arg, j->done, j->source.items);
    pthread_mutex_unlock(&j->lock);
}

/* --- caches ---------------------------------------------------------------------------------- */

static int check_cache(const struct ecg_verify *v, const struct ecg_build *b,
                       struct ecg_verified *out, struct cn_error *err)
{
    struct ecg_dataset *d;
    char path[PATH_MAX];
    /* a choice of options that nothing can be built with has no cache */
    if (ecg_dataset_peek(&d, b, NULL) || !d) return 0;
    out->caches++;
    int rc = ecg_cache_check_samples(d, err);
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
    struct ecg_build b[2] = {
        {.dir = v->dir, .cache_dir = v->cache_dir, .gaps = v->gaps, .threads = v->threads}};
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

/* Beats have no fold of their own: row 0. */
static void count_item(const struct job *j, const struct ecg_item *item, struct ecg_verified *out)
{
    int fold = out->kind == ECG_PTBXL ? item->fold : 0, labels = 0;
    bool listed =
        out->kind == ECG_PTBXL; /* its labels stand in the table, whatever its samples are */
    out->bytes += item->bytes;
    out->bridged += item->bridged;
    out->unknown += item->unknown;
    out->rows[fold] += listed ? 1 : item->rows;
    for (int l = 0; l < out->n_labels; l++) {
        out->count[fold][l] += item->count[l];
        labels += item->count[l];
    }
    out->unlabelled += listed && !labels;
}

/* Adds the records up; 0, or CN_ECORRUPT with the first problem. */
static int sum_up(const struct job *j, struct ecg_verified *out, struct cn_error *err)
{
    const char *first = NULL;
    for (int i = 0; i < j->source.items; i++) {
        const char *problem = j->problem[i];
        out->records++;
        count_item(j, &j->source.item_of[i], out);
        if (!problem) continue;
        if (!first) first = problem;
        out->damaged++;
        if (j->v->problem) j->v->problem(j->v->arg, problem);
    }
    if (!first) return 0;
    return cn_fail(err, CN_ECORRUPT, "%d of %d records are damaged; the first: %s", out->damaged,
                   out->records, first);
}

/* What holds for all records together; told even when some are damaged. */
static int judge_whole(struct job *j, struct ecg_verified *out, struct cn_error *err)
{
    int rows[4] = {0}, rc = j->source.whole(&j->source, rows, err);
    struct ecg_remarks r;
    if (rc && out->damaged) return 0; /* the damage is the reason, and is told */
    if (rc && j->v->problem) j->v->problem(j->v->arg, err->text);
    if (rc) return rc;
    rc = ecg_remarks_make(&r, &j->source, rows, err);
    for (int i = 0; !rc && i < r.n; i++)
        if (j->v->remark) j->v->remark(j->v->arg, r.line[i]);
    out->remarks = rc ? 0 : r.n;
    if (!rc) ecg_remarks_clear(&r);
    return rc;
}

static int check_all(struct job *j, struct ecg_verified *out, struct cn_error *err)
{
    long threads = j->v->threads > 0 ? j->v->threads : sysconf(_SC_NPROCESSORS_ONLN);
    struct cn_pool *pool = cn_pool_create(threads < 1 ? 1 : (int)threads);
    struct cn_error first = {0};
    j->problem = calloc((size_t)j->source.items + 1, sizeof *j->problem);
    if (!j->problem) {
        cn_pool_destroy(pool);
        return cn_fail(err, CN_ENOMEM, "out of memory");
    }
    cn_pool_run(pool, j->source.items, run_item, j); /* without a pool: in this thread */
    cn_pool_destroy(pool);
    int damaged = sum_up(j, out, &first), rc = judge_whole(j, out, err);
    if (!rc && damaged) rc = cn_fail(err, damaged, "%s", first.text);
    return rc ? rc : check_caches(j->v, out->kind, out, err);
}

static void describe(const struct ecg_source *s, struct ecg_verified *out)
{
    out->n_labels = s->shape.n_labels;
    memcpy(out->label, s->shape.label, sizeof out->label);
}

int ecg_verify(const struct ecg_verify *v, struct ecg_verified *out, struct cn_error *err)
{
    struct job j = {.v = v};
    struct ecg_build b = {.dir = v->dir, .gaps = v->gaps};
    memset(out, 0, sizeof *out);
    pthread_mutex_init(&j.lock, NULL);
    out->kind = ecg_folder_kind(v->dir);
    int rc = ecg_source_open(&j.source, &b, err);
    if (!rc) {
        describe(&j.source, out);
        rc = check_all(&j, out, err);
    }
    for (int i = 0; j.problem && i < j.source.items; i++) free(j.problem[i]);
    free(j.problem);
    ecg_source_clear(&j.source);
    pthread_mutex_destroy(&j.lock);
    return rc;
}
