/* cli/table.h - a table for people: columns as wide as their widest cell, aligned left or right. As
 * many rows and columns as it is given: one that is wider than the terminal is folded. Cells are texts
 * of any origin: their control characters are shown, not sent (base/text.h). */
#ifndef CINCH_CLI_TABLE_H
#define CINCH_CLI_TABLE_H

#include <stdio.h>

#include "cli/cli.h"

struct cli_table;

/* `heads` is tab-separated; `align` has an l or r for each column. NULL when out of memory; the
 * other calls accept that. */
struct cli_table *cli_table_create(const char *heads, const char *align);
/* One row, tab-separated cells after formatting; missing cells stay empty, surplus ones are
 * dropped.
 */
void cli_table_add(struct cli_table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* One more column at the right, empty in the rows that are there; `align` l or r. */
void cli_table_column(struct cli_table *t, char align, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The cell of row `row` (0: the first below the heads) and column `column`, both there. */
void cli_table_set(struct cli_table *t, int row, int column, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Colours a cell of the row added last, for a terminal that has colours. */
void cli_table_colour(struct cli_table *t, int column, enum cli_colour colour);
int cli_table_rows(const struct cli_table *t); /* below the heads */
void cli_table_print(const struct cli_table *t, FILE *to);
/* As several tables below each other, no wider than `width` where columns allow it; each begins with
 * the first column. */
void cli_table_print_folded(const struct cli_table *t, FILE *to, int width);
/* Columns of the terminal behind `to`, 100 where it is none. */
int cli_table_width(FILE *to);
void cli_table_destroy(struct cli_table *t); /* accepts NULL */

/* Columns that `text` takes on a terminal: UTF-8 characters, escape sequences not counted. */
int cli_text_width(const char *text);

#endif
