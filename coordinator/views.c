/* coordinator/views.c - the coordinator's state as JSON documents, for messages and HTTP alike, and
 * as Prometheus text. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/clock.h"
#include "coordinator/core.h"
#include "proto/spec.h"
#include "proto/words.h"

enum { PART = 200 }; /* runs or jobs in one turn */

static void put_time(struct buf *b, const char *name, int64_t wall_ms)
{
    char text[25];
    cn_wall_text(wall_ms, text);
    buf_printf(b, "\"%s\":\"%s\"", name, text);
}

static void put_str(struct buf *b, const char *name, const char *value)
{
    buf_printf(b, "\"%s\":", name);
    buf_json(b, value);
}

static void put_counts(struct buf *b, const uint32_t count[SC_STATES])
{
    buf_puts(b, "\"jobs\":{");
    for (int i = 0; i < SC_STATES; i++)
        buf_printf(b, "%s\"%s\":%u", i ? "," : "", sc_state_name(i), count[i]);
    buf_puts(b, "}");
}

static void put_hash(struct buf *b, const char *name, const struct cn_hash *h)
{
    char hex[CN_HASH_HEX];
    cn_hash_hex(h, hex);
    buf_printf(b, "\"%s\":\"%s\"", name, hex);
}

/* ---- status and metrics */

static double free_bytes(const struct coordinator *c)
{
    struct statvfs v;
    return statvfs(c->state_dir, &v) ? 0 : (double)v.f_bavail * (double)v.f_frsize;
}

static void view_status(struct coordinator *c, struct buf *b)
{
    uint32_t workers = 0;
    for (uint32_t i = 1; i < c->s->n_workers; i++)
        workers += c->s->worker[i].used && c->s->worker[i].connected;
    buf_printf(b, "{\"protocol\":%d,\"engine\":%d,", PR_VERSION, PR_ENGINE);
    put_time(b, "started", c->started);
    buf_printf(
        b, ",\"uptime_s\":%lld,\"workers\":%u,\"connections\":%u,\"runs\":%u,\"disk_free\":%.0f,",
        (long long)(cn_wall_ms() - c->started) / 1000, workers, c->n_peers, c->s->n_runs - 1,
        free_bytes(c));
    put_str(b, "trouble",
            c->broken      ? cn_code_text(c->broken)
            : c->low_space ? "disk almost full: no new work is accepted"
                           : "");
    buf_puts(b, ",");
    put_counts(b, c->s->total);
    buf_puts(b, "}");
}

static void put_run_states(const struct coordinator *c, struct buf *b)
{
    uint32_t n[SC_RUN_CANCELLED + 1] = {0}, paused = 0;
    for (uint32_t i = 1; i < c->s->n_runs; i++) {
        bool held = sc_run_paused(c->s, i);
        paused += held;
        n[sc_run_state(c->s, i)] += !held;
    }
    buf_puts(b, "# HELP cinch_run_states Runs by state; a paused one counts as that alone.\n"
                "# TYPE cinch_run_states gauge\n");
    for (int i = 0; i <= SC_RUN_CANCELLED; i++)
        buf_printf(b, "cinch_run_states{state=\"%s\"} %u\n",
                   sc_run_state_name((enum sc_run_state)i), n[i]);
    buf_printf(b, "cinch_run_states{state=\"paused\"} %u\n", paused);
}

void view_metrics(struct coordinator *c, struct buf *b)
{
    uint32_t workers = 0, busy = 0;
    for (uint32_t i = 1; i < c->s->n_workers; i++) {
        const struct sc_worker *w = &c->s->worker[i];
        workers += w->used && w->connected;
        busy += w->used && w->connected && w->units;
    }
    buf_puts(b, "# HELP cinch_jobs Jobs by state.\n# TYPE cinch_jobs gauge\n");
    for (int i = 0; i < SC_STATES; i++)
        buf_printf(b, "cinch_jobs{state=\"%s\"} %u\n", sc_state_name(i), c->s->total[i]);
    put_run_states(c, b);
    struct {
        const char *name, *kind, *help;
        double value;
    } m[] = {
        {"workers", "gauge", "Connected workers.", workers},
        {"workers_busy", "gauge", "Connected workers that hold a lease.", busy},
        {"connections", "gauge", "Connections that said hello.", c->n_peers},
        {"runs", "gauge", "Runs ever submitted.", c->s->n_runs - 1},
        {"results_total", "counter", "Results accepted since the start.", (double)c->n_results},
        {"messages_total", "counter", "Messages received since the start.", (double)c->n_messages},
        {"refused_total", "counter", "Connections and messages refused since the start.",
         (double)c->n_refused},
        {"commits_total", "counter", "Transactions written since the start.", (double)c->n_commits},
        {"disk_free_bytes", "gauge", "Room left on the state folder's disk.", free_bytes(c)},
        {"trouble", "gauge", "1 while the queue cannot be written or the disk is almost full.",
         c->broken || c->low_space},
        {"start_time_seconds", "gauge", "Start of the coordinator, unix time.",
         (double)c->started / 1000},
    };
    for (size_t i = 0; i < sizeof m / sizeof *m; i++)
        buf_printf(b, "# HELP cinch_%s %s\n# TYPE cinch_%s %s\ncinch_%s %.15g\n", m[i].name,
                   m[i].help, m[i].name, m[i].kind, m[i].name, m[i].value);
}

/* ---- runs */

static void put_run(struct coordinator *c, uint32_t id, struct buf *b)
{
    const struct sc_run *r = &c->s->run[id];
    const struct st_run *d = &c->state.run[id];
    buf_printf(b, "\"run\":\"r%u\",", id);
    put_str(b, "name", d->name);
    buf_puts(b, ",");
    put_str(b, "user", c->s->user[r->user].name);
    buf_printf(b, ",\"state\":\"%s\",\"paused\":%s,\"priority\":%d,",
               sc_run_state_name(sc_run_state(c->s, id)),
               sc_run_paused(c->s, id) ? "true" : "false", r->priority);
    put_time(b, "created", d->created);
    buf_puts(b, ",");
    put_str(b, "dataset", d->dataset);
    buf_printf(b, ",\"artifacts\":%u,", d->cells);
    put_counts(b, r->count);
}

/* Newest first; v->at is how many are done. */
static bool list_part(struct coordinator *c, struct viewing *v)
{
    uint32_t n = c->s->n_runs - 1; /* runs that come meanwhile are not in it */
    if (!v->begun) v->job = n;
    for (int i = 0; i < PART && v->at < v->job; i++, v->at++) {
        buf_puts(&v->b, v->at ? ",{" : "{\"runs\":[{");
        put_run(c, v->job - v->at, &v->b);
        buf_puts(&v->b, "}");
    }
    if (v->at < v->job) return false;
    buf_puts(&v->b, v->job ? "]}" : "{\"runs\":[]}");
    return true;
}

static void view_run(struct coordinator *c, uint32_t id, struct buf *b)
{
    char *grid = st_grid(c->st, id);
    buf_puts(b, "{");
    put_run(c, id, b);
    buf_puts(b, ",");
    put_hash(b, "fingerprint", &c->state.run[id].fingerprint);
    buf_printf(b, ",\"time_limit_s\":%u,", c->s->run[id].time_limit_s);
    put_str(b, "grid", grid ? grid : "");
    buf_puts(b, "}");
    free(grid);
}

/* ---- jobs */

static void put_progress(struct coordinator *c, uint32_t id, struct buf *b)
{
    const struct live *l = live_of(c, id, false);
    if (!l || c->s->job[id].state != SC_LEASED) return;
    buf_printf(b, ",\"progress\":{\"epoch\":%u,\"epochs\":%u,\"batch\":%u,\"batches\":%u,",
               l->p.epoch, l->p.epochs, l->p.batch, l->p.batches);
    put_str(b, "stage", l->stage);
    buf_puts(b, ",\"records_per_s\":");
    buf_number(b, l->p.records_per_s);
    buf_puts(b, ",\"val_score\":");
    buf_number(b, l->p.epoch_done ? l->p.val_score : NAN);
    buf_puts(b, "}");
}

/* What its base says beyond the net, where it does: the split of the data, the unit and the schedule
 * of a pruning. */
static void put_way(struct buf *b, const Cinch__JobBase *base)
{
    if (!base) return;
    const char *const given[][2] = {
        {"split", base->split}, {"unit", base->prune_unit}, {"schedule", base->prune_schedule}};
    for (int i = 0; i < 3; i++) {
        if (!*given[i][1]) continue;
        buf_puts(b, ",");
        put_str(b, given[i][0], given[i][1]);
    }
}

/* `seed` is the grid's, by which nets and reports go. A student has one of its own beside it. */
static void put_seed(const struct coordinator *c, const struct sc_job *j, struct buf *b)
{
    bool student = j->kind == CINCH__JOB_KIND__DISTILL && j->parent[0];
    uint64_t grid = student ? c->s->job[j->parent[0]].seed : j->seed;
    buf_printf(b, ",\"seed\":%llu", (unsigned long long)grid);
    if (student) buf_printf(b, ",\"student_seed\":%llu", (unsigned long long)j->seed);
}

static void put_job(struct coordinator *c, uint32_t id, struct buf *b)
{
    const struct sc_job *j = &c->s->job[id];
    const struct sc_base *base = &c->s->base[j->base];
    Cinch__JobBase *body = cinch__job_base__unpack(NULL, base->n_body, base->body);
    buf_printf(b, "\"job\":\"j%u\",\"kind\":\"%s\",", id, pr_kind_name(j->kind));
    put_str(b, "net", body ? body->net : "?");
    put_seed(c, j, b);
    buf_printf(b, ",\"distilled\":%s,\"rounds\":%u,\"round\":%u,\"keep\":",
               j->distilled ? "true" : "false", j->rounds, j->round);
    buf_number(b, j->keep);
    buf_puts(b, ",\"norm\":");
    if (j->norm)
        buf_json(b, sc_norm_name(j->norm));
    else
        buf_puts(b, "null");
    put_way(b, body);
    buf_printf(b, ",\"state\":\"%s\",\"attempt\":%u,\"crashes\":%u,", sc_state_name(j->state),
               j->attempt, j->crashes);
    put_str(b, "worker",
            j->state == SC_LEASED || j->state == SC_SUCCEEDED ? c->s->worker[j->worker].name : "");
    put_progress(c, id, b);
    if (body) cinch__job_base__free_unpacked(body, NULL);
}

static bool jobs_part(struct coordinator *c, struct viewing *v)
{
    uint32_t first = c->s->run[v->run].want;
    if (!v->begun) {
        buf_printf(&v->b, "{\"run\":\"r%u\",\"jobs\":[", v->run);
        v->at = first;
    }
    for (int i = 0; i < PART && v->at; i++, v->at = c->s->want[v->at].next_of_run) {
        buf_puts(&v->b, v->at == first ? "{" : ",{");
        put_job(c, c->s->want[v->at].job, &v->b);
        buf_puts(&v->b, "}");
    }
    if (v->at) return false;
    buf_puts(&v->b, "]}");
    return true;
}

struct listing {
    struct buf *b;
    struct coordinator *c;
    int n;
};

static int put_point(void *arg, const struct st_point *p)
{
    static const char *const name[] = {"train_loss", "val_loss", "val_score", "lr",
                                       "records_per_s"};
    struct listing *l = arg;
    buf_printf(l->b, "%s{\"attempt\":%u,\"epoch\":%u", l->n++ ? "," : "", p->attempt, p->epoch);
    for (int i = 0; i < 5; i++) {
        buf_printf(l->b, ",\"%s\":", name[i]);
        buf_number(l->b, p->f[i]);
    }
    buf_puts(l->b, "}");
    return 0;
}

static void view_job(struct coordinator *c, uint32_t id, struct buf *b)
{
    const struct sc_job *j = &c->s->job[id];
    buf_puts(b, "{");
    put_job(c, id, b);
    buf_puts(b, ",");
    put_hash(b, "key", &j->key);
    buf_puts(b, ",\"parents\":[");
    for (int i = 0; i < 2; i++)
        if (j->parent[i]) buf_printf(b, "%s\"j%u\"", i ? "," : "", j->parent[i]);
    buf_puts(b, "],\"runs\":[");
    for (uint32_t w = j->want; w; w = c->s->want[w].next_of_job)
        buf_printf(b, "%s\"r%u\"", w == j->want ? "" : ",", c->s->want[w].run);
    buf_puts(b, "],\"outputs\":[");
    struct st_blob out[PR_MAX_OUTPUTS];
    int n = st_outputs(c->st, id, out, PR_MAX_OUTPUTS);
    for (int i = 0; i < n; i++) {
        buf_puts(b, i ? ",{" : "{");
        put_str(b, "role", out[i].role);
        buf_puts(b, ",");
        put_hash(b, "blob", &out[i].hash);
        buf_printf(b, ",\"size\":%llu}", (unsigned long long)out[i].size);
    }
    int64_t wall = 0;
    char *metrics = st_metrics(c->st, id, &wall);
    buf_printf(b, "],\"wall_ms\":%lld,\"metrics\":%s,\"curve\":[", (long long)wall,
               metrics && *metrics ? metrics : "{}");
    free(metrics);
    struct listing l = {b, c, 0};
    st_curve(c->st, id, put_point, &l);
    buf_puts(b, "]}");
}

/* ---- logs and events */

static void put_event(struct buf *b, const struct st_event *e)
{
    put_time(b, "time", e->time);
    buf_printf(b, ",\"type\":\"%s\"", e->job ? why_text(e->why) : "run");
    if (e->run) buf_printf(b, ",\"run\":\"r%u\"", e->run);
    if (e->job) buf_printf(b, ",\"job\":\"j%u\",\"state\":\"%s\"", e->job, sc_state_name(e->state));
    if (e->attempt) buf_printf(b, ",\"attempt\":%u", e->attempt);
    if (*e->worker) {
        buf_puts(b, ",");
        put_str(b, "worker", e->worker);
    }
    if (*e->text) {
        buf_puts(b, ",");
        put_str(b, "text", e->text);
    }
}

void view_happening(const struct coordinator *c, uint64_t seq, const struct happening *h,
                    struct buf *b)
{
    buf_printf(b, "{\"seq\":%llu,", (unsigned long long)seq);
    if (h->progress) {
        put_time(b, "time", h->time);
        buf_printf(b, ",\"type\":\"progress\",\"job\":\"j%u\",\"attempt\":%u,", h->job, h->attempt);
        put_str(b, "worker", h->worker);
        if (*h->text) buf_printf(b, ",%s", h->text);
    } else {
        put_event(b, &(struct st_event){.time = h->time,
                                        .why = h->why,
                                        .state = h->state,
                                        .run = h->run,
                                        .job = h->job,
                                        .attempt = h->attempt,
                                        .worker = h->worker,
                                        .text = h->text});
    }
    buf_puts(b, "}");
}

bool happening_in_run(const struct coordinator *c, const struct happening *h, uint32_t run)
{
    if (h->run == run) return true;
    for (uint32_t w = h->job ? c->s->job[h->job].want : 0; w; w = c->s->want[w].next_of_job)
        if (c->s->want[w].run == run) return true;
    return false;
}

static int put_log(void *arg, const struct st_event *e)
{
    struct listing *l = arg;
    buf_printf(l->b, "%s{\"seq\":%llu,", l->n++ ? "," : "", (unsigned long long)e->seq);
    put_event(l->b, e);
    buf_puts(l->b, "}");
    return 0;
}

static void view_log(struct coordinator *c, uint32_t run, uint32_t job, struct buf *b)
{
    struct listing l = {b, c, 0};
    buf_puts(b, "{\"events\":[");
    st_events(c->st, run, job, 5000, put_log, &l);
    buf_puts(b, "]}");
}

static void view_explain(struct coordinator *c, const char *id, uint32_t run, uint32_t job,
                         struct buf *b)
{
    char text[1500];
    int64_t now = cn_mono_ms();
    if (job) {
        sc_explain(c->s, job, now, text, sizeof text);
        buf_printf(b, "{\"id\":\"j%u\",\"state\":\"%s\",", job,
                   sc_state_name(c->s->job[job].state));
    } else {
        sc_explain_run(c->s, run, now, text, sizeof text);
        buf_printf(b, "{\"id\":\"r%u\",\"state\":\"%s\",\"paused\":%s,", run,
                   sc_run_state_name(sc_run_state(c->s, run)),
                   sc_run_paused(c->s, run) ? "true" : "false");
    }
    put_str(b, "text", text);
    buf_puts(b, "}");
}

/* ---- workers, data, keys */

/* Only what parses is passed on: the text is a worker's. */
static void put_engines(struct buf *b, const char *engines)
{
    json_t *list = engines ? json_loads(engines, JSON_REJECT_DUPLICATES, NULL) : NULL;
    char *text = json_is_array(list) ? json_dumps(list, JSON_COMPACT) : NULL;
    buf_puts(b, "\"engines\":");
    buf_puts(b, text ? text : "[]");
    free(text);
    json_decref(list);
}

static void put_worker(struct coordinator *c, const struct sc_worker *w, int64_t now, struct buf *b)
{
    put_str(b, "worker", w->name);
    buf_puts(b, ",");
    put_str(b, "host", w->host);
    buf_printf(b,
               ",\"connected\":%s,\"draining\":%s,\"slots\":%u,\"held\":%u,\"done\":%llu,\"silent_"
               "ms\":%lld,",
               w->connected ? "true" : "false", w->draining ? "true" : "false", w->slots, w->leases,
               (unsigned long long)w->done, (long long)(now - w->last_seen));
    buf_printf(b, "\"max_gang\":%u,\"gpu_bytes\":%llu,\"compute_capability\":%u,\"core\":%d,",
               w->max_gang, (unsigned long long)w->gpu_bytes, w->compute_capability, w->core);
    put_str(b, "isa", w->isa);
    buf_puts(b, ",");
    put_str(b, "device", w->device);
    buf_printf(b, ",\"gpus\":%u,", w->gpu_bytes && !w->gpus ? 1 : w->gpus);
    put_engines(b, w->engines);
    buf_puts(b, ",\"kinds\":[");
    for (int k = 1, n = 0; k < 5; k++)
        if (w->kinds & 1u << k) buf_printf(b, "%s\"%s\"", n++ ? "," : "", pr_kind_name(k));
    buf_puts(b, "],\"allocators\":[");
    const char *const *word = pr_words(PR_WORDS_ALLOCATOR);
    for (int a = 0, n = 0; word[a]; a++)
        if (w->allocators & 1u << a) {
            if (n++) buf_puts(b, ",");
            buf_json(b, word[a]);
        }
    buf_puts(b, "],\"jobs\":[");
    for (uint32_t id = w->lease; id; id = c->s->job[id].next_lease)
        buf_printf(b, "%s{\"job\":\"j%u\",\"started\":%s}", id == w->lease ? "" : ",", id,
                   c->s->job[id].started ? "true" : "false");
    buf_puts(b, "]");
}

/* v->at: the next worker - 1; v->job: how many are in it. */
static bool workers_part(struct coordinator *c, struct viewing *v)
{
    int64_t now = cn_mono_ms();
    if (!v->begun) buf_puts(&v->b, "{\"workers\":[");
    for (int i = 0; i < PART / 4 && v->at + 1 < c->s->n_workers; v->at++) {
        const struct sc_worker *w = &c->s->worker[v->at + 1];
        if (!w->used || (!w->connected && !w->leases && !w->done)) continue;
        buf_puts(&v->b, v->job++ ? ",{" : "{");
        put_worker(c, w, now, &v->b);
        buf_puts(&v->b, "}");
        i++;
    }
    if (v->at + 1 < c->s->n_workers) return false;
    buf_puts(&v->b, "]}");
    return true;
}

static bool data_part(struct coordinator *c, struct viewing *v)
{
    struct buf *b = &v->b;
    if (!v->begun) buf_puts(b, "{\"datasets\":[");
    for (int i = 0; i < PART / 10 && v->at < c->state.n_datasets; i++, v->at++) {
        const struct st_dataset *d = &c->state.dataset[v->at];
        buf_puts(b, v->at ? ",{" : "{");
        put_str(b, "name", d->name);
        buf_puts(b, ",");
        put_hash(b, "fingerprint", &d->fingerprint);
        buf_printf(b, ",\"size\":%llu,", (unsigned long long)d->size);
        if (d->size) {
            put_hash(b, "blob", &d->blob);
            buf_puts(b, ",");
        }
        put_str(b, "info", d->info);
        buf_puts(b, "}");
    }
    if (v->at < c->state.n_datasets) return false;
    buf_puts(b, "]}");
    return true;
}

static void view_keys(struct coordinator *c, struct buf *b)
{
    buf_puts(b, "{\"keys\":[");
    for (uint32_t i = 0; i < c->state.n_keys; i++) {
        const struct st_key *k = &c->state.key[i];
        buf_puts(b, i ? ",{" : "{");
        put_str(b, "name", k->name);
        buf_puts(b, ",");
        put_str(b, "role", k->role);
        buf_puts(b, ",");
        put_str(b, "public", k->public_key);
        buf_puts(b, ",");
        put_time(b, "created", k->created);
        buf_printf(b, ",\"revoked\":%s}", k->revoked ? "true" : "false");
    }
    buf_puts(b, "]}");
}

/* Which run or job it is about. */
static void begin(struct coordinator *c, struct viewing *v)
{
    if (v->what != CINCH__QUERY__WHAT__SHOW && v->what != CINCH__QUERY__WHAT__LOG &&
        v->what != CINCH__QUERY__WHAT__EXPLAIN && v->what != CINCH__QUERY__WHAT__JOBS &&
        v->what != CINCH__QUERY__WHAT__REPORT)
        return;
    v->code = parse_id(c, v->id, &v->run, &v->job, &v->error);
    if (!v->code && v->job &&
        (v->what == CINCH__QUERY__WHAT__REPORT || v->what == CINCH__QUERY__WHAT__JOBS))
        v->code = cn_fail(&v->error, CN_EINVALID, "that takes a run, not a job");
}

static bool part(struct coordinator *c, struct viewing *v)
{
    switch (v->what) {
    case CINCH__QUERY__WHAT__STATUS:
        view_status(c, &v->b);
        return true;
    case CINCH__QUERY__WHAT__LIST:
        return list_part(c, v);
    case CINCH__QUERY__WHAT__WORKERS:
        return workers_part(c, v);
    case CINCH__QUERY__WHAT__DATA:
        return data_part(c, v);
    case CINCH__QUERY__WHAT__KEYS:
        view_keys(c, &v->b);
        return true;
    case CINCH__QUERY__WHAT__SHOW:
        if (v->run)
            view_run(c, v->run, &v->b);
        else
            view_job(c, v->job, &v->b);
        return true;
    case CINCH__QUERY__WHAT__LOG:
        view_log(c, v->run, v->job, &v->b);
        return true;
    case CINCH__QUERY__WHAT__EXPLAIN:
        view_explain(c, v->id, v->run, v->job, &v->b);
        return true;
    case CINCH__QUERY__WHAT__JOBS:
        return jobs_part(c, v);
    default:
        return report_part(c, v);
    }
}

bool view_part(struct coordinator *c, struct viewing *v)
{
    if (!v->begun) begin(c, v);
    bool done = v->code || part(c, v);
    v->begun = true;
    if (!v->code && v->b.failed)
        v->code = cn_fail(&v->error, CN_ENOMEM, "the answer does not fit into memory");
    if (!v->code && v->b.n > PR_MAX_REPLY - 1024)
        v->code = cn_fail(&v->error, CN_ELIMIT,
                          "the answer is longer than %u MiB; ask for single jobs of %s",
                          PR_MAX_REPLY >> 20, v->id);
    return done || v->code;
}

void view_clear(struct viewing *v)
{
    report_clear(v->report);
    v->report = NULL;
    buf_free(&v->b);
}
