/* nn_train_run on the GPU backend against the same training on the CPU: a checkpoint of either goes
 * on on the other, in the same layout of bytes and on the same course; a dataset in half precision
 * changes the course by its rounding alone; two ranks train what one does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/train.h"
#include "tests/gpu/pair.h"
#include "tests/unit/nn/synthetic.h"

enum { RANKS = 2, EPOCHS = 2, RECORDS = 16, SAMPLES = 170, BATCH = 4 };

static struct synthetic ecg;
static int devices;
static int (*nccl_id)(void *, struct cn_error *); /* NULL: no NCCL */

struct course {     /* what a training went through */
    int stop_after; /* this epoch; 0: to the end */
    int epochs;     /* ended so far */
    double train_loss[EPOCHS], val_loss[EPOCHS];
    void *checkpoint;
    size_t n;
};

static int on_poll(void *arg, int member)
{
    struct course *c = arg;
    return c->stop_after && c->epochs == c->stop_after;
}

static int on_checkpoint(void *arg, int member, const void *data, size_t n)
{
    struct course *c = arg;
    free(c->checkpoint);
    c->checkpoint = malloc(n);
    c->n = n;
    memcpy(c->checkpoint, data, n);
    return 0;
}

static void on_progress(void *arg, int member, const struct nn_epoch *e)
{
    struct course *c = arg;
    if (!e->epoch_done) return;
    c->epochs = e->epoch;
    c->train_loss[e->epoch - 1] = e->train_loss;
    c->val_loss[e->epoch - 1] = e->val_loss;
}

static struct nn_model *fresh(const char *net)
{
    static const int cnn[] = {4, 5, 6, 4}, rnn[] = {5};
    struct nn_net *built;
    struct nn_model *m;
    struct cn_error err;
    int is_cnn = !strcmp(net, "cnn");
    struct nn_shape shape = {12, SAMPLES, 5};
    if (nn_net_build(&built, net, is_cnn ? cnn : rnn, is_cnn ? 4 : 1, shape, &err) ||
        nn_model_create(&m, built, 8, &ecg.d, &err))
        fail_msg("%s", err.text);
    return m;
}

/* Everything that has a state of its own is on: moments, average, schedule, augmentation. */
static struct nn_recipe recipe_of(const char *net)
{
    struct nn_recipe r;
    struct cn_error err;
    assert_int_equal(nn_recipe_named(&r, "cinch", net, &err), 0);
    r.epochs = EPOCHS;
    r.batch = BATCH;
    r.aug_shift = 5;
    return r;
}

/* Trains on `be`, from `from`'s checkpoint where there is one. `c` NULL: no events. */
static struct nn_model *train_on(struct nn_backend *be, const char *net, const struct course *from,
                                 struct course *c, int *rc, struct cn_error *err)
{
    struct nn_recipe r = recipe_of(net);
    struct nn_train_member m = {.model = fresh(net), .seed = 8};
    struct nn_train t = {.backend = be, .data = &ecg.d, .recipe = &r, .m = 1};
    if (from) {
        m.resume = from->checkpoint;
        m.resume_n = from->n;
    }
    t.member = &m;
    if (c) t.events = (struct nn_train_events){c, on_progress, on_checkpoint, -1, on_poll};
    *rc = nn_train_run(&t, err);
    return m.model;
}

static struct nn_model *train(int where, const char *net, const struct course *from,
                              struct course *c)
{
    struct cn_error err = {0};
    int rc;
    struct nn_model *m = train_on(pair_be[where], net, from, c, &rc, &err);
    if (rc && rc != CN_EINTERRUPTED) fail_msg("%s on %s: %s", net, where ? "gpu" : "cpu", err.text);
    assert_int_equal(rc, c->stop_after ? CN_EINTERRUPTED : 0);
    return m;
}

static void near(double a, double b, double bound, const char *what)
{
    if (!(fabs(a - b) <= bound * fabs(b))) fail_msg("%s: %.9g, expected %.9g", what, a, b);
}

/* Relative distance of all floats of two checkpoints of one layout: weights, moments, averages. */
static double distance(const struct course *a, const struct course *b)
{
    double far = 0, size = 0;
    uint64_t na, nb;
    memcpy(&na, a->checkpoint, sizeof na);
    memcpy(&nb, b->checkpoint, sizeof nb);
    size_t n = (a->n - 8 - na) / sizeof(float);
    assert_int_equal(n, (b->n - 8 - nb) / sizeof(float));
    for (size_t i = 0; i < n; i++) {
        float x, y;
        memcpy(&x, (char *)a->checkpoint + 8 + na + i * sizeof x, sizeof x);
        memcpy(&y, (char *)b->checkpoint + 8 + nb + i * sizeof y, sizeof y);
        far += pow((double)x - y, 2);
        size += pow(y, 2);
    }
    return sqrt(far / size);
}

/* The header without its metadata: names, types, shapes and offsets of all tensors, and their order.
 * Cut out by hand: the test must not read with the code that wrote. */
static char *layout(const struct course *c)
{
    uint64_t n;
    memcpy(&n, c->checkpoint, sizeof n);
    assert_true(n < c->n);
    char *text = strndup((char *)c->checkpoint + sizeof n, n);
    char *meta = strstr(text, "\"__metadata__\":{"), *end = meta ? strstr(meta, "},\"") : NULL;
    assert_non_null(end);
    memmove(meta, end + 2, strlen(end + 2) + 1);
    for (size_t i = strlen(text); i && text[i - 1] == ' '; i--) text[i - 1] = 0; /* padding */
    return text;
}

static void travels(const char *net)
{
    struct course whole = {0}, part[BOTH], rest[BOTH];
    struct nn_model *reference = train(CPU, net, NULL, &whole), *half, *end;
    for (int i = 0; i < BOTH; i++) {
        /* history and best weights are in it; the GPU replays its captured step by then */
        part[i] = (struct course){.stop_after = 1};
        half = train(i, net, NULL, &part[i]);
        nn_model_destroy(half);
    }
    char *a = layout(&part[CPU]), *b = layout(&part[GPU]);
    assert_string_equal(a, b);
    assert_non_null(strstr(a, "moment1"));
    for (int i = 0; i < BOTH; i++) {
        rest[i] = (struct course){0};
        end = train(!i, net, &part[i], &rest[i]);
        near(part[i].train_loss[0], whole.train_loss[0], 1e-4, "loss of the first epoch");
        near(rest[i].train_loss[1], whole.train_loss[1], 1e-3, "loss of the resumed epoch");
        near(rest[i].val_loss[1], whole.val_loss[1], 1e-3, "validation loss of the resumed epoch");
        double far = distance(&rest[i], &whole);
        print_message("%s, begun on the %s: states differ by %.1e\n", net, i ? "GPU" : "CPU", far);
        assert_true(far > 0 && far < 1e-4); /* 0 would mean that nothing changed hands */
        nn_model_destroy(end);
        free(rest[i].checkpoint);
    }
    free(a);
    free(b);
    free(part[CPU].checkpoint);
    free(part[GPU].checkpoint);
    free(whole.checkpoint);
    nn_model_destroy(reference);
}

static void checkpoints_travel(void **state)
{
    travels("cnn");
    travels("rnn");
}

/* Stopped and resumed on the card itself: the bits of an undisturbed run. */
static void resume_keeps_the_bits(void **state)
{
    struct course whole = {0}, part = {.stop_after = 1}, rest = {0};
    struct nn_model *a = train(GPU, "cnn", NULL, &whole), *half = train(GPU, "cnn", NULL, &part);
    struct nn_model *b = train(GPU, "cnn", &part, &rest);
    assert_memory_equal(a->params, b->params, a->net->n_floats * sizeof(float));
    assert_string_equal(a->meta, b->meta);
    nn_model_destroy(a);
    nn_model_destroy(b);
    nn_model_destroy(half);
    assert_memory_equal(whole.checkpoint, rest.checkpoint, whole.n);
    free(whole.checkpoint);
    free(part.checkpoint);
    free(rest.checkpoint);
}

/* Rounding the records to 11 bits is seen, and is small. */
static void half_precision_data_is_near(void **state)
{
    struct course full = {0}, half = {0};
    nn_model_destroy(train(GPU, "cnn", NULL, &full));
    setenv("CINCH_GPU_DATA", "fp16", 1);
    nn_model_destroy(train(GPU, "cnn", NULL, &half));
    unsetenv("CINCH_GPU_DATA");
    for (int e = 0; e < EPOCHS; e++) near(half.train_loss[e], full.train_loss[e], 1e-3, "loss");
    double far = distance(&half, &full);
    print_message("records in half precision: states differ by %.1e\n", far);
    assert_true(far > 1e-6 && far < 5e-3);
    free(full.checkpoint);
    free(half.checkpoint);
}

struct rank {
    struct cinch_gpu_options opt;
    const char *net;
    const struct course *from;
    struct course course;
    int rc;
    struct cn_error error;
    struct nn_model *model;
    pthread_t thread;
};

static void *run_rank(void *arg)
{
    struct rank *r = arg;
    struct nn_backend *be;
    r->rc = pair_gpu_create(&be, &r->opt, &r->error);
    if (r->rc) return NULL;
    struct course *c = r->opt.rank == 0 ? &r->course : NULL;
    r->model = train_on(be, r->net, r->from, c, &r->rc, &r->error);
    be->ops->destroy(be);
    return NULL;
}

static void run_ranks(struct rank r[RANKS], const char *net, int stop_after,
                      const struct course *from)
{
    static char id[128];
    struct cn_error err;
    if (nccl_id(id, &err)) fail_msg("%s", err.text);
    for (int i = 0; i < RANKS; i++) {
        r[i] = (struct rank){.net = net, .from = from, .course.stop_after = stop_after};
        r[i].opt = (struct cinch_gpu_options){.device = i, .engine = CINCH_ENGINE_NATIVE};
        r[i].opt.ranks = RANKS;
        r[i].opt.rank = i;
        r[i].opt.nccl_id = id;
        r[i].opt.sync_batchnorm = 1;
        pthread_create(&r[i].thread, NULL, run_rank, &r[i]);
    }
    for (int i = 0; i < RANKS; i++) pthread_join(r[i].thread, NULL);
    for (int i = 0; i < RANKS; i++)
        if (r[i].rc != (stop_after ? CN_EINTERRUPTED : 0))
            fail_msg("rank %d: %s", i, r[i].error.text);
    size_t bytes = r[0].model->net->n_floats * sizeof(float);
    assert_memory_equal(r[0].model->params, r[1].model->params, bytes);
    nn_model_destroy(r[1].model);
}

/* Two ranks train what one does: batches of 4 are shared, the epoch's last of 3 is run by both;
 * mixup pairs rows of different ranks; BatchNorm is synchronised. */
static void ranks_train_what_one_does(void **state)
{
    struct course one = {0};
    struct rank two[RANKS], half[RANKS], rest[RANKS];
    if (devices < RANKS || !nccl_id) {
        print_message("skipped: needs %d GPUs and NCCL\n", RANKS);
        skip();
    }
    nn_model_destroy(train(CPU, "cnn", NULL, &one));
    run_ranks(two, "cnn", 0, NULL);
    for (int e = 0; e < EPOCHS; e++) {
        near(two[0].course.train_loss[e], one.train_loss[e], 1e-4, "loss of two ranks");
        near(two[0].course.val_loss[e], one.val_loss[e], 1e-4, "validation loss of two ranks");
    }
    double far = distance(&two[0].course, &one);
    print_message("two ranks and one: states differ by %.1e\n", far);
    assert_true(far < 1e-4);
    run_ranks(half, "cnn", 1, NULL); /* stopped and resumed: the bits of an undisturbed run */
    run_ranks(rest, "cnn", 0, &half[0].course);
    assert_int_equal(rest[0].course.n, two[0].course.n);
    assert_memory_equal(rest[0].course.checkpoint, two[0].course.checkpoint, two[0].course.n);
    struct rank *all[] = {two, half, rest};
    for (int i = 0; i < 3; i++) {
        nn_model_destroy(all[i][0].model);
        free(all[i][0].course.checkpoint);
    }
    free(one.checkpoint);
}

static void find_ranks(void)
{
    struct cn_error err;
    void *lib = dlopen(CINCH_BINARY_DIR "/bin/cinch-gpu.so", RTLD_NOW | RTLD_LOCAL);
    int (*count)(int *, struct cn_error *) = NULL;
    char id[128];
    *(void **)&count = lib ? dlsym(lib, "cinch_gpu_count") : NULL;
    *(void **)&nccl_id = lib ? dlsym(lib, "cinch_gpu_nccl_id") : NULL;
    if (!count || count(&devices, &err)) devices = 0;
    if (nccl_id && nccl_id(id, &err)) nccl_id = NULL;
}

int main(void)
{
    int rc = pair_open();
    if (rc) return rc;
    find_ranks();
    synthetic_make(&ecg, ECG_MULTI_LABEL, RECORDS, 12, SAMPLES);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checkpoints_travel),
        cmocka_unit_test(resume_keeps_the_bits),
        cmocka_unit_test(half_precision_data_is_near),
        cmocka_unit_test(ranks_train_what_one_does),
    };
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    pair_close();
    synthetic_free(&ecg);
    return rc;
}
