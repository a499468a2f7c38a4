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

int client_data_add(struct coordinator *c, struct request *r)
{
    const Cinch__DataAdd *q = (const void *)r->body;
    struct st_op op = {.kind = ST_DATASET, .size = q->blob ? q->blob->size : 0};
    memcpy(op.hash.b, q->fingerprint.data, CN_HASH_BYTES);
    if (q->blob) {
        memcpy(op.hash2.b, q->blob->hash.data, CN_HASH_BYTES);
        uint64_t size;
        if (!bl_has(c->blobs, &op.hash2, &size) || size != q->blob->size)
            return cn_fail(&r->error, CN_ENOTFOUND,
                           "the dataset's blob is not in the store; put it first");
    }
    struct st_dataset *d = (struct st_dataset *)dataset_named(c, q->name);
    if (d && memcmp(&d->fingerprint, &op.hash, sizeof op.hash) && !q->replace)
        return cn_fail(&r->error, CN_EEXISTS,
                       "dataset '%s' is another one here; choose another name", q->name);
    struct st_state *st = &c->state;
    if (!d && !sc__grow(&st->dataset, &st->cap_datasets, st->n_datasets + 1, sizeof *st->dataset))
        return cn_fail(&r->error, CN_ENOMEM, "out of memory");
    if (!d) d = &st->dataset[st->n_datasets++];
    free(d->name);
    free(d->info);
    *d = (struct st_dataset){.name = strdup(q->name),
                             .info = strdup(q->info),
                             .fingerprint = op.hash,
                             .blob = op.hash2,
                             .size = op.size};
    op.text = strdup(q->name);
    op.text2 = strdup(q->info);
    uint32_t id = sc_dataset(c->s, &op.hash);
    if (!d->name || !d->info || !op.text || !op.text2 || !id) c->s->nomem = true;
    if (id && op.size) sc_dataset_stored(c->s, id, true);
    note(c, op);
    Cinch__Empty e = CINCH__EMPTY__INIT;
    net_reply(c, r, PR_EMPTY, &e.base);
    return 0;
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
    out.blob = &blob;
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
        cn_info("coordinator", "%s revoked key '%s'", r->peer->user, k->name);
    }
    if (!n)
        return cn_fail(&r->error, CN_ENOTFOUND, "no live key '%.60s'; cinch keys list shows them",
                       q->key);
    struct buf b = {0};
    buf_printf(&b, "{\"revoked\":%u}", n);
    return json_reply(c, r, &b);
}
