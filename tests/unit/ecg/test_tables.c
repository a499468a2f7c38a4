/* Tests of ecg/csv and ecg/ptbxl: quoting as it occurs in PTB-XL, labels, and malformed rows. */
#include "fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "ecg/csv.h"
#include "ecg/ptbxl.h"

static int start(struct ecg_csv *c, char *text, struct cn_error *err)
{
    return ecg_csv_start(c, "t.csv", text, strlen(text), err);
}

static void quotes_commas_and_line_ends(void **state)
{
    char text[] = "\xef\xbb\xbf"
                  "a,b,c\r\n1,\"x, \"\"y\"\"\r\nz\",\r\n\r\n,\"\",last";
    struct ecg_csv c;
    struct cn_error err;
    must(start(&c, text, &err), &err);
    assert_int_equal(c.n_columns, 3);
    assert_int_equal(ecg_csv_column(&c, "c", &err), 2);
    must_fail(ecg_csv_column(&c, "d", &err), CN_EINVALID, &err, "t.csv:1: no column 'd'");
    assert_int_equal(ecg_csv_row(&c, &err), 1);
    assert_int_equal(c.row_line, 2);
    assert_string_equal(c.field[0], "1");
    assert_string_equal(c.field[1], "x, \"y\"\r\nz");
    assert_string_equal(c.field[2], "");
    assert_int_equal(ecg_csv_row(&c, &err), 1);
    assert_int_equal(c.row_line, 5);
    assert_string_equal(c.field[0], "");
    assert_string_equal(c.field[1], "");
    assert_string_equal(c.field[2], "last");
    assert_int_equal(ecg_csv_row(&c, &err), 0);
    assert_int_equal(ecg_csv_row(&c, &err), 0);
}

static void malformed_rows(void **state)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"a,b\n1,2\n1,2,3\n", "t.csv:3: 3 fields, but the first row names 2"},
        {"a,b\n1\n", "t.csv:2: 1 fields"},
        {"a,b\n1,\"open\n2,3\n", "t.csv:2: field 2: the quote that opens here is never closed"},
        {"a,b\n1,\"x\"y\n", "t.csv:2: field 2: text after the closing quote"},
        {"a,b\n\"p\nq\" ,1\n", "t.csv:3: field 1: text after"},
        {"a,b\n1,\"x\"\ry\n", "carriage return"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ecg_csv c;
        struct cn_error err;
        char text[128];
        strcpy(text, bad[i].text);
        must(start(&c, text, &err), &err);
        int rc;
        while ((rc = ecg_csv_row(&c, &err)) > 0) continue;
        must_fail(rc, CN_EINVALID, &err, bad[i].says);
    }
    struct ecg_csv c;
    struct cn_error err;
    char empty[1] = "", zero[] = "a\0b";
    must_fail(start(&c, empty, &err), CN_EINVALID, &err, "empty");
    must_fail(ecg_csv_start(&c, "t.csv", zero, 3, &err), CN_EINVALID, &err, "0 byte");
    char *wide = calloc(1, ECG_CSV_MAX_COLUMNS + 8);
    memset(wide, ',', ECG_CSV_MAX_COLUMNS);
    must_fail(start(&c, wide, &err), CN_ELIMIT, &err, "columns");
    free(wide);
}

static void labels_follow_the_diagnostic_classes(void **state)
{
    char dir[256];
    struct ecg_ptbxl *p;
    struct cn_error err;
    fake_folder(dir, "labels");
    fake_ptbxl(dir, 12);
    fake_text(dir, "ptbxl_database.csv",
              "ecg_id,scp_codes,strat_fold,filename_lr\n"
              "1,\"{'NORM': 0.0, 'SR': 100.0}\",1,records100/00000/00001_lr\n"
              "2,\"{'IMI': 35.0, \"\"LVH\"\": 1e2, 'NDT':0}\",9.0,records100/00000/00002_lr\n"
              "3,{},10,records100/00000/00003_lr\n"
              "4,{'NOSUCH': 100.0},10,records100/00000/00004_lr\n");
    must(ecg_ptbxl_load(&p, dir, false, &err), &err);
    assert_int_equal(p->n, 4);
    const uint8_t want[4][5] = {{1, 0, 0, 0, 0}, {0, 1, 0, 1, 1}, {0}, {0}};
    for (int i = 0; i < 4; i++) assert_memory_equal(p->row[i].label, want[i], 5);
    assert_int_equal(p->row[1].fold, 9);
    assert_int_equal(p->row[2].line, 4);
    ecg_ptbxl_destroy(p);
    must(ecg_ptbxl_load(&p, dir, true, &err), &err);
    assert_int_equal(p->n, 2);
    ecg_ptbxl_destroy(p);
}

/* One bad row each, in line 3 (line 2 spans no newline here). */
static void malformed_database_rows(void **state)
{
    static const struct {
        const char *row, *says;
    } bad[] = {
        {"x,{},1,records100/00000/00001_lr", "ptbxl_database.csv:3: ecg_id: 'x'"},
        {"0,{},1,records100/00000/00001_lr", "ecg_id: '0'"},
        {"2,{},0,records100/00000/00001_lr",
         "ptbxl_database.csv:3: strat_fold: '0' is not a whole"},
        {"2,{},11,records100/00000/00001_lr", "strat_fold: '11'"},
        {"2,{},1.5,records100/00000/00001_lr", "strat_fold: '1.5'"},
        {"2,{},,records100/00000/00001_lr", "strat_fold: ''"},
        {"2,,1,records100/00000/00001_lr", "ptbxl_database.csv:3: scp_codes: malformed"},
        {"2,{'NORM': },1,records100/00000/00001_lr", "scp_codes: malformed at character 10"},
        {"2,{'NORM' 1},1,records100/00000/00001_lr", "scp_codes: malformed"},
        {"2,{'NORM: 1},1,records100/00000/00001_lr", "scp_codes: malformed"},
        {"2,{NORM: 1},1,records100/00000/00001_lr", "scp_codes: malformed"},
        {"2,\"{'NORM': 1,}\",1,records100/00000/00001_lr", "scp_codes: malformed"},
        {"2,{'NORM': 1} x,1,records100/00000/00001_lr", "scp_codes: malformed"},
        {"2,{'NORM': nan},1,records100/00000/00001_lr", "scp_codes: malformed at character 10"},
        {"2,{'NORM': 1e999},1,records100/00000/00001_lr", "scp_codes: malformed at character 10"},
        {"2,{},1,../secret", "filename_lr: '../secret' is not"},
        {"2,{},1,/etc/passwd", "filename_lr"},
        {"2,{},1,", "filename_lr"},
        {"2,{},1", "ptbxl_database.csv:3: 3 fields"},
    };
    char dir[256], text[512];
    fake_folder(dir, "malformed");
    fake_ptbxl(dir, 1);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ecg_ptbxl *p;
        struct cn_error err;
        snprintf(text, sizeof text,
                 "ecg_id,scp_codes,strat_fold,filename_lr\n1,{},1,records100/00000/00001_lr\n%s\n",
                 bad[i].row);
        fake_text(dir, "ptbxl_database.csv", text);
        must_fail(ecg_ptbxl_load(&p, dir, false, &err), CN_EINVALID, &err, bad[i].says);
        assert_null(p);
    }
}

static void malformed_statements(void **state)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"code,diagnostic\nNORM,1.0\n", "scp_statements.csv:1: no column 'diagnostic_class'"},
        {",diagnostic,diagnostic_class\nNORM,yes,NORM\n",
         "scp_statements.csv:2: diagnostic: 'yes'"},
        {",diagnostic,diagnostic_class\nNORM,1.0,FINE\n", "diagnostic_class: 'FINE' is none of"},
        {",diagnostic,diagnostic_class\nNORM,,NORM\n", "no statement is diagnostic"},
        {",diagnostic,diagnostic_class\n,1.0,NORM\n", "is not an SCP code"},
        {",diagnostic,diagnostic_class\nIMI,1.0,MI\nIMI,1.0,CD\n",
         "scp_statements.csv:3: 'IMI' stands here as CD, before as MI"},
        {",diagnostic,diagnostic_class,diagnostic\nIMI,1.0,MI,0\n",
         "scp_statements.csv:1: columns 2 and 4 are both called 'diagnostic'"},
    };
    char dir[256];
    fake_folder(dir, "statements");
    fake_ptbxl(dir, 1);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ecg_ptbxl *p;
        struct cn_error err;
        fake_text(dir, "scp_statements.csv", bad[i].text);
        must_fail(ecg_ptbxl_load(&p, dir, false, &err), CN_EINVALID, &err, bad[i].says);
    }
}

static void missing_tables(void **state)
{
    char dir[256], path[512];
    struct ecg_ptbxl *p;
    struct cn_error err;
    fake_folder(dir, "missing");
    must_fail(ecg_ptbxl_load(&p, dir, false, &err), CN_ENOTFOUND, &err, "scp_statements.csv");
    fake_ptbxl(dir, 1);
    fake_text(dir, "ptbxl_database.csv", "ecg_id,scp_codes,strat_fold,filename_lr\n");
    must_fail(ecg_ptbxl_load(&p, dir, false, &err), CN_EINVALID, &err, "no records");
    snprintf(path, sizeof path, "%s/ptbxl_database.csv", dir);
    fake_replace(path, "strat_fold", "fold");
    must_fail(ecg_ptbxl_load(&p, dir, false, &err), CN_EINVALID, &err, "no column 'strat_fold'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quotes_commas_and_line_ends),
        cmocka_unit_test(malformed_rows),
        cmocka_unit_test(labels_follow_the_diagnostic_classes),
        cmocka_unit_test(malformed_database_rows),
        cmocka_unit_test(malformed_statements),
        cmocka_unit_test(missing_tables),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    fake_clear();
    return failed;
}
