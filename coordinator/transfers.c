/* coordinator/transfers.c - what a blob's way in and out means for everything else: room on the disk,
 * whose bytes they are, and what is to be done when one is not whole. See core.h. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "coordinator/core.h"
#include "coordinator/mend.h"
#include "coordinator/room.h"

static const int64_t ORPHAN_MS = 24 * 60 * 60 * 1000, ORPHANS_EVERY_MS = 60 * 1000;

const char *user_of_job(const struct coordinator *c, uint32_t job)
{
    uint32_t first = 0; /* the oldest run: newer ones do not change whose the bytes are */
    for (uint32_t w = c->s->job[job].want; w; w = c->s->want[w].next_of_job)
        if (!first || c->s->want[w].run < first) first = c->s->want[w].run;
    return first ? c->s->user[c->s->run[first].user].name : "";
}

/* Bytes of recipes and grids, which lie in the queue. */
static uint64_t text_of(const struct coordinator *c, const char *user)
{
    uint32_t id = sc_find_user(c->s, user);
    return id ? c->s->user[id].text : 0;
}

int transfer_quota(const struct coordinator *c, const char *user, uint64_t more,
                   struct cn_error *err)
{
    return ro_check(c->room, user, text_of(c, user) + more, err);
}

static struct up_key key_of(const struct bl_request *q)
{
    return (struct up_key){.name = q->hash, .size = q->size, .user = q->user};
}

static void forget(struct coordinator *c, const struct up_key *key)
{
    struct bl_request *q = calloc(1, sizeof *q);
    if (!q) return; /* the part goes with a later start */
    *q = (struct bl_request){
        .what = BL_FORGET, .hash = key->name, .size = key->size, .user = key->user};
    zmq_msg_init(&q->data);
    bl_ask(c->blobs, q);
}

int transfer_begin(struct coordinator *c, const struct peer *p, struct bl_request *q,
                   struct cn_error *err)
{
    struct up_key key;
    q->user = up_user(p->user);
    uint64_t declared = ro_declared(c->room, &q->hash, q->user);
    if (q->what == BL_HAVE) q->size = declared;
    if (q->what != BL_PUT) return 0;
    bool worker = p->results && (p->roles & PR_ROLE_WORKER);
    if (!worker) strcpy(q->sender, p->user);
    key = key_of(q);
    if (declared && declared != q->size) { /* another story under the same name */
        struct up_key old = {.name = q->hash, .size = declared, .user = q->user};
        ro_ended(c->room, &old);
        forget(c, &old);
    }
    if (bl_has(c->blobs, &q->hash, NULL) || bl_has(c->blobs, &q->final, NULL)) return 0;
    struct ro_sender who = {
        .user = p->user, .worker = worker, .besides = worker ? 0 : text_of(c, p->user)};
    return ro_upload(c->room, &key, &who, cn_mono_ms(), err);
}

static void keep_for_sender(struct coordinator *c, const struct bl_request *q)
{
    char user[PR_MAX_NAME + 1];
    uint64_t size;
    if (!*q->sender || st_held(c->st, &q->final, user, &size)) return;
    struct st_op op = {.kind = ST_HOLD, .hash = q->final, .size = q->size, .time = cn_wall_ms()};
    if (!(op.text = strdup(q->sender))) c->s->nomem = true;
    note(c, op);
    ro_add(c->room, q->sender, q->size);
}

void transfer_end(struct coordinator *c, struct bl_request *q)
{
    struct up_key key = key_of(q);
    bool over = q->complete || q->error.code == CN_ECORRUPT || q->error.code == CN_EIO;
    if (q->what == BL_PUT && over) ro_ended(c->room, &key);
    if (q->what == BL_PUT && !over) ro_arrived(c->room, &key, q->offset, cn_mono_ms());
    if (q->stored) keep_for_sender(c, q);
    if (q->damaged || q->gone) mend_lost(c, q->damaged ? &q->lost : &q->hash, q->damaged);
    if (q->what == BL_SCRUB) mend_scrubbed(c, q->complete);
}

void transfer_unhold(struct coordinator *c, const struct cn_hash *hash)
{
    char user[PR_MAX_NAME + 1];
    uint64_t size;
    if (!st_held(c->st, hash, user, &size)) return;
    ro_sub(c->room, user, size);
    note(c, (struct st_op){.kind = ST_UNHOLD, .hash = *hash});
}

/* What was sent long ago, and nothing refers to. */
static void forget_orphans(struct coordinator *c)
{
    struct st_blob b[64];
    int n = st_orphans(c->st, cn_wall_ms() - ORPHAN_MS, b, 64);
    for (int i = 0; i < n; i++) {
        transfer_unhold(c, &b[i].hash);
        bl_remove(c->blobs, &b[i].hash);
    }
}

void transfer_tick(struct coordinator *c, int64_t now)
{
    struct up_key key;
    for (int i = 0; i < 64; i++)
        if (ro_forgotten(c->room, now, &key)) forget(c, &key);
    if (!st_pending(c->st) && now >= c->next_orphans) {
        c->next_orphans = now + ORPHANS_EVERY_MS;
        forget_orphans(c);
    }
    mend_scrub(c, now);
}

static int add_size(void *arg, const char *user, uint32_t job, uint64_t size)
{
    struct coordinator *c = arg;
    if (!user && (!job || job >= c->s->n_jobs)) return 0;
    ro_add(c->room, user ? user : user_of_job(c, job), size);
    return 0;
}

int transfer_open(struct coordinator *c, struct cn_error *err)
{
    double reserve = c->o.reserve_mb ? c->o.reserve_mb * 1e6 : CO_RESERVE_MB * 1e6;
    uint64_t quota = (uint64_t)(c->o.quota_mb > 0 ? c->o.quota_mb : 0) * 1000000;
    int rc = ro_open(&c->room, c->state_dir, reserve, quota, cn_mono_ms(), cn_wall_ms(), err);
    return rc ? rc : st_each_size(c->st, add_size, c);
}

/* What is not there, or shorter than it was, is found at the start; other bytes by whoever reads them. */
void transfer_look(struct coordinator *c)
{
    struct st_blob b[64];
    struct cn_hash after = {0};
    for (int n; (n = st_next_blobs(c->st, &after, b, 64)); after = b[n - 1].hash)
        for (int i = 0; i < n; i++) {
            uint64_t size = 0;
            bool there = bl_has(c->blobs, &b[i].hash, &size);
            struct bl_request *q = there && size != b[i].size ? calloc(1, sizeof *q) : NULL;
            if (!there) mend_lost(c, &b[i].hash, false);
            if (!q) continue;
            *q = (struct bl_request){.what = BL_LOOK, .hash = b[i].hash};
            zmq_msg_init(&q->data);
            bl_ask(c->blobs, q);
        }
}
