/* Tests of ecg/wfdb: headers as they occur, both formats, and everything that can be wrong with a
 * record. */
#include "fake.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
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
        {"r 33\n", CN_EINVALID, "bad number of signals"},
        {"r/3 1 100 10\n", CN_EUNSUPPORTED, "several segments"},
        {"r 1 -5 10\n", CN_EINVALID, "bad sampling frequency '-5'"},
        {"r 1 nan 10\n", CN_EINVALID, "bad sampling frequency"},
        {"r 1 100 many\n", CN_EINVALID, "bad number of samples 'many'"},
        {"r 1 100 -1\n", CN_EINVALID, "bad number of samples"},
        {"r 1 100 999999999999\n", CN_EINVALID, "bad number of samples"},
        {"r 2 100 10\nr.dat 16\n", CN_EINVALID, "ends after 1 of 2 signal lines"},
        {"r 1 100 10\nr.dat\n", CN_EINVALID, "r.hea:2: missing format"},
        {"r 1 100 10\nr.dat 80\n", CN_EUNSUPPORTED, "r.hea:2: signal format 80"},
        {"r 1 100 10\nr.dat sixteen\n", CN_EINVALID, "bad signal format 'sixteen'"},
        {"r 1 100 10\nr.dat 16x4\n", CN_EUNSUPPORTED, "several samples per frame"},
        {"r 1 100 10\nr.dat 16:2\n", CN_EUNSUPPORTED, "skew"},
        {"r 1 100 10\nr.dat 16y\n", CN_EINVALID, "bad signal format"},
        {"r 1 100 10\nr.dat 16 gain\n", CN_EINVALID, "bad gain 'gain'"},
        {"r 1 100 10\nr.dat 16 inf\n", CN_EINVALID, "bad gain"},
        {"r 1 100 10\nr.dat 16 200(x)/mV\n", CN_EINVALID, "bad baseline"},
        {"r 1 100 10\nr.dat 16 200(0/mV\n", CN_EINVALID, "bad baseline"},
        {"r 1 100 10\nr.dat 16 200;\n", CN_EINVALID, "bad gain"},
        {"r 1 100 10\nr.dat 16 200/a-very-long-unit-name\n", CN_EINVALID, "bad units"},
        {"r 1 100 10\nr.dat 16 200 sixteen\n", CN_EINVALID, "bad ADC resolution 'sixteen'"},
        {"r 1 100 10\nr.dat 16 200 16 0 0 abc\n", CN_EINVALID, "bad checksum 'abc'"},
        {"r 1 100 10\n../r.dat 16\n", CN_EINVALID, "must lie beside its header"},
        {"r 1 100 10\n- 16\n", CN_EINVALID, "must lie beside its header"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ecg_header h;
        struct cn_error err;
        must_fail(parse(&h, bad[i].text, &err), bad[i].code, &err, bad[i].says);
    }
    struct ecg_header h;
    struct cn_error err;
    must_fail(ecg_header_parse(&h, "r.hea", "r 1\0\n", 5, &err), CN_EINVALID, &err, "0 byte");
}

static void format_212_of_odd_and_even_counts(void **state)
{
    /* -1, 1, 2047, -2047, 5 by the definition: low byte, nibbles, low byte; then two bytes */
    const uint8_t bytes[] = {0xff, 0x0f, 0x01, 0xff, 0x87, 0x01, 0x05, 0x00};
    const int16_t want[] = {-1, 1, 2047, -2047, 5};
    struct ecg_header h = {.n_signals = 1, .n_samples = 5};
    struct cn_error err;
    int16_t out[5];
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
    const int16_t want[] = {1, -32768, -2, -1, 2, 3};
    struct ecg_header h = {.n_signals = 2, .n_samples = 3};
    struct cn_error err;
    int16_t out[6];
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
    const int16_t want[] = {1, 2, 3, -1, 1, 2047};
    assert_memory_equal(r->adc, want, sizeof want);
    ecg_record_destroy(r);
}

static void units_and_missing_samples(void **state)
{
    struct ecg_header h = {.n_signals = 1, .n_samples = 5};
    struct cn_error err;
    double mv[5];
    const int16_t adc[] = {-2048, 10, -2048, 30, -2048};
    h.signal[0] = (struct ecg_signal){.format = 212, .gain = 20, .baseline = -10, .units = "uV"};
    assert_int_equal(ecg_signal_mv(&h, 0, adc, mv, &err), 3);
    const double want[] = {1e-3, 1e-3, 1e-3, 2e-3, 2e-3};
    for (int t = 0; t < 5; t++) assert_true(fabs(mv[t] - want[t]) < 1e-15);
    const int16_t none[] = {-2048, -2048, -2048, -2048, -2048};
    assert_int_equal(ecg_signal_mv(&h, 0, none, mv, &err), 5);
    for (int t = 0; t < 5; t++) assert_true(mv[t] == 0);
    strcpy(h.signal[0].units, "mmHg");
    must_fail((int)ecg_signal_mv(&h, 0, adc, mv, &err), CN_EUNSUPPORTED, &err, "'mmHg'");
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
        cmocka_unit_test(units_and_missing_samples),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fake_clear();
    return failed;
}
