/* nn/prune.h - structured pruning: structures are really removed, never masked (study A;
 * docs/training.md has the rules). */
#ifndef CINCH_NN_PRUNE_H
#define CINCH_NN_PRUNE_H

#include "nn/model.h"

enum nn_norm { NN_L1, NN_L2, NN_TAYLOR };

/* How many of n structures stay after round k of r at target fraction f: round(n·f^(k/r)), at
 * least 1. */
int nn_prune_keep(int n, double f, int k, int r);

/* Removes structures of `m` until layer w keeps keep[w] of them (one entry per net width, keep[w] ≤
 * width[w]). Lowest scores go; ties: the higher index goes. Layers are visited input to output;
 * conv norms leave out input channels removed upstream; an LSTM unit is scored over its rows of all
 * gates; a ResNet shortcut follows the last convolution of its block. score: NULL for L1 and L2;
 * for TAYLOR [sum of widths] from nn_prune_taylor. *out is a new, smaller model. */
int nn_prune(struct nn_model **out, const struct nn_model *m, const int *keep, enum nn_norm norm,
             const double *score, struct cn_error *err);

#endif
