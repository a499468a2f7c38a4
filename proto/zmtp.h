/* proto/zmtp.h - the server's half of ZMTP 3.1 (RFC 37), one connection's worth, without a socket.
 *
 * Why our own, with libzmq at hand: libzmq takes a whole message before it shows any of it, of as
 * many frames as a peer likes, for as long as it likes, and ends the process when files run out. A
 * coordinator must know who holds how much from the first byte on. Peers are libzmq's DEALERs.
 *
 *     greeting, 64 bytes:  ff 00×8 7f | 3 1 | mechanism, 20 | as-server | 0×31
 *     frame:               flags (1 more, 2 long, 4 command) | length, 1 byte or 8 | body
 *     then                 NULL: READY both ways. CURVE: see curve.h. PING is answered by PONG.
 *
 * Bytes go in by pr_zmtp_feed, or straight into the body of a large frame; what must be sent for the
 * protocol's own sake lies in `reply` after each call. A message of more than three frames is not
 * one of ours: what is beyond is counted and dropped.
 */
#ifndef CINCH_PROTO_ZMTP_H
#define CINCH_PROTO_ZMTP_H

#include <stdbool.h>
#include <zmq.h>

#include "proto/curve.h"

enum pr_zmtp_event {
    PR_ZMTP_NOTHING, /* all bytes taken, more are needed */
    PR_ZMTP_KEY,     /* CURVE: curve.client wants in: pr_zmtp_admit, or pr_zmtp_refuse and close */
    PR_ZMTP_OPEN,    /* the handshake is through */
    PR_ZMTP_ROOM, /* a frame of `size` bytes comes: set `granted` to go on, or wait and feed again */
    PR_ZMTP_MESSAGE, /* frame[0..n_frames): take it with pr_zmtp_take */
};

enum {
    PR_ZMTP_FRAMES = 3,
    PR_ZMTP_MOST_FRAMES = 64, /* of a message, the dropped ones too */
    PR_ZMTP_REPLY = 256,
};

struct pr_zmtp {
    enum { ZM_GREETING, ZM_HELLO, ZM_INITIATE, ZM_DECISION, ZM_READY, ZM_TRAFFIC, ZM_ENDED } state;
    bool secure;
    struct pr_curve curve;
    uint8_t head[64]; /* greeting, or flags and length of a frame */
    unsigned n_head;
    uint8_t *body; /* of the frame at hand; NULL: its head is not through */
    size_t size, have;
    bool granted;
    size_t largest;  /* frame that is accepted; set by the owner */
    size_t most;     /* bytes of a message that are; set by the owner */
    size_t asked;    /* bytes of a message above which a frame asks for room; set by the owner */
    size_t held;     /* bytes of the unfinished message, with all of the frame at hand */
    unsigned frames; /* of it so far */
    zmq_msg_t frame[PR_ZMTP_FRAMES];
    unsigned n_frames;
    bool whole; /* a message lies in frame[] */
    uint8_t reply[PR_ZMTP_REPLY];
    size_t n_reply;
};

/* keys: CURVE's, or NULL for none. The greeting is the first reply. */
void pr_zmtp_init(struct pr_zmtp *z, const struct pr_curve_keys *keys);
void pr_zmtp_clear(struct pr_zmtp *z);

/* Takes bytes until something happens; *used tells how many. An event, or negative: CN_ECORRUPT,
 * CN_ELIMIT (above `largest` or `most`, endless messages), CN_ENOMEM: close the connection. n may be 0:
 * goes on after ROOM or MESSAGE. */
int pr_zmtp_feed(struct pr_zmtp *z, const void *data, size_t n, size_t *used, struct cn_error *err);
/* Where the next *n bytes of a large frame may be read to directly, else NULL; then pr_zmtp_filled,
 * which is a feed. */
void *pr_zmtp_direct(const struct pr_zmtp *z, size_t *n);
int pr_zmtp_filled(struct pr_zmtp *z, size_t n, struct cn_error *err);

void pr_zmtp_admit(struct pr_zmtp *z);
void pr_zmtp_refuse(struct pr_zmtp *z); /* the reply is ERROR 400, as libzmq understands it */
/* Moves the message's frames out; frame[i] beyond the count are made empty. Returns the count. */
unsigned pr_zmtp_take(struct pr_zmtp *z, zmq_msg_t frame[PR_ZMTP_FRAMES]);
/* A PING is the reply. */
void pr_zmtp_ping(struct pr_zmtp *z);

/* The frame's head and, with CURVE, its box: `wire` becomes what must be written before `*data`. With
 * CURVE all of it goes to wire and *data becomes empty. CN_ENOMEM. */
int pr_zmtp_wrap(struct pr_zmtp *z, bool more, zmq_msg_t *data, zmq_msg_t *wire);

#endif
