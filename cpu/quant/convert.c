/* cpu/quant/convert.c - the whole way: fold, calibrate, plan, improve, encode, report. */
#include <stdlib.h>
#include <string.h>

#include "cpu/quant/quant.h"
#include "cpu/quant/report.h"

const char *const quant_mode_names[] = {"paper", "full", "best", "float", NULL};

static int check_options(const struct quant_options *opt, const struct ecg_dataset *d,
                         struct cn_error *err)
{
    if (opt->mode > QUANT_FLOAT)
        return cn_fail(err, CN_EINVALID, "unknown quantisation mode %d", (int)opt->mode);
    if (opt->mode != QUANT_FLOAT && !d)
        return cn_fail(err, CN_EINVALID, "mode '%s' needs a dataset to calibrate with",
                       quant_mode_names[opt->mode]);
    int forced = opt->bias_correction == QUANT_ON || opt->equalisation == QUANT_ON ||
                 opt->observer_choice == QUANT_ON;
    if (forced && opt->mode != QUANT_FULL && opt->mode != QUANT_BEST)
        return cn_fail(err, CN_EINVALID,
                       "mode '%s' is what it is: bias correction, equalisation and the choice of "
                       "observers belong to the modes full and best",
                       quant_mode_names[opt->mode]);
    return 0;
}

static int convert_float(struct quant_artifact *out, const struct quant_graph *g,
                         const struct nn_model *m, struct cn_error *err)
{
    struct quant_plan *p;
    struct quant_trial t = {.m = m};
    int rc = quant_plan_create(&p, g, QUANT_FLOAT, 255, NULL, err);
    if (rc) return rc;
    rc = quant_encode(&out->data, &out->n, p, m, err);
    if (!rc) rc = quant_report_fill(&out->report, p, g, &t, out, err);
    quant_plan_destroy(p);
    return rc;
}

static int convert_calibrated(struct quant_artifact *out, const struct quant_graph *g,
                              const struct quant_trial *t, const struct quant_options *opt,
                              struct cn_error *err)
{
    struct quant_improved best;
    int rc = quant_improve(&best, t, g, opt, err);
    if (rc) return rc;
    rc = quant_encode(&out->data, &out->n, best.plan, t->m, err);
    if (!rc) rc = quant_report_fill(&out->report, best.plan, best.reference, t, out, err);
    out->report.output_rmse = best.rmse;
    out->report.calibration = t->c->n;
    out->report.seed = opt->seed;
    quant_plan_destroy(best.plan);
    quant_graph_destroy(best.reference);
    return rc;
}

static int convert_int8(struct quant_artifact *out, const struct quant_graph *g,
                        const struct nn_model *m, const struct ecg_dataset *d,
                        const struct quant_options *opt, struct cn_error *err)
{
    struct quant_calibration *c = NULL;
    uint32_t *rows;
    int n, rc = quant_calibration_rows(d, opt->calibration, opt->seed, &rows, &n, err);
    if (rc) return rc;
    int equalise = opt->equalisation == QUANT_ON ||
                   (opt->equalisation == QUANT_AUTO && opt->mode == QUANT_BEST);
    struct quant_sample s = {.d = d,
                             .rows = rows,
                             .n = n,
                             .progress = opt->progress,
                             .progress_arg = opt->progress_arg,
                             .total = equalise ? 2 * n : n};
    rc = quant_calibrate(&c, g, &s, err);
    struct quant_trial t = {&s, c, m};
    if (!rc) rc = convert_calibrated(out, g, &t, opt, err);
    quant_calibration_destroy(c);
    free(rows);
    return rc;
}

int quant_convert(struct quant_artifact *out, const struct nn_model *m, const struct ecg_dataset *d,
                  const struct quant_options *opt, struct cn_error *err)
{
    memset(out, 0, sizeof *out);
    int rc = check_options(opt, d, err);
    struct quant_graph *g = NULL;
    if (!rc) rc = quant_graph_create(&g, m, err);
    if (!rc)
        rc = opt->mode == QUANT_FLOAT ? convert_float(out, g, m, err)
                                      : convert_int8(out, g, m, d, opt, err);
    quant_graph_destroy(g);
    if (rc) quant_artifact_release(out);
    return rc;
}

void quant_artifact_release(struct quant_artifact *a)
{
    free(a->data);
    a->data = NULL;
    a->n = 0;
}
