/* cpu/quant/graph.c - folding and fusing.
 *
 * BatchNorm at inference is y = x·s + (β - μ·s), s = γ/√(σ² + ε): s goes into the rows of the
 * convolution before it, the rest into its bias (Jacob et al. 2018, arXiv 1712.05877, §3.2),
 * computed in double. ReLU rides on the Conv, Linear or Add that feeds it alone, MaxPool on the
 * Conv; ReLU behind the pool is the same as before it, since max and ReLU commute. An Add of two
 * convolutions, one of them 1 × 1, becomes one node with two inputs.
 */
#include "cpu/quant/graph.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EPS 1e-5 /* nn_batchnorm.eps */

int quant_node_rows(const struct quant_node *node)
{
    switch (node->kind) {
    case QUANT_CONV:
    case QUANT_LINEAR:
        return node->cout;
    case QUANT_LSTM:
        return 4 * node->cout;
    default:
        return 0;
    }
}

int quant_node_columns(const struct quant_node *node)
{
    switch (node->kind) {
    case QUANT_CONV:
        return node->cin * node->k;
    case QUANT_LINEAR:
        return node->cin * node->tin;
    case QUANT_LSTM:
        return node->cin;
    default:
        return 0;
    }
}

int quant_node_columns1(const struct quant_node *node)
{
    if (node->kind == QUANT_LSTM) return node->cout;
    return node->kind == QUANT_CONV ? node->cin1 : 0;
}

const char *quant_node_kind(const struct quant_node *node)
{
    static const char *const conv[2][2][2] = {
        {{"conv", "conv+pool"}, {"conv+relu", "conv+relu+pool"}},
        {{"conv+add", "conv+add+pool"}, {"conv+add+relu", "conv+add+relu+pool"}}};
    switch (node->kind) {
    case QUANT_CONV:
        return conv[node->cin1 > 0][node->relu][node->pool > 1];
    case QUANT_LINEAR:
        return node->relu ? "linear+relu" : "linear";
    case QUANT_LSTM:
        return "lstm";
    case QUANT_LAYERNORM:
        return node->pool > 1 ? "layernorm+pool" : "layernorm";
    default:
        return "mean";
    }
}

/* Floats of w, bias and w1 of a node. */
static void node_sizes(const struct quant_node *node, size_t size[3])
{
    size_t rows = (size_t)quant_node_rows(node);
    size[0] = rows * (size_t)quant_node_columns(node);
    size[1] = rows;
    size[2] = rows * (size_t)quant_node_columns1(node);
    if (node->kind == QUANT_LAYERNORM) size[0] = size[1] = (size_t)node->cout;
}

static int memory_create(struct quant_graph *g, struct cn_error *err)
{
    size_t total = 1, size[3];
    for (int i = 0; i < g->n; i++) {
        node_sizes(&g->node[i], size);
        total += size[0] + size[1] + size[2];
    }
    g->memory = calloc(total, sizeof *g->memory);
    if (!g->memory) return cn_fail(err, CN_ENOMEM, "no memory for the folded net");
    float *at = g->memory;
    for (int i = 0; i < g->n; i++) {
        float **slot[3] = {&g->node[i].w, &g->node[i].bias, &g->node[i].w1};
        node_sizes(&g->node[i], size);
        for (int s = 0; s < 3; s++) {
            *slot[s] = size[s] ? at : NULL;
            at += size[s];
        }
    }
    return 0;
}

static int check_finite(const struct nn_model *m, struct cn_error *err)
{
    for (int i = 0; i < m->net->n_tensors; i++) {
        const struct nn_tensor *t = &m->net->tensor[i];
        for (size_t j = 0; j < t->count; j++)
            if (!isfinite(m->params[t->offset + j]))
                return cn_fail(err, CN_EINVALID,
                               "tensor '%s', element %zu is not a finite number: this model cannot "
                               "be converted; train it again with a lower rate",
                               t->name, j);
    }
    return 0;
}

/* While folding: which layers read layer i, and which node holds its output. */
struct folding {
    const struct nn_model *m;
    struct quant_graph *g;
    int readers[NN_MAX_LAYERS];
    int node[NN_MAX_LAYERS];        /* of each layer */
    int source[QUANT_MAX_NODES];    /* layer that holds the node's weights */
    int batchnorm[QUANT_MAX_NODES]; /* layer folded into them, or -1 */
    int source1[QUANT_MAX_NODES];   /* the same of the shortcut; -1: none */
    int batchnorm1[QUANT_MAX_NODES];
};

static int node_of(const struct folding *f, int layer)
{
    return layer < 0 ? -1 : f->node[layer];
}

static void add_node(struct folding *f, int layer, enum quant_kind kind)
{
    const struct nn_layer *l = &f->m->net->layer[layer];
    int n = f->g->n++;
    struct quant_node *node = &f->g->node[n];
    *node = (struct quant_node){.kind = kind,
                                .cin = l->cin,
                                .tin = l->tin,
                                .cout = l->cout,
                                .tmid = l->tout,
                                .tout = l->tout,
                                .k = l->k,
                                .pad = l->pad,
                                .pool = 1};
    memcpy(node->name, l->name, sizeof node->name);
    node->input[0] = node_of(f, l->input[0]);
    node->input[1] = -2;
    f->source[n] = layer;
    f->batchnorm[n] = f->source1[n] = f->batchnorm1[n] = -1;
    f->node[layer] = n;
}

/* The node that layer `l` may be fused into: its producer, when nothing else reads that and no pool
 * follows it yet. */
static struct quant_node *fusable(struct folding *f, const struct nn_layer *l)
{
    if (l->input[0] < 0 || f->readers[l->input[0]] != 1) return NULL;
    return &f->g->node[f->node[l->input[0]]];
}

static int cannot_fuse(const struct nn_layer *l, struct cn_error *err)
{
    return cn_fail(
        err, CN_EUNSUPPORTED,
        "layer '%s' (%s) cannot be fused into what feeds it, and the runtime has no layer "
        "of its own for it",
        l->name, nn_op_name(l->op));
}

static int fuse_batchnorm(struct folding *f, int i, struct cn_error *err)
{
    const struct nn_layer *l = &f->m->net->layer[i];
    const struct quant_node *to = fusable(f, l);
    int n = node_of(f, l->input[0]);
    if (!to || to->kind != QUANT_CONV || to->relu || to->pool > 1 || to->cin1 ||
        f->batchnorm[n] >= 0)
        return cannot_fuse(l, err);
    f->batchnorm[n] = i;
    f->node[i] = n;
    return 0;
}

static int fuse_relu(struct folding *f, int i, struct cn_error *err)
{
    const struct nn_layer *l = &f->m->net->layer[i];
    struct quant_node *to = fusable(f, l);
    if (!to || (to->kind != QUANT_CONV && to->kind != QUANT_LINEAR)) return cannot_fuse(l, err);
    to->relu = 1;
    f->node[i] = node_of(f, l->input[0]);
    return 0;
}

static int fuse_pool(struct folding *f, int i, struct cn_error *err)
{
    const struct nn_layer *l = &f->m->net->layer[i];
    struct quant_node *to = fusable(f, l);
    if (!to || to->pool > 1 || (to->kind != QUANT_CONV && to->kind != QUANT_LAYERNORM))
        return cannot_fuse(l, err);
    to->pool = l->k;
    to->tout = l->tout;
    f->node[i] = node_of(f, l->input[0]);
    return 0;
}

/* Takes the node placed last, a 1 × 1 convolution, into the other one that the Add reads. */
static int fuse_add(struct folding *f, int i, struct cn_error *err)
{
    const struct nn_layer *l = &f->m->net->layer[i];
    int a = node_of(f, l->input[0]), b = node_of(f, l->input[1]), last = f->g->n - 1;
    if (a == last) {
        a = b;
        b = last;
    }
    if (a < 0 || b != last || a == b || f->readers[l->input[0]] != 1 ||
        f->readers[l->input[1]] != 1)
        return cannot_fuse(l, err);
    struct quant_node *to = &f->g->node[a], *shortcut = &f->g->node[b];
    if (to->kind != QUANT_CONV || shortcut->kind != QUANT_CONV || shortcut->k != 1 ||
        shortcut->pad || shortcut->cin1 || to->cin1 || to->relu || shortcut->relu || to->pool > 1 ||
        shortcut->pool > 1 || shortcut->input[0] > a)
        return cannot_fuse(l, err);
    to->input[1] = shortcut->input[0];
    to->cin1 = shortcut->cin;
    f->source1[a] = f->source[b];
    f->batchnorm1[a] = f->batchnorm[b];
    f->node[i] = a;
    f->g->n--;
    return 0;
}

static int place_layer(struct folding *f, int i, struct cn_error *err)
{
    switch (f->m->net->layer[i].op) {
    case NN_CONV1D:
        add_node(f, i, QUANT_CONV);
        return 0;
    case NN_LINEAR:
        add_node(f, i, QUANT_LINEAR);
        return 0;
    case NN_LSTM:
        add_node(f, i, QUANT_LSTM);
        return 0;
    case NN_LAYERNORM:
        add_node(f, i, QUANT_LAYERNORM);
        return 0;
    case NN_MEAN:
        add_node(f, i, QUANT_MEAN);
        return 0;
    case NN_BATCHNORM:
        return fuse_batchnorm(f, i, err);
    case NN_RELU:
        return fuse_relu(f, i, err);
    case NN_MAXPOOL:
        return fuse_pool(f, i, err);
    case NN_ADD:
        return fuse_add(f, i, err);
    default: /* dropout does nothing at inference */
        f->node[i] = node_of(f, f->m->net->layer[i].input[0]);
        return 0;
    }
}

static const float *tensor(const struct folding *f, int layer, int which)
{
    const struct nn_net *net = f->m->net;
    return f->m->params + net->tensor[net->layer[layer].tensor + which].offset;
}

/* Multiplies BatchNorm layer `bn` into rows w [channels, columns] and their bias. */
static int fold_batchnorm(const struct folding *f, int bn, float *w, int columns, float *bias,
                          struct cn_error *err)
{
    const float *gamma = tensor(f, bn, 0), *beta = tensor(f, bn, 1);
    const float *mean = tensor(f, bn, 2), *var = tensor(f, bn, 3);
    const struct nn_layer *l = &f->m->net->layer[bn];
    for (int c = 0; c < l->cout; c++) {
        if (var[c] < 0)
            return cn_fail(err, CN_EINVALID, "layer '%s': running variance of channel %d is %g",
                           l->name, c, (double)var[c]);
        double s = (double)gamma[c] / sqrt((double)var[c] + EPS);
        float *row = w + (size_t)c * (size_t)columns;
        for (int j = 0; j < columns; j++) row[j] = (float)((double)row[j] * s);
        bias[c] = (float)((double)beta[c] + ((double)bias[c] - (double)mean[c]) * s);
    }
    return 0;
}

/* The 1 × 1 convolution that was taken in: its weights are w1, its bias joins the node's. */
static int fill_shortcut(const struct folding *f, int n, struct cn_error *err)
{
    struct quant_node *node = &f->g->node[n];
    int layer = f->source1[n], rc = 0;
    float *bias = calloc((size_t)node->cout, sizeof *bias);
    if (!bias) return cn_fail(err, CN_ENOMEM, "no memory for the folded net");
    memcpy(node->w1, tensor(f, layer, 0),
           (size_t)node->cout * (size_t)node->cin1 * sizeof *node->w1);
    if (f->m->net->layer[layer].bias)
        memcpy(bias, tensor(f, layer, 1), (size_t)node->cout * sizeof *bias);
    if (f->batchnorm1[n] >= 0)
        rc = fold_batchnorm(f, f->batchnorm1[n], node->w1, node->cin1, bias, err);
    for (int c = 0; c < node->cout; c++) node->bias[c] += bias[c];
    free(bias);
    return rc;
}

static int fill_weights(const struct folding *f, int n, struct cn_error *err)
{
    struct quant_node *node = &f->g->node[n];
    int layer = f->source[n], rc = 0;
    size_t size[3];
    node_sizes(node, size);
    if (!size[0]) return 0;
    memcpy(node->w, tensor(f, layer, 0), size[0] * sizeof *node->w);
    if (node->kind == QUANT_LSTM) {
        const float *b_ih = tensor(f, layer, 2), *b_hh = tensor(f, layer, 3);
        memcpy(node->w1, tensor(f, layer, 1), size[2] * sizeof *node->w1);
        for (size_t j = 0; j < size[1]; j++) node->bias[j] = b_ih[j] + b_hh[j];
    } else if (node->kind == QUANT_LAYERNORM || f->m->net->layer[layer].bias) {
        memcpy(node->bias, tensor(f, layer, 1), size[1] * sizeof *node->bias);
    }
    if (f->batchnorm[n] >= 0)
        rc = fold_batchnorm(f, f->batchnorm[n], node->w, quant_node_columns(node), node->bias, err);
    return rc || f->source1[n] < 0 ? rc : fill_shortcut(f, n, err);
}

static int fold(struct folding *f, struct cn_error *err)
{
    const struct nn_net *net = f->m->net;
    for (int i = 0; i < net->n_layers; i++)
        for (int s = 0; s < (net->layer[i].op == NN_ADD ? 2 : 1); s++)
            if (net->layer[i].input[s] >= 0) f->readers[net->layer[i].input[s]]++;
    int rc = 0;
    for (int i = 0; !rc && i < net->n_layers; i++) rc = place_layer(f, i, err);
    if (!rc) rc = memory_create(f->g, err);
    for (int n = 0; !rc && n < f->g->n; n++) rc = fill_weights(f, n, err);
    return rc;
}

int quant_graph_create(struct quant_graph **out, const struct nn_model *m, struct cn_error *err)
{
    int rc = check_finite(m, err);
    *out = NULL;
    if (rc) return rc;
    struct quant_graph *g = calloc(1, sizeof *g);
    if (!g) return cn_fail(err, CN_ENOMEM, "no memory for the folded net");
    memcpy(g->net, m->net->name, sizeof g->net);
    g->loss = m->net->loss;
    g->n_leads = m->net->n_leads;
    g->n_samples = m->net->n_samples;
    g->n_labels = m->net->n_labels;
    struct folding f = {.m = m, .g = g};
    rc = fold(&f, err);
    if (rc) {
        quant_graph_destroy(g);
        return rc;
    }
    *out = g;
    return 0;
}

int quant_graph_copy(struct quant_graph **out, const struct quant_graph *g, struct cn_error *err)
{
    *out = malloc(sizeof **out);
    if (!*out) return cn_fail(err, CN_ENOMEM, "no memory for the folded net");
    **out = *g;
    int rc = memory_create(*out, err);
    if (rc) {
        free(*out);
        *out = NULL;
        return rc;
    }
    for (int i = 0; i < g->n; i++) {
        size_t size[3];
        node_sizes(&g->node[i], size);
        if (size[0]) memcpy((*out)->node[i].w, g->node[i].w, size[0] * sizeof(float));
        if (size[1]) memcpy((*out)->node[i].bias, g->node[i].bias, size[1] * sizeof(float));
        if (size[2]) memcpy((*out)->node[i].w1, g->node[i].w1, size[2] * sizeof(float));
    }
    return 0;
}

void quant_graph_destroy(struct quant_graph *g)
{
    if (!g) return;
    free(g->memory);
    free(g);
}
