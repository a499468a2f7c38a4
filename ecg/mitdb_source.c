/* ecg/mitdb_source.c - building the cache of beats from a MIT-BIH folder.
 *
 * Records are the headers in the folder itself that have an .atr beside them (PhysioNet's x_mitdb/,
 * mitdbdir/ and alternative annotations stay out), in the order of their names; where a RECORDS
 * file stands, it must not name one that is missing. All headers and annotations are read first,
 * which tells the number of beats and each record's first row; then records are cut in parallel,
 * one per thread, by the function that `cinch infer` uses (beats.c).
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/rng.h"
#include "base/text.h"
#include "ecg/beats.h"
#include "ecg/mitdb.h"
#include "ecg/source.h"

/* Of the random split, in thousandths of all beats. */
#define RANDOM_TEST 200
#define RANDOM_VALIDATION 80

struct beat {
    uint32_t sample;
    uint8_t class;
};

struct record {
    char name[256];    /* of its header, without the ending */
    int input, inputs; /* its files among the inputs: header, samples.., annotations */
    int first, n;      /* rows */
    struct beat *beat; /* [n] */
};

struct impl {
    int n, cap;
    struct record *record; /* [n], by name */
    enum ecg_split split;
    uint64_t seed;
    struct ecg_gaps gaps;
};

/* Of n beats, so many thousandths. */
static int share_of(int n, int thousandths)
{
    return (int)((int64_t)n * thousandths / 1000);
}

/* --- which records --------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct record *)a)->name, ((const struct record *)b)->name);
}

static int add_record(struct impl *impl, const char *dir, const char *name, size_t n,
                      struct cn_error *err)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%.*s.atr", dir, (int)n, name) >= (int)sizeof path)
        return cn_fail(err, CN_EINVALID, "%s: path too long", dir);
    if (access(path, F_OK)) {
        cn_warn("ecg", "%s: no such file; its record is left out", path);
        return 0;
    }
    if (impl->n == impl->cap) {
        impl->cap = impl->cap ? 2 * impl->cap : 64;
        void *grown = realloc(impl->record, (size_t)impl->cap * sizeof *impl->record);
        if (!grown) return cn_fail(err, CN_ENOMEM, "%s: out of memory", dir);
        impl->record = grown;
    }
    struct record *r = &impl->record[impl->n++];
    memset(r, 0, sizeof *r);
    snprintf(r->name, sizeof r->name, "%.*s", (int)n, name);
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
    if (snprintf(path, sizeof path, "%s/RECORDS", dir) >= (int)sizeof path || access(path, F_OK))
        return 0;
    int rc = cn_file_read(path, 1 << 20, &text, NULL, err), line = 0;
    for (char *w = rc ? NULL : strtok_r(text, "\r\n", &rest); w;
         w = strtok_r(NULL, "\r\n", &rest)) {
        struct record want = {0};
        line++;
        snprintf(want.name, sizeof want.name, "%.255s", w);
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

/* The files that a header names, or name.dat where it cannot be read: what is wrong with it is told
 * when the record is. */
static int add_signal_files(struct ecg_source *s, const struct record *r, struct cn_error *err)
{
    struct ecg_bytes *b = calloc(1, sizeof *b);
    struct ecg_header *h = calloc(1, sizeof *h);
    char dat[sizeof r->name + 8];
    int rc = b && h ? 0 : cn_fail(err, CN_ENOMEM, "%s: out of memory", s->inputs.dir);
    snprintf(dat, sizeof dat, "%s.dat", r->name);
    bool sound = !rc && !ecg_inputs_read(&s->inputs, r->input, ECG_HEADER_LIMIT, b, NULL) &&
                 !ecg_header_parse(h, b->path, b->data, b->n, NULL);
    if (!rc && !sound) rc = ecg_inputs_add(&s->inputs, dat, err);
    for (int k = 0; sound && !rc && k < h->n_signals; k++)
        if (!k || strcmp(h->signal[k].file, h->signal[k - 1].file) != 0)
            rc = ecg_inputs_add(&s->inputs, h->signal[k].file, err);
    if (b) free(b->data);
    free(b);
    free(h);
    return rc;
}

static int add_inputs(struct ecg_source *s, struct cn_error *err)
{
    struct impl *impl = s->impl;
    char file[sizeof impl->record->name + 8];
    int rc = 0;
    for (int i = 0; !rc && i < impl->n; i++) {
        struct record *r = &impl->record[i];
        r->input = s->inputs.n;
        snprintf(file, sizeof file, "%s.hea", r->name);
        rc = ecg_inputs_add(&s->inputs, file, err);
        if (!rc) rc = add_signal_files(s, r, err);
        snprintf(file, sizeof file, "%s.atr", r->name);
        if (!rc) rc = ecg_inputs_add(&s->inputs, file, err);
        r->inputs = s->inputs.n - r->input;
    }
    return rc;
}

/* --- one record ------------------------------------------------------------------------------ */

static int load(struct ecg_source *s, const struct record *r, struct ecg_record **out,
                struct cn_error *err)
{
    struct ecg_record_inputs inputs = {&s->inputs, r->input, r->inputs};
    char header[sizeof r->name + 8];
    snprintf(header, sizeof header, "%s.hea", r->name);
    int rc = ecg_record_load(out, header, &(struct ecg_files){ecg_inputs_reader, &inputs}, err);
    if (!rc) rc = ecg_beats_accept(&(*out)->header, (*out)->path, err);
    if (!rc) return 0;
    ecg_record_destroy(*out);
    *out = NULL;
    return rc;
}

/* Annotations of a record of that length; b holds the file that they point into. */
static int read_annotations(struct ecg_source *s, const struct record *r,
                            const struct ecg_timeline *of, struct ecg_bytes *b,
                            struct ecg_annotations *a, struct cn_error *err)
{
    int rc = ecg_inputs_read(&s->inputs, r->input + r->inputs - 1, ECG_ATR_LIMIT, b, err);
    return rc ? rc : ecg_annotations_parse(a, b->path, (const uint8_t *)b->data, b->n, of, err);
}

/* The part of a record's timeline that its header tells; a header without a length costs reading its
 * samples. */
static int read_timeline(struct ecg_source *s, const struct record *r, struct ecg_timeline *of,
                         struct cn_error *err)
{
    struct ecg_bytes *b = calloc(1, sizeof *b);
    struct ecg_header *h = calloc(1, sizeof *h);
    struct ecg_record *whole = NULL;
    int rc = b && h ? 0 : cn_fail(err, CN_ENOMEM, "record %s: out of memory", r->name);
    if (!rc) rc = ecg_inputs_read(&s->inputs, r->input, ECG_HEADER_LIMIT, b, err);
    if (!rc) rc = ecg_header_parse(h, b->path, b->data, b->n, err);
    if (!rc && h->n_samples) {
        rc = ecg_beats_accept(h, b->path, err);
        *of = (struct ecg_timeline){h->n_samples, h->hz};
    } else if (!rc && !(rc = load(s, r, &whole, err))) {
        *of = (struct ecg_timeline){whole->header.n_samples, whole->header.hz};
    }
    ecg_record_destroy(whole);
    if (b) free(b->data);
    free(b);
    free(h);
    return rc;
}

/* A row is named RECORD:SAMPLE in 23 bytes. */
static int check_name(const struct ecg_source *s, const struct record *r, struct cn_error *err)
{
    if (strlen(r->name) <= 12 && cn_text_clean(r->name, 12) && !strpbrk(r->name, "\t\r\n"))
        return 0;
    return cn_fail(err, CN_EINVALID,
                   "%s/%s.hea: record names are UTF-8 of up to 12 bytes; rename the record's files",
                   s->inputs.dir, r->name);
}

/* Which beats there are: those whose window fits. */
static int plan(struct ecg_source *s, struct record *r, struct cn_error *err)
{
    struct ecg_timeline of = {0};
    struct ecg_annotations a = {0};
    struct ecg_bytes *b = calloc(1, sizeof *b);
    int rc =
        b ? check_name(s, r, err) : cn_fail(err, CN_ENOMEM, "record %s: out of memory", r->name);
    if (!rc) rc = read_timeline(s, r, &of, err);
    if (!rc) rc = read_annotations(s, r, &of, b, &a, err);
    if (!rc && !(r->beat = malloc(((size_t)a.n + 1) * sizeof *r->beat)))
        rc = cn_fail(err, CN_ENOMEM, "record %s: out of memory", r->name);
    for (int i = 0; !rc && i < a.n; i++) {
        int class = ecg_beat_class(a.of[i].code);
        if (class < 0 || !ecg_beat_fits(of.n_samples, a.of[i].sample)) continue;
        r->beat[r->n++] = (struct beat){(uint32_t)a.of[i].sample, (uint8_t) class};
    }
    ecg_annotations_clear(&a);
    if (b) free(b->data);
    free(b);
    return rc;
}

static void describe(struct ecg_item *item, const struct record *r, const struct ecg_record *rec,
                     const struct ecg_annotations *a)
{
    item->bytes = rec->bytes;
    item->unknown = a->unknown;
    item->rows = r->n;
    for (int i = 0; i < r->n; i++) item->count[r->beat[i].class]++;
    item->read = true;
}

/* Reads a record's samples and cuts the beats that plan() saw. */
static int read_beats(struct ecg_source *s, int k, struct ecg_beats *beats, struct cn_error *err)
{
    const struct impl *impl = s->impl;
    const struct record *r = &impl->record[k];
    struct ecg_item *item = &s->item_of[k];
    struct ecg_record *rec;
    struct ecg_annotations a = {0};
    struct ecg_bytes *b = calloc(1, sizeof *b);
    if (!b) return cn_fail(err, CN_ENOMEM, "record %s: out of memory", r->name);
    int rc = load(s, r, &rec, err);
    if (!rc) {
        const struct ecg_timeline of = {rec->header.n_samples, rec->header.hz};
        rc = read_annotations(s, r, &of, b, &a, err);
    }
    if (!rc) rc = ecg_beats_cut(beats, rec, &a, &impl->gaps, err);
    if (!rc && beats->n != r->n)
        rc = cn_fail(err, CN_ESTALE, "%s: changed while the dataset was being built; try again",
                     rec->path);
    if (!rc) rc = ecg_beats_lead_hash(rec, &item->samples, err);
    if (!rc) {
        describe(item, r, rec, &a);
        item->bridged = beats->bridged;
    }
    ecg_annotations_clear(&a);
    ecg_record_destroy(rec);
    free(b->data);
    free(b);
    return rc;
}

/* --- all of them ----------------------------------------------------------------------------- */

static int check(struct ecg_source *s, int k, struct cn_error *err)
{
    struct impl *impl = s->impl;
    struct ecg_beats beats = {0};
    int rc = plan(s, &impl->record[k], err);
    if (!rc) rc = read_beats(s, k, &beats, err);
    ecg_beats_clear(&beats);
    return rc;
}

static int total_of(const struct impl *impl)
{
    int total = 0;
    for (int i = 0; i < impl->n; i++) total += impl->record[i].n;
    return total;
}

static int whole(struct ecg_source *s, int rows[4], struct cn_error *err)
{
    const struct impl *impl = s->impl;
    int total = total_of(impl);
    if (!total)
        return cn_fail(err, CN_EINVALID, "%s: no beats in its %d records", s->inputs.dir, impl->n);
    if (impl->split == ECG_SPLIT_RANDOM) {
        rows[ECG_TEST] = share_of(total, RANDOM_TEST);
        rows[ECG_VALIDATION] = share_of(total, RANDOM_VALIDATION);
        rows[ECG_TRAIN] = total - rows[ECG_TEST] - rows[ECG_VALIDATION];
        return 0;
    }
    for (int i = 0; i < impl->n; i++)
        rows[ecg_inter_patient_part(impl->record[i].name)] += impl->record[i].n;
    return 0;
}

static int prepare(struct ecg_source *s, struct cn_error *err)
{
    struct impl *impl = s->impl;
    int rc = 0, total = 0;
    for (int i = 0; !rc && i < impl->n; i++) {
        rc = plan(s, &impl->record[i], err);
        impl->record[i].first = total;
        total += impl->record[i].n;
    }
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
    int test = share_of(n, RANDOM_TEST), validation = test + share_of(n, RANDOM_VALIDATION);
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

static int item(struct ecg_source *s, int pass, int k, struct ecg_cache_writer *w,
                struct cn_error *err)
{
    const struct record *r = &((const struct impl *)s->impl)->record[k];
    struct ecg_beats beats = {0};
    int rc = read_beats(s, k, &beats, err);
    if (!rc && r->n) rc = ecg_cache_put(w, r->first, r->n, beats.x, err);
    ecg_beats_clear(&beats);
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

/* Records of one person: the database says it of 201 and 202 alone. */
static const char *patient_of(const char *record)
{
    return !strcmp(record, "202") ? "201" : record;
}

static int list_items(struct ecg_source *s, struct cn_error *err)
{
    static const int fold_of[] = {
        [ECG_TRAIN] = 1, [ECG_VALIDATION] = 9, [ECG_TEST] = 10, [ECG_UNUSED] = 0};
    const struct impl *impl = s->impl;
    s->items = impl->n;
    s->item_of = calloc((size_t)impl->n, sizeof *s->item_of);
    if (!s->item_of) return cn_fail(err, CN_ENOMEM, "%s: out of memory", s->inputs.dir);
    for (int i = 0; i < impl->n; i++) {
        struct ecg_item *item = &s->item_of[i];
        const char *name = impl->record[i].name;
        snprintf(item->name, sizeof item->name, "%.60s", name);
        snprintf(item->patient, sizeof item->patient, "%.30s", patient_of(name));
        if (impl->split == ECG_SPLIT_INTER_PATIENT)
            item->fold = fold_of[ecg_inter_patient_part(name)];
    }
    return 0;
}

static void set_shape(struct ecg_dataset *d)
{
    snprintf(d->name, sizeof d->name, "mitdb");
    d->task = ECG_ONE_LABEL;
    d->n_leads = 1;
    d->n_samples = ECG_BEAT_SAMPLES;
    d->n_labels = ECG_CLASSES;
    d->hz = ECG_MITDB_HZ;
    for (int c = 0; c < ECG_CLASSES; c++)
        snprintf(d->label[c], sizeof d->label[c], "%s", ecg_class_name[c]);
}

int ecg_mitdb_source(struct ecg_source *s, const struct ecg_build *b, struct cn_error *err)
{
    s->check = check;
    s->whole = whole;
    s->prepare = prepare;
    s->start = start;
    s->item = item;
    s->destroy = destroy;
    s->passes = 1;
    struct impl *impl = s->impl = calloc(1, sizeof *impl);
    if (!impl) return cn_fail(err, CN_ENOMEM, "%s: out of memory", b->dir);
    impl->split = (enum ecg_split)b->split;
    impl->seed = b->seed;
    impl->gaps = b->gaps;
    int rc = set_params(s, b, err);
    ecg_source_gaps(s, b);
    if (!rc) rc = ecg_inputs_init(&s->inputs, b->dir, err);
    if (!rc) rc = find_records(impl, b->dir, err);
    if (!rc) rc = check_list(impl, b->dir, err);
    if (!rc) rc = add_inputs(s, err);
    if (!rc) rc = list_items(s, err);
    set_shape(&s->shape);
    return rc;
}
