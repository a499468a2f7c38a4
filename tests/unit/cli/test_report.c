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

/* Two seeds of a cnn: unpruned, and pruned to a quarter in two variants of which on the validation part
 * 1/L1 is better in float and 5/L2 in int8, and on the test part the other way round; one distilled
 * net, and a round between. */
static const char *const document =
    "{\"run\": \"r1\", \"artifacts\": ["
    "{\"net\":\"cnn\",\"seed\":0,\"distilled\":false,\"rounds\":0,\"norm\":null,\"kept\":1.0,"
    "\"params\":37157,\"auroc_float\":0.92,\"auroc_int8\":0.91,\"bytes_float\":150000,"
    "\"bytes_int8\":40000,\"latency_float\":{\"allocator\":\"jemalloc\",\"mean_us\":100.0,\"p50_"
    "us\":99.0,\"processes\":3,"
    "\"p50_low_us\":98.0,\"p50_high_us\":104.0,\"process_p50_us\":[104.0,98.0,99.0],"
    "\"disturbed_by\":\"the other cores were busy for 80 %\"},\"latency_int8\":{\"jemalloc\":{"
    "\"mean_us\":50.0,\"p50_us\":49.5}}},"
    "{\"net\":\"cnn\",\"seed\":1,\"distilled\":false,\"rounds\":0,\"norm\":null,\"kept\":1.0,"
    "\"params\":37157,\"auroc_float\":0.93,\"auroc_int8\":0.92,\"bytes_float\":150000,"
    "\"bytes_int8\":40000,\"latency_float\":{\"allocator\":\"jemalloc\",\"mean_us\":110.0,\"p50_"
    "us\":101.0,\"processes\":2,"
    "\"process_p50_us\":[100.0,102.0],\"disturbed_by\":null},\"latency_int8\":{}},"
    "{\"net\":\"cnn\",\"seed\":0,\"distilled\":false,\"rounds\":1,\"norm\":\"L1\",\"kept\":0.2727,"
    "\"params\":10133,\"auroc_float\":0.90,\"auroc_int8\":0.89,"
    "\"auroc_float_validation\":0.915,\"auroc_int8_validation\":0.881},"
    "{\"net\":\"cnn\",\"seed\":1,\"distilled\":false,\"rounds\":1,\"norm\":\"L1\",\"kept\":0.2727,"
    "\"params\":10133,\"auroc_float\":0.90,\"auroc_int8\":0.89,"
    "\"auroc_float_validation\":0.915,\"auroc_int8_validation\":0.881},"
    "{\"net\":\"cnn\",\"seed\":0,\"distilled\":false,\"rounds\":5,\"norm\":\"L2\",\"kept\":0.2727,"
    "\"params\":10133,\"auroc_float\":0.91,\"auroc_int8\":0.88,"
    "\"auroc_float_validation\":0.914,\"auroc_int8_validation\":0.882},"
    "{\"net\":\"cnn\",\"seed\":1,\"distilled\":false,\"rounds\":5,\"norm\":\"L2\",\"kept\":0.2727,"
    "\"params\":10133,\"auroc_float\":0.91,\"auroc_int8\":0.88,"
    "\"auroc_float_validation\":0.914,\"auroc_int8_validation\":0.882},"
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

/* The report as text; to be freed. */
static char *printed(struct report *r, void (*print)(const struct report *, FILE *))
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    print(r, f);
    fclose(f);
    report_destroy(r);
    return text;
}

/* Line by line, without the blanks at a line's end. */
static void expect_lines(const char *text, const char *expected)
{
    for (const char *line = expected; *line;) {
        size_t n = strcspn(line, "\n"), keep = n;
        char want[200];
        while (keep && line[keep - 1] == ' ') keep--;
        snprintf(want, sizeof want, "%.*s", (int)keep, line);
        if (!strstr(text, want)) fail_msg("no line '%s' in\n%s", want, text);
        line += n + 1;
    }
}

/* The validation part chooses the variant, each line by its own kind of net; the figures are the test
 * part's. */
static void table(void **state)
{
    char *text = printed(make(document), report_print);
    expect_lines(text,
                 "cnn   100 %                27.27 %\n"
                 "F     0.9250(071)          0.9000(000) 1/L1\n"
                 "Q     0.9150(071)          0.8800(000) 5/L2\n"
                 "FKD   0.9400 n=1           -\n"
                 "KB F  150.000              -\n"
                 "KB Q  40.000               -\n"
                 "us F  100.0 [98.0-104.0]~  -\n"
                 "us Q  49.5                 -\n"
                 "n = 2 seeds\n"
                 "selection: of several variants the one with the best validation AUROC, float by "
                 "float and int8 by int8\n"
                 "~: 1 of 3 times were taken under disturbance; the first: the other cores were "
                 "busy for 80 %.\n"
                 "j9: loss is not finite\n");
    assert_null(strstr(text, "QKD"));
    assert_null(strstr(text, "selection: none"));
    /* what the table leaves out stands below: every variant, and the round between */
    expect_lines(text, "cnn, every variant: AUROC on the validation and on the test part\n");
    expect_lines(text,
                 "27.27 % 1/L1             2  0.9150(000)  0.8810(000)  0.9000(000)  0.8900(000)\n"
                 "27.27 % 5/L2             2  0.9140(000)  0.8820(000)  0.9100(000)  0.8800(000)\n"
                 "53.83 % 5/L1 KD after 2  1  -            -            0.9900       0.9900\n");
    free(text);
}

/* Artifacts of an older worker: nothing but the test part, which must not choose. */
static void no_validation(void **state)
{
    char *text = printed(make("{\"artifacts\": ["
                              "{\"net\":\"cnn\",\"rounds\":5,\"norm\":\"L1\",\"kept\":0.5,"
                              "\"params\":50,\"auroc_float\":0.95},"
                              "{\"net\":\"cnn\",\"rounds\":1,\"norm\":\"L1\",\"kept\":0.5,"
                              "\"params\":50,\"auroc_float\":0.90}]}"),
                         report_print);
    expect_lines(text, "F    0.9000 1/L1?\n"
                       "selection: none (no validation AUROC) in this table, which an older worker "
                       "measured\n"
                       "50.00 % 5/L1  1  -      -      0.9500  -\n");
    free(text);
}

/* Sizes, nets and seeds of any number: each has its place, and no line is wider than the page. */
static void many_of_everything(void **state)
{
    json_t *list = json_array(), *doc = json_pack("{s:o}", "artifacts", list);
    enum { SIZES = 90, NETS = 40, SEEDS = 300 };
    char config[NETS][8];
    for (int i = 0; i < NETS; i++) snprintf(config[i], sizeof config[i], "c%d", i);
    for (int i = 0; i < SIZES; i++)
        json_array_append_new(list,
                              json_pack("{s:s, s:i, s:i, s:s, s:f, s:i, s:f}", "net", "cnn", "seed",
                                        0, "rounds", 1, "norm", "L1", "kept", 0.99 - 0.01 * i,
                                        "params", 9900 - 100 * i, "auroc_float", 0.9));
    for (int i = 0; i < NETS; i++)
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:f, s:i, s:[i], s:f}", "net", "rnn", "config",
                                        config[i], "kept", 1.0, "params", 500, "widths_full",
                                        8 + i / 2, "auroc_float", 0.5 + i * 0.01));
    for (int i = 0; i < SEEDS; i++)
        json_array_append_new(list,
                              json_pack("{s:s, s:i, s:f, s:i, s:f}", "net", "resnet", "seed", i,
                                        "kept", 1.0, "params", 7, "auroc_float", i % 2 ? .8 : .9));
    struct report *r = NULL;
    assert_int_equal(report_create(&r, doc, NULL), 0);
    char *text = printed(r, report_print), want[64];
    for (int i = 0; i < SIZES; i++) {
        snprintf(want, sizeof want, "%d.00 %%", 99 - i);
        if (!strstr(text, want)) fail_msg("no size %s in\n%s", want, text);
    }
    expect_lines(text, "F       0.8500(501)\nn = 300 seeds\nrnn [27]\n, configuration c39\n");
    for (const char *p = text; *p; p += strcspn(p, "\n") + 1)
        if (strcspn(p, "\n") > 130) fail_msg("wide: %.200s", p);
    free(text);
    json_decref(doc);
}

/* Nets of one name that are no seeds of each other: other widths of the same number of parameters, or
 * another recipe. Each has its own table, and a name that tells it. */
#define NET(config, widths, seed, auroc)                                                           \
    "{\"net\":\"cnn\",\"config\":\"" config "\",\"widths_full\":" widths ",\"seed\":" #seed        \
    ",\"rounds\":0,\"kept\":1,\"params\":1000,\"params_full\":1000,\"bytes_float\":4000,"          \
    "\"auroc_float\":" #auroc "}"
static void other_layers_are_another_net(void **state)
{
    const char *text_of_nets =
        "{\"artifacts\": [" NET("a", "[8, 16]", 0, 0.7) "," NET("a", "[8, 16]", 1, 0.7) "," NET(
            "b", "[16, 8]", 0, 0.9) "," NET("c", "[16, 8]", 0, 0.8) "]}";
    char *text = printed(make(text_of_nets), report_print),
         *lines = printed(make(text_of_nets), report_csv);
    expect_lines(text,
                 "cnn [8, 16]  100 %\nF            0.7000(000)\nn = 2 seeds\ncnn [16, 8]  100 %\n"
                 "0.9000\n, configuration c  100 %\n0.8000\nn = 1 seed\n");
    assert_non_null(strstr(lines, ",\"cnn [8, 16]\","));
    char dir[] = "/tmp/cinch-groups-XXXXXX", path[128];
    static const char *const stems[] = {"cnn", "cnn-2", "cnn-3"};
    bool drawn = false;
    struct report *r = make(text_of_nets);
    assert_non_null(mkdtemp(dir));
    assert_int_equal(report_figures(r, dir, &drawn, NULL), 0);
    for (int i = 0; i < 3; i++) { /* none overwrites another's */
        snprintf(path, sizeof path, "%s/%s-size.dat", dir, stems[i]);
        assert_true(cn_file_exists(path));
    }
    cn_rmtree(dir, NULL);
    report_destroy(r);
    free(text);
    free(lines);
}

/* What is asked for and not there keeps its column and says so; a label without an AUROC is told. */
static void missing_and_undefined(void **state)
{
    const char *doc =
        "{\"artifacts\": [{\"net\":\"cnn\",\"config\":\"a\",\"seed\":0,\"rounds\":0,\"round\":0,"
        "\"keep\":1,\"kept\":1,\"params\":100,\"bytes_float\":1000,\"bytes_int8\":300,"
        "\"auroc_float\":0.9,\"auroc_int8\":null,\"auroc_undefined\":[\"HYP\",\"CD\"],"
        "\"auroc_undefined_validation\":[]}],"
        "\"failed\": [], \"missing\": ["
        "{\"net\":\"cnn\",\"config\":\"a\",\"distilled\":false,\"rounds\":0,\"round\":0,\"keep\":1,"
        "\"norm\":null,\"seeds\":[1],\"states\":{\"waiting\":1}},"
        "{\"net\":\"cnn\",\"config\":\"a\",\"distilled\":false,\"rounds\":5,\"round\":5,\"keep\":0."
        "125,"
        "\"norm\":\"L1\",\"unit\":\"structure\",\"schedule\":\"geometric\",\"seeds\":[0,1],"
        "\"states\":{\"blocked\":2}}]}";
    char *text = printed(make(doc), report_print), *csv = printed(make(doc), report_csv);
    expect_lines(text,
                 "cnn   100 %       keep 0.125\n"
                 "F     0.9000 n=1  -\n"
                 "Q     n/a         -\n"
                 "KB F  1.000       -\n"
                 "n = 2 seeds; 3 of 4 measurements are missing (-): 1 waiting, 2 blocked\n"
                 "macro-AUROC leaves out HYP, CD: all records of the test part have it, or none\n");
    assert_null(strstr(text, "validation part have it"));
    assert_null(strstr(text, "nan"));
    assert_non_null(
        strstr(csv, "cnn,,1,0,structure,geometric,5,L1,0.125,0,,0,0,,,,,,,,,,,,,missing,"));
    assert_null(strstr(csv, "nan"));
    free(text);
    free(csv);
}

/* Two fractions that leave the same structures are two columns, told apart, and no seeds of one. */
#define KEPT(seed, keep, auroc)                                                                    \
    "{\"net\":\"cnn\",\"config\":\"a\",\"seed\":" #seed                                            \
    ",\"rounds\":1,\"round\":1,\"norm\":\"L1\",\"keep\":" #keep                                    \
    ",\"kept\":0.3641,\"params\":347,\"bytes_float\":1804,\"auroc_float\":" #auroc "}"
static void equal_sizes_are_told_apart(void **state)
{
    const char *doc = "{\"artifacts\": [" KEPT(0, 0.5, 0.8) "," KEPT(1, 0.5, 0.8) "," KEPT(
        0, 0.51, 0.7) "," KEPT(1, 0.51, 0.7) "]}";
    char *text = printed(make(doc), report_print);
    expect_lines(text, "cnn   36.41 % of 0.5    36.41 % of 0.51\n"
                       "F     0.8000(000) 1/L1  0.7000(000) 1/L1\n"
                       "KB F  1.804             1.804\n"
                       "n = 2 seeds\n");
    free(text);
}

/* Times of two machines, or under two allocators, have a line each and are told apart. */
#define TIMED(seed, allocator, isa, us)                                                            \
    "{\"net\":\"cnn\",\"seed\":" #seed                                                             \
    ",\"kept\":1,\"params\":100,\"latency_float\":{\"" allocator "\":{\"p50_us\":" #us             \
    ",\"isa\":\"" isa "\",\"allocator\":\"" allocator "\"}}}"
static void setups_are_told_apart(void **state)
{
    const char *doc = "{\"artifacts\": [" TIMED(0, "glibc", "avx2", 10.0) "," TIMED(
        1, "glibc", "avx2", 12.0) "," TIMED(2, "jemalloc", "avx512", 7.0) "]}";
    char *text = printed(make(doc), report_print), *csv = printed(make(doc), report_csv);
    expect_lines(text, "us F #1  11.0 [10.0-12.0]\nus F #2  7.0\nus #1: glibc, avx2\n"
                       "us #2: jemalloc, avx512\n");
    assert_non_null(strstr(csv, ",glibc,avx2,,,10.000,,,1,,"));
    assert_non_null(strstr(csv, ",jemalloc,avx512,,,7.000,,,1,,"));
    free(text);
    free(csv);
}

/* A text with a comma or a quote is one field. */
static void csv_quotes(void **state)
{
    /* what would move a terminal comes out shown, in the tables too */
    const char *nasty =
        "{\"artifacts\": [{\"net\":\"a\\u001b[2J\",\"kept\":1,\"params\":1,\"auroc_float\":0.5,"
        "\"auroc_undefined\":[\"x\\u009b\"]}],\"failed\":[{\"job\":\"j1\",\"reason\":\"b\\u001b\"}]"
        "}";
    char *text = printed(make(nasty), report_print), *lines = printed(make(nasty), report_csv);
    assert_null(strpbrk(text, "\033"));
    assert_null(strpbrk(lines, "\033"));
    assert_null(strstr(text, "\xc2\x9b"));
    assert_non_null(strstr(text, "a\\x1b[2J"));
    assert_non_null(strstr(text, "j1: b\\x1b\n"));
    free(text);
    free(lines);
    char *csv = printed(make("{\"artifacts\": [{\"net\":\"a,b\\\"c\",\"kept\":1,\"params\":1}]}"),
                        report_csv);
    assert_non_null(strstr(csv, "\n\"a,b\"\"c\",,0,"));
    free(csv);
}

static void csv(void **state)
{
    char *text = printed(make(document), report_csv);
    assert_non_null(strstr(text,
                           "\ncnn,,0,0,,,0,,1,0,1.000000,37157,0,,,0.920000,0.910000,,,,,150000,"
                           "40000,100.000,50.000,measured,cnn,0,"));
    assert_non_null(strstr(text, ",99.000,98.000,104.000,3,the other cores were busy for 80 %,"));
    assert_non_null(strstr(text, "\ncnn,,0,1,,,0,,1,0,1.000000,37157,0,,,0.940000,,,,,,,,,,"
                                 "measured,cnn,0,,,,,,,,,,,,,,,,,,,,,\n"));
    free(text);
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
    ",\"macro_f1_float\":" #f1 ",\"accuracy_int8\":" #acc ",\"macro_f1_int8\":" #f1                \
    ",\"accuracy_float_validation\":" #acc ",\"accuracy_int8_validation\":" #acc                   \
    ",\"macro_f1_float_validation\":" #f1 ",\"macro_f1_int8_validation\":" #f1 "}"
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
        cmocka_unit_test(cells),
        cmocka_unit_test(table),
        cmocka_unit_test(csv),
        cmocka_unit_test(figures),
        cmocka_unit_test(none),
        cmocka_unit_test(classes),
        cmocka_unit_test(stages),
        cmocka_unit_test(intervals),
        cmocka_unit_test(no_validation),
        cmocka_unit_test(many_of_everything),
        cmocka_unit_test(other_layers_are_another_net),
        cmocka_unit_test(missing_and_undefined),
        cmocka_unit_test(equal_sizes_are_told_apart),
        cmocka_unit_test(setups_are_told_apart),
        cmocka_unit_test(csv_quotes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
