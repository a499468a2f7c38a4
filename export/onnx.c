/* export/onnx.c - an artifact's layers as ONNX operators.
 *
 * Between layers everything is float [N, C, T]. An 8-bit edge is a QuantizeLinear/DequantizeLinear pair (with a
 * Clip before it when the edge uses 7 bits), int8 weights stay int8 behind a DequantizeLinear per row, so a
 * runtime that fuses such pairs computes in integers. ONNX orders LSTM gates i o f g; ours are i f g o.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "export/artifact.h"
#include "export/export.h"
#include "export/onnx_proto.h"

typedef char name_t[40];

struct writer {
    const struct export_artifact *a;
    struct export_text graph;
    name_t edge[CINCHRT_MAX_LAYERS + 1]; /* the float value of each edge */
    int layer, count;                    /* for names: "l3_7" */
};

/* A fresh value name of the current layer. */
static const char *fresh(struct writer *w, name_t name)
{
    snprintf(name, sizeof(name_t), "l%d_%d", w->layer, w->count++);
    return name;
}

static void node(struct writer *w, const char *op, const char *a, const char *b, const char *c,
                 const char *output)
{
    struct onnx_node n = {.op = op, .input = {a, b, c}, .output = output};
    onnx_add_node(&w->graph, &n);
}

/* A node of one input with one list attribute; out is named afresh. */
static const char *node_ints(struct writer *w, const char *op, const char *in, const char *attr,
                             const int64_t *v, int n, name_t out)
{
    struct onnx_node m = {.op = op, .input = {in}, .output = fresh(w, out)};
    onnx_attr_ints(&m.attrs, attr, v, n);
    onnx_add_node(&w->graph, &m);
    return out;
}

static const char *tensor(struct writer *w, enum onnx_type type, const void *data, int n_dims,
                          const int64_t *dim, name_t name)
{
    struct onnx_tensor t = {.name = fresh(w, name), .type = type, .n_dims = n_dims, .data = data};
    for (int i = 0; i < n_dims; i++) t.dim[i] = dim[i];
    onnx_add_initializer(&w->graph, &t);
    return name;
}

static const char *scalar_f32(struct writer *w, float v, name_t name)
{
    return tensor(w, ONNX_FLOAT, &v, 0, NULL, name);
}

/* Rounds a float value to the edge's 8-bit grid and back. */
static void quantise_edge(struct writer *w, int edge, const char *in)
{
    const struct export_edge *e = &w->a->edge[edge];
    name_t clipped, scale, zero, lo, hi, q;
    uint8_t z = (uint8_t)e->zero;
    if (e->type != EXPORT_U8) {
        snprintf(w->edge[edge], sizeof(name_t), "%s", in);
        return;
    }
    if (e->qmax < 255) {
        scalar_f32(w, (float)-e->zero * e->scale, lo);
        scalar_f32(w, (float)(e->qmax - e->zero) * e->scale, hi);
        node(w, "Clip", in, lo, hi, fresh(w, clipped));
        in = clipped;
    }
    scalar_f32(w, e->scale, scale);
    tensor(w, ONNX_UINT8, &z, 0, NULL, zero);
    node(w, "QuantizeLinear", in, scale, zero, fresh(w, q));
    node(w, "DequantizeLinear", q, scale, zero, fresh(w, w->edge[edge]));
}

/* A matrix of weights: float, or int8 behind a DequantizeLinear with one scale per index of `axis`. */
struct matrix {
    const uint8_t *data;
    int is_float;
    const float *scale; /* [dim[axis]], int8 only */
    int64_t dim[3];
    int n_dims, axis;
};

static const char *weights(struct writer *w, const struct matrix *m, name_t out)
{
    name_t q, scale, zero;
    if (m->is_float) return tensor(w, ONNX_FLOAT, m->data, m->n_dims, m->dim, out);
    int8_t *zeros = calloc((size_t)m->dim[m->axis], 1);
    if (!zeros) {
        w->graph.failed = 1;
        return "";
    }
    tensor(w, ONNX_INT8, m->data, m->n_dims, m->dim, q);
    tensor(w, ONNX_FLOAT, m->scale, 1, &m->dim[m->axis], scale);
    tensor(w, ONNX_INT8, zeros, 1, &m->dim[m->axis], zero);
    free(zeros);
    struct onnx_node n = {
        .op = "DequantizeLinear", .input = {q, scale, zero}, .output = fresh(w, out)};
    onnx_attr_int(&n.attrs, "axis", m->axis);
    onnx_add_node(&w->graph, &n);
    return out;
}

/* Real scale of each row of w (which 0) or w1 (1), and the real biases; see encode rules in cpu/quant. */
struct facts {
    float *scale, *scale1, *bias; /* [rows], owned */
};

static int is_i8(const struct export_layer *l)
{
    return l->f.op < CINCHRT_CONV_F32;
}

static void row_facts(const struct writer *w, const struct export_layer *l, struct facts *f,
                      size_t r)
{
    const struct export_edge *in = &w->a->edge[l->in], *out = &w->a->edge[l->out];
    double sx = (double)in->scale, sy = out->type == EXPORT_U8 ? (double)out->scale : 1;
    if (export_is_lstm(l) && is_i8(l)) {
        uint16_t mx = (uint16_t)export_i16(l->mult, r), mh = (uint16_t)export_i16(l->mult1, r);
        f->scale[r] = (float)((double)cinchrt_mult16_value(mx) / (2048 * sx));
        f->scale1[r] = (float)((double)cinchrt_mult16_value(mh) * (double)l->f.param / 2048);
        f->bias[r] = (float)export_i16(l->bias, r) / 2048;
    } else if (is_i8(l)) {
        double sw = (double)export_f32(l->mult, r) * sy / sx;
        f->scale[r] = (float)sw;
        f->bias[r] = (float)(export_i32(l->bias, r) * sx * sw);
        if (l->mult1)
            f->scale1[r] = (float)((double)export_f32(l->mult1, r) * sx * sw /
                                   (double)w->a->edge[l->in1].scale);
    } else {
        f->bias[r] = export_f32(l->bias, r);
        f->scale[r] = l->scale ? export_f32(l->scale, 0) : 1;
        f->scale1[r] = l->scale && export_is_lstm(l) ? export_f32(l->scale, 1) : 1;
    }
}

static int facts_of(struct writer *w, const struct export_layer *l, struct facts *f)
{
    size_t rows = export_rows(l);
    f->scale = calloc(rows + 1, sizeof *f->scale);
    f->scale1 = calloc(rows + 1, sizeof *f->scale1);
    f->bias = calloc(rows + 1, sizeof *f->bias);
    if (!f->scale || !f->scale1 || !f->bias) {
        w->graph.failed = 1;
        return 0;
    }
    for (size_t r = 0; r < rows; r++) row_facts(w, l, f, r);
    return 1;
}

static void facts_release(struct facts *f)
{
    free(f->scale);
    free(f->scale1);
    free(f->bias);
}

static const char *conv_node(struct writer *w, const char *x, const char *matrix, const char *bias,
                             int pad, name_t out)
{
    int64_t pads[2] = {pad, pad};
    struct onnx_node n = {.op = "Conv", .input = {x, matrix, bias}, .output = fresh(w, out)};
    onnx_attr_ints(&n.attrs, "pads", pads, 2);
    onnx_add_node(&w->graph, &n);
    return out;
}

static const char *relu(struct writer *w, const struct export_layer *l, const char *in, name_t out)
{
    if (!(l->f.flags & CINCHRT_RELU)) return in;
    node(w, "Relu", in, NULL, NULL, fresh(w, out));
    return out;
}

static const char *pool(struct writer *w, const struct export_layer *l, const char *in, name_t out)
{
    int64_t k = l->f.pool;
    if (k <= 1) return in;
    struct onnx_node n = {.op = "MaxPool", .input = {in}, .output = fresh(w, out)};
    onnx_attr_ints(&n.attrs, "kernel_shape", &k, 1);
    onnx_attr_ints(&n.attrs, "strides", &k, 1);
    onnx_add_node(&w->graph, &n);
    return out;
}

static void write_conv(struct writer *w, const struct export_layer *l, const struct facts *f)
{
    int is_float = !is_i8(l);
    int64_t rows = l->f.cout;
    name_t wn, bn, sum, side, wn1, added, r, p;
    struct matrix m = {l->w, is_float, f->scale, {rows, l->f.cin, l->f.k}, 3, 0};
    struct matrix m1 = {l->w1, is_float, f->scale1, {rows, l->f.cin1, 1}, 3, 0};
    tensor(w, ONNX_FLOAT, f->bias, 1, &rows, bn);
    const char *y = conv_node(w, w->edge[l->in], weights(w, &m, wn), bn, l->f.pad, sum);
    if (l->in1 >= 0) {
        conv_node(w, w->edge[l->in1], weights(w, &m1, wn1), NULL, 0, side);
        node(w, "Add", y, side, NULL, fresh(w, added));
        y = added;
    }
    y = pool(w, l, relu(w, l, y, r), p);
    quantise_edge(w, l->out, y);
}

static void write_linear(struct writer *w, const struct export_layer *l, const struct facts *f)
{
    int64_t rows = l->f.cout, columns = (int64_t)export_columns(l), axis = 2;
    name_t wn, bn, flat, sum, r, shaped;
    struct matrix m = {l->w, l->f.op == CINCHRT_LINEAR_F32, f->scale, {rows, columns}, 2, 0};
    tensor(w, ONNX_FLOAT, f->bias, 1, &rows, bn);
    node(w, "Flatten", w->edge[l->in], NULL, NULL, fresh(w, flat));
    struct onnx_node n = {
        .op = "Gemm", .input = {flat, weights(w, &m, wn), bn}, .output = fresh(w, sum)};
    onnx_attr_int(&n.attrs, "transB", 1);
    onnx_add_node(&w->graph, &n);
    const char *y = relu(w, l, sum, r);
    if (l->out < w->a->n) { /* hidden: back to [N, C, 1] */
        name_t axes;
        tensor(w, ONNX_INT64, &axis, 1, &(int64_t){1}, axes);
        node(w, "Unsqueeze", y, axes, NULL, fresh(w, shaped));
        y = shaped;
    }
    quantise_edge(w, l->out, y);
}

static void write_mean(struct writer *w, const struct export_layer *l)
{
    name_t out;
    int64_t axis = 2;
    quantise_edge(w, l->out, node_ints(w, "ReduceMean", w->edge[l->in], "axes", &axis, 1, out));
}

/* Copies the four blocks of `bytes` in ONNX's order. */
static void reorder_gates(const uint8_t *from, uint8_t *to, size_t bytes)
{
    static const int order[4] = {0, 3, 1, 2};
    for (int g = 0; g < 4; g++)
        memcpy(to + (size_t)g * bytes, from + (size_t)order[g] * bytes, bytes);
}

/* An LSTM matrix [1, 4H, columns] with its gates in ONNX's order. */
static const char *gate_matrix(struct writer *w, const struct export_layer *l, const uint8_t *data,
                               const float *scale, size_t columns, name_t out)
{
    size_t h = l->f.cout, width = l->f.op == CINCHRT_LSTM_F32 ? 4 : 1;
    uint8_t *ordered = malloc(4 * h * columns * width + 1);
    float *scales = malloc(4 * h * sizeof *scales + 1);
    out[0] = 0;
    if (ordered && scales) {
        reorder_gates(data, ordered, h * columns * width);
        reorder_gates((const uint8_t *)scale, (uint8_t *)scales, h * sizeof *scales);
        struct matrix m = {ordered, width == 4, scales, {1, 4 * (int64_t)h, (int64_t)columns},
                           3,       1};
        weights(w, &m, out);
    } else {
        w->graph.failed = 1;
    }
    free(ordered);
    free(scales);
    return out;
}

static void write_lstm(struct writer *w, const struct export_layer *l, const struct facts *f)
{
    static const int64_t to_steps[] = {2, 0, 1}, to_rows[] = {1, 2, 0};
    size_t h = l->f.cout;
    int64_t bias_dim[2] = {1, 8 * (int64_t)h}, one = 1;
    name_t x, wi, wh, bn, y, axes, flat;
    float *bias =
        calloc(8 * h, sizeof *bias); /* the second half, of the hidden weights, stays zero */
    if (!bias) {
        w->graph.failed = 1;
        return;
    }
    reorder_gates((const uint8_t *)f->bias, (uint8_t *)bias, h * sizeof *bias);
    tensor(w, ONNX_FLOAT, bias, 2, bias_dim, bn);
    free(bias);
    gate_matrix(w, l, l->w, f->scale, l->f.cin, wi);
    gate_matrix(w, l, l->w1, f->scale1, h, wh);
    node_ints(w, "Transpose", w->edge[l->in], "perm", to_steps, 3, x);
    struct onnx_node n = {.op = "LSTM", .input = {x, wi, wh, bn}, .output = fresh(w, y)};
    onnx_attr_int(&n.attrs, "hidden_size", (int64_t)h);
    onnx_add_node(&w->graph, &n);
    tensor(w, ONNX_INT64, &one, 1, &one, axes);
    node(w, "Squeeze", y, axes, NULL, fresh(w, flat));
    node_ints(w, "Transpose", flat, "perm", to_rows, 3, w->edge[l->out]);
}

static void write_layernorm(struct writer *w, const struct export_layer *l)
{
    static const int64_t swap[] = {0, 2, 1};
    int64_t c = l->f.cin;
    name_t x, gn, bn, y, back, p;
    float *v = calloc(2 * (size_t)c, sizeof *v), mult = 1;
    if (!v) {
        w->graph.failed = 1;
        return;
    }
    if (is_i8(l)) memcpy(&mult, &l->f.param, sizeof mult);
    double unit = (double)mult * (double)w->a->edge[l->out].scale; /* of the integer accumulator */
    for (size_t i = 0; i < (size_t)c; i++) {
        v[i] = is_i8(l) ? (float)(export_i16(l->gamma, i) * 1024 * unit) : export_f32(l->gamma, i);
        v[(size_t)c + i] =
            is_i8(l) ? (float)(export_i32(l->bias, i) * unit) : export_f32(l->bias, i);
    }
    tensor(w, ONNX_FLOAT, v, 1, &c, gn);
    tensor(w, ONNX_FLOAT, v + c, 1, &c, bn);
    free(v);
    node_ints(w, "Transpose", w->edge[l->in], "perm", swap, 3, x);
    struct onnx_node n = {.op = "LayerNormalization", .input = {x, gn, bn}, .output = fresh(w, y)};
    onnx_attr_int(&n.attrs, "axis", -1);
    onnx_attr_float(&n.attrs, "epsilon", 1e-5f);
    onnx_add_node(&w->graph, &n);
    node_ints(w, "Transpose", y, "perm", swap, 3, back);
    quantise_edge(w, l->out, pool(w, l, back, p));
}

static void write_layer(struct writer *w, const struct export_layer *l)
{
    struct facts f = {0};
    w->layer = l->out;
    w->count = 0;
    if (facts_of(w, l, &f)) {
        if (export_is_conv(l))
            write_conv(w, l, &f);
        else if (export_is_linear(l))
            write_linear(w, l, &f);
        else if (export_is_lstm(l))
            write_lstm(w, l, &f);
        else if (export_is_layernorm(l))
            write_layernorm(w, l);
        else
            write_mean(w, l);
    }
    facts_release(&f);
}

static void write_head(struct writer *w)
{
    const struct export_artifact *a = w->a;
    int64_t in[3] = {0, a->h.leads, a->h.samples}, out[2] = {0, a->h.labels};
    struct onnx_node n = {.op = a->h.head == CINCHRT_SIGMOID ? "Sigmoid" : "Softmax",
                          .input = {"logits"},
                          .output = "probability"};
    node(w, "Identity", w->edge[a->n], NULL, NULL, "logits");
    if (a->h.head != CINCHRT_SIGMOID) onnx_attr_int(&n.attrs, "axis", 1);
    onnx_add_node(&w->graph, &n);
    onnx_add_value(&w->graph, 0, "x", in, 3);
    onnx_add_value(&w->graph, 1, "logits", out, 2);
    onnx_add_value(&w->graph, 1, "probability", out, 2);
}

/* Normalisation and labels travel as metadata, comma-separated. */
static void write_model(struct writer *w, struct export_text *model)
{
    const struct export_artifact *a = w->a;
    struct export_text labels = {0}, mean = {0}, std = {0}, hz = {0};
    char net[17] = {0};
    memcpy(net, a->h.net, sizeof a->h.net);
    for (int i = 0; i < a->h.labels; i++) export_printf(&labels, "%s%s", i ? "," : "", a->label[i]);
    for (int i = 0; i < a->h.leads; i++) {
        export_printf(&mean, "%s%.9g", i ? "," : "", (double)a->mean[i]);
        export_printf(&std, "%s%.9g", i ? "," : "", (double)a->std[i]);
    }
    export_printf(&hz, "%g", (double)a->h.hz);
    int failed = labels.failed || mean.failed || std.failed || hz.failed;
    if (failed) {
        model->failed = 1;
    } else {
        const char *const metadata[] = {"labels", labels.data, "mean_mV", mean.data, "std_mV",
                                        std.data, "hz",        hz.data,   NULL};
        onnx_model(model, &w->graph, net, metadata);
    }
    export_text_release(&labels);
    export_text_release(&mean);
    export_text_release(&std);
    export_text_release(&hz);
}

int export_onnx(const void *file, size_t n, void **out, size_t *out_n, struct cn_error *err)
{
    struct export_artifact *a = calloc(1, sizeof *a);
    struct writer *w = calloc(1, sizeof *w);
    struct export_text model = {0};
    *out = NULL;
    *out_n = 0;
    int rc = a && w ? export_open(a, file, n, err) : cn_fail(err, CN_ENOMEM, "no memory to export");
    if (!rc) {
        w->a = a;
        quantise_edge(w, 0, "x");
        for (int i = 0; i < a->n; i++) write_layer(w, &a->layer[i]);
        write_head(w);
        write_model(w, &model);
        if (w->graph.failed || model.failed) rc = cn_fail(err, CN_ENOMEM, "no memory to export");
        export_text_release(&w->graph);
    }
    if (a) export_close(a);
    free(a);
    free(w);
    if (rc) {
        export_text_release(&model);
        return rc;
    }
    *out = model.data;
    *out_n = model.n;
    return 0;
}
