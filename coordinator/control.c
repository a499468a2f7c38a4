/* coordinator/control.c - what people order: cancel, retry, pause, resume, priority; and what state a
 * run is in, by one function for everyone. See sched.h.
 *
 * A run's state comes from its jobs and from whether it was cancelled:
 *   cancelled  somebody cancelled it (and nobody has retried anything of it since), or all that is left of
 *              it was cancelled job by job
 *   done       all its jobs have succeeded
 *   failed     nothing of it can go on, and something failed
 *   running    something is at a worker, or has ended
 *   waiting    nothing has begun
 * `paused` stands beside waiting and running: nothing new of it starts. Over are done, failed, cancelled.
 *
 * What an order does ("-": nothing, and the answer says so):
 *
 *            waiting, running   ... paused          done   failed        cancelled
 * cancel     cancelled          cancelled           -      cancelled     -
 * retry      what failed again  the same, held      -      again         again, all of it
 * pause      paused             -                   -      -             -
 * resume     -                  goes on             -      -             -
 * priority   at once            when it goes on     -      with a retry  with a retry
 *
 * To cancel ends a pause. Cancelling a run ends its jobs that no other live run wants; the others go on
 * for those. Retrying one job brings back what it builds on, as far as that failed or was cancelled; in a
 * cancelled run the run is live again for these jobs alone, and ends as cancelled when they are done
 * and others are not. A retry in a paused run waits like the rest of it. Retrying a job that waits, runs
 * or has succeeded does nothing.
 */
#include "coordinator/sched.h"

/* ---- states */

enum sc_run_state sc_run_state(const struct sched *s, uint32_t run)
{
    const struct sc_run *r = &s->run[run];
    bool open = r->count[SC_WAITING] || r->count[SC_READY] || r->count[SC_LEASED];
    if (r->cancelled) return SC_RUN_CANCELLED;
    if (r->count[SC_SUCCEEDED] == r->jobs) return SC_RUN_DONE;
    if (!open) return r->count[SC_FAILED] ? SC_RUN_FAILED : SC_RUN_CANCELLED;
    bool begun = r->count[SC_LEASED] || r->count[SC_SUCCEEDED] || r->count[SC_FAILED];
    return begun ? SC_RUN_RUNNING : SC_RUN_WAITING;
}

const char *sc_run_state_name(enum sc_run_state state)
{
    static const char *const name[] = {"waiting", "running", "done", "failed", "cancelled"};
    return name[state];
}

bool sc_run_over(const struct sched *s, uint32_t run)
{
    enum sc_run_state state = sc_run_state(s, run);
    return state != SC_RUN_WAITING && state != SC_RUN_RUNNING;
}

bool sc_run_paused(const struct sched *s, uint32_t run)
{
    return s->run[run].paused && !sc_run_over(s, run);
}

/* ---- cancel */

uint32_t sc_cancel_job(struct sched *s, uint32_t job, int64_t now)
{
    if (!sc__cancel(s, job, now)) return 0;
    uint32_t n = 1;
    for (uint32_t e = s->job[job].child; e; e = s->edge[e].next)
        n += sc_cancel_job(s, s->edge[e].job, now);
    return n;
}

uint32_t sc_cancel_run(struct sched *s, uint32_t run, int64_t now)
{
    uint32_t n = 0;
    if (sc_run_state(s, run) == SC_RUN_DONE) return 0;
    s->run[run].cancelled = true;
    s->run[run].paused = false;
    for (uint32_t w = s->run[run].want; w; w = s->want[w].next_of_run) {
        uint32_t id = s->want[w].job;
        if (!sc__wanted(s, id, run))
            n += sc__cancel(s, id, now);
        else if (s->job[id].state == SC_READY)
            sc__enqueue(s, id);
    }
    /* A job of another run may build on one that went just now. */
    for (uint32_t w = s->run[run].want; w; w = s->want[w].next_of_run)
        if (s->job[s->want[w].job].state == SC_CANCELLED)
            sc__settle_children(s, s->want[w].job, now);
    return n;
}

/* ---- retry */

bool sc_may_retry(const struct sched *s, uint32_t job)
{
    int state = s->job[job].state;
    return !s->job[job].broken &&
           (state == SC_FAILED || state == SC_CANCELLED || state == SC_BLOCKED);
}

static void requeue_run(struct sched *s, uint32_t run)
{
    for (uint32_t w = s->run[run].want; w; w = s->want[w].next_of_run)
        if (s->job[s->want[w].job].state == SC_READY) sc__enqueue(s, s->want[w].job);
}

static uint32_t revive_chain(struct sched *s, uint32_t job, int64_t now)
{
    uint32_t n = 0;
    for (int i = 0; i < 2; i++)
        if (s->job[job].parent[i] && sc_may_retry(s, s->job[job].parent[i]))
            n += revive_chain(s, s->job[job].parent[i], now);
    return n + sc__revive(s, job, now);
}

uint32_t sc_retry_job(struct sched *s, uint32_t job, uint32_t run, int64_t now)
{
    if (!sc_may_retry(s, job)) return 0;
    if (run) s->run[run].cancelled = false;
    uint32_t n = revive_chain(s, job, now);
    if (run) requeue_run(s, run);
    return n;
}

uint32_t sc_retry_run(struct sched *s, uint32_t run, int64_t now)
{
    uint32_t n = 0;
    s->run[run].cancelled = false;
    for (uint32_t w = s->run[run].want; w; w = s->want[w].next_of_run)
        n += sc__revive(s, s->want[w].job, now);
    requeue_run(s, run);
    return n;
}

/* ---- the rest */

bool sc_pause(struct sched *s, uint32_t run, bool paused, int64_t now)
{
    if (s->run[run].paused == paused || (paused && sc_run_over(s, run))) return false;
    s->run[run].paused = paused;
    requeue_run(s, run);
    return true;
}

bool sc_priority(struct sched *s, uint32_t run, int priority, int64_t now)
{
    if (sc_run_state(s, run) == SC_RUN_DONE) return false;
    s->run[run].priority = priority;
    requeue_run(s, run);
    return true;
}

void sc_drain(struct sched *s, uint32_t worker, bool drain)
{
    s->worker[worker].draining = drain;
}

void sc_dataset_stored(struct sched *s, uint32_t dataset, bool stored)
{
    s->dataset[dataset].stored = stored;
}
