/* cli/report_figures.c - latency and stored size against parameters left, drawn by gnuplot: one line
 * for float and one for int8, of each machine and allocator that times come from. Bars: of a size its
 * deviation, of a latency the least and the most p50 of all processes. What was taken under
 * disturbance is ringed. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/report.h"
#include "cli/report_rows.h"

enum figure { SIZE, LATENCY };
static const char *const ends[] = {"size", "latency"};

/* One point; false: nothing was measured there. */
struct point {
    double x, y, low, high;
    bool disturbed;
};

static bool point_of(const struct report *r, enum figure f, int column, int kind, int setup,
                     struct point *out)
{
    *out = (struct point){.x = 100 * stat_mean(&r->column[column].kept)};
    if (f == LATENCY) {
        struct spread s;
        column_latency(r, column, kind, setup, &s);
        out->y = s.median;
        out->low = s.low;
        out->high = s.high;
        out->disturbed = s.disturbed > 0;
        return s.nets > 0;
    }
    struct stat s = {0};
    for (int i = 0; i < r->n; i++)
        if (r->row[i].column == column) stat_add(&s, r->row[i].bytes[kind] / 1000);
    out->y = stat_mean(&s);
    out->low = out->y - stat_std(&s);
    out->high = out->y + stat_std(&s);
    return s.n > 0;
}

/* A line of the figure: its points in the .dat, its words in the .gp. */
struct line {
    int kind, setup;
    int points, disturbed;
};

static void count_points(const struct report *r, enum figure f, int group, struct line *l)
{
    int from, to;
    struct point p;
    l->points = l->disturbed = 0;
    group_columns(r, group, &from, &to);
    for (int c = from; c < to; c++) {
        if (!point_of(r, f, c, l->kind, l->setup, &p)) continue;
        l->points++;
        l->disturbed += p.disturbed;
    }
}

static void write_points(const struct report *r, enum figure f, int group, const struct line *l,
                         FILE *to)
{
    int from, end;
    struct point p;
    group_columns(r, group, &from, &end);
    for (int c = from; c < end; c++)
        if (point_of(r, f, c, l->kind, l->setup, &p))
            fprintf(to, "%.4f %.6g %.6g %.6g %d\n", p.x, p.y, p.low, p.high, p.disturbed);
    fputs("\n\n", to); /* the next of gnuplot's indexes */
}

/* Calls `put` for each line of the figure that has points; how many there were. */
static int each_line(const struct report *r, enum figure f, int group, FILE *to,
                     void (*put)(const struct report *r, enum figure f, int group,
                                 const struct line *l, int index, FILE *to))
{
    int n = 0, setups = f == LATENCY ? r->n_setups : 1;
    for (int setup = 0; setup < setups; setup++) {
        for (int kind = 0; kind < 2; kind++) {
            struct line l = {.kind = kind, .setup = setup};
            count_points(r, f, group, &l);
            if (!l.points) continue;
            if (put) put(r, f, group, &l, n, to);
            n++;
        }
    }
    return n;
}

static void put_data(const struct report *r, enum figure f, int group, const struct line *l,
                     int index, FILE *to)
{
    fprintf(to, "# %s\n", l->kind ? "int8" : "float");
    write_points(r, f, group, l, to);
}

/* What gnuplot reads as it stands in single quotes. */
static void put_quoted(FILE *to, const char *text)
{
    char shown[512];
    cn_text_show(shown, sizeof shown, text);
    fputc('\'', to);
    for (const char *p = shown; *p; p++) fputc(*p == '\'' ? '"' : *p, to);
    fputc('\'', to);
}

static void put_plot(const struct report *r, enum figure f, int group, const struct line *l,
                     int index, FILE *to)
{
    char setup[256] = "", title[300];
    int several = 0;
    for (int i = 0; i < r->n_setups && f == LATENCY; i++) several += group_has_setup(r, group, i);
    if (several > 1) setup_text(&r->setup[l->setup], setup);
    snprintf(title, sizeof title, "%s%s%s", l->kind ? "int8" : "float", *setup ? ", " : "", setup);
    fprintf(to, "%s'%s-%s.dat' index %d using 1:2:3:4 with yerrorlines title ",
            index ? ", \\\n     " : "plot ", r->group[group].stem, ends[f], index);
    put_quoted(to, title);
    if (l->disturbed)
        fprintf(to,
                ", \\\n     '%s-%s.dat' index %d using 1:($5 > 0 ? $2 : NaN) with points pt 6 ps 2 "
                "lc rgb 'gray40' "
                "title '~ disturbed'",
                r->group[group].stem, ends[f], index);
}

static void write_script(const struct report *r, enum figure f, int group, FILE *to)
{
    fprintf(to,
            "set terminal svg size 640,420 font 'sans,13' noenhanced\n"
            "set output '%s-%s.svg'\nset title ",
            r->group[group].stem, ends[f]);
    put_quoted(to, r->group[group].label);
    fprintf(to,
            "\nset xlabel 'parameters left, %%'\nset ylabel '%s'\n"
            "set xrange [0:105]\nset yrange [0:*]\nset key left top\nset grid\n",
            f == SIZE ? "stored size, KB" : "p50 of one inference, us");
    each_line(r, f, group, to, put_plot);
    fputc('\n', to);
}

static void write_data(const struct report *r, enum figure f, int group, FILE *to)
{
    fprintf(to, "# parameters left %%, %s, least, most, 1: taken under disturbance\n",
            f == SIZE ? "mean size KB (least and most: one deviation)" : "median p50 us");
    each_line(r, f, group, to, put_data);
}

static int write_one(const struct report *r, enum figure f, int group, const char *dir,
                     const char *ending, struct cn_error *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s-%s%s", dir, r->group[group].stem, ends[f], ending);
    FILE *to = fopen(path, "w");
    if (!to) return cn_fail_errno(err, "cannot write %s", path);
    if (!strcmp(ending, ".dat"))
        write_data(r, f, group, to);
    else
        write_script(r, f, group, to);
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
    snprintf(line, sizeof line, "cd -- '%s' && gnuplot '%s' >/dev/null 2>&1", quoted, script);
    return system(line) == 0;
}

int report_figures(const struct report *r, const char *dir, bool *drawn, struct cn_error *err)
{
    *drawn = true;
    for (int i = 0; i < r->n_groups; i++) {
        for (int f = SIZE; f <= LATENCY; f++) {
            char script[160];
            if (!each_line(r, (enum figure)f, i, NULL, NULL)) continue;
            int rc = write_one(r, (enum figure)f, i, dir, ".dat", err);
            if (!rc) rc = write_one(r, (enum figure)f, i, dir, ".gp", err);
            if (rc) return rc;
            snprintf(script, sizeof script, "%s-%s.gp", r->group[i].stem, ends[f]);
            if (!report_draw(dir, script)) *drawn = false;
        }
    }
    return 0;
}
