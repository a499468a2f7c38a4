/* cpu/quant/improve.h - the techniques of mode `best`: each changes a folded net or a plan so that
 * rounding hurts less, without changing what the float net computes. */
#ifndef CINCH_CPU_QUANT_IMPROVE_H
#define CINCH_CPU_QUANT_IMPROVE_H

#include "cpu/quant/plan.h"
#include "cpu/rt/cinchrt.h"

/* Cross-layer equalisation in place: for each pair of layers joined by one edge, output channel c of
 * the first is divided by s[c] and the second's weights that read it are multiplied. equalised[i] is
 * set for every node whose output changed. `c` calibrated the same graph. Returns how many pairs. */
int quant_equalise(struct quant_graph *g, const struct quant_calibration *c,
                   int equalised[QUANT_MAX_NODES]);

/* Bias correction in place: adds to each bias what rounding the weights takes from the channel's mean
 * on the calibration records. `c` calibrated p->g. */
int quant_correct_bias(struct quant_plan *p, const struct quant_calibration *c,
                       struct cn_error *err);

struct quant_trial;

/* Empirical bias correction in place (means.c): moves each bias until its channel's mean output, as the artifact computes
 * it on the calibration records, is the float net's. t->c calibrated p->g before any bias was corrected. */
int quant_match_means(struct quant_plan *p, const struct quant_trial *t, struct cn_error *err);

/* Runs an artifact on the calibration records: the root mean square error of its
 * probabilities against the float net's; shift (NULL or [n_labels]): the mean difference of the logits,
 * float minus artifact. */
struct quant_trial {
    struct quant_sample *s;
    const struct quant_calibration *c; /* NULL in mode float */
    const struct nn_model *m;
};
int quant_try(const struct quant_trial *t, const struct quant_plan *p, double *rmse, double *shift,
              struct cn_error *err);

/* Loads an artifact for the best kernels of this CPU. *memory holds the model; the caller frees it. */
int quant_load(struct cinchrt_model **model, void **memory, const void *file, size_t n,
               struct cn_error *err);

/* The plan that won, and the float net that its layers are to be compared with; both owned. */
struct quant_improved {
    struct quant_plan *plan;
    struct quant_graph *reference;
    double rmse; /* of the plan's probabilities, as quant_try gives it */
};

/* Chooses by quant_try what opt leaves to the machine. `g` is the folded net, `t->c` its calibration. */
int quant_improve(struct quant_improved *out, const struct quant_trial *t,
                  const struct quant_graph *g, const struct quant_options *opt,
                  struct cn_error *err);

#endif
