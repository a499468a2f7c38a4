/* A scripted coordinator in the test's own thread: it answers hellos, heartbeats and blobs, notes
 * what a worker sends, and does the wrong or the rare thing when a test asks for it. */
#ifndef CINCH_TESTS_WORKERS_FAKE_H
#define CINCH_TESTS_WORKERS_FAKE_H

#include <stdbool.h>

#include "base/hash.h"
#include "proto/wire.h"

#define FAKE_LOG 2048 /* a test that writes more ends */

struct fake_blob {
    struct cn_hash hash;
    uint8_t *data;
    size_t n;
    bool complete;
};

/* A checkpoint, result or release, in the order of arrival. */
struct fake_entry {
    int type;
    uint64_t job;
    uint32_t attempt;
    int code;
    char reason[256];
    bool permanent;
    int n_outputs;
    struct cn_hash output[4];
    char metrics[512];
};

struct fake {
    void *zmq, *router;
    char endpoint[64];
    uint8_t worker[64]; /* the identity of the worker's line */
    size_t n_worker;
    struct fake_blob blob[FAKE_LOG];
    int blobs;
    struct fake_entry log[FAKE_LOG];
    int logged;
    /* counts */
    int hellos, beats, progress, epochs, capacity, byes;
    int held_said;        /* leases in the last hello */
    int held_beat;        /* in the last heartbeat */
    bool together, apart; /* a heartbeat had several leases; some not all of one unit */
    /* what to do wrong */
    int refuse_beat;     /* a code for every heartbeat */
    int refuse_hello;    /* a code for every hello */
    bool forget;         /* answer the next heartbeat with "say hello", as after a restart */
    int result_code;     /* answer the next result with this code, and lose all blobs */
    int checkpoint_code; /* answer checkpoints with this code */
    bool drain;
};

void fake_open(struct fake *f);
void fake_close(struct fake *f);
/* As a coordinator that was killed and started again: the socket is made anew, blobs and log stay. */
void fake_restart(struct fake *f);

/* Serves until `done` says so; false after `limit_ms`. */
bool fake_serve(struct fake *f, bool (*done)(struct fake *f), int limit_ms);
void fake_push(struct fake *f, int type, const void *body); /* to the worker */

/* Adds a blob to the store; fills its field. */
void fake_put(struct fake *f, const void *data, size_t n, struct cn_hash *hash);
const struct fake_blob *fake_blob(struct fake *f, const struct cn_hash *hash);
/* The i-th entry of a type, or NULL. */
const struct fake_entry *fake_entry(struct fake *f, int type, int i);
int fake_count(struct fake *f, int type);

#endif
