/* workers/losses.h - how often each GPU of this machine has failed, over the ends of processes: a failed
 * card takes its process with it, and the next one must know. */
#ifndef CINCH_WORKERS_LOSSES_H
#define CINCH_WORKERS_LOSSES_H

#include "base/error.h"

#define LOSSES_MOST 3           /* so many within ... */
#define LOSSES_SPAN_S (10 * 60) /* ... ten minutes: the card is taken out of service */

/* Writes down that `card` (its PCI address) failed now, and how. Where nothing can be written it is
 * forgotten: a log line says so. */
void losses_note(const char *card, const char *how);

/* CN_ENODEVICE when the card is out of service, with what happened and how to bring it back: until the
 * machine is started again, or the file is removed. */
int losses_check(const char *card, struct cn_error *err);

#endif
