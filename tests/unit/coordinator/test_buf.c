/* JSON that the coordinator writes: whatever text comes, nothing in it reaches a terminal as an order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/buf.h"

static void check(const char *text, const char *want)
{
    struct buf b = {0};
    buf_json(&b, text);
    char *got = buf_take(&b);
    assert_string_equal(got, want);
    json_t *back = json_loads(got, JSON_DECODE_ANY, NULL);
    assert_non_null(back);
    if (!strstr(want, "fffd")) assert_string_equal(json_string_value(back), text);
    json_decref(back);
    free(got);
}

static void controls_are_escaped(void **state)
{
    check("", "\"\"");
    check("plain \"quoted\" back\\slash", "\"plain \\\"quoted\\\" back\\\\slash\"");
    check("a\tb\nc\r", "\"a\\u0009b\\nc\\u000d\"");
    check("\x1b[2J\x7f", "\"\\u001b[2J\\u007f\"");
    check("\xc2\x9b"
          "2J",
          "\"\\u009b2J\"");
    check("\xe2\x80\xae"
          "x\xe2\x81\xa9",
          "\"\\u202ex\\u2069\"");
    check("Größe \xe2\x82\xac \xf0\x9f\x98\x80", "\"Größe \xe2\x82\xac \xf0\x9f\x98\x80\"");
    check("\xff\xc2", "\"\\ufffd\\ufffd\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(controls_are_escaped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
