/* cli/infer_beats.c - `cinch infer` with a net that classifies beats: every annotated beat of a long
 * recording, such as MIT-BIH's. People get one line of counts per record, --json every beat. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/infer.h"
#include "cli/table.h"
#include "ecg/beats.h"
#include "ecg/registry.h"

static int most_likely(const float *p, int labels)
{
    int best = 0;
    for (int l = 1; l < labels; l++)
        if (p[l] > p[best]) best = l;
    return best;
}

static json_t *beat_json(const struct cli_model *m, const struct ecg_beats *b, int i,
                         const float *p)
{
    return json_pack("{s:I, s:o, s:s, s:s, s:o}", "sample", (json_int_t)b->sample[i], "time",
                     cli_json_real((double)b->sample[i] / ECG_MITDB_HZ), "class",
                     m->label[most_likely(p, m->labels)], "annotation", ecg_code_symbol(b->code[i]),
                     "probability", infer_probability(m, p));
}

static json_t *record_json(const struct cli_model *m, const char *name, const struct ecg_beats *b,
                           const float *p, const int *count)
{
    json_t *counts = json_object(), *beats = json_array();
    for (int l = 0; l < m->labels; l++)
        json_object_set_new(counts, m->label[l], json_integer(count[l]));
    for (int i = 0; i < b->n; i++)
        json_array_append_new(beats, beat_json(m, b, i, p + (size_t)i * (size_t)m->labels));
    return json_pack("{s:o, s:s, s:b, s:i, s:i, s:I, s:o, s:o}", "record", cli_json_text(name),
                     "lead", b->lead, "lead_missing", b->lead_missing, "n", b->n, "left_out",
                     b->left_out, "bridged", (json_int_t)b->bridged, "counts", counts, "beats",
                     beats);
}

static void record_line(struct cli_table *t, const struct cli_model *m, const char *name,
                        const struct ecg_beats *b, const int *count)
{
    cli_table_add(t, "%s\t%s\t%d\t%d", name, b->lead, b->n, b->left_out);
    for (int l = 0; l < m->labels; l++)
        cli_table_set(t, cli_table_rows(t) - 1, l + 4, "%d", count[l]);
}

struct output {
    struct cli_table *table;
    json_t *list;
};

static int infer_record(struct cli *c, const struct infer_args *a, const struct cli_model *m,
                        const char *name, struct output *out)
{
    struct ecg_beats b = {0};
    char path[4096];
    int count[NN_MAX_LABELS] = {0};
    struct ecg_gaps gaps;
    int rc = ecg_gaps_parse(&gaps, c->gaps, &c->err);
    if (!rc) rc = ecg_record_locate(a->data, name, path, sizeof path, &c->err);
    if (!rc) rc = ecg_beats_read(&b, path, a->annotations, &gaps, &c->err);
    if (rc) return rc;
    float *p = malloc((size_t)b.n * (size_t)m->labels * sizeof *p);
    rc = p ? infer_rows(c, m, b.x, b.n, p) : cn_fail(&c->err, CN_ENOMEM, "out of memory");
    for (int i = 0; !rc && i < b.n; i++)
        count[most_likely(p + (size_t)i * (size_t)m->labels, m->labels)]++;
    if (!rc && c->json)
        json_array_append_new(out->list, record_json(m, name, &b, p, count));
    else if (!rc)
        record_line(out->table, m, name, &b, count);
    free(p);
    ecg_beats_clear(&b);
    return rc;
}

int infer_beats(struct cli *c, const struct infer_args *a, const struct cli_model *m)
{
    int rc = 0;
    struct output out = {cli_table_create("RECORD\tLEAD\tBEATS\tLEFT OUT", "llrr"), json_array()};
    for (int l = 0; l < m->labels; l++) cli_table_column(out.table, 'r', "%s", m->label[l]);
    for (int i = 0; !rc && i < a->n; i++) rc = infer_record(c, a, m, a->record[i], &out);
    if (!rc && !c->json) cli_table_print(out.table, stdout);
    cli_table_destroy(out.table);
    if (!rc && c->json) return cli_answer_json(c, out.list);
    json_decref(out.list);
    return rc;
}
