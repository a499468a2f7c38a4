/* coordinator/expand.c - see expand.h. */
#include "coordinator/expand.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* What the rounds of pruning share that get equally many epochs of one unit and schedule. */
struct prune_base {
    const char *unit, *schedule; /* borrowed from the Submit */
    uint32_t epochs;             /* 0: the recipe's own */
    uint32_t base;
};

/* The grid being expanded. */
struct expansion {
    struct ex_grid *g;
    const Cinch__Submit *s;
    const Cinch__Split *split; /* NULL: the Submit's dataset as it is */
    const Cinch__Net *net;
    uint64_t seed;
    uint32_t nonce;
    uint32_t train_base, eval_base; /* of the split and net at hand */
    struct prune_base *prune;       /* of them, as needed so far */
    uint32_t n_prune, cap_prune;
    uint64_t tried;    /* jobs named, known ones too */
    size_t base_bytes; /* of all bases' bodies */
    const atomic_bool *stop;
    struct cn_error *err;
};

/* One way of pruning. */
struct way {
    const char *unit, *schedule, *norm;
    uint32_t rounds;
    double keep;
};

static int nomem(struct cn_error *err)
{
    return cn_fail(err, CN_ENOMEM, "expanding the grid: out of memory");
}

/* Few bytes can name the same recipe in many combinations. */
static int room_for_base(struct expansion *x, const Cinch__JobBase *b)
{
    x->base_bytes += cinch__job_base__get_packed_size(b);
    if (x->g->n_bases >= PR_MAX_BASES || x->base_bytes > PR_MAX_UNPACKED)
        return cn_fail(x->err, CN_ELIMIT,
                       "the grid combines too many nets, recipes and ways of pruning; split it");
    return 0;
}

static int add_base(struct expansion *x, const Cinch__JobBase *b, uint32_t *index)
{
    struct ex_grid *g = x->g;
    int rc = room_for_base(x, b);
    if (rc) return rc;
    struct ex_base *grown = realloc(g->base, (g->n_bases + 1) * sizeof *grown);
    if (!grown) return nomem(x->err);
    g->base = grown;
    struct ex_base *e = &g->base[g->n_bases];
    memset(e, 0, sizeof *e);
    rc = pr_base_hash(b, &e->hash, x->err);
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
    if (b->fingerprint.len == sizeof e->fingerprint.b) /* a dry count may have none */
        memcpy(e->fingerprint.b, b->fingerprint.data, sizeof e->fingerprint.b);
    e->gpus = b->gpus;
    e->allocators = b->allocators;
    e->n_allocators = (uint32_t)b->n_allocators;
    *index = g->n_bases++;
    return 0;
}

static char *or_else(char *given, const char *otherwise)
{
    return *given ? given : (char *)otherwise;
}

/* What all jobs of the split and net at hand share. */
static Cinch__JobBase common_base(const struct expansion *x)
{
    Cinch__JobBase b = CINCH__JOB_BASE__INIT;
    b.fingerprint = x->split ? x->split->fingerprint : x->s->fingerprint;
    if (x->split) b.split = x->split->name;
    b.net = x->net->name;
    b.n_widths = x->net->n_widths;
    b.widths = x->net->widths;
    return b;
}

static int add_prune_base(struct expansion *x, const struct prune_base *want, uint32_t *index)
{
    Cinch__JobBase b = common_base(x);
    b.gpu_bytes = x->net->gpu_bytes;
    b.gpus = x->net->gpus;
    b.recipe = want->epochs ? pr_finetune(x->net, want->epochs) : x->net->finetune;
    b.prune_schedule = (char *)want->schedule;
    b.prune_unit = (char *)want->unit;
    b.prune_options = x->s->prune->options;
    return b.recipe ? add_base(x, &b, index)
                    : cn_fail(x->err, CN_EINVALID, "no recipe for %u epochs", want->epochs);
}

/* The base of round k of `w`. */
static int prune_base(struct expansion *x, const struct way *w, uint32_t k, uint32_t *index)
{
    uint32_t total = x->s->prune->total_epochs;
    struct prune_base want = {w->unit, w->schedule,
                              total ? pr_round_epochs(total, w->rounds, k) : 0, 0};
    for (uint32_t i = 0; i < x->n_prune; i++) {
        const struct prune_base *p = &x->prune[i];
        if (p->epochs != want.epochs || strcmp(p->unit, want.unit) ||
            strcmp(p->schedule, want.schedule))
            continue;
        *index = p->base;
        return 0;
    }
    if (x->n_prune == x->cap_prune) {
        uint32_t cap = x->cap_prune ? x->cap_prune * 2 : 16;
        struct prune_base *grown = realloc(x->prune, cap * sizeof *grown);
        if (!grown) return nomem(x->err);
        x->prune = grown;
        x->cap_prune = cap;
    }
    int rc = add_prune_base(x, &want, &want.base);
    if (rc) return rc;
    x->prune[x->n_prune++] = want;
    *index = want.base;
    return 0;
}

static int net_bases(struct expansion *x)
{
    const Cinch__Submit *s = x->s;
    const Cinch__Net *net = x->net;
    Cinch__JobBase train = common_base(x), eval = train;
    train.recipe = net->recipe;
    train.gpu_bytes = net->gpu_bytes;
    train.gpus = net->gpus;
    x->n_prune = 0;
    int rc = add_base(x, &train, &x->train_base);
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
    if (x->stop && atomic_load_explicit(x->stop, memory_order_relaxed))
        return cn_fail(x->err, CN_EINTERRUPTED, "the expansion was stopped");
    if (x->tried++ >= 4ull * PR_MAX_JOBS)
        return cn_fail(x->err, CN_ELIMIT, "the grid names the same jobs again and again");
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
    j.seed = j.kind == CINCH__JOB_KIND__DISTILL ? pr_student_seed(x->seed) : x->seed;
    struct pr_spec_key k = {.engine = PR_BITS,
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
static int variant(struct expansion *x, uint32_t start, uint32_t teacher, const struct way *w)
{
    uint32_t last = start;
    for (uint32_t k = 1; k <= w->rounds; k++) {
        struct ex_job j = {.kind = CINCH__JOB_KIND__PRUNE,
                           .distilled = teacher != 0,
                           .rounds = w->rounds,
                           .round = k,
                           .keep = w->keep,
                           .norm = w->norm,
                           .parent = {last, teacher}};
        int rc = prune_base(x, w, k, &j.base);
        if (!rc) rc = add(x, j, &last);
        if (!rc && (k == w->rounds || x->s->measure == CINCH__MEASURE__EVERY_ROUND))
            rc = evaluate(x, last);
        if (rc) return rc;
    }
    return 0;
}

/* Every round count, fraction and norm of one unit and schedule. All norms order single weights
 * alike: there they are one variant. */
static int variants_of(struct expansion *x, uint32_t start, uint32_t teacher, struct way w)
{
    const Cinch__Prune *p = x->s->prune;
    bool sizes = !strcmp(w.unit, "weight");
    for (size_t r = 0; r < p->n_rounds; r++)
        for (size_t k = 0; k < p->n_keep; k++)
            for (size_t n = 0; n < (sizes ? 1 : p->n_norms); n++) {
                w.rounds = p->rounds[r];
                w.keep = p->keep[k];
                w.norm = sizes ? "L1" : p->norms[n];
                int rc = variant(x, start, teacher, &w);
                if (rc) return rc;
            }
    return 0;
}

/* An axis of names, or the one name that stands for none. */
static const char *named(char **list, size_t n, size_t i, const char *otherwise)
{
    return n && *list[i] ? list[i] : otherwise;
}

static int variants(struct expansion *x, uint32_t start, uint32_t teacher)
{
    const Cinch__Prune *p = x->s->prune;
    if (!p) return 0;
    int rc = 0;
    for (size_t u = 0; (u < p->n_units || u == 0) && !rc; u++)
        for (size_t s = 0; (s < p->n_schedules || s == 0) && !rc; s++) {
            struct way w = {.unit = named(p->units, p->n_units, u, "structure"),
                            .schedule = named(p->schedules, p->n_schedules, s, "geometric")};
            rc = variants_of(x, start, teacher, w);
        }
    return rc;
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

static int nets(struct expansion *x)
{
    const Cinch__Submit *s = x->s;
    int rc = 0;
    for (size_t i = 0; i < s->n_nets && !rc; i++) {
        x->net = s->nets[i];
        rc = net_bases(x);
        for (size_t k = 0; k < s->n_seeds && !rc; k++) {
            x->seed = s->seeds[k];
            rc = net_and_seed(x);
        }
    }
    return rc;
}

int ex_expand(struct ex_grid *g, const Cinch__Submit *s, uint32_t nonce, struct cn_error *err)
{
    return ex_expand_until(g, s, nonce, NULL, err);
}

int ex_expand_until(struct ex_grid *g, const Cinch__Submit *s, uint32_t nonce,
                    const atomic_bool *stop, struct cn_error *err)
{
    memset(g, 0, sizeof *g);
    struct expansion x = {.g = g, .s = s, .nonce = nonce, .stop = stop, .err = err};
    int rc = s->n_splits ? 0 : nets(&x);
    for (size_t i = 0; i < s->n_splits && !rc; i++) {
        x.split = s->splits[i];
        rc = nets(&x);
    }
    free(x.prune);
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
