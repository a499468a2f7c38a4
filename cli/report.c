/* cli/report.c - see report.h. The document is read into plain rows; every table is a pass over
 * them that collects mean and deviation over the seeds. */
#include "cli/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/report_rows.h"
#include "cli/table.h"

#define MAX_COLUMNS 24
#define MAX_VARIANTS 128

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

/* `latency_*` is one figure {mean_us, ..}, or one per allocator {jemalloc: {mean_us, ..}, ..}; the
 * first counts then. */
static double latency_of(const json_t *o, const char *key)
{
    json_t *v = json_object_get(o, key), *member;
    const char *name;
    if (!json_is_object(v)) return NAN;
    if (json_object_get(v, "mean_us")) return real_of(v, "mean_us");
    json_object_foreach(v, name, member) if (isfinite(real_of(member, "mean_us"))) return real_of(
        member, "mean_us");
    return NAN;
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

/* KEY_float and KEY_int8. */
static void pair_of(const json_t *o, const char *key, double out[2])
{
    char name[40];
    snprintf(name, sizeof name, "%s_float", key);
    out[0] = real_of(o, name);
    snprintf(name, sizeof name, "%s_int8", key);
    out[1] = real_of(o, name);
}

static void read_row(const json_t *a, struct row *r)
{
    const json_t *round = json_object_get(a, "round");
    r->artifact = a;
    r->net = text_of(a, "net");
    r->norm = text_of(a, "norm");
    r->split = text_of(a, "split");
    r->unit = text_of(a, "unit");
    r->schedule = text_of(a, "schedule");
    r->seed = integer_of(a, "seed");
    r->params = integer_of(a, "params");
    r->macs = integer_of(a, "macs");
    r->distilled = json_is_true(json_object_get(a, "distilled"));
    r->rounds = (int)integer_of(a, "rounds");
    r->final = !json_is_integer(round) || json_integer_value(round) == r->rounds;
    r->epochs = (int)integer_of(a, "finetune_epochs");
    r->kept = real_of(a, "kept");
    r->keep = json_is_number(json_object_get(a, "keep")) ? real_of(a, "keep") : r->kept;
    r->full = integer_of(a, "params_full");
    if (!r->full && r->kept > 0) r->full = llround((double)r->params / r->kept);
    pair_of(a, "auroc", r->auroc);
    pair_of(a, "accuracy", r->accuracy);
    pair_of(a, "macro_f1", r->f1);
    pair_of(a, "bytes", r->bytes);
    pair_of(a, "macs_nonzero", r->nonzero);
    r->latency[0] = latency_of(a, "latency_float");
    r->latency[1] = latency_of(a, "latency_int8");
}

/* Finds or makes the row's group; -1 when there are too many. */
static int group_of(struct report *r, const struct row *row)
{
    for (int i = 0; i < r->n_groups; i++)
        if (!strcmp(r->group[i].net, row->net) && !strcmp(r->group[i].split, row->split) &&
            llabs(r->group[i].full - row->full) * 1000 <= row->full)
            return i; /* `kept` may be rounded */
    if (r->n_groups == MAX_GROUPS) return -1;
    r->group[r->n_groups] = (struct group){.net = row->net,
                                           .split = row->split,
                                           .full = row->full,
                                           .classes = isfinite(row->accuracy[0])};
    return r->n_groups++;
}

/* A group is called by its net, by its full size too where the net has several, and by the split
 * where it is one of beats. */
static void label_groups(struct report *r)
{
    for (int i = 0; i < r->n_groups; i++) {
        struct group *g = &r->group[i];
        bool alone = true;
        for (int k = 0; k < r->n_groups; k++)
            if (r->group[k].full != g->full && !strcmp(g->net, r->group[k].net)) alone = false;
        int n = alone
                    ? snprintf(g->label, sizeof g->label, "%.30s", g->net)
                    : snprintf(g->label, sizeof g->label, "%.30s-%lld", g->net, (long long)g->full);
        if (*g->split) snprintf(g->label + n, sizeof g->label - (size_t)n, "-%.10s", g->split);
    }
}

int report_create(struct report **out, const json_t *doc, struct cn_error *err)
{
    *out = NULL;
    const json_t *list = json_object_get(doc, "artifacts");
    if (!json_is_array(list))
        return cn_fail(err, CN_EINVALID, "not a report: it has no list `artifacts`");
    struct report *r = calloc(1, sizeof *r);
    if (r) r->row = calloc(json_array_size(list) + 1, sizeof *r->row);
    if (!r || !r->row) {
        free(r);
        return cn_fail(err, CN_ENOMEM, "out of memory");
    }
    r->doc = json_incref((json_t *)doc);
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct row *row = &r->row[r->n];
        read_row(json_array_get(list, i), row);
        if (!*row->net || !(row->kept > 0)) continue;
        row->group = group_of(r, row);
        if (row->group >= 0) r->n++;
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
    free(r);
}

/* --------------------------------------------------------------------------------------- tables */

void report_cell(double mean, double std, int n, char out[32])
{
    if (n == 0)
        snprintf(out, 32, "-");
    else if (n == 1)
        snprintf(out, 32, "%.4f", mean);
    else
        snprintf(out, 32, "%.4f(%03.0f)", mean, std * 1e4);
}

/* What was asked for: nets of one column are equally large, or meant to be. */
struct column {
    const char *unit;
    double keep;
    struct stat kept;
};

static bool in_column(const struct row *row, int group, const struct column *c)
{
    return row->group == group && row->final && fabs(row->keep - c->keep) <= 5e-6 &&
           !strcmp(row->unit, c->unit);
}

static int by_kept(const void *a, const void *b)
{
    double x = stat_mean(&((const struct column *)a)->kept);
    double y = stat_mean(&((const struct column *)b)->kept);
    return (x < y) - (x > y);
}

/* The distinct columns of a group's final variants, those with most parameters left first. */
static int columns_of(const struct report *r, int group, struct column *c)
{
    int n = 0;
    for (int i = 0; i < r->n; i++) {
        const struct row *row = &r->row[i];
        if (row->group != group || !row->final) continue;
        int j = 0;
        while (j < n && !in_column(row, group, &c[j])) j++;
        if (j == MAX_COLUMNS) continue;
        if (j == n) c[n++] = (struct column){.unit = row->unit, .keep = row->keep};
        stat_add(&c[j].kept, row->kept);
    }
    qsort(c, (size_t)n, sizeof *c, by_kept);
    return n;
}

struct variant {
    int rounds;
    const char *norm, *schedule;
    struct stat stat;
};

enum measure { AUROC, ACCURACY, F1 };

static double measured_as(const struct row *row, enum measure m, int int8)
{
    return m == AUROC ? row->auroc[int8] : m == ACCURACY ? row->accuracy[int8] : row->f1[int8];
}

static bool is_variant(const struct variant *v, const struct row *row)
{
    return v->rounds == row->rounds && !strcmp(v->norm, row->norm) &&
           !strcmp(v->schedule, row->schedule);
}

/* The pruning variant (rounds, norm, schedule) of a column with the best mean. */
static struct variant best_variant(const struct report *r, int group, const struct column *c,
                                   enum measure m, int kind)
{
    struct variant v[MAX_VARIANTS], best = {0, "", "", {0}};
    int n = 0;
    for (int i = 0; i < r->n; i++) {
        const struct row *row = &r->row[i];
        if (!in_column(row, group, c) || row->distilled != kind / 2) continue;
        int j = 0;
        while (j < n && !is_variant(&v[j], row)) j++;
        if (j == MAX_VARIANTS) continue;
        if (j == n) v[n++] = (struct variant){row->rounds, row->norm, row->schedule, {0}};
        stat_add(&v[j].stat, measured_as(row, m, kind % 2));
    }
    for (int j = 0; j < n; j++)
        if (v[j].stat.n && (!best.stat.n || stat_mean(&v[j].stat) > stat_mean(&best.stat)))
            best = v[j];
    return best;
}

/* " 5/L1", " 5/L1/linear"; nothing for an unpruned net. */
static size_t put_variant(char *to, size_t cap, const struct variant *v)
{
    if (!v->stat.n || !v->rounds || !cap) return 0;
    bool usual = !*v->schedule || !strcmp(v->schedule, "geometric");
    return (size_t)snprintf(to, cap, " %d/%.8s%s%.11s", v->rounds, v->norm, usual ? "" : "/",
                            usual ? "" : v->schedule);
}

/* Lines of one measure: float and int8, plain and distilled. */
static void add_quality_rows(const struct report *r, int group, enum measure m,
                             const struct column *c, int n, struct cli_table *t)
{
    static const char *const label[] = {"F", "Q", "FKD", "QKD"};
    static const char *const of[] = {"", "acc ", "F1 "};
    for (int k = 0; k < 4; k++) {
        char line[1536], cell[32];
        int any = 0;
        size_t at = (size_t)snprintf(line, sizeof line, "%s%s", of[m], label[k]);
        for (int i = 0; i < n; i++) {
            struct variant v = best_variant(r, group, &c[i], m, k);
            report_cell(stat_mean(&v.stat), stat_std(&v.stat), v.stat.n, cell);
            any += v.stat.n;
            at += (size_t)snprintf(line + at, sizeof line - at, "\t%s", cell);
            at += put_variant(line + at, sizeof line - at, &v);
        }
        if (any) cli_table_add(t, "%s", line);
    }
}

enum figure { BYTES, LATENCY, MACS };

static double cost_of(const struct row *row, enum figure f, int int8)
{
    return f == BYTES ? row->bytes[int8] : f == LATENCY ? row->latency[int8] : row->nonzero[int8];
}

/* Over all of a column: its nets have one architecture, whatever the variant. */
static struct stat column_stat(const struct report *r, int group, const struct column *c,
                               enum figure f, int int8)
{
    struct stat s = {0};
    for (int i = 0; i < r->n; i++)
        if (in_column(&r->row[i], group, c)) stat_add(&s, cost_of(&r->row[i], f, int8));
    return s;
}

static void add_cost_rows(const struct report *r, int group, const struct column *c, int n,
                          struct cli_table *t)
{
    static const char *const label[] = {"KB F", "KB Q", "us F", "us Q", "kMAC F", "kMAC Q"};
    for (int k = 0; k < 6; k++) {
        char line[1024];
        int any = 0;
        size_t at = (size_t)snprintf(line, sizeof line, "%s", label[k]);
        for (int i = 0; i < n; i++) {
            struct stat s = column_stat(r, group, &c[i], (enum figure)(k / 2), k % 2);
            any += s.n;
            if (!s.n)
                at += (size_t)snprintf(line + at, sizeof line - at, "\t-");
            else if (k / 2 == LATENCY)
                at += (size_t)snprintf(line + at, sizeof line - at, "\t%.1f(%.1f)", stat_mean(&s),
                                       stat_std(&s));
            else
                at += (size_t)snprintf(line + at, sizeof line - at, "\t%.3f", stat_mean(&s) / 1000);
        }
        if (any) cli_table_add(t, "%s", line);
    }
}

static void print_group(const struct report *r, int group, FILE *to)
{
    struct column c[MAX_COLUMNS];
    char heads[640], align[MAX_COLUMNS + 2] = "l";
    int n = columns_of(r, group, c);
    size_t at = (size_t)snprintf(heads, sizeof heads, "%s", r->group[group].label);
    for (int i = 0; i < n; i++) {
        double kept = stat_mean(&c[i].kept);
        at += (size_t)snprintf(heads + at, sizeof heads - at,
                               kept > 0.99999 ? "\t%.0f %%%s" : "\t%.2f %%%s", kept * 100,
                               strcmp(c[i].unit, "weight") ? "" : " w");
        strcat(align, "l");
    }
    struct cli_table *t = cli_table_create(heads, align);
    if (r->group[group].classes) {
        add_quality_rows(r, group, ACCURACY, c, n, t);
        add_quality_rows(r, group, F1, c, n, t);
    } else {
        add_quality_rows(r, group, AUROC, c, n, t);
    }
    add_cost_rows(r, group, c, n, t);
    cli_table_print(t, to);
    cli_table_destroy(t);
}

/* What the letters mean, as far as they stand in the tables. */
static void print_legend(const struct report *r, FILE *to)
{
    bool classes = false, scores = false, weights = false;
    for (int i = 0; i < r->n; i++) {
        classes |= r->group[r->row[i].group].classes;
        scores |= !r->group[r->row[i].group].classes;
        weights |= !strcmp(r->row[i].unit, "weight");
    }
    fputc('\n', to);
    if (scores) fputs("macro-AUROC", to);
    if (classes) fprintf(to, "%sacc accuracy, F1 the mean F1 of all classes", scores ? "; " : "");
    fputs(" on the test part, mean(deviation in 1e-4) over seeds;\ncolumns: parameters left", to);
    if (weights) fputs(" (w: single weights held at zero, the net's shape stays)", to);
    fputs(";\nF float, Q int8, KD distilled; n/Lx: the best pruning variant (rounds/norm);\n"
          "KB: stored file; us: one inference, kMAC: its multiplications without those by zero,\n"
          "mean(deviation) over the nets of the column.\n",
          to);
}

static void print_failed(const struct report *r, FILE *to)
{
    const json_t *list = json_object_get(r->doc, "failed");
    size_t n = json_array_size(list);
    if (n) fprintf(to, "\n%zu job%s failed:\n", n, n == 1 ? "" : "s");
    for (size_t i = 0; i < n; i++) {
        const json_t *f = json_array_get(list, i);
        cli_print(to, "  %s: %s\n", text_of(f, "job"), text_of(f, "reason"));
    }
}

void report_print(const struct report *r, FILE *to)
{
    for (int i = 0; i < r->n_groups; i++) {
        if (i) fputc('\n', to);
        print_group(r, i, to);
    }
    if (!r->n)
        fprintf(to, "nothing measured yet\n");
    else
        print_legend(r, to);
    print_failed(r, to);
}

static void csv_real(FILE *to, double v, const char *form)
{
    fputc(',', to);
    if (isfinite(v)) fprintf(to, form, v);
}

void report_csv(const struct report *r, FILE *to)
{
    fputs(
        "net,split,seed,distilled,unit,schedule,rounds,norm,keep,finetune_epochs,kept,params,macs,"
        "macs_nonzero_float,macs_nonzero_int8,auroc_float,auroc_int8,accuracy_float,accuracy_int8,"
        "macro_f1_float,macro_f1_int8,bytes_float,bytes_int8,latency_float_us,latency_int8_us\n",
        to);
    for (int i = 0; i < r->n; i++) {
        const struct row *w = &r->row[i];
        fprintf(to, "%s,%s,%lld,%d,%s,%s,%d,%s,%g,%d,%.6f,%lld,%lld", w->net, w->split,
                (long long)w->seed, w->distilled, w->unit, w->schedule, w->rounds, w->norm, w->keep,
                w->epochs, w->kept, (long long)w->params, (long long)w->macs);
        for (int k = 0; k < 2; k++) csv_real(to, w->nonzero[k], "%.0f");
        for (int k = 0; k < 2; k++) csv_real(to, w->auroc[k], "%.6f");
        for (int k = 0; k < 2; k++) csv_real(to, w->accuracy[k], "%.6f");
        for (int k = 0; k < 2; k++) csv_real(to, w->f1[k], "%.6f");
        for (int k = 0; k < 2; k++) csv_real(to, w->bytes[k], "%.0f");
        for (int k = 0; k < 2; k++) csv_real(to, w->latency[k], "%.3f");
        fputc('\n', to);
    }
}

/* -------------------------------------------------------------------------------------- figures */

/* Whether both kinds were measured at all: gnuplot refuses an empty file. */
static bool measured(const struct report *r, int group, enum figure f)
{
    for (int i = 0; i < r->n; i++) {
        const double *v = f == BYTES ? r->row[i].bytes : r->row[i].latency;
        if (r->row[i].group == group && isfinite(v[0]) && isfinite(v[1])) return true;
    }
    return false;
}

static void write_data(const struct report *r, int group, enum figure f, FILE *to)
{
    struct column c[MAX_COLUMNS];
    int n = columns_of(r, group, c);
    double unit = f == BYTES ? 1000 : 1;
    fprintf(to, "# parameters left %%, float mean, deviation, int8 mean, deviation\n");
    for (int i = 0; i < n; i++) {
        struct stat a = column_stat(r, group, &c[i], f, 0), b = column_stat(r, group, &c[i], f, 1);
        if (!a.n || !b.n) continue;
        fprintf(to, "%.4f %.6g %.6g %.6g %.6g\n", stat_mean(&c[i].kept) * 100, stat_mean(&a) / unit,
                stat_std(&a) / unit, stat_mean(&b) / unit, stat_std(&b) / unit);
    }
}

static void write_script(const char *net, enum figure f, const char *stem, FILE *to)
{
    fprintf(to,
            "set terminal svg size 640,420 font 'sans,13'\n"
            "set output '%s.svg'\n"
            "set title '%s'\n"
            "set xlabel 'parameters left, %%'\n"
            "set ylabel '%s'\n"
            "set xrange [0:105]\nset yrange [0:*]\nset key left top\nset grid\n"
            "plot '%s.dat' using 1:2:3 with yerrorlines title 'float', \\\n"
            "     '%s.dat' using 1:4:5 with yerrorlines title 'int8'\n",
            stem, net, f == BYTES ? "stored size, KB" : "latency, us", stem, stem);
}

static int figure_file(const struct report *r, int group, enum figure f, const char *dir,
                       const char *ending, struct cn_error *err)
{
    char path[4096], stem[96];
    const char *net = r->group[group].label;
    snprintf(stem, sizeof stem, "%s-%s", net, f == BYTES ? "size" : "latency");
    snprintf(path, sizeof path, "%s/%s%s", dir, stem, ending);
    FILE *to = fopen(path, "w");
    if (!to) return cn_fail_errno(err, "cannot write %s", path);
    if (!strcmp(ending, ".dat"))
        write_data(r, group, f, to);
    else
        write_script(net, f, stem, to);
    int bad = ferror(to);
    if (fclose(to) || bad) return cn_fail_errno(err, "cannot write %s", path);
    return 0;
}

bool report_draw(const char *dir, const char *script)
{
    char quoted[4096], line[4400];
    size_t n = 0;
    for (const char *p = dir; *p && n + 8 < sizeof quoted; p++) {
        if (*p == '\'')
            n += (size_t)snprintf(quoted + n, sizeof quoted - n, "'\\''");
        else
            quoted[n++] = *p;
    }
    quoted[n] = 0;
    snprintf(line, sizeof line, "cd '%s' && gnuplot '%s' >/dev/null 2>&1", quoted, script);
    return system(line) == 0;
}

static bool draw(const char *dir, const char *net, enum figure f)
{
    char script[96];
    snprintf(script, sizeof script, "%s-%s.gp", net, f == BYTES ? "size" : "latency");
    return report_draw(dir, script);
}

int report_figures(const struct report *r, const char *dir, bool *drawn, struct cn_error *err)
{
    *drawn = true;
    for (int i = 0; i < r->n_groups; i++) {
        if (strspn(r->group[i].label, "abcdefghijklmnopqrstuvwxyz0123456789_-") !=
            strlen(r->group[i].label))
            return cn_fail(err, CN_EINVALID, "'%s' is not a net's name", r->group[i].label);
        for (int f = BYTES; f <= LATENCY; f++) {
            if (!measured(r, i, (enum figure)f)) continue;
            int rc = figure_file(r, i, (enum figure)f, dir, ".dat", err);
            if (!rc) rc = figure_file(r, i, (enum figure)f, dir, ".gp", err);
            if (rc) return rc;
            if (!draw(dir, r->group[i].label, (enum figure)f)) *drawn = false;
        }
    }
    return 0;
}
