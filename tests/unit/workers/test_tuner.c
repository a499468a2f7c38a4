/* Tests of the number of slots on devices whose throughput is a known function of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "workers/tuner.h"

/* Runs `seconds` on a device with rate[n] at n slots; returns the slots at the end. */
static int play(struct tuner *t, int64_t *now, int seconds, const double *rate, bool full)
{
    int slots = t->slots;
    for (int s = 0; s < seconds; s++) {
        *now += 1000;
        slots = tuner_tell(t, *now, rate[slots], full);
    }
    return slots;
}

static void grows_while_it_pays_and_stays(void **state)
{
    const double rate[] = {0, 100, 180, 220, 224, 150};
    struct tuner t;
    int64_t now = 0;
    tuner_init(&t, 5, now);
    assert_int_equal(play(&t, &now, 9, rate, true), 1); /* ten seconds are needed */
    assert_int_equal(play(&t, &now, 12, rate, true), 3);
    assert_int_equal(play(&t, &now, 60, rate, true), 3); /* the fourth gave 2 % */
    assert_int_equal(play(&t, &now, 200, rate, true), 3);
    const double other[] = {0, 100, 180, 220, 300, 400};
    assert_int_equal(play(&t, &now, 120, other, true), 5); /* tried again after a while */
}

static void one_slot_stays_where_two_are_worse(void **state)
{
    const double rate[] = {0, 100, 90};
    struct tuner t;
    int64_t now = 0;
    tuner_init(&t, 8, now);
    assert_int_equal(play(&t, &now, 40, rate, true), 1);
}

static void nothing_is_tried_without_work(void **state)
{
    const double rate[] = {0, 100, 200, 300};
    struct tuner t;
    int64_t now = 0;
    tuner_init(&t, 3, now);
    assert_int_equal(play(&t, &now, 100, rate, false), 1);
    assert_int_equal(play(&t, &now, 100, rate, true), 3); /* and never above the limit */
}

static void a_refused_slot_is_not_asked_again(void **state)
{
    const double rate[] = {0, 100, 200, 300, 400};
    struct tuner t;
    int64_t now = 0;
    tuner_init(&t, 4, now);
    play(&t, &now, 11, rate, true);
    assert_int_equal(t.slots, 2);
    tuner_refused(&t, now);
    assert_int_equal(play(&t, &now, 1000, rate, true), 1);
    tuner_refused(&t, now); /* the first is never given up */
    assert_int_equal(t.slots, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_while_it_pays_and_stays),
        cmocka_unit_test(one_slot_stays_where_two_are_worse),
        cmocka_unit_test(nothing_is_tried_without_work),
        cmocka_unit_test(a_refused_slot_is_not_asked_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
