/* coordinator/hashing.h - a thread that hashes a chunk while its caller does something else with it.
 */
#ifndef CINCH_COORDINATOR_HASHING_H
#define CINCH_COORDINATOR_HASHING_H

#include "base/hash.h"

struct hashing;

struct hashing *hashing_create(void);    /* NULL: no thread to be had */
void hashing_destroy(struct hashing *h); /* accepts NULL */
/* Begins to add n bytes to `into`; both stay the thread's until hashing_wait. One at a time. */
void hashing_begin(struct hashing *h, struct cn_hasher *into, const void *data, size_t n);
void hashing_wait(struct hashing *h);

#endif
