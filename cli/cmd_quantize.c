/* cli/cmd_quantize.c - `cinch quantize`: a checkpoint becomes a deployment artifact. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/commands.h"
#include "cli/data.h"
#include "cli/grid.h"
#include "cli/out.h"
#include "cli/progress.h"
#include "cli/table.h"
#include "cpu/quant/quant.h"

struct args {
    const char *model, *data;
    struct cli_out out;
    int mode, calibration, seven_bits;
    uint64_t seed;
    struct cli_parting parting;
};

static int parse(struct cli *c, struct args *a, int argc, char **argv)
{
    const struct cli_option options[] = {
        OPT_TEXT("data", 0, &a->data, "DIR", "validation records calibrate; not for float"),
        OPT_GAPS(c),
        OPT_SPLIT(&a->parting.split),
        OPT_CHOICE("mode", &a->mode, "MODE", quant_mode_names,
                   "paper (default), full, best, float"),
        OPT_INT("calibration", &a->calibration, "N", 1, 100000, "records that calibrate; 128"),
        OPT_U64("seed", &a->seed, "N", "chooses them; 0"),
        OPT_FLAG("reduce-range", 0, &a->seven_bits,
                 "7-bit activations in full and best too; paper always has them"),
        OPT_TEXT("out", 'o', &a->out.path, "FILE", "the artifact, .cinch"),
        OPT_FORCE(&a->out),
        OPT_END};
    struct cli_use use = {"MODEL --data DIR [--mode MODE] -o ART.cinch",
                          "Folds, fuses, calibrates and rounds a checkpoint to an artifact that "
                          "the runtime executes.\n--mode float rounds nothing.",
                          options,
                          1,
                          1,
                          0,
                          NULL};
    int rc = cli_parse(c, &use, argc, argv);
    if (rc) return rc;
    a->model = use.word[0];
    if (a->mode != QUANT_FLOAT) rc = cli_need(c, a->data, "--data");
    if (!rc) rc = cli_need(c, a->out.path, "-o");
    a->out.form = CLI_FORM_ARTIFACT;
    a->out.input[0] = a->model;
    a->out.input[1] = a->data;
    return rc ? rc : cli_out_check(c, &a->out);
}

static void on_progress(void *arg, int done, int total)
{
    cli_progress_update(arg, done, total, NULL);
}

static void cell(double v, const char *form, char out[24])
{
    if (isfinite(v))
        snprintf(out, 24, form, v);
    else
        snprintf(out, 24, "%s", v > 0 ? "exact" : "-");
}

static void print(const struct args *a, const struct quant_artifact *art)
{
    const struct quant_report *r = &art->report;
    FILE *to = cli_out_words(&a->out);
    cli_print(to, "%s: %zu bytes, mode %s", a->out.path, art->n, quant_mode_names[r->mode]);
    if (r->calibration) cli_print(to, ", calibrated on %d records", r->calibration);
    fputc('\n', to);
    if (r->mode == QUANT_FLOAT) return;
    struct cli_table *t = cli_table_create(
        "LAYER\tKIND\tOBSERVER\tMIN\tMAX\tSCALE\tZERO\tCLIPPED\tWEIGHTS dB\tSNR dB", "lllrrrrrrr");
    for (int i = 0; i < r->n; i++) {
        const struct quant_row *q = &r->row[i];
        char weights[24], snr[24];
        cell(q->weight_snr_db, "%.1f", weights);
        cell(q->snr_db, "%.1f", snr);
        cli_table_add(t, "%s\t%s\t%s\t%.3f\t%.3f\t%.5g\t%d\t%.2f %%\t%s\t%s", q->name, q->kind,
                      q->observer, q->min, q->max, q->scale, q->zero, q->clipped * 100, weights,
                      snr);
    }
    cli_table_print(t, to);
    cli_table_destroy(t);
}

static int answer(struct cli *c, const struct args *a, const struct nn_model *m,
                  const struct quant_artifact *art)
{
    if (!c->json) {
        print(a, art);
        return 0;
    }
    char *text = quant_report_json(&art->report);
    json_t *report = text ? json_loads(text, 0, NULL) : NULL;
    free(text);
    if (!report) return cn_fail(&c->err, CN_EINTERNAL, "the quantiser's report is not JSON");
    return cli_answer_json(c, json_pack("{s:o, s:s, s:s, s:I, s:o}", "path",
                                        cli_json_text(a->out.path), "net", m->net->name, "mode",
                                        quant_mode_names[a->mode], "bytes", (json_int_t)art->n,
                                        "report", report));
}

static int quantize(struct cli *c, const struct args *a, const struct nn_model *m,
                    const struct ecg_dataset *d)
{
    struct quant_artifact art = {0};
    struct cli_progress bar;
    struct quant_options opt = {.mode = (enum quant_mode)a->mode,
                                .calibration = a->calibration,
                                .seed = a->seed,
                                .reduce_range = a->seven_bits,
                                .progress = on_progress,
                                .progress_arg = &bar};
    cli_progress_start(&bar, c, "calibrating", "records");
    int rc = quant_convert(&art, m, d, &opt, &c->err);
    cli_progress_end(&bar);
    if (!rc) rc = cli_out_write(c, &a->out, art.data, art.n);
    if (!rc) rc = answer(c, a, m, &art);
    quant_artifact_release(&art);
    return rc;
}

int cmd_quantize(struct cli *c, int argc, char **argv)
{
    struct args a = {.mode = QUANT_PAPER, .calibration = 128};
    struct nn_model *m = NULL;
    struct ecg_dataset *d = NULL;
    int rc = parse(c, &a, argc, argv);
    if (rc) return rc;
    rc = nn_model_load(&m, a.model, &c->err);
    if (!rc && a.data) rc = cli_dataset_open_as(c, a.data, &a.parting, &d);
    if (!rc && d) rc = cli_dataset_suits(c, d, m, a.model);
    if (!rc && d) rc = ecg_dataset_renormalise(d, m->mean, m->std, &c->err);
    if (!rc && m->unsaid)
        rc = cn_fail(
            &c->err, CN_EINVALID,
            "%s names no normalisation; --data DIR takes that of the dataset it was trained on",
            a.model);
    if (!rc) rc = quantize(c, &a, m, d);
    nn_model_destroy(m);
    ecg_dataset_close(d);
    return rc;
}
