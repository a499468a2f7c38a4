/* nn/exec.h - a net on a backend: buffers planned and allocated once, then forward and backward any
 * number of times without an allocation. Private to this room and its tests. */
#ifndef CINCH_NN_EXEC_H
#define CINCH_NN_EXEC_H

#include "nn/backend.h"
#include "nn/net.h"

struct nn_exec;

struct nn_exec_pass {
    float *params;  /* [M, stride] on the device; running statistics are updated in training */
    float *grads;   /* [M, stride], backward only: trainable tensors' gradients, overwritten */
    int64_t stride; /* floats between members, ≥ net->n_floats */
    int b;          /* rows of this batch, ≤ the batch given at creation */
    int train;      /* 1: batch statistics and dropout */
    const struct nn_scalars *s; /* [M] on the device; used by dropout */
    int alone;                  /* several ranks: all run these same rows */
};

/* A plan for m members and batches of up to `batch` rows; train 0: forward only, in less memory.
 * `be` and `net` are borrowed. Convolution blocks are fused where the backend offers it. */
int nn_exec_create(struct nn_exec **out, struct nn_backend *be, const struct nn_net *net, int m,
                   int batch, int train, struct cn_error *err);
/* The device memory that such a plan would hold; takes none. */
int nn_exec_need(struct nn_backend *be, const struct nn_net *net, int m, int batch, int train,
                 size_t *bytes, struct cn_error *err);
void nn_exec_destroy(struct nn_exec *ex); /* accepts NULL */

/* Device buffers; rows of members lie b apart, not `batch` apart. */
float *nn_exec_input(struct nn_exec *ex);       /* [M, b, leads, samples]: the caller fills it */
float *nn_exec_logits(struct nn_exec *ex);      /* [M, b, labels] after forward */
float *nn_exec_dlogits(struct nn_exec *ex);     /* [M, b, labels]: the loss fills it; train only */
size_t nn_exec_bytes(const struct nn_exec *ex); /* device memory held */

/* 0 or a negative code, with the text in the backend's error. backward follows a forward with
 * train = 1 and the same b. */
int nn_exec_forward(struct nn_exec *ex, const struct nn_exec_pass *p);
int nn_exec_backward(struct nn_exec *ex, const struct nn_exec_pass *p);

#endif
