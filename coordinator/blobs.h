/* coordinator/blobs.h - content-addressed files under STATE/blobs, and the thread that moves their
 * bytes.
 *
 *     STATE/blobs/ab/abcd…64 hex      complete, verified, fsync'ed, never changed
 *     STATE/partial/abcd…64 hex.…     on its way in (upload.h)
 *     STATE/quarantine/abcd…64 hex    was one of the first kind, until other bytes were found in it
 *
 * Nothing is served or called complete whose bytes were not seen to fit its hash (intact.h). Chunks are written, hashed and read in one thread of its own, so that neither a large transfer
 * nor its fsync delays the queue. Names are made from hashes only: nothing that a peer sends
 * becomes part of a path.
 */
#ifndef CINCH_COORDINATOR_BLOBS_H
#define CINCH_COORDINATOR_BLOBS_H

#include <stdbool.h>
#include <zmq.h>

#include "base/hash.h"
#include "proto/limits.h"

struct account;
struct blobs;

#define BL_IDENTITY 32

enum bl_what {
    BL_HAVE,
    BL_PUT,
    BL_GET,
    BL_SCRUB,  /* read `length` bytes more of the blob, and judge it at its end (`complete`) */
    BL_LOOK,   /* whether the blob is whole */
    BL_FORGET, /* the part; no reply */
};

struct bl_request {
    struct bl_request *next; /* private */
    /* for whom; copied into the reply */
    int socket;
    uint8_t identity[BL_IDENTITY];
    int n_identity;
    uint64_t id;
    struct account *account; /* who pays for the bytes in memory, how many */
    size_t charged;
    /* what */
    enum bl_what what;
    struct cn_hash hash;          /* PUT: what the upload is called */
    struct cn_hash final;         /* PUT: what the bytes must hash to; the last chunk's counts */
    char sender[PR_MAX_NAME + 1]; /* PUT: the user whom the bytes count for; "": nobody */
    uint64_t user;                /* HAVE, PUT, FORGET: whose part (upload.h) */
    uint64_t size, offset;        /* HAVE: the size that the part will have, 0: there is none */
    uint32_t length;
    bool suspect;   /* HAVE: somebody got other bytes; look at all of them, whatever is known */
    zmq_msg_t data; /* PUT: the chunk; in a reply to GET: the bytes */
    /* the reply */
    bool complete;
    bool stored;  /* PUT: these bytes made it complete */
    bool damaged; /* what lay here as `lost` was put aside */
    struct cn_hash lost;
    bool gone; /* GET, SCRUB: nothing lies here */
    struct cn_error error;
};

/* The folders are there (folder.h). wake_fd is an eventfd written to when a reply is there. */
int bl_open(struct blobs **b, const char *state_dir, int wake_fd, struct cn_error *err);
void bl_close(struct blobs *b);

void bl_ask(struct blobs *b, struct bl_request *r); /* malloc'ed, data initialised; taken over */
struct bl_request *bl_reply(struct blobs *b); /* the next finished one, or NULL; bl_request_free */
void bl_request_free(struct bl_request *r);
int bl_waiting(struct blobs *b); /* requests not answered yet */

/* From any thread. size may be NULL. */
bool bl_has(const struct blobs *b, const struct cn_hash *hash, uint64_t *size);
void bl_remove(struct blobs *b, const struct cn_hash *hash);
/* Path of a complete blob. */
void bl_path(const struct blobs *b, const struct cn_hash *hash, char *out, size_t cap);

#endif
