/* Tests of ecg/registry, ecg/verify and ecg/show: what the `cinch data` commands stand on. */
#include "fake.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "ecg/registry.h"
#include "ecg/show.h"
#include "ecg/verify.h"

static void use_registry(const char *name)
{
    char dir[256];
    fake_folder(dir, name);
    setenv("CINCH_DATA", dir, 1);
}

static void names(void **state)
{
    char ptbxl[256], beats[256], dir[512], path[512];
    struct ecg_registry *r;
    struct cn_error err;
    use_registry("names-home");
    must(ecg_registry_list(&r, &err), &err);
    assert_int_equal(r->n, 0);
    ecg_registry_destroy(r);
    fake_folder(ptbxl, "names-ptbxl");
    fake_ptbxl(ptbxl, 3);
    fake_folder(beats, "names-beats");
    fake_beats(beats, "100", 3000, "MLII", "V1", "\1");
    must(ecg_registry_add("small", ptbxl, &err), &err);
    must(ecg_registry_add("beats", beats, &err), &err);
    must(ecg_registry_list(&r, &err), &err);
    assert_int_equal(r->n, 2);
    assert_string_equal(r->of[0].name, "beats");
    assert_string_equal(r->of[1].name, "small");
    assert_int_equal(ecg_folder_kind(r->of[0].dir), ECG_MITDB);
    assert_int_equal(ecg_folder_kind(r->of[1].dir), ECG_PTBXL);
    ecg_registry_destroy(r);

    must(ecg_data_dir("small", dir, sizeof dir, &err), &err);
    assert_string_equal(dir, ptbxl);
    must(ecg_data_dir(beats, dir, sizeof dir, &err), &err);
    assert_string_equal(dir, beats);
    must_fail(ecg_data_dir("smal", dir, sizeof dir, &err), CN_ENOTFOUND, &err,
              "did you mean 'small'?");
    must_fail(ecg_data_dir("../x", dir, sizeof dir, &err), CN_ENOTFOUND, &err, "cinch data add");
    must_fail(ecg_data_dir("small", dir, 8, &err), CN_EINVALID, &err, "too long");

    must(ecg_registry_add("small", beats, &err), &err); /* points elsewhere now */
    must(ecg_data_dir("small", dir, sizeof dir, &err), &err);
    assert_string_equal(dir, beats);
    must(ecg_registry_remove("small", &err), &err);
    must_fail(ecg_registry_remove("small", &err), CN_ENOTFOUND, &err,
              "no dataset is named 'small'");
    snprintf(path, sizeof path, "%s-away", beats);
    assert_int_equal(rename(beats, path), 0);
    must_fail(ecg_data_dir("beats", dir, sizeof dir, &err), CN_ENOTFOUND, &err, "which is gone");
}

static void refused_names_and_folders(void **state)
{
    static const char *const bad[] = {
        "",
        ".x",
        "a/b",
        "a b",
        "-x",
        "\xc3\xa4",
        "0123456789012345678901234567890123456789012345678901234567890123"};
    char empty[256], outer[256], inner[300];
    struct cn_error err;
    use_registry("refused-home");
    fake_folder(empty, "refused-empty");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        must_fail(ecg_registry_add(bad[i], empty, &err), CN_EINVALID, &err,
                  "cannot name a dataset");
    must_fail(ecg_registry_add("x", "/no/such", &err), CN_ENOTFOUND, &err, "/no/such");
    must_fail(ecg_registry_add("x", empty, &err), CN_ENOTFOUND, &err,
              "expected ptbxl_database.csv");
    must_fail(ecg_registry_add("x", "/dev/null", &err), CN_EINVALID, &err, "not a folder");
    fake_folder(outer, "refused-outer");
    snprintf(inner, sizeof inner, "%s/ptbxl", outer);
    must(cn_mkdirs(inner, &err), &err);
    fake_ptbxl(inner, 1);
    must_fail(ecg_registry_add("x", outer, &err), CN_ENOTFOUND, &err, "did you mean");
    assert_non_null(strstr(err.text, inner));
    assert_string_equal(ecg_kind_name(ecg_folder_kind(empty)), "-");
    assert_int_equal(ecg_folder_kind("/no/such"), ECG_NO_DATA);
}

static void records_by_name_and_path(void **state)
{
    char ptbxl[256], beats[256], path[512], want[512];
    struct cn_error err;
    use_registry("records-home");
    fake_folder(ptbxl, "records-ptbxl");
    fake_ptbxl(ptbxl, 3);
    fake_folder(beats, "records-beats");
    fake_beats(beats, "100", 3000, "MLII", "V1", "\1");
    must(ecg_registry_add("p", ptbxl, &err), &err);
    must(ecg_registry_add("b", beats, &err), &err);
    snprintf(want, sizeof want, "%s/records100/00000/00002_lr", ptbxl);
    static const char *const forms[] = {"00002_lr", "2", "records100/00000/00002_lr"};
    for (int i = 0; i < 3; i++) {
        must(ecg_record_locate("p", forms[i], path, sizeof path, &err), &err);
        assert_string_equal(path, want);
        must(ecg_record_locate(NULL, forms[i], path, sizeof path, &err), &err);
        assert_string_equal(path, want);
        must(ecg_record_locate(ptbxl, forms[i], path, sizeof path, &err), &err);
        assert_string_equal(path, want);
    }
    char full[600];
    snprintf(full, sizeof full, "%s.hea", want);
    must(ecg_record_locate(NULL, full, path, sizeof path, &err), &err);
    assert_string_equal(path, want);
    must(ecg_record_locate(NULL, "100", path, sizeof path, &err), &err);
    snprintf(want, sizeof want, "%s/100", beats);
    assert_string_equal(path, want);
    must_fail(ecg_record_locate("p", "4", path, sizeof path, &err), CN_ENOTFOUND, &err,
              "no record '4' in p");
    must_fail(ecg_record_locate(NULL, "4", path, sizeof path, &err), CN_ENOTFOUND, &err,
              "among the registered datasets");
    must_fail(ecg_record_locate("q", "4", path, sizeof path, &err), CN_ENOTFOUND, &err,
              "'q' is neither");
}

/* --- verify ---------------------------------------------------------------------------------- */

struct heard {
    int problems, last;
    char text[2][480];
};

static void problem(void *arg, const char *text)
{
    struct heard *h = arg;
    if (h->problems < 2) snprintf(h->text[h->problems], sizeof h->text[0], "%s", text);
    h->problems++;
}

static void counted(void *arg, int done, int total)
{
    struct heard *h = arg;
    assert_true(done == h->last + 1 && done <= total);
    h->last = done;
}

static void verify_counts_and_finds(void **state)
{
    char dir[256], path[512];
    struct ecg_verified out;
    struct heard heard = {0};
    struct cn_error err;
    fake_folder(dir, "verify");
    fake_ptbxl(dir, 24);
    struct ecg_verify v = {.dir = dir,
                           .cache_dir = dir,
                           .threads = 3,
                           .problem = problem,
                           .progress = counted,
                           .arg = &heard};
    must(ecg_verify(&v, &out, &err), &err);
    assert_true(out.kind == ECG_PTBXL && out.records == 24 && out.damaged == 0);
    assert_int_equal(out.bytes, 24 * 24000);
    assert_true(out.rows[1] == 3 && out.rows[4] == 3 && out.rows[5] == 2 && out.rows[10] == 2);
    assert_int_equal(out.unlabelled, 4);
    assert_string_equal(out.label[4], "STTC");
    assert_int_equal(out.count[1][1], 1); /* record 1 has IMI */
    assert_int_equal(heard.problems, 0);
    assert_int_equal(heard.last, 24);

    snprintf(path, sizeof path, "%s/records100/00000/00007_lr.dat", dir);
    assert_int_equal(truncate(path, 23000), 0);
    snprintf(path, sizeof path, "%s/records100/00000/00003_lr.dat", dir);
    fake_flip(path, (5 * 12 + 1) * 2);
    heard = (struct heard){0};
    must_fail(ecg_verify(&v, &out, &err), CN_ECORRUPT, &err, "2 of 24 records are damaged");
    assert_int_equal(out.damaged, 2);
    assert_int_equal(heard.problems, 2);
    assert_non_null(
        strstr(heard.text[0], "00003_lr.dat: record 00003_lr, signal 1 (II): checksum"));
    assert_non_null(strstr(heard.text[1], "00007_lr.dat: truncated"));
}

static void verify_of_beats(void **state)
{
    char dir[256], path[512];
    struct ecg_verified out;
    struct cn_error err;
    fake_folder(dir, "verify-beats");
    fake_beats(dir, "100", 3000, "MLII", "V1", "\1\5\34");
    fake_beats(dir, "103", 3000, "MLII", "V1", "\1");
    struct ecg_verify v = {.dir = dir, .cache_dir = dir};
    must(ecg_verify(&v, &out, &err), &err);
    assert_true(out.kind == ECG_MITDB && out.records == 2 && out.rows[0] == 6 + 9);
    assert_true(out.count[0][0] == 3 + 9 && out.count[0][2] == 3);
    snprintf(path, sizeof path, "%s/103.atr", dir);
    assert_int_equal(truncate(path, 5), 0);
    must_fail(ecg_verify(&v, &out, &err), CN_ECORRUPT, &err, "103.atr: truncated");
    fake_folder(dir, "verify-nothing");
    must_fail(ecg_verify(&v, &out, &err), CN_ENOTFOUND, &err, "no dataset here");
}

static void verify_reads_the_cache_too(void **state)
{
    char dir[256], cache[256], path[512];
    struct ecg_dataset *d;
    struct ecg_verified out;
    struct heard heard = {0};
    struct cn_error err;
    fake_folder(dir, "verify-cache");
    fake_folder(cache, "verify-cache-cache");
    fake_ptbxl(dir, 10);
    struct ecg_build b = {.dir = dir, .cache_dir = cache};
    struct ecg_verify v = {.dir = dir, .cache_dir = cache, .problem = problem, .arg = &heard};
    must(ecg_dataset_peek(&d, &b, &err), &err);
    assert_null(d);
    must(ecg_verify(&v, &out, &err), &err);
    assert_int_equal(out.caches, 0);
    must(ecg_dataset_open(&d, &b, &err), &err);
    ecg_dataset_path(d, path, sizeof path);
    ecg_dataset_close(d);
    must(ecg_verify(&v, &out, &err), &err);
    assert_true(out.caches == 1 && out.damaged_caches == 0);
    fake_flip(path, 50000);
    must_fail(ecg_verify(&v, &out, &err), CN_ECORRUPT, &err, "damaged dataset cache (samples)");
    assert_true(out.damaged_caches == 1 && out.damaged == 0 && heard.problems == 1);
    assert_false(cn_file_exists(path));
    must(ecg_verify(&v, &out, &err), &err);
    assert_int_equal(out.caches, 0);
}

/* --- show ------------------------------------------------------------------------------------ */

static int occurrences(const char *text, const char *what)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)); p += strlen(what)) n++;
    return n;
}

static void twelve_leads_as_csv_and_svg(void **state)
{
    char dir[256], path[512], *text;
    size_t n;
    struct ecg_strip *s;
    struct cn_error err;
    fake_folder(dir, "show");
    fake_ptbxl(dir, 1);
    snprintf(path, sizeof path, "%s/records100/00000/00001_lr", dir);
    struct ecg_show show = {.path = path, .stage = ECG_RAW};
    must(ecg_strip_load(&s, &show, &err), &err);
    assert_true(s->leads == 12 && s->samples == 1000 && s->hz == 100);
    must(ecg_strip_csv(s, &text, &n, &err), &err);
    assert_int_equal(n, strlen(text));
    assert_int_equal(occurrences(text, "\n"), 1001);
    const char *head = "t,I,II,III,AVR,AVL,AVF,V1,V2,V3,V4,V5,V6\n0,";
    assert_memory_equal(text, head, strlen(head));
    char want[64];
    snprintf(want, sizeof want, "\n9.99,%g,", fake_sample(1, 0, 999) / 1000.0);
    assert_non_null(strstr(text, want));
    free(text);
    must(ecg_strip_svg(s, &text, &n, &err), &err);
    assert_memory_equal(text, "<svg xmlns=", 11);
    assert_int_equal(occurrences(text, "<polyline"), 12);
    assert_non_null(strstr(text, "10 mm/mV"));
    /* the last sample of lead I: 9.99 s at 25 mm/s behind the margin; its band's middle is 25 mm */
    snprintf(want, sizeof want, "259.75,%.2f\"/>", 25 - fake_sample(1, 0, 999) / 100.0);
    assert_non_null(strstr(text, want));
    free(text);
    ecg_strip_destroy(s);

    show.stage = ECG_NORMALISED;
    must_fail(ecg_strip_load(&s, &show, &err), CN_EINVALID, &err, "needs a dataset");
    float mean[12] = {0}, std[12];
    for (int l = 0; l < 12; l++) std[l] = 0.5f;
    struct ecg_norm norm = {mean, std};
    show.norm = &norm;
    must(ecg_strip_load(&s, &show, &err), &err);
    must(ecg_strip_svg(s, &text, &n, &err), &err);
    assert_non_null(strstr(text, "normalised"));
    free(text);
    ecg_strip_destroy(s);
}

static void a_stretch_of_a_long_record(void **state)
{
    char dir[256], path[512], *text;
    size_t n;
    struct ecg_strip *s;
    struct cn_error err;
    fake_folder(dir, "stretch");
    fake_beats(dir, "100", 36000, "ML<II", "V&1", "\1");
    snprintf(path, sizeof path, "%s/100", dir);
    struct ecg_show show = {.path = path, .start = 50, .seconds = 2};
    must(ecg_strip_load(&s, &show, &err), &err);
    assert_true(s->leads == 2 && s->samples == 720 && s->start == 50);
    for (int t = 0; t < 720; t++)
        assert_true(fabs((double)s->x[720 + t] - (fake_beat_sample(1, 18000 + t) - 1024) / 200.0) <
                    1e-5);
    must(ecg_strip_svg(s, &text, &n, &err), &err);
    assert_non_null(strstr(text, "ML&lt;II"));
    assert_non_null(strstr(text, "V&amp;1"));
    free(text);
    ecg_strip_destroy(s);
    show.start = 99;
    must(ecg_strip_load(&s, &show, &err), &err);
    assert_int_equal(s->samples, 360);
    ecg_strip_destroy(s);
    show.start = 100;
    must_fail(ecg_strip_load(&s, &show, &err), CN_EINVALID, &err, "lasts 100.0 s");
    show.start = -1;
    must_fail(ecg_strip_load(&s, &show, &err), CN_EINVALID, &err, "cannot start at -1");
    show.start = 0;
    show.seconds = 1e9;
    must_fail(ecg_strip_load(&s, &show, &err), CN_EINVALID, &err, "can be shown at once");
    show.seconds = 0;
    show.stage = ECG_FILTERED;
    must_fail(ecg_strip_load(&s, &show, &err), CN_EINVALID, &err, "36000 samples at 360 Hz");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(refused_names_and_folders),
        cmocka_unit_test(records_by_name_and_path),
        cmocka_unit_test(verify_counts_and_finds),
        cmocka_unit_test(verify_of_beats),
        cmocka_unit_test(verify_reads_the_cache_too),
        cmocka_unit_test(twelve_leads_as_csv_and_svg),
        cmocka_unit_test(a_stretch_of_a_long_record),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fake_clear();
    return failed;
}
