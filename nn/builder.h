/* nn/builder.h - how nn/zoo.c writes a net down, layer by layer. Private to this room.
 *
 * Each function appends one layer that reads layer `in` (-1: the net's input), works out its shape,
 * and returns the layer's index. The first failure sticks in builder.rc; later calls do nothing.
 */
#ifndef CINCH_NN_BUILDER_H
#define CINCH_NN_BUILDER_H

#include "nn/net.h"

struct nn_builder {
    struct nn_net *net;
    int rc;
    struct cn_error *err;
};

struct nn_zoo_entry {
    const char *name;
    enum nn_loss loss;
    struct nn_shape shape; /* the default */
    int n_widths;
    int width[NN_MAX_WIDTHS]; /* full */
    void (*build)(struct nn_builder *b);
};

extern const struct nn_zoo_entry nn_zoo[]; /* ends with a NULL name */

/* `width` is the index of the prunable width that sets the number of outputs; for conv -1 is not
 * allowed, for linear -1 means the net's labels. */
int nn_add_conv(struct nn_builder *b, int in, const char *name, int width, int k, int pad,
                int bias);
int nn_add_batchnorm(struct nn_builder *b, int in, const char *name);
int nn_add_relu(struct nn_builder *b, int in, const char *name);
int nn_add_maxpool(struct nn_builder *b, int in, const char *name, int k);
int nn_add_lstm(struct nn_builder *b, int in, const char *name, int width);
int nn_add_layernorm(struct nn_builder *b, int in, const char *name);
int nn_add_linear(struct nn_builder *b, int in, const char *name, int width);
int nn_add_dropout(struct nn_builder *b, int in, const char *name, float p);
int nn_add_add(struct nn_builder *b, int in, int in2, const char *name);
int nn_add_mean(struct nn_builder *b, int in, const char *name);

#endif
