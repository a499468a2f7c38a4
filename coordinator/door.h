/* coordinator/door.h - the coordinator's ipc and tcp connections: listening, reading, writing,
 * ending.
 *
 * Everything runs in the loop's thread (coordinator.c), on one epoll. A connection's bytes become
 * messages (proto/zmtp.h) that wait in its inbox, at most a few at once; when that is full, the
 * connection is not read any more. net.c takes them out in turns (account.h). What a connection
 * holds is charged; what goes on for too long ends it:
 *
 *     no hello within 10 s · a message unfinished for 10 s (and a second for each 256 KiB of it) ·
 *     replies not taken for 20 s · no word for 150 s, a PING every 30 s included
 *
 * The number of connections is bounded below the limit of open files, with room for the files of
 * the queue, of blobs and of HTTP; when it is reached the place of the oldest stranger is given to the newcomer, else
 * that of the longest silent connection of the account that has most.
 */
#ifndef CINCH_COORDINATOR_DOOR_H
#define CINCH_COORDINATOR_DOOR_H

#include "coordinator/account.h"
#include "proto/keys.h"
#include "proto/message.h"
#include "proto/zmtp.h"

struct peer;
struct door;

enum { DOOR_INBOX = 64 /* messages */, DOOR_MOST = 50000 /* connections */ };

struct letter { /* a message that came */
    struct letter *next;
    zmq_msg_t frame[PR_ZMTP_FRAMES];
    unsigned frames; /* more than PR_ZMTP_FRAMES: some were dropped */
    size_t bytes;
    bool counted; /* against the account's rate */
};

struct parcel; /* a frame that goes out */

struct conn {
    struct conn *turn_next;     /* in its account's list of those that have something to do */
    struct conn *wait_next;     /* in the list of those that wait for room */
    struct conn *older, *newer; /* among the strangers */
    uint64_t id;
    int fd; /* -1: ended, freed at the end of the round */
    bool tcp, in_turn, waits;
    bool guest;       /* through the local socket from another account ... */
    unsigned uid;     /* ... this one */
    bool ending;      /* once the replies are out */
    bool left;        /* the peer has gone; what it sent before is still handled */
    uint32_t armed;   /* epoll's mask */
    char key[PR_Z85]; /* "" on ipc */
    struct account *account;
    struct peer *peer; /* NULL before hello */
    struct task *task; /* what it waits for; its inbox rests meanwhile */
    struct pr_zmtp z;
    uint8_t *stash; /* bytes that were read and are not parsed */
    size_t n_stash;
    struct letter *first, *last;
    unsigned n_letters;
    size_t in, in_charged, out, out_charged;
    size_t leaving; /* bytes of replies that wait for a commit */
    struct parcel *out_first, *out_last;
    int64_t born, last_in, last_out, message_since, pinged;
};

/* What the door asks of the loop. */
struct door_host {
    void *arg;
    const char *group; /* whose accounts may use the ipc sockets; NULL: no other account may */
    /* May this key come in? */
    bool (*admit)(void *arg, const char *key);
    /* The connection ends: forget what rests on it. */
    void (*gone)(void *arg, struct conn *k);
};

/* keep: descriptors to leave for others than connections. */
int door_open(struct door **d, struct accounts *accounts, const struct door_host *host,
              unsigned keep, struct cn_error *err);
void door_close(struct door *d);
void door_keys(struct door *d, const struct pr_key *server); /* before the first tcp listen */
/* "ipc://PATH" or "tcp://HOST:PORT"; *bound is the address in full, malloc'ed. CN_EINVALID, CN_EIO.
 */
int door_listen(struct door *d, const char *endpoint, char **bound, struct cn_error *err);
int door_fd(const struct door *d); /* readable: call door_work */
void door_work(struct door *d, int64_t now);
void door_tick(struct door *d, int64_t now);
unsigned door_count(const struct door *d);
unsigned door_most(const struct door *d);

/* The next connection with a letter or a task whose turn it is, taken out of the ring; NULL: none.
 * Put back by door_turn. */
struct conn *door_next(struct door *d);
void door_turn(struct door *d, struct conn *k);
/* Its turn comes again when somebody has given room back. */
void door_wait(struct door *d, struct conn *k);
/* Somebody has given room back: those who wait have their turn. */
void door_room(struct door *d);
bool door_busy(const struct door *d); /* somebody's turn is now */
/* The first letter was handled. */
void door_drop_letter(struct door *d, struct conn *k);
/* It said hello as `account`. */
void door_known(struct door *d, struct conn *k, struct peer *p, struct account *account);
struct conn *door_find(const struct door *d, uint64_t id); /* NULL: gone */
/* Queues header, body and, when it is not empty, data; both are taken over. */
void door_send(struct door *d, struct conn *k, const uint8_t head[PR_HEADER_BYTES], zmq_msg_t *body,
               zmq_msg_t *data);
/* after: first what is queued goes out, for a second at most. */
void door_end(struct door *d, struct conn *k, bool after);
/* Ends all connections that came with this key, but for `except` (may be NULL). */
void door_end_key(struct door *d, const char *key, const struct conn *except);

#endif
