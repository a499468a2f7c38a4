/* corelock.c - who may compute where while somebody measures; corelock.h has the protocol.
 *
 * Order matters and is the same on both sides. Measuring: timing, then want, then use (exclusive:
 * waits for everybody to leave). Computing: use (shared) first, then a look at want and kept; when
 * either is held, the threads move away and use is given up. So a process that starts in the middle
 * either sees want or is waited for. Moving means sched_setaffinity on every thread of the process:
 * pools, OpenBLAS and sockets too.
 */
#define _GNU_SOURCE
#include "cpu/measure/corelock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

#define LOOK_EVERY_MS 100

/* The folder of the lock files, made when absent. It must be ours: /tmp is everybody's. */
static int lock_folder(char *out, size_t cap, struct cn_error *err)
{
    const char *run = getenv("XDG_RUNTIME_DIR");
    if (run && cn_dir_exists(run))
        snprintf(out, cap, "%s/cinch", run);
    else
        snprintf(out, cap, "/tmp/cinch-%u", (unsigned)getuid());
    if (mkdir(out, 0700) && errno != EEXIST)
        return cn_fail_errno(err, "cannot make the lock folder %s", out);
    struct stat st;
    if (lstat(out, &st)) return cn_fail_errno(err, "cannot look at the lock folder %s", out);
    if (!S_ISDIR(st.st_mode) || st.st_uid != getuid())
        return cn_fail(err, CN_EREFUSED, "%s is not a folder of this user: remove it", out);
    return 0;
}

/* A descriptor of one lock file, or a negative code. */
static int lock_open(const char *name, struct cn_error *err)
{
    char folder[256], path[320];
    int rc = lock_folder(folder, sizeof folder, err);
    if (rc) return rc;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return fd >= 0 ? fd : cn_fail_errno(err, "cannot open the lock file %s", path);
}

static int core_file(int core, const char *what, struct cn_error *err)
{
    char name[48];
    snprintf(name, sizeof name, "core-%d.%s", core, what);
    return lock_open(name, err);
}

static bool try_lock(int fd, int how)
{
    int rc;
    do rc = flock(fd, how | LOCK_NB);
    while (rc && errno == EINTR);
    return rc == 0;
}

static void wait_lock(int fd)
{
    while (flock(fd, LOCK_EX) && errno == EINTR) {
    }
}

/* Whether anybody holds the lock: a shared one cannot be had. */
static bool is_held(int fd)
{
    if (!try_lock(fd, LOCK_SH)) return true;
    flock(fd, LOCK_UN);
    return false;
}

/* ---- measuring ---- */

struct corelock {
    int fd[3]; /* timing, want, use; or kept, -1, -1 */
};

static int corelock_new(struct corelock **out, struct cn_error *err)
{
    *out = malloc(sizeof **out);
    if (!*out) return cn_fail(err, CN_ENOMEM, "out of memory for a core lock");
    for (int i = 0; i < 3; i++) (*out)->fd[i] = -1;
    return 0;
}

int corelock_take(struct corelock **out, int core, struct cn_error *err)
{
    int rc = corelock_new(out, err);
    if (rc) return rc;
    struct corelock *l = *out;
    l->fd[0] = lock_open("timing", err);
    l->fd[1] = l->fd[0] < 0 ? -1 : core_file(core, "want", err);
    l->fd[2] = l->fd[1] < 0 ? -1 : core_file(core, "use", err);
    for (int i = 0; i < 3; i++) {
        if (l->fd[i] >= 0) {
            wait_lock(l->fd[i]);
            continue;
        }
        corelock_drop(l);
        *out = NULL;
        return err && err->code ? err->code : CN_EIO;
    }
    return 0;
}

int corelock_reserve(struct corelock **out, int core, struct cn_error *err)
{
    int rc = corelock_new(out, err);
    if (rc) return rc;
    int fd = (*out)->fd[0] = core_file(core, "kept", err);
    rc = fd < 0 ? fd : 0;
    /* A watcher's look holds it for a moment: that is no owner. */
    for (int i = 0; rc == 0 && !try_lock(fd, LOCK_EX); i++) {
        if (i == 20)
            rc = cn_fail(err, CN_EBUSY,
                         "core %d is kept by another evaluator: choose another --core", core);
        else
            cn_sleep_ms(10);
    }
    if (rc) {
        corelock_drop(*out);
        *out = NULL;
    }
    return rc;
}

void corelock_drop(struct corelock *l)
{
    if (!l) return;
    for (int i = 2; i >= 0; i--)
        if (l->fd[i] >= 0) close(l->fd[i]);
    free(l);
}

int corelock_default_core(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set)) return 0;
    for (int core = CPU_SETSIZE - 1; core > 0; core--)
        if (CPU_ISSET(core, &set)) return core;
    return 0;
}

/* "0-3,6": the cores of a set. */
static void list_cores(const cpu_set_t *set, char *out, size_t cap)
{
    size_t n = 0;
    *out = 0;
    for (int i = 0; i < CPU_SETSIZE && n + 16 < cap; i++) {
        int last = i;
        if (!CPU_ISSET(i, set)) continue;
        while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, set)) last++;
        n += (size_t)snprintf(out + n, cap - n, last > i ? "%s%d-%d" : "%s%d", n ? "," : "", i,
                              last);
        i = last;
    }
}

int corelock_check_core(int core, struct cn_error *err)
{
    char there[256];
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set)) return cn_fail_errno(err, "--core %d", core);
    if (core >= 0 && core < CPU_SETSIZE && CPU_ISSET(core, &set)) return 0;
    list_cores(&set, there, sizeof there);
    return cn_fail(err, CN_EINVALID, "--core %d: this process may only run on %s", core, there);
}

/* ---- computing ---- */

struct watched { /* one core that this process may use */
    int core;
    int want, kept, use; /* descriptors */
    bool using;          /* we hold `use` shared */
};

struct corewatch {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stop;
    bool pause;    /* every core is wanted */
    int computing; /* executors between enter and leave */
    int paused;    /* of them, those that wait in pause_point */
    int n;
    struct watched *core;
};

/* Sets the affinity of every thread of this process; again while new ones appear. */
static void move_threads(const cpu_set_t *to)
{
    for (int round = 0, last = -1; round < 5; round++) {
        DIR *d = opendir("/proc/self/task");
        if (!d) return;
        int n = 0;
        for (struct dirent *e; (e = readdir(d));) {
            if (e->d_name[0] == '.') continue;
            sched_setaffinity(atoi(e->d_name), sizeof *to, to);
            n++;
        }
        closedir(d);
        if (n == last) return;
        last = n;
    }
}

/* One look: returns whether the set of usable cores changed; *usable gets it. */
static bool look(struct corewatch *w, cpu_set_t *usable)
{
    bool changed = false;
    CPU_ZERO(usable);
    for (int i = 0; i < w->n; i++) {
        struct watched *c = &w->core[i];
        bool free_now = c->using || try_lock(c->use, LOCK_SH);
        free_now = free_now && !is_held(c->want) && !is_held(c->kept);
        changed |= free_now != c->using;
        if (free_now) {
            c->using = true;
            CPU_SET(c->core, usable);
        } else if (!c->using) {
            flock(c->use, LOCK_UN);
        }
    }
    return changed;
}

/* After the threads have moved (or paused): lets go of what is not usable any more. */
static void let_go(struct corewatch *w, const cpu_set_t *usable)
{
    for (int i = 0; i < w->n; i++) {
        struct watched *c = &w->core[i];
        if (!c->using || CPU_ISSET(c->core, usable)) continue;
        c->using = false;
        flock(c->use, LOCK_UN);
    }
}

static void apply(struct corewatch *w, const cpu_set_t *usable)
{
    pthread_mutex_lock(&w->lock);
    w->pause = CPU_COUNT(usable) == 0;
    bool quiet = !w->pause || w->computing == w->paused;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
    if (!w->pause) move_threads(usable);
    if (quiet) let_go(w, usable);
}

static void *watch(void *arg)
{
    struct corewatch *w = arg;
    cpu_set_t usable;
    bool pending = false;
    pthread_mutex_lock(&w->lock);
    while (!w->stop) {
        pthread_mutex_unlock(&w->lock);
        if (look(w, &usable) || pending) {
            apply(w, &usable);
            pending = w->pause;
        }
        cn_sleep_ms(LOOK_EVERY_MS);
        pthread_mutex_lock(&w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static int open_cores(struct corewatch *w, struct cn_error *err)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set))
        return cn_fail_errno(err, "cannot read this process's cores");
    w->core = calloc((size_t)CPU_COUNT(&set), sizeof *w->core);
    if (!w->core) return cn_fail(err, CN_ENOMEM, "out of memory for the core watch");
    for (int core = 0; core < CPU_SETSIZE; core++) {
        if (!CPU_ISSET(core, &set)) continue;
        struct watched *c = &w->core[w->n++];
        c->core = core;
        c->want = core_file(core, "want", err);
        c->kept = core_file(core, "kept", err);
        c->use = core_file(core, "use", err);
        if (c->want < 0 || c->kept < 0 || c->use < 0) return err && err->code ? err->code : CN_EIO;
    }
    return 0;
}

static void corewatch_free(struct corewatch *w)
{
    for (int i = 0; i < w->n; i++) {
        if (w->core[i].want >= 0) close(w->core[i].want);
        if (w->core[i].kept >= 0) close(w->core[i].kept);
        if (w->core[i].use >= 0) close(w->core[i].use);
    }
    free(w->core);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

int corewatch_start(struct corewatch **out, struct cn_error *err)
{
    *out = NULL;
    struct corewatch *w = calloc(1, sizeof *w);
    if (!w) return cn_fail(err, CN_ENOMEM, "out of memory for the core watch");
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    int rc = open_cores(w, err);
    if (rc == 0) {
        cpu_set_t usable;
        look(w, &usable);
        apply(w, &usable);
        if (pthread_create(&w->thread, NULL, watch, w))
            rc = cn_fail(err, CN_ENOMEM, "cannot start the thread that watches cores");
    }
    if (rc) {
        corewatch_free(w);
        return rc;
    }
    *out = w;
    return 0;
}

void corewatch_stop(struct corewatch *w)
{
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    cpu_set_t all;
    CPU_ZERO(&all);
    for (int i = 0; i < w->n; i++) CPU_SET(w->core[i].core, &all);
    move_threads(&all);
    corewatch_free(w);
}

void corewatch_enter(struct corewatch *w)
{
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->computing++;
    pthread_mutex_unlock(&w->lock);
    corewatch_pause_point(w);
}

void corewatch_leave(struct corewatch *w)
{
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->computing--;
    pthread_mutex_unlock(&w->lock);
}

void corewatch_pause_point(struct corewatch *w)
{
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    while (w->pause && !w->stop) {
        w->paused++;
        pthread_cond_wait(&w->changed, &w->lock);
        w->paused--;
    }
    pthread_mutex_unlock(&w->lock);
}
