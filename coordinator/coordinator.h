/* coordinator/coordinator.h - a coordinator inside a process: `cinchd` is a thin main around this,
 * and `cinch run` embeds it behind an inproc:// endpoint.
 *
 * Life: create (takes the state folder's lock, opens and migrates the store, binds) → run, in the
 * caller's thread or by start in one of its own → stop (from any thread or a signal handler) →
 * destroy.
 */
#ifndef CINCH_COORDINATOR_COORDINATOR_H
#define CINCH_COORDINATOR_COORDINATOR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct coordinator;

#define CO_MAX_LISTEN 8
#define CO_RESERVE_MB 64

struct co_options {
    const char *state; /* folder: queue, blobs, keys; made when absent */
    /* ipc://PATH, tcp://ADDR:PORT (CURVE, always) or inproc://NAME (needs zmq); a tcp port of "*"
     * takes a free one */
    const char *listen[CO_MAX_LISTEN];
    int n_listen;
    const char
        *socket_group; /* accounts of this group may read and submit through ipc://; NULL: none */
    const char *http; /* "ADDR:PORT" or "PORT" (loopback); NULL: no HTTP. Port 0 takes a free one */
    int http_open;    /* HTTP on loopback without the token of STATE/http.token */
    const char *web;  /* folder of the dashboard page; NULL: none */
    void *zmq;        /* a ZeroMQ context to share, or NULL: its own */
    int reserve_mb; /* with less room on the disk no new work is accepted; 0: 64, negative: no such check */
    int quota_mb;      /* bytes that one user may keep; 0: no limit */
    int scrub_mb;      /* blobs are read anew at so many MB a second; 0: 4, negative: never */
    bool group_access; /* the folder's group may read it, but for the keys */
    int http_patience_ms; /* an HTTP connection that has not asked anything by then is cut; 0: 10,000 */
    int lost_ms;          /* silence after which a worker is lost; 0: 10,000 */
    int user_runs; /* runs of one user that are not done; other entries go by it (entries.c). 0: 1,000 */
};

/* CN_EBUSY: another coordinator works on this state folder. CN_EVERSION: the store is from a newer
 * cinch. */
int co_create(struct coordinator **c, const struct co_options *o, struct cn_error *err);
int co_run(struct coordinator *c, struct cn_error *err);   /* until co_stop; 0, or what broke */
int co_start(struct coordinator *c, struct cn_error *err); /* co_run in a thread of its own */
void co_stop(struct coordinator *c);                       /* any thread; async-signal-safe */
void co_destroy(struct coordinator *c);                    /* stops and joins first; accepts NULL */

/* Where it really listens ("tcp://127.0.0.1:43121"), i < n_listen; NULL beyond. http:
 * "http://127.0.0.1:43122/" or NULL; link: the same with the token, for its owner's eyes only. */
const char *co_endpoint(const struct coordinator *c, int i);
const char *co_http(const struct coordinator *c);
const char *co_http_link(const struct coordinator *c);

#endif
