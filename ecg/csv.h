/* ecg/csv.h - comma-separated values (RFC 4180), read and written: quoted fields with commas, quotes and
 * newlines, LF or CR LF, a byte order mark. Rows are cut in place from a text in memory. */
#ifndef CINCH_ECG_CSV_H
#define CINCH_ECG_CSV_H

#include <stddef.h>
#include <stdio.h>

#include "base/error.h"

#define ECG_CSV_MAX_COLUMNS 128

struct ecg_csv {
    const char *file;                  /* for messages; borrowed */
    char *next, *end;                  /* what is left of the text */
    int line;                          /* 1-based line where the next row starts */
    int row_line;                      /* where the current row started */
    int n_columns;                     /* from the first row */
    char *column[ECG_CSV_MAX_COLUMNS]; /* its names */
    char *field[ECG_CSV_MAX_COLUMNS];  /* current row; 0-terminated, in the text */
};

/* Starts on `n` bytes of text (kept and changed in place; text[n] must be writable) and reads the
 * row of column names. */
int ecg_csv_start(struct ecg_csv *c, const char *file, char *text, size_t n, struct cn_error *err);

/* 1: c->field holds the next row; 0: no more rows; CN_EINVALID: malformed (an open quote, text
 * after a closing one, a wrong number of fields), naming file:line. Empty lines are skipped. */
int ecg_csv_row(struct ecg_csv *c, struct cn_error *err);

/* Index of the column `name`; CN_EINVALID when there is none. */
int ecg_csv_column(const struct ecg_csv *c, const char *name, struct cn_error *err);

/* Writes a field as it must stand in a row: in quotes where it holds a comma, a quote, a line end or a
 * blank at either side. */
void ecg_csv_put(FILE *f, const char *field);

#endif
