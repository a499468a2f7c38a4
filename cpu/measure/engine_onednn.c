/* engine_onednn.c - oneDNN's convolution and LSTM primitives for the nodes of a folded graph.
 *
 * oneDNN 2.6's C interface. Weights are brought into the layout that a primitive asks for once, at
 * creation; activations are reordered at every call where the layouts differ, which is what a
 * framework with plain tensors pays too.
 */
#include <dnnl.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/measure/engine_float.h"

#define MAX_ARGS 8

/* One primitive with its arguments bound; memory objects belong to struct measure_dnnl. */
struct call {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t arg[MAX_ARGS];
    int n;
};

struct unit {                  /* a node: reorder in, the primitive, reorder out */
    dnnl_memory_t x, y;        /* plain, on the caller's buffers */
    struct call in, work, out; /* in.primitive, out.primitive NULL: not needed */
};

struct measure_dnnl {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct unit unit[QUANT_MAX_NODES];
    dnnl_memory_t memory[QUANT_MAX_NODES * 12]; /* all of them, to be freed */
    int memories;
    dnnl_status_t status; /* the first failure while building; what follows it is skipped */
};

static bool ok(struct measure_dnnl *d, dnnl_status_t s)
{
    if (d->status == dnnl_success) d->status = s;
    return d->status == dnnl_success;
}

/* Memory of `md`; handle DNNL_MEMORY_ALLOCATE, _NONE, or a buffer. NULL after a failure. */
static dnnl_memory_t memory(struct measure_dnnl *d, const dnnl_memory_desc_t *md, void *handle)
{
    dnnl_memory_t m = NULL;
    if (d->status != dnnl_success || !ok(d, dnnl_memory_create(&m, md, d->engine, handle)))
        return NULL;
    d->memory[d->memories++] = m;
    return m;
}

static void bind(struct call *c, int what, dnnl_memory_t m)
{
    c->arg[c->n++] = (dnnl_exec_arg_t){what, m};
}

static dnnl_memory_desc_t desc(struct measure_dnnl *d, int n, const dnnl_dim_t *dims,
                               dnnl_format_tag_t tag)
{
    dnnl_memory_desc_t md;
    memset(&md, 0, sizeof md);
    ok(d, dnnl_memory_desc_init_by_tag(&md, n, dims, dnnl_f32, tag));
    return md;
}

/* A reorder from one memory to the other; leaves *c empty when none is needed. */
static void reorder(struct measure_dnnl *d, struct call *c, dnnl_memory_t from, dnnl_memory_t to)
{
    if (d->status != dnnl_success || from == to) return;
    const dnnl_memory_desc_t *a, *b;
    dnnl_primitive_desc_t pd = NULL;
    if (!ok(d, dnnl_memory_get_memory_desc(from, &a)) ||
        !ok(d, dnnl_memory_get_memory_desc(to, &b)) ||
        !ok(d, dnnl_reorder_primitive_desc_create(&pd, a, d->engine, b, d->engine, NULL)))
        return;
    ok(d, dnnl_primitive_create(&c->primitive, pd));
    dnnl_primitive_desc_destroy(pd);
    bind(c, DNNL_ARG_FROM, from);
    bind(c, DNNL_ARG_TO, to);
}

static void call_free(struct call *c)
{
    if (c->primitive) dnnl_primitive_destroy(c->primitive);
    c->primitive = NULL;
}

static void call_run(struct measure_dnnl *d, const struct call *c)
{
    if (c->primitive) dnnl_primitive_execute(c->primitive, d->stream, c->n, c->arg);
}

/* The memory that a primitive wants for `what`: `plain` itself, or one of the wished layout. */
static dnnl_memory_t wished(struct measure_dnnl *d, dnnl_primitive_desc_t pd, dnnl_query_t what,
                            int index, dnnl_memory_t plain)
{
    const dnnl_memory_desc_t *want = dnnl_primitive_desc_query_md(pd, what, index), *have;
    if (d->status != dnnl_success || !ok(d, dnnl_memory_get_memory_desc(plain, &have))) return NULL;
    return dnnl_memory_desc_equal(want, have) ? plain : memory(d, want, DNNL_MEMORY_ALLOCATE);
}

/* Weights in the wished layout, converted now. */
static dnnl_memory_t weights(struct measure_dnnl *d, dnnl_primitive_desc_t pd, int index,
                             const dnnl_memory_desc_t *plain, const float *w)
{
    void *handle;
    memcpy(&handle, &w, sizeof handle); /* the C interface takes no const */
    dnnl_memory_t from = memory(d, plain, handle);
    if (!from) return NULL;
    dnnl_memory_t to = wished(d, pd, dnnl_query_weights_md, index, from);
    struct call c = {0};
    if (to) reorder(d, &c, from, to);
    if (d->status == dnnl_success) {
        call_run(d, &c);
        dnnl_stream_wait(d->stream);
    }
    call_free(&c);
    return to;
}

/* Makes the primitive of a descriptor; *pd is kept for queries and freed by the caller. */
static bool describe(struct measure_dnnl *d, const_dnnl_op_desc_t op, dnnl_primitive_desc_t *pd)
{
    *pd = NULL;
    return d->status == dnnl_success &&
           ok(d, dnnl_primitive_desc_create(pd, op, NULL, d->engine, NULL));
}

static void build_conv(struct measure_dnnl *d, struct unit *u, const struct quant_node *n)
{
    dnnl_dims_t xd = {1, n->cin, n->tin}, wd = {n->cout, n->cin, n->k}, bd = {n->cout};
    dnnl_dims_t yd = {1, n->cout, n->tmid}, stride = {1}, pad = {n->pad};
    dnnl_memory_desc_t x = desc(d, 3, xd, dnnl_ncw), y = desc(d, 3, yd, dnnl_ncw);
    dnnl_memory_desc_t w = desc(d, 3, wd, dnnl_oiw), b = desc(d, 1, bd, dnnl_x);
    dnnl_memory_desc_t xa = desc(d, 3, xd, dnnl_format_tag_any);
    dnnl_memory_desc_t wa = desc(d, 3, wd, dnnl_format_tag_any);
    dnnl_memory_desc_t ya = desc(d, 3, yd, dnnl_format_tag_any);
    dnnl_convolution_desc_t op;
    dnnl_primitive_desc_t pd;
    ok(d, dnnl_convolution_forward_desc_init(&op, dnnl_forward_inference, dnnl_convolution_auto,
                                             &xa, &wa, &b, &ya, stride, pad, pad));
    if (!describe(d, &op, &pd)) return;
    u->x = memory(d, &x, DNNL_MEMORY_NONE);
    u->y = memory(d, &y, DNNL_MEMORY_NONE);
    void *bias;
    memcpy(&bias, &n->bias, sizeof bias);
    dnnl_memory_t src = wished(d, pd, dnnl_query_src_md, 0, u->x);
    dnnl_memory_t dst = wished(d, pd, dnnl_query_dst_md, 0, u->y);
    bind(&u->work, DNNL_ARG_SRC, src);
    bind(&u->work, DNNL_ARG_WEIGHTS, weights(d, pd, 0, &w, n->w));
    bind(&u->work, DNNL_ARG_BIAS, memory(d, &b, bias));
    bind(&u->work, DNNL_ARG_DST, dst);
    if (d->status == dnnl_success) ok(d, dnnl_primitive_create(&u->work.primitive, pd));
    reorder(d, &u->in, u->x, src);
    reorder(d, &u->out, dst, u->y);
    dnnl_primitive_desc_destroy(pd);
}

/* oneDNN keeps gates in PyTorch's order i f g o; weights are ldigo there and [4H, in] here: ldgoi. */
static void build_lstm(struct measure_dnnl *d, struct unit *u, const struct quant_node *n)
{
    dnnl_dims_t xd = {n->tin, 1, n->cin}, yd = {n->tin, 1, n->cout};
    dnnl_dims_t wxd = {1, 1, n->cin, 4, n->cout}, whd = {1, 1, n->cout, 4, n->cout};
    dnnl_dims_t bd = {1, 1, 4, n->cout};
    dnnl_memory_desc_t x = desc(d, 3, xd, dnnl_tnc), y = desc(d, 3, yd, dnnl_tnc);
    dnnl_memory_desc_t wx = desc(d, 5, wxd, dnnl_ldgoi), wh = desc(d, 5, whd, dnnl_ldgoi);
    dnnl_memory_desc_t wxa = desc(d, 5, wxd, dnnl_format_tag_any);
    dnnl_memory_desc_t wha = desc(d, 5, whd, dnnl_format_tag_any);
    dnnl_memory_desc_t b = desc(d, 4, bd, dnnl_ldgo), none;
    memset(&none, 0, sizeof none);
    dnnl_rnn_desc_t op;
    dnnl_primitive_desc_t pd;
    ok(d, dnnl_lstm_forward_desc_init(&op, dnnl_forward_inference, dnnl_unidirectional_left2right,
                                      &x, &none, &none, &wxa, &wha, &b, &y, &none, &none,
                                      dnnl_rnn_flags_undef));
    if (!describe(d, &op, &pd)) return;
    u->x = memory(d, &x, DNNL_MEMORY_NONE);
    u->y = memory(d, &y, DNNL_MEMORY_NONE);
    void *bias;
    memcpy(&bias, &n->bias, sizeof bias);
    bind(&u->work, DNNL_ARG_SRC_LAYER, u->x);
    bind(&u->work, DNNL_ARG_WEIGHTS_LAYER, weights(d, pd, 0, &wx, n->w));
    bind(&u->work, DNNL_ARG_WEIGHTS_ITER, weights(d, pd, 1, &wh, n->w1));
    bind(&u->work, DNNL_ARG_BIAS, memory(d, &b, bias));
    bind(&u->work, DNNL_ARG_DST_LAYER, u->y);
    if (d->status == dnnl_success) ok(d, dnnl_primitive_create(&u->work.primitive, pd));
    dnnl_primitive_desc_destroy(pd);
}

int measure_dnnl_create(struct measure_dnnl **out, const struct quant_graph *g,
                        struct cn_error *err)
{
    *out = NULL;
    struct measure_dnnl *d = calloc(1, sizeof *d);
    if (!d) return cn_fail(err, CN_ENOMEM, "out of memory for oneDNN");
    if (ok(d, dnnl_engine_create(&d->engine, dnnl_cpu, 0)))
        ok(d, dnnl_stream_create(&d->stream, d->engine, dnnl_stream_default_flags));
    for (int i = 0; i < g->n && d->status == dnnl_success; i++) {
        if (g->node[i].kind == QUANT_CONV) build_conv(d, &d->unit[i], &g->node[i]);
        if (g->node[i].kind == QUANT_LSTM) build_lstm(d, &d->unit[i], &g->node[i]);
        if (d->status != dnnl_success)
            cn_fail(err, CN_EUNSUPPORTED, "oneDNN refuses layer %s (status %d)", g->node[i].name,
                    (int)d->status);
    }
    if (d->status != dnnl_success) {
        int status = (int)d->status;
        measure_dnnl_destroy(d);
        return err && err->code
                   ? err->code
                   : cn_fail(err, CN_EUNSUPPORTED, "oneDNN failed (status %d)", status);
    }
    *out = d;
    return 0;
}

void measure_dnnl_destroy(struct measure_dnnl *d)
{
    if (!d) return;
    for (int i = 0; i < QUANT_MAX_NODES; i++) {
        call_free(&d->unit[i].in);
        call_free(&d->unit[i].work);
        call_free(&d->unit[i].out);
    }
    for (int i = 0; i < d->memories; i++) dnnl_memory_destroy(d->memory[i]);
    if (d->stream) dnnl_stream_destroy(d->stream);
    if (d->engine) dnnl_engine_destroy(d->engine);
    free(d);
}

static void run_unit(struct measure_dnnl *d, int node, const float *x, float *y)
{
    struct unit *u = &d->unit[node];
    void *input;
    memcpy(&input, &x, sizeof input);
    dnnl_memory_set_data_handle(u->x, input);
    dnnl_memory_set_data_handle(u->y, y);
    call_run(d, &u->in);
    call_run(d, &u->work);
    call_run(d, &u->out);
    dnnl_stream_wait(d->stream);
}

void measure_dnnl_conv(struct measure_dnnl *d, int node, const float *x, float *y)
{
    run_unit(d, node, x, y);
}

void measure_dnnl_lstm(struct measure_dnnl *d, int node, const float *x, float *y)
{
    run_unit(d, node, x, y);
}
