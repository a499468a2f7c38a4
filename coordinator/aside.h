/* coordinator/aside.h - grids are expanded aside: in a thread, one at a time, so that a large one
 * delays nobody. Expanding reads the Submit alone; what it means for the queue is the loop's. The
 * place is taken from start to release, so that grids enter the queue in the order of their
 * expansion. */
#ifndef CINCH_COORDINATOR_ASIDE_H
#define CINCH_COORDINATOR_ASIDE_H

#include <stdbool.h>

#include "coordinator/expand.h"

struct aside;

/* wake_fd is an eventfd written to when a grid is ready. */
int as_open(struct aside **a, int wake_fd, struct cn_error *err);
void as_close(struct aside *a);

bool as_free(struct aside *a); /* the place is free */
/* Begins; `s` must live until as_ready says so. The place must be free. */
void as_start(struct aside *a, const Cinch__Submit *s, uint32_t nonce);
bool as_ready(struct aside *a); /* what was begun has ended */
/* Takes the result: ex_expand's code, its grid (ex_clear it) or its error. Once, after as_ready. */
int as_take(struct aside *a, struct ex_grid *g, struct cn_error *err);
void as_stop(struct aside *a);    /* it should end soon; as_ready still tells when it has */
void as_release(struct aside *a); /* after as_take */

#endif
