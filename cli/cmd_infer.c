/* cli/cmd_infer.c - `cinch infer`: classifies raw WFDB records with a checkpoint or an artifact. What a
 * record is depends on the net: 10 s of 12 leads, answered here, or the annotated beats of a
 * long recording (cli/infer_beats.c). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/data.h"
#include "cli/infer.h"
#include "cli/table.h"
#include "ecg/mitdb.h"
#include "ecg/preprocess.h"
#include "ecg/registry.h"

int infer_rows(struct cli *c, const struct cli_model *m, const float *x, int n, float *p)
{
    struct ecg_dataset d = {.n = n,
                            .n_leads = m->leads,
                            .n_samples = m->samples,
                            .n_labels = m->labels,
                            .hz = m->hz,
                            .task = m->softmax ? ECG_ONE_LABEL : ECG_MULTI_LABEL,
                            .x = x};
    uint8_t *y = calloc((size_t)n, (size_t)m->labels);
    uint32_t *idx = calloc((size_t)n, sizeof *idx);
    int rc = y && idx ? 0 : cn_fail(&c->err, CN_ENOMEM, "out of memory");
    memcpy(d.mean, m->mean, (size_t)m->leads * sizeof *d.mean);
    memcpy(d.std, m->std, (size_t)m->leads * sizeof *d.std);
    for (int i = 0; !rc && i < n; i++) idx[i] = (uint32_t)i;
    d.y = y;
    if (!rc) rc = cli_model_predict(c, m, &d, idx, n, 1, p);
    free(y);
    free(idx);
    return rc;
}

json_t *infer_probability(const struct cli_model *m, const float *p)
{
    json_t *o = json_object();
    for (int l = 0; l < m->labels; l++)
        json_object_set_new(o, m->label[l], cli_json_real((double)p[l]));
    return o;
}

/* Reads and preprocesses every record into x[n, leads, samples]; bridged[n] counts the samples that
 * were missing. */
static int read_records(struct cli *c, const struct infer_args *a, const struct cli_model *m,
                        float *x, int64_t *bridged)
{
    struct ecg_norm norm = {m->mean, m->std};
    struct ecg_prep how = {.stage = ECG_NORMALISED, .norm = &norm};
    char path[4096];
    int rc = ecg_gaps_parse(&how.gaps, c->gaps, &c->err);
    if (rc) return rc;
    for (int i = 0; i < a->n; i++) {
        rc = ecg_record_locate(a->data, a->record[i], path, sizeof path, &c->err);
        if (rc) return rc;
        bridged[i] = ecg_preprocess_file(
            path, &how, x + (size_t)i * ECG_PTBXL_LEADS * ECG_PTBXL_SAMPLES, &c->err);
        if (bridged[i] < 0) return (int)bridged[i];
    }
    return 0;
}

static int answer(struct cli *c, const struct infer_args *a, const struct cli_model *m,
                  const float *p, const int64_t *bridged)
{
    json_t *list = json_array();
    struct cli_table *t = cli_table_create("RECORD", "l");
    for (int l = 0; l < m->labels; l++) cli_table_column(t, 'r', "%s", m->label[l]);
    for (int i = 0; i < a->n; i++) {
        const float *own = p + (size_t)i * (size_t)m->labels;
        cli_table_add(t, "%s", a->record[i]);
        for (int l = 0; l < m->labels; l++) cli_table_set(t, i, l + 1, "%.3f", (double)own[l]);
        json_array_append_new(
            list, json_pack("{s:o, s:I, s:o}", "record", cli_json_text(a->record[i]), "bridged",
                            (json_int_t)bridged[i], "probability", infer_probability(m, own)));
    }
    if (!c->json) cli_table_print(t, stdout);
    cli_table_destroy(t);
    if (c->json) return cli_answer_json(c, list);
    json_decref(list);
    return 0;
}

static int infer_twelve_leads(struct cli *c, const struct infer_args *a, const struct cli_model *m)
{
    float *x = malloc((size_t)a->n * (size_t)m->leads * (size_t)m->samples * sizeof *x);
    float *p = malloc((size_t)a->n * (size_t)m->labels * sizeof *p);
    int64_t *bridged = malloc((size_t)a->n * sizeof *bridged);
    int rc = x && p && bridged ? 0 : cn_fail(&c->err, CN_ENOMEM, "out of memory");
    if (!rc) rc = read_records(c, a, m, x, bridged);
    if (!rc) rc = infer_rows(c, m, x, a->n, p);
    if (!rc) rc = answer(c, a, m, p, bridged);
    free(bridged);
    free(x);
    free(p);
    return rc;
}

/* The two kinds of input that can be made from a record. */
static int infer(struct cli *c, const struct infer_args *a, const struct cli_model *m)
{
    if (m->leads == 1 && m->samples == ECG_BEAT_SAMPLES && m->softmax) {
        if (a->annotations && a->n > 1)
            return cn_fail(&c->err, CN_EINVALID,
                           "--annotations belongs to one record, but %d are given", a->n);
        int rc = cli_model_rate(c, m, ECG_MITDB_HZ);
        return rc ? rc : infer_beats(c, a, m);
    }
    if (m->leads != ECG_PTBXL_LEADS || m->samples != ECG_PTBXL_SAMPLES)
        return cn_fail(
            &c->err, CN_EUNSUPPORTED,
            "%s takes %d leads x %d samples; infer makes two kinds of input from records: "
            "%d leads x %d samples at %d Hz, and beats of 1 x %d at %d Hz",
            m->path, m->leads, m->samples, ECG_PTBXL_LEADS, ECG_PTBXL_SAMPLES, ECG_PTBXL_HZ,
            ECG_BEAT_SAMPLES, ECG_MITDB_HZ);
    if (a->annotations)
        return cn_fail(&c->err, CN_EINVALID,
                       "--annotations is for nets that classify beats; %s is net %s, which takes "
                       "whole records",
                       m->path, m->name);
    int rc = cli_model_rate(c, m, ECG_PTBXL_HZ);
    return rc ? rc : infer_twelve_leads(c, a, m);
}

int cmd_infer(struct cli *c, int argc, char **argv)
{
    struct infer_args a = {0};
    const struct cli_option options[] = {
        OPT_TEXT("data", 0, &a.data, "DIR", "a folder or known name that holds the records"),
        OPT_GAPS(c),
        OPT_TEXT("annotations", 0, &a.annotations, "FILE",
                 "R peaks of the one record; its own .atr (nets that classify beats)"),
        OPT_END};
    struct cli_use use = {
        "FILE RECORD..",
        "Probability of each label for raw WFDB records, each a path or the name of "
        "one in a known\ndataset, such as 00009_lr; for nets that classify beats, of every "
        "annotated "
        "beat of\nrecords such as 208.",
        options,
        2,
        -1,
        0,
        NULL};
    struct cli_model m = {0};
    int rc = cli_parse(c, &use, argc, argv);
    if (rc) return rc;
    a.record = use.word + 1;
    a.n = use.n_words - 1;
    rc = cli_model_open(c, use.word[0], &m);
    if (rc) return rc;
    rc = cli_model_normalises(c, &m);
    if (!rc) rc = infer(c, &a, &m);
    cli_model_close(&m);
    return rc;
}
