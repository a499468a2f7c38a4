/* Tests of ecg/annotation, ecg/mitdb and the beat cache: every way an .atr can be wrong, classes,
 * windows, leads and both splits. */
#include "fake.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "ecg/annotation.h"
#include "ecg/beats.h"
#include "ecg/dataset.h"
#include "ecg/mitdb.h"
#include "ecg/verify.h"

#define WORD(code, value)                                                                          \
    (uint8_t)((code) << 10 | (value)), (uint8_t)(((code) << 10 | (value)) >> 8)

/* The log's lines of a test, to see what users are told. */
static char told[4096];

static void listen(void *arg, enum cn_level level, const char *line)
{
    if (level < CN_WARN) return;
    size_t n = strlen(told);
    snprintf(told + n, sizeof told - n, "%s\n", line);
}

static void words_skips_and_modifiers(void **state)
{
    const uint8_t atr[] = {WORD(28, 18),
                           WORD(63, 3),
                           '(',
                           'V',
                           'T',
                           0,
                           WORD(59, 0),
                           1,
                           0,
                           0x70,
                           0x11,
                           WORD(5, 2),
                           WORD(61, 3),
                           WORD(62, 1),
                           WORD(60, 7),
                           WORD(1, 1023),
                           WORD(0, 5),
                           WORD(59, 0),
                           0xff,
                           0xff,
                           0xfb,
                           0xff,
                           WORD(1, 2),
                           0,
                           0};
    struct ecg_annotations a;
    struct cn_error err;
    must(ecg_annotations_parse(&a, "x.atr", atr, sizeof atr, &(struct ecg_timeline){100000, 360},
                               &err),
         &err);
    assert_int_equal(a.n, 4); /* code 0, not a QRS, only moves the time */
    assert_int_equal(a.of[0].sample, 18);
    assert_int_equal(a.of[0].aux_len, 3);
    assert_memory_equal(a.of[0].aux, "(VT", 3);
    assert_int_equal(a.of[1].sample, 18 + 65536 + 0x1170 + 2);
    assert_true(a.of[1].subtype == 3 && a.of[1].channel == 1 && a.of[1].number == 7);
    assert_int_equal(a.of[2].sample, a.of[1].sample + 1023);
    assert_true(a.of[2].subtype == 0 && a.of[2].channel == 1 && a.of[2].number == 7);
    assert_int_equal(a.of[3].sample, a.of[2].sample + 5 - 5 + 2);
    assert_int_equal(a.count[1], 2);
    assert_int_equal(a.unknown, 0);
    ecg_annotations_clear(&a);
}

static void damaged_annotation_files(void **state)
{
    static const uint8_t no_end[] = {WORD(1, 5)}, odd[] = {WORD(1, 5), 0};
    static const uint8_t in_skip[] = {WORD(1, 5), WORD(59, 0), 1, 0};
    static const uint8_t in_aux[] = {WORD(1, 5), WORD(63, 4), 'a', 'b'};
    static const uint8_t long_aux[302] = {WORD(1, 5), WORD(63, 290)};
    static const uint8_t past[] = {WORD(1, 500), WORD(1, 500), WORD(0, 0)};
    static const uint8_t before[] = {WORD(59, 0), 0xff, 0xff, 0, 0, WORD(1, 5), WORD(0, 0)};
    static const uint8_t orphan[] = {WORD(62, 1), WORD(0, 0)};
    static const struct {
        const uint8_t *data;
        size_t n;
        const char *says;
    } bad[] = {
        {no_end, 0, "x.atr: truncated: ends without the end mark after 0 bytes"},
        {no_end, sizeof no_end, "truncated: ends without the end mark after 2 bytes"},
        {odd, sizeof odd, "truncated: ends without the end mark"},
        {in_skip, sizeof in_skip, "truncated: ends within a SKIP"},
        {in_aux, sizeof in_aux, "truncated: ends within an auxiliary string"},
        {long_aux, sizeof long_aux, "byte 2: an auxiliary string of 290 bytes"},
        {past, sizeof past, "byte 2: annotation 1 stands at sample 1000, but the record has 1000"},
        {before, sizeof before, "annotation 0 stands at sample -65531"},
        {orphan, sizeof orphan, "byte 0: a modifier before the first annotation"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ecg_annotations a;
        struct cn_error err;
        must_fail(ecg_annotations_parse(&a, "x.atr", bad[i].data, bad[i].n,
                                        &(struct ecg_timeline){1000, 360}, &err),
                  CN_ECORRUPT, &err, bad[i].says);
        assert_null(a.of);
    }
}

static void undefined_codes_are_counted_and_listed(void **state)
{
    const uint8_t atr[] = {WORD(42, 5), WORD(1, 5),  WORD(15, 5),
                           WORD(42, 5), WORD(58, 5), WORD(0, 0)};
    struct ecg_annotations a;
    struct cn_error err;
    char text[80];
    must(
        ecg_annotations_parse(&a, "x.atr", atr, sizeof atr, &(struct ecg_timeline){100, 360}, &err),
        &err);
    assert_int_equal(a.n, 5);
    assert_int_equal(a.unknown, 4);
    ecg_annotations_unknown(&a, text, sizeof text);
    assert_string_equal(text, "code 15 (1 times), code 42 (2 times), code 58 (1 times)");
    char tight[12];
    ecg_annotations_unknown(&a, tight, sizeof tight);
    assert_string_equal(tight, "code 15 (1 ");
    ecg_annotations_clear(&a);
}

/* Puts an annotation with text into a file at p; returns its end. */
static uint8_t *put_note(uint8_t *p, int code, int interval, const char *text)
{
    size_t n = strlen(text);
    *p++ = (uint8_t)interval;
    *p++ = (uint8_t)(code << 2 | interval >> 8);
    if (!n) return p;
    *p++ = (uint8_t)n;
    *p++ = 63 << 2;
    memcpy(p, text, n + 1);
    return p + n + n % 2;
}

/* A file of notes at time 0, then a normal beat 100 counts on. */
static int parse_notes(struct ecg_annotations *a, const char *const *notes, struct cn_error *err)
{
    static uint8_t atr[2048];
    uint8_t *p = atr;
    for (; *notes; notes++) p = put_note(p, 22, 0, *notes);
    p = put_note(p, 1, 100, "");
    p = put_note(p, 42, 50, "");
    *p++ = 0;
    *p++ = 0;
    return ecg_annotations_parse(a, "x.atr", atr, (size_t)(p - atr),
                                 &(struct ecg_timeline){1000, 360}, err);
}

static void times_in_another_resolution(void **state)
{
    struct ecg_annotations a;
    struct cn_error err;
    const char *const finer[] = {"a remark", "## time resolution: 720.0", NULL};
    must(parse_notes(&a, finer, &err), &err);
    assert_int_equal(a.n, 3); /* the remark stays */
    assert_true(a.of[1].sample == 50 && a.of[2].sample == 75 && a.resolution == 720);
    ecg_annotations_clear(&a);
    const char *const coarser[] = {"## time resolution: 250", NULL};
    must(parse_notes(&a, coarser, &err), &err);
    assert_true(a.n == 2 && a.of[0].sample == 144 && a.of[1].sample == 216);
    ecg_annotations_clear(&a);
    const char *const beyond[] = {"## time resolution: 36", NULL};
    must_fail(parse_notes(&a, beyond, &err), CN_ECORRUPT, &err, "stands at sample 1000");
    static const char *const bad[] = {"## time resolution:",      "## time resolution: 0",
                                      "## time resolution: nan",  "## time resolution: x",
                                      "## time resolution: -250", "## time resolution: 250 Hz"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *const one[] = {bad[i], NULL};
        must_fail(parse_notes(&a, one, &err), CN_EINVALID, &err, "is no frequency");
    }
    const char *const two[] = {coarser[0], finer[1], NULL};
    must_fail(parse_notes(&a, two, &err), CN_EINVALID, &err, "is no frequency");
}

static void types_that_a_file_defines(void **state)
{
    struct ecg_annotations a;
    struct cn_error err;
    char text[80];
    const char *const defined[] = {"## annotation type definitions", "42 TP T peak", "1 N",
                                   "## end of definitions", NULL};
    must(parse_notes(&a, defined, &err), &err);
    assert_true(a.n == 2 && a.of[0].sample == 100 && a.unknown == 1);
    assert_string_equal(a.defined[42], "TP");
    ecg_annotations_unknown(&a, text, sizeof text);
    assert_string_equal(text, "code 42 'TP' (1 times)");
    ecg_annotations_clear(&a);
    const char *const open[] = {"## annotation type definitions", "42 TP T peak", NULL};
    must_fail(parse_notes(&a, open, &err), CN_EINVALID, &err, "'## end of definitions' is missing");
    const char *const beat[] = {"## annotation type definitions", "1 V", "## end of definitions",
                                NULL};
    must_fail(parse_notes(&a, beat, &err), CN_EUNSUPPORTED, &err,
              "gives code 1, which is N in WFDB, another meaning, 'V'");
    const char *const lost[] = {defined[0], "14 V", defined[3], NULL};
    must_fail(parse_notes(&a, lost, &err), CN_EUNSUPPORTED, &err,
              "gives code 14, which is ~ in WFDB, another meaning, 'V'");
    static const char *const bad[] = {"60 X", "TP", "42", "42 a-very-long-symbol", "-1 X"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *const one[] = {defined[0], bad[i], defined[3], NULL};
        must_fail(parse_notes(&a, one, &err), CN_EINVALID, &err, "defines no annotation type");
    }
}

static void aami_classes(void **state)
{
    static const struct {
        char symbol, class;
    } want[] = {{'N', 'N'}, {'L', 'N'}, {'R', 'N'}, {'e', 'N'}, {'j', 'N'}, {'A', 'S'},
                {'a', 'S'}, {'J', 'S'}, {'S', 'S'}, {'V', 'V'}, {'E', 'V'}, {'F', 'F'},
                {'/', 'Q'}, {'f', 'Q'}, {'Q', 'Q'}, {'+', 0},   {'~', 0},   {'|', 0},
                {'x', 0},   {'!', 0},   {'[', 0},   {'"', 0}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        int code = 0;
        while (!ecg_code_symbol(code) || ecg_code_symbol(code)[0] != want[i].symbol) code++;
        int class = ecg_beat_class(code);
        assert_int_equal(class < 0 ? 0 : ecg_class_name[class][0], want[i].class);
        assert_int_equal(ecg_code_is_beat(code), class >= 0);
    }
    assert_int_equal(ecg_beat_class(42), -1);
    assert_int_equal(ecg_beat_class(-1), -1);
    assert_int_equal(ecg_beat_class(64), -1);
}

static void windows(void **state)
{
    double mv[600];
    float x[ECG_BEAT_SAMPLES];
    for (int t = 0; t < 600; t++) mv[t] = t * 0.01;
    assert_false(ecg_beat_cut(mv, 600, 98, x));
    assert_true(ecg_beat_cut(mv, 600, 99, x));
    assert_true(ecg_beat_cut(mv, 600, 439, x));
    assert_false(ecg_beat_cut(mv, 600, 440, x));
    ecg_beat_cut(mv, 600, 300, x);
    double sum = 0, squares = 0;
    for (int t = 0; t < ECG_BEAT_SAMPLES; t++) {
        sum += (double)x[t];
        squares += (double)x[t] * (double)x[t];
        if (t) assert_true(x[t] > x[t - 1]);
    }
    assert_true(fabs(sum) < 1e-3 && fabs(squares / ECG_BEAT_SAMPLES - 1) < 1e-6);
    for (int t = 0; t < 600; t++) mv[t] = 0.3;
    ecg_beat_cut(mv, 600, 300, x);
    for (int t = 0; t < ECG_BEAT_SAMPLES; t++) assert_true(x[t] == 0);
}

static void inter_patient_lists(void **state)
{
    static const char *const all[] = {
        "100", "101", "102", "103", "104", "105", "106", "107", "108", "109", "111", "112",
        "113", "114", "115", "116", "117", "118", "119", "121", "122", "123", "124", "200",
        "201", "202", "203", "205", "207", "208", "209", "210", "212", "213", "214", "215",
        "217", "219", "220", "221", "222", "223", "228", "230", "231", "232", "233", "234"};
    int count[4] = {0};
    for (size_t i = 0; i < 48; i++) count[ecg_inter_patient_part(all[i])]++;
    assert_int_equal(count[ECG_TRAIN], 18);
    assert_int_equal(count[ECG_VALIDATION], 4);
    assert_int_equal(count[ECG_TEST], 22);
    assert_int_equal(count[ECG_UNUSED], 4);
    static const char *const paced[] = {"102", "104", "107", "217"};
    for (int i = 0; i < 4; i++) assert_int_equal(ecg_inter_patient_part(paced[i]), ECG_UNUSED);
    assert_int_equal(ecg_inter_patient_part("x_108"), ECG_UNUSED);
}

/* --- the cache of beats ---------------------------------------------------------------------- */

static int open_beats(struct ecg_dataset **d, const char *dir, int split, uint64_t seed,
                      struct cn_error *err)
{
    char cache[256];
    fake_folder(cache, "cache");
    struct ecg_build b = {
        .dir = dir, .cache_dir = cache, .split = split, .seed = seed, .threads = 2};
    told[0] = 0;
    return ecg_dataset_open(d, &b, err);
}

/* N, V, A, +, f in turn, in 101 (DS1, second lead MLII), 124 (DS1, validation), 100 (DS2, no MLII),
 * 104 (paced); and what must stay out. */
static void four_records(char dir[256], const char *name)
{
    char path[512];
    struct cn_error err;
    fake_folder(dir, name);
    fake_beats(dir, "101", 6000, "V5", "MLII", "\1\5\10\34\46");
    fake_beats(dir, "124", 3000, "MLII", "V1", "\1\5");
    fake_beats(dir, "100", 3000, "V5", "V2", "\1");
    fake_beats(dir, "104", 3000, "MLII", "V2", "\14");
    snprintf(path, sizeof path, "%s/x_mitdb", dir);
    must(cn_mkdirs(path, &err), &err);
    fake_beats(path, "x_108", 3000, "MLII", "V1", "\1");
    fake_text(dir, "ANNOTATORS", "atr\treference beats\n");
    fake_text(dir, "RECORDS", "100\n101\r\n104\n124\n");
}

static int row_of(const struct ecg_dataset *d, const char *id)
{
    for (int i = 0; i < d->n; i++)
        if (!strcmp(d->id[i], id)) return i;
    return -1;
}

static void beats_of_four_records(void **state)
{
    char dir[256];
    struct ecg_dataset *d;
    struct cn_error err;
    four_records(dir, "four");
    must(open_beats(&d, dir, ECG_SPLIT_INTER_PATIENT, 0, &err), &err);
    assert_true(d->task == ECG_ONE_LABEL && d->n_leads == 1 && d->n_samples == 260);
    assert_true(d->n_labels == 5 && d->hz == 360 && d->mean[0] == 0 && d->std[0] == 1);
    assert_string_equal(d->name, "mitdb");
    assert_string_equal(d->label[4], "Q");
    /* 200, 500, .. 2600 fit into 3000 samples; 101 has 20 annotations, every fifth no beat, and its
     * last at 5900 does not fit */
    assert_int_equal(d->n, 9 + 15 + 9 + 9);
    assert_non_null(strstr(told, "record 100 has no lead MLII; taking its first, V5"));
    assert_null(strstr(told, "record 101"));
    for (int i = 0; i < d->n; i++) {
        int part = !strncmp(d->id[i], "101", 3)   ? ECG_TRAIN
                   : !strncmp(d->id[i], "124", 3) ? ECG_VALIDATION
                   : !strncmp(d->id[i], "100", 3) ? ECG_TEST
                                                  : ECG_UNUSED;
        static const int fold[] = {1, 9, 10, 0};
        assert_int_equal(d->part[i], part);
        assert_int_equal(d->fold[i], fold[part]);
    }
    int v = row_of(d, "101:500");
    assert_true(v >= 0 && d->y[v * 5 + 2] == 1 && row_of(d, "101:1100") < 0);
    double mean = 0, squares = 0, want;
    for (int t = 401; t <= 660; t++) mean += fake_beat_sample(1, t) / 260.0;
    for (int t = 401; t <= 660; t++) squares += pow(fake_beat_sample(1, t) - mean, 2);
    for (int t = 0; t < 260; t++) {
        want = (fake_beat_sample(1, 401 + t) - mean) / sqrt(squares / 260);
        assert_true(fabs((double)d->x[v * 260 + t] - want) < 1e-5);
    }
    ecg_dataset_close(d);
}

static void random_split_is_exact_and_seeded(void **state)
{
    char dir[256];
    struct ecg_dataset *d, *again, *other;
    struct cn_error err;
    fake_folder(dir, "random");
    fake_beats(dir, "100", 300500, "MLII", "V2", "\1\1\5");
    must(open_beats(&d, dir, ECG_SPLIT_RANDOM, 3, &err), &err);
    must(open_beats(&again, dir, ECG_SPLIT_RANDOM, 3, &err), &err);
    must(open_beats(&other, dir, ECG_SPLIT_RANDOM, 4, &err), &err);
    assert_int_equal(d->n, 1001);
    int count[4] = {0}, moved = 0;
    for (int i = 0; i < d->n; i++) {
        count[d->part[i]]++;
        moved += d->part[i] != other->part[i];
    }
    assert_int_equal(count[ECG_TEST], 200);
    assert_int_equal(count[ECG_VALIDATION], 80);
    assert_int_equal(count[ECG_TRAIN], 721);
    assert_memory_equal(d->part, again->part, (size_t)d->n);
    assert_memory_equal(&d->fingerprint, &again->fingerprint, sizeof d->fingerprint);
    assert_memory_not_equal(&d->fingerprint, &other->fingerprint, sizeof d->fingerprint);
    assert_true(moved > 200);
    float w[ECG_MAX_LABELS];
    ecg_dataset_class_weights(d, ECG_TRAIN, w);
    double n = 0, v = 0;
    for (int i = 0; i < d->n; i++)
        if (d->part[i] == ECG_TRAIN) {
            n += d->y[i * 5];
            v += d->y[i * 5 + 2];
        }
    assert_true(fabs((double)w[0] - 721 / (2 * n)) < 1e-6 &&
                fabs((double)w[2] - 721 / (2 * v)) < 1e-6);
    assert_true(w[1] == 0 && w[3] == 0 && w[4] == 0 && w[7] == 0);
    ecg_dataset_close(d);
    ecg_dataset_close(again);
    ecg_dataset_close(other);
}

static void damaged_folders(void **state)
{
    char dir[256], path[512];
    struct ecg_dataset *d;
    struct cn_error err;
    four_records(dir, "damaged");
    fake_text(dir, "RECORDS", "100\n999\n");
    must_fail(open_beats(&d, dir, 1, 0, &err), CN_ENOTFOUND, &err,
              "RECORDS:2: record 999 is listed");
    four_records(dir, "damaged");
    snprintf(path, sizeof path, "%s/124.atr", dir);
    assert_int_equal(truncate(path, 12), 0);
    must_fail(open_beats(&d, dir, 1, 0, &err), CN_ECORRUPT, &err, "124.atr: truncated");
    four_records(dir, "damaged");
    snprintf(path, sizeof path, "%s/101.hea", dir);
    fake_replace(path, "2 360 6000", "2 360 5000");
    must_fail(open_beats(&d, dir, 1, 0, &err), CN_ECORRUPT, &err, "101.atr: byte");
    assert_non_null(strstr(err.text, "but the record has 5000 samples"));
    four_records(dir, "damaged");
    fake_replace(path, "2 360 6000", "2 250 6000");
    must_fail(open_beats(&d, dir, 1, 0, &err), CN_EINVALID, &err,
              "101.hea: 6000 samples at 250 Hz");
    four_records(dir, "damaged");
    snprintf(path, sizeof path, "%s/104.dat", dir);
    assert_int_equal(truncate(path, 8997), 0);
    must_fail(open_beats(&d, dir, 1, 0, &err), CN_ECORRUPT, &err, "104.dat: truncated");
    must_fail(open_beats(&d, dir, 7, 0, &err), CN_EINVALID, &err, "7 is no way to split");
    fake_folder(dir, "damaged");
    must_fail(open_beats(&d, dir, 1, 0, &err), CN_ENOTFOUND, &err, "no dataset here");
    fake_beats(dir, "100", 3000, "MLII", "V1", "\34");
    must_fail(open_beats(&d, dir, 1, 0, &err), CN_EINVALID, &err, "no beats in its 1 records");
}

static void unknown_symbols_are_told(void **state)
{
    char dir[256];
    struct ecg_dataset *d;
    struct ecg_verified seen;
    struct cn_error err;
    fake_folder(dir, "unknown");
    fake_beats(dir, "100", 3000, "MLII", "V1", "\1\52");
    must(open_beats(&d, dir, 1, 0, &err), &err);
    assert_non_null(strstr(told,
                           "5 annotations with codes that WFDB does not define left out: code "
                           "42 (5 times)"));
    ecg_dataset_close(d);
    struct ecg_verify v = {.dir = dir, .cache_dir = dir};
    must(ecg_verify(&v, &seen, &err), &err);
    assert_int_equal(seen.unknown, 5);
    assert_int_equal(seen.count[0][0], 5);
}

static void a_record_without_annotations_is_left_out(void **state)
{
    char dir[256], path[512];
    struct ecg_dataset *d;
    struct cn_error err;
    fake_folder(dir, "without");
    fake_beats(dir, "100", 3000, "MLII", "V1", "\1");
    fake_beats(dir, "103", 3000, "MLII", "V1", "\1");
    snprintf(path, sizeof path, "%s/103.atr", dir);
    assert_int_equal(unlink(path), 0);
    must(open_beats(&d, dir, 1, 0, &err), &err);
    assert_int_equal(d->n, 9);
    assert_non_null(strstr(told, "103.atr: no such file; its record is left out"));
    ecg_dataset_close(d);
}

static const struct ecg_gaps refuse;

/* Beats of one record are the rows that the cache holds of it, bit for bit. */
static void beats_of_one_record(void **state)
{
    char dir[256], path[512], id[24];
    struct ecg_dataset *d;
    struct ecg_beats b;
    struct cn_error err;
    four_records(dir, "one");
    must(open_beats(&d, dir, ECG_SPLIT_INTER_PATIENT, 0, &err), &err);
    snprintf(path, sizeof path, "%s/101", dir);
    told[0] = 0;
    must(ecg_beats_read(&b, path, NULL, &refuse, &err), &err);
    assert_string_equal(told, "");
    assert_int_equal(b.n, 15);
    assert_int_equal(b.left_out, 1); /* the one at 5900 */
    assert_string_equal(b.lead, "MLII");
    assert_int_equal(b.lead_missing, 0);
    for (int i = 0; i < b.n; i++) {
        snprintf(id, sizeof id, "101:%d", (int)b.sample[i]);
        int row = row_of(d, id);
        assert_true(row >= 0 && d->y[row * 5 + ecg_beat_class(b.code[i])] == 1);
        assert_memory_equal(b.x + i * 260, d->x + row * 260, 260 * sizeof(float));
    }
    ecg_beats_clear(&b);
    ecg_dataset_close(d);

    snprintf(path, sizeof path, "%s/100.hea", dir);
    must(ecg_beats_read(&b, path, NULL, &refuse, &err), &err);
    assert_non_null(strstr(told, "100.hea: record 100 has no lead MLII; taking its first, V5"));
    assert_true(b.lead_missing && b.n == 9);
    assert_string_equal(b.lead, "V5");
    ecg_beats_clear(&b);
}

/* Annotations from elsewhere, and every record that cannot be taken. */
static void records_without_usable_beats(void **state)
{
    char dir[256], path[512], other[512];
    struct ecg_beats b;
    struct cn_error err;
    four_records(dir, "unusable");
    snprintf(path, sizeof path, "%s/124", dir);
    snprintf(other, sizeof other, "%s/100.atr", dir);
    must(ecg_beats_read(&b, path, other, &refuse, &err), &err);
    assert_int_equal(b.n, 9);
    for (int i = 0; i < b.n; i++) assert_int_equal(b.code[i], 1); /* 100's, not 124's */
    ecg_beats_clear(&b);
    snprintf(other, sizeof other, "%s/101.atr", dir);
    must_fail(ecg_beats_read(&b, path, other, &refuse, &err), CN_ECORRUPT, &err,
              "but the record has 3000 samples");
    snprintf(other, sizeof other, "%s/none.qrs", dir);
    must_fail(ecg_beats_read(&b, path, other, &refuse, &err), CN_ENOTFOUND, &err, "none.qrs");
    snprintf(other, sizeof other, "%s/124.atr", dir);
    assert_int_equal(unlink(other), 0);
    must_fail(ecg_beats_read(&b, path, NULL, &refuse, &err), CN_ENOTFOUND, &err,
              "124.atr: no such file; beats are classified around annotated R peaks");
    assert_non_null(strstr(err.text, "--annotations FILE"));
    fake_beats(dir, "124", 3000, "MLII", "V1", "\34\52");
    told[0] = 0;
    must_fail(ecg_beats_read(&b, path, NULL, &refuse, &err), CN_EINVALID, &err,
              "none of its 10 annotations is a beat");
    assert_non_null(strstr(told, "5 annotations with codes that WFDB does not define"));
    assert_int_equal(truncate(other, 9), 0);
    must_fail(ecg_beats_read(&b, path, NULL, &refuse, &err), CN_ECORRUPT, &err,
              "124.atr: truncated");
    snprintf(other, sizeof other, "%s/104.hea", dir);
    fake_replace(other, "2 360 3000", "2 250 3000");
    must_fail(ecg_beats_read(&b, other, NULL, &refuse, &err), CN_EINVALID, &err,
              "3000 samples at 250 Hz; nets that classify beats take records of at least 260 "
              "samples at 360 Hz");
    fake_replace(other, "2 250 3000", "2 360 3000");
    fake_replace(other, "212 200 11", "212 200/mmHg 11");
    must_fail(ecg_beats_read(&b, other, NULL, &refuse, &err), CN_EUNSUPPORTED, &err,
              "not a voltage");
    assert_true(!b.x && !b.sample && !b.code);
}

int main(void)
{
    cn_log_sink(listen, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_skips_and_modifiers),
        cmocka_unit_test(damaged_annotation_files),
        cmocka_unit_test(undefined_codes_are_counted_and_listed),
        cmocka_unit_test(times_in_another_resolution),
        cmocka_unit_test(types_that_a_file_defines),
        cmocka_unit_test(aami_classes),
        cmocka_unit_test(windows),
        cmocka_unit_test(inter_patient_lists),
        cmocka_unit_test(beats_of_four_records),
        cmocka_unit_test(random_split_is_exact_and_seeded),
        cmocka_unit_test(damaged_folders),
        cmocka_unit_test(unknown_symbols_are_told),
        cmocka_unit_test(a_record_without_annotations_is_left_out),
        cmocka_unit_test(beats_of_one_record),
        cmocka_unit_test(records_without_usable_beats),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fake_clear();
    return failed;
}
