/* Text from outside: what is UTF-8, what may be shown, and that no error or log line carries control characters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"

static void utf8_forms(void **state)
{
    static const struct {
        const char *s;
        int n;
    } row[] = {{"a", 1},
               {"\x7f", 1},
               {"\xc2\x80", 2},
               {"\xc1\xbf", 0},
               {"\xdf\xbf", 2},
               {"\xe0\xa0\x80", 3},
               {"\xe0\x9f\xbf", 0},
               {"\xed\x9f\xbf", 3},
               {"\xed\xa0\x80", 0},
               {"\xef\xbf\xbf", 3},
               {"\xf0\x90\x80\x80", 4},
               {"\xf0\x8f\xbf\xbf", 0},
               {"\xf4\x8f\xbf\xbf", 4},
               {"\xf4\x90\x80\x80", 0},
               {"\x80", 0},
               {"\xe2\x82", 0},
               {"\xf0\x9f\x98", 0},
               {"\xff", 0}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        assert_int_equal(cn_utf8_length(row[i].s), row[i].n);
    assert_true(cn_utf8_valid("Müller \xe2\x82\xac"));
    assert_false(cn_utf8_valid("M\xfcller"));
}

static void what_is_clean(void **state)
{
    assert_true(cn_text_clean("", 0));
    assert_true(cn_text_clean("lead II\t\xc2\xb5V\r\n", 100));
    assert_false(cn_text_clean("12345", 4));
    static const char *const bad[] = {"\x1b[2J",
                                      "\x7f",
                                      "\xc2\x9b"
                                      "31m",
                                      "\xc2\x85",
                                      "M\xfcller",
                                      "\xe2\x80\xa8",
                                      "\xe2\x80\xae"
                                      "abc",
                                      "\xe2\x81\xa6",
                                      "\b"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(cn_text_clean(bad[i], 100));
}

static void is_shown(const char *in, const char *want)
{
    char out[100];
    assert_int_equal(cn_text_show(out, sizeof out, in), strlen(want));
    assert_string_equal(out, want);
    char place[100];
    strcpy(place, in);
    cn_text_show_in_place(place, sizeof place);
    assert_string_equal(place, want);
}

static void what_is_shown(void **state)
{
    is_shown("plain \xc2\xb5V\t|", "plain \xc2\xb5V\t|");
    is_shown("\x1b[2J", "\\x1b[2J");
    is_shown("a\r\nb\x7f", "a\\r\\nb\\x7f");
    is_shown("\xc2\x9b"
             "31m",
             "\\x9b31m");
    is_shown("M\xfcller", "M\\xfcller");
    is_shown("\xe2\x80\xae"
             "abc",
             "\\u202eabc");
    is_shown("\xef\xbf\xbe|\xef\xbb\xbfII",
             "\\ufffe|\\ufeffII"); /* no character; a byte order mark */
    char out[8];
    assert_int_equal(cn_text_show(out, 8, "abcde\xe2\x82\xac"), 5); /* not cut inside a character */
    assert_string_equal(out, "abcde");
    assert_int_equal(cn_text_show(out, 8, "abcd\x1b"), 4); /* nor inside a form */
    assert_int_equal(cn_text_show(out, 1, "abc"), 0);
    assert_int_equal(cn_text_show(out, 0, "abc"), 0);
}

static void latin1_is_converted(void **state)
{
    bool converted;
    char *s = cn_text_utf8("M\xfcller \xb5V", 9, &converted);
    assert_string_equal(s, "M\xc3\xbcller \xc2\xb5V");
    assert_true(converted);
    free(s);
    s = cn_text_utf8("M\xc3\xbcller", 7, &converted);
    assert_string_equal(s, "M\xc3\xbcller");
    assert_false(converted);
    free(s);
    assert_null(cn_text_utf8("a\0b", 3, &converted));
}

static void errors_are_safe_to_show(void **state)
{
    struct cn_error err;
    cn_fail(&err, CN_EINVALID, "'%s'", "\x1b]0;\xc2\x9b\n\xe9");
    assert_string_equal(err.text, "'\\x1b]0;\\x9b\\n\\xe9'");
    cn_fail_prefix(&err, "%s", "\x1b");
    assert_string_equal(err.text, "\\x1b: '\\x1b]0;\\x9b\\n\\xe9'");
    char many[sizeof err.text + 50];
    memset(many, 27, sizeof many - 1);
    many[sizeof many - 1] = 0;
    cn_fail(&err, CN_EINVALID, "%s", many);
    assert_true(strlen(err.text) < sizeof err.text);
    assert_null(strchr(err.text, 27));
}

static char last_line[2048];

static void keep_line(void *arg, enum cn_level level, const char *line)
{
    strcpy(last_line, line);
}

static void log_lines_are_safe_to_show(void **state)
{
    char many[1500];
    memset(many, 27, sizeof many - 1);
    many[sizeof many - 1] = 0;
    cn_log_sink(keep_line, NULL);
    cn_warn("test", "%s", "a\x1b[2J\nb");
    assert_non_null(strstr(last_line, "test: a\\x1b[2J\\nb"));
    cn_warn("test", "%s", many);
    cn_log_sink(NULL, NULL);
    assert_null(strchr(last_line, 27));
    assert_in_range(strlen(last_line), 1000, 1023);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utf8_forms),
        cmocka_unit_test(what_is_clean),
        cmocka_unit_test(what_is_shown),
        cmocka_unit_test(latin1_is_converted),
        cmocka_unit_test(errors_are_safe_to_show),
        cmocka_unit_test(log_lines_are_safe_to_show),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
