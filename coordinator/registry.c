/* coordinator/registry.c - datasets and keys: what the coordinator knows by name. See core.h. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/core.h"
#include "proto/client.h"

/* ---- data */

const struct st_dataset *dataset_named(const struct coordinator *c, const char *name)
{
    for (uint32_t i = 0; i < c->state.n_datasets; i++)
        if (!strcmp(c->state.dataset[i].name, name)) return &c->state.dataset[i];
    return NULL;
}

/* A name belongs to who added it, and a fingerprint to the bytes that it first came with: jobs name
 * the fingerprint, so nobody else may put other bytes under it. */
static int own_dataset(const struct request *r, const struct st_dataset *d, const char *what,
                       struct cn_error *err)
{
    if ((r->peer->roles & PR_ROLE_ADMIN) || (*d->owner && !strcmp(d->owner, r->peer->user)))
        return 0;
    return cn_fail(err, CN_EREFUSED, "dataset '%s' of %s %s; only they or an admin may replace it",
                   d->name, *d->owner ? d->owner : "an unknown user", what);
}

static bool same(const struct cn_hash *a, const struct cn_hash *b)
{
    return !memcmp(a, b, sizeof *a);
}

/* Its bytes were here once. */
static bool is_lost(const struct st_dataset *d)
{
    static const struct cn_hash none;
    return !d->size && !same(&d->blob, &none);
}

/* Whether `given` may be kept as it is. */
static int may_add(const struct coordinator *c, struct request *r, const struct st_op *given)
{
    const Cinch__DataAdd *q = (const void *)r->body;
    int rc = 0;
    for (uint32_t i = 0; i < c->state.n_datasets && !rc; i++) {
        const struct st_dataset *d = &c->state.dataset[i];
        bool named = !strcmp(d->name, q->name), claimed = same(&d->fingerprint, &given->hash);
        bool bytes = is_lost(d)
                         ? same(&d->blob, &given->hash2)
                         : d->size == given->size && (!d->size || same(&d->blob, &given->hash2));
        if (claimed ? bytes : !named) continue;
        if (named && !claimed && !q->replace)
            return cn_fail(&r->error, CN_EEXISTS,
                           "dataset '%s' is another one here; choose another name", q->name);
        rc = own_dataset(r, d, claimed ? "has this fingerprint" : "has this name", &r->error);
    }
    return rc;
}

/* Notes entry `d` as it is now. */
static void note_dataset(struct coordinator *c, const struct st_dataset *d)
{
    struct st_op op = {.kind = ST_DATASET,
                       .size = d->size,
                       .hash = d->fingerprint,
                       .hash2 = d->blob,
                       .text = strdup(d->name),
                       .text2 = strdup(d->info),
                       .text3 = strdup(d->owner)};
    if (!op.text || !op.text2 || !op.text3) c->s->nomem = true;
    note(c, op);
}

void dataset_tell(struct coordinator *c, const struct cn_hash *fingerprint)
{
    bool stored = false;
    uint32_t id = sc_find_dataset(c->s, fingerprint);
    for (uint32_t i = 0; i < c->state.n_datasets; i++)
        stored |= c->state.dataset[i].size && same(&c->state.dataset[i].fingerprint, fingerprint);
    if (id) sc_dataset_stored(c->s, id, stored);
}

/* Entry `d` gets this fingerprint and these bytes; what it had before may be of no use any more. */
static void change_dataset(struct coordinator *c, struct st_dataset *d, const struct st_op *to)
{
    struct st_dataset before = *d;
    d->fingerprint = to->hash;
    d->blob = to->hash2;
    d->size = to->size;
    note_dataset(c, d);
    dataset_tell(c, &d->fingerprint);
    dataset_tell(c, &before.fingerprint);
    if (before.size && !same(&before.blob, &d->blob) &&
        sc__grow(&c->stale, &c->cap_stale, c->n_stale + 1, sizeof *c->stale))
        c->stale[c->n_stale++] = before.blob; /* goes if nothing names it */
}

/* The entry of that name, made when it is not there; NULL with the reason in r->error. */
static struct st_dataset *dataset_entry(struct coordinator *c, struct request *r, const char *name)
{
    struct st_state *st = &c->state;
    struct st_dataset *d = (struct st_dataset *)dataset_named(c, name);
    if (d) return d;
    if (entries_dataset(c, r->peer, &r->error)) return NULL;
    d = sc__grow(&st->dataset, &st->cap_datasets, st->n_datasets + 1, sizeof *st->dataset)
            ? &st->dataset[st->n_datasets]
            : NULL;
    if (d)
        *d = (struct st_dataset){
            .name = strdup(name), .info = strdup(""), .owner = strdup(r->peer->user)};
    if (d && d->name && d->info && d->owner) {
        st->n_datasets++;
        return d;
    }
    if (d) free(d->name);
    if (d) free(d->info);
    if (d) free(d->owner);
    cn_fail(&r->error, CN_ENOMEM, "out of memory");
    return NULL;
}

static int keep_dataset(struct coordinator *c, struct request *r, const struct st_op *to)
{
    const Cinch__DataAdd *q = (const void *)r->body;
    struct st_dataset *d = dataset_entry(c, r, q->name);
    if (!d) return r->error.code;
    struct cn_error no = {0};
    /* To another user's entry the same bytes change nothing. */
    char *info = !*d->info || !own_dataset(r, d, "", &no) ? strdup(q->info) : NULL;
    if (info) free(d->info);
    if (info) d->info = info;
    change_dataset(c, d, to);
    for (uint32_t i = 0; i < c->state.n_datasets; i++) { /* one fingerprint is one blob */
        struct st_dataset *o = &c->state.dataset[i];
        if (same(&o->fingerprint, &to->hash) &&
            (o->size != to->size || !same(&o->blob, &to->hash2)))
            change_dataset(c, o, to);
    }
    return 0;
}

/* The fingerprint and bytes of the message. Without bytes: those that the fingerprint has here. */
static int read_dataset(const struct coordinator *c, struct request *r, struct st_op *to)
{
    const Cinch__DataAdd *q = (const void *)r->body;
    uint64_t size;
    memcpy(to->hash.b, q->fingerprint.data, CN_HASH_BYTES);
    if (q->blob) {
        to->size = q->blob->size;
        memcpy(to->hash2.b, q->blob->hash.data, CN_HASH_BYTES);
        if (!bl_has(c->blobs, &to->hash2, &size) || size != q->blob->size)
            return cn_fail(&r->error, CN_ENOTFOUND,
                           "the dataset's blob is not in the store; put it first");
    }
    for (uint32_t i = 0; !to->size && i < c->state.n_datasets; i++) {
        const struct st_dataset *o = &c->state.dataset[i];
        if (!same(&o->fingerprint, &to->hash)) continue;
        to->size = o->size;
        to->hash2 = o->blob;
    }
    return 0;
}

int client_data_add(struct coordinator *c, struct request *r)
{
    const Cinch__DataAdd *q = (const void *)r->body;
    struct st_op to = {0};
    int rc = given_text("data_add: info", q->info, &r->error);
    if (!rc) rc = read_dataset(c, r, &to);
    if (!rc) rc = may_add(c, r, &to);
    if (!rc) rc = keep_dataset(c, r, &to);
    if (rc) return rc;
    Cinch__Empty e = CINCH__EMPTY__INIT;
    net_reply(c, r, PR_EMPTY, &e.base);
    return 0;
}

void registry_lost(struct coordinator *c, const struct cn_hash *hash, bool damaged)
{
    char hex[CN_HASH_HEX];
    cn_hash_hex(hash, hex);
    for (uint32_t i = 0; i < c->state.n_datasets; i++) {
        struct st_dataset *d = &c->state.dataset[i];
        if (!d->size || !same(&d->blob, hash)) continue;
        d->size = 0; /* its hash stays: whoever sends these bytes again may */
        note_dataset(c, d);
        dataset_tell(c, &d->fingerprint);
        cn_err("coordinator", "dataset '%s': its blob %s %s; send it again: cinch data add %s DIR",
               d->name, hex, damaged ? "was damaged and is put aside" : "is missing", d->name);
        for (uint32_t r = 1; r < c->state.n_runs; r++)
            if (same(&c->state.run[r].fingerprint, &d->fingerprint) &&
                c->s->run[r].count[SC_SUCCEEDED] < c->s->run[r].jobs)
                note_run_event(c, r, "blob %s of dataset %.40s %s", hex, d->name,
                               damaged ? "was damaged; send it again"
                                       : "is missing; send it again");
    }
}

int client_data_get(struct coordinator *c, struct request *r)
{
    const Cinch__DataGet *q = (const void *)r->body;
    const struct st_dataset *d = q->fingerprint.len ? NULL : dataset_named(c, q->name);
    for (uint32_t i = 0; q->fingerprint.len && i < c->state.n_datasets; i++) {
        const struct st_dataset *o = &c->state.dataset[i];
        if (!memcmp(o->fingerprint.b, q->fingerprint.data, CN_HASH_BYTES) && (!d || o->size)) d = o;
    }
    if (!d)
        return cn_fail(&r->error, CN_ENOTFOUND,
                       "the coordinator has no such dataset; cinch data add sends one");
    Cinch__Blob blob = CINCH__BLOB__INIT;
    Cinch__Dataset out = CINCH__DATASET__INIT;
    out.name = d->name;
    out.info = d->info;
    out.fingerprint = pr_hash_field(&d->fingerprint);
    out.blob = is_lost(d) ? NULL : &blob;
    blob.size = d->size;
    if (d->size) blob.hash = pr_hash_field(&d->blob);
    struct pr_header h = {.type = PR_DATASET, .id = r->h.id};
    net_send(c, r->peer, h, &out.base, NULL, false);
    return 0;
}

/* ---- keys */

unsigned key_roles(const struct coordinator *c, const char *public_key, char name[PR_MAX_NAME + 1])
{
    for (uint32_t i = 0; i < c->state.n_keys; i++) {
        const struct st_key *k = &c->state.key[i];
        if (strcmp(k->public_key, public_key)) continue;
        strcpy(name, k->name);
        return k->revoked ? 0 : pr_role_parse(k->role);
    }
    return 0;
}

int client_key_create(struct coordinator *c, struct request *r)
{
    const Cinch__KeyCreate *q = (const void *)r->body;
    struct st_state *st = &c->state;
    struct st_key *slot = NULL;
    for (uint32_t i = 0; i < st->n_keys; i++) {
        struct st_key *k = &st->key[i];
        bool same = !strcmp(k->public_key, q->public_);
        if (same && !k->revoked && !strcmp(k->name, q->name) && !strcmp(k->role, q->role))
            slot = k; /* asked twice */
        if (same && !slot)
            return cn_fail(&r->error, CN_EEXISTS, "this key is known here already; make another");
        if (!same && !k->revoked && !strcmp(k->name, q->name))
            return cn_fail(&r->error, CN_EEXISTS,
                           "a key named '%s' exists; revoke it first or choose another name",
                           q->name);
    }
    if (!slot) {
        int rc = entries_key(c, &r->error);
        if (rc) return rc;
        if (!sc__grow(&st->key, &st->cap_keys, st->n_keys + 1, sizeof *st->key))
            return cn_fail(&r->error, CN_ENOMEM, "out of memory");
        slot = &st->key[st->n_keys++];
        memset(slot, 0, sizeof *slot);
        strcpy(slot->name, q->name);
        strcpy(slot->role, q->role);
        strcpy(slot->public_key, q->public_);
        slot->created = cn_wall_ms();
        struct st_op op = {.kind = ST_KEY,
                           .time = slot->created,
                           .text = strdup(q->name),
                           .text2 = strdup(q->role),
                           .text3 = strdup(q->public_)};
        note(c, op);
        cn_info("coordinator", "%s made key '%s' (%s)", r->peer->user, q->name, q->role);
    }
    Cinch__KeyCreated reply = CINCH__KEY_CREATED__INIT;
    if (c->has_server_key) reply.server = c->server_key.public_key;
    net_reply(c, r, PR_KEY_CREATED, &reply.base);
    return 0;
}

/* Takes effect in memory at once, even when the disk is full. */
int client_key_revoke(struct coordinator *c, struct request *r)
{
    const Cinch__KeyRevoke *q = (const void *)r->body;
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->state.n_keys; i++) {
        struct st_key *k = &c->state.key[i];
        if (k->revoked || (strcmp(k->name, q->key) && strcmp(k->public_key, q->key))) continue;
        k->revoked = cn_wall_ms();
        n++;
        struct st_op op = {
            .kind = ST_KEY_REVOKE, .time = k->revoked, .text3 = strdup(k->public_key)};
        note(c, op);
        net_end_key(c, k->public_key, r);
        cn_info("coordinator", "%s revoked key '%s'", r->peer->user, k->name);
    }
    if (!n)
        return cn_fail(&r->error, CN_ENOTFOUND, "no live key '%.60s'; cinch keys list shows them",
                       q->key);
    struct buf b = {0};
    buf_printf(&b, "{\"revoked\":%u}", n);
    return json_reply(c, r, &b);
}
