/* export/artifact.h - a checked .cinch file laid open: shapes of every edge, arrays of every layer. */
#ifndef CINCH_EXPORT_ARTIFACT_H
#define CINCH_EXPORT_ARTIFACT_H

#include "base/error.h"
#include "cpu/rt/format.h"

enum export_type { EXPORT_U8, EXPORT_H16, EXPORT_F32 };

struct export_edge {
    enum export_type type;
    int c, t;
    float scale; /* U8 */
    int zero, qmax;
};

/* The arrays of a data block, unaligned, as format.h lists them; NULL where absent. */
struct export_layer {
    struct cinchrt_file_layer f;
    int in, in1, out;                            /* edges; in1 -1: none */
    int tin, tfull, tout;                        /* tfull: before the pool */
    const uint8_t *bias, *mult, *mult1, *w, *w1; /* LSTM_I8: mult is mx, mult1 is mh */
    const uint8_t *cell;                         /* LSTM_I8 */
    const uint8_t *scale;                        /* *_DYN: one float per matrix */
    const uint8_t *gamma;                        /* LAYERNORM; bias is beta */
    uint8_t *plain; /* owned: the block of a sparse layer with its zeros; else NULL */
};

struct export_artifact {
    struct cinchrt_file_header h;
    float mean[CINCHRT_MAX_LEADS], std[CINCHRT_MAX_LEADS];
    char label[CINCHRT_MAX_LABELS][9];
    int n; /* layers */
    struct export_layer layer[CINCHRT_MAX_LAYERS];
    struct export_edge
        edge[CINCHRT_MAX_LAYERS + 1]; /* 0: the net's input; i + 1: layer i's output */
};

/* Opens a file in memory; `a` points into it until export_close, which also accepts a zeroed one.
 * CN_ECORRUPT with the runtime's reason, CN_ENOMEM. */
int export_open(struct export_artifact *a, const void *file, size_t n, struct cn_error *err);
void export_close(struct export_artifact *a);

int export_is_conv(const struct export_layer *l);
int export_is_linear(const struct export_layer *l);
int export_is_lstm(const struct export_layer *l);
int export_is_layernorm(const struct export_layer *l);
/* Weights in w and w1, and rows (output channels; gate rows of an LSTM). */
size_t export_rows(const struct export_layer *l);
size_t export_columns(const struct export_layer *l);
size_t export_columns1(const struct export_layer *l);

/* Unaligned reads of element i. */
float export_f32(const uint8_t *p, size_t i);
int32_t export_i32(const uint8_t *p, size_t i);
int16_t export_i16(const uint8_t *p, size_t i);

#endif
