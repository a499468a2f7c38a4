/* cpu/train/ref.h - the plain loops: one `ref_` function per op of nn/backend.h.
 *
 * They define what each op means; every fast kernel is compared with them. Work is cut into items
 * (a member's row, or a member's output channel), each computed by one thread in a fixed order:
 * same bits for any number of threads. Sums over the batch are kept in double.
 */
#ifndef CINCH_CPU_TRAIN_REF_H
#define CINCH_CPU_TRAIN_REF_H

#include "nn/backend.h"

int ref_gather(struct nn_backend *be, const struct nn_gather *a);
int ref_conv1d_forward(struct nn_backend *be, const struct nn_conv1d *a);
int ref_conv1d_backward(struct nn_backend *be, const struct nn_conv1d *a);
int ref_batchnorm_forward(struct nn_backend *be, const struct nn_batchnorm *a);
int ref_batchnorm_backward(struct nn_backend *be, const struct nn_batchnorm *a);
int ref_relu_forward(struct nn_backend *be, const struct nn_eltwise *a);
int ref_relu_backward(struct nn_backend *be, const struct nn_eltwise *a);
int ref_add_forward(struct nn_backend *be, const struct nn_eltwise *a);
int ref_add_backward(struct nn_backend *be, const struct nn_eltwise *a);
int ref_maxpool_forward(struct nn_backend *be, const struct nn_pool *a);
int ref_maxpool_backward(struct nn_backend *be, const struct nn_pool *a);
int ref_mean_forward(struct nn_backend *be, const struct nn_mean *a);
int ref_mean_backward(struct nn_backend *be, const struct nn_mean *a);
int64_t ref_lstm_save_floats(struct nn_backend *be, const struct nn_lstm *a);
int ref_lstm_forward(struct nn_backend *be, const struct nn_lstm *a);
int ref_lstm_backward(struct nn_backend *be, const struct nn_lstm *a);
int ref_layernorm_forward(struct nn_backend *be, const struct nn_layernorm *a);
int ref_layernorm_backward(struct nn_backend *be, const struct nn_layernorm *a);
int ref_linear_forward(struct nn_backend *be, const struct nn_linear *a);
int ref_linear_backward(struct nn_backend *be, const struct nn_linear *a);
int ref_dropout_forward(struct nn_backend *be, const struct nn_dropout *a);
int ref_dropout_backward(struct nn_backend *be, const struct nn_dropout *a);
int ref_loss(struct nn_backend *be, const struct nn_loss_args *a);
int ref_probability(struct nn_backend *be, const struct nn_probability *a);
int ref_update(struct nn_backend *be, const struct nn_update *a);
int ref_average(struct nn_backend *be, const struct nn_average *a);

#endif
