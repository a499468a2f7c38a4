/* coordinator/door_io.c - what a connection's bytes become: messages in its inbox, frames on the wire.
 * See door.h and door_private.h. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"
#include "coordinator/door_private.h"

enum {
    ROUND_BYTES = 1 << 20, /* of a connection before the next one's turn */
    IOV = 16,
};

/* ---- writing */

static void free_parcel(struct parcel *p)
{
    zmq_msg_close(&p->wire);
    zmq_msg_close(&p->data);
    free(p);
}

void door__free_out(struct conn *k)
{
    while (k->out_first) {
        struct parcel *p = k->out_first;
        k->out_first = p->next;
        free_parcel(p);
    }
    k->out_last = NULL;
}

static int wrap(struct conn *k, struct parcel *p)
{
    if (p->wrapped) return 0;
    p->wrapped = true;
    return pr_zmtp_wrap(&k->z, p->more, &p->data, &p->wire);
}

static void append(struct conn *k, struct parcel *p)
{
    if (k->out_last)
        k->out_last->next = p;
    else
        k->out_first = p;
    k->out_last = p;
}

/* What the protocol itself has to say goes between two messages, after what is sealed already: with
 * CURVE the order of the counters is that of the frames. */
static int queue_reply(struct door *d, struct conn *k)
{
    if (!k->z.n_reply) return 0;
    struct parcel *p = calloc(1, sizeof *p), *after = NULL;
    if (!p || zmq_msg_init_size(&p->wire, k->z.n_reply)) {
        free(p);
        return -1;
    }
    zmq_msg_init(&p->data);
    memcpy(zmq_msg_data(&p->wire), k->z.reply, k->z.n_reply);
    p->first = p->wrapped = true;
    for (struct parcel *q = k->out_first; q && q->wrapped; q = q->next) after = q;
    p->next = after ? after->next : k->out_first;
    if (after)
        after->next = p;
    else
        k->out_first = p;
    if (!p->next) k->out_last = p;
    door__charge_out(d, k, k->out + k->z.n_reply + sizeof *p);
    k->z.n_reply = 0;
    return 0;
}

/* All frames of a message whose first one is sealed are sealed too before a reply is: see above. */
static int seal_started(struct conn *k)
{
    struct parcel *p = k->out_first;
    while (p && p->wrapped) p = p->next;
    for (; p && !p->first; p = p->next)
        if (wrap(k, p)) return -1;
    return 0;
}

static size_t parcel_bytes(const struct parcel *p)
{
    return zmq_msg_size(&p->wire) + zmq_msg_size(&p->data);
}

static void add_iov(struct iovec *v, int *n, const zmq_msg_t *m, size_t *skip)
{
    size_t size = zmq_msg_size(m);
    if (*skip >= size) {
        *skip -= size;
        return;
    }
    v[(*n)++] = (struct iovec){(uint8_t *)zmq_msg_data((zmq_msg_t *)m) + *skip, size - *skip};
    *skip = 0;
}

static int gather(struct conn *k, struct iovec *v)
{
    int n = 0;
    for (struct parcel *p = k->out_first; p && n + 2 <= IOV; p = p->next) {
        if (wrap(k, p)) return -1;
        size_t skip = p->sent;
        add_iov(v, &n, &p->wire, &skip);
        add_iov(v, &n, &p->data, &skip);
        if (k->z.secure && parcel_bytes(p) > DOOR_SCRATCH)
            break; /* sealed no earlier than need be */
    }
    return n;
}

static void sent(struct door *d, struct conn *k, size_t n)
{
    while (k->out_first) {
        struct parcel *p = k->out_first;
        size_t left = parcel_bytes(p) - p->sent;
        if (n < left) {
            p->sent += n;
            return;
        }
        n -= left;
        k->out_first = p->next;
        if (!k->out_first) k->out_last = NULL;
        size_t gone = parcel_bytes(p) + sizeof *p;
        door__charge_out(d, k, k->out > gone ? k->out - gone : 0);
        free_parcel(p);
    }
}

void door__write(struct door *d, struct conn *k, int64_t now)
{
    while (k->fd >= 0 && k->out_first) {
        struct iovec v[IOV];
        int n = gather(k, v);
        if (n < 0) {
            door_end(d, k, false);
            return;
        }
        struct msghdr m = {.msg_iov = v, .msg_iovlen = (size_t)n};
        ssize_t put = n ? sendmsg(k->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
        if (put < 0 && errno == EINTR) continue;
        if (put < 0 && errno != EAGAIN)
            door__free_out(k); /* it is gone: reading will find the end */
        if (put < 0) break;
        k->last_out = now;
        sent(d, k, (size_t)put);
    }
    if (!k->out_first) {
        door__charge_out(d, k, 0);
        if (k->ending) door_end(d, k, false);
    }
    door__arm(d, k);
}

static bool add_parcel(struct conn *k, zmq_msg_t *data, bool first, bool more)
{
    struct parcel *p = calloc(1, sizeof *p);
    if (!p) return false;
    zmq_msg_init(&p->wire);
    zmq_msg_init(&p->data);
    zmq_msg_move(&p->data, data);
    p->first = first;
    p->more = more;
    append(k, p);
    return true;
}

void door_send(struct door *d, struct conn *k, const uint8_t head[PR_HEADER_BYTES], zmq_msg_t *body,
               zmq_msg_t *data)
{
    if (k->fd < 0 || k->ending || k->z.state != ZM_TRAFFIC) return;
    size_t n_data = zmq_msg_size(data),
           n = PR_HEADER_BYTES + zmq_msg_size(body) + n_data + 3 * sizeof(struct parcel);
    bool quiet = !k->out_first;
    zmq_msg_t h;
    if (quiet) k->last_out = cn_mono_ms();
    if (zmq_msg_init_size(&h, PR_HEADER_BYTES)) return;
    memcpy(zmq_msg_data(&h), head, PR_HEADER_BYTES);
    bool good = add_parcel(k, &h, true, true) && add_parcel(k, body, false, n_data > 0) &&
                (!n_data || add_parcel(k, data, false, false));
    door__charge_out(d, k, k->out + n);
    if (!good) /* half of a message cannot be taken back */
        door_end(d, k, false);
    else if (quiet)
        door__write(d, k, k->last_out);
}

/* ---- reading */

static bool inbox_full(const struct conn *k)
{
    return k->n_letters >= DOOR_INBOX || k->in >= AC_FREE_IN;
}

void door__arm(struct door *d, struct conn *k)
{
    if (k->fd < 0 || k->left) return;
    bool read = !inbox_full(k) && !k->n_stash && !k->waits && !k->ending;
    uint32_t want = (read ? EPOLLIN : 0u) | (k->out_first ? EPOLLOUT : 0u);
    if (want == k->armed) return;
    struct epoll_event e = {.events = want, .data.ptr = k};
    if (!epoll_ctl(d->epoll, EPOLL_CTL_MOD, k->fd, &e)) k->armed = want;
}

static bool take_letter(struct door *d, struct conn *k)
{
    struct letter *l = calloc(1, sizeof *l);
    if (!l) return false;
    l->frames = pr_zmtp_take(&k->z, l->frame);
    l->bytes = sizeof *l;
    for (int i = 0; i < PR_ZMTP_FRAMES; i++) l->bytes += zmq_msg_size(&l->frame[i]);
    if (k->last)
        k->last->next = l;
    else
        k->first = l;
    k->last = l;
    k->n_letters++;
    k->message_since = k->last_in;
    k->in += l->bytes;
    door__charge_in(d, k,
                    k->in); /* no more than it had for the unfinished message, but for a little */
    if (!k->task) door_turn(d, k);
    return true;
}

/* CURVE: the client has proven its key; may it come in? */
static bool let_in(struct door *d, struct conn *k)
{
    zmq_z85_encode(k->key, k->z.curve.client, PR_CURVE_KEY);
    if (!d->host.admit(d->host.arg, k->key)) {
        *k->key = 0;
        pr_zmtp_refuse(&k->z);
        k->ending = true;
        return false;
    }
    pr_zmtp_admit(&k->z);
    k->z.largest = k->z.most = AC_STRANGER_IPC;
    return true;
}

/* What one event of the protocol asks for. False: nothing more can be taken now. */
static bool react(struct door *d, struct conn *k, int event)
{
    if (event == PR_ZMTP_KEY) return let_in(d, k);
    if (event == PR_ZMTP_MESSAGE) return take_letter(d, k) && !inbox_full(k);
    if (event == PR_ZMTP_ROOM) {
        k->z.granted = door__charge_in(d, k, k->in + k->z.held + k->z.size);
        if (!k->z.granted) door_wait(d, k);
        return k->z.granted;
    }
    return event == PR_ZMTP_OPEN;
}

/* Parses n bytes; what cannot be taken now is kept in the stash. */
static void parse(struct door *d, struct conn *k, const uint8_t *data, size_t n)
{
    size_t at = 0, used;
    struct cn_error err;
    bool on = !inbox_full(k);
    while (on) {
        int event = pr_zmtp_feed(&k->z, data + at, n - at, &used, &err);
        at += used;
        if (event < 0) {
            door_end(d, k, false);
            return;
        }
        if (event == PR_ZMTP_NOTHING) break;
        on = react(d, k, event);
        if (k->fd < 0) return;
    }
    size_t left = n - at;
    if (left && !k->stash && !(k->stash = malloc(DOOR_SCRATCH))) {
        door_end(d, k, false);
        return;
    }
    if (left) memmove(k->stash, data + at, left);
    k->n_stash = left;
    if (!left) {
        free(k->stash);
        k->stash = NULL;
    }
}

void door__after_input(struct door *d, struct conn *k, int64_t now)
{
    if (k->fd < 0) return;
    if (!k->z.held && !k->z.n_head) k->message_since = now;
    if (k->out > AC_FREE_OUT) k->z.n_reply = 0; /* who does not read gets no PONG */
    if (k->z.n_reply && (seal_started(k) || queue_reply(d, k))) {
        door_end(d, k, false);
        return;
    }
    door__write(d, k, now);
}

void door__resume(struct door *d, struct conn *k, int64_t now)
{
    if (k->fd < 0 || inbox_full(k) || k->waits || k->ending || k->left) return;
    k->message_since = now;
    k->last_in = now;
    parse(d, k, k->stash, k->n_stash);
    door__after_input(d, k, now);
}

static ssize_t read_some(struct door *d, struct conn *k)
{
    size_t direct = 0;
    void *to = pr_zmtp_direct(&k->z, &direct);
    struct iovec v[2] = {{to, direct}, {d->scratch, DOOR_SCRATCH}};
    return to ? readv(k->fd, v, 2) : read(k->fd, d->scratch, DOOR_SCRATCH);
}

void door__read(struct door *d, struct conn *k, int64_t now)
{
    for (size_t total = 0; total < ROUND_BYTES && k->fd >= 0 && !inbox_full(k) && !k->n_stash &&
                           !k->waits && !k->ending;) {
        size_t direct = 0;
        bool large = pr_zmtp_direct(&k->z, &direct) != NULL;
        ssize_t got = read_some(d, k);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EAGAIN) break;
        if (got <= 0) {
            door__input_ended(d, k);
            return;
        }
        k->last_in = now;
        total += (size_t)got;
        size_t into = large ? ((size_t)got < direct ? (size_t)got : direct) : 0;
        struct cn_error err;
        int event = large ? pr_zmtp_filled(&k->z, into, &err) : PR_ZMTP_NOTHING;
        if (event < 0) {
            door_end(d, k, false);
            return;
        }
        if (event) react(d, k, event);
        if (k->fd < 0) return;
        parse(d, k, d->scratch, (size_t)got - into);
        if ((size_t)got < (large ? direct + DOOR_SCRATCH : DOOR_SCRATCH)) break;
    }
    door__after_input(d, k, now);
}
