/* coordinator/client.c - what people ask for: submit, look, watch, control. See core.h.
 */
#include "base/clock.h"

#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/core.h"
#include "proto/check.h"
#include "proto/client.h"

enum {
    MAX_WATCHERS = 10000,
    PEER_WATCHERS = 64, /* of one connection */
};

static void free_text(void *data, void *base)
{
    free(base);
}

/* Packs Json{text} around the text where it lies: long lists are not copied. */
static int wrap_json(struct buf *b, zmq_msg_t *out)
{
    uint8_t head[6];
    size_t n = b->n, n_head = 0;
    head[n_head++] = 1 << 3 | 2;
    do {
        head[n_head++] = (uint8_t)((n & 127) | (n > 127 ? 128 : 0));
        n >>= 7;
    } while (n);
    n = b->n;
    buf_add(b, "      ", n_head); /* room for it at the end, then everything moves up */
    char *text = buf_take(b);
    if (!text) return CN_ENOMEM;
    memmove(text + n_head, text, n);
    memcpy(text, head, n_head);
    return zmq_msg_init_data(out, text, n + n_head, free_text, text) ? CN_ENOMEM : 0;
}

int json_reply(struct coordinator *c, struct request *r, struct buf *b)
{
    struct pr_header h = {.type = PR_JSON, .id = r->h.id};
    zmq_msg_t body;
    if (wrap_json(b, &body))
        return cn_fail(&r->error, CN_ENOMEM, "the answer does not fit into memory");
    net_send_packed(c, r->peer, h, &body,
                    r->h.type != PR_QUERY && r->h.type != PR_WATCH && net_must_wait(c));
    return 0;
}

int parse_id(const struct coordinator *c, const char *id, uint32_t *run, uint32_t *job,
             struct cn_error *err)
{
    char *end;
    unsigned long v = strlen(id) > 1 ? strtoul(id + 1, &end, 10) : 0;
    *run = *job = 0;
    if (v && !*end && id[0] == 'r' && v < c->s->n_runs) {
        *run = (uint32_t)v;
        return 0;
    }
    if (v && !*end && id[0] == 'j' && v < c->s->n_jobs) {
        *job = (uint32_t)v;
        return 0;
    }
    for (uint32_t i = c->state.n_runs - 1; i >= 1; i--)
        if (!strcmp(c->state.run[i].name, id)) {
            *run = i;
            return 0;
        }
    return cn_fail(err, CN_ENOTFOUND, "no run or job '%.60s' here; cinch ls lists the runs", id);
}

/* Of runs with one name a user means their own: as "r12" in out; what is no such name as it is. */
static const char *own_named(const struct coordinator *c, const struct peer *p, const char *id,
                             char out[16])
{
    struct cn_error none;
    uint32_t run, job, user = sc_find_user(c->s, p->user);
    if (parse_id(c, id, &run, &job, &none) || !run || strcmp(c->state.run[run].name, id)) return id;
    for (uint32_t i = c->state.n_runs - 1; i >= 1; i--) {
        if (c->s->run[i].user != user || strcmp(c->state.run[i].name, id)) continue;
        snprintf(out, 16, "r%u", i);
        return out;
    }
    return id;
}

/* ---- looking */

struct looking {
    struct viewing v;
    size_t charged; /* of the document so far */
};

static void looking_end(struct coordinator *c, struct task *t)
{
    struct looking *l = t->state;
    ac_give_out(&c->accounts, t->r.peer->account, l->charged);
    view_clear(&l->v);
    free(l);
    if (c->door) door_room(c->door);
}

static int looking_step(struct coordinator *c, struct task *t)
{
    struct looking *l = t->state;
    if (t->r.peer->conn && t->r.peer->conn->left) return 0; /* for nobody */
    bool done = view_part(c, &l->v);
    if (l->v.b.n > l->charged) {
        ac_take_out(&c->accounts, t->r.peer->account, l->v.b.n - l->charged);
        l->charged = l->v.b.n;
    }
    if (!done) return 1;
    t->r.error = l->v.error;
    return l->v.code ? l->v.code : json_reply(c, &t->r, &l->v.b);
}

static bool is_long(int what)
{
    return what == CINCH__QUERY__WHAT__JOBS || what == CINCH__QUERY__WHAT__REPORT ||
           what == CINCH__QUERY__WHAT__LOG || what == CINCH__QUERY__WHAT__DATA ||
           what == CINCH__QUERY__WHAT__WORKERS;
}

int client_query(struct coordinator *c, struct request *r)
{
    const Cinch__Query *q = (const void *)r->body;
    if (q->what == CINCH__QUERY__WHAT__KEYS && !(r->peer->roles & PR_ROLE_ADMIN))
        return cn_fail(&r->error, CN_EREFUSED, "only an admin may list keys");
    /* who has not read the last one, or whose others have not, gets no further long one */
    if (is_long(q->what) && r->peer->conn &&
        (r->peer->conn->out > AC_FREE_OUT || !ac_room_out(&c->accounts, r->peer->account)))
        return NET_LATER;
    struct looking *l = calloc(1, sizeof *l);
    struct task *t = r->task = calloc(1, sizeof *t);
    if (!l || !t) {
        free(l);
        free(t);
        return cn_fail(&r->error, CN_ENOMEM, "out of memory");
    }
    l->v.what = (int)q->what;
    char own[16];
    snprintf(l->v.id, sizeof l->v.id, "%s", own_named(c, r->peer, q->id, own));
    t->state = l;
    t->step = looking_step;
    t->end = looking_end;
    return NET_TASK;
}

/* What has been looked at for it is not looked at again. */
static bool anything_for(const struct coordinator *c, struct watcher *w)
{
    uint64_t oldest = c->next_seq > CO_RING ? c->next_seq - CO_RING : 0;
    if (w->seen < w->after) w->seen = w->after;
    if (w->seen < oldest) w->seen = oldest;
    for (; w->seen < c->next_seq; w->seen++)
        if (!w->run || happening_in_run(c, &c->ring[w->seen % CO_RING], w->run)) return true;
    return false;
}

static void answer_watcher(struct coordinator *c, const struct watcher *w)
{
    struct buf b = {0};
    uint64_t oldest = c->next_seq > CO_RING ? c->next_seq - CO_RING : 0, from = w->after;
    int n = 0;
    if (from < oldest) from = oldest;
    if (from > c->next_seq) from = c->next_seq;
    uint64_t q = from;
    buf_puts(&b, "{\"events\":[");
    for (; q < c->next_seq && n < 1000; q++) {
        const struct happening *h = &c->ring[q % CO_RING];
        if (!h->time || (w->run && !happening_in_run(c, h, w->run))) continue;
        if (n++) buf_puts(&b, ",");
        view_happening(c, q, h, &b);
    }
    buf_printf(&b, "],\"next\":%llu,\"lost\":%s}", (unsigned long long)q,
               w->after < oldest ? "true" : "false");
    struct peer p = w->peer;
    struct request r = {.peer = &p, .h = {.type = PR_WATCH, .id = w->id}};
    json_reply(c, &r, &b);
}

static bool same_peer(const struct peer *a, const struct peer *b)
{
    return a->socket == b->socket && a->n_identity == b->n_identity &&
           !memcmp(a->identity, b->identity, (size_t)a->n_identity);
}

void client_forget_watches(struct coordinator *c, const struct peer *p)
{
    for (struct watcher **at = &c->watchers; *at;) {
        struct watcher *w = *at;
        if (!same_peer(&w->peer, p)) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        free(w);
    }
}

/* Sequence numbers start at the wall clock of the start, so that numbers from before a restart show
 * as lost. */
int client_watch(struct coordinator *c, struct request *r)
{
    const Cinch__Watch *q = (const void *)r->body;
    struct watcher w = {
        .peer = *r->peer, .id = r->h.id, .after = q->after ? q->after : c->next_seq};
    uint32_t job, n = 0, here = 0;
    char own[16];
    int rc = *q->id ? parse_id(c, own_named(c, r->peer, q->id, own), &w.run, &job, &r->error) : 0;
    if (rc) return rc;
    if (*q->id && !w.run) return cn_fail(&r->error, CN_EINVALID, "watch takes a run, not a job");
    w.deadline = cn_mono_ms() + q->timeout_ms;
    if (anything_for(c, &w) || !q->timeout_ms || w.after > c->next_seq) {
        answer_watcher(c, &w);
        return 0;
    }
    for (struct watcher *o = c->watchers; o; o = o->next) {
        n++;
        here += same_peer(&o->peer, &w.peer);
    }
    if (n >= MAX_WATCHERS || here >= PEER_WATCHERS)
        return cn_fail(&r->error, CN_ELIMIT, "too many watchers");
    if ((rc = entries_watcher(c, r->peer, &r->error))) return rc;
    struct watcher *kept = malloc(sizeof *kept);
    if (!kept) return cn_fail(&r->error, CN_ENOMEM, "out of memory");
    *kept = w;
    kept->next = c->watchers;
    c->watchers = kept;
    r->peer->watched = true;
    return 0;
}

void client_wake_watchers(struct coordinator *c, int64_t now)
{
    for (struct watcher **at = &c->watchers; *at;) {
        struct watcher *w = *at;
        if (now < w->deadline && !anything_for(c, w)) {
            at = &w->next;
            continue;
        }
        answer_watcher(c, w);
        *at = w->next;
        free(w);
    }
}

/* ---- control */

static int own(const struct coordinator *c, const struct request *r, uint32_t run,
               struct cn_error *err)
{
    const char *user = c->s->user[c->s->run[run].user].name;
    if ((r->peer->roles & PR_ROLE_ADMIN) || !strcmp(user, r->peer->user)) return 0;
    return cn_fail(err, CN_EREFUSED, "r%u belongs to %s; only they or an admin may do that", run,
                   user);
}

static bool is_own(const struct coordinator *c, const struct request *r, uint32_t run)
{
    return (r->peer->roles & PR_ROLE_ADMIN) ||
           !strcmp(c->s->user[c->s->run[run].user].name, r->peer->user);
}

/* Cancelling a job takes it from every live run that wants it: all of them must be one's own. */
static int own_everywhere(const struct coordinator *c, const struct request *r, uint32_t job,
                          struct cn_error *err)
{
    bool live = false, mine = false;
    uint32_t other = 0;
    for (uint32_t w = c->s->job[job].want; w; w = c->s->want[w].next_of_job) {
        uint32_t run = c->s->want[w].run;
        bool own_run = is_own(c, r, run), alive = !c->s->run[run].cancelled;
        if (!own_run && (alive || !other)) other = run;
        if (!own_run && alive) return own(c, r, run, err);
        live = live || alive;
        mine = mine || own_run;
    }
    return mine || live || !other ? 0 : own(c, r, other, err);
}

/* Retrying is for whoever has a live run that wants the job. Else *revived is the latest of one's own
 * cancelled ones, which will be live again for it. */
static int own_somewhere(const struct coordinator *c, const struct request *r, uint32_t job,
                         uint32_t *revived, struct cn_error *err)
{
    uint32_t other = 0;
    *revived = 0;
    for (uint32_t w = c->s->job[job].want; w; w = c->s->want[w].next_of_job) {
        uint32_t run = c->s->want[w].run;
        other = run;
        if (!is_own(c, r, run)) continue;
        if (!c->s->run[run].cancelled) {
            *revived = 0;
            return 0;
        }
        if (run > *revived) *revived = run;
    }
    if (*revived) return 0;
    return other ? own(c, r, other, err) : cn_fail(err, CN_ENOTFOUND, "no run wants j%u", job);
}

static int drain(struct coordinator *c, struct request *r, const Cinch__Control *q, uint32_t *n)
{
    bool on = q->what == CINCH__CONTROL__WHAT__DRAIN;
    if (!(r->peer->roles & PR_ROLE_ADMIN))
        return cn_fail(&r->error, CN_EREFUSED, "only an admin may drain workers");
    for (uint32_t i = 1; i < c->s->n_workers; i++) {
        if (!c->s->worker[i].used || (*q->id && strcmp(c->s->worker[i].name, q->id))) continue;
        sc_drain(c->s, i, on);
        ++*n;
    }
    return *n || !*q->id ? 0
                         : cn_fail(&r->error, CN_ENOTFOUND,
                                   "no worker '%.60s'; cinch workers lists them", q->id);
}

/* What an order did. */
struct outcome {
    uint32_t changed;
    char text[160]; /* a sentence when there is more to say than a number */
};

static void say(struct outcome *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say(struct outcome *o, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(o->text, sizeof o->text, fmt, ap);
    va_end(ap);
}

/* Why an order to a run changed nothing. */
static void say_why_not(const struct coordinator *c, Cinch__Control__What what, uint32_t run,
                        struct outcome *o)
{
    const char *state = sc_run_state_name(sc_run_state(c->s, run));
    if (what == CINCH__CONTROL__WHAT__RETRY)
        say(o, "nothing of r%u has failed or was cancelled; it is %s", run, state);
    else if (sc_run_over(c->s, run))
        say(o, "r%u is %s and stays so", run, state);
    else
        say(o, "r%u is %s already", run, sc_run_paused(c->s, run) ? "paused" : state);
}

static uint32_t order(struct coordinator *c, const Cinch__Control *q, uint32_t run)
{
    int64_t now = cn_mono_ms();
    switch ((int)q->what) {
    case CINCH__CONTROL__WHAT__CANCEL:
        return sc_cancel_run(c->s, run, now);
    case CINCH__CONTROL__WHAT__RETRY:
        return sc_retry_run(c->s, run, now);
    case CINCH__CONTROL__WHAT__PAUSE:
        return sc_pause(c->s, run, true, now);
    case CINCH__CONTROL__WHAT__RESUME:
        return sc_pause(c->s, run, false, now);
    default:
        return sc_priority(c->s, run, q->value, now);
    }
}

static int control_run(struct coordinator *c, struct request *r, const Cinch__Control *q,
                       uint32_t run, struct outcome *o)
{
    static const char *const verb[] = {"",        "cancelled", "retried", "paused",
                                       "resumed", "",          "",        "reprioritised"};
    int rc = own(c, r, run, &r->error);
    if (!rc) rc = entries_order(c, r->peer, c->s->run[run].jobs, &r->error);
    if (rc) return rc;
    const struct sc_run before = c->s->run[run];
    o->changed = order(c, q, run);
    const struct sc_run *after = &c->s->run[run];
    if (!o->changed && before.cancelled == after->cancelled) {
        say_why_not(c, q->what, run, o);
        return 0;
    }
    if (!o->changed && q->what == CINCH__CONTROL__WHAT__CANCEL)
        say(o, "r%u is cancelled; its jobs go on for the other runs that want them", run);
    if (!o->changed && q->what == CINCH__CONTROL__WHAT__RETRY)
        say(o, "r%u is live again; its jobs went on for other runs", run);
    if (sc_run_paused(c->s, run) && q->what == CINCH__CONTROL__WHAT__RETRY)
        say(o, "r%u is paused: they wait for cinch resume r%u", run, run);
    note(c, (struct st_op){.kind = ST_RUN, .run = run});
    note_run_event(c, run, "%s by %s", verb[q->what], r->peer->user);
    return 0;
}

static int retry_job(struct coordinator *c, struct request *r, uint32_t job, struct outcome *o)
{
    uint32_t revived;
    int rc = own_somewhere(c, r, job, &revived, &r->error);
    if (rc) return rc;
    if (!sc_may_retry(c->s, job)) {
        say(o, "j%u is %s: there is nothing to retry", job, sc_state_name(c->s->job[job].state));
        return 0;
    }
    o->changed = sc_retry_job(c->s, job, revived, cn_mono_ms());
    if (revived) {
        note(c, (struct st_op){.kind = ST_RUN, .run = revived});
        note_run_event(c, revived, "live again for j%u, by %s", job, r->peer->user);
        say(o, "r%u, which was cancelled, is live again for it", revived);
    } else if (c->s->job[job].state == SC_READY && !c->s->job[job].queued) {
        say(o, "it waits: every run that wants it is paused");
    }
    return 0;
}

static int control_job(struct coordinator *c, struct request *r, const Cinch__Control *q,
                       uint32_t job, struct outcome *o)
{
    bool cancel = q->what == CINCH__CONTROL__WHAT__CANCEL;
    if (!cancel && q->what != CINCH__CONTROL__WHAT__RETRY)
        return cn_fail(&r->error, CN_EINVALID,
                       "that is for runs; a job can be cancelled and retried");
    int rc = entries_order(c, r->peer, 1, &r->error);
    if (!rc) rc = cancel ? own_everywhere(c, r, job, &r->error) : retry_job(c, r, job, o);
    if (rc) return rc;
    if (cancel) o->changed = sc_cancel_job(c->s, job, cn_mono_ms());
    if (cancel && !o->changed)
        say(o, "j%u is %s: there is nothing to cancel", job, sc_state_name(c->s->job[job].state));
    if (!o->changed) return 0;
    struct happening h = {
        .job = job, .why = cancel ? SC_WHY_CANCEL : SC_WHY_RETRY, .state = c->s->job[job].state};
    snprintf(h.text, sizeof h.text, "asked for by %s", r->peer->user);
    note_event(c, h);
    return 0;
}

int client_control(struct coordinator *c, struct request *r)
{
    const Cinch__Control *q = (const void *)r->body;
    struct outcome o = {0};
    uint32_t run = 0, job = 0;
    int rc;
    if (c->filing && r->peer->conn) return NET_LATER; /* half of a run cannot be ordered about */
    if (q->what == CINCH__CONTROL__WHAT__DRAIN || q->what == CINCH__CONTROL__WHAT__UNDRAIN) {
        rc = drain(c, r, q, &o.changed);
    } else {
        char own[16];
        rc = parse_id(c, own_named(c, r->peer, q->id, own), &run, &job, &r->error);
        if (!rc) rc = run ? control_run(c, r, q, run, &o) : control_job(c, r, q, job, &o);
    }
    if (rc) return rc;
    struct buf b = {0};
    buf_puts(&b, "{\"id\":");
    buf_json(&b, q->id);
    if (run || job)
        buf_printf(&b, ",\"state\":\"%s\"",
                   run ? sc_run_state_name(sc_run_state(c->s, run))
                       : sc_state_name(c->s->job[job].state));
    buf_puts(&b, ",\"text\":");
    buf_json(&b, o.text);
    buf_printf(&b, ",\"changed\":%u}", o.changed);
    effects_apply(c); /* so that the answer waits for their commit */
    return json_reply(c, r, &b);
}
