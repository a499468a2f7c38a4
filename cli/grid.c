/* cli/grid.c - the grid file.
 *
 * A YAML mapping; lists multiply, and where a list may stand so may a single value. Every key has a
 * default but `nets`:
 *
 *   name: study-a-small        the file's name without its ending
 *   data: ptbxl                what --data names, else ptbxl
 *   split: [random, patient]   how beats are parted: each beat by chance, or by patients; random
 *   unlabelled: keep           keep | drop records of PTB-XL without a diagnostic label; keep
 *   nets: [cnn, rnn]           a name, or {net: cnn, widths: [16, 32, 48, 16]}
 *   seeds: 3                   a count (0, 1, 2), or a list; 1
 *   recipe: paper              paper | cinch | a YAML file beside the grid | a mapping; paper
 *   epochs: 60                 the recipe's
 *   distill: [false, true]     false
 *   prune:                     absent, or none: nothing is pruned
 *     rounds: [1, 5, 10]       1
 *     keep: [0.75, 0.5]        fraction of structures or weights left, in (0, 1]; 0.5
 *     norm: [L1, L2]           also taylor; L1. Of structures: weights go by their size
 *     unit: [structure, weight]               what is removed, or held at zero; structure
 *     schedule: [linear, geometric]           also sensitivity; geometric
 *     epochs: 20               the recipe's fine-tuning epochs, after every round
 *     total_epochs: 20         instead: so many in all, divided over the rounds, what remains to
 *                              the first ones
 *   measure: final             final | every-round | none
 *   quantize: {mode: paper, calibration: 128}      or just the mode: paper | full | best
 *   latency: {allocator: paper, runs: paper}       or none
 *   priority: 0                -100 .. 100, larger first
 *   gpus: 1                    cards that train one job together, 1 .. 8
 *
 * Nothing is guessed: an unknown key, a wrong type or an impossible value is an error with line and
 * column, and a value that stands twice in a list is one too (it would only repeat a cell).
 */
#include "cli/grid.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/yaml.h"
#include "proto/check.h"
#include "proto/limits.h"

#define MAX_GRID_BYTES (1u << 20)
#define LEAST_KEEP_STEP                                                                            \
    1e-5 /* fractions closer than this are one: reports tell them apart by five digits */

struct reader {
    struct grid *g;
    const char *path; /* of the grid, to find a recipe beside it */
    const struct cn_yaml *recipe;
    int epochs, prune_epochs;                               /* -1: the recipe's */
    const struct cn_yaml *split, *unlabelled, *norm, *unit; /* where they stand, or NULL */
    struct cn_error *err;
};

/* ---------------------------------------------------------------------------------------- lists */

/* A list, or a single value as a list of one. */
static int list_size(const struct cn_yaml *v)
{
    return v->kind == CN_YAML_LIST ? v->n : 1;
}

static const struct cn_yaml *list_item(const struct cn_yaml *v, int i)
{
    return v->kind == CN_YAML_LIST ? v->item[i] : v;
}

static int check_list(const struct cn_yaml *v, const char *what, int max, struct cn_error *err)
{
    if (v->kind == CN_YAML_LIST && v->n == 0)
        return cn_yaml_fail(v, err, "%s is an empty list: nothing would run", what);
    if (list_size(v) > max)
        return cn_yaml_fail(v, err, "%s has %d entries; at most %d", what, list_size(v), max);
    return 0;
}

static int twice(const struct cn_yaml *at, const char *what, struct cn_error *err)
{
    return cn_yaml_fail(at, err, "%s: '%s' stands here twice", what, at->text ? at->text : "?");
}

static int int_list(const struct cn_yaml *v, const char *what, int lo, int hi, int *out, int *n,
                    struct cn_error *err)
{
    int rc = check_list(v, what, GRID_MAX_LIST, err);
    *n = 0;
    for (int i = 0; !rc && i < list_size(v); i++) {
        int64_t x = 0;
        rc = cn_yaml_int(list_item(v, i), what, lo, hi, &x, err);
        for (int j = 0; !rc && j < *n; j++)
            if (out[j] == x) rc = twice(list_item(v, i), what, err);
        if (!rc) out[(*n)++] = (int)x;
    }
    return rc;
}

/* Distinct words of `names`, as their indexes; out has room for all of them. */
static int enum_list(const struct cn_yaml *v, const char *what, const char *const *names, int *out,
                     int *n, struct cn_error *err)
{
    int max = 0;
    while (names[max]) max++;
    int rc = check_list(v, what, max, err);
    *n = 0;
    for (int i = 0; !rc && i < list_size(v); i++) {
        int k = 0;
        rc = cn_yaml_enum(list_item(v, i), what, names, &k, err);
        for (int j = 0; !rc && j < *n; j++)
            if (out[j] == k) rc = twice(list_item(v, i), what, err);
        if (!rc) out[(*n)++] = k;
    }
    return rc;
}

/* ---------------------------------------------------------------------------------- single keys */

static int read_name(struct reader *r, const struct cn_yaml *v)
{
    const char *s;
    int rc = cn_yaml_str(v, "name", &s, r->err);
    if (rc) return rc;
    if (!*s || strlen(s) >= sizeof r->g->name)
        return cn_yaml_fail(v, r->err, "name must have 1 to %zu characters", sizeof r->g->name - 1);
    if (!pr_name_valid(s))
        return cn_yaml_fail(v, r->err,
                            "name may hold letters, digits and ._-+@: only, and starts with a "
                            "letter or digit");
    snprintf(r->g->name, sizeof r->g->name, "%s", s);
    return 0;
}

static int read_data(struct reader *r, const struct cn_yaml *v)
{
    const char *s;
    int rc = cn_yaml_str(v, "data", &s, r->err);
    if (rc) return rc;
    if (!*s || strlen(s) >= sizeof r->g->data || strchr(s, '/'))
        return cn_yaml_fail(v, r->err,
                            "data is a dataset's name as `cinch data list` shows it; a folder "
                            "goes to --data");
    snprintf(r->g->data, sizeof r->g->data, "%s", s);
    return 0;
}

const char *const grid_split_names[] = {"random", "patient", NULL};

static int read_split(struct reader *r, const struct cn_yaml *v)
{
    int k[2], rc = enum_list(v, "split", grid_split_names, k, &r->g->n_splits, r->err);
    for (int i = 0; !rc && i < r->g->n_splits; i++) r->g->split[i] = (enum ecg_split)k[i];
    r->split = v;
    return rc;
}

static int read_unlabelled(struct reader *r, const struct cn_yaml *v)
{
    static const char *const names[] = {"keep", "drop", NULL};
    int k = 0, rc = cn_yaml_enum(v, "unlabelled", names, &k, r->err);
    r->g->drop_unlabelled = k == 1;
    r->unlabelled = v;
    return rc;
}

static int read_seeds(struct reader *r, const struct cn_yaml *v)
{
    struct grid *g = r->g;
    int64_t x = 0;
    int rc;
    if (v->kind != CN_YAML_LIST) {
        rc = cn_yaml_int(v, "seeds", 1, GRID_MAX_SEEDS, &x, r->err);
        g->n_seeds = (int)x;
        for (int i = 0; i < g->n_seeds; i++) g->seed[i] = (uint64_t)i;
        return rc;
    }
    rc = check_list(v, "seeds", GRID_MAX_SEEDS, r->err);
    g->n_seeds = 0;
    for (int i = 0; !rc && i < v->n; i++) {
        rc = cn_yaml_int(v->item[i], "seeds", 0, INT64_C(1) << 53, &x, r->err);
        for (int j = 0; !rc && j < g->n_seeds; j++)
            if (g->seed[j] == (uint64_t)x) rc = twice(v->item[i], "seeds", r->err);
        if (!rc) g->seed[g->n_seeds++] = (uint64_t)x;
    }
    return rc;
}

static int read_recipe(struct reader *r, const struct cn_yaml *v)
{
    if (v->kind == CN_YAML_LIST)
        return cn_yaml_fail(v, r->err,
                            "recipe is paper, cinch, a YAML file or a mapping; one recipe a grid");
    r->recipe = v; /* resolved per net, once the nets are known */
    return 0;
}

static int read_epochs(struct reader *r, const struct cn_yaml *v)
{
    int64_t x = 0;
    int rc = cn_yaml_int(v, "epochs", 1, 100000, &x, r->err);
    r->epochs = (int)x;
    return rc;
}

static int read_distill(struct reader *r, const struct cn_yaml *v)
{
    struct grid *g = r->g;
    int rc = check_list(v, "distill", 2, r->err);
    g->n_distill = 0;
    for (int i = 0; !rc && i < list_size(v); i++) {
        bool b = false;
        rc = cn_yaml_bool(list_item(v, i), "distill", &b, r->err);
        if (!rc && g->n_distill && g->distill[0] == b)
            rc = twice(list_item(v, i), "distill", r->err);
        if (!rc) g->distill[g->n_distill++] = b;
    }
    return rc;
}

/* --------------------------------------------------------------------------------------- prune */

static int read_keep(struct reader *r, const struct cn_yaml *v)
{
    struct grid *g = r->g;
    int rc = check_list(v, "keep", GRID_MAX_LIST, r->err);
    g->n_keep = 0;
    for (int i = 0; !rc && i < list_size(v); i++) {
        const struct cn_yaml *at = list_item(v, i);
        double x = 0;
        rc = cn_yaml_float(at, "keep", -HUGE_VAL, HUGE_VAL, &x, r->err);
        if (!rc && !(x > 0 && x <= 1))
            rc = cn_yaml_fail(at, r->err,
                              "keep is the fraction of structures left, in (0, 1]; %s is outside",
                              at->text);
        for (int j = 0; !rc && j < g->n_keep; j++)
            if (fabs(g->keep[j] - x) < LEAST_KEEP_STEP) rc = twice(at, "keep", r->err);
        if (!rc) g->keep[g->n_keep++] = x;
    }
    return rc;
}

static int read_norm(struct reader *r, const struct cn_yaml *v)
{
    static const char *const names[] = {"L1", "L2", "taylor", NULL};
    int k[3], rc = enum_list(v, "norm", names, k, &r->g->n_norms, r->err);
    for (int i = 0; !rc && i < r->g->n_norms; i++) r->g->norm[i] = (enum nn_norm)k[i];
    r->norm = v;
    return rc;
}

static int read_unit(struct reader *r, const struct cn_yaml *v)
{
    static const char *const names[] = {"structure", "weight", NULL};
    int k[2], rc = enum_list(v, "unit", names, k, &r->g->n_units, r->err);
    for (int i = 0; !rc && i < r->g->n_units; i++) r->g->unit[i] = (enum grid_unit)k[i];
    r->unit = v;
    return rc;
}

static int read_schedule(struct reader *r, const struct cn_yaml *v)
{
    static const char *const names[] = {"geometric", "linear", "sensitivity", NULL};
    int k[3], rc = enum_list(v, "schedule", names, k, &r->g->n_schedules, r->err);
    for (int i = 0; !rc && i < r->g->n_schedules; i++) r->g->schedule[i] = (enum nn_stages)k[i];
    return rc;
}

/* Fine-tuning: so many epochs after every round, or so many in all. */
static int read_prune_epochs(struct reader *r, const struct cn_yaml *v)
{
    const struct cn_yaml *each = cn_yaml_get(v, "epochs"), *all = cn_yaml_get(v, "total_epochs");
    struct grid *g = r->g;
    int64_t n = 0;
    int rc = 0;
    if (each && all)
        return cn_yaml_fail(all, r->err,
                            "epochs are of every round, total_epochs of all of them: give one");
    if (each) {
        rc = cn_yaml_int(each, "prune epochs", 0, 100000, &n, r->err);
        r->prune_epochs = (int)n;
    }
    if (!rc && all) {
        rc = cn_yaml_int(all, "total_epochs", 1, 100000, &n, r->err);
        g->total_epochs = (int)n;
    }
    for (int i = 0; !rc && all && i < g->n_rounds; i++)
        if (g->rounds[i] > n)
            rc = cn_yaml_fail(
                all, r->err,
                "total_epochs: %lld epochs do not suffice for %d rounds, of which each "
                "needs one",
                (long long)n, g->rounds[i]);
    return rc;
}

/* Weights go by their size, which every norm orders alike: several norms would be one variant. */
static int check_norm(struct reader *r)
{
    const struct grid *g = r->g;
    if (!r->norm || g->n_units != 1 || g->unit[0] != GRID_WEIGHT) return 0;
    if (g->n_norms == 1 && g->norm[0] == NN_L1) return 0;
    return cn_yaml_fail(r->norm, r->err,
                        "norm ranks structures; `unit: weight` goes by the size of each weight, so "
                        "leave it out");
}

/* True for `none`, `null`, `~` and nothing at all. */
static bool is_none(const struct cn_yaml *v)
{
    return v->kind == CN_YAML_SCALAR && !v->quoted &&
           (!*v->text || !strcmp(v->text, "none") || !strcmp(v->text, "null") ||
            !strcmp(v->text, "~"));
}

static int read_prune(struct reader *r, const struct cn_yaml *v)
{
    static const char *const known[] = {"rounds",   "keep",   "norm",         "unit",
                                        "schedule", "epochs", "total_epochs", NULL};
    struct grid *g = r->g;
    if (is_none(v)) return 0;
    if (v->kind != CN_YAML_MAP)
        return cn_yaml_fail(v, r->err,
                            "prune is a mapping of rounds, keep, norm, unit, schedule and epochs");
    int rc = cn_yaml_only(v, known, r->err);
    if (rc) return rc;
    g->prune = true;
    const struct cn_yaml *x;
    if ((x = cn_yaml_get(v, "rounds")))
        rc = int_list(x, "rounds", 1, 100, g->rounds, &g->n_rounds, r->err);
    if (!rc && (x = cn_yaml_get(v, "keep"))) rc = read_keep(r, x);
    if (!rc && (x = cn_yaml_get(v, "norm"))) rc = read_norm(r, x);
    if (!rc && (x = cn_yaml_get(v, "unit"))) rc = read_unit(r, x);
    if (!rc && (x = cn_yaml_get(v, "schedule"))) rc = read_schedule(r, x);
    if (!rc) rc = read_prune_epochs(r, v);
    return rc ? rc : check_norm(r);
}

/* ------------------------------------------------------------------- measure, quantize, latency */

static int read_measure(struct reader *r, const struct cn_yaml *v)
{
    static const char *const names[] = {"final", "every-round", "none", NULL};
    int k = 0, rc = cn_yaml_enum(v, "measure", names, &k, r->err);
    r->g->measure = (enum grid_measure)k;
    return rc;
}

static int read_quantize(struct reader *r, const struct cn_yaml *v)
{
    static const char *const known[] = {"mode", "calibration", NULL};
    static const char *const modes[] = {"paper", "full", "best", NULL};
    struct grid *g = r->g;
    const struct cn_yaml *mode = v, *n = NULL;
    int k = 0, rc = 0;
    if (v->kind == CN_YAML_MAP) {
        rc = cn_yaml_only(v, known, r->err);
        mode = cn_yaml_get(v, "mode");
        n = cn_yaml_get(v, "calibration");
    }
    if (!rc && mode) {
        rc = cn_yaml_enum(mode, "quantize mode", modes, &k, r->err);
        g->quantize = (enum grid_quantize)k;
    }
    if (!rc && n) {
        int64_t x = 0;
        rc = cn_yaml_int(n, "calibration", 1, 100000, &x, r->err);
        g->calibration = (int)x;
    }
    return rc;
}

static int read_latency(struct reader *r, const struct cn_yaml *v)
{
    static const char *const known[] = {"allocator", "runs", NULL};
    static const char *const names[] = {"paper", "glibc", "jemalloc", "tcmalloc", NULL};
    struct grid *g = r->g;
    if (is_none(v)) {
        g->latency = false;
        return 0;
    }
    if (v->kind != CN_YAML_MAP)
        return cn_yaml_fail(v, r->err, "latency is a mapping of allocator and runs, or none");
    int rc = cn_yaml_only(v, known, r->err);
    const struct cn_yaml *x = cn_yaml_get(v, "allocator");
    if (!rc && x) {
        int k = 0;
        rc = cn_yaml_enum(x, "allocator", names, &k, r->err);
        snprintf(g->allocator, sizeof g->allocator, "%s", names[k]);
    }
    x = cn_yaml_get(v, "runs");
    if (!rc && x && !(x->kind == CN_YAML_SCALAR && !strcmp(x->text, "paper"))) {
        int64_t n = 0;
        rc = cn_yaml_int(x, "latency runs (a count, or paper)", 1, 10000000, &n, r->err);
        g->runs = (int)n;
    }
    return rc;
}

static int read_priority(struct reader *r, const struct cn_yaml *v)
{
    int64_t x = 0;
    int rc = cn_yaml_int(v, "priority", -100, 100, &x, r->err);
    r->g->priority = (int)x;
    return rc;
}

static int read_gpus(struct reader *r, const struct cn_yaml *v)
{
    int64_t x = 1;
    int rc = cn_yaml_int(v, "gpus", 1, PR_MAX_GPUS, &x, r->err);
    r->g->gpus = (int)x;
    return rc;
}

/* ---------------------------------------------------------------------------------------- nets */

static int check_net(const struct grid_net *n, const struct cn_yaml *at, struct cn_error *err)
{
    struct nn_net *net = NULL;
    struct nn_shape shape = {0};
    struct cn_error why = {0};
    int rc = nn_net_build(&net, n->name, n->n_widths ? n->width : NULL, n->n_widths, shape, &why);
    nn_net_destroy(net);
    return rc ? cn_yaml_fail(at, err, "%s", why.text) : 0;
}

static int same_net(const struct grid_net *a, const struct grid_net *b)
{
    return !strcmp(a->name, b->name) && a->n_widths == b->n_widths &&
           !memcmp(a->width, b->width, (size_t)a->n_widths * sizeof *a->width);
}

static int read_widths(struct reader *r, const struct cn_yaml *v, struct grid_net *net)
{
    if (v->kind != CN_YAML_LIST)
        return cn_yaml_fail(v, r->err, "widths is a list such as [16, 32, 48, 16]");
    if (v->n > NN_MAX_WIDTHS) return cn_yaml_fail(v, r->err, "more than %d widths", NN_MAX_WIDTHS);
    int rc = 0;
    for (int i = 0; !rc && i < v->n; i++) {
        int64_t x = 0;
        rc = cn_yaml_int(v->item[i], "widths", 1, 4096, &x, r->err);
        net->width[net->n_widths++] = (int)x;
    }
    return rc;
}

static int read_net(struct reader *r, const struct cn_yaml *v, struct grid_net *net)
{
    static const char *const known[] = {"net", "widths", NULL};
    const struct cn_yaml *name = v, *widths = NULL;
    int k = 0, rc = 0;
    memset(net, 0, sizeof *net);
    if (v->kind == CN_YAML_MAP) {
        if ((rc = cn_yaml_only(v, known, r->err))) return rc;
        name = cn_yaml_get(v, "net");
        widths = cn_yaml_get(v, "widths");
        if (!name) return cn_yaml_fail(v, r->err, "a net in braces needs its name: {net: cnn}");
    } else if (v->kind == CN_YAML_LIST) {
        return cn_yaml_fail(v, r->err, "a net is a name or {net: NAME, widths: [..]}");
    }
    if ((rc = cn_yaml_enum(name, "net", nn_net_names(), &k, r->err))) return rc;
    snprintf(net->name, sizeof net->name, "%s", nn_net_names()[k]);
    if (widths) rc = read_widths(r, widths, net);
    return rc ? rc : check_net(net, widths ? widths : v, r->err);
}

static int read_nets(struct reader *r, const struct cn_yaml *v)
{
    struct grid *g = r->g;
    int rc = check_list(v, "nets", GRID_MAX_NETS, r->err);
    for (int i = 0; !rc && i < list_size(v); i++) {
        const struct cn_yaml *at = list_item(v, i);
        struct grid_net *net = &g->net[g->n_nets];
        rc = read_net(r, at, net);
        for (int j = 0; !rc && j < g->n_nets; j++)
            if (same_net(&g->net[j], net))
                rc = cn_yaml_fail(at, r->err, "net %s stands here twice", net->name);
        if (!rc) g->n_nets++;
    }
    return rc;
}

/* ------------------------------------------------------------------------------------- recipes */

int grid_recipe(struct nn_recipe *r, const char *text, const char *net, struct cn_error *err)
{
    struct cn_yaml *root = NULL;
    if (!strpbrk(text, "./")) return nn_recipe_named(r, text, net, err);
    int rc = cn_yaml_load(&root, text, err);
    if (!rc) rc = nn_recipe_yaml(r, root, net, err);
    cn_yaml_destroy(root);
    return rc;
}

/* A recipe file named in a grid lies beside the grid unless its path is absolute. */
static int recipe_beside(struct reader *r, const struct cn_yaml *v, struct grid_net *net)
{
    char path[4096];
    const char *slash = strrchr(r->path, '/');
    if (v->text[0] == '/' || !slash || !strpbrk(v->text, "./"))
        snprintf(path, sizeof path, "%s", v->text);
    else
        snprintf(path, sizeof path, "%.*s/%s", (int)(slash - r->path), r->path, v->text);
    struct cn_error why = {0};
    int rc = grid_recipe(&net->recipe, path, net->name, &why);
    return rc ? cn_yaml_fail(v, r->err, "recipe: %s", why.text) : 0;
}

static int resolve_recipe(struct reader *r, struct grid_net *net)
{
    const struct cn_yaml *v = r->recipe;
    int rc;
    if (!v)
        rc = nn_recipe_named(&net->recipe, "paper", net->name, r->err);
    else if (v->kind == CN_YAML_MAP)
        rc = nn_recipe_yaml(&net->recipe, v, net->name, r->err);
    else
        rc = recipe_beside(r, v, net);
    if (rc) return rc;
    if (r->epochs >= 0) net->recipe.epochs = r->epochs;
    if (r->prune_epochs >= 0) net->recipe.finetune_epochs = r->prune_epochs;
    return 0;
}

/* --------------------------------------------------------------------------------------- whole */

static bool reads_beats(const struct grid_net *n)
{
    struct nn_net *net = NULL;
    struct nn_shape shape = {0};
    nn_net_build(&net, n->name, NULL, 0, shape, NULL);
    bool beats = net && net->loss == NN_CROSS_ENTROPY;
    nn_net_destroy(net);
    return beats;
}

/* Beats are split, PTB-XL's records may lack labels: a key that cannot do anything is a mistake. */
static int check_parting(struct reader *r)
{
    for (int i = 0; i < r->g->n_nets; i++) {
        const char *name = r->g->net[i].name;
        bool beats = reads_beats(&r->g->net[i]);
        if (beats && !r->split) {
            r->g->n_splits = 1;
            r->g->split[0] = ECG_SPLIT_RANDOM;
        }
        if (r->split && !beats)
            return cn_yaml_fail(
                r->split, r->err,
                "split parts the beats of MIT-BIH; net %s reads PTB-XL, whose folds "
                "are fixed",
                name);
        if (r->unlabelled && beats)
            return cn_yaml_fail(r->unlabelled, r->err,
                                "unlabelled is about PTB-XL; every beat of MIT-BIH, which net %s "
                                "reads, has a class",
                                name);
    }
    return 0;
}

struct key {
    const char *name;
    int (*read)(struct reader *r, const struct cn_yaml *v);
};

static const struct key keys[] = {
    {"name", read_name},       {"data", read_data},
    {"split", read_split},     {"unlabelled", read_unlabelled},
    {"nets", read_nets},       {"seeds", read_seeds},
    {"recipe", read_recipe},   {"epochs", read_epochs},
    {"distill", read_distill}, {"prune", read_prune},
    {"measure", read_measure}, {"quantize", read_quantize},
    {"latency", read_latency}, {"priority", read_priority},
    {"gpus", read_gpus},
};
#define N_KEYS ((int)(sizeof keys / sizeof *keys))

static void set_defaults(struct grid *g, const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    const char *dot = strrchr(base, '.');
    int n = (int)(dot && dot > base ? (size_t)(dot - base) : strlen(base));
    snprintf(g->name, sizeof g->name, "%.*s", n, base);
    for (char *p = g->name; *p; p++) /* what a name may not hold */
        if (!isalnum((unsigned char)*p) && !strchr("._-+@:", *p)) *p = '-';
    if (!pr_name_valid(g->name)) snprintf(g->name, sizeof g->name, "grid");
    g->n_seeds = g->n_distill = 1;
    g->n_rounds = g->n_keep = g->n_norms = 1;
    g->rounds[0] = 1;
    g->keep[0] = 0.5;
    g->norm[0] = NN_L1;
    g->n_units = g->n_schedules = 1; /* structure, geometric: 0 */
    g->calibration = 128;
    g->gpus = 1;
    g->latency = true;
    snprintf(g->allocator, sizeof g->allocator, "paper");
}

/* Each card trains on an equal share of every batch. */
static int check_gpus(struct reader *r, const struct cn_yaml *root, const struct grid_net *net)
{
    if (net->recipe.batch % r->g->gpus == 0) return 0;
    return cn_yaml_fail(cn_yaml_get(root, "gpus"), r->err,
                        "gpus: a batch of %d records of %s cannot be shared evenly among %d GPUs",
                        net->recipe.batch, net->name, r->g->gpus);
}

static int read_grid(struct reader *r, const struct cn_yaml *root)
{
    const char *known[N_KEYS + 1] = {NULL};
    for (int i = 0; i < N_KEYS; i++) known[i] = keys[i].name;
    if (root->kind != CN_YAML_MAP)
        return cn_yaml_fail(root, r->err, "a grid is a mapping of keys such as `nets: [cnn]`");
    int rc = cn_yaml_only(root, known, r->err);
    if (!rc && !cn_yaml_get(root, "nets"))
        rc = cn_yaml_fail(root, r->err,
                          "`nets` is missing; for example `nets: [cnn]` (known: cnn, "
                          "rnn, ...)");
    for (int i = 0; !rc && i < N_KEYS; i++) {
        const struct cn_yaml *v = cn_yaml_get(root, keys[i].name);
        if (v) rc = keys[i].read(r, v);
    }
    for (int i = 0; !rc && i < r->g->n_nets; i++) rc = resolve_recipe(r, &r->g->net[i]);
    for (int i = 0; !rc && i < r->g->n_nets; i++) rc = check_gpus(r, root, &r->g->net[i]);
    return rc ? rc : check_parting(r);
}

int grid_parse(struct grid **out, const char *name, const char *text, size_t n,
               struct cn_error *err)
{
    struct cn_yaml *root = NULL;
    struct grid *g = calloc(1, sizeof *g);
    *out = NULL;
    if (!g) return cn_fail(err, CN_ENOMEM, "out of memory");
    struct reader r = {.g = g, .path = name, .epochs = -1, .prune_epochs = -1, .err = err};
    set_defaults(g, name);
    int rc = cn_yaml_parse(&root, name, text, n, err);
    if (!rc) rc = read_grid(&r, root);
    if (!rc && n > PR_MAX_JSON) /* it travels with the run */
        rc = cn_fail(err, CN_EINVALID, "%s: %zu bytes; a grid that can be filed has at most %d",
                     name, n, PR_MAX_JSON);
    cn_yaml_destroy(root);
    if (rc) {
        grid_destroy(g);
        return rc;
    }
    *out = g;
    return 0;
}

int grid_load(struct grid **out, const char *path, struct cn_error *err)
{
    char *text = NULL;
    size_t n = 0;
    *out = NULL;
    int rc = cn_file_read(path, MAX_GRID_BYTES, &text, &n, err);
    if (!rc) rc = grid_parse(out, path, text, n, err);
    free(text);
    return rc;
}

void grid_destroy(struct grid *g)
{
    free(g);
}
