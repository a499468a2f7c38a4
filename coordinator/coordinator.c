/* coordinator/coordinator.c - making, running and ending a coordinator: the loop that everything
 * else hangs on. See core.h. */
#include "coordinator/coordinator.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/notify.h"
#include "coordinator/core.h"
#include "coordinator/folder.h"
#include "coordinator/room.h"

enum {
    BATCH = 512, /* messages before the next commit */
    TICK_MS = 200,
    SPACE_MS = 2000, /* how often the disk is looked at */
    RETRY_MS = 500,  /* after a commit that failed */
};

/* ---- making */

/* One coordinator per state folder. The lock goes with the process, however it ends. */
static int take_lock(struct coordinator *c, struct cn_error *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/lock", c->state_dir);
    c->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (c->lock_fd < 0) return cn_fail_errno(err, "%s", path);
    if (flock(c->lock_fd, LOCK_EX | LOCK_NB)) {
        char pid[24] = "?";
        if (pread(c->lock_fd, pid, sizeof pid - 1, 0) < 0) pid[0] = 0;
        return cn_fail(
            err, CN_EBUSY,
            "%s: another coordinator (process %.20s) works on this folder; stop that one first",
            c->state_dir, pid);
    }
    char text[24];
    int n = snprintf(text, sizeof text, "%ld", (long)getpid());
    if (ftruncate(c->lock_fd, 0) || pwrite(c->lock_fd, text, (size_t)n, 0) != n)
        return cn_fail_errno(err, "%s", path);
    return 0;
}

static int open_all(struct coordinator *c, struct cn_error *err)
{
    bool unclean = false;
    int rc = fo_open(c->state_dir, c->o.group_access, err);
    if (!rc) rc = take_lock(c, err);
    if (!rc) rc = fo_begin(c->state_dir, &unclean, err);
    if (rc) return rc;
    c->zmq = c->o.zmq ? c->o.zmq : zmq_ctx_new();
    c->own_zmq = !c->o.zmq;
    c->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    struct sc_limits limits = {.lost_ms = c->o.lost_ms > 0 ? c->o.lost_ms : 10000,
                               .crashes = 5,
                               .losses = 20,
                               .grace_ms = 30000,
                               .steal_ms = 3000};
    c->s = sc_create(&limits);
    c->ring = calloc(CO_RING, sizeof *c->ring);
    if (!c->zmq || c->wake_fd < 0 || !c->s || !c->ring)
        return cn_fail(err, CN_ENOMEM, "coordinator: out of memory");
    zmq_ctx_set(c->zmq, ZMQ_MAX_SOCKETS, 65000);
    rc = st_open(&c->st, c->state_dir, unclean, c->s, &c->state, err);
    if (!rc) rc = bl_open(&c->blobs, c->state_dir, c->wake_fd, err);
    if (!rc) rc = transfer_open(c, err);
    if (rc) return rc;
    sc_on_restart(c->s, cn_mono_ms());
    transfer_look(c);
    rc = net_open(c, err);
    if (!rc && c->o.http) rc = http_open(c, err);
    return rc;
}

int co_create(struct coordinator **out, const struct co_options *o, struct cn_error *err)
{
    *out = NULL;
    struct coordinator *c = calloc(1, sizeof *c);
    if (!c) return cn_fail(err, CN_ENOMEM, "coordinator: out of memory");
    c->o = *o;
    c->lock_fd = c->wake_fd = -1;
    c->started = cn_wall_ms();
    c->next_seq = (uint64_t)c->started;
    randombytes_buf(c->instance, sizeof c->instance);
    pthread_mutex_init(&c->question_lock, NULL);
    c->state_dir = strdup(o->state);
    int rc =
        c->state_dir ? open_all(c, err) : cn_fail(err, CN_ENOMEM, "coordinator: out of memory");
    if (rc) {
        co_destroy(c);
        return rc;
    }
    *out = c;
    return 0;
}

void co_destroy(struct coordinator *c)
{
    if (!c) return;
    co_stop(c);
    if (c->threaded) pthread_join(c->thread, NULL);
    http_close(c);
    net_close(c);
    bl_close(c->blobs);
    if (c->st && !st_final(c->st, NULL) && c->room) fo_end(c->state_dir);
    st_close(c->st);
    ro_close(c->room);
    st_state_clear(&c->state);
    sc_destroy(c->s);
    if (c->own_zmq && c->zmq) zmq_ctx_term(c->zmq);
    if (c->wake_fd >= 0) close(c->wake_fd);
    if (c->lock_fd >= 0) close(c->lock_fd);
    pthread_mutex_destroy(&c->question_lock);
    free(c->ring);
    free(c->live);
    free(c->grant);
    free(c->stale);
    free(c->state_dir);
    free(c);
}

const char *co_endpoint(const struct coordinator *c, int i)
{
    return i >= 0 && i < c->o.n_listen ? c->endpoint[i] : NULL;
}

const char *co_http(const struct coordinator *c)
{
    return c->http ? http_url(c) : NULL;
}

const char *co_http_link(const struct coordinator *c)
{
    return c->http ? http_link(c) : NULL;
}

/* ---- the loop */

static void look_at_disk(struct coordinator *c, int64_t now)
{
    if (c->last_space && now - c->last_space < SPACE_MS) return;
    c->last_space = now;
    struct statvfs v;
    if (statvfs(c->state_dir, &v)) return;
    int reserve = c->o.reserve_mb ? c->o.reserve_mb : CO_RESERVE_MB;
    bool low = (double)v.f_bavail * (double)v.f_frsize < reserve * 1e6;
    if (low != c->low_space)
        cn_warn("coordinator",
                low ? "disk almost full: no new work is accepted" : "room on the disk again");
    c->low_space = low;
}

/* Writes what the batch changed; true when everything that may rest on it can leave. */
static bool commit(struct coordinator *c, int64_t now)
{
    if (!st_pending(c->st)) return !c->broken;
    if (c->broken && now < c->broken_next) return false;
    struct cn_error err;
    int rc = st_commit(c->st, &err);
    c->writing = rc == ST_PART;
    if (c->writing) return false;
    if (rc) {
        if (!c->broken)
            cn_err("coordinator", "%s; nothing new is accepted until it works again", err.text);
        c->broken = rc;
        c->broken_next = now + RETRY_MS;
        return false;
    }
    if (c->broken) cn_info("coordinator", "the queue can be written again");
    c->broken = 0;
    c->n_commits++;
    return true;
}

static void tick(struct coordinator *c, int64_t now)
{
    if (now - c->last_tick < TICK_MS) return;
    c->last_tick = now;
    cn_notify_alive(now);
    sc_on_tick(c->s, now);
    look_at_disk(c, now);
    net_forget_idle(c, now);
    http_tick(c, now);
    transfer_tick(c, now);
}

static void settle(struct coordinator *c)
{
    int64_t now = cn_mono_ms();
    if (!c->broken && !c->low_space) sc_assign(c->s, now);
    bool all = effects_apply(c), committed = !c->filing && commit(c, now) && all;
    if (committed) effects_after_commit(c);
    client_wake_watchers(c, now);
    net_flush(c, committed);
}

static int wait_for_work(struct coordinator *c, bool busy)
{
    zmq_pollitem_t item[3];
    int n = 0;
    if (c->inproc) item[n++] = (zmq_pollitem_t){c->inproc, 0, ZMQ_POLLIN, 0};
    if (c->door) item[n++] = (zmq_pollitem_t){NULL, door_fd(c->door), ZMQ_POLLIN, 0};
    item[n++] = (zmq_pollitem_t){NULL, c->wake_fd, ZMQ_POLLIN, 0};
    if (zmq_poll(item, n, busy ? 0 : TICK_MS) < 0 && zmq_errno() != EINTR) return -1;
    uint64_t ignored;
    if (item[n - 1].revents && read(c->wake_fd, &ignored, sizeof ignored) < 0) return 0;
    return 0;
}

int co_step(struct coordinator *c, bool *busy, struct cn_error *err)
{
    if (wait_for_work(c, *busy || c->writing || c->filing || c->s->n_effects ||
                             (c->door && door_busy(c->door))))
        return cn_fail(err, CN_EIO, "coordinator: %s", zmq_strerror(zmq_errno()));
    *busy = net_turns(c, BATCH);
    client_expanded(c);
    service_blob_replies(c);
    *busy = http_answer(c) || *busy;
    tick(c, cn_mono_ms());
    settle(c);
    int rc = st_final(c->st, err);
    if (rc)
        return cn_fail_prefix(err,
                              "the coordinator stops, what was answered is safe; look at the disk, "
                              "then start it again");
    if (c->s->nomem)
        return cn_fail(err, CN_ENOMEM,
                       "coordinator: out of memory; what was answered is safe, start it again");
    return 0;
}

int co_run(struct coordinator *c, struct cn_error *err)
{
    bool busy = false;
    int rc = 0;
    while (!rc && !atomic_load(&c->stopping)) rc = co_step(c, &busy, err);
    return rc;
}

static void *run_thread(void *arg)
{
    struct coordinator *c = arg;
    c->run_result = co_run(c, &c->run_error);
    if (c->run_result) cn_err("coordinator", "%s", c->run_error.text);
    return NULL;
}

int co_start(struct coordinator *c, struct cn_error *err)
{
    sigset_t all, old; /* signals belong to the program's own threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    c->threaded = !pthread_create(&c->thread, NULL, run_thread, c);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return c->threaded ? 0 : cn_fail(err, CN_ENOMEM, "coordinator: no thread");
}

void co_stop(struct coordinator *c)
{
    uint64_t one = 1;
    int saved = errno;
    atomic_store(&c->stopping, 1);
    if (c->wake_fd >= 0 && write(c->wake_fd, &one, sizeof one) < 0)
        errno = saved; /* it polls anyway */
    errno = saved;
}
