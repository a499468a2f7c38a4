/* cpu/train/conv.h - the parts of a convolution that conv.c and block.c share. Private to this
 * room. */
#ifndef CINCH_CPU_TRAIN_CONV_H
#define CINCH_CPU_TRAIN_CONV_H

#include "cpu/train/context.h"
#include "cpu/train/wino.h"

/* A convolution (or a fused block) being computed: geometry, and places in scratch memory. */
struct conv_job {
    const struct nn_conv1d *a;
    const struct nn_conv_block *block; /* NULL: plain */
    struct cpu_train *ctx;
    int jx, jd;   /* terms: cin*k forward, cout*k towards dx */
    int xs, ds;   /* strides of padded rows of x and of dy, in floats */
    int left;     /* zeros before a padded row of dy; a multiple of 16 keeps its data aligned */
    int chunks;   /* of a member's batch, in backward; by the shapes alone */
    int group;    /* records whose weight gradient is summed at once */
    int together; /* records that go forward at once */
    struct wino tile_y, tile_dx, tile_dw; /* k 0: by the direct sum */
    int blocks_x, blocks_d;               /* how the direct sum's weights are packed */
    int64_t partial_n; /* floats of a chunk's weight gradient: cout*jx, or as tile_dw has it */
    /* shared scratch */
    int32_t *off_x, *off_d;    /* [jx], [jd] where term j's row starts */
    float *w_x, *w_d;          /* packed, of every member */
    float *untransformed;      /* scratch of wino_weights */
    float *partial;            /* [M*chunks][partial_n] */
    float *partial_bias;       /* [M*chunks][cout] */
    float *sum, *sum2;         /* block only: [M*B][cout] per record and channel */
    float *shift;              /* [M][cout] forward; backward: */
    float *coef_b, *coef_c;    /* [M][cout] of struct bn_grad */
    float *coef_mean, *coef_a; /* [M][cout] */
};

/* Per-thread scratch. */
struct conv_own {
    float *x;     /* [group or together][cin][xs] */
    float *dy;    /* [group][cout][ds] */
    float *lanes; /* [together][cout][32] */
    float *c;     /* [together][cout][tout] */
    float *c_max; /* [cout][t_pool] */
    float *tile;  /* of wino_conv and wino_dw */
};

/* Fills the geometry. */
void conv_job_init(struct conv_job *j, struct nn_backend *be, const struct nn_conv1d *a,
                   const struct nn_conv_block *block);
/* Takes scratch memory and packs the weights that the direction needs. */
int conv_job_prepare(struct conv_job *j, struct nn_backend *be, int backward);
struct conv_own conv_job_own(const struct conv_job *j, int thread);

/* Records item .. item+n-1 of the batch, n <= together, of one member: x -> y [n, cout, tout], with
 * sums when a block is in training. */
void conv_forward(const struct conv_job *j, int item, int n, const struct conv_own *own, float *y);
/* How many calls of conv_forward the batch of all members takes, and what call `i` is. */
int conv_calls(const struct conv_job *j);
void conv_call(const struct conv_job *j, int i, int *item, int *n);

/* Writes one record's output gradient into rows of stride ds, zero up to a multiple of 16. */
typedef void (*conv_fill_f)(const struct conv_job *j, int item, float *dy);
/* dx, dw, dbias of all members; fill provides dy. */
void conv_backward_all(struct conv_job *j, conv_fill_f fill);

/* The parts of a fused block (block.c). */
/* Scratch of the job's block: sums and coefficients. */
void block_carve(struct conv_job *j, struct cpu_train_cut *s);
/* coef_mean, and coef_a = weight / standard deviation, of every channel. */
void block_normalisers(const struct conv_job *j);
/* Where, in save, the places of the maxima start: [M, B, Cout, t_pool] bytes. */
uint8_t *block_arg(const struct nn_conv_block *b);
/* What the gradient kernels need to know of a record. */
struct bn_grad block_grad(const struct conv_job *j, int item);
/* Channel `item` of [M, Cout]: dw, dbias of the normalisation from the rows' sums, and coef_b and
 * coef_c of the dense gradient. */
void block_finish_reduce(const struct conv_job *j, int item);

/* Whether backward takes the way of block_first.c, which wants nothing of conv.y. */
int block_is_first(const struct nn_conv_block *b);
int block_first_backward(struct nn_backend *be, const struct nn_conv_block *b);

#endif
