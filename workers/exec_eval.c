/* exec_eval.c - the evaluation of one model: a float and an int8 artifact, how well each does on the
 * test part, and on the validation part, by which a reader of many results chooses among them; what it
 * computes, how large each is, and how fast each runs under the study's allocators.
 *
 * Quantising and predicting run on any core; only the timing, in a cinch-lat child, needs a quiet
 * one, and while it lasts this thread counts as not computing.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "cpu/measure/measure.h"
#include "cpu/quant/quant.h"
#include "workers/classes.h"
#include "workers/exec.h"
#include "workers/steps.h"

struct evaluation {
    struct exec_unit *unit;
    struct exec_job *job;
    const Cinch__JobBase *base;
    struct nn_model *model;
    json_t *metrics;
    json_t *machine; /* borrowed by metrics once known */
};

enum { FLOAT, INT8 };
static const char *const kind_name[] = {"float", "int8"};

static void stage(const struct evaluation *e, int done, const char *text)
{
    struct exec_progress p = {.stage = text, .epoch = 1, .epochs = 1, .batch = done, .batches = 6};
    e->unit->events.progress(e->unit->events.arg, 0, &p);
}

static int stopped(void *arg)
{
    struct evaluation *e = arg;
    return e->unit->events.poll(e->unit->events.arg, 0);
}

/* What a stop means here: there is nothing to checkpoint, the job is simply handed back. */
static int stop_code(struct evaluation *e)
{
    int stop = stopped(e);
    if (stop == 0) return 0;
    return cn_fail(&e->job->error, stop == 2 ? CN_ECANCELLED : CN_EINTERRUPTED,
                   "the evaluation was stopped on request");
}

static void set(const struct evaluation *e, const char *form, int kind, json_t *value)
{
    char key[48];
    snprintf(key, sizeof key, form, kind_name[kind]);
    json_object_set_new(e->metrics, key, value);
}

static json_t *real_or_null(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static int convert(struct evaluation *e, int kind, struct quant_artifact *a)
{
    const Cinch__JobBase *b = e->base;
    struct quant_options opt = {.mode = QUANT_FLOAT};
    if (kind == INT8) {
        int mode = 0;
        while (quant_mode_names[mode] && strcmp(quant_mode_names[mode], b->quantize_mode) != 0)
            mode++;
        if (!quant_mode_names[mode])
            return cn_fail(&e->job->error, CN_EINVALID, "unknown quantise mode '%s'",
                           b->quantize_mode);
        opt.mode = (enum quant_mode)mode;
        opt.calibration = (int)b->calibration;
        opt.seed = e->job->spec->seed;
    }
    return quant_convert(a, e->model, e->unit->data, &opt, &e->job->error);
}

/* Names of the labels that have no AUROC on a part: all of its records have them, or none. */
static json_t *undefined_labels(const struct ecg_dataset *d, const struct step_quality *q)
{
    json_t *list = json_array();
    for (int l = 0; l < d->n_labels; l++)
        if (!isfinite(q->auroc.per_label[l])) json_array_append_new(list, json_string(d->label[l]));
    return list;
}

/* The test part's figures that a macro mean hides: label by label, class by class. */
static void details(struct evaluation *e, int kind, const struct step_quality *q)
{
    const struct ecg_dataset *d = e->unit->data;
    const char *label[NN_MAX_LABELS];
    json_t *per = json_object();
    for (int l = 0; l < d->n_labels; l++) {
        label[l] = d->label[l];
        json_object_set_new(per, d->label[l], real_or_null(q->auroc.per_label[l]));
    }
    set(e, kind == FLOAT ? "auroc_per_label" : "auroc_int8_per_label", kind, per);
    if (d->task == ECG_ONE_LABEL)
        set(e, "classes_%s", kind, classes_json(&q->classes, d->n_labels, label));
}

/* One part's figures; `form` ends in what tells the parts apart. */
static void quality(struct evaluation *e, int kind, const struct step_quality *q, const char *part)
{
    char form[48];
    snprintf(form, sizeof form, "auroc_%%s%s", part);
    set(e, form, kind, real_or_null(q->n ? q->auroc.macro : NAN));
    if (e->unit->data->task != ECG_ONE_LABEL) return;
    snprintf(form, sizeof form, "accuracy_%%s%s", part);
    set(e, form, kind, real_or_null(q->n ? q->classes.accuracy : NAN));
    snprintf(form, sizeof form, "macro_f1_%%s%s", part);
    set(e, form, kind, real_or_null(q->n ? q->classes.macro_f1 : NAN));
}

static int accuracy(struct evaluation *e, int kind, const struct quant_artifact *a)
{
    const struct ecg_dataset *d = e->unit->data;
    struct step_scores *r;
    int rc = step_artifact_scores(a->data, a->n, d, 1, &r, &e->job->error);
    if (rc) return rc;
    quality(e, kind, &r->test, "");
    quality(e, kind, &r->validation, "_validation");
    details(e, kind, &r->test);
    if (kind == FLOAT) {
        set(e, "macs", kind, json_integer((json_int_t)r->macs));
        set(e, "auroc_undefined", kind, undefined_labels(d, &r->test));
        set(e, "auroc_undefined_validation", kind, undefined_labels(d, &r->validation));
    }
    set(e, "macs_nonzero_%s", kind, json_integer((json_int_t)r->macs_nonzero));
    free(r);
    return 0;
}

static int allocator_named(const char *name, enum measure_allocator *out, struct cn_error *err)
{
    for (int i = 0; measure_allocator_names[i]; i++) {
        if (strcmp(measure_allocator_names[i], name) != 0) continue;
        *out = (enum measure_allocator)i;
        return 0;
    }
    return cn_fail(err, CN_EINVALID, "unknown allocator '%s'", name);
}

/* One series under one allocator, added to `out` under the allocator's name. */
static int time_under(struct evaluation *e, const char *path, const char *allocator, json_t *out)
{
    struct measure_spec spec = {.file = {path, NULL},
                                .engine = MEASURE_RT,
                                .runs = (int)e->base->latency_runs,
                                .core = e->unit->core,
                                .stop = stopped,
                                .stop_arg = e};
    struct measure_result r;
    int rc = allocator_named(allocator, &spec.allocator, &e->job->error);
    if (rc) return rc;
    rc = measure_run(&spec, &r, &e->job->error);
    if (rc == CN_EINTERRUPTED) return stop_code(e) ? e->job->error.code : rc;
    if (rc) return rc;
    json_t *doc = json_loads(r.json, 0, NULL);
    json_object_set_new(out, allocator, measure_figures_json(&r, 0));
    json_object_set(e->metrics, "machine", json_object_get(doc, "machine"));
    json_decref(doc);
    measure_result_clear(&r);
    return 0;
}

static int latency(struct evaluation *e, int kind, const struct quant_artifact *a)
{
    json_t *out = json_object();
    set(e, "latency_%s", kind, out);
    if (!e->base->latency_runs || !e->base->n_allocators) return 0;
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.cinch", e->unit->scratch, kind_name[kind]);
    int rc = cn_file_write(path, a->data, a->n, &e->job->error);
    corewatch_leave(e->unit->watch);
    for (size_t i = 0; rc == 0 && i < e->base->n_allocators; i++)
        rc = time_under(e, path, e->base->allocators[i], out);
    corewatch_enter(e->unit->watch);
    unlink(path);
    return rc;
}

/* Everything about one of the two artifacts. */
static int one_kind(struct evaluation *e, int kind)
{
    struct quant_artifact a = {0};
    corewatch_pause_point(e->unit->watch);
    int rc = stop_code(e);
    stage(e, 3 * kind, kind == FLOAT ? "fold" : "quantise");
    if (rc == 0) rc = convert(e, kind, &a);
    if (rc == 0) stage(e, 3 * kind + 1, kind == FLOAT ? "predict float" : "predict int8");
    if (rc == 0) rc = accuracy(e, kind, &a);
    if (rc == 0) rc = stop_code(e);
    if (rc == 0) stage(e, 3 * kind + 2, kind == FLOAT ? "latency float" : "latency int8");
    if (rc == 0) rc = latency(e, kind, &a);
    if (rc == 0) {
        set(e, "bytes_%s", kind, json_integer((json_int_t)a.n));
        void *copy = malloc(a.n);
        if (copy) memcpy(copy, a.data, a.n);
        rc = copy ? exec_output(e->job, kind_name[kind], copy, a.n)
                  : cn_fail(&e->job->error, CN_ENOMEM, "out of memory for an artifact");
    }
    if (rc == 0 && kind == INT8) {
        char *report = quant_report_json(&a.report);
        json_object_set_new(e->metrics, "quantize", report ? json_loads(report, 0, NULL) : NULL);
        free(report);
    }
    quant_artifact_release(&a);
    return rc;
}

static json_t *widths_of(const struct nn_net *net)
{
    json_t *list = json_array();
    for (int i = 0; i < net->n_widths; i++)
        json_array_append_new(list, json_integer(net->width[i]));
    return list;
}

static int facts(struct evaluation *e)
{
    const struct nn_net *net = e->model->net;
    struct nn_net *full = NULL;
    int rc = step_fits(net, e->unit->data, &e->job->error);
    if (rc == 0) rc = step_full_net(&full, e->job->spec, e->unit->data, &e->job->error);
    if (rc) return rc;
    json_object_set_new(e->metrics, "params", json_integer((json_int_t)net->n_params));
    json_object_set_new(e->metrics, "params_full", json_integer((json_int_t)full->n_params));
    json_object_set_new(e->metrics, "kept", json_real(step_kept(e->model, full->n_params)));
    json_object_set_new(e->metrics, "widths", widths_of(net));
    json_object_set_new(e->metrics, "widths_full", widths_of(full));
    nn_net_destroy(full);
    return 0;
}

static int evaluate(struct evaluation *e)
{
    const struct exec_blob *b = exec_input(e->job, "model");
    if (!b) return cn_fail(&e->job->error, CN_EINVALID, "the job has no input 'model'");
    int rc = nn_model_parse(&e->model, "model", b->data, b->n, &e->job->error);
    if (rc == 0) rc = facts(e);
    if (rc == 0) rc = one_kind(e, FLOAT);
    if (rc == 0 && strcmp(e->base->quantize_mode, "float") != 0) rc = one_kind(e, INT8);
    if (rc) return rc;
    e->job->metrics = json_dumps(e->metrics, JSON_COMPACT | JSON_REAL_PRECISION(12));
    return e->job->metrics ? 0
                           : cn_fail(&e->job->error, CN_ENOMEM, "out of memory for the metrics");
}

void exec_evaluate(struct exec_unit *u)
{
    struct evaluation e = {.unit = u, .job = &u->job[0], .base = u->job[0].spec->common};
    e.metrics = json_object();
    e.job->code = e.metrics ? evaluate(&e) : CN_ENOMEM;
    nn_model_destroy(e.model);
    json_decref(e.metrics);
}
