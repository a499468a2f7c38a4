/* bench/rt/sparse.h - candidates for layers that skip zero weights, to be measured against the
 * runtime's dense kernels. Here time is in the lanes: a weight meets 16 steps at once, so that a zero
 * weight saves a whole instruction, which channels in the lanes (the runtime's way) cannot. */
#ifndef CINCH_BENCH_RT_SPARSE_H
#define CINCH_BENCH_RT_SPARSE_H

#include <stdint.h>

/* The weights that are left, output channel by output channel. */
struct sparse_layer {
    int cout, t;       /* steps before the pool */
    int pool, tout;    /* float only */
    int32_t *start;    /* [cout + 1] into the two below */
    int32_t *offset;   /* of the element of x that meets step 0 */
    int32_t *weight;   /* float bits; int8: four of them */
    const float *bias; /* [cout] */
};

/* y[cout][stride] = max over the pool of relu(bias + sum w x): the whole layer. x: [cin][..], 64 floats
 * readable behind each step. */
void sparse_conv_f32(const struct sparse_layer *l, const float *x, float *y, int stride);

/* to[c][to_stride] of from[t][from_stride], t rows, from_stride a multiple of 4: between the runtime's layout of
 * activations and the one above (and back, with rows and columns exchanged). */
void sparse_transpose(const float *from, int rows, int from_stride, float *to, int to_stride);

/* sums[cout][stride] only: without bias, requantisation, pool and the way back to bytes, and so a bound
 * in the candidate's favour. x: words of four bytes, one per step. */
void sparse_conv_i8(const struct sparse_layer *l, const uint8_t *x, int32_t *sums, int stride);

/* One step: y[cout]; by gathers. */
void sparse_linear_f32(const struct sparse_layer *l, const float *x, float *y);
/* The same with the elements of x and weights as bytes; sums only. */
void sparse_linear_i8(const struct sparse_layer *l, const uint8_t *x, int32_t *sums);

#endif
