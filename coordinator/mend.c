/* coordinator/mend.c - see mend.h. */
#include "coordinator/mend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/core.h"
#include "coordinator/room.h"

enum {
    SCRUB_MB = 4,          /* a second */
    SCRUB_REST_MS = 15000, /* between two times through everything */
    SCRUB_MOST_MS = 1000,  /* a pause of the loop longer than that is not caught up on */
};

/* ---- lost */

struct losing {
    struct coordinator *c;
    const struct cn_hash *hash;
    char hex[CN_HASH_HEX];
    bool damaged;
    uint32_t jobs;
};

static int lose_of_job(void *arg, uint32_t job, bool checkpoint, uint64_t size)
{
    struct losing *l = arg;
    struct coordinator *c = l->c;
    if (!job || job >= c->s->n_jobs) return 0;
    l->jobs++;
    ro_sub(c->room, user_of_job(c, job), size);
    if (checkpoint)
        note(c, (struct st_op){.kind = ST_NO_CHECKPOINT, .job = job});
    else
        note(c, (struct st_op){.kind = ST_NO_OUTPUT, .job = job, .hash = *l->hash});
    struct happening h = {.job = job, .why = SC_WHY_DAMAGE, .state = c->s->job[job].state};
    snprintf(h.text, sizeof h.text, "%s %s %s; %s", checkpoint ? "checkpoint" : "blob", l->hex,
             l->damaged ? "was damaged and is put aside" : "is missing",
             checkpoint ? "it starts over" : "it is made again");
    note_event(c, h);
    cn_err("coordinator", "j%u: %s", job, h.text);
    if (!checkpoint) sc_on_damage(c->s, job, cn_mono_ms());
    return 0;
}

void mend_lost(struct coordinator *c, const struct cn_hash *hash, bool damaged)
{
    struct losing l = {.c = c, .hash = hash, .damaged = damaged};
    char user[PR_MAX_NAME + 1];
    uint64_t size;
    cn_hash_hex(hash, l.hex);
    st_jobs_of_blob(c->st, hash, lose_of_job, &l);
    registry_lost(c, hash, damaged);
    if (!st_held(c->st, hash, user, &size)) return;
    ro_sub(c->room, user, size);
    note(c, (struct st_op){.kind = ST_UNHOLD, .hash = *hash});
}

/* ---- the scrub */

void mend_scrubbed(struct coordinator *c, bool complete)
{
    struct scrub *s = &c->scrub;
    s->asked = false;
    if (complete) s->at++;
}

/* The next blob to look at, or NULL: through. */
static const struct st_blob *next_blob(struct coordinator *c)
{
    struct scrub *s = &c->scrub;
    if (s->at < s->n) return &s->next[s->at];
    if (s->n) s->after = s->next[s->n - 1].hash;
    s->at = 0;
    s->n = st_next_blobs(c->st, &s->after, s->next, (int)(sizeof s->next / sizeof *s->next));
    if (s->n) return &s->next[0];
    memset(&s->after, 0, sizeof s->after);
    return NULL;
}

void mend_scrub(struct coordinator *c, int64_t now)
{
    struct scrub *s = &c->scrub;
    int mb = c->o.scrub_mb ? c->o.scrub_mb : SCRUB_MB;
    int64_t since = s->last ? now - s->last : 0;
    if (mb < 0 || s->asked || since < 0) return;
    const struct st_blob *b = next_blob(c);
    struct bl_request *q = b ? calloc(1, sizeof *q) : NULL;
    s->last = b ? now : now + SCRUB_REST_MS;
    if (!q) return;
    if (since > SCRUB_MOST_MS) since = SCRUB_MOST_MS;
    *q = (struct bl_request){.what = BL_SCRUB, .hash = b->hash};
    q->length = (uint32_t)(mb * 1000 * since) + 1;
    zmq_msg_init(&q->data);
    s->asked = true;
    bl_ask(c->blobs, q);
}
