/* nn/exec.c - see exec.h: fills each op's arguments from the layout of nn/exec_plan.c and calls the
 * backend, step by step forward and then back. */
#include "nn/exec_private.h"

/* Running a step */

/* One step in one pass: where everything is. */
struct site {
    struct nn_exec *ex;
    const struct nn_exec_pass *p;
    const struct nn_step *s;
    const struct nn_layer *l;
    float *x, *x2, *y;
    float *dy, *dx, *dx2; /* dx NULL: not needed */
    int dx_add, dx2_add;
};

/* Tensor k of layer `layer` in `base` (parameters or gradients). */
static float *tensor_of(const struct nn_exec *ex, float *base, int layer, int k)
{
    const struct nn_layer *l = &ex->net->layer[layer];
    return base && k < l->n_tensors ? base + ex->net->tensor[l->tensor + k].offset : NULL;
}

static float *input_of(const struct nn_exec *ex, int in)
{
    return in == -1 ? nn_exec_buffer(ex, ex->input)
           : in < 0 ? NULL
                    : nn_exec_buffer(ex, ex->step[in].y);
}

static struct site site_of(struct nn_exec *ex, const struct nn_exec_pass *p, int step)
{
    struct nn_step *s = &ex->step[step];
    struct site at = {.ex = ex, .p = p, .s = s, .l = &ex->net->layer[s->layer]};
    at.x = input_of(ex, s->in[0]);
    at.x2 = input_of(ex, s->in[1]);
    at.y = nn_exec_buffer(ex, s->y);
    at.dy = nn_exec_buffer(ex, s->dy);
    if (s->in[0] >= 0) at.dx = nn_exec_buffer(ex, ex->step[s->in[0]].dy);
    if (s->in[1] >= 0) at.dx2 = nn_exec_buffer(ex, ex->step[s->in[1]].dy);
    return at;
}

static void fill_conv(const struct site *at, struct nn_conv1d *a)
{
    const struct nn_layer *l = at->l;
    const struct nn_exec_pass *p = at->p;
    int layer = at->s->layer;
    *a = (struct nn_conv1d){.m = at->ex->m, .b = p->b, .cin = l->cin, .cout = l->cout};
    a->tin = l->tin;
    a->tout = l->tout;
    a->k = l->k;
    a->pad = l->pad;
    a->stride = p->stride;
    a->x = at->x;
    a->w = tensor_of(at->ex, p->params, layer, 0);
    a->bias = l->bias ? tensor_of(at->ex, p->params, layer, 1) : NULL;
    a->y = at->y;
    a->dy = at->dy;
    a->dx = at->dx;
    a->dx_add = at->dx_add;
    a->dw = tensor_of(at->ex, p->grads, layer, 0);
    a->dbias = l->bias ? tensor_of(at->ex, p->grads, layer, 1) : NULL;
}

static void fill_batchnorm(const struct site *at, int layer, struct nn_batchnorm *a)
{
    const struct nn_layer *l = &at->ex->net->layer[layer];
    const struct nn_exec_pass *p = at->p;
    *a = (struct nn_batchnorm){.m = at->ex->m, .b = p->b, .c = l->cout, .t = l->tout};
    a->stride = p->stride;
    a->train = p->train;
    a->alone = p->alone;
    a->eps = 1e-5f;
    a->momentum = 0.1f;
    a->x = at->x;
    a->w = tensor_of(at->ex, p->params, layer, 0);
    a->bias = tensor_of(at->ex, p->params, layer, 1);
    a->running_mean = tensor_of(at->ex, p->params, layer, 2);
    a->running_var = tensor_of(at->ex, p->params, layer, 3);
    a->save_mean = nn_exec_buffer(at->ex, at->s->mean);
    a->save_rstd = nn_exec_buffer(at->ex, at->s->rstd);
    a->y = at->y;
    a->dy = at->dy;
    a->dx = at->dx;
    a->dw = tensor_of(at->ex, p->grads, layer, 0);
    a->dbias = tensor_of(at->ex, p->grads, layer, 1);
}

static void fill_block(const struct site *at, struct nn_conv_block *a)
{
    nn_exec_block_sizes(at->ex, at->s, a);
    fill_conv(at, &a->conv);
    fill_batchnorm(at, at->s->bn, &a->bn);
    a->conv.y = nn_exec_buffer(at->ex, at->s->pre);
    a->conv.dy = NULL;
    a->bn.x = a->bn.y = a->bn.dx = NULL;
    a->bn.dy = NULL;
    a->y = at->y;
    a->save = nn_exec_buffer(at->ex, at->s->save);
    a->dy = at->dy;
}

static void fill_lstm(const struct site *at, struct nn_lstm *a)
{
    const struct nn_exec_pass *p = at->p;
    int layer = at->s->layer;
    nn_exec_lstm_sizes(at->ex, at->s, a);
    a->b = p->b;
    a->stride = p->stride;
    a->train = p->train;
    a->x = at->x;
    a->w_ih = tensor_of(at->ex, p->params, layer, 0);
    a->w_hh = tensor_of(at->ex, p->params, layer, 1);
    a->b_ih = tensor_of(at->ex, p->params, layer, 2);
    a->b_hh = tensor_of(at->ex, p->params, layer, 3);
    a->y = at->y;
    a->save = nn_exec_buffer(at->ex, at->s->save);
    a->dy = at->dy;
    a->dx = at->dx;
    a->dw_ih = tensor_of(at->ex, p->grads, layer, 0);
    a->dw_hh = tensor_of(at->ex, p->grads, layer, 1);
    a->db_ih = tensor_of(at->ex, p->grads, layer, 2);
    a->db_hh = tensor_of(at->ex, p->grads, layer, 3);
}

static void fill_layernorm(const struct site *at, struct nn_layernorm *a)
{
    const struct nn_exec_pass *p = at->p;
    int layer = at->s->layer;
    *a = (struct nn_layernorm){.m = at->ex->m, .b = p->b, .c = at->l->cout, .t = at->l->tout};
    a->stride = p->stride;
    a->eps = 1e-5f;
    a->x = at->x;
    a->w = tensor_of(at->ex, p->params, layer, 0);
    a->bias = tensor_of(at->ex, p->params, layer, 1);
    a->save_mean = nn_exec_buffer(at->ex, at->s->mean);
    a->save_rstd = nn_exec_buffer(at->ex, at->s->rstd);
    a->y = at->y;
    a->dy = at->dy;
    a->dx = at->dx;
    a->dw = tensor_of(at->ex, p->grads, layer, 0);
    a->dbias = tensor_of(at->ex, p->grads, layer, 1);
}

static void fill_linear(const struct site *at, struct nn_linear *a)
{
    const struct nn_exec_pass *p = at->p;
    int layer = at->s->layer;
    *a = (struct nn_linear){.m = at->ex->m, .b = p->b, .stride = p->stride};
    a->in = at->l->cin * at->l->tin;
    a->out = at->l->cout;
    a->x = at->x;
    a->w = tensor_of(at->ex, p->params, layer, 0);
    a->bias = tensor_of(at->ex, p->params, layer, 1);
    a->y = at->y;
    a->dy = at->dy;
    a->dx = at->dx;
    a->dw = tensor_of(at->ex, p->grads, layer, 0);
    a->dbias = tensor_of(at->ex, p->grads, layer, 1);
}

static void fill_pool(const struct site *at, struct nn_pool *a)
{
    *a = (struct nn_pool){.rows = at->ex->m * at->p->b * at->l->cout, .tin = at->l->tin};
    a->tout = at->l->tout;
    a->k = at->l->k;
    a->x = at->x;
    a->y = at->y;
    a->arg = nn_exec_buffer(at->ex, at->s->arg);
    a->dy = at->dy;
    a->dx = at->dx;
}

static int64_t elements(const struct site *at)
{
    return (int64_t)at->ex->m * at->p->b * at->l->cout * at->l->tout;
}

static void fill_dropout(const struct site *at, struct nn_dropout *a)
{
    *a = (struct nn_dropout){.m = at->ex->m, .b = at->p->b, .width = at->l->cout * at->l->tout};
    a->layer = at->s->layer;
    a->p = at->l->p;
    a->s = at->p->s;
    a->x = at->x;
    a->y = at->y;
    a->dy = at->dy;
    a->dx = at->dx;
}

static void fill_mean(const struct site *at, struct nn_mean *a)
{
    *a = (struct nn_mean){.rows = at->ex->m * at->p->b * at->l->cout, .t = at->l->tin};
    a->x = at->x;
    a->y = at->y;
    a->dy = at->dy;
    a->dx = at->dx;
}

union args {
    struct nn_conv_block block;
    struct nn_conv1d conv;
    struct nn_batchnorm batchnorm;
    struct nn_eltwise eltwise;
    struct nn_pool pool;
    struct nn_lstm lstm;
    struct nn_layernorm layernorm;
    struct nn_linear linear;
    struct nn_dropout dropout;
    struct nn_mean mean;
};

static int forward_step(const struct site *at)
{
    struct nn_backend *be = at->ex->be;
    const struct nn_backend_ops *ops = be->ops;
    union args a = {0};
    if (at->s->fused) return fill_block(at, &a.block), ops->conv_block_forward(be, &a.block);
    switch (at->l->op) {
    case NN_CONV1D:
        return fill_conv(at, &a.conv), ops->conv1d_forward(be, &a.conv);
    case NN_BATCHNORM:
        return fill_batchnorm(at, at->s->layer, &a.batchnorm),
               ops->batchnorm_forward(be, &a.batchnorm);
    case NN_RELU:
    case NN_ADD:
        a.eltwise = (struct nn_eltwise){.n = elements(at), .x = at->x, .x2 = at->x2, .y = at->y};
        return at->l->op == NN_RELU ? ops->relu_forward(be, &a.eltwise)
                                    : ops->add_forward(be, &a.eltwise);
    case NN_MAXPOOL:
        return fill_pool(at, &a.pool), ops->maxpool_forward(be, &a.pool);
    case NN_LSTM:
        return fill_lstm(at, &a.lstm), ops->lstm_forward(be, &a.lstm);
    case NN_LAYERNORM:
        return fill_layernorm(at, &a.layernorm), ops->layernorm_forward(be, &a.layernorm);
    case NN_LINEAR:
        return fill_linear(at, &a.linear), ops->linear_forward(be, &a.linear);
    case NN_DROPOUT:
        if (!at->p->train) return ops->copy(be, at->y, at->x, (size_t)elements(at) * sizeof(float));
        return fill_dropout(at, &a.dropout), ops->dropout_forward(be, &a.dropout);
    case NN_MEAN:
        return fill_mean(at, &a.mean), ops->mean_forward(be, &a.mean);
    }
    return cn_fail(&be->error, CN_EINTERNAL, "layer of unknown kind");
}

int nn_exec_forward(struct nn_exec *ex, const struct nn_exec_pass *p)
{
    int rc = 0;
    for (int i = 0; i < ex->n_steps && !rc; i++) {
        struct site at = site_of(ex, p, i);
        rc = forward_step(&at);
    }
    return rc;
}

/* The gradients of a sum's terms: nothing to do for a term that shares the sum's own. */
static int backward_add(const struct site *at)
{
    struct nn_backend *be = at->ex->be;
    struct nn_eltwise a = {.n = elements(at), .dy = at->dy, .dx = at->dx, .dx_add = at->dx_add};
    int rc = 0;
    if (a.dx && a.dx != a.dy) rc = be->ops->add_backward(be, &a);
    a.dx = at->dx2;
    a.dx_add = at->dx2_add;
    if (!rc && a.dx && a.dx != a.dy) rc = be->ops->add_backward(be, &a);
    return rc;
}

static int backward_step(const struct site *at)
{
    struct nn_backend *be = at->ex->be;
    const struct nn_backend_ops *ops = be->ops;
    union args a = {0};
    if (at->s->fused) return fill_block(at, &a.block), ops->conv_block_backward(be, &a.block);
    switch (at->l->op) {
    case NN_CONV1D:
        return fill_conv(at, &a.conv), ops->conv1d_backward(be, &a.conv);
    case NN_BATCHNORM:
        return fill_batchnorm(at, at->s->layer, &a.batchnorm),
               ops->batchnorm_backward(be, &a.batchnorm);
    case NN_RELU:
        a.eltwise = (struct nn_eltwise){.n = elements(at), .y = at->y, .dy = at->dy};
        a.eltwise.dx = at->dx;
        a.eltwise.dx_add = at->dx_add;
        return ops->relu_backward(be, &a.eltwise);
    case NN_ADD:
        return backward_add(at);
    case NN_MAXPOOL:
        return fill_pool(at, &a.pool), ops->maxpool_backward(be, &a.pool);
    case NN_LSTM:
        return fill_lstm(at, &a.lstm), ops->lstm_backward(be, &a.lstm);
    case NN_LAYERNORM:
        return fill_layernorm(at, &a.layernorm), ops->layernorm_backward(be, &a.layernorm);
    case NN_LINEAR:
        return fill_linear(at, &a.linear), ops->linear_backward(be, &a.linear);
    case NN_DROPOUT:
        return fill_dropout(at, &a.dropout), ops->dropout_backward(be, &a.dropout);
    case NN_MEAN:
        return fill_mean(at, &a.mean), ops->mean_backward(be, &a.mean);
    }
    return cn_fail(&be->error, CN_EINTERNAL, "layer of unknown kind");
}

/* Tells a backend that reduces over devices which gradients are complete. */
static int announce(struct nn_exec *ex, const struct nn_exec_pass *p, int layer)
{
    if (!ex->be->ops->grad_ready || layer < 0) return 0;
    const struct nn_layer *l = &ex->net->layer[layer];
    int rc = 0;
    for (int k = 0; k < l->n_tensors && !rc; k++) {
        const struct nn_tensor *t = &ex->net->tensor[l->tensor + k];
        if (!t->trainable) continue;
        for (int m = 0; m < ex->m && !rc; m++)
            rc = ex->be->ops->grad_ready(ex->be, p->grads + m * p->stride, (int64_t)t->offset,
                                         (int64_t)t->count);
    }
    return rc;
}

int nn_exec_backward(struct nn_exec *ex, const struct nn_exec_pass *p)
{
    char written[NN_MAX_LAYERS] = {0}; /* gradients that hold something already */
    int rc = 0;
    for (int i = ex->n_steps - 1; i >= 0 && !rc; i--) {
        struct site at = site_of(ex, p, i);
        const int *in = at.s->in;
        if (in[0] >= 0) at.dx_add = written[in[0]]++;
        if (in[1] >= 0) at.dx2_add = written[in[1]]++;
        rc = backward_step(&at);
        if (!rc) rc = announce(ex, p, at.s->layer);
        if (!rc) rc = announce(ex, p, at.s->bn);
    }
    return rc;
}
