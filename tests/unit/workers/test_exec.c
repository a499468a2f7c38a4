/* Tests of the executors without any socket: what they produce from a spec, that a gang, a stop and
 * a resume change no bit, and that bad specs and inputs fail with a reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cpu/rt/cinchrt.h"
#include "cpu/train/backend.h"
#include "nn/prune.h"
#include "nn/recipe.h"
#include "tests/unit/nn/synthetic.h"
#include "workers/exec.h"

static struct synthetic ecg, beats;
static const struct ecg_dataset *records = &ecg.d; /* of the jobs to come */
static char folder[64];
static struct nn_backend *be;

/* A spec that owns nothing: everything lies in the fixture. */
struct fixture {
    Cinch__JobBase base;
    Cinch__JobSpec spec;
    uint32_t width[4];
    char *allocator[1];
    char *recipe;
};

static void fixture_init(struct fixture *f, Cinch__JobKind kind, uint64_t seed)
{
    struct nn_recipe r;
    cinch__job_base__init(&f->base);
    cinch__job_spec__init(&f->spec);
    assert_int_equal(nn_recipe_named(&r, "paper", "cnn", NULL), 0);
    r.epochs = 2;
    r.batch = 16;
    f->recipe = nn_recipe_json(&r);
    memcpy(f->width, (uint32_t[]){8, 6, 10, 5}, sizeof f->width);
    f->base.net = (char *)"cnn";
    f->base.widths = f->width;
    f->base.n_widths = 4;
    f->base.recipe = f->recipe;
    f->base.quantize_mode = (char *)"full";
    f->base.calibration = 16;
    f->spec.common = &f->base;
    f->spec.kind = kind;
    f->spec.seed = seed;
    f->spec.norm = (char *)"";
    f->spec.keep = 1;
}

static void give(struct exec_job *job, const char *role, const struct exec_blob *from)
{
    struct exec_blob *b = &job->in[job->n_in++];
    snprintf(b->role, sizeof b->role, "%s", role);
    b->data = malloc(from->n);
    b->n = from->n;
    memcpy(b->data, from->data, from->n);
}

/* What the surroundings of an executor saw. */
struct seen {
    int polls, stop_at, answer; /* the poll of number stop_at answers `answer` from then on */
    int epochs[NN_MAX_GANG];
    struct exec_blob checkpoint;
    char stages[512];
};

static void on_progress(void *arg, int member, const struct exec_progress *p)
{
    struct seen *s = arg;
    s->epochs[member] += p->epoch_done;
    if (!strstr(s->stages, p->stage))
        snprintf(s->stages + strlen(s->stages), sizeof s->stages - strlen(s->stages), "%s,",
                 p->stage);
}

static int on_checkpoint(void *arg, int member, const void *data, size_t n)
{
    struct seen *s = arg;
    free(s->checkpoint.data);
    s->checkpoint.data = malloc(n);
    s->checkpoint.n = n;
    memcpy(s->checkpoint.data, data, n);
    return 0;
}

static int on_poll(void *arg, int member)
{
    struct seen *s = arg;
    s->polls++;
    return s->stop_at && s->polls >= s->stop_at ? s->answer : 0;
}

static void run(struct exec_job *job, int n, struct seen *s)
{
    struct exec_unit u = {.n = n,
                          .job = job,
                          .data = records,
                          .backend = be,
                          .events = {s, on_progress, on_checkpoint, on_poll},
                          .checkpoint_every_s = 1000,
                          .core = -1,
                          .scratch = folder};
    exec_run(&u);
}

static void must(const struct exec_job *job)
{
    if (job->code) fail_msg("%s", job->error.text);
}

static void same_output(const struct exec_job *a, const struct exec_job *b)
{
    assert_int_equal(a->n_out, 1);
    assert_int_equal(b->n_out, 1);
    assert_int_equal(a->out[0].n, b->out[0].n);
    assert_memory_equal(a->out[0].data, b->out[0].data, a->out[0].n);
}

/* One undisturbed training; the caller clears the job. */
static void train(struct fixture *f, uint64_t seed, struct exec_job *job)
{
    struct seen s = {0};
    fixture_init(f, CINCH__JOB_KIND__TRAIN, seed);
    *job = (struct exec_job){.spec = &f->spec};
    run(job, 1, &s);
    must(job);
    assert_int_equal(s.epochs[0], 2);
}

static void training_gives_a_model_and_its_figures(void **state)
{
    struct fixture f;
    struct exec_job job;
    train(&f, 3, &job);
    assert_string_equal(job.out[0].role, "model");
    struct nn_model *m;
    assert_int_equal(nn_model_parse(&m, "out", job.out[0].data, job.out[0].n, NULL), 0);
    assert_int_equal(m->net->width[2], 10);
    json_t *o = json_loads(job.metrics, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(o, "params")), m->net->n_params);
    assert_int_equal(json_integer_value(json_object_get(o, "epochs")), 2);
    assert_true(json_real_value(json_object_get(o, "best_score")) > 0);
    assert_float_equal(json_real_value(json_object_get(o, "kept")), 1, 0);
    json_decref(o);
    nn_model_destroy(m);
    exec_job_clear(&job);
    free(f.recipe);
}

static void a_stop_and_a_resume_change_no_bit(void **state)
{
    struct fixture f, g;
    struct exec_job whole, first, second;
    train(&f, 4, &whole);
    struct seen s = {.stop_at = 5, .answer = 1};
    fixture_init(&g, CINCH__JOB_KIND__TRAIN, 4);
    first = (struct exec_job){.spec = &g.spec};
    run(&first, 1, &s);
    assert_int_equal(first.code, CN_EINTERRUPTED);
    assert_non_null(s.checkpoint.data);
    assert_int_equal(first.n_out, 0);
    second =
        (struct exec_job){.spec = &g.spec, .resume = s.checkpoint.data, .resume_n = s.checkpoint.n};
    struct seen none = {0};
    run(&second, 1, &none);
    must(&second);
    same_output(&whole, &second);
    exec_job_clear(&whole);
    exec_job_clear(&first);
    exec_job_clear(&second);
    free(f.recipe);
    free(g.recipe);
}

/* A checkpoint that is damaged, or of another seed, costs the time that it would have saved, no bit and no job. */
static void a_checkpoint_of_another_is_left_out(void **state)
{
    struct fixture f, g;
    struct exec_job whole, first, second;
    train(&f, 4, &whole);
    for (int damaged = 0; damaged < 2; damaged++) {
        struct seen s = {.stop_at = 5, .answer = 1}, none = {0};
        fixture_init(&g, CINCH__JOB_KIND__TRAIN, damaged ? 4 : 44);
        first = (struct exec_job){.spec = &g.spec};
        run(&first, 1, &s);
        assert_int_equal(first.code, CN_EINTERRUPTED);
        if (damaged) s.checkpoint.n /= 2;
        second = (struct exec_job){
            .spec = &f.spec, .resume = s.checkpoint.data, .resume_n = s.checkpoint.n};
        run(&second, 1, &none);
        must(&second);
        same_output(&whole, &second);
        exec_job_clear(&first);
        exec_job_clear(&second);
        free(g.recipe);
    }
    exec_job_clear(&whole);
    free(f.recipe);
}

static void a_dropped_job_leaves_without_a_trace(void **state)
{
    struct fixture f;
    struct seen s = {.stop_at = 3, .answer = 2};
    fixture_init(&f, CINCH__JOB_KIND__TRAIN, 5);
    struct exec_job job = {.spec = &f.spec};
    run(&job, 1, &s);
    assert_int_equal(job.code, CN_ECANCELLED);
    assert_int_equal(job.n_out, 0);
    assert_null(s.checkpoint.data);
    exec_job_clear(&job);
    free(f.recipe);
}

static void a_gang_has_the_bits_of_its_members_alone(void **state)
{
    struct fixture f[3], g[3];
    struct exec_job alone[3], gang[3];
    struct seen s = {0};
    for (int i = 0; i < 3; i++) {
        train(&f[i], (uint64_t)(10 + i), &alone[i]);
        fixture_init(&g[i], CINCH__JOB_KIND__TRAIN, (uint64_t)(10 + i));
        gang[i] = (struct exec_job){.spec = &g[i].spec};
    }
    run(gang, 3, &s);
    for (int i = 0; i < 3; i++) {
        must(&gang[i]);
        same_output(&alone[i], &gang[i]);
        assert_int_equal(s.epochs[i], 2);
        exec_job_clear(&alone[i]);
        exec_job_clear(&gang[i]);
        free(f[i].recipe);
        free(g[i].recipe);
    }
}

/* A member whose input is missing fails alone; the others are trained. */
static void a_bad_member_fails_alone(void **state)
{
    struct fixture f[2], h;
    struct exec_job gang[2], alone;
    struct seen s = {0};
    train(&h, 21, &alone);
    for (int i = 0; i < 2; i++) fixture_init(&f[i], CINCH__JOB_KIND__TRAIN, (uint64_t)(20 + i));
    f[0].spec.kind = CINCH__JOB_KIND__DISTILL;
    f[0].spec.distilled = 1;
    for (int i = 0; i < 2; i++) gang[i] = (struct exec_job){.spec = &f[i].spec};
    run(gang, 2, &s);
    assert_int_equal(gang[0].code, CN_EINVALID);
    assert_non_null(strstr(gang[0].error.text, "teacher"));
    must(&gang[1]);
    same_output(&alone, &gang[1]);
    for (int i = 0; i < 2; i++) {
        exec_job_clear(&gang[i]);
        free(f[i].recipe);
    }
    exec_job_clear(&alone);
    free(h.recipe);
}

static void a_teacher_changes_the_student(void **state)
{
    struct fixture f, g;
    struct exec_job teacher, student;
    struct seen s = {0};
    train(&f, 30, &teacher);
    fixture_init(&g, CINCH__JOB_KIND__DISTILL, 30);
    g.spec.distilled = 1;
    student = (struct exec_job){.spec = &g.spec};
    give(&student, "teacher", &teacher.out[0]);
    run(&student, 1, &s);
    must(&student);
    assert_true(memcmp(student.out[0].data, teacher.out[0].data, student.out[0].n) != 0);
    exec_job_clear(&teacher);
    exec_job_clear(&student);
    free(f.recipe);
    free(g.recipe);
}

/* Round `round` of 2 towards one half, from the model `from`; the caller clears *job. */
static void prune(struct fixture *g, const char *norm, int round, const struct exec_blob *from,
                  struct exec_job *job)
{
    struct seen s = {0};
    fixture_init(g, CINCH__JOB_KIND__PRUNE, 40);
    g->spec.norm = (char *)norm;
    g->spec.keep = 0.5;
    g->spec.rounds = 2;
    g->spec.round = (uint32_t)round;
    *job = (struct exec_job){.spec = &g->spec};
    give(job, "model", from);
    run(job, 1, &s);
    must(job);
    json_t *o = json_loads(job->metrics, 0, NULL), *w = json_object_get(o, "widths");
    for (int i = 0; i < 4; i++)
        assert_int_equal(json_integer_value(json_array_get(w, (size_t)i)),
                         nn_prune_keep((int)g->width[i], 0.5, round, 2));
    assert_true(json_real_value(json_object_get(o, "kept")) < 1);
    json_decref(o);
}

/* A chain of rounds: widths follow round(n · f^(k/r)) of the FULL widths. */
static void rounds_of_pruning_hit_their_widths(void **state)
{
    static const char *const norms[] = {"L1", "L2", "taylor"};
    struct fixture f, g, h;
    struct exec_job whole, first, second;
    train(&f, 40, &whole);
    for (int norm = 0; norm < 3; norm++) {
        prune(&g, norms[norm], 1, &whole.out[0], &first);
        prune(&h, norms[norm], 2, &first.out[0], &second);
        exec_job_clear(&first);
        exec_job_clear(&second);
        free(g.recipe);
        free(h.recipe);
    }
    exec_job_clear(&whole);
    free(f.recipe);
}

static void single_weights_are_pruned_by_a_mask(void **state)
{
    struct fixture f, g;
    struct exec_job first;
    struct seen s = {0};
    train(&f, 50, &first);
    fixture_init(&g, CINCH__JOB_KIND__PRUNE, 50);
    g.base.prune_unit = (char *)"weight";
    g.base.prune_schedule = (char *)"linear";
    g.spec.keep = 0.4;
    g.spec.rounds = 1;
    g.spec.round = 1;
    struct exec_job job = {.spec = &g.spec};
    give(&job, "model", &first.out[0]);
    run(&job, 1, &s);
    must(&job);
    struct nn_model *m;
    assert_int_equal(nn_model_parse(&m, "out", job.out[0].data, job.out[0].n, NULL), 0);
    const struct nn_tensor *t = &m->net->tensor[m->net->layer[0].tensor];
    size_t zeros = 0;
    for (size_t i = 0; i < t->count; i++) zeros += m->params[t->offset + i] == 0;
    assert_int_equal(zeros, (size_t)llround(0.6 * (double)t->count));
    assert_int_equal(m->net->width[0], 8);
    nn_model_destroy(m);
    exec_job_clear(&first);
    exec_job_clear(&job);
    free(f.recipe);
    free(g.recipe);
}

/* The widths and the weights left after one round of two at schedule "sensitivity": as many in all as
 * the other schedules leave, but shared out otherwise. */
static void sensitivity_round(struct fixture *g, const char *unit, int round,
                              const struct exec_blob *from, struct exec_job *job)
{
    struct seen s = {0};
    struct nn_model *m;
    int widths = 0, want = 0;
    size_t left = 0, all = 0, n;
    fixture_init(g, CINCH__JOB_KIND__PRUNE, 55);
    g->base.prune_unit = (char *)unit;
    g->base.prune_schedule = (char *)"sensitivity";
    g->spec.norm = (char *)"L1";
    g->spec.keep = 0.3;
    g->spec.rounds = 2;
    g->spec.round = (uint32_t)round;
    *job = (struct exec_job){.spec = &g->spec};
    give(job, "model", from);
    run(job, 1, &s);
    must(job);
    assert_int_equal(nn_model_parse(&m, "out", job->out[0].data, job->out[0].n, NULL), 0);
    for (int w = 0; w < 4; w++) {
        widths += m->net->width[w];
        want += nn_prune_keep((int)g->width[w], 0.3, round, 2);
    }
    if (!strcmp(unit, "structure")) {
        assert_int_equal(widths, want);
    } else {
        assert_int_equal(widths, 8 + 6 + 10 + 5);
        want = 0;
        for (int l = 0; l < m->net->n_layers; l++) {
            size_t of = nn_prune_weights(m, l, &n);
            want += (int)(of - (size_t)llround((double)of * (1 - pow(0.3, round / 2.0))));
            left += n;
            all += of;
        }
        assert_int_equal(left, want);
        json_t *o = json_loads(job->metrics, 0, NULL);
        double kept = json_real_value(json_object_get(o, "kept"));
        assert_true(
            fabs(kept - (double)(m->net->n_params - all + left) / (double)m->net->n_params) < 1e-9);
        json_decref(o);
    }
    nn_model_destroy(m);
}

static void sensitivity_meets_the_total(void **state)
{
    static const char *const units[] = {"structure", "weight"};
    struct fixture f, g, h;
    struct exec_job whole, first, second;
    train(&f, 55, &whole);
    for (int u = 0; u < 2; u++) {
        sensitivity_round(&g, units[u], 1, &whole.out[0], &first);
        sensitivity_round(&h, units[u], 2, &first.out[0], &second);
        exec_job_clear(&first);
        exec_job_clear(&second);
        free(g.recipe);
        free(h.recipe);
    }
    exec_job_clear(&whole);
    free(f.recipe);
}

static double real(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static void an_evaluation_measures_everything(void **state)
{
    struct fixture f, g;
    struct exec_job first;
    struct seen s = {0};
    train(&f, 60, &first);
    fixture_init(&g, CINCH__JOB_KIND__EVALUATE, 60);
    g.allocator[0] = (char *)"jemalloc";
    g.base.allocators = g.allocator;
    g.base.n_allocators = 1;
    g.base.latency_runs = 20;
    struct exec_job job = {.spec = &g.spec};
    give(&job, "model", &first.out[0]);
    run(&job, 1, &s);
    must(&job);
    assert_int_equal(job.n_out, 2);
    assert_string_equal(job.out[0].role, "float");
    assert_string_equal(job.out[1].role, "int8");
    json_t *o = json_loads(job.metrics, 0, NULL);
    for (int k = 0; k < 2; k++) {
        size_t bytes;
        assert_int_equal(cinchrt_model_size(job.out[k].data, job.out[k].n, CINCHRT_BEST, &bytes),
                         0);
        assert_int_equal(real(o, k ? "bytes_int8" : "bytes_float"), (int)job.out[k].n);
        json_t *l =
            json_object_get(json_object_get(o, k ? "latency_int8" : "latency_float"), "jemalloc");
        assert_int_equal(real(l, "n"), 20);
        assert_true(real(l, "mean_us") > 0);
        assert_non_null(json_object_get(l, "isa"));
    }
    assert_true(job.out[1].n < job.out[0].n);
    assert_true(real(o, "auroc_float") > 0.5);
    assert_true(fabs(real(o, "auroc_float") - real(o, "auroc_int8")) < 0.05);
    assert_int_equal(json_object_size(json_object_get(o, "auroc_per_label")), 5);
    assert_int_equal(json_object_size(json_object_get(o, "auroc_int8_per_label")), 5);
    for (int k = 0; k < 2; k++) { /* what a choice goes by is another part's figure */
        double validation = real(o, k ? "auroc_int8_validation" : "auroc_float_validation");
        assert_true(validation > 0.5 && validation != real(o, k ? "auroc_int8" : "auroc_float"));
    }
    assert_int_equal(json_array_size(json_object_get(o, "auroc_undefined")), 0);
    assert_int_equal(json_array_size(json_object_get(o, "widths_full")),
                     json_array_size(json_object_get(o, "widths")));
    assert_non_null(json_object_get(json_object_get(o, "machine"), "cpu"));
    assert_non_null(strstr(s.stages, "quantise"));
    json_decref(o);
    exec_job_clear(&first);
    exec_job_clear(&job);
    free(f.recipe);
    free(g.recipe);
}

/* A label that no record of the test part has is named, null in the list, and not in the mean. */
static void a_label_of_one_class_is_named(void **state)
{
    struct fixture f, g;
    struct exec_job first;
    struct seen s = {0};
    struct ecg_dataset poor = ecg.d;
    uint8_t *y = malloc((size_t)poor.n * 5);
    train(&f, 60, &first);
    fixture_init(&g, CINCH__JOB_KIND__EVALUATE, 60);
    memcpy(y, ecg.d.y, (size_t)poor.n * 5);
    for (int i = 0; i < poor.n; i++)
        if (poor.part[i] == ECG_TEST) y[5 * i + 2] = 0;
    poor.y = y;
    struct exec_job job = {.spec = &g.spec};
    give(&job, "model", &first.out[0]);
    records = &poor;
    run(&job, 1, &s);
    records = &ecg.d;
    must(&job);
    json_t *o = json_loads(job.metrics, 0, NULL), *per = json_object_get(o, "auroc_per_label"), *v;
    const json_t *undefined = json_object_get(o, "auroc_undefined");
    const char *label;
    double sum = 0;
    assert_int_equal(json_array_size(undefined), 1);
    assert_string_equal(json_string_value(json_array_get(undefined, 0)), poor.label[2]);
    assert_true(json_is_null(json_object_get(per, poor.label[2])));
    json_object_foreach(per, label, v) sum += json_number_value(v);
    assert_true(fabs(real(o, "auroc_float") - sum / 4) < 1e-9);
    assert_int_equal(json_array_size(json_object_get(o, "auroc_undefined_validation")), 0);
    json_decref(o);
    exec_job_clear(&first);
    exec_job_clear(&job);
    free(f.recipe);
    free(g.recipe);
    free(y);
}

/* Beats: classes that exclude each other. The figures must be those of nn_classify on cinchrt's
 * predictions, which the confusion matrix alone determines. */
static void beats_are_told_apart(void **state)
{
    struct fixture f, g;
    struct seen s = {0};
    struct exec_job first, job = {.spec = &g.spec};
    fixture_init(&f, CINCH__JOB_KIND__TRAIN, 80);
    f.base.net = g.base.net = (char *)"beat";
    f.base.n_widths = 0;
    first = (struct exec_job){.spec = &f.spec};
    records = &beats.d;
    run(&first, 1, &s);
    must(&first);
    fixture_init(&g, CINCH__JOB_KIND__EVALUATE, 80);
    g.base.net = (char *)"beat";
    g.base.n_widths = 0;
    give(&job, "model", &first.out[0]);
    run(&job, 1, &s);
    records = &ecg.d;
    must(&job);
    json_t *o = json_loads(job.metrics, 0, NULL);
    for (int k = 0; k < 2; k++) {
        json_t *c = json_object_get(o, k ? "classes_int8" : "classes_float");
        json_t *confusion = json_object_get(c, "confusion"), *per = json_object_get(c, "per_class");
        double hits = 0, n = 0, f1 = 0;
        assert_int_equal(json_integer_value(json_object_get(c, "averaged")), 5);
        assert_int_equal(json_array_size(json_object_get(c, "absent")), 0);
        for (size_t i = 0; i < 5; i++) {
            double is = 0, said = 0;
            double hit =
                (double)json_integer_value(json_array_get(json_array_get(confusion, i), i));
            for (size_t j = 0; j < 5; j++) {
                is += (double)json_integer_value(json_array_get(json_array_get(confusion, i), j));
                said += (double)json_integer_value(json_array_get(json_array_get(confusion, j), i));
            }
            const json_t *class = json_object_get(per, beats.d.label[i]);
            assert_true(real(class, "records") == is);
            assert_true(fabs(real(class, "sensitivity") - hit / is) < 1e-9);
            assert_true(fabs(real(class, "f1") - 2 * hit / (is + said)) < 1e-9);
            f1 += 2 * hit / (is + said) / 5;
            hits += hit;
            n += is;
        }
        assert_true(n == 20); /* test records */
        assert_true(fabs(real(o, k ? "accuracy_int8" : "accuracy_float") - hits / n) < 1e-9);
        assert_true(fabs(real(o, k ? "macro_f1_int8" : "macro_f1_float") - f1) < 1e-9);
    }
    assert_true(real(o, "accuracy_float_validation") > 0 &&
                real(o, "macro_f1_int8_validation") > 0);
    assert_true(real(o, "macs") == 95770);
    assert_true(real(o, "macs_nonzero_float") == 95770);
    assert_true(real(o, "macs_nonzero_int8") <= 95770);
    assert_true(real(o, "params_full") == real(o, "params"));
    json_decref(o);
    exec_job_clear(&first);
    exec_job_clear(&job);
    free(f.recipe);
    free(g.recipe);
}

static void expect(struct fixture *f, struct exec_job *job, int code, const char *text)
{
    struct seen s = {0};
    job->spec = &f->spec;
    run(job, 1, &s);
    assert_int_equal(job->code, code);
    if (!strstr(job->error.text, text)) fail_msg("'%s' lacks '%s'", job->error.text, text);
    assert_int_equal(job->n_out, 0);
    exec_job_clear(job);
    free(f->recipe);
}

static void bad_specs_fail_with_a_reason(void **state)
{
    struct fixture f;
    struct exec_job job = {0};
    struct exec_blob junk = {.data = (void *)"no model at all", .n = 15};
    fixture_init(&f, CINCH__JOB_KIND__TRAIN, 1);
    f.base.recipe = (char *)"{\"epochs\": ";
    expect(&f, &job, CN_EINVALID, "");
    fixture_init(&f, CINCH__JOB_KIND__TRAIN, 1);
    f.base.net = (char *)"cnm";
    expect(&f, &job, CN_EINVALID, "cnn");
    fixture_init(&f, CINCH__JOB_KIND__PRUNE, 1);
    expect(&f, &job, CN_EINVALID, "no input 'model'");
    fixture_init(&f, CINCH__JOB_KIND__PRUNE, 1);
    give(&job, "model", &junk);
    expect(&f, &job, CN_ECORRUPT, "model");
    fixture_init(&f, CINCH__JOB_KIND__NONE, 1);
    expect(&f, &job, CN_EUNSUPPORTED, "kind");
    struct fixture t;
    struct exec_job first;
    train(&t, 70, &first);
    fixture_init(&f, CINCH__JOB_KIND__PRUNE, 1);
    f.spec.norm = (char *)"L7";
    give(&job, "model", &first.out[0]);
    expect(&f, &job, CN_EUNSUPPORTED, "L7");
    fixture_init(&f, CINCH__JOB_KIND__EVALUATE, 1);
    f.base.quantize_mode = (char *)"worst";
    give(&job, "model", &first.out[0]);
    struct seen s = {0};
    job.spec = &f.spec;
    run(&job, 1, &s);
    assert_int_equal(job.code, CN_EINVALID);
    assert_non_null(strstr(job.error.text, "worst"));
    exec_job_clear(&job);
    exec_job_clear(&first);
    free(f.recipe);
    free(t.recipe);
}

static int setup(void **state)
{
    struct cpu_train_options opt = {.threads = 1};
    synthetic_make(&ecg, ECG_MULTI_LABEL, 200, 12, 250);
    synthetic_make(&beats, ECG_ONE_LABEL, 200, 1, 260);
    snprintf(folder, sizeof folder, "/tmp/exec-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    setenv("XDG_RUNTIME_DIR", folder, 1);
    setenv("CINCH_LAT", CINCH_BINARY_DIR "/bin/cinch-lat", 1);
    return cpu_train_create(&be, &opt, NULL);
}

static int teardown(void **state)
{
    be->ops->destroy(be);
    synthetic_free(&ecg);
    synthetic_free(&beats);
    return cn_rmtree(folder, NULL);
}

static size_t memory_left; /* what the device pretends to have */
static int memory_asked;

static int counted_memory(struct nn_backend *b, const float *host, size_t n, struct nn_memory *out)
{
    memory_asked++;
    *out = (struct nn_memory){.left = memory_left, .total = 100u << 20};
    return 0;
}

/* A gang that does not fit is trained in parts, with the same bits; a job that does not fit alone fails
 * and names the figures. */
static void memory_is_reckoned_before(void **state)
{
    enum { N = 3 };
    struct nn_backend_ops ops = *be->ops;
    const struct nn_backend_ops *before = be->ops;
    struct fixture f[N];
    struct exec_job whole[N], parts[N], none = {0};
    struct seen s = {0};
    for (int i = 0; i < N; i++) {
        fixture_init(&f[i], CINCH__JOB_KIND__TRAIN, 20 + (uint64_t)i);
        whole[i] = parts[i] = (struct exec_job){.spec = &f[i].spec};
    }
    none.spec = &f[0].spec;
    run(whole, N, &s);
    ops.memory = counted_memory;
    be->ops = &ops;
    memory_left = 17u << 20; /* 16 MB of it are the allowance for working memory */
    run(parts, N, &s);
    assert_true(memory_asked > 1); /* three did not fit */
    memory_left = 1u << 20;
    run(&none, 1, &s);
    be->ops = before;
    for (int i = 0; i < N; i++) {
        must(&whole[i]);
        must(&parts[i]);
        same_output(&whole[i], &parts[i]);
        exec_job_clear(&whole[i]);
        exec_job_clear(&parts[i]);
    }
    print_message("%s\n", none.error.text);
    assert_int_equal(none.code, CN_ENOMEM);
    assert_non_null(strstr(none.error.text, "1 of 105 MB are left"));
    assert_int_equal(be->error.code, 0); /* refused before anything was taken */
    for (int i = 0; i < N; i++) free(f[i].recipe);
    exec_job_clear(&none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_reckoned_before),
        cmocka_unit_test(training_gives_a_model_and_its_figures),
        cmocka_unit_test(a_stop_and_a_resume_change_no_bit),
        cmocka_unit_test(a_checkpoint_of_another_is_left_out),
        cmocka_unit_test(a_dropped_job_leaves_without_a_trace),
        cmocka_unit_test(a_gang_has_the_bits_of_its_members_alone),
        cmocka_unit_test(a_bad_member_fails_alone),
        cmocka_unit_test(a_teacher_changes_the_student),
        cmocka_unit_test(rounds_of_pruning_hit_their_widths),
        cmocka_unit_test(single_weights_are_pruned_by_a_mask),
        cmocka_unit_test(sensitivity_meets_the_total),
        cmocka_unit_test(an_evaluation_measures_everything),
        cmocka_unit_test(a_label_of_one_class_is_named),
        cmocka_unit_test(beats_are_told_apart),
        cmocka_unit_test(bad_specs_fail_with_a_reason),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
