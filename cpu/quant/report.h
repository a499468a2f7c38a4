/* cpu/quant/report.h - what a conversion did to each layer. */
#ifndef CINCH_CPU_QUANT_REPORT_H
#define CINCH_CPU_QUANT_REPORT_H

#include "cpu/quant/improve.h"

/* Fills *r from the finished plan and its artifact: each layer's output is compared with `reference`'s
 * on up to 32 of the calibration records. t->c: calibration of the folded net. */
int quant_report_fill(struct quant_report *r, const struct quant_plan *p,
                      const struct quant_graph *reference, const struct quant_trial *t,
                      const struct quant_artifact *a, struct cn_error *err);

#endif
