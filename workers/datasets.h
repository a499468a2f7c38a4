/* workers/datasets.h - the datasets that a worker's jobs need, by fingerprint: the caller's own, the
 * cache folder's, else the coordinator's.
 */
#ifndef CINCH_WORKERS_DATASETS_H
#define CINCH_WORKERS_DATASETS_H

#include "ecg/dataset.h"
#include "proto/client.h"

struct datasets;

/* given: already open ones, borrowed; NULL-terminated, or NULL. cache_dir NULL: as ecg/dataset.h. limit:
 * bytes that datasets may take there (workers/cacheroom.h); 0: any. */
int datasets_create(struct datasets **out, const struct ecg_dataset *const *given,
                    const char *cache_dir, uint64_t limit, struct cn_error *err);
void datasets_destroy(struct datasets *d); /* closes all it opened; accepts NULL */

/* The dataset of a fingerprint, valid until datasets_put. Fetches it through `client` when it is
 * nowhere here (resumable: a second worker on this machine waits for the first). CN_ENOTFOUND when
 * the coordinator holds no copy either. Threads take turns. */
int datasets_get(struct datasets *d, const struct cn_hash *fingerprint, struct pr_client *client,
                 const struct ecg_dataset **out, struct cn_error *err);

void datasets_put(struct datasets *d, const struct ecg_dataset *data); /* data NULL: nothing */

/* Fingerprints that datasets_get would not have to fetch: malloc'ed *list, *n of them, at most
 * `limit`. */
int datasets_here(struct datasets *d, struct cn_hash **list, int *n, int limit);

#endif
