/* The paper-style report: cells, columns, the best variant, CSV, and a document that is none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "cli/report.h"

/* Two seeds of a cnn: unpruned, and pruned to a quarter in two variants of which 5/L2 is better in
 * float and 1/L1 in int8; one distilled net. */
static const char *const document =
    "{\"run\": \"r1\", \"artifacts\": ["
    "{\"net\":\"cnn\",\"seed\":0,\"distilled\":false,\"rounds\":0,\"norm\":null,\"kept\":1.0,"
    "\"params\":37157,\"auroc_float\":0.92,\"auroc_int8\":0.91,\"bytes_float\":150000,"
    "\"bytes_int8\":40000,\"latency_float\":{\"mean_us\":100.0},\"latency_int8\":{\"jemalloc\":{"
    "\"mean_us\":50.0}}},"
    "{\"net\":\"cnn\",\"seed\":1,\"distilled\":false,\"rounds\":0,\"norm\":null,\"kept\":1.0,"
    "\"params\":37157,\"auroc_float\":0.93,\"auroc_int8\":0.92,\"bytes_float\":150000,"
    "\"bytes_int8\":40000,\"latency_float\":{\"mean_us\":110.0},\"latency_int8\":{}},"
    "{\"net\":\"cnn\",\"seed\":0,\"distilled\":false,\"rounds\":1,\"norm\":\"L1\",\"kept\":0.2727,"
    "\"params\":10133,\"auroc_float\":0.90,\"auroc_int8\":0.89},"
    "{\"net\":\"cnn\",\"seed\":1,\"distilled\":false,\"rounds\":1,\"norm\":\"L1\",\"kept\":0.2727,"
    "\"params\":10133,\"auroc_float\":0.90,\"auroc_int8\":0.89},"
    "{\"net\":\"cnn\",\"seed\":0,\"distilled\":false,\"rounds\":5,\"norm\":\"L2\",\"kept\":0.2727,"
    "\"params\":10133,\"auroc_float\":0.91,\"auroc_int8\":0.88},"
    "{\"net\":\"cnn\",\"seed\":1,\"distilled\":false,\"rounds\":5,\"norm\":\"L2\",\"kept\":0.2727,"
    "\"params\":10133,\"auroc_float\":0.91,\"auroc_int8\":0.88},"
    "{\"net\":\"cnn\",\"seed\":0,\"distilled\":true,\"rounds\":0,\"norm\":null,\"kept\":1.0,"
    "\"params\":37157,\"auroc_float\":0.94,\"auroc_int8\":null},"
    "{\"net\":\"cnn\",\"seed\":0,\"distilled\":true,\"rounds\":5,\"round\":2,\"norm\":\"L1\","
    "\"kept\":0.538257,\"params\":20000,\"auroc_float\":0.99,\"auroc_int8\":0.99}"
    "], \"failed\": [{\"job\": \"j9\", \"reason\": \"loss is not finite\"}]}";

static struct report *make(const char *text)
{
    struct report *r = NULL;
    json_t *doc = json_loads(text, 0, NULL);
    assert_non_null(doc);
    assert_int_equal(report_create(&r, doc, NULL), 0);
    json_decref(doc);
    return r;
}

static void cells(void **state)
{
    char out[32];
    report_cell(0.9186, 0.0013, 5, out);
    assert_string_equal(out, "0.9186(013)");
    report_cell(0.8724, 0.0187, 5, out);
    assert_string_equal(out, "0.8724(187)");
    report_cell(0.9, 0, 2, out);
    assert_string_equal(out, "0.9000(000)");
    report_cell(0.9, 0, 1, out);
    assert_string_equal(out, "0.9000");
    report_cell(0, 0, 0, out);
    assert_string_equal(out, "-");
}

static void table(void **state)
{
    struct report *r = make(document);
    char text[4096] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    report_print(r, f);
    fclose(f);
    const char *expected = "cnn   100 %        27.27 %\n"
                           "F     0.9250(071)  0.9100(000) 5/L2\n"
                           "Q     0.9150(071)  0.8900(000) 1/L1\n"
                           "FKD   0.9400       -\n"
                           "KB F  150.000      -\n"
                           "KB Q  40.000       -\n"
                           "us F  105.0(7.1)   -\n"
                           "us Q  50.0(0.0)    -\n";
    /* Line by line, without the blanks at a line's end. */
    for (const char *line = expected; *line;) {
        size_t n = strcspn(line, "\n"), keep = n;
        char want[128];
        while (keep && line[keep - 1] == ' ') keep--;
        snprintf(want, sizeof want, "%.*s", (int)keep, line);
        if (!strstr(text, want)) fail_msg("no line '%s' in\n%s", want, text);
        line += n + 1;
    }
    assert_null(strstr(text, "53.83 %")); /* an intermediate round is no column */
    assert_null(strstr(text, "QKD"));
    assert_non_null(strstr(text, "j9: loss is not finite"));
    report_destroy(r);
}

static void csv(void **state)
{
    struct report *r = make(document);
    char text[4096] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    report_csv(r, f);
    fclose(f);
    assert_non_null(strstr(text, "\ncnn,0,0,0,,1.000000,37157,0.920000,0.910000,150000,40000,"
                                 "100.000,50.000\n"));
    assert_non_null(strstr(text, "\ncnn,0,1,0,,1.000000,37157,0.940000,,,,,\n"));
    report_destroy(r);
}

static void figures(void **state)
{
    struct report *r = make(document);
    char dir[] = "/tmp/cinch it's XXXXXX", path[128];
    bool drawn = false;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(report_figures(r, dir, &drawn, NULL), 0);
    snprintf(path, sizeof path, "%s/cnn-size.dat", dir);
    assert_true(cn_file_exists(path));
    snprintf(path, sizeof path, "%s/cnn-size.svg", dir);
    assert_int_equal(drawn, cn_file_exists(path));
    cn_rmtree(dir, NULL);
    report_destroy(r);
}

static void none(void **state)
{
    struct report *r = NULL;
    json_t *doc = json_object();
    assert_int_equal(report_create(&r, doc, NULL), CN_EINVALID);
    json_decref(doc);
    r = make("{\"artifacts\": [3, {}, {\"net\": \"cnn\"}]}");
    char text[256] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    report_print(r, f);
    fclose(f);
    assert_string_equal(text, "nothing measured yet\n");
    report_destroy(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cells),   cmocka_unit_test(table), cmocka_unit_test(csv),
        cmocka_unit_test(figures), cmocka_unit_test(none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
