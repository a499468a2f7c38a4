/* outbox.c - see outbox.h. Everything goes out in the order of the calls, so a checkpoint is durable
 * before the release that follows it.
 */
#include "workers/outbox.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

#define RETRY_MS 1000

enum what { CHECKPOINT, RESULT, RELEASE, NOTHING };

struct item {
    struct item *next;
    enum what what;
    uint64_t job;
    uint32_t attempt, epoch;
    struct exec_blob blob[PR_MAX_OUTPUTS];
    int n_blobs;
    int code;
    bool lost;
    char *metrics;
    char reason[480];
    uint64_t wall_ms;
};

struct outbox {
    struct outbox_options o;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct item *first, *last;
    atomic_bool stop;
    struct pr_client *client; /* of the thread; NULL while there is no connection */
};

static void item_free(struct item *i)
{
    if (!i) return;
    for (int k = 0; k < i->n_blobs; k++) free(i->blob[k].data);
    free(i->metrics);
    free(i);
}

static int is_stopping(void *arg)
{
    return atomic_load(&((struct outbox *)arg)->stop);
}

/* ---- the thread ---- */

static int connect_client(struct outbox *b, struct cn_error *err)
{
    if (b->client) return 0;
    struct pr_connect how = b->o.blobs;
    how.stop = is_stopping;
    how.stop_arg = b;
    return pr_client_open(&b->client, &how, err);
}

/* Whether it may work later: everything but a refusal of the content itself. */
static bool is_passing(int code)
{
    return code == CN_ECONNECT || code == CN_ETIMEOUT || code == CN_EBUSY || code == CN_EIO ||
           code == CN_ENOSPACE || code == CN_ENOMEM;
}

/* Puts all blobs of an item; waits through outages. */
static int put_blobs(struct outbox *b, const struct item *i, struct cn_hash *hash,
                     struct cn_error *err)
{
    for (int k = 0; k < i->n_blobs;) {
        if (is_stopping(b)) return cn_fail(err, CN_ECANCELLED, "the worker is leaving");
        int rc = connect_client(b, err);
        if (rc == 0) rc = pr_blob_put(b->client, i->blob[k].data, i->blob[k].n, &hash[k], err);
        if (rc == 0) {
            k++;
            continue;
        }
        if (!is_passing(rc)) return rc;
        cn_debug("worker", "blob of j%llu waits: %s", (unsigned long long)i->job,
                 err ? err->text : "");
        if (rc == CN_ECONNECT) {
            pr_client_close(b->client);
            b->client = NULL;
        }
        cn_sleep_ms(RETRY_MS);
    }
    return 0;
}

static int send_checkpoint(struct outbox *b, const struct item *i, const struct cn_hash *hash,
                           struct cn_error *err)
{
    Cinch__Blob blob = CINCH__BLOB__INIT;
    Cinch__Checkpoint m = CINCH__CHECKPOINT__INIT;
    blob.role = (char *)"checkpoint";
    blob.hash = pr_hash_field(&hash[0]);
    blob.size = i->blob[0].n;
    m.job = i->job;
    m.attempt = i->attempt;
    m.epoch = i->epoch;
    m.blob = &blob;
    return link_call(b->o.link, PR_CHECKPOINT, &m, err);
}

static int send_result(struct outbox *b, struct item *i, const struct cn_hash *hash,
                       struct cn_error *err)
{
    Cinch__Result m = CINCH__RESULT__INIT;
    Cinch__Blob blob[PR_MAX_OUTPUTS], *list[PR_MAX_OUTPUTS];
    for (int k = 0; k < i->n_blobs; k++) {
        cinch__blob__init(&blob[k]);
        blob[k].role = i->blob[k].role;
        blob[k].hash = pr_hash_field(&hash[k]);
        blob[k].size = i->blob[k].n;
        list[k] = &blob[k];
    }
    m.job = i->job;
    m.attempt = i->attempt;
    m.code = i->code;
    m.reason = i->reason;
    m.outputs = list;
    m.n_outputs = (size_t)i->n_blobs;
    m.metrics = i->metrics ? i->metrics : (char *)"";
    m.wall_ms = i->wall_ms;
    m.permanent = exec_is_permanent(i->code);
    return link_call(b->o.link, PR_RESULT, &m, err);
}

static int send_release(struct outbox *b, struct item *i, struct cn_error *err)
{
    Cinch__Release m = CINCH__RELEASE__INIT;
    m.job = i->job;
    m.attempt = i->attempt;
    m.reason = i->reason;
    m.lost = i->lost;
    return link_call(b->o.link, PR_RELEASE, &m, err);
}

/* Until the coordinator has answered for good. */
static int deliver(struct outbox *b, struct item *i)
{
    struct cn_hash hash[PR_MAX_OUTPUTS];
    struct cn_error err = {0};
    for (;;) {
        int rc = put_blobs(b, i, hash, &err);
        if (rc == 0) {
            switch (i->what) {
            case CHECKPOINT:
                rc = send_checkpoint(b, i, hash, &err);
                break;
            case RESULT:
                rc = send_result(b, i, hash, &err);
                break;
            case RELEASE:
                rc = send_release(b, i, &err);
                break;
            case NOTHING:
                break;
            }
        }
        /* The store lost a blob between put and result: put it again. */
        bool again = rc == CN_ENOTFOUND && i->n_blobs > 0;
        if (!again && !is_passing(rc)) {
            if (rc && rc != CN_ESTALE && rc != CN_ECANCELLED)
                cn_warn("worker", "j%llu: the coordinator refused what was sent: %s",
                        (unsigned long long)i->job, err.text);
            return rc;
        }
        if (is_stopping(b)) return CN_ECANCELLED;
        cn_sleep_ms(RETRY_MS);
    }
}

static struct item *take(struct outbox *b)
{
    pthread_mutex_lock(&b->lock);
    while (!b->first && !is_stopping(b)) pthread_cond_wait(&b->more, &b->lock);
    struct item *i = is_stopping(b) ? NULL : b->first;
    if (i) {
        b->first = i->next;
        if (!b->first) b->last = NULL;
    }
    pthread_mutex_unlock(&b->lock);
    return i;
}

static void *run(void *arg)
{
    struct outbox *b = arg;
    for (struct item *i; (i = take(b));) {
        int rc = deliver(b, i);
        if (rc == 0 && i->what == CHECKPOINT)
            cn_debug("worker", "j%llu: checkpoint of epoch %u is durable",
                     (unsigned long long)i->job, i->epoch);
        if (i->what != CHECKPOINT)
            b->o.ended(b->o.arg, i->job, i->attempt, rc);
        else if (rc == CN_ESTALE)
            b->o.stale(b->o.arg, i->job, i->attempt);
        item_free(i);
    }
    pr_client_close(b->client);
    b->client = NULL;
    return NULL;
}

/* ---- the callers' side ---- */

int outbox_create(struct outbox **out, const struct outbox_options *o, struct cn_error *err)
{
    *out = NULL;
    struct outbox *b = calloc(1, sizeof *b);
    if (!b) return cn_fail(err, CN_ENOMEM, "out of memory for the outbox");
    b->o = *o;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->more, NULL);
    b->started = pthread_create(&b->thread, NULL, run, b) == 0;
    if (!b->started) {
        outbox_destroy(b);
        return cn_fail(err, CN_ENOMEM, "cannot start the thread that sends results");
    }
    *out = b;
    return 0;
}

void outbox_destroy(struct outbox *b)
{
    if (!b) return;
    pthread_mutex_lock(&b->lock);
    atomic_store(&b->stop, true);
    pthread_cond_broadcast(&b->more);
    pthread_mutex_unlock(&b->lock);
    if (b->started) pthread_join(b->thread, NULL);
    for (struct item *i = b->first, *next; i; i = next) {
        next = i->next;
        item_free(i);
    }
    pthread_cond_destroy(&b->more);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

static struct item *item_new(enum what what, uint64_t job, uint32_t attempt)
{
    struct item *i = calloc(1, sizeof *i);
    if (!i) return NULL;
    i->what = what;
    i->job = job;
    i->attempt = attempt;
    return i;
}

static void put(struct outbox *b, struct item *i)
{
    pthread_mutex_lock(&b->lock);
    if (b->last)
        b->last->next = i;
    else
        b->first = i;
    b->last = i;
    pthread_cond_broadcast(&b->more);
    pthread_mutex_unlock(&b->lock);
}

/* Swaps the data into a checkpoint of the same lease that still waits; false: there is none. */
static bool replace(struct outbox *b, const struct item *i)
{
    bool found = false;
    pthread_mutex_lock(&b->lock);
    for (struct item *old = b->first; old && !found; old = old->next) {
        if (old->what != CHECKPOINT || old->job != i->job || old->attempt != i->attempt) continue;
        free(old->blob[0].data);
        old->blob[0] = i->blob[0];
        old->epoch = i->epoch;
        found = true;
    }
    pthread_mutex_unlock(&b->lock);
    return found;
}

int outbox_checkpoint(struct outbox *b, uint64_t job, uint32_t attempt, const void *data, size_t n,
                      uint32_t epoch)
{
    struct item *i = item_new(CHECKPOINT, job, attempt);
    void *copy = malloc(n ? n : 1);
    if (!i || !copy) {
        free(copy);
        item_free(i);
        return CN_ENOMEM;
    }
    memcpy(copy, data, n);
    i->epoch = epoch;
    i->n_blobs = 1;
    i->blob[0].data = copy;
    i->blob[0].n = n;
    if (replace(b, i))
        free(i); /* its data lives on in the older item */
    else
        put(b, i);
    return 0;
}

int outbox_end(struct outbox *b, uint64_t job, uint32_t attempt, struct exec_job *done,
               uint64_t wall_ms)
{
    enum what what = done->code == CN_EINTERRUPTED || done->lost ? RELEASE
                     : done->code == CN_ECANCELLED ? NOTHING
                                                   : RESULT;
    struct item *i = item_new(what, job, attempt);
    if (!i) return CN_ENOMEM;
    i->code = done->code;
    i->lost = done->lost;
    i->wall_ms = wall_ms;
    snprintf(i->reason, sizeof i->reason, "%s", done->code ? done->error.text : "");
    if (done->code == 0) { /* a failed job's half outputs are nobody's */
        memcpy(i->blob, done->out, sizeof i->blob);
        i->n_blobs = done->n_out;
        i->metrics = done->metrics;
        done->n_out = 0;
        done->metrics = NULL;
    }
    put(b, i);
    return 0;
}

int outbox_release(struct outbox *b, uint64_t job, uint32_t attempt, const char *reason)
{
    struct item *i = item_new(RELEASE, job, attempt);
    if (!i) return CN_ENOMEM;
    snprintf(i->reason, sizeof i->reason, "%s", reason);
    put(b, i);
    return 0;
}
