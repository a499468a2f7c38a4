/* ecg/ptbxl_source.c - building the cache from a PTB-XL folder.
 *
 * Pass 0 filters every record, writes it and keeps its mean and sum of squares per lead. Then the
 * statistics of the training folds are merged in the table's order, whatever order the threads
 * worked in. Pass 1 reads each row back and normalises it. Memory stays at one record per thread.
 */
#include <limits.h>
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

/* Mean and sum of squared deviations of a lead over `n` samples. */
struct moments {
    double n, mean, m2;
};

struct impl {
    struct ecg_ptbxl *table;
    struct moments (*moments)[LEADS]; /* [rows] */
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

static void fill_tables(const struct ecg_ptbxl *table, struct ecg_cache_writer *w)
{
    struct ecg_cache_tables t = ecg_cache_tables(w);
    for (int i = 0; i < table->n; i++) {
        const struct ecg_ptbxl_row *row = &table->row[i];
        const char *name = strrchr(row->file, '/');
        name = name ? name + 1 : row->file;
        memcpy(t.y + i * ECG_PTBXL_LABELS, row->label, ECG_PTBXL_LABELS);
        t.fold[i] = (uint8_t)row->fold;
        t.part[i] = (uint8_t)part_of_fold(row->fold);
        memcpy(t.id[i], name, strnlen(name, sizeof t.id[i] - 1)); /* ptbxl.c bounds it */
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

/* Mean and standard deviation (of the population) per lead over the training part. A lead that
 * never moves keeps 1. */
static int fit(struct impl *impl, const char *dir, struct cn_error *err)
{
    for (int l = 0; l < LEADS; l++) {
        struct moments all = {0};
        for (int i = 0; i < impl->table->n; i++)
            if (part_of_fold(impl->table->row[i].fold) == ECG_TRAIN)
                merge(&all, &impl->moments[i][l]);
        if (all.n == 0)
            return cn_fail(
                err, CN_EINVALID,
                "%s: no record in the training folds 1-8 to take mean and deviation from", dir);
        impl->mean[l] = (float)all.mean;
        impl->std[l] = (float)sqrt(all.m2 / all.n);
        if (!(impl->std[l] > 0)) impl->std[l] = 1;
    }
    return 0;
}

static int start(struct ecg_source *s, int pass, struct ecg_cache_writer *w, struct cn_error *err)
{
    struct impl *impl = s->impl;
    if (pass == 0) {
        fill_tables(impl->table, w);
        return 0;
    }
    int rc = fit(impl, s->inputs.dir, err);
    if (!rc) ecg_cache_stats(w, impl->mean, impl->std);
    return rc;
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

/* The samples of a dataset's record must lie in the one file that the fingerprint covers. */
static int check_files(const struct ecg_header *h, const char *path, const char *dat_path,
                       struct cn_error *err)
{
    const char *name = strrchr(dat_path, '/') + 1;
    for (int l = 0; l < h->n_signals; l++)
        if (strcmp(h->signal[l].file, name) != 0 || h->signal[l].format != h->signal[0].format ||
            h->signal[l].offset != h->signal[0].offset)
            return cn_fail(err, CN_EINVALID,
                           "%s:%d: all signals of a PTB-XL record lie in '%s' in one format", path,
                           h->signal[l].line, name);
    if (h->n_samples < 1 || h->n_samples > SAMPLES)
        return cn_fail(err, CN_EINVALID, "%s: %lld samples per signal; PTB-XL at 100 Hz has %d",
                       path, (long long)h->n_samples, SAMPLES);
    return 0;
}

/* Header and samples of a row from the inputs into adc [ECG_MAX_SIGNALS * SAMPLES]. */
static int read_record(struct ecg_source *s, int row, struct ecg_header *h, char path[PATH_MAX],
                       int16_t *adc, struct cn_error *err)
{
    char *text = NULL, *data = NULL, dat_path[PATH_MAX];
    size_t n = 0;
    struct ecg_dat dat = {.path = dat_path};
    int rc = ecg_inputs_read(&s->inputs, HEADER_OF(row), &text, &n, path, PATH_MAX, err);
    if (!rc) rc = ecg_header_parse(h, path, text, n, err);
    if (!rc)
        rc =
            ecg_inputs_read(&s->inputs, HEADER_OF(row) + 1, &data, &dat.n, dat_path, PATH_MAX, err);
    if (!rc) rc = check_files(h, path, dat_path, err);
    dat.data = (const uint8_t *)data;
    if (!rc) rc = ecg_dat_decode(h, 0, h->n_signals, &dat, adc, err);
    free(text);
    free(data);
    return rc;
}

static int filter_row(struct ecg_source *s, int row, struct ecg_cache_writer *w,
                      struct cn_error *err)
{
    struct impl *impl = s->impl;
    struct ecg_header h;
    char path[PATH_MAX];
    float *x = malloc(sizeof *x * LEADS * SAMPLES);
    int16_t *adc = malloc(sizeof *adc * ECG_MAX_SIGNALS * SAMPLES);
    int rc = x && adc ? 0 : cn_fail(err, CN_ENOMEM, "out of memory");
    if (!rc) rc = read_record(s, row, &h, path, adc, err);
    if (!rc) rc = ecg_preprocess(&h, path, adc, ECG_FILTERED, NULL, x, err);
    for (int l = 0; !rc && l < LEADS; l++) measure(x + l * SAMPLES, &impl->moments[row][l]);
    if (!rc) rc = ecg_cache_put(w, row, 1, x, err);
    free(adc);
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

int ecg_ptbxl_source(struct ecg_source *s, const struct ecg_build *b, struct cn_error *err)
{
    s->prepare = prepare;
    s->start = start;
    s->item = item;
    s->destroy = destroy;
    s->passes = 2;
    struct impl *impl = s->impl = calloc(1, sizeof *impl);
    if (!impl) return cn_fail(err, CN_ENOMEM, "%s: out of memory", b->dir);
    snprintf(s->params, sizeof s->params, "ptbxl unlabelled=%s",
             b->drop_unlabelled ? "drop" : "keep");
    int rc = ecg_inputs_init(&s->inputs, b->dir, err);
    if (!rc) rc = ecg_ptbxl_load(&impl->table, b->dir, b->drop_unlabelled, err);
    if (!rc) rc = add_inputs(s, impl->table, err);
    if (rc) return rc;
    struct ecg_dataset *d = &s->shape;
    snprintf(d->name, sizeof d->name, "ptbxl");
    d->task = ECG_MULTI_LABEL;
    d->n = s->items = impl->table->n;
    d->n_leads = LEADS;
    d->n_samples = SAMPLES;
    d->n_labels = ECG_PTBXL_LABELS;
    d->hz = ECG_PTBXL_HZ;
    for (int l = 0; l < ECG_PTBXL_LABELS; l++)
        snprintf(d->label[l], sizeof d->label[l], "%s", ecg_ptbxl_label[l]);
    return 0;
}
