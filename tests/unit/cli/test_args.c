/* Option tables: values, ranges, operands in any order, and the nearest name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cli/cli.h"
#include "cli/progress.h"
#include "cli/table.h"

static const char *const norms[] = {"L1", "L2", "taylor", NULL};

struct values {
    bool fast;
    const char *out;
    int epochs, norm;
    uint64_t seed;
    double keep;
    struct cli_use use;
    struct cli cli;
};

/* Splits `line` at blanks and parses it. */
static int parse(struct values *v, char *line)
{
    const struct cli_option options[] = {OPT_FLAG("fast", 0, &v->fast, ""),
                                         OPT_TEXT("out", 'o', &v->out, "FILE", ""),
                                         OPT_INT("epochs", &v->epochs, "N", 0, 100, ""),
                                         OPT_U64("seed", &v->seed, "N", ""),
                                         OPT_REAL("keep", &v->keep, "F", ""),
                                         OPT_CHOICE("norm", &v->norm, "N", norms, ""),
                                         OPT_END};
    static char *argv[32];
    int argc = 0;
    memset(v, 0, sizeof *v);
    strcpy(v->cli.command, "test");
    v->use = (struct cli_use){"A [B]", "", options, 1, 2, 0, NULL};
    for (char *w = strtok(line, " "); w; w = strtok(NULL, " ")) argv[argc++] = w;
    return cli_parse(&v->cli, &v->use, argc, argv);
}

static void accepts(void **state)
{
    struct values v;
    char line[] = "a --epochs 12 --seed=7 -o x.bin --norm taylor --fast --keep 0.25 b --json -q";
    assert_int_equal(parse(&v, line), 0);
    assert_int_equal(v.use.n_words, 2);
    assert_string_equal(v.use.word[1], "b");
    assert_int_equal(v.epochs, 12);
    assert_int_equal(v.seed, 7);
    assert_int_equal(v.norm, 2);
    assert_string_equal(v.out, "x.bin");
    assert_true(v.keep == 0.25);
    assert_true(v.fast && v.cli.json && v.cli.quiet);
    char joined[] = "-oy.bin -- --fast";
    assert_int_equal(parse(&v, joined), 0);
    assert_string_equal(v.out, "y.bin");
    assert_string_equal(v.use.word[0], "--fast");
    assert_false(v.fast);
}

static void refuses(void **state)
{
    static const struct {
        const char *line, *part;
    } cases[] = {
        {"a --epoch 3", "did you mean '--epochs'"},
        {"a --zzz", "unknown option '--zzz'"},
        {"a -z", "unknown option '-z'"},
        {"a --epochs", "needs a value"},
        {"a --epochs three", "not a whole number"},
        {"a --epochs 1.5", "not a whole number"},
        {"a --epochs 101", "outside 0 .. 100"},
        {"a --epochs nan", "not a whole number"},
        {"a --seed -1", "outside"},
        {"a --seed 1e99", "not a whole number"},
        {"a --keep 0.5x", "not a number"},
        {"a --keep nan", "not a number"},
        {"a --norm L3", "none of L1, L2, taylor"},
        {"a --norm tailor", "did you mean 'taylor'"},
        {"a --fast=1", "takes no value"},
        {"--fast", "something is missing"},
        {"a b c", "'c' is one operand too many"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct values v;
        char line[64];
        snprintf(line, sizeof line, "%s", cases[i].line);
        assert_int_equal(parse(&v, line), CN_EINVALID);
        if (!strstr(v.cli.err.text, cases[i].part))
            fail_msg("%s: expected '%s' in: %s", cases[i].line, cases[i].part, v.cli.err.text);
    }
}

static void lists(void **state)
{
    struct cli c = {0};
    int out[4], n = 0;
    assert_int_equal(cli_int_list(&c, "16,32,48", "--widths", 64, out, 4, &n), 0);
    assert_int_equal(n, 3);
    assert_int_equal(out[2], 48);
    assert_int_equal(cli_int_list(&c, "16,,48", "--widths", 64, out, 4, &n), CN_EINVALID);
    assert_int_equal(cli_int_list(&c, "16,99", "--widths", 64, out, 4, &n), CN_EINVALID);
    assert_int_equal(cli_int_list(&c, "1,2,3,4,5", "--widths", 64, out, 4, &n), CN_EINVALID);
    assert_int_equal(cli_int_list(&c, "16,", "--widths", 64, out, 4, &n), CN_EINVALID);
}

static void exit_codes(void **state)
{
    assert_int_equal(cli_exit_code(0), 0);
    assert_int_equal(cli_exit_code(CN_EIO), 1);
    assert_int_equal(cli_exit_code(CN_ENOSPACE), 1);
    assert_int_equal(cli_exit_code(CN_EDIVERGED), 1);
    assert_int_equal(cli_exit_code(CN_EINVALID), 2);
    assert_int_equal(cli_exit_code(CN_ECORRUPT), 2);
    assert_int_equal(cli_exit_code(CN_ENOTFOUND), 2);
    assert_int_equal(cli_exit_code(CN_ECONNECT), 3);
    assert_int_equal(cli_exit_code(CN_ENODEVICE), 3);
    assert_int_equal(cli_exit_code(CN_EREFUSED), 4);
}

static void tables(void **state)
{
    char text[256] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    struct cli_table *t = cli_table_create("NAME\tN", "lr");
    cli_table_add(t, "%s\t%d", "a", 1);
    cli_table_add(t, "%s\t%d\tsurplus", "größer", 200);
    cli_table_add(t, "x");
    cli_table_print(t, f);
    fclose(f);
    assert_string_equal(text, "NAME      N\n"
                              "a         1\n"
                              "größer  200\n"
                              "x          \n");
    cli_table_destroy(t);
    assert_int_equal(cli_text_width("\033[31mrot\033[0m"), 3);
}

/* What strangers wrote never reaches a terminal as control characters. */
static void shown_texts(void **state)
{
    char text[1024] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    struct cli_table *t = cli_table_create("NAME\tSTATE", "ll");
    cli_table_column(t, 'l', "%s", "l\033[2J");
    cli_table_add(t, "%s\t%s", "a\033]0;x\a", "b\nc\rd");
    cli_table_colour(t, 1, CLI_RED); /* not on what is no terminal */
    cli_table_set(t, 0, 2, "%s",
                  "\xc2\x9b"
                  "2J \xe9 \xe2\x80\xae");
    cli_table_print(t, f);
    cli_print(f, "%s: %s\n", "j1", "\033[31m\xc2\x9bm\t\r");
    fclose(f);
    assert_string_equal(text, "NAME           STATE    l\\x1b[2J\n"
                              "a\\x1b]0;x\\x07  b\\nc\\rd  \\x9b2J \\xe9 \\u202e\n"
                              "j1: \\x1b[31m\\x9bm\t\\r\n");
    cli_table_destroy(t);
}

static void json_for_terminals(void **state)
{
    static const char *const from = "\033\xc2\x9b\x7f \xe2\x80\xa8\xe2\x80\xae\xe2\x81\xa9 "
                                    "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80";
    char text[256] = "";
    FILE *f = fmemopen(text, sizeof text, "w");
    json_t *doc = json_pack("[s]", from), *back;
    assert_int_equal(cli_put_json(f, doc, JSON_COMPACT), 0);
    fclose(f);
    assert_string_equal(
        text,
        "[\"\\u001B\\u009b\\u007f \\u2028\\u202e\\u2069 \xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"]");
    back = json_loads(text, 0, NULL);
    assert_true(json_equal(doc, back));
    json_decref(doc);
    json_decref(back);
}

static void durations(void **state)
{
    char out[24];
    cli_duration(65, out);
    assert_string_equal(out, "1:05");
    cli_duration(7384.6, out);
    assert_string_equal(out, "2:03:05");
    cli_duration(-1, out);
    assert_string_equal(out, "?");
    cli_duration(0.0 / 0.0, out);
    assert_string_equal(out, "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts),
        cmocka_unit_test(refuses),
        cmocka_unit_test(lists),
        cmocka_unit_test(exit_codes),
        cmocka_unit_test(tables),
        cmocka_unit_test(shown_texts),
        cmocka_unit_test(json_for_terminals),
        cmocka_unit_test(durations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
