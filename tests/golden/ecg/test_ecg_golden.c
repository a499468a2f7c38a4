/* ecg/ against SciPy, pandas and wfdb (generate.py makes the values), on the sample recordings.
 * CINCH_TEST_MITDB may name a folder with more of the MIT-BIH records; all that lie there are checked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/file.h"
#include "ecg/annotation.h"
#include "ecg/dataset.h"
#include "ecg/mitdb.h"
#include "ecg/preprocess.h"
#include "ecg/ptbxl.h"
#include "ecg/wfdb.h"

#define HERE CINCH_SOURCE_DIR "/tests/golden/ecg/"
#define PTBXL CINCH_BINARY_DIR "/samples/ptbxl"
#define CACHE CINCH_BINARY_DIR "/tests/ecg_golden_cache"
#define ROW (ECG_PTBXL_LEADS * ECG_PTBXL_SAMPLES)
#define RECORDS 20

static FILE *open_golden(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, HERE "%s", name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    return f;
}

static void must(int rc, const struct cn_error *err)
{
    if (rc) fail_msg("%s", err->text);
}

static struct ecg_dataset *open_sample(void)
{
    struct ecg_build b = {.dir = PTBXL, .cache_dir = CACHE};
    struct ecg_dataset *d;
    struct cn_error err;
    must(ecg_dataset_open(&d, &b, &err), &err);
    return d;
}

/* --- PTB-XL ---------------------------------------------------------------------------------- */

static int32_t *filtered_golden(void)
{
    char *packed;
    size_t n = 0, size = (size_t)RECORDS * ROW * sizeof(int32_t);
    struct cn_error err;
    must(cn_file_read(HERE "filtered.zst", 1 << 24, &packed, &n, &err), &err);
    int32_t *out = malloc(size);
    assert_int_equal(ZSTD_decompress(out, size, packed, n), size);
    free(packed);
    return out;
}

/* Largest difference of x [12, 1000] from the golden record in mV, its 5e-8 of rounding included. */
static double worst(const float *x, const int32_t *golden)
{
    double most = 0;
    for (int i = 0; i < ROW; i++) {
        double d = fabs((double)x[i] - golden[i] * 1e-7);
        if (!(d <= most)) most = d;
    }
    return most;
}

static void filtered_signals_equal_scipy(void **state)
{
    int32_t *golden = filtered_golden();
    FILE *names = open_golden("filtered.txt");
    static float x[ROW];
    const struct ecg_prep how = {.stage = ECG_FILTERED};
    char name[32], path[512];
    double most = 0;
    for (int i = 0; i < RECORDS; i++) {
        struct cn_error err;
        assert_int_equal(fscanf(names, "%31s", name), 1);
        snprintf(path, sizeof path, PTBXL "/records100/%02d000/%s", atoi(name) / 1000, name);
        must((int)ecg_preprocess_file(path, &how, x, &err), &err);
        double d = worst(x, golden + (size_t)i * ROW);
        if (!(d <= most)) most = d;
    }
    print_message("largest difference from SciPy: %.2g mV\n", most);
    assert_true(most <= 1e-6);
    fclose(names);
    free(golden);
}

static void cache_holds_the_normalised_signals(void **state)
{
    struct ecg_dataset *d = open_sample();
    int32_t *golden = filtered_golden();
    FILE *names = open_golden("filtered.txt");
    char name[32];
    for (int i = 0; i < RECORDS; i++) {
        assert_int_equal(fscanf(names, "%31s", name), 1);
        int row = 0;
        while (row < d->n && strcmp(d->id[row], name) != 0) row++;
        assert_true(row < d->n);
        const float *x = d->x + (size_t)row * ROW;
        for (int k = 0; k < ROW; k++) {
            int l = k / ECG_PTBXL_SAMPLES;
            double back = (double)x[k] * (double)d->std[l] + (double)d->mean[l];
            assert_true(fabs(back - golden[i * ROW + k] * 1e-7) < 2e-6);
        }
    }
    fclose(names);
    free(golden);
    ecg_dataset_close(d);
}

static void statistics_equal_numpy(void **state)
{
    struct ecg_dataset *d = open_sample();
    FILE *f = open_golden("stats.txt");
    for (int l = 0; l < d->n_leads; l++) {
        double mean, std;
        assert_int_equal(fscanf(f, "%lf %lf", &mean, &std), 2);
        assert_true(fabs((double)d->mean[l] - mean) < 1e-8);
        assert_true(fabs((double)d->std[l] - std) < 1e-7);
    }
    fclose(f);
    ecg_dataset_close(d);
}

static void label_counts_per_fold(void **state)
{
    struct ecg_dataset *d = open_sample();
    int rows[11] = {0}, labels[11][ECG_PTBXL_LABELS] = {{0}}, none[11] = {0};
    for (int i = 0; i < d->n; i++) {
        int fold = d->fold[i], any = 0;
        enum ecg_part part = fold <= 8 ? ECG_TRAIN : fold == 9 ? ECG_VALIDATION : ECG_TEST;
        assert_int_equal(d->part[i], part);
        rows[fold]++;
        for (int l = 0; l < ECG_PTBXL_LABELS; l++) {
            labels[fold][l] += d->y[i * ECG_PTBXL_LABELS + l];
            any |= d->y[i * ECG_PTBXL_LABELS + l];
        }
        none[fold] += !any;
    }
    FILE *f = open_golden("labels.txt");
    for (int fold = 1; fold <= 10; fold++) {
        int g[8];
        for (int k = 0; k < 8; k++) assert_int_equal(fscanf(f, "%d", &g[k]), 1);
        assert_int_equal(g[0], fold);
        assert_int_equal(g[1], rows[fold]);
        for (int l = 0; l < ECG_PTBXL_LABELS; l++) assert_int_equal(g[2 + l], labels[fold][l]);
        assert_int_equal(g[7], none[fold]);
    }
    fclose(f);
    ecg_dataset_close(d);
}

static void unlabelled_records_can_be_dropped(void **state)
{
    struct ecg_build b = {.dir = PTBXL, .cache_dir = CACHE, .drop_unlabelled = 1};
    struct ecg_dataset *d, *all = open_sample();
    struct cn_error err;
    must(ecg_dataset_open(&d, &b, &err), &err);
    assert_int_equal(all->n, 1999);
    assert_int_equal(d->n, 1999 - 23);
    assert_memory_not_equal(&d->fingerprint, &all->fingerprint, sizeof d->fingerprint);
    for (int i = 0; i < d->n; i++)
        assert_non_null(memchr(d->y + i * ECG_PTBXL_LABELS, 1, ECG_PTBXL_LABELS));
    ecg_dataset_close(all);
    ecg_dataset_close(d);
}

/* --- annotations ----------------------------------------------------------------------------- */

static void check_annotation(const struct ecg_annotations *a, const char *line)
{
    int i, sample, code, subtype, channel, number;
    char aux[600], hex[600] = "";
    assert_int_equal(sscanf(line, "ann %d %d %d %d %d %d %599s", &i, &sample, &code, &subtype,
                            &channel, &number, aux),
                     7);
    assert_in_range(i, 0, a->n - 1);
    const struct ecg_annotation *of = &a->of[i];
    assert_int_equal(of->sample, sample);
    assert_int_equal(of->code, code);
    assert_int_equal(of->subtype, subtype);
    assert_int_equal(of->channel, channel);
    assert_int_equal(of->number, number);
    for (int k = 0; k < of->aux_len; k++) sprintf(hex + 2 * k, "%02x", (unsigned char)of->aux[k]);
    assert_string_equal(of->aux_len ? hex : "-", aux);
}

static void every_code_and_modifier(void **state)
{
    struct ecg_annotations a;
    struct cn_error err;
    char line[1024];
    must(ecg_annotations_read(&a, HERE "every.atr", &(struct ecg_timeline){0, 360}, &err), &err);
    FILE *f = open_golden("every.txt");
    int lines = 0;
    while (fgets(line, sizeof line, f)) {
        check_annotation(&a, line);
        lines++;
    }
    assert_int_equal(a.n, lines);
    assert_int_equal(a.unknown, 0);
    fclose(f);
    ecg_annotations_clear(&a);
}

/* --- MIT-BIH --------------------------------------------------------------------------------- */

/* What is being compared while the lines of mitdb.txt go by. */
struct check {
    const char *dir;
    int present, records, beats, leads; /* leads seen of the current record */
    struct ecg_record *r;
    struct ecg_annotations a;
    double *mv; /* [n_samples] of the lead that beats are taken from */
};

static void drop_record(struct check *c)
{
    ecg_record_destroy(c->r);
    ecg_annotations_clear(&c->a);
    free(c->mv);
    c->r = NULL;
    c->mv = NULL;
}

static void start_record(struct check *c, const char *line)
{
    char name[16], path[512];
    int leads, samples, annotations, missing;
    struct cn_error err;
    drop_record(c);
    assert_int_equal(sscanf(line, "record %15s %d %d %d", name, &leads, &samples, &annotations), 4);
    snprintf(path, sizeof path, "%s/%s.hea", c->dir, name);
    c->present = cn_file_exists(path);
    c->leads = 0;
    if (!c->present) return;
    c->records++;
    must(ecg_record_read(&c->r, path, &err), &err);
    assert_int_equal(c->r->header.n_signals, leads);
    assert_int_equal(c->r->header.n_samples, samples);
    snprintf(path, sizeof path, "%s/%s.atr", c->dir, name);
    must(ecg_annotations_read(&c->a, path, &(struct ecg_timeline){samples, 360}, &err), &err);
    assert_int_equal(c->a.n, annotations);
    c->mv = malloc((size_t)samples * sizeof *c->mv);
    int lead = ecg_beat_lead(&c->r->header, &missing);
    assert_int_equal(missing, !strcmp(name, "102") || !strcmp(name, "104"));
    assert_int_equal(ecg_signal_mv(c->r, lead, c->mv, &err), 0);
}

static void check_lead(struct check *c, const char *line)
{
    char name[16];
    double v[8];
    long long sum, own = 0;
    struct cn_error err;
    const struct ecg_header *h = &c->r->header;
    int64_t n = h->n_samples;
    int s = c->leads++;
    assert_int_equal(sscanf(line, "lead %15s %lf %lf %lf %lf %lf %lf %lf %lf %lld", name, v, v + 1,
                            v + 2, v + 3, v + 4, v + 5, v + 6, v + 7, &sum),
                     10);
    assert_string_equal(h->signal[s].name, name);
    double *mv = malloc((size_t)n * sizeof *mv);
    assert_int_equal(ecg_signal_mv(c->r, s, mv, &err), 0);
    for (int k = 0; k < 4; k++) {
        assert_true(fabs(mv[k] - v[k]) < 1e-9);
        assert_true(fabs(mv[n - 4 + k] - v[4 + k]) < 1e-9);
    }
    for (int64_t t = 0; t < n; t++) own += c->r->adc[s * n + t];
    assert_int_equal(own, sum);
    free(mv);
}

static void check_count(struct check *c, const char *line)
{
    char symbol[8];
    int n, own = 0;
    assert_int_equal(sscanf(line, "count %7s %d", symbol, &n), 2);
    for (int code = 0; code < ECG_CODES; code++)
        if (ecg_code_symbol(code) && !strcmp(ecg_code_symbol(code), symbol)) own = c->a.count[code];
    assert_int_equal(own, n);
}

static void check_classes(struct check *c, const char *line)
{
    int g[ECG_CLASSES], own[ECG_CLASSES] = {0};
    float x[ECG_BEAT_SAMPLES];
    assert_int_equal(sscanf(line, "class %d %d %d %d %d", g, g + 1, g + 2, g + 3, g + 4), 5);
    for (int i = 0; i < c->a.n; i++) {
        int class = ecg_beat_class(c->a.of[i].code);
        if (class >= 0 && ecg_beat_cut(c->mv, c->r->header.n_samples, c->a.of[i].sample, x))
            own[class]++;
    }
    for (int k = 0; k < ECG_CLASSES; k++) assert_int_equal(own[k], g[k]);
}

static void check_beat(struct check *c, char *line)
{
    float x[ECG_BEAT_SAMPLES];
    char *p = line + 5;
    long long r = strtoll(p, &p, 10);
    assert_true(ecg_beat_cut(c->mv, c->r->header.n_samples, r, x));
    for (int t = 0; t < ECG_BEAT_SAMPLES; t++) {
        double g = strtod(p, &p);
        assert_true(fabs((double)x[t] - g) < 2e-6 * (1 + fabs(g)));
    }
    c->beats++;
}

static void mitdb_records_equal_wfdb(void **state)
{
    const char *other = getenv("CINCH_TEST_MITDB");
    struct check c = {.dir = other && *other ? other : CINCH_BINARY_DIR "/samples/mitdb"};
    FILE *f = open_golden("mitdb.txt");
    static char line[8192];
    while (fgets(line, sizeof line, f)) {
        if (!strncmp(line, "record ", 7))
            start_record(&c, line);
        else if (!c.present)
            continue;
        else if (!strncmp(line, "lead ", 5))
            check_lead(&c, line);
        else if (!strncmp(line, "count ", 6))
            check_count(&c, line);
        else if (!strncmp(line, "ann ", 4))
            check_annotation(&c.a, line);
        else if (!strncmp(line, "class ", 6))
            check_classes(&c, line);
        else if (!strncmp(line, "beat ", 5))
            check_beat(&c, line);
        else
            fail_msg("an unknown line in mitdb.txt: %s", line);
    }
    drop_record(&c);
    fclose(f);
    print_message("%d records checked\n", c.records);
    assert_true(c.records >= 5 && c.beats == 15);
}

int main(void)
{
    struct cn_error err;
    if (cn_rmtree(CACHE, &err)) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filtered_signals_equal_scipy),
        cmocka_unit_test(cache_holds_the_normalised_signals),
        cmocka_unit_test(statistics_equal_numpy),
        cmocka_unit_test(label_counts_per_fold),
        cmocka_unit_test(unlabelled_records_can_be_dropped),
        cmocka_unit_test(every_code_and_modifier),
        cmocka_unit_test(mitdb_records_equal_wfdb),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    cn_rmtree(CACHE, NULL);
    return failed;
}
