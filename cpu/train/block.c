/* cpu/train/block.c - Conv1d, BatchNorm, ReLU and MaxPool as one op.
 *
 * Forward: the convolution adds up sums and squares of its outputs while they are still in
 * registers (as differences from one sample per channel, so that nothing cancels), and the record
 * is pooled while it is in cache; once the statistics are known, one pass normalises and clips what
 * the pool left. Backward never
 * stores the gradient of the convolution's output: reductions first, from the pooled rows; then
 * each record's dense gradient is rebuilt in cache, and goes straight into the dx and dw kernels. A
 * net's first block needs neither (block_first.c).
 * save, with a pool: [M, B, C, t_pool] floats where the maxima stood before normalisation, then as
 * many bytes with their places in the windows.
 */
#include "cpu/train/conv.h"
#include "cpu/train/fast.h"

#include <math.h>

static int pooled(const struct nn_conv_block *b)
{
    return b->pool_k > 1;
}

static int64_t rows_of(const struct nn_conv_block *b)
{
    return (int64_t)b->conv.m * b->conv.b * b->conv.cout;
}

static int row_out(const struct nn_conv_block *b)
{
    return pooled(b) ? b->t_pool : b->conv.tout;
}

int64_t fast_conv_block_save_floats(struct nn_backend *be, const struct nn_conv_block *a)
{
    if (!pooled(a)) return 0;
    int64_t n = rows_of(a) * a->t_pool;
    return n + (n + 3) / 4;
}

void block_carve(struct conv_job *j, struct cpu_train_cut *s)
{
    size_t channels = (size_t)j->a->m * j->a->cout, rows = channels * j->a->b;
    j->sum = cpu_train_take(s, rows);
    j->sum2 = cpu_train_take(s, rows);
    j->shift = cpu_train_take(s, channels);
    j->coef_b = cpu_train_take(s, channels);
    j->coef_c = cpu_train_take(s, channels);
    j->coef_mean = cpu_train_take(s, channels);
    j->coef_a = cpu_train_take(s, channels);
}

uint8_t *block_arg(const struct nn_conv_block *b)
{
    return (uint8_t *)(b->save + rows_of(b) * b->t_pool);
}

/* One convolution output per channel, from the middle of the member's first record: near the
 * channel's mean in units of its spread, which is all that a shift needs. */
static void sample_shift(const struct conv_job *j)
{
    const struct nn_conv1d *a = j->a;
    for (int m = 0; m < a->m; m++) {
        const float *x = a->x + (int64_t)m * a->b * a->cin * a->tin;
        for (int o = 0; o < a->cout; o++) {
            const float *w = a->w + m * a->stride + (int64_t)o * j->jx;
            float y = a->bias ? a->bias[m * a->stride + o] : 0;
            for (int c = 0; c < a->cin; c++)
                for (int i = 0; i < a->k; i++) {
                    int t = a->tout / 2 + i - a->pad;
                    if (t >= 0 && t < a->tin) y += w[c * a->k + i] * x[(int64_t)c * a->tin + t];
                }
            j->shift[m * a->cout + o] = y;
        }
    }
}

/* Batch statistics of channel `item` (of M*C), running ones, and what the next pass needs. */
static void finish_stats(const struct conv_job *j, int item)
{
    const struct nn_batchnorm *bn = &j->block->bn;
    int c = j->a->cout, m = item / c, o = item % c;
    double sum = 0, sq = 0, n = (double)j->a->b * j->a->tout;
    for (int r = m * j->a->b; r < (m + 1) * j->a->b; r++) {
        sum += j->sum[(int64_t)r * c + o];
        sq += j->sum2[(int64_t)r * c + o];
    }
    double d = sum / n, mean = j->shift[item] + d, var = sq / n - d * d;
    if (var < 0) var = 0;
    double unbiased = n > 1 ? var * n / (n - 1) : var;
    float *rm = bn->running_mean + m * bn->stride + o, *rv = bn->running_var + m * bn->stride + o;
    *rm = (float)((1 - bn->momentum) * *rm + bn->momentum * mean);
    *rv = (float)((1 - bn->momentum) * *rv + bn->momentum * unbiased);
    bn->save_mean[item] = (float)mean;
    bn->save_rstd[item] = (float)(1 / sqrt(var + bn->eps));
}

void block_normalisers(const struct conv_job *j)
{
    const struct nn_batchnorm *bn = &j->block->bn;
    int c = j->a->cout;
    for (int i = 0; i < j->a->m * c; i++) {
        int64_t p = i / c * bn->stride + i % c;
        float rstd =
            bn->train ? bn->save_rstd[i] : (float)(1 / sqrt((double)bn->running_var[p] + bn->eps));
        j->coef_mean[i] = bn->train ? bn->save_mean[i] : bn->running_mean[p];
        j->coef_a[i] = bn->w[p] * rstd;
    }
}

/* Pools one record: c [cout, tout] -> c_max [cout, t_pool] and, in training, the places. */
static void pool_record(const struct conv_job *j, int item, const float *c, float *c_max)
{
    const struct nn_conv_block *b = j->block;
    struct pool_rows r = {.rows = j->a->cout, .t = j->a->tout, .t_pool = b->t_pool, .c = c};
    r.pool = b->pool_k;
    r.w = b->bn.w + item / j->a->b * b->bn.stride;
    r.c_max = c_max;
    r.arg = b->bn.train ? block_arg(b) + (int64_t)item * j->a->cout * b->t_pool : NULL;
    j->ctx->k->pool(&r);
}

/* Normalises and clips one record: c [cout, tout or t_pool] -> block->y. */
static void finish_record(const struct conv_job *j, int item, const float *c)
{
    const struct nn_conv_block *b = j->block;
    int m = item / j->a->b, first = m * j->a->cout;
    struct bn_rows r = {.rows = j->a->cout, .t = row_out(b), .relu = b->relu, .c = c};
    r.mean = j->coef_mean + first;
    r.a = j->coef_a + first;
    r.bias = b->bn.bias + m * b->bn.stride;
    r.y = b->y + (int64_t)item * j->a->cout * r.t;
    j->ctx->k->bn_forward(&r);
}

static void conv_item(void *arg, int i, int thread)
{
    const struct conv_job *j = arg;
    struct conv_own own = conv_job_own(j, thread);
    int item, n;
    conv_call(j, i, &item, &n);
    int64_t row = (int64_t)j->a->cout * j->a->tout;
    float *c = block_is_first(j->block) ? own.c : j->a->y + item * row;
    conv_forward(j, item, n, &own, c);
    for (int r = 0; pooled(j->block) && r < n; r++)
        pool_record(j, item + r, c + r * row,
                    j->block->save + (int64_t)(item + r) * j->a->cout * j->block->t_pool);
}

static void finish_item(void *arg, int item, int thread)
{
    const struct conv_job *j = arg;
    const float *c = pooled(j->block) ? j->block->save : j->a->y;
    finish_record(j, item, c + (int64_t)item * j->a->cout * row_out(j->block));
}

/* Without statistics records pass through in one go. */
static void eval_item(void *arg, int i, int thread)
{
    const struct conv_job *j = arg;
    struct conv_own own = conv_job_own(j, thread);
    int item, n;
    conv_call(j, i, &item, &n);
    conv_forward(j, item, n, &own, own.c);
    for (int r = 0; r < n; r++) {
        const float *c = own.c + (int64_t)r * j->a->cout * j->a->tout;
        if (pooled(j->block)) pool_record(j, item + r, c, own.c_max);
        finish_record(j, item + r, pooled(j->block) ? own.c_max : c);
    }
}

int fast_conv_block_forward(struct nn_backend *be, const struct nn_conv_block *b)
{
    struct conv_job j;
    conv_job_init(&j, be, &b->conv, b);
    int rc = conv_job_prepare(&j, be, 0), records = b->conv.m * b->conv.b;
    if (rc) return rc;
    if (!b->bn.train) {
        block_normalisers(&j);
        cn_pool_run(j.ctx->pool, conv_calls(&j), eval_item, &j);
        return 0;
    }
    sample_shift(&j);
    cn_pool_run(j.ctx->pool, conv_calls(&j), conv_item, &j);
    for (int i = 0; i < b->conv.m * b->conv.cout; i++) finish_stats(&j, i);
    block_normalisers(&j);
    cn_pool_run(j.ctx->pool, records, finish_item, &j);
    return 0;
}

struct bn_grad block_grad(const struct conv_job *j, int item)
{
    const struct nn_conv_block *b = j->block;
    int m = item / j->a->b, first = m * j->a->cout;
    int64_t rows = (int64_t)item * j->a->cout, out = rows * row_out(b);
    return (struct bn_grad){
        .rows = j->a->cout,
        .t = j->a->tout,
        .t_pool = b->t_pool,
        .pool = b->pool_k,
        .relu = b->relu,
        .mean = j->coef_mean + first,
        .a = j->coef_a + first,
        .bias = b->bn.bias + m * b->bn.stride,
        .b = j->coef_b + first,
        .c0 = j->coef_c + first,
        .c = j->a->y + rows * j->a->tout,
        .c_max = pooled(b) ? b->save + out : NULL,
        .arg = pooled(b) ? block_arg(b) + out : NULL,
        .dy = b->dy + out,
    };
}

static void reduce_item(void *arg, int item, int thread)
{
    const struct conv_job *j = arg;
    const struct bn_grad g = block_grad(j, item);
    int64_t row = (int64_t)item * j->a->cout;
    j->ctx->k->bn_reduce(&g, j->sum + row, j->sum2 + row);
}

/* The dense gradient is dc = a·(e - mean(e) - xhat·mean(e·xhat)), xhat = (c - mean)·rstd. */
void block_finish_reduce(const struct conv_job *j, int item)
{
    const struct nn_batchnorm *bn = &j->block->bn;
    int c = j->a->cout, m = item / c, o = item % c;
    double sum = 0, dot = 0, n = (double)j->a->b * j->a->tout, rstd = bn->save_rstd[item];
    for (int r = m * j->a->b; r < (m + 1) * j->a->b; r++) {
        sum += j->sum[(int64_t)r * c + o];
        dot += j->sum2[(int64_t)r * c + o];
    }
    dot *= rstd;
    bn->dw[m * bn->stride + o] = (float)dot;
    bn->dbias[m * bn->stride + o] = (float)sum;
    j->coef_b[item] = (float)(-j->coef_a[item] * rstd * dot / n);
    j->coef_c[item] = (float)(-j->coef_a[item] * sum / n);
}

static void fill_block(const struct conv_job *j, int item, float *dy)
{
    struct bn_grad g = block_grad(j, item);
    g.dc = dy;
    g.dc_stride = j->ds;
    j->ctx->k->bn_expand(&g);
}

int fast_conv_block_backward(struct nn_backend *be, const struct nn_conv_block *b)
{
    struct conv_job j;
    if (block_is_first(b)) return block_first_backward(be, b);
    conv_job_init(&j, be, &b->conv, b);
    int rc = conv_job_prepare(&j, be, 1);
    if (rc) return rc;
    block_normalisers(&j);
    cn_pool_run(j.ctx->pool, b->conv.m * b->conv.b, reduce_item, &j);
    for (int i = 0; i < b->conv.m * b->conv.cout; i++) block_finish_reduce(&j, i);
    conv_backward_all(&j, fill_block);
    return 0;
}
