/* cli/submit.c - see submit.h. `paper` allocators and run counts are resolved here, so that the
 * coordinator and the job keys see plain numbers only. */
#include "cli/submit.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "cpu/measure/measure.h"
#include "proto/spec.h"

static const char *const norm_names[] = {"L1", "L2", "taylor"};
static const char *const quantize_names[] = {"paper", "full", "best"};
static const char *const unit_names[] = {"structure", "weight"};
static const char *const stage_names[] = {"geometric", "linear", "sensitivity"};

struct cli_submit {
    Cinch__Submit m;
    uint8_t nonce[16], fingerprint[2][CN_HASH_BYTES];
    char name[64], dataset[64];
    char *text;
    Cinch__Net net[GRID_MAX_NETS], *nets[GRID_MAX_NETS];
    char *recipe[GRID_MAX_NETS], *finetune[GRID_MAX_NETS]; /* owned */
    uint32_t widths[GRID_MAX_NETS][NN_MAX_WIDTHS];
    char *allocator[GRID_MAX_NETS];
    uint64_t seeds[GRID_MAX_SEEDS];
    protobuf_c_boolean distill[2];
    Cinch__Prune prune;
    uint32_t rounds[GRID_MAX_LIST];
    double keep[GRID_MAX_LIST];
    char *norms[3], *units[2], *schedules[3];
    Cinch__Finetune *finetunes[GRID_MAX_NETS][2 * GRID_MAX_LIST]; /* owned, as their recipes are */
    Cinch__Split split[2], *splits[2];
    Cinch__Quantize quantize;
};

/* The recipe without the part that only fine-tuning reads: two grids that differ there share their
 * baselines. */
static char *plain_json(const struct nn_recipe *r)
{
    struct nn_recipe plain = *r;
    plain.finetune_epochs = 0;
    plain.finetune_lr = 0;
    plain.finetune_period = 0;
    return nn_recipe_json(&plain);
}

/* One recipe for every number of epochs that a round of the grid may get. */
static int fill_finetunes(struct cli_submit *s, const struct grid *g, int i, struct cn_error *err)
{
    Cinch__Net *to = &s->net[i];
    to->finetunes = s->finetunes[i];
    for (int k = 0; k < 2 * g->n_rounds; k++) { /* the first round and the last get what there is */
        uint32_t rounds = (uint32_t)g->rounds[k / 2];
        uint32_t epochs = pr_round_epochs((uint32_t)g->total_epochs, rounds, k % 2 ? 1 : rounds);
        struct nn_recipe fine;
        if (pr_finetune(to, epochs)) continue;
        Cinch__Finetune *f = calloc(1, sizeof *f);
        if (!f) return cn_fail(err, CN_ENOMEM, "out of memory");
        cinch__finetune__init(f);
        to->finetunes[to->n_finetunes++] = f;
        nn_recipe_finetune(&g->net[i].recipe, &fine);
        fine.epochs = (int)epochs;
        f->epochs = epochs;
        f->recipe = plain_json(&fine);
        if (!f->recipe) return cn_fail(err, CN_ENOMEM, "out of memory");
    }
    return 0;
}

static int fill_net(struct cli_submit *s, const struct grid *g, int i, struct cn_error *err)
{
    const struct grid_net *from = &g->net[i];
    Cinch__Net *to = &s->net[i];
    cinch__net__init(to);
    s->nets[i] = to;
    to->name = (char *)from->name;
    for (int w = 0; w < from->n_widths; w++) s->widths[i][w] = (uint32_t)from->width[w];
    to->widths = s->widths[i];
    to->n_widths = (size_t)from->n_widths;
    to->gpus = g->gpus > 1 ? (uint32_t)g->gpus : 0; /* 0 keeps the keys of earlier versions */
    to->recipe = s->recipe[i] = plain_json(&from->recipe);
    if (g->prune && g->total_epochs) {
        int rc = fill_finetunes(s, g, i, err);
        if (rc) return rc;
    } else if (g->prune) {
        struct nn_recipe fine;
        nn_recipe_finetune(&from->recipe, &fine);
        s->finetune[i] = plain_json(&fine);
        if (s->finetune[i]) to->finetune = s->finetune[i];
    }
    if (!s->recipe[i] || (g->prune && !g->total_epochs && !s->finetune[i]))
        return cn_fail(err, CN_ENOMEM, "out of memory");
    if (g->latency) {
        const char *a = g->allocator;
        if (!strcmp(a, "paper")) a = measure_allocator_names[measure_paper_allocator(from->name)];
        s->allocator[i] = (char *)a;
        to->allocators = &s->allocator[i];
        to->n_allocators = 1;
        to->latency_runs = (uint32_t)(g->runs ? g->runs : measure_paper_runs(from->name));
    }
    return 0;
}

static void fill_prune(struct cli_submit *s, const struct grid *g)
{
    Cinch__Prune *p = &s->prune;
    cinch__prune__init(p);
    for (int i = 0; i < g->n_rounds; i++) s->rounds[i] = (uint32_t)g->rounds[i];
    for (int i = 0; i < g->n_keep; i++) s->keep[i] = g->keep[i];
    for (int i = 0; i < g->n_norms; i++) s->norms[i] = (char *)norm_names[g->norm[i]];
    p->rounds = s->rounds;
    p->n_rounds = (size_t)g->n_rounds;
    p->keep = s->keep;
    p->n_keep = (size_t)g->n_keep;
    p->norms = s->norms;
    p->n_norms = (size_t)g->n_norms;
    for (int i = 0; i < g->n_units; i++) s->units[i] = (char *)unit_names[g->unit[i]];
    for (int i = 0; i < g->n_schedules; i++) s->schedules[i] = (char *)stage_names[g->schedule[i]];
    p->units = s->units;
    p->n_units = (size_t)g->n_units;
    p->schedules = s->schedules;
    p->n_schedules = (size_t)g->n_schedules;
    p->total_epochs = (uint32_t)g->total_epochs;
    s->m.prune = p;
}

/* The dataset's fingerprint, and those of its splits. */
static void fill_data(struct cli_submit *s, const struct grid *g, const struct cn_hash *fingerprint)
{
    int n = g->n_splits ? g->n_splits : 1;
    for (int i = 0; i < n; i++) memcpy(s->fingerprint[i], fingerprint[i].b, CN_HASH_BYTES);
    s->m.fingerprint = (ProtobufCBinaryData){CN_HASH_BYTES, s->fingerprint[0]};
    for (int i = 0; i < g->n_splits; i++) {
        Cinch__Split *p = s->splits[i] = &s->split[i];
        cinch__split__init(p);
        p->name = (char *)grid_split_names[g->split[i]];
        p->fingerprint = (ProtobufCBinaryData){CN_HASH_BYTES, s->fingerprint[i]};
    }
    s->m.splits = s->splits;
    s->m.n_splits = (size_t)g->n_splits;
}

static void fill_rest(struct cli_submit *s, const struct grid *g, const struct cli_submit_how *how)
{
    Cinch__Submit *m = &s->m;
    memcpy(s->name, g->name, sizeof s->name);
    m->name = s->name;
    m->priority = g->priority;
    for (size_t i = 0; how->dataset && i + 1 < sizeof s->dataset && how->dataset[i]; i++)
        s->dataset[i] = how->dataset[i];
    m->dataset = s->dataset;
    m->nonce = (ProtobufCBinaryData){sizeof s->nonce, s->nonce};
    if (how->fingerprint) fill_data(s, g, how->fingerprint);
    memcpy(s->seeds, g->seed, (size_t)g->n_seeds * sizeof *s->seeds);
    m->seeds = s->seeds;
    m->n_seeds = (size_t)g->n_seeds;
    for (int i = 0; i < g->n_distill; i++) s->distill[i] = g->distill[i];
    m->distill = s->distill;
    m->n_distill = (size_t)g->n_distill;
    m->measure = g->measure == GRID_FINAL         ? CINCH__MEASURE__FINAL
                 : g->measure == GRID_EVERY_ROUND ? CINCH__MEASURE__EVERY_ROUND
                                                  : CINCH__MEASURE__NEVER;
    cinch__quantize__init(&s->quantize);
    s->quantize.mode = (char *)quantize_names[g->quantize];
    s->quantize.calibration = (uint32_t)g->calibration;
    m->quantize = &s->quantize;
    m->fresh = how->fresh;
    m->dry_run = how->dry_run;
    m->paused = how->paused;
    m->time_limit_s = (uint32_t)how->time_limit_s;
    if (s->text) m->grid = s->text;
}

int cli_submit_create(struct cli_submit **out, const struct grid *g,
                      const struct cli_submit_how *how, struct cn_error *err)
{
    *out = NULL;
    struct cli_submit *s = calloc(1, sizeof *s);
    if (s && how->text) s->text = strdup(how->text);
    if (!s || (how->text && !s->text)) {
        cli_submit_destroy(s);
        return cn_fail(err, CN_ENOMEM, "out of memory");
    }
    cinch__submit__init(&s->m);
    if (getrandom(s->nonce, sizeof s->nonce, 0) != sizeof s->nonce) {
        cli_submit_destroy(s);
        return cn_fail_errno(err, "no random bytes from the system");
    }
    int rc = 0;
    for (int i = 0; !rc && i < g->n_nets; i++) rc = fill_net(s, g, i, err);
    s->m.nets = s->nets;
    s->m.n_nets = (size_t)g->n_nets;
    if (g->prune) fill_prune(s, g);
    fill_rest(s, g, how);
    if (rc) {
        cli_submit_destroy(s);
        return rc;
    }
    *out = s;
    return 0;
}

const Cinch__Submit *cli_submit_message(const struct cli_submit *s)
{
    return &s->m;
}

void cli_submit_destroy(struct cli_submit *s)
{
    if (!s) return;
    for (int i = 0; i < GRID_MAX_NETS; i++) {
        free(s->recipe[i]);
        free(s->finetune[i]);
        for (size_t k = 0; k < s->net[i].n_finetunes; k++) {
            if (s->finetunes[i][k]->recipe != protobuf_c_empty_string)
                free(s->finetunes[i][k]->recipe);
            free(s->finetunes[i][k]);
        }
    }
    free(s->text);
    free(s);
}
