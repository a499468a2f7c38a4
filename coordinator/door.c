/* coordinator/door.c - see door.h. */
#define _GNU_SOURCE
#include "coordinator/door.h"

#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/door_private.h"
#include "coordinator/guest.h"
#include "coordinator/listen.h"
#include "proto/limits.h"

enum {
    STRANGERS = 128,
    ACCEPTS = 64, /* new connections in a round */
    EVENTS = 256,
    HELLO_MS = 10000,
    UNFINISHED_MS = 10000,
    UNREAD_MS = 20000,
    PING_MS = 30000,
    SILENT_MS = 150000,
    LINGER_MS = 1000,
    PAUSE_MS = 100, /* of accepting, when files have run out */
    LARGEST = PR_MAX_BODY + PR_CURVE_EXTRA,
    MOST = PR_MAX_BODY + PR_CHUNK + 4096,
};

/* ---- opening */

static unsigned open_files(void)
{
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir)) n++;
    if (dir) closedir(dir);
    return n ? n : 32;
}

/* As many connections as files allow: the soft limit becomes the hard one, and `keep` stay for
 * others; of few files those get a third. */
static unsigned most_connections(unsigned keep)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r)) return 256;
    rlim_t soft = r.rlim_cur;
    r.rlim_cur = r.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &r)) r.rlim_cur = soft;
    unsigned limit = r.rlim_cur > 1000000 ? 1000000 : (unsigned)r.rlim_cur, used = open_files();
    if (keep > limit / 3) keep = limit / 3;
    if (limit < used + keep + 8) return 8;
    return limit - used - keep < DOOR_MOST ? limit - used - keep : DOOR_MOST;
}

int door_open(struct door **out, struct accounts *accounts, const struct door_host *host,
              unsigned keep, struct cn_error *err)
{
    struct door *d = calloc(1, sizeof *d);
    *out = d;
    if (!d) return cn_fail(err, CN_ENOMEM, "out of memory");
    if (sodium_init() < 0) return cn_fail(err, CN_EINTERNAL, "libsodium cannot start");
    d->accounts = accounts;
    d->host = *host;
    d->epoll = epoll_create1(EPOLL_CLOEXEC);
    d->most = most_connections(keep);
    d->slot = calloc(d->most, sizeof *d->slot);
    d->unused = calloc(d->most, sizeof *d->unused);
    if (d->epoll < 0 || !d->slot || !d->unused)
        return cn_fail(err, CN_ENOMEM, "no room for connections");
    while (d->n_unused < d->most) {
        d->unused[d->n_unused] = d->most - 1 - d->n_unused;
        d->n_unused++;
    }
    return 0;
}

void door_keys(struct door *d, const struct pr_key *server)
{
    zmq_z85_decode(d->keys.public_key, server->public_key);
    zmq_z85_decode(d->keys.secret, server->secret);
}

int door_listen(struct door *d, const char *endpoint, char **bound, struct cn_error *err)
{
    struct listener *l = &d->listener[d->n_listeners];
    int fd = listen_open(endpoint, d->host.group, bound, err);
    if (fd < 0) return fd;
    l->fd = fd;
    l->tcp = !strncmp(endpoint, "tcp://", 6);
    l->path = !l->tcp && endpoint[6] != '@' ? strdup(endpoint + 6) : NULL;
    d->n_listeners++;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = l};
    if (epoll_ctl(d->epoll, EPOLL_CTL_ADD, fd, &e))
        return cn_fail(err, CN_EIO, "cannot listen on %s: %s", endpoint, strerror(errno));
    return 0;
}

int door_fd(const struct door *d)
{
    return d->epoll;
}

unsigned door_count(const struct door *d)
{
    return d->most - d->n_unused;
}

unsigned door_most(const struct door *d)
{
    return d->most;
}

/* ---- charging */

static size_t above(size_t n, size_t part)
{
    return n > part ? n - part : 0;
}

bool door__charge_in(struct door *d, struct conn *k, size_t n)
{
    size_t want = k->peer ? above(n, AC_FREE_IN) : 0; /* a stranger has its own limit */
    if (want > k->in_charged && !ac_take_in(d->accounts, k->account, want - k->in_charged))
        return false;
    if (want < k->in_charged) {
        ac_give_in(d->accounts, k->account, k->in_charged - want);
        d->room = true;
    }
    k->in_charged = want;
    return true;
}

void door__charge_out(struct door *d, struct conn *k, size_t n)
{
    size_t want = above(n, AC_FREE_OUT);
    if (want > k->out_charged) ac_take_out(d->accounts, k->account, want - k->out_charged);
    if (want < k->out_charged) {
        ac_give_out(d->accounts, k->account, k->out_charged - want);
        d->room = true;
    }
    k->out_charged = want;
    k->out = n;
}

/* ---- turns */

static void ring_add(struct accounts *all, struct account *a)
{
    a->in_ring = true;
    a->ring_next = NULL;
    if (all->ring_last)
        all->ring_last->ring_next = a;
    else
        all->ring_first = a;
    all->ring_last = a;
}

void door_turn(struct door *d, struct conn *k)
{
    struct account *a = k->account;
    if (k->in_turn || k->waits || k->fd < 0 || (!k->first && !k->task)) return;
    k->in_turn = true;
    k->turn_next = NULL;
    if (a->last_conn)
        a->last_conn->turn_next = k;
    else
        a->first = k;
    a->last_conn = k;
    if (!a->in_ring) ring_add(d->accounts, a);
}

static void leave_turn(struct conn *k)
{
    struct account *a = k->account;
    struct conn **at = &a->first, *last = NULL;
    if (!k->in_turn) return;
    while (*at != k) {
        last = *at;
        at = &(*at)->turn_next;
    }
    *at = k->turn_next;
    if (a->last_conn == k) a->last_conn = last;
    k->in_turn = false;
}

struct conn *door_next(struct door *d)
{
    struct accounts *all = d->accounts;
    while (all->ring_first) {
        struct account *a = all->ring_first;
        struct conn *k = a->first;
        all->ring_first = a->ring_next;
        if (!all->ring_first) all->ring_last = NULL;
        a->in_ring = false;
        if (!k) continue;
        leave_turn(k);
        if (a->first) ring_add(all, a);
        return k;
    }
    return NULL;
}

void door_wait(struct door *d, struct conn *k)
{
    if (k->waits || k->fd < 0) return;
    leave_turn(k);
    k->waits = true;
    k->wait_next = NULL;
    if (d->waiting)
        d->last_waiting->wait_next = k;
    else
        d->waiting = k;
    d->last_waiting = k;
    door__arm(d, k);
}

static void stop_waiting(struct door *d, struct conn *k)
{
    struct conn **at = &d->waiting, *before = NULL;
    if (!k->waits) return;
    for (; *at && *at != k; at = &(*at)->wait_next) before = *at;
    if (*at) *at = k->wait_next;
    if (d->last_waiting == k) d->last_waiting = before;
    k->waits = false;
}

/* ---- ending */

static void stranger_leaves(struct door *d, struct conn *k)
{
    if (k->older)
        k->older->newer = k->newer;
    else
        d->oldest = k->newer;
    if (k->newer)
        k->newer->older = k->older;
    else
        d->newest = k->older;
    k->older = k->newer = NULL;
    d->n_strangers--;
}

static void free_letter(struct letter *l)
{
    for (int i = 0; i < PR_ZMTP_FRAMES; i++) zmq_msg_close(&l->frame[i]);
    free(l);
}

static void bury(struct conn *k)
{
    while (k->first) {
        struct letter *l = k->first;
        k->first = l->next;
        free_letter(l);
    }
    door__free_out(k);
    free(k->stash);
    free(k);
}

void door_end(struct door *d, struct conn *k, bool after)
{
    if (k->fd < 0) return;
    if (after && k->out_first) {
        k->ending = true;
        k->last_out = cn_mono_ms();
        return;
    }
    leave_turn(k);
    stop_waiting(d, k);
    if (!k->peer) stranger_leaves(d, k);
    d->host.gone(d->host.arg, k); /* it still has its account and its peer */
    door__charge_in(d, k, 0);
    door__charge_out(d, k, 0);
    k->account->connections--;
    /* closing would do, unless a child that was forked just now still holds the socket: then its events
     * would go on, and name a connection that is freed */
    epoll_ctl(d->epoll, EPOLL_CTL_DEL, k->fd, NULL);
    close(k->fd);
    k->fd = -1;
    pr_zmtp_clear(&k->z);
    d->slot[k->id & 0xffffff] = NULL;
    d->unused[d->n_unused++] = (uint32_t)(k->id & 0xffffff);
    d->room = true;
    k->turn_next = d->graves; /* freed when nobody looks at it any more */
    d->graves = k;
}

void door__input_ended(struct door *d, struct conn *k)
{
    if (!k->first && !k->task) {
        door_end(d, k, false);
        return;
    }
    k->left = true;
    k->armed = 0;
    epoll_ctl(d->epoll, EPOLL_CTL_DEL, k->fd, NULL);
}

void door_end_key(struct door *d, const char *key, const struct conn *except)
{
    for (unsigned i = 0; *key && i < d->most; i++) {
        struct conn *k = d->slot[i];
        if (k && k != except && !strcmp(k->key, key)) door_end(d, k, false);
    }
}

static void free_graves(struct door *d)
{
    while (d->graves) {
        struct conn *k = d->graves;
        d->graves = k->turn_next;
        bury(k);
    }
}

void door_close(struct door *d)
{
    if (!d) return;
    for (unsigned i = 0; d->slot && i < d->most; i++)
        if (d->slot[i]) door_end(d, d->slot[i], false);
    free_graves(d);
    for (unsigned i = 0; i < d->n_listeners; i++) {
        close(d->listener[i].fd);
        if (d->listener[i].path) unlink(d->listener[i].path);
        free(d->listener[i].path);
    }
    if (d->epoll >= 0) close(d->epoll);
    sodium_memzero(&d->keys, sizeof d->keys);
    free(d->slot);
    free(d->unused);
    free(d);
}

/* ---- coming */

/* The longest silent connection of the account that has most. */
static struct conn *one_too_many(const struct door *d)
{
    struct conn *worst = NULL;
    for (unsigned i = 0; i < d->most; i++) {
        struct conn *k = d->slot[i];
        if (!k || (worst && k->account->connections < worst->account->connections)) continue;
        if (!worst || k->account->connections > worst->account->connections ||
            k->last_in < worst->last_in)
            worst = k;
    }
    return worst;
}

static void make_place(struct door *d)
{
    unsigned strangers = d->most / 2 < STRANGERS ? d->most / 2 : STRANGERS;
    if (d->n_strangers >= strangers) door_end(d, d->oldest, false);
    if (d->n_unused) return;
    struct conn *k = d->oldest ? d->oldest : one_too_many(d);
    if (k) door_end(d, k, false);
}

static void join_strangers(struct door *d, struct conn *k)
{
    k->older = d->newest;
    if (d->newest)
        d->newest->newer = k;
    else
        d->oldest = k;
    d->newest = k;
    d->n_strangers++;
    k->account = &d->accounts->strangers;
    k->account->connections++;
}

/* Who may not use the local socket: other accounts, when no group was given. */
static bool unwelcome(const struct door *d, int fd, bool tcp, bool *guest, unsigned *uid)
{
    *guest = !tcp && guest_of(fd, uid);
    return *guest && !d->host.group;
}

static void come(struct door *d, int fd, bool tcp, int64_t now)
{
    bool guest;
    unsigned uid = 0;
    if (unwelcome(d, fd, tcp, &guest, &uid)) {
        close(fd);
        return;
    }
    int on = 1, idle = 60, interval = 20, count = 3;
    make_place(d);
    struct conn *k = d->n_unused ? calloc(1, sizeof *k) : NULL;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = k};
    if (!k || epoll_ctl(d->epoll, EPOLL_CTL_ADD, fd, &e)) {
        free(k);
        close(fd);
        return;
    }
    if (tcp) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
    }
    uint32_t slot = d->unused[--d->n_unused];
    k->id = ++d->made << 24 | slot;
    k->fd = fd;
    k->tcp = tcp;
    k->guest = guest;
    k->uid = uid;
    k->armed = EPOLLIN;
    k->born = k->last_in = k->last_out = k->message_since = k->pinged = now;
    d->slot[slot] = k;
    join_strangers(d, k);
    pr_zmtp_init(&k->z, tcp ? &d->keys : NULL);
    k->z.largest = k->z.most = tcp ? AC_STRANGER : AC_STRANGER_IPC;
    door__after_input(d, k, now); /* the greeting */
}

/* Out of files, though connections are bounded: others in this process took them. Those who wait
 * are left waiting for a moment, and a place is made. */
static void out_of_files(struct door *d, int64_t now)
{
    cn_warn("coordinator", "no new connections for a moment: %s", strerror(errno));
    struct conn *k = d->oldest ? d->oldest : one_too_many(d);
    if (k) door_end(d, k, false);
    d->paused_until = now + PAUSE_MS;
    for (unsigned i = 0; i < d->n_listeners; i++) {
        struct epoll_event e = {.data.ptr = &d->listener[i]};
        epoll_ctl(d->epoll, EPOLL_CTL_MOD, d->listener[i].fd, &e);
    }
}

static void accept_again(struct door *d, int64_t now)
{
    if (!d->paused_until || now < d->paused_until) return;
    d->paused_until = 0;
    for (unsigned i = 0; i < d->n_listeners; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &d->listener[i]};
        epoll_ctl(d->epoll, EPOLL_CTL_MOD, d->listener[i].fd, &e);
    }
}

static void accept_some(struct door *d, const struct listener *l, int64_t now)
{
    for (int i = 0; i < ACCEPTS && !d->paused_until; i++) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            come(d, fd, l->tcp, now);
            continue;
        }
        if (errno == EAGAIN) return;
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            out_of_files(d, now);
    }
}

/* ---- the loop's side */

static bool is_listener(const struct door *d, const void *p, const struct listener **l)
{
    for (unsigned i = 0; i < d->n_listeners; i++)
        if (p == &d->listener[i]) {
            *l = &d->listener[i];
            return true;
        }
    return false;
}

void door_work(struct door *d, int64_t now)
{
    struct epoll_event e[EVENTS];
    free_graves(d);
    int n = epoll_wait(d->epoll, e, EVENTS, 0);
    for (int i = 0; i < n; i++) {
        const struct listener *l;
        if (is_listener(d, e[i].data.ptr, &l)) {
            accept_some(d, l, now);
            continue;
        }
        struct conn *k = e[i].data.ptr; /* ended ones are kept until the next call */
        if (k->fd >= 0 && e[i].events & EPOLLOUT) door__write(d, k, now);
        if (k->fd >= 0 && e[i].events & EPOLLIN) door__read(d, k, now);
        if (k->fd >= 0 && e[i].events & (EPOLLERR | EPOLLHUP) && !(e[i].events & EPOLLIN))
            door__input_ended(d, k);
    }
    if (d->room) door_room(d);
}

bool door_busy(const struct door *d)
{
    return d->accounts->ring_first || (d->room && d->waiting);
}

void door_room(struct door *d)
{
    struct conn *k = d->waiting;
    int64_t now = cn_mono_ms();
    d->room = false;
    d->waiting = NULL;
    while (k) {
        struct conn *next = k->wait_next;
        k->waits = false;
        door__resume(d, k, now);
        if (k->fd >= 0) {
            door_turn(d, k);
            door__arm(d, k);
        }
        k = next;
    }
}

void door_drop_letter(struct door *d, struct conn *k)
{
    struct letter *l = k->first;
    if (!l || k->fd < 0) return;
    k->first = l->next;
    if (!k->first) k->last = NULL;
    k->n_letters--;
    k->in -= l->bytes;
    door__charge_in(d, k, k->in + k->z.held);
    free_letter(l);
    if (k->left && !k->first)
        door_end(d, k, false);
    else if (k->n_letters <= DOOR_INBOX / 2 && (k->n_stash || !(k->armed & EPOLLIN)))
        door__resume(d, k, cn_mono_ms());
}

void door_known(struct door *d, struct conn *k, struct peer *p, struct account *account)
{
    if (!k->peer) stranger_leaves(d, k);
    leave_turn(k);
    size_t out = k->out;
    door__charge_out(d, k, 0);
    door__charge_in(d, k, 0);
    k->account->connections--;
    account->connections++;
    k->account = account;
    k->peer = p;
    door__charge_out(d, k, out);
    door__charge_in(d, k, k->in + k->z.held);
    k->z.largest = LARGEST;
    k->z.most = MOST;
    k->z.asked = AC_FREE_IN;
    door_turn(d, k);
}

struct conn *door_find(const struct door *d, uint64_t id)
{
    uint64_t slot = id & 0xffffff;
    struct conn *k = d && slot < d->most ? d->slot[slot] : NULL;
    return k && k->id == id ? k : NULL;
}

/* Why it must end, or NULL. */
static const char *overdue(const struct conn *k, int64_t now)
{
    bool reads = k->armed & EPOLLIN;
    if (k->ending && now - k->last_out > LINGER_MS) return "it was to end";
    if (!k->peer && now - k->born > HELLO_MS) return "it did not say hello";
    if (k->out_first && now - k->last_out > UNREAD_MS) return "it does not take its replies";
    if (reads && (k->z.held || k->z.n_head) &&
        now - k->message_since > UNFINISHED_MS + (int64_t)(k->z.size >> 18) * 1000)
        return "it did not finish a message";
    if (reads && now - k->last_in > SILENT_MS) return "it is silent";
    return NULL;
}

void door_tick(struct door *d, int64_t now)
{
    accept_again(d, now);
    if (now - d->last_tick < 500) return;
    d->last_tick = now;
    for (unsigned i = 0; i < d->most; i++) {
        struct conn *k = d->slot[i];
        if (!k) continue;
        const char *why = overdue(k, now);
        if (why) {
            cn_debug("coordinator", "a connection is closed: %s", why);
            door_end(d, k, false);
        } else if (k->peer && now - k->last_in > PING_MS && now - k->pinged > PING_MS &&
                   !k->out_first) {
            k->pinged = now;
            pr_zmtp_ping(&k->z);
            door__after_input(d, k, now);
        }
    }
    ac_tick(d->accounts, now);
}
