/* proto/client.h - a small synchronous client: one connection, one request at a time, blobs both
 * ways.
 *
 * Used by the command line, and by workers for blobs. Every call has a deadline; while it runs, the
 * connection is made again as often as needed and the request repeated under the same id. That is
 * safe: every request is idempotent (a Submit by its nonce, results by attempt, blob chunks by
 * offset). A reply "say hello" (the coordinator was restarted) is handled inside. Not thread-safe:
 * one client per thread.
 */
#ifndef CINCH_PROTO_CLIENT_H
#define CINCH_PROTO_CLIENT_H

#include <stdint.h>

#include "base/hash.h"
#include "proto/keys.h"
#include "proto/message.h"

struct pr_client;

/* Where a coordinator is by default: $CINCH_COORDINATOR, else ipc://$XDG_RUNTIME_DIR/cinch.sock,
 * else ipc:///tmp/cinch-UID.sock. */
void pr_default_endpoint(char *out, size_t cap);

/* The same without the variable: the local socket of this account. */
void pr_local_endpoint(char *out, size_t cap);

/* For people's commands: as pr_default_endpoint, and when nothing is there but the machine's service
 * has its socket (/run/cinch/cinch.sock), that one. */
void pr_find_endpoint(char *out, size_t cap);

struct pr_connect {
    void *zmq;            /* a ZeroMQ context to share (needed for inproc://), or NULL: its own */
    const char *endpoint; /* ipc://PATH | tcp://HOST:PORT | inproc://NAME */
    const char *key_file; /* needed for tcp:// */
    const char *user;     /* NULL: the login name; only believed on ipc and inproc */
    int timeout_ms;       /* for one call, all repeats included; 0: 10,000 */
    int results;          /* a worker's, for blobs: they count for the users whose jobs it runs */
    int known;            /* the key is known to be good: who hangs up in the handshake is away */
    /* NULL, or asked about every 100 ms of waiting: non-zero gives up with CN_EINTERRUPTED */
    int (*stop)(void *arg);
    void *stop_arg;
};

/* Connects and says hello. CN_ECONNECT (nobody there), CN_EREFUSED (wrong or no key), CN_EVERSION.
 */
int pr_client_open(struct pr_client **c, const struct pr_connect *how, struct cn_error *err);
void pr_client_close(struct pr_client *c); /* accepts NULL */
const Cinch__Welcome *pr_client_welcome(const struct pr_client *c);
void pr_client_timeout(struct pr_client *c, int timeout_ms); /* of the calls that follow */

/* One request of `type`, one reply of `reply_type`: *reply is freed with pr_free (NULL allowed when
 * it is not wanted). Returns the coordinator's code and text when it refused; CN_ECONNECT when
 * nobody answered in time. */
int pr_call(struct pr_client *c, int type, const void *body, int reply_type, void *reply,
            struct cn_error *err);

/* Asks a Query; *json is malloc'ed text. `id` may be NULL. */
int pr_query(struct pr_client *c, Cinch__Query__What what, const char *id, char **json,
             struct cn_error *err);
/* A Control; *json may be NULL. */
int pr_control(struct pr_client *c, Cinch__Control__What what, const char *id, int value,
               char **json, struct cn_error *err);

/* Blobs. progress may be NULL: called with bytes done of total; non-zero return gives up with
 * CN_EINTERRUPTED. */
struct pr_blob_progress {
    int (*fn)(void *arg, uint64_t done, uint64_t total);
    void *arg;
};

/* Sends what the coordinator does not have yet, from where it stopped. *hash is filled. */
int pr_blob_put(struct pr_client *c, const void *data, size_t n, struct cn_hash *hash,
                struct cn_error *err);
int pr_blob_put_file(struct pr_client *c, const char *path, struct cn_hash *hash, uint64_t *size,
                     const struct pr_blob_progress *progress, struct cn_error *err);
/* malloc'ed *data; refuses more than `limit` bytes. The hash is verified. */
int pr_blob_get(struct pr_client *c, const struct cn_hash *hash, size_t limit, void **data,
                size_t *n, struct cn_error *err);
/* Into `path`: continues PATH.HASH.part (16 digits of the blob's) when an earlier download stopped; renamed once the hash is
 * verified. */
int pr_blob_get_file(struct pr_client *c, const struct cn_hash *hash, const char *path,
                     const struct pr_blob_progress *progress, struct cn_error *err);

/* Hash fields of messages. */
ProtobufCBinaryData pr_hash_field(const struct cn_hash *h); /* borrows h */
int pr_hash_read(const ProtobufCBinaryData *f, struct cn_hash *h, struct cn_error *err);

#endif
