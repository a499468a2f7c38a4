/* tests/unit/cputrain/test_conv.c - the fast convolution of every instruction set against ref_ on
 * odd shapes, forward and all gradients; same bits for 1, 2, 3 threads; a gang of three as three
 * alone. */
#include "tests/unit/cputrain/common.h"

#include <stdio.h>
#include <string.h>

#define TOLERANCE 1e-5
#define CASES 60

struct arrays {
    struct nn_conv1d a;
    size_t nx, ny, nw, nb; /* nw, nb: over all members */
};

static struct arrays make(int m, int b, int cin, int cout, int tin, int k, int pad, uint64_t seed)
{
    struct arrays s = {.a = {.m = m, .b = b, .cin = cin, .cout = cout, .tin = tin, .k = k}};
    struct nn_conv1d *a = &s.a;
    a->pad = pad;
    a->tout = tin + 2 * pad - k + 1;
    a->stride = (int64_t)cout * cin * k + cout + 5;
    s.nx = (size_t)m * b * cin * tin;
    s.ny = (size_t)m * b * cout * a->tout;
    s.nw = (size_t)m * a->stride;
    a->x = array_random(s.nx, seed);
    a->dy = array_random(s.ny, seed + 1);
    float *w = array_random(s.nw, seed + 2);
    a->w = w;
    a->bias = seed % 2 ? w + (int64_t)cout * cin * k : NULL;
    return s;
}

static void outputs(struct arrays *s, int with_dx)
{
    struct nn_conv1d *a = &s->a;
    a->y = array_filled(s->ny, 7);
    a->dx = with_dx ? array_random(s->nx, 99) : NULL;
    a->dw = array_filled(s->nw, 0);
    a->dbias = a->bias ? a->dw + (int64_t)a->cout * a->cin * a->k : NULL;
}

static void run(struct nn_backend *be, const struct nn_conv1d *a)
{
    assert_int_equal(be->ops->conv1d_forward(be, a), 0);
    assert_int_equal(be->ops->conv1d_backward(be, a), 0);
}

static struct arrays odd_case(int i)
{
    static const int kernels[] = {1, 3, 4, 5, 7, 10, 2, 25};
    uint64_t seed = 100 + (uint64_t)i;
    int k = kernels[pick(seed, 0, 0, 7)], pad = pick(seed, 1, 0, 2) ? pick(seed, 2, 0, k - 1) : 0;
    int tin = pick(seed, 3, 0, 3) ? pick(seed, 4, 1, 140) : pick(seed, 4, 1, 1000);
    if (i % 20 == 19) pad = k + 2; /* wider than the filter */
    if (tin < k - 2 * pad) tin = k - 2 * pad;
    if (i == 19) return make(1, 3, 40, 50, 60, 5, 7, seed);
    int b = pick(seed, 5, 0, 9) ? pick(seed, 5, 1, 9) : pick(seed, 5, 10, 130);
    int most = b > 9 ? 20 : tin > 140 ? 60 : 130;
    int cin = pick(seed, 6, 0, 2) ? pick(seed, 7, 1, 20) : pick(seed, 7, 1, most);
    int cout = pick(seed, 8, 0, 2) ? pick(seed, 9, 1, 20) : pick(seed, 9, 1, most);
    return make(pick(seed, 10, 1, 2), b, cin, cout, tin, k, pad, seed);
}

static void test_against_ref(void **state)
{
    const char *isa[MAX_ISA];
    int n = isa_list(isa);
    struct nn_backend *ref = backend_of("ref", 2), *fast[MAX_ISA];
    for (int i = 0; i < n; i++) fast[i] = backend_of(isa[i], 1);
    for (int i = 0; i < CASES; i++) {
        struct arrays want = odd_case(i), got = want;
        want.a.dx_add = got.a.dx_add = i % 3 == 0;
        outputs(&want, i % 5 != 4);
        run(ref, &want.a);
        for (int f = 0; f < n; f++) {
            char what[160];
            outputs(&got, i % 5 != 4);
            run(fast[f], &got.a);
            snprintf(what, sizeof what, "%s m%d b%d %d->%d t%d k%d pad%d", isa[f], got.a.m, got.a.b,
                     got.a.cin, got.a.cout, got.a.tin, got.a.k, got.a.pad);
            assert_close(what, got.a.y, want.a.y, got.ny, TOLERANCE);
            assert_close(what, got.a.dw, want.a.dw, got.nw, TOLERANCE);
            if (got.a.dx) assert_close(what, got.a.dx, want.a.dx, got.nx, TOLERANCE);
        }
        arrays_free();
    }
    for (int i = 0; i < n; i++) backend_free(fast[i]);
    backend_free(ref);
}

static void test_threads(void **state)
{
    const char *isa[MAX_ISA];
    int n = isa_list(isa);
    for (int f = 0; f < n; f++) {
        struct arrays one = make(2, 37, 13, 21, 95, 3, 1, 5), many = one;
        outputs(&one, 1);
        struct nn_backend *be = backend_of(isa[f], 1);
        run(be, &one.a);
        backend_free(be);
        for (int threads = 2; threads <= 3; threads++) {
            outputs(&many, 1);
            be = backend_of(isa[f], threads);
            run(be, &many.a);
            backend_free(be);
            assert_same_bits("y", many.a.y, one.a.y, one.ny);
            assert_same_bits("dx", many.a.dx, one.a.dx, one.nx);
            assert_same_bits("dw", many.a.dw, one.a.dw, one.nw);
        }
        arrays_free();
    }
}

static void test_gang(void **state)
{
    const char *isa[MAX_ISA];
    int n = isa_list(isa);
    for (int f = 0; f < n; f++) {
        struct arrays gang = make(3, 9, 6, 11, 70, 5, 2, 6), alone = gang;
        struct nn_backend *be = backend_of(isa[f], 2);
        outputs(&gang, 1);
        outputs(&alone, 1);
        run(be, &gang.a);
        for (int m = 0; m < 3; m++) {
            struct nn_conv1d a = alone.a;
            size_t x = (size_t)m * gang.nx / 3, y = (size_t)m * gang.ny / 3;
            a.m = 1;
            a.x += x, a.dx += x, a.y += y, a.dy += y;
            a.w += m * a.stride, a.dw += m * a.stride;
            if (a.bias) a.bias += m * a.stride, a.dbias += m * a.stride;
            run(be, &a);
        }
        assert_same_bits("y", gang.a.y, alone.a.y, gang.ny);
        assert_same_bits("dx", gang.a.dx, alone.a.dx, gang.nx);
        assert_same_bits("dw", gang.a.dw, alone.a.dw, gang.nw);
        backend_free(be);
        arrays_free();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_ref),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_gang),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
