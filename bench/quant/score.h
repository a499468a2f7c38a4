/* bench/quant/score.h - macro-AUROC of an artifact on one part of a dataset. */
#ifndef CINCH_BENCH_QUANT_SCORE_H
#define CINCH_BENCH_QUANT_SCORE_H

#include "cpu/quant/quant.h"

/* Runs the artifact on every record of `part` with the best kernels of this CPU. Scores are the logits: they
 * rank as the probabilities do, without their ties at 0 and 1. */
int score_artifact(const struct quant_artifact *a, const struct ecg_dataset *d, enum ecg_part part,
                   double *auroc, struct cn_error *err);

#endif
