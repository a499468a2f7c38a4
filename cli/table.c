/* cli/table.c - see table.h. Cells are kept as text; widths are found when printing. */
#define _GNU_SOURCE /* vasprintf */
#include "cli/table.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/cli.h"

struct cli_table {
    int columns, rows, cap;
    char *align; /* [columns] */
    char **cell; /* [rows, columns], row 0 is the heads */
};

int cli_text_width(const char *text)
{
    int n = 0;
    for (const char *p = text; *p; p++) {
        if (*p == '\033') {
            while (*p && *p != 'm') p++;
            if (!*p) break;
        } else if (((unsigned char)*p & 0xC0) != 0x80) {
            n++;
        }
    }
    return n;
}

/* The n bytes at `text` as they are shown; malloc'ed. */
static char *shown(const char *text, size_t n)
{
    size_t room = n * 4 + 8; /* no character's form has more than four times its bytes */
    char *copy = strndup(text, n), *out = malloc(room);
    if (copy && out) cn_text_show(out, room, copy);
    free(copy);
    return out;
}

static int add_row(struct cli_table *t, const char *text)
{
    if (t->rows == t->cap) {
        int cap = t->cap ? t->cap * 2 : 16;
        char **cell = realloc(t->cell, (size_t)cap * (size_t)t->columns * sizeof *cell);
        if (!cell) return CN_ENOMEM;
        t->cell = cell;
        t->cap = cap;
    }
    char **row = t->cell + (size_t)t->rows * (size_t)t->columns;
    for (int i = 0; i < t->columns; i++) {
        size_t n = strcspn(text, "\t");
        row[i] = shown(text, n);
        text += n + (text[n] == '\t');
    }
    t->rows++;
    return 0;
}

struct cli_table *cli_table_create(const char *heads, const char *align)
{
    struct cli_table *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->align = strdup(align);
    t->columns = (int)strlen(align);
    if (t->align && !add_row(t, heads)) return t;
    free(t->align);
    free(t);
    return NULL;
}

void cli_table_add(struct cli_table *t, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    if (!t) return;
    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    if (n < 0) return;
    add_row(t, text);
    free(text);
}

/* Room for one more column: the rows move apart, from the last. */
static int add_column(struct cli_table *t, char align)
{
    size_t columns = (size_t)t->columns, rows = (size_t)t->rows;
    char *wider = realloc(t->align, columns + 1);
    if (wider) t->align = wider;
    char **cell = wider ? realloc(t->cell, (size_t)t->cap * (columns + 1) * sizeof *cell) : NULL;
    if (!cell) return CN_ENOMEM;
    t->cell = cell;
    for (size_t r = rows; r-- > 0;) {
        memmove(cell + r * (columns + 1), cell + r * columns, columns * sizeof *cell);
        cell[r * (columns + 1) + columns] = NULL;
    }
    t->align[t->columns++] = align;
    return 0;
}

static void set_cell(struct cli_table *t, int row, int column, const char *fmt, va_list ap)
{
    char **cell = &t->cell[row * t->columns + column], *text = NULL;
    if (vasprintf(&text, fmt, ap) < 0) return;
    free(*cell);
    *cell = shown(text, strlen(text));
    free(text);
}

void cli_table_column(struct cli_table *t, char align, const char *fmt, ...)
{
    if (!t || add_column(t, align)) return;
    va_list ap;
    va_start(ap, fmt);
    set_cell(t, 0, t->columns - 1, fmt, ap);
    va_end(ap);
}

void cli_table_set(struct cli_table *t, int row, int column, const char *fmt, ...)
{
    if (!t || row + 1 >= t->rows || column >= t->columns) return;
    va_list ap;
    va_start(ap, fmt);
    set_cell(t, row + 1, column, fmt, ap);
    va_end(ap);
}

void cli_table_colour(struct cli_table *t, int column, enum cli_colour colour)
{
    const char *on = cli_colour(STDOUT_FILENO, colour);
    char *text = NULL;
    if (!t || !*on || column >= t->columns) return;
    char **cell = &t->cell[(t->rows - 1) * t->columns + column];
    if (asprintf(&text, "%s%s%s", on, *cell ? *cell : "", cli_colour(STDOUT_FILENO, CLI_PLAIN)) < 0)
        return;
    free(*cell);
    *cell = text;
}

int cli_table_rows(const struct cli_table *t)
{
    return t ? t->rows - 1 : 0;
}

static const char *cell_of(const struct cli_table *t, int row, int column)
{
    const char *s = t->cell[row * t->columns + column];
    return s ? s : "";
}

static void print_cell(FILE *to, const char *text, int width, char align, bool last)
{
    int gap = width - cli_text_width(text);
    if (align == 'r') fprintf(to, "%*s%s", gap, "", text);
    if (align == 'l') fprintf(to, "%s%*s", text, last ? 0 : gap, "");
    if (!last) fputs("  ", to);
}

/* The first column and columns [from, end) */
static void print_part(const struct cli_table *t, FILE *to, const int *width, int from, int end)
{
    for (int r = 0; r < t->rows; r++) {
        if (r == 0) fputs(cli_colour(fileno(to), CLI_BOLD), to);
        print_cell(to, cell_of(t, r, 0), width[0], t->align[0], from >= end);
        for (int i = from; i < end; i++)
            print_cell(to, cell_of(t, r, i), width[i], t->align[i], i == end - 1);
        if (r == 0) fputs(cli_colour(fileno(to), CLI_PLAIN), to);
        fputc('\n', to);
    }
}

/* limit < 0: none */
static void print_folded(const struct cli_table *t, FILE *to, int limit)
{
    int *width = t && t->columns ? calloc((size_t)t->columns, sizeof *width) : NULL;
    if (!width) return;
    for (int r = 0; r < t->rows; r++) {
        for (int i = 0; i < t->columns; i++) {
            int w = cli_text_width(cell_of(t, r, i));
            if (w > width[i]) width[i] = w;
        }
    }
    for (int from = 1, end; from <= t->columns; from = end) {
        int wide = width[0];
        for (end = from; end < t->columns; end++) {
            wide += 2 + width[end];
            if (limit >= 0 && wide > limit && end > from) break;
        }
        if (from > 1) fputc('\n', to);
        print_part(t, to, width, from, end);
        if (end == t->columns) break;
    }
    free(width);
}

void cli_table_print(const struct cli_table *t, FILE *to)
{
    print_folded(t, to, -1);
}

void cli_table_print_folded(const struct cli_table *t, FILE *to, int width)
{
    print_folded(t, to, width);
}

int cli_table_width(FILE *to)
{
    struct winsize size;
    if (isatty(fileno(to)) && !ioctl(fileno(to), TIOCGWINSZ, &size) && size.ws_col > 0)
        return size.ws_col;
    return 100;
}

void cli_table_destroy(struct cli_table *t)
{
    if (!t) return;
    for (int i = 0; i < t->rows * t->columns; i++) free(t->cell[i]);
    free(t->cell);
    free(t->align);
    free(t);
}
