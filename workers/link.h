/* workers/link.h - a worker's conversation with its coordinator: hello, requests that are repeated
 * until they are answered, pushes, and what to do when the other side goes away and comes back.
 *
 * One thread owns the socket and runs link_turn in a loop; any thread may link_call. Every request
 * is idempotent (leases carry attempts), so that after silence or a restart the same request is
 * simply sent again.
 */
#ifndef CINCH_WORKERS_LINK_H
#define CINCH_WORKERS_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/wire.h"

struct link;

/* The owner's side. All are called from link_turn. */
struct link_events {
    void *arg;
    /* Fills what must be said in a hello; the pointers must live until the next call. */
    void (*hello)(void *arg, Cinch__Hello *hello);
    void (*welcome)(void *arg, const Cinch__Welcome *welcome);
    void (*heartbeat)(void *arg, Cinch__Heartbeat *beat);
    void (*beaten)(void *arg, const Cinch__HeartbeatReply *reply);
    void (*grant)(void *arg, Cinch__LeaseGrant *grant); /* taken */
    void (*drop)(void *arg, const Cinch__Drop *drop);
};

struct link_options {
    void *zmq;
    const char *endpoint;
    const struct pr_key *key; /* NULL: none */
    int first_wait_ms;        /* for the first welcome; < 0: for ever */
    struct link_events events;
};

int link_create(struct link **out, const struct link_options *o, struct cn_error *err);
void link_close(struct link *l);   /* ends waiting calls, and all later ones, with CN_ECANCELLED */
void link_destroy(struct link *l); /* closes first; accepts NULL */

/* Receives, sends, beats; returns after at most `wait_ms`, sooner when there was something to do.
 * 0, or why there is no use in going on: CN_ECONNECT (never welcomed in time), CN_EREFUSED,
 * CN_EVERSION. */
int link_turn(struct link *l, int wait_ms, struct cn_error *err);

void link_wake(struct link *l); /* any thread, also a signal handler: ends the wait of link_turn */
bool link_welcomed(const struct link *l); /* owner's thread: the line is up */

/* Any thread but the owner's: sends `body` and waits for the answer, through outages of any length.
 * The coordinator's code and text; CN_ECANCELLED when the link is destroyed meanwhile. */
int link_call(struct link *l, int type, const void *body, struct cn_error *err);

/* Fire and forget: progress. Any thread. Dropped when the line is down. The body is packed at
 * once. */
void link_post(struct link *l, int type, const void *body);

/* Owner's thread: a request whose answer is awaited by nobody but which is repeated until it
 * comes. A later one of the same type replaces it. */
int link_ask(struct link *l, int type, const void *body);
bool link_waits(struct link *l, int type); /* whether such a request is still unanswered */

#endif
