/* nn/recipe.c - see recipe.h. One table of fields serves the YAML reader, the JSON writer and the
 * JSON reader, so that none of them can forget one.
 *
 * `paper` is what study A states per net (docs/recipes.md); epochs are ours, since it gives none.
 * `cinch` was chosen by validation on the sample; docs/recipes.md has the figures.
 */
#include "nn/recipe.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* LATER: a flag that came after the first release: in JSON it stands only when it is set, so that job keys
 * and checkpoints of recipes without it stay what they were. */
enum field_type { INTEGER, REAL, FLAG, CHOICE, LATER };

static const char *const optimiser_names[] = {"sgd", "adam", "adamw", NULL};
static const char *const schedule_names[] = {"constant", "cosine", "plateau", "one-cycle", NULL};
static const char *const precision_names[] = {"fp32", "tf32", "bf16", NULL};

struct field {
    const char *name;
    enum field_type type;
    size_t offset;
    double lo, hi;
    const char *const *names; /* CHOICE */
};

#define AT(member) offsetof(struct nn_recipe, member)
static const struct field fields[] = {
    {"epochs", INTEGER, AT(epochs), 0, 100000, NULL},
    {"batch", INTEGER, AT(batch), 1, 4096, NULL},
    {"optimiser", CHOICE, AT(optimiser), 0, 0, optimiser_names},
    {"nesterov", FLAG, AT(nesterov), 0, 1, NULL},
    {"lr", REAL, AT(lr), 0, 100, NULL},
    {"lr_min", REAL, AT(lr_min), 0, 100, NULL},
    {"momentum", REAL, AT(momentum), 0, 0.99999, NULL},
    {"weight_decay", REAL, AT(weight_decay), 0, 10, NULL},
    {"beta1", REAL, AT(beta1), 0, 0.99999, NULL},
    {"beta2", REAL, AT(beta2), 0, 0.9999999, NULL},
    {"eps", REAL, AT(eps), 1e-16, 1, NULL},
    {"schedule", CHOICE, AT(schedule), 0, 0, schedule_names},
    {"period", INTEGER, AT(period), 0, 100000, NULL},
    {"factor", REAL, AT(factor), 0.001, 1, NULL},
    {"warmup", REAL, AT(warmup), 0, 0.5, NULL},
    {"per_step", FLAG, AT(per_step), 0, 1, NULL},
    {"ema", REAL, AT(ema), 0, 0.99999, NULL},
    {"smooth", REAL, AT(smooth), 0, 0.5, NULL},
    {"mixup", REAL, AT(mixup), 0, 4, NULL},
    {"aug_shift", REAL, AT(aug_shift), 0, 100000, NULL},
    {"aug_scale", REAL, AT(aug_scale), 0, 1, NULL},
    {"aug_noise", REAL, AT(aug_noise), 0, 10, NULL},
    {"aug_lead", REAL, AT(aug_lead), 0, 0.9, NULL},
    {"aug_mask", REAL, AT(aug_mask), 0, 0.9, NULL},
    {"clip", REAL, AT(clip), 0, 1e6, NULL},
    {"alpha", REAL, AT(alpha), 0, 1, NULL},
    {"precision", CHOICE, AT(precision), 0, 0, precision_names},
    {"class_weights", FLAG, AT(class_weights), 0, 1, NULL},
    {"sync_batchnorm", LATER, AT(sync_batchnorm), 0, 1, NULL},
    {"finetune_epochs", INTEGER, AT(finetune_epochs), 0, 100000, NULL},
    {"finetune_lr", REAL, AT(finetune_lr), 0, 100, NULL},
    {"finetune_period", INTEGER, AT(finetune_period), 0, 100000, NULL},
};
#define N_FIELDS ((int)(sizeof fields / sizeof *fields))

static int *int_at(struct nn_recipe *r, const struct field *f)
{
    return (int *)((char *)r + f->offset); /* enums too: C gives them the size of int */
}

static double *real_at(struct nn_recipe *r, const struct field *f)
{
    return (double *)((char *)r + f->offset);
}

/* Named recipes */

static void recipe_start(struct nn_recipe *r, const char *name)
{
    *r = (struct nn_recipe){.epochs = 60, .batch = 64, .optimiser = NN_ADAM, .lr = 1e-3};
    snprintf(r->name, sizeof r->name, "%s", name);
    r->momentum = 0.9;
    r->beta1 = 0.9;
    r->beta2 = 0.999;
    r->eps = 1e-8;
    r->factor = 0.5;
    r->alpha = 0.4;
    r->finetune_epochs = 20;
}

static void paper_rnn(struct nn_recipe *r)
{
    r->schedule = NN_PLATEAU;
    r->period = 10;
    r->lr_min = 1e-5;
}

static void paper_cnn(struct nn_recipe *r)
{
    r->optimiser = NN_SGD;
    r->nesterov = 1;
    r->momentum = 0.995;
    r->weight_decay = 0.007;
    r->schedule = NN_COSINE;
    r->period = 30;
    r->lr_min = 1e-6;
    r->finetune_lr = 5e-4;
    r->finetune_period = 20;
}

static void paper_resnet(struct nn_recipe *r)
{
    r->batch = 128;
    r->schedule = NN_COSINE;
    r->period = 5;
    r->lr_min = 1e-6;
}

static void paper_beat(struct nn_recipe *r)
{
    r->epochs = 20;
    r->batch = 128;
}

/* What all nets share in `cinch`: one-cycle AdamW, averaged weights, mild augmentation. */
static void cinch_common(struct nn_recipe *r)
{
    r->optimiser = NN_ADAMW;
    r->weight_decay = 0.01;
    r->lr = 4e-3;
    r->lr_min = 1e-6;
    r->schedule = NN_ONE_CYCLE;
    r->warmup = 0.2;
    r->per_step = 1;
    r->ema = 0.995;
    r->mixup = 0.4;
    r->aug_shift = 50;
    r->aug_scale = 0.1;
    r->aug_noise = 0.1;
    r->aug_lead = 0.1;
    r->aug_mask = 0.2;
    r->clip = 5;
    r->finetune_lr = 8e-3; /* a net just pruned hard has much to learn anew */
}

/* An LSTM needs its few hundred steps to fit the records; augmentation as strong as the others' keeps
 * it from getting there. */
static void cinch_rnn(struct nn_recipe *r)
{
    cinch_common(r);
    r->warmup = 0.1;
    r->ema = 0.99;
    r->mixup = 0;
    r->aug_shift = 20;
    r->aug_noise = 0.05;
    r->aug_lead = 0.05;
    r->aug_mask = 0;
}

static void cinch_cnn(struct nn_recipe *r)
{
    cinch_common(r);
}

/* Half a million weights and 1,499 records: a residual net takes long to fit them, so it gets little
 * noise, and with 12 batches an epoch its average must forget the first ones soon. */
static void cinch_resnet(struct nn_recipe *r)
{
    cinch_common(r);
    r->batch = 128;
    r->lr = 2e-3;
    r->ema = 0.98;
    r->mixup = 0;
    r->aug_shift = 20;
    r->aug_noise = 0.05;
    r->aug_lead = 0.05;
    r->aug_mask = 0;
}

static void cinch_beat(struct nn_recipe *r)
{
    cinch_common(r);
    r->epochs = 30;
    r->mixup = 0;
    r->aug_shift = 3;
    r->aug_noise = 0.05;
    r->aug_lead = 0;
    r->aug_mask = 0;
}

static const struct {
    const char *recipe, *net;
    void (*fill)(struct nn_recipe *r);
} named[] = {
    {"paper", "rnn", paper_rnn},       {"paper", "cnn", paper_cnn},
    {"paper", "resnet", paper_resnet}, {"paper", "beat", paper_beat},
    {"cinch", "rnn", cinch_rnn},       {"cinch", "cnn", cinch_cnn},
    {"cinch", "resnet", cinch_resnet}, {"cinch", "beat", cinch_beat},
};

static const char *const recipe_names[] = {"paper", "cinch", NULL};

int nn_recipe_named(struct nn_recipe *r, const char *name, const char *net, struct cn_error *err)
{
    int known = 0;
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        if (strcmp(named[i].recipe, name)) continue;
        known = 1;
        if (strcmp(named[i].net, net)) continue;
        recipe_start(r, name);
        named[i].fill(r);
        return 0;
    }
    const char *near = cn_nearest(name, recipe_names);
    if (known) return cn_fail(err, CN_EINVALID, "recipe '%s' knows no net '%s'", name, net);
    if (near)
        return cn_fail(err, CN_EINVALID, "unknown recipe '%s'; did you mean '%s'?", name, near);
    return cn_fail(err, CN_EINVALID, "unknown recipe '%s'; known are: paper, cinch, or a file",
                   name);
}

/* YAML */

static int field_yaml(struct nn_recipe *r, const struct field *f, const struct cn_yaml *v,
                      struct cn_error *err)
{
    int64_t i;
    bool flag;
    int rc;
    switch (f->type) {
    case INTEGER:
        rc = cn_yaml_int(v, f->name, (int64_t)f->lo, (int64_t)f->hi, &i, err);
        if (!rc) *int_at(r, f) = (int)i;
        return rc;
    case REAL:
        return cn_yaml_float(v, f->name, f->lo, f->hi, real_at(r, f), err);
    case FLAG:
    case LATER:
        rc = cn_yaml_bool(v, f->name, &flag, err);
        if (!rc) *int_at(r, f) = flag;
        return rc;
    case CHOICE:
        return cn_yaml_enum(v, f->name, f->names, int_at(r, f), err);
    }
    return CN_EINTERNAL;
}

/* What no single field shows: the text, and the field that is to blame. NULL: fine. */
static const char *contradiction(const struct nn_recipe *r, const char **field)
{
    *field = "lr";
    if (r->lr <= 0 && r->epochs > 0) return "lr 0 trains nothing";
    *field = "lr_min";
    if (r->lr_min > r->lr) return "lr_min is above lr";
    if (r->finetune_lr > 0 && r->lr_min > r->finetune_lr) return "lr_min is above finetune_lr";
    *field = "nesterov";
    if (r->nesterov && r->optimiser != NN_SGD) return "nesterov belongs to the optimiser sgd";
    if (r->nesterov && r->momentum == 0) return "nesterov needs a momentum";
    *field = "per_step";
    if (r->schedule == NN_PLATEAU && r->per_step)
        return "the plateau schedule moves by epochs; per_step does not fit";
    *field = "period";
    if (r->schedule == NN_PLATEAU && r->period == 0)
        return "the plateau schedule needs a period, its patience in epochs, of 1 or more";
    *field = "factor";
    if (r->schedule == NN_PLATEAU && r->factor >= 1)
        return "a factor of 1 leaves the learning rate of the plateau schedule as it is";
    return NULL;
}

int nn_recipe_yaml(struct nn_recipe *r, const struct cn_yaml *map, const char *net,
                   struct cn_error *err)
{
    const char *known[N_FIELDS + 3], *name = "file";
    int base = 0;
    if (map->kind != CN_YAML_MAP)
        return cn_yaml_fail(map, err, "a recipe is a mapping, such as {base: paper, epochs: 20}");
    for (int i = 0; i < N_FIELDS; i++) known[i] = fields[i].name;
    known[N_FIELDS] = "base";
    known[N_FIELDS + 1] = "name";
    known[N_FIELDS + 2] = NULL;
    int rc = cn_yaml_only(map, known, err);
    const struct cn_yaml *v = cn_yaml_get(map, "base");
    if (!rc && v) rc = cn_yaml_enum(v, "base", recipe_names, &base, err);
    if (!rc) rc = nn_recipe_named(r, recipe_names[base], net, err);
    v = cn_yaml_get(map, "name");
    if (!rc && v) rc = cn_yaml_str(v, "name", &name, err);
    if (!rc && strlen(name) >= sizeof r->name)
        rc = cn_yaml_fail(v, err, "name is longer than %zu letters", sizeof r->name - 1);
    if (rc) return rc;
    snprintf(r->name, sizeof r->name, "%s", name);
    for (int i = 0; i < N_FIELDS && !rc; i++) {
        v = cn_yaml_get(map, fields[i].name);
        if (v) rc = field_yaml(r, &fields[i], v, err);
    }
    if (!rc && r->epochs == 0) /* a fine-tuning may have none, a training not */
        rc = cn_yaml_fail(cn_yaml_get(map, "epochs"), err,
                          "epochs must be 1 or more; `cinch train --epochs 0` writes the "
                          "initialised net");
    const char *field, *wrong = rc ? NULL : contradiction(r, &field);
    if (!wrong) return rc;
    v = cn_yaml_get(map, field); /* or what it contradicts stands there, or in the base */
    return cn_yaml_fail(v ? v : map, err, "%s", wrong);
}

void nn_recipe_finetune(const struct nn_recipe *r, struct nn_recipe *out)
{
    *out = *r;
    out->epochs = r->finetune_epochs;
    if (r->finetune_lr > 0) out->lr = r->finetune_lr;
    if (r->finetune_period > 0) out->period = r->finetune_period;
}

/* JSON */

char *nn_recipe_json(const struct nn_recipe *recipe)
{
    struct nn_recipe copy = *recipe, *r = &copy;
    json_t *o = json_object();
    int bad = json_object_set_new(o, "name", json_string(r->name));
    for (int i = 0; i < N_FIELDS; i++) {
        const struct field *f = &fields[i];
        if (f->type == LATER && !*int_at(r, f)) continue;
        json_t *v = f->type == REAL     ? json_real(*real_at(r, f))
                    : f->type == CHOICE ? json_string(f->names[*int_at(r, f)])
                                        : json_integer(*int_at(r, f));
        bad |= json_object_set_new(o, f->name, v);
    }
    char *text = bad ? NULL : json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(o);
    return text;
}

/* Names that the object may hold beside the recipe's own name: all fields, or all but unset later ones. */
static size_t fields_due(const json_t *o)
{
    size_t n = 1;
    for (int i = 0; i < N_FIELDS; i++)
        n += fields[i].type != LATER || json_object_get(o, fields[i].name);
    return n;
}

static int field_json(struct nn_recipe *r, const struct field *f, const json_t *v,
                      struct cn_error *err)
{
    if (f->type == CHOICE) {
        const char *text = json_string_value(v);
        for (int i = 0; text && f->names[i]; i++)
            if (!strcmp(f->names[i], text)) {
                *int_at(r, f) = i;
                return 0;
            }
        return cn_fail(err, CN_EINVALID, "recipe: %s is missing or unknown", f->name);
    }
    if (f->type == LATER && !v) return 0;
    double x = json_number_value(v);
    if (!json_is_number(v) || !(x >= f->lo && x <= f->hi))
        return cn_fail(err, CN_EINVALID, "recipe: %s is missing or not between %g and %g", f->name,
                       f->lo, f->hi);
    if (f->type == REAL)
        *real_at(r, f) = x;
    else
        *int_at(r, f) = (int)x;
    return 0;
}

int nn_recipe_parse_json(struct nn_recipe *r, const char *json, struct cn_error *err)
{
    json_error_t je;
    json_t *o = json_loads(json, JSON_REJECT_DUPLICATES, &je);
    const char *name = json_string_value(json_object_get(o, "name"));
    int rc = 0;
    memset(r, 0, sizeof *r);
    if (!json_is_object(o))
        rc = cn_fail(err, CN_EINVALID, "recipe: not a JSON object: %s", o ? "" : je.text);
    else if (!name || strlen(name) >= sizeof r->name)
        rc = cn_fail(err, CN_EINVALID, "recipe: name is missing or too long");
    else if (json_object_size(o) != fields_due(o))
        rc = cn_fail(err, CN_EINVALID, "recipe: %zu fields instead of %zu", json_object_size(o),
                     fields_due(o));
    else
        strcpy(r->name, name);
    for (int i = 0; i < N_FIELDS && !rc; i++)
        rc = field_json(r, &fields[i], json_object_get(o, fields[i].name), err);
    const char *field, *wrong = rc ? NULL : contradiction(r, &field);
    if (wrong) rc = cn_fail(err, CN_EINVALID, "recipe: %s", wrong);
    json_decref(o);
    return rc;
}
