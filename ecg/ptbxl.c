/* ecg/ptbxl.c - PTB-XL's tables; see ptbxl.h.
 *
 * ptbxl_database.csv has one row per record. Its scp_codes column is a Python dictionary from SCP
 * statement to likelihood, {'NORM': 100.0, 'SR': 0.0}; scp_statements.csv says of each statement
 * whether it is diagnostic and to which super-class it belongs.
 */
#define _GNU_SOURCE
#include "ecg/ptbxl.h"

#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/text.h"
#include "ecg/csv.h"

const char *const ecg_ptbxl_label[ECG_PTBXL_LABELS] = {"NORM", "MI", "CD", "HYP", "STTC"};

#define CSV_LIMIT ((size_t)256 << 20)
#define MAX_STATEMENTS 512

/* A diagnostic statement and its label's index. */
struct statement {
    char code[24];
    int label;
};

struct statements {
    int n;
    struct statement of[MAX_STATEMENTS];
};

/* --- scp_statements.csv ---------------------------------------------------------------------- */

static int label_index(const char *name)
{
    for (int i = 0; i < ECG_PTBXL_LABELS; i++)
        if (!strcmp(name, ecg_ptbxl_label[i])) return i;
    return -1;
}

static int add_statement(struct statements *s, const struct ecg_csv *c, int diagnostic, int class,
                         struct cn_error *err)
{
    char *end;
    double flag = strtod(c->field[diagnostic], &end);
    if (*end)
        return cn_fail(err, CN_EINVALID, "%s:%d: diagnostic: '%.40s' is not a number", c->file,
                       c->row_line, c->field[diagnostic]);
    if (flag != 1) return 0;
    int label = label_index(c->field[class]);
    if (label < 0)
        return cn_fail(err, CN_EINVALID,
                       "%s:%d: diagnostic_class: '%.40s' is none of NORM, MI, CD, HYP, STTC",
                       c->file, c->row_line, c->field[class]);
    struct statement *st = &s->of[s->n];
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->of[i].code, c->field[0]) && s->of[i].label != label)
            return cn_fail(err, CN_EINVALID, "%s:%d: '%.40s' stands here as %s, before as %s",
                           c->file, c->row_line, c->field[0], ecg_ptbxl_label[label],
                           ecg_ptbxl_label[s->of[i].label]);
    if (s->n == MAX_STATEMENTS)
        return cn_fail(err, CN_ELIMIT, "%s:%d: more than %d diagnostic statements", c->file,
                       c->row_line, MAX_STATEMENTS);
    if (strlen(c->field[0]) >= sizeof st->code || !c->field[0][0])
        return cn_fail(err, CN_EINVALID, "%s:%d: '%.40s' is not an SCP code", c->file, c->row_line,
                       c->field[0]);
    snprintf(st->code, sizeof st->code, "%s", c->field[0]);
    st->label = label;
    s->n++;
    return 0;
}

static int parse_statements(struct statements *s, const struct ecg_table *t, struct cn_error *err)
{
    struct ecg_csv csv;
    s->n = 0;
    int rc = ecg_csv_start(&csv, t->file, t->text, t->n, err);
    if (rc) return rc;
    int diagnostic = ecg_csv_column(&csv, "diagnostic", err);
    if (diagnostic < 0) return diagnostic;
    int class = ecg_csv_column(&csv, "diagnostic_class", err);
    if (class < 0) return class;
    while ((rc = ecg_csv_row(&csv, err)) > 0) {
        rc = add_statement(s, &csv, diagnostic, class, err);
        if (rc) return rc;
    }
    if (!rc && !s->n)
        rc = cn_fail(err, CN_EINVALID, "%s: no statement is diagnostic; is the file complete?",
                     t->file);
    return rc;
}

/* --- the dictionary of one row --------------------------------------------------------------- */

struct dict {
    const char *at; /* where the reading stands */
    const char *text;
};

static void spaces(struct dict *d)
{
    while (*d->at == ' ') d->at++;
}

static int expect(struct dict *d, char c)
{
    spaces(d);
    if (*d->at != c) return -1;
    d->at++;
    return 0;
}

/* Reads 'KEY': number into key. */
static int dict_pair(struct dict *d, char *key, size_t cap)
{
    spaces(d);
    char quote = *d->at;
    if (quote != '\'' && quote != '"') return -1;
    const char *start = ++d->at;
    while (*d->at && *d->at != quote) d->at++;
    size_t n = (size_t)(d->at - start);
    if (*d->at != quote || n == 0 || n >= cap) return -1;
    memcpy(key, start, n);
    key[n] = 0;
    d->at++;
    if (expect(d, ':')) return -1;
    spaces(d);
    char *end;
    if (!isfinite(strtod(d->at, &end)) || end == d->at) return -1;
    d->at = end;
    return 0;
}

/* Sets the labels of a dictionary's codes; -1 at a malformed place. */
static int dict_labels(struct dict *d, const struct statements *s, uint8_t *label)
{
    char key[64];
    if (expect(d, '{')) return -1;
    spaces(d);
    for (bool first = true; *d->at != '}'; first = false) {
        if (!first && expect(d, ',')) return -1;
        if (dict_pair(d, key, sizeof key)) return -1;
        for (int i = 0; i < s->n; i++)
            if (!strcmp(s->of[i].code, key)) label[s->of[i].label] = 1;
        spaces(d);
    }
    d->at++;
    spaces(d);
    return *d->at ? -1 : 0;
}

/* --- ptbxl_database.csv ---------------------------------------------------------------------- */

struct columns {
    int id, codes, fold, file, patient; /* patient: -1 where there is none */
};

static int find_columns(const struct ecg_csv *c, struct columns *at, struct cn_error *err)
{
    at->id = ecg_csv_column(c, "ecg_id", err);
    if (at->id < 0) return at->id;
    at->codes = ecg_csv_column(c, "scp_codes", err);
    if (at->codes < 0) return at->codes;
    at->fold = ecg_csv_column(c, "strat_fold", err);
    if (at->fold < 0) return at->fold;
    at->file = ecg_csv_column(c, "filename_lr", err);
    if (at->file < 0) return at->file;
    at->patient = -1;
    for (int i = 0; i < c->n_columns && at->patient < 0; i++)
        if (!strcmp(c->column[i], "patient_id")) at->patient = i;
    if (at->patient < 0) return 0;
    at->patient = ecg_csv_column(c, "patient_id", err); /* refuses a second one */
    return at->patient < 0 ? at->patient : 0;
}

static int whole(const struct ecg_csv *c, int column, int lo, int hi, int *out,
                 struct cn_error *err)
{
    const char *s = c->field[column];
    char *end;
    long v = strtol(s, &end, 10);
    if (!strcmp(end, ".0")) end += 2; /* pandas writes whole columns with gaps as floats */
    if (!isdigit((unsigned char)*s) || *end || v < lo || v > hi)
        return cn_fail(err, CN_EINVALID, "%s:%d: %s: '%.40s' is not a whole number from %d to %d",
                       c->file, c->row_line, c->column[column], s, lo, hi);
    *out = (int)v;
    return 0;
}

/* A record's path stays inside the dataset's folder, and its name fits struct ecg_dataset's id. */
static bool record_path(const char *path, size_t cap)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    return name[0] && strlen(name) < 24 && path[0] != '/' && !strstr(path, "..") &&
           strlen(path) < cap && cn_text_clean(path, cap) && !strpbrk(path, "\t\r\n");
}

/* One form for what is one person: without blanks around it and the ".0" of pandas; what pandas and
 * databases write for nobody is nobody. It is shown to people, so it becomes clean UTF-8. */
static int copy_patient(const struct ecg_csv *c, int column, struct ecg_ptbxl_row *row,
                        struct cn_error *err)
{
    static const char *const nobody[] = {"nan", "none", "null", "na", "<na>", NULL};
    const char *from = c->field[column] + strspn(c->field[column], " \t");
    size_t n = strlen(from), shown;
    while (n && strchr(" \t", from[n - 1])) n--;
    if (n > 2 && !strncmp(from + n - 2, ".0", 2)) n -= 2;
    for (int i = 0; nobody[i]; i++)
        if (n == strlen(nobody[i]) && !strncasecmp(from, nobody[i], n)) return 0;
    char *text = cn_text_utf8(from, n, NULL);
    if (!text) return cn_fail(err, CN_ENOMEM, "%s: out of memory", c->file);
    char form[sizeof row->patient + 8];
    shown = cn_text_show(form, sizeof form, text);
    free(text);
    if (n >= sizeof row->patient || shown >= sizeof row->patient)
        return cn_fail(err, CN_ELIMIT,
                       "%s:%d: patient_id: longer than %zu bytes; shorten it, so that patients in "
                       "several folds are found",
                       c->file, c->row_line, sizeof row->patient - 1);
    memcpy(row->patient, form, shown + 1);
    return 0;
}

static int read_row(const struct ecg_csv *c, const struct columns *at, const struct statements *s,
                    struct ecg_ptbxl_row *row, struct cn_error *err)
{
    memset(row, 0, sizeof *row);
    row->line = c->row_line;
    int rc = whole(c, at->id, 1, 99999999, &row->ecg_id, err);
    if (!rc) rc = whole(c, at->fold, 1, 10, &row->fold, err);
    if (rc) return rc;
    const char *file = c->field[at->file], *codes = c->field[at->codes];
    if (!record_path(file, sizeof row->file))
        return cn_fail(
            err, CN_EINVALID,
            "%s:%d: filename_lr: '%.80s' is not a record's path (inside the folder, UTF-8, a "
            "name of up to 23 bytes)",
            c->file, c->row_line, file);
    snprintf(row->file, sizeof row->file, "%s", file);
    if (at->patient >= 0) rc = copy_patient(c, at->patient, row, err);
    if (rc) return rc;
    struct dict d = {codes, codes};
    if (dict_labels(&d, s, row->label))
        return cn_fail(err, CN_EINVALID,
                       "%s:%d: scp_codes: malformed at character %d of '%.60s'; expected {'CODE': "
                       "number, ...}",
                       c->file, c->row_line, (int)(d.at - d.text) + 1, codes);
    return 0;
}

static bool unlabelled(const struct ecg_ptbxl_row *row)
{
    return !memchr(row->label, 1, sizeof row->label);
}

static int append(struct ecg_ptbxl *p, int *cap, const struct ecg_ptbxl_row *row)
{
    if (p->n == *cap) {
        int more = *cap ? *cap * 2 : 4096;
        void *grown = realloc(p->row, (size_t)more * sizeof *p->row);
        if (!grown) return -1;
        p->row = grown;
        *cap = more;
    }
    p->row[p->n++] = *row;
    return 0;
}

static int parse_rows(struct ecg_ptbxl *p, const struct ecg_table *t, const struct statements *s,
                      bool drop, struct cn_error *err)
{
    struct ecg_csv csv;
    struct columns at;
    struct ecg_ptbxl_row row;
    int cap = 0, rc = ecg_csv_start(&csv, t->file, t->text, t->n, err);
    if (!rc) rc = find_columns(&csv, &at, err);
    if (rc) return rc;
    while ((rc = ecg_csv_row(&csv, err)) > 0) {
        rc = read_row(&csv, &at, s, &row, err);
        if (rc) return rc;
        if (drop && unlabelled(&row)) continue;
        if (append(p, &cap, &row)) return cn_fail(err, CN_ENOMEM, "%s: out of memory", t->file);
    }
    if (!rc && !p->n) rc = cn_fail(err, CN_EINVALID, "%s: no records", t->file);
    return rc;
}

int ecg_ptbxl_parse(struct ecg_ptbxl **out, const struct ecg_table *statements,
                    const struct ecg_table *database, bool drop_unlabelled, struct cn_error *err)
{
    *out = NULL;
    struct ecg_ptbxl *p = calloc(1, sizeof *p);
    struct statements *s = malloc(sizeof *s);
    int rc = p && s ? 0 : cn_fail(err, CN_ENOMEM, "%s: out of memory", database->file);
    if (!rc) rc = parse_statements(s, statements, err);
    if (!rc) rc = parse_rows(p, database, s, drop_unlabelled, err);
    free(s);
    if (rc) {
        ecg_ptbxl_destroy(p);
        return rc;
    }
    *out = p;
    return 0;
}

static int read_table(struct ecg_table *t, char path[PATH_MAX], const char *dir, const char *name,
                      struct cn_error *err)
{
    if (snprintf(path, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
        return cn_fail(err, CN_EINVALID, "%s: path too long", dir);
    t->file = path;
    return cn_file_read(path, CSV_LIMIT, &t->text, &t->n, err);
}

int ecg_ptbxl_load(struct ecg_ptbxl **out, const char *dir, bool drop_unlabelled,
                   struct cn_error *err)
{
    char scp_path[PATH_MAX], path[PATH_MAX];
    struct ecg_table statements = {0}, database = {0};
    *out = NULL;
    int rc = read_table(&statements, scp_path, dir, "scp_statements.csv", err);
    if (!rc) rc = read_table(&database, path, dir, "ptbxl_database.csv", err);
    if (!rc) rc = ecg_ptbxl_parse(out, &statements, &database, drop_unlabelled, err);
    free(statements.text);
    free(database.text);
    return rc;
}

void ecg_ptbxl_destroy(struct ecg_ptbxl *p)
{
    if (!p) return;
    free(p->row);
    free(p);
}
