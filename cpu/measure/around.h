/* cpu/measure/around.h - what else the machine did while something was timed; private to cpu/measure.
 *
 * The timed loop sees what happens to its own thread (timing.c). What happens beside it, on the
 * other cores and above in the hypervisor, shows in the kernel's counts of each core's time:
 * looked at before the first process and after the last. */
#ifndef CINCH_CPU_MEASURE_AROUND_H
#define CINCH_CPU_MEASURE_AROUND_H

#include <stdbool.h>
#include <stddef.h>

/* Sums since boot, in ticks. */
struct around_look {
    bool known;                      /* the kernel tells them */
    double own_busy, own_steal, own; /* the timed core: working, stolen, all */
    double sibling_busy, sibling;    /* its hyperthread, where it has one */
    double others_busy, others;      /* all other cores together */
};

/* `sibling`: the timed core's hyperthread, -1: none. text: /proc/stat. */
void around_parse(const char *text, int core, int sibling, struct around_look *out);
void around_look_now(int core, struct around_look *out);

/* Appends what between two looks disturbed a measurement on `core` to `words` [cap], "; " between.
 * cpu_s: processor time that was the measurement's own; ticks_per_s: of the counts. */
void around_words(const struct around_look *before, const struct around_look *after, int core,
                  double cpu_s, double ticks_per_s, char *words, size_t cap);

/* Appends one fact, "; " before it when it is not the first. */
void around_say(char *words, size_t cap, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
