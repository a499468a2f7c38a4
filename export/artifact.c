/* export/artifact.c - see artifact.h. The runtime checks the file first, so nothing is checked again here. */
#include "export/artifact.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/rt/cinchrt.h"

float export_f32(const uint8_t *p, size_t i)
{
    float v;
    memcpy(&v, p + 4 * i, sizeof v);
    return v;
}

int32_t export_i32(const uint8_t *p, size_t i)
{
    int32_t v;
    memcpy(&v, p + 4 * i, sizeof v);
    return v;
}

int16_t export_i16(const uint8_t *p, size_t i)
{
    int16_t v;
    memcpy(&v, p + 2 * i, sizeof v);
    return v;
}

int export_is_conv(const struct export_layer *l)
{
    return l->f.op == CINCHRT_CONV_I8 || l->f.op == CINCHRT_CONV_F32;
}

int export_is_linear(const struct export_layer *l)
{
    return l->f.op == CINCHRT_LINEAR_I8 || l->f.op == CINCHRT_LINEAR_F32 ||
           l->f.op == CINCHRT_LINEAR_DYN;
}

int export_is_lstm(const struct export_layer *l)
{
    return l->f.op == CINCHRT_LSTM_I8 || l->f.op == CINCHRT_LSTM_F32 || l->f.op == CINCHRT_LSTM_DYN;
}

int export_is_layernorm(const struct export_layer *l)
{
    return l->f.op == CINCHRT_LAYERNORM_I8 || l->f.op == CINCHRT_LAYERNORM_F32;
}

size_t export_rows(const struct export_layer *l)
{
    if (export_is_lstm(l)) return 4 * (size_t)l->f.cout;
    return export_is_conv(l) || export_is_linear(l) ? l->f.cout : 0;
}

size_t export_columns(const struct export_layer *l)
{
    if (export_is_conv(l)) return (size_t)l->f.cin * l->f.k;
    if (export_is_linear(l)) return (size_t)l->f.cin * (size_t)l->tin;
    return export_is_lstm(l) ? l->f.cin : 0;
}

size_t export_columns1(const struct export_layer *l)
{
    if (export_is_lstm(l)) return l->f.cout;
    return export_is_conv(l) ? l->f.cin1 : 0;
}

/* Takes `n` bytes of the data block. */
static const uint8_t *take(const uint8_t **at, size_t n)
{
    const uint8_t *p = *at;
    *at += n;
    return p;
}

static void take_weights(struct export_layer *l, const uint8_t **at, size_t width)
{
    size_t rows = export_rows(l);
    l->w = take(at, width * rows * export_columns(l));
    if (export_columns1(l)) l->w1 = take(at, width * rows * export_columns1(l));
}

static void open_block(struct export_layer *l, const uint8_t *at)
{
    size_t rows = export_rows(l), c = l->f.cin;
    switch (l->f.op) {
    case CINCHRT_CONV_I8:
    case CINCHRT_LINEAR_I8:
        l->bias = take(&at, 4 * rows);
        l->mult = take(&at, 4 * rows);
        if (l->in1 >= 0) l->mult1 = take(&at, 4 * rows);
        take_weights(l, &at, 1);
        break;
    case CINCHRT_LSTM_I8:
        l->bias = take(&at, 2 * rows);
        l->mult = take(&at, 2 * rows);
        l->mult1 = take(&at, 2 * rows);
        l->cell = take(&at, l->f.cout);
        take_weights(l, &at, 1);
        break;
    case CINCHRT_LAYERNORM_I8:
        l->bias = take(&at, 4 * c);
        l->gamma = take(&at, 2 * c);
        break;
    case CINCHRT_LAYERNORM_F32:
        l->gamma = take(&at, 4 * c);
        l->bias = take(&at, 4 * c);
        break;
    case CINCHRT_LSTM_DYN:
    case CINCHRT_LINEAR_DYN:
        l->bias = take(&at, 4 * rows);
        l->scale = take(&at, l->f.op == CINCHRT_LSTM_DYN ? 8 : 4);
        take_weights(l, &at, 1);
        break;
    case CINCHRT_CONV_F32:
    case CINCHRT_LINEAR_F32:
    case CINCHRT_LSTM_F32:
        l->bias = take(&at, 4 * rows);
        take_weights(l, &at, 4);
        break;
    default:
        break; /* mean: no arrays */
    }
}

static enum export_type edge_type(const struct export_layer *l)
{
    if (l->f.op == CINCHRT_LSTM_I8) return EXPORT_H16;
    if (l->f.op == CINCHRT_LINEAR_I8 && l->f.flags & CINCHRT_LOGITS) return EXPORT_F32;
    return l->f.op < CINCHRT_CONV_F32 ? EXPORT_U8 : EXPORT_F32;
}

/* The layer's block in plain form. */
static int find_block(struct export_layer *l, const uint8_t *file, struct cn_error *err)
{
    const uint8_t *at = file + l->f.offset;
    if (l->f.flags & CINCHRT_SPARSE) {
        l->plain = malloc((size_t)cinchrt_layer_bytes(&l->f, (uint32_t)l->tin));
        if (!l->plain) return cn_fail(err, CN_ENOMEM, "no memory to export");
        cinchrt_sparse_unpack(&l->f, (uint32_t)l->tin, at, l->plain);
        at = l->plain;
    }
    open_block(l, at);
    return 0;
}

static int open_layer(struct export_artifact *a, const uint8_t *file, size_t table, int i,
                      struct cn_error *err)
{
    struct export_layer *l = &a->layer[i];
    memcpy(&l->f, file + table + sizeof l->f * (size_t)i, sizeof l->f);
    l->in = l->f.in0 == CINCHRT_NET_INPUT ? 0 : l->f.in0 + 1;
    l->in1 = l->f.in1 == CINCHRT_NO_INPUT ? -1 : l->f.in1 == CINCHRT_NET_INPUT ? 0 : l->f.in1 + 1;
    l->out = i + 1;
    l->tin = a->edge[l->in].t;
    l->tout = (int)cinchrt_layer_time(&l->f, (uint32_t)l->tin);
    l->tfull = export_is_conv(l) ? l->tin + 2 * l->f.pad - l->f.k + 1 : l->tin;
    a->edge[i + 1] =
        (struct export_edge){edge_type(l), l->f.cout, l->tout, l->f.scale, l->f.zero, l->f.qmax};
    if (l->f.op < CINCHRT_CONV_F32) a->edge[0].type = EXPORT_U8;
    return find_block(l, file, err);
}

int export_open(struct export_artifact *a, const void *file, size_t n, struct cn_error *err)
{
    size_t bytes, at = sizeof a->h;
    const uint8_t *p = file;
    memset(a, 0, sizeof *a);
    int rc = cinchrt_model_size(file, n, CINCHRT_ISA_PORTABLE, &bytes);
    if (rc) return cn_fail(err, CN_ECORRUPT, "not a usable artifact: %s", cinchrt_error_text(rc));
    memcpy(&a->h, p, sizeof a->h);
    a->n = a->h.layers;
    for (int i = 0; i < a->h.leads; i++) {
        a->mean[i] = export_f32(p + at, (size_t)i);
        a->std[i] = export_f32(p + at, (size_t)(a->h.leads + i));
    }
    at += 8 * (size_t)a->h.leads;
    for (int i = 0; i < a->h.labels; i++) memcpy(a->label[i], p + at + 8 * (size_t)i, 8);
    at += 8 * (size_t)a->h.labels;
    a->edge[0] = (struct export_edge){EXPORT_F32,    a->h.leads,   a->h.samples,
                                      a->h.in_scale, a->h.in_zero, a->h.in_qmax};
    for (int i = 0; !rc && i < a->n; i++) rc = open_layer(a, p, at, i, err);
    if (rc) export_close(a);
    return rc;
}

void export_close(struct export_artifact *a)
{
    for (int i = 0; i < a->n; i++) free(a->layer[i].plain);
    memset(a, 0, sizeof *a);
}
