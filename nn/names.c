/* nn/names.c - see names.h.
 *
 * The nets' own names are those of a PyTorch module with attributes conv1, bn1, fc, lstm, .. People
 * also write the same nets as nn.Sequential, whose parts are numbered, ReLU and pooling included; the
 * table lists the modules of both forms. What stands behind the last point (weight, running_mean,
 * weight_ih_l0, ..) is PyTorch's own and the same everywhere. docs/training.md shows the table.
 */
#include "nn/names.h"

#include <string.h>

struct alias {
    const char *net, *ours, *theirs;
};

static const struct alias aliases[] = {
    /* nn.Sequential of Conv1d, BatchNorm1d, ReLU, MaxPool1d four times; the linear layer apart */
    {"cnn", "conv1", "features.0"},
    {"cnn", "bn1", "features.1"},
    {"cnn", "conv2", "features.4"},
    {"cnn", "bn2", "features.5"},
    {"cnn", "conv3", "features.8"},
    {"cnn", "bn3", "features.9"},
    {"cnn", "conv4", "features.12"},
    {"cnn", "bn4", "features.13"},
    /* one nn.Sequential per stage */
    {"cnn", "conv1", "block1.0"},
    {"cnn", "bn1", "block1.1"},
    {"cnn", "conv2", "block2.0"},
    {"cnn", "bn2", "block2.1"},
    {"cnn", "conv3", "block3.0"},
    {"cnn", "bn3", "block3.1"},
    {"cnn", "conv4", "block4.0"},
    {"cnn", "bn4", "block4.1"},
    {"rnn", "lstm", "rnn"},
    {"rnn", "norm", "ln"},
    {"rnn", "norm", "layernorm"},
    {"rnn", "norm", "layer_norm"},
    /* blocks as attributes or in a ModuleList, the shortcut as a Sequential of Conv1d, BatchNorm1d */
    {"resnet", "block1.", "layer1."},
    {"resnet", "block2.", "layer2."},
    {"resnet", "block3.", "layer3."},
    {"resnet", "block1.", "blocks.0."},
    {"resnet", "block2.", "blocks.1."},
    {"resnet", "block3.", "blocks.2."},
    {"resnet", "block1.", "layers.0."},
    {"resnet", "block2.", "layers.1."},
    {"resnet", "block3.", "layers.2."},
    /* Conv1d, ReLU, MaxPool1d three times; Linear, ReLU, Linear, ReLU, Linear */
    {"beat", "conv1", "features.0"},
    {"beat", "conv2", "features.3"},
    {"beat", "conv3", "features.6"},
    {"beat", "fc1", "classifier.0"},
    {"beat", "fc2", "classifier.2"},
    {"beat", "fc3", "classifier.4"},
    {NULL, "fc", "classifier"},
    {NULL, "fc", "classifier.0"},
    {NULL, "fc", "classifier.1"}, /* behind dropout or flattening */
    {NULL, "fc", "classifier.2"}, /* behind both */
    {NULL, "fc", "linear"},
    {NULL, "fc", "head"},
};

static const struct {
    const char *ours, *theirs;
} shortcuts[] = {{"convs", "shortcut.0"},    {"bns", "shortcut.1"}, {"convs", "downsample.0"},
                 {"bns", "downsample.1"},    {"convs", "skip.0"},   {"bns", "skip.1"},
                 {"convs", "shortcut_conv"}, {"bns", "shortcut_bn"}};

/* DataParallel, torch.compile, Lightning, and a net held as an attribute. */
static const char *const prefixes[] = {"module.", "_orig_mod.", "model.", "net."};

static const char *without_prefixes(const char *name)
{
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        size_t n = strlen(prefixes[i]);
        if (strncmp(name, prefixes[i], n)) continue;
        name += n;
        i = (size_t)-1; /* they may stand in any order */
    }
    return name;
}

/* Whether `name` is `from` and something behind it; then *rest is that. */
static int begins(const char *name, const char *from, const char **rest)
{
    size_t n = strlen(from);
    *rest = name + n;
    return !strncmp(name, from, n);
}

/* The end of a name within a resnet's block: "conv1.weight", or a shortcut's. */
static int same_in_block(const char *ours, const char *theirs)
{
    const char *a, *b;
    if (!strcmp(ours, theirs)) return 1;
    for (size_t i = 0; i < sizeof shortcuts / sizeof *shortcuts; i++)
        if (begins(ours, shortcuts[i].ours, &a) && begins(theirs, shortcuts[i].theirs, &b) &&
            *a == '.' && !strcmp(a, b))
            return 1;
    return 0;
}

static int matches(const struct alias *k, const char *ours, const char *theirs)
{
    const char *a, *b;
    if (!begins(ours, k->ours, &a) || !begins(theirs, k->theirs, &b)) return 0;
    if (k->ours[strlen(k->ours) - 1] == '.') return same_in_block(a, b);
    return *a == '.' && !strcmp(a, b);
}

static int same_name(const struct nn_net *net, const char *ours, const char *theirs)
{
    const char *a, *b;
    if (!strcmp(ours, theirs)) return 1;
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        if ((!aliases[i].net || !strcmp(aliases[i].net, net->name)) &&
            matches(&aliases[i], ours, theirs))
            return 1;
    if (strcmp(net->name, "resnet") || !begins(ours, "block", &a) || !begins(theirs, "block", &b))
        return 0;
    return *a == *b && *a && a[1] == '.' && b[1] == '.' && same_in_block(a + 2, b + 2);
}

int nn_names_find(const struct nn_net *net, const char *name)
{
    name = without_prefixes(name);
    for (int i = 0; i < net->n_tensors; i++)
        if (same_name(net, net->tensor[i].name, name)) return i;
    return -1;
}

int nn_names_counter(const char *name)
{
    static const char counter[] = "num_batches_tracked";
    size_t n = strlen(name), m = sizeof counter - 1;
    return n >= m && !strcmp(name + n - m, counter);
}
