/* cpu/train/lstm.c - one LSTM layer over the `rows`, `dots` and cell kernels.
 *
 * Records lie in the vector lanes, up to 32 of them in a chunk that one thread takes through all
 * steps without meeting another. Time goes in blocks of 16 steps: a block's inputs are transposed
 * once into slots, slot s holding [x of step s; hidden of step s-1; ones] by lanes, so the input and
 * the recurrent product are one `rows` call per step and need no other memory. A row of scratch
 * keeps a block's steps side by side, so that the weight gradients are long dot products. Backward rebuilds
 * the hidden states from the saved gates and cells, collects a block's gate gradients and adds
 * their product with the slots to the weight gradient, the row of ones giving the bias'.
 * save: [M][chunk][T][5H][lanes]: gates after their non-linearities, then the cell.
 */
#include "cpu/train/context.h"
#include "cpu/train/fast.h"

#include <string.h>

#define LANES 32 /* records of a chunk */
#define STEPS 16 /* of a block of time */
/* Floats from row to row of scratch: a slot more than steps, and an odd number of cache lines. */
#define ROW ((STEPS + 1) * LANES + 16)

struct lstm_job {
    const struct nn_lstm *a;
    struct cpu_train *ctx;
    int chunks; /* per member */
    int terms;  /* C + H */
    int blocks_in, blocks_h, blocks_x;
    /* shared scratch */
    int32_t *off;   /* [4H or C+H+1] j -> j * ROW */
    float *w_in;    /* packed [M][4H, C+H] */
    float *w_h;     /* packed [M][H, 4H]: towards the hidden state */
    float *w_x;     /* packed [M][C, 4H]: towards x */
    float *joined;  /* [4H, C+H] before packing */
    float *bias;    /* [M][4H] both added */
    float *partial; /* [M*chunks][4H, C+H+1] weight gradients */
};

/* Per-thread scratch; rows of ROW floats, step s of a row at s * lanes. */
struct lstm_own {
    float *slot; /* [C+H+1] rows of STEPS+1 slots */
    float *dz;   /* [4H] rows */
    float *dh;   /* [H] rows */
    float *dx;   /* [C] rows */
    float *z;    /* [4H][lanes] one step */
    float *cell; /* [H][lanes] forward without save: the cell; backward: its gradient */
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
    j->off = (int32_t *)cpu_train_take(s, terms + 1 > 4 * h ? terms + 1 : 4 * h);
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
    size_t h = (size_t)a->h;
    struct lstm_own own;
    own.slot = cpu_train_take(s, ((size_t)j->terms + 1) * ROW);
    own.dz = cpu_train_take(s, 4 * h * ROW);
    own.dh = cpu_train_take(s, h * ROW);
    own.dx = cpu_train_take(s, (size_t)a->c * ROW);
    own.z = cpu_train_take(s, 4 * h * LANES);
    own.cell = cpu_train_take(s, h * LANES);
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
    for (int i = 0; i < most; i++) j->off[i] = i * ROW;
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

/* Steps s of [M*B, width, T] -> `width` rows of scratch; lanes without a record are not touched. */
static void to_lanes(const struct lstm_job *j, const struct lanes *l, const float *src, int width,
                     struct steps s, float *out)
{
    int64_t t = j->a->t, row = width * t;
    struct transpose_args r = {.xs = row, .ys = l->n, .rows = l->count, .cols = s.n};
    r.fetch = s.t0 + s.fetch >= 0 && s.t0 + s.fetch < t ? s.fetch : 0;
    for (int c = 0; c < width; c++) {
        r.x = src + l->first * row + c * t + s.t0;
        r.y = out + (int64_t)c * ROW;
        j->ctx->k->transpose(&r);
    }
}

/* And back. */
static void from_lanes(const struct lstm_job *j, const struct lanes *l, const float *in, int width,
                       struct steps s, float *dst)
{
    int64_t t = j->a->t, row = width * t;
    struct transpose_args r = {.xs = l->n, .ys = row, .rows = s.n, .cols = l->count};
    for (int c = 0; c < width; c++) {
        r.x = in + (int64_t)c * ROW;
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
                         const struct lstm_own *own, int t, int s)
{
    const struct nn_lstm *a = j->a;
    int64_t h = (int64_t)a->h * l->n;
    struct rows_args r = {.o = 4 * a->h, .j = j->terms, .t = l->n, .blocks = j->blocks_in};
    r.w = j->w_in + (int64_t)l->m * 4 * a->h * j->terms;
    r.x = own->slot + (int64_t)s * l->n;
    r.off = j->off;
    r.bias = j->bias + (int64_t)l->m * 4 * a->h;
    r.y = own->z;
    r.ys = l->n;
    j->ctx->k->rows(&r);
    float *save = l->save && a->train ? l->save + t * 5 * h : NULL;
    struct lstm_cell c = {.h = a->h, .lanes = l->n, .stride = l->n, .row = ROW, .z = own->z};
    c.gate = save;
    c.c = save ? save + 4 * h : own->cell;
    c.c_prev = t == 0 ? NULL : save ? save - h : own->cell;
    c.hid = own->slot + (int64_t)a->c * ROW + (int64_t)(s + 1) * l->n;
    j->ctx->k->lstm_cell(&c);
}

static void forward_item(void *arg, int item, int thread)
{
    const struct lstm_job *j = arg;
    const struct nn_lstm *a = j->a;
    struct lanes l = chunk_of(j, item);
    struct lstm_own own = carve_own(j, &(struct cpu_train_cut){.base = j->ctx->own[thread]});
    float *hidden = own.slot + (int64_t)a->c * ROW;
    memset(own.slot, 0, sizeof(float) * (size_t)(j->terms + 1) * ROW);
    for (int t0 = 0; t0 < a->t; t0 += STEPS) {
        struct steps now = {t0, block_steps(a, t0), 2 * STEPS - 1};
        to_lanes(j, &l, a->x, a->c, now, own.slot);
        for (int s = 0; s < now.n; s++) forward_step(j, &l, &own, t0 + s, s);
        from_lanes(j, &l, hidden + l.n, a->h, now, a->y);
        for (int u = 0; u < a->h; u++) /* the last step's is the next block's first */
            memcpy(hidden + (int64_t)u * ROW, hidden + (int64_t)u * ROW + now.n * l.n,
                   sizeof(float) * (size_t)l.n);
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

/* `width` rows of out, one step of them, = (or +=) W' dz. */
static void product(const struct lstm_job *j, const struct lanes *l, const float *w, int width,
                    const float *dz, float *out, int add)
{
    int blocks = width == j->a->h && add ? j->blocks_h : j->blocks_x;
    struct rows_args r = {.o = width, .j = 4 * j->a->h, .t = l->n, .blocks = blocks, .w = w};
    r.x = dz;
    r.off = j->off;
    r.y = out;
    r.ys = ROW;
    r.add = add;
    j->ctx->k->rows(&r);
}

/* Step t0+s: dh has dy and gets what step t+1 sends; leaves dz, the hidden state of step t in slot
 * s+1, and the cell's gradient for step t-1. dz_next: step t+1's, NULL at the last step. */
static void backward_step(const struct lstm_job *j, const struct lanes *l,
                          const struct lstm_own *own, int t0, int s, const float *dz_next)
{
    const struct nn_lstm *a = j->a;
    int64_t h = (int64_t)a->h * l->n, t = t0 + s, at = (int64_t)s * l->n;
    float *dh = own->dh + at, *save = l->save + t * 5 * h;
    if (dz_next) product(j, l, j->w_h + (int64_t)l->m * 4 * a->h * a->h, a->h, dz_next, dh, 1);
    struct lstm_cell_grad g = {.h = a->h, .lanes = l->n, .stride = l->n, .row = ROW, .gate = save};
    g.c = save + 4 * h;
    g.c_prev = t > 0 ? save - h : NULL;
    g.dh = dh;
    g.dc = own->cell;
    g.dz = own->dz + at;
    g.hid = own->slot + (int64_t)a->c * ROW + at + l->n;
    j->ctx->k->lstm_cell_grad(&g);
}

/* The hidden state before step t0, from the layer's output, into slot 0. */
static void hidden_before(const struct lstm_job *j, const struct lanes *l, int t0, float *out)
{
    const struct nn_lstm *a = j->a;
    const float *y = a->y + (int64_t)l->first * a->h * a->t + t0 - 1;
    for (int u = 0; u < a->h; u++) memset(out + u * ROW, 0, sizeof(float) * (size_t)l->n);
    for (int r = 0; t0 > 0 && r < l->count; r++)
        for (int u = 0; u < a->h; u++) out[u * ROW + r] = y[((int64_t)r * a->h + u) * a->t];
}

static void block_weights(const struct lstm_job *j, const struct lanes *l,
                          const struct lstm_own *own, int n, float *partial, int add)
{
    struct dots_args d = {.o = 4 * j->a->h, .j = j->terms + 1, .t = n * l->n, .n = 1};
    d.dy = own->dz;
    d.dy_stride = ROW;
    d.x = own->slot;
    d.off = j->off;
    d.dw = partial;
    d.add = add;
    j->ctx->k->dots(&d);
}

static void block_dx(const struct lstm_job *j, const struct lanes *l, const struct lstm_own *own,
                     struct steps now)
{
    const struct nn_lstm *a = j->a;
    const float *w = j->w_x + (int64_t)l->m * 4 * a->h * a->c;
    for (int s = 0; s < now.n; s++)
        product(j, l, w, a->c, own->dz + s * l->n, own->dx + s * l->n, 0);
    from_lanes(j, l, own->dx, a->c, now, a->dx);
}

static void backward_item(void *arg, int item, int thread)
{
    const struct lstm_job *j = arg;
    const struct nn_lstm *a = j->a;
    struct lanes l = chunk_of(j, item);
    struct lstm_own own = carve_own(j, &(struct cpu_train_cut){.base = j->ctx->own[thread]});
    float *partial = j->partial + (int64_t)item * 4 * a->h * (j->terms + 1);
    /* lanes without a record are zero, and stay without gradient */
    memset(own.slot, 0, sizeof(float) * (size_t)(j->terms + 1) * ROW);
    memset(own.dh, 0, sizeof(float) * (size_t)a->h * ROW);
    memset(own.cell, 0, sizeof(float) * (size_t)(a->h * l.n));
    for (int i = 0; i < STEPS * l.n; i++) own.slot[(int64_t)j->terms * ROW + i] = 1;
    int last = (a->t - 1) / STEPS * STEPS;
    for (int t0 = last; t0 >= 0; t0 -= STEPS) {
        struct steps now = {t0, block_steps(a, t0), -STEPS};
        to_lanes(j, &l, a->x, a->c, now, own.slot);
        to_lanes(j, &l, a->dy, a->h, now, own.dh);
        hidden_before(j, &l, t0, own.slot + (int64_t)a->c * ROW);
        /* step t0+n was the first of the block before; this block writes there only at its end */
        const float *next = t0 < last ? own.dz : NULL;
        for (int s = now.n - 1; s >= 0; s--) {
            backward_step(j, &l, &own, t0, s, next);
            next = own.dz + s * l.n;
        }
        block_weights(j, &l, &own, now.n, partial, t0 < last);
        if (a->dx) block_dx(j, &l, &own, now);
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
