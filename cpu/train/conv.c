/* cpu/train/conv.c - 1-D convolution, forward and backward, over the `rows` and `dots` kernels.
 *
 * Each record's rows are copied into padded rows (zeros at both ends, room to read whole vectors),
 * which costs a few percent and saves every special case; reading rows in place is slower even
 * where it is possible, as a copy streams and the kernels do not. dx is the convolution of the padded dy
 * with the flipped weights. dw: the batch is cut into chunks by the shapes alone, each summed in
 * order by one thread, then the chunks in order: same bits for any number of threads, and members
 * of a gang never meet.
 */
#include "cpu/train/conv.h"
#include "cpu/train/fast.h"

#include <string.h>

#define CHUNKS 8       /* of a member's batch in backward, at most */
#define GROUP_COLS 128 /* vectors of time that one register sum should span at least */
#define GROUP_X 98304  /* floats of x in a group at most: they are to stay in the L2 cache */

static int round16(int n)
{
    return (n + 15) & ~15;
}

/* Rows that lie a multiple of 4096 bytes apart would share cache sets. */
static int row_stride(int floats)
{
    int s = round16(floats);
    return s % 512 ? s : s + 16;
}

void conv_job_init(struct conv_job *j, struct nn_backend *be, const struct nn_conv1d *a,
                   const struct nn_conv_block *block)
{
    *j = (struct conv_job){.a = a, .block = block, .ctx = cpu_train_of(be)};
    j->jx = a->cin * a->k;
    j->jd = a->cout * a->k;
    j->xs = row_stride(round16(a->tout) + a->k - 1);
    int reach = a->k - 1 - a->pad; /* how far dx looks to the left of dy's first column */
    j->left = reach > 0 ? round16(reach) : 0;
    int data = round16(a->tout), read = round16(a->tin) + (a->k - 1 > a->pad ? a->k - 1 : a->pad);
    j->ds = row_stride(j->left + (data > read ? data : read));
    j->chunks = a->b < CHUNKS ? a->b : CHUNKS;
    int cols = round16(a->tout) / 16, largest = (a->b + j->chunks - 1) / j->chunks;
    int group = (GROUP_COLS + cols - 1) / cols, fit = GROUP_X / (a->cin * j->xs);
    if (group > fit) group = fit;
    if (group > largest) group = largest;
    j->group = group < 1 ? 1 : group;
}

static void carve_shared(struct conv_job *j, struct cpu_train_cut *s, int backward)
{
    const struct nn_conv1d *a = j->a;
    size_t channels = (size_t)a->m * a->cout, rows = channels * a->b;
    j->off_x = (int32_t *)cpu_train_take(s, (size_t)j->jx);
    j->off_d = (int32_t *)cpu_train_take(s, (size_t)j->jd);
    if (!backward) j->w_x = cpu_train_take(s, (size_t)a->m * a->cout * j->jx);
    if (backward && a->dx) j->w_d = cpu_train_take(s, (size_t)a->m * a->cin * j->jd);
    if (backward) {
        j->partial = cpu_train_take(s, (size_t)a->m * j->chunks * a->cout * j->jx);
        j->partial_bias = cpu_train_take(s, (size_t)a->m * j->chunks * a->cout);
    }
    if (!j->block) return;
    j->sum = cpu_train_take(s, rows);
    j->sum2 = cpu_train_take(s, rows);
    j->shift = cpu_train_take(s, channels);
    j->coef_b = cpu_train_take(s, channels);
    j->coef_c = cpu_train_take(s, channels);
    j->coef_mean = cpu_train_take(s, channels);
    j->coef_a = cpu_train_take(s, channels);
}

static struct conv_own carve_own(const struct conv_job *j, struct cpu_train_cut *s)
{
    const struct nn_conv1d *a = j->a;
    struct conv_own own;
    own.x = cpu_train_take(s, (size_t)j->group * a->cin * j->xs);
    own.dy = cpu_train_take(s, (size_t)j->group * a->cout * j->ds);
    own.lanes = cpu_train_take(s, (size_t)a->cout * 32);
    own.c = cpu_train_take(s, (size_t)a->cout * a->tout);
    own.c_max = cpu_train_take(s, j->block ? (size_t)a->cout * j->block->t_pool : 0);
    return own;
}

struct conv_own conv_job_own(const struct conv_job *j, int thread)
{
    return carve_own(j, &(struct cpu_train_cut){.base = j->ctx->own[thread]});
}

/* The row of term (c, k) of a kernel over rows of `stride`, starting `from` floats in. */
static void fill_offsets(int32_t *off, int channels, int k, int stride, int from)
{
    for (int c = 0; c < channels; c++)
        for (int i = 0; i < k; i++) off[c * k + i] = c * stride + from + i;
}

/* w [cout, cin, k] as the weights towards dx: output c, term (o, i) = w[o][c][k-1-i]. */
static void pack_flipped(float *out, const float *w, const struct nn_conv1d *a, int blocks)
{
    int jd = a->cout * a->k;
    for (int b = 0; b < blocks; b++) {
        int c0 = (int)((int64_t)b * a->cin / blocks),
            c1 = (int)((int64_t)(b + 1) * a->cin / blocks);
        float *p = out + (int64_t)c0 * jd;
        for (int o = 0; o < a->cout; o++)
            for (int i = 0; i < a->k; i++)
                for (int c = c0; c < c1; c++)
                    *p++ = w[((int64_t)o * a->cin + c) * a->k + a->k - 1 - i];
    }
}

void rows_pack(float *out, const float *w, int o, int j, int64_t os, int64_t js, int blocks)
{
    for (int b = 0; b < blocks; b++) {
        int o0 = (int)((int64_t)b * o / blocks), o1 = (int)((int64_t)(b + 1) * o / blocks);
        float *p = out + (int64_t)o0 * j;
        for (int i = 0; i < j; i++)
            for (int r = o0; r < o1; r++) *p++ = w[r * os + i * js];
    }
}

int conv_job_prepare(struct conv_job *j, struct nn_backend *be, int backward)
{
    const struct nn_conv1d *a = j->a;
    struct cpu_train_cut shared = {0}, own = {0};
    carve_shared(j, &shared, backward);
    carve_own(j, &own);
    int rc = cpu_train_scratch(be, shared.used, own.used);
    if (rc) return rc;
    shared = (struct cpu_train_cut){.base = j->ctx->shared};
    carve_shared(j, &shared, backward);
    fill_offsets(j->off_x, a->cin, a->k, j->xs, 0);
    fill_offsets(j->off_d, a->cout, a->k, j->ds, j->left - (a->k - 1 - a->pad));
    j->blocks_x = j->ctx->k->row_blocks(a->cout, a->tout);
    j->blocks_d = j->ctx->k->row_blocks(a->cin, a->tin);
    for (int m = 0; m < a->m; m++) {
        const float *w = a->w + m * a->stride;
        if (j->w_x)
            rows_pack(j->w_x + (int64_t)m * a->cout * j->jx, w, a->cout, j->jx, j->jx, 1,
                      j->blocks_x);
        if (j->w_d) pack_flipped(j->w_d + (int64_t)m * a->cin * j->jd, w, a, j->blocks_d);
    }
    return 0;
}

/* Copies a record's rows behind `pad` zeros; zeros up to the stride. */
static void pad_input(const struct conv_job *j, int item, float *out)
{
    const struct nn_conv1d *a = j->a;
    const float *x = a->x + (int64_t)item * a->cin * a->tin;
    for (int c = 0; c < a->cin; c++, out += j->xs, x += a->tin) {
        memset(out, 0, sizeof(float) * (size_t)a->pad);
        memcpy(out + a->pad, x, sizeof(float) * (size_t)a->tin);
        memset(out + a->pad + a->tin, 0, sizeof(float) * (size_t)(j->xs - a->pad - a->tin));
    }
}

void conv_record_forward(const struct conv_job *j, int item, const struct conv_own *own, float *y)
{
    const struct nn_conv1d *a = j->a;
    int m = item / a->b;
    pad_input(j, item, own->x);
    int stats = j->block && j->block->bn.train;
    struct rows_args r = {
        .o = a->cout,
        .j = j->jx,
        .t = a->tout,
        .blocks = j->blocks_x,
        .w = j->w_x + (int64_t)m * a->cout * j->jx,
        .x = own->x,
        .off = j->off_x,
        .bias = a->bias ? a->bias + m * a->stride : NULL,
        .y = y,
        .ys = a->tout,
        .shift = stats ? j->shift + (int64_t)m * a->cout : NULL,
        .sum = stats ? j->sum + (int64_t)item * a->cout : NULL,
        .sq = stats ? j->sum2 + (int64_t)item * a->cout : NULL,
        .lanes = own->lanes,
    };
    j->ctx->k->rows(&r);
}

static void forward_item(void *arg, int item, int thread)
{
    const struct conv_job *j = arg;
    struct conv_own own = conv_job_own(j, thread);
    conv_record_forward(j, item, &own, j->a->y + (int64_t)item * j->a->cout * j->a->tout);
}

int fast_conv1d_forward(struct nn_backend *be, const struct nn_conv1d *a)
{
    struct conv_job j;
    conv_job_init(&j, be, a, NULL);
    int rc = conv_job_prepare(&j, be, 0);
    if (rc) return rc;
    cn_pool_run(j.ctx->pool, a->m * a->b, forward_item, &j);
    return 0;
}

/* Zeros around each padded row of dy: before the data, and from its last whole vector on. */
static void zero_margins(const struct conv_job *j, float *dy)
{
    int end = j->left + round16(j->a->tout);
    for (int o = 0; o < j->a->cout; o++, dy += j->ds) {
        memset(dy, 0, sizeof(float) * (size_t)j->left);
        memset(dy + end, 0, sizeof(float) * (size_t)(j->ds - end));
    }
}

static void record_dx(const struct conv_job *j, int item, const float *dy)
{
    const struct nn_conv1d *a = j->a;
    struct rows_args r = {
        .o = a->cin,
        .j = j->jd,
        .t = a->tin,
        .blocks = j->blocks_d,
        .w = j->w_d + (int64_t)(item / a->b) * a->cin * j->jd,
        .x = dy,
        .off = j->off_d,
        .y = a->dx + (int64_t)item * a->cin * a->tin,
        .ys = a->tin,
        .add = a->dx_add,
    };
    j->ctx->k->rows(&r);
}

/* partial_bias[o] += sum of dy's row. */
static void record_dbias(const struct conv_job *j, const float *dy, float *out)
{
    for (int o = 0; o < j->a->cout; o++)
        out[o] += j->ctx->k->sum(dy + (int64_t)o * j->ds + j->left, j->a->tout);
}

struct backward_job {
    struct conv_job *j;
    conv_fill_f fill;
};

/* One chunk of a member's batch: dx of its records, and its part of dw. */
static void backward_item(void *arg, int item, int thread)
{
    const struct backward_job *b = arg;
    const struct conv_job *j = b->j;
    const struct nn_conv1d *a = j->a;
    int m = item / j->chunks, c = item % j->chunks;
    int first = m * a->b + (int)((int64_t)c * a->b / j->chunks);
    int last = m * a->b + (int)((int64_t)(c + 1) * a->b / j->chunks);
    struct conv_own own = conv_job_own(j, thread);
    float *bias = j->partial_bias + (int64_t)item * a->cout;
    memset(bias, 0, sizeof(float) * (size_t)a->cout);
    struct dots_args d = {.o = a->cout, .j = j->jx, .t = a->tout, .dy = own.dy + j->left};
    d.dy_stride = j->ds;
    d.dy_next = (int64_t)a->cout * j->ds;
    d.x = own.x;
    d.off = j->off_x;
    d.x_next = (int64_t)a->cin * j->xs;
    d.dw = j->partial + (int64_t)item * a->cout * j->jx;
    for (int r = first; r < last; r += j->group) {
        d.n = last - r < j->group ? last - r : j->group;
        for (int i = 0; i < d.n; i++) {
            float *dy = own.dy + i * d.dy_next;
            zero_margins(j, dy);
            pad_input(j, r + i, own.x + i * d.x_next);
            b->fill(j, r + i, dy + j->left);
            if (a->dx) record_dx(j, r + i, dy);
            if (a->dbias) record_dbias(j, dy, bias);
        }
        d.add = r > first;
        j->ctx->k->dots(&d);
    }
}

/* Sums the chunks' parts in order. Item: a member. */
static void reduce_item(void *arg, int m, int thread)
{
    const struct conv_job *j = arg;
    const struct nn_conv1d *a = j->a;
    int64_t n = (int64_t)a->cout * j->jx, first = (int64_t)m * j->chunks;
    float *dw = a->dw + m * a->stride, *db = a->dbias ? a->dbias + m * a->stride : NULL;
    memcpy(dw, j->partial + first * n, sizeof(float) * (size_t)n);
    if (db) memcpy(db, j->partial_bias + first * a->cout, sizeof(float) * (size_t)a->cout);
    for (int64_t c = first + 1; c < first + j->chunks; c++) {
        j->ctx->k->add(dw, j->partial + c * n, dw, n);
        if (db) j->ctx->k->add(db, j->partial_bias + c * a->cout, db, a->cout);
    }
}

void conv_backward_all(struct conv_job *j, conv_fill_f fill)
{
    struct backward_job b = {j, fill};
    cn_pool_run(j->ctx->pool, j->a->m * j->chunks, backward_item, &b);
    cn_pool_run(j->ctx->pool, j->a->m, reduce_item, j);
}

static void fill_plain(const struct conv_job *j, int item, float *dy)
{
    const struct nn_conv1d *a = j->a;
    const float *src = a->dy + (int64_t)item * a->cout * a->tout;
    float *row = dy;
    for (int o = 0; o < a->cout; o++, row += j->ds, src += a->tout) {
        memcpy(row, src, sizeof(float) * (size_t)a->tout);
        memset(row + a->tout, 0, sizeof(float) * (size_t)(round16(a->tout) - a->tout));
    }
}

int fast_conv1d_backward(struct nn_backend *be, const struct nn_conv1d *a)
{
    struct conv_job j;
    conv_job_init(&j, be, a, NULL);
    int rc = conv_job_prepare(&j, be, 1);
    if (rc) return rc;
    conv_backward_all(&j, fill_plain);
    return 0;
}
