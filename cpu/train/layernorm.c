/* cpu/train/layernorm.c - layer normalisation over the ln_ kernels, one record an item; the weights'
 * gradients are summed per record and then over records in order. */
#include "cpu/train/context.h"
#include "cpu/train/fast.h"

struct ln_job {
    const struct nn_layernorm *a;
    struct cpu_train *ctx;
    float *sum, *dot; /* shared scratch: [M*B][C] */
};

static struct ln_record record(const struct nn_layernorm *a, int item)
{
    int64_t at = (int64_t)item * a->c * a->t, p = item / a->b * a->stride;
    return (struct ln_record){
        .c = a->c,
        .t = a->t,
        .eps = a->eps,
        .x = a->x + at,
        .w = a->w + p,
        .bias = a->bias + p,
        .y = a->y ? a->y + at : NULL,
        .mean = a->save_mean ? a->save_mean + (int64_t)item * a->t : NULL,
        .rstd = a->save_rstd ? a->save_rstd + (int64_t)item * a->t : NULL,
        .dy = a->dy ? a->dy + at : NULL,
        .dx = a->dx ? a->dx + at : NULL,
    };
}

static void forward_item(void *arg, int item, int thread)
{
    const struct ln_job *j = arg;
    struct ln_record r = record(j->a, item);
    j->ctx->k->ln_forward(&r);
}

int fast_layernorm_forward(struct nn_backend *be, const struct nn_layernorm *a)
{
    struct ln_job j = {.a = a, .ctx = cpu_train_of(be)};
    cn_pool_run(j.ctx->pool, a->m * a->b, forward_item, &j);
    return 0;
}

static void backward_item(void *arg, int item, int thread)
{
    const struct ln_job *j = arg;
    struct ln_record r = record(j->a, item);
    r.sum = j->sum + (int64_t)item * j->a->c;
    r.dot = j->dot + (int64_t)item * j->a->c;
    r.lanes = j->ctx->own[thread];
    j->ctx->k->ln_backward(&r);
}

/* Channel item % C of member item / C. */
static void reduce_item(void *arg, int item, int thread)
{
    const struct ln_job *j = arg;
    const struct nn_layernorm *a = j->a;
    int m = item / a->c, c = item % a->c;
    double sum = 0, dot = 0;
    for (int64_t r = (int64_t)m * a->b; r < (int64_t)(m + 1) * a->b; r++) {
        sum += j->sum[r * a->c + c];
        dot += j->dot[r * a->c + c];
    }
    a->dw[m * a->stride + c] = (float)dot;
    a->dbias[m * a->stride + c] = (float)sum;
}

int fast_layernorm_backward(struct nn_backend *be, const struct nn_layernorm *a)
{
    struct ln_job j = {.a = a, .ctx = cpu_train_of(be)};
    size_t n = (size_t)a->m * a->b * a->c;
    int rc = cpu_train_scratch(be, 2 * n, (size_t)a->c * 32);
    if (rc) return rc;
    j.sum = j.ctx->shared;
    j.dot = j.sum + n;
    cn_pool_run(j.ctx->pool, a->m * a->b, backward_item, &j);
    cn_pool_run(j.ctx->pool, a->m * a->c, reduce_item, &j);
    return 0;
}
