/* The vocabularies of the wire (proto/words.c) are those of the rooms that give the words their meaning. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "cli/grid.h"
#include "cpu/measure/measure.h"
#include "cpu/quant/quant.h"
#include "cpu/rt/cinchrt.h"
#include "nn/net.h"
#include "proto/words.h"

static void same_words(enum pr_words kind, const char *const *room, int but_last)
{
    int n = 0;
    for (; room[n]; n++)
        if (!but_last || room[n + 1]) assert_int_equal(pr_word(kind, room[n]), n);
    assert_null(pr_word_at(kind, n - but_last));
}

static void rooms_and_wire_agree(void **state)
{
    same_words(PR_WORDS_NET, nn_net_names(), 0);
    same_words(PR_WORDS_MODE, quant_mode_names, 0);
    same_words(PR_WORDS_ALLOCATOR, measure_allocator_names, 1); /* "paper" is resolved before */
    same_words(PR_WORDS_SPLIT, grid_split_names, 0);
    int isa = 0;
    for (; strcmp(cinchrt_isa_name((enum cinchrt_isa)isa), "?"); isa++)
        assert_int_equal(pr_word(PR_WORDS_ISA, cinchrt_isa_name((enum cinchrt_isa)isa)), isa);
    assert_null(pr_word_at(PR_WORDS_ISA, isa));
}

static void strangers_are_in_none(void **state)
{
    static const char *const odd[] = {"",       "CNN", "cnn ",    "norm1",
                                      "../cnn", "l1",  "\x1b[2J", "paper2"};
    for (int kind = 0; kind < PR_WORDS_KINDS; kind++) {
        for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
            assert_int_equal(pr_word((enum pr_words)kind, odd[i]), -1);
        for (int i = 0; pr_word_at((enum pr_words)kind, i); i++) /* the sentence names them all */
            assert_non_null(
                strstr(pr_words_text((enum pr_words)kind), pr_word_at((enum pr_words)kind, i)));
        assert_null(pr_word_at((enum pr_words)kind, -1));
        assert_null(pr_word_at((enum pr_words)kind, 1000));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rooms_and_wire_agree),
        cmocka_unit_test(strangers_are_in_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
