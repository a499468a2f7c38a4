/* proto/curve.h - the server's half of CurveZMQ (RFC 26), one connection's worth.
 *
 * Four commands make a connection: the client's HELLO proves that it knows the server's public key
 * and brings a short-term one; WELCOME answers with the server's short-term key and a cookie;
 * INITIATE proves that the client holds its long-term key (the vouch) and still is the one with the
 * short-term key; READY ends it. After that each frame travels in a MESSAGE, boxed with the two
 * short-term keys under a counter that only grows. The primitives are libsodium's.
 *
 * The cookie is 96 random bytes that this side keeps: the protocol lets a server make it so that
 * nothing must be kept between WELCOME and INITIATE, but a TCP connection is kept anyway.
 */
#ifndef CINCH_PROTO_CURVE_H
#define CINCH_PROTO_CURVE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
    PR_CURVE_KEY = 32,
    PR_CURVE_COOKIE = 96,
    PR_CURVE_WELCOME = 168, /* bytes of the command */
    PR_CURVE_READY = 30 + 64,
    PR_CURVE_EXTRA = 33, /* bytes that a MESSAGE is longer than the frame inside */
};

struct pr_curve_keys { /* the server's own pair */
    uint8_t public_key[PR_CURVE_KEY], secret[PR_CURVE_KEY];
};

struct pr_curve {
    const struct pr_curve_keys *own; /* outlives the connection */
    uint8_t client[PR_CURVE_KEY];    /* the client's long-term key, once INITIATE was good */
    uint8_t client_short[PR_CURVE_KEY], short_public[PR_CURVE_KEY], short_secret[PR_CURVE_KEY];
    uint8_t cookie[PR_CURVE_COOKIE];
    uint8_t box[PR_CURVE_KEY]; /* both short-term keys, combined */
    uint64_t theirs, mine;     /* last counter taken, last counter used */
};

/* HELLO of n bytes → WELCOME. CN_ECORRUPT: not one for this server. */
int pr_curve_hello(struct pr_curve *q, const uint8_t *command, size_t n,
                   uint8_t welcome[PR_CURVE_WELCOME], struct cn_error *err);
/* INITIATE of n bytes, overwritten; q->client is the key that it proves. Whether that key may come
 * in is the caller's question. CN_ECORRUPT. */
int pr_curve_initiate(struct pr_curve *q, uint8_t *command, size_t n, struct cn_error *err);
/* READY; returns its length. `metadata` is at most 64 bytes. */
size_t pr_curve_ready(struct pr_curve *q, const void *metadata, size_t n,
                      uint8_t out[PR_CURVE_READY]);
/* A MESSAGE of n bytes, opened in place: the frame inside lies at message + PR_CURVE_EXTRA, n -
 * PR_CURVE_EXTRA bytes; *flags: 1 more follows, 2 a command. CN_ECORRUPT: altered, replayed, or not a
 * MESSAGE. */
int pr_curve_open(struct pr_curve *q, uint8_t *message, size_t n, uint8_t *flags,
                  struct cn_error *err);
/* A frame of n bytes as a MESSAGE of n + PR_CURVE_EXTRA bytes at `out`. */
void pr_curve_seal(struct pr_curve *q, uint8_t flags, const void *data, size_t n, uint8_t *out);
void pr_curve_wipe(struct pr_curve *q);

#endif
