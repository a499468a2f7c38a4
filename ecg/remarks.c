/* ecg/remarks.c - see remarks.h. Records are compared by what the net would see of them, so that a copy
 * in another format or under another name is found. Of each kind ten are told and the rest counted. */
#define _GNU_SOURCE
#include "ecg/remarks.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define TOLD 10 /* of a kind */
#define LIMIT ((size_t)1 << 20)

static int add(struct ecg_remarks *r, struct cn_error *err, const char *fmt, ...)
{
    va_list ap;
    char *line = NULL;
    char **grown = realloc(r->line, ((size_t)r->n + 1) * sizeof *grown);
    if (grown) r->line = grown;
    va_start(ap, fmt);
    int n = grown ? vasprintf(&line, fmt, ap) : -1;
    va_end(ap);
    if (n < 0) return cn_fail(err, CN_ENOMEM, "out of memory");
    r->line[r->n++] = line;
    return 0;
}

/* --- groups of records ----------------------------------------------------------------------- */

/* Items in an order that puts equal ones side by side. */
typedef int order(const struct ecg_item *a, const struct ecg_item *b);

static int by_place(const struct ecg_item *a, const struct ecg_item *b)
{
    return a < b ? -1 : a > b;
}

static int by_samples(const struct ecg_item *a, const struct ecg_item *b)
{
    return memcmp(&a->samples, &b->samples, sizeof a->samples);
}

static int by_patient(const struct ecg_item *a, const struct ecg_item *b)
{
    return strcmp(a->patient, b->patient);
}

static int samples_then_place(const void *a, const void *b)
{
    const struct ecg_item *x = *(struct ecg_item *const *)a, *y = *(struct ecg_item *const *)b;
    int by = by_samples(x, y);
    return by ? by : by_place(x, y);
}

static int patient_then_place(const void *a, const void *b)
{
    const struct ecg_item *x = *(struct ecg_item *const *)a, *y = *(struct ecg_item *const *)b;
    int by = by_patient(x, y);
    return by ? by : by_place(x, y);
}

/* A run of equal items in a sorted list. */
struct group {
    const struct ecg_item **of;
    int n;
};

static bool has_samples(const struct ecg_item *i)
{
    return i->read && i->rows;
}

static bool has_patient(const struct ecg_item *i)
{
    return i->patient[0] && i->fold;
}

/* "1 and 10", "1, 2 and 10": the folds of a group, ascending; returns how many there are. */
static int list_folds(const struct group *g, char *out, size_t cap)
{
    bool in[11] = {false};
    int n = 0, told = 0;
    size_t used = 0;
    for (int i = 0; i < g->n; i++) {
        n += !in[g->of[i]->fold];
        in[g->of[i]->fold] = true;
    }
    for (int f = 0; f <= 10; f++) {
        if (!in[f]) continue;
        const char *between = !told ? "" : told == n - 1 ? " and " : ", ";
        used += (size_t)snprintf(out + used, cap - used, f ? "%s%d" : "%snone", between, f);
        told++;
    }
    return n;
}

/* "00001_lr, 00004_lr and 3 more" */
static void list_names(const struct group *g, char *out, size_t cap)
{
    size_t used = 0;
    int told = g->n <= 4 ? g->n : 3;
    for (int i = 0; i < told; i++) {
        const char *between = !i ? "" : i == g->n - 1 ? " and " : ", ";
        used += (size_t)snprintf(out + used, cap - used, "%s%s", between, g->of[i]->name);
    }
    if (told < g->n) snprintf(out + used, cap - used, " and %d more", g->n - told);
}

static bool same_name(const struct group *g)
{
    for (int i = 1; i < g->n; i++)
        if (strcmp(g->of[i]->name, g->of[0]->name) != 0) return false;
    return true;
}

static int tell_copies(struct ecg_remarks *r, const struct group *g, struct cn_error *err)
{
    char names[384], folds[64], where[160] = "";
    if (list_folds(g, folds, sizeof folds) > 1)
        snprintf(where, sizeof where,
                 ", in folds %s: a score measured on one is no score on unseen data", folds);
    else if (g->of[0]->fold)
        snprintf(where, sizeof where, ", all in fold %s", folds);
    list_names(g, names, sizeof names);
    if (same_name(g))
        return add(r, err, "record %s is listed %d times%s", g->of[0]->name, g->n, where);
    return add(r, err, "records %s hold the same samples%s", names, where);
}

static int tell_patient(struct ecg_remarks *r, const struct group *g, struct cn_error *err)
{
    char names[384], folds[64];
    list_folds(g, folds, sizeof folds);
    list_names(g, names, sizeof names);
    return add(r, err, "patient %s is in folds %s (%s): the folds are not independent",
               g->of[0]->patient, folds, names);
}

/* One kind of remark: which items count, what makes them alike, and when a group is worth telling. */
struct kind {
    bool (*counts)(const struct ecg_item *i);
    order *alike;
    int (*sort)(const void *a, const void *b);
    int least_folds; /* a group in fewer is not told */
    int (*tell)(struct ecg_remarks *r, const struct group *g, struct cn_error *err);
    const char *more; /* what the rest is called */
};

static int tell_groups(struct ecg_remarks *r, const struct ecg_source *s, const struct kind *k,
                       struct cn_error *err)
{
    const struct ecg_item **list = malloc(((size_t)s->items + 1) * sizeof *list);
    char folds[64];
    int n = 0, found = 0, rc = 0;
    if (!list) return cn_fail(err, CN_ENOMEM, "out of memory");
    for (int i = 0; i < s->items; i++)
        if (k->counts(&s->item_of[i])) list[n++] = &s->item_of[i];
    qsort(list, (size_t)n, sizeof *list, k->sort);
    for (int i = 0, end; !rc && i < n; i = end) {
        for (end = i + 1; end < n && !k->alike(list[i], list[end]);) end++;
        struct group g = {list + i, end - i};
        if (g.n < 2 || list_folds(&g, folds, sizeof folds) < k->least_folds) continue;
        if (found++ < TOLD) rc = k->tell(r, &g, err);
    }
    if (!rc && found > TOLD) rc = add(r, err, "and %d more %s", found - TOLD, k->more);
    free(list);
    return rc;
}

/* --- the whole ------------------------------------------------------------------------------- */

static int tell_empty_parts(struct ecg_remarks *r, const int rows[4], struct cn_error *err)
{
    int rc = 0;
    if (!rows[ECG_TRAIN]) rc = add(r, err, "the training part (folds 1-8) is empty");
    if (!rc && !rows[ECG_VALIDATION])
        rc = add(
            r, err,
            "the validation part (fold 9) is empty: no epoch and no variant can be chosen by it");
    if (!rc && !rows[ECG_TEST])
        rc =
            add(r, err, "the test part (fold 10) is empty: nothing can be measured on unseen data");
    return rc;
}

static int tell_bridged(struct ecg_remarks *r, const struct ecg_source *s, struct cn_error *err)
{
    int records = 0;
    long long samples = 0;
    for (int i = 0; i < s->items; i++) {
        records += s->item_of[i].bridged > 0;
        samples += s->item_of[i].bridged;
    }
    if (!records) return 0;
    return add(r, err, "%lld missing samples of %d record%s bridged", samples, records,
               records == 1 ? "" : "s");
}

int ecg_remarks_make(struct ecg_remarks *r, const struct ecg_source *s, const int rows[4],
                     struct cn_error *err)
{
    static const struct kind kinds[] = {
        {has_samples, by_samples, samples_then_place, 1, tell_copies,
         "records that are there twice"},
        {has_patient, by_patient, patient_then_place, 2, tell_patient, "patients in several folds"},
    };
    memset(r, 0, sizeof *r);
    int rc = tell_empty_parts(r, rows, err);
    if (!rc) rc = tell_bridged(r, s, err);
    for (size_t i = 0; !rc && i < sizeof kinds / sizeof *kinds; i++)
        rc = tell_groups(r, s, &kinds[i], err);
    if (rc) ecg_remarks_clear(r);
    return rc;
}

void ecg_remarks_clear(struct ecg_remarks *r)
{
    for (int i = 0; i < r->n; i++) free(r->line[i]);
    free(r->line);
    memset(r, 0, sizeof *r);
}

int ecg_remarks_write(const struct ecg_remarks *r, const char *path, struct cn_error *err)
{
    struct cn_writer *w;
    int rc = cn_writer_open(&w, path, err);
    if (rc) return rc;
    for (int i = 0; !rc && i < r->n; i++) {
        rc = cn_writer_add(w, r->line[i], strlen(r->line[i]), err);
        if (!rc) rc = cn_writer_add(w, "\n", 1, err);
    }
    if (!rc) return cn_writer_commit(w, err);
    cn_writer_abandon(w);
    return rc;
}

int ecg_remarks_read(struct ecg_remarks *r, const char *path, struct cn_error *err)
{
    char *text, *rest = NULL;
    memset(r, 0, sizeof *r);
    int rc = cn_file_read(path, LIMIT, &text, NULL, err);
    if (rc) return rc;
    for (char *line = strtok_r(text, "\n", &rest); line && !rc; line = strtok_r(NULL, "\n", &rest))
        rc = add(r, err, "%s", line);
    free(text);
    if (rc) ecg_remarks_clear(r);
    return rc;
}
