/* run.c - one measurement: waits its turn on the machine, spreads the runs over fresh processes, and
 * puts together what they tell.
 *
 * Every process must have run the same thing (allocator, instruction set, core): figures of two
 * configurations are never put together. What disturbed the measurement is kept in words beside the
 * figures, from three sources: the timed loops (timing.c), a comparison of the processes' clock
 * frequencies, and the machine's own counts (around.c).
 */
#define _GNU_SOURCE
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cpu/measure/around.h"
#include "cpu/measure/corelock.h"
#include "cpu/measure/engine.h"
#include "cpu/measure/spawn.h"
#include "cpu/measure/timing.h"

#define CHANGED_CLOCK 1.15 /* longest over shortest probe of the processes */

/* What has been heard of the processes so far. */
struct series {
    struct measure_spec spec; /* all chosen: allocator, runs, processes, core */
    struct measure_result *out;
    int n; /* processes that have answered */
    struct measure_figures part[2][MEASURE_MAX_PROCESSES];
    int pairs[MEASURE_MAX_PROCESSES];
    double *pair_us[2]; /* [MEASURE_PAIRS * processes] */
    double probe_least, probe_most, cpu_s;
    char around[400];
};

/* A file's name as a string, or as its bytes where those are no UTF-8, which JSON could not carry. */
static json_t *name_json(const char *name)
{
    if (!name) return json_null();
    if (cn_utf8_valid(name)) return json_string(name);
    json_t *bytes = json_array();
    for (; *name; name++) json_array_append_new(bytes, json_integer((unsigned char)*name));
    return bytes;
}

static char *request_json(const struct measure_spec *spec, int runs)
{
    const char *allocator = MEASURE_SANITISED ? NULL : measure_allocator_names[spec->allocator];
    json_t *o = json_pack("{s:o, s:o, s:s, s:s?, s:s?, s:i, s:i, s:i}", "file",
                          name_json(spec->file[0]), "file2", name_json(spec->file[1]), "engine",
                          measure_engine_names[spec->engine], "allocator", allocator, "isa",
                          spec->isa, "warmup", spec->warmup, "runs", runs, "core", spec->core);
    /* Absent rather than null: that is how the child tells them. */
    for (const char *const *k = (const char *const[]){"file2", "allocator", "isa", NULL}; *k; k++)
        if (json_is_null(json_object_get(o, *k))) json_object_del(o, *k);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    return text;
}

static int read_figures(json_t *o, struct measure_figures *f)
{
    return json_unpack(o, "{s:i, s:i, s:F, s:F, s:F, s:F, s:F, s:F, s:F, s:i, s:i, s:i}", "n",
                       &f->n, "warmup", &f->warmup, "mean_us", &f->mean_us, "p50_us", &f->p50_us,
                       "p90_us", &f->p90_us, "p99_us", &f->p99_us, "std_us", &f->std_us, "min_us",
                       &f->min_us, "max_us", &f->max_us, "blocks", &f->blocks, "repeated",
                       &f->repeated, "disturbed", &f->disturbed);
}

static void copy_text(json_t *o, const char *key, char *out, size_t cap)
{
    const char *v = json_string_value(json_object_get(o, key));
    snprintf(out, cap, "%s", v ? v : "");
}

/* What ran, as the first process tells it. */
static void read_facts(json_t *o, struct measure_result *r)
{
    json_t *allocator = json_object_get(o, "allocator");
    copy_text(o, "net", r->net, sizeof r->net);
    copy_text(o, "kind", r->kind, sizeof r->kind);
    copy_text(o, "engine", r->engine, sizeof r->engine);
    copy_text(o, "isa", r->isa, sizeof r->isa);
    copy_text(allocator, "name", r->allocator, sizeof r->allocator);
    copy_text(allocator, "version", r->version, sizeof r->version);
    r->core = (int)json_integer_value(json_object_get(o, "core"));
    r->pinned = json_is_true(json_object_get(o, "pinned"));
    r->raised = json_is_true(json_object_get(o, "raised"));
    r->clock_overhead_ns = json_number_value(json_object_get(o, "clock_overhead_ns"));
    r->clock_resolution_ns =
        json_number_value(json_object_get(json_object_get(o, "machine"), "clock_resolution_ns"));
}

static int same_as_before(json_t *o, const struct measure_result *r, struct cn_error *err)
{
    struct measure_result now = {0};
    read_facts(o, &now);
    if (!strcmp(now.isa, r->isa) && !strcmp(now.allocator, r->allocator) &&
        !strcmp(now.version, r->version) && !strcmp(now.net, r->net) &&
        !strcmp(now.kind, r->kind) && (now.core == r->core || !r->pinned))
        return 0;
    return cn_fail(
        err, CN_EINTERNAL,
        "two processes of one measurement ran different things (%s, %s %s, core %d; then "
        "%s, %s %s, core %d): measure again",
        r->isa, r->allocator, r->version, r->core, now.isa, now.allocator, now.version, now.core);
}

/* The means of blocks that were timed in turn, behind those of the earlier processes. */
static int read_pairs(struct series *s, json_t *o, struct cn_error *err)
{
    json_t *both = json_object_get(o, "pairs"), *a = json_array_get(both, 0);
    json_t *b = json_array_get(both, 1);
    size_t n = json_array_size(a), at = 0;
    for (int i = 0; i < s->n; i++) at += (size_t)s->pairs[i];
    if (n < 1 || n > MEASURE_PAIRS || json_array_size(b) != n)
        return cn_fail(err, CN_EINTERNAL, "cinch-lat's answer lacks its pairs of blocks");
    s->pairs[s->n] = (int)n;
    for (size_t i = 0; i < n; i++) {
        s->pair_us[0][at + i] = json_number_value(json_array_get(a, i));
        s->pair_us[1][at + i] = json_number_value(json_array_get(b, i));
    }
    return 0;
}

static int read_answer(struct series *s, json_t *o, struct cn_error *err)
{
    json_t *fault = json_object_get(o, "error");
    double probe = json_number_value(json_object_get(o, "probe_ns"));
    if (fault)
        return cn_fail(err, (int)json_integer_value(json_object_get(fault, "code")), "%s",
                       json_string_value(json_object_get(fault, "text")));
    if (read_figures(json_object_get(o, "figures"), &s->part[0][s->n]) ||
        (s->spec.file[1] && read_figures(json_object_get(o, "figures2"), &s->part[1][s->n])))
        return cn_fail(err, CN_EINTERNAL, "cinch-lat's answer lacks its figures");
    int rc = s->spec.file[1] ? read_pairs(s, o, err) : 0;
    if (rc == 0 && s->n == 0) read_facts(o, s->out);
    if (rc == 0) rc = same_as_before(o, s->out, err);
    if (s->n == 0 || probe < s->probe_least) s->probe_least = probe;
    if (s->n == 0 || probe > s->probe_most) s->probe_most = probe;
    return rc;
}

/* Process k of the series. */
static int one_process(struct series *s, int k, struct cn_error *err)
{
    const struct measure_spec *spec = &s->spec;
    int runs = spec->runs / spec->processes + (k < spec->runs % spec->processes);
    char *request = request_json(spec, runs), *answer = malloc(MEASURE_ANSWER_LIMIT);
    int rc = request && answer ? 0 : cn_fail(err, CN_ENOMEM, "out of memory for a measurement");
    if (rc == 0) rc = measure_ask(request, spec, answer, &s->cpu_s, err);
    json_t *o = rc == 0 ? json_loads(answer, 0, NULL) : NULL;
    if (rc == 0)
        rc = o ? read_answer(s, o, err)
               : cn_fail(err, CN_EINTERNAL, "cinch-lat's answer is no JSON: %.80s", answer);
    if (rc == 0) {
        s->n++;
        free(s->out->json);
        s->out->json = answer;
        answer = NULL;
    }
    json_decref(o);
    free(request);
    free(answer);
    return rc;
}

/* Takes the machine's turn, then measures, with a look around before and after. */
static int all_processes(struct series *s, struct cn_error *err)
{
    struct corelock *turn;
    struct around_look before, after;
    int core = s->spec.core, rc = corelock_take(&turn, core, err);
    if (rc) return rc;
    around_look_now(core, &before);
    for (int k = 0; k < s->spec.processes && rc == 0; k++) rc = one_process(s, k, err);
    around_look_now(core, &after);
    corelock_drop(turn);
    around_words(&before, &after, core, s->cpu_s, (double)sysconf(_SC_CLK_TCK), s->around,
                 sizeof s->around);
    return rc;
}

/* What disturbed the measurement of one file, all sources together. */
static void tell_disturbance(const struct series *s, const struct measure_figures *f, char *words,
                             size_t cap)
{
    *words = 0;
    if (f->disturbed)
        around_say(words, cap, "%d of %d blocks were kept although disturbed", f->disturbed,
                   f->blocks);
    else if (f->repeated * 2 > f->blocks)
        around_say(words, cap, "%d blocks were disturbed and timed again to get %d", f->repeated,
                   f->blocks);
    if (!s->out->pinned)
        around_say(words, cap, "the process was not pinned to core %d", s->spec.core);
    if (s->probe_most > s->probe_least * CHANGED_CLOCK)
        around_say(words, cap, "the clock frequency changed by %.0f %% between processes",
                   100 * (s->probe_most / s->probe_least - 1));
    if (*s->around) around_say(words, cap, "%s", s->around);
}

static int put_together(struct series *s, struct cn_error *err)
{
    struct measure_result *r = s->out;
    r->ratio = r->ratio_ci95[0] = r->ratio_ci95[1] = NAN;
    for (int i = 0; i < 2 && s->spec.file[i]; i++) {
        r->process_p50_us[i] = calloc((size_t)s->n, sizeof(double));
        if (!r->process_p50_us[i]) return cn_fail(err, CN_ENOMEM, "out of memory for figures");
        measure_combine(s->part[i], s->n, r->process_p50_us[i], &r->figures[i]);
        tell_disturbance(s, &r->figures[i], r->disturbed_by[i], sizeof r->disturbed_by[i]);
    }
    if (s->spec.file[1] &&
        measure_ratio(s->pair_us[0], s->pair_us[1], s->pairs, s->n, &r->ratio, r->ratio_ci95))
        return cn_fail(err, CN_ENOMEM, "out of memory for a comparison");
    return 0;
}

/* The spec with every choice made. */
static int choose(struct measure_spec *spec, struct cn_error *err)
{
    char net[24];
    int rc = measure_net_of(spec->file[0], net, err);
    if (rc) return rc;
    if (spec->allocator == MEASURE_PAPER) spec->allocator = measure_paper_allocator(net);
    if (spec->core < 0) spec->core = corelock_default_core();
    if (spec->runs <= 0) spec->runs = measure_paper_runs(net);
    if (spec->processes <= 0) spec->processes = MEASURE_PROCESSES;
    if (spec->processes > MEASURE_MAX_PROCESSES) spec->processes = MEASURE_MAX_PROCESSES;
    if (spec->processes > spec->runs) spec->processes = spec->runs;
    return 0;
}

int measure_run(const struct measure_spec *given, struct measure_result *out, struct cn_error *err)
{
    memset(out, 0, sizeof *out);
    struct series *s = calloc(1, sizeof *s);
    if (!s) return cn_fail(err, CN_ENOMEM, "out of memory for a measurement");
    s->spec = *given;
    s->out = out;
    int rc = choose(&s->spec, err);
    for (int i = 0; i < 2 && rc == 0; i++) {
        s->pair_us[i] = calloc((size_t)s->spec.processes * MEASURE_PAIRS, sizeof(double));
        if (!s->pair_us[i]) rc = cn_fail(err, CN_ENOMEM, "out of memory for a measurement");
    }
    if (rc == 0) rc = all_processes(s, err);
    if (rc == 0) rc = put_together(s, err);
    if (rc) measure_result_clear(out);
    free(s->pair_us[0]);
    free(s->pair_us[1]);
    free(s);
    return rc;
}

void measure_result_clear(struct measure_result *r)
{
    if (!r) return;
    free(r->process_p50_us[0]);
    free(r->process_p50_us[1]);
    free(r->json);
    memset(r, 0, sizeof *r);
}

json_t *measure_figures_json(const struct measure_result *r, int i)
{
    const struct measure_figures *f = &r->figures[i];
    json_t *p50 = json_array();
    for (int k = 0; k < f->processes; k++)
        json_array_append_new(p50, json_real(r->process_p50_us[i][k]));
    const char *by = *r->disturbed_by[i] ? r->disturbed_by[i] : NULL;
    json_t *o =
        json_pack("{s:i, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:i, "
                  "s:i, s:i, s:s?}",
                  "n", f->n, "processes", f->processes, "warmup", f->warmup, "mean_us", f->mean_us,
                  "p50_us", f->p50_us, "p50_low_us", f->p50_low_us, "p50_high_us", f->p50_high_us,
                  "p90_us", f->p90_us, "p99_us", f->p99_us, "std_us", f->std_us, "min_us",
                  f->min_us, "max_us", f->max_us, "process_p50_us", p50, "blocks", f->blocks,
                  "repeated", f->repeated, "disturbed", f->disturbed, "disturbed_by", by);
    json_t *with =
        json_pack("{s:s, s:s, s:s, s:s, s:f, s:i, s:b, s:b}", "engine", r->engine, "isa", r->isa,
                  "allocator", r->allocator, "allocator_version", r->version, "clock_overhead_ns",
                  r->clock_overhead_ns, "core", r->core, "pinned", r->pinned, "raised", r->raised);
    if (o && with) json_object_update(o, with);
    json_decref(with);
    return o;
}
