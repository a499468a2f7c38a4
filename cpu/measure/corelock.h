/* cpu/measure/corelock.h - keeps training off the core that a latency is being measured on.
 *
 * Lock files in one folder per user ($XDG_RUNTIME_DIR/cinch, else /tmp/cinch-UID), all flock(2), so
 * that a killed process gives them up by dying:
 *   timing         held by the one measurement that runs on this machine now
 *   core-N.want    held by who measures on core N: "leave"
 *   core-N.kept    held by a cinch-eval for as long as it lives: "stay away from N"
 *   core-N.use     shared by every process of cinch that may compute on N: "not gone yet"
 */
#ifndef CINCH_CPU_MEASURE_CORELOCK_H
#define CINCH_CPU_MEASURE_CORELOCK_H

#include <stdbool.h>

#include "base/error.h"

struct corelock;

/* The measuring side. Blocks until the turn is ours and nobody of cinch computes on `core`. */
int corelock_take(struct corelock **out, int core, struct cn_error *err);

/* Keeps `core` free of cinch's computing until the lock is dropped. CN_EBUSY: another evaluator has
 * it. */
int corelock_reserve(struct corelock **out, int core, struct cn_error *err);

void corelock_drop(struct corelock *l); /* accepts NULL */

/* The last core that the calling thread may run on. */
int corelock_default_core(void);

/* CN_EINVALID, naming the cores that there are, unless the calling thread may run on `core`: for
 * what a user asked for, before anything of cinch keeps threads away from cores. */
int corelock_check_core(int core, struct cn_error *err);

/* The computing side: one per process. A thread of its own looks several times a second which cores
 * are wanted, moves all threads of the process to the others and then gives up the use of those. */
struct corewatch;
int corewatch_start(struct corewatch **out, struct cn_error *err);
void corewatch_stop(struct corewatch *w); /* accepts NULL */

/* Where every core of this process is wanted (a machine with one core), computing has to pause.
 * Executors say when they compute, and pass `pause_point` often: it blocks until a core is free.
 * All accept NULL. */
void corewatch_enter(struct corewatch *w);
void corewatch_leave(struct corewatch *w);
void corewatch_pause_point(struct corewatch *w);

#endif
