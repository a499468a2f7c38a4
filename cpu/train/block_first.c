/* cpu/train/block_first.c - backward of a pooled Conv-BatchNorm block whose input wants no gradient:
 * a net's first. Neither the convolution's output nor its gradient is ever stored.
 *
 * With e the pooled gradient behind the ReLU and xhat = (c - mean) rstd, the gradient of the
 * convolution's output is dc = a (e - mean(e) - xhat mean(e xhat)), and dw = sum_t dc[t] z[t], z[t]
 * being the K x Cin inputs that output t saw. So, summed over the batch,
 *     dw = a P + b W C + c0 S
 * with P = sum e[t] z[t], which is sparse: one sample a window (list_impl.h); S = sum z[t]; C the
 * covariance of z times its count; W the weights (c - mean = W (z - mean z)); b and c0 as in
 * bn_grad. C costs Cin x K Cin products a step instead of Cout x K Cin, because its K x K blocks
 * along a diagonal are the same sums but for the record's ends: block (k + 1, k' + 1) is block
 * (k, k') less the first step's product, plus that of the step behind the last.
 *
 * Layout: a record's input is transposed to [time][cs], its channels, then a channel of ones (its
 * products are S), then zeros; z[t] is then k * cs floats in a row. Time goes in parts that stay in
 * the L1 cache. Chunks of the batch as in conv.c: same bits for any number of threads.
 */
#include "cpu/train/conv.h"

#include <string.h>

/* Of the transposed input of a part, at most: two thirds of the L1 cache. */
#define PART_FLOATS 8192

struct first {
    struct conv_job j;
    int cs, ks;      /* floats of a step; of K steps */
    int windows;     /* of a part */
    int edge;        /* floats of K - 1 steps */
    int64_t floats;  /* of a chunk's sums: */
    int64_t square;  /* where [cin + 1][ks] starts, behind P [cout][ks]; */
    int64_t ends[2]; /* where the products [edge][edge] of first and last steps start */
    float *sums;     /* [M * chunks][floats] */
    float *cov;      /* [M][J][J], J = cin * k */
    double *matrix;  /* [M][J][J] */
    int32_t *off;    /* [steps of a part] */
};

struct first_own {
    float *x; /* [steps of a part + K - 1][cs] */
    int32_t *at;
    float *e;
};

static int round16(int n)
{
    return (n + 15) & ~15;
}

int block_is_first(const struct nn_conv_block *b)
{
    const struct nn_conv1d *a = &b->conv;
    if (a->dx || a->bias || !b->bn.train || b->pool_k < 2) return 0;
    /* multiply-adds a column, what a dense gradient costs besides counted as 40 an output */
    int64_t ks = (int64_t)a->k * round16(a->cin + 1), dense = a->cout * (a->cin * a->k + 40LL);
    return ks * a->cin + 2 * ks * a->cout / b->pool_k < dense && a->cin * a->k <= 128;
}

static void layout(struct first *f, const struct nn_conv_block *b)
{
    const struct nn_conv1d *a = &b->conv;
    f->cs = round16(a->cin + 1);
    f->ks = a->k * f->cs;
    f->edge = (a->k - 1) * f->cs;
    int windows = PART_FLOATS / f->cs / b->pool_k, most = windows < 1 ? 1 : windows;
    int parts = (b->t_pool + most - 1) / most;
    f->windows = (b->t_pool + parts - 1) / parts;
    f->square = (int64_t)a->cout * f->ks;
    f->ends[0] = f->square + (int64_t)(a->cin + 1) * f->ks;
    f->ends[1] = f->ends[0] + (int64_t)f->edge * f->edge;
    f->floats = f->ends[1] + (int64_t)f->edge * f->edge;
}

/* Columns of the longest part: the last holds those behind the last window too. */
static int part_columns(const struct first *f)
{
    const struct nn_conv_block *b = f->j.block;
    return f->windows * b->pool_k + b->conv.tout - b->t_pool * b->pool_k;
}

static void carve_shared(struct first *f, struct cpu_train_cut *s)
{
    const struct nn_conv1d *a = f->j.a;
    size_t matrix = (size_t)a->m * f->j.jx * f->j.jx;
    block_carve(&f->j, s);
    f->sums = cpu_train_take(s, (size_t)(a->m * f->j.chunks * f->floats));
    f->cov = cpu_train_take(s, matrix);
    f->matrix = (double *)cpu_train_take(s, 2 * matrix);
    f->off = (int32_t *)cpu_train_take(s, (size_t)part_columns(f));
}

static struct first_own carve_own(const struct first *f, struct cpu_train_cut *s)
{
    struct first_own own;
    size_t entries = (size_t)f->windows + 32; /* lists are written in whole vectors */
    own.x = cpu_train_take(s, (size_t)(part_columns(f) + f->j.a->k) * f->cs);
    own.at = (int32_t *)cpu_train_take(s, entries);
    own.e = cpu_train_take(s, entries);
    return own;
}

static int prepare(struct first *f, struct nn_backend *be)
{
    struct cpu_train_cut shared = {0}, own = {0};
    carve_shared(f, &shared);
    carve_own(f, &own);
    int rc = cpu_train_scratch(be, shared.used, own.used);
    if (rc) return rc;
    shared = (struct cpu_train_cut){.base = f->j.ctx->shared};
    carve_shared(f, &shared);
    for (int t = 0; t < part_columns(f); t++) f->off[t] = t * f->cs;
    return 0;
}

/* Columns [t0, t1) of a record's padded input -> x [t1 - t0][cs]; those of the next part are fetched. */
static void transpose_part(const struct first *f, int item, int t0, int t1, float *x)
{
    const struct nn_conv1d *a = f->j.a;
    int from = t0 > a->pad ? t0 : a->pad, to = t1 < a->tin + a->pad ? t1 : a->tin + a->pad;
    memset(x, 0, sizeof(float) * (size_t)(t1 - t0) * (size_t)f->cs);
    struct transpose_args r = {.xs = a->tin, .ys = f->cs, .rows = a->cin, .cols = to - from};
    r.x = a->x + (int64_t)item * a->cin * a->tin + from - a->pad;
    r.y = x + (int64_t)(from - t0) * f->cs;
    r.fetch = t1 < a->tin + a->pad ? t1 - t0 - a->k + 1 : a->cin * a->tin - t0;
    if (to > from) f->j.ctx->k->transpose(&r);
    for (int t = 0; t < t1 - t0; t++) x[(int64_t)t * f->cs + a->cin] = 1;
}

/* out [edge][edge] += the product of K - 1 steps with themselves. */
static void add_end(const struct first *f, const float *x, float *out)
{
    struct rows_args r = {.o = f->edge, .j = 1, .t = f->edge, .w = x, .ws = f->edge, .x = x};
    if (!f->edge) return;
    r.blocks = f->j.ctx->k->row_blocks(r.o, r.t);
    r.off = f->off;
    r.y = out;
    r.ys = f->edge;
    r.add = 1;
    f->j.ctx->k->rows(&r);
}

/* One record's windows [p0, p1): sums += P, the products, and the row sums of the reduction. */
static void part(const struct first *f, int item, int p0, int p1, const struct first_own *own,
                 float *sums)
{
    const struct nn_conv_block *b = f->j.block;
    const struct nn_conv1d *a = &b->conv;
    const struct cpu_kernels *kn = f->j.ctx->k;
    int last = p1 == b->t_pool, t0 = p0 * b->pool_k, t1 = last ? a->tout : p1 * b->pool_k;
    transpose_part(f, item, t0, t1 + a->k - 1, own->x);
    struct rows_args r = {.o = a->cin + 1, .j = t1 - t0, .t = f->ks, .w = own->x, .ws = f->cs};
    r.blocks = kn->row_blocks(r.o, r.t);
    r.x = own->x;
    r.off = f->off;
    r.y = sums + f->square;
    r.ys = f->ks;
    r.add = 1;
    kn->rows(&r);
    if (!p0) add_end(f, own->x, sums + f->ends[0]);
    if (last) add_end(f, own->x + (int64_t)(t1 - t0) * f->cs, sums + f->ends[1]);
    const struct bn_grad g = block_grad(&f->j, item);
    struct list_args l = {.g = &g, .p0 = p0, .p1 = p1, .step = f->cs, .floats = f->ks};
    l.wrap = last ? -p0 : f->windows - (int64_t)a->cout * b->t_pool;
    l.x = own->x;
    l.y = sums;
    l.sum = f->j.sum + (int64_t)item * a->cout;
    l.sum_c = f->j.sum2 + (int64_t)item * a->cout;
    l.at = own->at;
    l.e = own->e;
    kn->bn_list(&l);
}

static void chunk_item(void *arg, int item, int thread)
{
    const struct first *f = arg;
    const struct nn_conv1d *a = f->j.a;
    struct first_own own = carve_own(f, &(struct cpu_train_cut){.base = f->j.ctx->own[thread]});
    float *sums = f->sums + item * f->floats;
    int m = item / f->j.chunks, c = item % f->j.chunks, n = f->j.block->t_pool;
    int first = m * a->b + (int)((int64_t)c * a->b / f->j.chunks);
    int last = m * a->b + (int)((int64_t)(c + 1) * a->b / f->j.chunks);
    memset(sums, 0, sizeof(float) * (size_t)f->floats);
    for (int r = first; r < last; r++)
        for (int p = 0; p < n; p += f->windows)
            part(f, r, p, p + f->windows < n ? p + f->windows : n, &own, sums);
}

/* matrix [J][J], rows and columns c * K + k: the covariance of z times its count. */
static void covariance(const struct first *f, const float *sums, double *matrix)
{
    const struct nn_conv1d *a = f->j.a;
    const float *square = sums + f->square, *one = square + (int64_t)a->cin * f->ks;
    const float *start = sums + f->ends[0], *end = sums + f->ends[1];
    double count = (double)a->b * a->tout;
    int jx = f->j.jx;
    for (int lag = 0; lag < a->k; lag++)
        for (int c = 0; c < a->cin; c++)
            for (int d = 0; d < a->cin; d++) {
                double sum = square[(int64_t)c * f->ks + lag * f->cs + d];
                for (int k = 0; k + lag < a->k; k++) {
                    int64_t edge = (int64_t)((k - 1) * f->cs + c) * f->edge;
                    edge += (k + lag - 1) * f->cs + d;
                    if (k) sum += (double)end[edge] - start[edge];
                    int i = c * a->k + k, j = d * a->k + k + lag;
                    double mean = (double)one[k * f->cs + c] * one[(k + lag) * f->cs + d] / count;
                    matrix[i * jx + j] = matrix[j * jx + i] = sum - mean;
                }
            }
}

/* Sums a member's chunks in order and writes dw. */
static void member_item(void *arg, int m, int thread)
{
    const struct first *f = arg;
    const struct nn_conv1d *a = f->j.a;
    const struct cpu_kernels *kn = f->j.ctx->k;
    float *sums = f->sums + (int64_t)m * f->j.chunks * f->floats;
    int jx = f->j.jx, n = jx * jx;
    double *matrix = f->matrix + (int64_t)m * n;
    float *cov = f->cov + (int64_t)m * n;
    for (int c = 1; c < f->j.chunks; c++) kn->add(sums, sums + c * f->floats, sums, f->floats);
    covariance(f, sums, matrix);
    for (int i = 0; i < n; i++) cov[i] = (float)matrix[i];
    const float *one = sums + f->square + (int64_t)a->cin * f->ks;
    for (int o = 0; o < a->cout; o++) {
        int ch = m * a->cout + o;
        const float *w = a->w + m * a->stride + (int64_t)o * jx, *p = sums + (int64_t)o * f->ks;
        float *dw = a->dw + m * a->stride + (int64_t)o * jx;
        for (int i = 0; i < jx; i++) {
            int at = i % a->k * f->cs + i / a->k;
            dw[i] = f->j.coef_a[ch] * p[at] + f->j.coef_c[ch] * one[at];
        }
        for (int i = 0; i < jx; i++)
            kn->axpy(f->j.coef_b[ch] * w[i], cov + (int64_t)i * jx, dw, jx);
    }
}

int block_first_backward(struct nn_backend *be, const struct nn_conv_block *b)
{
    struct first f;
    conv_job_init(&f.j, be, &b->conv, b);
    layout(&f, b);
    int rc = prepare(&f, be);
    if (rc) return rc;
    block_normalisers(&f.j);
    cn_pool_run(f.j.ctx->pool, b->conv.m * f.j.chunks, chunk_item, &f);
    for (int i = 0; i < b->conv.m * b->conv.cout; i++) block_finish_reduce(&f.j, i);
    cn_pool_run(f.j.ctx->pool, b->conv.m, member_item, &f);
    return 0;
}
