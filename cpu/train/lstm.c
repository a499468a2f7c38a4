/* cpu/train/lstm.c - one LSTM layer over the `rows`, `dots` and cell kernels.
 *
 * Records lie in the vector lanes, up to 32 of them in a chunk that one thread takes through all
 * steps without meeting another. Time goes in blocks of 16 steps: a block's inputs are transposed
 * once into slots, slot s holding [x of step s; hidden of step s-1; ones] by lanes, so the input and
 * the recurrent product are one `rows` call per step and need no other memory. Backward rebuilds
 * the hidden states from the saved gates and cells, collects a block's gate gradients and adds
 * their product with the slots to the weight gradient, the row of ones giving the bias'.
 * save: [M][chunk][T][5H][lanes]: gates after their non-linearities, then the cell.
 */
#include "cpu/train/context.h"
#include "cpu/train/fast.h"

#include <string.h>

#define LANES 32 /* records of a chunk */
#define STEPS 16 /* of a block of time */

struct lstm_job {
    const struct nn_lstm *a;
    struct cpu_train *ctx;
    int chunks; /* per member */
    int terms;  /* C + H */
    int blocks_in, blocks_h, blocks_x;
    /* shared scratch */
    int32_t *off;   /* [4H or C+H+1] j -> j * lanes, for LANES, then for 16 */
    float *w_in;    /* packed [M][4H, C+H] */
    float *w_h;     /* packed [M][H, 4H]: towards the hidden state */
    float *w_x;     /* packed [M][C, 4H]: towards x */
    float *joined;  /* [4H, C+H] before packing */
    float *bias;    /* [M][4H] both added */
    float *partial; /* [M*chunks][4H, C+H+1] weight gradients */
};

struct lstm_own {
    float *slot; /* [STEPS+1][C+H+1][lanes] */
    float *z;    /* [STEPS][4H][lanes] */
    float *cell; /* [2][H][lanes]: forward without save; backward: dc */
    float *dh;   /* [STEPS][H][lanes] */
    float *dx;   /* [STEPS][C][lanes] */
};

/* A chunk of the batch. */
struct lanes {
    int m, first, count; /* member; row of all M*B; records */
    int n;               /* lanes: count rounded up to 16 */
    float *save;
};

/* Steps t0 .. t0+n-1. `fetch`: which column, counted from t0, the next call will need first. */
struct steps {
    int t0, n, fetch;
};

static int rounded(int n)
{
    return (n + 15) & ~15;
}

static int64_t member_lanes(const struct nn_lstm *a)
{
    return a->b / LANES * LANES + rounded(a->b % LANES);
}

int64_t fast_lstm_save_floats(struct nn_backend *be, const struct nn_lstm *a)
{
    return a->m * member_lanes(a) * 5 * a->h * a->t;
}

static struct lanes chunk_of(const struct lstm_job *j, int item)
{
    const struct nn_lstm *a = j->a;
    int m = item / j->chunks, c = item % j->chunks, at = c * LANES;
    struct lanes l = {.m = m, .first = m * a->b + at};
    l.count = a->b - at < LANES ? a->b - at : LANES;
    l.n = rounded(l.count);
    if (a->save) l.save = a->save + (m * member_lanes(a) + at) * 5 * a->h * a->t;
    return l;
}

static void carve_shared(struct lstm_job *j, struct cpu_train_cut *s, int backward)
{
    const struct nn_lstm *a = j->a;
    size_t h = (size_t)a->h, m = (size_t)a->m, terms = (size_t)j->terms;
    size_t most = terms + 1 > 4 * h ? terms + 1 : 4 * h;
    j->off = (int32_t *)cpu_train_take(s, 2 * most);
    j->joined = cpu_train_take(s, 4 * h * terms);
    if (!backward) {
        j->w_in = cpu_train_take(s, m * 4 * h * terms);
        j->bias = cpu_train_take(s, m * 4 * h);
        return;
    }
    j->w_h = cpu_train_take(s, m * 4 * h * h);
    j->w_x = cpu_train_take(s, m * 4 * h * (size_t)a->c);
    j->partial = cpu_train_take(s, m * (size_t)j->chunks * 4 * h * (terms + 1));
}

static struct lstm_own carve_own(const struct lstm_job *j, struct cpu_train_cut *s)
{
    const struct nn_lstm *a = j->a;
    size_t h = (size_t)a->h * LANES;
    struct lstm_own own;
    own.slot = cpu_train_take(s, (STEPS + 1) * ((size_t)j->terms + 1) * LANES);
    own.z = cpu_train_take(s, STEPS * 4 * h);
    own.cell = cpu_train_take(s, h);
    own.dh = cpu_train_take(s, STEPS * h);
    own.dx = cpu_train_take(s, STEPS * (size_t)a->c * LANES);
    return own;
}

static void pack_forward(const struct lstm_job *j, int m)
{
    const struct nn_lstm *a = j->a;
    const float *w_ih = a->w_ih + m * a->stride, *w_hh = a->w_hh + m * a->stride;
    float *bias = j->bias + (int64_t)m * 4 * a->h;
    for (int g = 0; g < 4 * a->h; g++) {
        float *row = j->joined + (int64_t)g * j->terms;
        memcpy(row, w_ih + (int64_t)g * a->c, sizeof(float) * (size_t)a->c);
        memcpy(row + a->c, w_hh + (int64_t)g * a->h, sizeof(float) * (size_t)a->h);
        bias[g] = a->b_ih[m * a->stride + g] + a->b_hh[m * a->stride + g];
    }
    rows_pack(j->w_in + (int64_t)m * 4 * a->h * j->terms, j->joined, 4 * a->h, j->terms, j->terms,
              1, j->blocks_in);
}

static int prepare(struct lstm_job *j, struct nn_backend *be, const struct nn_lstm *a, int backward)
{
    *j = (struct lstm_job){.a = a, .ctx = cpu_train_of(be), .terms = a->c + a->h};
    j->chunks = (a->b + LANES - 1) / LANES;
    struct cpu_train_cut shared = {0}, own = {0};
    carve_shared(j, &shared, backward);
    carve_own(j, &own);
    int rc = cpu_train_scratch(be, shared.used, own.used);
    if (rc) return rc;
    shared = (struct cpu_train_cut){.base = j->ctx->shared};
    carve_shared(j, &shared, backward);
    int most = j->terms + 1 > 4 * a->h ? j->terms + 1 : 4 * a->h;
    for (int i = 0; i < most; i++) {
        j->off[i] = i * LANES;
        j->off[most + i] = i * 16;
    }
    j->blocks_in = j->ctx->k->row_blocks(4 * a->h, LANES);
    j->blocks_h = j->ctx->k->row_blocks(a->h, LANES);
    j->blocks_x = j->ctx->k->row_blocks(a->c, LANES);
    int64_t gates = 4 * a->h;
    for (int m = 0; m < a->m; m++) {
        if (!backward) {
            pack_forward(j, m);
            continue;
        }
        rows_pack(j->w_h + m * gates * a->h, a->w_hh + m * a->stride, a->h, (int)gates, 1, a->h,
                  j->blocks_h);
        rows_pack(j->w_x + m * gates * a->c, a->w_ih + m * a->stride, a->c, (int)gates, 1, a->c,
                  j->blocks_x);
    }
    return 0;
}

static const int32_t *offsets(const struct lstm_job *j, int lanes)
{
    int most = j->terms + 1 > 4 * j->a->h ? j->terms + 1 : 4 * j->a->h;
    return lanes == LANES ? j->off : j->off + most;
}

/* rows of [M*B, width, T], steps t0.. of n -> out [n][stride], `width` rows of lanes each; lanes
 * without a record are not touched. */
static void to_lanes(const struct lstm_job *j, const struct lanes *l, const float *src, int width,
                     struct steps s, float *out, int64_t stride)
{
    int64_t t = j->a->t, row = width * t;
    struct transpose_args r = {.xs = row, .ys = stride, .rows = l->count, .cols = s.n};
    r.fetch = s.t0 + s.fetch >= 0 && s.t0 + s.fetch < t ? s.fetch : 0;
    for (int c = 0; c < width; c++) {
        r.x = src + l->first * row + c * t + s.t0;
        r.y = out + (int64_t)c * l->n;
        j->ctx->k->transpose(&r);
    }
}

static void from_lanes(const struct lstm_job *j, const struct lanes *l, const float *in,
                       int64_t stride, struct steps s, int width, float *dst)
{
    int64_t t = j->a->t, row = width * t;
    struct transpose_args r = {.xs = stride, .ys = row, .rows = s.n, .cols = l->count};
    for (int c = 0; c < width; c++) {
        r.x = in + (int64_t)c * l->n;
        r.y = dst + l->first * row + c * t + s.t0;
        j->ctx->k->transpose(&r);
    }
}

static int block_steps(const struct nn_lstm *a, int t0)
{
    return a->t - t0 < STEPS ? a->t - t0 : STEPS;
}

/* One step: slot s -> gates, cell, and the hidden state in slot s+1. */
static void forward_step(const struct lstm_job *j, const struct lanes *l,
                         const struct lstm_own *own, int t, float *slot)
{
    const struct nn_lstm *a = j->a;
    int64_t h = (int64_t)a->h * l->n, slots = (int64_t)(j->terms + 1) * l->n;
    struct rows_args r = {.o = 4 * a->h, .j = j->terms, .t = l->n, .blocks = j->blocks_in};
    r.w = j->w_in + (int64_t)l->m * 4 * a->h * j->terms;
    r.x = slot;
    r.off = offsets(j, l->n);
    r.bias = j->bias + (int64_t)l->m * 4 * a->h;
    r.y = own->z;
    r.ys = l->n;
    j->ctx->k->rows(&r);
    float *save = l->save && a->train ? l->save + t * 5 * h : NULL;
    struct lstm_cell c = {.h = a->h, .lanes = l->n, .stride = l->n, .z = own->z};
    c.gate = save ? save : own->z;
    c.c = save ? save + 4 * h : own->cell;
    c.c_prev = t == 0 ? NULL : save ? save - h : own->cell;
    c.hid = slot + slots + (int64_t)a->c * l->n;
    j->ctx->k->lstm_cell(&c);
}

static void forward_item(void *arg, int item, int thread)
{
    const struct lstm_job *j = arg;
    const struct nn_lstm *a = j->a;
    struct lanes l = chunk_of(j, item);
    struct lstm_own own = carve_own(j, &(struct cpu_train_cut){.base = j->ctx->own[thread]});
    int64_t slots = (int64_t)(j->terms + 1) * l.n, hidden = (int64_t)a->c * l.n;
    memset(own.slot, 0, sizeof(float) * (size_t)((STEPS + 1) * slots));
    for (int t0 = 0; t0 < a->t; t0 += STEPS) {
        int n = block_steps(a, t0);
        struct steps now = {t0, n, 2 * STEPS - 1};
        to_lanes(j, &l, a->x, a->c, now, own.slot, slots);
        for (int s = 0; s < n; s++) forward_step(j, &l, &own, t0 + s, own.slot + s * slots);
        from_lanes(j, &l, own.slot + slots + hidden, slots, now, a->h, a->y);
        memcpy(own.slot + hidden, own.slot + n * slots + hidden,
               sizeof(float) * (size_t)(a->h * l.n));
    }
}

int fast_lstm_forward(struct nn_backend *be, const struct nn_lstm *a)
{
    struct lstm_job j;
    int rc = prepare(&j, be, a, 0);
    if (rc) return rc;
    cn_pool_run(j.ctx->pool, a->m * j.chunks, forward_item, &j);
    return 0;
}

/* out [width][lanes] += W' dz. */
static void product(const struct lstm_job *j, const struct lanes *l, const float *w, int blocks,
                    const float *dz, int width, float *out, int add)
{
    struct rows_args r = {.o = width, .j = 4 * j->a->h, .t = l->n, .blocks = blocks, .w = w};
    r.x = dz;
    r.off = offsets(j, l->n);
    r.y = out;
    r.ys = l->n;
    r.add = add;
    j->ctx->k->rows(&r);
}

/* Step t0+s: own->dh[s] has dy and gets what step t+1 sends; leaves dz, the hidden state of step t in
 * slot s+1 and dc for step t-1. dz_next: NULL at the last step. */
static void backward_step(const struct lstm_job *j, const struct lanes *l,
                          const struct lstm_own *own, int t0, int s, const float *dz_next)
{
    const struct nn_lstm *a = j->a;
    int64_t h = (int64_t)a->h * l->n, slots = (int64_t)(j->terms + 1) * l->n, t = t0 + s;
    float *dh = own->dh + s * h, *save = l->save + t * 5 * h;
    if (dz_next)
        product(j, l, j->w_h + (int64_t)l->m * 4 * a->h * a->h, j->blocks_h, dz_next, a->h, dh, 1);
    struct lstm_cell_grad g = {.h = a->h, .lanes = l->n, .stride = l->n, .gate = save};
    g.c = save + 4 * h;
    g.c_prev = t > 0 ? save - h : NULL;
    g.dh = dh;
    g.dc = own->cell;
    g.dz = own->z + s * 4 * h;
    g.hid = own->slot + (s + 1) * slots + (int64_t)a->c * l->n;
    j->ctx->k->lstm_cell_grad(&g);
}

/* The hidden state before step t0, from the layer's output, into slot 0. */
static void hidden_before(const struct lstm_job *j, const struct lanes *l, int t0, float *out)
{
    const struct nn_lstm *a = j->a;
    const float *y = a->y + (int64_t)l->first * a->h * a->t + t0 - 1;
    memset(out, 0, sizeof(float) * (size_t)(a->h * l->n));
    for (int r = 0; t0 > 0 && r < l->count; r++)
        for (int u = 0; u < a->h; u++) out[u * l->n + r] = y[((int64_t)r * a->h + u) * a->t];
}

static void block_weights(const struct lstm_job *j, const struct lanes *l,
                          const struct lstm_own *own, int n, float *partial, int add)
{
    const struct nn_lstm *a = j->a;
    struct dots_args d = {.o = 4 * a->h, .j = j->terms + 1, .t = l->n, .n = n, .dy = own->z};
    d.dy_stride = l->n;
    d.dy_next = (int64_t)4 * a->h * l->n;
    d.x = own->slot;
    d.off = offsets(j, l->n);
    d.x_next = (int64_t)(j->terms + 1) * l->n;
    d.dw = partial;
    d.add = add;
    j->ctx->k->dots(&d);
}

static void block_dx(const struct lstm_job *j, const struct lanes *l, const struct lstm_own *own,
                     int t0, int n)
{
    const struct nn_lstm *a = j->a;
    int64_t h4 = (int64_t)4 * a->h * l->n, c = (int64_t)a->c * l->n;
    for (int s = 0; s < n; s++)
        product(j, l, j->w_x + (int64_t)l->m * 4 * a->h * a->c, j->blocks_x, own->z + s * h4, a->c,
                own->dx + s * c, 0);
    from_lanes(j, l, own->dx, c, (struct steps){t0, n, 0}, a->c, a->dx);
}

/* Everything a block of time reads, by lanes; lanes without a record are zero, and stay without
 * gradient. */
static void load_block(const struct lstm_job *j, const struct lanes *l, const struct lstm_own *own,
                       int t0, int n)
{
    const struct nn_lstm *a = j->a;
    int64_t h = (int64_t)a->h * l->n, slots = (int64_t)(j->terms + 1) * l->n;
    struct steps now = {t0, n, -STEPS};
    to_lanes(j, l, a->x, a->c, now, own->slot, slots);
    to_lanes(j, l, a->dy, a->h, now, own->dh, h);
    hidden_before(j, l, t0, own->slot + (int64_t)a->c * l->n);
}

static void backward_item(void *arg, int item, int thread)
{
    const struct lstm_job *j = arg;
    const struct nn_lstm *a = j->a;
    struct lanes l = chunk_of(j, item);
    struct lstm_own own = carve_own(j, &(struct cpu_train_cut){.base = j->ctx->own[thread]});
    int64_t slots = (int64_t)(j->terms + 1) * l.n, h = (int64_t)a->h * l.n;
    float *partial = j->partial + (int64_t)item * 4 * a->h * (j->terms + 1);
    memset(own.slot, 0, sizeof(float) * (size_t)((STEPS + 1) * slots));
    memset(own.dh, 0, sizeof(float) * (size_t)(STEPS * h));
    memset(own.cell, 0, sizeof(float) * (size_t)h);
    for (int s = 0; s < STEPS; s++)
        for (int i = 0; i < l.n; i++) own.slot[s * slots + (int64_t)j->terms * l.n + i] = 1;
    int last = (a->t - 1) / STEPS * STEPS;
    for (int t0 = last; t0 >= 0; t0 -= STEPS) {
        int n = block_steps(a, t0);
        const float *next = t0 < last ? own.z : NULL; /* step t0+n was first of the block before */
        /* its place is needed by this block's step 0 only after it was read */
        load_block(j, &l, &own, t0, n);
        for (int s = n - 1; s >= 0; s--) {
            backward_step(j, &l, &own, t0, s, next);
            next = own.z + s * 4 * h;
        }
        block_weights(j, &l, &own, n, partial, t0 < last);
        if (a->dx) block_dx(j, &l, &own, t0, n);
    }
}

/* Adds the chunks of member m in order and hands out the columns. */
static void reduce_item(void *arg, int m, int thread)
{
    const struct lstm_job *j = arg;
    const struct nn_lstm *a = j->a;
    int64_t width = j->terms + 1, n = 4 * a->h * width;
    float *sum = j->partial + (int64_t)m * j->chunks * n;
    for (int c = 1; c < j->chunks; c++) j->ctx->k->add(sum, sum + c * n, sum, n);
    for (int64_t g = 0; g < 4 * a->h; g++) {
        const float *row = sum + g * width;
        memcpy(a->dw_ih + m * a->stride + g * a->c, row, sizeof(float) * (size_t)a->c);
        memcpy(a->dw_hh + m * a->stride + g * a->h, row + a->c, sizeof(float) * (size_t)a->h);
        a->db_ih[m * a->stride + g] = a->db_hh[m * a->stride + g] = row[j->terms];
    }
}

int fast_lstm_backward(struct nn_backend *be, const struct nn_lstm *a)
{
    struct lstm_job j;
    int rc = prepare(&j, be, a, 1);
    if (rc) return rc;
    cn_pool_run(j.ctx->pool, a->m * j.chunks, backward_item, &j);
    cn_pool_run(j.ctx->pool, a->m, reduce_item, &j);
    return 0;
}
