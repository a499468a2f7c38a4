/* workers/cacheroom.h - keeps the datasets that workers fetched into a cache folder below a limit.
 *
 *     FINGERPRINT.ecg        a dataset
 *     FINGERPRINT.ecg.lock   beside one that was fetched from a coordinator: exclusive while it is being
 *                            fetched or removed, shared for as long as a process has it open
 *
 * What was built on this machine has no lock file and stays: nobody could send it again.
 */
#ifndef CINCH_WORKERS_CACHEROOM_H
#define CINCH_WORKERS_CACHEROOM_H

#include <stdbool.h>

#include "base/hash.h"

/* Opens the lock file of a dataset's path, made when `make`; its descriptor, or -1. */
int cacheroom_lock(const char *path, bool make);
/* Notes that a dataset is used now: the one not used for longest goes first. */
void cacheroom_used(const char *path);

/* Removes fetched datasets, the one not used for longest first, until what lies in `folder` and
 * `incoming` more bytes fit into `limit`. One that some process has open stays; `close_idle` closes this
 * process's own, where nothing uses it. Returns the bytes that are too many all the same. */
uint64_t cacheroom_make(const char *folder, uint64_t limit, uint64_t incoming,
                        void (*close_idle)(void *arg, const struct cn_hash *fingerprint),
                        void *arg);

#endif
