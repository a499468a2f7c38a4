/* cpu/rt/model.h - a loaded model: edges (activations), layers, and the kernels
 * chosen for them.
 *
 * Activations lie in the caller's scratch, time-major: element (c, t) of an
 * edge at row t, column c, so that the window of a convolution, k rows, is one
 * contiguous piece and a convolution is a matrix product with overlapping rows.
 * A row is `stride` elements: the net's input has stride = leads, every other
 * edge a multiple of 4 (vectors of 8-bit dot products take 4 channels), the
 * LSTM's output one of
 * 32. Columns between c and stride are readable and, in float edges, finite;
 * weights there are zero. `pad` rows before and behind hold the zero-point for
 * convolutions with padding. Behind each edge lie RT_SLACK bytes that kernels
 * may read and write. Edges whose lives do not meet share memory.
 */
#ifndef CINCHRT_MODEL_H
#define CINCHRT_MODEL_H

#include "cpu/rt/cinchrt.h"
#include "cpu/rt/fixed.h"
#include "cpu/rt/format.h"

#define RT_SLACK 256
#define RT_ALIGN 64

enum rt_type { RT_U8, RT_H16, RT_F32 };

struct rt_edge {
    enum rt_type type;
    int c, t, stride;
    int pad;
    int zero, qmax;
    float scale;
    double reach;    /* float edges: no value is larger, for inputs up to RT_REACH_INPUT */
    int first, last; /* the steps (layer index; -1: before the first layer)
                      between which it lives */
    size_t offset;   /* bytes into the scratch, of row 0 */
};

struct cinchrt_model;
struct rt_layer;

/* One operation for one instruction set. `pack` turns a layer's checked data
 * block (not aligned) into pack_size bytes at dst (64-byte aligned). `run`
 * reads and writes edges and may use scratch_size bytes at scratch +
 * model->tmp. */
struct rt_kernel {
    const char *name;
    size_t (*pack_size)(const struct cinchrt_model *m, const struct rt_layer *l);
    void (*pack)(const struct cinchrt_model *m, const struct rt_layer *l, const uint8_t *block,
                 void *dst);
    size_t (*scratch_size)(const struct cinchrt_model *m,
                           const struct rt_layer *l); /* NULL: none */
    void (*run)(const struct cinchrt_model *m, const struct rt_layer *l, uint8_t *scratch);
};

struct rt_layer {
    struct cinchrt_file_layer f;
    int index;
    int in, in1, out;                     /* edges; in1 -1: none */
    int tin, tfull, tout;                 /* tfull: before pooling */
    size_t block_bytes, stored_bytes;     /* of its data block: in plain form, and in the file */
    uint64_t weights, macs, macs_nonzero; /* of its matrices; see cinchrt_layer_info */
    const struct rt_kernel *kernel;
    const void *packed;
};

/* What one instruction set brings; a NULL entry falls to the next weaker set.
 */
struct rt_isa_table {
    const struct rt_kernel *const *kernels; /* kernels[i] serves the op ops[i] */
    const uint8_t *ops;
    int n;
    /* net input [leads, samples] -> edge, rows 0 .. samples-1 */
    void (*quantise)(const struct rt_edge *e, const float *x, uint8_t *rows);
    void (*transpose)(const struct rt_edge *e, const float *x, float *rows);
};

struct cinchrt_model {
    struct cinchrt_info info;
    enum cinchrt_isa isa;
    int head, n_layers;
    struct rt_edge edge[CINCHRT_MAX_LAYERS + 1]; /* edge[0]: the net's input,
                                                  edge[i+1]: layer i's output */
    struct rt_layer layer[CINCHRT_MAX_LAYERS];
    void (*quantise)(const struct rt_edge *e, const float *x, uint8_t *rows);
    void (*transpose)(const struct rt_edge *e, const float *x, float *rows);
    size_t tmp;           /* kernels' own scratch, behind the edges */
    size_t scratch_bytes; /* with room to align */
    size_t packed_bytes;
    char net[17];
    float mean[CINCHRT_MAX_LEADS], std[CINCHRT_MAX_LEADS];
    char label_text[CINCHRT_MAX_LABELS][9];
    const char *label[CINCHRT_MAX_LABELS];
};

/* reach.c: sets the reach of a float layer's output. CINCHRT_ERANGE: sums could leave float's range. */
#define RT_REACH_INPUT 1000.0
int rt_reach(struct cinchrt_model *m, const struct rt_layer *l, const uint8_t *block);

/* check.c: fills net facts, layers and edges (but offsets and kernels) from a
 * hostile file. */
int rt_check(struct cinchrt_model *m, const uint8_t *file, size_t n);

/* isa.c */
const struct rt_kernel *rt_kernel_for(enum cinchrt_isa isa, int op);
/* which 0: its int8 (or only) table, 1: its float table; NULL: not compiled in
 */
const struct rt_isa_table *rt_table_of(enum cinchrt_isa isa, int which);

/* amx.c: 1 when CPU (CPUID leaf 7's EDX), system (XCR0) and kernel let this process use AMX's int8 tiles. */
int rt_amx_usable(uint32_t cpuid7_edx, uint32_t xcr0);

/* Unaligned little-endian reads. */
static inline uint16_t rt_u16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
static inline uint32_t rt_u32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline float rt_f32(const uint8_t *p)
{
    float v;
    memcpy(&v, p, 4);
    return v;
}
static inline size_t rt_round(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* Walks a checked layer's weights in their order, however the file stores them. */
struct rt_walk {
    const uint8_t *map, *at; /* map NULL: plain */
    size_t i;
};
static inline struct rt_walk rt_walk_of(const struct rt_layer *l, const uint8_t *stored)
{
    struct rt_walk w = {0, 0, 0};
    size_t weights = (size_t)l->weights;
    w.at = stored + (l->block_bytes - cinchrt_weight_bytes(l->f.op) * weights);
    if (l->f.flags & CINCHRT_SPARSE) w.map = w.at, w.at += (weights + 7) / 8;
    return w;
}
static inline int rt_next_i8(struct rt_walk *w)
{
    size_t i = w->i++;
    if (w->map && !(w->map[i >> 3] >> (i & 7) & 1)) return 0;
    return (int8_t)*w->at++;
}

/* First row of an edge. */
static inline uint8_t *rt_rows(const struct cinchrt_model *m, int edge, uint8_t *scratch)
{
    return scratch + m->edge[edge].offset;
}

/* Where the arrays of a data block begin (format.h lists them). Unused ones are
 * NULL; w and w1 mean something in a plain block only. */
struct rt_block {
    const uint8_t *bias, *mult, *mult1, *w, *w1;
};
static inline struct rt_block rt_block_of(const struct rt_layer *l, const uint8_t *p)
{
    struct rt_block b = {0, 0, 0, 0, 0};
    int i8 = l->f.op == CINCHRT_CONV_I8 || l->f.op == CINCHRT_LINEAR_I8;
    size_t width = i8 ? 1 : 4, inner = (size_t)l->f.cin;
    inner *= l->f.op == CINCHRT_CONV_I8 || l->f.op == CINCHRT_CONV_F32 ? l->f.k : (size_t)l->tin;
    b.bias = p, p += 4 * (size_t)l->f.cout;
    if (i8) b.mult = p, p += 4 * (size_t)l->f.cout;
    if (i8 && l->in1 >= 0) b.mult1 = p, p += 4 * (size_t)l->f.cout;
    b.w = p, p += width * l->f.cout * inner;
    if (l->in1 >= 0) b.w1 = p;
    return b;
}

#endif
