/* Tests of ecg/wfdb: headers as they occur, both formats, and everything that can be wrong with a
 * record. */
#include "fake.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "ecg/signal.h"
#include "ecg/wfdb.h"

static int parse(struct ecg_header *h, const char *text, struct cn_error *err)
{
    return ecg_header_parse(h, "r.hea", text, strlen(text), err);
}

static void header_of_ptbxl_with_crlf(void **state)
{
    struct ecg_header h;
    struct cn_error err;
    must(parse(&h,
               "# comment\r\n\r\n00001_lr 2 100 1000\r\n"
               "00001_lr.dat 16 1000.0(0)/mV 16 0 -119 1508 0 I\r\n"
               "00001_lr.dat 16 1000.0(-5)/uV 16 3 -55 723 0 V 1  \r\n# end\r\n",
               &err),
         &err);
    assert_string_equal(h.record, "00001_lr");
    assert_int_equal(h.n_signals, 2);
    assert_true(h.hz == 100 && h.n_samples == 1000);
    const struct ecg_signal *s = h.signal;
    assert_string_equal(s[0].file, "00001_lr.dat");
    assert_true(s[0].format == 16 && s[0].gain == 1000 && s[0].baseline == 0);
    assert_true(s[0].checked && s[0].checksum == 1508 && s[0].line == 4);
    assert_string_equal(s[0].name, "I");
    assert_string_equal(s[1].units, "uV");
    assert_int_equal(s[1].baseline, -5);
    assert_string_equal(s[1].name, "V 1");
}

static void header_of_mitdb_takes_the_baseline_from_adc_zero(void **state)
{
    struct ecg_header h;
    struct cn_error err;
    must(parse(&h, "100 2 360 650000\n100.dat 212 200 11 1024 995 -22131 0 MLII\n100.dat 212\n",
               &err),
         &err);
    assert_true(h.signal[0].baseline == 1024 && h.signal[0].gain == 200);
    assert_string_equal(h.signal[0].units, "mV");
    assert_true(h.signal[1].gain == 200 && !h.signal[1].checked && h.signal[1].baseline == 0);
    assert_int_equal(ecg_signal_find(&h, "mlii"), 0);
    assert_int_equal(ecg_signal_find(&h, "V5"), -1);
}

static void header_defaults_and_odd_forms(void **state)
{
    struct ecg_header h;
    struct cn_error err;
    must(parse(&h, "r 1\nr.dat 16x1:0+512 0\n", &err), &err);
    assert_true(h.hz == 250 && h.n_samples == 0);
    assert_true(h.signal[0].offset == 512 && h.signal[0].gain == 200);
    must(parse(&h, "r 1 360/72(0) 10 12:00:00 01/01/2020\nr.dat 16\n", &err), &err);
    assert_true(h.hz == 360 && h.n_samples == 10);
}

/* Each malformed header, with the code and what the message must say. */
static void malformed_headers(void **state)
{
    static const struct {
        const char *text;
        int code;
        const char *says;
    } bad[] = {
        {"", CN_EINVALID, "r.hea: empty"},
        {"# only a comment\n", CN_EINVALID, "empty"},
        {"r\n", CN_EINVALID, "r.hea:1: missing number of signals"},
        {"r x\n", CN_EINVALID, "r.hea:1: bad number of signals 'x'"},
        {"r 0\n", CN_EINVALID, "bad number of signals"},
        {"r 33\n", CN_ELIMIT, "33 signals; records of up to 32"},
        {"r/3 1 100 10\n", CN_EUNSUPPORTED, "several segments"},
        {"r 1 -5 10\n", CN_EINVALID, "bad sampling frequency '-5'"},
        {"r 1 nan 10\n", CN_EINVALID, "bad sampling frequency"},
        {"r 1 100 many\n", CN_EINVALID, "bad number of samples 'many'"},
        {"r 1 100 -1\n", CN_EINVALID, "bad number of samples"},
        {"r 1 100 999999999999\n", CN_EINVALID, "bad number of samples"},
        {"r 2 100 10\nr.dat 16\n", CN_EINVALID, "ends after 1 of 2 signal lines"},
        {"r 1 100 10\nr.dat\n", CN_EINVALID, "r.hea:2: missing format"},
        {"r 1 100 10\nr.dat 81\n", CN_EUNSUPPORTED, "r.hea:2: signal format 81"},
        {"r 1 100 10\nr.dat 516\n", CN_EUNSUPPORTED, "516 (compressed) cannot be read"},
        {"r 1 100 10\nr.dat sixteen\n", CN_EINVALID, "bad signal format 'sixteen'"},
        {"r 1 100 10\nr.dat 16x4\n", CN_EUNSUPPORTED, "4 samples per frame"},
        {"r 1 100 10\nr.dat 16:-2\n", CN_EINVALID, "bad signal format"},
        {"r 1 100 10\nr.dat 16+-2\n", CN_EINVALID, "bad signal format"},
        {"r 1 1e-300 10\nr.dat 16\n", CN_EINVALID, "bad sampling frequency"},
        {"r 1 100/ 10\nr.dat 16\n", CN_EINVALID, "bad counter frequency"},
        {"r 1 100/50(x) 10\nr.dat 16\n", CN_EINVALID, "bad base counter value"},
        {"r 1 100/50(0 10\nr.dat 16\n", CN_EINVALID, "bad base counter value"},
        {"r 1 100x 10\nr.dat 16\n", CN_EINVALID, "bad sampling frequency"},
        {"r 1 100 10\nr.dat 16y\n", CN_EINVALID, "bad signal format"},
        {"r 1 100 10\nr.dat 16 gain\n", CN_EINVALID, "bad gain 'gain'"},
        {"r 1 100 10\nr.dat 16 inf\n", CN_EINVALID, "bad gain"},
        {"r 1 100 10\nr.dat 16 nan 16 0 0 0 0 V1\n", CN_EINVALID, "r.hea:2: signal V1: bad gain"},
        {"r 1 100 10\nr.dat 16 1e-40 16 0 0 0 0 V1\n", CN_EINVALID, "signal V1: bad gain"},
        {"r 1 100 10\nr.dat 16 -1e30 16 0 0 0 0 V1\n", CN_EINVALID, "signal V1: bad gain"},
        {"r 1 100 10\nr.dat 16 200(99999999999)\n", CN_EINVALID, "bad baseline"},
        {"r 1 100 10\nr.dat 16 200/\n", CN_EINVALID, "bad units"},
        {"r 3\na.dat 16\nb.dat 16\na.dat 16\n", CN_EINVALID,
         "r.hea:4: the signals of 'a.dat' do not"},
        {"r 2\na.dat 16\na.dat 16+4\n", CN_EINVALID, "r.hea:3: signals in one file differ"},
        {"r 1 100 10\nr.dat 16 200(x)/mV\n", CN_EINVALID, "bad baseline"},
        {"r 1 100 10\nr.dat 16 200(0/mV\n", CN_EINVALID, "bad baseline"},
        {"r 1 100 10\nr.dat 16 200;\n", CN_EINVALID, "bad gain"},
        {"r 1 100 10\nr.dat 16 200/a-very-long-name-of-a-unit\n", CN_EINVALID, "bad units"},
        {"r 1 100 10\nr.dat 16 200 sixteen\n", CN_EINVALID, "bad ADC resolution 'sixteen'"},
        {"r 1 100 10\nr.dat 16 200 16 0 0 abc\n", CN_EINVALID, "bad checksum 'abc'"},
        {"r 1 100 10\n../r.dat 16\n", CN_EINVALID, "must lie beside its header"},
        {"r 1 100 10\n- 16\n", CN_EINVALID, "must lie beside its header"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ecg_header h;
        struct cn_error err;
        int rc = parse(&h, bad[i].text, &err);
        if (!rc) fail_msg("taken: %s", bad[i].text);
        must_fail(rc, bad[i].code, &err, bad[i].says);
    }
    struct ecg_header h;
    struct cn_error err;
    must_fail(ecg_header_parse(&h, "r.hea", "r 1\0\n", 5, &err), CN_EINVALID, &err, "0 byte");
}

static void format_212_of_odd_and_even_counts(void **state)
{
    /* -1, 1, 2047, -2047, 5 by the definition: low byte, nibbles, low byte; then two bytes */
    const uint8_t bytes[] = {0xff, 0x0f, 0x01, 0xff, 0x87, 0x01, 0x05, 0x00};
    const int32_t want[] = {-1, 1, 2047, -2047, 5};
    struct ecg_header h = {.n_signals = 1, .n_samples = 5};
    struct cn_error err;
    int32_t out[5];
    h.signal[0] = (struct ecg_signal){.format = 212, .checked = true, .checksum = 5};
    struct ecg_dat dat = {"x.dat", bytes, sizeof bytes};
    must(ecg_dat_decode(&h, 0, 1, &dat, out, &err), &err);
    assert_memory_equal(out, want, sizeof want);
    dat.n--;
    must_fail(ecg_dat_decode(&h, 0, 1, &dat, out, &err), CN_ECORRUPT, &err, "truncated: 7 bytes");
}

static void format_16_interleaves_signals(void **state)
{
    const uint8_t bytes[] = {9, 9, 1, 0, 0xff, 0xff, 0, 0x80, 2, 0, 0xfe, 0xff, 3, 0};
    const int32_t want[] = {1, ECG_MISSING, -2, -1, 2, 3};
    struct ecg_header h = {.n_signals = 2, .n_samples = 3};
    struct cn_error err;
    int32_t out[6];
    h.signal[0] = h.signal[1] = (struct ecg_signal){.format = 16, .offset = 2};
    struct ecg_dat dat = {"x.dat", bytes, sizeof bytes};
    must(ecg_dat_decode(&h, 0, 2, &dat, out, &err), &err);
    assert_memory_equal(out, want, sizeof want);
}

static void whole_record_and_its_damages(void **state)
{
    char dir[256], hea[512], dat[512];
    struct ecg_record *r;
    struct cn_error err;
    fake_folder(dir, "record");
    fake_ptbxl(dir, 2);
    snprintf(hea, sizeof hea, "%s/records100/00000/00002_lr.hea", dir);
    snprintf(dat, sizeof dat, "%s/records100/00000/00002_lr.dat", dir);
    must(ecg_record_read(&r, dat, &err), &err);
    for (int l = 0; l < 12; l++)
        for (int t = 0; t < 1000; t++) assert_int_equal(r->adc[l * 1000 + t], fake_sample(2, l, t));
    ecg_record_destroy(r);

    /* line 5 is AVR's: record line, I, II, III, AVR */
    fake_flip(dat, (10 * 12 + 3) * 2);
    must_fail(ecg_record_read(&r, hea, &err), CN_ECORRUPT, &err, "signal 3 (AVR): checksum");
    assert_non_null(strstr(err.text, "line 5 of its header"));
    assert_non_null(strstr(err.text, "00002_lr.dat"));
    assert_null(r);

    assert_int_equal(truncate(dat, 23998), 0);
    must_fail(ecg_record_read(&r, hea, &err), CN_ECORRUPT, &err,
              "00002_lr.dat: truncated: 23998 bytes");
    assert_non_null(strstr(err.text, "24000"));
    assert_int_equal(unlink(dat), 0);
    must_fail(ecg_record_read(&r, hea, &err), CN_ENOTFOUND, &err, "00002_lr.dat");
    assert_int_equal(unlink(hea), 0);
    must_fail(ecg_record_read(&r, hea, &err), CN_ENOTFOUND, &err, "00002_lr.hea");
}

static void signals_in_several_files_and_unstated_length(void **state)
{
    char dir[256], path[512];
    const uint8_t a[] = {1, 0, 2, 0, 3, 0}, b[] = {0xff, 0x0f, 0x01, 0xff, 0x87, 0x01};
    struct ecg_record *r;
    struct cn_error err;
    fake_folder(dir, "several");
    fake_text(dir, "s.hea",
              "s 2 100\na.dat 16 1(0)/mV 16 0 1 6 0 A\nb.dat 212 1(0)/mV 12 0 -1 0 0 B\n");
    snprintf(path, sizeof path, "%s/a.dat", dir);
    fake_write(path, a, sizeof a);
    snprintf(path, sizeof path, "%s/b.dat", dir);
    fake_write(path, b, sizeof b);
    snprintf(path, sizeof path, "%s/s", dir);
    must_fail(ecg_record_read(&r, path, &err), CN_ECORRUPT, &err, "signal 1 (B): checksum 2047");
    snprintf(path, sizeof path, "%s/s.hea", dir);
    fake_replace(path, "-1 0 0 B", "-1 2047 0 B");
    must(ecg_record_read(&r, path, &err), &err);
    assert_int_equal(r->header.n_samples, 3);
    const int32_t want[] = {1, 2, 3, -1, 1, 2047};
    assert_memory_equal(r->adc, want, sizeof want);
    ecg_record_destroy(r);
}

/* A record with one signal and these samples. */
static struct ecg_record one_signal(int32_t *adc, int n, const char *units)
{
    struct ecg_record r = {.adc = adc, .path = "x.hea"};
    r.header = (struct ecg_header){.n_signals = 1, .n_samples = n, .hz = 10, .record = "x"};
    r.header.signal[0] = (struct ecg_signal){.gain = 20, .baseline = -10, .calibrated = true};
    strcpy(r.header.signal[0].units, units);
    strcpy(r.header.signal[0].name, "II");
    return r;
}

static void units_have_prefixes(void **state)
{
    static const struct {
        const char *units;
        double mv;
    } known[] = {{"V", 1000},         {"mV", 1},           {"uV", 1e-3}, {"nV", 1e-6},
                 {"\xc2\xb5V", 1e-3}, {"\xce\xbcV", 1e-3}, {"mv", 1},    {"kV", 1e6}};
    int32_t adc[] = {-10, 10};
    struct cn_error err;
    double mv[2];
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct ecg_record r = one_signal(adc, 2, known[i].units);
        must((int)ecg_signal_mv(&r, 0, mv, &err), &err);
        assert_true(mv[0] == 0 && fabs(mv[1] / known[i].mv - 1) < 1e-12);
    }
    static const char *const other[] = {"mmHg", "MV", "mVV", "V/s", "bpm", "m"};
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        struct ecg_record r = one_signal(adc, 2, other[i]);
        must_fail((int)ecg_signal_mv(&r, 0, mv, &err), CN_EUNSUPPORTED, &err, other[i]);
    }
}

/* The micro sign of Latin-1, alone among ASCII, and a name with a control character. */
static void text_becomes_utf8_and_harmless(void **state)
{
    struct ecg_header h;
    struct cn_error err;
    must(parse(&h,
               "\xef\xbb\xbfr\xe9 3\n  # indented\n\t#\n"
               "a 16 0.2/\xb5V 16 0 0 0 0 D\xe9rivation\x1b[31m\ta\n"
               "a 16 0.2/\xc2\xb5V 16 0 0 0 0 D\xc3\xa9rivation\n  a 16\n",
               &err),
         &err);
    assert_string_equal(h.record, "r\xc3\xa9");
    assert_string_equal(h.signal[0].units, "\xc2\xb5V");
    assert_string_equal(h.signal[1].units, "\xc2\xb5V");
    assert_string_equal(h.signal[0].name, "D\xc3\xa9rivation\\x1b[31m a");
    assert_string_equal(h.signal[1].name, "D\xc3\xa9rivation");
    assert_string_equal(h.signal[2].name, "signal 2");
    assert_int_equal(h.latin1, 1);
    assert_int_equal(h.signal[2].line, 6);
}

static void long_names_are_cut_with_dots(void **state)
{
    char text[400] = "r 1\na 16 200 16 0 0 0 0 ";
    struct ecg_header h;
    struct cn_error err;
    for (int i = 0; i < 100; i++) strcat(text, "\xc3\xa9");
    must(parse(&h, text, &err), &err);
    assert_int_equal(strlen(h.signal[0].name), 127); /* 62 letters of two bytes, three dots */
    assert_string_equal(h.signal[0].name + 124, "...");
}

static void equal_names_get_suffixes(void **state)
{
    struct ecg_header h;
    struct cn_error err;
    must(parse(&h,
               "r 5\na 16 200 16 0 0 0 0 II (2)\na 16 200 16 0 0 0 0 II\na 16 200 16 0 0 0 0 II\n"
               "a 16 200 16 0 0 0 0 ii\na 16 200 16 0 0 0 0 V1\n",
               &err),
         &err);
    static const char *const want[] = {"II (2)", "II", "II (3)", "ii (4)", "V1"};
    static const bool twin[] = {false, true, true, true, false};
    for (int s = 0; s < 5; s++) {
        for (int k = 0; k < s; k++) assert_string_not_equal(h.signal[k].name, h.signal[s].name);
        assert_true(h.signal[s].twin == twin[s]);
        if (s < 2) assert_string_equal(h.signal[s].name, want[s]);
    }
    assert_int_equal(ecg_signal_find(&h, "II"), 1);
}

static void baseline_adc_zero_and_initial_value(void **state)
{
    struct ecg_header h;
    struct cn_error err;
    must(parse(&h, "r 3\na 16 200(5) 16 1024 7\na 16 200 16 1024\na 16 0 16\n", &err), &err);
    assert_true(h.signal[0].baseline == 5 && h.signal[0].initial == 7 && h.signal[0].calibrated);
    assert_true(h.signal[1].baseline == 1024 && h.signal[1].initial == 1024);
    assert_true(h.signal[2].baseline == 0 && h.signal[2].gain == 200 && !h.signal[2].calibrated);
}

static void missing_samples_are_no_voltage(void **state)
{
    int32_t adc[] = {ECG_MISSING, 10, ECG_MISSING, ECG_MISSING, 30, ECG_MISSING};
    struct ecg_record r = one_signal(adc, 6, "mV");
    struct cn_error err;
    double mv[6];
    assert_int_equal(ecg_signal_mv(&r, 0, mv, &err), 4);
    for (int t = 0; t < 6; t++) assert_true(isnan(mv[t]) == (adc[t] == ECG_MISSING));
    assert_true(mv[1] == 1 && mv[4] == 2);
}

static void gaps_are_refused_or_bridged(void **state)
{
    int32_t adc[] = {0, 10, ECG_MISSING, ECG_MISSING, 40, 50, ECG_MISSING, 70};
    struct ecg_record r = one_signal(adc, 8, "mV");
    struct ecg_gaps refuse = {0}, bridge = {0.2}, shorter = {0.1};
    struct cn_error err;
    double mv[8];
    must_fail((int)ecg_signal_whole(&r, 0, &refuse, mv, &err), CN_EINVALID, &err,
              "x.hea: lead II: 3 samples are missing in 2 gaps");
    assert_non_null(strstr(err.text, "the first is at 0.2 s, the longest 0.2 s"));
    assert_non_null(strstr(err.text, "--gaps interpolate"));
    must_fail((int)ecg_signal_whole(&r, 0, &shorter, mv, &err), CN_EINVALID, &err,
              "only gaps of up to 0.1 s");
    assert_int_equal(ecg_signal_whole(&r, 0, &bridge, mv, &err), 3);
    for (int t = 0; t < 8; t++) assert_true(fabs(mv[t] - (10 * t + 10) / 20.0) < 1e-12);
    /* a gap at an end has one neighbour, and is never bridged */
    adc[7] = ECG_MISSING;
    must_fail((int)ecg_signal_whole(&r, 0, &bridge, mv, &err), CN_EINVALID, &err, "missing");
    for (int t = 0; t < 8; t++) adc[t] = ECG_MISSING;
    must_fail((int)ecg_signal_whole(&r, 0, &bridge, mv, &err), CN_EINVALID, &err, "8 samples");
}

static void ways_to_meet_gaps(void **state)
{
    struct ecg_gaps g;
    struct cn_error err;
    must(ecg_gaps_parse(&g, NULL, &err), &err);
    assert_true(g.bridge == 0);
    must(ecg_gaps_parse(&g, "refuse", &err), &err);
    assert_true(g.bridge == 0);
    must(ecg_gaps_parse(&g, "interpolate", &err), &err);
    assert_true(g.bridge == ECG_GAP_DEFAULT);
    must(ecg_gaps_parse(&g, "interpolate:0.05", &err), &err);
    assert_true(g.bridge == 0.05);
    static const char *const bad[] = {"",
                                      "hold",
                                      "interpolate:",
                                      "interpolate:0",
                                      "0.2",
                                      "interpolate:-1",
                                      "interpolate:nan",
                                      "interpolate:inf",
                                      "interpolate:1s",
                                      "interpolate:11",
                                      "interpolated"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        must_fail(ecg_gaps_parse(&g, bad[i], &err), CN_EINVALID, &err, "is none of refuse");
}

static void voltages_stay_finite(void **state)
{
    int32_t adc[] = {-10, 2000000000};
    struct ecg_record r = one_signal(adc, 2, "mV");
    struct cn_error err;
    double mv[2];
    r.header.signal[0].line = 7;
    must_fail((int)ecg_signal_mv(&r, 0, mv, &err), CN_EINVALID, &err,
              "x.hea:7: record x, signal 0 (II): sample 1 would be 1e+08 mV");
    r.header.signal[0].baseline = INT32_MIN + 1; /* no overflow on the way */
    must_fail((int)ecg_signal_mv(&r, 0, mv, &err), CN_EINVALID, &err, "sample 0 would be");
}

static void seconds_become_the_nearest_sample(void **state)
{
    for (int t = 0; t < 100000; t++) {
        assert_int_equal(ecg_sample_at(t / 100.0, 100), t);
        assert_int_equal(ecg_sample_at(t / 360.0, 360), t);
        assert_int_equal(ecg_sample_at(t * 0.004, 250), t);
    }
    assert_int_equal(ecg_sample_at(0.285, 100), 29); /* 28.499999999999996 in binary */
    assert_int_equal(ecg_sample_at(0.145, 100), 15);
    assert_int_equal(ecg_sample_at(0.2849999, 100), 28);
    assert_int_equal(ecg_sample_at(0.5, 1), 1);
    assert_int_equal(ecg_sample_at(1.4999, 1), 1);
    assert_int_equal(ecg_sample_at(-0.6, 1), -1);
    assert_int_equal(ecg_sample_at(NAN, 1), -1);
    assert_int_equal(ecg_sample_at(1e300, 360), -1);
}

/* --- lengths --------------------------------------------------------------------------------- */

static int64_t length_of(int format, int signals, size_t bytes, struct cn_error *err)
{
    static const uint8_t zero[64];
    struct ecg_header h = {.n_signals = signals, .record = "x"};
    for (int s = 0; s < signals; s++) h.signal[s].format = format;
    struct ecg_dat dat = {"x.dat", zero, bytes};
    return ecg_dat_length(&h, 0, signals, &dat, err);
}

static void length_of_a_silent_header(void **state)
{
    struct cn_error err;
    assert_int_equal(length_of(212, 1, 6, &err), 4);
    assert_int_equal(length_of(212, 1, 5, &err), 3);  /* the last one in two bytes */
    assert_int_equal(length_of(212, 3, 15, &err), 3); /* 9 samples in 14 bytes, filled up */
    assert_int_equal(length_of(16, 2, 12, &err), 3);
    assert_int_equal(length_of(310, 1, 8, &err), 6);
    assert_int_equal(length_of(310, 1, 6, &err), 4);
    assert_int_equal(length_of(311, 1, 7, &err), 5);
    assert_int_equal(length_of(24, 1, 9, &err), 3);
    must_fail((int)length_of(212, 1, 4, &err), CN_ECORRUPT, &err, "no whole number of samples");
    must_fail((int)length_of(16, 2, 14, &err), CN_ECORRUPT, &err, "no whole number of samples");
    must_fail((int)length_of(32, 1, 3, &err), CN_ECORRUPT, &err, "holds no samples");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_of_ptbxl_with_crlf),
        cmocka_unit_test(header_of_mitdb_takes_the_baseline_from_adc_zero),
        cmocka_unit_test(header_defaults_and_odd_forms),
        cmocka_unit_test(malformed_headers),
        cmocka_unit_test(format_212_of_odd_and_even_counts),
        cmocka_unit_test(format_16_interleaves_signals),
        cmocka_unit_test(whole_record_and_its_damages),
        cmocka_unit_test(signals_in_several_files_and_unstated_length),
        cmocka_unit_test(units_have_prefixes),
        cmocka_unit_test(text_becomes_utf8_and_harmless),
        cmocka_unit_test(long_names_are_cut_with_dots),
        cmocka_unit_test(equal_names_get_suffixes),
        cmocka_unit_test(baseline_adc_zero_and_initial_value),
        cmocka_unit_test(missing_samples_are_no_voltage),
        cmocka_unit_test(gaps_are_refused_or_bridged),
        cmocka_unit_test(ways_to_meet_gaps),
        cmocka_unit_test(voltages_stay_finite),
        cmocka_unit_test(seconds_become_the_nearest_sample),
        cmocka_unit_test(length_of_a_silent_header),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fake_clear();
    return failed;
}
