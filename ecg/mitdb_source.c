/* ecg/mitdb_source.c - building the cache of beats from a MIT-BIH folder.
 *
 * Records are the headers in the folder itself that have an .atr beside them (PhysioNet's x_mitdb/,
 * mitdbdir/ and alternative annotations stay out), in the order of their names; where a RECORDS
 * file stands, it must not name one that is missing. All annotations are read first, which tells
 * the number of beats and each record's first row; then records are cut in parallel, one per
 * thread.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/rng.h"
#include "ecg/mitdb.h"
#include "ecg/source.h"

/* Of the random split, in thousandths of all beats. */
#define RANDOM_TEST 200
#define RANDOM_VALIDATION 80

/* Inputs per record: header, samples, annotations. */
#define INPUTS 3

struct beat {
    uint32_t sample;
    uint8_t class;
};

struct record {
    char name[24];
    int lead;
    struct ecg_header h;
    int first, n;      /* rows */
    struct beat *beat; /* [n] */
};

struct impl {
    int n;
    struct record *record; /* [n] */
    enum ecg_split split;
    uint64_t seed;
};

/* --- which records --------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct record *)a)->name, ((const struct record *)b)->name);
}

static int add_record(struct impl *impl, const char *dir, const char *name, size_t n,
                      struct cn_error *err)
{
    char path[PATH_MAX];
    struct record r = {0};
    if (snprintf(path, sizeof path, "%s/%.*s.atr", dir, (int)n, name) >= (int)sizeof path)
        return cn_fail(err, CN_EINVALID, "%s: path too long", dir);
    if (!cn_file_exists(path)) {
        cn_warn("ecg", "%s: no such file; its record is left out", path);
        return 0;
    }
    if (n > 12)
        return cn_fail(err, CN_EINVALID, "%s: a record name of more than 12 characters", path);
    memcpy(r.name, name, n);
    struct record *grown = realloc(impl->record, ((size_t)impl->n + 1) * sizeof r);
    if (!grown) return cn_fail(err, CN_ENOMEM, "%s: out of memory", dir);
    impl->record = grown;
    impl->record[impl->n++] = r;
    return 0;
}

static int find_records(struct impl *impl, const char *dir, struct cn_error *err)
{
    DIR *d = opendir(dir);
    if (!d) return cn_fail_errno(err, "%s", dir);
    int rc = 0;
    for (struct dirent *e; !rc && (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        if (n > 4 && e->d_name[0] != '.' && !strcmp(e->d_name + n - 4, ".hea"))
            rc = add_record(impl, dir, e->d_name, n - 4, err);
    }
    closedir(d);
    if (!rc && !impl->n)
        rc = cn_fail(err, CN_ENOTFOUND,
                     "%s: no dataset here; expected ptbxl_database.csv (PTB-XL) or records with "
                     ".hea, .dat and .atr (MIT-BIH)",
                     dir);
    if (!rc) qsort(impl->record, (size_t)impl->n, sizeof *impl->record, by_name);
    return rc;
}

static int check_list(const struct impl *impl, const char *dir, struct cn_error *err)
{
    char path[PATH_MAX], *text = NULL, *rest = NULL;
    if (snprintf(path, sizeof path, "%s/RECORDS", dir) >= (int)sizeof path || !cn_file_exists(path))
        return 0;
    int rc = cn_file_read(path, 1 << 20, &text, NULL, err), line = 0;
    for (char *w = rc ? NULL : strtok_r(text, "\r\n", &rest); w;
         w = strtok_r(NULL, "\r\n", &rest)) {
        struct record want = {0};
        line++;
        snprintf(want.name, sizeof want.name, "%.23s", w);
        if (strlen(w) < sizeof want.name &&
            bsearch(&want, impl->record, (size_t)impl->n, sizeof want, by_name))
            continue;
        rc = cn_fail(err, CN_ENOTFOUND,
                     "%s:%d: record %.40s is listed, but its .hea or .atr is missing", path, line,
                     w);
        break;
    }
    free(text);
    return rc;
}

static int add_inputs(struct ecg_source *s, struct cn_error *err)
{
    static const char *const ending[INPUTS] = {"hea", "dat", "atr"};
    const struct impl *impl = s->impl;
    char file[64];
    int rc = 0;
    for (int i = 0; !rc && i < impl->n * INPUTS; i++) {
        snprintf(file, sizeof file, "%s.%s", impl->record[i / INPUTS].name, ending[i % INPUTS]);
        rc = ecg_inputs_add(&s->inputs, file, err);
    }
    return rc;
}

/* --- headers and annotations ----------------------------------------------------------------- */

static int read_header(struct ecg_source *s, int item, struct cn_error *err)
{
    struct record *r = &((struct impl *)s->impl)->record[item];
    char path[PATH_MAX], *text, dat[32];
    size_t n = 0;
    int rc = ecg_inputs_read(&s->inputs, item * INPUTS, &text, &n, path, sizeof path, err);
    if (rc) return rc;
    rc = ecg_header_parse(&r->h, path, text, n, err);
    free(text);
    if (rc) return rc;
    if (r->h.hz != ECG_MITDB_HZ || r->h.n_samples < ECG_BEAT_SAMPLES)
        return cn_fail(err, CN_EINVALID, "%s: %lld samples at %g Hz; MIT-BIH has %d Hz", path,
                       (long long)r->h.n_samples, r->h.hz, ECG_MITDB_HZ);
    snprintf(dat, sizeof dat, "%s.dat", r->name);
    for (int l = 0; l < r->h.n_signals; l++)
        if (strcmp(r->h.signal[l].file, dat) != 0 ||
            r->h.signal[l].format != r->h.signal[0].format ||
            r->h.signal[l].offset != r->h.signal[0].offset)
            return cn_fail(err, CN_EINVALID,
                           "%s:%d: all signals of a MIT-BIH record lie in '%s' in one format", path,
                           r->h.signal[l].line, dat);
    int missing;
    r->lead = ecg_beat_lead(&r->h, &missing);
    if (missing)
        cn_warn("ecg", "%s: record %s has no lead MLII; taking its first, %s", path, r->name,
                r->h.signal[r->lead].name);
    return 0;
}

/* Keeps the beats whose window fits; tells what it left out. */
static int keep_beats(struct record *r, const struct ecg_annotations *a, const char *path,
                      struct cn_error *err)
{
    char unknown[256];
    int cut = 0;
    r->beat = malloc(((size_t)a->n + 1) * sizeof *r->beat);
    if (!r->beat) return cn_fail(err, CN_ENOMEM, "%s: out of memory", path);
    for (int i = 0; i < a->n; i++) {
        int class = ecg_beat_class(a->of[i].code);
        int64_t at = a->of[i].sample;
        if (class < 0) continue;
        if (at < ECG_BEAT_BEFORE || at + ECG_BEAT_AFTER >= r->h.n_samples)
            cut++;
        else
            r->beat[r->n++] = (struct beat){(uint32_t)at, (uint8_t) class};
    }
    if (cut) cn_debug("ecg", "record %s: %d beats too near to an end left out", r->name, cut);
    ecg_annotations_unknown(a, unknown, sizeof unknown);
    if (unknown[0])
        cn_warn("ecg", "%s: %d annotations with codes that WFDB does not define left out: %s", path,
                a->unknown, unknown);
    return 0;
}

static int read_annotations(struct ecg_source *s, int item, struct cn_error *err)
{
    struct record *r = &((struct impl *)s->impl)->record[item];
    struct ecg_annotations a;
    char path[PATH_MAX], *data;
    size_t n = 0;
    int rc = ecg_inputs_read(&s->inputs, item * INPUTS + 2, &data, &n, path, sizeof path, err);
    if (rc) return rc;
    rc = ecg_annotations_parse(&a, path, (const uint8_t *)data, n, r->h.n_samples, err);
    if (!rc) rc = keep_beats(r, &a, path, err);
    ecg_annotations_clear(&a);
    free(data);
    return rc;
}

static int prepare(struct ecg_source *s, struct cn_error *err)
{
    struct impl *impl = s->impl;
    int rc = 0, total = 0;
    for (int i = 0; !rc && i < impl->n; i++) {
        rc = read_header(s, i, err);
        if (!rc) rc = read_annotations(s, i, err);
        impl->record[i].first = total;
        total += impl->record[i].n;
    }
    if (!rc && !total)
        rc = cn_fail(err, CN_EINVALID, "%s: no beats in its %d records", s->inputs.dir, impl->n);
    s->shape.n = total;
    return rc;
}

/* --- parts ----------------------------------------------------------------------------------- */

struct draw {
    uint64_t key;
    uint32_t row;
};

static int by_key(const void *a, const void *b)
{
    const struct draw *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

/* Exact shares of all beats, drawn by the seed. */
static int split_random(uint64_t seed, uint8_t *part, int n, struct cn_error *err)
{
    struct draw *draw = malloc((size_t)n * sizeof *draw);
    if (!draw) return cn_fail(err, CN_ENOMEM, "out of memory");
    for (int i = 0; i < n; i++) {
        cn_rng4 r = cn_rng(seed, CN_RNG_SPLIT, 0, (uint64_t)i);
        draw[i] = (struct draw){(uint64_t)r.v[0] << 32 | r.v[1], (uint32_t)i};
    }
    qsort(draw, (size_t)n, sizeof *draw, by_key);
    int64_t test = (int64_t)n * RANDOM_TEST / 1000;
    int64_t validation = test + (int64_t)n * RANDOM_VALIDATION / 1000;
    for (int i = 0; i < n; i++)
        part[draw[i].row] = i < test ? ECG_TEST : i < validation ? ECG_VALIDATION : ECG_TRAIN;
    free(draw);
    return 0;
}

static int start(struct ecg_source *s, int pass, struct ecg_cache_writer *w, struct cn_error *err)
{
    static const uint8_t fold_of[] = {
        [ECG_TRAIN] = 1, [ECG_VALIDATION] = 9, [ECG_TEST] = 10, [ECG_UNUSED] = 0};
    const struct impl *impl = s->impl;
    struct ecg_cache_tables t = ecg_cache_tables(w);
    for (int k = 0; k < impl->n; k++) {
        const struct record *r = &impl->record[k];
        for (int i = 0, row = r->first; i < r->n; i++, row++) {
            t.y[row * ECG_CLASSES + r->beat[i].class] = 1;
            t.part[row] = (uint8_t)ecg_inter_patient_part(r->name);
            snprintf(t.id[row], sizeof t.id[row], "%.12s:%u", r->name, r->beat[i].sample);
        }
    }
    int rc = 0;
    if (impl->split == ECG_SPLIT_RANDOM) rc = split_random(impl->seed, t.part, s->shape.n, err);
    for (int i = 0; i < s->shape.n; i++) t.fold[i] = fold_of[t.part[i]];
    return rc;
}

/* --- beats ----------------------------------------------------------------------------------- */

static int cut_record(const struct record *r, const int16_t *adc, struct ecg_cache_writer *w,
                      struct cn_error *err)
{
    double *mv = malloc((size_t)r->h.n_samples * sizeof *mv);
    float *x = malloc((size_t)r->n * ECG_BEAT_SAMPLES * sizeof *x + 1);
    int rc = mv && x ? 0 : cn_fail(err, CN_ENOMEM, "record %s: out of memory", r->name);
    if (!rc) {
        int64_t held = ecg_signal_mv(&r->h, r->lead, adc + r->lead * r->h.n_samples, mv, err);
        if (held < 0) rc = (int)held;
    }
    for (int i = 0; !rc && i < r->n; i++)
        ecg_beat_cut(mv, r->h.n_samples, r->beat[i].sample, x + (size_t)i * ECG_BEAT_SAMPLES);
    if (!rc && r->n) rc = ecg_cache_put(w, r->first, r->n, x, err);
    free(x);
    free(mv);
    return rc;
}

static int item(struct ecg_source *s, int pass, int k, struct ecg_cache_writer *w,
                struct cn_error *err)
{
    const struct record *r = &((const struct impl *)s->impl)->record[k];
    char path[PATH_MAX], *data = NULL;
    struct ecg_dat dat = {.path = path};
    int16_t *adc = NULL;
    int rc = ecg_inputs_read(&s->inputs, k * INPUTS + 1, &data, &dat.n, path, sizeof path, err);
    dat.data = (const uint8_t *)data;
    if (!rc && !(adc = malloc((size_t)r->h.n_samples * (size_t)r->h.n_signals * sizeof *adc)))
        rc = cn_fail(err, CN_ENOMEM, "%s: out of memory", path);
    if (!rc) rc = ecg_dat_decode(&r->h, 0, r->h.n_signals, &dat, adc, err);
    free(data);
    if (!rc) rc = cut_record(r, adc, w, err);
    free(adc);
    return rc;
}

static void destroy(struct ecg_source *s)
{
    struct impl *impl = s->impl;
    if (!impl) return;
    for (int i = 0; i < impl->n; i++) free(impl->record[i].beat);
    free(impl->record);
    free(impl);
}

static int set_params(struct ecg_source *s, const struct ecg_build *b, struct cn_error *err)
{
    if (b->split == ECG_SPLIT_INTER_PATIENT)
        snprintf(s->params, sizeof s->params, "mitdb split=inter-patient");
    else if (b->split == ECG_SPLIT_RANDOM)
        snprintf(s->params, sizeof s->params, "mitdb split=random seed=%llu",
                 (unsigned long long)b->seed);
    else
        return cn_fail(err, CN_EINVALID, "%d is no way to split beats", b->split);
    return 0;
}

int ecg_mitdb_source(struct ecg_source *s, const struct ecg_build *b, struct cn_error *err)
{
    s->prepare = prepare;
    s->start = start;
    s->item = item;
    s->destroy = destroy;
    s->passes = 1;
    struct impl *impl = s->impl = calloc(1, sizeof *impl);
    if (!impl) return cn_fail(err, CN_ENOMEM, "%s: out of memory", b->dir);
    impl->split = (enum ecg_split)b->split;
    impl->seed = b->seed;
    int rc = set_params(s, b, err);
    if (!rc) rc = ecg_inputs_init(&s->inputs, b->dir, err);
    if (!rc) rc = find_records(impl, b->dir, err);
    if (!rc) rc = check_list(impl, b->dir, err);
    if (!rc) rc = add_inputs(s, err);
    if (rc) return rc;
    s->items = impl->n;
    struct ecg_dataset *d = &s->shape;
    snprintf(d->name, sizeof d->name, "mitdb");
    d->task = ECG_ONE_LABEL;
    d->n_leads = 1;
    d->n_samples = ECG_BEAT_SAMPLES;
    d->n_labels = ECG_CLASSES;
    d->hz = ECG_MITDB_HZ;
    for (int c = 0; c < ECG_CLASSES; c++)
        snprintf(d->label[c], sizeof d->label[c], "%s", ecg_class_name[c]);
    return 0;
}
