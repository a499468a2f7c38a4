/* nn/names.h - what other tools call a net's tensors. Private to this room. */
#ifndef CINCH_NN_NAMES_H
#define CINCH_NN_NAMES_H

#include "nn/net.h"

/* The tensor of `net` that a file's tensor of this name is: its own name, or one of the table in
 * names.c, with any prefix that PyTorch's wrappers put before it. -1: none. */
int nn_names_find(const struct nn_net *net, const char *name);

/* Whether a tensor of this name is bookkeeping without influence on an inference (BatchNorm's
 * num_batches_tracked). */
int nn_names_counter(const char *name);

#endif
