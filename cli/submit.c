/* cli/submit.c - see submit.h. `paper` allocators and run counts are resolved here, so that the
 * coordinator and the job keys see plain numbers only. */
#include "cli/submit.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "cpu/measure/measure.h"

static const char *const norm_names[] = {"L1", "L2", "taylor"};
static const char *const quantize_names[] = {"paper", "full", "best"};

struct cli_submit {
    Cinch__Submit m;
    uint8_t nonce[16], fingerprint[CN_HASH_BYTES];
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
    char *norms[3];
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
    to->recipe = s->recipe[i] = plain_json(&from->recipe);
    if (g->prune) {
        struct nn_recipe fine;
        nn_recipe_finetune(&from->recipe, &fine);
        s->finetune[i] = plain_json(&fine);
        if (s->finetune[i]) to->finetune = s->finetune[i];
    }
    if (!s->recipe[i] || (g->prune && !s->finetune[i]))
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
    s->m.prune = p;
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
    if (how->fingerprint) {
        memcpy(s->fingerprint, how->fingerprint->b, sizeof s->fingerprint);
        m->fingerprint = (ProtobufCBinaryData){sizeof s->fingerprint, s->fingerprint};
    }
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
    }
    free(s->text);
    free(s);
}
