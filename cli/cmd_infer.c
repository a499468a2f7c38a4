/* cli/cmd_infer.c - `cinch infer`: classifies raw WFDB records with a checkpoint or an artifact. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/model.h"
#include "cli/table.h"
#include "ecg/preprocess.h"
#include "ecg/registry.h"

struct args {
    const char *file, *data;
    int n;
    char **record;
};

/* Reads and preprocesses every record into x[n, leads, samples]. */
static int read_records(struct cli *c, const struct args *a, const struct cli_model *m, float *x)
{
    struct ecg_norm norm = {m->mean, m->std};
    char path[4096];
    if (m->leads != ECG_PTBXL_LEADS || m->samples != ECG_PTBXL_SAMPLES)
        return cn_fail(&c->err, CN_EUNSUPPORTED,
                       "%s takes %d x %d samples; infer reads 12-lead records of 10 s at 100 Hz",
                       m->path, m->leads, m->samples);
    for (int i = 0; i < a->n; i++) {
        int rc = ecg_record_locate(a->data, a->record[i], path, sizeof path, &c->err);
        if (rc) return rc;
        rc = ecg_preprocess_file(path, ECG_NORMALISED, &norm,
                                 x + (size_t)i * ECG_PTBXL_LEADS * ECG_PTBXL_SAMPLES, &c->err);
        if (rc) return rc;
    }
    return 0;
}

static int answer(struct cli *c, const struct args *a, const struct cli_model *m, const float *p)
{
    char heads[160] = "RECORD", align[ECG_MAX_LABELS + 2] = "l";
    json_t *list = json_array();
    for (int l = 0; l < m->labels; l++) {
        size_t n = strlen(heads);
        snprintf(heads + n, sizeof heads - n, "\t%s", m->label[l]);
        strcat(align, "r");
    }
    struct cli_table *t = cli_table_create(heads, align);
    for (int i = 0; i < a->n; i++) {
        char line[4400];
        size_t at = (size_t)snprintf(line, sizeof line, "%.4096s", a->record[i]);
        json_t *prob = json_object();
        for (int l = 0; l < m->labels; l++) {
            double v = p[i * m->labels + l];
            json_object_set_new(prob, m->label[l], cli_json_real(v));
            at += (size_t)snprintf(line + at, sizeof line - at, "\t%.3f", v);
        }
        json_array_append_new(list,
                              json_pack("{s:s, s:o}", "record", a->record[i], "probability", prob));
        cli_table_add(t, "%s", line);
    }
    if (!c->json) cli_table_print(t, stdout);
    cli_table_destroy(t);
    if (c->json) return cli_answer_json(c, list);
    json_decref(list);
    return 0;
}

/* The records as a small dataset of their own, so that both kinds of model read them. */
static int classify(struct cli *c, const struct args *a, const struct cli_model *m, float *x,
                    float *p)
{
    struct ecg_dataset d = {.n = a->n,
                            .n_leads = m->leads,
                            .n_samples = m->samples,
                            .n_labels = m->labels,
                            .hz = m->hz,
                            .task = m->softmax ? ECG_ONE_LABEL : ECG_MULTI_LABEL,
                            .x = x};
    uint8_t *y = calloc((size_t)a->n, (size_t)m->labels);
    uint32_t *idx = calloc((size_t)a->n, sizeof *idx);
    int rc = y && idx ? 0 : cn_fail(&c->err, CN_ENOMEM, "out of memory");
    memcpy(d.mean, m->mean, (size_t)m->leads * sizeof *d.mean);
    memcpy(d.std, m->std, (size_t)m->leads * sizeof *d.std);
    for (int i = 0; !rc && i < a->n; i++) idx[i] = (uint32_t)i;
    d.y = y;
    if (!rc) rc = read_records(c, a, m, x);
    if (!rc) rc = cli_model_predict(c, m, &d, idx, a->n, 1, p);
    free(y);
    free(idx);
    return rc;
}

int cmd_infer(struct cli *c, int argc, char **argv)
{
    struct args a = {0};
    const struct cli_option options[] = {
        OPT_TEXT("data", 0, &a.data, "DIR", "a folder or known name that holds the records"),
        OPT_END};
    struct cli_use use = {
        "FILE RECORD..",
        "Probability of each label for raw WFDB records, each a path or the name of "
        "one in a known\ndataset, such as 00009_lr.",
        options,
        2,
        -1,
        0,
        NULL};
    struct cli_model m = {0};
    int rc = cli_parse(c, &use, argc, argv);
    if (rc) return rc;
    a.file = use.word[0];
    a.record = use.word + 1;
    a.n = use.n_words - 1;
    rc = cli_model_open(c, a.file, &m);
    if (rc) return rc;
    float *x = malloc((size_t)a.n * (size_t)m.leads * (size_t)m.samples * sizeof *x);
    float *p = malloc((size_t)a.n * (size_t)m.labels * sizeof *p);
    if (!x || !p) rc = cn_fail(&c->err, CN_ENOMEM, "out of memory");
    if (!rc) rc = classify(c, &a, &m, x, p);
    if (!rc) rc = answer(c, &a, &m, p);
    free(x);
    free(p);
    cli_model_close(&m);
    return rc;
}
