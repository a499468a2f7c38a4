/* tests/unit/cputrain/test_block.c - the fused Conv-BatchNorm-ReLU-MaxPool of every instruction set
 * against the reference ops one after another: outputs, running statistics, all gradients, training
 * and inference; with and without a gradient of the input; same bits for 1, 2, 3 threads; a gang of three as
 * three alone. */
#include "tests/unit/cputrain/common.h"

#include <stdio.h>
#include <string.h>

#include "cpu/train/conv.h"

#define TOLERANCE 2e-5
#define CASES 78
#define FIRST 48 /* from here on without a gradient of the input */

/* A block's arrays. Parameters of a member: conv w, bn w, bn bias, running mean, running var, conv
 * bias. */
struct block {
    struct nn_conv_block a;
    size_t nx, nc, ny, np;
    int with_bias;
    int no_dx; /* a net's first block */
};

static struct block make(int m, int b, const int ch[2], int tin, int k, int pad, int pool)
{
    struct block s = {0};
    struct nn_conv1d *c = &s.a.conv;
    uint64_t seed = (uint64_t)(m * 1000003 + b * 10007 + ch[0] * 509 + ch[1] * 31 + tin + k + pool);
    *c = (struct nn_conv1d){.m = m, .b = b, .cin = ch[0], .cout = ch[1], .tin = tin, .k = k};
    c->pad = pad;
    c->tout = tin + 2 * pad - k + 1;
    int64_t nw = (int64_t)ch[0] * ch[1] * k;
    c->stride = nw + 5 * ch[1] + 3;
    s.a.pool_k = pool;
    s.a.t_pool = pool ? c->tout / pool : 0;
    s.nx = (size_t)m * b * ch[0] * tin;
    s.nc = (size_t)m * b * ch[1] * c->tout;
    s.ny = pool ? (size_t)m * b * ch[1] * s.a.t_pool : s.nc;
    s.np = (size_t)m * c->stride;
    c->x = array_random(s.nx, seed);
    s.a.dy = array_random(s.ny, seed + 1);
    s.a.bn = (struct nn_batchnorm){.m = m, .b = b, .c = ch[1], .t = c->tout, .stride = c->stride};
    s.a.bn.eps = 1e-5f;
    s.a.bn.momentum = 0.1f;
    return s;
}

/* Fresh parameters and outputs: the same ones each time. */
static void outputs(struct block *s, struct nn_backend *be, int train)
{
    struct nn_conv1d *c = &s->a.conv;
    struct nn_batchnorm *bn = &s->a.bn;
    int64_t nw = (int64_t)c->cin * c->cout * c->k;
    float *p = array_random(s->np, 77), *g = array_filled(s->np, 0);
    for (int m = 0; m < c->m; m++)
        for (int i = 0; i < c->cout; i++) p[m * c->stride + nw + 3 * c->cout + i] += 1.5f;
    c->w = p;
    bn->w = p + nw;
    bn->bias = bn->w + c->cout;
    bn->running_mean = p + nw + 2 * c->cout;
    bn->running_var = bn->running_mean + c->cout;
    bn->train = train;
    bn->save_mean = array_filled((size_t)c->m * c->cout, 0);
    bn->save_rstd = array_filled((size_t)c->m * c->cout, 0);
    c->bias = s->with_bias ? p + nw + 4 * c->cout : NULL;
    c->dbias = s->with_bias ? g + nw + 4 * c->cout : NULL;
    c->dw = g;
    bn->dw = g + nw;
    bn->dbias = bn->dw + c->cout;
    c->dx = s->no_dx ? NULL : array_random(s->nx, 5);
    c->y = array_filled(s->nc, 0);
    s->a.y = array_filled(s->ny, 0);
    if (!be->ops->conv_block_save_floats) return;
    s->a.save = array_filled((size_t)be->ops->conv_block_save_floats(be, &s->a), 0);
}

static void run_fused(struct nn_backend *be, const struct block *s)
{
    assert_int_equal(be->ops->conv_block_forward(be, &s->a), 0);
    if (s->a.bn.train) assert_int_equal(be->ops->conv_block_backward(be, &s->a), 0);
}

/* The same by the single reference ops. */
static void run_ref(struct nn_backend *be, const struct block *s)
{
    const struct nn_backend_ops *o = be->ops;
    struct nn_conv1d c = s->a.conv;
    struct nn_batchnorm bn = s->a.bn;
    float *z = array_filled(s->nc, 0), *r = array_filled(s->nc, 0), *dz = array_filled(s->nc, 0);
    float *dc = array_filled(s->nc, 0);
    uint8_t *arg = (uint8_t *)array_filled(s->ny, 0);
    struct nn_eltwise relu = {.n = (int64_t)s->nc, .x = z, .y = r, .dy = dz, .dx = dz};
    struct nn_pool pool = {.rows = c.m * c.b * c.cout, .tin = c.tout, .tout = s->a.t_pool};
    pool.k = s->a.pool_k;
    pool.x = r, pool.y = s->a.y, pool.arg = arg, pool.dy = s->a.dy, pool.dx = dz;
    bn.x = c.y, bn.y = z, bn.dy = dz, bn.dx = dc;
    c.dy = dc;
    assert_int_equal(o->conv1d_forward(be, &c), 0);
    assert_int_equal(o->batchnorm_forward(be, &bn), 0);
    if (s->a.relu)
        o->relu_forward(be, &relu);
    else
        memcpy(r, z, s->nc * sizeof *r);
    if (pool.k)
        o->maxpool_forward(be, &pool);
    else
        memcpy(s->a.y, r, s->nc * sizeof *r);
    if (!bn.train) return;
    if (pool.k)
        o->maxpool_backward(be, &pool);
    else
        memcpy(dz, s->a.dy, s->nc * sizeof *r);
    if (s->a.relu) o->relu_backward(be, &relu);
    assert_int_equal(o->batchnorm_backward(be, &bn), 0);
    assert_int_equal(o->conv1d_backward(be, &c), 0);
}

/* Input as signals are: neighbours alike, and an offset. Products of sums then nearly cancel. */
static void make_smooth(struct block *s)
{
    float *x = (float *)s->a.conv.x, last = 0;
    for (size_t i = 0; i < s->nx; i++) x[i] = last = 0.95f * last + 0.1f * x[i] + 0.05f;
}

static struct block odd_case(int i)
{
    static const int kernels[] = {1, 3, 4, 5, 7, 10}, pools[] = {0, 2, 3, 5, 0, 3};
    uint64_t seed = 300 + (uint64_t)i;
    int k = kernels[pick(seed, 0, 0, 5)], pad = pick(seed, 1, 0, 1) ? k / 2 : 0;
    int pool = pools[pick(seed, 2, 0, 5)];
    int tin = pick(seed, 3, 0, 3) ? pick(seed, 4, 2, 150) : pick(seed, 4, 100, 1000);
    if (tin < k + pool) tin = k + pool;
    int ch[2] = {pick(seed, 5, 1, 24), pick(seed, 6, 1, 40)}, b = pick(seed, 7, 1, 7);
    if (i == 0) b = 130, tin = 20, ch[0] = 3, ch[1] = 2;
    if (i == 1) ch[0] = 130, ch[1] = 129, tin = 40;
    if (i == 5)
        ch[0] = 33, ch[1] = 35, tin = 50, k = 5, pad = 2; /* would go by tiles but for its bias */
    if (i >= FIRST) { /* sizes for which block_first.c is in charge, and some for which it is not */
        b = pick(seed, 7, 1, 20);
        ch[0] = pick(seed, 5, 1, 18);
        ch[1] = pick(seed, 6, 20, 70);
    }
    struct block s = make(pick(seed, 8, 1, 2), b, ch, tin, k, pad, pool);
    s.no_dx = i >= FIRST;
    if (i >= FIRST && i % 2) make_smooth(&s);
    s.a.relu = pool || i % 3;
    s.a.conv.dx_add = i % 4 == 1;
    s.with_bias = i % 6 == 5;
    return s;
}

static void compare(const char *isa, const struct block *got, const struct block *want)
{
    const struct nn_conv1d *c = &got->a.conv;
    char what[200];
    snprintf(what, sizeof what, "%s m%d b%d %d->%d t%d k%d pad%d pool%d relu%d", isa, c->m, c->b,
             c->cin, c->cout, c->tin, c->k, c->pad, got->a.pool_k, got->a.relu);
    assert_close(what, got->a.y, want->a.y, got->ny, TOLERANCE);
    assert_close(what, c->w, want->a.conv.w, got->np, TOLERANCE); /* running statistics too */
    if (!got->a.bn.train) return;
    if (got->with_bias) /* what BatchNorm takes away again: 0 but for rounding */
        for (int m = 0; m < c->m; m++)
            for (int o = 0; o < c->cout; o++)
                c->dbias[m * c->stride + o] = want->a.conv.dbias[m * c->stride + o] = 0;
    assert_close(what, c->dw, want->a.conv.dw, got->np, TOLERANCE);
    if (c->dx) assert_close(what, c->dx, want->a.conv.dx, got->nx, TOLERANCE);
    assert_close(what, got->a.bn.save_mean, want->a.bn.save_mean, (size_t)c->m * c->cout,
                 TOLERANCE);
}

static void test_against_ref(void **state)
{
    const char *isa[MAX_ISA];
    int n = isa_list(isa);
    struct nn_backend *ref = backend_of("ref", 2), *fast[MAX_ISA];
    int first = 0;
    for (int i = 0; i < n; i++) fast[i] = backend_of(isa[i], 1);
    for (int i = 0; i < CASES; i++) {
        struct block want = odd_case(i), got = want;
        outputs(&want, ref, i % 8 != 7);
        run_ref(ref, &want);
        for (int f = 0; f < n; f++) {
            outputs(&got, fast[f], i % 8 != 7);
            first += block_is_first(&got.a);
            run_fused(fast[f], &got);
            compare(isa[f], &got, &want);
        }
        arrays_free();
    }
    assert_in_range(first, 8 * n, CASES * n);
    for (int i = 0; i < n; i++) backend_free(fast[i]);
    backend_free(ref);
}

static void assert_same(const struct block *a, const struct block *b)
{
    assert_same_bits("y", a->a.y, b->a.y, a->ny);
    assert_same_bits("statistics", a->a.conv.w, b->a.conv.w, a->np);
    assert_same_bits("dw", a->a.conv.dw, b->a.conv.dw, a->np);
    if (a->a.conv.dx) assert_same_bits("dx", a->a.conv.dx, b->a.conv.dx, a->nx);
}

static void test_threads(void **state)
{
    const char *isa[MAX_ISA];
    int n = isa_list(isa);
    for (int f = 0; f < 2 * n; f++) {
        const int ch[2] = {12, f < n ? 19 : 37};
        struct block one = make(2, 35, ch, 101, 3, 0, 3);
        one.a.relu = 1;
        one.no_dx = f >= n;
        struct block many = one;
        struct nn_backend *be = backend_of(isa[f % n], 1);
        outputs(&one, be, 1);
        run_fused(be, &one);
        backend_free(be);
        for (int threads = 2; threads <= 3; threads++) {
            be = backend_of(isa[f % n], threads);
            outputs(&many, be, 1);
            run_fused(be, &many);
            backend_free(be);
            assert_same(&many, &one);
        }
        arrays_free();
    }
}

/* Member m of `gang` as a block of its own; save is private to each call. */
static struct block member(const struct block *gang, int m, struct nn_backend *be)
{
    struct block s = *gang;
    struct nn_conv1d *c = &s.a.conv;
    struct nn_batchnorm *bn = &s.a.bn;
    size_t x = gang->nx / 3 * (size_t)m, y = gang->ny / 3 * (size_t)m, p = (size_t)(m * c->stride);
    c->m = bn->m = 1;
    c->x += x, c->w += p, c->dw += p;
    if (c->dx) c->dx += x;
    c->y += gang->nc / 3 * (size_t)m;
    bn->w += p, bn->bias += p, bn->running_mean += p, bn->running_var += p;
    bn->dw += p, bn->dbias += p;
    bn->save_mean += m * bn->c, bn->save_rstd += m * bn->c;
    s.a.y += y, s.a.dy += y;
    s.a.save = array_filled((size_t)be->ops->conv_block_save_floats(be, &s.a), 0);
    return s;
}

static void test_gang(void **state)
{
    const char *isa[MAX_ISA];
    int n = isa_list(isa);
    for (int f = 0; f < 2 * n; f++) {
        const int ch[2] = {7, f < n ? 10 : 40};
        struct block gang = make(3, 18, ch, 64, 5, 2, 2), alone;
        struct nn_backend *be = backend_of(isa[f % n], 2);
        gang.a.relu = 1;
        gang.no_dx = f >= n;
        alone = gang;
        outputs(&gang, be, 1);
        outputs(&alone, be, 1);
        run_fused(be, &gang);
        for (int m = 0; m < 3; m++) {
            struct block one = member(&alone, m, be);
            run_fused(be, &one);
        }
        assert_same(&gang, &alone);
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
