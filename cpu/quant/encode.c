/* cpu/quant/encode.c - writes the .cinch file of a plan, as cpu/rt/format.h specifies it.
 *
 * Scales become what the integer runtime multiplies with:
 *   CONV, LINEAR  bias = round(b / (sx·sw)), mult = sx·sw / sy, mult1 = sx1·sw1 / (sx·sw)
 *   LSTM          bias = round(b · 2^11), mx = sx·sw·2^11, mh = sh·sw1·2^11
 *   LAYERNORM     gamma = round(γ · 2^G), bias = round(β · 2^(G + 10)), mult = 2^-(G + 10) / sy
 *   MEAN          mult = sx / (T · sy)
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/quant/plan.h"
#include "cpu/rt/format.h"

#define LEAST_MULT 1.8189894035458565e-12f /* 2^-39, the format's least multiplier */
#define FIXED_BYTES 512 /* what a file may take beyond its weights and channels */

struct encoder {
    const struct quant_plan *p;
    const struct nn_model *m;
    struct cinchrt_file_header header;
    struct cinchrt_file_layer layer[QUANT_MAX_NODES];
    uint64_t bytes[QUANT_MAX_NODES]; /* of each data block */
    uint8_t *block[QUANT_MAX_NODES]; /* owned */
    uint8_t *file;
    size_t size;
};

static uint32_t float_bits(float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    return u;
}

static float mult_of(double v)
{
    return fmaxf((float)v, LEAST_MULT);
}

/* Saturating round to even. */
static int32_t round_to(double v, double limit)
{
    v = nearbyint(v);
    return (int32_t)(v > limit ? limit : v < -limit ? -limit : v);
}

static uint8_t layer_op(const struct quant_plan *p, enum quant_kind kind)
{
    static const uint8_t i8[] = {CINCHRT_CONV_I8, CINCHRT_LINEAR_I8, CINCHRT_LSTM_I8,
                                 CINCHRT_LAYERNORM_I8, CINCHRT_MEAN_I8};
    static const uint8_t f32[] = {CINCHRT_CONV_F32, CINCHRT_LINEAR_F32, CINCHRT_LSTM_F32,
                                  CINCHRT_LAYERNORM_F32, CINCHRT_MEAN_F32};
    if (p->dynamic && kind == QUANT_LSTM) return CINCHRT_LSTM_DYN;
    if (p->dynamic && kind == QUANT_LINEAR) return CINCHRT_LINEAR_DYN;
    return p->dynamic || p->mode == QUANT_FLOAT ? f32[kind] : i8[kind];
}

/* 2^G for a LayerNorm's gamma: as many bits as int16 holds. */
static double gamma_unit(const struct quant_node *node)
{
    double most = 1e-9;
    for (int c = 0; c < node->cout; c++) {
        most = fmax(most, fabs((double)node->w[c]));
        most = fmax(most, fabs((double)node->bias[c]) / 32); /* the bias shares the accumulator */
    }
    return exp2(fmin(floor(log2(32767 / most)), 24));
}

static uint32_t layer_param(const struct quant_plan *p, int i)
{
    const struct quant_node *node = &p->g->node[i];
    double sy = (double)p->act[i + 1].scale;
    if (p->mode == QUANT_FLOAT || p->dynamic) return 0;
    switch (node->kind) {
    case QUANT_MEAN:
        return float_bits(mult_of((double)p->act[node->input[0] + 1].scale / (node->tin * sy)));
    case QUANT_LAYERNORM:
        return float_bits(mult_of(1 / (1024 * gamma_unit(node) * sy)));
    case QUANT_LSTM:
        return (uint32_t)nearbyint(1 / sy);
    default:
        return 0;
    }
}

static uint8_t edge(int node)
{
    return node == -1 ? CINCHRT_NET_INPUT : node == -2 ? CINCHRT_NO_INPUT : (uint8_t)node;
}

static void describe_layer(struct encoder *e, int i)
{
    const struct quant_plan *p = e->p;
    const struct quant_node *node = &p->g->node[i];
    int last = i == p->g->n - 1,
        dynamic = p->dynamic && (node->kind == QUANT_LSTM || node->kind == QUANT_LINEAR);
    struct cinchrt_file_layer *l = &e->layer[i];
    *l = (struct cinchrt_file_layer){
        .op = layer_op(p, node->kind),
        .flags = (uint8_t)((node->relu ? CINCHRT_RELU : 0) | (last ? CINCHRT_LOGITS : 0)),
        .k = (uint8_t)(node->kind == QUANT_CONV ? node->k : 0),
        .pad = (uint8_t)node->pad,
        .in0 = edge(node->input[0]),
        .in1 = edge(node->input[1]),
        .pool = (uint8_t)node->pool,
        .cin = (uint16_t)node->cin,
        .cout = (uint16_t)node->cout,
        .cin1 = (uint16_t)node->cin1,
        .qmax = (uint8_t)(dynamic ? p->qmax : 0),
        .param = layer_param(p, i)};
    if (quant_plan_quantised(p, i + 1)) {
        l->zero = (uint8_t)p->act[i + 1].zero;
        l->qmax = (uint8_t)p->qmax;
        l->scale = node->kind == QUANT_LSTM ? 0 : p->act[i + 1].scale;
    }
    e->bytes[i] = cinchrt_layer_bytes(l, (uint32_t)node->tin);
}

static size_t put(uint8_t *at, const void *v, size_t n)
{
    if (n) memcpy(at, v, n);
    return n;
}

static size_t put_f32(uint8_t *at, double v)
{
    float f = (float)v;
    return put(at, &f, sizeof f);
}

static size_t put_floats(uint8_t *at, const float *v, int n)
{
    return put(at, v, (size_t)n * sizeof *v);
}

static size_t block_f32(const struct quant_node *node, uint8_t *at)
{
    int rows = quant_node_rows(node);
    size_t n = 0;
    if (node->kind == QUANT_LAYERNORM) {
        n = put_floats(at, node->w, node->cout);
        return n + put_floats(at + n, node->bias, node->cout);
    }
    if (rows) n = put_floats(at, node->bias, rows);
    n += put_floats(at + n, node->w, rows * quant_node_columns(node));
    return n + put_floats(at + n, node->w1, rows * quant_node_columns1(node));
}

static size_t block_rows(const struct quant_weights *q, uint8_t *at)
{
    size_t n = put(at, q->w, (size_t)q->rows * (size_t)q->columns);
    return n + put(at + n, q->w1, (size_t)q->rows * (size_t)q->columns1);
}

static size_t block_dynamic(const struct quant_node *node, const struct quant_weights *q,
                            uint8_t *at)
{
    size_t n = put_floats(at, node->bias, q->rows);
    n += put_f32(at + n, (double)q->scale[0]);
    if (node->kind == QUANT_LSTM) n += put_f32(at + n, (double)q->scale1[0]);
    return n + block_rows(q, at + n);
}

/* CONV and LINEAR in int8. */
static size_t block_i8(const struct quant_plan *p, int i, const struct quant_weights *q,
                       uint8_t *at)
{
    const struct quant_node *node = &p->g->node[i];
    int logits = i == p->g->n - 1;
    double sx = (double)p->act[node->input[0] + 1].scale;
    double sy = logits ? 1 : (double)p->act[i + 1].scale;
    size_t n = 0;
    for (int r = 0; r < q->rows; r++) {
        int32_t bias = round_to((double)node->bias[r] / (sx * (double)q->scale[r]), 2147483000);
        n += put(at + n, &bias, sizeof bias);
    }
    for (int r = 0; r < q->rows; r++)
        n += put_f32(at + n, (double)mult_of(sx * (double)q->scale[r] / sy));
    for (int r = 0; q->columns1 && r < q->rows; r++) {
        double sx1 = (double)p->act[node->input[1] + 1].scale;
        n += put_f32(at + n,
                     (double)mult_of(sx1 * (double)q->scale1[r] / (sx * (double)q->scale[r])));
    }
    return n + block_rows(q, at + n);
}

/* The number n of fraction bits of a unit's cell: a quarter of headroom over what was seen. */
static uint8_t cell_bits(float most)
{
    int n = 12;
    while (n > 3 && 1.25 * (double)most * (1 << n) > 32767) n--;
    return (uint8_t)n;
}

static size_t block_lstm(const struct quant_plan *p, int i, const struct quant_weights *q,
                         uint8_t *at)
{
    const struct quant_node *node = &p->g->node[i];
    double sx = (double)p->act[node->input[0] + 1].scale, sh = (double)p->act[i + 1].scale;
    size_t n = 0;
    for (int r = 0; r < q->rows; r++) {
        int16_t bias = (int16_t)round_to((double)node->bias[r] * 2048, 32767);
        n += put(at + n, &bias, sizeof bias);
    }
    for (int half = 0; half < 2; half++)
        for (int r = 0; r < q->rows; r++) {
            double v = half ? sh * (double)q->scale1[r] : sx * (double)q->scale[r];
            uint16_t m = cinchrt_mult16((float)(v * 2048));
            n += put(at + n, &m, sizeof m);
        }
    for (int u = 0; u < node->cout; u++) at[n++] = cell_bits(p->cells[u]);
    return n + block_rows(q, at + n);
}

static size_t block_layernorm(const struct quant_node *node, uint8_t *at)
{
    double unit = gamma_unit(node);
    size_t n = 0;
    for (int c = 0; c < node->cout; c++) {
        int32_t bias = round_to((double)node->bias[c] * unit * 1024, 1073741823);
        n += put(at + n, &bias, sizeof bias);
    }
    for (int c = 0; c < node->cout; c++) {
        int16_t gamma = (int16_t)round_to((double)node->w[c] * unit, 32767);
        n += put(at + n, &gamma, sizeof gamma);
    }
    return n;
}

/* The data block in plain form, e->bytes[i] bytes at `at`. */
static int write_block(const struct encoder *e, int i, uint8_t *at, struct cn_error *err)
{
    const struct quant_plan *p = e->p;
    const struct quant_node *node = &p->g->node[i];
    struct quant_weights q = {0};
    size_t n = 0;
    int weights = quant_node_rows(node) > 0 && p->mode != QUANT_FLOAT;
    int rc = weights ? quant_plan_weights(&q, p, i, err) : 0;
    if (rc) return rc;
    if (p->mode == QUANT_FLOAT || (p->dynamic && !weights))
        n = block_f32(node, at);
    else if (p->dynamic)
        n = block_dynamic(node, &q, at);
    else if (node->kind == QUANT_LSTM)
        n = block_lstm(p, i, &q, at);
    else if (node->kind == QUANT_LAYERNORM)
        n = block_layernorm(node, at);
    else if (weights)
        n = block_i8(p, i, &q, at);
    quant_weights_release(&q);
    if (n == e->bytes[i]) return 0;
    return cn_fail(err, CN_EINTERNAL, "layer '%s' was written with %zu bytes, the format says %llu",
                   node->name, n, (unsigned long long)e->bytes[i]);
}

/* Makes a layer's data block, and stores it sparse where that is smaller. */
static int make_block(struct encoder *e, int i, struct cn_error *err)
{
    uint8_t *plain = malloc((size_t)e->bytes[i] + 1), *sparse = malloc((size_t)e->bytes[i] + 1);
    int rc = plain && sparse ? 0 : cn_fail(err, CN_ENOMEM, "no memory for an artifact");
    if (!rc) rc = write_block(e, i, plain, err);
    uint64_t n =
        rc ? 0 : cinchrt_sparse_pack(&e->layer[i], (uint32_t)e->p->g->node[i].tin, plain, sparse);
    if (n) {
        e->layer[i].flags |= CINCHRT_SPARSE;
        e->header.version = CINCHRT_VERSION_SPARSE;
        e->bytes[i] = n;
    }
    e->block[i] = n ? sparse : plain;
    free(n ? plain : sparse);
    return rc;
}

/* Sets the blocks' offsets for an alignment of 1 << log2; returns the file's size. */
static size_t place_blocks(struct encoder *e, int log2)
{
    size_t align = (size_t)1 << log2;
    size_t at = sizeof e->header + 2 * sizeof(float) * (size_t)e->header.leads +
                8 * (size_t)e->header.labels + sizeof e->layer[0] * (size_t)e->header.layers;
    for (int i = 0; i < e->header.layers; i++) {
        at = (at + align - 1) / align * align;
        e->layer[i].offset = (uint32_t)at;
        at += e->bytes[i];
    }
    e->header.align_log2 = (uint8_t)log2;
    return at;
}

/* The size rule: 1 byte per weight (4 in a float file), 8 per output channel, 512 in all. */
static size_t size_limit(const struct encoder *e)
{
    size_t limit = FIXED_BYTES, width = e->p->mode == QUANT_FLOAT ? 4 : 1;
    for (int i = 0; i < e->p->g->n; i++) {
        const struct quant_node *node = &e->p->g->node[i];
        size_t rows = (size_t)quant_node_rows(node);
        size_t columns = (size_t)quant_node_columns(node) + (size_t)quant_node_columns1(node);
        limit +=
            width * rows * columns + 8 * rows * (node->kind == QUANT_CONV && node->cin1 ? 2 : 1);
        if (node->kind == QUANT_LAYERNORM) limit += 8 * (size_t)node->cout;
    }
    return limit;
}

static void describe_header(struct encoder *e)
{
    const struct quant_plan *p = e->p;
    struct cinchrt_file_header *h = &e->header;
    *h = (struct cinchrt_file_header){.version = CINCHRT_VERSION,
                                      .kind = p->mode == QUANT_FLOAT ? CINCHRT_KIND_FLOAT
                                              : p->dynamic           ? CINCHRT_KIND_DYNAMIC
                                                                     : CINCHRT_KIND_INT8,
                                      .head =
                                          p->g->loss == NN_BCE ? CINCHRT_SIGMOID : CINCHRT_SOFTMAX,
                                      .leads = (uint16_t)p->g->n_leads,
                                      .samples = (uint16_t)p->g->n_samples,
                                      .labels = (uint8_t)p->g->n_labels,
                                      .layers = (uint8_t)p->g->n,
                                      .hz = e->m->hz,
                                      .in_scale = 1,
                                      .in_qmax = 255};
    memcpy(h->magic, CINCHRT_MAGIC, sizeof h->magic);
    memcpy(h->net, p->g->net, strnlen(p->g->net, sizeof h->net));
    if (!quant_plan_quantised(p, 0)) return;
    h->in_scale = p->act[0].scale;
    h->in_zero = (uint8_t)p->act[0].zero;
    h->in_qmax = (uint8_t)p->qmax;
}

static void write_head(struct encoder *e)
{
    uint8_t *at = e->file;
    int leads = e->p->g->n_leads, labels = e->p->g->n_labels;
    e->header.file_bytes = (uint32_t)e->size;
    at += put(at, &e->header, sizeof e->header);
    for (int i = 0; i < leads; i++) at += put_f32(at, (double)e->m->mean[i]);
    for (int i = 0; i < leads; i++) at += put_f32(at, (double)e->m->std[i]);
    for (int i = 0; i < labels; i++, at += 8)
        memcpy(at, e->m->label[i], strnlen(e->m->label[i], 8));
    put(at, e->layer, sizeof e->layer[0] * (size_t)e->p->g->n);
}

/* What the format's fields can hold. */
static int check_limits(const struct quant_graph *g, struct cn_error *err)
{
    if (g->n > CINCHRT_MAX_LAYERS || g->n_leads > CINCHRT_MAX_LEADS ||
        g->n_labels > CINCHRT_MAX_LABELS || g->n_samples > CINCHRT_MAX_TIME)
        return cn_fail(err, CN_ELIMIT,
                       "net '%s' is too large for an artifact (%d layers, %d leads, %d labels, %d "
                       "samples)",
                       g->net, g->n, g->n_leads, g->n_labels, g->n_samples);
    for (int i = 0; i < g->n; i++)
        if (g->node[i].pool > 255 || g->node[i].k > CINCHRT_MAX_KERNEL ||
            g->node[i].cout > CINCHRT_MAX_CHANNELS)
            return cn_fail(
                err, CN_ELIMIT,
                "layer '%s' is too large for an artifact: kernel %d, pool %d, %d channels",
                g->node[i].name, g->node[i].k, g->node[i].pool, g->node[i].cout);
    return 0;
}

/* Lays the finished blocks out as a file. */
static int write_file(struct encoder *e, struct cn_error *err)
{
    static const int aligns[] = {6, 4, 2, 0};
    int at =
        e->header.version == CINCHRT_VERSION_SPARSE ? 3 : 0; /* no gaps where bytes are saved */
    do e->size = place_blocks(e, aligns[at]);
    while (e->size > size_limit(e) && ++at < 4);
    if (e->size > UINT32_MAX) return cn_fail(err, CN_ELIMIT, "net '%s' is too large", e->p->g->net);
    e->file = calloc(1, e->size);
    if (!e->file) return cn_fail(err, CN_ENOMEM, "no memory for an artifact of %zu bytes", e->size);
    write_head(e);
    for (int i = 0; i < e->p->g->n; i++)
        put(e->file + e->layer[i].offset, e->block[i], (size_t)e->bytes[i]);
    uint32_t crc = cinchrt_crc32(e->file + CINCHRT_CRC_START, e->size - CINCHRT_CRC_START);
    memcpy(e->file + offsetof(struct cinchrt_file_header, crc), &crc, sizeof crc);
    return 0;
}

int quant_encode(void **data, size_t *n, const struct quant_plan *p, const struct nn_model *m,
                 struct cn_error *err)
{
    struct encoder e = {.p = p, .m = m};
    int rc = check_limits(p->g, err);
    *data = NULL;
    *n = 0;
    if (rc) return rc;
    describe_header(&e);
    for (int i = 0; i < p->g->n; i++) describe_layer(&e, i);
    for (int i = 0; !rc && i < p->g->n; i++) rc = make_block(&e, i, err);
    if (!rc) rc = write_file(&e, err);
    for (int i = 0; i < p->g->n; i++) free(e.block[i]);
    if (rc) return rc;
    *data = e.file;
    *n = e.size;
    return 0;
}
