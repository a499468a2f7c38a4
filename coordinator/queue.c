/* coordinator/queue.c - ready jobs: one heap per (run, shape), and the choice among them. A job stands
 * in a heap of every live run that wants it. See sched.h for the rules.
 *
 * The choice looks at the first job of every queue that holds something: their number is that of
 * runs times shapes at work (tens to hundreds), not that of jobs, so it costs the same with 1,000
 * and with 100,000 ready.
 */
#include <stdlib.h>
#include <string.h>

#include "coordinator/sched.h"

static const struct sc_job *job_at(const struct sched *s, uint32_t want)
{
    return &s->job[s->want[want].job];
}

static bool before(const struct sched *s, uint32_t a, uint32_t b)
{
    const struct sc_job *x = job_at(s, a), *y = job_at(s, b);
    return x->chain != y->chain ? x->chain > y->chain : s->want[a].job < s->want[b].job;
}

static void place(struct sched *s, struct sc_queue *q, uint32_t at, uint32_t want)
{
    q->heap[at] = want;
    s->want[want].heap = at + 1;
}

static void sift_up(struct sched *s, struct sc_queue *q, uint32_t at)
{
    uint32_t want = q->heap[at];
    while (at && before(s, want, q->heap[(at - 1) / 2])) {
        place(s, q, at, q->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    place(s, q, at, want);
}

static void sift_down(struct sched *s, struct sc_queue *q, uint32_t at)
{
    uint32_t want = q->heap[at];
    for (;;) {
        uint32_t kid = 2 * at + 1;
        if (kid >= q->n) break;
        if (kid + 1 < q->n && before(s, q->heap[kid + 1], q->heap[kid])) kid++;
        if (!before(s, q->heap[kid], want)) break;
        place(s, q, at, q->heap[kid]);
        at = kid;
    }
    place(s, q, at, want);
}

void sc__chain_grew(struct sched *s, uint32_t job)
{
    for (uint32_t w = s->job[job].want; w; w = s->want[w].next_of_job)
        if (s->want[w].heap) sift_up(s, &s->queue[s->want[w].queue], s->want[w].heap - 1);
}

static bool live(const struct sc_run *r)
{
    return !r->paused && !r->cancelled;
}

uint32_t sc_find_run_of(const struct sched *s, uint32_t job)
{
    uint32_t best = 0;
    for (uint32_t w = s->job[job].want; w; w = s->want[w].next_of_job) {
        uint32_t id = s->want[w].run;
        const struct sc_run *r = &s->run[id];
        if (!live(r)) continue;
        if (!best || r->priority > s->run[best].priority ||
            (r->priority == s->run[best].priority && id < best))
            best = id;
    }
    return best;
}

uint32_t sc_time_limit(const struct sched *s, uint32_t job)
{
    uint32_t limit = 0;
    bool any = false;
    for (uint32_t w = s->job[job].want; w; w = s->want[w].next_of_job) {
        const struct sc_run *r = &s->run[s->want[w].run];
        if (r->cancelled) continue;
        if (!r->time_limit_s) return 0;
        if (r->time_limit_s > limit) limit = r->time_limit_s;
        any = true;
    }
    return any ? limit : 0;
}

static uint32_t queue_for(struct sched *s, uint32_t run, uint32_t shape)
{
    struct sc_run *r = &s->run[run];
    for (uint32_t i = 0; i < r->n_queues; i++)
        if (s->queue[r->queue[i]].shape == shape) return r->queue[i];
    uint32_t *list = realloc(r->queue, (r->n_queues + 1) * sizeof *list);
    if (!list) return 0;
    r->queue = list;
    if (!sc__grow(&s->queue, &s->cap_queues, s->n_queues + 1, sizeof *s->queue)) return 0;
    s->queue[s->n_queues] = (struct sc_queue){.run = run, .shape = shape};
    r->queue[r->n_queues++] = s->n_queues;
    return s->n_queues++;
}

static bool mark_busy(struct sched *s, uint32_t queue)
{
    if (!sc__grow(&s->busy, &s->cap_busy, s->n_busy + 1, sizeof *s->busy)) return false;
    s->busy[s->n_busy++] = queue;
    return true;
}

static void unmark_busy(struct sched *s, uint32_t queue)
{
    for (uint32_t i = 0; i < s->n_busy; i++)
        if (s->busy[i] == queue) {
            s->busy[i] = s->busy[--s->n_busy];
            return;
        }
}

static void leave(struct sched *s, uint32_t want)
{
    struct sc_want *w = &s->want[want];
    struct sc_queue *q = &s->queue[w->queue];
    uint32_t at = w->heap - 1, last = q->heap[--q->n];
    w->heap = 0;
    if (at < q->n) {
        place(s, q, at, last);
        sift_up(s, q, at);
        sift_down(s, q, s->want[last].heap - 1);
    }
    if (!q->n) {
        unmark_busy(s, w->queue);
        free(q->heap); /* a queue that is done keeps no memory */
        q->heap = NULL;
        q->cap = 0;
    }
}

void sc__dequeue(struct sched *s, uint32_t id)
{
    struct sc_job *j = &s->job[id];
    if (!j->queued) return;
    for (uint32_t w = j->want; w; w = s->want[w].next_of_job)
        if (s->want[w].heap) leave(s, w);
    j->queued = 0;
    s->n_ready--;
}

static bool join(struct sched *s, uint32_t want)
{
    struct sc_want *w = &s->want[want];
    uint32_t queue = queue_for(s, w->run, s->job[w->job].shape);
    struct sc_queue *q = &s->queue[queue];
    if (!queue || !sc__grow(&q->heap, &q->cap, q->n + 1, sizeof *q->heap) ||
        (!q->n && !mark_busy(s, queue)))
        return false;
    w->queue = queue;
    q->n++;
    place(s, q, q->n - 1, want);
    sift_up(s, q, q->n - 1);
    return true;
}

void sc__enqueue(struct sched *s, uint32_t id)
{
    struct sc_job *j = &s->job[id];
    sc__dequeue(s, id);
    for (uint32_t w = j->want; w; w = s->want[w].next_of_job) {
        if (!live(&s->run[s->want[w].run])) continue;
        if (join(s, w))
            j->queued++;
        else
            s->nomem = true;
    }
    s->n_ready += j->queued != 0;
}

bool sc_suits(const struct sched *s, const struct sc_worker *w, const struct sc_job *j)
{
    const struct sc_base *b = &s->base[j->base];
    if (!(w->kinds & 1u << j->kind) || w->gpu_bytes < b->gpu_bytes || w->gpus < b->gpus ||
        (b->allocators & ~w->allocators))
        return false;
    const struct sc_dataset *d = &s->dataset[b->dataset];
    if (!b->dataset || d->stored) return true;
    for (uint32_t i = 0; i < w->n_datasets; i++)
        if (!memcmp(&w->datasets[i], &d->fingerprint, sizeof d->fingerprint)) return true;
    return false;
}

/* Whether queue a is to be served before queue b. */
static bool queue_before(const struct sched *s, uint32_t a, uint32_t b)
{
    const struct sc_queue *p = &s->queue[a], *q = &s->queue[b];
    const struct sc_run *x = &s->run[p->run], *y = &s->run[q->run];
    if (x->priority != y->priority) return x->priority > y->priority;
    const struct sc_user *u = &s->user[x->user], *v = &s->user[y->user];
    if (u != v && u->leased != v->leased) return u->leased < v->leased;
    if (u != v && u->served != v->served) return u->served < v->served;
    if (p->run != q->run) return p->run < q->run;
    return before(s, p->heap[0], q->heap[0]);
}

/* The queue to serve `w` from, or 0. All jobs of a queue have one shape, so what suits its first
 * suits all of them. */
static uint32_t choose(const struct sched *s, const struct sc_worker *w)
{
    uint32_t best = 0;
    for (uint32_t i = 0; i < s->n_busy; i++) {
        uint32_t q = s->busy[i];
        if ((!best || queue_before(s, q, best)) && sc_suits(s, w, job_at(s, s->queue[q].heap[0])))
            best = q;
    }
    return best;
}

/* The job of `want`, for the user of its run. */
static void lease(struct sched *s, uint32_t worker, uint32_t want, uint32_t unit, int64_t now)
{
    uint32_t id = s->want[want].job, payer = s->run[s->want[want].run].user;
    struct sc_job *j = &s->job[id];
    sc__dequeue(s, id);
    s->user[payer].served = ++s->next_served;
    for (uint32_t w = j->want; w; w = s->want[w].next_of_job) {
        s->run[s->want[w].run].count[SC_READY]--;
        s->run[s->want[w].run].count[SC_LEASED]++;
    }
    s->total[SC_READY]--;
    s->total[SC_LEASED]++;
    j->state = SC_LEASED;
    j->attempt++;
    j->since = now;
    j->started = 0;
    j->limit_s = sc_time_limit(s, id);
    sc__link(s, id, worker, unit, payer);
    sc__effect(s, (struct sc_effect){.what = SC_DO_GRANT,
                                     .state = SC_LEASED,
                                     .why = SC_WHY_GRANT,
                                     .job = id,
                                     .attempt = j->attempt,
                                     .worker = worker,
                                     .unit = unit});
}

static bool grant(struct sched *s, uint32_t worker, int64_t now)
{
    struct sc_worker *w = &s->worker[worker];
    uint32_t queue = choose(s, w);
    if (!queue) return false;
    uint32_t n = s->queue[queue].n, most = w->max_gang > 1 ? w->max_gang : 1;
    if (n > most) n = most;
    const struct sc_shape *shape = &s->shape[s->queue[queue].shape];
    /* neither evaluations nor jobs on several cards */
    if (shape->kind == 4 || s->base[shape->base].gpus > 1) n = 1;
    uint32_t unit = n > 1 ? ++s->next_unit : 0;
    for (uint32_t i = 0; i < n; i++) lease(s, worker, s->queue[queue].heap[0], unit, now);
    return true;
}

/* One pass fills slots (or, the second time, what is prefetched), the emptiest worker first. */
static void fill(struct sched *s, bool prefetch, int64_t now)
{
    bool more = true;
    for (uint32_t level = 0; more && s->n_ready; level++) {
        more = false;
        for (uint32_t i = 1; i < s->n_workers && s->n_ready; i++) {
            struct sc_worker *w = &s->worker[i];
            if (!w->used || !w->connected || w->draining) continue;
            uint32_t most = prefetch || w->capacity < w->slots ? w->capacity : w->slots;
            if (w->units >= most) continue;
            if (w->units > level)
                more = true;
            else if (grant(s, i, now))
                more = more || w->units < most;
        }
    }
}

void sc_assign(struct sched *s, int64_t now)
{
    if (!s->n_ready) return;
    fill(s, false, now);
    fill(s, true, now);
}
