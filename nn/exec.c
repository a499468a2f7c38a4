/* nn/exec.c - see exec.h.
 *
 * A net's layers become steps: one op each, or one fused convolution block (Conv1d, BatchNorm, then
 * maybe ReLU, then maybe MaxPool). Step i runs forward at time i and backward at time 2S - i, S
 * being the number of steps; the loss lies between, at time S. Every buffer is alive from the time
 * that writes it to the last that reads it, and buffers that are never alive together share memory
 * (nn/plan.c). ReLU and addition run in place where nothing else needs what they overwrite, and the
 * gradient of a sum is the gradient of its terms, not a copy.
 */
#include "nn/exec.h"

#include <stdlib.h>
#include <string.h>

#include "nn/plan.h"

struct step {
    int layer;          /* the op, or the block's convolution */
    int bn, relu, pool; /* fused: layer indexes, or -1 */
    int fused;
    int out_layer; /* whose output this step writes */
    int in[2];     /* steps that it reads; -1: the net's input; -2: none */
    int readers;   /* steps that read its output */
    /* Buffer numbers in the plan; -1: none. */
    int y, dy;      /* output and its gradient */
    int pre;        /* fused: convolution before normalisation */
    int save;       /* LSTM, fused: the backend's own */
    int mean, rstd; /* BatchNorm, LayerNorm */
    int arg;        /* MaxPool */
};

struct nn_exec {
    struct nn_backend *be;
    const struct nn_net *net;
    int m, batch, train;
    int n_steps;
    struct step step[NN_MAX_LAYERS];
    struct nn_plan plan;
    int input;
    uint8_t *arena; /* device */
    size_t bytes;
};

/* From layers to steps */

static int readers_of(const struct nn_net *net, int layer)
{
    int n = 0;
    for (int i = 0; i < net->n_layers; i++)
        n += (net->layer[i].input[0] == layer) + (net->layer[i].input[1] == layer);
    return n;
}

/* The layer after `layer` when it is its only reader and of kind `op`; else -1. */
static int follower(const struct nn_net *net, int layer, enum nn_op op)
{
    if (layer < 0 || readers_of(net, layer) != 1) return -1;
    for (int i = layer + 1; i < net->n_layers; i++)
        if (net->layer[i].input[0] == layer) return net->layer[i].op == op ? i : -1;
    return -1;
}

static void try_fuse(const struct nn_exec *ex, struct step *s)
{
    const struct nn_net *net = ex->net;
    if (!ex->be->ops->conv_block_forward || net->layer[s->layer].op != NN_CONV1D) return;
    int bn = follower(net, s->layer, NN_BATCHNORM);
    if (bn < 0) return;
    s->fused = 1;
    s->bn = bn;
    s->relu = follower(net, bn, NN_RELU);
    s->pool = s->relu < 0 ? -1 : follower(net, s->relu, NN_MAXPOOL);
    s->out_layer = s->pool >= 0 ? s->pool : s->relu >= 0 ? s->relu : bn;
}

static int step_of_layer(const struct nn_exec *ex, int layer)
{
    for (int i = 0; i < ex->n_steps; i++)
        if (ex->step[i].out_layer == layer) return i;
    return -1;
}

static void list_steps(struct nn_exec *ex)
{
    char taken[NN_MAX_LAYERS] = {0};
    for (int i = 0; i < ex->net->n_layers; i++) {
        if (taken[i]) continue;
        const struct nn_layer *l = &ex->net->layer[i];
        struct step *s = &ex->step[ex->n_steps];
        *s = (struct step){i, -1, -1, -1, 0, i, {-1, -2}, 0, -1, -1, -1, -1, -1, -1, -1};
        if (l->input[0] >= 0) s->in[0] = step_of_layer(ex, l->input[0]);
        if (l->op == NN_ADD) s->in[1] = step_of_layer(ex, l->input[1]);
        try_fuse(ex, s);
        const int part[3] = {s->bn, s->relu, s->pool};
        for (int k = 0; s->fused && k < 3; k++)
            if (part[k] >= 0) taken[part[k]] = 1;
        ex->n_steps++;
    }
    for (int i = 0; i < ex->n_steps; i++)
        for (int k = 0; k < 2; k++)
            if (ex->step[i].in[k] >= 0) ex->step[ex->step[i].in[k]].readers++;
}

/* Planning buffers */

static enum nn_op op_of(const struct nn_exec *ex, int step)
{
    return ex->net->layer[ex->step[step].layer].op;
}

/* Whether backward of the step reads its own output. */
static int backward_needs_y(const struct nn_exec *ex, int step)
{
    enum nn_op op = op_of(ex, step);
    return ex->step[step].relu >= 0 || op == NN_RELU || op == NN_LSTM;
}

/* Whether backward of the step reads its input. */
static int backward_needs_x(const struct nn_exec *ex, int step)
{
    enum nn_op op = op_of(ex, step);
    return op == NN_CONV1D || op == NN_BATCHNORM || op == NN_LSTM || op == NN_LAYERNORM ||
           op == NN_LINEAR;
}

static int backward_time(const struct nn_exec *ex, int step)
{
    return 2 * ex->n_steps - step;
}

static size_t out_floats(const struct nn_exec *ex, int layer)
{
    const struct nn_layer *l = &ex->net->layer[layer];
    return (size_t)ex->m * ex->batch * l->cout * l->tout;
}

/* A buffer that is alive from the step's forward to its backward (if there is one). */
static int add_kept(struct nn_exec *ex, int step, size_t bytes)
{
    return nn_plan_add(&ex->plan, bytes, step, ex->train ? backward_time(ex, step) : step);
}

/* Whether the step may write its output over its input number k. */
static int in_place(const struct nn_exec *ex, int step, int k)
{
    const struct step *s = &ex->step[step];
    enum nn_op op = op_of(ex, step);
    int in = s->in[k];
    if (s->fused || (op != NN_RELU && op != NN_ADD) || in < 0) return 0;
    return ex->step[in].readers == 1 && !(ex->train && backward_needs_y(ex, in));
}

static void plan_output(struct nn_exec *ex, int step)
{
    struct step *s = &ex->step[step];
    if (in_place(ex, step, 0))
        s->y = ex->step[s->in[0]].y;
    else if (op_of(ex, step) == NN_ADD && in_place(ex, step, 1))
        s->y = ex->step[s->in[1]].y;
    else
        s->y = nn_plan_add(&ex->plan, out_floats(ex, s->out_layer) * sizeof(float), step, step);
    /* the net's output is read by the loss and by the caller */
    if (step == ex->n_steps - 1) nn_plan_use(&ex->plan, s->y, ex->n_steps);
    if (ex->train && backward_needs_y(ex, step))
        nn_plan_use(&ex->plan, s->y, backward_time(ex, step));
    for (int k = 0; k < 2; k++) {
        if (s->in[k] < 0) continue;
        int x = ex->step[s->in[k]].y;
        nn_plan_use(&ex->plan, x, step);
        if (ex->train && backward_needs_x(ex, step))
            nn_plan_use(&ex->plan, x, backward_time(ex, step));
    }
}

static void fill_block_sizes(const struct nn_exec *ex, const struct step *s,
                             struct nn_conv_block *a);
static void fill_lstm_sizes(const struct nn_exec *ex, const struct step *s, struct nn_lstm *a);

static void plan_extras(struct nn_exec *ex, int step)
{
    struct step *s = &ex->step[step];
    const struct nn_layer *l = &ex->net->layer[s->layer];
    size_t stats = 0, save = 0;
    if (s->fused) {
        struct nn_conv_block a = {0};
        fill_block_sizes(ex, s, &a);
        s->pre = add_kept(ex, step, out_floats(ex, s->layer) * sizeof(float));
        save = (size_t)ex->be->ops->conv_block_save_floats(ex->be, &a);
    } else if (l->op == NN_LSTM && ex->train) {
        struct nn_lstm a = {0};
        fill_lstm_sizes(ex, s, &a);
        save = (size_t)ex->be->ops->lstm_save_floats(ex->be, &a);
    }
    if (save) s->save = add_kept(ex, step, save * sizeof(float));
    if (s->fused || l->op == NN_BATCHNORM)
        stats = (size_t)ex->m * l->cout * sizeof(float);
    else if (l->op == NN_LAYERNORM)
        stats = (size_t)ex->m * ex->batch * l->tout * sizeof(float);
    if (stats) {
        s->mean = add_kept(ex, step, stats);
        s->rstd = add_kept(ex, step, stats);
    }
    if (l->op == NN_MAXPOOL) s->arg = add_kept(ex, step, out_floats(ex, s->layer));
}

/* The gradient of a sum's term is the sum's own when nobody else contributes to it and its owner
 * will not overwrite it. */
static int shares_gradient(const struct nn_exec *ex, int step, int in)
{
    enum nn_op op = op_of(ex, in);
    if (op_of(ex, step) == NN_RELU) return ex->step[in].readers == 1;
    if (op_of(ex, step) != NN_ADD || ex->step[in].readers != 1) return 0;
    return ex->step[in].fused || (op != NN_RELU && op != NN_ADD && op != NN_DROPOUT);
}

/* Walks backward: by the time a step is reached, all who read its output have been. */
static void plan_gradients(struct nn_exec *ex)
{
    int last = ex->n_steps - 1;
    ex->step[last].dy = nn_plan_add(&ex->plan, out_floats(ex, ex->step[last].out_layer) * 4,
                                    ex->n_steps, ex->n_steps);
    for (int i = last; i >= 0; i--) {
        struct step *s = &ex->step[i];
        int now = backward_time(ex, i);
        nn_plan_use(&ex->plan, s->dy, now);
        for (int k = 0; k < 2; k++) {
            if (s->in[k] < 0) continue;
            struct step *in = &ex->step[s->in[k]];
            if (in->dy < 0 && !s->fused && shares_gradient(ex, i, s->in[k]))
                in->dy = s->dy;
            else if (in->dy < 0)
                in->dy =
                    nn_plan_add(&ex->plan, out_floats(ex, in->out_layer) * sizeof(float), now, now);
            nn_plan_use(&ex->plan, in->dy, now);
        }
    }
}

/* Only convolution, ReLU and addition can add to a gradient that is already there. */
static int check_branches(const struct nn_exec *ex, struct cn_error *err)
{
    for (int i = 0; ex->train && i < ex->n_steps; i++) {
        enum nn_op op = op_of(ex, i);
        int adds = op == NN_CONV1D || op == NN_RELU || op == NN_ADD;
        int in = ex->step[i].in[0];
        if (!adds && in >= 0 && ex->step[in].readers > 1)
            return cn_fail(err, CN_EUNSUPPORTED,
                           "net %s: layer %s reads an output that others read too; only "
                           "convolutions, ReLU and additions can",
                           ex->net->name, ex->net->layer[ex->step[i].layer].name);
    }
    return 0;
}

int nn_exec_create(struct nn_exec **out, struct nn_backend *be, const struct nn_net *net, int m,
                   int batch, int train, struct cn_error *err)
{
    *out = NULL;
    struct nn_exec *ex = calloc(1, sizeof *ex);
    if (!ex) return cn_fail(err, CN_ENOMEM, "out of memory");
    ex->be = be;
    ex->net = net;
    ex->m = m;
    ex->batch = batch;
    ex->train = train;
    list_steps(ex);
    int rc = check_branches(ex, err);
    size_t input = (size_t)m * batch * net->n_leads * net->n_samples * sizeof(float);
    ex->input = nn_plan_add(&ex->plan, input, 0, 2 * ex->n_steps);
    for (int i = 0; i < ex->n_steps; i++) {
        plan_output(ex, i);
        plan_extras(ex, i);
    }
    if (train) plan_gradients(ex);
    if (!rc) rc = nn_plan_place(&ex->plan, &ex->bytes, err);
    if (!rc && be->ops->alloc(be, ex->bytes, (void **)&ex->arena)) {
        rc = be->error.code;
        if (err) *err = be->error;
    }
    if (rc) {
        free(ex);
        return rc;
    }
    *out = ex;
    return 0;
}

void nn_exec_destroy(struct nn_exec *ex)
{
    if (!ex) return;
    ex->be->ops->release(ex->be, ex->arena);
    free(ex);
}

static void *buffer(const struct nn_exec *ex, int number)
{
    return number < 0 ? NULL : ex->arena + nn_plan_offset(&ex->plan, number);
}

float *nn_exec_input(struct nn_exec *ex)
{
    return buffer(ex, ex->input);
}

float *nn_exec_logits(struct nn_exec *ex)
{
    return buffer(ex, ex->step[ex->n_steps - 1].y);
}

float *nn_exec_dlogits(struct nn_exec *ex)
{
    return buffer(ex, ex->step[ex->n_steps - 1].dy);
}

size_t nn_exec_bytes(const struct nn_exec *ex)
{
    return ex->bytes;
}

/* Running a step */

/* One step in one pass: where everything is. */
struct site {
    struct nn_exec *ex;
    const struct nn_exec_pass *p;
    const struct step *s;
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
    return in == -1 ? buffer(ex, ex->input) : in < 0 ? NULL : buffer(ex, ex->step[in].y);
}

static struct site site_of(struct nn_exec *ex, const struct nn_exec_pass *p, int step)
{
    struct step *s = &ex->step[step];
    struct site at = {.ex = ex, .p = p, .s = s, .l = &ex->net->layer[s->layer]};
    at.x = input_of(ex, s->in[0]);
    at.x2 = input_of(ex, s->in[1]);
    at.y = buffer(ex, s->y);
    at.dy = buffer(ex, s->dy);
    if (s->in[0] >= 0) at.dx = buffer(ex, ex->step[s->in[0]].dy);
    if (s->in[1] >= 0) at.dx2 = buffer(ex, ex->step[s->in[1]].dy);
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
    a->eps = 1e-5f;
    a->momentum = 0.1f;
    a->x = at->x;
    a->w = tensor_of(at->ex, p->params, layer, 0);
    a->bias = tensor_of(at->ex, p->params, layer, 1);
    a->running_mean = tensor_of(at->ex, p->params, layer, 2);
    a->running_var = tensor_of(at->ex, p->params, layer, 3);
    a->save_mean = buffer(at->ex, at->s->mean);
    a->save_rstd = buffer(at->ex, at->s->rstd);
    a->y = at->y;
    a->dy = at->dy;
    a->dx = at->dx;
    a->dw = tensor_of(at->ex, p->grads, layer, 0);
    a->dbias = tensor_of(at->ex, p->grads, layer, 1);
}

static void fill_block_sizes(const struct nn_exec *ex, const struct step *s,
                             struct nn_conv_block *a)
{
    const struct nn_layer *l = &ex->net->layer[s->layer];
    a->conv = (struct nn_conv1d){.m = ex->m, .b = ex->batch, .cin = l->cin, .cout = l->cout};
    a->conv.tin = l->tin;
    a->conv.tout = l->tout;
    a->conv.k = l->k;
    a->conv.pad = l->pad;
    a->bn = (struct nn_batchnorm){.m = ex->m, .b = ex->batch, .c = l->cout, .t = l->tout};
    a->relu = s->relu >= 0;
    a->pool_k = s->pool >= 0 ? ex->net->layer[s->pool].k : 0;
    a->t_pool = s->pool >= 0 ? ex->net->layer[s->pool].tout : 0;
}

static void fill_block(const struct site *at, struct nn_conv_block *a)
{
    fill_block_sizes(at->ex, at->s, a);
    fill_conv(at, &a->conv);
    fill_batchnorm(at, at->s->bn, &a->bn);
    a->conv.y = buffer(at->ex, at->s->pre);
    a->conv.dy = NULL;
    a->bn.x = a->bn.y = a->bn.dx = NULL;
    a->bn.dy = NULL;
    a->y = at->y;
    a->save = buffer(at->ex, at->s->save);
    a->dy = at->dy;
}

static void fill_lstm_sizes(const struct nn_exec *ex, const struct step *s, struct nn_lstm *a)
{
    const struct nn_layer *l = &ex->net->layer[s->layer];
    *a = (struct nn_lstm){.m = ex->m, .b = ex->batch, .c = l->cin, .h = l->cout, .t = l->tout};
    a->train = ex->train;
}

static void fill_lstm(const struct site *at, struct nn_lstm *a)
{
    const struct nn_exec_pass *p = at->p;
    int layer = at->s->layer;
    fill_lstm_sizes(at->ex, at->s, a);
    a->b = p->b;
    a->stride = p->stride;
    a->train = p->train;
    a->x = at->x;
    a->w_ih = tensor_of(at->ex, p->params, layer, 0);
    a->w_hh = tensor_of(at->ex, p->params, layer, 1);
    a->b_ih = tensor_of(at->ex, p->params, layer, 2);
    a->b_hh = tensor_of(at->ex, p->params, layer, 3);
    a->y = at->y;
    a->save = buffer(at->ex, at->s->save);
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
    a->save_mean = buffer(at->ex, at->s->mean);
    a->save_rstd = buffer(at->ex, at->s->rstd);
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
    a->arg = buffer(at->ex, at->s->arg);
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
