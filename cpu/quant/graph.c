/* cpu/quant/graph.c - folding and fusing.
 *
 * BatchNorm at inference is y = x·s + (β - μ·s), s = γ/√(σ² + ε): s goes into the rows of the
 * convolution before it, the rest into its bias (Jacob et al. 2018, arXiv 1712.05877, §3.2),
 * computed in double. ReLU rides on the Conv, Linear or Add that feeds it alone, MaxPool on the
 * Conv; ReLU behind the pool is the same as before it, since max and ReLU commute.
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

/* Floats of w, bias and w_hh of a node. */
static void node_sizes(const struct quant_node *node, size_t size[3])
{
    size_t rows = (size_t)quant_node_rows(node);
    size[0] = rows * (size_t)quant_node_columns(node);
    size[1] = rows;
    size[2] = node->kind == QUANT_LSTM ? rows * (size_t)node->cout : 0;
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
        float **slot[3] = {&g->node[i].w, &g->node[i].bias, &g->node[i].w_hh};
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
    int batchnorm[QUANT_MAX_NODES]; /* layer folded into the node, or -1 */
    int source[QUANT_MAX_NODES];    /* layer that holds the node's weights */
};

static int node_of(const struct folding *f, int layer)
{
    return layer < 0 ? -1 : f->node[layer];
}

static struct quant_node *add_node(struct folding *f, int layer, enum quant_kind kind)
{
    const struct nn_layer *l = &f->m->net->layer[layer];
    struct quant_node *node = &f->g->node[f->g->n];
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
    node->input[1] = kind == QUANT_ADD ? node_of(f, l->input[1]) : -1;
    f->batchnorm[f->g->n] = -1;
    f->source[f->g->n] = layer;
    f->node[layer] = f->g->n++;
    return node;
}

/* The node that layer `l` may be fused into: its producer, when nothing else reads that. */
static struct quant_node *fusable(struct folding *f, const struct nn_layer *l)
{
    if (l->input[0] < 0 || f->readers[l->input[0]] != 1) return NULL;
    return &f->g->node[f->node[l->input[0]]];
}

static int fuse_layer(struct folding *f, int i, struct cn_error *err)
{
    const struct nn_layer *l = &f->m->net->layer[i];
    struct quant_node *to = fusable(f, l);
    f->node[i] = node_of(f, l->input[0]);
    switch (l->op) {
    case NN_BATCHNORM:
        if (!to || to->kind != QUANT_CONV || to->relu || to->pool > 1 ||
            f->batchnorm[f->node[i]] >= 0)
            break;
        f->batchnorm[f->node[i]] = i;
        return 0;
    case NN_RELU:
        if (!to || (to->kind != QUANT_CONV && to->kind != QUANT_LINEAR && to->kind != QUANT_ADD))
            break;
        to->relu = 1;
        return 0;
    case NN_MAXPOOL:
        if (to && to->kind == QUANT_CONV && to->pool == 1) {
            to->pool = l->k;
            to->tout = l->tout;
        } else {
            add_node(f, i, QUANT_POOL)->pool = l->k;
            f->g->node[f->g->n - 1].tmid = l->tin;
        }
        return 0;
    default:
        return 0; /* dropout does nothing at inference */
    }
    return cn_fail(err, CN_EUNSUPPORTED, "layer '%s' (%s) cannot be fused into what feeds it",
                   l->name, nn_op_name(l->op));
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
    case NN_ADD:
        add_node(f, i, QUANT_ADD);
        return 0;
    case NN_MEAN:
        add_node(f, i, QUANT_MEAN);
        return 0;
    default:
        return fuse_layer(f, i, err);
    }
}

static const float *tensor(const struct folding *f, int layer, int which)
{
    const struct nn_net *net = f->m->net;
    return f->m->params + net->tensor[net->layer[layer].tensor + which].offset;
}

static int fold_batchnorm(const struct folding *f, struct quant_node *node, int bn,
                          struct cn_error *err)
{
    const float *gamma = tensor(f, bn, 0), *beta = tensor(f, bn, 1);
    const float *mean = tensor(f, bn, 2), *var = tensor(f, bn, 3);
    int columns = quant_node_columns(node);
    for (int c = 0; c < node->cout; c++) {
        if (var[c] < 0)
            return cn_fail(err, CN_EINVALID, "layer '%s': running variance of channel %d is %g",
                           f->m->net->layer[bn].name, c, (double)var[c]);
        double s = (double)gamma[c] / sqrt((double)var[c] + EPS);
        float *row = node->w + (size_t)c * (size_t)columns;
        for (int j = 0; j < columns; j++) row[j] = (float)((double)row[j] * s);
        node->bias[c] = (float)((double)beta[c] + ((double)node->bias[c] - (double)mean[c]) * s);
    }
    return 0;
}

static int fill_weights(const struct folding *f, int n, struct cn_error *err)
{
    struct quant_node *node = &f->g->node[n];
    int layer = f->source[n];
    const struct nn_layer *l = &f->m->net->layer[layer];
    size_t size[3];
    node_sizes(node, size);
    if (!size[0]) return 0;
    memcpy(node->w, tensor(f, layer, 0), size[0] * sizeof *node->w);
    if (node->kind == QUANT_LSTM) {
        const float *b_ih = tensor(f, layer, 2), *b_hh = tensor(f, layer, 3);
        memcpy(node->w_hh, tensor(f, layer, 1), size[2] * sizeof *node->w_hh);
        for (size_t j = 0; j < size[1]; j++) node->bias[j] = b_ih[j] + b_hh[j];
    } else if (node->kind == QUANT_LAYERNORM || l->bias) {
        memcpy(node->bias, tensor(f, layer, 1), size[1] * sizeof *node->bias);
    }
    return f->batchnorm[n] < 0 ? 0 : fold_batchnorm(f, node, f->batchnorm[n], err);
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
        if (size[2]) memcpy((*out)->node[i].w_hh, g->node[i].w_hh, size[2] * sizeof(float));
    }
    return 0;
}

void quant_graph_destroy(struct quant_graph *g)
{
    if (!g) return;
    free(g->memory);
    free(g);
}
