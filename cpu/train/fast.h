/* cpu/train/fast.h - the fast ops: those entries of the backend's table that use the vector
 * kernels. They mean what the ref_ function of the same name means (ref.h). */
#ifndef CINCH_CPU_TRAIN_FAST_H
#define CINCH_CPU_TRAIN_FAST_H

#include "nn/backend.h"

int fast_conv1d_forward(struct nn_backend *be, const struct nn_conv1d *a);
int fast_conv1d_backward(struct nn_backend *be, const struct nn_conv1d *a);
int64_t fast_conv_block_save_floats(struct nn_backend *be, const struct nn_conv_block *a);
int fast_conv_block_forward(struct nn_backend *be, const struct nn_conv_block *b);
int fast_conv_block_backward(struct nn_backend *be, const struct nn_conv_block *b);
int64_t fast_lstm_save_floats(struct nn_backend *be, const struct nn_lstm *a);
int fast_lstm_forward(struct nn_backend *be, const struct nn_lstm *a);
int fast_lstm_backward(struct nn_backend *be, const struct nn_lstm *a);
int fast_layernorm_forward(struct nn_backend *be, const struct nn_layernorm *a);
int fast_layernorm_backward(struct nn_backend *be, const struct nn_layernorm *a);
int fast_relu_forward(struct nn_backend *be, const struct nn_eltwise *a);
int fast_relu_backward(struct nn_backend *be, const struct nn_eltwise *a);
int fast_add_forward(struct nn_backend *be, const struct nn_eltwise *a);
int fast_add_backward(struct nn_backend *be, const struct nn_eltwise *a);
int fast_maxpool_forward(struct nn_backend *be, const struct nn_pool *a);
int fast_maxpool_backward(struct nn_backend *be, const struct nn_pool *a);
int fast_mean_forward(struct nn_backend *be, const struct nn_mean *a);
int fast_linear_forward(struct nn_backend *be, const struct nn_linear *a);
int fast_linear_backward(struct nn_backend *be, const struct nn_linear *a);
int fast_dropout_forward(struct nn_backend *be, const struct nn_dropout *a);
int fast_dropout_backward(struct nn_backend *be, const struct nn_dropout *a);
int fast_update(struct nn_backend *be, const struct nn_update *a);
int fast_average(struct nn_backend *be, const struct nn_average *a);

#endif
