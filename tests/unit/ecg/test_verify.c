/* Tests that verify and a build are of one mind about every folder, and of what is said of a sound one:
 * copies, patients in several folds, empty parts. */
#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "ecg/dataset.h"
#include "ecg/verify.h"

/* Warnings, and what verify says, one after the other. */
static char told[8192], said[8192];

static void listen(void *arg, enum cn_level level, const char *text)
{
    if (level >= CN_INFO && strlen(told) + strlen(text) + 2 < sizeof told)
        strcat(strcat(told, text), "\n");
}

static void say(void *arg, const char *text)
{
    if (strlen(said) + strlen(text) + 2 < sizeof said) strcat(strcat(said, text), "\n");
}

/* Both must come to the same end: 0, or a complaint that names `record` each. */
static int agree(const char *dir, const struct ecg_gaps *gaps, const char *record)
{
    char cache[256];
    struct ecg_dataset *d;
    struct ecg_verified out;
    struct cn_error build_err = {0}, verify_err = {0};
    fake_folder(cache, "agree-cache");
    struct ecg_build b = {.dir = dir, .cache_dir = cache, .gaps = *gaps, .threads = 2};
    struct ecg_verify v = {
        .dir = dir, .cache_dir = cache, .gaps = *gaps, .threads = 2, .problem = say, .remark = say};
    told[0] = said[0] = 0;
    int verified = ecg_verify(&v, &out, &verify_err);
    told[0] = 0;
    int built = ecg_dataset_open(&d, &b, &build_err);
    if (!built) ecg_dataset_close(d);
    if ((verified == 0) != (built == 0))
        fail_msg("verify: %s; build: %s", verified ? verify_err.text : "fine",
                 built ? build_err.text : "fine");
    if (built) {
        if (!strstr(said, record)) fail_msg("verify does not name %s: %s", record, said);
        if (!strstr(build_err.text, record)) fail_msg("no %s in '%s'", record, build_err.text);
    }
    return built;
}

/* A folder that cannot even be listed: both say why in their errors. */
static int both_refuse(const char *dir, const char *part)
{
    struct ecg_dataset *d;
    struct ecg_verified out;
    struct cn_error build_err = {0}, verify_err = {0};
    struct ecg_build b = {.dir = dir, .cache_dir = dir};
    struct ecg_verify v = {.dir = dir, .cache_dir = dir};
    return ecg_verify(&v, &out, &verify_err) < 0 && ecg_dataset_open(&d, &b, &build_err) < 0 &&
           strstr(verify_err.text, part) && strstr(build_err.text, part);
}

static const struct ecg_gaps refuse, bridge = {0.2};

/* --- every kind of fault --------------------------------------------------------------------- */

struct edit {
    const char *file, *from, *to;
    bool sound; /* a folder with it is taken */
};

static void try_edits(const char *name, void (*make)(const char *dir), const struct edit *edits,
                      size_t n, const char *record)
{
    char dir[256], path[512];
    for (size_t i = 0; i < n; i++) {
        fake_folder(dir, name);
        make(dir);
        snprintf(path, sizeof path, "%s/%s", dir, edits[i].file);
        fake_replace(path, edits[i].from, edits[i].to);
        int rc = agree(dir, &refuse, record);
        if ((rc == 0) != edits[i].sound) fail_msg("edit %zu ('%s'): %d", i, edits[i].to, rc);
    }
}

static void two_beat_records(const char *dir)
{
    fake_beats(dir, "101", 3000, "MLII", "V1", "\1\5");
    fake_beats(dir, "102", 3001, "MLII", "V1", "\1");
}

static void faults_of_beat_records(void **state)
{
    static const struct edit edits[] = {
        {"102.hea", "360 3001", "360", true},        /* the length is in the file */
        {"102.hea", "360 3001", "250 3001", false},  /* another rate */
        {"102.hea", "360 3001", "360 200", false},   /* shorter than a window */
        {"102.hea", "212 200 11", "212 0 11", true}, /* not calibrated: said */
        {"102.hea", "212 200 11", "212 1e-40 11", false},
        {"102.hea", "212 200 11", "212 inf 11", false},
        {"102.hea", "212 200 11", "212 200/mmHg 11", false},
        {"102.hea", "212 200 11", "212 0.2/\xb5V 11", true},
        {"102.hea", "MLII", "M\xe9LII", true},
        {"102.hea", "102.dat 212", "101.dat 212", false},
        {"102.hea", "102 2 360", "102/2 2 360", false},
        {"102.hea", "102 2 360", "102 40 360", false},
    };
    try_edits("edit-beats", two_beat_records, edits, sizeof edits / sizeof *edits, "102");
}

static void four_ptbxl_records(const char *dir)
{
    fake_ptbxl(dir, 10);
}

static void faults_of_ptbxl_records(void **state)
{
#define HEADER "records100/00000/00002_lr.hea"
    static const struct edit edits[] = {
        {HEADER, "100 1000", "100", true},
        {HEADER, "100 1000", "500 1000", false},
        {HEADER, "100 1000", "100 999", false},
        {HEADER, "0 V1\n", "0 V7\n", false},
        {HEADER, "0 V1\n", "0 V6\n", false}, /* two of a name, and none named V1 */
        {HEADER, "1000.0(0)/mV", "1e-40(0)/mV", false},
        {HEADER, "1000.0(0)/mV", "1(0)/uV", true},
        {HEADER, "1000.0(0)/mV", "1(0)/bpm", false},
        {HEADER, "1000.0(0)/mV", "1000.0(2147483647)/mV", false},
        {HEADER, "00002_lr.dat 16", "00001_lr.dat 16", false},
    };
    try_edits("edit-ptbxl", four_ptbxl_records, edits, sizeof edits / sizeof *edits, "00002_lr");
}

/* What no edit of text makes: files that are gone, or are none. */
static void files_that_are_none(void **state)
{
    static const char *const ending[] = {"hea", "dat", "atr"};
    char dir[256], path[512];
    for (int i = 0; i < 3; i++) {
        fake_folder(dir, "none");
        two_beat_records(dir);
        snprintf(path, sizeof path, "%s/102.%s", dir, ending[i]);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(mkfifo(path, 0600), 0);
        assert_true(agree(dir, &refuse, "102") < 0);
        assert_int_equal(unlink(path), 0);
        if (i == 1)
            assert_true(agree(dir, &refuse, "102") < 0); /* the others leave the record out */
    }
    static const char *const table[] = {"ptbxl_database.csv", "scp_statements.csv"};
    for (int i = 0; i < 2; i++) {
        fake_folder(dir, "none");
        fake_ptbxl(dir, 10);
        snprintf(path, sizeof path, "%s/%s", dir, table[i]);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(mkfifo(path, 0600), 0);
        assert_true(both_refuse(dir, table[i]));
    }
    fake_folder(dir, "none");
    two_beat_records(dir);
    snprintf(path, sizeof path, "%s/RECORDS", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_true(both_refuse(dir, "RECORDS: a named pipe"));
    fake_folder(dir, "none");
    fake_beats(dir, "101", 3000, "MLII", "V1", "\1");
    fake_beats(dir, "caf\xe9", 3000, "MLII", "V1", "\1");
    assert_true(agree(dir, &refuse, "caf\\xe9") < 0);
    fake_folder(dir, "none");
    fake_beats(dir, "101", 3000, "MLII", "V1", "\1");
    fake_beats(dir, "a-name-too-long", 3000, "MLII", "V1", "\1");
    assert_true(agree(dir, &refuse, "a-name-too-long") < 0);
}

static void folders_without_training(void **state)
{
    char dir[256];
    fake_folder(dir, "untrained");
    fake_ptbxl(dir, 2);
    fake_text(dir, "ptbxl_database.csv",
              "ecg_id,scp_codes,strat_fold,filename_lr\n1,{},9,records100/00000/00001_lr\n");
    assert_int_equal(agree(dir, &refuse, "training folds 1-8"), CN_EINVALID);
    fake_folder(dir, "unbeaten");
    fake_beats(dir, "101", 3000, "MLII", "V1", "\34");
    assert_int_equal(agree(dir, &refuse, "no beats in its 1 records"), CN_EINVALID);
}

/* --- two signal files, and gaps -------------------------------------------------------------- */

static void signals_in_two_files(void **state)
{
    char dir[256], path[512], other[512], *data;
    size_t n;
    struct cn_error err;
    fake_folder(dir, "two-files");
    two_beat_records(dir);
    snprintf(path, sizeof path, "%s/102.hea", dir);
    fake_text(dir, "102.hea",
              "102 2 360 3001\n102.dat 16 200 11 1024\n102v.dat 16 200 11 1024 0 0 0 V5\n");
    data = calloc(1, 6002);
    snprintf(other, sizeof other, "%s/102v.dat", dir);
    fake_write(other, data, 6002);
    for (int t = 0; t < 3001; t++) data[2 * t] = (char)(t % 100);
    snprintf(other, sizeof other, "%s/102.dat", dir);
    fake_write(other, data, 6002);
    free(data);
    assert_int_equal(agree(dir, &refuse, ""), 0);
    /* both files are inputs: another byte in the second gives another dataset */
    char cache[256];
    struct ecg_dataset *d;
    fake_folder(cache, "two-files-cache");
    struct ecg_build b = {.dir = dir, .cache_dir = cache};
    must(ecg_dataset_open(&d, &b, &err), &err);
    struct cn_hash before = d->fingerprint;
    ecg_dataset_close(d);
    snprintf(other, sizeof other, "%s/102v.dat", dir);
    must(cn_file_read(other, 1 << 20, &data, &n, &err), &err);
    data[0] = 1;
    data[2] = (char)0xff; /* and a sum that stays 0 */
    data[3] = (char)0xff;
    fake_write(other, data, n);
    free(data);
    must(ecg_dataset_open(&d, &b, &err), &err);
    assert_memory_not_equal(&d->fingerprint, &before, sizeof before);
    ecg_dataset_close(d);
}

/* Writes so many missing samples of a lead into a fake PTB-XL record, and puts the header right. */
static void lose(const char *dir, int record, int lead, int from, int n)
{
    char path[512], *data, *text;
    size_t size;
    struct cn_error err;
    snprintf(path, sizeof path, "%s/records100/00000/%05d_lr.dat", dir, record);
    must(cn_file_read(path, 1 << 20, &data, &size, &err), &err);
    for (int t = from; t < from + n; t++) {
        data[(t * 12 + lead) * 2] = 0;
        data[(t * 12 + lead) * 2 + 1] = (char)0x80;
    }
    fake_write(path, data, size);
    free(data);
    text = malloc(2048);
    static const char *const name[] = {"I",  "II", "III", "AVR", "AVL", "AVF",
                                       "V1", "V2", "V3",  "V4",  "V5",  "V6"};
    int at = sprintf(text, "%05d_lr 12 100 1000\n", record);
    for (int l = 0; l < 12; l++) {
        uint16_t sum = 0;
        for (int t = 0; t < 1000; t++)
            sum = (uint16_t)(sum + (l == lead && t >= from && t < from + n
                                        ? 0x8000u
                                        : (uint16_t)fake_sample(record, l, t)));
        at += sprintf(text + at, "%05d_lr.dat 16 1000/mV 16 0 0 %d 0 %s\n", record, (int16_t)sum,
                      name[l]);
    }
    snprintf(path, sizeof path, "%s/records100/00000/%05d_lr.hea", dir, record);
    fake_write(path, text, (size_t)at);
    free(text);
}

static void gaps_change_the_fingerprint_only_when_bridged(void **state)
{
    char dir[256], cache[256];
    struct ecg_dataset *d;
    struct ecg_verified out;
    struct cn_error err;
    fake_folder(dir, "gaps");
    fake_folder(cache, "gaps-cache");
    fake_ptbxl(dir, 10);
    struct ecg_build b = {.dir = dir, .cache_dir = cache};
    must(ecg_dataset_open(&d, &b, &err), &err);
    struct cn_hash clean = d->fingerprint;
    ecg_dataset_close(d);
    b.gaps = bridge;
    must(ecg_dataset_open(&d, &b, &err), &err);
    assert_memory_not_equal(&d->fingerprint, &clean, sizeof clean);
    ecg_dataset_close(d);

    lose(dir, 3, 4, 500, 20);
    assert_int_equal(agree(dir, &refuse, "00003_lr"), CN_EINVALID);
    assert_non_null(strstr(said, "lead AVL: 20 samples are missing in 1 gap;"));
    assert_int_equal(agree(dir, &bridge, ""), 0);
    assert_non_null(strstr(told, "00003_lr.hea: lead AVL: 20 missing samples in 1 gap bridged"));
    assert_non_null(strstr(said, "20 missing samples of 1 record bridged"));
    must(ecg_dataset_open(&d, &b, &err), &err);
    ecg_dataset_close(d);
    told[0] = 0; /* the cache is there now, and says it again */
    must(ecg_dataset_open(&d, &b, &err), &err);
    ecg_dataset_close(d);
    assert_non_null(strstr(told, "20 missing samples of 1 record bridged"));
    struct ecg_verify v = {.dir = dir, .cache_dir = cache, .gaps = bridge};
    must(ecg_verify(&v, &out, &err), &err);
    assert_int_equal(out.bridged, 20);
    lose(dir, 3, 4, 500, 21);
    assert_int_equal(agree(dir, &bridge, "00003_lr"), CN_EINVALID);
}

/* --- what is said ---------------------------------------------------------------------------- */

/* A table of rows "record,fold,patient". */
static void write_table(const char *dir, const char *const *rows)
{
    char text[4096];
    int at = sprintf(text, "ecg_id,patient_id,scp_codes,strat_fold,filename_lr\n"), record, fold,
        patient, id = 1;
    for (; *rows; rows++) {
        assert_int_equal(sscanf(*rows, "%d,%d,%d", &record, &fold, &patient), 3);
        at += sprintf(text + at, "%d,%d.0,{},%d,records100/00000/%05d_lr\n", id++, patient, fold,
                      record);
    }
    fake_text(dir, "ptbxl_database.csv", text);
}

static void copies_and_patients_are_told(void **state)
{
    char dir[256], from[512], to[512], *data;
    size_t n;
    struct cn_error err;
    fake_folder(dir, "copies");
    fake_ptbxl(dir, 10);
    /* 4 is a copy of 1, in another format of the header; 2 is listed twice */
    snprintf(from, sizeof from, "%s/records100/00000/00001_lr.dat", dir);
    snprintf(to, sizeof to, "%s/records100/00000/00004_lr.dat", dir);
    must(cn_file_read(from, 1 << 20, &data, &n, &err), &err);
    fake_write(to, data, n);
    free(data);
    snprintf(from, sizeof from, "%s/records100/00000/00001_lr.hea", dir);
    snprintf(to, sizeof to, "%s/records100/00000/00004_lr.hea", dir);
    must(cn_file_read(from, 1 << 20, &data, &n, &err), &err);
    for (char *p = data; (p = strstr(p, "00001_lr"));) p[4] = '4';
    fake_write(to, data, n);
    free(data);
    static const char *const rows[] = {"1,1,70",  "2,2,71", "3,9,72", "4,10,73",
                                       "2,10,71", "5,3,72", "6,3,72", NULL};
    write_table(dir, rows);
    assert_int_equal(agree(dir, &refuse, ""), 0);
    static const char *const lines[] = {
        "records 00001_lr and 00004_lr hold the same samples, in folds 1 and 10",
        "record 00002_lr is listed 2 times, in folds 2 and 10",
        "patient 71 is in folds 2 and 10 (00002_lr and 00002_lr)",
        "patient 72 is in folds 3 and 9 (00003_lr, 00005_lr and 00006_lr)"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (!strstr(said, lines[i])) fail_msg("verify does not say '%s' but %s", lines[i], said);
        if (!strstr(told, lines[i])) fail_msg("the build does not say '%s' but %s", lines[i], told);
    }
    assert_null(strstr(said, "empty"));
}

/* Whatever a table calls a person, and nobody. */
static void patients_of_any_form(void **state)
{
    static const struct {
        const char *one, *other, *told; /* NULL: no remark */
    } forms[] = {
        {"7", " 7.0 ", "patient 7 is in folds 1 and 10"},
        {"M\xfcller", "M\xfcller", "patient M\xc3\xbcller is in folds 1 and 10"},
        {"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
         "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
         "cdef is in folds 1 and 10"},
        {"\x1b[2J", "\x1b[2J", "patient \\x1b[2J is in folds"},
        {"", "", NULL},
        {"nan", "NaN", NULL},
        {"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0",
         "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef1", NULL},
    };
    char dir[256], text[512];
    fake_folder(dir, "forms");
    fake_ptbxl(dir, 2);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        snprintf(text, sizeof text,
                 "ecg_id,patient_id,scp_codes,strat_fold,filename_lr\n"
                 "1,%s,{},1,records100/00000/00001_lr\n2,%s,{},10,records100/00000/00002_lr\n",
                 forms[i].one, forms[i].other);
        fake_text(dir, "ptbxl_database.csv", text);
        assert_int_equal(agree(dir, &refuse, ""), 0);
        if (!forms[i].told ? strstr(said, "patient ") != NULL : !strstr(said, forms[i].told))
            fail_msg("%s: verify says '%s'", forms[i].one, said);
    }
    memset(text, 0, sizeof text);
    snprintf(text, sizeof text,
             "ecg_id,patient_id,scp_codes,strat_fold,filename_lr\n1,%0100d,{},1,"
             "records100/00000/00001_lr\n",
             1);
    fake_text(dir, "ptbxl_database.csv", text);
    struct ecg_verify v = {.dir = dir};
    struct ecg_verified out;
    struct cn_error err;
    must_fail(ecg_verify(&v, &out, &err), CN_ELIMIT, &err,
              "ptbxl_database.csv:2: patient_id: longer");
}

static void a_cache_that_is_there_tells_it_again(void **state)
{
    char dir[256], cache[256], path[512];
    struct ecg_dataset *d;
    struct cn_error err;
    fake_folder(dir, "again");
    fake_folder(cache, "again-cache");
    fake_ptbxl(dir, 8); /* folds 1 to 8 */
    struct ecg_build b = {.dir = dir, .cache_dir = cache};
    for (int k = 0; k < 2; k++) {
        told[0] = 0;
        must(ecg_dataset_open(&d, &b, &err), &err);
        assert_non_null(strstr(told, "the validation part (fold 9) is empty"));
        assert_non_null(strstr(told, "the test part (fold 10) is empty"));
        ecg_dataset_path(d, path, sizeof path);
        ecg_dataset_close(d);
    }
    /* without its remarks it is older than the checks, and is built again */
    strcpy(strrchr(path, '.'), ".notes");
    assert_int_equal(unlink(path), 0);
    told[0] = 0;
    must(ecg_dataset_open(&d, &b, &err), &err);
    ecg_dataset_close(d);
    assert_non_null(strstr(told, "built before records were checked as they are now"));
    assert_true(cn_file_exists(path));
}

static void parts_of_beats(void **state)
{
    char dir[256], cache[256];
    struct ecg_dataset *d;
    struct cn_error err;
    fake_folder(dir, "parts");
    fake_folder(cache, "parts-cache");
    fake_beats(dir, "201", 3000, "MLII", "V1", "\1");
    fake_beats(dir, "202", 3300, "MLII", "V1", "\1");
    struct ecg_build b = {.dir = dir, .cache_dir = cache, .split = ECG_SPLIT_INTER_PATIENT};
    told[0] = 0;
    must(ecg_dataset_open(&d, &b, &err), &err);
    ecg_dataset_close(d);
    assert_non_null(strstr(told, "patient 201 is in folds 1 and 10 (201 and 202)"));
    assert_non_null(strstr(told, "the validation part (fold 9) is empty"));
    fake_beats(dir, "202", 3000, "MLII", "V1", "\1");
    assert_int_equal(agree(dir, &refuse, ""), 0);
    assert_non_null(strstr(said, "records 201 and 202 hold the same samples\n"));
    fake_beats(dir, "202", 3000, "MLII", "V1", "\1\5"); /* whatever is annotated */
    assert_int_equal(agree(dir, &refuse, ""), 0);
    assert_non_null(strstr(said, "records 201 and 202 hold the same samples\n"));
}

int main(void)
{
    cn_log_sink(listen, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_of_beat_records),
        cmocka_unit_test(faults_of_ptbxl_records),
        cmocka_unit_test(files_that_are_none),
        cmocka_unit_test(folders_without_training),
        cmocka_unit_test(signals_in_two_files),
        cmocka_unit_test(gaps_change_the_fingerprint_only_when_bridged),
        cmocka_unit_test(copies_and_patients_are_told),
        cmocka_unit_test(patients_of_any_form),
        cmocka_unit_test(a_cache_that_is_there_tells_it_again),
        cmocka_unit_test(parts_of_beats),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fake_clear();
    return failed;
}
