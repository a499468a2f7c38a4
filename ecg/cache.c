/* ecg/cache.c - the format of a dataset's cache file (little-endian, meant to be mmap'ed).
 *
 *     offset  bytes
 *          0      8  magic "CINCHECG"
 *          8      4  version, 1
 *         12      4  size of the header, 4096
 *         16     32  BLAKE2b-256 of the header with these 32 bytes zero
 *         48     32  fingerprint (see inputs.h)
 *         80     32  BLAKE2b-256 of the tables: the file from y to its end
 *        112     32  BLAKE2b-256 of n BLAKE2b-256 hashes, one of each row of x
 *        144      4  task: enum ecg_task
 *        148      4  n, rows
 *        152      4  leads
 *        156      4  samples
 *        160      4  labels
 *        164      4  sampling frequency in Hz, float32
 *        168     64  name, 0-padded
 *        232     64  8 label names of 8 bytes, 0-padded
 *        296     48  12 means, float32
 *        344     48  12 standard deviations, float32
 *        392   3704  zero
 *       4096         x [n, leads, samples] float32
 *                    y [n, labels] bytes, 0 or 1
 *                    fold [n] bytes, 0-10
 *                    part [n] bytes, enum ecg_part
 *                    id [n] of 24 bytes, 0-padded, at least one 0
 * Each array starts at the next multiple of 64; what lies between is zero. The file ends with id.
 * Opening verifies everything but x, whose hash `cinch data verify` checks.
 */
#define _GNU_SOURCE
#include "ecg/cache.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the cache is mapped as it lies on disk");

#define MAGIC "CINCHECG"
#define VERSION 1
#define HEADER 4096
#define MAX_ROWS 50000000
#define MAX_SAMPLES_PER_ROW 1000000

struct header {
    char magic[8];
    uint32_t version, size;
    struct cn_hash header_hash, fingerprint, tables_hash, x_hash;
    uint32_t task, n, leads, samples, labels;
    float hz;
    char name[64];
    char label[ECG_MAX_LABELS][8];
    float mean[ECG_MAX_LEADS], std[ECG_MAX_LEADS];
    uint8_t zero[3704];
};
_Static_assert(sizeof(struct header) == HEADER, "the header is as specified");
_Static_assert(offsetof(struct header, task) == 144 && offsetof(struct header, mean) == 296, "");

/* Where the arrays lie. */
struct layout {
    uint64_t row; /* bytes of one row of x */
    uint64_t y, fold, part, id, end;
};

static uint64_t align64(uint64_t v)
{
    return (v + 63) & ~(uint64_t)63;
}

static struct layout layout_of(uint64_t n, uint64_t leads, uint64_t samples, uint64_t labels)
{
    struct layout at;
    at.row = leads * samples * sizeof(float);
    at.y = align64(HEADER + n * at.row);
    at.fold = align64(at.y + n * labels);
    at.part = align64(at.fold + n);
    at.id = align64(at.part + n);
    at.end = at.id + n * 24;
    return at;
}

static void hash_header(const struct header *h, struct cn_hash *out)
{
    struct header copy = *h;
    memset(&copy.header_hash, 0, sizeof copy.header_hash);
    cn_hash_bytes(&copy, sizeof copy, out);
}

/* --- writing --------------------------------------------------------------------------------- */

struct ecg_cache_writer {
    int fd;
    char *path, *part;
    struct header h;
    struct layout at;
    uint8_t *tables;          /* the file from y to its end */
    struct cn_hash *row_hash; /* [n] */
};

static void fill_header(struct header *h, const struct ecg_dataset *d)
{
    memset(h, 0, sizeof *h);
    memcpy(h->magic, MAGIC, sizeof h->magic);
    h->version = VERSION;
    h->size = HEADER;
    h->fingerprint = d->fingerprint;
    h->task = (uint32_t)d->task;
    h->n = (uint32_t)d->n;
    h->leads = (uint32_t)d->n_leads;
    h->samples = (uint32_t)d->n_samples;
    h->labels = (uint32_t)d->n_labels;
    h->hz = d->hz;
    snprintf(h->name, sizeof h->name, "%s", d->name);
    for (int l = 0; l < d->n_labels; l++)
        snprintf(h->label[l], sizeof h->label[l], "%s", d->label[l]);
    for (int l = 0; l < d->n_leads; l++) h->std[l] = 1;
}

static int reserve(struct ecg_cache_writer *w, struct cn_error *err)
{
    w->fd = open(w->part, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w->fd < 0) return cn_fail_errno(err, "%s: cannot create", w->part);
    int bad = fallocate(w->fd, 0, 0, (off_t)w->at.end);
    if (bad && (errno == EOPNOTSUPP || errno == ENOSYS)) bad = ftruncate(w->fd, (off_t)w->at.end);
    if (bad)
        return cn_fail_errno(err, "%s: cannot reserve %.1f MB for the dataset cache", w->part,
                             (double)w->at.end / 1e6);
    return 0;
}

int ecg_cache_create(struct ecg_cache_writer **out, const char *path,
                     const struct ecg_dataset *shape, struct cn_error *err)
{
    *out = NULL;
    assert(shape->n > 0 && shape->n_leads <= ECG_MAX_LEADS && shape->n_labels <= ECG_MAX_LABELS);
    struct ecg_cache_writer *w = calloc(1, sizeof *w);
    if (!w) return cn_fail(err, CN_ENOMEM, "%s: out of memory", path);
    w->fd = -1;
    fill_header(&w->h, shape);
    w->at = layout_of(w->h.n, w->h.leads, w->h.samples, w->h.labels);
    w->path = strdup(path);
    if (asprintf(&w->part, "%s.part", path) < 0) w->part = NULL;
    w->tables = calloc(1, w->at.end - w->at.y);
    w->row_hash = calloc(w->h.n, sizeof *w->row_hash);
    int rc = 0;
    if (!w->path || !w->part || !w->tables || !w->row_hash)
        rc = cn_fail(err, CN_ENOMEM, "%s: out of memory", path);
    if (!rc) rc = reserve(w, err);
    if (rc) {
        ecg_cache_abandon(w);
        return rc;
    }
    *out = w;
    return 0;
}

static int write_at(struct ecg_cache_writer *w, const void *data, size_t n, uint64_t at,
                    struct cn_error *err)
{
    const char *p = data;
    while (n) {
        ssize_t put = pwrite(w->fd, p, n, (off_t)at);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return cn_fail_errno(err, "%s: cannot write", w->part);
        p += put;
        at += (uint64_t)put;
        n -= (size_t)put;
    }
    return 0;
}

int ecg_cache_put(struct ecg_cache_writer *w, int first, int rows, const float *x,
                  struct cn_error *err)
{
    const uint8_t *bytes = (const uint8_t *)x;
    for (int i = 0; i < rows; i++)
        cn_hash_bytes(bytes + (uint64_t)i * w->at.row, w->at.row, &w->row_hash[first + i]);
    return write_at(w, x, (size_t)rows * w->at.row, HEADER + (uint64_t)first * w->at.row, err);
}

int ecg_cache_get(struct ecg_cache_writer *w, int first, int rows, float *x, struct cn_error *err)
{
    char *p = (char *)x;
    size_t n = (size_t)rows * w->at.row;
    uint64_t at = HEADER + (uint64_t)first * w->at.row;
    while (n) {
        ssize_t got = pread(w->fd, p, n, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return cn_fail_errno(err, "%s: cannot read back", w->part);
        if (got == 0) return cn_fail(err, CN_ECORRUPT, "%s: was cut short by someone", w->part);
        p += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

const struct cn_hash *ecg_cache_row_hash(const struct ecg_cache_writer *w, int row)
{
    return &w->row_hash[row];
}

struct ecg_cache_tables ecg_cache_tables(struct ecg_cache_writer *w)
{
    uint8_t *base = w->tables;
    return (struct ecg_cache_tables){
        .y = base,
        .fold = base + (w->at.fold - w->at.y),
        .part = base + (w->at.part - w->at.y),
        .id = (char(*)[24])(base + (w->at.id - w->at.y)),
    };
}

void ecg_cache_stats(struct ecg_cache_writer *w, const float *mean, const float *std)
{
    memcpy(w->h.mean, mean, w->h.leads * sizeof *mean);
    memcpy(w->h.std, std, w->h.leads * sizeof *std);
}

static int sync_folder(const char *path, struct cn_error *err)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return cn_fail_errno(err, "%s", dir);
    int rc = fsync(fd) && errno != EINVAL ? cn_fail_errno(err, "%s: fsync", dir) : 0;
    close(fd);
    return rc;
}

int ecg_cache_commit(struct ecg_cache_writer *w, struct cn_error *err)
{
    cn_hash_bytes(w->tables, w->at.end - w->at.y, &w->h.tables_hash);
    cn_hash_bytes(w->row_hash, w->h.n * sizeof *w->row_hash, &w->h.x_hash);
    hash_header(&w->h, &w->h.header_hash);
    int rc = write_at(w, w->tables, w->at.end - w->at.y, w->at.y, err);
    if (!rc) rc = write_at(w, &w->h, sizeof w->h, 0, err);
    if (!rc && fsync(w->fd)) rc = cn_fail_errno(err, "%s: fsync", w->part);
    if (!rc && rename(w->part, w->path)) rc = cn_fail_errno(err, "%s: rename", w->path);
    if (!rc) rc = sync_folder(w->path, err);
    ecg_cache_abandon(w); /* after a rename there is nothing left under the temporary name */
    return rc;
}

void ecg_cache_abandon(struct ecg_cache_writer *w)
{
    if (!w) return;
    int saved = errno;
    if (w->fd >= 0) {
        close(w->fd);
        unlink(w->part);
    }
    free(w->path);
    free(w->part);
    free(w->tables);
    free(w->row_hash);
    free(w);
    errno = saved;
}

/* --- reading --------------------------------------------------------------------------------- */

static int corrupt(const char *path, struct cn_error *err, const char *why)
{
    return cn_fail(err, CN_ECORRUPT,
                   "%s: damaged dataset cache (%s); delete it and it will be built again", path,
                   why);
}

static int check_header(const struct header *h, const char *path, struct cn_error *err)
{
    if (memcmp(h->magic, MAGIC, sizeof h->magic) != 0)
        return cn_fail(err, CN_ECORRUPT, "%s: not a dataset cache", path);
    if (h->version != VERSION)
        return cn_fail(err, CN_EVERSION, "%s: dataset cache version %u; this cinch reads %d", path,
                       h->version, VERSION);
    struct cn_hash hash;
    hash_header(h, &hash);
    if (memcmp(&hash, &h->header_hash, sizeof hash) != 0) return corrupt(path, err, "header hash");
    if (h->size != HEADER || h->n < 1 || h->n > MAX_ROWS || h->leads < 1 ||
        h->leads > ECG_MAX_LEADS || h->samples < 1 || h->samples > MAX_SAMPLES_PER_ROW ||
        h->labels < 1 || h->labels > ECG_MAX_LABELS)
        return corrupt(path, err, "sizes");
    if ((h->task != ECG_MULTI_LABEL && h->task != ECG_ONE_LABEL) || !(h->hz > 0) ||
        !isfinite(h->hz) || !memchr(h->name, 0, sizeof h->name))
        return corrupt(path, err, "header fields");
    for (uint32_t l = 0; l < h->labels; l++)
        if (!memchr(h->label[l], 0, sizeof h->label[l])) return corrupt(path, err, "label names");
    for (uint32_t l = 0; l < h->leads; l++)
        if (!isfinite(h->mean[l]) || !isfinite(h->std[l]) || !(h->std[l] > 0))
            return corrupt(path, err, "statistics");
    return 0;
}

static int check_tables(const struct ecg_dataset *d, const char *path, struct cn_error *err)
{
    for (int i = 0; i < d->n; i++) {
        int ones = 0;
        for (int l = 0; l < d->n_labels; l++) {
            uint8_t v = d->y[(size_t)i * (size_t)d->n_labels + (size_t)l];
            if (v > 1) return corrupt(path, err, "labels");
            ones += v;
        }
        if (d->task == ECG_ONE_LABEL && ones != 1) return corrupt(path, err, "labels");
        if (d->fold[i] > 10 || d->part[i] > ECG_UNUSED) return corrupt(path, err, "folds");
        if (!memchr(d->id[i], 0, sizeof d->id[i])) return corrupt(path, err, "record names");
    }
    return 0;
}

static void fill_dataset(struct ecg_dataset *d, const struct header *h, const uint8_t *data,
                         const struct layout *at)
{
    memset(d, 0, sizeof *d);
    memcpy(d->name, h->name, sizeof d->name);
    d->task = (enum ecg_task)h->task;
    d->n = (int)h->n;
    d->n_leads = (int)h->leads;
    d->n_samples = (int)h->samples;
    d->n_labels = (int)h->labels;
    d->hz = h->hz;
    memcpy(d->label, h->label, sizeof d->label);
    memcpy(d->mean, h->mean, sizeof d->mean);
    memcpy(d->std, h->std, sizeof d->std);
    d->fingerprint = h->fingerprint;
    d->x = (const float *)(data + HEADER);
    d->y = data + at->y;
    d->fold = data + at->fold;
    d->part = data + at->part;
    d->id = (const char(*)[24])(data + at->id);
}

int ecg_cache_check(struct ecg_dataset *d, const char *path, const uint8_t *data, size_t n,
                    struct cn_error *err)
{
    struct header h;
    if (n < sizeof h) return cn_fail(err, CN_ECORRUPT, "%s: not a dataset cache", path);
    memcpy(&h, data, sizeof h);
    int rc = check_header(&h, path, err);
    if (rc) return rc;
    struct layout at = layout_of(h.n, h.leads, h.samples, h.labels);
    if (n != at.end) return corrupt(path, err, "file size");
    struct cn_hash hash;
    cn_hash_bytes(data + at.y, at.end - at.y, &hash);
    if (memcmp(&hash, &h.tables_hash, sizeof hash) != 0) return corrupt(path, err, "tables hash");
    fill_dataset(d, &h, data, &at);
    return check_tables(d, path, err);
}

void ecg_cache_seal(uint8_t *data, size_t n)
{
    struct header h;
    if (n < sizeof h) return;
    memcpy(&h, data, sizeof h);
    struct layout at = {0};
    if (h.n <= MAX_ROWS && h.leads <= ECG_MAX_LEADS && h.samples <= MAX_SAMPLES_PER_ROW &&
        h.labels <= ECG_MAX_LABELS)
        at = layout_of(h.n, h.leads, h.samples, h.labels);
    if (at.end == n) cn_hash_bytes(data + at.y, at.end - at.y, &h.tables_hash);
    hash_header(&h, &h.header_hash);
    memcpy(data, &h, sizeof h);
}

int ecg_cache_check_samples(const struct ecg_dataset *d, struct cn_error *err)
{
    char path[PATH_MAX];
    ecg_dataset_path(d, path, sizeof path);
    const struct header *h = (const struct header *)((const uint8_t *)d->x - HEADER);
    size_t row = (size_t)d->n_leads * (size_t)d->n_samples;
    struct cn_hash one, all;
    struct cn_hasher *hasher = cn_hasher_create();
    if (!hasher) return cn_fail(err, CN_ENOMEM, "%s: out of memory", path);
    for (int i = 0; i < d->n; i++) {
        cn_hash_bytes(d->x + (size_t)i * row, row * sizeof(float), &one);
        cn_hasher_add(hasher, &one, sizeof one);
    }
    cn_hasher_finish(hasher, &all);
    cn_hasher_destroy(hasher);
    return memcmp(&all, &h->x_hash, sizeof all) != 0 ? corrupt(path, err, "samples") : 0;
}
