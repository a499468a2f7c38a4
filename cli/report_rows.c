/* cli/report_rows.c - see report_rows.h. One pass reads the document; then each row finds its group,
 * its column and its variant, and adds its figures there. */
#include "cli/report_rows.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/report.h"

/* ----------------------------------------------------------------------------------- statistics */

void stat_add(struct stat *s, double v)
{
    if (!isfinite(v)) return;
    s->n++;
    s->sum += v;
    s->squares += v * v;
}

double stat_mean(const struct stat *s)
{
    return s->n ? s->sum / s->n : NAN;
}

double stat_std(const struct stat *s)
{
    if (s->n < 2) return 0;
    double v = (s->squares - s->sum * s->sum / s->n) / (s->n - 1);
    return v > 0 ? sqrt(v) : 0;
}

/* -------------------------------------------------------------------------------------- reading */

static double real_of(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static int64_t integer_of(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static const json_t *list_of(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_array(v) ? v : NULL;
}

/* KEY_float and KEY_int8, with `end` behind. */
static void pair_of(const json_t *o, const char *key, const char *end, double out[2])
{
    char name[64];
    snprintf(name, sizeof name, "%s_float%s", key, end);
    out[0] = real_of(o, name);
    snprintf(name, sizeof name, "%s_int8%s", key, end);
    out[1] = real_of(o, name);
}

static void read_row(const json_t *a, struct row *r)
{
    static const char *const names[] = {"auroc", "accuracy", "macro_f1"};
    const json_t *round = json_object_get(a, "round");
    r->artifact = a;
    r->net = text_of(a, "net");
    r->norm = text_of(a, "norm");
    r->split = text_of(a, "split");
    r->unit = text_of(a, "unit");
    r->schedule = text_of(a, "schedule");
    r->config = text_of(a, "config");
    r->widths = list_of(a, "widths");
    r->widths_full = list_of(a, "widths_full");
    r->seed = integer_of(a, "seed");
    r->params = integer_of(a, "params");
    r->macs = integer_of(a, "macs");
    r->distilled = json_is_true(json_object_get(a, "distilled"));
    r->rounds = (int)integer_of(a, "rounds");
    r->round = json_is_integer(round) ? (int)json_integer_value(round) : r->rounds;
    r->final = r->round == r->rounds;
    r->epochs = (int)integer_of(a, "finetune_epochs");
    r->kept = real_of(a, "kept");
    r->keep = json_is_number(json_object_get(a, "keep")) ? real_of(a, "keep") : r->kept;
    r->full = integer_of(a, "params_full");
    r->full_told = r->full > 0;
    if (!r->full && r->kept > 0) r->full = llround((double)r->params / r->kept);
    for (int m = 0; m < MEASURES; m++) {
        pair_of(a, names[m], "", r->quality[m][TEST]);
        pair_of(a, names[m], "_validation", r->quality[m][VALIDATION]);
    }
    pair_of(a, "bytes", "", r->bytes);
    pair_of(a, "macs_nonzero", "", r->nonzero);
    r->column = r->variant = -1;
}

/* Puts an item of `size` bytes behind the n of a list, which has room for 8, then for powers of two.
 * The list's new address; NULL, and the list as it was: out of memory. */
static void *append(void *list, int *n, size_t size, const void *item)
{
    bool full = *n == 0 || (*n >= 8 && (*n & (*n - 1)) == 0);
    void *grown = full ? realloc(list, (*n ? (size_t)*n * 2 : 8) * size) : list;
    if (grown) memcpy((char *)grown + (size_t)(*n)++ * size, item, size);
    return grown;
}

/* A document's artifacts, one row each; what names no net and has no size is none. */
static void read_artifacts(struct report *r, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct row *row = &r->row[r->n];
        read_row(json_array_get(list, i), row);
        row->measured = true;
        if (*row->net && (row->kept > 0 || row->params > 0)) r->n++;
    }
}

/* What is asked for and not measured: a row for each seed. */
static void read_missing(struct report *r, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *o = json_array_get(list, i), *seeds = list_of(o, "seeds");
        for (size_t k = 0; k < json_array_size(seeds); k++) {
            struct row *row = &r->row[r->n];
            read_row(o, row);
            row->seed = json_integer_value(json_array_get(seeds, k));
            if (*row->net && isfinite(row->keep)) r->n++;
        }
    }
}

static size_t count_rows(const json_t *artifacts, const json_t *missing)
{
    size_t n = json_array_size(artifacts);
    for (size_t i = 0; i < json_array_size(missing); i++)
        n += json_array_size(list_of(json_array_get(missing, i), "seeds"));
    return n;
}

/* --------------------------------------------------------------------------------------- groups */

/* The configuration tells nets apart; documents without one, by name, split and full size. */
static bool same_group(const struct group *g, const struct row *row)
{
    const struct row *first = g->first;
    if (strcmp(first->net, row->net) || strcmp(first->split, row->split)) return false;
    if (*first->config || *row->config) return !strcmp(first->config, row->config);
    if (first->widths_full && row->widths_full)
        return json_equal((json_t *)first->widths_full, (json_t *)row->widths_full);
    if (first->full_told && row->full_told) return first->full == row->full;
    return llabs(first->full - row->full) * 1000 <= row->full; /* `kept` may be rounded */
}

static int find_group(struct report *r, struct row *row)
{
    int g = 0;
    while (g < r->n_groups && !same_group(&r->group[g], row)) g++;
    if (g == r->n_groups) {
        struct group new = {.first = row};
        void *grown = append(r->group, &r->n_groups, sizeof new, &new);
        if (!grown) return CN_ENOMEM;
        r->group = grown;
    }
    struct group *of = &r->group[g];
    row->group = g;
    if (!of->full) of->full = row->full;
    of->classes |= isfinite(row->quality[ACCURACY][TEST][0]);
    return 0;
}

/* Any of the group's rows that tells the full widths; NULL: none. */
static const json_t *full_widths(const struct report *r, int group)
{
    for (int i = 0; i < r->n; i++)
        if (r->row[i].group == group && r->row[i].widths_full) return r->row[i].widths_full;
    return NULL;
}

static void put_widths(char *out, size_t cap, const json_t *widths)
{
    size_t at = strlen(out), n = json_array_size(widths);
    for (size_t i = 0; i < n && at < cap; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s%lld%s", i ? ", " : " [",
                               (long long)json_integer_value(json_array_get(widths, i)),
                               i + 1 == n ? "]" : "");
}

static bool alike(const struct report *r, int a, int b, bool stem)
{
    return stem ? !strcmp(r->group[a].stem, r->group[b].stem)
                : !strcmp(r->group[a].label, r->group[b].label);
}

/* How many groups of the same net have another size or other widths. */
static bool has_relatives(const struct report *r, int group, bool by_size)
{
    const struct group *g = &r->group[group];
    for (int k = 0; k < r->n_groups; k++) {
        const struct group *o = &r->group[k];
        if (k == group || strcmp(g->first->net, o->first->net)) continue;
        if (by_size ? g->full != o->full : !strcmp(g->first->split, o->first->split)) return true;
    }
    return false;
}

/* What tells a group from others of its name: widths or size, split, and at last its configuration. */
static void label_group(struct report *r, int i)
{
    struct group *g = &r->group[i];
    const json_t *widths = full_widths(r, i);
    snprintf(g->label, sizeof g->label, "%.60s", g->first->net);
    snprintf(g->stem, sizeof g->stem, "%.40s", g->first->net);
    if (has_relatives(r, i, false)) {
        if (json_array_size(widths))
            put_widths(g->label, sizeof g->label, widths);
        else
            snprintf(g->label, sizeof g->label, "%.60s-%lld", g->first->net, (long long)g->full);
    }
    size_t n = strlen(g->stem), l = strlen(g->label);
    if (has_relatives(r, i, true))
        n += (size_t)snprintf(g->stem + n, sizeof g->stem - n, "-%lld", (long long)g->full);
    if (!*g->first->split) return;
    snprintf(g->stem + n, sizeof g->stem - n, "-%.10s", g->first->split);
    snprintf(g->label + l, sizeof g->label - l, "-%.10s", g->first->split);
}

static void label_groups(struct report *r)
{
    for (int i = 0; i < r->n_groups; i++) label_group(r, i);
    for (int i = 0; i < r->n_groups; i++) {
        struct group *g = &r->group[i];
        bool label = false, stem = false;
        for (int k = 0; k < i; k++) {
            label |= alike(r, i, k, false);
            stem |= alike(r, i, k, true);
        }
        size_t l = strlen(g->label), n = strlen(g->stem);
        if (label && *g->first->config)
            snprintf(g->label + l, sizeof g->label - l, ", configuration %.12s", g->first->config);
        else if (label)
            snprintf(g->label + l, sizeof g->label - l, ", configuration %d", i + 1);
        if (stem) snprintf(g->stem + n, sizeof g->stem - n, "-%d", i + 1);
        for (char *p = g->stem; *p; p++)
            if (!isalnum((unsigned char)*p) && *p != '_') *p = '-';
    }
}

/* -------------------------------------------------------------------------------------- columns */

static bool scanned(const struct row *row)
{
    return !strcmp(row->schedule, "sensitivity");
}

static bool same_column(const struct column *c, const struct row *row)
{
    if (c->group != row->group || fabs(c->keep - row->keep) > 5e-6 || strcmp(c->unit, row->unit) ||
        c->scanned != scanned(row))
        return false;
    return c->scanned || !c->widths || !row->widths ||
           json_equal((json_t *)c->widths, (json_t *)row->widths);
}

static int find_column(struct report *r, struct row *row)
{
    int c = 0;
    while (c < r->n_columns && !same_column(&r->column[c], row)) c++;
    if (c == r->n_columns) {
        struct column new = {
            .group = row->group, .unit = row->unit, .keep = row->keep, .scanned = scanned(row)};
        void *grown = append(r->column, &r->n_columns, sizeof new, &new);
        if (!grown) return CN_ENOMEM;
        r->column = grown;
    }
    struct column *of = &r->column[c];
    if (!of->widths && !of->scanned) of->widths = row->widths;
    stat_add(&of->kept, row->kept);
    return 0;
}

/* Parameters left; of a size that nothing was measured of, about: two neighbours' structures make one
 * weight. */
static double kept_about(const struct column *c)
{
    if (c->kept.n) return stat_mean(&c->kept);
    return strcmp(c->unit, "weight") ? c->keep * c->keep : c->keep;
}

static int by_size(const void *a, const void *b)
{
    const struct column *x = a, *y = b;
    if (x->group != y->group) return x->group - y->group;
    double p = kept_about(x), q = kept_about(y);
    if (p != q) return p < q ? 1 : -1;
    int c = strcmp(x->unit, y->unit);
    return c ? c : x->scanned - y->scanned;
}

static int make_columns(struct report *r)
{
    int rc = 0;
    /* Rows without widths (not measured yet) come last, so that they start no column of their own. */
    for (int told = 1; told >= 0 && !rc; told--)
        for (int i = 0; i < r->n && !rc; i++)
            if (r->row[i].final && (r->row[i].widths != NULL) == told)
                rc = find_column(r, &r->row[i]);
    if (r->n_columns) qsort(r->column, (size_t)r->n_columns, sizeof *r->column, by_size);
    for (int i = 0; i < r->n && !rc; i++)
        for (int c = 0; r->row[i].final && c < r->n_columns && r->row[i].column < 0; c++)
            if (same_column(&r->column[c], &r->row[i])) r->row[i].column = c;
    return rc;
}

void group_columns(const struct report *r, int group, int *from, int *to)
{
    for (*from = 0; *from < r->n_columns && r->column[*from].group != group;) ++*from;
    for (*to = *from; *to < r->n_columns && r->column[*to].group == group;) ++*to;
}

/* ------------------------------------------------------------------------------------- variants */

static struct variant variant_of(const struct row *row)
{
    return (struct variant){.group = row->group,
                            .column = row->column,
                            .distilled = row->distilled,
                            .rounds = row->rounds,
                            .round = row->round,
                            .epochs = row->epochs,
                            .keep = row->keep,
                            .norm = row->norm,
                            .schedule = row->schedule,
                            .unit = row->unit};
}

/* Largest first; an unfinished way of pruning behind those that have ended. */
static int compare_variants(const struct variant *x, const struct variant *y)
{
    int c = x->group - y->group;
    if (!c) c = (x->column < 0) - (y->column < 0);
    if (!c) c = x->column - y->column;
    if (!c && x->column < 0) c = (fabs(x->keep - y->keep) > 5e-6) * (x->keep < y->keep ? 1 : -1);
    if (!c) c = x->distilled - y->distilled;
    if (!c) c = strcmp(x->unit, y->unit);
    if (!c) c = x->rounds - y->rounds;
    if (!c) c = strcmp(x->norm, y->norm);
    if (!c) c = strcmp(x->schedule, y->schedule);
    if (!c) c = x->epochs - y->epochs;
    return c ? c : x->round - y->round;
}

static int by_variant(const void *a, const void *b)
{
    return compare_variants(a, b);
}

/* A variant's place in the sorted list: it is there. */
static int find_variant(const struct report *r, const struct variant *v)
{
    const struct variant *at = bsearch(v, r->variant, (size_t)r->n_variants, sizeof *v, by_variant);
    return (int)(at - r->variant);
}

static void add_figures(struct variant *v, const struct row *row)
{
    v->seeds++;
    if (!row->measured) return;
    v->measured++;
    stat_add(&v->kept, row->kept);
    for (int k = 0; k < 2; k++) {
        bool there = isfinite(row->bytes[k]);
        for (int m = 0; m < MEASURES; m++) {
            there |= isfinite(row->quality[m][TEST][k]);
            for (int p = 0; p < PARTS; p++) stat_add(&v->quality[m][p][k], row->quality[m][p][k]);
        }
        v->kinds[k] += there;
        stat_add(&v->bytes[k], row->bytes[k]);
    }
}

static int make_variants(struct report *r)
{
    struct variant *all = calloc((size_t)r->n + 1, sizeof *all);
    if (!all) return CN_ENOMEM;
    for (int i = 0; i < r->n; i++) all[i] = variant_of(&r->row[i]);
    qsort(all, (size_t)r->n, sizeof *all, by_variant);
    for (int i = 0; i < r->n; i++)
        if (!r->n_variants || compare_variants(&all[r->n_variants - 1], &all[i]))
            all[r->n_variants++] = all[i];
    r->variant = all;
    for (int i = 0; i < r->n; i++) {
        struct variant v = variant_of(&r->row[i]);
        r->row[i].variant = find_variant(r, &v);
        add_figures(&r->variant[r->row[i].variant], &r->row[i]);
    }
    return 0;
}

void group_variants(const struct report *r, int group, int *from, int *to)
{
    for (*from = 0; *from < r->n_variants && r->variant[*from].group != group;) ++*from;
    for (*to = *from; *to < r->n_variants && r->variant[*to].group == group;) ++*to;
}

void variant_text(const struct variant *v, char out[64])
{
    bool usual = !*v->schedule || !strcmp(v->schedule, "geometric");
    *out = 0;
    if (v->rounds)
        snprintf(out, 64, "%d/%.16s%s%.24s", v->rounds, v->norm, usual ? "" : "/",
                 usual ? "" : v->schedule);
}

/* -------------------------------------------------------------------------------------- timings */

static int find_setup(struct report *r, const struct setup *s)
{
    for (int i = 0; i < r->n_setups; i++) {
        const struct setup *o = &r->setup[i];
        if (!strcmp(o->allocator, s->allocator) && !strcmp(o->version, s->version) &&
            !strcmp(o->isa, s->isa) && !strcmp(o->engine, s->engine) && !strcmp(o->cpu, s->cpu))
            return i;
    }
    void *grown = append(r->setup, &r->n_setups, sizeof *s, s);
    if (!grown) return CN_ENOMEM;
    r->setup = grown;
    return r->n_setups - 1;
}

/* One latency object {p50_us, ..}; `name` stands in for an allocator that it does not tell. */
static int add_timing(struct report *r, int row, int kind, const json_t *l, const char *name)
{
    const json_t *machine = json_object_get(r->row[row].artifact, "machine");
    struct setup s = {text_of(l, "allocator"), text_of(l, "allocator_version"), text_of(l, "isa"),
                      text_of(l, "engine"), text_of(machine, "cpu")};
    struct timing t = {.row = row,
                       .kind = kind,
                       .mean = real_of(l, "mean_us"),
                       .p50 = real_of(l, "p50_us"),
                       .low = real_of(l, "p50_low_us"),
                       .high = real_of(l, "p50_high_us"),
                       .processes = (int)integer_of(l, "processes"),
                       .each = list_of(l, "process_p50_us"),
                       .disturbed_by = text_of(l, "disturbed_by")};
    if (!*s.allocator) s.allocator = name;
    if (!isfinite(t.p50)) return 0;
    if (!t.processes) t.processes = 1; /* before there were several */
    if (!*t.disturbed_by && integer_of(l, "disturbed") > 0)
        t.disturbed_by = "blocks were kept although disturbed";
    t.setup = find_setup(r, &s);
    void *grown = t.setup < 0 ? NULL : append(r->timing, &r->n_timings, sizeof t, &t);
    if (!grown) return CN_ENOMEM;
    r->timing = grown;
    return 0;
}

/* `latency_*` is one figure {p50_us, ..}, or one per allocator {jemalloc: {p50_us, ..}, ..}. */
static int make_timings(struct report *r)
{
    static const char *const keys[] = {"latency_float", "latency_int8"};
    int rc = 0;
    for (int i = 0; i < r->n; i++) {
        for (int k = 0; k < 2; k++) {
            json_t *l = json_object_get(r->row[i].artifact, keys[k]), *member;
            const char *name;
            if (json_object_get(l, "p50_us")) {
                rc = add_timing(r, i, k, l, "");
            } else {
                json_object_foreach(l, name, member)
                {
                    if (!rc) rc = add_timing(r, i, k, member, name);
                }
            }
            if (rc) return rc;
        }
    }
    return 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Those of a column, or, where that is -1, of a variant. */
static bool of_whom(const struct report *r, const struct timing *t, int column, int variant)
{
    const struct row *row = &r->row[t->row];
    return column >= 0 ? row->column == column : row->variant == variant;
}

static void latency(const struct report *r, int column, int variant, int kind, int setup,
                    struct spread *out)
{
    double *p50 = NULL;
    *out = (struct spread){0};
    for (int i = 0; i < r->n_timings; i++) {
        const struct timing *t = &r->timing[i];
        if (t->kind != kind || t->setup != setup || !of_whom(r, t, column, variant)) continue;
        int n = json_array_size(t->each) ? (int)json_array_size(t->each) : 1;
        double *grown = realloc(p50, (size_t)(out->processes + n) * sizeof *p50);
        if (!grown) break;
        p50 = grown;
        for (int k = 0; k < n; k++)
            p50[out->processes++] =
                t->each ? json_number_value(json_array_get(t->each, (size_t)k)) : t->p50;
        out->nets++;
        out->disturbed += *t->disturbed_by != 0;
    }
    int n = out->processes;
    if (n) {
        qsort(p50, (size_t)n, sizeof *p50, by_value);
        out->low = p50[0];
        out->high = p50[n - 1];
        out->median = (p50[(n - 1) / 2] + p50[n / 2]) / 2;
    }
    free(p50);
}

void column_latency(const struct report *r, int column, int kind, int setup, struct spread *out)
{
    latency(r, column, -1, kind, setup, out);
}

void variant_latency(const struct report *r, int variant, int kind, int setup, struct spread *out)
{
    latency(r, -1, variant, kind, setup, out);
}

bool group_has_setup(const struct report *r, int group, int setup)
{
    for (int i = 0; i < r->n_timings; i++)
        if (r->timing[i].setup == setup && r->row[r->timing[i].row].group == group) return true;
    return false;
}

void setup_text(const struct setup *s, char out[256])
{
    const char *part[] = {s->allocator, s->isa, s->engine, s->cpu};
    size_t n = 0;
    *out = 0;
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        if (!*part[i]) continue;
        n += (size_t)snprintf(out + n, 256 - n, "%s%.60s", n ? ", " : "", part[i]);
        if (i == 0 && *s->version) /* "5.3.0-0-g54ea..": the release says enough */
            n += (size_t)snprintf(out + n, 256 - n, " %.*s", (int)strcspn(s->version, "-"),
                                  s->version);
    }
}

/* --------------------------------------------------------------------------------------- whole */

int report_create(struct report **out, const json_t *doc, struct cn_error *err)
{
    *out = NULL;
    const json_t *list = json_object_get(doc, "artifacts"), *missing = list_of(doc, "missing");
    if (!json_is_array(list))
        return cn_fail(err, CN_EINVALID, "not a report: it has no list `artifacts`");
    struct report *r = calloc(1, sizeof *r);
    if (r) r->row = calloc(count_rows(list, missing) + 1, sizeof *r->row);
    int rc = r && r->row ? 0 : CN_ENOMEM;
    if (!rc) {
        r->doc = json_incref((json_t *)doc);
        read_artifacts(r, list);
        read_missing(r, missing);
    }
    for (int i = 0; !rc && i < r->n; i++) rc = find_group(r, &r->row[i]);
    if (!rc) rc = make_columns(r);
    if (!rc) rc = make_variants(r);
    if (!rc) rc = make_timings(r);
    if (rc) {
        report_destroy(r);
        return cn_fail(err, rc, "out of memory for a report");
    }
    label_groups(r);
    *out = r;
    return 0;
}

void report_destroy(struct report *r)
{
    if (!r) return;
    json_decref(r->doc);
    free(r->row);
    free(r->group);
    free(r->column);
    free(r->variant);
    free(r->setup);
    free(r->timing);
    free(r);
}
