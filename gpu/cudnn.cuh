/* gpu/cudnn.cuh - engine `cudnn`: the ops that cuDNN and cuBLAS offer, behind the arguments of nn/backend.h. */
#ifndef CINCH_GPU_CUDNN_CUH
#define CINCH_GPU_CUDNN_CUH

#include "gpu/common.cuh"
#include "gpu/libs.cuh"

struct gpu_cudnn; /* handles and descriptors of one backend */

/* NULL with a reason in be's log when cuDNN or cuBLAS is not there or refuses; the native engine then does all. */
struct gpu_cudnn *gpu_cudnn_create(struct nn_backend *be);
void gpu_cudnn_destroy(struct gpu_cudnn *d); /* accepts NULL */

/* Follows a change of the options' precision. */
int gpu_cudnn_set_precision(struct nn_backend *be);

int cudnn_conv1d_forward(struct nn_backend *be, const struct nn_conv1d *a);
int cudnn_conv1d_backward(struct nn_backend *be, const struct nn_conv1d *a);
int cudnn_batchnorm_forward(struct nn_backend *be,
                            const struct nn_batchnorm *a); /* training only */
int cudnn_batchnorm_backward(struct nn_backend *be, const struct nn_batchnorm *a);
int cudnn_linear_forward(struct nn_backend *be, const struct nn_linear *a);
int cudnn_linear_backward(struct nn_backend *be, const struct nn_linear *a);
int64_t cudnn_lstm_save_floats(struct nn_backend *be, const struct nn_lstm *a);
int cudnn_lstm_forward(struct nn_backend *be, const struct nn_lstm *a);
int cudnn_lstm_backward(struct nn_backend *be, const struct nn_lstm *a);

#endif
