/* cli/stages.c - see stages.h. Seeds pair: a net pruned at once and one pruned in stages stem from
 * the same trained net of that seed, so the interval is of the differences seed by seed. */
#include "cli/stages.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "cli/report_rows.h"

/* One way of pruning of one group; its rows are the seeds. */
struct way {
    int group, distilled, rounds, epochs;
    double keep;
    const char *unit, *schedule, *norm; /* borrowed */
};

struct ways {
    int n;
    struct way *way;         /* [n] of at most one a row */
    const struct way **line; /* [n] room for those of one group's figure */
};

/* --------------------------------------------------------------------------------- statistics */

/* The 97.5 % point of Student's distribution. */
static double student(int freedom)
{
    static const double t[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306,
                               2.262,  2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
                               2.110,  2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064,
                               2.060,  2.056, 2.052, 2.048, 2.045, 2.042};
    int last = (int)(sizeof t / sizeof *t);
    return freedom <= last ? t[freedom - 1] : 1.96 + 2.5 / freedom;
}

void stages_interval(const double *difference, int n, double *mean, double *half)
{
    struct stat s = {0};
    for (int i = 0; i < n; i++) stat_add(&s, difference[i]);
    *mean = stat_mean(&s);
    *half = s.n < 2 ? NAN : student(s.n - 1) * stat_std(&s) / sqrt(s.n);
}

/* -------------------------------------------------------------------------------------- ways */

static bool is_way(const struct row *row, const struct way *w)
{
    return row->final && row->group == w->group && row->distilled == w->distilled &&
           row->rounds == w->rounds && row->epochs == w->epochs &&
           fabs(row->keep - w->keep) < 1e-9 && !strcmp(row->unit, w->unit) &&
           !strcmp(row->schedule, w->schedule) && !strcmp(row->norm, w->norm);
}

static int by_way(const void *a, const void *b)
{
    const struct way *x = a, *y = b;
    int c = x->group - y->group;
    if (!c) c = (x->rounds != 0) - (y->rounds != 0); /* the unpruned net first */
    if (!c) c = x->distilled - y->distilled;
    if (!c) c = strcmp(x->unit, y->unit);
    if (!c) c = (x->keep < y->keep) - (x->keep > y->keep);
    if (!c) c = x->rounds - y->rounds;
    if (!c) c = strcmp(x->schedule, y->schedule);
    return c ? c : strcmp(x->norm, y->norm);
}

static int collect(const struct report *r, struct ways *out)
{
    out->n = 0;
    out->way = calloc((size_t)r->n + 1, sizeof *out->way);
    out->line = calloc((size_t)r->n + 1, sizeof(void *));
    if (!out->way || !out->line) return CN_ENOMEM;
    for (int i = 0; i < r->n; i++) {
        const struct row *row = &r->row[i];
        int j = 0;
        while (j < out->n && !is_way(row, &out->way[j])) j++;
        if (!row->final || j < out->n) continue;
        out->way[out->n++] = (struct way){row->group, row->distilled, row->rounds,   row->epochs,
                                          row->keep,  row->unit,      row->schedule, row->norm};
    }
    qsort(out->way, (size_t)out->n, sizeof *out->way, by_way);
    return 0;
}

/* The way that removes as much of the same at once, fine-tuned as long; NULL: the grid has none. All
 * schedules but the scan's are the same when there is one round. */
static const struct way *at_once(const struct ways *all, const struct way *w)
{
    const struct way *found = NULL;
    for (int i = 0; i < all->n && w->rounds > 1; i++) {
        const struct way *o = &all->way[i];
        if (o->group != w->group || o->distilled != w->distilled || o->rounds != 1 ||
            o->epochs != w->epochs || fabs(o->keep - w->keep) > 1e-9 || strcmp(o->unit, w->unit) ||
            strcmp(o->norm, w->norm))
            continue;
        if (!strcmp(o->schedule, w->schedule)) return o;
        if (strcmp(o->schedule, "sensitivity") && strcmp(w->schedule, "sensitivity")) found = o;
    }
    return found;
}

/* ------------------------------------------------------------------------------------ figures */

static double value_of(const struct row *row, int measure, int int8)
{
    return row->quality[measure][TEST][int8];
}

/* Quality on the test part; which measures a group has. */
static int first_measure(const struct group *g)
{
    return g->classes ? ACCURACY : AUROC;
}

static int last_measure(const struct group *g)
{
    return g->classes ? F1 : AUROC;
}

static struct stat over_seeds(const struct report *r, const struct way *w, int measure, int int8)
{
    struct stat s = {0};
    for (int i = 0; i < r->n; i++)
        if (is_way(&r->row[i], w)) stat_add(&s, value_of(&r->row[i], measure, int8));
    return s;
}

/* The row of a way and a seed that was measured; NULL: none. */
static const struct row *find_seed(const struct report *r, const struct way *w, int64_t seed)
{
    for (int i = 0; i < r->n; i++)
        if (r->row[i].measured && r->row[i].seed == seed && is_way(&r->row[i], w))
            return &r->row[i];
    return NULL;
}

/* Differences of float nets, w - once, seed by seed, into out [r->n]. */
static int differences(const struct report *r, const struct way *w, const struct way *once,
                       int measure, double *out)
{
    int n = 0;
    for (int i = 0; i < r->n; i++) {
        if (!r->row[i].measured || !is_way(&r->row[i], w)) continue;
        const struct row *other = find_seed(r, once, r->row[i].seed);
        double d = other ? value_of(&r->row[i], measure, 0) - value_of(other, measure, 0) : NAN;
        if (isfinite(d)) out[n++] = d;
    }
    return n;
}

/* --------------------------------------------------------------------------------------- text */

static void put_stat(FILE *to, const struct stat *s)
{
    char cell[32];
    report_cell(stat_mean(s), stat_std(s), s->n, cell);
    fprintf(to, " %s |", cell);
}

static void put_difference(const struct report *r, const struct ways *all, const struct way *w,
                           int measure, FILE *to)
{
    const struct way *once = at_once(all, w);
    double *d = once ? malloc((size_t)r->n * sizeof *d) : NULL, mean, half;
    int n = d ? differences(r, w, once, measure, d) : 0;
    if (n) {
        stages_interval(d, n, &mean, &half);
        fprintf(to, " %+.4f", mean);
        if (isfinite(half)) fprintf(to, " [%+.4f, %+.4f]", mean - half, mean + half);
    }
    fputs(" |", to);
    free(d);
}

/* Parameters and multiplications left, per cent; means over the seeds. */
static void put_left(const struct report *r, const struct way *w, FILE *to)
{
    struct stat kept = {0}, macs = {0};
    int64_t full = 0;
    for (int i = 0; i < r->n; i++)
        if (r->row[i].group == w->group && r->row[i].rounds == 0 && r->row[i].measured)
            full = r->row[i].macs;
    for (int i = 0; i < r->n; i++) {
        if (!is_way(&r->row[i], w)) continue;
        stat_add(&kept, r->row[i].kept);
        if (full) stat_add(&macs, r->row[i].nonzero[0] / (double)full);
    }
    const struct stat *const both[] = {&kept, &macs};
    for (int i = 0; i < 2; i++) {
        if (both[i]->n)
            fprintf(to, " %.2f %% |", 100 * stat_mean(both[i]));
        else
            fputs(" - |", to);
    }
}

/* Whether a group's structures were ranked in several ways, so that a line must say by which. */
static bool several_norms(const struct ways *all, const struct way *w)
{
    for (int i = 0; i < all->n; i++) {
        const struct way *o = &all->way[i];
        if (o->group == w->group && o->rounds && !strcmp(o->unit, w->unit) &&
            strcmp(o->norm, w->norm))
            return true;
    }
    return false;
}

/* "at once", "in 3 stages, linear"; schedules that do not scan are alike when there is one stage. */
static void put_how(const struct ways *all, const struct way *w, FILE *to)
{
    if (w->rounds == 1)
        fputs("at once", to);
    else
        fprintf(to, "in %d stages", w->rounds);
    if (w->rounds > 1 || !strcmp(w->schedule, "sensitivity")) fprintf(to, ", %s", w->schedule);
    if (several_norms(all, w)) fprintf(to, ", %s", w->norm);
}

static void put_way(const struct report *r, const struct ways *all, const struct way *w, FILE *to)
{
    const struct group *g = &r->group[w->group];
    if (w->rounds) {
        fprintf(to, "| %s | %g %% | ", w->unit, 100 * (1 - w->keep));
        put_how(all, w, to);
        fprintf(to, " | %d × %g epochs |", w->rounds, (double)w->epochs / w->rounds);
    } else {
        fputs("| unpruned | | | |", to);
    }
    fputs(w->distilled ? " yes |" : " |", to);
    put_left(r, w, to);
    for (int m = first_measure(g); m <= last_measure(g); m++) {
        for (int int8 = 0; int8 < 2; int8++) {
            struct stat s = over_seeds(r, w, m, int8);
            put_stat(to, &s);
        }
        put_difference(r, all, w, m, to);
    }
    fputc('\n', to);
}

/* "beat, split patient", or what else tells the group apart. */
static void group_name(const struct group *g, char out[320])
{
    const struct row *f = g->first;
    size_t n = strlen(f->net);
    bool plain =
        !strncmp(g->label, f->net, n) && (!g->label[n] || (g->label[n] == '-' && *f->split));
    if (plain)
        snprintf(out, 320, "%.100s%s%.50s", f->net, *f->split ? ", split " : "", f->split);
    else
        snprintf(out, 320, "%s", g->label);
    cn_text_show_in_place(out, 320);
}

static void put_name(const struct group *g, FILE *to)
{
    char name[320];
    group_name(g, name);
    fprintf(to, "### %s\n\n", name);
}

static void put_head(const struct group *g, FILE *to)
{
    put_name(g, to);
    fputs("| unit | removed | how | rounds | distilled | parameters left | MACs left |", to);
    fputs(g->classes ? " accuracy | int8 | against at once | macro-F1 | int8 | against at once |\n"
                     : " macro-AUROC | int8 | against at once |\n",
          to);
    for (int i = 0; i < (g->classes ? 13 : 10); i++) fputs("|---", to);
    fputs("|\n", to);
}

/* Sensitivity, precision and F1 of one class, means over the seeds, float. */
static void put_class(const struct report *r, const struct way *w, const char *label, FILE *to)
{
    static const char *const name[] = {"sensitivity", "precision", "f1"};
    struct stat s[3] = {{0}};
    for (int i = 0; i < r->n; i++) {
        if (!is_way(&r->row[i], w)) continue;
        const json_t *c = json_object_get(r->row[i].artifact, "classes_float");
        c = json_object_get(json_object_get(c, "per_class"), label);
        for (int k = 0; k < 3; k++) stat_add(&s[k], json_number_value(json_object_get(c, name[k])));
    }
    fprintf(to, " %.3f / %.3f / %.3f |", stat_mean(&s[0]), stat_mean(&s[1]), stat_mean(&s[2]));
}

/* The group's classes and what is known of the test part, from any of its artifacts. */
static json_t *classes_of(const struct report *r, int group)
{
    for (int i = 0; i < r->n; i++) {
        if (r->row[i].group != group) continue;
        json_t *c = json_object_get(r->row[i].artifact, "classes_float");
        if (json_is_object(c)) return json_object_get(c, "per_class");
    }
    return NULL;
}

static void put_classes(const struct report *r, const struct ways *all, int group, FILE *to)
{
    json_t *classes = classes_of(r, group), *one;
    const char *label;
    if (!classes) return;
    fputs("\n| unit | removed | how |", to);
    json_object_foreach(classes, label, one) fprintf(
        to, " %s (%lld) |", label, (long long)json_integer_value(json_object_get(one, "records")));
    fputs("\n|---|---|---|", to);
    for (size_t i = 0; i < json_object_size(classes); i++) fputs("---|", to);
    fputc('\n', to);
    for (int i = 0; i < all->n; i++) {
        const struct way *w = &all->way[i];
        if (w->group != group) continue;
        if (w->rounds) {
            fprintf(to, "| %s | %g %% | ", w->unit, 100 * (1 - w->keep));
            put_how(all, w, to);
        } else {
            fputs("| unpruned | |", to);
        }
        fputs(w->distilled ? ", distilled |" : " |", to);
        json_object_foreach(classes, label, one) put_class(r, w, label, to);
        fputc('\n', to);
    }
}

static void put_text(const struct report *r, const struct ways *all, FILE *to)
{
    bool classes = false;
    for (int i = 0; i < all->n; i++) {
        int group = all->way[i].group;
        bool first = i == 0 || all->way[i - 1].group != group;
        bool last = i + 1 == all->n || all->way[i + 1].group != group;
        if (first && i) fputc('\n', to);
        if (first) put_head(&r->group[group], to);
        put_way(r, all, &all->way[i], to);
        if (last) put_classes(r, all, group, to);
        classes |= r->group[group].classes;
    }
    fputs(
        "\nmean(deviation in 1e-4) over seeds; against at once: mean difference over seeds, float, "
        "and its 95 % interval (Student, paired).\n",
        to);
    if (classes)
        fputs("macro-F1: the mean F1 of all classes; a class (test records) has sensitivity / "
              "precision / F1, float, means over seeds.\n",
              to);
}

/* ------------------------------------------------------------------------------------- figure */

/* Ways that differ in nothing but how much they remove are one line of the figure, which starts at
 * the unpruned net. */
static bool same_line(const struct way *a, const struct way *b)
{
    bool flat =
        a->rounds == 1 && strcmp(a->schedule, "sensitivity") && strcmp(b->schedule, "sensitivity");
    return a->group == b->group && a->distilled == b->distilled && a->rounds == b->rounds &&
           a->epochs == b->epochs && !strcmp(a->unit, b->unit) && !strcmp(a->norm, b->norm) &&
           (flat || !strcmp(a->schedule, b->schedule));
}

/* The ways of a group's lines, one for each, into all->line. */
static int lines_of(const struct ways *all, int group)
{
    const struct way **line = all->line;
    int n = 0;
    for (int i = 0; i < all->n; i++) {
        const struct way *w = &all->way[i];
        int j = 0;
        while (j < n && !same_line(line[j], w)) j++;
        if (w->group == group && w->rounds && j == n) line[n++] = w;
    }
    return n;
}

static void put_data(const struct report *r, const struct ways *all, FILE *to)
{
    fputs("# removed %, then mean and deviation of each measure (accuracy, macro-F1, or AUROC)\n",
          to);
    for (int g = 0; g < r->n_groups; g++) {
        const struct way *const *line = all->line;
        int n = lines_of(all, g);
        for (int l = 0; l < n; l++) {
            for (int i = 0; i < all->n; i++) {
                const struct way *w = &all->way[i];
                bool start = w->group == g && !w->rounds && w->distilled == line[l]->distilled;
                if (!start && !same_line(w, line[l])) continue;
                struct stat a = over_seeds(r, w, first_measure(&r->group[g]), 0);
                struct stat f = over_seeds(r, w, F1, 0);
                if (!a.n) continue; /* not measured */
                fprintf(to, "%g %.6f %.6f", 100 * (1 - w->keep), stat_mean(&a), stat_std(&a));
                fprintf(to, " %.6f %.6f\n", f.n ? stat_mean(&f) : 0, stat_std(&f));
            }
            fputs("\n\n", to); /* the next of gnuplot's indexes */
        }
    }
}

static void put_panel(const struct report *r, const struct ways *all, int group, int second,
                      int first_index, FILE *to)
{
    const struct group *g = &r->group[group];
    const struct way *const *line = all->line;
    char name[320];
    int n = lines_of(all, group);
    group_name(g, name);
    for (char *p = name; *p; p++)
        if (*p == '\'') *p = '"'; /* gnuplot's quote */
    fprintf(to, "set title '%s'\nset ylabel '%s'\nplot ", name,
            second       ? "macro-F1"
            : g->classes ? "accuracy"
                         : "macro-AUROC");
    for (int l = 0; l < n; l++) {
        const struct way *w = line[l];
        fprintf(to, "%s'stages.dat' index %d using 1:%d:%d with yerrorlines lw 2 pt 7 ps 0.7 ",
                l ? ", \\\n     " : "", first_index + l, second ? 4 : 2, second ? 5 : 3);
        fprintf(to, "title '%s%ss ", w->distilled ? "distilled, " : "", w->unit);
        put_how(all, w, to);
        fputc('\'', to);
    }
    fputc('\n', to);
}

static void put_script(const struct report *r, const struct ways *all, FILE *to)
{
    int rows = 1;
    for (int g = 0; g < r->n_groups; g++)
        if (r->group[g].classes) rows = 2;
    fprintf(to,
            "set terminal pngcairo size %d,%d font 'sans,10'\n"
            "set output 'stages.png'\nset multiplot layout %d,%d\n"
            "set xlabel 'removed, %%'\nset xrange [-3:103]\nset grid\nset key left bottom\n",
            560 * r->n_groups, 400 * rows, rows, r->n_groups);
    for (int second = 0; second < rows; second++) {
        int index = 0;
        for (int g = 0; g < r->n_groups; g++) {
            int n = lines_of(all, g);
            if (!n || (second && !r->group[g].classes))
                fputs("set multiplot next\n", to);
            else
                put_panel(r, all, g, second, index, to);
            index += n;
        }
    }
}

/* --------------------------------------------------------------------------------------- files */

static int write_one(const struct report *r, const struct ways *all, const char *dir,
                     const char *name,
                     void (*put)(const struct report *, const struct ways *, FILE *),
                     struct cn_error *err)
{
    char path[4096], *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f) return cn_fail(err, CN_ENOMEM, "out of memory");
    put(r, all, f);
    fclose(f);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int rc = cn_file_write(path, text, n, err);
    free(text);
    return rc;
}

int stages_write(const struct report *r, const char *dir, bool *drawn, struct cn_error *err)
{
    struct ways all = {0};
    bool both = false;
    int rc = collect(r, &all);
    if (rc) cn_fail(err, rc, "out of memory for a comparison of stages");
    for (int i = 0; !rc && i < all.n; i++) both |= at_once(&all, &all.way[i]) != NULL;
    if (!rc && both) {
        rc = write_one(r, &all, dir, "stages.md", put_text, err);
        if (!rc) rc = write_one(r, &all, dir, "stages.dat", put_data, err);
        if (!rc) rc = write_one(r, &all, dir, "stages.gp", put_script, err);
        if (!rc && !report_draw(dir, "stages.gp")) *drawn = false;
    }
    free(all.way);
    free(all.line);
    return rc;
}
