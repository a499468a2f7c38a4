/* coordinator/room.h - room on the disk: what is coming in, who holds how many bytes, what is left.
 *
 * An upload counts with the size that it declares, from its first chunk on: against the room that is
 * to stay free (--reserve) for as long as somebody goes on with it, and against its sender's quota
 * (--quota) until it is complete or forgotten. Complete, it counts for the sender as long as it is
 * kept. What jobs bring counts for the user of the run that wants them; it is never refused, since the
 * work is done, but nothing more is taken from who is over the quota. Recipes and grids count too.
 *
 * All of it can be told from STATE/partial and the store, so a restart changes nothing. The loop's own.
 */
#ifndef CINCH_COORDINATOR_ROOM_H
#define CINCH_COORDINATOR_ROOM_H

#include "coordinator/upload.h"

struct room;

/* reserve: bytes to leave free, negative: no such check. quota: bytes of one user, 0: no limit.
 * now: monotonic ms; wall: wall ms. Parts that lie in the folder count, too old ones go. */
int ro_open(struct room **r, const char *state, double reserve, uint64_t quota, int64_t now,
            int64_t wall, struct cn_error *err);
void ro_close(struct room *r); /* accepts NULL */

struct ro_sender {
    const char *user;
    bool worker;      /* results are not refused for a quota */
    uint64_t besides; /* bytes that count for the user and are kept elsewhere */
};

/* An upload begins or goes on. CN_ENOSPACE, CN_ELIMIT: not now. */
int ro_upload(struct room *r, const struct up_key *key, const struct ro_sender *who, int64_t now,
              struct cn_error *err);
void ro_arrived(struct room *r, const struct up_key *key, uint64_t have, int64_t now);
void ro_ended(struct room *r, const struct up_key *key);
/* The size that the user's upload of that name declared; 0: there is none. */
uint64_t ro_declared(const struct room *r, const struct cn_hash *name, uint64_t user);
/* A part that nobody has gone on with for long: true, *key filled. It is not counted any more. */
bool ro_forgotten(struct room *r, int64_t now, struct up_key *key);

/* Bytes that are kept for a user from now on, or not any more. */
void ro_add(struct room *r, const char *user, uint64_t bytes);
void ro_sub(struct room *r, const char *user, uint64_t bytes);
/* 0: the user may bring `more` bytes; else CN_ELIMIT with what to do. */
int ro_check(const struct room *r, const char *user, uint64_t more, struct cn_error *err);

#endif
