/* nn/prune.h - pruning: of structures, which are really removed (study A; docs/training.md has the
 * rules), and of single weights, which a mask holds at zero (study B). */
#ifndef CINCH_NN_PRUNE_H
#define CINCH_NN_PRUNE_H

#include "nn/backend.h"
#include "nn/model.h"

enum nn_norm { NN_L1, NN_L2, NN_TAYLOR };

/* How many of n structures stay after round k of r at target fraction f: round(n·f^(k/r)), at
 * least 1. */
int nn_prune_keep(int n, double f, int k, int r);

/* The fraction that stays after stage k of r on the way to f: GEOMETRIC removes the same share
 * of what is left at every stage, LINEAR the same number. SENSITIVITY goes like GEOMETRIC over the
 * whole net, and nn/sensitivity.h says what each layer gives. */
enum nn_stages { NN_STAGES_GEOMETRIC, NN_STAGES_LINEAR, NN_STAGES_SENSITIVITY };
double nn_prune_stage(enum nn_stages how, double f, int k, int r);

/* Removes structures of `m` until layer w keeps keep[w] of them (one entry per net width, keep[w] ≤
 * width[w]): any schedule of rounds is a sequence of calls. Lowest scores go; ties: the higher index
 * goes. Layers are visited input to output; conv norms leave out input channels removed upstream in
 * this call; an LSTM unit is scored over its rows of all gates; a ResNet shortcut follows the last
 * convolution of its block. score: NULL for L1 and L2; for TAYLOR [sum of widths] from
 * nn_prune_taylor. *out is a new, smaller model, owned by the caller. */
int nn_prune(struct nn_model **out, const struct nn_model *m, const int *keep, enum nn_norm norm,
             const double *score, struct cn_error *err);

/* First-order Taylor criterion: how much the training loss would change if a structure went, from
 * (Σ gradient·weight)² over its weights, summed over batches of up to `records` training records.
 * score: [sum of widths], the caller's. Molchanov et al., "Importance estimation for neural network
 * pruning", CVPR 2019. */
int nn_prune_taylor(struct nn_backend *be, const struct nn_model *m, const struct ecg_dataset *d,
                    int records, double *score, struct cn_error *err);

/* A mask [n_params] that keeps the largest weights of each convolution, LSTM and linear layer and
 * zeros the fraction `sparsity` of each layer's weights (biases and normalisation stay). Weights
 * already zero count as removed. Ties: the higher index goes. */
int nn_prune_mask(const struct nn_model *m, double sparsity, float *mask, struct cn_error *err);

/* The same with keep[i] weights left of layer i, [n_layers]: 0 .. nn_prune_weights of it; layers
 * without such weights are not looked at. */
int nn_prune_mask_layers(const struct nn_model *m, const size_t *keep, float *mask,
                         struct cn_error *err);

/* Weights of a layer that a mask may zero: a convolution's, an LSTM's two matrices', a linear
 * layer's; 0 for the others. *left, unless NULL: those that are not zero. */
size_t nn_prune_weights(const struct nn_model *m, int layer, size_t *left);

#endif
