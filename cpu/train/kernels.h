/* cpu/train/kernels.h - the table of vector kernels, one per instruction set.
 *
 * Two kernels do nearly all arithmetic. `rows` is a matrix product whose right side is a set of row
 * pointers: y[o][t] = sum_j w[o][j] x[off[j] + t]. With off[c*K + k] = c*stride + k it is a
 * convolution along t for any kernel size without im2col; with off[j] = j*stride it is a GEMM.
 * `dots` is its gradient towards w: dw[o][j] = sum_t dy[o][t] x[off[j] + t]. Time lies in the
 * vector lanes, so any number of channels runs at the same speed. Rows of x must be readable, and
 * finite, up to the next multiple of 16 columns.
 */
#ifndef CINCH_CPU_TRAIN_KERNELS_H
#define CINCH_CPU_TRAIN_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Memory that the call after this one will read: the kernels, busy multiplying, fetch it into the L2
 * cache, a line now and then. p NULL: nothing. */
struct fetch {
    const float *p;
    int64_t lines; /* of 64 bytes */
};

struct rows_args {
    struct fetch fetch;
    int o, j, t;        /* outputs, terms, columns */
    int blocks;         /* = row_blocks(o, t), as w was packed */
    const float *w;     /* packed by rows_pack: [o, j] */
    int64_t ws;         /* 0; or w is not packed but [j, o] with this row stride */
    const float *x;     /* row j starts at x + off[j] */
    const int32_t *off; /* [j] */
    const float *bias;  /* NULL or [o] */
    float *y;           /* row o starts at y + o * ys */
    int64_t ys;
    int add; /* 1: y += */
    /* NULL, or [o]: lanes [o][2 * 16] gets the sums, lane by lane, of y - shift[o] over the t columns,
     * and of its square (lane_sums adds up the lanes) */
    const float *shift;
    float *lanes;
};

struct dots_args {
    struct fetch fetch;
    int o, j, t, n;  /* rows of dy, rows of x, columns, repetitions (records) */
    const float *dy; /* row o of record i at dy + i*dy_next + o*dy_stride; zero from column t up
                        to a multiple of 16 */
    int64_t dy_stride, dy_next;
    const float *x; /* row j of record i at x + i*x_next + off[j] */
    const int32_t *off;
    int64_t x_next;
    float *dw; /* [o, j], row stride j */
    int add;   /* 1: dw += */
};

/* Max-pool of rows, before their normalisation where one follows: the first largest of sign * c in
 * each window, sign being that of the row's weight (0: the first of each window). */
struct pool_rows {
    int rows, t, t_pool, pool;
    int nan;        /* 1: the last NaN of a window wins, as in PyTorch; 0: it need not */
    const float *w; /* [rows], or NULL: 1 */
    const float *c; /* [rows, t] */
    float *c_max;   /* [rows, t_pool] c where the maximum stood */
    uint8_t *arg;   /* NULL or [rows, t_pool]: its place in the window */
};

/* BatchNorm and ReLU of a record's rows: y = a*(c - mean) + bias. */
struct bn_rows {
    int rows, t, relu;
    const float *mean, *a, *bias; /* [rows] a = weight * rstd */
    const float *c;               /* [rows, t] convolution output, pooled or not */
    float *y;                     /* [rows, t]; may be c */
};

/* Their gradient. With e = dy passed back through pool and ReLU to [t]: reduce gives sum e and
 * sum e*(c - mean) of each row; expand gives dc = a*e + b*(c - mean) + c0, zero from t to a multiple
 * of 16. */
struct bn_grad {
    int rows, t, t_pool, pool, relu;
    const float *mean, *a, *bias; /* [rows] as in the forward pass */
    const float *b, *c0;          /* [rows] */
    const float *c;               /* [rows, t] */
    const float *c_max;           /* [rows, t_pool] with a pool */
    const uint8_t *arg;           /* [rows, t_pool] with a pool */
    const float *dy;              /* [rows, t_pool, or t] */
    float *dc;                    /* [rows, dc_stride] */
    int64_t dc_stride;
};

/* With e as above, windows [p0, p1) of every row: y[row] += sum_t e[t] x[t], x[t] being `floats`
 * floats from x + (t - p0 * pool) * step on. */
struct list_args {
    const struct bn_grad *g;
    int p0, p1;
    int64_t wrap;     /* windows from a row of these to the row of a later call, rows on */
    int step, floats; /* floats: a multiple of 16 */
    const float *x;
    float *y;           /* [rows, floats] */
    float *sum, *sum_c; /* [rows] as reduce gives, += where p0 > 0 */
    int32_t *at;        /* scratch: [p1 - p0 + 32] each */
    float *e;
};

struct ln_record { /* LayerNorm of one record [C, T] over C */
    int c, t;
    float eps;
    const float *x, *w, *bias;
    float *y;           /* forward */
    float *mean, *rstd; /* [T]: written by forward (may be NULL), read by backward */
    const float *dy;    /* backward: */
    float *dx;          /* or NULL */
    float *sum, *dot;   /* [C] sums over time of dy and dy * xhat */
    float *lanes;       /* scratch of 2 * 16 * C floats */
};

/* One time step of `lanes` records (a multiple of 16), lanes fastest; unit u of an array lies
 * u * stride floats in, or u * row where the line says so. Gates i f g o lie h units apart. */
struct lstm_cell {
    int h, lanes;
    int64_t stride, row;
    const float *z;      /* [4H] pre-activations */
    const float *c_prev; /* [H] or NULL: zero */
    float *gate;         /* [4H] gates after their non-linearities, or NULL */
    float *c;            /* [H] new cell; may be c_prev */
    float *hid;          /* [H, by row] new hidden state */
};

struct lstm_cell_grad {
    int h, lanes;
    int64_t stride, row;
    const float *gate;   /* [4H] */
    const float *c;      /* [H] cell of this step */
    const float *c_prev; /* [H] or NULL: zero */
    const float *dh;     /* [H, by row] gradient of the hidden state, all sources */
    float *dc;           /* [H] in: from the next step; out: for the one before */
    float *dz;           /* [4H, by row] out: gradient of the pre-activations */
    float *hid;          /* [H, by row] out: this step's hidden state again */
};

struct update_args { /* one optimiser step over n floats, PyTorch's formulas, scalars resolved */
    int64_t n;
    float scale;        /* of the gradient: clipping */
    float decay;        /* L2: g += decay * w */
    float shrink;       /* AdamW: w *= shrink first */
    float lr;           /* SGD */
    float beta1, beta2; /* SGD: beta1 is the momentum */
    float rate, root;   /* Adam: lr / (1 - beta1^t), sqrt(1 - beta2^t) */
    float eps;
    int nesterov;
    float *w;
    const float *g;
    float *m1, *m2;
    const float *mask; /* NULL, or 0 and 1 */
};

struct transpose_args { /* y [cols, rows] = x [rows, cols] transposed; xs, ys: row strides */
    const float *x;
    int64_t xs;
    float *y;
    int64_t ys;
    int rows, cols;
    int fetch; /* 0, or the column, from x on, that a later call will need in every row */
};

struct philox_args { /* counters of base/rng.h */
    uint64_t seed, index;
    uint32_t purpose, epoch;
};

#define WINO_TILES 256 /* most tiles of a call */

/* A row's transform: tile p of x starts at x + 4p; out[i * stride + p] for the n = k + 3 results,
 * written in whole vectors. Only the row's own floats are read; behind them it counts as zeros: the
 * last tile's surplus inputs must be the same whatever lies there, for they reach the last bits of
 * its outputs. */
struct wino_row {
    const float *x;
    int floats; /* of the row, from x on */
    int tiles;
    float *out;
    int64_t stride;
};

/* The transforms towards dw, of steps [time][floats]: tile p's first step is 4p; result i of tile p at
 * out + i * plane + p * floats. */
struct wino_steps {
    const float *x;
    int tiles, floats; /* floats: a multiple of 16 */
    int grad;          /* 0: B x, of k + 3 steps; 1: A dy, of four */
    float *out;
    int64_t plane;
};

/* From products back to t outputs of a row (t <= 4 * tiles). */
struct wino_out {
    const float *m; /* result i of tile p at m + i * stride + p */
    int64_t stride;
    int tiles, t, add;
    float *y;
    float shift;  /* with lanes: */
    float *lanes; /* NULL, or 2 * 16 floats that gather sums of y - shift and of its square */
};

struct cpu_kernels {
    const char *isa;
    int (*row_blocks)(int o, int t);
    void (*rows)(const struct rows_args *a);
    void (*dots)(const struct dots_args *a);
    /* sums of `lanes` [o][2 * 16], as rows and wino_out leave them */
    void (*lane_sums)(const float *lanes, int o, float *sum, float *sq);
    void (*wino_in)(int k, const struct wino_row *a); /* B d, for k = 3, 5, 7 */
    void (*wino_steps)(int k, const struct wino_steps *a);
    void (*wino_out)(int k, const struct wino_out *a);
    void (*pool)(const struct pool_rows *a);
    /* dx [n * k]: dy[p] at place arg[p] of window p, zero elsewhere */
    void (*unpool)(const uint8_t *arg, const float *dy, float *dx, int k, int n);
    void (*bn_forward)(const struct bn_rows *a);
    void (*bn_reduce)(const struct bn_grad *a, float *sum, float *sum_c);
    void (*bn_expand)(const struct bn_grad *a);
    void (*bn_list)(const struct list_args *a);
    void (*ln_forward)(const struct ln_record *a);
    void (*ln_backward)(const struct ln_record *a);
    void (*sigmoid)(const float *x, float *y, int64_t n);
    void (*tanh)(const float *x, float *y, int64_t n);
    void (*lstm_cell)(const struct lstm_cell *a);
    void (*lstm_cell_grad)(const struct lstm_cell_grad *a);
    void (*transpose)(const struct transpose_args *a);
    void (*relu)(const float *x, float *y, int64_t n);
    void (*relu_grad)(const float *y, const float *dy, float *dx, int add, int64_t n);
    void (*add)(const float *x, const float *x2, float *y, int64_t n);
    void (*axpy)(float a, const float *x, float *y, int64_t n); /* y += a*x */
    float (*dot)(const float *x, const float *y, int64_t n);
    float (*sum)(const float *x, int64_t n);
    int (*max_at)(const float *x, int n); /* place of the first largest; a NaN wins */
    void (*sgd)(const struct update_args *a);
    void (*adam)(const struct update_args *a);
    /* out[i]: first word of counter index + i */
    void (*philox)(const struct philox_args *a, uint32_t *out, int n);
    /* x[e] += strength * unit * (sum of the bytes of word e % 4 of counter index + e / 4, - 510) */
    void (*noise)(const struct philox_args *a, float strength, float unit, float *x, int n);
    void (*average)(const float *w, float *avg, float ema, int64_t n);
};

extern const struct cpu_kernels cpu_kernels__portable;
#ifdef __x86_64__
extern const struct cpu_kernels cpu_kernels__avx2;
extern const struct cpu_kernels cpu_kernels__avx512;
#endif

/* Packs w [o, j] (element (o, j) at w[o*os + j*js]) for `rows` with that many blocks: block i holds
 * outputs [i*o/blocks, (i+1)*o/blocks), as [j][outputs of the block]. out: o*j floats. */
void rows_pack(float *out, const float *w, int o, int j, int64_t os, int64_t js, int blocks);

#endif
