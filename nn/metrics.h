/* nn/metrics.h - how good predictions are. */
#ifndef CINCH_NN_METRICS_H
#define CINCH_NN_METRICS_H

#include <stdint.h>

/* AUROC of one label by ranks (Mann-Whitney), ties count half. NaN when a class is absent. p:
 * scores, y: 0/1; both with `stride` elements between records. */
double nn_auroc(const float *p, const uint8_t *y, int n, int stride);

struct nn_auroc_report {
    double macro;        /* mean over the labels that are defined; NaN when none is */
    double per_label[8]; /* NaN: undefined (one class absent) */
    int undefined;       /* how many labels are */
    double ci95[2];      /* bootstrap percentile interval of macro over records, 1,000 resamples,
                            Philox(0, CN_RNG_BOOTSTRAP) */
};
/* p [n, labels], y [n, labels]. bootstrap 0: ci95 is NaN. */
void nn_auroc_all(const float *p, const uint8_t *y, int n, int labels, int bootstrap,
                  struct nn_auroc_report *out);

struct nn_class_report { /* one-label tasks: the class is the largest probability */
    double accuracy, macro_f1;
    double sensitivity[8], precision[8], f1[8]; /* per class; 0/0 counts as 0, as scikit-learn */
    uint32_t confusion[8][8];                   /* [truth][predicted] */
};
void nn_classify(const float *p, const uint8_t *y, int n, int labels, struct nn_class_report *out);

#endif
