/* coordinator/report.c - what a run has come to: one artifact per evaluation, what failed and why.
 * Facts only: the tables are made where people read them (cli/report.c, web/). */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/core.h"
#include "proto/spec.h"

enum { PART = 50 }; /* artifacts in one turn */

struct reporting {
    struct coordinator *c;
    struct buf *artifacts, failed; /* JSON, one after another */
    uint32_t n_artifacts, n_failed;
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

static json_t *artifact_json(struct reporting *p, uint32_t id, const Cinch__JobBase *base,
                             const json_t *m)
{
    static const char *const members[] = {
        "kept",          "params",         "params_full",      "macs",
        "auroc_float",   "auroc_int8",     "auroc_per_label",  "accuracy_float",
        "accuracy_int8", "macro_f1_float", "macro_f1_int8",    "classes_float",
        "classes_int8",  "bytes_float",    "bytes_int8",       "macs_nonzero_float",
        "latency_float", "latency_int8",   "macs_nonzero_int8"};
    const struct sc_job *j = &p->c->s->job[id];
    const char *norm = sc_norm_name(j->norm);
    json_t *o = json_pack("{s:s, s:I, s:b, s:i, s:i, s:f}", "net", base ? base->net : "?", "seed",
                          (json_int_t)j->seed, "distilled", j->distilled, "rounds", (int)j->rounds,
                          "round", (int)j->round, "keep", j->keep);
    if (!o) return NULL;
    json_object_set_new(o, "norm", *norm ? json_string(norm) : json_null());
    json_object_set_new(o, "split", base && *base->split ? json_string(base->split) : json_null());
    add_pruning(p, id, o);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) copy(o, m, members[i]);
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
    return j->state == SC_FAILED ? add_failed(p, id) : 0;
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
    return p->epochs ? 0 : CN_ENOMEM;
}

bool report_part(struct coordinator *c, struct viewing *v)
{
    int rc = v->begun ? 0 : begin(c, v);
    struct reporting *p = v->report;
    const struct sched *s = c->s;
    for (int i = 0; i < PART && v->at && !rc; v->at = s->want[v->at].next_of_run) {
        uint32_t before = p->n_artifacts + p->n_failed;
        rc = add(p, s->want[v->at].job);
        i += p->n_artifacts + p->n_failed > before;
    }
    if (rc) v->code = cn_fail(&v->error, CN_ENOMEM, "the report does not fit into memory");
    if (rc || v->at) return rc != 0;
    buf_puts(&v->b, "],\"failed\":[");
    buf_add(&v->b, p->failed.text ? p->failed.text : "", p->failed.n);
    buf_puts(&v->b, "]}");
    return true;
}

void report_clear(struct reporting *p)
{
    if (!p) return;
    buf_free(&p->failed);
    free(p->epochs);
    free(p);
}
