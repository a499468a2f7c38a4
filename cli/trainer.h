/* cli/trainer.h - the trainer of `cinch run` on a GPU: a process of its own, since a card that fails takes
 * the process that used it with it. A supervisor starts the next one, as systemd would for cinch-train. */
#ifndef CINCH_CLI_TRAINER_H
#define CINCH_CLI_TRAINER_H

#include "base/error.h"
#include "workers/worker.h"

struct trainer;

/* Forks supervisor and worker. To be called while this process has a single thread; the worker inherits
 * o's datasets, and o->endpoint must be reachable from another process soon. Waits until the worker has
 * opened its device, or tells why it cannot. */
int trainer_start(struct trainer **out, const struct worker_options *o, struct cn_error *err);

/* 0, or why nobody trains any more. */
int trainer_check(struct trainer *t, struct cn_error *err);

void trainer_ask_to_stop(struct trainer *t); /* it finishes its batch, and hands its leases back */
void trainer_stop(struct trainer *t);        /* asks, and waits for it; accepts NULL */

#endif
