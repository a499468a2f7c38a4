/* nn/checkpoint.c - see checkpoint.h.
 *
 * The bytes are safetensors: flat vectors "params", "moment1", "moment2", "average", "best" (the
 * last only after an epoch), and one metadata string "cinch.checkpoint", a JSON object:
 *   version 1; net, widths, recipe (canonical text), seed (text), data (fingerprint), records, and
 *   where there are some teacher and mask (hashes): what the checkpoint belongs to; vectors (the
 *   hash of their bytes, one behind the other); epoch, batch (the next), step, loss_sum; plateau {lr, best, bad};
 *   best_epoch, best_score, best_loss; history [{epoch, train_loss, val_loss, val_score, lr}].
 * Numbers that are not finite stand as null. 17 digits bring every double back exactly.
 */
#include "nn/checkpoint.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "nn/check.h"
#include "nn/safetensors.h"

#define CHECKPOINT_VERSION 1

int nn_state_create(struct nn_state *s, const struct nn_net *net, const struct nn_recipe *r,
                    struct cn_error *err)
{
    *s = (struct nn_state){.best_score = NAN, .best_loss = INFINITY};
    nn_plateau_start(&s->plateau, r);
    s->history = calloc((size_t)r->epochs + 1, sizeof *s->history);
    s->params = calloc(net->n_floats, sizeof(float));
    s->average = calloc(net->n_floats, sizeof(float));
    s->best = calloc(net->n_floats, sizeof(float));
    s->m1 = calloc(net->n_params, sizeof(float));
    s->m2 = calloc(net->n_params, sizeof(float));
    if (s->history && s->params && s->average && s->best && s->m1 && s->m2) return 0;
    nn_state_free(s);
    return cn_fail(err, CN_ENOMEM, "out of memory for a training's state");
}

void nn_state_free(struct nn_state *s)
{
    free(s->history);
    free(s->params);
    free(s->average);
    free(s->best);
    free(s->m1);
    free(s->m2);
    *s = (struct nn_state){0};
}

/* JSON */

static json_t *number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *history_array(const struct nn_state *s)
{
    json_t *list = json_array();
    for (int i = 0; i < s->n_history; i++) {
        const struct nn_point *p = &s->history[i];
        json_array_append_new(list, json_pack("{s:i, s:o, s:o, s:o, s:o}", "epoch", p->epoch,
                                              "train_loss", number(p->train_loss), "val_loss",
                                              number(p->val_loss), "val_score",
                                              number(p->val_score), "lr", number(p->lr)));
    }
    return list;
}

char *nn_history_json(const struct nn_state *s)
{
    json_t *list = history_array(s);
    char *text = json_dumps(list, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(list);
    return text;
}

static int add_hash(json_t *o, const char *key, const struct cn_hash *hash)
{
    char hex[CN_HASH_HEX];
    if (!hash) return 0;
    cn_hash_hex(hash, hex);
    return json_object_set_new(o, key, json_string(hex));
}

/* Of all vectors as they are written. */
static int hash_vectors(const struct nn_state *s, const struct nn_net *net, struct cn_hash *out)
{
    struct cn_hasher *h = cn_hasher_create();
    if (!h) return CN_ENOMEM;
    cn_hasher_add(h, s->params, net->n_floats * sizeof(float));
    cn_hasher_add(h, s->average, net->n_floats * sizeof(float));
    cn_hasher_add(h, s->m1, net->n_params * sizeof(float));
    cn_hasher_add(h, s->m2, net->n_params * sizeof(float));
    if (s->best_epoch) cn_hasher_add(h, s->best, net->n_floats * sizeof(float));
    cn_hasher_finish(h, out);
    cn_hasher_destroy(h);
    return 0;
}

/* What a checkpoint belongs to, as an object whose every member must agree. */
static json_t *identity_object(const struct nn_identity *id)
{
    char seed[24], data[CN_HASH_HEX];
    snprintf(seed, sizeof seed, "%" PRIu64, id->seed);
    cn_hash_hex(id->data, data);
    json_t *widths = json_array();
    for (int i = 0; i < id->net->n_widths; i++)
        json_array_append_new(widths, json_integer(id->net->width[i]));
    json_t *o = json_pack("{s:i, s:s, s:o, s:s, s:s, s:s, s:i}", "version", CHECKPOINT_VERSION,
                          "net", id->net->name, "widths", widths, "recipe", id->recipe, "seed",
                          seed, "data", data, "records", id->data_n);
    return o && !add_hash(o, "teacher", id->teacher) && !add_hash(o, "mask", id->mask)
               ? o
               : (json_decref(o), NULL);
}

static char *state_text(const struct nn_state *s, const struct nn_identity *id)
{
    json_t *o = identity_object(id);
    json_t *more =
        json_pack("{s:i, s:i, s:I, s:o, s:{s:o, s:o, s:i}, s:i, s:o, s:o, s:o}", "epoch", s->epoch,
                  "batch", s->batch, "step", (json_int_t)s->step, "loss_sum", number(s->loss_sum),
                  "plateau", "lr", number(s->plateau.lr), "best", number(s->plateau.best), "bad",
                  s->plateau.bad, "best_epoch", s->best_epoch, "best_score", number(s->best_score),
                  "best_loss", number(s->best_loss), "history", history_array(s));
    char *text = NULL;
    struct cn_hash vectors;
    if (o && more && !hash_vectors(s, id->net, &vectors) && !add_hash(o, "vectors", &vectors) &&
        !json_object_update(o, more))
        text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(o);
    json_decref(more);
    return text;
}

static struct nn_st_tensor vector(const char *name, const float *v, size_t n)
{
    struct nn_st_tensor t = {.ndim = 1, .dim = {(int64_t)n}, .count = n, .data = v};
    snprintf(t.name, sizeof t.name, "%s", name);
    return t;
}

int nn_checkpoint_write(const struct nn_state *s, const struct nn_identity *id, void **data,
                        size_t *n, struct cn_error *err)
{
    size_t floats = id->net->n_floats, params = id->net->n_params;
    const struct nn_st_tensor list[] = {
        vector("params", s->params, floats), vector("average", s->average, floats),
        vector("moment1", s->m1, params), vector("moment2", s->m2, params),
        vector("best", s->best, floats)};
    *data = NULL;
    char *text = state_text(s, id);
    if (!text) return cn_fail(err, CN_ENOMEM, "out of memory for a checkpoint");
    const struct nn_st_meta meta = {"cinch.checkpoint", text};
    int rc = nn_st_write(list, s->best_epoch ? 5 : 4, &meta, 1, data, n, err);
    free(text);
    return rc;
}

/* Reading */

static int damaged(struct cn_error *err, const char *what)
{
    return cn_fail(err, CN_ECORRUPT, "checkpoint: '%s' is missing or impossible", what);
}

/* What is optional in an identity must be absent on both sides or on none. */
static int check_optional(const json_t *o, const json_t *want, struct cn_error *err)
{
    static const char *const keys[] = {"teacher", "mask"};
    for (int i = 0; i < 2; i++) {
        bool there = json_object_get(o, keys[i]), wanted = json_object_get(want, keys[i]);
        if (there == wanted) continue;
        return cn_fail(err, CN_EINVALID,
                       "checkpoint: belongs to another training: that one had %s %s, this one has "
                       "%s",
                       there ? "a" : "no", keys[i], wanted ? "one" : "none");
    }
    return 0;
}

static int check_identity(const json_t *o, const struct nn_identity *id, struct cn_error *err)
{
    json_t *want = identity_object(id), *v;
    const char *key;
    int rc = want ? check_optional(o, want, err) : cn_fail(err, CN_ENOMEM, "out of memory");
    json_object_foreach(want, key, v)
    {
        if (!rc && !json_equal(v, json_object_get(o, key)))
            rc = cn_fail(err, CN_EINVALID,
                         "checkpoint: belongs to another training: its '%s' differs", key);
    }
    json_decref(want);
    return rc;
}

static int read_int(const json_t *o, const char *key, json_int_t most, json_int_t *out,
                    struct cn_error *err)
{
    const json_t *v = json_object_get(o, key);
    *out = json_integer_value(v);
    return json_is_integer(v) && *out >= 0 && *out <= most ? 0 : damaged(err, key);
}

/* null becomes `absent`. */
static int read_real(const json_t *o, const char *key, double absent, double *out,
                     struct cn_error *err)
{
    const json_t *v = json_object_get(o, key);
    *out = json_is_null(v) ? absent : json_number_value(v);
    return json_is_null(v) || json_is_number(v) ? 0 : damaged(err, key);
}

static int read_history(struct nn_state *s, const json_t *list, int epochs, struct cn_error *err)
{
    int rc = 0;
    if (!json_is_array(list) || json_array_size(list) > (size_t)epochs)
        return damaged(err, "history");
    for (size_t i = 0; i < json_array_size(list) && !rc; i++) {
        const json_t *e = json_array_get(list, i);
        struct nn_point *p = &s->history[i];
        p->epoch = (int)i + 1;
        rc = read_real(e, "train_loss", NAN, &p->train_loss, err);
        if (!rc) rc = read_real(e, "val_loss", NAN, &p->val_loss, err);
        if (!rc) rc = read_real(e, "val_score", NAN, &p->val_score, err);
        if (!rc) rc = read_real(e, "lr", NAN, &p->lr, err);
    }
    s->n_history = (int)json_array_size(list);
    return rc;
}

static int read_counters(struct nn_state *s, const json_t *o, int epochs, struct cn_error *err)
{
    json_int_t epoch, batch, step, best_epoch, bad;
    double loss_sum;
    const json_t *plateau = json_object_get(o, "plateau");
    int rc = read_int(o, "epoch", epochs, &epoch, err);
    if (!rc) rc = read_int(o, "batch", INT32_MAX, &batch, err);
    if (!rc) rc = read_int(o, "step", UINT32_MAX, &step, err);
    if (!rc) rc = read_int(o, "best_epoch", epochs, &best_epoch, err);
    if (!rc) rc = read_int(plateau, "bad", INT32_MAX, &bad, err);
    if (!rc) rc = read_real(o, "loss_sum", NAN, &loss_sum, err);
    if (!rc) rc = read_real(plateau, "lr", NAN, &s->plateau.lr, err);
    if (!rc) rc = read_real(plateau, "best", INFINITY, &s->plateau.best, err);
    if (!rc) rc = read_real(o, "best_score", NAN, &s->best_score, err);
    if (!rc) rc = read_real(o, "best_loss", INFINITY, &s->best_loss, err);
    if (!rc && !isfinite(loss_sum)) rc = damaged(err, "loss_sum");
    if (!rc && !isfinite(s->plateau.lr)) rc = damaged(err, "lr");
    if (rc) return rc;
    s->epoch = (int)epoch;
    s->batch = (int)batch;
    s->step = (uint32_t)step;
    s->loss_sum = (float)loss_sum;
    s->best_epoch = (int)best_epoch;
    s->plateau.bad = (int)bad;
    return 0;
}

/* least: of its values. */
static int read_vector(const struct nn_st *st, const char *name, float *v, size_t n, double least,
                       struct cn_error *err)
{
    const struct nn_st_tensor *t = nn_st_find(st, name);
    if (!t || t->count != n || t->dtype != NN_ST_F32) return damaged(err, name);
    int rc = nn_st_read(t, "checkpoint", v, err);
    for (size_t i = 0; !rc && i < n; i++)
        if (!isfinite(v[i]) || (double)v[i] < least)
            return cn_fail(err, CN_ECORRUPT, "checkpoint: '%s': value %zu of %zu is %g, %s", name,
                           i, n, (double)v[i],
                           isfinite(v[i]) ? "which it cannot be" : "not a finite number");
    return rc;
}

/* A vector of all the net's floats. */
static int read_floats(const struct nn_st *st, const char *name, const struct nn_net *net, float *v,
                       struct cn_error *err)
{
    int rc = read_vector(st, name, v, net->n_floats, -INFINITY, err);
    return rc ? rc : nn_params_check(net, v, net->n_floats, "checkpoint", err);
}

static int read_vectors(struct nn_state *s, const struct nn_net *net, const struct nn_st *st,
                        struct cn_error *err)
{
    int rc = read_floats(st, "params", net, s->params, err);
    if (!rc) rc = read_floats(st, "average", net, s->average, err);
    if (!rc) rc = read_vector(st, "moment1", s->m1, net->n_params, -INFINITY, err);
    if (!rc) rc = read_vector(st, "moment2", s->m2, net->n_params, 0, err);
    if (!rc && s->best_epoch) rc = read_floats(st, "best", net, s->best, err);
    return rc;
}

/* A bit that turned over on a disk is a number like any other: the hash tells. Earlier versions wrote
 * none. */
static int check_vectors(const struct nn_state *s, const struct nn_net *net, const json_t *o,
                         struct cn_error *err)
{
    const char *want = json_string_value(json_object_get(o, "vectors"));
    char hex[CN_HASH_HEX];
    struct cn_hash hash;
    if (!want) return 0;
    if (hash_vectors(s, net, &hash)) return cn_fail(err, CN_ENOMEM, "out of memory");
    cn_hash_hex(&hash, hex);
    return strcmp(hex, want) ? cn_fail(err, CN_ECORRUPT,
                                       "checkpoint: damaged: its numbers are not those that were "
                                       "written")
                             : 0;
}

int nn_checkpoint_read(struct nn_state *s, const struct nn_identity *id, int epochs,
                       const void *data, size_t n, struct cn_error *err)
{
    struct nn_st *st;
    int rc = nn_st_parse(&st, "checkpoint", data, n, err);
    if (rc) return rc;
    const char *text = nn_st_meta_value(st, "cinch.checkpoint");
    json_t *o = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (!json_is_object(o))
        rc = cn_fail(err, CN_ECORRUPT, "checkpoint: a safetensors file, but not a checkpoint");
    if (!rc) rc = check_identity(o, id, err);
    if (!rc) rc = read_counters(s, o, epochs, err);
    if (!rc) rc = read_history(s, json_object_get(o, "history"), epochs, err);
    if (!rc && s->n_history != s->epoch) rc = damaged(err, "history");
    if (!rc) rc = read_vectors(s, id->net, st, err);
    if (!rc) rc = check_vectors(s, id->net, o, err);
    json_decref(o);
    nn_st_destroy(st);
    return rc;
}
