/* proto/curve.c - see curve.h. */
#include "proto/curve.h"

#include <sodium.h>
#include <string.h>

enum {
    MAC = crypto_box_MACBYTES,
    HELLO_BYTES = 200,
    INITIATE_LEAST = 257,
    VOUCH = 64 + MAC,
};

static int broken(struct cn_error *err, const char *what)
{
    return cn_fail(err, CN_ECORRUPT, "CURVE: a %s that does not belong here", what);
}

static uint64_t get_be64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) v = v << 8 | p[i];
    return v;
}

static void put_be64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(v >> (56 - 8 * i));
}

/* A nonce is a text of 16 or 8 bytes and what makes it unique. */
static void nonce_of(uint8_t nonce[24], const char *prefix, const uint8_t *rest, size_t n_rest)
{
    memcpy(nonce, prefix, 24 - n_rest);
    memcpy(nonce + 24 - n_rest, rest, n_rest);
}

static int next_counter(struct pr_curve *q, const uint8_t *at)
{
    uint64_t v = get_be64(at);
    if (v <= q->theirs) return -1;
    q->theirs = v;
    return 0;
}

int pr_curve_hello(struct pr_curve *q, const uint8_t *command, size_t n,
                   uint8_t welcome[PR_CURVE_WELCOME], struct cn_error *err)
{
    uint8_t nonce[24], plain[32 + PR_CURVE_COOKIE] = {0}, box[crypto_box_BEFORENMBYTES];
    if (n != HELLO_BYTES || memcmp(command, "\x05HELLO\x01\x00", 8)) return broken(err, "HELLO");
    memcpy(q->client_short, command + 80, 32);
    nonce_of(nonce, "CurveZMQHELLO---", command + 112, 8);
    if (next_counter(q, command + 112) ||
        crypto_box_beforenm(box, q->client_short, q->own->secret) ||
        crypto_box_open_easy_afternm(plain, command + 120, 64 + MAC, nonce, box))
        return broken(err, "HELLO");
    crypto_box_keypair(q->short_public, q->short_secret);
    randombytes_buf(q->cookie, sizeof q->cookie);
    memcpy(welcome, "\x07WELCOME", 8);
    randombytes_buf(welcome + 8, 16);
    nonce_of(nonce, "WELCOME-", welcome + 8, 16);
    memcpy(plain, q->short_public, 32);
    memcpy(plain + 32, q->cookie, sizeof q->cookie);
    int rc = crypto_box_easy_afternm(welcome + 24, plain, sizeof plain, nonce, box);
    sodium_memzero(box, sizeof box);
    return rc ? broken(err, "HELLO") : 0;
}

/* The box in INITIATE: long-term key 32, vouch's nonce 16, vouch 80, metadata. The vouch binds the
 * short-term key to the long-term one and to this server. */
static int vouched(const struct pr_curve *q, const uint8_t *inside)
{
    uint8_t nonce[24], plain[64];
    nonce_of(nonce, "VOUCH---", inside + 32, 16);
    return !crypto_box_open_easy(plain, inside + 48, VOUCH, nonce, inside, q->short_secret) &&
           !sodium_memcmp(plain, q->client_short, 32) &&
           !sodium_memcmp(plain + 32, q->own->public_key, 32);
}

int pr_curve_initiate(struct pr_curve *q, uint8_t *command, size_t n, struct cn_error *err)
{
    uint8_t nonce[24], *inside = command + 113 + MAC;
    if (n < INITIATE_LEAST || memcmp(command, "\x08INITIATE", 9) ||
        sodium_memcmp(command + 9, q->cookie, sizeof q->cookie))
        return broken(err, "INITIATE");
    nonce_of(nonce, "CurveZMQINITIATE", command + 105, 8);
    if (next_counter(q, command + 105) ||
        crypto_box_beforenm(q->box, q->client_short, q->short_secret) ||
        crypto_box_open_detached_afternm(inside, inside, command + 113, n - 113 - MAC, nonce,
                                         q->box) ||
        !vouched(q, inside))
        return broken(err, "INITIATE");
    memcpy(q->client, inside, 32);
    return 0;
}

size_t pr_curve_ready(struct pr_curve *q, const void *metadata, size_t n,
                      uint8_t out[PR_CURVE_READY])
{
    uint8_t nonce[24];
    memcpy(out, "\x05READY", 6);
    put_be64(out + 6, ++q->mine);
    nonce_of(nonce, "CurveZMQREADY---", out + 6, 8);
    crypto_box_easy_afternm(out + 14, metadata, n, nonce, q->box);
    return 14 + MAC + n;
}

int pr_curve_open(struct pr_curve *q, uint8_t *message, size_t n, uint8_t *flags,
                  struct cn_error *err)
{
    uint8_t nonce[24], *inside = message + 16 + MAC;
    if (n < PR_CURVE_EXTRA || memcmp(message, "\x07MESSAGE", 8)) return broken(err, "MESSAGE");
    nonce_of(nonce, "CurveZMQMESSAGEC", message + 8, 8);
    if (next_counter(q, message + 8) ||
        crypto_box_open_detached_afternm(inside, inside, message + 16, n - 16 - MAC, nonce, q->box))
        return broken(err, "MESSAGE");
    *flags = inside[0];
    return 0;
}

void pr_curve_seal(struct pr_curve *q, uint8_t flags, const void *data, size_t n, uint8_t *out)
{
    uint8_t nonce[24], *inside = out + 16 + MAC;
    memcpy(out, "\x07MESSAGE", 8);
    put_be64(out + 8, ++q->mine);
    nonce_of(nonce, "CurveZMQMESSAGES", out + 8, 8);
    inside[0] = flags;
    if (n) memcpy(inside + 1, data, n);
    crypto_box_detached_afternm(inside, out + 16, inside, n + 1, nonce, q->box);
}

void pr_curve_wipe(struct pr_curve *q)
{
    sodium_memzero(q, sizeof *q);
}
