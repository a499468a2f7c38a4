/* cpu/quant/graph.h - the folded net: what is left of a layer list once BatchNorm is multiplied
 * into the convolutions, ReLU and MaxPool ride on their producers, and Dropout is gone. Conversion,
 * calibration and the exporters walk it. */
#ifndef CINCH_CPU_QUANT_GRAPH_H
#define CINCH_CPU_QUANT_GRAPH_H

#include "nn/model.h"

enum quant_kind {
    QUANT_CONV,      /* w [cout, cin, k], bias [cout]; with input[1]: plus w1 [cout, cin1] times the
                        second input, a 1 × 1 shortcut convolution added before the ReLU */
    QUANT_LINEAR,    /* w [cout, cin * tin], bias [cout] */
    QUANT_LSTM,      /* w [4H, cin], w1 [4H, H] hidden to hidden, bias [4H] (both vectors added);
                        gates i f g o */
    QUANT_LAYERNORM, /* w, bias [cout]; over channels at every t */
    QUANT_MEAN,      /* over time */
};

struct quant_node {
    enum quant_kind kind;
    char name[24]; /* of the layer it came from */
    int input[2];  /* nodes, earlier in the list; -1: the net's input; input[1]: -2 without */
    int cin, tin, cin1;
    int cout, tmid, tout; /* tmid: before the fused pool */
    int k, pad;
    int relu, pool;       /* fused: 0/1; pool kernel = stride, 1: none */
    float *w, *bias, *w1; /* owned by the graph, may be changed in place; NULL where absent */
};

#define QUANT_MAX_NODES NN_MAX_LAYERS

struct quant_graph {
    char net[24];
    enum nn_loss loss;
    int n_leads, n_samples, n_labels;
    int n;
    struct quant_node node[QUANT_MAX_NODES];
    float *memory; /* owned: all weights */
};

/* Weights of a node: rows of w and w1 (output channels or gates; 0 without) and how long a row of
 * each is. */
int quant_node_rows(const struct quant_node *node);
int quant_node_columns(const struct quant_node *node);
int quant_node_columns1(const struct quant_node *node);
const char *quant_node_kind(const struct quant_node *node); /* "conv+relu+pool" */

/* Folds and fuses. CN_EINVALID for a weight that is not finite or a variance below zero (names
 * tensor and element), CN_EUNSUPPORTED for an order of layers that cannot be folded. */
int quant_graph_create(struct quant_graph **out, const struct nn_model *m, struct cn_error *err);
int quant_graph_copy(struct quant_graph **out, const struct quant_graph *g, struct cn_error *err);
void quant_graph_destroy(struct quant_graph *g); /* accepts NULL */

/* Float inference of one record at a time over the folded net. */
struct quant_forward;
int quant_forward_create(struct quant_forward **out, const struct quant_graph *g /* borrowed */,
                         struct cn_error *err);
void quant_forward_destroy(struct quant_forward *f); /* accepts NULL */

/* x [n_leads, n_samples]. Afterwards quant_forward_output gives each node's output [cout, tout],
 * after its fused ReLU and pool; the last node's is the logits [n_labels]. */
void quant_forward_run(struct quant_forward *f, const float *x);
const float *quant_forward_output(const struct quant_forward *f, int node);
/* [H] largest |cell| of each LSTM unit since creation; NULL for a net without LSTM. */
const float *quant_forward_cells(const struct quant_forward *f);

#endif
