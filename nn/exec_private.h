/* nn/exec_private.h - a net's steps and buffers: laid out by nn/exec_plan.c, run by nn/exec.c.
 *
 * A net's layers become steps: one op each, or one fused convolution block (Conv1d, BatchNorm, then
 * maybe ReLU, then maybe MaxPool). Step i runs forward at time i and backward at time 2S - i, S
 * being the number of steps; the loss lies between, at time S.
 */
#ifndef CINCH_NN_EXEC_PRIVATE_H
#define CINCH_NN_EXEC_PRIVATE_H

#include "nn/exec.h"
#include "nn/plan.h"

struct nn_step {
    int layer;          /* the op, or the block's convolution */
    int bn, relu, pool; /* fused: layer indexes, or -1 */
    int fused;
    int out_layer; /* whose output this step writes */
    int in[2];     /* steps that it reads; -1: the net's input; -2: none */
    int readers;   /* steps that read its output */
    /* Buffer numbers in the plan; -1: none. */
    int y, dy;      /* output and its gradient */
    int pre;        /* fused: convolution before normalisation */
    int save;       /* LSTM, fused: the backend's own */
    int mean, rstd; /* BatchNorm, LayerNorm */
    int arg;        /* MaxPool */
};

struct nn_exec {
    struct nn_backend *be;
    const struct nn_net *net;
    int m, batch, train;
    int n_steps;
    struct nn_step step[NN_MAX_LAYERS];
    struct nn_plan plan;
    int input;
    uint8_t *arena; /* device */
    size_t bytes;
};

void *nn_exec_buffer(const struct nn_exec *ex, int number); /* NULL for -1 */

/* What a backend's save sizes depend on. */
void nn_exec_block_sizes(const struct nn_exec *ex, const struct nn_step *s,
                         struct nn_conv_block *a);
void nn_exec_lstm_sizes(const struct nn_exec *ex, const struct nn_step *s, struct nn_lstm *a);

#endif
