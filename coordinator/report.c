/* coordinator/report.c - what a run has come to: one artifact per evaluation, what failed and why,
 * study A's table (mean and standard deviation over seeds as `.9186(013)`, the best pruning variant
 * per column) and all of it as CSV. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/core.h"
#include "proto/spec.h"

struct artifact { /* what the table needs of one evaluation */
    char net[64], norm[40];
    bool distilled;
    uint32_t rounds, round;
    double keep, kept, auroc_float, auroc_int8;
};

struct reporting {
    struct coordinator *c;
    json_t *artifacts, *failed;
    struct artifact *a;
    uint32_t n, cap;
};

static double number(const json_t *o, const char *name)
{
    const json_t *v = json_object_get(o, name);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

/* Copies a member of the metrics, null when it is not there: every artifact has the same members.
 */
static void copy(json_t *to, const char *as, const json_t *from, const char *name)
{
    json_t *v = json_object_get(from, name);
    json_object_set_new(to, as, v ? json_incref(v) : json_null());
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

static json_t *artifact_json(struct reporting *p, uint32_t id, const struct artifact *a,
                             const json_t *m)
{
    static const char *const members[] = {"params",          "auroc_float", "auroc_int8",
                                          "auroc_per_label", "bytes_float", "bytes_int8",
                                          "latency_float",   "latency_int8"};
    const struct sc_job *j = &p->c->s->job[id];
    json_t *o = json_pack("{s:s, s:I, s:b, s:i, s:i, s:f}", "net", a->net, "seed",
                          (json_int_t)j->seed, "distilled", a->distilled, "rounds", (int)a->rounds,
                          "round", (int)a->round, "keep", a->keep);
    if (!o) return NULL;
    json_object_set_new(o, "norm", *a->norm ? json_string(a->norm) : json_null());
    copy(o, "kept", m, "kept");
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        copy(o, members[i], m, members[i]);
    if (json_object_get(m, "machine")) copy(o, "machine", m, "machine");
    char job[16];
    snprintf(job, sizeof job, "j%u", id);
    json_object_set_new(o, "job", json_string(job));
    add_blobs(p->c, id, o);
    return o;
}

static int add_artifact(struct reporting *p, uint32_t id)
{
    const struct sched *s = p->c->s;
    const struct sc_job *j = &s->job[id];
    if (!sc__grow(&p->a, &p->cap, p->n + 1, sizeof *p->a)) return CN_ENOMEM;
    struct artifact *a = &p->a[p->n];
    Cinch__JobBase *body =
        cinch__job_base__unpack(NULL, s->base[j->base].n_body, s->base[j->base].body);
    char *text = st_metrics(p->c->st, id, NULL);
    json_t *m = text && *text ? json_loads(text, 0, NULL) : json_object();
    *a = (struct artifact){.distilled = j->distilled,
                           .rounds = j->rounds,
                           .round = j->round,
                           .keep = j->keep,
                           .kept = number(m, "kept"),
                           .auroc_float = number(m, "auroc_float"),
                           .auroc_int8 = number(m, "auroc_int8")};
    snprintf(a->net, sizeof a->net, "%.63s", body ? body->net : "?");
    snprintf(a->norm, sizeof a->norm, "%.39s", s->norm[j->norm]);
    json_t *o = artifact_json(p, id, a, m);
    json_decref(m);
    free(text);
    if (body) cinch__job_base__free_unpacked(body, NULL);
    if (!o || json_array_append_new(p->artifacts, o)) return CN_ENOMEM;
    p->n++;
    return 0;
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
    return o && !json_array_append_new(p->failed, o) ? 0 : CN_ENOMEM;
}

/* ---- the table */

struct cell { /* mean and deviation over the seeds of one variant */
    double sum, squares;
    int n;
};

static void cell_add(struct cell *c, double v)
{
    if (!isfinite(v)) return;
    c->sum += v;
    c->squares += v * v;
    c->n++;
}

static double mean(const struct cell *c)
{
    return c->n ? c->sum / c->n : NAN;
}

/* `.9186(013)`: 0.9186 ± 0.0013. */
static void put_cell(struct buf *b, const struct cell *c, const char *variant)
{
    char text[40] = "-";
    if (c->n) {
        double m = mean(c), var = c->n > 1 ? (c->squares - c->n * m * m) / (c->n - 1) : 0;
        snprintf(text, sizeof text, "%.4f(%03d)", m, (int)lround(sqrt(var > 0 ? var : 0) * 1e4));
    }
    buf_printf(b, " %-11s %-6s", text[0] == '0' ? text + 1 : text, c->n ? variant : "");
}

/* Cells of one variant stand together once sorted, so that a table costs one pass a column. */
static int by_variant(const void *x, const void *y)
{
    const struct artifact *a = x, *b = y;
    int c = strcmp(a->net, b->net);
    if (!c) c = (a->keep < b->keep) - (a->keep > b->keep);
    if (!c) c = a->distilled - b->distilled;
    if (!c) c = (a->rounds > b->rounds) - (a->rounds < b->rounds);
    if (!c) c = (a->round > b->round) - (a->round < b->round);
    return c ? c : strcmp(a->norm, b->norm);
}

/* The variant of (net, distilled, keep) whose mean over seeds is best. */
static void best_variant(const struct reporting *p, const struct artifact *like, bool distilled,
                         bool int8, struct cell *best, char variant[48])
{
    *best = (struct cell){0};
    *variant = 0;
    for (uint32_t i = 0, next; i < p->n; i = next) {
        const struct artifact *v = &p->a[i];
        struct cell c = {0};
        for (next = i; next < p->n && !by_variant(v, &p->a[next]); next++)
            cell_add(&c, int8 ? p->a[next].auroc_int8 : p->a[next].auroc_float);
        if (strcmp(v->net, like->net) || v->distilled != distilled || v->keep != like->keep ||
            v->round != v->rounds)
            continue;
        if (!c.n || (best->n && mean(&c) <= mean(best))) continue;
        *best = c;
        if (v->rounds) snprintf(variant, 48, "%u/%.34s", v->rounds, v->norm);
    }
}

/* The first artifact of each (net, keep), largest keep first within a net: the columns. */
static uint32_t columns(const struct reporting *p, const char *net, const struct artifact **col,
                        uint32_t cap)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct artifact *a = &p->a[i];
        bool seen = strcmp(a->net, net) != 0;
        for (uint32_t k = 0; k < n && !seen; k++) seen = col[k]->keep == a->keep;
        if (seen || n == cap) continue;
        uint32_t at = n++;
        for (; at && col[at - 1]->keep < a->keep; at--) col[at] = col[at - 1];
        col[at] = a;
    }
    return n;
}

static void put_net(const struct reporting *p, const char *net, struct buf *b)
{
    static const char *const row[] = {"F", "Q", "FKD", "QKD"};
    const struct artifact *col[16];
    uint32_t n = columns(p, net, col, 16);
    buf_printf(b, "%-8s", net);
    for (uint32_t k = 0; k < n; k++) {
        char head[24];
        snprintf(head, sizeof head, "%.2f %%",
                 100 * (isfinite(col[k]->kept) ? col[k]->kept : col[k]->keep));
        buf_printf(b, " %-18s", head);
    }
    buf_puts(b, "\n");
    for (int i = 0; i < 4; i++) {
        struct cell c;
        char variant[48];
        bool any = false;
        for (uint32_t k = 0; k < p->n; k++)
            any = any || (!strcmp(p->a[k].net, net) && p->a[k].distilled == (i >= 2));
        if (!any) continue;
        buf_printf(b, "%-8s", row[i]);
        for (uint32_t k = 0; k < n; k++) {
            best_variant(p, col[k], i >= 2, i & 1, &c, variant);
            put_cell(b, &c, variant);
        }
        buf_puts(b, "\n");
    }
}

static char *table(const struct reporting *p)
{
    struct buf b = {0};
    for (uint32_t i = 0; i < p->n; i++) {
        if (i && !strcmp(p->a[i - 1].net, p->a[i].net)) continue;
        if (b.n) buf_puts(&b, "\n");
        put_net(p, p->a[i].net, &b);
    }
    return buf_take(&b);
}

/* ---- CSV */

static void csv_value(struct buf *b, const json_t *v)
{
    if (json_is_string(v))
        buf_puts(b, json_string_value(v)); /* names only: no commas, no quotes (proto/check.h) */
    else if (json_is_boolean(v))
        buf_puts(b, json_is_true(v) ? "1" : "0");
    else if (json_is_integer(v))
        buf_printf(b, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        buf_printf(b, "%.9g", json_real_value(v));
}

/* The mean latency under the first allocator timed. */
static const json_t *mean_us(const json_t *latency)
{
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)latency, name, v) return json_object_get(v, "mean_us");
    return NULL;
}

static char *csv(const struct reporting *p)
{
    static const char *const column[] = {
        "net",  "seed",   "distilled",   "rounds",     "round",       "norm",      "keep",
        "kept", "params", "auroc_float", "auroc_int8", "bytes_float", "bytes_int8"};
    struct buf b = {0};
    size_t n = sizeof column / sizeof *column, i;
    for (i = 0; i < n; i++) buf_printf(&b, "%s,", column[i]);
    buf_puts(&b, "us_float,us_int8\n");
    json_t *a;
    json_array_foreach(p->artifacts, i, a)
    {
        for (size_t k = 0; k < n; k++) {
            csv_value(&b, json_object_get(a, column[k]));
            buf_puts(&b, ",");
        }
        csv_value(&b, mean_us(json_object_get(a, "latency_float")));
        buf_puts(&b, ",");
        csv_value(&b, mean_us(json_object_get(a, "latency_int8")));
        buf_puts(&b, "\n");
    }
    return buf_take(&b);
}

static int collect(struct reporting *p, uint32_t run)
{
    const struct sched *s = p->c->s;
    int rc = 0;
    for (uint32_t w = s->run[run].want; w && !rc; w = s->want[w].next_of_run) {
        uint32_t id = s->want[w].job;
        const struct sc_job *j = &s->job[id];
        if (j->kind == CINCH__JOB_KIND__EVALUATE && j->state == SC_SUCCEEDED)
            rc = add_artifact(p, id);
        if (j->state == SC_FAILED) rc = add_failed(p, id);
    }
    return rc;
}

int view_report(struct coordinator *c, uint32_t run, struct buf *b, struct cn_error *err)
{
    struct reporting p = {.c = c, .artifacts = json_array(), .failed = json_array()};
    int rc = p.artifacts && p.failed ? collect(&p, run) : CN_ENOMEM;
    if (p.n) qsort(p.a, p.n, sizeof *p.a, by_variant);
    char *t = rc ? NULL : table(&p), *v = rc ? NULL : csv(&p), name[16];
    snprintf(name, sizeof name, "r%u", run);
    json_t *doc =
        t && v ? json_pack("{s:s, s:s, s:s, s:O, s:O, s:s, s:s}", "run", name, "name",
                           c->state.run[run].name, "state", sc_run_state(c->s, run), "artifacts",
                           p.artifacts, "failed", p.failed, "table", t, "csv", v)
               : NULL;
    char *text = doc ? json_dumps(doc, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
    if (text) buf_puts(b, text);
    free(text);
    json_decref(doc);
    json_decref(p.artifacts);
    json_decref(p.failed);
    free(t);
    free(v);
    free(p.a);
    return text ? 0 : cn_fail(err, CN_ENOMEM, "the report does not fit into memory");
}
