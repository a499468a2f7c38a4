/* nn/exec_plan.c - lays a net out for nn/exec.c: which layers are fused, which buffers exist, and
 * which of them share memory.
 *
 * Every buffer is alive from the time that writes it to the last that reads it, and buffers that are
 * never alive together share memory (nn/plan.c). ReLU and addition run in place where nothing else
 * needs what they overwrite, and the gradient of a sum is the gradient of its terms, not a copy.
 */
#include "nn/exec_private.h"

#include <stdlib.h>

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

static void try_fuse(const struct nn_exec *ex, struct nn_step *s)
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
        struct nn_step *s = &ex->step[ex->n_steps];
        *s = (struct nn_step){i, -1, -1, -1, 0, i, {-1, -2}, 0, -1, -1, -1, -1, -1, -1, -1};
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
    const struct nn_step *s = &ex->step[step];
    enum nn_op op = op_of(ex, step);
    int in = s->in[k];
    if (s->fused || (op != NN_RELU && op != NN_ADD) || in < 0) return 0;
    return ex->step[in].readers == 1 && !(ex->train && backward_needs_y(ex, in));
}

static void plan_output(struct nn_exec *ex, int step)
{
    struct nn_step *s = &ex->step[step];
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

void nn_exec_block_sizes(const struct nn_exec *ex, const struct nn_step *s, struct nn_conv_block *a)
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

void nn_exec_lstm_sizes(const struct nn_exec *ex, const struct nn_step *s, struct nn_lstm *a)
{
    const struct nn_layer *l = &ex->net->layer[s->layer];
    *a = (struct nn_lstm){.m = ex->m, .b = ex->batch, .c = l->cin, .h = l->cout, .t = l->tout};
    a->train = ex->train;
}

static void plan_extras(struct nn_exec *ex, int step)
{
    struct nn_step *s = &ex->step[step];
    const struct nn_layer *l = &ex->net->layer[s->layer];
    size_t stats = 0, save = 0;
    if (s->fused) {
        struct nn_conv_block a = {0};
        nn_exec_block_sizes(ex, s, &a);
        s->pre = add_kept(ex, step, out_floats(ex, s->layer) * sizeof(float));
        save = (size_t)ex->be->ops->conv_block_save_floats(ex->be, &a);
    } else if (l->op == NN_LSTM && ex->train) {
        struct nn_lstm a = {0};
        nn_exec_lstm_sizes(ex, s, &a);
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
        struct nn_step *s = &ex->step[i];
        int now = backward_time(ex, i);
        nn_plan_use(&ex->plan, s->dy, now);
        for (int k = 0; k < 2; k++) {
            if (s->in[k] < 0) continue;
            struct nn_step *in = &ex->step[s->in[k]];
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

/* Lays everything out; takes no memory on the device. */
static int plan_all(struct nn_exec *ex, struct cn_error *err)
{
    list_steps(ex);
    int rc = check_branches(ex, err);
    size_t record = (size_t)ex->net->n_leads * ex->net->n_samples;
    size_t input = (size_t)ex->m * ex->batch * record * sizeof(float);
    ex->input = nn_plan_add(&ex->plan, input, 0, 2 * ex->n_steps);
    for (int i = 0; i < ex->n_steps; i++) {
        plan_output(ex, i);
        plan_extras(ex, i);
    }
    if (ex->train) plan_gradients(ex);
    return rc ? rc : nn_plan_place(&ex->plan, &ex->bytes, err);
}

static struct nn_exec *new_exec(struct nn_backend *be, const struct nn_net *net, int m, int batch,
                                int train)
{
    struct nn_exec *ex = calloc(1, sizeof *ex);
    if (!ex) return NULL;
    ex->be = be;
    ex->net = net;
    ex->m = m;
    ex->batch = batch;
    ex->train = train;
    return ex;
}

int nn_exec_need(struct nn_backend *be, const struct nn_net *net, int m, int batch, int train,
                 size_t *bytes, struct cn_error *err)
{
    struct nn_exec *ex = new_exec(be, net, m, batch, train);
    if (!ex) return cn_fail(err, CN_ENOMEM, "out of memory");
    int rc = plan_all(ex, err);
    *bytes = ex->bytes;
    free(ex);
    return rc;
}

int nn_exec_create(struct nn_exec **out, struct nn_backend *be, const struct nn_net *net, int m,
                   int batch, int train, struct cn_error *err)
{
    *out = NULL;
    struct nn_exec *ex = new_exec(be, net, m, batch, train);
    if (!ex) return cn_fail(err, CN_ENOMEM, "out of memory");
    int rc = plan_all(ex, err);
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

void *nn_exec_buffer(const struct nn_exec *ex, int number)
{
    return number < 0 ? NULL : ex->arena + nn_plan_offset(&ex->plan, number);
}

float *nn_exec_input(struct nn_exec *ex)
{
    return nn_exec_buffer(ex, ex->input);
}

float *nn_exec_logits(struct nn_exec *ex)
{
    return nn_exec_buffer(ex, ex->step[ex->n_steps - 1].y);
}

float *nn_exec_dlogits(struct nn_exec *ex)
{
    return nn_exec_buffer(ex, ex->step[ex->n_steps - 1].dy);
}

size_t nn_exec_bytes(const struct nn_exec *ex)
{
    return ex->bytes;
}
