/* Records and annotation files of every feature of WFDB that cinch reads, against how wfdb reads them;
 * generate_wfdb.py made them. */
#include "../../unit/ecg/fake.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "ecg/annotation.h"
#include "ecg/signal.h"
#include "ecg/wfdb.h"

#define HERE CINCH_SOURCE_DIR "/tests/golden/ecg/"

static char dir[256];

static FILE *open_golden(const char *name)
{
    char path[512];
    snprintf(path, sizeof path, HERE "%s", name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    return f;
}

/* Hexadecimal text to bytes, in place; returns how many. */
static size_t unhex(char *text)
{
    size_t n = 0;
    for (unsigned v; sscanf(text + 2 * n, "%2x", &v) == 1; n++) text[n] = (char)v;
    text[n] = 0;
    return n;
}

static int unpack_files(void **state)
{
    static char line[1 << 16];
    char name[64], path[512];
    FILE *f = open_golden("wfdb_files.txt");
    fake_folder(dir, "wfdb");
    while (fgets(line, sizeof line, f)) {
        assert_int_equal(sscanf(line, "%63s", name), 1);
        char *hex = line + strlen(name) + 1;
        size_t n = unhex(hex);
        snprintf(path, sizeof path, "%s/%s", dir, name);
        fake_write(path, hex, n);
    }
    fclose(f);
    return 0;
}

static int remove_files(void **state)
{
    fake_clear();
    return 0;
}

static void check_signal(const struct ecg_record *r, int s, char *line)
{
    char *rest = NULL, *word = strtok_r(line, " \n", &rest);
    double mv[64];
    struct cn_error err;
    assert_string_equal(word, "signal");
    word = strtok_r(NULL, " \n", &rest);
    if (strcmp(word, "-") != 0) {
        unhex(word);
        assert_string_equal(r->header.signal[s].name, word);
    }
    must((int)ecg_signal_mv(r, s, mv, &err), &err);
    for (int t = 0; t < r->header.n_samples; t++) {
        word = strtok_r(NULL, " \n", &rest);
        assert_non_null(word);
        double want = strcmp(word, "-") ? atof(word) : NAN;
        if (isnan(want) != isnan(mv[t]) || fabs(want - mv[t]) > 1e-9 * (1 + fabs(want)))
            fail_msg("%s: signal %d, sample %d: %g, wfdb reads %s", r->path, s, t, mv[t], word);
    }
    assert_null(strtok_r(NULL, " \n", &rest));
}

static void records(void **state)
{
    static char line[1 << 14];
    char name[64], path[512];
    double hz;
    int signals, samples, seen = 0;
    struct cn_error err;
    FILE *f = open_golden("wfdb.txt");
    while (fgets(line, sizeof line, f)) {
        struct ecg_record *r;
        assert_int_equal(sscanf(line, "record %63s %lf %d %d", name, &hz, &signals, &samples), 4);
        snprintf(path, sizeof path, "%s/%s", dir, name);
        must(ecg_record_read(&r, path, &err), &err);
        assert_true(r->header.hz == hz && r->header.n_signals == signals);
        assert_int_equal(r->header.n_samples, samples);
        for (int s = 0; s < signals; s++) {
            assert_non_null(fgets(line, sizeof line, f));
            check_signal(r, s, line);
        }
        ecg_record_destroy(r);
        seen++;
    }
    fclose(f);
    assert_int_equal(seen, 52);
}

static void check_annotation(const struct ecg_annotation *a, const char *line)
{
    long long sample;
    int code, subtype, channel, number;
    char aux[520];
    assert_int_equal(sscanf(line, "ann %lld %d %d %d %d %519s", &sample, &code, &subtype, &channel,
                            &number, aux),
                     6);
    assert_int_equal(a->sample, sample);
    assert_int_equal(a->code, code);
    assert_true(a->subtype == subtype && a->channel == channel && a->number == number);
    size_t n = strcmp(aux, "-") ? unhex(aux) : 0;
    assert_int_equal(a->aux_len, n);
    assert_memory_equal(a->aux_len ? a->aux : aux, aux, n);
}

static void annotations(void **state)
{
    char line[1024], name[64], path[512];
    double hz, resolution;
    int n, seen = 0;
    FILE *f = open_golden("wfdb_ann.txt");
    while (fgets(line, sizeof line, f)) {
        struct ecg_annotations a;
        struct cn_error err;
        assert_int_equal(sscanf(line, "file %63s %lf %d %lf", name, &hz, &n, &resolution), 4);
        snprintf(path, sizeof path, "%s/%s.atr", dir, name);
        must(ecg_annotations_read(&a, path, &(struct ecg_timeline){0, hz}, &err), &err);
        assert_int_equal(a.n, n);
        assert_true(a.resolution == resolution);
        for (int i = 0; i < n; i++) {
            assert_non_null(fgets(line, sizeof line, f));
            check_annotation(&a.of[i], line);
        }
        ecg_annotations_clear(&a);
        seen++;
    }
    fclose(f);
    assert_int_equal(seen, 6);
}

int main(void)
{
    cn_log_level(CN_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records),
        cmocka_unit_test(annotations),
    };
    return cmocka_run_group_tests(tests, unpack_files, remove_files);
}
