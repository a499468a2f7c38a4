/* worker.c - the talking thread: what a worker says, and what it does with what it is told.
 *
 * Purpose: keep the slots fed and the coordinator informed. Input: grants, drops, heartbeat replies;
 * results from the slots by way of the outbox. Action: grants are queued; drops stop the lease they
 * name; a stop asked for by a signal hands everything back, checkpointed, and says goodbye.
 * Caveats: a lease is held until the coordinator has answered its last message, so a result that
 * could not be sent yet keeps its lease alive across a restart of the coordinator.
 */
#define _GNU_SOURCE
#include "workers/worker.h"

#include <sched.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/notify.h"
#include "proto/wire.h"
#include "workers/worker_private.h"

#define TURN_MS 200
#define BYE_WAIT_MS 1000 /* for the answer to our goodbye */
#define GIVE_UP_MS 15000 /* after a stop, when the coordinator does not answer any more */
#define DEFAULT_GANG_GPU 8
#define MAX_AUTO_SLOTS 8
#define TUNE_MS 1000
#define DEFAULT_CHECKPOINT_S 30

struct talk { /* the talking thread's own; lives as long as worker_run */
    struct worker *w;
    struct introduction in;
    char *engines; /* told with the heartbeat being made */
    bool said_bye;
    int64_t bye_ms;
};

static void on_hello(void *arg, Cinch__Hello *hello)
{
    struct talk *t = arg;
    hello->worker = &t->in.info;
    hello->held = t->in.held_list;
    hello->n_held = introduction_held(&t->in, t->w);
}

static void on_heartbeat(void *arg, Cinch__Heartbeat *beat)
{
    struct talk *t = arg;
    double load = 0;
    beat->held = t->in.held_list;
    beat->n_held = introduction_held(&t->in, t->w);
    if (getloadavg(&load, 1) == 1) beat->load = load;
    free(t->engines);
    t->engines = engines_news(t->w->engines);
    if (t->engines) beat->engines = t->engines;
}

static void ask_capacity(struct worker *w)
{
    Cinch__LeaseRequest m = CINCH__LEASE_REQUEST__INIT;
    m.capacity = (uint32_t)w->capacity;
    link_ask(w->link, PR_LEASE_REQUEST, &m);
}

/* ---- what the coordinator tells ---- */

static void stop_one(struct worker *w, const Cinch__Held *which, enum stop why)
{
    pthread_mutex_lock(&w->lock);
    struct held *h = held_find(w, which->job, which->attempt);
    if (h) held_stop(h, why);
    pthread_mutex_unlock(&w->lock);
}

static void on_welcome(void *arg, const Cinch__Welcome *welcome)
{
    struct talk *t = arg;
    cn_info("worker", "%s serves %s as %s", t->w->name, t->w->endpoint, welcome->user);
    for (size_t i = 0; i < welcome->n_drop; i++) stop_one(t->w, welcome->drop[i], NOT_OURS);
    engines_again(t->w->engines);
    ask_capacity(t->w);
}

static void on_grant(void *arg, Cinch__LeaseGrant *grant)
{
    struct talk *t = arg;
    pthread_mutex_lock(&t->w->lock);
    struct unit *u = unit_create(t->w, grant);
    if (u) queue_add(t->w, u);
    pthread_mutex_unlock(&t->w->lock);
}

static void on_drop(void *arg, const Cinch__Drop *drop)
{
    struct talk *t = arg;
    if (!drop->lease) return;
    cn_info("worker", "j%llu is dropped: %s", (unsigned long long)drop->lease->job, drop->reason);
    stop_one(t->w, drop->lease, NOT_OURS);
}

static void on_beaten(void *arg, const Cinch__HeartbeatReply *reply)
{
    struct talk *t = arg;
    for (size_t i = 0; i < reply->n_drop; i++) stop_one(t->w, reply->drop[i], NOT_OURS);
    if (reply->drain && !t->w->draining) {
        cn_info("worker", "drained: what runs is finished, the rest goes back");
        t->w->draining = true;
        t->w->capacity = 0;
        ask_capacity(t->w);
    }
}

/* The outbox's thread: the coordinator has answered a lease's last message. */
static void on_ended(void *arg, uint64_t job, uint32_t attempt, int code)
{
    struct worker *w = arg;
    pthread_mutex_lock(&w->lock);
    struct held *h = held_find(w, job, attempt);
    if (h) held_remove(w, h);
    pthread_mutex_unlock(&w->lock);
    link_wake(w->link);
}

static void on_stale(void *arg, uint64_t job, uint32_t attempt)
{
    Cinch__Held which = CINCH__HELD__INIT;
    which.job = job;
    which.attempt = attempt;
    stop_one(arg, &which, NOT_OURS);
}

/* ---- leaving ---- */

/* Queued leases that will not run here: dropped ones are forgotten, the others handed back. With
 * `all`, every queued lease; else those whose unit has nothing left to run. */
static void return_queued(struct worker *w, bool all)
{
    pthread_mutex_lock(&w->lock);
    struct unit *u = queue_take_all(w);
    for (struct unit *next; u; u = next) {
        next = u->next;
        bool wanted = false;
        for (int i = 0; i < u->n; i++) wanted |= atomic_load(&u->held[i]->stop) != NOT_OURS;
        if (wanted && !all) {
            queue_add(w, u);
            continue;
        }
        for (int i = 0; i < u->n; i++) {
            struct held *h = u->held[i];
            bool ours = atomic_load(&h->stop) != NOT_OURS;
            if (!ours || outbox_release(w->outbox, h->job, h->attempt, "not begun"))
                held_remove(w, h);
        }
        unit_destroy(u);
    }
    pthread_mutex_unlock(&w->lock);
}

static void begin_stop(struct worker *w)
{
    cn_info("worker", "stopping: finishing the batch, handing leases back");
    w->draining = true;
    w->capacity = 0;
    ask_capacity(w);
    pthread_mutex_lock(&w->lock);
    for (struct held *h = w->held; h; h = h->next) held_stop(h, HAND_BACK);
    pthread_mutex_unlock(&w->lock);
}

/* Whether the worker may end: drained, and either everything is answered and we said goodbye, or
 * the coordinator is away for good. */
static bool may_end(struct talk *t)
{
    struct worker *w = t->w;
    int64_t now = cn_mono_ms();
    pthread_mutex_lock(&w->lock);
    bool computing = w->busy > 0 || w->queue, holding = w->held != NULL;
    pthread_mutex_unlock(&w->lock);
    if (computing) {
        w->quiet_since_ms = 0;
        return false;
    }
    if (!w->quiet_since_ms) w->quiet_since_ms = now;
    bool silent = !link_welcomed(w->link) && now - w->quiet_since_ms > GIVE_UP_MS;
    if (silent && atomic_load(&w->stop_asked)) {
        cn_warn("worker", "leaving although the coordinator did not answer");
        return true;
    }
    if (holding || !link_welcomed(w->link)) return !holding && atomic_load(&w->stop_asked);
    if (!t->said_bye) {
        Cinch__Bye bye = CINCH__BYE__INIT;
        link_ask(w->link, PR_BYE, &bye);
        t->said_bye = true;
        t->bye_ms = now;
    }
    return now - t->bye_ms > BYE_WAIT_MS || !link_waits(w->link, PR_BYE);
}

/* With the lock: how many slots to use from now on. */
static int advised_slots(struct worker *w, int64_t now)
{
    double rate = 0;
    bool refused = w->refused;
    w->refused = false;
    if (!w->auto_slots) return refused && w->n_slots > 1 ? w->n_slots - 1 : w->n_slots;
    for (struct held *h = w->held; h; h = h->next)
        if (atomic_load(&h->started)) rate += h->rate;
    if (refused) tuner_refused(&w->tuner, now);
    return tuner_tell(&w->tuner, now, rate, w->busy >= w->n_slots && w->queue);
}

/* More slots while the device gets more done (`--slots auto`), fewer when memory is short. */
static void tune(struct worker *w)
{
    int64_t now = cn_mono_ms();
    if (w->draining || now - w->told_ms < TUNE_MS) return;
    w->told_ms = now;
    pthread_mutex_lock(&w->lock);
    int slots = advised_slots(w, now);
    bool changed = slots != w->n_slots;
    w->n_slots = slots;
    if (changed) pthread_cond_broadcast(&w->work);
    pthread_mutex_unlock(&w->lock);
    if (!changed) return;
    cn_info("worker", "slots: %d now", slots);
    w->capacity = 2 * slots;
    ask_capacity(w);
}

/* 0, unless it leaves because its machine failed. */
static int lost_machine(struct worker *w, struct cn_error *err)
{
    if (!atomic_load(&w->lost)) return 0;
    return cn_fail(err, CN_ENODEVICE,
                   "the machine failed (%s); its leases went back, and a new process must go on",
                   w->lost_why.text);
}

static int talk(struct worker *w, struct talk *t, struct cn_error *err)
{
    bool stopping = false;
    for (;;) {
        int rc = link_turn(w->link, TURN_MS, err);
        if (rc) return rc;
        cn_notify_alive(cn_mono_ms());
        if (atomic_load(&w->lost)) worker_stop(w);
        if (atomic_load(&w->stop_asked) && !stopping) {
            stopping = true;
            begin_stop(w);
        }
        return_queued(w, w->draining);
        tune(w);
        if (w->draining && may_end(t)) return lost_machine(w, err);
    }
}

/* ---- life ---- */

static int cores(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

static void default_options(struct worker *w)
{
    struct worker_options *o = &w->o;
    bool gpu = w->device && device_facts(w->device)->is_gpu;
    if (o->threads <= 0) o->threads = 1;
    w->auto_slots = gpu && o->slots <= 0;
    if (o->slots <= 0) o->slots = gpu || o->role == WORKER_EVALUATE ? 1 : cores() / o->threads;
    if (o->slots < 1) o->slots = 1;
    if (o->slots > WORKER_MAX_SLOTS) o->slots = WORKER_MAX_SLOTS;
    if (o->max_gang <= 0) o->max_gang = gpu ? DEFAULT_GANG_GPU : 1;
    if (o->max_gang > NN_MAX_GANG) o->max_gang = NN_MAX_GANG;
    if (o->checkpoint_every_s == 0) o->checkpoint_every_s = DEFAULT_CHECKPOINT_S;
    if (o->first_wait_ms == 0) o->first_wait_ms = 30000;
    if (o->core < 0) o->core = corelock_default_core();
    w->n_slots = o->slots;
    w->capacity = 2 * o->slots; /* one prefetched per slot */
    tuner_init(&w->tuner, MAX_AUTO_SLOTS, cn_mono_ms());
}

static void name_worker(struct worker *w)
{
    if (gethostname(w->host, sizeof w->host - 1)) snprintf(w->host, sizeof w->host, "unknown");
    const char *role = w->o.role == WORKER_EVALUATE ? "eval" : "train";
    if (w->o.name)
        snprintf(w->name, sizeof w->name, "%s", w->o.name);
    else
        snprintf(w->name, sizeof w->name, "%s-%d@%s", role, (int)getpid(), w->host);
    randombytes_buf(w->instance, sizeof w->instance);
}

static int open_parts(struct worker *w, struct cn_error *err)
{
    const struct worker_options *o = &w->o;
    int rc = 0;
    w->zmq = o->zmq;
    if (!w->zmq) w->zmq = w->own_zmq = zmq_ctx_new();
    if (!w->zmq) return cn_fail(err, CN_ENOMEM, "cannot make a ZeroMQ context");
    int bad = pr_endpoint_check(o->endpoint, err);
    if (bad) return bad;
    if (o->keep_core && (rc = corelock_check_core(o->core, err))) return rc;
    if (o->key_file) {
        rc = pr_key_load(&w->key, o->key_file, err);
        w->has_key = rc == 0;
    }
    if (rc == 0) rc = datasets_create(&w->datasets, o->data, o->cache_dir, o->cache_limit, err);
    if (rc == 0 && o->role == WORKER_TRAIN) rc = device_open(&w->device, o->device, err);
    default_options(w);
    if (rc == 0 && w->device && device_facts(w->device)->is_gpu) w->engines = engines_create();
    if (rc == 0 && o->role == WORKER_EVALUATE && o->keep_core)
        rc = corelock_reserve(&w->kept_core, o->core, err);
    if (rc == 0) rc = corewatch_start(&w->watch, err);
    return rc;
}

int worker_create(struct worker **out, const struct worker_options *o, struct cn_error *err)
{
    *out = NULL;
    struct worker *w = calloc(1, sizeof *w);
    if (!w) return cn_fail(err, CN_ENOMEM, "out of memory for a worker");
    w->o = *o;
    snprintf(w->endpoint, sizeof w->endpoint, "%s", o->endpoint);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->work, NULL);
    int rc = sodium_init() < 0 ? cn_fail(err, CN_EINTERNAL, "libsodium cannot start") : 0;
    if (rc == 0) rc = open_parts(w, err);
    if (rc == 0) name_worker(w);
    if (rc) {
        worker_destroy(w);
        return rc;
    }
    *out = w;
    return 0;
}

static int start_slots(struct worker *w, struct cn_error *err)
{
    int n = w->auto_slots ? MAX_AUTO_SLOTS : w->n_slots; /* the rest waits to be needed */
    for (int i = 0; i < n; i++) {
        struct slot *s = &w->slot[i];
        s->w = w;
        s->index = i;
        snprintf(s->scratch, sizeof s->scratch, "/tmp/cinch-slot-XXXXXX");
        if (!mkdtemp(s->scratch)) {
            s->scratch[0] = 0;
            return cn_fail_errno(err, "cannot make a folder in /tmp");
        }
        if (pthread_create(&s->thread, NULL, slot_main, s))
            return cn_fail(err, CN_ENOMEM, "cannot start the thread of slot %d", i);
        s->started = true;
        w->started = i + 1;
    }
    return 0;
}

static void end_slots(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->leaving = true;
    for (struct held *h = w->held; h; h = h->next) held_stop(h, NOT_OURS);
    pthread_cond_broadcast(&w->work);
    pthread_mutex_unlock(&w->lock);
    for (int i = 0; i < w->started; i++) {
        if (w->slot[i].started) pthread_join(w->slot[i].thread, NULL);
        w->slot[i].started = false;
        slot_clear(&w->slot[i]);
    }
}

static int open_line(struct worker *w, struct talk *t, struct cn_error *err)
{
    struct link_options lo = {
        .zmq = w->zmq,
        .endpoint = w->endpoint,
        .key = w->has_key ? &w->key : NULL,
        .first_wait_ms = w->o.first_wait_ms,
        .events = {t, on_hello, on_welcome, on_heartbeat, on_beaten, on_grant, on_drop}};
    int rc = link_create(&w->link, &lo, err);
    if (rc) return rc;
    struct outbox_options oo = {.link = w->link,
                                .blobs = {.zmq = w->zmq,
                                          .endpoint = w->endpoint,
                                          .key_file = w->o.key_file,
                                          .known = 1,
                                          .results = 1},
                                .ended = on_ended,
                                .stale = on_stale,
                                .arg = w};
    return outbox_create(&w->outbox, &oo, err);
}

static void forget_all(struct worker *w)
{
    for (struct unit *u = queue_take_all(w), *next; u; u = next) {
        next = u->next;
        unit_destroy(u);
    }
    while (w->held) held_remove(w, w->held);
}

int worker_run(struct worker *w, struct cn_error *err)
{
    struct talk *t = calloc(1, sizeof *t);
    if (!t) return cn_fail(err, CN_ENOMEM, "out of memory for a worker");
    t->w = w;
    int rc = introduce(&t->in, w, err);
    if (rc == 0) rc = open_line(w, t, err);
    if (rc == 0) rc = start_slots(w, err);
    if (rc == 0) rc = talk(w, t, err);
    end_slots(w);
    /* The outbox may wait for an answer: the link ends that first. */
    struct link *link = w->link;
    if (link) link_close(link);
    outbox_destroy(w->outbox);
    w->outbox = NULL;
    w->link = NULL;
    link_destroy(link);
    forget_all(w);
    free(t->in.hash);
    free(t->engines);
    free(t);
    return rc;
}

static void *run_thread(void *arg)
{
    struct worker *w = arg;
    w->result = worker_run(w, &w->error);
    return NULL;
}

int worker_start(struct worker *w, struct cn_error *err)
{
    w->threaded = pthread_create(&w->thread, NULL, run_thread, w) == 0;
    return w->threaded ? 0 : cn_fail(err, CN_ENOMEM, "cannot start a worker's thread");
}

void worker_stop(struct worker *w)
{
    atomic_store(&w->stop_asked, 1);
}

int worker_join(struct worker *w, struct cn_error *err)
{
    if (!w->threaded) return w->result;
    pthread_join(w->thread, NULL);
    w->threaded = false;
    if (err && w->result) *err = w->error;
    return w->result;
}

void worker_destroy(struct worker *w)
{
    if (!w) return;
    worker_stop(w);
    worker_join(w, NULL);
    corewatch_stop(w->watch);
    corelock_drop(w->kept_core);
    device_close(w->device);
    engines_destroy(w->engines);
    datasets_destroy(w->datasets);
    if (w->has_key) pr_key_wipe(&w->key);
    if (w->own_zmq) zmq_ctx_term(w->own_zmq);
    pthread_cond_destroy(&w->work);
    pthread_mutex_destroy(&w->lock);
    free(w);
}
