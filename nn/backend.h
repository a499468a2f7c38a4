/* nn/backend.h - what a device must be able to do to train a net: one table of operations.
 *
 * Purpose: the training loop (nn/train.c over nn/exec.c) walks a net's layers and calls these; it
 * never sees a CPU intrinsic or a CUDA stream. cpu/train and gpu/ each fill one table.
 *
 * Memory. Every float pointer in an argument struct is device memory from `alloc` (on the CPU:
 * plain, 64-byte aligned). Activations are [M, B, C, T], contiguous. M is the gang: M independent
 * models of equal shape trained as one array (Wang et al., "Horizontally Fused Training Array",
 * MLSys 2021). Parameters, gradients and optimiser state of a gang are [M, P] with the same P:
 * tensor pointers are those of member 0, and member m's lies m * stride floats further. Every op
 * treats members separately, and a member's result has the same bits as it would have with M = 1.
 *
 * Order. Ops run in the order of the calls, on the backend's one stream; `download` and `sync` wait
 * for them. Ops between capture_begin and capture_end are recorded instead and run by each
 * `replay`. What changes from step to step (learning rate, counters, seeds) is therefore never an
 * argument: it stands in `struct nn_scalars` in device memory, one per member, which the host
 * uploads before every step.
 *
 * Determinism. Same inputs, same bits: no float atomics, sums in a fixed order that does not depend
 * on thread count. Errors. Ops return 0 or a negative code with the text in be->error; after an
 * error the backend refuses all but destroy.
 */
#ifndef CINCH_NN_BACKEND_H
#define CINCH_NN_BACKEND_H

#include <stdint.h>

#include "base/error.h"

#define NN_MAX_GANG 32

/* Per member, refreshed before every step. All of it is read on the device. */
struct nn_scalars {
    uint64_t seed;  /* keys all of the member's Philox streams */
    uint32_t epoch; /* 0-based */
    uint32_t row0;  /* position in the epoch of this batch's first row */
    uint32_t step;  /* optimiser steps done, 1-based in the step itself: Adam's t */
    float lr;
    float alpha; /* weight of the hard loss; 1 - alpha weighs the teacher; 1: no teacher */
    float momentum, weight_decay;
    float beta1, beta2, eps;
    float ema;    /* weight average: w̄ = ema·w̄ + (1-ema)·w; 0 copies */
    float smooth; /* label smoothing: y' = y·(1-s) + s/2 (multi-label) or + s/L (one label) */
    float mixup;  /* Beta(a, a) parameter; 0: off */
    /* augmentation strengths; 0 switches each off */
    float aug_shift; /* samples, uniform in ±shift, rounded; edges filled with zero */
    float aug_scale; /* amplitude × (1 + uniform ±scale), per record */
    float
        aug_noise;  /* standard deviation of added white noise, in units of the normalised signal */
    float aug_lead; /* probability to zero each lead */
    float aug_mask; /* longest masked span of time, as a fraction of the record; length uniform in
                       [0, mask] */
    float reserved[3];
};

/* One batch from the resident dataset, shuffled and augmented. Which draw decides what, and mixup's
 * pairs, stand at the top of cpu/train/ref_gather.c. */
struct nn_gather {
    int m, b, leads, samples, labels;
    const float *data_x;   /* [N, leads, samples]; with `half` in IEEE half precision */
    int half;              /* 1: data_x came from attach_half */
    const float *data_y;   /* [N, labels]; NULL: y is not wanted */
    const uint32_t *index; /* [n] rows of the part in use */
    int n;                 /* rows in the part */
    int one_label;         /* 1: labels are exclusive classes (label smoothing differs) */
    int row0; /* used when !train: rows row0 .. row0+b-1 of `index`, unshuffled, unaugmented */
    const uint32_t
        *cursor; /* NULL, or on the device: stands for row0, so that a recording can move on */
    int train;   /* row r of the batch = index[cn_rng_shuffle(seed, epoch, scalars.row0 + r, n)] */
    const float *teacher; /* NULL, or [M, n, labels] teacher probabilities by position in `index` */
    const struct nn_scalars *s; /* [M]; not read when !train */
    float *x; /* out [M, b, leads, samples]; when !train and m > 1 all members get the same rows */
    float *y; /* out [M, b, labels], smoothed and mixed */
    float *t; /* out [M, b, labels] teacher probabilities of those rows (mixed alike), or NULL */
};

struct nn_conv1d {
    int m, b, cin, cout, tin, tout, k, pad;
    int64_t stride;    /* floats between members' parameters (and gradients) */
    const float *x;    /* [M, B, Cin, Tin] */
    const float *w;    /* [Cout, Cin, K] at member 0 */
    const float *bias; /* NULL or [Cout] */
    float *y;          /* forward out [M, B, Cout, Tout] */
    const float *dy;   /* backward in */
    float *dx;         /* backward out, NULL: not needed */
    int dx_add;        /* 1: dx += (the input feeds several layers) */
    float *dw, *dbias; /* backward out at member 0, overwritten; dbias NULL without bias */
};

struct nn_batchnorm {
    int m, b, c, t;
    int64_t stride;
    int train;           /* 1: statistics of the batch, and running ones updated; 0: running ones */
    int alone;           /* several ranks: all run the same rows, so statistics are not joined */
    float eps, momentum; /* 1e-5, 0.1; running variance uses the unbiased estimate, as PyTorch */
    const float *x;
    const float *w, *bias; /* [C] */
    float *running_mean, *running_var;
    float *save_mean, *save_rstd; /* [M, C]: written by forward (train), read by backward */
    float *y;
    const float *dy;
    float *dx, *dw, *dbias;
};

struct nn_eltwise {      /* relu, add; y may be x, dx may be dy */
    int64_t n;           /* all of M·B·C·T */
    const float *x, *x2; /* add: both */
    float *y;
    const float *dy;
    float *dx;
    int dx_add;
};

struct nn_pool { /* maxpool: kernel = stride = k; the first of equal maxima wins */
    int rows;    /* M·B·C */
    int tin, tout, k;
    const float *x;
    float *y;
    uint8_t *arg; /* [rows, tout] position of the maximum inside its window, k ≤ 255 */
    const float *dy;
    float *dx; /* [rows, tin], overwritten, zero where nothing flowed */
};

struct nn_mean {
    int rows, t; /* [rows, t] -> [rows] */
    const float *x;
    float *y;
    const float *dy;
    float *dx;
};

struct nn_lstm {
    int m, b, c, h, t;
    int64_t stride;
    int train;                              /* 0: `save` may be NULL */
    const float *x;                         /* [M, B, C, T] */
    const float *w_ih, *w_hh, *b_ih, *b_hh; /* [4H, C], [4H, H], [4H], [4H]; gates i f g o */
    float *y;                               /* [M, B, H, T]; h0 = c0 = 0 */
    float *save; /* lstm_save_floats() of them: what backward wants; the backend's own layout, which
                    backward may overwrite */
    const float *dy;
    float *dx; /* NULL when it is the first layer */
    float *dw_ih, *dw_hh, *db_ih, *db_hh;
};

struct nn_layernorm { /* over C at every (b, t) */
    int m, b, c, t;
    int64_t stride;
    float eps;
    const float *x, *w, *bias;
    float *save_mean, *save_rstd; /* [M, B, T] */
    float *y;
    const float *dy;
    float *dx, *dw, *dbias;
};

struct nn_linear {
    int m, b, in, out;
    int64_t stride;
    const float *x;        /* [M, B, in] */
    const float *w, *bias; /* [out, in], [out] */
    float *y;              /* [M, B, out] */
    const float *dy;
    float *dx; /* NULL: not needed */
    float *dw, *dbias;
};

struct nn_dropout {  /* keeps element e of row r when uniform(philox(seed, DROPOUT, epoch, layer<<40
                        | (row0+r)·width + e)) ≥ p */
    int m, b, width; /* width = C·T */
    int layer;
    float p;
    const struct nn_scalars *s;
    const float *x;
    float *y;
    const float *dy;
    float *dx;
};

/* Loss per member = mean over the batch of: alpha·hard + (1-alpha)·soft.
 * BCE: hard = Σ_l BCE(sigmoid(z_l), y_l); soft = Σ_l KL([t_l, 1-t_l] ‖ [p_l, 1-p_l]).
 * CROSS_ENTROPY: hard = -Σ_l y_l log softmax(z)_l; soft = KL(t ‖ softmax(z)). Both from logits,
 * stable. class_weight: NULL or [labels], multiplies each label's (class's) hard term. */
struct nn_loss_args {
    int m, b, labels;
    int cross_entropy; /* 0: BCE */
    const struct nn_scalars *s;
    const float *z; /* logits [M, B, labels] */
    const float *y;
    const float *t; /* teacher probabilities or NULL */
    const float *class_weight;
    float *loss;     /* out [M], mean over the batch */
    float *loss_sum; /* NULL, or [M]: += loss·b, the epoch's running sum */
    uint32_t *bad;   /* NULL, or [M], 0 at first: becomes s->step where the loss is not finite and
                        no earlier step's was */
    float *dz;       /* out [M, B, labels], or NULL: loss only */
};

struct nn_probability { /* z -> sigmoid(z) or softmax(z), rows × labels; may be in place */
    int rows, labels;
    int cross_entropy;
    const float *z;
    float *p;
    /* NULL, or on the device: z is [m, rows/m, labels], and goes to rows *cursor .. of p [m, total, labels] */
    const uint32_t *cursor;
    int m, total;
};

enum nn_optimiser { NN_SGD, NN_ADAM, NN_ADAMW };

struct nn_update { /* one optimiser step over the flat [M, P]; equal to PyTorch's */
    int m;
    int64_t p;      /* trainable floats per member, = tensor order of the net */
    int64_t stride; /* between members, for all five arrays */
    enum nn_optimiser kind;
    int nesterov;
    const struct nn_scalars *s;
    float *w;
    const float *g;
    float *m1, *m2;    /* momentum / first moment; second moment (NULL for SGD) */
    const float *mask; /* NULL or [M, P] of 0 and 1: unstructured pruning keeps zeros zero */
    float clip;        /* 0, or the largest 2-norm of a member's gradient */
};

struct nn_average { /* avg = ema·avg + (1-ema)·w over n floats a member (running statistics too) */
    int m;
    int64_t n, stride;
    const struct nn_scalars *s;
    const float *w;
    float *avg;
};

/* Optional fusion: Conv1d → BatchNorm [→ ReLU [→ MaxPool]]. Backward is handed the same struct with
 * conv.x, conv.y, save and (with relu) y as forward left them; it may overwrite conv.y and save. */
struct nn_conv_block {
    struct nn_conv1d conv;  /* conv.y: room for the pre-normalisation output, always given; conv.dy
                               unused; conv.dx as in backward: NULL when it will not be wanted */
    struct nn_batchnorm bn; /* bn.x/bn.y unused */
    int relu;               /* 0 for the last of a residual branch */
    int pool_k;             /* 0: no pool */
    int t_pool;
    float *y;    /* [M, B, Cout, pool_k ? t_pool : tout] */
    float *save; /* conv_block_save_floats() of them */
    const float *dy;
};

/* What factors of products are rounded to; sums, weights, gradients and moments are fp32 always. */
enum nn_precision { NN_FP32, NN_TF32, NN_BF16 };

struct nn_memory {      /* bytes */
    size_t left, total; /* that this process may still take on the device; of the whole device */
    size_t data;        /* that attaching the dataset would take now: 0 when it is there already */
    int half;           /* whether in half precision */
};

struct nn_graph; /* a captured sequence of ops, opaque */

struct nn_backend {
    const struct nn_backend_ops *ops;
    struct cn_error error; /* text of the first failure */
    void *ctx;             /* the backend's own */
    int ranks, rank;       /* one of several devices that train one job together; 0, 0: alone */
};

struct nn_backend_ops {
    const char *name; /* "cpu", "gpu" */
    void (*destroy)(struct nn_backend *be);

    int (*alloc)(struct nn_backend *be, size_t bytes,
                 void **p);                          /* 64-byte aligned; content undefined */
    void (*release)(struct nn_backend *be, void *p); /* accepts NULL */
    int (*upload)(struct nn_backend *be, void *dst, const void *src, size_t bytes);
    int (*download)(struct nn_backend *be, void *dst, const void *src, size_t bytes); /* waits */
    int (*copy)(struct nn_backend *be, void *dst, const void *src,
                size_t bytes); /* device to device */
    int (*zero)(struct nn_backend *be, void *dst, size_t bytes);
    int (*sync)(struct nn_backend *be);
    /* NULL where the backend has no use for them, or: makes n floats of unchanging host memory (a
     * dataset) readable by gather, sharing one copy between all who ask for the same memory. *half: 1
     * when they lie there in half precision, rounded to nearest, because the device is short of memory.
     * The caller keeps `host` until detach. */
    int (*attach)(struct nn_backend *be, const float *host, size_t n, const void **p, int *half);
    void (*detach)(struct nn_backend *be, const void *p);
    /* NULL where memory is the host's, or: how much there is; `host`, `n` as for attach. */
    int (*memory)(struct nn_backend *be, const float *host, size_t n, struct nn_memory *out);

    /* NULL where the backend has no use for them (CPU). */
    int (*capture_begin)(struct nn_backend *be);
    int (*capture_end)(struct nn_backend *be, struct nn_graph **g);
    /* After an error of capture_begin, of an op that was to be recorded, or of capture_end: ends the
     * capture, of which nothing remains, says why in the log and forgets the error. */
    void (*capture_drop)(struct nn_backend *be);
    int (*replay)(struct nn_backend *be, struct nn_graph *g);
    void (*graph_destroy)(struct nn_backend *be, struct nn_graph *g);
    /* NULL, or called after each layer's gradients are complete: starts the all-reduce of
     * grad[offset, offset+count). */
    int (*grad_ready)(struct nn_backend *be, float *grad, int64_t offset, int64_t count);
    /* NULL, or waits for all of them before the optimiser step. */
    int (*grad_wait)(struct nn_backend *be);

    /* NULL with one rank, or: replaces the n host values by their sums over all ranks, the same bits on
     * each; waits. All ranks call it alike. */
    int (*rank_sum)(struct nn_backend *be, float *v, int n);

    /* NULL where there is fp32 alone. Holds for the ops that follow, until it is set again. */
    int (*set_precision)(struct nn_backend *be, enum nn_precision p);

    int (*gather)(struct nn_backend *be, const struct nn_gather *a);
    int (*conv1d_forward)(struct nn_backend *be, const struct nn_conv1d *a);
    int (*conv1d_backward)(struct nn_backend *be, const struct nn_conv1d *a);
    int (*batchnorm_forward)(struct nn_backend *be, const struct nn_batchnorm *a);
    int (*batchnorm_backward)(struct nn_backend *be, const struct nn_batchnorm *a);
    int (*relu_forward)(struct nn_backend *be, const struct nn_eltwise *a);
    int (*relu_backward)(struct nn_backend *be, const struct nn_eltwise *a); /* from y */
    int (*add_forward)(struct nn_backend *be, const struct nn_eltwise *a);
    int (*add_backward)(struct nn_backend *be, const struct nn_eltwise *a); /* dx = or += dy */
    int (*maxpool_forward)(struct nn_backend *be, const struct nn_pool *a);
    int (*maxpool_backward)(struct nn_backend *be, const struct nn_pool *a);
    int (*mean_forward)(struct nn_backend *be, const struct nn_mean *a);
    int (*mean_backward)(struct nn_backend *be, const struct nn_mean *a);
    int64_t (*lstm_save_floats)(struct nn_backend *be,
                                const struct nn_lstm *a); /* from the sizes only */
    int (*lstm_forward)(struct nn_backend *be, const struct nn_lstm *a);
    int (*lstm_backward)(struct nn_backend *be, const struct nn_lstm *a);
    int (*layernorm_forward)(struct nn_backend *be, const struct nn_layernorm *a);
    int (*layernorm_backward)(struct nn_backend *be, const struct nn_layernorm *a);
    int (*linear_forward)(struct nn_backend *be, const struct nn_linear *a);
    int (*linear_backward)(struct nn_backend *be, const struct nn_linear *a);
    int (*dropout_forward)(struct nn_backend *be, const struct nn_dropout *a);
    int (*dropout_backward)(struct nn_backend *be, const struct nn_dropout *a);
    int (*loss)(struct nn_backend *be, const struct nn_loss_args *a);
    int (*probability)(struct nn_backend *be, const struct nn_probability *a);
    int (*update)(struct nn_backend *be, const struct nn_update *a);
    int (*average)(struct nn_backend *be, const struct nn_average *a);

    /* Optional; all three or none. */
    int64_t (*conv_block_save_floats)(struct nn_backend *be,
                                      const struct nn_conv_block *a); /* from the sizes only */
    int (*conv_block_forward)(struct nn_backend *be, const struct nn_conv_block *a);
    int (*conv_block_backward)(struct nn_backend *be, const struct nn_conv_block *a);
};

#endif
