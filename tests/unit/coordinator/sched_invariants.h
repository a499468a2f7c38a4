/* sched_invariants.h - what always holds between the scheduler's tables, whatever happened: each count is the number of what it
 * counts, one live attempt lies in one place, a job's state fits its parents' states, queues are heaps. */
#ifndef CINCH_TESTS_SCHED_INVARIANTS_H
#define CINCH_TESTS_SCHED_INVARIANTS_H

#include <string.h>

#include "coordinator/sched.h"

#define SC__TEXT2(line) #line
#define SC__TEXT(line) SC__TEXT2(line)
#define SC__HOLDS(cond)                                                                            \
    do {                                                                                           \
        if (!(cond)) return #cond " (sched_invariants.h:" SC__TEXT(__LINE__) ")";                  \
    } while (0)

static inline const char *sched__counts_of_jobs(const struct sched *s)
{
    uint32_t total[SC_STATES] = {0}, queued = 0;
    for (uint32_t j = 1; j < s->n_jobs; j++) {
        total[s->job[j].state]++;
        queued += s->job[j].queued != 0;
        SC__HOLDS(!s->job[j].queued || s->job[j].state == SC_READY);
    }
    SC__HOLDS(!memcmp(total, s->total, sizeof total));
    SC__HOLDS(queued == s->n_ready);
    for (uint32_t r = 1; r < s->n_runs; r++) {
        uint32_t count[SC_STATES] = {0};
        for (uint32_t i = s->run[r].want; i; i = s->want[i].next_of_run)
            count[s->job[s->want[i].job].state]++;
        SC__HOLDS(!memcmp(count, s->run[r].count, sizeof count));
    }
    return NULL;
}

static inline const char *sched__counts_of_leases(const struct sched *s)
{
    uint32_t leases = 0, of_users = 0;
    for (uint32_t i = 1; i < s->n_workers; i++) {
        uint32_t n = 0, units = 0;
        for (uint32_t j = s->worker[i].lease; j; j = s->job[j].next_lease, n++) {
            uint32_t k = s->worker[i].lease;
            while (k != j && (!s->job[j].unit || s->job[k].unit != s->job[j].unit))
                k = s->job[k].next_lease;
            units += k == j; /* the first of its unit */
            SC__HOLDS(s->job[j].state == SC_LEASED && s->job[j].worker == i);
        }
        SC__HOLDS(n == s->worker[i].leases && units == s->worker[i].units);
        leases += n;
    }
    SC__HOLDS(leases == s->total[SC_LEASED]);
    for (uint32_t u = 1; u < s->n_users; u++) of_users += s->user[u].leased;
    SC__HOLDS(of_users == leases);
    return NULL;
}

/* A ready job stands in a queue of each live run that wants it, and in no other. */
static inline const char *sched__places(const struct sched *s, const struct sc_job *j)
{
    uint32_t live = 0;
    for (uint32_t i = j->want; i; i = s->want[i].next_of_job) {
        const struct sc_want *w = &s->want[i];
        bool wanted = !s->run[w->run].paused && !s->run[w->run].cancelled;
        live += wanted;
        SC__HOLDS(wanted == (w->heap != 0));
        SC__HOLDS(!w->heap ||
                  (s->queue[w->queue].run == w->run && s->queue[w->queue].heap[w->heap - 1] == i));
    }
    SC__HOLDS(live == j->queued);
    return NULL;
}

static inline const char *sched__graph(const struct sched *s)
{
    for (uint32_t id = 1; id < s->n_jobs; id++) {
        const struct sc_job *j = &s->job[id];
        bool all = true, dead = false;
        for (int i = 0; i < 2; i++) {
            int p = j->parent[i] ? s->job[j->parent[i]].state : SC_SUCCEEDED;
            all = all && p == SC_SUCCEEDED;
            dead = dead || p == SC_FAILED || p == SC_CANCELLED || p == SC_BLOCKED;
        }
        SC__HOLDS(all || j->state != SC_READY);
        SC__HOLDS(all || s->damages || /* what it had fetched before may be lost since */
                  (j->state != SC_READY && j->state != SC_LEASED && j->state != SC_SUCCEEDED));
        SC__HOLDS(j->state != SC_WAITING || (!all && !dead));
        SC__HOLDS(j->state != SC_BLOCKED || dead);
        bool over = j->state == SC_SUCCEEDED || j->state == SC_FAILED || j->state == SC_CANCELLED;
        SC__HOLDS(over || sc__wanted(s, id, 0)); /* nothing stays open that no live run wants */
        const char *broken = j->state == SC_READY ? sched__places(s, j) : NULL;
        if (broken) return broken;
    }
    for (uint32_t q = 1; q < s->n_queues; q++)
        for (uint32_t i = 1; i < s->queue[q].n; i++)
            SC__HOLDS(s->job[s->want[s->queue[q].heap[(i - 1) / 2]].job].chain >=
                      s->job[s->want[s->queue[q].heap[i]].job].chain);
    return NULL;
}

/* The first that does not hold, in words; NULL when all do. */
static inline const char *sched_broken(const struct sched *s)
{
    const char *broken = sched__counts_of_jobs(s);
    if (!broken) broken = sched__counts_of_leases(s);
    return broken ? broken : sched__graph(s);
}

#endif
