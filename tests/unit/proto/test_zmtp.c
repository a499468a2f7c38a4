/* The server's half of ZMTP and CURVE against bytes made here: whole, in pieces, too large, altered, replayed. libzmq's own
 * clients meet it in every integration test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "proto/zmtp.h"

/* ---- a client's bytes */

struct bytes {
    uint8_t at[300000];
    size_t n;
};

static void put(struct bytes *b, const void *data, size_t n)
{
    assert_true(b->n + n <= sizeof b->at);
    memcpy(b->at + b->n, data, n);
    b->n += n;
}

static void put_frame(struct bytes *b, int flags, const void *data, size_t n)
{
    uint8_t head[9] = {(uint8_t)(flags | (n > 255 ? 2 : 0))};
    for (int i = 0; i < 8; i++) head[1 + i] = (uint8_t)(n >> (56 - 8 * i));
    if (n <= 255) head[1] = (uint8_t)n;
    put(b, head, n > 255 ? 9 : 2);
    put(b, data, n);
}

static void put_greeting(struct bytes *b, const char *mechanism)
{
    uint8_t g[64] = {0xff, [9] = 0x7f, [10] = 3};
    memcpy(g + 12, mechanism, strlen(mechanism));
    put(b, g, sizeof g);
}

#define READY                                                                                      \
    "\x05READY\x0bSocket-Type\0\0\0\x06"                                                           \
    "DEALER"

static void put_hands(struct bytes *b)
{
    put_greeting(b, "NULL");
    put_frame(b, 4, READY, sizeof READY - 1);
}

/* Feeds all in pieces; the last event that was not NOTHING, or the error. At MESSAGE it stops. */
static int feed(struct pr_zmtp *z, const uint8_t *at, size_t n, size_t piece)
{
    struct cn_error err;
    int last = PR_ZMTP_NOTHING;
    while (n) {
        size_t used, m = n < piece ? n : piece;
        int rc = pr_zmtp_feed(z, at, m, &used, &err);
        assert_true(used <= m);
        at += used;
        n -= used;
        if (rc < 0 || rc == PR_ZMTP_MESSAGE || rc == PR_ZMTP_ROOM || rc == PR_ZMTP_KEY) return rc;
        if (rc) last = rc;
    }
    return last;
}

static void open_plain(struct pr_zmtp *z)
{
    struct bytes *b = calloc(1, sizeof *b);
    pr_zmtp_init(z, NULL);
    assert_int_equal(z->n_reply, 64);
    assert_memory_equal(z->reply + 12, "NULL\0", 5);
    put_hands(b);
    assert_int_equal(feed(z, b->at, b->n, b->n), PR_ZMTP_OPEN);
    z->n_reply = 0;
    free(b);
}

/* ---- NULL */

static void any_pieces_make_the_same_message(void **state)
{
    struct bytes *b = calloc(1, sizeof *b);
    uint8_t long_one[700];
    memset(long_one, 7, sizeof long_one);
    put_hands(b);
    put_frame(b, 1, "head", 4);
    put_frame(b, 1, long_one, sizeof long_one);
    put_frame(b, 0, "", 0);
    for (size_t piece = 1; piece < 900; piece += piece < 70 ? 1 : 97) {
        struct pr_zmtp z;
        zmq_msg_t frame[PR_ZMTP_FRAMES];
        pr_zmtp_init(&z, NULL);
        assert_int_equal(feed(&z, b->at, b->n, piece), PR_ZMTP_MESSAGE);
        assert_int_equal(pr_zmtp_take(&z, frame), 3);
        assert_int_equal(zmq_msg_size(&frame[0]), 4);
        assert_memory_equal(zmq_msg_data(&frame[1]), long_one, sizeof long_one);
        assert_int_equal(zmq_msg_size(&frame[2]), 0);
        assert_int_equal(z.held, 0);
        for (int i = 0; i < PR_ZMTP_FRAMES; i++) zmq_msg_close(&frame[i]);
        pr_zmtp_clear(&z);
    }
    free(b);
}

static void a_large_frame_asks_for_room_before_memory(void **state)
{
    struct pr_zmtp z;
    struct cn_error err;
    size_t used, n;
    struct bytes *b = calloc(1, sizeof *b);
    uint8_t *large = calloc(1, 60000);
    open_plain(&z);
    z.asked = 1000;
    put_frame(b, 0, large, 60000);
    assert_int_equal(feed(&z, b->at, 9, 9), PR_ZMTP_ROOM);
    assert_int_equal(pr_zmtp_feed(&z, NULL, 0, &used, &err), PR_ZMTP_ROOM);
    assert_null(z.body);
    assert_int_equal(pr_zmtp_feed(&z, b->at + 9, 100, &used, &err), PR_ZMTP_ROOM); /* still */
    assert_int_equal(used, 0);
    z.granted = true;
    assert_int_equal(pr_zmtp_feed(&z, b->at + 9, 100, &used, &err), PR_ZMTP_NOTHING);
    assert_int_equal(z.held, 60000);
    uint8_t *to = pr_zmtp_direct(&z, &n);
    assert_non_null(to);
    assert_int_equal(n, 60000 - 100);
    memset(to, 0, n);
    assert_int_equal(pr_zmtp_filled(&z, n, &err), PR_ZMTP_MESSAGE);
    pr_zmtp_clear(&z);
    free(large);
    free(b);
}

static void what_is_too_much_ends_it(void **state)
{
    struct pr_zmtp z;
    struct bytes *b = calloc(1, sizeof *b);
    uint8_t *part = calloc(1, 65536);
    open_plain(&z); /* a frame above the limit: its head is enough */
    put_frame(b, 0, part, 65536);
    z.largest = 65535;
    assert_int_equal(feed(&z, b->at, 9, 9), CN_ELIMIT);
    pr_zmtp_clear(&z);
    open_plain(&z); /* frames that are too much together */
    b->n = 0;
    for (int i = 0; i < 3; i++) put_frame(b, 1, part, 30000);
    assert_int_equal(feed(&z, b->at, b->n, 5000), CN_ELIMIT);
    pr_zmtp_clear(&z);
    open_plain(&z); /* more than three are counted and dropped */
    b->n = 0;
    for (int i = 0; i < 10; i++) put_frame(b, i < 9, "abc", 3);
    assert_int_equal(feed(&z, b->at, b->n, 7), PR_ZMTP_MESSAGE);
    assert_int_equal(z.held, 9);
    zmq_msg_t frame[PR_ZMTP_FRAMES];
    assert_int_equal(pr_zmtp_take(&z, frame), 10);
    for (int i = 0; i < PR_ZMTP_FRAMES; i++) zmq_msg_close(&frame[i]);
    b->n = 0; /* endless ones are not */
    for (int i = 0; i < 100; i++) put_frame(b, 1, "", 0);
    assert_int_equal(feed(&z, b->at, b->n, 7), CN_ELIMIT);
    pr_zmtp_clear(&z);
    open_plain(&z); /* a length that does not fit anything */
    assert_int_equal(feed(&z, (const uint8_t *)"\x02\xff\xff\xff\xff\xff\xff\xff\xff.", 10, 10),
                     CN_ELIMIT);
    pr_zmtp_clear(&z);
    free(part);
    free(b);
}

static void other_protocols_are_refused(void **state)
{
    static const char *const greeting[] = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                                           "\xff\0\0\0\0\0\0\0\1\x7f\1"};
    for (int i = 0; i < 3; i++) {
        struct pr_zmtp z;
        struct bytes *b = calloc(1, sizeof *b);
        pr_zmtp_init(&z, NULL);
        put(b, greeting[i % 2], i ? 11 : 20);
        b->n = 64; /* filled with zeros */
        if (i == 2) b->n = 0, put_greeting(b, "PLAIN");
        assert_int_equal(feed(&z, b->at, b->n, 64), CN_ECORRUPT);
        pr_zmtp_clear(&z);
        free(b);
    }
    struct pr_zmtp z;
    struct bytes *b = calloc(1, sizeof *b);
    pr_zmtp_init(&z, NULL);
    put_greeting(b, "NULL");
    put_frame(b, 0, "a message before READY", 22);
    assert_int_equal(feed(&z, b->at, b->n, 64), CN_ECORRUPT);
    pr_zmtp_clear(&z);
    open_plain(&z);
    assert_int_equal(feed(&z, (const uint8_t *)"\x40\x01xx", 4, 4), CN_ECORRUPT); /* flags */
    pr_zmtp_clear(&z);
    free(b);
}

static void pings_are_answered(void **state)
{
    struct pr_zmtp z;
    struct bytes *b = calloc(1, sizeof *b);
    open_plain(&z);
    put_frame(b, 4, "\x04PING\0\0hello", 12);
    put_frame(b, 4, "\x04PING\0\0more than sixteen bytes", 30);
    put_frame(b, 4, "\x04PING", 5);
    put_frame(b, 4, "\x07UNKNOWN", 8);
    assert_int_equal(feed(&z, b->at, b->n, 3), PR_ZMTP_NOTHING);
    assert_int_equal(z.n_reply, 12);
    assert_memory_equal(z.reply, "\x04\x0a\x04PONGhello", 12);
    for (int i = 0; i < 1000; i++) feed(&z, b->at, 14, 14); /* nobody reads: no more are said */
    assert_true(z.n_reply <= sizeof z.reply);
    assert_int_equal(z.held, 0);
    pr_zmtp_clear(&z);
    free(b);
}

/* ---- CURVE: the client's half */

struct client {
    uint8_t public_key[32], secret[32], short_public[32], short_secret[32], server[32], box[32];
    uint64_t counter;
};

static void be64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(v >> (56 - 8 * i));
}

static void nonce_of(uint8_t n[24], const char *prefix, const uint8_t *rest, size_t n_rest)
{
    memcpy(n, prefix, 24 - n_rest);
    memcpy(n + 24 - n_rest, rest, n_rest);
}

static void client_hello(struct client *c, const uint8_t server[32], uint8_t out[200])
{
    uint8_t nonce[24], zeros[64] = {0};
    crypto_box_keypair(c->public_key, c->secret);
    crypto_box_keypair(c->short_public, c->short_secret);
    memcpy(c->server, server, 32);
    c->counter = 1;
    memset(out, 0, 200);
    memcpy(out, "\x05HELLO\x01", 7);
    memcpy(out + 80, c->short_public, 32);
    be64(out + 112, c->counter);
    nonce_of(nonce, "CurveZMQHELLO---", out + 112, 8);
    assert_int_equal(crypto_box_easy(out + 120, zeros, 64, nonce, server, c->short_secret), 0);
}

/* WELCOME → INITIATE of 257 bytes. `claimed` is whose key it says to be. */
static void client_initiate(struct client *c, const uint8_t *welcome, const uint8_t *claimed,
                            uint8_t out[257])
{
    uint8_t nonce[24], plain[128], vouch[64];
    nonce_of(nonce, "WELCOME-", welcome + 8, 16);
    assert_int_equal(
        crypto_box_open_easy(plain, welcome + 24, 144, nonce, c->server, c->short_secret), 0);
    assert_int_equal(crypto_box_beforenm(c->box, plain, c->short_secret), 0);
    memcpy(out, "\x08INITIATE", 9);
    memcpy(out + 9, plain + 32, 96);
    be64(out + 105, ++c->counter);
    uint8_t inside[128];
    memcpy(inside, claimed, 32);
    randombytes_buf(inside + 32, 16);
    memcpy(vouch, c->short_public, 32);
    memcpy(vouch + 32, c->server, 32);
    nonce_of(nonce, "VOUCH---", inside + 32, 16);
    assert_int_equal(crypto_box_easy(inside + 48, vouch, 64, nonce, plain, c->secret), 0);
    nonce_of(nonce, "CurveZMQINITIATE", out + 105, 8);
    crypto_box_easy_afternm(out + 113, inside, 128, nonce, c->box);
}

static size_t client_seal(struct client *c, uint8_t flags, const char *text, uint8_t *out)
{
    uint8_t nonce[24], plain[200] = {flags};
    size_t n = strlen(text);
    memcpy(plain + 1, text, n);
    memcpy(out, "\x07MESSAGE", 8);
    be64(out + 8, ++c->counter);
    nonce_of(nonce, "CurveZMQMESSAGEC", out + 8, 8);
    crypto_box_easy_afternm(out + 16, plain, n + 1, nonce, c->box);
    return n + PR_CURVE_EXTRA;
}

struct secure {
    struct pr_curve_keys server;
    struct pr_zmtp z;
    struct client c;
    uint8_t hello[200], initiate[257];
};

static int send_frame(struct secure *s, int flags, const void *data, size_t n)
{
    struct bytes *b = calloc(1, sizeof *b);
    put_frame(b, flags, data, n);
    int rc = feed(&s->z, b->at, b->n, 64);
    free(b);
    return rc;
}

/* Up to INITIATE, not sent yet. */
static void shake(struct secure *s)
{
    struct bytes *b = calloc(1, sizeof *b);
    memset(s, 0, sizeof *s);
    crypto_box_keypair(s->server.public_key, s->server.secret);
    pr_zmtp_init(&s->z, &s->server);
    assert_memory_equal(s->z.reply + 12, "CURVE", 5);
    assert_int_equal(s->z.reply[32], 1);
    s->z.n_reply = 0;
    put_greeting(b, "CURVE");
    assert_int_equal(feed(&s->z, b->at, b->n, 64), PR_ZMTP_NOTHING);
    client_hello(&s->c, s->server.public_key, s->hello);
    assert_int_equal(send_frame(s, 4, s->hello, 200), PR_ZMTP_NOTHING);
    assert_int_equal(s->z.n_reply, 170);
    client_initiate(&s->c, s->z.reply + 2, s->c.public_key, s->initiate);
    s->z.n_reply = 0;
    free(b);
}

static void open_secure(struct secure *s)
{
    shake(s);
    assert_int_equal(send_frame(s, 4, s->initiate, 257), PR_ZMTP_KEY);
    assert_memory_equal(s->z.curve.client, s->c.public_key, 32);
    pr_zmtp_admit(&s->z);
    uint8_t nonce[24], plain[128];
    size_t n = s->z.reply[1];
    assert_memory_equal(s->z.reply + 2, "\x05READY", 6);
    nonce_of(nonce, "CurveZMQREADY---", s->z.reply + 8, 8);
    assert_int_equal(crypto_box_open_easy_afternm(plain, s->z.reply + 16, n - 14, nonce, s->c.box),
                     0);
    assert_memory_equal(plain, "\x0bSocket-Type\0\0\0\x06ROUTER", 22);
    s->z.n_reply = 0;
}

static void keys_are_proven_and_messages_pass_both_ways(void **state)
{
    struct secure s;
    uint8_t out[300], nonce[24], plain[64];
    zmq_msg_t frame[PR_ZMTP_FRAMES], data, wire;
    open_secure(&s);
    size_t n = client_seal(&s.c, 1, "head", out);
    assert_int_equal(send_frame(&s, 0, out, n), PR_ZMTP_NOTHING);
    n = client_seal(&s.c, 0, "body", out);
    assert_int_equal(send_frame(&s, 0, out, n), PR_ZMTP_MESSAGE);
    assert_int_equal(pr_zmtp_take(&s.z, frame), 2);
    assert_int_equal(zmq_msg_size(&frame[0]), 4);
    assert_memory_equal(zmq_msg_data(&frame[1]), "body", 4);
    for (int i = 0; i < PR_ZMTP_FRAMES; i++) zmq_msg_close(&frame[i]);
    for (int more = 0; more < 2; more++) {
        zmq_msg_init_size(&data, 5);
        memcpy(zmq_msg_data(&data), "reply", 5);
        assert_int_equal(pr_zmtp_wrap(&s.z, more, &data, &wire), 0);
        assert_int_equal(zmq_msg_size(&data), 0);
        const uint8_t *w = zmq_msg_data(&wire);
        assert_int_equal(zmq_msg_size(&wire), 2 + PR_CURVE_EXTRA + 5);
        nonce_of(nonce, "CurveZMQMESSAGES", w + 10, 8);
        assert_int_equal(crypto_box_open_easy_afternm(plain, w + 18, 16 + 6, nonce, s.c.box), 0);
        assert_int_equal(plain[0], more);
        assert_memory_equal(plain + 1, "reply", 5);
        zmq_msg_close(&wire);
    }
    n = client_seal(&s.c, 2, "\x04PING", out); /* too short to be one: no answer */
    assert_int_equal(send_frame(&s, 0, out, n), PR_ZMTP_NOTHING);
    assert_int_equal(s.z.n_reply, 0);
    pr_zmtp_clear(&s.z);
}

static void a_refused_key_is_told(void **state)
{
    struct secure s;
    shake(&s);
    assert_int_equal(send_frame(&s, 4, s.initiate, 257), PR_ZMTP_KEY);
    pr_zmtp_refuse(&s.z);
    assert_memory_equal(s.z.reply,
                        "\x04\x0a\x05"
                        "ERROR\x03"
                        "400",
                        12);
    assert_int_equal(send_frame(&s, 0, "x", 1), CN_ECORRUPT);
    pr_zmtp_clear(&s.z);
}

static void forged_and_replayed_bytes_end_it(void **state)
{
    struct secure s;
    uint8_t out[300], other[32];
    open_secure(&s); /* the same message again */
    size_t n = client_seal(&s.c, 1, "once", out);
    assert_int_equal(send_frame(&s, 0, out, n), PR_ZMTP_NOTHING);
    assert_int_equal(send_frame(&s, 0, out, n), CN_ECORRUPT);
    pr_zmtp_clear(&s.z);
    open_secure(&s); /* an altered one */
    n = client_seal(&s.c, 1, "twice", out);
    out[n - 1] ^= 1;
    assert_int_equal(send_frame(&s, 0, out, n), CN_ECORRUPT);
    pr_zmtp_clear(&s.z);
    open_secure(&s); /* too short, and no MESSAGE at all */
    assert_int_equal(send_frame(&s, 0, out, PR_CURVE_EXTRA - 1), CN_ECORRUPT);
    pr_zmtp_clear(&s.z);
    open_secure(&s);
    assert_int_equal(send_frame(&s, 0, "in the clear, where nothing is any more", 39), CN_ECORRUPT);
    pr_zmtp_clear(&s.z);
    shake(&s); /* a cookie of another connection */
    s.initiate[20] ^= 1;
    assert_int_equal(send_frame(&s, 4, s.initiate, 257), CN_ECORRUPT);
    pr_zmtp_clear(&s.z);
    shake(&s); /* HELLO for another server */
    pr_zmtp_clear(&s.z);
    struct bytes *b = calloc(1, sizeof *b);
    crypto_box_keypair(s.server.public_key, s.server.secret);
    pr_zmtp_init(&s.z, &s.server);
    put_greeting(b, "CURVE");
    feed(&s.z, b->at, b->n, 64);
    assert_int_equal(send_frame(&s, 4, s.hello, 200), CN_ECORRUPT);
    pr_zmtp_clear(&s.z);
    free(b);
    randombytes_buf(other, sizeof other); /* somebody else's key, without the secret */
    struct client thief;
    shake(&s);
    pr_zmtp_clear(&s.z);
    b = calloc(1, sizeof *b);
    pr_zmtp_init(&s.z, &s.server);
    put_greeting(b, "CURVE");
    feed(&s.z, b->at, b->n, 64);
    client_hello(&thief, s.server.public_key, s.hello);
    s.z.n_reply = 0;
    assert_int_equal(send_frame(&s, 4, s.hello, 200), PR_ZMTP_NOTHING);
    client_initiate(&thief, s.z.reply + 2, s.c.public_key, s.initiate);
    assert_int_equal(send_frame(&s, 4, s.initiate, 257), CN_ECORRUPT);
    pr_zmtp_clear(&s.z);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_pieces_make_the_same_message),
        cmocka_unit_test(a_large_frame_asks_for_room_before_memory),
        cmocka_unit_test(what_is_too_much_ends_it),
        cmocka_unit_test(other_protocols_are_refused),
        cmocka_unit_test(pings_are_answered),
        cmocka_unit_test(keys_are_proven_and_messages_pass_both_ways),
        cmocka_unit_test(a_refused_key_is_told),
        cmocka_unit_test(forged_and_replayed_bytes_end_it),
    };
    return sodium_init() < 0 || cmocka_run_group_tests(tests, NULL, NULL);
}
