/* child.c - the measuring process from inside: pin, raise, prove the allocator, load, time, tell.
 *
 * Runs in cinch-lat, started fresh for one measurement, so that nothing of the caller (its heap,
 * its threads, its caches) is in the figures. Everything it knows goes into one JSON document.
 */
#define _GNU_SOURCE
#include <jansson.h>
#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "cpu/measure/engine.h"
#include "cpu/measure/timing.h"

struct request {
    const json_t *named[2]; /* the files as the request names them: strings, or lists of bytes */
    char *file[2];          /* owned */
    int files;
    enum measure_engine engine;
    const char *allocator; /* NULL: whatever is live */
    const char *isa;
    int warmup, runs, core;
};

struct state {
    bool pinned, raised, locked;
    int core;
    struct measure_proof proof;
    struct measure_timing timing;
    struct measure_subject subject[2];
    int open; /* subjects opened */
};

static int index_of(const char *name, const char *const *names)
{
    for (int i = 0; name && names[i]; i++)
        if (strcmp(name, names[i]) == 0) return i;
    return -1;
}

/* The name's bytes, malloc'ed; NULL: it is no name, or memory is short. */
static char *name_of(const json_t *v)
{
    if (json_is_string(v)) return strdup(json_string_value(v));
    size_t n = json_array_size(v);
    char *name = n ? calloc(n + 1, 1) : NULL;
    for (size_t i = 0; name && i < n; i++) name[i] = (char)json_integer_value(json_array_get(v, i));
    return name;
}

static int parse(json_t *o, struct request *r, struct cn_error *err)
{
    const char *engine = NULL;
    json_t *a = NULL, *b = NULL;
    json_error_t e;
    if (json_unpack_ex(o, &e, 0, "{s:o, s?o, s:s, s?s, s?s, s:i, s:i, s:i}", "file", &a, "file2",
                       &b, "engine", &engine, "allocator", &r->allocator, "isa", &r->isa, "warmup",
                       &r->warmup, "runs", &r->runs, "core", &r->core))
        return cn_fail(err, CN_EINVALID, "cinch-lat: bad request: %s", e.text);
    int i = index_of(engine, measure_engine_names);
    if (i < 0) return cn_fail(err, CN_EINVALID, "unknown engine '%s'", engine);
    r->engine = (enum measure_engine)i;
    r->named[0] = a;
    r->named[1] = b;
    r->files = b ? 2 : 1;
    for (i = 0; i < r->files; i++)
        if (!(r->file[i] = name_of(r->named[i])))
            return cn_fail(err, CN_EINVALID, "cinch-lat: bad request: file %d has no name", i + 1);
    return 0;
}

/* One core, the best priority we are given, memory that does not page. Each is recorded, none is
 * needed. */
static void settle(struct state *s, int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    s->pinned = sched_setaffinity(0, sizeof set, &set) == 0;
    s->core = sched_getcpu();
    s->raised = setpriority(PRIO_PROCESS, 0, -20) == 0;
    s->locked = mlockall(MCL_CURRENT) == 0;
}

static int check_allocator(const struct request *r, const struct measure_proof *p,
                           struct cn_error *err)
{
    if (!r->allocator || strcmp(r->allocator, p->name) == 0) return 0;
    return cn_fail(err, CN_ENOTFOUND,
                   "%s was asked for but the malloc in use is %s's (%s): install %s", r->allocator,
                   p->name, p->library,
                   strcmp(r->allocator, "jemalloc") == 0 ? "libjemalloc2" : "libtcmalloc-minimal4");
}

static int open_subjects(struct state *s, const struct request *r,
                         const struct measure_engine_ops *engine, struct cn_error *err)
{
    for (int i = 0; i < r->files; i++) {
        struct measure_subject *subject = &s->subject[i];
        int rc = engine->open(subject, r->file[i], r->isa, err);
        if (rc) return rc;
        s->open = i + 1;
        size_t floats = (size_t)subject->leads * (size_t)subject->samples;
        /* Aligned, so that figures do not hang on where the allocator put the input. */
        subject->x = aligned_alloc(64, (floats * sizeof(float) + 63) & ~(size_t)63);
        subject->logits = calloc((size_t)subject->labels + 1, sizeof(float));
        if (!subject->x || !subject->logits)
            return cn_fail(err, CN_ENOMEM, "out of memory for the input");
        measure_input(subject->x, subject->leads, subject->samples);
    }
    return 0;
}

static int measure(struct state *s, const struct request *r,
                   const struct measure_engine_ops *engine, struct cn_error *err)
{
    settle(s, r->core);
    measure_allocator_proof(&s->proof);
    int rc = check_allocator(r, &s->proof, err);
    if (rc == 0) rc = open_subjects(s, r, engine, err);
    if (rc) return rc;
    struct measure_plan plan = {.jobs = r->files};
    plan.warmup = r->warmup > 0 ? r->warmup : 100;
    plan.runs = r->runs > 0 ? r->runs : measure_paper_runs(s->subject[0].net);
    for (int i = 0; i < r->files; i++)
        plan.job[i] = (struct measure_job){engine->run, &s->subject[i]};
    rc = measure_time(&plan, &s->timing, err);
    if (rc) return rc;
    for (int i = 0; i < r->files; i++)
        for (int l = 0; l < s->subject[i].labels; l++)
            if (!isfinite(s->subject[i].logits[l]))
                return cn_fail(err, CN_EINVALID, "%s: output %d is not finite", r->file[i], l);
    return 0;
}

static json_t *figures_json(const struct measure_figures *f)
{
    return json_pack("{s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:i, s:i, s:i}", "n", f->n,
                     "warmup", f->warmup, "mean_us", f->mean_us, "p50_us", f->p50_us, "p90_us",
                     f->p90_us, "p99_us", f->p99_us, "std_us", f->std_us, "min_us", f->min_us,
                     "max_us", f->max_us, "blocks", f->blocks, "repeated", f->repeated, "disturbed",
                     f->disturbed);
}

static json_t *proof_json(const struct measure_proof *p)
{
    return json_pack("{s:s, s:s, s:s, s:b}", "name", p->name, "version", p->version, "library",
                     p->library, "counted", p->counted);
}

static json_t *pairs_json(const struct measure_timing *t, int job)
{
    json_t *list = json_array();
    for (int i = 0; i < t->pairs; i++) json_array_append_new(list, json_real(t->pair_us[job][i]));
    return list;
}

static json_t *answer(const struct state *s, const struct request *r)
{
    const struct measure_subject *a = &s->subject[0];
    json_t *o = json_pack("{s:O, s:s, s:s, s:s, s:s}", "file", r->named[0], "net", a->net, "kind",
                          a->kind, "engine", measure_engine_names[r->engine], "isa", a->isa);
    if (!o) return NULL;
    json_object_set_new(o, "allocator", proof_json(&s->proof));
    json_object_set_new(o, "core", json_integer(s->core));
    json_object_set_new(o, "pinned", json_boolean(s->pinned));
    json_object_set_new(o, "raised", json_boolean(s->raised));
    json_object_set_new(o, "locked", json_boolean(s->locked));
    json_object_set_new(o, "clock_overhead_ns", json_real(s->timing.overhead_ns));
    json_object_set_new(o, "probe_ns", json_integer(s->timing.probe_ns));
    json_object_set_new(o, "figures", figures_json(&s->timing.figures[0]));
    if (r->files == 2) {
        json_object_set(o, "file2", (json_t *)r->named[1]);
        json_object_set_new(o, "figures2", figures_json(&s->timing.figures[1]));
        json_object_set_new(
            o, "pairs", json_pack("[o,o]", pairs_json(&s->timing, 0), pairs_json(&s->timing, 1)));
    }
    char *machine = measure_machine_json(s->core);
    json_object_set_new(o, "machine", machine ? json_loads(machine, 0, NULL) : json_null());
    free(machine);
    return o;
}

static void close_subjects(struct state *s, const struct measure_engine_ops *engine)
{
    for (int i = 0; i < s->open; i++) {
        engine->close(&s->subject[i]);
        free(s->subject[i].x);
        free(s->subject[i].logits);
    }
}

char *measure_child(const char *request, const struct measure_engine_ops *const engines[3])
{
    struct cn_error err = {0};
    struct request r = {0};
    struct state s = {0};
    json_error_t e;
    json_t *o = json_loads(request, 0, &e), *out = NULL;
    if (json_is_true(json_object_get(o, "probe"))) { /* only: which malloc would be live? */
        measure_allocator_proof(&s.proof);
        out = proof_json(&s.proof);
        json_decref(o);
        char *told = json_dumps(out, JSON_COMPACT);
        json_decref(out);
        return told;
    }
    int rc = o ? parse(o, &r, &err)
               : cn_fail(&err, CN_EINVALID, "cinch-lat: the request is no JSON: %s", e.text);
    const struct measure_engine_ops *engine = rc == 0 ? engines[r.engine] : NULL;
    if (rc == 0 && !engine)
        rc = cn_fail(&err, CN_EUNSUPPORTED, "this build has no engine '%s'",
                     measure_engine_names[r.engine]);
    if (rc == 0) rc = measure(&s, &r, engine, &err);
    if (rc == 0) out = answer(&s, &r);
    if (rc) out = json_pack("{s:{s:i, s:s}}", "error", "code", rc, "text", err.text);
    if (engine) close_subjects(&s, engine);
    for (int i = 0; i < 2; i++) free(r.file[i]);
    char *text = out ? json_dumps(out, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(out);
    json_decref(o);
    return text;
}
