/* cli/table.c - see table.h. Cells are kept as text; widths are found when printing. */
#define _GNU_SOURCE /* vasprintf */
#include "cli/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

struct cli_table {
    int columns, rows, cap;
    char align[32];
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
        row[i] = strndup(text, n);
        text += n + (text[n] == '\t');
    }
    t->rows++;
    return 0;
}

struct cli_table *cli_table_create(const char *heads, const char *align)
{
    struct cli_table *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    snprintf(t->align, sizeof t->align, "%s", align);
    t->columns = (int)strlen(t->align);
    if (add_row(t, heads)) {
        free(t);
        return NULL;
    }
    return t;
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

static void print_cell(FILE *to, const char *text, int width, char align, int last)
{
    int gap = width - cli_text_width(text);
    if (align == 'r') fprintf(to, "%*s%s", gap, "", text);
    if (align == 'l') fprintf(to, "%s%*s", text, last ? 0 : gap, "");
    if (!last) fputs("  ", to);
}

void cli_table_print(const struct cli_table *t, FILE *to)
{
    if (!t) return;
    int width[32] = {0};
    for (int r = 0; r < t->rows; r++) {
        for (int i = 0; i < t->columns; i++) {
            const char *s = t->cell[r * t->columns + i];
            int w = s ? cli_text_width(s) : 0;
            if (w > width[i]) width[i] = w;
        }
    }
    for (int r = 0; r < t->rows; r++) {
        if (r == 0) fputs(cli_colour(fileno(to), CLI_BOLD), to);
        for (int i = 0; i < t->columns; i++) {
            const char *s = t->cell[r * t->columns + i];
            print_cell(to, s ? s : "", width[i], t->align[i], i == t->columns - 1);
        }
        if (r == 0) fputs(cli_colour(fileno(to), CLI_PLAIN), to);
        fputc('\n', to);
    }
}

void cli_table_destroy(struct cli_table *t)
{
    if (!t) return;
    for (int i = 0; i < t->rows * t->columns; i++) free(t->cell[i]);
    free(t->cell);
    free(t);
}
