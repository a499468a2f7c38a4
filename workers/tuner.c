/* tuner.c - see tuner.h.
 *
 * One slot more is tried as long as the last one raised the total rate by 5 %; when it did not, it is
 * given up and nothing is tried for five minutes, after which the jobs may be of another kind. A
 * rate counts only after ten seconds in which every slot had work.
 */
#include "workers/tuner.h"

#define WINDOW_MS 10000
#define HOLD_MS 300000
#define GAIN 1.05

void tuner_init(struct tuner *t, int max, int64_t now_ms)
{
    *t = (struct tuner){.max = max, .slots = 1, .since_ms = now_ms};
}

static int change(struct tuner *t, int64_t now_ms, int slots, double before)
{
    t->slots = slots;
    t->since_ms = now_ms;
    t->before = before;
    return slots;
}

int tuner_tell(struct tuner *t, int64_t now_ms, double rate, bool full)
{
    if (!full) t->since_ms = now_ms; /* an empty slot says nothing about the device */
    if (now_ms - t->since_ms < WINDOW_MS || now_ms < t->hold_ms) return t->slots;
    if (t->before > 0 && rate < t->before * GAIN) {
        t->hold_ms = now_ms + HOLD_MS;
        return change(t, now_ms, t->slots - 1, 0);
    }
    if (t->slots == t->max) return t->slots;
    return change(t, now_ms, t->slots + 1, rate);
}

void tuner_refused(struct tuner *t, int64_t now_ms)
{
    if (t->slots < 2) return;
    t->max = t->slots - 1;
    change(t, now_ms, t->max, 0);
}
