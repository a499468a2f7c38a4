/* ecg/csv.c - see csv.h. A field is either bare text up to a comma or line end, or quoted text in
 * which "" stands for one quote and commas and line ends are themselves. */
#include "ecg/csv.h"

#include <string.h>

/* Cuts the quoted field at *p (which points behind the opening quote) in place; *p ends behind the
 * closing quote. */
static int quoted(struct ecg_csv *c, char **p, int column, struct cn_error *err)
{
    int line = c->line;
    char *from = *p, *to = *p;
    while (from < c->end) {
        if (*from == '"' && from + 1 < c->end && from[1] == '"') {
            from++;
        } else if (*from == '"') {
            char *after = from + 1;
            if (after < c->end && *after != ',' && *after != '\n' && *after != '\r')
                return cn_fail(err, CN_EINVALID,
                               "%s:%d: field %d: text after the closing quote; double the quotes "
                               "inside a field",
                               c->file, c->line, column + 1);
            *to = 0;
            *p = after;
            return 0;
        } else if (*from == '\n') {
            c->line++;
        }
        *to++ = *from++;
    }
    return cn_fail(err, CN_EINVALID, "%s:%d: field %d: the quote that opens here is never closed",
                   c->file, line, column + 1);
}

/* Reads one row into c->field; *n is the number of fields. */
static int cut_row(struct ecg_csv *c, int *n, struct cn_error *err)
{
    char *p = c->next;
    c->row_line = c->line;
    for (*n = 0;; p++) {
        if (*n == ECG_CSV_MAX_COLUMNS)
            return cn_fail(err, CN_ELIMIT, "%s:%d: more than %d columns", c->file, c->line,
                           ECG_CSV_MAX_COLUMNS);
        if (p < c->end && *p == '"') {
            c->field[*n] = ++p;
            int rc = quoted(c, &p, *n, err);
            if (rc) return rc;
        } else {
            c->field[*n] = p;
            while (p < c->end && *p != ',' && *p != '\n') p++;
        }
        ++*n;
        if (p >= c->end || *p != ',') break;
        *p = 0;
    }
    /* here p stands at the line end or the end of the text; a quoted field may leave a CR before */
    char *stop = p;
    if (p < c->end && *p == '\r') p++;
    if (p < c->end && *p != '\n')
        return cn_fail(err, CN_EINVALID, "%s:%d: a carriage return inside the row", c->file,
                       c->line);
    if (stop > c->field[*n - 1] && stop[-1] == '\r') stop--;
    *stop = 0;
    if (p < c->end) c->line++;
    c->next = p < c->end ? p + 1 : c->end;
    return 0;
}

int ecg_csv_start(struct ecg_csv *c, const char *file, char *text, size_t n, struct cn_error *err)
{
    memset(c, 0, sizeof *c);
    c->file = file;
    c->next = text;
    c->end = text + n;
    c->line = 1;
    if (memchr(text, 0, n)) return cn_fail(err, CN_EINVALID, "%s: not text (a 0 byte)", file);
    if (n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) c->next += 3;
    if (c->next == c->end)
        return cn_fail(err, CN_EINVALID, "%s: empty; expected a row of column names", file);
    int rc = cut_row(c, &c->n_columns, err);
    if (rc) return rc;
    memcpy(c->column, c->field, sizeof c->column);
    return 0;
}

int ecg_csv_row(struct ecg_csv *c, struct cn_error *err)
{
    int n = 0;
    do {
        if (c->next >= c->end) return 0;
        int rc = cut_row(c, &n, err);
        if (rc) return rc;
    } while (n == 1 && !c->field[0][0]);
    if (n != c->n_columns)
        return cn_fail(err, CN_EINVALID, "%s:%d: %d fields, but the first row names %d columns",
                       c->file, c->row_line, n, c->n_columns);
    return 1;
}

int ecg_csv_column(const struct ecg_csv *c, const char *name, struct cn_error *err)
{
    int found = -1;
    for (int i = 0; i < c->n_columns; i++) {
        if (strcmp(c->column[i], name) != 0) continue;
        if (found >= 0)
            return cn_fail(err, CN_EINVALID,
                           "%s:1: columns %d and %d are both called '%s'; keep one", c->file,
                           found + 1, i + 1, name);
        found = i;
    }
    return found >= 0 ? found : cn_fail(err, CN_EINVALID, "%s:1: no column '%s'", c->file, name);
}

void ecg_csv_put(FILE *f, const char *field)
{
    size_t n = strlen(field);
    if (n && !strpbrk(field, ",\"\r\n") && !strchr(" \t", field[0]) &&
        !strchr(" \t", field[n - 1])) {
        fputs(field, f);
        return;
    }
    fputc('"', f);
    for (; *field; field++) {
        if (*field == '"') fputc('"', f);
        fputc(*field, f);
    }
    fputc('"', f);
}
