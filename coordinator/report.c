/* coordinator/report.c - what a run has come to: one artifact per evaluation, what failed and why, and
 * what was asked for and is not measured (yet). Facts only: the tables are made where people read them
 * (cli/report.c, web/). `config` tells what was measured apart from the seed and the way of pruning
 * (net, widths, recipe, data, quantiser, timing): equal ones are seeds of one net. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/core.h"
#include "proto/spec.h"

enum { PART = 50, LOOKS = 5000 }; /* in one turn: entries written, jobs looked at */

struct reporting {
    struct coordinator *c;
    struct buf *artifacts, failed; /* JSON, one after another */
    uint32_t n_artifacts, n_failed;
    json_t *missing;  /* {key: variant}, in the order of the run */
    uint32_t *epochs; /* [bases] of their recipes + 1; 0: not looked up yet */
};

/* Copies a member of the metrics, null when it is not there: every artifact has the same members.
 */
static void copy(json_t *to, const json_t *from, const char *name)
{
    json_t *v = json_object_get(from, name);
    json_object_set_new(to, name, v ? json_incref(v) : json_null());
}

static void add_blobs(struct coordinator *c, uint32_t id, json_t *o)
{
    struct st_blob out[PR_MAX_OUTPUTS];
    char name[sizeof out->role + 8], hex[CN_HASH_HEX];
    int n = st_outputs(c->st, id, out, PR_MAX_OUTPUTS);
    for (int i = 0; i < n; i++) {
        cn_hash_hex(&out[i].hash, hex);
        snprintf(name, sizeof name, "blob_%.*s", (int)sizeof out->role, out[i].role);
        json_object_set_new(o, name, json_string(hex));
    }
}

static Cinch__JobBase *base_of(const struct coordinator *c, uint32_t id)
{
    const struct sc_base *b = &c->s->base[c->s->job[id].base];
    return cinch__job_base__unpack(NULL, b->n_body, b->body);
}

/* Epochs of a training job's recipe. */
static uint32_t epochs_of(struct reporting *p, uint32_t id)
{
    uint32_t *known = &p->epochs[p->c->s->job[id].base];
    if (*known) return *known - 1;
    Cinch__JobBase *body = base_of(p->c, id);
    json_t *recipe = body ? json_loads(body->recipe, 0, NULL) : NULL;
    *known = (uint32_t)json_integer_value(json_object_get(recipe, "epochs")) + 1;
    json_decref(recipe);
    if (body) cinch__job_base__free_unpacked(body, NULL);
    return *known - 1;
}

/* How the measured net was pruned: what the last round's base says, and the epochs of fine-tuning
 * of all rounds up to it. */
static void add_pruning(struct reporting *p, uint32_t id, json_t *o)
{
    const struct sched *s = p->c->s;
    uint32_t last = s->job[id].parent[0], epochs = 0;
    Cinch__JobBase *body = NULL;
    for (uint32_t j = last; j && s->job[j].kind == CINCH__JOB_KIND__PRUNE; j = s->job[j].parent[0])
        epochs += epochs_of(p, j);
    if (last && s->job[last].kind == CINCH__JOB_KIND__PRUNE) body = base_of(p->c, last);
    json_object_set_new(o, "unit", body ? json_string(body->prune_unit) : json_null());
    json_object_set_new(o, "schedule", body ? json_string(body->prune_schedule) : json_null());
    json_object_set_new(o, "finetune_epochs", json_integer(epochs));
    if (body) cinch__job_base__free_unpacked(body, NULL);
}

/* The training that a measured net goes back to: a distilled one to its teacher. */
static uint32_t root_of(const struct sched *s, uint32_t id)
{
    while (s->job[id].parent[0]) id = s->job[id].parent[0];
    return id;
}

static void add_config(struct reporting *p, uint32_t id, json_t *o)
{
    const struct sched *s = p->c->s;
    struct cn_hash both[2] = {s->base[s->job[id].base].hash,
                              s->base[s->job[root_of(s, id)].base].hash},
                   hash;
    char hex[CN_HASH_HEX];
    cn_hash_bytes(both, sizeof both, &hash);
    cn_hash_hex(&hash, hex);
    hex[12] = 0;
    json_object_set_new(o, "config", json_string(hex));
}

/* The full widths that the grid asked for; null: the net's own. */
static json_t *asked_widths(const Cinch__JobBase *base)
{
    if (!base || !base->n_widths) return json_null();
    json_t *list = json_array();
    for (size_t i = 0; i < base->n_widths; i++)
        json_array_append_new(list, json_integer(base->widths[i]));
    return list;
}

/* What was measured, or is to be: all that the grid says about it but the seed. */
static json_t *variant_json(struct reporting *p, uint32_t id, const Cinch__JobBase *base)
{
    const struct sc_job *j = &p->c->s->job[id];
    const char *norm = sc_norm_name(j->norm);
    json_t *o =
        json_pack("{s:s, s:b, s:i, s:i, s:f}", "net", base ? base->net : "?", "distilled",
                  j->distilled, "rounds", (int)j->rounds, "round", (int)j->round, "keep", j->keep);
    if (!o) return NULL;
    json_object_set_new(o, "norm", *norm ? json_string(norm) : json_null());
    json_object_set_new(o, "split", base && *base->split ? json_string(base->split) : json_null());
    json_object_set_new(o, "widths_full", asked_widths(base));
    add_pruning(p, id, o);
    add_config(p, id, o);
    return o;
}

static json_t *artifact_json(struct reporting *p, uint32_t id, const Cinch__JobBase *base,
                             const json_t *m)
{
    static const char *const members[] = {"kept",
                                          "params",
                                          "params_full",
                                          "widths",
                                          "macs",
                                          "auroc_float",
                                          "auroc_int8",
                                          "auroc_float_validation",
                                          "auroc_int8_validation",
                                          "auroc_per_label",
                                          "auroc_int8_per_label",
                                          "auroc_undefined",
                                          "auroc_undefined_validation",
                                          "accuracy_float",
                                          "accuracy_int8",
                                          "accuracy_float_validation",
                                          "accuracy_int8_validation",
                                          "macro_f1_float",
                                          "macro_f1_int8",
                                          "macro_f1_float_validation",
                                          "macro_f1_int8_validation",
                                          "classes_float",
                                          "classes_int8",
                                          "bytes_float",
                                          "bytes_int8",
                                          "macs_nonzero_float",
                                          "macs_nonzero_int8",
                                          "latency_float",
                                          "latency_int8"};
    json_t *o = variant_json(p, id, base);
    if (!o) return NULL;
    json_object_set_new(o, "seed", json_integer((json_int_t)p->c->s->job[id].seed));
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) copy(o, m, members[i]);
    if (json_object_get(m, "widths_full")) copy(o, m, "widths_full");
    if (json_object_get(m, "machine")) copy(o, m, "machine");
    char job[16];
    snprintf(job, sizeof job, "j%u", id);
    json_object_set_new(o, "job", json_string(job));
    add_blobs(p->c, id, o);
    return o;
}

/* As text at once: thousands of them as objects would take ten times the memory. */
static int append(struct buf *b, uint32_t *n, json_t *o)
{
    char *text = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(o);
    if (!text) return CN_ENOMEM;
    buf_puts(b, (*n)++ ? "," : "");
    buf_puts(b, text);
    free(text);
    return b->failed ? CN_ENOMEM : 0;
}

static int add_artifact(struct reporting *p, uint32_t id)
{
    Cinch__JobBase *base = base_of(p->c, id);
    char *text = st_metrics(p->c->st, id, NULL);
    json_t *m = text && *text ? json_loads(text, 0, NULL) : json_object();
    json_t *o = artifact_json(p, id, base, m);
    json_decref(m);
    free(text);
    if (base) cinch__job_base__free_unpacked(base, NULL);
    return append(p->artifacts, &p->n_artifacts, o);
}

/* An evaluation that has not succeeded: one more seed of its variant's entry. */
static int add_missing(struct reporting *p, uint32_t id)
{
    const struct sched *s = p->c->s;
    const struct sc_job *j = &s->job[id];
    const char *state = sc_state_name(j->state);
    char key[160];
    snprintf(key, sizeof key, "%u %u %u %u %u %u %u %.17g %u", j->base, s->job[root_of(s, id)].base,
             s->job[j->parent[0]].base, j->distilled, j->rounds, j->round, j->norm, j->keep,
             s->job[j->parent[0]].kind);
    json_t *o = json_object_get(p->missing, key);
    if (!o) {
        Cinch__JobBase *base = base_of(p->c, id);
        o = variant_json(p, id, base);
        if (base) cinch__job_base__free_unpacked(base, NULL);
        if (!o || json_object_set_new(p->missing, key, o)) return CN_ENOMEM;
        json_object_set_new(o, "seeds", json_array());
        json_object_set_new(o, "states", json_object());
    }
    json_t *states = json_object_get(o, "states"), *n = json_object_get(states, state);
    json_object_set_new(states, state, json_integer(json_integer_value(n) + 1));
    return json_array_append_new(json_object_get(o, "seeds"), json_integer((json_int_t)j->seed))
               ? CN_ENOMEM
               : 0;
}

struct reason {
    char text[400];
};

static int last_text(void *arg, const struct st_event *e)
{
    struct reason *r = arg;
    if (*e->text && e->why == SC_WHY_CRASH) snprintf(r->text, sizeof r->text, "%s", e->text);
    return 0;
}

static int add_failed(struct reporting *p, uint32_t id)
{
    struct reason r = {""};
    char job[16], words[1000];
    st_events(p->c->st, 0, id, 200, last_text, &r);
    if (!*r.text) {
        sc_explain(p->c->s, id, 0, words, sizeof words);
        snprintf(r.text, sizeof r.text, "%.399s", words);
    }
    snprintf(job, sizeof job, "j%u", id);
    json_t *o = json_pack("{s:s, s:s, s:s}", "job", job, "kind",
                          pr_kind_name(p->c->s->job[id].kind), "reason", r.text);
    return append(&p->failed, &p->n_failed, o);
}

static int add(struct reporting *p, uint32_t id)
{
    const struct sc_job *j = &p->c->s->job[id];
    if (j->kind == CINCH__JOB_KIND__EVALUATE && j->state == SC_SUCCEEDED)
        return add_artifact(p, id);
    int rc = j->kind == CINCH__JOB_KIND__EVALUATE ? add_missing(p, id) : 0;
    return !rc && j->state == SC_FAILED ? add_failed(p, id) : rc;
}

static int begin(struct coordinator *c, struct viewing *v)
{
    struct reporting *p = v->report = calloc(1, sizeof *p);
    if (!p) return CN_ENOMEM;
    p->c = c;
    p->artifacts = &v->b;
    p->epochs = calloc(c->s->n_bases + 1, sizeof *p->epochs);
    v->at = c->s->run[v->run].want;
    buf_printf(&v->b, "{\"run\":\"r%u\",\"name\":", v->run);
    buf_json(&v->b, c->state.run[v->run].name);
    buf_printf(&v->b, ",\"state\":\"%s\",\"artifacts\":[",
               sc_run_state_name(sc_run_state(c->s, v->run)));
    p->missing = json_object();
    return p->epochs && p->missing ? 0 : CN_ENOMEM;
}

/* How much has been written so far: what makes a turn long. */
static size_t entries(const struct reporting *p)
{
    return p->n_artifacts + p->n_failed + json_object_size(p->missing);
}

/* The variants of which seeds are missing, as a list. */
static int put_missing(const struct reporting *p, struct buf *b)
{
    const char *key;
    json_t *o;
    int n = 0;
    buf_puts(b, "],\"missing\":[");
    json_object_foreach(p->missing, key, o)
    {
        char *text = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(12));
        if (!text) return CN_ENOMEM;
        if (n++) buf_puts(b, ",");
        buf_puts(b, text);
        free(text);
    }
    return 0;
}

bool report_part(struct coordinator *c, struct viewing *v)
{
    int rc = v->begun ? 0 : begin(c, v);
    struct reporting *p = v->report;
    const struct sched *s = c->s;
    for (int i = 0, looks = 0; i < PART && looks < LOOKS && v->at && !rc;
         v->at = s->want[v->at].next_of_run, looks++) {
        size_t before = entries(p);
        rc = add(p, s->want[v->at].job);
        i += entries(p) > before;
    }
    if (rc) v->code = cn_fail(&v->error, CN_ENOMEM, "the report does not fit into memory");
    if (rc || v->at) return rc != 0;
    buf_puts(&v->b, "],\"failed\":[");
    buf_add(&v->b, p->failed.text ? p->failed.text : "", p->failed.n);
    if (put_missing(p, &v->b))
        v->code = cn_fail(&v->error, CN_ENOMEM, "the report does not fit into memory");
    buf_puts(&v->b, "]}");
    return true;
}

void report_clear(struct reporting *p)
{
    if (!p) return;
    buf_free(&p->failed);
    json_decref(p->missing);
    free(p->epochs);
    free(p);
}
