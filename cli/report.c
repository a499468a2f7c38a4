/* cli/report.c - see report.h. A group's table has a column for every size and, in each, the best way
 * of pruning; where that leaves any out, a second table lists them all. What chooses the best is the
 * validation part: a figure on the test part that had also chosen would flatter. */
#include "cli/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/report_rows.h"
#include "cli/table.h"

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

void report_cell(double mean, double std, int n, char out[32])
{
    if (n == 0)
        snprintf(out, 32, "-");
    else if (n == 1)
        snprintf(out, 32, "%.4f", mean);
    else
        snprintf(out, 32, "%.4f(%03.0f)", mean, std * 1e4);
}

/* ------------------------------------------------------------------------------------ the choice */

/* What is shown of a column: the variant, and whether the validation part chose it. */
struct choice {
    const struct variant *v; /* NULL: nothing there */
    bool chosen;             /* false: there was no choice, or nothing to choose by */
    bool blind;              /* several, and nothing to choose by: the first of them */
};

static bool is_candidate(const struct variant *v, int column, int distilled)
{
    return v->column == column && v->distilled == distilled;
}

/* The variant of a column that has the best mean on the validation part; of equals the one of fewest
 * rounds. Without figures of the validation part the first that has results. */
static struct choice choose(const struct report *r, int column, int distilled, enum measure m,
                            int kind)
{
    struct choice c = {NULL, false, false};
    double best = NAN;
    int several = 0;
    for (int i = 0; i < r->n_variants; i++) {
        const struct variant *v = &r->variant[i];
        if (!is_candidate(v, column, distilled)) continue;
        double mean = stat_mean(&v->quality[m][VALIDATION][kind]);
        several += v->kinds[kind] > 0;
        bool better = isfinite(mean) && !(mean <= best) && v->quality[m][TEST][kind].n;
        if (!c.v || better || (!c.v->kinds[kind] && v->kinds[kind])) c.v = v;
        if (better) best = mean;
    }
    c.chosen = several > 1 && isfinite(best);
    c.blind = several > 1 && !isfinite(best);
    return c;
}

/* ------------------------------------------------------------------------------------ main table */

/* "100 %", "27.27 % w"; "keep 0.125" of a size that nothing is known of yet. */
static void column_size(const struct column *c, char out[48])
{
    double kept = 100 * stat_mean(&c->kept);
    size_t n;
    if (!c->kept.n)
        n = (size_t)snprintf(out, 48, "keep %g", c->keep);
    else
        n = (size_t)snprintf(out, 48, "%.*f %%", kept > 99.995 ? 0 : 2, kept);
    snprintf(out + n, 48 - n, "%s%s", strcmp(c->unit, "weight") ? "" : " w",
             c->scanned ? " s" : "");
}

/* Whether another column of the group has the same size: what was asked for tells them apart. */
static bool has_double(const struct report *r, int column)
{
    char own[48], other[48];
    int from, to;
    group_columns(r, r->column[column].group, &from, &to);
    column_size(&r->column[column], own);
    for (int c = from; c < to; c++) {
        column_size(&r->column[c], other);
        if (c != column && !strcmp(own, other)) return true;
    }
    return false;
}

/* "100 %"; "36.41 % of 0.51" where that size comes of several fractions. */
static void column_head(const struct report *r, int column, char out[80])
{
    char size[48];
    column_size(&r->column[column], size);
    if (has_double(r, column))
        snprintf(out, 80, "%s of %g", size, r->column[column].keep);
    else
        snprintf(out, 80, "%s", size);
}

/* "0.9186(013) 5/L1 n=4"; "n/a": measured, but not defined; "-": not measured. */
static void quality_cell(const struct choice *c, enum measure m, int kind, int seeds, char out[160])
{
    char variant[64], cell[32];
    const struct stat *s = c->v ? &c->v->quality[m][TEST][kind] : NULL;
    if (!c->v || !c->v->kinds[kind]) {
        snprintf(out, 160, "-");
        return;
    }
    variant_text(c->v, variant);
    report_cell(stat_mean(s), stat_std(s), s->n, cell);
    size_t n = (size_t)snprintf(out, 160, "%s%s%s%s", s->n ? cell : "n/a", *variant ? " " : "",
                                variant, c->blind ? "?" : "");
    if (s->n && s->n < seeds) snprintf(out + n, 160 - n, " n=%d", s->n);
}

/* The most seeds that any variant of the group was asked for with. */
static int most_seeds(const struct report *r, int group)
{
    int most = 0, from, to;
    group_variants(r, group, &from, &to);
    for (int i = from; i < to; i++)
        if (r->variant[i].seeds > most) most = r->variant[i].seeds;
    return most;
}

/* The line of one measure, float or int8, plain or distilled; none when nothing of it was measured. */
static void add_quality_row(const struct report *r, int group, enum measure m, int row,
                            struct cli_table *t)
{
    static const char *const label[] = {"F", "Q", "FKD", "QKD"};
    static const char *const of[] = {"", "acc ", "F1 "};
    int from, to, any = 0, seeds = most_seeds(r, group), at = cli_table_rows(t);
    char cell[160];
    group_columns(r, group, &from, &to);
    for (int c = from; c < to; c++) {
        struct choice chosen = choose(r, c, row / 2, m, row % 2);
        any += chosen.v && chosen.v->kinds[row % 2];
    }
    if (!any) return;
    cli_table_add(t, "%s%s", of[m], label[row]);
    for (int c = from; c < to; c++) {
        struct choice chosen = choose(r, c, row / 2, m, row % 2);
        quality_cell(&chosen, m, row % 2, seeds, cell);
        cli_table_set(t, at, c - from + 1, "%s", cell);
    }
}

/* Over all nets of a column: they have the same layers, or (scanned) as many structures in all. */
static struct stat column_cost(const struct report *r, int column, bool macs, int kind)
{
    struct stat s = {0};
    for (int i = 0; i < r->n; i++)
        if (r->row[i].column == column)
            stat_add(&s, macs ? r->row[i].nonzero[kind] : r->row[i].bytes[kind]);
    return s;
}

static void add_cost_row(const struct report *r, int group, bool macs, int kind,
                         struct cli_table *t)
{
    static const char *const label[2][2] = {{"KB F", "KB Q"}, {"kMAC F", "kMAC Q"}};
    int from, to, any = 0, at = cli_table_rows(t);
    group_columns(r, group, &from, &to);
    for (int c = from; c < to; c++) any += column_cost(r, c, macs, kind).n;
    if (!any) return;
    cli_table_add(t, "%s", label[macs][kind]);
    for (int c = from; c < to; c++) {
        struct stat s = column_cost(r, c, macs, kind);
        double std = stat_std(&s) / 1000;
        if (!s.n)
            cli_table_set(t, at, c - from + 1, "-");
        else if (std >= 0.0005)
            cli_table_set(t, at, c - from + 1, "%.3f(%.3f)", stat_mean(&s) / 1000, std);
        else
            cli_table_set(t, at, c - from + 1, "%.3f", stat_mean(&s) / 1000);
    }
}

/* "105.2 [98.1-112.0]~": median of all processes' p50, least and most. */
static void latency_cell(const struct spread *s, char out[96])
{
    size_t n = 0;
    if (!s->nets) {
        snprintf(out, 96, "-");
        return;
    }
    n = (size_t)snprintf(out, 96, "%.1f", s->median);
    if (s->processes > 1) n += (size_t)snprintf(out + n, 96 - n, " [%.1f-%.1f]", s->low, s->high);
    if (s->disturbed) snprintf(out + n, 96 - n, "~");
}

/* The number by which a group's lines tell its setup; 0: it has one only. */
static int setup_number(const struct report *r, int group, int setup)
{
    int n = 0, at = 0;
    for (int i = 0; i < r->n_setups; i++) {
        if (!group_has_setup(r, group, i)) continue;
        n++;
        if (i == setup) at = n;
    }
    return n > 1 ? at : 0;
}

static bool was_timed(const struct report *r, int group, int setup, int kind)
{
    for (int i = 0; i < r->n_timings; i++)
        if (r->timing[i].setup == setup && r->timing[i].kind == kind &&
            r->row[r->timing[i].row].group == group)
            return true;
    return false;
}

static void add_latency_rows(const struct report *r, int group, struct cli_table *t)
{
    int from, to;
    group_columns(r, group, &from, &to);
    for (int setup = 0; setup < r->n_setups; setup++) {
        if (!group_has_setup(r, group, setup)) continue;
        int number = setup_number(r, group, setup);
        for (int kind = 0; kind < 2; kind++) {
            int at = cli_table_rows(t);
            char cell[96], which[32] = "";
            if (!was_timed(r, group, setup, kind)) continue;
            if (number) snprintf(which, sizeof which, " #%d", number);
            cli_table_add(t, "us %s%s", kind ? "Q" : "F", which);
            for (int c = from; c < to; c++) {
                struct spread s;
                column_latency(r, c, kind, setup, &s);
                latency_cell(&s, cell);
                cli_table_set(t, at, c - from + 1, "%s", cell);
            }
        }
    }
}

static void add_rows(const struct report *r, int group, struct cli_table *t)
{
    bool classes = r->group[group].classes;
    for (int m = classes ? ACCURACY : AUROC; m <= (classes ? F1 : AUROC); m++)
        for (int row = 0; row < 4; row++) add_quality_row(r, group, (enum measure)m, row, t);
    for (int kind = 0; kind < 2; kind++) add_cost_row(r, group, false, kind, t);
    add_latency_rows(r, group, t);
    for (int kind = 0; kind < 2; kind++) add_cost_row(r, group, true, kind, t);
}

static void print_table(const struct report *r, int group, FILE *to)
{
    struct cli_table *t = cli_table_create(r->group[group].label, "l");
    int from, end;
    char head[80];
    group_columns(r, group, &from, &end);
    for (int c = from; c < end; c++) {
        column_head(r, c, head);
        cli_table_column(t, 'l', "%s", head);
    }
    add_rows(r, group, t);
    cli_table_print_folded(t, to, cli_table_width(to));
    cli_table_destroy(t);
}

/* ----------------------------------------------------------------------------------- the caption */

/* How a group's shown variants were chosen; false: there was nothing to choose. */
static bool count_choices(const struct report *r, int group, int *chosen, int *blind)
{
    bool classes = r->group[group].classes;
    int from, to;
    *chosen = *blind = 0;
    group_columns(r, group, &from, &to);
    for (int c = from; c < to; c++)
        for (int m = classes ? ACCURACY : AUROC; m <= (classes ? F1 : AUROC); m++)
            for (int row = 0; row < 4; row++) {
                struct choice one = choose(r, c, row / 2, (enum measure)m, row % 2);
                *chosen += one.chosen;
                *blind += one.blind;
            }
    return *chosen + *blind > 0;
}

static void print_choice(const struct report *r, int group, FILE *to)
{
    const char *by = r->group[group].classes ? "validation accuracy and F1" : "validation AUROC";
    int chosen, blind;
    if (!count_choices(r, group, &chosen, &blind)) return;
    if (chosen)
        cli_print(to,
                  "selection: of several variants the one with the best %s, float by float and "
                  "int8 by int8\n",
                  by);
    if (blind)
        cli_print(to,
                  "selection: none (no %s) in %s, which an older worker measured: the variant of "
                  "fewest rounds\nstands there, marked ?, and the list below has all\n",
                  by, chosen ? "some cells" : "this table");
}

/* "3 waiting, 2 blocked": where the missing measurements of a group are. */
static void print_states(const struct report *r, int group, FILE *to)
{
    json_t *all = json_object(), *n;
    const char *state;
    const json_t *last = NULL;
    for (int i = 0; i < r->n; i++) {
        const struct row *row = &r->row[i];
        if (row->group != group || row->measured || row->artifact == last) continue;
        last = row->artifact; /* an entry has a row for each seed */
        json_object_foreach(json_object_get(last, "states"), state, n)
        {
            json_int_t before = json_integer_value(json_object_get(all, state));
            json_object_set_new(all, state, json_integer(before + json_integer_value(n)));
        }
    }
    int said = 0;
    json_object_foreach(all, state, n)
        cli_print(to, "%s %lld %s", said++ ? "," : ":", (long long)json_integer_value(n), state);
    json_decref(all);
}

/* Seeds, and what is missing of what was asked for. */
static void print_counts(const struct report *r, int group, FILE *to)
{
    int seeds = most_seeds(r, group), asked = 0, missing = 0;
    for (int i = 0; i < r->n; i++) {
        if (r->row[i].group != group) continue;
        asked++;
        missing += !r->row[i].measured;
    }
    cli_print(to, "n = %d seed%s", seeds, seeds == 1 ? "" : "s");
    if (missing) {
        cli_print(to, "; %d of %d measurements are missing (-)", missing, asked);
        print_states(r, group, to);
    }
    fputc('\n', to);
}

static void print_setups(const struct report *r, int group, FILE *to)
{
    char text[256];
    for (int i = 0; i < r->n_setups; i++) {
        if (!group_has_setup(r, group, i)) continue;
        int number = setup_number(r, group, i);
        setup_text(&r->setup[i], text);
        if (number)
            cli_print(to, "us #%d: %s\n", number, text);
        else if (*text)
            cli_print(to, "us: %s\n", text);
    }
}

/* Labels that a group's macro mean leaves out on one part. */
static void print_undefined(const struct report *r, int group, const char *key, const char *part,
                            FILE *to)
{
    json_t *seen = json_object(), *label;
    const char *name;
    size_t k;
    for (int i = 0; i < r->n; i++) {
        json_t *list = json_object_get(r->row[i].artifact, key);
        if (r->row[i].group != group) continue;
        json_array_foreach(list, k, label)
        {
            name = json_string_value(label);
            if (name) json_object_set_new(seen, name, json_true());
        }
    }
    if (json_object_size(seen)) {
        int n = 0;
        fputs("macro-AUROC leaves out", to);
        json_object_foreach(seen, name, label) cli_print(to, "%s %s", n++ ? "," : "", name);
        cli_print(to, ": all records of the %s part have it, or none (n/a)\n", part);
    }
    json_decref(seen);
}

/* ------------------------------------------------------------------------------ every variant */

/* Whether the table above shows everything that the group has. */
static bool all_shown(const struct report *r, int group)
{
    int from, to;
    group_variants(r, group, &from, &to);
    for (int i = from; i < to; i++) {
        const struct variant *v = &r->variant[i];
        if (v->column < 0) return false;
        if (i > from && r->variant[i - 1].column == v->column &&
            r->variant[i - 1].distilled == v->distilled)
            return false;
    }
    return true;
}

/* "27.27 % 5/L1 KD after 2" */
static void variant_head(const struct report *r, const struct variant *v, char out[160])
{
    char way[64];
    size_t n;
    variant_text(v, way);
    if (v->kept.n)
        n = (size_t)snprintf(out, 160, "%.*f %%", stat_mean(&v->kept) > 0.99995 ? 0 : 2,
                             100 * stat_mean(&v->kept));
    else
        n = (size_t)snprintf(out, 160, "keep %g", v->keep);
    if (!strcmp(v->unit, "weight")) n += (size_t)snprintf(out + n, 160 - n, " w");
    if (v->kept.n && v->column >= 0 && has_double(r, v->column))
        n += (size_t)snprintf(out + n, 160 - n, " of %g", v->keep);
    if (*way) n += (size_t)snprintf(out + n, 160 - n, " %s", way);
    if (v->distilled) n += (size_t)snprintf(out + n, 160 - n, " KD");
    if (v->round != v->rounds) snprintf(out + n, 160 - n, " after %d", v->round);
}

static void set_quality(struct cli_table *t, int at, int *column, const struct variant *v,
                        enum measure m, enum part p)
{
    char cell[32];
    for (int kind = 0; kind < 2; kind++) {
        const struct stat *s = &v->quality[m][p][kind];
        report_cell(stat_mean(s), stat_std(s), s->n, cell);
        cli_table_set(t, at, (*column)++, "%s",
                      s->n || !v->kinds[kind] || p == VALIDATION ? cell : "n/a");
    }
}

static void add_variant(const struct report *r, int i, struct cli_table *t)
{
    const struct variant *v = &r->variant[i];
    bool classes = r->group[v->group].classes;
    int at = cli_table_rows(t), column = 1;
    char head[160], cell[96];
    variant_head(r, v, head);
    cli_table_add(t, "%s", head);
    if (v->measured == v->seeds)
        cli_table_set(t, at, column++, "%d", v->seeds);
    else
        cli_table_set(t, at, column++, "%d of %d", v->measured, v->seeds);
    for (int m = classes ? ACCURACY : AUROC; m <= (classes ? F1 : AUROC); m++)
        for (int p = VALIDATION; p >= TEST; p--)
            set_quality(t, at, &column, v, (enum measure)m, (enum part)p);
    for (int kind = 0; kind < 2; kind++) {
        if (v->bytes[kind].n)
            cli_table_set(t, at, column, "%.3f", stat_mean(&v->bytes[kind]) / 1000);
        else
            cli_table_set(t, at, column, "-");
        column++;
    }
    for (int setup = 0; setup < r->n_setups; setup++)
        for (int kind = 0; kind < 2 && group_has_setup(r, v->group, setup); kind++) {
            struct spread s;
            variant_latency(r, i, kind, setup, &s);
            latency_cell(&s, cell);
            cli_table_set(t, at, column++, "%s", cell);
        }
}

static struct cli_table *variants_table(const struct report *r, int group)
{
    static const char *const heads[] = {"", "acc ", "F1 "};
    bool classes = r->group[group].classes;
    struct cli_table *t = cli_table_create("", "l");
    cli_table_column(t, 'l', "n");
    for (int m = classes ? ACCURACY : AUROC; m <= (classes ? F1 : AUROC); m++) {
        for (int k = 0; k < 4; k++)
            cli_table_column(t, 'l', "%s%s %c", heads[m], k < 2 ? "val" : "test", "FQ"[k % 2]);
    }
    cli_table_column(t, 'r', "KB F");
    cli_table_column(t, 'r', "KB Q");
    for (int i = 0; i < r->n_setups; i++) {
        char which[32] = "";
        int number = setup_number(r, group, i);
        if (number) snprintf(which, sizeof which, " #%d", number);
        for (int kind = 0; kind < 2 && group_has_setup(r, group, i); kind++)
            cli_table_column(t, 'l', "us %s%s", kind ? "Q" : "F", which);
    }
    return t;
}

static void print_variants(const struct report *r, int group, FILE *to)
{
    int from, end;
    if (all_shown(r, group)) return;
    struct cli_table *t = variants_table(r, group);
    group_variants(r, group, &from, &end);
    for (int i = from; i < end; i++) add_variant(r, i, t);
    cli_print(to, "\n%s, every variant: %s on the validation and on the test part\n",
              r->group[group].label, r->group[group].classes ? "accuracy and F1" : "AUROC");
    cli_table_print_folded(t, to, cli_table_width(to));
    cli_table_destroy(t);
}

/* ---------------------------------------------------------------------------------------- whole */

static void print_group(const struct report *r, int group, FILE *to)
{
    print_table(r, group, to);
    print_counts(r, group, to);
    print_choice(r, group, to);
    if (!r->group[group].classes) {
        print_undefined(r, group, "auroc_undefined", "test", to);
        print_undefined(r, group, "auroc_undefined_validation", "validation", to);
    }
    print_setups(r, group, to);
    print_variants(r, group, to);
}

/* What disturbed the times that are marked: how many, and an example in words. */
static void print_disturbed(const struct report *r, FILE *to)
{
    int n = 0;
    const char *example = "";
    for (int i = 0; i < r->n_timings; i++) {
        if (!*r->timing[i].disturbed_by) continue;
        if (!n++) example = r->timing[i].disturbed_by;
    }
    if (n)
        cli_print(to, "~: %d of %d times were taken under disturbance; the first: %s.\n", n,
                  r->n_timings, example);
}

static void print_legend(const struct report *r, FILE *to)
{
    bool classes = false, scores = false, weights = false, scans = false, unknown = false;
    bool doubles = false;
    for (int i = 0; i < r->n_groups; i++) {
        classes |= r->group[i].classes;
        scores |= !r->group[i].classes;
    }
    for (int i = 0; i < r->n_columns; i++) {
        weights |= !strcmp(r->column[i].unit, "weight");
        scans |= r->column[i].scanned;
        unknown |= !r->column[i].kept.n;
        doubles |= has_double(r, i);
    }
    fputc('\n', to);
    if (scores) fputs("macro-AUROC", to);
    if (classes) cli_print(to, "%sacc accuracy, F1 the mean F1 of all classes", scores ? "; " : "");
    fputs(" on the test part, mean(deviation in 1e-4) over seeds;\ncolumns: parameters left", to);
    if (weights) fputs(" (w: single weights held at zero, the net's shape stays)", to);
    if (scans) fputs(" (s: a scan shares out what is removed, each net has its own layers)", to);
    if (unknown) fputs(" (keep: of this size, as asked for, nothing is measured)", to);
    if (doubles) fputs(" (of: the fraction asked for, where several gave one size)", to);
    fputs(";\nF float, Q int8, KD distilled; n/Lx: the pruning variant (rounds/norm);\n"
          "KB: stored file, kMAC: multiplications of one inference without those by zero, over the "
          "nets "
          "of the column.\n",
          to);
    if (r->n_timings)
        fputs(
            "us: p50 of one inference, the median [least-most] over all processes of the column's "
            "nets.\n",
            to);
    print_disturbed(r, to);
}

static void print_failed(const struct report *r, FILE *to)
{
    const json_t *list = json_object_get(r->doc, "failed");
    size_t n = json_array_size(list);
    if (n) cli_print(to, "\n%zu job%s failed:\n", n, n == 1 ? "" : "s");
    for (size_t i = 0; i < n; i++) {
        const json_t *f = json_array_get(list, i);
        cli_print(to, "  %s: %s\n", text_of(f, "job"), text_of(f, "reason"));
    }
}

static bool any_measured(const struct report *r)
{
    for (int i = 0; i < r->n; i++)
        if (r->row[i].measured) return true;
    return false;
}

void report_print(const struct report *r, FILE *to)
{
    bool any = any_measured(r);
    for (int i = 0; i < r->n_groups && any; i++) {
        if (i) fputc('\n', to);
        print_group(r, i, to);
    }
    if (any)
        print_legend(r, to);
    else
        cli_print(to, "nothing measured yet\n");
    print_failed(r, to);
}
