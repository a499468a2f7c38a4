/* coordinator/expand.c - see expand.h. */
#include "coordinator/expand.h"

#include <stdlib.h>
#include <string.h>

/* The grid being expanded. */
struct expansion {
    struct ex_grid *g;
    const Cinch__Submit *s;
    const Cinch__Net *net;
    uint64_t seed;
    uint32_t nonce;
    uint32_t train_base, prune_base, eval_base; /* of the net at hand */
    struct cn_error *err;
};

static int nomem(struct cn_error *err)
{
    return cn_fail(err, CN_ENOMEM, "expanding the grid: out of memory");
}

static int add_base(struct expansion *x, const Cinch__JobBase *b, uint32_t *index)
{
    struct ex_grid *g = x->g;
    struct ex_base *grown = realloc(g->base, (g->n_bases + 1) * sizeof *grown);
    if (!grown) return nomem(x->err);
    g->base = grown;
    struct ex_base *e = &g->base[g->n_bases];
    memset(e, 0, sizeof *e);
    int rc = pr_base_hash(b, &e->hash, x->err);
    if (rc) return rc;
    for (uint32_t i = 0; i < g->n_bases; i++) /* the same net twice in a list */
        if (!memcmp(&g->base[i].hash, &e->hash, sizeof e->hash)) {
            *index = i;
            return 0;
        }
    e->n_body = (uint32_t)cinch__job_base__get_packed_size(b);
    e->body = malloc(e->n_body ? e->n_body : 1);
    if (!e->body) return nomem(x->err);
    cinch__job_base__pack(b, e->body);
    e->gpu_bytes = b->gpu_bytes;
    e->allocators = b->allocators;
    e->n_allocators = (uint32_t)b->n_allocators;
    *index = g->n_bases++;
    return 0;
}

static char *or_else(char *given, const char *otherwise)
{
    return *given ? given : (char *)otherwise;
}

static int net_bases(struct expansion *x)
{
    const Cinch__Submit *s = x->s;
    const Cinch__Net *net = x->net;
    Cinch__JobBase b = CINCH__JOB_BASE__INIT;
    b.fingerprint = s->fingerprint;
    b.net = net->name;
    b.n_widths = net->n_widths;
    b.widths = net->widths;
    Cinch__JobBase train = b, prune = b, eval = b;
    train.recipe = net->recipe;
    train.gpu_bytes = prune.gpu_bytes = net->gpu_bytes;
    int rc = add_base(x, &train, &x->train_base);
    if (!rc && s->prune) {
        prune.recipe = net->finetune;
        prune.prune_schedule = or_else(s->prune->schedule, "geometric");
        prune.prune_unit = or_else(s->prune->unit, "structure");
        prune.prune_options = s->prune->options;
        rc = add_base(x, &prune, &x->prune_base);
    }
    if (!rc && s->measure != CINCH__MEASURE__NEVER) {
        eval.quantize_mode = (char *)"paper";
        eval.calibration = 128;
        if (s->quantize) {
            eval.quantize_mode = or_else(s->quantize->mode, "paper");
            if (s->quantize->calibration) eval.calibration = s->quantize->calibration;
            eval.quantize_options = s->quantize->options;
        }
        eval.latency_runs = net->latency_runs;
        if (net->latency_runs) {
            eval.n_allocators = net->n_allocators;
            eval.allocators = net->allocators;
        }
        rc = add_base(x, &eval, &x->eval_base);
    }
    return rc;
}

static uint32_t *find(struct ex_grid *g, const struct cn_hash *key)
{
    uint64_t h;
    memcpy(&h, key->b, sizeof h);
    uint32_t at = (uint32_t)h & (g->table_size - 1);
    while (g->table[at] && memcmp(&g->job[g->table[at] - 1].key, key, sizeof *key))
        at = (at + 1) & (g->table_size - 1);
    return &g->table[at];
}

static int room(struct expansion *x)
{
    struct ex_grid *g = x->g;
    if (g->n >= PR_MAX_JOBS)
        return cn_fail(x->err, CN_ELIMIT, "the grid has more than %u jobs; split it", PR_MAX_JOBS);
    if (g->n == g->cap) {
        uint32_t cap = g->cap ? g->cap * 2 : 256;
        struct ex_job *grown = realloc(g->job, cap * sizeof *grown);
        if (!grown) return nomem(x->err);
        g->job = grown;
        g->cap = cap;
    }
    if (g->n * 2 < g->table_size) return 0;
    uint32_t size = g->table_size ? g->table_size * 2 : 1024;
    free(g->table);
    g->table = calloc(size, sizeof *g->table);
    g->table_size = size;
    if (!g->table) return nomem(x->err);
    for (uint32_t i = 0; i < g->n; i++) *find(g, &g->job[i].key) = i + 1;
    return 0;
}

/* Adds the job unless its like is there; *id is its index + 1. */
static int add(struct expansion *x, struct ex_job j, uint32_t *id)
{
    int rc = room(x);
    if (rc) return rc;
    struct ex_grid *g = x->g;
    j.seed = x->seed;
    struct pr_spec_key k = {.engine = PR_ENGINE,
                            .kind = j.kind,
                            .distilled = j.distilled,
                            .seed = j.seed,
                            .rounds = j.rounds,
                            .round = j.round,
                            .nonce = x->nonce,
                            .keep = j.keep,
                            .norm = j.norm};
    for (int i = 0; i < PR_MAX_PARENTS; i++)
        if (j.parent[i]) k.parent[k.n_parents++] = &g->job[j.parent[i] - 1].key;
    pr_spec_key(&k, &g->base[j.base].hash, &j.key);
    uint32_t *slot = find(g, &j.key);
    if (!*slot) {
        g->job[g->n++] = j;
        *slot = g->n;
        g->cells += j.kind == CINCH__JOB_KIND__EVALUATE;
    }
    if (id) *id = *slot;
    return 0;
}

/* The evaluation of what `of` made. */
static int evaluate(struct expansion *x, uint32_t of)
{
    if (x->s->measure == CINCH__MEASURE__NEVER) return 0;
    struct ex_job j = x->g->job[of - 1];
    j.kind = CINCH__JOB_KIND__EVALUATE;
    j.base = x->eval_base;
    j.parent[0] = of;
    j.parent[1] = 0;
    return add(x, j, NULL);
}

/* One variant: its rounds one after another from `start`. */
static int variant(struct expansion *x, uint32_t start, uint32_t teacher, uint32_t rounds,
                   double keep, const char *norm)
{
    uint32_t last = start;
    for (uint32_t k = 1; k <= rounds; k++) {
        struct ex_job j = {.kind = CINCH__JOB_KIND__PRUNE,
                           .base = x->prune_base,
                           .distilled = teacher != 0,
                           .rounds = rounds,
                           .round = k,
                           .keep = keep,
                           .norm = norm,
                           .parent = {last, teacher}};
        int rc = add(x, j, &last);
        if (!rc && (k == rounds || x->s->measure == CINCH__MEASURE__EVERY_ROUND))
            rc = evaluate(x, last);
        if (rc) return rc;
    }
    return 0;
}

static int variants(struct expansion *x, uint32_t start, uint32_t teacher)
{
    const Cinch__Prune *p = x->s->prune;
    if (!p) return 0;
    for (size_t r = 0; r < p->n_rounds; r++)
        for (size_t k = 0; k < p->n_keep; k++)
            for (size_t n = 0; n < p->n_norms; n++) {
                int rc = variant(x, start, teacher, p->rounds[r], p->keep[k], p->norms[n]);
                if (rc) return rc;
            }
    return 0;
}

static int net_and_seed(struct expansion *x)
{
    static const protobuf_c_boolean plain[] = {0};
    const Cinch__Submit *s = x->s;
    size_t n = s->n_distill ? s->n_distill : 1;
    const protobuf_c_boolean *distill = s->n_distill ? s->distill : plain;
    struct ex_job j = {
        .kind = CINCH__JOB_KIND__TRAIN, .base = x->train_base, .keep = 1, .norm = ""};
    uint32_t train, model;
    int rc = add(x, j, &train);
    for (size_t i = 0; i < n && !rc; i++) {
        model = train;
        if (distill[i]) {
            struct ex_job d = {.kind = CINCH__JOB_KIND__DISTILL,
                               .base = x->train_base,
                               .distilled = 1,
                               .keep = 1,
                               .norm = "",
                               .parent = {train}};
            rc = add(x, d, &model);
        }
        if (!rc) rc = evaluate(x, model);
        if (!rc) rc = variants(x, model, distill[i] ? train : 0);
    }
    return rc;
}

int ex_expand(struct ex_grid *g, const Cinch__Submit *s, uint32_t nonce, struct cn_error *err)
{
    memset(g, 0, sizeof *g);
    struct expansion x = {.g = g, .s = s, .nonce = nonce, .err = err};
    int rc = 0;
    for (size_t i = 0; i < s->n_nets && !rc; i++) {
        x.net = s->nets[i];
        rc = net_bases(&x);
        for (size_t k = 0; k < s->n_seeds && !rc; k++) {
            x.seed = s->seeds[k];
            rc = net_and_seed(&x);
        }
    }
    if (rc) ex_clear(g);
    return rc;
}

void ex_clear(struct ex_grid *g)
{
    for (uint32_t i = 0; i < g->n_bases; i++) free(g->base[i].body);
    free(g->base);
    free(g->job);
    free(g->table);
    memset(g, 0, sizeof *g);
}
