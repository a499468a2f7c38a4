/* coordinator/door_private.h - the door's inside, shared by door.c (who is connected, whose turn it is)
 * and door_io.c (reading and writing). */
#ifndef CINCH_COORDINATOR_DOOR_PRIVATE_H
#define CINCH_COORDINATOR_DOOR_PRIVATE_H

#include "coordinator/coordinator.h"
#include "coordinator/door.h"

enum { DOOR_SCRATCH = 16384 }; /* bytes read at once, but for large frames */

struct parcel {
    struct parcel *next;
    zmq_msg_t wire, data; /* wire: the frame's head, with CURVE all of it */
    size_t sent;
    bool first, more, wrapped; /* first: of its message */
};

struct listener {
    int fd;
    bool tcp;
    char *path; /* of ipc, to be removed; NULL: none */
};

struct door {
    struct accounts *accounts;
    struct door_host host;
    int epoll;
    struct listener listener[CO_MAX_LISTEN];
    unsigned n_listeners;
    struct pr_curve_keys keys;
    struct conn **slot; /* [most] */
    uint32_t *unused;   /* slots */
    unsigned most, n_unused, n_strangers;
    uint64_t made;
    struct conn *oldest, *newest;        /* strangers */
    struct conn *waiting, *last_waiting; /* the longest waiting first */
    struct conn *graves;                 /* ended, freed in the next round */
    bool room;                           /* somebody gave room back */
    int64_t paused_until, last_tick;
    uint8_t scratch[DOOR_SCRATCH];
};

/* ---- door.c */
/* The connection's inbox and unfinished message are `n` bytes now. False: the budget does not allow
 * it. */
bool door__charge_in(struct door *d, struct conn *k, size_t n);
void door__charge_out(struct door *d, struct conn *k, size_t n); /* replies not written yet */
/* Nothing more comes from it. What came is handled first: a worker's last result counts. */
void door__input_ended(struct door *d, struct conn *k);

/* ---- door_io.c */
void door__arm(struct door *d, struct conn *k); /* what epoll should tell of it */
void door__write(struct door *d, struct conn *k, int64_t now);
void door__read(struct door *d, struct conn *k, int64_t now);
/* Goes on with what was left when there was no place. */
void door__resume(struct door *d, struct conn *k, int64_t now);
/* Sends what the protocol itself has to say. */
void door__after_input(struct door *d, struct conn *k, int64_t now);
void door__free_out(struct conn *k);

#endif
