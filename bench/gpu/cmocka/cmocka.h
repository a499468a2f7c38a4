/* bench/gpu/cmocka/cmocka.h - as much of cmocka as the GPU tests use, for machines without it: a failed
 * assertion ends its test, and the program's status is the number of failed tests. */
#ifndef CINCH_BENCH_GPU_CMOCKA_H
#define CINCH_BENCH_GPU_CMOCKA_H

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};

static jmp_buf shim_out;
static int shim_skipped;

#define cmocka_unit_test(f)                                                                        \
    {                                                                                              \
#f, f                                                                                      \
    }
#define fail_msg(...)                                                                              \
    (fprintf(stderr, "%s:%d: ", __FILE__, __LINE__), fprintf(stderr, __VA_ARGS__),                 \
     fputc('\n', stderr), longjmp(shim_out, 1))
#define print_message(...) printf(__VA_ARGS__)
#define skip() (shim_skipped = 1, longjmp(shim_out, 2))
#define shim_check(is, text)                                                                       \
    do {                                                                                           \
        if (!(is)) fail_msg("%s", text);                                                           \
    } while (0)
#define assert_true(a) shim_check(a, #a)
#define assert_non_null(a) shim_check((a) != NULL, #a " is NULL")
#define assert_int_equal(a, b) shim_check((long long)(a) == (long long)(b), #a " is not " #b)
#define assert_string_equal(a, b) shim_check(strcmp(a, b) == 0, #a " is not " #b)
#define assert_memory_equal(a, b, n)                                                               \
    shim_check(memcmp(a, b, n) == 0, #a " has not the bytes of " #b)

static int shim_run(const struct CMUnitTest *t, int n)
{
    int failed = 0;
    for (int i = 0; i < n; i++) {
        void *state = NULL;
        shim_skipped = 0;
        printf("[ RUN      ] %s\n", t[i].name);
        fflush(stdout);
        int rc = setjmp(shim_out);
        if (rc == 0) t[i].run(&state);
        printf("[ %s ] %s\n",
               rc == 0        ? "      OK"
               : shim_skipped ? " SKIPPED"
                              : " FAILED ",
               t[i].name);
        failed += rc == 1;
    }
    return failed;
}
#define cmocka_run_group_tests(tests, setup, teardown)                                             \
    shim_run(tests, (int)(sizeof(tests) / sizeof *(tests)))

#endif
