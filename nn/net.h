/* nn/net.h - a network as a list of layers over one flat parameter vector.
 *
 * A net is data, not code: backends, pruning, the quantiser, the exporters and `cinch inspect` all
 * walk the same list. Layers stand in execution order; layer i reads the outputs of layers input[0]
 * (and input[1] for ADD), where -1 is the net's input. Activations are [B, C, T] per member (a
 * vector is [B, C, 1]). Names are PyTorch's where PyTorch has one.
 */
#ifndef CINCH_NN_NET_H
#define CINCH_NN_NET_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define NN_MAX_LAYERS 64
#define NN_MAX_TENSORS 96
#define NN_MAX_WIDTHS 16
#define NN_MAX_LEADS 64   /* as the artifact's format */
#define NN_MAX_LABELS 128 /* as the artifact's format; what has an entry a label has this room */

enum nn_op {
    NN_CONV1D,    /* weight [Cout, Cin, K], no bias unless `bias`; zero padding `pad` both sides;
                     stride 1 */
    NN_BATCHNORM, /* weight, bias [C]; running_mean, running_var [C]; eps 1e-5, momentum 0.1 */
    NN_RELU,
    NN_MAXPOOL, /* kernel = stride = k; the tail shorter than k is dropped */
    NN_LSTM, /* weight_ih [4H, C], weight_hh [4H, H], bias_ih, bias_hh [4H]; gates i f g o; output
                [B, H, T] */
    NN_LAYERNORM, /* over C at every t; weight, bias [C]; eps 1e-5 */
    NN_LINEAR,    /* reads [B, C, T] flattened channel-major; weight [Cout, C*T], bias [Cout] */
    NN_DROPOUT,   /* scales by 1/(1-p) while training */
    NN_ADD,       /* input[0] + input[1] */
    NN_MEAN,      /* over time: [B, C, T] -> [B, C, 1] */
};

/* One tensor of the flat vector. nn_net.tensor lists them layer by layer; in the flat vector all
 * trainable tensors come first, running statistics last. */
struct nn_tensor {
    char name[48]; /* "conv1.weight", "lstm.weight_ih_l0", "bn1.running_mean" */
    int ndim;
    int dim[3];
    size_t offset; /* in floats, in the flat vector */
    size_t count;
    int layer;
    int trainable; /* 0: running statistics */
};

struct nn_layer {
    enum nn_op op;
    char name[24]; /* "conv1", "block2.conv3", "fc" */
    int input[2];  /* layer indexes; -1: the net's input; input[1] is used by ADD only (else -1) */
    int cin, tin;  /* of input[0] */
    int cout, tout;
    int k, pad; /* CONV1D; MAXPOOL: k */
    int bias;   /* CONV1D, LINEAR: has one */
    float p;    /* DROPOUT */
    int width;  /* index into nn_net.width that sets cout, or -1: not prunable by itself */
    int tensor; /* index of the layer's first tensor in nn_net.tensor, or -1; order as listed at the
                   op above */
    int n_tensors;
};

enum nn_loss { NN_BCE, NN_CROSS_ENTROPY };

struct nn_net {
    char name[24];     /* a zoo name: cnn, rnn, resnet, beat */
    enum nn_loss loss; /* BCE: outputs are logits of independent labels; CROSS_ENTROPY: of exclusive
                          classes */
    int n_leads, n_samples,
        n_labels; /* input [B, n_leads, n_samples], output [B, n_labels] logits */
    int n_widths;
    int width[NN_MAX_WIDTHS]; /* prunable structures left, input to output: cnn has 4; resnet 9; rnn
                                 1 */
    int full_width[NN_MAX_WIDTHS]; /* before any pruning (kept in the model's file): the n of
                                      n·f^(k/r) */
    int n_layers;
    struct nn_layer layer[NN_MAX_LAYERS];
    int n_tensors;
    struct nn_tensor tensor[NN_MAX_TENSORS];
    size_t n_params; /* trainable floats: the parameter count people quote */
    size_t n_floats; /* with running statistics: the length of the flat vector */
};

struct nn_shape {
    int n_leads, n_samples, n_labels; /* 0: the net's own default (12, 1000, 5) */
};

/* Builds a zoo net. widths NULL: full. n_widths must equal the net's own number. Each width in [1,
 * 4096]. *out is malloc'ed, freed with nn_net_destroy. CN_EINVALID for an unknown net (names the
 * nearest) or bad widths. */
int nn_net_build(struct nn_net **out, const char *name, const int *widths, int n_widths,
                 struct nn_shape shape, struct cn_error *err);
void nn_net_destroy(struct nn_net *net); /* accepts NULL */
const char *const *nn_net_names(void);   /* NULL-terminated */

/* Multiply-accumulates of one inference, of the whole net and per layer (layer_macs NULL or
 * n_layers long). */
uint64_t nn_net_macs(const struct nn_net *net, uint64_t *layer_macs);

const char *nn_op_name(enum nn_op op); /* "conv1d" */

#endif
