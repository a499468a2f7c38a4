/* nn/net.c - see net.h: shapes, tensors and offsets of a net, worked out layer by layer as nn/zoo.c
 * adds them. */
#include "nn/net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/yaml.h"
#include "nn/builder.h"

#define MAX_WIDTH 4096
#define MAX_SAMPLES (1 << 20)

static const char *const op_name[] = {"conv1d",    "batchnorm", "relu",    "maxpool", "lstm",
                                      "layernorm", "linear",    "dropout", "add",     "mean"};

const char *nn_op_name(enum nn_op op)
{
    return (unsigned)op < sizeof op_name / sizeof *op_name ? op_name[op] : "?";
}

/* A new layer with its input's shape as a start; NULL after a failure. */
static struct nn_layer *add_layer(struct nn_builder *b, enum nn_op op, int in, const char *name)
{
    struct nn_net *net = b->net;
    if (b->rc) return NULL;
    if (net->n_layers == NN_MAX_LAYERS) {
        b->rc =
            cn_fail(b->err, CN_ELIMIT, "net %s has more than %d layers", net->name, NN_MAX_LAYERS);
        return NULL;
    }
    struct nn_layer *l = &net->layer[net->n_layers++];
    *l = (struct nn_layer){.op = op, .input = {in, -1}, .width = -1, .tensor = -1};
    snprintf(l->name, sizeof l->name, "%s", name);
    l->cin = in < 0 ? net->n_leads : net->layer[in].cout;
    l->tin = in < 0 ? net->n_samples : net->layer[in].tout;
    l->cout = l->cin;
    l->tout = l->tin;
    return l;
}

/* Appends tensor "layer.suffix" of shape [d0, d1, d2] (0: dimension absent). */
static void add_tensor(struct nn_builder *b, struct nn_layer *l, const char *suffix,
                       const int dim[3], int trainable)
{
    struct nn_net *net = b->net;
    if (b->rc) return;
    if (net->n_tensors == NN_MAX_TENSORS) {
        b->rc = cn_fail(b->err, CN_ELIMIT, "net %s has more than %d tensors", net->name,
                        NN_MAX_TENSORS);
        return;
    }
    struct nn_tensor *t = &net->tensor[net->n_tensors];
    *t = (struct nn_tensor){.count = 1, .layer = net->n_layers - 1, .trainable = trainable};
    snprintf(t->name, sizeof t->name, "%s.%s", l->name, suffix);
    for (int i = 0; i < 3 && dim[i]; i++) {
        t->dim[t->ndim++] = dim[i];
        t->count *= (size_t)dim[i];
    }
    if (l->tensor < 0) l->tensor = net->n_tensors;
    l->n_tensors++;
    net->n_tensors++;
}

static int last(const struct nn_builder *b)
{
    return b->net->n_layers - 1;
}

static void require_length(struct nn_builder *b, const struct nn_layer *l)
{
    if (!b->rc && l->tout < 1)
        b->rc = cn_fail(b->err, CN_EINVALID, "net %s: %d samples are too few for layer %s",
                        b->net->name, b->net->n_samples, l->name);
}

int nn_add_conv(struct nn_builder *b, int in, const char *name, int width, int k, int pad, int bias)
{
    struct nn_layer *l = add_layer(b, NN_CONV1D, in, name);
    if (!l) return -1;
    l->cout = b->net->width[width];
    l->width = width;
    l->k = k;
    l->pad = pad;
    l->bias = bias;
    l->tout = l->tin + 2 * pad - k + 1;
    require_length(b, l);
    add_tensor(b, l, "weight", (int[3]){l->cout, l->cin, k}, 1);
    if (bias) add_tensor(b, l, "bias", (int[3]){l->cout}, 1);
    return last(b);
}

int nn_add_batchnorm(struct nn_builder *b, int in, const char *name)
{
    struct nn_layer *l = add_layer(b, NN_BATCHNORM, in, name);
    if (!l) return -1;
    const int dim[3] = {l->cout};
    add_tensor(b, l, "weight", dim, 1);
    add_tensor(b, l, "bias", dim, 1);
    add_tensor(b, l, "running_mean", dim, 0);
    add_tensor(b, l, "running_var", dim, 0);
    return last(b);
}

int nn_add_relu(struct nn_builder *b, int in, const char *name)
{
    return add_layer(b, NN_RELU, in, name) ? last(b) : -1;
}

int nn_add_maxpool(struct nn_builder *b, int in, const char *name, int k)
{
    struct nn_layer *l = add_layer(b, NN_MAXPOOL, in, name);
    if (!l) return -1;
    if (k < 1 || k > 255) {
        b->rc = cn_fail(b->err, CN_EINVALID,
                        "net %s: %d samples make a pooling window of %d; 1 to 255 are possible",
                        b->net->name, b->net->n_samples, k);
        return -1;
    }
    l->k = k;
    l->tout = l->tin / k;
    require_length(b, l);
    return last(b);
}

int nn_add_lstm(struct nn_builder *b, int in, const char *name, int width)
{
    struct nn_layer *l = add_layer(b, NN_LSTM, in, name);
    if (!l) return -1;
    int h = b->net->width[width];
    l->cout = h;
    l->width = width;
    l->bias = 1;
    add_tensor(b, l, "weight_ih_l0", (int[3]){4 * h, l->cin}, 1);
    add_tensor(b, l, "weight_hh_l0", (int[3]){4 * h, h}, 1);
    add_tensor(b, l, "bias_ih_l0", (int[3]){4 * h}, 1);
    add_tensor(b, l, "bias_hh_l0", (int[3]){4 * h}, 1);
    return last(b);
}

int nn_add_layernorm(struct nn_builder *b, int in, const char *name)
{
    struct nn_layer *l = add_layer(b, NN_LAYERNORM, in, name);
    if (!l) return -1;
    add_tensor(b, l, "weight", (int[3]){l->cout}, 1);
    add_tensor(b, l, "bias", (int[3]){l->cout}, 1);
    return last(b);
}

int nn_add_linear(struct nn_builder *b, int in, const char *name, int width)
{
    struct nn_layer *l = add_layer(b, NN_LINEAR, in, name);
    if (!l) return -1;
    l->width = width;
    l->bias = 1;
    l->cout = width < 0 ? b->net->n_labels : b->net->width[width];
    l->tout = 1;
    add_tensor(b, l, "weight", (int[3]){l->cout, l->cin * l->tin}, 1);
    add_tensor(b, l, "bias", (int[3]){l->cout}, 1);
    return last(b);
}

int nn_add_dropout(struct nn_builder *b, int in, const char *name, float p)
{
    struct nn_layer *l = add_layer(b, NN_DROPOUT, in, name);
    if (!l) return -1;
    l->p = p;
    return last(b);
}

int nn_add_add(struct nn_builder *b, int in, int in2, const char *name)
{
    struct nn_layer *l = add_layer(b, NN_ADD, in, name);
    if (!l) return -1;
    l->input[1] = in2;
    return last(b);
}

int nn_add_mean(struct nn_builder *b, int in, const char *name)
{
    struct nn_layer *l = add_layer(b, NN_MEAN, in, name);
    if (!l) return -1;
    l->tout = 1;
    return last(b);
}

/* Trainable tensors first, then running statistics: each group in layer order. */
static void place_tensors(struct nn_net *net)
{
    size_t at = 0;
    for (int pass = 1; pass >= 0; pass--) {
        for (int i = 0; i < net->n_tensors; i++) {
            if (net->tensor[i].trainable != pass) continue;
            net->tensor[i].offset = at;
            at += net->tensor[i].count;
        }
        if (pass) net->n_params = at;
    }
    net->n_floats = at;
}

const char *const *nn_net_names(void)
{
    static const char *names[16];
    if (!names[0])
        for (int i = 0; nn_zoo[i].name && i < 15; i++) names[i] = nn_zoo[i].name;
    return names;
}

static int find_entry(const struct nn_zoo_entry **out, const char *name, struct cn_error *err)
{
    for (*out = nn_zoo; (*out)->name; (*out)++)
        if (!strcmp((*out)->name, name)) return 0;
    const char *near = cn_nearest(name, nn_net_names());
    if (near) return cn_fail(err, CN_EINVALID, "unknown net '%s'; did you mean '%s'?", name, near);
    char list[200] = "";
    for (size_t i = 0, n = 0; nn_zoo[i].name; i++)
        n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", nn_zoo[i].name);
    return cn_fail(err, CN_EINVALID, "unknown net '%s'; known are: %s", name, list);
}

static int check_widths(const struct nn_zoo_entry *z, const int *widths, int n,
                        struct cn_error *err)
{
    if (n != z->n_widths)
        return cn_fail(err, CN_EINVALID, "net %s takes %d widths, not %d", z->name, z->n_widths, n);
    for (int i = 0; i < n; i++)
        if (widths[i] < 1 || widths[i] > MAX_WIDTH)
            return cn_fail(err, CN_EINVALID, "net %s: width %d is %d; it must lie between 1 and %d",
                           z->name, i + 1, widths[i], MAX_WIDTH);
    return 0;
}

static int check_shape(const char *name, const struct nn_net *net, struct cn_error *err)
{
    if (net->n_leads < 1 || net->n_leads > NN_MAX_LEADS || net->n_samples < 1 ||
        net->n_samples > MAX_SAMPLES || net->n_labels < 1 || net->n_labels > NN_MAX_LABELS)
        return cn_fail(err, CN_EINVALID,
                       "net %s: %d leads, %d samples, %d labels; possible are 1-%d, 1-%d, 1-%d",
                       name, net->n_leads, net->n_samples, net->n_labels, NN_MAX_LEADS, MAX_SAMPLES,
                       NN_MAX_LABELS);
    return 0;
}

int nn_net_build(struct nn_net **out, const char *name, const int *widths, int n_widths,
                 struct nn_shape shape, struct cn_error *err)
{
    const struct nn_zoo_entry *z;
    *out = NULL;
    int rc = find_entry(&z, name, err);
    if (!rc && widths) rc = check_widths(z, widths, n_widths, err);
    if (rc) return rc;
    struct nn_net *net = calloc(1, sizeof *net);
    if (!net) return cn_fail(err, CN_ENOMEM, "out of memory");
    snprintf(net->name, sizeof net->name, "%s", name);
    net->loss = z->loss;
    net->n_leads = shape.n_leads ? shape.n_leads : z->shape.n_leads;
    net->n_samples = shape.n_samples ? shape.n_samples : z->shape.n_samples;
    net->n_labels = shape.n_labels ? shape.n_labels : z->shape.n_labels;
    net->n_widths = z->n_widths;
    memcpy(net->width, widths ? widths : z->width, (size_t)z->n_widths * sizeof *net->width);
    memcpy(net->full_width, net->width, sizeof net->width);
    struct nn_builder b = {.net = net, .err = err};
    b.rc = check_shape(name, net, err);
    if (!b.rc) z->build(&b);
    if (b.rc) {
        free(net);
        return b.rc;
    }
    place_tensors(net);
    *out = net;
    return 0;
}

void nn_net_destroy(struct nn_net *net)
{
    free(net);
}

static uint64_t macs_of(const struct nn_layer *l)
{
    uint64_t in = (uint64_t)l->cin, out = (uint64_t)l->cout;
    switch (l->op) {
    case NN_CONV1D:
        return in * out * (uint64_t)l->k * (uint64_t)l->tout;
    case NN_LINEAR:
        return in * (uint64_t)l->tin * out;
    case NN_LSTM:
        return 4 * out * (in + out) * (uint64_t)l->tout;
    default:
        return 0;
    }
}

uint64_t nn_net_macs(const struct nn_net *net, uint64_t *layer_macs)
{
    uint64_t sum = 0;
    for (int i = 0; i < net->n_layers; i++) {
        uint64_t macs = macs_of(&net->layer[i]);
        if (layer_macs) layer_macs[i] = macs;
        sum += macs;
    }
    return sum;
}
