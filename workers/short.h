/* workers/short.h - what a slot does when a job finds no memory on the device: ask for less, or wait
 * for its neighbours, and try again; a job fails only when it does not fit alone. */
#ifndef CINCH_WORKERS_SHORT_H
#define CINCH_WORKERS_SHORT_H

#include <stdbool.h>

struct worker;

struct shortage { /* of one unit; zeroed at first */
    int members;  /* a gang trains so many as one array at most; 0: no bound */
    bool told;
    bool alone; /* it has been tried with no neighbour */
};

/* After a try of a unit of n jobs that ended with CN_ENOMEM. True: try again, after a wait where
 * neighbours hold memory. The first time the worker also uses one slot fewer from now on. */
bool shortage_retry(struct worker *w, struct shortage *s, int n);

#endif
