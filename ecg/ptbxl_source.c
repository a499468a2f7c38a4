/* ecg/ptbxl_source.c - building the cache from a PTB-XL folder.
 *
 * Pass 0 filters every record, writes it and keeps its mean and sum of squares per lead. Then the
 * statistics of the training folds are merged in the table's order, whatever order the threads
 * worked in. Pass 1 reads each row back and normalises it. Memory stays at one record per thread.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ecg/preprocess.h"
#include "ecg/ptbxl.h"
#include "ecg/source.h"
#include "ecg/wfdb.h"

#define LEADS ECG_PTBXL_LEADS
#define SAMPLES ECG_PTBXL_SAMPLES
#define LEAST_STD 1e-9f /* mV; below it only the filter's rounding moves */

/* Mean and sum of squared deviations of a lead over `n` samples. */
struct moments {
    double n, mean, m2;
};

struct impl {
    struct ecg_ptbxl *table;
    struct moments (*moments)[LEADS]; /* [rows] */
    struct ecg_gaps gaps;
    float mean[LEADS], std[LEADS];
};

/* Inputs: the two tables, then header and samples of each row. */
#define FIRST_RECORD 2
#define HEADER_OF(row) (FIRST_RECORD + 2 * (row))

static enum ecg_part part_of_fold(int fold)
{
    return fold <= 8 ? ECG_TRAIN : fold == 9 ? ECG_VALIDATION : ECG_TEST;
}

static int prepare(struct ecg_source *s, struct cn_error *err)
{
    struct impl *impl = s->impl;
    impl->moments = calloc((size_t)impl->table->n, sizeof *impl->moments);
    return impl->moments ? 0 : cn_fail(err, CN_ENOMEM, "%s: out of memory", s->inputs.dir);
}

static int whole(struct ecg_source *s, int rows[4], struct cn_error *err)
{
    const struct impl *impl = s->impl;
    for (int i = 0; i < impl->table->n; i++) rows[part_of_fold(impl->table->row[i].fold)]++;
    if (rows[ECG_TRAIN]) return 0;
    return cn_fail(err, CN_EINVALID,
                   "%s: no record in the training folds 1-8 to take mean and deviation from",
                   s->inputs.dir);
}

static const char *name_of(const struct ecg_ptbxl_row *row)
{
    const char *slash = strrchr(row->file, '/');
    return slash ? slash + 1 : row->file;
}

static void fill_tables(const struct ecg_ptbxl *table, struct ecg_cache_writer *w)
{
    struct ecg_cache_tables t = ecg_cache_tables(w);
    for (int i = 0; i < table->n; i++) {
        const struct ecg_ptbxl_row *row = &table->row[i];
        memcpy(t.y + i * ECG_PTBXL_LABELS, row->label, ECG_PTBXL_LABELS);
        t.fold[i] = (uint8_t)row->fold;
        t.part[i] = (uint8_t)part_of_fold(row->fold);
        memcpy(t.id[i], name_of(row),
               strnlen(name_of(row), sizeof t.id[i] - 1)); /* as ptbxl.c says */
    }
}

/* Chan, Golub, LeVeque 1983: the moments of two sets together. */
static void merge(struct moments *a, const struct moments *b)
{
    double n = a->n + b->n, delta = b->mean - a->mean;
    a->mean += delta * b->n / n;
    a->m2 += b->m2 + delta * delta * a->n * b->n / n;
    a->n = n;
}

/* Mean and standard deviation (of the population) per lead over the training part, which whole() has
 * seen. A lead that never moves keeps 1. */
static void fit(struct impl *impl)
{
    for (int l = 0; l < LEADS; l++) {
        struct moments all = {0};
        for (int i = 0; i < impl->table->n; i++)
            if (part_of_fold(impl->table->row[i].fold) == ECG_TRAIN)
                merge(&all, &impl->moments[i][l]);
        impl->mean[l] = (float)all.mean;
        impl->std[l] = (float)sqrt(all.m2 / all.n);
        if (!(impl->std[l] > LEAST_STD)) impl->std[l] = 1;
    }
}

static int start(struct ecg_source *s, int pass, struct ecg_cache_writer *w, struct cn_error *err)
{
    struct impl *impl = s->impl;
    if (pass == 0) {
        fill_tables(impl->table, w);
        return 0;
    }
    fit(impl);
    ecg_cache_stats(w, impl->mean, impl->std);
    return 0;
}

static void measure(const float *x, struct moments *m)
{
    double sum = 0;
    m->n = SAMPLES;
    for (int t = 0; t < SAMPLES; t++) sum += (double)x[t];
    m->mean = sum / SAMPLES;
    m->m2 = 0;
    for (int t = 0; t < SAMPLES; t++) m->m2 += ((double)x[t] - m->mean) * ((double)x[t] - m->mean);
}

/* A row's record up to the filtered stage, x [12, 1000], and what is to be said of it. */
static int read_row(struct ecg_source *s, int row, float *x, struct cn_error *err)
{
    const struct impl *impl = s->impl;
    struct ecg_item *item = &s->item_of[row];
    struct ecg_record_inputs inputs = {&s->inputs, HEADER_OF(row), 2};
    struct ecg_prep how = {.stage = ECG_FILTERED, .gaps = impl->gaps};
    struct ecg_record *r;
    char header[sizeof item->name + 8];
    snprintf(header, sizeof header, "%s.hea", item->name);
    int rc = ecg_record_load(&r, header, &(struct ecg_files){ecg_inputs_reader, &inputs}, err);
    if (rc) return rc;
    int64_t bridged = ecg_preprocess(r, &how, x, err);
    item->bytes = r->bytes;
    ecg_record_destroy(r);
    if (bridged < 0) return (int)bridged;
    item->bridged = bridged;
    item->rows = 1;
    item->read = true;
    return 0;
}

static int check(struct ecg_source *s, int row, struct cn_error *err)
{
    float *x = malloc(sizeof *x * LEADS * SAMPLES);
    int rc = x ? read_row(s, row, x, err) : cn_fail(err, CN_ENOMEM, "out of memory");
    if (!rc) cn_hash_bytes(x, sizeof *x * LEADS * SAMPLES, &s->item_of[row].samples);
    free(x);
    return rc;
}

static int filter_row(struct ecg_source *s, int row, struct ecg_cache_writer *w,
                      struct cn_error *err)
{
    struct impl *impl = s->impl;
    float *x = malloc(sizeof *x * LEADS * SAMPLES);
    int rc = x ? read_row(s, row, x, err) : cn_fail(err, CN_ENOMEM, "out of memory");
    for (int l = 0; !rc && l < LEADS; l++) measure(x + l * SAMPLES, &impl->moments[row][l]);
    if (!rc) rc = ecg_cache_put(w, row, 1, x, err);
    if (!rc) s->item_of[row].samples = *ecg_cache_row_hash(w, row);
    free(x);
    return rc;
}

static int normalise_row(struct ecg_source *s, int row, struct ecg_cache_writer *w,
                         struct cn_error *err)
{
    const struct impl *impl = s->impl;
    const struct ecg_norm norm = {impl->mean, impl->std};
    float *x = malloc(sizeof *x * LEADS * SAMPLES);
    int rc = x ? 0 : cn_fail(err, CN_ENOMEM, "out of memory");
    if (!rc) rc = ecg_cache_get(w, row, 1, x, err);
    if (!rc) {
        ecg_normalise(x, LEADS, SAMPLES, &norm);
        rc = ecg_cache_put(w, row, 1, x, err);
    }
    free(x);
    return rc;
}

static int item(struct ecg_source *s, int pass, int row, struct ecg_cache_writer *w,
                struct cn_error *err)
{
    return pass == 0 ? filter_row(s, row, w, err) : normalise_row(s, row, w, err);
}

static void destroy(struct ecg_source *s)
{
    struct impl *impl = s->impl;
    if (!impl) return;
    ecg_ptbxl_destroy(impl->table);
    free(impl->moments);
    free(impl);
}

static int add_inputs(struct ecg_source *s, const struct ecg_ptbxl *table, struct cn_error *err)
{
    char file[80];
    int rc = ecg_inputs_add(&s->inputs, "ptbxl_database.csv", err);
    if (!rc) rc = ecg_inputs_add(&s->inputs, "scp_statements.csv", err);
    for (int i = 0; !rc && i < table->n; i++) {
        snprintf(file, sizeof file, "%s.hea", table->row[i].file);
        rc = ecg_inputs_add(&s->inputs, file, err);
        snprintf(file, sizeof file, "%s.dat", table->row[i].file);
        if (!rc) rc = ecg_inputs_add(&s->inputs, file, err);
    }
    return rc;
}

static int list_items(struct ecg_source *s, const struct ecg_ptbxl *table, struct cn_error *err)
{
    s->items = table->n;
    s->item_of = calloc((size_t)table->n, sizeof *s->item_of);
    if (!s->item_of) return cn_fail(err, CN_ENOMEM, "%s: out of memory", s->inputs.dir);
    for (int i = 0; i < table->n; i++) {
        struct ecg_item *item = &s->item_of[i];
        const struct ecg_ptbxl_row *row = &table->row[i];
        snprintf(item->name, sizeof item->name, "%s", name_of(row));
        snprintf(item->patient, sizeof item->patient, "%s", row->patient);
        item->fold = row->fold;
        for (int l = 0; l < ECG_PTBXL_LABELS; l++) item->count[l] = row->label[l];
    }
    return 0;
}

static void set_shape(struct ecg_dataset *d, int rows)
{
    snprintf(d->name, sizeof d->name, "ptbxl");
    d->task = ECG_MULTI_LABEL;
    d->n = rows;
    d->n_leads = LEADS;
    d->n_samples = SAMPLES;
    d->n_labels = ECG_PTBXL_LABELS;
    d->hz = ECG_PTBXL_HZ;
    for (int l = 0; l < ECG_PTBXL_LABELS; l++)
        snprintf(d->label[l], sizeof d->label[l], "%s", ecg_ptbxl_label[l]);
}

int ecg_ptbxl_source(struct ecg_source *s, const struct ecg_build *b, struct cn_error *err)
{
    s->check = check;
    s->whole = whole;
    s->prepare = prepare;
    s->start = start;
    s->item = item;
    s->destroy = destroy;
    s->passes = 2;
    struct impl *impl = s->impl = calloc(1, sizeof *impl);
    if (!impl) return cn_fail(err, CN_ENOMEM, "%s: out of memory", b->dir);
    impl->gaps = b->gaps;
    snprintf(s->params, sizeof s->params, "ptbxl unlabelled=%s",
             b->drop_unlabelled ? "drop" : "keep");
    ecg_source_gaps(s, b);
    int rc = ecg_inputs_init(&s->inputs, b->dir, err);
    if (!rc) rc = ecg_ptbxl_load(&impl->table, b->dir, b->drop_unlabelled, err);
    if (!rc) rc = add_inputs(s, impl->table, err);
    if (!rc) rc = list_items(s, impl->table, err);
    if (!rc) set_shape(&s->shape, impl->table->n);
    return rc;
}
