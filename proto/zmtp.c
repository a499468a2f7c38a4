/* proto/zmtp.c - see zmtp.h. */
#include "proto/zmtp.h"

#include <stdlib.h>
#include <string.h>

enum { MORE = 1, LONG = 2, COMMAND = 4, INNER_COMMAND = 2, GREETING = 64, DIRECT_LEAST = 16384 };

static const char metadata[] = "\x0bSocket-Type\0\0\0\x06ROUTER\x08Identity\0\0\0\0";

static int broken(struct cn_error *err, const char *what)
{
    return cn_fail(err, CN_ECORRUPT, "ZMTP: %s", what);
}

static void put_be(uint8_t *out, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) out[i] = (uint8_t)(v >> (8 * (bytes - 1 - i)));
}

/* Flags and length; returns how many bytes. */
static size_t put_head(uint8_t out[9], uint8_t flags, size_t n)
{
    bool wide = n > 255;
    out[0] = (uint8_t)(flags | (wide ? LONG : 0));
    put_be(out + 1, n, wide ? 8 : 1);
    return wide ? 9 : 2;
}

/* What does not fit any more is not said: a peer that only pings gets no answer to each. */
static void reply(struct pr_zmtp *z, uint8_t flags, const void *data, size_t n)
{
    if (z->n_reply + 9 + n > sizeof z->reply) return;
    z->n_reply += put_head(z->reply + z->n_reply, flags, n);
    memcpy(z->reply + z->n_reply, data, n);
    z->n_reply += n;
}

void pr_zmtp_init(struct pr_zmtp *z, const struct pr_curve_keys *keys)
{
    memset(z, 0, sizeof *z);
    z->secure = keys != NULL;
    z->curve.own = keys;
    z->largest = z->most = 65536;
    z->asked = SIZE_MAX;
    for (int i = 0; i < PR_ZMTP_FRAMES; i++) zmq_msg_init(&z->frame[i]);
    uint8_t *g = z->reply;
    g[0] = 0xff;
    g[9] = 0x7f;
    g[10] = 3;
    g[11] = 1;
    memcpy(g + 12, z->secure ? "CURVE" : "NULL", z->secure ? 5 : 4);
    g[32] = z->secure;
    z->n_reply = GREETING;
}

void pr_zmtp_clear(struct pr_zmtp *z)
{
    for (int i = 0; i < PR_ZMTP_FRAMES; i++) zmq_msg_close(&z->frame[i]);
    free(z->body);
    z->body = NULL;
    pr_curve_wipe(&z->curve);
    z->state = ZM_ENDED;
}

/* ---- in */

static void send_ready(struct pr_zmtp *z)
{
    uint8_t out[PR_CURVE_READY];
    if (z->secure) {
        reply(z, COMMAND, out, pr_curve_ready(&z->curve, metadata, sizeof metadata - 1, out));
        return;
    }
    memcpy(out, "\x05READY", 6);
    memcpy(out + 6, metadata, sizeof metadata - 1);
    reply(z, COMMAND, out, 6 + sizeof metadata - 1);
}

static int greeted(struct pr_zmtp *z, struct cn_error *err)
{
    const uint8_t *g = z->head;
    char mechanism[21] = "";
    memcpy(mechanism, g + 12, 20);
    if (g[0] != 0xff || !(g[9] & 1) || g[10] < 3) return broken(err, "not a greeting of version 3");
    if (strcmp(mechanism, z->secure ? "CURVE" : "NULL"))
        return broken(err, "the peer wants another mechanism");
    z->n_head = 0;
    z->state = z->secure ? ZM_HELLO : ZM_READY;
    if (!z->secure) send_ready(z);
    return PR_ZMTP_NOTHING;
}

/* A PING is 2 bytes of time and up to 16 that come back. */
static int command(struct pr_zmtp *z, const uint8_t *data, size_t n)
{
    uint8_t pong[5 + 16], sealed[sizeof pong + PR_CURVE_EXTRA];
    if (n < 7 || n > 7 + 16 || memcmp(data, "\x04PING", 5)) return PR_ZMTP_NOTHING;
    if (z->n_reply + 9 + sizeof sealed > sizeof z->reply) return PR_ZMTP_NOTHING;
    size_t m = 5 + n - 7;
    memcpy(pong, "\x04PONG", 5);
    memcpy(pong + 5, data + 7, n - 7);
    if (!z->secure) {
        reply(z, COMMAND, pong, m);
    } else {
        pr_curve_seal(&z->curve, INNER_COMMAND, pong, m, sealed);
        reply(z, 0, sealed, m + PR_CURVE_EXTRA);
    }
    return PR_ZMTP_NOTHING;
}

void pr_zmtp_ping(struct pr_zmtp *z)
{
    static const uint8_t ping[] = "\x04PING\0";
    uint8_t sealed[7 + PR_CURVE_EXTRA];
    if (z->state != ZM_TRAFFIC || z->n_reply + 9 + sizeof sealed > sizeof z->reply) return;
    if (!z->secure) {
        reply(z, COMMAND, ping, 7);
        return;
    }
    pr_curve_seal(&z->curve, INNER_COMMAND, ping, 7, sealed);
    reply(z, 0, sealed, sizeof sealed);
}

static int handshake(struct pr_zmtp *z, struct cn_error *err)
{
    if (z->state == ZM_HELLO) {
        uint8_t welcome[PR_CURVE_WELCOME];
        int rc = pr_curve_hello(&z->curve, z->body, z->size, welcome, err);
        if (rc) return rc;
        reply(z, COMMAND, welcome, sizeof welcome);
        z->state = ZM_INITIATE;
        return PR_ZMTP_NOTHING;
    }
    if (z->state == ZM_INITIATE) {
        int rc = pr_curve_initiate(&z->curve, z->body, z->size, err);
        if (rc) return rc;
        z->state = ZM_DECISION;
        return PR_ZMTP_KEY;
    }
    if (z->state != ZM_READY || z->size < 6 || memcmp(z->body, "\x05READY", 6))
        return broken(err, "no READY");
    z->state = ZM_TRAFFIC;
    return PR_ZMTP_OPEN;
}

static void free_frame(void *data, void *base)
{
    free(base);
}

/* The frame at hand is complete: it joins the message. */
static int traffic(struct pr_zmtp *z, bool more, uint8_t *data, size_t n, struct cn_error *err)
{
    if (z->frames++ < PR_ZMTP_FRAMES) {
        zmq_msg_t *m = &z->frame[z->n_frames++];
        if (zmq_msg_init_data(m, data, n, free_frame, z->body))
            return cn_fail(err, CN_ENOMEM, "out of memory");
        z->body = NULL;
    } else {
        z->held -= z->size;
    }
    if (z->frames > PR_ZMTP_MOST_FRAMES)
        return cn_fail(err, CN_ELIMIT, "a message of more than %d frames", PR_ZMTP_MOST_FRAMES);
    z->whole = !more;
    return more ? PR_ZMTP_NOTHING : PR_ZMTP_MESSAGE;
}

/* What is inside of a CURVE MESSAGE says itself whether more follows and whether it is a command. */
static int framed(struct pr_zmtp *z, struct cn_error *err)
{
    uint8_t flags = z->head[0], inner = 0, *data = z->body;
    size_t n = z->size;
    bool is_command = flags & COMMAND, more = flags & MORE;
    if (z->state != ZM_TRAFFIC) return is_command ? handshake(z, err) : broken(err, "no command");
    if (z->secure) {
        int rc = pr_curve_open(&z->curve, data, n, &inner, err);
        if (rc) return rc;
        data += PR_CURVE_EXTRA;
        n -= PR_CURVE_EXTRA;
        more = inner & 1;
        is_command = inner & INNER_COMMAND;
    }
    if (!is_command) return traffic(z, more, data, n, err);
    z->held -= z->size;
    return command(z, data, n);
}

/* 1: flags and length are there. */
static int head_done(struct pr_zmtp *z, struct cn_error *err)
{
    if (!z->n_head || z->n_head < (z->head[0] & LONG ? 9u : 2u)) return 0;
    if (z->head[0] & ~7u) return broken(err, "impossible flags");
    uint64_t size = z->head[1];
    for (int i = 2; z->head[0] & LONG && i < 9; i++) {
        if (size >> 48) return cn_fail(err, CN_ELIMIT, "a frame of impossible size");
        size = size << 8 | z->head[i];
    }
    if (size > z->largest || z->held + size > z->most)
        return cn_fail(err, CN_ELIMIT, "a frame of %llu bytes, the limit is %zu",
                       (unsigned long long)size, z->largest);
    z->size = (size_t)size;
    return 1;
}

/* From head to body, when there is room for it. */
static int begin_body(struct pr_zmtp *z, struct cn_error *err)
{
    if (z->state == ZM_TRAFFIC && z->held + z->size > z->asked && !z->granted) return PR_ZMTP_ROOM;
    z->body = malloc(z->size ? z->size : 1);
    if (!z->body) return cn_fail(err, CN_ENOMEM, "out of memory");
    z->have = 0;
    z->held += z->size;
    return PR_ZMTP_NOTHING;
}

static int finish_body(struct pr_zmtp *z, struct cn_error *err)
{
    int rc = framed(z, err);
    if (z->state != ZM_TRAFFIC || rc == PR_ZMTP_OPEN) z->held = 0;
    free(z->body); /* unless it went into the message */
    z->body = NULL;
    z->n_head = 0;
    z->granted = false;
    return rc;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* One step: bytes of a head, or of a body. */
static int step(struct pr_zmtp *z, const uint8_t *data, size_t n, size_t *used,
                struct cn_error *err)
{
    if (z->state == ZM_GREETING) {
        size_t take = least(n, GREETING - z->n_head);
        memcpy(z->head + z->n_head, data, take);
        z->n_head += (unsigned)take;
        *used += take;
        return z->n_head == GREETING ? greeted(z, err) : PR_ZMTP_NOTHING;
    }
    if (!z->body) {
        int rc = head_done(z, err);
        if (rc < 0) return rc;
        if (rc) {
            rc = begin_body(z, err);
            if (rc || z->size) return rc;
            return finish_body(z, err);
        }
        z->head[z->n_head++] = *data;
        ++*used;
        return PR_ZMTP_NOTHING;
    }
    size_t take = least(n, z->size - z->have);
    memcpy(z->body + z->have, data, take);
    z->have += take;
    *used += take;
    return z->have == z->size ? finish_body(z, err) : PR_ZMTP_NOTHING;
}

int pr_zmtp_feed(struct pr_zmtp *z, const void *data, size_t n, size_t *used, struct cn_error *err)
{
    *used = 0;
    if (z->whole) return PR_ZMTP_MESSAGE;
    if (z->state == ZM_DECISION) return PR_ZMTP_KEY;
    if (z->state == ZM_ENDED) return broken(err, "the connection has ended");
    for (;;) {
        size_t left = n - *used;
        bool head = z->state != ZM_GREETING && !z->body && z->n_head &&
                    z->n_head >= (z->head[0] & LONG ? 9u : 2u);
        if (!left && !head) return PR_ZMTP_NOTHING;
        int rc = step(z, (const uint8_t *)data + *used, left, used, err);
        if (rc) return rc;
    }
}

void *pr_zmtp_direct(const struct pr_zmtp *z, size_t *n)
{
    if (!z->body || z->size - z->have < DIRECT_LEAST) return NULL;
    *n = z->size - z->have;
    return z->body + z->have;
}

int pr_zmtp_filled(struct pr_zmtp *z, size_t n, struct cn_error *err)
{
    z->have += n;
    return z->have == z->size ? finish_body(z, err) : PR_ZMTP_NOTHING;
}

void pr_zmtp_admit(struct pr_zmtp *z)
{
    send_ready(z);
    z->state = ZM_TRAFFIC;
}

void pr_zmtp_refuse(struct pr_zmtp *z)
{
    reply(z, COMMAND,
          "\x05"
          "ERROR\x03"
          "400",
          10);
    z->state = ZM_ENDED;
}

unsigned pr_zmtp_take(struct pr_zmtp *z, zmq_msg_t frame[PR_ZMTP_FRAMES])
{
    unsigned n = z->frames;
    for (int i = 0; i < PR_ZMTP_FRAMES; i++) {
        zmq_msg_init(&frame[i]);
        zmq_msg_move(&frame[i], &z->frame[i]);
    }
    z->n_frames = z->frames = 0;
    z->held = 0;
    z->whole = false;
    return n;
}

/* ---- out */

int pr_zmtp_wrap(struct pr_zmtp *z, bool more, zmq_msg_t *data, zmq_msg_t *wire)
{
    size_t n = zmq_msg_size(data), extra = z->secure ? PR_CURVE_EXTRA : 0;
    uint8_t head[9];
    size_t n_head = put_head(head, more && !z->secure ? MORE : 0, n + extra);
    if (zmq_msg_init_size(wire, n_head + (z->secure ? n + extra : 0))) return CN_ENOMEM;
    uint8_t *out = zmq_msg_data(wire);
    memcpy(out, head, n_head);
    if (!z->secure) return 0;
    pr_curve_seal(&z->curve, more ? 1 : 0, zmq_msg_data(data), n, out + n_head);
    zmq_msg_close(data);
    zmq_msg_init(data);
    return 0;
}
