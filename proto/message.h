/* proto/message.h - the messages as one table: number, name, protobuf type, who may send it; and
 * their header and decoding.
 *
 * Header, 16 bytes, little-endian:
 *     0  4  magic "CNH1"
 *     4  2  type, enum pr_type
 *     6  2  code: 0, or an enum cn_code (replies; the body is then an Error)
 *     8  8  request id: chosen by the asker, copied into the reply; 0: a push
 */
#ifndef CINCH_PROTO_MESSAGE_H
#define CINCH_PROTO_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "proto/cinch.pb-c.h"
#include "proto/limits.h"

/* Who may send a message; a key has one role, and a role stands for a set of these. */
enum pr_role {
    PR_ROLE_ANY = 0,    /* whoever passed the handshake */
    PR_ROLE_READ = 1,   /* look at everything */
    PR_ROLE_SUBMIT = 2, /* put work in, and control one's own */
    PR_ROLE_WORKER = 4, /* take work, return results */
    PR_ROLE_ADMIN = 8,  /* keys, other people's runs, draining */
};

/* X(number, NAME, field prefix, Type, roles that may send it to the coordinator; 0xff: the
 * coordinator's own, bytes that its body may have then) */
#define PR_MESSAGE_MAP(X)                                                                          \
    X(1, HELLO, hello, Hello, PR_ROLE_ANY, 128u << 10)                                             \
    X(2, WELCOME, welcome, Welcome, 0xff, 0)                                                       \
    X(3, EMPTY, empty, Empty, 0xff, 0)                                                             \
    X(4, ERROR, error, Error, 0xff, 0)                                                             \
    X(5, JSON, json, Json, 0xff, 0)                                                                \
    X(10, LEASE_REQUEST, lease_request, LeaseRequest, PR_ROLE_WORKER, 1024)                        \
    X(11, LEASE_GRANT, lease_grant, LeaseGrant, 0xff, 0)                                           \
    X(12, HEARTBEAT, heartbeat, Heartbeat, PR_ROLE_WORKER, 512u << 10)                             \
    X(13, HEARTBEAT_REPLY, heartbeat_reply, HeartbeatReply, 0xff, 0)                               \
    X(14, PROGRESS, progress, Progress, PR_ROLE_WORKER, 4096)                                      \
    X(15, CHECKPOINT, checkpoint, Checkpoint, PR_ROLE_WORKER, 4096)                                \
    X(16, RESULT, result, Result, PR_ROLE_WORKER, 512u << 10)                                      \
    X(17, RELEASE, release, Release, PR_ROLE_WORKER, 8192)                                         \
    X(18, DROP, drop, Drop, 0xff, 0)                                                               \
    X(19, BYE, bye, Bye, PR_ROLE_WORKER, 1024)                                                     \
    X(20, BLOB_HAVE, blob_have, BlobHave, PR_ROLE_READ | PR_ROLE_WORKER, 1024)                     \
    X(21, BLOB_STATE, blob_state, BlobState, 0xff, 0)                                              \
    X(22, BLOB_PUT, blob_put, BlobPut, PR_ROLE_SUBMIT | PR_ROLE_WORKER, 1024)                      \
    X(23, BLOB_GET, blob_get, BlobGet, PR_ROLE_READ | PR_ROLE_WORKER, 1024)                        \
    X(24, BLOB_CHUNK, blob_chunk, BlobChunk, 0xff, 0)                                              \
    X(30, SUBMIT, submit, Submit, PR_ROLE_SUBMIT, PR_MAX_BODY)                                     \
    X(31, SUBMITTED, submitted, Submitted, 0xff, 0)                                                \
    X(32, QUERY, query, Query, PR_ROLE_READ, 1024)                                                 \
    X(33, WATCH, watch, Watch, PR_ROLE_READ, 1024)                                                 \
    X(34, CONTROL, control, Control, PR_ROLE_SUBMIT, 1024)                                         \
    X(35, DATA_ADD, data_add, DataAdd, PR_ROLE_SUBMIT, 512u << 10)                                 \
    X(36, DATA_GET, data_get, DataGet, PR_ROLE_READ | PR_ROLE_WORKER, 1024)                        \
    X(37, DATASET, dataset, Dataset, 0xff, 0)                                                      \
    X(38, KEY_CREATE, key_create, KeyCreate, PR_ROLE_ADMIN, 1024)                                  \
    X(39, KEY_CREATED, key_created, KeyCreated, 0xff, 0)                                           \
    X(40, KEY_REVOKE, key_revoke, KeyRevoke, PR_ROLE_ADMIN, 1024)

enum pr_type {
#define X(n, NAME, field, Type, roles, largest) PR_##NAME = n,
    PR_MESSAGE_MAP(X)
#undef X
};

struct pr_message_info {
    enum pr_type type;
    const char *name; /* "lease_request" */
    const ProtobufCMessageDescriptor *descriptor;
    unsigned roles; /* set of enum pr_role; 0xff: only the coordinator sends it */
    size_t largest; /* bytes of a body that the coordinator accepts; 0: its own */
};

/* NULL: no such message. */
const struct pr_message_info *pr_message_info(int type);
/* All of them, in order; ends with a zero name. */
const struct pr_message_info *pr_message_table(void);

#define PR_HEADER_BYTES 16

struct pr_header {
    uint16_t type;
    int16_t code;
    uint64_t id;
};

void pr_header_put(uint8_t out[PR_HEADER_BYTES], const struct pr_header *h);
int pr_header_get(struct pr_header *h, const void *data, size_t n, struct cn_error *err);

/* Decodes a body of `type`. The result is freed with pr_free. Memory is capped at PR_MAX_UNPACKED
 * whatever the bytes say: CN_ECORRUPT (malformed), CN_ELIMIT (too much). Nothing is checked beyond
 * the encoding: see proto/check.h. */
int pr_unpack(ProtobufCMessage **out, int type, const void *data, size_t n, struct cn_error *err);
void pr_free(void *message); /* any pointer to an unpacked message; accepts NULL */

/* Roles by name: "read", "submit", "worker", "admin". */
unsigned pr_role_parse(const char *name);    /* the set that the role stands for; 0: no such role */
const char *pr_role_name(unsigned role_set); /* back; "?" */

#endif
