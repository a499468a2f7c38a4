/* nn/prune.c - see prune.h. Which structures a layer keeps is a list of indexes; a tensor of the
 * smaller net is the larger one's rows and columns at those indexes. */
#include "nn/prune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int nn_prune_keep(int n, double f, int k, int r)
{
    int left = (int)lround(n * pow(f, (double)k / r));
    return left < 1 ? 1 : left > n ? n : left;
}

double nn_prune_stage(enum nn_stages how, double f, int k, int r)
{
    return how == NN_STAGES_LINEAR ? 1 - (1 - f) * k / r : pow(f, (double)k / r);
}

/* The structures that stay. */
struct kept {
    int n;
    int *index; /* ascending */
};

struct pruning {
    const struct nn_model *m;
    struct kept width[NN_MAX_WIDTHS]; /* owned */
    struct kept input;                /* all leads; owned */
};

struct ranked {
    double score;
    int index;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return x->index - y->index;
}

static int by_index(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* The channels that stay of what layer `layer` gives (-1: the net's input). */
static const struct kept *kept_of(const struct pruning *p, int layer)
{
    while (layer >= 0 && p->m->net->layer[layer].width < 0)
        layer = p->m->net->layer[layer].input[0];
    return layer < 0 ? &p->input : &p->width[p->m->net->layer[layer].width];
}

static void add_to_norm(double *sum, float w, enum nn_norm norm)
{
    *sum += norm == NN_L1 ? fabs((double)w) : (double)w * w;
}

/* Norm of structure s of layer l over its weights from inputs that stay. */
static double structure_norm(const struct pruning *p, const struct nn_layer *l, int s,
                             enum nn_norm norm)
{
    const struct nn_tensor *t = &p->m->net->tensor[l->tensor];
    const float *w = p->m->params + t->offset;
    double sum = 0;
    if (l->op == NN_LSTM) {
        const float *hh = p->m->params + t[1].offset;
        for (int gate = 0; gate < 4; gate++) {
            size_t row = (size_t)(gate * l->cout + s);
            for (int i = 0; i < l->cin; i++) add_to_norm(&sum, w[row * l->cin + i], norm);
            for (int i = 0; i < l->cout; i++) add_to_norm(&sum, hh[row * l->cout + i], norm);
        }
    } else {
        const struct kept *in = kept_of(p, l->input[0]);
        int span = l->op == NN_LINEAR ? l->tin : l->k; /* weights per input channel */
        for (int i = 0; i < in->n; i++)
            for (int k = 0; k < span; k++)
                add_to_norm(&sum, w[((size_t)s * l->cin + in->index[i]) * span + k], norm);
    }
    return norm == NN_L1 ? sum : sqrt(sum);
}

/* The layer whose weights decide about width w: the first that has it, in execution order. */
static int deciding_layer(const struct nn_net *net, int w)
{
    for (int i = 0; i < net->n_layers; i++)
        if (net->layer[i].width == w) return i;
    return -1;
}

static int choose(struct pruning *p, int w, int keep, enum nn_norm norm, const double *score)
{
    const struct nn_net *net = p->m->net;
    const struct nn_layer *l = &net->layer[deciding_layer(net, w)];
    int n = net->width[w];
    struct ranked *rank = malloc((size_t)n * sizeof *rank);
    p->width[w].index = malloc((size_t)keep * sizeof(int));
    if (!rank || !p->width[w].index) {
        free(rank);
        return CN_ENOMEM;
    }
    for (int s = 0; s < n; s++)
        rank[s] = (struct ranked){score ? score[s] : structure_norm(p, l, s, norm), s};
    qsort(rank, (size_t)n, sizeof *rank, by_rank);
    for (int i = 0; i < keep; i++) p->width[w].index[i] = rank[i].index;
    qsort(p->width[w].index, (size_t)keep, sizeof(int), by_index);
    p->width[w].n = keep;
    free(rank);
    return 0;
}

/* dst[r][c][s] = src[rows[r] of each block][cols[c]][s]: `blocks` stacked copies of the rows (the
 * gates of an LSTM), each row of `from` columns of `span` floats. cols NULL: one column. */
struct slice {
    const struct kept *rows, *cols;
    int blocks, block_rows, from, span;
};

static void copy_slice(const struct slice *c, const float *src, float *dst)
{
    size_t span = (size_t)c->span;
    for (int b = 0; b < c->blocks; b++)
        for (int r = 0; r < c->rows->n; r++) {
            const float *row =
                src + (size_t)(b * c->block_rows + c->rows->index[r]) * (size_t)c->from * span;
            for (int i = 0; i < (c->cols ? c->cols->n : 1); i++, dst += span)
                memcpy(dst, row + (c->cols ? (size_t)c->cols->index[i] * span : 0),
                       span * sizeof *dst);
        }
}

static void copy_layer(const struct pruning *p, int layer, struct nn_model *small)
{
    const struct nn_net *net = p->m->net;
    const struct nn_layer *l = &net->layer[layer];
    struct kept all = {0}; /* the net's outputs, which all stay */
    int labels[64];
    const struct kept *out = kept_of(p, layer), *in = kept_of(p, l->input[0]);
    if (l->op == NN_LINEAR && l->width < 0) {
        all = (struct kept){l->cout, labels};
        for (int i = 0; i < l->cout; i++) labels[i] = i;
        out = &all;
    }
    for (int k = 0; k < l->n_tensors; k++) {
        const float *src = p->m->params + net->tensor[l->tensor + k].offset;
        float *dst = small->params + small->net->tensor[l->tensor + k].offset;
        struct slice c = {out, NULL, 1, l->cout, 1, 1}; /* one float per structure */
        if (l->op == NN_LSTM) c.blocks = 4;
        if (k == 0 && (l->op == NN_CONV1D || l->op == NN_LINEAR || l->op == NN_LSTM)) {
            c.cols = in;
            c.from = l->cin;
            c.span = l->op == NN_CONV1D ? l->k : l->op == NN_LINEAR ? l->tin : 1;
        } else if (k == 1 && l->op == NN_LSTM) {
            c.cols = out;
            c.from = l->cout;
        }
        copy_slice(&c, src, dst);
    }
}

static int check_keep(const struct nn_net *net, const int *keep, struct cn_error *err)
{
    for (int w = 0; w < net->n_widths; w++)
        if (keep[w] < 1 || keep[w] > net->width[w])
            return cn_fail(err, CN_EINVALID,
                           "net %s: cannot keep %d of the %d structures of width %d", net->name,
                           keep[w], net->width[w], w + 1);
    return 0;
}

/* An uninitialised model of the smaller shape, with everything but parameters taken over. */
static int shrunken(struct nn_model **out, const struct nn_model *m, const int *keep,
                    struct cn_error *err)
{
    struct nn_shape shape = {m->net->n_leads, m->net->n_samples, m->net->n_labels};
    struct nn_net *net;
    int rc = nn_net_build(&net, m->net->name, keep, m->net->n_widths, shape, err);
    if (rc) return rc;
    memcpy(net->full_width, m->net->full_width, sizeof net->full_width);
    rc = nn_model_create(out, net, 0, NULL, err);
    if (rc) return rc;
    memcpy((*out)->mean, m->mean, sizeof m->mean);
    memcpy((*out)->std, m->std, sizeof m->std);
    memcpy((*out)->label, m->label, sizeof m->label);
    (*out)->unsaid = m->unsaid;
    (*out)->hz = m->hz;
    if (!m->meta || ((*out)->meta = strdup(m->meta))) return 0;
    nn_model_destroy(*out);
    *out = NULL;
    return cn_fail(err, CN_ENOMEM, "out of memory");
}

int nn_prune(struct nn_model **out, const struct nn_model *m, const int *keep, enum nn_norm norm,
             const double *score, struct cn_error *err)
{
    struct pruning p = {.m = m};
    int leads[64], rc = check_keep(m->net, keep, err);
    *out = NULL;
    if (!rc && norm == NN_TAYLOR && !score)
        rc = cn_fail(err, CN_EINVALID, "the Taylor criterion needs scores");
    if (rc) return rc;
    for (int i = 0; i < m->net->n_leads; i++) leads[i] = i;
    p.input = (struct kept){m->net->n_leads, leads};
    for (int w = 0; w < m->net->n_widths && !rc; w++) {
        rc = choose(&p, w, keep[w], norm, norm == NN_TAYLOR ? score : NULL);
        if (score) score += m->net->width[w];
    }
    if (rc)
        cn_fail(err, rc, "out of memory");
    else
        rc = shrunken(out, m, keep, err);
    for (int i = 0; i < m->net->n_layers && !rc; i++) copy_layer(&p, i, *out);
    for (int w = 0; w < m->net->n_widths; w++) free(p.width[w].index);
    return rc;
}

/* Single weights */

struct weight {
    float size;
    size_t at;
};

static int by_size(const void *a, const void *b)
{
    const struct weight *x = a, *y = b;
    if (x->size != y->size) return x->size < y->size ? 1 : -1;
    return x->at < y->at ? -1 : 1;
}

/* Tensors of the layer that a mask may zero, first in its list. */
static int matrices(const struct nn_layer *l)
{
    if (l->op == NN_LSTM) return 2; /* weight_ih and weight_hh together */
    return l->op == NN_CONV1D || l->op == NN_LINEAR;
}

size_t nn_prune_weights(const struct nn_model *m, int layer, size_t *left)
{
    const struct nn_layer *l = &m->net->layer[layer];
    size_t n = 0, zero = 0;
    for (int k = 0; k < matrices(l); k++) {
        const struct nn_tensor *t = &m->net->tensor[l->tensor + k];
        n += t->count;
        for (size_t i = t->offset; i < t->offset + t->count; i++) zero += m->params[i] == 0;
    }
    if (left) *left = n - zero;
    return n;
}

static int mask_layer(const struct nn_model *m, const struct nn_layer *l, size_t total, size_t keep,
                      float *mask)
{
    size_t n = 0;
    struct weight *w = malloc(total * sizeof *w);
    if (!w) return CN_ENOMEM;
    for (int k = 0; k < matrices(l); k++) {
        const struct nn_tensor *t = &m->net->tensor[l->tensor + k];
        for (size_t i = t->offset; i < t->offset + t->count; i++)
            w[n++] = (struct weight){fabsf(m->params[i]), i};
    }
    qsort(w, n, sizeof *w, by_size);
    for (size_t i = keep; i < n; i++) mask[w[i].at] = 0;
    free(w);
    return 0;
}

int nn_prune_mask_layers(const struct nn_model *m, const size_t *keep, float *mask,
                         struct cn_error *err)
{
    for (size_t i = 0; i < m->net->n_params; i++) mask[i] = 1;
    for (int i = 0; i < m->net->n_layers; i++) {
        size_t n = nn_prune_weights(m, i, NULL);
        if (n && mask_layer(m, &m->net->layer[i], n, keep[i], mask))
            return cn_fail(err, CN_ENOMEM, "out of memory");
    }
    return 0;
}

int nn_prune_mask(const struct nn_model *m, double sparsity, float *mask, struct cn_error *err)
{
    size_t keep[NN_MAX_LAYERS];
    if (!(sparsity >= 0 && sparsity < 1))
        return cn_fail(err, CN_EINVALID, "sparsity %g must lie in [0, 1)", sparsity);
    for (int i = 0; i < m->net->n_layers; i++) {
        size_t n = nn_prune_weights(m, i, NULL);
        keep[i] = n - (size_t)llround((double)n * sparsity);
    }
    return nn_prune_mask_layers(m, keep, mask, err);
}
