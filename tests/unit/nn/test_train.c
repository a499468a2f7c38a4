/* Tests of the training loop: it learns, and its bits do not depend on threads, neighbours, or on
 * being stopped and resumed; a diverged member ends alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cpu/train/backend.h"
#include "cpu/train/context.h"
#include "nn/checkpoint.h"
#include "nn/safetensors.h"
#include "nn/train.h"
#include "tests/unit/nn/synthetic.h"

#define SAMPLES 250

static struct synthetic ecg, beats;

static struct nn_backend *backend(int threads)
{
    struct nn_backend *be;
    struct cn_error err;
    struct cpu_train_options opt = {.threads = threads};
    assert_int_equal(cpu_train_create(&be, &opt, &err), 0);
    return be;
}

static struct nn_model *fresh(const char *net, uint64_t seed)
{
    static const int cnn[] = {4, 5, 6, 4}, rnn[] = {5}, resnet[] = {3, 4, 3, 5, 3, 4, 3, 4, 5};
    const int *width = NULL;
    int n = 0;
    struct nn_shape shape = {12, SAMPLES, 5};
    if (!strcmp(net, "cnn")) width = cnn, n = 4;
    if (!strcmp(net, "rnn")) width = rnn, n = 1;
    if (!strcmp(net, "resnet")) width = resnet, n = 9;
    if (!strcmp(net, "beat")) shape = (struct nn_shape){1, 260, 5};
    struct nn_net *built;
    struct nn_model *m;
    struct cn_error err;
    assert_int_equal(nn_net_build(&built, net, width, n, shape, &err), 0);
    assert_int_equal(nn_model_create(&m, built, seed, &ecg.d, &err), 0);
    return m;
}

/* Every feature that has a state of its own is on. */
static struct nn_recipe busy_recipe(const char *net, int epochs)
{
    struct nn_recipe r;
    struct cn_error err;
    assert_int_equal(nn_recipe_named(&r, "cinch", net, &err), 0);
    r.epochs = epochs;
    r.batch = 16;
    r.smooth = 0.02;
    r.aug_shift = 5;
    return r;
}

static struct nn_train_member member_of(const char *net, uint64_t seed)
{
    return (struct nn_train_member){.model = fresh(net, seed), .seed = seed};
}

static int run(struct nn_backend *be, const struct nn_recipe *r, struct nn_train_member *member,
               int m, const struct nn_train_events *events)
{
    struct nn_train t = {.backend = be, .recipe = r, .m = m, .member = member};
    struct cn_error err;
    t.data = member[0].model->net->n_leads == 1 ? &beats.d : &ecg.d;
    if (events) t.events = *events;
    return nn_train_run(&t, &err);
}

static void same_model(const struct nn_model *a, const struct nn_model *b)
{
    assert_memory_equal(a->params, b->params, a->net->n_floats * sizeof(float));
    assert_string_equal(a->meta, b->meta);
}

static void it_learns(void **state)
{
    static const char *const nets[] = {"cnn", "beat"};
    for (int k = 0; k < 2; k++) {
        struct nn_backend *be = backend(1);
        struct nn_train_member m = member_of(nets[k], 3);
        struct nn_recipe r;
        struct cn_error err;
        assert_int_equal(nn_recipe_named(&r, "paper", nets[k], &err), 0);
        r.optimiser = NN_ADAM;
        r.nesterov = 0;
        r.weight_decay = 0;
        r.epochs = 40;
        r.batch = 16;
        r.lr = 5e-3;
        assert_int_equal(run(be, &r, &m, 1, NULL), 0);
        print_message("%s: validation score %.4f\n", nets[k], m.best_score);
        assert_true(m.best_score > 0.8);
        assert_non_null(strstr(m.model->meta, "\"history\":[{\"epoch\":1,"));
        assert_non_null(strstr(m.model->meta, "\"seed\":\"3\""));
        nn_model_destroy(m.model);
        be->ops->destroy(be);
    }
}

static void threads_do_not_matter(void **state)
{
    static const char *const nets[] = {"cnn", "rnn", "resnet", "beat"};
    for (int k = 0; k < 4; k++) {
        struct nn_train_member m[3];
        struct nn_recipe r = busy_recipe(nets[k], 1);
        for (int threads = 1; threads <= 3; threads++) {
            struct nn_backend *be = backend(threads);
            m[threads - 1] = member_of(nets[k], 5);
            assert_int_equal(run(be, &r, &m[threads - 1], 1, NULL), 0);
            be->ops->destroy(be);
        }
        same_model(m[0].model, m[1].model);
        same_model(m[0].model, m[2].model);
        for (int i = 0; i < 3; i++) nn_model_destroy(m[i].model);
    }
}

struct job {
    struct nn_train_member m;
    struct nn_recipe recipe;
    int rc;
};

static void *job_run(void *arg)
{
    struct job *j = arg;
    struct nn_backend *be = backend(1);
    j->rc = run(be, &j->recipe, &j->m, 1, NULL);
    be->ops->destroy(be);
    return NULL;
}

/* Two jobs at once in one process, each as alone. */
static void neighbours_do_not_matter(void **state)
{
    static const char *const nets[] = {"cnn", "beat"};
    struct job both[2], alone[2];
    pthread_t thread;
    for (int i = 0; i < 2; i++) {
        both[i] = (struct job){member_of(nets[i], 6), busy_recipe(nets[i], 2), -1};
        alone[i] = (struct job){member_of(nets[i], 6), busy_recipe(nets[i], 2), -1};
        job_run(&alone[i]);
    }
    assert_int_equal(pthread_create(&thread, NULL, job_run, &both[1]), 0);
    job_run(&both[0]);
    pthread_join(thread, NULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(both[i].rc, 0);
        same_model(both[i].m.model, alone[i].m.model);
        nn_model_destroy(both[i].m.model);
        nn_model_destroy(alone[i].m.model);
    }
}

static int (*true_probability)(struct nn_backend *be, const struct nn_probability *a);
static int rows_judged;

static int count_probability(struct nn_backend *be, const struct nn_probability *a)
{
    rows_judged += a->rows;
    return true_probability(be, a);
}

/* Rows whose probabilities a training of that many epochs asks for. */
static int rows_asked(int epochs, const struct nn_model *teacher)
{
    struct nn_backend *be = backend(1);
    struct nn_recipe r = busy_recipe("cnn", epochs);
    struct nn_train_member m = member_of("cnn", 4);
    m.teacher = teacher;
    true_probability = be->ops->probability;
    cpu_train_of(be)->ops.probability = count_probability;
    rows_judged = 0;
    assert_int_equal(run(be, &r, &m, 1, NULL), 0);
    nn_model_destroy(m.model);
    be->ops->destroy(be);
    return rows_judged;
}

/* A teacher's probabilities are computed once for the whole training part, whatever the epochs. */
static void teachers_are_asked_once(void **state)
{
    struct nn_model *teacher = fresh("cnn", 77);
    int once = rows_asked(1, teacher) - rows_asked(1, NULL);
    assert_in_range(once, 64, 130);
    assert_int_equal(rows_asked(4, teacher) - rows_asked(4, NULL), once);
    nn_model_destroy(teacher);
}

/* A gang of three, one with a teacher and one with a mask, against each alone. */
static void gang_equals_singles(void **state)
{
    static const char *const nets[] = {"cnn", "rnn", "resnet", "beat"};
    struct nn_backend *be = backend(1);
    for (int k = 0; k < 4; k++) {
        struct nn_recipe r = busy_recipe(nets[k], 2);
        struct nn_model *teacher = fresh(nets[k], 77);
        float *mask = malloc(teacher->net->n_params * sizeof *mask);
        for (size_t i = 0; i < teacher->net->n_params; i++) mask[i] = i % 3 != 0;
        struct nn_train_member gang[3], single;
        for (int i = 0; i < 3; i++) gang[i] = member_of(nets[k], 10 + (uint64_t)i);
        gang[1].teacher = teacher;
        gang[2].mask = mask;
        assert_int_equal(run(be, &r, gang, 3, NULL), 0);
        for (int i = 0; i < 3; i++) {
            single = member_of(nets[k], 10 + (uint64_t)i);
            single.teacher = gang[i].teacher;
            single.mask = gang[i].mask;
            assert_int_equal(run(be, &r, &single, 1, NULL), 0);
            same_model(single.model, gang[i].model);
            for (size_t p = 0; gang[i].mask && p < teacher->net->n_params; p += 3)
                assert_true(gang[i].model->params[p] == 0);
            nn_model_destroy(single.model);
            nn_model_destroy(gang[i].model);
        }
        nn_model_destroy(teacher);
        free(mask);
    }
    be->ops->destroy(be);
}

/* Stops after a number of batches and keeps the checkpoint. */
struct stopper {
    int batches, after;
    void *data;
    size_t n;
};

static int stop_poll(void *arg, int m)
{
    struct stopper *s = arg;
    return ++s->batches == s->after;
}

static int stop_checkpoint(void *arg, int m, const void *data, size_t n)
{
    struct stopper *s = arg;
    free(s->data);
    s->data = malloc(n);
    memcpy(s->data, data, n);
    s->n = n;
    return 0;
}

static void resume_keeps_the_bits(void **state)
{
    struct nn_backend *be = backend(1);
    for (int optimiser = 0; optimiser < 2; optimiser++) {
        struct nn_recipe r = busy_recipe("cnn", 2);
        if (optimiser) { /* SGD has no second moment, plateau remembers */
            r.optimiser = NN_SGD;
            r.nesterov = 1;
            r.lr = 0.02;
            r.ema = 0;
            r.schedule = NN_PLATEAU;
            r.per_step = 0;
            r.period = 0;
        }
        struct nn_train_member whole = member_of("cnn", 8);
        assert_int_equal(run(be, &r, &whole, 1, NULL), 0);
        int after = 0, interrupted = 1;
        while (interrupted) { /* at every batch */
            struct stopper s = {.after = ++after};
            struct nn_train_events e = {&s, NULL, stop_checkpoint, 0, stop_poll};
            struct nn_train_member part = member_of("cnn", 8);
            int rc = run(be, &r, &part, 1, &e);
            nn_model_destroy(part.model);
            interrupted = rc == CN_EINTERRUPTED;
            if (!interrupted) {
                assert_int_equal(rc, 0);
                break;
            }
            assert_int_equal(s.batches, s.after);
            struct nn_train_member rest = member_of("cnn", 8);
            rest.resume = s.data;
            rest.resume_n = s.n;
            assert_int_equal(run(be, &r, &rest, 1, NULL), 0);
            same_model(whole.model, rest.model);
            free(s.data);
            nn_model_destroy(rest.model);
        }
        assert_in_range(after, 12, 20);
        nn_model_destroy(whole.model);
    }
    be->ops->destroy(be);
}

/* A checkpoint from one set of kernels goes on under another; sums differ in their last bits, the
 * course does not. */
static void checkpoints_travel(void **state)
{
    struct nn_backend *fast = backend(1), *ref;
    struct cpu_train_options opt = {.threads = 1, .isa = "ref"};
    struct nn_recipe r = busy_recipe("cnn", 3);
    struct stopper s = {.after = 9};
    struct nn_train_events e = {&s, NULL, stop_checkpoint, 0, stop_poll};
    struct nn_train_member whole = member_of("cnn", 8), part = member_of("cnn", 8);
    struct cn_error err;
    assert_int_equal(cpu_train_create(&ref, &opt, &err), 0);
    assert_int_equal(run(fast, &r, &whole, 1, NULL), 0);
    assert_int_equal(run(ref, &r, &part, 1, &e), CN_EINTERRUPTED);
    part.resume = s.data;
    part.resume_n = s.n;
    assert_int_equal(run(fast, &r, &part, 1, NULL), 0);
    double far = 0, size = 0;
    for (size_t i = 0; i < whole.model->net->n_params; i++) {
        far += pow(whole.model->params[i] - part.model->params[i], 2);
        size += pow(whole.model->params[i], 2);
    }
    assert_true(sqrt(far / size) < 1e-2);
    free(s.data);
    nn_model_destroy(whole.model);
    nn_model_destroy(part.model);
    fast->ops->destroy(fast);
    ref->ops->destroy(ref);
}

/* Checkpoints of other trainings and damaged ones are refused, and say why. */
static void checkpoints_are_checked(void **state)
{
    struct nn_backend *be = backend(1);
    struct nn_recipe r = busy_recipe("cnn", 2), other = r;
    struct stopper s = {.after = 2};
    struct nn_train_events e = {&s, NULL, stop_checkpoint, 0, stop_poll};
    struct nn_train_member m = member_of("cnn", 8);
    assert_int_equal(run(be, &r, &m, 1, &e), CN_EINTERRUPTED);
    m.resume = s.data;
    m.resume_n = s.n;
    other.lr *= 2;
    assert_int_equal(run(be, &other, &m, 1, NULL), CN_EINVALID);
    assert_non_null(strstr(m.error.text, "recipe"));
    m.seed = 9;
    assert_int_equal(run(be, &r, &m, 1, NULL), CN_EINVALID);
    assert_non_null(strstr(m.error.text, "seed"));
    m.seed = 8;
    for (size_t cut = 0; cut < s.n; cut += s.n / 50) {
        m.resume_n = cut;
        assert_int_equal(run(be, &r, &m, 1, NULL), CN_ECORRUPT);
    }
    m.resume_n = s.n;
    for (size_t back = 4; back < s.n / 2; back += s.n / 16 / 4 * 4) { /* a number's lowest bit */
        ((char *)s.data)[s.n - back] ^= 1;
        assert_int_equal(run(be, &r, &m, 1, NULL), CN_ECORRUPT);
        assert_non_null(strstr(m.error.text, "damaged"));
        ((char *)s.data)[s.n - back] ^= 1;
    }
    free(s.data);
    nn_model_destroy(m.model);
    be->ops->destroy(be);
}

/* The checkpoint that fuzzing starts from is one, of the training that fuzz_model.c names. */
static void fuzz_seed_is_valid(void **state)
{
    static const int width[] = {2, 1, 2, 1};
    static const struct cn_hash fingerprint;
    struct nn_net *net;
    struct nn_state s;
    struct nn_recipe r = {.epochs = 3, .lr = 1e-3};
    struct cn_error err;
    char *data;
    size_t n;
    assert_int_equal(
        cn_file_read(CINCH_SOURCE_DIR "/tests/fuzz/nn/corpus/checkpoint", 1 << 20, &data, &n, &err),
        0);
    assert_int_equal(nn_net_build(&net, "cnn", width, 4, (struct nn_shape){0}, &err), 0);
    assert_int_equal(nn_state_create(&s, net, &r, &err), 0);
    struct nn_identity id = {net, "{}", 7, 10, &fingerprint, NULL, NULL};
    int rc = nn_checkpoint_read(&s, &id, 3, data, n, &err);
    if (rc) fail_msg("%s", err.text);
    assert_true(s.epoch == 1 && s.batch == 2 && s.step == 9 && isnan(s.history[0].val_score));
    nn_state_free(&s);
    nn_net_destroy(net);
    free(data);
}

/* Members that come back from different places still end with the bits of undisturbed ones. */
static void gang_resumed_apart(void **state)
{
    struct nn_backend *be = backend(1);
    struct nn_recipe r = busy_recipe("beat", 2);
    struct nn_train_member m[2], alone;
    struct stopper s = {.after = 5};
    struct nn_train_events e = {&s, NULL, stop_checkpoint, 0, stop_poll};
    alone = member_of("beat", 21);
    m[0] = member_of("beat", 20);
    m[1] = member_of("beat", 21);
    assert_int_equal(run(be, &r, &m[1], 1, &e), CN_EINTERRUPTED);
    m[1].resume = s.data;
    m[1].resume_n = s.n;
    assert_int_equal(run(be, &r, m, 2, NULL), 0);
    assert_int_equal(run(be, &r, &alone, 1, NULL), 0);
    same_model(alone.model, m[1].model);
    free(s.data);
    nn_model_destroy(alone.model);
    nn_model_destroy(m[0].model);
    nn_model_destroy(m[1].model);
    be->ops->destroy(be);
}

/* A checkpoint's bytes hold numbers alone. */
static void assert_finite(const void *data, size_t n)
{
    struct nn_st *st;
    struct cn_error err;
    assert_non_null(data);
    assert_int_equal(nn_st_parse(&st, "checkpoint", data, n, &err), 0);
    const struct nn_st_tensor *w = nn_st_find(st, "params");
    assert_non_null(w);
    for (size_t i = 0; i < w->count; i++) {
        float v;
        memcpy(&v, (const char *)w->data + i * sizeof v, sizeof v);
        assert_true(isfinite(v));
    }
    nn_st_destroy(st);
}

/* One member's weights blow up: it ends with epoch and batch, its neighbour does not notice, and no
 * checkpoint holds what is not finite. */
static void divergence_is_named(void **state)
{
    struct nn_backend *be = backend(1);
    struct nn_recipe r = busy_recipe("cnn", 1);
    struct nn_train_member m[2] = {member_of("cnn", 1), member_of("cnn", 2)};
    struct nn_train_member alone = member_of("cnn", 2);
    m[0].model->params[3] = INFINITY;
    assert_int_equal(run(be, &r, m, 2, NULL), CN_EDIVERGED);
    assert_int_equal(m[0].result, CN_EDIVERGED);
    assert_non_null(strstr(m[0].error.text, "epoch 1, batch 1"));
    assert_int_equal(m[1].result, 0);
    assert_int_equal(run(be, &r, &alone, 1, NULL), 0);
    same_model(alone.model, m[1].model);
    nn_model_destroy(alone.model);
    nn_model_destroy(m[0].model);
    nn_model_destroy(m[1].model);

    /* a rate that is far too large: finite at first, then not; the last good checkpoint stays */
    struct stopper s = {.after = 1 << 20};
    struct nn_train_events e = {&s, NULL, stop_checkpoint, -1, stop_poll};
    r = busy_recipe("cnn", 60);
    r.optimiser = NN_SGD;
    r.schedule = NN_CONSTANT;
    r.per_step = 0;
    r.lr = 10; /* the last step of an epoch spoils the weights: its own loss was finite */
    r.clip = 0;
    r.weight_decay = 0.3;
    struct nn_train_member wild = member_of("cnn", 1);
    assert_int_equal(run(be, &r, &wild, 1, &e), CN_EDIVERGED);
    assert_non_null(strstr(wild.error.text, "epoch"));
    assert_non_null(strstr(wild.error.text, "batch"));
    assert_null(strstr(wild.error.text, "epoch 1,"));
    assert_finite(s.data, s.n);
    free(s.data);
    nn_model_destroy(wild.model);
    be->ops->destroy(be);
}

static int cancel_first(void *arg, int m)
{
    return m == 0 ? 2 : 0;
}

static void a_member_may_leave(void **state)
{
    struct nn_backend *be = backend(1);
    struct nn_recipe r = busy_recipe("cnn", 1);
    struct nn_train_events e = {.poll = cancel_first};
    struct nn_train_member m[2] = {member_of("cnn", 1), member_of("cnn", 2)};
    struct nn_train_member alone = member_of("cnn", 2);
    assert_int_equal(run(be, &r, m, 2, &e), CN_ECANCELLED);
    assert_int_equal(m[0].result, CN_ECANCELLED);
    assert_int_equal(m[1].result, 0);
    assert_int_equal(run(be, &r, &alone, 1, NULL), 0);
    same_model(alone.model, m[1].model);
    nn_model_destroy(alone.model);
    nn_model_destroy(m[0].model);
    nn_model_destroy(m[1].model);
    be->ops->destroy(be);
}

static void wrong_shapes_are_refused(void **state)
{
    struct nn_backend *be = backend(1);
    struct nn_recipe r = busy_recipe("cnn", 1);
    struct nn_train_member m = member_of("cnn", 1);
    struct nn_train t = {.backend = be, .recipe = &r, .m = 1, .member = &m, .data = &beats.d};
    struct cn_error err;
    assert_int_equal(nn_train_run(&t, &err), CN_EINVALID);
    assert_non_null(strstr(err.text, "12 leads of 250 samples"));
    nn_model_destroy(m.model);
    m = member_of("beat", 1);
    struct ecg_dataset multi = beats.d;
    multi.task = ECG_MULTI_LABEL;
    t.data = &multi;
    assert_int_equal(nn_train_run(&t, &err), CN_EINVALID);
    nn_model_destroy(m.model);
    be->ops->destroy(be);
}

/* Zero epochs: the initialised net comes back, with a meta. */
static void zero_epochs(void **state)
{
    struct nn_backend *be = backend(1);
    struct nn_recipe r = busy_recipe("cnn", 0);
    struct nn_train_member m = member_of("cnn", 1);
    struct nn_model *same = fresh("cnn", 1);
    assert_int_equal(run(be, &r, &m, 1, NULL), 0);
    assert_memory_equal(same->params, m.model->params, same->net->n_floats * sizeof(float));
    assert_int_equal(m.best_epoch, 0);
    nn_model_destroy(same);
    nn_model_destroy(m.model);
    be->ops->destroy(be);
}

/* Without validation records the last epoch's weights are kept; with labels that one class is missing
 * from, the score is undefined and the validation loss decides. */
static void odd_validation_parts(void **state)
{
    struct nn_backend *be = backend(1);
    struct nn_recipe r = busy_recipe("cnn", 2);
    uint8_t part[130], y[130 * 5];
    struct ecg_dataset d = ecg.d;
    struct nn_train_member m = member_of("cnn", 1);
    struct nn_train t = {.backend = be, .recipe = &r, .m = 1, .member = &m, .data = &d};
    struct cn_error err;
    for (int i = 0; i < 130; i++) part[i] = ecg.part[i] == ECG_VALIDATION ? ECG_TEST : ecg.part[i];
    d.part = part;
    assert_int_equal(nn_train_run(&t, &err), 0);
    assert_true(m.best_epoch == 2 && isnan(m.best_score));
    assert_non_null(strstr(m.model->meta, "\"val_loss\":null"));
    nn_model_destroy(m.model);

    m = member_of("cnn", 1);
    memcpy(y, ecg.y, sizeof y);
    for (int i = 0; i < 130; i++)
        for (int l = 0; l < 5 && ecg.part[i] == ECG_VALIDATION; l++) y[i * 5 + l] = 0;
    d.part = ecg.part;
    d.y = y;
    assert_int_equal(nn_train_run(&t, &err), 0);
    assert_true(m.best_epoch >= 1 && isnan(m.best_score));
    nn_model_destroy(m.model);

    memset(part, ECG_TEST, sizeof part);
    d.part = part;
    m = member_of("cnn", 1);
    assert_int_equal(nn_train_run(&t, &err), CN_EINVALID);
    assert_non_null(strstr(err.text, "no training records"));
    nn_model_destroy(m.model);
    be->ops->destroy(be);
}

static int make_data(void **state)
{
    synthetic_make(&ecg, ECG_MULTI_LABEL, 130, 12, SAMPLES);
    synthetic_make(&beats, ECG_ONE_LABEL, 130, 1, 260);
    return 0;
}

static int free_data(void **state)
{
    synthetic_free(&ecg);
    synthetic_free(&beats);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_learns),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(neighbours_do_not_matter),
        cmocka_unit_test(teachers_are_asked_once),
        cmocka_unit_test(gang_equals_singles),
        cmocka_unit_test(resume_keeps_the_bits),
        cmocka_unit_test(checkpoints_travel),
        cmocka_unit_test(checkpoints_are_checked),
        cmocka_unit_test(fuzz_seed_is_valid),
        cmocka_unit_test(gang_resumed_apart),
        cmocka_unit_test(divergence_is_named),
        cmocka_unit_test(a_member_may_leave),
        cmocka_unit_test(wrong_shapes_are_refused),
        cmocka_unit_test(zero_epochs),
        cmocka_unit_test(odd_validation_parts),
    };
    return cmocka_run_group_tests(tests, make_data, free_data);
}
