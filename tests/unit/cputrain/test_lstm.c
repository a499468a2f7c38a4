/* tests/unit/cputrain/test_lstm.c - the fast LSTM of every instruction set against ref_ on odd
 * shapes, outputs and all gradients; same bits for 1, 2, 3 threads; a gang of three as three
 * alone. */
#include "tests/unit/cputrain/common.h"

#include <stdio.h>

#define TOLERANCE 2e-5
#define CASES 24

struct lstm {
    struct nn_lstm a;
    size_t nx, ny, np;
};

static void point_into(struct nn_lstm *a, float *p, float *g)
{
    int64_t ih = (int64_t)4 * a->h * a->c, hh = (int64_t)4 * a->h * a->h;
    a->w_ih = p;
    a->w_hh = p + ih;
    a->b_ih = p + ih + hh;
    a->b_hh = a->b_ih + 4 * a->h;
    a->dw_ih = g;
    a->dw_hh = g + ih;
    a->db_ih = g + ih + hh;
    a->db_hh = a->db_ih + 4 * a->h;
}

static struct lstm make(int m, int b, int c, int h, int t)
{
    struct lstm s = {.a = {.m = m, .b = b, .c = c, .h = h, .t = t, .train = 1}};
    uint64_t seed = (uint64_t)(m + 7 * b + 31 * c + 101 * h + 1009 * t);
    s.a.stride = (int64_t)4 * h * (c + h + 2) + 3;
    s.nx = (size_t)m * b * c * t;
    s.ny = (size_t)m * b * h * t;
    s.np = (size_t)m * s.a.stride;
    s.a.x = array_random(s.nx, seed);
    s.a.dy = array_random(s.ny, seed + 1);
    float *p = array_random(s.np, seed + 2), reach = 1.5f / (float)(h > 4 ? h / 4 : 1);
    for (size_t i = 0; i < s.np; i++) p[i] *= reach > 0.2f ? reach : 0.2f;
    point_into(&s.a, p, NULL);
    return s;
}

static void outputs(struct lstm *s, struct nn_backend *be, int with_dx)
{
    point_into(&s->a, (float *)s->a.w_ih, array_filled(s->np, 0));
    s->a.y = array_filled(s->ny, 0);
    s->a.dx = with_dx ? array_filled(s->nx, 3) : NULL;
    s->a.save = array_filled((size_t)be->ops->lstm_save_floats(be, &s->a), 0);
}

static void run(struct nn_backend *be, const struct nn_lstm *a)
{
    assert_int_equal(be->ops->lstm_forward(be, a), 0);
    assert_int_equal(be->ops->lstm_backward(be, a), 0);
}

static struct lstm odd_case(int i)
{
    uint64_t seed = 500 + (uint64_t)i;
    if (i == 0) return make(1, 130, 3, 5, 20);
    if (i == 1) return make(1, 3, 12, 64, 1000);
    if (i == 2) return make(1, 2, 130, 129, 17);
    return make(pick(seed, 0, 1, 2), pick(seed, 1, 1, 70), pick(seed, 2, 1, 20),
                pick(seed, 3, 1, 40), pick(seed, 4, 1, 50));
}

static void test_against_ref(void **state)
{
    const char *isa[MAX_ISA];
    int n = isa_list(isa);
    struct nn_backend *ref = backend_of("ref", 2), *fast[MAX_ISA];
    for (int i = 0; i < n; i++) fast[i] = backend_of(isa[i], 1);
    for (int i = 0; i < CASES; i++) {
        struct lstm want = odd_case(i), got = want;
        outputs(&want, ref, i % 2 == 0);
        run(ref, &want.a);
        for (int f = 0; f < n; f++) {
            char what[120];
            outputs(&got, fast[f], i % 2 == 0);
            run(fast[f], &got.a);
            snprintf(what, sizeof what, "%s m%d b%d c%d h%d t%d", isa[f], got.a.m, got.a.b, got.a.c,
                     got.a.h, got.a.t);
            assert_close(what, got.a.y, want.a.y, got.ny, TOLERANCE);
            assert_close(what, got.a.dw_ih, want.a.dw_ih, got.np, TOLERANCE);
            if (got.a.dx) assert_close(what, got.a.dx, want.a.dx, got.nx, TOLERANCE);
        }
        arrays_free();
    }
    for (int i = 0; i < n; i++) backend_free(fast[i]);
    backend_free(ref);
}

/* Inference keeps nothing and gives the same output. */
static void test_inference(void **state)
{
    const char *isa[MAX_ISA];
    int n = isa_list(isa);
    for (int f = 0; f < n; f++) {
        struct nn_backend *be = backend_of(isa[f], 1);
        struct lstm train = make(1, 37, 12, 19, 33), eval = train;
        outputs(&train, be, 0);
        outputs(&eval, be, 0);
        eval.a.train = 0;
        eval.a.save = NULL;
        assert_int_equal(be->ops->lstm_forward(be, &train.a), 0);
        assert_int_equal(be->ops->lstm_forward(be, &eval.a), 0);
        assert_same_bits("y", eval.a.y, train.a.y, train.ny);
        backend_free(be);
        arrays_free();
    }
}

static void test_threads(void **state)
{
    const char *isa[MAX_ISA];
    int n = isa_list(isa);
    for (int f = 0; f < n; f++) {
        struct lstm one = make(2, 75, 5, 13, 40), many = one;
        struct nn_backend *be = backend_of(isa[f], 1);
        outputs(&one, be, 1);
        run(be, &one.a);
        backend_free(be);
        for (int threads = 2; threads <= 3; threads++) {
            be = backend_of(isa[f], threads);
            outputs(&many, be, 1);
            run(be, &many.a);
            backend_free(be);
            assert_same_bits("y", many.a.y, one.a.y, one.ny);
            assert_same_bits("dx", many.a.dx, one.a.dx, one.nx);
            assert_same_bits("dw", many.a.dw_ih, one.a.dw_ih, one.np);
        }
        arrays_free();
    }
}

static void test_gang(void **state)
{
    const char *isa[MAX_ISA];
    int n = isa_list(isa);
    for (int f = 0; f < n; f++) {
        struct lstm gang = make(3, 41, 4, 9, 21), alone = gang;
        struct nn_backend *be = backend_of(isa[f], 2);
        outputs(&gang, be, 1);
        outputs(&alone, be, 1);
        run(be, &gang.a);
        for (int m = 0; m < 3; m++) {
            struct nn_lstm a = alone.a;
            size_t x = gang.nx / 3 * (size_t)m, y = gang.ny / 3 * (size_t)m;
            a.m = 1;
            a.x += x, a.dx += x, a.y += y, a.dy += y;
            point_into(&a, (float *)a.w_ih + m * a.stride, a.dw_ih + m * a.stride);
            a.save = array_filled((size_t)be->ops->lstm_save_floats(be, &a), 0);
            run(be, &a);
        }
        assert_same_bits("y", gang.a.y, alone.a.y, gang.ny);
        assert_same_bits("dx", gang.a.dx, alone.a.dx, gang.nx);
        assert_same_bits("dw", gang.a.dw_ih, alone.a.dw_ih, gang.np);
        backend_free(be);
        arrays_free();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_ref),
        cmocka_unit_test(test_inference),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_gang),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
