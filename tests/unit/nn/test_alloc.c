/* No training step allocates: from the second batch of an epoch to its last, no library on the way
 * calls malloc. The program's own malloc family counts the calls and hands them to glibc's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>

#include "cpu/train/backend.h"
#include "nn/train.h"
#include "tests/unit/nn/synthetic.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTED 0 /* the sanitizer has a malloc of its own */
#else
#define COUNTED 1
#endif

static atomic_long calls;

#if COUNTED
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

void *malloc(size_t n)
{
    atomic_fetch_add(&calls, 1);
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    atomic_fetch_add(&calls, 1);
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    atomic_fetch_add(&calls, 1);
    return __libc_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
    atomic_fetch_add(&calls, 1);
    return __libc_memalign(align, n);
}

int posix_memalign(void **p, size_t align, size_t n)
{
    atomic_fetch_add(&calls, 1);
    *p = __libc_memalign(align, n);
    return *p ? 0 : ENOMEM;
}
#endif

struct watch {
    long before; /* calls when the batch before ended */
    int batch, batches, inside;
    long grown; /* calls in steps */
};

/* Called once after each batch. The first steps of a run may size what the later ones use; behind the
 * last stands the epoch's validation, which sorts and writes. */
static int after_batch(void *arg, int member)
{
    struct watch *w = arg;
    long now = atomic_load(&calls);
    (void)member;
    if (w->batch > 1 && w->batch < w->batches - 1) {
        w->inside++;
        w->grown += now - w->before;
    }
    w->batch++;
    w->before = atomic_load(&calls);
    return 0;
}

static void train_net(const char *name, int leads, int samples, enum ecg_task task)
{
    struct synthetic s;
    struct nn_net *net;
    struct nn_backend *be;
    struct nn_recipe r;
    struct cn_error err;
    struct cpu_train_options opt = {.threads = 2};
    struct nn_shape shape = {leads, samples, 5};
    struct watch w = {.batches = (84 + 7) / 8}; /* 84 of the 120 records train */
    synthetic_make(&s, task, 120, leads, samples);
    assert_int_equal(cpu_train_create(&be, &opt, &err), 0);
    assert_int_equal(nn_net_build(&net, name, NULL, 0, shape, &err), 0);
    struct nn_train_member m = {.seed = 1};
    assert_int_equal(nn_model_create(&m.model, net, 1, &s.d, &err), 0);
    assert_int_equal(nn_recipe_named(&r, "cinch", name, &err), 0);
    r.epochs = 1;
    r.batch = 8;
    struct nn_train t = {.backend = be, .data = &s.d, .recipe = &r, .m = 1, .member = &m};
    t.events = (struct nn_train_events){.arg = &w, .poll = after_batch};
    assert_int_equal(nn_train_run(&t, &err), 0);
    print_message("%s: %ld allocations in %d steps\n", name, w.grown, w.inside);
    assert_int_equal(w.inside, w.batches - 3);
    if (COUNTED) {
        assert_true(calls > 0); /* the counter sees what creates the rest */
        assert_int_equal(w.grown, 0);
    }
    nn_model_destroy(m.model);
    be->ops->destroy(be);
    synthetic_free(&s);
}

static void a_step_allocates_nothing(void **state)
{
    (void)state;
    train_net("cnn", 12, 250, ECG_MULTI_LABEL);
    train_net("rnn", 12, 250, ECG_MULTI_LABEL);
    train_net("resnet", 12, 100, ECG_MULTI_LABEL);
    train_net("beat", 1, 260, ECG_ONE_LABEL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_step_allocates_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
