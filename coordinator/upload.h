/* coordinator/upload.h - blobs on their way in: STATE/partial/NAME.SIZE.USER, each as long as what has
 * arrived of it (NAME: the hash, or what the sender made up; SIZE and USER in hexadecimal).
 *
 * Everybody has parts of their own: nobody can spoil another's. An error of fsync is final: what the
 * kernel could not write it may forget, and say nothing the second time. So the part goes, and all of
 * it is to be sent again. Used by the blobs' thread alone, but for up_part_path and up_each.
 */
#ifndef CINCH_COORDINATOR_UPLOAD_H
#define CINCH_COORDINATOR_UPLOAD_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/hash.h"

struct up_key {
    struct cn_hash name;
    uint64_t size; /* that it will have */
    uint64_t user; /* up_user */
};

/* What stands for a user in names of files. */
uint64_t up_user(const char *name);
void up_part_path(const char *state, const struct up_key *key, char *out, size_t cap);
/* Every part in the folder, with its length and the wall time (ms) of its last byte; `each` may remove it.
 * What is no part of ours goes. */
void up_each(const char *state,
             void (*each)(void *arg, const struct up_key *key, uint64_t have, int64_t time),
             void *arg);

struct uploads;

struct uploads *up_create(const char *state); /* NULL: out of memory */
void up_destroy(struct uploads *u);           /* accepts NULL; what has arrived stays */

/* Bytes that have arrived. */
uint64_t up_have(struct uploads *u, const struct up_key *key);
/* Takes n bytes at `offset`, if that is where it stands, else none. *have: how much there is then.
 * CN_EIO, CN_ENOSPACE: not all of them; after an error of the disk *have is 0 again. */
int up_add(struct uploads *u, const struct up_key *key, uint64_t offset, const void *data, size_t n,
           uint64_t *have, struct cn_error *err);
/* All bytes are there: verified, synced and renamed to `path` in `folder`, which is synced too. On any
 * error nothing is left of it. CN_ECORRUPT: they hash to something other than `want`. */
int up_complete(struct uploads *u, const struct up_key *key, const struct cn_hash *want,
                const char *folder, const char *path, struct cn_error *err);
void up_forget(struct uploads *u, const struct up_key *key);

#endif
