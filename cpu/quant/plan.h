/* cpu/quant/plan.h - a folded net together with a scale and a zero point for every tensor: all that
 * is needed to write an artifact. */
#ifndef CINCH_CPU_QUANT_PLAN_H
#define CINCH_CPU_QUANT_PLAN_H

#include "cpu/quant/calibrate.h"
#include "cpu/quant/quant.h"

enum quant_watcher {
    QUANT_HISTOGRAM,
    QUANT_MINMAX,
    QUANT_NARROWED, /* the histogram's range times a factor below 1, found by trial */
    QUANT_WATCHERS
};
extern const char *const quant_watcher_names[];

/* Tensor 0 is the net's input, tensor i + 1 node i's output, as in quant_calibration. */
struct quant_plan {
    struct quant_graph *g; /* owned */
    enum quant_mode mode;
    int dynamic; /* 1: study A's LSTM: float between the products, activations quantised at each step */
    int qmax; /* 255, or 127 in mode paper */
    enum quant_watcher watcher[QUANT_MAX_NODES + 1];
    struct quant_range covered[QUANT_MAX_NODES + 1]; /* what the observer chose */
    struct quant_params act[QUANT_MAX_NODES + 1]; /* of an LSTM: of the copy of h that feeds back */
    float *cells;                                 /* [H], owned; NULL without an LSTM */
    int corrected[QUANT_MAX_NODES], equalised[QUANT_MAX_NODES]; /* for the report */
};

/* 1 when tensor i is kept in 8 bits (the last node's output, the logits, is not). */
int quant_plan_quantised(const struct quant_plan *p, int tensor);

/* A plan with a copy of `g`, every tensor watched by the histogram, activations in 0 .. qmax (255 or
 * 127); in mode float `c` may be NULL and qmax means nothing. */
int quant_plan_create(struct quant_plan **out, const struct quant_graph *g, enum quant_mode mode,
                      int qmax, const struct quant_calibration *c, struct cn_error *err);
int quant_plan_copy(struct quant_plan **out, const struct quant_plan *p, struct cn_error *err);
void quant_plan_destroy(struct quant_plan *p); /* accepts NULL */

/* Takes tensor `i`'s range from one of its observers; factor: of QUANT_NARROWED, else unused. */
void quant_plan_watch(struct quant_plan *p, int i, enum quant_watcher watcher, float factor,
                      const struct quant_calibration *c);

/* Raises output scales where the integer rules need it; after the last change of ranges or weights. */
void quant_plan_settle(struct quant_plan *p);

/* Rounded weights of one node. Symmetric, [-127, 127]; scale[r] per row. */
struct quant_weights {
    int rows, columns, columns1;
    int8_t *w, *w1;        /* [rows, columns], [rows, columns1] or NULL; owned */
    float *scale, *scale1; /* [rows] each; owned */
};

/* Rounds node `i`'s weights as the plan's artifact will hold them. */
int quant_plan_weights(struct quant_weights *out, const struct quant_plan *p, int i,
                       struct cn_error *err);
void quant_weights_release(struct quant_weights *w); /* accepts a zeroed one */

/* The .cinch bytes of the plan; `m` gives names, labels and normalisation. *data is malloc'ed. */
int quant_encode(void **data, size_t *n, const struct quant_plan *p, const struct nn_model *m,
                 struct cn_error *err);

#endif
