/* workers/engines.h - which kernels a GPU worker's slots use, collected for `cinch workers`. */
#ifndef CINCH_WORKERS_ENGINES_H
#define CINCH_WORKERS_ENGINES_H

#include "workers/device.h"

struct engines;

struct engines *engines_create(void);    /* NULL: out of memory */
void engines_destroy(struct engines *e); /* accepts NULL */

/* A slot's thread: what its backend has chosen by now. */
void engines_learn(struct engines *e, struct device *d, struct nn_backend *be);

/* The talking thread: all of it as the text of Heartbeat.engines when there is news since the last call,
 * malloc'ed; else NULL. */
char *engines_news(struct engines *e);

/* The next engines_news tells everything: the coordinator may be a new one. */
void engines_again(struct engines *e);

#endif
