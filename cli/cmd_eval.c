/* cli/cmd_eval.c - `cinch eval`: how good a checkpoint or an artifact is on some folds. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/commands.h"
#include "cli/data.h"
#include "cli/grid.h"
#include "cli/model.h"
#include "cli/table.h"
#include "nn/metrics.h"
#include "workers/classes.h"

#define BOOTSTRAP 1000
#define MAX_FOLDS 10

struct args {
    const char *file, *data, *folds;
    int threads;
    struct cli_parting parting;
};

struct result {
    const struct cli_model *m;
    const struct ecg_dataset *d;
    int n, records[ECG_MAX_LABELS]; /* records that carry each label */
    float *p;                       /* [n, labels] */
    uint8_t *y;                     /* [n, labels] */
    struct nn_auroc_report auroc;
    struct nn_class_report classes; /* one-label tasks */
    double seconds;
};

static int parse(struct cli *c, struct args *a, int argc, char **argv)
{
    const struct cli_option options[] = {
        OPT_TEXT("data", 0, &a->data, "DIR", "a PTB-XL or MIT-BIH folder, or a known name"),
        OPT_GAPS(c),
        OPT_SPLIT(&a->parting.split),
        OPT_TEXT("folds", 0, &a->folds, "A,B,..", "10, the test fold"),
        OPT_INT("threads", &a->threads, "N", 1, 1024, "all cores"),
        OPT_END};
    struct cli_use use = {
        "FILE --data DIR [--folds 10]",
        "Macro-AUROC with its bootstrap interval, and the AUROC of each label; for beats "
        "also accuracy, F1 and the\nconfusion matrix.",
        options,
        1,
        1,
        0,
        NULL};
    int rc = cli_parse(c, &use, argc, argv);
    if (rc) return rc;
    a->file = use.word[0];
    return cli_need(c, a->data, "--data");
}

/* The rows of the folds asked for, with their labels. */
static int select_rows(struct cli *c, const struct args *a, struct result *r, uint32_t **idx)
{
    const struct ecg_dataset *d = r->d;
    int fold[MAX_FOLDS], n_folds = 0;
    bool wanted[MAX_FOLDS + 1] = {false};
    int rc = cli_int_list(c, a->folds, "--folds", MAX_FOLDS, fold, MAX_FOLDS, &n_folds);
    if (rc) return rc;
    for (int i = 0; i < n_folds; i++) wanted[fold[i]] = true;
    size_t labels = (size_t)d->n_labels;
    *idx = malloc(((size_t)d->n + 1) * sizeof **idx);
    r->y = malloc((size_t)d->n * labels + 1);
    r->p = malloc(((size_t)d->n * labels + 1) * sizeof *r->p);
    if (!*idx || !r->y || !r->p) return cn_fail(&c->err, CN_ENOMEM, "out of memory");
    for (int i = 0; i < d->n; i++) {
        if (d->fold[i] > MAX_FOLDS || !wanted[d->fold[i]]) continue;
        memcpy(r->y + (size_t)r->n * labels, d->y + (size_t)i * labels, labels);
        for (size_t l = 0; l < labels; l++) r->records[l] += d->y[(size_t)i * labels + l];
        (*idx)[r->n++] = (uint32_t)i;
    }
    if (!r->n)
        return cn_fail(&c->err, CN_EINVALID, "dataset %s has no record in fold %s", d->name,
                       a->folds);
    return 0;
}

static int answer_json(struct cli *c, const struct result *r)
{
    json_t *per = json_object(), *undefined = json_array();
    for (int i = 0; i < r->m->labels; i++) {
        json_object_set_new(per, r->m->label[i], cli_json_real(r->auroc.per_label[i]));
        if (!isfinite(r->auroc.per_label[i]))
            json_array_append_new(undefined, json_string(r->m->label[i]));
    }
    json_t *doc =
        json_pack("{s:o, s:s, s:s, s:i, s:{s:o, s:o, s:[o, o], s:i, s:o}, s:f}", "file",
                  cli_json_text(r->m->path), "net", r->m->name, "kind", r->m->kind, "n", r->n,
                  "auroc", "macro", cli_json_real(r->auroc.macro), "per_label", per, "ci95",
                  cli_json_real(r->auroc.ci95[0]), cli_json_real(r->auroc.ci95[1]), "undefined",
                  r->auroc.undefined, "undefined_labels", undefined, "seconds", r->seconds);
    if (r->d->task == ECG_ONE_LABEL) {
        json_t *k = classes_json(&r->classes, r->m->labels, r->m->label);
        json_object_set_new(k, "accuracy", json_real(r->classes.accuracy));
        json_object_set_new(k, "macro_f1", json_real(r->classes.macro_f1));
        json_object_set_new(doc, "classes", k);
    }
    return cli_answer_json(c, doc);
}

/* Truth downwards, prediction across; as many tables side by side as the width takes. */
static void print_confusion(const struct result *r)
{
    struct cli_table *t = cli_table_create("TRUTH", "l");
    putchar('\n');
    for (int j = 0; j < r->m->labels; j++) cli_table_column(t, 'r', "as %s", r->m->label[j]);
    for (int i = 0; i < r->m->labels; i++) {
        cli_table_add(t, "%s", r->m->label[i]);
        for (int j = 0; j < r->m->labels; j++)
            cli_table_set(t, i, j + 1, "%u", r->classes.confusion[i][j]);
    }
    cli_table_print_folded(t, stdout, cli_table_width(stdout));
    cli_table_destroy(t);
}

static void print_classes(const struct result *r)
{
    const struct nn_class_report *k = &r->classes;
    int absent = 0;
    for (int i = 0; i < r->m->labels; i++) absent += r->records[i] == 0;
    cli_print(stdout, "\naccuracy %.4f, macro-F1 %.4f over %d classes", k->accuracy, k->macro_f1,
              r->m->labels);
    if (absent) cli_print(stdout, ", of which %d without any record count as 0", absent);
    puts("\n");
    struct cli_table *t = cli_table_create("CLASS\tSENSITIVITY\tPRECISION\tF1", "lrrr");
    for (int i = 0; i < r->m->labels; i++)
        cli_table_add(t, "%s\t%.4f\t%.4f\t%.4f", r->m->label[i], k->sensitivity[i], k->precision[i],
                      k->f1[i]);
    cli_table_print(t, stdout);
    cli_table_destroy(t);
    print_confusion(r);
}

/* The first line; in words what the mean leaves out. */
static void print_macro(const struct result *r)
{
    const struct nn_auroc_report *a = &r->auroc;
    cli_print(stdout, "%s: %s, %s, %d records: macro-AUROC ", r->m->path, r->m->name, r->m->kind,
              r->n);
    if (!isfinite(a->macro)) {
        puts("n/a: every label is on all of them or on none");
        return;
    }
    cli_print(stdout, "%.4f", a->macro);
    if (isfinite(a->ci95[0]))
        cli_print(stdout, " (95 %% interval %.4f .. %.4f)", a->ci95[0], a->ci95[1]);
    putchar('\n');
    if (a->undefined)
        cli_print(
            stdout,
            "the mean leaves out %d of %d labels, which all of these records have or none (n/a)\n",
            a->undefined, r->m->labels);
}

static int answer(struct cli *c, const struct result *r)
{
    if (c->json) return answer_json(c, r);
    print_macro(r);
    struct cli_table *t = cli_table_create("LABEL\tAUROC\tRECORDS", "lrr");
    for (int i = 0; i < r->m->labels; i++) {
        if (r->auroc.per_label[i] == r->auroc.per_label[i])
            cli_table_add(t, "%s\t%.4f\t%d", r->m->label[i], r->auroc.per_label[i], r->records[i]);
        else
            cli_table_add(t, "%s\tn/a\t%d", r->m->label[i], r->records[i]);
    }
    cli_table_print(t, stdout);
    cli_table_destroy(t);
    if (r->d->task == ECG_ONE_LABEL) print_classes(r);
    return 0;
}

static int evaluate(struct cli *c, const struct args *a, struct result *r)
{
    uint32_t *idx = NULL;
    int64_t start = cn_mono_ms();
    int rc = select_rows(c, a, r, &idx);
    if (!rc) rc = cli_model_predict(c, r->m, r->d, idx, r->n, a->threads, r->p);
    r->seconds = (double)(cn_mono_ms() - start) / 1000;
    if (!rc) {
        rc = nn_auroc_all(r->p, r->y, r->n, r->m->labels, BOOTSTRAP, &r->auroc);
        if (rc)
            cn_fail(&c->err, rc,
                    rc == CN_ENOMEM ? "out of memory for an AUROC"
                                    : "%s gives a probability that is not a number",
                    a->file);
    }
    if (!rc) {
        if (r->d->task == ECG_ONE_LABEL) nn_classify(r->p, r->y, r->n, r->m->labels, &r->classes);
        rc = answer(c, r);
    }
    free(idx);
    free(r->p);
    free(r->y);
    return rc;
}

int cmd_eval(struct cli *c, int argc, char **argv)
{
    struct args a = {.folds = "10"};
    struct cli_model m = {0};
    struct ecg_dataset *d = NULL;
    int rc = parse(c, &a, argc, argv);
    if (rc) return rc;
    rc = cli_model_open(c, a.file, &m);
    if (!rc) rc = cli_dataset_open_as(c, a.data, &a.parting, &d);
    if (!rc) cli_model_adopt(c, &m, d);
    if (!rc) rc = cli_model_fits(c, &m, d);
    struct result r = {.m = &m, .d = d};
    if (!rc) rc = evaluate(c, &a, &r);
    cli_model_close(&m);
    ecg_dataset_close(d);
    return rc;
}
