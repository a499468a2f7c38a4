/* cpu/train/fast_ops.c - the small ops over the vector kernels: ReLU, addition, pooling, mean,
 * linear, optimiser steps. Work is cut by the shapes alone, so results are the same bits for any
 * number of threads. */
#include "base/rng.h"
#include "cpu/train/context.h"
#include "cpu/train/fast.h"
#include "cpu/train/ref.h"

#include <math.h>
#include <string.h>

#define CHUNK 16384  /* elements per item */
#define POOL_ROWS 16 /* of a narrow pool per item */
#define WIDE_POOL 16 /* windows from here on are searched in vectors */

struct job {
    const void *a;
    const struct cpu_kernels *k;
    int chunks; /* per member */
    float scale[NN_MAX_GANG];
};

static int run(struct nn_backend *be, const void *a, int items, cn_pool_f fn)
{
    struct job j = {.a = a, .k = cpu_train_of(be)->k};
    cn_pool_run(cpu_train_pool(be), items, fn, &j);
    return 0;
}

static int chunks_of(int64_t n)
{
    return (int)((n + CHUNK - 1) / CHUNK);
}

static int64_t span(int64_t n, int item)
{
    int64_t left = n - (int64_t)item * CHUNK;
    return left < CHUNK ? left : CHUNK;
}

static void relu_forward_chunk(void *arg, int item, int thread)
{
    const struct job *j = arg;
    const struct nn_eltwise *a = j->a;
    int64_t at = (int64_t)item * CHUNK;
    j->k->relu(a->x + at, a->y + at, span(a->n, item));
}

int fast_relu_forward(struct nn_backend *be, const struct nn_eltwise *a)
{
    return run(be, a, chunks_of(a->n), relu_forward_chunk);
}

static void relu_backward_chunk(void *arg, int item, int thread)
{
    const struct job *j = arg;
    const struct nn_eltwise *a = j->a;
    int64_t at = (int64_t)item * CHUNK;
    j->k->relu_grad(a->y + at, a->dy + at, a->dx + at, a->dx_add, span(a->n, item));
}

int fast_relu_backward(struct nn_backend *be, const struct nn_eltwise *a)
{
    return run(be, a, chunks_of(a->n), relu_backward_chunk);
}

static void add_forward_chunk(void *arg, int item, int thread)
{
    const struct job *j = arg;
    const struct nn_eltwise *a = j->a;
    int64_t at = (int64_t)item * CHUNK;
    j->k->add(a->x + at, a->x2 + at, a->y + at, span(a->n, item));
}

int fast_add_forward(struct nn_backend *be, const struct nn_eltwise *a)
{
    return run(be, a, chunks_of(a->n), add_forward_chunk);
}

static void add_backward_chunk(void *arg, int item, int thread)
{
    const struct job *j = arg;
    const struct nn_eltwise *a = j->a;
    int64_t at = (int64_t)item * CHUNK, n = span(a->n, item);
    if (a->dx_add)
        j->k->add(a->dx + at, a->dy + at, a->dx + at, n);
    else if (a->dx != a->dy)
        memcpy(a->dx + at, a->dy + at, sizeof(float) * (size_t)n);
}

int fast_add_backward(struct nn_backend *be, const struct nn_eltwise *a)
{
    return run(be, a, chunks_of(a->n), add_backward_chunk);
}

static void maxpool_forward_row(void *arg, int item, int thread)
{
    const struct job *j = arg;
    const struct nn_pool *a = j->a;
    const float *x = a->x + (int64_t)item * a->tin;
    for (int o = 0; o < a->tout; o++, x += a->k) {
        int best = j->k->max_at(x, a->k);
        a->y[(int64_t)item * a->tout + o] = x[best];
        if (a->arg) a->arg[(int64_t)item * a->tout + o] = (uint8_t)best;
    }
}

static void narrow_pool_rows(void *arg, int item, int thread)
{
    const struct job *j = arg;
    const struct nn_pool *a = j->a;
    int first = item * POOL_ROWS, left = a->rows - first;
    int64_t out = (int64_t)first * a->tout;
    struct pool_rows r = {.rows = left < POOL_ROWS ? left : POOL_ROWS, .t = a->tin, .nan = 1};
    r.t_pool = a->tout;
    r.pool = a->k;
    r.c = a->x + (int64_t)first * a->tin;
    r.c_max = a->y + out;
    r.arg = a->arg ? a->arg + out : NULL;
    j->k->pool(&r);
}

int fast_maxpool_forward(struct nn_backend *be, const struct nn_pool *a)
{
    if (a->k < WIDE_POOL)
        return run(be, a, (a->rows + POOL_ROWS - 1) / POOL_ROWS, narrow_pool_rows);
    return run(be, a, a->rows, maxpool_forward_row);
}

static void maxpool_backward_row(void *arg, int item, int thread)
{
    const struct job *j = arg;
    const struct nn_pool *a = j->a;
    int64_t out = (int64_t)item * a->tout;
    float *dx = a->dx + (int64_t)item * a->tin;
    int covered = a->tout * a->k;
    j->k->unpool(a->arg + out, a->dy + out, dx, a->k, a->tout);
    memset(dx + covered, 0, sizeof(float) * (size_t)(a->tin - covered));
}

int fast_maxpool_backward(struct nn_backend *be, const struct nn_pool *a)
{
    if (a->k >= WIDE_POOL) return ref_maxpool_backward(be, a);
    return run(be, a, a->rows, maxpool_backward_row);
}

static void mean_forward_row(void *arg, int item, int thread)
{
    const struct job *j = arg;
    const struct nn_mean *a = j->a;
    a->y[item] = j->k->sum(a->x + (int64_t)item * a->t, a->t) / (float)a->t;
}

int fast_mean_forward(struct nn_backend *be, const struct nn_mean *a)
{
    return run(be, a, a->rows, mean_forward_row);
}

static void linear_forward_row(void *arg, int item, int thread)
{
    const struct job *j = arg;
    const struct nn_linear *a = j->a;
    int64_t p = item / a->b * a->stride;
    for (int o = 0; o < a->out; o++)
        a->y[(int64_t)item * a->out + o] =
            a->bias[p + o] +
            j->k->dot(a->w + p + (int64_t)o * a->in, a->x + (int64_t)item * a->in, a->in);
}

int fast_linear_forward(struct nn_backend *be, const struct nn_linear *a)
{
    return run(be, a, a->m * a->b, linear_forward_row);
}

/* Backward of a linear layer: both gradients are products with `rows`, over whole vectors of inputs;
 * the last few inputs go one by one. Item: a member's block of inputs. */
struct linear_job {
    const struct nn_linear *a;
    const struct cpu_kernels *k;
    int whole, blocks; /* inputs in whole vectors; blocks of inputs per member */
    float *dy;         /* [M, out, B] transposed */
    int32_t *off;      /* [B or out] rows of x, or of w */
};

#define LINEAR_INPUTS 128 /* of a block */

/* Inputs [from, to) of the block; r has all but columns. */
static void linear_product(const struct linear_job *j, int block, struct rows_args r)
{
    int from = block * LINEAR_INPUTS, end = from + LINEAR_INPUTS;
    int to = end < j->a->in ? end : j->a->in, whole = to < j->whole ? to : j->whole;
    r.off = j->off;
    r.ys = j->a->in;
    r.x += from;
    r.y += from;
    r.t = whole - from;
    r.blocks = j->k->row_blocks(r.o, r.t);
    if (r.t > 0) j->k->rows(&r);
    for (int i = (whole > from ? whole : from) - from; i < to - from; i++)
        for (int o = 0; o < r.o; o++) {
            float sum = 0;
            for (int t = 0; t < r.j; t++) sum += r.w[t * r.ws + o] * r.x[r.off[t] + i];
            r.y[o * r.ys + i] = sum;
        }
}

static void linear_dw_item(void *arg, int item, int thread)
{
    const struct linear_job *j = arg;
    const struct nn_linear *a = j->a;
    int64_t m = item / j->blocks, rows = m * a->b;
    struct rows_args r = {.o = a->out, .j = a->b, .ws = a->out};
    r.w = a->dy + rows * a->out;
    r.x = a->x + rows * a->in;
    r.y = a->dw + m * a->stride;
    linear_product(j, item % j->blocks, r);
}

static void linear_dx_item(void *arg, int item, int thread)
{
    const struct linear_job *j = arg;
    const struct nn_linear *a = j->a;
    int64_t m = item / j->blocks, rows = m * a->b;
    struct rows_args r = {.o = a->b, .j = a->out, .ws = a->b};
    r.w = j->dy + rows * a->out;
    r.x = a->w + m * a->stride;
    r.y = a->dx + rows * a->in;
    linear_product(j, item % j->blocks, r);
}

/* dbias, and dy transposed. */
static void linear_turn(const struct linear_job *j)
{
    const struct nn_linear *a = j->a;
    for (int64_t m = 0; m < a->m; m++)
        for (int o = 0; o < a->out; o++) {
            double sum = 0;
            for (int r = 0; r < a->b; r++) {
                float g = a->dy[(m * a->b + r) * a->out + o];
                j->dy[(m * a->out + o) * a->b + r] = g;
                sum += g;
            }
            a->dbias[m * a->stride + o] = (float)sum;
        }
}

int fast_linear_backward(struct nn_backend *be, const struct nn_linear *a)
{
    struct linear_job j = {.a = a, .k = cpu_train_of(be)->k, .whole = a->in / 16 * 16};
    struct cpu_train_cut cut = {0};
    j.blocks = (a->in + LINEAR_INPUTS - 1) / LINEAR_INPUTS;
    for (int placed = 0; placed < 2; placed++) {
        int rc = placed ? cpu_train_scratch(be, cut.used, 0) : 0;
        if (rc) return rc;
        cut = (struct cpu_train_cut){.base = placed ? cpu_train_of(be)->shared : NULL};
        j.dy = cpu_train_take(&cut, (size_t)a->m * a->out * a->b);
        j.off = (int32_t *)cpu_train_take(&cut, (size_t)(a->b > a->out ? a->b : a->out));
    }
    linear_turn(&j);
    for (int i = 0; i < (a->b > a->out ? a->b : a->out); i++) j.off[i] = i * a->in;
    cn_pool_run(cpu_train_pool(be), a->m * j.blocks, linear_dw_item, &j);
    if (a->dx) cn_pool_run(cpu_train_pool(be), a->m * j.blocks, linear_dx_item, &j);
    return 0;
}

#define DRAWS 256 /* at a time */

/* Keeps what the same draws keep in ref_dropout: uniform >= p, as integers of 24 bits. */
static void dropout_row(const struct job *j, int item, const float *in, float *out)
{
    const struct nn_dropout *a = j->a;
    const struct nn_scalars *s = &a->s[item / a->b];
    uint64_t row = (uint64_t)s->row0 + (uint64_t)(item % a->b);
    struct philox_args r = {.seed = s->seed, .purpose = CN_RNG_DROPOUT, .epoch = s->epoch};
    uint32_t least = (uint32_t)ceil((double)a->p * 16777216.0), draw[DRAWS];
    float scale = 1 / (1 - a->p);
    for (int e = 0; e < a->width; e += DRAWS) {
        int n = a->width - e < DRAWS ? a->width - e : DRAWS;
        r.index = ((uint64_t)a->layer << 40) + row * (uint64_t)a->width + (uint64_t)e;
        j->k->philox(&r, draw, n);
        for (int i = 0; i < n; i++) out[e + i] = draw[i] >> 8 >= least ? in[e + i] * scale : 0;
    }
}

static void dropout_forward_row(void *arg, int item, int thread)
{
    const struct nn_dropout *a = ((const struct job *)arg)->a;
    int64_t at = (int64_t)item * a->width;
    dropout_row(arg, item, a->x + at, a->y + at);
}

int fast_dropout_forward(struct nn_backend *be, const struct nn_dropout *a)
{
    return run(be, a, a->m * a->b, dropout_forward_row);
}

static void dropout_backward_row(void *arg, int item, int thread)
{
    const struct nn_dropout *a = ((const struct job *)arg)->a;
    int64_t at = (int64_t)item * a->width;
    dropout_row(arg, item, a->dy + at, a->dx + at);
}

int fast_dropout_backward(struct nn_backend *be, const struct nn_dropout *a)
{
    return run(be, a, a->m * a->b, dropout_backward_row);
}

static void update_chunk(void *arg, int item, int thread)
{
    const struct job *j = arg;
    const struct nn_update *a = j->a;
    int m = item / j->chunks;
    const struct nn_scalars *s = &a->s[m];
    int64_t lo = (int64_t)(item % j->chunks) * CHUNK, at = m * a->stride + lo;
    struct update_args u = {.n = span(a->p, item % j->chunks), .scale = j->scale[m]};
    u.nesterov = a->nesterov;
    u.decay = a->kind == NN_ADAMW ? 0 : s->weight_decay;
    u.lr = s->lr;
    u.eps = s->eps;
    u.w = a->w + at;
    u.g = a->g + at;
    u.m1 = a->m1 + at;
    u.mask = a->mask ? a->mask + (int64_t)m * a->p + lo : NULL;
    if (a->kind == NN_SGD) {
        u.beta1 = s->momentum;
        j->k->sgd(&u);
        return;
    }
    u.m2 = a->m2 + at;
    u.beta1 = s->beta1;
    u.beta2 = s->beta2;
    u.rate = (float)(s->lr / (1 - pow(s->beta1, s->step)));
    u.root = (float)sqrt(1 - pow(s->beta2, s->step));
    u.shrink = a->kind == NN_ADAMW ? 1 - s->lr * s->weight_decay : 1;
    j->k->adam(&u);
}

/* PyTorch's clip_grad_norm_. */
static float clip_scale(const struct job *j, const struct nn_update *a, int m)
{
    double square = 0;
    for (int c = 0; c < j->chunks; c++) {
        const float *g = a->g + m * a->stride + (int64_t)c * CHUNK;
        square += j->k->dot(g, g, span(a->p, c));
    }
    double scale = a->clip / (sqrt(square) + 1e-6);
    return scale < 1 ? (float)scale : 1;
}

int fast_update(struct nn_backend *be, const struct nn_update *a)
{
    struct job j = {.a = a, .k = cpu_train_of(be)->k, .chunks = chunks_of(a->p)};
    for (int m = 0; m < a->m; m++) j.scale[m] = a->clip > 0 ? clip_scale(&j, a, m) : 1;
    cn_pool_run(cpu_train_pool(be), a->m * j.chunks, update_chunk, &j);
    return 0;
}

int fast_average(struct nn_backend *be, const struct nn_average *a)
{
    for (int m = 0; m < a->m; m++)
        cpu_train_of(be)->k->average(a->w + m * a->stride, a->avg + m * a->stride, a->s[m].ema,
                                     a->n);
    return 0;
}
