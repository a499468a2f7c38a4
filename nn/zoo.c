/* nn/zoo.c - the nets, each a short list of layers. A new net is one build function and one line in
 * the table below. Outputs are logits; the sigmoid or softmax belongs to the loss and to inference.
 */
#include "nn/builder.h"

#include <stdio.h>

/* LSTM over all steps, normalised, the maximum of each eighth of the record, one linear layer. */
static void build_rnn(struct nn_builder *b)
{
    int x = nn_add_lstm(b, -1, "lstm", 0);
    x = nn_add_layernorm(b, x, "norm");
    x = nn_add_maxpool(b, x, "pool", b->net->n_samples / 8);
    x = nn_add_dropout(b, x, "drop", 0.10f);
    nn_add_linear(b, x, "fc", -1);
}

static void build_cnn(struct nn_builder *b)
{
    int x = -1;
    for (int i = 0; i < 4; i++) {
        char name[24];
        snprintf(name, sizeof name, "conv%d", i + 1);
        x = nn_add_conv(b, x, name, i, 3, 0, 0);
        snprintf(name, sizeof name, "bn%d", i + 1);
        x = nn_add_batchnorm(b, x, name);
        snprintf(name, sizeof name, "relu%d", i + 1);
        x = nn_add_relu(b, x, name);
        snprintf(name, sizeof name, "pool%d", i + 1);
        x = nn_add_maxpool(b, x, name, 3);
    }
    x = nn_add_dropout(b, x, "drop", 0.05f);
    nn_add_linear(b, x, "fc", -1);
}

/* Conv and BatchNorm of a residual block: "block2.conv3", "block2.bn3". */
static int conv_bn(struct nn_builder *b, int in, int block, const char *which, int width, int k)
{
    char name[24];
    snprintf(name, sizeof name, "block%d.conv%s", block, which);
    in = nn_add_conv(b, in, name, width, k, k / 2, 0);
    snprintf(name, sizeof name, "block%d.bn%s", block, which);
    return nn_add_batchnorm(b, in, name);
}

static void build_resnet(struct nn_builder *b)
{
    static const char *const which[] = {"1", "2", "3"};
    static const int kernel[] = {7, 5, 3};
    int x = -1;
    for (int block = 1; block <= 3; block++) {
        char name[24];
        int width = 3 * (block - 1), y = x;
        for (int i = 0; i < 3; i++) {
            y = conv_bn(b, y, block, which[i], width + i, kernel[i]);
            if (i == 2) break;
            snprintf(name, sizeof name, "block%d.relu%d", block, i + 1);
            y = nn_add_relu(b, y, name);
        }
        /* always a convolution, so that everything can be pruned; as wide as the branch's last */
        int s = conv_bn(b, x, block, "s", width + 2, 1);
        snprintf(name, sizeof name, "block%d.add", block);
        x = nn_add_add(b, y, s, name);
        snprintf(name, sizeof name, "block%d.relu3", block);
        x = nn_add_relu(b, x, name);
    }
    x = nn_add_mean(b, x, "mean");
    nn_add_linear(b, x, "fc", -1);
}

/* Acharya et al., "A deep convolutional neural network model to classify heartbeats", 2017; with
 * ReLU between its layers. */
static void build_beat(struct nn_builder *b)
{
    static const int kernel[] = {3, 4, 4};
    char name[24];
    int x = -1;
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "conv%d", i + 1);
        x = nn_add_conv(b, x, name, i, kernel[i], 0, 1);
        snprintf(name, sizeof name, "relu%d", i + 1);
        x = nn_add_relu(b, x, name);
        snprintf(name, sizeof name, "pool%d", i + 1);
        x = nn_add_maxpool(b, x, name, 2);
    }
    x = nn_add_linear(b, x, "fc1", 3);
    x = nn_add_relu(b, x, "relu4");
    x = nn_add_linear(b, x, "fc2", 4);
    x = nn_add_relu(b, x, "relu5");
    nn_add_linear(b, x, "fc3", -1);
}

const struct nn_zoo_entry nn_zoo[] = {
    {"rnn", NN_BCE, {12, 1000, 5}, 1, {64}, build_rnn},
    {"cnn", NN_BCE, {12, 1000, 5}, 4, {32, 64, 96, 32}, build_cnn},
    {"resnet", NN_BCE, {12, 1000, 5}, 9, {64, 64, 64, 128, 128, 128, 128, 128, 128}, build_resnet},
    {"beat", NN_CROSS_ENTROPY, {1, 260, 5}, 5, {5, 10, 20, 30, 20}, build_beat},
    {.name = NULL},
};
