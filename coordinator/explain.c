/* coordinator/explain.c - why a job is where it is, in words. Pure, like all of the scheduler. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "coordinator/sched.h"
#include "proto/spec.h"

struct text {
    char *at;
    size_t left;
};

__attribute__((format(printf, 2, 3))) static void say(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(t->at, t->left, fmt, ap);
    va_end(ap);
    if (n < 0) return;
    size_t step = (size_t)n < t->left ? (size_t)n : t->left ? t->left - 1 : 0;
    t->at += step;
    t->left -= step;
}

/* The first failed or cancelled job up the chain: the root cause. */
static uint32_t root_cause(const struct sched *s, uint32_t id)
{
    const struct sc_job *j = &s->job[id];
    for (int i = 0; i < 2; i++) {
        if (!j->parent[i]) continue;
        int p = s->job[j->parent[i]].state;
        if (p == SC_FAILED || p == SC_CANCELLED) return j->parent[i];
        if (p == SC_BLOCKED) return root_cause(s, j->parent[i]);
    }
    return 0;
}

/* What keeps one worker from taking the job. */
static const char *misfit(const struct sched *s, const struct sc_worker *w, const struct sc_job *j)
{
    const struct sc_base *b = &s->base[j->base];
    if (!w->connected) return "is not connected";
    if (w->draining) return "is draining";
    if (!(w->kinds & 1u << j->kind)) return "does not run jobs of this kind";
    if (w->gpu_bytes < b->gpu_bytes) return "has too little GPU memory";
    if (w->gpus < b->gpus) return "has fewer GPUs than one job asks for";
    if (b->allocators & ~w->allocators) return "lacks an allocator that the measurement asks for";
    if (!sc_suits(s, w, j)) return "lacks the dataset, and the coordinator holds no copy to send";
    return NULL;
}

/* It is ready, and no run lets it run. */
static void explain_held(const struct sched *s, const struct sc_job *j, struct text *t)
{
    uint32_t paused = 0;
    for (uint32_t w = j->want; w && !paused; w = s->want[w].next_of_job)
        if (sc_run_paused(s, s->want[w].run)) paused = s->want[w].run;
    if (paused)
        say(t, "it could run, but r%u is paused and no other run asks for it; cinch resume r%u",
            paused, paused);
    else
        say(t, "it could run, but every run that wants it is cancelled; retry brings it back");
}

static void explain_ready(const struct sched *s, uint32_t id, struct text *t)
{
    const struct sc_job *j = &s->job[id];
    if (!j->queued) {
        explain_held(s, j, t);
        return;
    }
    uint32_t suitable = 0, listed = 0, workers = 0;
    for (uint32_t i = 1; i < s->n_workers; i++) {
        workers += s->worker[i].used;
        suitable += s->worker[i].used && !misfit(s, &s->worker[i], j);
    }
    if (suitable) {
        say(t,
            "it could run; %u suitable worker%s busy with jobs that come first (%u ready in all)",
            suitable, suitable == 1 ? " is" : "s are", s->n_ready);
        return;
    }
    say(t, "no worker can take it");
    if (!workers) say(t, ": none has ever connected; start cinch-train or cinch-eval");
    for (uint32_t i = 1; i < s->n_workers && listed < 5; i++)
        if (s->worker[i].used)
            say(t, "%s%s %s", listed++ ? ", " : ": ", s->worker[i].name,
                misfit(s, &s->worker[i], j));
}

static void explain_waiting(const struct sched *s, const struct sc_job *j, struct text *t)
{
    say(t, "it waits for");
    for (int i = 0, n = 0; i < 2; i++) {
        uint32_t p = j->parent[i];
        if (p && s->job[p].state != SC_SUCCEEDED)
            say(t, "%s j%u (%s, %s)", n++ ? " and" : "", p, pr_kind_name(s->job[p].kind),
                sc_state_name(s->job[p].state));
    }
}

void sc_explain(const struct sched *s, uint32_t id, int64_t now, char *out, size_t cap)
{
    const struct sc_job *j = &s->job[id];
    struct text t = {out, cap};
    *out = 0;
    if (j->broken) {
        say(&t,
            "its row in queue.db makes no sense to this version: it is set aside; submit the grid "
            "again");
        return;
    }
    switch (j->state) {
    case SC_WAITING:
        explain_waiting(s, j, &t);
        break;
    case SC_READY:
        explain_ready(s, id, &t);
        break;
    case SC_LEASED: {
        const struct sc_worker *w = &s->worker[j->worker];
        say(&t, "it is with worker %s (attempt %u) for %lld s%s", w->name, j->attempt,
            (long long)(now - j->since) / 1000,
            !w->connected ? ", which is silent; it moves on when that lasts"
            : j->started  ? ""
                          : ", queued behind what runs there");
        break;
    }
    case SC_SUCCEEDED:
        say(&t, "it is done (attempt %u)", j->attempt);
        break;
    case SC_FAILED:
        say(&t, "it failed in attempt %u%s; retry it when the cause is gone", j->attempt,
            j->crashes >= s->limits.crashes ? ", the last that is tried by itself"
            : j->lost >= s->limits.losses   ? ": too many workers were lost with it"
                                            : " for a reason that another attempt cannot mend");
        break;
    case SC_CANCELLED:
        say(&t, "it was cancelled; retry brings it back");
        break;
    case SC_BLOCKED: {
        uint32_t root = root_cause(s, id);
        say(&t, "it cannot run because j%u (%s), which it builds on, %s; retry that one", root,
            pr_kind_name(s->job[root].kind),
            s->job[root].state == SC_FAILED ? "failed" : "was cancelled");
        break;
    }
    }
}

void sc_explain_run(const struct sched *s, uint32_t run, int64_t now, char *out, size_t cap)
{
    const struct sc_run *r = &s->run[run];
    struct text t = {out, cap};
    *out = 0;
    if (sc_run_paused(s, run)) say(&t, "the run is paused, cinch resume r%u lets it go on; ", run);
    if (sc_run_state(s, run) == SC_RUN_CANCELLED) say(&t, "the run was cancelled; ");
    say(&t, "%u of %u jobs are done, %u run, %u are ready, %u wait, %u failed, %u are blocked",
        r->count[SC_SUCCEEDED], r->jobs, r->count[SC_LEASED], r->count[SC_READY],
        r->count[SC_WAITING], r->count[SC_FAILED], r->count[SC_BLOCKED]);
    if (r->count[SC_CANCELLED]) say(&t, ", %u were cancelled", r->count[SC_CANCELLED]);
    for (uint32_t w = r->want; w;
         w = s->want[w].next_of_run) { /* the first that stands tells most */
        const struct sc_job *j = &s->job[s->want[w].job];
        if (j->state != SC_FAILED && j->state != SC_READY) continue;
        say(&t, "; j%u: ", s->want[w].job);
        sc_explain(s, s->want[w].job, now, t.at, t.left);
        break;
    }
}
