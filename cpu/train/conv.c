/* cpu/train/conv.c - 1-D convolution, forward and backward, over the `rows` and `dots` kernels, or by
 * Winograd's tiles (wino.h) where they are faster.
 *
 * Each record's rows are copied into padded rows (zeros at both ends, room to read whole vectors),
 * which costs a few percent and saves every special case; reading rows in place is slower even
 * where it is possible, as a copy streams and the kernels do not (tiles do, and read in place). dx is
 * the convolution of the padded dy with the flipped weights. dw: the batch is cut into chunks by the shapes alone, each summed in
 * order by one thread, then the chunks in order: same bits for any number of threads, and members
 * of a gang never meet.
 */
#include "cpu/train/conv.h"
#include "cpu/train/fast.h"

#include <string.h>

#define CHUNKS 8                /* of a member's batch in backward, at most */
#define PARTIAL_FLOATS 16777216 /* of all chunks' weight gradients, about */
#define GROUP_COLS 64
#define GROUP_X 98304 /* floats of x in a group at most: they are to stay in the L2 cache */

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

/* Where Winograd's tiles are faster than the direct sum, and the group sizes that suit them. */
static void choose_tiles(struct conv_job *j, int largest)
{
    const struct nn_conv1d *a = j->a;
    const struct cpu_kernels *kn = j->ctx->k;
    int need = 0;
    /* a block's sums are taken before the tiles' bias is added */
    if (a->pad >= a->k || (j->block && a->bias)) return;
    if (wino_pays(a->k, a->cin, a->cout)) {
        j->tile_y = wino_of(kn, a->k, a->cin, a->cout, a->tout);
        j->tile_dx = wino_of(kn, a->k, a->cout, a->cin, a->tin);
        j->together = wino_group(&j->tile_y) < a->b ? wino_group(&j->tile_y) : a->b;
        need = wino_row_floats(&j->tile_dx);
        if (j->ds < j->left + need) j->ds = row_stride(j->left + need);
        need = wino_row_floats(&j->tile_y);
    }
    if (wino_pays_dw(a->k, a->cin, a->cout)) {
        j->tile_dw = wino_of(kn, a->k, a->cin, a->cout, a->tout);
        j->partial_n = wino_weight_floats(&j->tile_dw);
        j->group = wino_group(&j->tile_dw) < largest ? wino_group(&j->tile_dw) : largest;
        need = wino_row_floats(&j->tile_dw);
        if (j->ds < j->left + need) j->ds = row_stride(j->left + need);
    }
    if (j->xs < need) j->xs = row_stride(need);
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
    j->together = 1;
    j->partial_n = (int64_t)a->cout * j->jx;
    choose_tiles(j, largest);
    int64_t most = PARTIAL_FLOATS / j->partial_n; /* wide layers: fewer chunks, less memory */
    if (j->chunks > most) j->chunks = most < 1 ? 1 : (int)most;
}

static void carve_shared(struct conv_job *j, struct cpu_train_cut *s, int backward)
{
    const struct nn_conv1d *a = j->a;
    j->off_x = (int32_t *)cpu_train_take(s, (size_t)j->jx);
    j->off_d = (int32_t *)cpu_train_take(s, (size_t)j->jd);
    size_t tiled = (size_t)(a->k + 3) * a->cin * a->cout, plain = (size_t)a->cout * j->jx;
    size_t weights = j->tile_y.k ? tiled : plain;
    if (j->tile_y.k) j->untransformed = cpu_train_take(s, tiled);
    if (!backward) j->w_x = cpu_train_take(s, a->m * weights);
    if (backward && a->dx) j->w_d = cpu_train_take(s, a->m * weights);
    if (backward) {
        j->partial = cpu_train_take(s, (size_t)(a->m * j->chunks * j->partial_n));
        j->partial_bias = cpu_train_take(s, (size_t)a->m * j->chunks * a->cout);
    }
    if (j->block) block_carve(j, s);
}

static struct conv_own carve_own(const struct conv_job *j, struct cpu_train_cut *s)
{
    const struct nn_conv1d *a = j->a;
    size_t most = (size_t)(j->group > j->together ? j->group : j->together);
    int64_t tile[3] = {j->tile_y.k ? wino_scratch_floats(&j->tile_y) : 0,
                       j->tile_dx.k ? wino_scratch_floats(&j->tile_dx) : 0,
                       j->tile_dw.k ? wino_dw_scratch_floats(&j->tile_dw) : 0};
    for (int i = 1; i < 3; i++) tile[0] = tile[0] > tile[i] ? tile[0] : tile[i];
    struct conv_own own;
    own.x = cpu_train_take(s, most * a->cin * j->xs);
    own.dy = cpu_train_take(s, (size_t)j->group * a->cout * j->ds);
    own.lanes = cpu_train_take(s, (size_t)j->together * a->cout * 32);
    own.c = cpu_train_take(s, (size_t)j->together * a->cout * a->tout);
    own.c_max = cpu_train_take(s, j->block ? (size_t)a->cout * j->block->t_pool : 0);
    own.tile = cpu_train_take(s, (size_t)tile[0]);
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

/* Floats of a member's packed weights, either way. */
static int64_t packed_floats(const struct conv_job *j)
{
    int k = j->tile_y.k ? j->a->k + 3 : j->a->k;
    return (int64_t)j->a->cin * j->a->cout * k;
}

static void pack_member(const struct conv_job *j, int m)
{
    const struct nn_conv1d *a = j->a;
    const float *w = a->w + m * a->stride;
    float *w_x = j->w_x ? j->w_x + m * packed_floats(j) : NULL;
    float *w_d = j->w_d ? j->w_d + m * packed_floats(j) : NULL;
    if (j->tile_y.k) {
        const int64_t plain[3] = {j->jx, a->k, 1}, flipped[3] = {a->k, j->jx, -1};
        if (w_x) wino_weights(j->ctx->k, &j->tile_y, w, plain, w_x, j->untransformed);
        if (w_d) wino_weights(j->ctx->k, &j->tile_dx, w + a->k - 1, flipped, w_d, j->untransformed);
        return;
    }
    if (w_x) rows_pack(w_x, w, a->cout, j->jx, j->jx, 1, j->blocks_x);
    if (w_d) pack_flipped(w_d, w, a, j->blocks_d);
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
    for (int m = 0; m < a->m; m++) pack_member(j, m);
    return 0;
}

/* Zeros at both ends of n records' padded rows of x. */
static void pad_margins(const struct conv_job *j, int n, float *x)
{
    const struct nn_conv1d *a = j->a;
    for (int64_t row = 0; row < (int64_t)n * a->cin; row++, x += j->xs) {
        memset(x, 0, sizeof(float) * (size_t)a->pad);
        memset(x + a->pad + a->tin, 0, sizeof(float) * (size_t)(j->xs - a->pad - a->tin));
    }
}

/* Copies a record's rows between their margins. */
static void copy_input(const struct conv_job *j, int item, float *out)
{
    const struct nn_conv1d *a = j->a;
    const float *x = a->x + (int64_t)item * a->cin * a->tin;
    for (int c = 0; c < a->cin; c++, out += j->xs, x += a->tin)
        memcpy(out + a->pad, x, sizeof(float) * (size_t)a->tin);
}

/* Tiles read rows one after the other, so without padding they may do so in place. */
static int forward_in_place(const struct conv_job *j)
{
    return j->tile_y.k && !j->a->pad;
}

/* Towards dw too, unless reading whole tiles would leave the member's data. What they read behind a
 * row meets gradients of zero. */
static int dw_in_place(const struct conv_job *j, int item, int n)
{
    const struct nn_conv1d *a = j->a;
    int64_t record = (int64_t)a->cin * a->tin, behind = (a->b - item % a->b - n) * record;
    return j->tile_dw.k && !a->pad && behind >= wino_row_floats(&j->tile_dw);
}

/* Where the tiles of the records from `item` on read: in place, or the padded copies. */
static void tile_input(const struct conv_job *j, int item, int in_place, const struct conv_own *own,
                       struct wino_io *io)
{
    const struct nn_conv1d *a = j->a;
    io->x = in_place ? a->x + (int64_t)item * a->cin * a->tin : own->x;
    io->x_row = in_place ? a->tin : j->xs;
    io->x_record = a->cin * io->x_row;
}

int conv_calls(const struct conv_job *j)
{
    return j->a->m * ((j->a->b + j->together - 1) / j->together);
}

void conv_call(const struct conv_job *j, int i, int *item, int *n)
{
    int calls = (j->a->b + j->together - 1) / j->together, at = i % calls * j->together;
    *item = i / calls * j->a->b + at;
    *n = j->a->b - at < j->together ? j->a->b - at : j->together;
}

/* `records` rows of [.., channels, t] behind row `item` of the batch, as far as there are any. */
static struct fetch fetch_rows(const struct conv_job *j, const float *base, int item, int records,
                               int64_t floats)
{
    int left = j->a->m * j->a->b - item;
    struct fetch f = {.lines = (records < left ? records : left) * floats / 16};
    f.p = base && left > 0 ? base + item * floats : NULL;
    return f;
}

/* One record by the direct sum. */
static void direct_forward(const struct conv_job *j, int item, const float *x, float *y,
                           const float *shift, float *lanes)
{
    const struct nn_conv1d *a = j->a;
    int m = item / a->b;
    struct rows_args r = {
        .fetch = fetch_rows(j, a->x, item + 1, 1, (int64_t)a->cin * a->tin),
        .o = a->cout,
        .j = j->jx,
        .t = a->tout,
        .blocks = j->blocks_x,
        .w = j->w_x + m * packed_floats(j),
        .x = x,
        .off = j->off_x,
        .bias = a->bias ? a->bias + m * a->stride : NULL,
        .y = y,
        .ys = a->tout,
        .shift = shift,
        .lanes = lanes,
    };
    j->ctx->k->rows(&r);
}

/* Adds the bias to n records of y: the tiles leave it out. */
static void add_bias(const struct conv_job *j, int item, int n, float *y)
{
    const struct nn_conv1d *a = j->a;
    const float *bias = a->bias + item / a->b * a->stride;
    for (int64_t row = 0; row < (int64_t)n * a->cout; row++)
        for (int t = 0; t < a->tout; t++) y[row * a->tout + t] += bias[row % a->cout];
}

static void tiled_forward(const struct conv_job *j, int item, int n, const struct conv_own *own,
                          float *y, const float *shift)
{
    const struct nn_conv1d *a = j->a;
    struct wino_io io = {.records = n, .y = y, .y_row = a->tout};
    tile_input(j, item, forward_in_place(j), own, &io);
    io.fetch = fetch_rows(j, a->x, item + n, n, (int64_t)a->cin * a->tin);
    io.y_record = (int64_t)a->cout * a->tout;
    io.u = j->w_x + item / a->b * packed_floats(j);
    io.shift = shift;
    io.lanes = own->lanes;
    wino_conv(j->ctx->k, &j->tile_y, &io, own->tile);
    if (a->bias) add_bias(j, item, n, y);
}

void conv_forward(const struct conv_job *j, int item, int n, const struct conv_own *own, float *y)
{
    const struct nn_conv1d *a = j->a;
    int stats = j->block && j->block->bn.train;
    const float *shift = stats ? j->shift + item / a->b * a->cout : NULL;
    if (!forward_in_place(j)) {
        pad_margins(j, n, own->x);
        for (int i = 0; i < n; i++) copy_input(j, item + i, own->x + (int64_t)i * a->cin * j->xs);
    }
    if (j->tile_y.k)
        tiled_forward(j, item, n, own, y, shift);
    else
        direct_forward(j, item, own->x, y, shift, own->lanes);
    if (stats)
        j->ctx->k->lane_sums(own->lanes, n * a->cout, j->sum + (int64_t)item * a->cout,
                             j->sum2 + (int64_t)item * a->cout);
}

static void forward_call(void *arg, int i, int thread)
{
    const struct conv_job *j = arg;
    struct conv_own own = conv_job_own(j, thread);
    int item, n;
    conv_call(j, i, &item, &n);
    conv_forward(j, item, n, &own, j->a->y + (int64_t)item * j->a->cout * j->a->tout);
}

int fast_conv1d_forward(struct nn_backend *be, const struct nn_conv1d *a)
{
    struct conv_job j;
    conv_job_init(&j, be, a, NULL);
    int rc = conv_job_prepare(&j, be, 0);
    if (rc) return rc;
    cn_pool_run(j.ctx->pool, conv_calls(&j), forward_call, &j);
    return 0;
}

/* Zeros around each padded row of n records' dy: before the data, and from its last whole vector on. */
static void zero_margins(const struct conv_job *j, int n, float *dy)
{
    int end = j->left + round16(j->a->tout);
    for (int64_t row = 0; row < (int64_t)n * j->a->cout; row++, dy += j->ds) {
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
        .w = j->w_d + item / a->b * packed_floats(j),
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

/* dx of n records by tiles. */
static void tiled_dx(const struct conv_job *j, int item, int n, const struct conv_own *own)
{
    const struct nn_conv1d *a = j->a;
    struct wino_io io = {.records = n, .x_row = j->ds, .y_row = a->tin, .add = a->dx_add};
    io.x = own->dy + j->off_d[0];
    io.x_record = (int64_t)a->cout * j->ds;
    io.y = a->dx + (int64_t)item * a->cin * a->tin;
    io.y_record = (int64_t)a->cin * a->tin;
    io.u = j->w_d + item / a->b * packed_floats(j);
    wino_conv(j->ctx->k, &j->tile_dx, &io, own->tile);
}

/* What n records add to the chunk's weight gradient. */
static void group_dw(const struct conv_job *j, int item, int n, const struct conv_own *own,
                     float *dw, int add)
{
    const struct nn_conv1d *a = j->a;
    int64_t x_record = (int64_t)a->cin * j->xs, dy_record = (int64_t)a->cout * j->ds;
    struct fetch next =
        fetch_rows(j, j->block ? a->y : a->dy, item + n, n, (int64_t)a->cout * a->tout);
    if (j->tile_dw.k) {
        struct wino_io io = {.fetch = next, .records = n};
        tile_input(j, item, dw_in_place(j, item, n), own, &io);
        if (io.x != own->x) io.x_ahead = (int)(n * io.x_record);
        io.dy = own->dy + j->left;
        io.dy_record = dy_record;
        io.dy_row = j->ds;
        io.dw = dw;
        io.add = add;
        wino_dw(j->ctx->k, &j->tile_dw, &io, own->tile);
        return;
    }
    struct dots_args d = {.o = a->cout, .j = j->jx, .t = a->tout, .n = n, .dw = dw, .add = add};
    d.dy = own->dy + j->left;
    d.dy_stride = j->ds;
    d.dy_next = dy_record;
    d.x = own->x;
    d.off = j->off_x;
    d.x_next = x_record;
    d.fetch = next;
    j->ctx->k->dots(&d);
}

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
    int most = last - first < j->group ? last - first : j->group;
    pad_margins(j, most, own.x);
    zero_margins(j, most, own.dy);
    for (int r = first; r < last; r += j->group) {
        int n = last - r < j->group ? last - r : j->group;
        int copy = !dw_in_place(j, r, n);
        for (int i = 0; i < n; i++) {
            float *dy = own.dy + (int64_t)i * a->cout * j->ds;
            if (copy) copy_input(j, r + i, own.x + (int64_t)i * a->cin * j->xs);
            b->fill(j, r + i, dy + j->left);
            if (a->dx && !j->tile_dx.k) record_dx(j, r + i, dy);
            if (a->dbias) record_dbias(j, dy, bias);
        }
        if (a->dx && j->tile_dx.k) tiled_dx(j, r, n, &own);
        group_dw(j, r, n, &own, j->partial + item * j->partial_n, r > first);
    }
}

/* Sums the chunks' parts in order. Item: a member. */
static void reduce_item(void *arg, int m, int thread)
{
    const struct conv_job *j = arg;
    const struct nn_conv1d *a = j->a;
    int64_t n = j->partial_n, first = (int64_t)m * j->chunks;
    float *dw = j->partial + first * n, *db = a->dbias ? a->dbias + m * a->stride : NULL;
    if (db) memcpy(db, j->partial_bias + first * a->cout, sizeof(float) * (size_t)a->cout);
    for (int64_t c = first + 1; c < first + j->chunks; c++) {
        j->ctx->k->add(dw, j->partial + c * n, dw, n);
        if (db) j->ctx->k->add(db, j->partial_bias + c * a->cout, db, a->cout);
    }
    if (j->tile_dw.k)
        wino_dw_finish(j->ctx->k, &j->tile_dw, dw, a->dw + m * a->stride,
                       conv_job_own(j, thread).tile);
    else
        memcpy(a->dw + m * a->stride, dw, sizeof(float) * (size_t)n);
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
