/* cpu/train/ref_eltwise.c - ReLU, addition, max-pool, mean over time and dropout, as plain loops.
 * ReLU, addition and dropout may run in place. */
#include "base/rng.h"
#include "cpu/train/context.h"
#include "cpu/train/ref.h"

#include <string.h>

#define ELTWISE_CHUNK 16384 /* elements per item */

static int eltwise_items(const struct nn_eltwise *a)
{
    return (int)((a->n + ELTWISE_CHUNK - 1) / ELTWISE_CHUNK);
}

static int64_t eltwise_end(const struct nn_eltwise *a, int item)
{
    int64_t end = (int64_t)(item + 1) * ELTWISE_CHUNK;
    return end < a->n ? end : a->n;
}

static void relu_forward_chunk(void *arg, int item, int thread)
{
    const struct nn_eltwise *a = arg;
    int64_t end = eltwise_end(a, item);
    /* written so that NaN passes through: a diverged net must not look healthy */
    for (int64_t i = (int64_t)item * ELTWISE_CHUNK; i < end; i++)
        a->y[i] = a->x[i] < 0 ? 0 : a->x[i];
}

int ref_relu_forward(struct nn_backend *be, const struct nn_eltwise *a)
{
    cn_pool_run(cpu_train_pool(be), eltwise_items(a), relu_forward_chunk, (void *)a);
    return 0;
}

static void relu_backward_chunk(void *arg, int item, int thread)
{
    const struct nn_eltwise *a = arg;
    int64_t end = eltwise_end(a, item);
    for (int64_t i = (int64_t)item * ELTWISE_CHUNK; i < end; i++) {
        float g = a->y[i] > 0 ? a->dy[i] : 0;
        a->dx[i] = a->dx_add ? a->dx[i] + g : g;
    }
}

int ref_relu_backward(struct nn_backend *be, const struct nn_eltwise *a)
{
    cn_pool_run(cpu_train_pool(be), eltwise_items(a), relu_backward_chunk, (void *)a);
    return 0;
}

static void add_forward_chunk(void *arg, int item, int thread)
{
    const struct nn_eltwise *a = arg;
    int64_t end = eltwise_end(a, item);
    for (int64_t i = (int64_t)item * ELTWISE_CHUNK; i < end; i++) a->y[i] = a->x[i] + a->x2[i];
}

int ref_add_forward(struct nn_backend *be, const struct nn_eltwise *a)
{
    cn_pool_run(cpu_train_pool(be), eltwise_items(a), add_forward_chunk, (void *)a);
    return 0;
}

static void add_backward_chunk(void *arg, int item, int thread)
{
    const struct nn_eltwise *a = arg;
    int64_t end = eltwise_end(a, item);
    for (int64_t i = (int64_t)item * ELTWISE_CHUNK; i < end; i++)
        a->dx[i] = a->dx_add ? a->dx[i] + a->dy[i] : a->dy[i];
}

int ref_add_backward(struct nn_backend *be, const struct nn_eltwise *a)
{
    cn_pool_run(cpu_train_pool(be), eltwise_items(a), add_backward_chunk, (void *)a);
    return 0;
}

static void maxpool_forward_row(void *arg, int item, int thread)
{
    const struct nn_pool *a = arg;
    const float *x = a->x + (size_t)item * a->tin;
    for (int o = 0; o < a->tout; o++, x += a->k) {
        int best = 0;
        /* strictly greater: the first of equals wins; a NaN wins, as in PyTorch */
        for (int j = 1; j < a->k; j++)
            if (x[j] > x[best] || x[j] != x[j]) best = j;
        a->y[(size_t)item * a->tout + o] = x[best];
        if (a->arg) a->arg[(size_t)item * a->tout + o] = (uint8_t)best;
    }
}

int ref_maxpool_forward(struct nn_backend *be, const struct nn_pool *a)
{
    cn_pool_run(cpu_train_pool(be), a->rows, maxpool_forward_row, (void *)a);
    return 0;
}

static void maxpool_backward_row(void *arg, int item, int thread)
{
    const struct nn_pool *a = arg;
    float *dx = a->dx + (size_t)item * a->tin;
    memset(dx, 0, (size_t)a->tin * sizeof *dx);
    for (int o = 0; o < a->tout; o++) {
        size_t at = (size_t)item * a->tout + o;
        dx[o * a->k + a->arg[at]] = a->dy[at];
    }
}

int ref_maxpool_backward(struct nn_backend *be, const struct nn_pool *a)
{
    cn_pool_run(cpu_train_pool(be), a->rows, maxpool_backward_row, (void *)a);
    return 0;
}

static void mean_forward_row(void *arg, int item, int thread)
{
    const struct nn_mean *a = arg;
    double sum = 0;
    for (int t = 0; t < a->t; t++) sum += a->x[(size_t)item * a->t + t];
    a->y[item] = (float)(sum / a->t);
}

int ref_mean_forward(struct nn_backend *be, const struct nn_mean *a)
{
    cn_pool_run(cpu_train_pool(be), a->rows, mean_forward_row, (void *)a);
    return 0;
}

static void mean_backward_row(void *arg, int item, int thread)
{
    const struct nn_mean *a = arg;
    float g = a->dy[item] / (float)a->t;
    for (int t = 0; t < a->t; t++) a->dx[(size_t)item * a->t + t] = g;
}

int ref_mean_backward(struct nn_backend *be, const struct nn_mean *a)
{
    cn_pool_run(cpu_train_pool(be), a->rows, mean_backward_row, (void *)a);
    return 0;
}

/* The mask is drawn again in backward instead of being stored. */
static void dropout_row(const struct nn_dropout *a, int item, const float *in, float *out)
{
    const struct nn_scalars *s = &a->s[item / a->b];
    uint64_t row = (uint64_t)s->row0 + (uint64_t)(item % a->b);
    uint64_t first = ((uint64_t)a->layer << 40) + row * (uint64_t)a->width;
    float scale = 1 / (1 - a->p);
    for (int e = 0; e < a->width; e++) {
        cn_rng4 r = cn_rng(s->seed, CN_RNG_DROPOUT, s->epoch, first + (uint64_t)e);
        out[e] = cn_rng_uniform(r.v[0]) >= a->p ? in[e] * scale : 0;
    }
}

static void dropout_forward_row(void *arg, int item, int thread)
{
    const struct nn_dropout *a = arg;
    size_t at = (size_t)item * a->width;
    dropout_row(a, item, a->x + at, a->y + at);
}

int ref_dropout_forward(struct nn_backend *be, const struct nn_dropout *a)
{
    cn_pool_run(cpu_train_pool(be), a->m * a->b, dropout_forward_row, (void *)a);
    return 0;
}

static void dropout_backward_row(void *arg, int item, int thread)
{
    const struct nn_dropout *a = arg;
    size_t at = (size_t)item * a->width;
    dropout_row(a, item, a->dy + at, a->dx + at);
}

int ref_dropout_backward(struct nn_backend *be, const struct nn_dropout *a)
{
    cn_pool_run(cpu_train_pool(be), a->m * a->b, dropout_backward_row, (void *)a);
    return 0;
}
