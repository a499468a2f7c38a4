/* cpu/train/wino.h - Winograd convolution of a group of records. Private to this room. */
#ifndef CINCH_CPU_TRAIN_WINO_H
#define CINCH_CPU_TRAIN_WINO_H

#include "cpu/train/kernels.h"

#define WINO_MAX_CHANNELS 4096 /* the widest layer that nn_net_build gives */

/* One convolution by tiles: `records` times `in` padded rows -> `out` rows of t outputs. */
struct wino {
    int k, in, out;
    int t, tiles; /* outputs of a row; tiles = ceil(t / 4) */
    int block;    /* tiles that go through the products at once, over records; a multiple of 16 */
    int packed;   /* row_blocks(out, block) */
};

/* Whether tiles pay off for these sizes: forward or towards dx, and towards dw. */
int wino_pays(int k, int in, int out);
int wino_pays_dw(int k, int in, int out);

/* Sizes; t outputs a row. */
struct wino wino_of(const struct cpu_kernels *kn, int k, int in, int out, int t);
int wino_group(const struct wino *w);              /* records that fill a block, at least 1 */
int64_t wino_weight_floats(const struct wino *w);  /* of one member's transformed weights */
int64_t wino_scratch_floats(const struct wino *w); /* for wino_conv */
int64_t wino_dw_scratch_floats(const struct wino *w);
int wino_row_floats(const struct wino *w); /* readable floats that a padded row must have */

/* Weights [out, in, k] at w[o*os + c*cs + i*ks] -> u, transformed and packed. scratch: (k+1)*in*out
 * floats. */
void wino_weights(const struct cpu_kernels *kn, const struct wino *w, const float *src,
                  const int64_t stride[3], float *u, float *scratch);

struct wino_io {
    struct fetch fetch; /* what the call after this one will read */
    int records;
    const float *x; /* row c of record r at x + r*x_record + c*x_row; tile p reads from 4p on */
    int64_t x_record, x_row;
    int x_ahead; /* wino_dw: 0, or floats from x to what the call after this one reads */
    const float *u;
    float *y; /* row o of record r at y + r*y_record + o*y_row */
    int64_t y_record, y_row;
    int add;
    const float *shift; /* NULL or [out] */
    float *lanes;       /* with shift: [records][out][32], zeroed here */
    const float *dy;    /* wino_dw: padded rows, zero from t to 4*tiles */
    int64_t dy_record, dy_row;
    float *dw; /* wino_dw: [n][out][in] products of transforms, += or = */
};
void wino_conv(const struct cpu_kernels *kn, const struct wino *w, const struct wino_io *io,
               float *scratch);
void wino_dw(const struct cpu_kernels *kn, const struct wino *w, const struct wino_io *io,
             float *scratch);
/* [n][out][in] -> dw [out, in, k]. scratch: in*out floats. */
void wino_dw_finish(const struct cpu_kernels *kn, const struct wino *w, const float *products,
                    float *dw, float *scratch);

#endif
