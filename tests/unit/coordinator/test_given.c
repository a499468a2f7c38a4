/* JSON inside messages: escapes that would reach a terminal once decoded are refused, kernel choices are what is known. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/core.h"

static void objects_are_objects_of_clean_text(void **state)
{
    static const char *const good[] = {"", "{}", "{\"a\":1,\"b\":{\"c\":[\"Größe\",null,1e300]}}",
                                       "{\"a\":\"two\\nlines\"}"};
    static const char *const bad[] = {"[]",
                                      "1",
                                      "{",
                                      "{\"a\":1,\"a\":2}",
                                      "{\"a\":1e999}",
                                      "{\"a\":\"\\u001b[2J\"}",
                                      "{\"\\u009b2J\":1}",
                                      "{\"a\":[{\"b\":\"\\u202e\"}]}",
                                      "{\"a\":\"\\u007f\"}",
                                      "{} x"};
    struct cn_error err;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(given_object("it", good[i], &err), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (given_object("it", bad[i], &err) != CN_EINVALID) fail_msg("%s", bad[i]);
    char deep[200] = "{\"a\":";
    memset(deep + 5, '[', 60);
    memset(deep + 65, ']', 60);
    strcpy(deep + 125, "}");
    assert_int_equal(given_object("it", deep, &err), CN_EINVALID);
    assert_int_equal(given_text("it", "no JSON at all", &err), 0);
    assert_int_equal(given_text("it", "{\"a\":\"\\u001b\"}", &err), CN_EINVALID);
    assert_int_equal(given_text("it", "\"\\u001b\"", &err), CN_EINVALID);
}

static void kernel_choices_are_those_known(void **state)
{
    char *kept =
        given_engines("[{\"op\":\"conv 3x3\",\"engine\":\"cudnn\",\"native_us\":2.5,\"more\":[1]},"
                      "{\"op\":\"\\u001b\",\"engine\":\"native\"},"
                      "{\"op\":\"x\",\"engine\":\"mine\"},7]");
    assert_string_equal(kept, "[{\"op\":\"conv 3x3\",\"engine\":\"cudnn\",\"native_us\":2.5}]");
    free(kept);
    assert_null(given_engines("{}"));
    assert_null(given_engines("nonsense"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_are_objects_of_clean_text),
        cmocka_unit_test(kernel_choices_are_those_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
