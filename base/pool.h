/* base/pool.h - a fixed set of threads for parallel loops.
 *
 * Work is cut into `n` items by the caller, never by the number of threads, and every item writes
 * its own place: so results are the same bits for any number of threads. Caveat: not re-entrant;
 * one loop at a time per pool.
 */
#ifndef CINCH_BASE_POOL_H
#define CINCH_BASE_POOL_H

struct cn_pool;

struct cn_pool *
cn_pool_create(int threads); /* threads ≥ 1 counts the caller; NULL when out of memory */
void cn_pool_destroy(struct cn_pool *p);      /* accepts NULL */
int cn_pool_threads(const struct cn_pool *p); /* 1 for NULL */

/* Calls fn(arg, item, thread) for every item in [0, n), thread in [0, threads); returns when all
 * are done. A NULL pool runs everything in the calling thread. */
typedef void (*cn_pool_f)(void *arg, int item, int thread);
void cn_pool_run(struct cn_pool *p, int n, cn_pool_f fn, void *arg);

#endif
