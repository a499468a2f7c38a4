/* cpu/train/wino.c - 1-D Winograd convolution, forward, towards dx and towards dw (wino_tables.h has
 * the method).
 *
 * Tiles of several records stand side by side, so short records waste no lanes. A block of tiles is
 * as wide as lets its transforms stay in the L2 cache: all input rows are transformed to n arrays
 * [in][tiles], n matrix products (the `rows` kernel) give [out][tiles], and those are transformed
 * back. Towards dw the inputs are turned to [time][channels] first, so that transforms and products
 * have channels in the lanes and nothing is ever summed across them.
 */
#include "cpu/train/wino.h"

#include <string.h>

#include "cpu/train/wino_tables.h"

#define BLOCK_FLOATS 131072 /* of both transforms of a block */
#define DW_TILES 48         /* that are turned at once towards dw: they stay in the L1 cache */
#define EDGE 16             /* whole vectors may be written behind a row's end */

static int round16(int n)
{
    return (n + 15) & ~15;
}

static int products_of(const struct wino *w)
{
    return w->k + 3;
}

/* Vector operations for 16 tiles, all outputs and inputs: products, and transforms by the row. */
static int64_t direct_cost(int k, int in, int out)
{
    return (int64_t)4 * k * in * out / 2;
}

int wino_pays(int k, int in, int out)
{
    if ((k != 3 && k != 5 && k != 7) || in > WINO_MAX_CHANNELS || out > WINO_MAX_CHANNELS) return 0;
    int64_t n = k + 3, rows = (int64_t)in + out;
    return (n * in * out / 2 + 5 * n * rows) * 10 < 9 * direct_cost(k, in, out);
}

int wino_pays_dw(int k, int in, int out)
{
    if ((k != 3 && k != 5 && k != 7) || in > WINO_MAX_CHANNELS || out > WINO_MAX_CHANNELS) return 0;
    int64_t n = k + 3, rows = (int64_t)in + out;
    return (n * round16(in) * out / 2 + 6 * n * rows) * 10 < 9 * direct_cost(k, in, out);
}

struct wino wino_of(const struct cpu_kernels *kn, int k, int in, int out, int t)
{
    struct wino w = {.k = k, .in = in, .out = out, .t = t, .tiles = (t + 3) / 4};
    int most = BLOCK_FLOATS / ((k + 3) * (in + out)) / 16 * 16;
    int limit = most < 32 ? 32 : most > WINO_TILES ? WINO_TILES : most;
    /* long records: equal blocks; short ones: as many whole records as fit */
    int parts = (w.tiles + limit - 1) / limit, group = limit / w.tiles;
    w.block = parts > 1 ? round16((w.tiles + parts - 1) / parts) : round16(group * w.tiles);
    w.packed = kn->row_blocks(out, w.block);
    return w;
}

int wino_group(const struct wino *w)
{
    return w->block > w->tiles ? w->block / w->tiles : 1;
}

int64_t wino_weight_floats(const struct wino *w)
{
    return (int64_t)products_of(w) * w->in * w->out;
}

static int64_t row_floats(const struct wino *w)
{
    return w->block + EDGE;
}

int64_t wino_scratch_floats(const struct wino *w)
{
    return (products_of(w) * (int64_t)(w->in + w->out)) * row_floats(w) + 2 * EDGE;
}

int64_t wino_dw_scratch_floats(const struct wino *w)
{
    int64_t both = round16(w->in) + round16(w->out);
    return products_of(w) * w->block * both + (4 * DW_TILES + w->k) * both + 2 * EDGE;
}

int wino_row_floats(const struct wino *w)
{
    return 4 * w->tiles + 64 + 2 * EDGE;
}

static const float *table(int k, const float *t3, const float *t5, const float *t7)
{
    return k == 3 ? t3 : k == 5 ? t5 : t7;
}

void wino_weights(const struct cpu_kernels *kn, const struct wino *w, const float *src,
                  const int64_t stride[3], float *u, float *scratch)
{
    const float *g = table(w->k, wino_g3[0], wino_g5[0], wino_g7[0]);
    int n = products_of(w);
    int64_t plane = (int64_t)w->in * w->out;
    float *taps = scratch, *sum = scratch + w->k * plane; /* [k][out][in], [out][in] */
    for (int o = 0; o < w->out; o++)
        for (int c = 0; c < w->in; c++)
            for (int q = 0; q < w->k; q++)
                taps[q * plane + (int64_t)o * w->in + c] =
                    src[o * stride[0] + c * stride[1] + q * stride[2]];
    for (int i = 0; i < n; i++) {
        memset(sum, 0, sizeof(float) * (size_t)plane);
        for (int q = 0; q < w->k; q++)
            if (g[i * w->k + q] != 0) kn->axpy(g[i * w->k + q], taps + q * plane, sum, plane);
        rows_pack(u + i * plane, sum, w->out, w->in, w->in, 1, w->packed);
    }
}

/* The part of record r = (at / tiles) that lies in tiles [at, end) of the group. */
struct part {
    int record, tile, n;
};

static struct part part_at(const struct wino *w, int at, int end)
{
    struct part p = {.record = at / w->tiles, .tile = at % w->tiles};
    p.n = w->tiles - p.tile < end - at ? w->tiles - p.tile : end - at;
    return p;
}

/* Transforms the inputs of tiles [from, end) -> v [n][in][row_floats]. */
static void transform(const struct cpu_kernels *kn, const struct wino *w, const struct wino_io *io,
                      int from, int end, float *v)
{
    struct wino_row r = {.stride = w->in * row_floats(w)};
    for (int c = 0; c < w->in; c++)
        for (int at = from; at < end;) {
            struct part p = part_at(w, at, end);
            r.x = io->x + p.record * io->x_record + c * io->x_row + 4 * p.tile;
            r.floats = w->t + w->k - 1 - 4 * p.tile;
            r.tiles = p.n;
            r.out = v + c * row_floats(w) + (at - from);
            kn->wino_in(w->k, &r);
            at += p.n;
        }
}

/* The products [n][out][tiles] of tiles [from, end) -> outputs. */
static void finish(const struct cpu_kernels *kn, const struct wino *w, const struct wino_io *io,
                   const float *m, int from, int end)
{
    struct wino_out r = {.stride = w->out * row_floats(w), .add = io->add};
    for (int o = 0; o < w->out; o++)
        for (int at = from; at < end;) {
            struct part p = part_at(w, at, end);
            int left = w->t - 4 * p.tile;
            r.m = m + o * row_floats(w) + (at - from);
            r.tiles = p.n;
            r.t = left < 4 * p.n ? left : 4 * p.n;
            r.y = io->y + p.record * io->y_record + o * io->y_row + 4 * p.tile;
            r.shift = io->shift ? io->shift[o] : 0;
            r.lanes = io->shift ? io->lanes + ((int64_t)p.record * w->out + o) * 32 : NULL;
            kn->wino_out(w->k, &r);
            at += p.n;
        }
}

/* The share of io->fetch that product i of the block from tile `from` on is to fetch. */
static struct fetch fetch_share(const struct wino *w, const struct wino_io *io, int from, int i)
{
    int total = io->records * w->tiles, calls = (total + w->block - 1) / w->block * products_of(w);
    int call = from / w->block * products_of(w) + i;
    int64_t first = io->fetch.lines * call / calls;
    struct fetch f = {.lines = io->fetch.lines * (call + 1) / calls - first};
    f.p = io->fetch.p ? io->fetch.p + 16 * first : NULL;
    return f;
}

void wino_conv(const struct cpu_kernels *kn, const struct wino *w, const struct wino_io *io,
               float *scratch)
{
    int n = products_of(w), total = io->records * w->tiles;
    int32_t off[WINO_MAX_CHANNELS];
    float *v = scratch, *m = scratch + (int64_t)n * w->in * row_floats(w) + EDGE;
    for (int c = 0; c < w->in; c++) off[c] = (int32_t)(c * row_floats(w));
    if (io->shift) memset(io->lanes, 0, sizeof(float) * 32 * (size_t)(io->records * w->out));
    for (int from = 0; from < total; from += w->block) {
        int end = from + w->block < total ? from + w->block : total;
        transform(kn, w, io, from, end, v);
        struct rows_args r = {.o = w->out, .j = w->in, .t = end - from, .blocks = w->packed};
        r.off = off;
        r.ys = row_floats(w);
        for (int i = 0; i < n; i++) {
            r.fetch = fetch_share(w, io, from, i);
            r.w = io->u + (int64_t)i * w->in * w->out;
            r.x = v + (int64_t)i * w->in * row_floats(w);
            r.y = m + (int64_t)i * w->out * row_floats(w);
            kn->rows(&r);
        }
        finish(kn, w, io, m, from, end);
    }
}

/* Rows that are turned to steps [time][channels] and transformed. */
struct turn {
    const float *x; /* row c of record r at x + r * record + c * row */
    int64_t record, row;
    int channels, columns; /* columns: of DW_TILES tiles or fewer, besides four a tile */
    int ahead;             /* as transpose_args.fetch */
    float *steps;          /* scratch */
    int grad;              /* 0: inputs, 1: gradients of outputs */
};

/* Tiles [from, end) -> v [n][block][channels, rounded up to 16]. */
static void turned(const struct cpu_kernels *kn, const struct wino *w, const struct turn *a,
                   const int range[2], float *v)
{
    int floats = round16(a->channels);
    struct transpose_args t = {.xs = a->row, .y = a->steps, .ys = floats, .rows = a->channels};
    t.fetch = a->ahead;
    struct wino_steps s = {.x = a->steps, .floats = floats, .grad = a->grad};
    s.plane = (int64_t)w->block * floats;
    for (int at = range[0]; at < range[1];) {
        struct part p = part_at(w, at, range[1]);
        s.tiles = p.n < DW_TILES ? p.n : DW_TILES;
        t.x = a->x + p.record * a->record + 4 * p.tile;
        t.cols = 4 * s.tiles + a->columns;
        kn->transpose(&t);
        s.out = v + (int64_t)(at - range[0]) * floats;
        kn->wino_steps(w->k, &s);
        at += s.tiles;
    }
}

void wino_dw(const struct cpu_kernels *kn, const struct wino *w, const struct wino_io *io,
             float *scratch)
{
    int n = products_of(w), total = io->records * w->tiles;
    int in16 = round16(w->in), out16 = round16(w->out);
    int32_t off[WINO_TILES];
    float *v = scratch, *d = v + (int64_t)n * w->block * in16;
    struct turn x = {io->x, io->x_record, io->x_row, w->in, w->k - 1, io->x_ahead, NULL, 0};
    struct turn dy = {io->dy, io->dy_record, io->dy_row, w->out, 0, 0, NULL, 1};
    x.steps = dy.steps = d + (int64_t)n * w->block * out16;
    for (int p = 0; p < w->block; p++) off[p] = p * in16;
    for (int from = 0; from < total; from += w->block) {
        int range[2] = {from, from + w->block < total ? from + w->block : total};
        turned(kn, w, &x, range, v);
        turned(kn, w, &dy, range, d);
        struct rows_args r = {.o = w->out, .j = range[1] - from, .t = w->in, .ws = out16};
        r.blocks = kn->row_blocks(w->out, w->in);
        r.off = off;
        r.ys = w->in;
        r.add = io->add || from;
        for (int i = 0; i < n; i++) {
            r.fetch = fetch_share(w, io, from, i);
            r.x = v + (int64_t)i * w->block * in16;
            r.w = d + (int64_t)i * w->block * out16;
            r.y = io->dw + (int64_t)i * w->in * w->out;
            kn->rows(&r);
        }
    }
}

void wino_dw_finish(const struct cpu_kernels *kn, const struct wino *w, const float *products,
                    float *dw, float *scratch)
{
    const float *g = table(w->k, wino_g3[0], wino_g5[0], wino_g7[0]);
    int64_t plane = (int64_t)w->in * w->out;
    for (int q = 0; q < w->k; q++) {
        memset(scratch, 0, sizeof(float) * (size_t)plane);
        for (int i = 0; i < products_of(w); i++)
            if (g[i * w->k + q] != 0)
                kn->axpy(g[i * w->k + q], products + i * plane, scratch, plane);
        for (int64_t e = 0; e < plane; e++) dw[e * w->k + q] = scratch[e];
    }
}
