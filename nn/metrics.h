/* nn/metrics.h - how good predictions are. */
#ifndef CINCH_NN_METRICS_H
#define CINCH_NN_METRICS_H

#include <stdint.h>

#include "nn/net.h"

/* AUROC of one label by ranks (Mann-Whitney), ties count half. NaN when a class is absent. p:
 * scores, y: 0/1; both with `stride` elements between records. */
double nn_auroc(const float *p, const uint8_t *y, int n, int stride);

struct nn_auroc_report {
    double macro;                    /* mean over the labels that are defined; NaN when none is */
    double per_label[NN_MAX_LABELS]; /* NaN: undefined (one class absent) */
    int undefined;                   /* how many labels are */
    double ci95[2]; /* bootstrap percentile interval of macro over records, 1,000 resamples,
                       Philox(0, CN_RNG_BOOTSTRAP) */
};
/* p [n, labels], y [n, labels]; labels in [1, NN_MAX_LABELS]. bootstrap 0: ci95 is NaN. 0;
 * CN_EINVALID: a score is not a number (its label is undefined, and *out is filled all the same);
 * CN_ENOMEM. */
int nn_auroc_all(const float *p, const uint8_t *y, int n, int labels, int bootstrap,
                 struct nn_auroc_report *out);

struct nn_class_report { /* one-label tasks: the class is the largest probability */
    double accuracy, macro_f1;
    /* per class; 0/0 counts as 0, as scikit-learn */
    double sensitivity[NN_MAX_LABELS], precision[NN_MAX_LABELS], f1[NN_MAX_LABELS];
    uint32_t confusion[NN_MAX_LABELS][NN_MAX_LABELS]; /* [truth][predicted] */
};
/* labels in [1, NN_MAX_LABELS] */
void nn_classify(const float *p, const uint8_t *y, int n, int labels, struct nn_class_report *out);

#endif
