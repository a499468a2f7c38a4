/* workers/tuner.h - how many slots pay: `--slots auto` on a GPU. A pure function of what is told. */
#ifndef CINCH_WORKERS_TUNER_H
#define CINCH_WORKERS_TUNER_H

#include <stdbool.h>
#include <stdint.h>

struct tuner {
    int max;          /* slots at most */
    int slots;        /* the advice now */
    int64_t since_ms; /* when it last changed, or was last disturbed */
    double before;    /* total rate with one slot less; 0: not known */
    int64_t hold_ms;  /* until when nothing is tried */
};

void tuner_init(struct tuner *t, int max, int64_t now_ms);

/* Told about once a second: the total records per second of all running jobs, and whether every
 * slot had work and more waits. Returns the number of slots to use from now on. */
int tuner_tell(struct tuner *t, int64_t now_ms, double rate, bool full);

/* A slot could not be opened (memory): stay below. */
void tuner_refused(struct tuner *t, int64_t now_ms);

#endif
