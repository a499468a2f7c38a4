/* cli/report.c - see report.h. The document is read into plain rows; every table is a pass over
 * them that collects mean and deviation over the seeds. */
#include "cli/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/table.h"

#define MAX_COLUMNS 24
#define MAX_GROUPS 32
#define MAX_VARIANTS 128

struct row {
    const char *net, *norm; /* borrowed from the document; norm "" when unpruned */
    int group;              /* index into report.group */
    int64_t seed, params;
    int distilled, rounds, final; /* final: not an intermediate round */
    double kept;
    double auroc[2], bytes[2], latency[2]; /* float, int8; NaN: not measured */
};

/* Nets of one name and one full size share a table. */
struct group {
    const char *net;
    int64_t full; /* parameters of the unpruned net */
    char label[64];
};

struct report {
    json_t *doc;
    int n;
    struct row *row;
    int n_groups;
    struct group group[MAX_GROUPS];
};

struct stat {
    int n;
    double sum, squares;
};

static void stat_add(struct stat *s, double v)
{
    if (!isfinite(v)) return;
    s->n++;
    s->sum += v;
    s->squares += v * v;
}

static double stat_mean(const struct stat *s)
{
    return s->n ? s->sum / s->n : NAN;
}

/* Of a sample (n - 1), 0 below two values. */
static double stat_std(const struct stat *s)
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

static void read_row(const json_t *a, struct row *r)
{
    const json_t *round = json_object_get(a, "round");
    r->net = text_of(a, "net");
    r->norm = text_of(a, "norm");
    r->seed = json_integer_value(json_object_get(a, "seed"));
    r->params = json_integer_value(json_object_get(a, "params"));
    r->distilled = json_is_true(json_object_get(a, "distilled"));
    r->rounds = (int)json_integer_value(json_object_get(a, "rounds"));
    r->final = !json_is_integer(round) || json_integer_value(round) == r->rounds;
    r->kept = real_of(a, "kept");
    r->auroc[0] = real_of(a, "auroc_float");
    r->auroc[1] = real_of(a, "auroc_int8");
    r->bytes[0] = real_of(a, "bytes_float");
    r->bytes[1] = real_of(a, "bytes_int8");
    r->latency[0] = latency_of(a, "latency_float");
    r->latency[1] = latency_of(a, "latency_int8");
}

/* Finds or makes the row's group; -1 when there are too many. */
static int group_of(struct report *r, const struct row *row)
{
    int64_t full = llround((double)row->params / row->kept);
    for (int i = 0; i < r->n_groups; i++)
        if (!strcmp(r->group[i].net, row->net) && llabs(r->group[i].full - full) * 1000 <= full)
            return i; /* `kept` may be rounded */
    if (r->n_groups == MAX_GROUPS) return -1;
    r->group[r->n_groups] = (struct group){row->net, full, ""};
    return r->n_groups++;
}

/* A group is called by its net, and where one net has several full sizes by that too. */
static void label_groups(struct report *r)
{
    for (int i = 0; i < r->n_groups; i++) {
        struct group *g = &r->group[i];
        bool alone = true;
        for (int k = 0; k < r->n_groups; k++)
            if (k != i && !strcmp(g->net, r->group[k].net)) alone = false;
        if (alone)
            snprintf(g->label, sizeof g->label, "%.40s", g->net);
        else
            snprintf(g->label, sizeof g->label, "%.40s-%lld", g->net, (long long)g->full);
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

/* Columns: the distinct fractions of parameters left of a net's final variants, largest first. */
static int columns_of(const struct report *r, int group, double *kept)
{
    int n = 0;
    for (int i = 0; i < r->n; i++) {
        const struct row *row = &r->row[i];
        if (row->group != group || !row->final) continue;
        int j = 0;
        while (j < n && fabs(kept[j] - row->kept) > 5e-6) j++;
        if (j < n || n == MAX_COLUMNS) continue;
        for (j = n++; j > 0 && kept[j - 1] < row->kept; j--) kept[j] = kept[j - 1];
        kept[j] = row->kept;
    }
    return n;
}

static int in_column(const struct row *row, int group, double kept)
{
    return row->group == group && row->final && fabs(row->kept - kept) <= 5e-6;
}

struct variant {
    int rounds;
    const char *norm;
    struct stat stat;
};

/* The pruning variant (rounds, norm) of a column with the best mean AUROC. */
static struct variant best_variant(const struct report *r, int group, double kept, int distilled,
                                   int int8)
{
    struct variant v[MAX_VARIANTS], best = {0, "", {0}};
    int n = 0;
    for (int i = 0; i < r->n; i++) {
        const struct row *row = &r->row[i];
        if (!in_column(row, group, kept) || row->distilled != distilled) continue;
        int j = 0;
        while (j < n && (v[j].rounds != row->rounds || strcmp(v[j].norm, row->norm))) j++;
        if (j == MAX_VARIANTS) continue;
        if (j == n) v[n++] = (struct variant){row->rounds, row->norm, {0}};
        stat_add(&v[j].stat, row->auroc[int8]);
    }
    for (int j = 0; j < n; j++)
        if (v[j].stat.n && (!best.stat.n || stat_mean(&v[j].stat) > stat_mean(&best.stat)))
            best = v[j];
    return best;
}

static void add_quality_rows(const struct report *r, int group, const double *kept, int n,
                             struct cli_table *t)
{
    static const char *const label[] = {"F", "Q", "FKD", "QKD"};
    for (int k = 0; k < 4; k++) {
        char line[1024], cell[32];
        int any = 0;
        size_t at = (size_t)snprintf(line, sizeof line, "%s", label[k]);
        for (int i = 0; i < n; i++) {
            struct variant v = best_variant(r, group, kept[i], k / 2, k % 2);
            report_cell(stat_mean(&v.stat), stat_std(&v.stat), v.stat.n, cell);
            any += v.stat.n;
            at += (size_t)snprintf(line + at, sizeof line - at, "\t%s", cell);
            if (v.stat.n && v.rounds)
                at += (size_t)snprintf(line + at, sizeof line - at, " %d/%.8s", v.rounds, v.norm);
        }
        if (any) cli_table_add(t, "%s", line);
    }
}

enum figure { BYTES, LATENCY };

/* Over all of a column: its nets have one architecture, whatever the variant. */
static struct stat column_stat(const struct report *r, int group, double kept, enum figure f,
                               int int8)
{
    struct stat s = {0};
    for (int i = 0; i < r->n; i++)
        if (in_column(&r->row[i], group, kept))
            stat_add(&s, f == BYTES ? r->row[i].bytes[int8] : r->row[i].latency[int8]);
    return s;
}

static void add_cost_rows(const struct report *r, int group, const double *kept, int n,
                          struct cli_table *t)
{
    static const char *const label[] = {"KB F", "KB Q", "us F", "us Q"};
    for (int k = 0; k < 4; k++) {
        char line[1024];
        int any = 0;
        size_t at = (size_t)snprintf(line, sizeof line, "%s", label[k]);
        for (int i = 0; i < n; i++) {
            struct stat s = column_stat(r, group, kept[i], (enum figure)(k / 2), k % 2);
            any += s.n;
            if (!s.n)
                at += (size_t)snprintf(line + at, sizeof line - at, "\t-");
            else if (k / 2 == BYTES)
                at += (size_t)snprintf(line + at, sizeof line - at, "\t%.3f", stat_mean(&s) / 1000);
            else
                at += (size_t)snprintf(line + at, sizeof line - at, "\t%.1f(%.1f)", stat_mean(&s),
                                       stat_std(&s));
        }
        if (any) cli_table_add(t, "%s", line);
    }
}

static void print_group(const struct report *r, int group, FILE *to)
{
    double kept[MAX_COLUMNS];
    char heads[512], align[MAX_COLUMNS + 2] = "l";
    int n = columns_of(r, group, kept);
    size_t at = (size_t)snprintf(heads, sizeof heads, "%s", r->group[group].label);
    for (int i = 0; i < n; i++) {
        const char *form = kept[i] > 0.99999 ? "\t%.0f %%" : "\t%.2f %%";
        at += (size_t)snprintf(heads + at, sizeof heads - at, form, kept[i] * 100);
        strcat(align, "l");
    }
    struct cli_table *t = cli_table_create(heads, align);
    add_quality_rows(r, group, kept, n, t);
    add_cost_rows(r, group, kept, n, t);
    cli_table_print(t, to);
    cli_table_destroy(t);
}

static void print_failed(const struct report *r, FILE *to)
{
    const json_t *list = json_object_get(r->doc, "failed");
    size_t n = json_array_size(list);
    if (n) fprintf(to, "\n%zu job%s failed:\n", n, n == 1 ? "" : "s");
    for (size_t i = 0; i < n; i++) {
        const json_t *f = json_array_get(list, i);
        fprintf(to, "  %s: %s\n", text_of(f, "job"), text_of(f, "reason"));
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
        fprintf(to,
                "\nmacro-AUROC on the test part, mean(deviation in 1e-4) over seeds; columns: "
                "parameters left;\nF float, Q int8, KD distilled; n/Lx: the best pruning variant "
                "(rounds/norm);\nKB: stored file; us: one inference, mean(deviation) over the "
                "nets of the column.\n");
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
        "net,seed,distilled,rounds,norm,kept,params,auroc_float,auroc_int8,bytes_float,bytes_int8,"
        "latency_float_us,latency_int8_us\n",
        to);
    for (int i = 0; i < r->n; i++) {
        const struct row *w = &r->row[i];
        fprintf(to, "%s,%lld,%d,%d,%s,%.6f,%lld", w->net, (long long)w->seed, w->distilled,
                w->rounds, w->norm, w->kept, (long long)w->params);
        for (int k = 0; k < 2; k++) csv_real(to, w->auroc[k], "%.6f");
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
    double kept[MAX_COLUMNS];
    int n = columns_of(r, group, kept);
    double unit = f == BYTES ? 1000 : 1;
    fprintf(to, "# parameters left %%, float mean, deviation, int8 mean, deviation\n");
    for (int i = 0; i < n; i++) {
        struct stat a = column_stat(r, group, kept[i], f, 0),
                    b = column_stat(r, group, kept[i], f, 1);
        if (!a.n || !b.n) continue;
        fprintf(to, "%.4f %.6g %.6g %.6g %.6g\n", kept[i] * 100, stat_mean(&a) / unit,
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

/* Runs gnuplot in `dir` on the script just written; net names come from the zoo, so the command
 * line holds no surprises, and the folder is quoted. */
static bool draw(const char *dir, const char *net, enum figure f)
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
    snprintf(line, sizeof line, "cd '%s' && gnuplot '%s-%s.gp' >/dev/null 2>&1", quoted, net,
             f == BYTES ? "size" : "latency");
    return system(line) == 0;
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
