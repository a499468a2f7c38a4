/* ecg/dataset.c - from a folder to a mapped cache file; see dataset.h.
 *
 * The cache folder holds
 *     <fingerprint>.ecg    a dataset (cache.c has the format)
 *     <fingerprint>.notes  what is to be said of it whenever it is used (remarks.h); a cache without
 *                          was built before records were checked as they are now, and is built again
 *     <fingerprint>.lock   held (flock) by the process that builds it; always empty
 *     keys/<key>           the fingerprint that a folder in a given state led to (inputs.h)
 * Opening: list the inputs and stat them for the key; a known key leads to the file at once. Else
 * hash all inputs for the fingerprint; where that file exists, remember the key and be done. Else
 * take the lock, look again (another builder may have finished meanwhile), build into
 * <fingerprint>.ecg.part and rename. A builder that dies leaves a .part that the next one starts
 * over; the kernel drops its lock. Anything in the folder may be deleted at any time.
 */
#define _GNU_SOURCE
#include "ecg/dataset.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/pool.h"
#include "ecg/cache.h"
#include "ecg/remarks.h"
#include "ecg/source.h"

/* What ecg_dataset.mapping points to. */
struct mapping {
    struct cn_map map;
    char path[PATH_MAX];
    float *own; /* samples of another normalisation than the file's, or NULL */
};

/* --- open files ------------------------------------------------------------------------------ */

void ecg_dataset_close(struct ecg_dataset *d)
{
    if (!d) return;
    struct mapping *m = d->mapping;
    if (m) cn_map_close(&m->map);
    if (m) free(m->own);
    free(m);
    free(d);
}

static int check_row(const struct ecg_dataset *d, int row, const float *x, struct cn_error *err)
{
    int n = d->n_leads * d->n_samples;
    for (int i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return cn_fail(err, CN_EINVALID,
                           "dataset %s: record %s, lead %d: sample %d is not finite by another "
                           "normalisation",
                           d->name, d->id[row], i / d->n_samples + 1, i % d->n_samples);
    return 0;
}

int ecg_dataset_renormalise(struct ecg_dataset *d, const float *mean, const float *std,
                            struct cn_error *err)
{
    struct mapping *m = d->mapping;
    size_t leads = (size_t)d->n_leads, row = leads * (size_t)d->n_samples;
    if (!memcmp(mean, d->mean, leads * sizeof *mean) && !memcmp(std, d->std, leads * sizeof *std))
        return 0;
    float *x = malloc((size_t)d->n * row * sizeof *x);
    int rc = x ? 0 : cn_fail(err, CN_ENOMEM, "dataset %s: out of memory", d->name);
    for (int r = 0; !rc && r < d->n; r++) {
        const float *from = d->x + (size_t)r * row;
        float *to = x + (size_t)r * row;
        for (int l = 0; l < d->n_leads; l++)
            for (int t = 0; t < d->n_samples; t++, from++, to++)
                *to = (*from * d->std[l] + d->mean[l] - mean[l]) / std[l];
        rc = check_row(d, r, x + (size_t)r * row, err);
    }
    if (rc) {
        free(x);
        return rc;
    }
    free(m->own);
    d->x = m->own = x;
    memcpy(d->mean, mean, leads * sizeof *mean);
    memcpy(d->std, std, leads * sizeof *std);
    return 0;
}

int ecg_dataset_map(struct ecg_dataset **out, const char *path, struct cn_error *err)
{
    *out = NULL;
    struct ecg_dataset *d = calloc(1, sizeof *d);
    struct mapping *m = calloc(1, sizeof *m);
    int rc = d && m ? 0 : cn_fail(err, CN_ENOMEM, "%s: out of memory", path);
    if (!rc && snprintf(m->path, sizeof m->path, "%s", path) >= (int)sizeof m->path)
        rc = cn_fail(err, CN_EINVALID, "%s: path too long", path);
    if (!rc) rc = cn_map_open(&m->map, path, err);
    if (!rc) rc = ecg_cache_check(d, path, m->map.data, m->map.n, err);
    if (rc) {
        if (m) cn_map_close(&m->map);
        free(m);
        free(d);
        return rc;
    }
    d->mapping = m;
    *out = d;
    return 0;
}

int ecg_dataset_path(const struct ecg_dataset *d, char *path, int cap)
{
    const struct mapping *m = d->mapping;
    return snprintf(path, (size_t)cap, "%s", m->path) < cap ? 0 : CN_ELIMIT;
}

int ecg_dataset_part(const struct ecg_dataset *d, enum ecg_part part, uint32_t **idx, int *n,
                     struct cn_error *err)
{
    int count = 0;
    for (int i = 0; i < d->n; i++) count += d->part[i] == part;
    *n = count;
    *idx = malloc(((size_t)count + 1) * sizeof **idx);
    if (!*idx) return cn_fail(err, CN_ENOMEM, "out of memory");
    for (int i = 0, k = 0; i < d->n; i++)
        if (d->part[i] == part) (*idx)[k++] = (uint32_t)i;
    return 0;
}

void ecg_dataset_class_weights(const struct ecg_dataset *d, enum ecg_part part,
                               float weight[ECG_MAX_LABELS])
{
    int64_t count[ECG_MAX_LABELS] = {0}, all = 0, present = 0;
    for (int i = 0; i < d->n; i++)
        if (d->part[i] == part) {
            all++;
            for (int l = 0; l < d->n_labels; l++) count[l] += d->y[(int64_t)i * d->n_labels + l];
        }
    for (int l = 0; l < d->n_labels; l++) present += count[l] > 0;
    for (int l = 0; l < ECG_MAX_LABELS; l++)
        weight[l] = l < d->n_labels && count[l] ? (float)all / (float)(present * count[l]) : 0;
}

/* --- the cache folder ------------------------------------------------------------------------ */

static int print_path(char *out, size_t cap, struct cn_error *err, const char *a, const char *b)
{
    if (snprintf(out, cap, "%s%s", a, b) < (int)cap) return 0;
    return cn_fail(err, CN_EINVALID, "%s%s: path too long", a, b);
}

static int cache_folder(const char *asked, char *out, size_t cap, struct cn_error *err)
{
    const char *own = getenv("CINCH_CACHE"), *xdg = getenv("XDG_CACHE_HOME"),
               *home = getenv("HOME");
    if (asked && *asked) return print_path(out, cap, err, asked, "");
    if (own && *own) return print_path(out, cap, err, own, "");
    if (xdg && *xdg) return print_path(out, cap, err, xdg, "/cinch");
    if (home && *home) return print_path(out, cap, err, home, "/.cache/cinch");
    return cn_fail(err, CN_EINVALID,
                   "no place for the dataset cache: set CINCH_CACHE, XDG_CACHE_HOME or HOME");
}

/* A build on its way. */
struct job {
    const struct ecg_build *b;
    struct ecg_source source;
    struct cn_pool *pool;
    char folder[PATH_MAX - 128];
    char path[PATH_MAX];     /* of the cache file, once the fingerprint is known */
    char key_path[PATH_MAX]; /* of the key's file */
    struct ecg_remarks remarks;

    /* progress and the first error, behind the lock */
    pthread_mutex_t lock;
    int done, total, pass;
    struct ecg_cache_writer *writer;
    atomic_int failed; /* lowest item that failed, or `items` */
    struct cn_error error;
};

/* The path of the remarks that belong to j->path. */
static void notes_path(const struct job *j, char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%.*s.notes", (int)strlen(j->path) - 4, j->path);
}

static void set_fingerprint(struct job *j, const struct cn_hash *fingerprint)
{
    char hex[CN_HASH_HEX];
    j->source.shape.fingerprint = *fingerprint;
    cn_hash_hex(fingerprint, hex);
    snprintf(j->path, sizeof j->path, "%s/%s.ecg", j->folder, hex);
}

/* Opens j->path when it is there, sound and has its remarks, which are kept in j: 1, else 0 (a damaged
 * one is rebuilt). */
static int open_existing(struct job *j, struct ecg_dataset **out)
{
    struct cn_error err;
    char notes[PATH_MAX];
    int rc = ecg_dataset_map(out, j->path, &err);
    if (rc == CN_ENOTFOUND) return 0;
    notes_path(j, notes);
    ecg_remarks_clear(&j->remarks);
    if (rc)
        cn_warn("ecg", "%s; building it again", err.text);
    else if (memcmp(&(*out)->fingerprint, &j->source.shape.fingerprint, CN_HASH_BYTES) != 0)
        cn_warn("ecg", "%s: a dataset cache under a wrong name; building it again", j->path);
    else if (ecg_remarks_read(&j->remarks, notes, NULL))
        cn_info("ecg", "%s: built before records were checked as they are now; building it again",
                j->path);
    else
        return 1;
    ecg_dataset_close(*out);
    *out = NULL;
    return 0;
}

static void recall_key(struct job *j, struct ecg_dataset **out)
{
    char *text = NULL;
    size_t n = 0;
    struct cn_hash fingerprint;
    int known = 0;
    if (!cn_file_read(j->key_path, 256, &text, &n, NULL) && n == CN_HASH_HEX) {
        text[CN_HASH_HEX - 1] = 0;
        known = !cn_hash_parse(text, &fingerprint);
    }
    free(text);
    if (!known) return;
    set_fingerprint(j, &fingerprint);
    open_existing(j, out);
}

/* Only a shortcut: failing to write it costs time later, not correctness. */
static void remember_key(const struct job *j)
{
    char text[CN_HASH_HEX];
    struct cn_error err;
    cn_hash_hex(&j->source.shape.fingerprint, text);
    text[CN_HASH_HEX - 1] = '\n'; /* a line of the file, no longer a string */
    if (cn_file_write(j->key_path, text, CN_HASH_HEX, &err)) cn_warn("ecg", "%s", err.text);
}

/* --- building -------------------------------------------------------------------------------- */

static void keep_error(struct job *j, int item, const struct cn_error *err)
{
    if (item < atomic_load(&j->failed)) {
        j->error = *err;
        atomic_store(&j->failed, item);
    }
}

static void build_item(void *arg, int item, int thread)
{
    struct job *j = arg;
    struct cn_error err = {0};
    if (item > atomic_load(&j->failed)) return; /* only earlier items can matter now */
    int rc = j->source.item(&j->source, j->pass, item, j->writer, &err);
    pthread_mutex_lock(&j->lock);
    if (rc) keep_error(j, item, &err);
    j->done++;
    if (j->b->progress) j->b->progress(j->b->progress_arg, j->done, j->total);
    pthread_mutex_unlock(&j->lock);
}

static int run_passes(struct job *j, struct cn_error *err)
{
    struct ecg_source *s = &j->source;
    j->total = s->items * s->passes;
    for (j->pass = 0; j->pass < s->passes; j->pass++) {
        int rc = s->start ? s->start(s, j->pass, j->writer, err) : 0;
        if (rc) return rc;
        atomic_store(&j->failed, s->items);
        cn_pool_run(j->pool, s->items, build_item, j);
        if (atomic_load(&j->failed) < s->items)
            return cn_fail(err, j->error.code, "%s", j->error.text);
    }
    return 0;
}

/* What is to be said of the records, now that all were read; written before the cache gets its name. */
static int keep_remarks(struct job *j, const int rows[4], struct cn_error *err)
{
    char path[PATH_MAX];
    notes_path(j, path);
    ecg_remarks_clear(&j->remarks);
    int rc = ecg_remarks_make(&j->remarks, &j->source, rows, err);
    return rc ? rc : ecg_remarks_write(&j->remarks, path, err);
}

static int build(struct job *j, struct cn_error *err)
{
    int rows[4] = {0}, rc = j->source.prepare(&j->source, err);
    if (!rc) rc = j->source.whole(&j->source, rows, err);
    if (!rc) rc = ecg_cache_create(&j->writer, j->path, &j->source.shape, err);
    if (rc) return rc;
    rc = run_passes(j, err);
    if (!rc) rc = keep_remarks(j, rows, err);
    if (rc) {
        ecg_cache_abandon(j->writer);
        return rc;
    }
    return ecg_cache_commit(j->writer, err);
}

/* Takes the builder's lock: a descriptor, or a negative code. Waits while another builds. */
static int take_lock(const struct job *j, struct cn_error *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.*s.lock", (int)strlen(j->path) - 4, j->path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return cn_fail_errno(err, "%s: cannot create", path);
    int rc = flock(fd, LOCK_EX | LOCK_NB);
    if (rc && errno == EWOULDBLOCK) {
        cn_info("ecg", "another process is building this dataset; waiting for it");
        while ((rc = flock(fd, LOCK_EX)) && errno == EINTR) continue;
    }
    if (!rc) return fd;
    rc = cn_fail_errno(err, "%s: cannot lock", path);
    close(fd);
    return rc;
}

/* Opens what the folder's key leads to; *out stays NULL when it leads nowhere. */
static int open_known(struct job *j, struct ecg_dataset **out, struct cn_error *err)
{
    struct ecg_source *s = &j->source;
    struct cn_hash key;
    char hex[CN_HASH_HEX];
    int rc = ecg_inputs_key(&s->inputs, s->params, j->pool, &key, err);
    if (rc) return rc;
    cn_hash_hex(&key, hex);
    snprintf(j->key_path, sizeof j->key_path, "%s/keys/%s", j->folder, hex);
    recall_key(j, out);
    return 0;
}

static int open_or_build(struct job *j, struct ecg_dataset **out, struct cn_error *err)
{
    struct ecg_source *s = &j->source;
    struct cn_hash fingerprint;
    int rc = open_known(j, out, err);
    if (rc || *out) return rc;
    rc = ecg_inputs_fingerprint(&s->inputs, s->params, j->pool, &fingerprint, err);
    if (rc) return rc;
    set_fingerprint(j, &fingerprint);
    if (!open_existing(j, out)) {
        int lock = take_lock(j, err);
        if (lock < 0) return lock;
        if (!open_existing(j, out)) {
            rc = build(j, err);
            if (!rc) rc = ecg_dataset_map(out, j->path, err);
        }
        close(lock);
    }
    if (!rc) remember_key(j);
    return rc;
}

/* --- the door -------------------------------------------------------------------------------- */

static int threads_of(const struct ecg_build *b)
{
    long cores = b->threads > 0 ? b->threads : sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 1 : cores > 256 ? 256 : (int)cores;
}

/* Sets a job up, lets `act` open the dataset, and clears it away. */
static int with_job(struct ecg_dataset **out, const struct ecg_build *b, struct cn_error *err,
                    int (*act)(struct job *, struct ecg_dataset **, struct cn_error *))
{
    *out = NULL;
    char keys[PATH_MAX];
    struct job *j = calloc(1, sizeof *j);
    if (!j) return cn_fail(err, CN_ENOMEM, "out of memory");
    j->b = b;
    pthread_mutex_init(&j->lock, NULL);
    int rc = ecg_source_open(&j->source, b, err);
    if (!rc) rc = cache_folder(b->cache_dir, j->folder, sizeof j->folder, err);
    if (!rc) rc = print_path(keys, sizeof keys, err, j->folder, "/keys");
    if (!rc) rc = cn_mkdirs(keys, err);
    if (!rc && !(j->pool = cn_pool_create(threads_of(b))))
        rc = cn_fail(err, CN_ENOMEM, "out of memory");
    if (!rc) rc = act(j, out, err);
    cn_pool_destroy(j->pool);
    ecg_source_clear(&j->source);
    ecg_remarks_clear(&j->remarks);
    pthread_mutex_destroy(&j->lock);
    free(j);
    return rc;
}

/* Everyone who trains or measures hears what is to be said of the records. */
static int open_aloud(struct job *j, struct ecg_dataset **out, struct cn_error *err)
{
    int rc = open_or_build(j, out, err);
    for (int i = 0; !rc && i < j->remarks.n; i++)
        cn_warn("ecg", "%s: %s", j->b->dir, j->remarks.line[i]);
    return rc;
}

int ecg_dataset_open(struct ecg_dataset **out, const struct ecg_build *b, struct cn_error *err)
{
    return with_job(out, b, err, open_aloud);
}

int ecg_dataset_peek(struct ecg_dataset **out, const struct ecg_build *b, struct cn_error *err)
{
    return with_job(out, b, err, open_known);
}
