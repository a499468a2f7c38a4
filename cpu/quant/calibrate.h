/* cpu/quant/calibrate.h - the calibration records, and what the folded net's tensors looked like on
 * them. */
#ifndef CINCH_CPU_QUANT_CALIBRATE_H
#define CINCH_CPU_QUANT_CALIBRATE_H

#include "cpu/quant/graph.h"
#include "cpu/quant/observer.h"
#include "ecg/dataset.h"

/* The calibration records; all borrowed. */
struct quant_sample {
    const struct ecg_dataset *d;
    const uint32_t *rows; /* [n] */
    int n;
    void (*progress)(void *arg, int done, int total); /* may be NULL */
    void *progress_arg;
    int done, total; /* records calibrated so far, and in all passes */
};

/* What one tensor showed. */
struct quant_watch {
    struct quant_histogram *histogram;
    struct quant_range range;
    int channels;
    double *mean; /* [channels] over records and time */
    float *most;  /* [channels] largest absolute value */
};

struct quant_calibration {
    int n;                                          /* records */
    int n_tensors;                                  /* nodes + 1 */
    struct quant_watch tensor[QUANT_MAX_NODES + 1]; /* 0: the net's input; i + 1: node i's output */
    float *cells;       /* [H] largest |cell| of each LSTM unit; NULL without an LSTM */
    float *probability; /* [n, n_labels] of the float net */
    float *logits;      /* [n, n_labels] of the float net */
};

/* Runs the sample's records through the float net. Each record is one batch of the observers. CN_EINVALID when an input or an activation is not finite (names record and layer). */
int quant_calibrate(struct quant_calibration **out, const struct quant_graph *g,
                    struct quant_sample *s, struct cn_error *err);
void quant_calibration_destroy(struct quant_calibration *c); /* accepts NULL */

#endif
