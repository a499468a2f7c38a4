/* cpu/train/rows_impl.h - the two product kernels, `rows` and `dots` (kernels.h), for the
 * instruction set of the including file.
 *
 * A register block holds several outputs by several vectors of time; each term costs one broadcast
 * per output and one (unaligned) load per vector for their product of multiply-adds, so the
 * multipliers are the limit. Blocks are cut evenly: 57 outputs are 8 blocks of 7 or 8, never 7 of 8
 * and a lonely one. Every element is summed in the order of j, whatever the block, so results do
 * not depend on how work is shared out.
 */
#include "cpu/train/kernels.h"
#include "cpu/train/simd.h"

static int ISA(f32_row_blocks)(int o, int t)
{
    int cols = vectors(t);
    if (cols <= 2) return (o + ROWS_AT(2) - 1) / ROWS_AT(2);
    int n = (o + ROWS_AT(3) - 1) / ROWS_AT(3);
    return n;
}

/* Vectors per register block for blocks of at most `rows` outputs. */
INLINE int cols_for(int rows, int cols)
{
    if (cols <= 2) return cols;
    return COLS_MAX > 3 && rows <= ROWS_AT(COLS_MAX) ? COLS_MAX : 3;
}

/* Where to fetch in the block whose first of `steps` steps is number `at` of the call; *step: floats
 * to the next. Without anything (more) to fetch, some line that is there anyway, over and over. */
INLINE const float *fetch_from(const struct fetch *f, int64_t at, const float *there, int *step)
{
    *step = f->p && at < f->lines ? 16 : 0;
    return *step ? f->p + 16 * at : there;
}

/* One block of `ob` outputs by `cb` vectors, columns t0.., `n` of them valid (n <= cb*VL). */
INLINE void rows_block(const int ob, const int cb, const struct rows_args *a, int o0, int t0,
                       int64_t number)
{
    int step;
    const float *next = fetch_from(&a->fetch, number * a->j, a->w, &step);
    vf acc[ROWS_MAX][COLS_MAX];
    const float *w = a->w + (a->ws ? o0 : (int64_t)o0 * a->j), *x = a->x + t0;
    const int64_t ws = a->ws ? a->ws : ob;
    UNROLL(12)
    for (int o = 0; o < ob; o++) {
        vf b = a->bias ? v_set(a->bias[o0 + o]) : v_zero();
        UNROLL(4)
        for (int v = 0; v < cb; v++) acc[o][v] = b;
    }
    for (int j = 0; j < a->j; j++, w += ws) {
        const float *row = x + a->off[j];
        __builtin_prefetch(next, 0, 2);
        next += step;
        vf xv[COLS_MAX];
        UNROLL(4)
        for (int v = 0; v < cb; v++) xv[v] = v_load(row + v * VL);
        UNROLL(12)
        for (int o = 0; o < ob; o++) {
            vf wv = v_set(w[o]);
            UNROLL(4)
            for (int v = 0; v < cb; v++) acc[o][v] = v_fma(wv, xv[v], acc[o][v]);
        }
    }
    int n = a->t - t0;
    UNROLL(12)
    for (int o = 0; o < ob; o++) {
        float *y = a->y + (o0 + o) * a->ys + t0;
        UNROLL(4)
        for (int v = 0; v < cb; v++) {
            if (a->add) acc[o][v] = v_add(v_load_tail(y + v * VL, n - v * VL), acc[o][v]);
            v_store_tail(y + v * VL, acc[o][v], n - v * VL);
        }
        if (!a->shift) continue;
        float *lane = a->lanes + (o0 + o) * 32;
        vf s = v_load(lane), q = v_load(lane + VL), shift = v_set(a->shift[o0 + o]);
        UNROLL(4)
        for (int v = 0; v < cb; v++) {
            vf d = v_sub(acc[o][v], shift);
            if (n < (v + 1) * VL) d = v_keep(v_first(n - v * VL), d);
            s = v_add(s, d);
            q = v_fma(d, d, q);
        }
        v_store(lane, s);
        v_store(lane + VL, q);
    }
}

#define ROWS_CASE(ob, cb)                                                                          \
    case (ob)*8 + (cb):                                                                            \
        rows_block(ob, cb, a, o0, t0, number);                                                     \
        break;
#define ROWS_CASES(ob) ROWS_CASE(ob, 1) ROWS_CASE(ob, 2)

static __attribute__((noinline)) void ISA(f32_rows_block)(const struct rows_args *a, int o0, int ob,
                                                          int t0, int cb, int64_t number)
{
    switch (ob * 8 + cb) {
        ROWS_CASES(1)
        ROWS_CASES(2)
        ROWS_CASES(3)
        ROWS_CASES(4)
        ROWS_CASES(5)
        ROWS_CASES(6)
        ROWS_CASE(1, 3)
        ROWS_CASE(2, 3)
        ROWS_CASE(3, 3)
        ROWS_CASE(4, 3)
#if VL == 16
        ROWS_CASES(7)
        ROWS_CASES(8)
        ROWS_CASES(9)
        ROWS_CASES(10)
        ROWS_CASES(11)
        ROWS_CASES(12)
        ROWS_CASE(5, 3)
        ROWS_CASE(6, 3)
        ROWS_CASE(7, 3)
        ROWS_CASE(8, 3)
        ROWS_CASE(1, 4)
        ROWS_CASE(2, 4)
        ROWS_CASE(3, 4)
        ROWS_CASE(4, 4)
        ROWS_CASE(5, 4)
        ROWS_CASE(6, 4)
#endif
    default:
        break;
    }
}

static void ISA(f32_lane_sums)(const float *lanes, int o, float *sum, float *sq)
{
    for (int i = 0; i < o; i++, lanes += 32) {
        sum[i] = v_sum(v_load(lanes));
        sq[i] = v_sum(v_load(lanes + VL));
    }
}

static void ISA(f32_rows)(const struct rows_args *a)
{
    int cols = vectors(a->t), widest = (a->o + a->blocks - 1) / a->blocks;
    int parts = (cols + cols_for(widest, cols) - 1) / cols_for(widest, cols);
    if (a->shift) memset(a->lanes, 0, sizeof(float) * 32 * (size_t)a->o);
    for (int p = 0; p < parts; p++) {
        int c0 = p * cols / parts, c1 = (p + 1) * cols / parts;
        for (int b = 0; b < a->blocks; b++) {
            int o0 = (int)((int64_t)b * a->o / a->blocks);
            int o1 = (int)((int64_t)(b + 1) * a->o / a->blocks);
            ISA(f32_rows_block)(a, o0, o1 - o0, c0 * VL, c1 - c0, (int64_t)p * a->blocks + b);
        }
    }
}

INLINE void dots_block(const int ob, const int jb, const struct dots_args *a, int o0, int j0,
                       int64_t number)
{
    int step;
    const float *next = fetch_from(&a->fetch, number * a->n * vectors(a->t), a->dy, &step);
    vf acc[DOT_ROWS][DOT_COLS];
    UNROLL(4)
    for (int o = 0; o < ob; o++) {
        UNROLL(6)
        for (int j = 0; j < jb; j++) acc[o][j] = v_zero();
    }
    for (int i = 0; i < a->n; i++) {
        const float *dy = a->dy + i * a->dy_next + o0 * a->dy_stride, *x = a->x + i * a->x_next;
        const float *row[DOT_COLS];
        UNROLL(6)
        for (int j = 0; j < jb; j++) row[j] = x + a->off[j0 + j];
        for (int t = 0; t < a->t; t += VL) {
            vf d[DOT_ROWS];
            __builtin_prefetch(next, 0, 2);
            next += step;
            UNROLL(4)
            for (int o = 0; o < ob; o++) d[o] = v_load(dy + o * a->dy_stride + t);
            UNROLL(6)
            for (int j = 0; j < jb; j++) {
                vf xv = v_load(row[j] + t);
                UNROLL(4)
                for (int o = 0; o < ob; o++) acc[o][j] = v_fma(d[o], xv, acc[o][j]);
            }
        }
    }
    float sum[(DOT_ROWS * DOT_COLS + 3) / 4 * 4];
    UNROLL(6)
    for (int i = 0; i < ob * jb; i += 4) {
        vf four[4];
        UNROLL(4)
        for (int u = 0; u < 4; u++)
            four[u] = i + u < ob * jb ? acc[(i + u) / jb][(i + u) % jb] : v_zero();
        v_sum4(four, sum + i);
    }
    UNROLL(4)
    for (int o = 0; o < ob; o++) {
        float *dw = a->dw + (int64_t)(o0 + o) * a->j + j0;
        UNROLL(6)
        for (int j = 0; j < jb; j++) dw[j] = (a->add ? dw[j] : 0.0f) + sum[o * jb + j];
    }
}

#define DOTS_CASE(ob, jb)                                                                          \
    case (ob)*8 + (jb):                                                                            \
        dots_block(ob, jb, a, o0, j0, number);                                                     \
        break;
#define DOTS_CASES(ob) DOTS_CASE(ob, 1) DOTS_CASE(ob, 2) DOTS_CASE(ob, 3) DOTS_CASE(ob, 4)

static __attribute__((noinline)) void ISA(f32_dots_block)(const struct dots_args *a, int o0, int ob,
                                                          int j0, int jb, int64_t number)
{
    switch (ob * 8 + jb) {
        DOTS_CASES(1)
        DOTS_CASES(2)
        DOTS_CASES(3)
#if VL == 16
        DOTS_CASES(4)
        DOTS_CASE(1, 5)
        DOTS_CASE(2, 5)
        DOTS_CASE(3, 5)
        DOTS_CASE(4, 5)
        DOTS_CASE(1, 6)
        DOTS_CASE(2, 6)
        DOTS_CASE(3, 6)
        DOTS_CASE(4, 6)
#endif
    default:
        break;
    }
}

static void ISA(f32_dots)(const struct dots_args *a)
{
    int op = (a->o + DOT_ROWS - 1) / DOT_ROWS, jp = (a->j + DOT_COLS - 1) / DOT_COLS;
    for (int p = 0; p < op; p++) {
        int o0 = (int)((int64_t)p * a->o / op), o1 = (int)((int64_t)(p + 1) * a->o / op);
        for (int q = 0; q < jp; q++) {
            int j0 = (int)((int64_t)q * a->j / jp), j1 = (int)((int64_t)(q + 1) * a->j / jp);
            ISA(f32_dots_block)(a, o0, o1 - o0, j0, j1 - j0, (int64_t)p * jp + q);
        }
    }
}
