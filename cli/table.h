/* cli/table.h - a table for people: columns as wide as their widest cell, aligned left or right. */
#ifndef CINCH_CLI_TABLE_H
#define CINCH_CLI_TABLE_H

#include <stdio.h>

struct cli_table;

/* `heads` is tab-separated; `align` has an l or r for each column. NULL when out of memory; the
 * other calls accept that. */
struct cli_table *cli_table_create(const char *heads, const char *align);
/* One row, tab-separated cells after formatting; missing cells stay empty, surplus ones are
 * dropped.
 */
void cli_table_add(struct cli_table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void cli_table_print(const struct cli_table *t, FILE *to);
void cli_table_destroy(struct cli_table *t); /* accepts NULL */

/* Columns that `text` takes on a terminal: UTF-8 characters, escape sequences not counted. */
int cli_text_width(const char *text);

#endif
