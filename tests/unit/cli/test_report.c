/* The paper-style report: cells, columns, the best variant, CSV, and a document that is none. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "cli/report.h"
#include "cli/stages.h"

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
    assert_non_null(strstr(text,
                           "\ncnn,,0,0,,,0,,1,0,1.000000,37157,0,,,0.920000,0.910000,,,,,150000,"
                           "40000,100.000,50.000\n"));
    assert_non_null(strstr(text, "\ncnn,,0,1,,,0,,1,0,1.000000,37157,0,,,0.940000,,,,,,,,,\n"));
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

/* Two seeds of a beat net on one split: whole, and with 60 % of its weights removed at once and in
 * five stages, fine-tuned equally long. */
#define BEAT(seed, rest, acc, f1)                                                                  \
    "{\"net\":\"beat\",\"split\":\"patient\",\"distilled\":false,\"params\":19805,\"params_"       \
    "full\":19805,"                                                                                \
    "\"macs\":95770,\"seed\":" #seed "," rest ",\"accuracy_float\":" #acc                          \
    ",\"macro_f1_float\":" #f1 ",\"accuracy_int8\":" #acc ",\"macro_f1_int8\":" #f1 "}"
#define WHOLE                                                                                      \
    "\"rounds\":0,\"round\":0,\"keep\":1,\"kept\":1,\"macs_nonzero_float\":95770,\"norm\":null,"   \
    "\"unit\":null,\"schedule\":null,\"finetune_epochs\":0"
#define PRUNED(rounds)                                                                             \
    "\"rounds\":" #rounds ",\"round\":" #rounds ",\"keep\":0.4,\"kept\":0.4027,"                   \
    "\"macs_nonzero_float\":38308,\"norm\":\"L1\",\"unit\":\"weight\",\"schedule\":\"linear\","    \
    "\"finetune_epochs\":10"
static const char *const stages_document =
    "{\"run\": \"r2\", \"artifacts\": [" BEAT(0, WHOLE, 0.98, 0.91) "," BEAT(
        1, WHOLE, 0.99,
        0.93) "," BEAT(0, PRUNED(1), 0.96,
                       0.90) "," BEAT(1, PRUNED(1), 0.97,
                                      0.91) "," BEAT(0, PRUNED(5), 0.97,
                                                     0.91) "," BEAT(1, PRUNED(5), 0.99,
                                                                    0.93) "], \"failed\": []}";

/* Exclusive classes: accuracy and F1 instead of AUROC, masked weights under the net's own label. */
static void classes(void **state)
{
    struct report *r = make(stages_document);
    char text[4096] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    report_print(r, f);
    fclose(f);
    assert_non_null(strstr(text, "beat-patient  100 %        40.27 % w\n"));
    assert_non_null(strstr(text, "\nacc F         0.9850(071)  0.9800(141) 5/L1/linear\n"));
    assert_non_null(strstr(text, "\nF1 Q          0.9200(141)  0.9200(141) 5/L1/linear\n"));
    assert_non_null(strstr(text, "\nkMAC F        95.770       38.308\n"));
    assert_null(strstr(text, "AUROC"));
    report_destroy(r);
}

static void stages(void **state)
{
    struct report *r = make(stages_document);
    char dir[] = "/tmp/cinch-stages-XXXXXX", path[128], *text = NULL;
    bool drawn = true;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(stages_write(r, dir, &drawn, NULL), 0);
    snprintf(path, sizeof path, "%s/stages.md", dir);
    assert_int_equal(cn_file_read(path, 1 << 20, &text, NULL, NULL), 0);
    /* differences .01 and .02: mean .015, half width 12.706 · .00707 / √2 */
    const char *row = "| weight | 60 % | in 5 stages, linear | 5 × 2 epochs | | 40.27 % | 40.00 % "
                      "| 0.9800(141) | "
                      "0.9800(141) | +0.0150 [-0.0485, +0.0785] | 0.9200(141) | 0.9200(141) | "
                      "+0.0150 [-0.0485, +0.0785] |\n";
    if (!strstr(text, row)) fail_msg("no row '%s' in\n%s", row, text);
    assert_non_null(strstr(text, "| weight | 60 % | at once | 1 × 10 epochs | | 40.27 % |"));
    assert_non_null(strstr(text, "### beat, split patient\n"));
    snprintf(path, sizeof path, "%s/stages.png", dir);
    assert_int_equal(drawn, cn_file_exists(path));
    free(text);
    report_destroy(r);
    r = make(document); /* no two ways with equally many epochs: nothing to compare */
    cn_rmtree(dir, NULL);
    assert_int_equal(stages_write(r, dir, &drawn, NULL), 0);
    assert_false(cn_file_exists(path));
    report_destroy(r);
}

/* scipy.stats.t.interval(0.95, 4, ...) of these five. */
static void intervals(void **state)
{
    const double d[] = {0.004, 0.010, -0.002, 0.006, 0.007};
    double mean, half;
    stages_interval(d, 5, &mean, &half);
    assert_true(fabs(mean - 0.005) < 1e-12);
    assert_true(fabs(half - 0.0055529) < 2e-6);
    stages_interval(d, 1, &mean, &half);
    assert_true(isnan(half));
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
        cmocka_unit_test(cells),   cmocka_unit_test(table),     cmocka_unit_test(csv),
        cmocka_unit_test(figures), cmocka_unit_test(none),      cmocka_unit_test(classes),
        cmocka_unit_test(stages),  cmocka_unit_test(intervals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
