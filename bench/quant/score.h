/* bench/quant/score.h - macro-AUROC of an artifact on one part of a dataset. */
#ifndef CINCH_BENCH_QUANT_SCORE_H
#define CINCH_BENCH_QUANT_SCORE_H

#include "cpu/quant/quant.h"

#define SCORE_ALL (-1)

/* Runs the artifact on every record of `part` (enum ecg_part, or SCORE_ALL) with the best kernels of this CPU. Scores are the logits: they
 * rank as the probabilities do, without their ties at 0 and 1. */
int score_artifact(const struct quant_artifact *a, const struct ecg_dataset *d, int part,
                   double *auroc, struct cn_error *err);

#endif
