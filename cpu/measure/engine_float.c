/* engine_float.c - a checkpoint's float layers over OpenBLAS, or over oneDNN: the two ways in which
 * study A timed its float LSTM, and a yardstick for cinchrt.
 *
 * The layers are the folded ones (cpu/quant/graph.h), so that BatchNorm costs nobody anything.
 * OpenBLAS: im2col and one GEMM per convolution; for the LSTM one GEMM for all inputs and one
 * matrix-vector product per step, as PyTorch does without oneDNN. oneDNN: its LSTM and convolution
 * primitives on plain tensors, reordered where a primitive wants another layout, as PyTorch does.
 */
#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cpu/measure/engine_float.h"
#include "cpu/quant/graph.h"

struct float_model {
    struct quant_graph *graph;
    struct measure_dnnl *dnnl;   /* NULL: OpenBLAS */
    float *out[QUANT_MAX_NODES]; /* [cout, tout] of each node */
    float *mid;                  /* [cout, tmid] of the widest node */
    float *col;                  /* [cin * k, tmid] */
    float *gates;                /* [T, 4H] */
    float *turned;               /* [T, max(cin, H)] */
};

/* [rows, columns] -> [columns, rows] */
static void turn(const float *in, int rows, int columns, float *out)
{
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) out[c * rows + r] = in[r * columns + c];
}

static void im2col(const struct quant_node *n, const float *x, float *col)
{
    for (int c = 0; c < n->cin; c++) {
        for (int k = 0; k < n->k; k++) {
            float *row = col + (size_t)(c * n->k + k) * (size_t)n->tmid;
            for (int t = 0; t < n->tmid; t++) {
                int at = t + k - n->pad;
                row[t] = at >= 0 && at < n->tin ? x[(size_t)c * (size_t)n->tin + (size_t)at] : 0;
            }
        }
    }
}

static void conv_openblas(struct float_model *f, const struct quant_node *n, const float *x,
                          float *y)
{
    for (int o = 0; o < n->cout; o++)
        for (int t = 0; t < n->tmid; t++) y[(size_t)o * (size_t)n->tmid + (size_t)t] = n->bias[o];
    const float *columns = x;
    if (n->k > 1 || n->pad > 0) {
        im2col(n, x, f->col);
        columns = f->col;
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n->cout, n->tmid, n->cin * n->k, 1, n->w,
                n->cin * n->k, columns, n->tmid, 1, y, n->tmid);
}

/* ReLU and max-pool: [cout, tmid] -> [cout, tout]. */
static void relu_pool(const struct quant_node *n, const float *in, float *out)
{
    int pool = n->pool > 1 ? n->pool : 1;
    for (int o = 0; o < n->cout; o++) {
        for (int t = 0; t < n->tout; t++) {
            const float *w = in + (size_t)o * (size_t)n->tmid + (size_t)(t * pool);
            float v = w[0];
            for (int j = 1; j < pool; j++) v = w[j] > v ? w[j] : v;
            out[(size_t)o * (size_t)n->tout + (size_t)t] = n->relu && v < 0 ? 0 : v;
        }
    }
}

static void run_conv(struct float_model *f, int i, const float *x, const float *x1)
{
    const struct quant_node *n = &f->graph->node[i];
    if (f->dnnl)
        measure_dnnl_conv(f->dnnl, i, x, f->mid);
    else
        conv_openblas(f, n, x, f->mid);
    if (x1) /* the 1 × 1 shortcut */
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n->cout, n->tmid, n->cin1, 1, n->w1,
                    n->cin1, x1, n->tmid, 1, f->mid, n->tmid);
    relu_pool(n, f->mid, f->out[i]);
}

static void lstm_openblas(struct float_model *f, const struct quant_node *n, float *h_all)
{
    int h = n->cout, rows = 4 * h;
    float state[2 * 4096]; /* h, c; widths end at 4096 */
    memset(state, 0, sizeof(float) * 2 * (size_t)h);
    for (int t = 0; t < n->tin; t++)
        memcpy(f->gates + (size_t)t * (size_t)rows, n->bias, sizeof(float) * (size_t)rows);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n->tin, rows, n->cin, 1, f->turned, n->cin,
                n->w, n->cin, 1, f->gates, rows);
    for (int t = 0; t < n->tin; t++) {
        float *g = f->gates + (size_t)t * (size_t)rows;
        cblas_sgemv(CblasRowMajor, CblasNoTrans, rows, h, 1, n->w1, h, state, 1, 1, g, 1);
        measure_lstm_cell(g, state + h, state, h);
        memcpy(h_all + (size_t)t * (size_t)h, state, sizeof(float) * (size_t)h);
    }
}

static void run_lstm(struct float_model *f, int i, const float *x)
{
    const struct quant_node *n = &f->graph->node[i];
    turn(x, n->cin, n->tin, f->turned);
    if (f->dnnl)
        measure_dnnl_lstm(f->dnnl, i, f->turned, f->mid);
    else
        lstm_openblas(f, n, f->mid);
    turn(f->mid, n->tin, n->cout, f->out[i]);
}

static void run_layernorm(struct float_model *f, int i, const float *x)
{
    const struct quant_node *n = &f->graph->node[i];
    for (int t = 0; t < n->tin; t++) {
        float sum = 0, squares = 0;
        for (int c = 0; c < n->cin; c++) {
            float v = x[(size_t)c * (size_t)n->tin + (size_t)t];
            sum += v;
            squares += v * v;
        }
        float mean = sum / (float)n->cin;
        float r = 1.0f / sqrtf(squares / (float)n->cin - mean * mean + 1e-5f);
        for (int c = 0; c < n->cin; c++)
            f->mid[(size_t)c * (size_t)n->tmid + (size_t)t] =
                (x[(size_t)c * (size_t)n->tin + (size_t)t] - mean) * r * n->w[c] + n->bias[c];
    }
    relu_pool(n, f->mid, f->out[i]);
}

static void run_linear(struct float_model *f, int i, const float *x)
{
    const struct quant_node *n = &f->graph->node[i];
    int in = n->cin * n->tin;
    memcpy(f->out[i], n->bias, sizeof(float) * (size_t)n->cout);
    cblas_sgemv(CblasRowMajor, CblasNoTrans, n->cout, in, 1, n->w, in, x, 1, 1, f->out[i], 1);
    for (int o = 0; n->relu && o < n->cout; o++)
        if (f->out[i][o] < 0) f->out[i][o] = 0;
}

static void run_mean(struct float_model *f, int i, const float *x)
{
    const struct quant_node *n = &f->graph->node[i];
    for (int c = 0; c < n->cin; c++) {
        float sum = 0;
        for (int t = 0; t < n->tin; t++) sum += x[(size_t)c * (size_t)n->tin + (size_t)t];
        f->out[i][c] = sum / (float)n->tin;
    }
}

static void float_run(void *subject)
{
    struct measure_subject *s = subject;
    struct float_model *f = s->model;
    for (int i = 0; i < f->graph->n; i++) {
        const struct quant_node *n = &f->graph->node[i];
        const float *x = n->input[0] < 0 ? s->x : f->out[n->input[0]];
        const float *x1 = n->input[1] == -2 ? NULL : n->input[1] < 0 ? s->x : f->out[n->input[1]];
        switch (n->kind) {
        case QUANT_CONV:
            run_conv(f, i, x, x1);
            break;
        case QUANT_LINEAR:
            run_linear(f, i, x);
            break;
        case QUANT_LSTM:
            run_lstm(f, i, x);
            break;
        case QUANT_LAYERNORM:
            run_layernorm(f, i, x);
            break;
        case QUANT_MEAN:
            run_mean(f, i, x);
            break;
        }
    }
    memcpy(s->logits, f->out[f->graph->n - 1], sizeof(float) * (size_t)s->labels);
}

static void float_free(struct float_model *f)
{
    if (!f) return;
    measure_dnnl_destroy(f->dnnl);
    for (int i = 0; i < QUANT_MAX_NODES; i++) free(f->out[i]);
    free(f->mid);
    free(f->col);
    free(f->gates);
    free(f->turned);
    quant_graph_destroy(f->graph);
    free(f);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Every buffer, sized by the node that needs most. */
static int float_buffers(struct float_model *f)
{
    size_t mid = 1, col = 1, gates = 1, turned = 1;
    for (int i = 0; i < f->graph->n; i++) {
        const struct quant_node *n = &f->graph->node[i];
        size_t tmid = (size_t)(n->tmid > 0 ? n->tmid : n->tout), tin = (size_t)n->tin;
        mid = larger(mid, (size_t)n->cout * larger(tmid, tin));
        if (n->kind == QUANT_CONV) col = larger(col, (size_t)(n->cin * n->k) * tmid);
        if (n->kind == QUANT_LSTM) {
            gates = larger(gates, tin * 4 * (size_t)n->cout);
            turned = larger(turned, tin * (size_t)n->cin);
        }
        f->out[i] = calloc((size_t)n->cout * (size_t)n->tout, sizeof(float));
        if (!f->out[i]) return CN_ENOMEM;
    }
    f->mid = calloc(mid, sizeof(float));
    f->col = calloc(col, sizeof(float));
    f->gates = calloc(gates, sizeof(float));
    f->turned = calloc(turned, sizeof(float));
    return f->mid && f->col && f->gates && f->turned ? 0 : CN_ENOMEM;
}

static int load_graph(struct float_model *f, const char *file, struct measure_subject *s,
                      struct cn_error *err)
{
    struct nn_model *m;
    struct cn_map map = {0};
    int rc = cn_map_open(&map, file, err);
    if (rc) return rc;
    if (map.n >= 4 && memcmp(map.data, "CNCH", 4) == 0)
        rc = cn_fail(err, CN_EINVALID,
                     "%s is an artifact: engines openblas and onednn time checkpoints", file);
    else
        rc = nn_model_parse(&m, file, map.data, map.n, err);
    cn_map_close(&map);
    if (rc) return rc;
    rc = quant_graph_create(&f->graph, m, err);
    snprintf(s->net, sizeof s->net, "%s", m->net->name);
    s->leads = m->net->n_leads;
    s->samples = m->net->n_samples;
    s->labels = m->net->n_labels;
    nn_model_destroy(m);
    return rc;
}

/* OpenBLAS and oneDNN choose their kernels themselves: a cap that would not hold is refused. */
static int no_cap(const char *isa, const char *engine, struct cn_error *err)
{
    if (!isa || !*isa) return 0;
    return cn_fail(
        err, CN_EUNSUPPORTED,
        "engine %s chooses its own kernels: the instruction set %s cannot be asked of it", engine,
        isa);
}

static int float_open(struct measure_subject *s, const char *file, int with_dnnl,
                      struct cn_error *err)
{
    struct float_model *f = calloc(1, sizeof *f);
    if (!f) return cn_fail(err, CN_ENOMEM, "out of memory for %s", file);
    openblas_set_num_threads(1);
    int rc = load_graph(f, file, s, err);
    if (rc == 0 && float_buffers(f)) rc = cn_fail(err, CN_ENOMEM, "out of memory for %s", file);
    if (rc == 0 && with_dnnl) rc = measure_dnnl_create(&f->dnnl, f->graph, err);
    if (rc) {
        float_free(f);
        return rc;
    }
    snprintf(s->kind, sizeof s->kind, "%s", "float");
    snprintf(s->isa, sizeof s->isa, "%s", with_dnnl ? "onednn" : openblas_get_corename());
    s->model = f;
    return 0;
}

static int openblas_open(struct measure_subject *s, const char *file, const char *isa,
                         struct cn_error *err)
{
    int rc = no_cap(isa, "openblas", err);
    return rc ? rc : float_open(s, file, 0, err);
}

static int onednn_open(struct measure_subject *s, const char *file, const char *isa,
                       struct cn_error *err)
{
    int rc = no_cap(isa, "onednn", err);
    return rc ? rc : float_open(s, file, 1, err);
}

static void float_close(struct measure_subject *s)
{
    float_free(s->model);
    s->model = NULL;
}

const struct measure_engine_ops measure_engine_openblas = {openblas_open, float_run, float_close};
const struct measure_engine_ops measure_engine_onednn = {onednn_open, float_run, float_close};
