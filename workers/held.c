/* held.c - what a worker holds: leases, and the units that wait for a slot. Everything here runs
 * with the worker's lock held.
 */
#include <stdlib.h>

#include "workers/worker_private.h"

struct held *held_find(struct worker *w, uint64_t job, uint32_t attempt)
{
    for (struct held *h = w->held; h; h = h->next)
        if (h->job == job && h->attempt == attempt) return h;
    return NULL;
}

void held_remove(struct worker *w, struct held *gone)
{
    struct held **at = &w->held;
    while (*at && *at != gone) at = &(*at)->next;
    if (!*at) return;
    *at = gone->next;
    free(gone);
}

void held_stop(struct held *h, enum stop why)
{
    int now = atomic_load(&h->stop);
    while (now < (int)why && !atomic_compare_exchange_weak(&h->stop, &now, (int)why)) {
    }
}

static struct held *held_add(struct worker *w, uint64_t job, uint32_t attempt)
{
    struct held *h = calloc(1, sizeof *h);
    if (!h) return NULL;
    h->job = job;
    h->attempt = attempt;
    h->next = w->held;
    w->held = h;
    return h;
}

/* Leases that are not new go to the end of the array and n_new becomes their count before it. */
static size_t new_leases(struct worker *w, Cinch__LeaseGrant *grant)
{
    size_t n = 0;
    for (size_t i = 0; i < grant->n_leases; i++) {
        Cinch__Lease *l = grant->leases[i];
        bool usable = l->spec && l->spec->common && n < NN_MAX_GANG;
        if (!usable || held_find(w, l->job, l->attempt)) continue;
        grant->leases[i] = grant->leases[n];
        grant->leases[n++] = l;
    }
    return n;
}

struct unit *unit_create(struct worker *w, Cinch__LeaseGrant *grant)
{
    size_t n = new_leases(w, grant);
    struct unit *u = n ? calloc(1, sizeof *u) : NULL;
    if (!u) {
        pr_free(grant);
        return NULL;
    }
    u->grant = grant;
    for (size_t i = 0; i < n; i++) {
        /* An older attempt of the same job that still runs here is not ours any more. */
        for (struct held *h = w->held; h; h = h->next)
            if (h->job == grant->leases[i]->job) held_stop(h, NOT_OURS);
        u->held[u->n] = held_add(w, grant->leases[i]->job, grant->leases[i]->attempt);
        if (!u->held[u->n]) break; /* the rest is pushed again at the next heartbeat */
        u->held[u->n]->unit = n > 1 ? grant->leases[0]->job : 0;
        u->n++;
    }
    if (u->n) return u;
    unit_destroy(u);
    return NULL;
}

void unit_destroy(struct unit *u)
{
    if (!u) return;
    pr_free(u->grant);
    free(u);
}

void queue_add(struct worker *w, struct unit *u)
{
    struct unit **at = &w->queue;
    while (*at) at = &(*at)->next;
    u->next = NULL;
    *at = u;
    pthread_cond_broadcast(&w->work);
}

struct unit *queue_take_all(struct worker *w)
{
    struct unit *all = w->queue;
    w->queue = NULL;
    return all;
}
