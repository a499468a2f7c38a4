/* coordinator/mend.h - what becomes of a blob that is not whole any more: its job runs again, its
 * dataset waits to be sent again. And the scrub, which looks for such blobs before somebody needs them.
 */
#ifndef CINCH_COORDINATOR_MEND_H
#define CINCH_COORDINATOR_MEND_H

#include "coordinator/store.h"

struct coordinator;

struct scrub { /* goes through all blobs that something refers to, in the order of their hashes */
    struct st_blob next[64];
    int n, at;
    struct cn_hash after;
    bool asked;   /* the blobs' thread is at it */
    int64_t last; /* monotonic ms: of the last piece, or until when the scrub rests */
};

/* What lay under `hash` is gone, or was damaged and put aside. */
void mend_lost(struct coordinator *c, const struct cn_hash *hash, bool damaged);

/* Goes on by as much as the time since the last call is worth. */
void mend_scrub(struct coordinator *c, int64_t now);
void mend_scrubbed(struct coordinator *c, bool complete);

#endif
