/* short.c - see short.h. Smaller gangs first: they cost least. Then one slot fewer for the whole worker,
 * and this job waits until neighbours have ended. Slots that wait hold no memory; of several that
 * wait the first to try again wins. */
#include "workers/short.h"

#include "base/clock.h"
#include "base/log.h"
#include "workers/worker_private.h"

#define WAIT_MS 1000

/* Counts this slot as waiting, so that two of them do not wait for each other. */
static bool wait_for_neighbours(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->refused = true; /* the talking thread takes a slot away */
    w->waiting++;
    bool others = w->busy > w->waiting && !w->leaving;
    pthread_mutex_unlock(&w->lock);
    if (others) cn_sleep_ms(WAIT_MS);
    pthread_mutex_lock(&w->lock);
    w->waiting--;
    pthread_mutex_unlock(&w->lock);
    return others;
}

bool shortage_retry(struct worker *w, struct shortage *s, int n)
{
    int now = s->members ? s->members : n;
    if (now > 1) {
        s->members = now / 2;
        cn_warn("worker", "no memory for a gang of %d; trying %d at once", now, s->members);
        return true;
    }
    if (s->alone) return false;
    if (!s->told)
        cn_warn("worker", "no memory for a job beside others; it waits, with fewer slots");
    s->told = true;
    s->alone = !wait_for_neighbours(w);
    return true;
}
