/* cpu/train/wino_impl.h - the transforms of Winograd convolution (wino_tables.h) for the instruction
 * set of the including file; lanes = tiles.
 *
 * A tile's inputs lie four samples from the next tile's, so a row is first split into its four
 * phases x[4q + j]; input i of tiles p.. is then phase i % 4 from p + i / 4 on. Outputs go the other
 * way. Towards dw, `wino_steps` has channels in the lanes instead. The matrices are constants, and the
 * loops over them unroll to the products that are not 0.
 */
#include "cpu/train/kernels.h"
#include "cpu/train/simd.h"
#include "cpu/train/wino_tables.h"

#define PHASE (WINO_TILES + 3 * VL)

/* Four vectors from x on, of which `left` floats are there and the rest is zero. */
INLINE void load4_tail(const float *x, int left, vf v[4])
{
    UNROLL(4)
    for (int j = 0; j < 4; j++)
        v[j] = left > j * VL ? v_load_tail(x + j * VL, left - j * VL) : v_zero();
}

/* Phases of a row of `floats`, zero behind them: out[j][q] = x[4q + j] for q in [0, n), rounded up to
 * whole vectors. */
INLINE void split_phases(const float *x, int floats, int n, float out[4][PHASE])
{
    for (int q = 0; q < n; q += VL) {
        vf v[4];
        if (floats - 4 * q >= 4 * VL) {
            UNROLL(4)
            for (int j = 0; j < 4; j++) v[j] = v_load(x + 4 * q + j * VL);
        } else {
            load4_tail(x + 4 * q, floats - 4 * q, v);
        }
        v_split4(v);
        UNROLL(4)
        for (int j = 0; j < 4; j++) v_store(out[j] + q, v[j]);
    }
}

INLINE void wino_in_row(const int n, const float *b, const struct wino_row *a)
{
    float phase[4][PHASE];
    split_phases(a->x, a->floats, a->tiles + 2, phase);
    for (int p = 0; p < a->tiles; p += VL) {
        vf d[WINO_MAX_N];
        UNROLL(10)
        for (int i = 0; i < n; i++) d[i] = v_load(phase[i % 4] + p + i / 4);
        UNROLL(10)
        for (int i = 0; i < n; i++) {
            vf s = v_zero();
            UNROLL(10)
            for (int j = 0; j < n; j++)
                if (b[i * n + j] != 0) s = v_fma(v_set(b[i * n + j]), d[j], s);
            v_store(a->out + i * a->stride + p, s);
        }
    }
}

/* A tile's `cols` steps times m [n][cols]. */
INLINE void wino_steps_all(const int n, const int cols, const float *m, const struct wino_steps *a)
{
    for (int p = 0; p < a->tiles; p++)
        for (int f = 0; f < a->floats; f += VL) {
            const float *x = a->x + (int64_t)4 * p * a->floats + f;
            float *out = a->out + (int64_t)p * a->floats + f;
            vf d[WINO_MAX_N];
            UNROLL(10)
            for (int j = 0; j < cols; j++) d[j] = v_load(x + (int64_t)j * a->floats);
            UNROLL(10)
            for (int i = 0; i < n; i++) {
                vf s = v_zero();
                UNROLL(10)
                for (int j = 0; j < cols; j++)
                    if (m[i * cols + j] != 0) s = v_fma(v_set(m[i * cols + j]), d[j], s);
                v_store(out + i * a->plane, s);
            }
        }
}

static void ISA(f32_wino_steps)(int k, const struct wino_steps *args)
{
    const struct wino_steps a = *args;
    if (k == 3 && a.grad)
        wino_steps_all(6, 4, wino_a3[0], &a);
    else if (k == 3)
        wino_steps_all(6, 6, wino_b3[0], &a);
    else if (k == 5 && a.grad)
        wino_steps_all(8, 4, wino_a5[0], &a);
    else if (k == 5)
        wino_steps_all(8, 8, wino_b5[0], &a);
    else if (a.grad)
        wino_steps_all(10, 4, wino_a7[0], &a);
    else
        wino_steps_all(10, 10, wino_b7[0], &a);
}

INLINE void wino_out_row(const int n, const float *m, const struct wino_out *a)
{
    vf s = v_zero(), q = v_zero();
    for (int p = 0; p < a->tiles; p += VL) {
        vf y[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
        UNROLL(10)
        for (int i = 0; i < n; i++) {
            vf v = v_load(a->m + i * a->stride + p);
            UNROLL(4)
            for (int j = 0; j < 4; j++)
                if (m[i * 4 + j] != 0) y[j] = v_fma(v_set(m[i * 4 + j]), v, y[j]);
        }
        v_join4(y);
        int left = a->t - 4 * p;
        UNROLL(4)
        for (int j = 0; j < 4; j++) {
            int k = left - j * VL;
            if (k <= 0) break;
            float *to = a->y + 4 * p + j * VL;
            vf v = y[j];
            if (a->add) v = v_add(v_load_tail(to, k), v);
            v_store_tail(to, v, k);
            vf d = v_sub(v, v_set(a->shift));
            if (k < VL) d = v_keep(v_first(k), d);
            s = v_add(s, d);
            q = v_fma(d, d, q);
        }
    }
    if (!a->lanes) return;
    v_store(a->lanes, v_add(v_load(a->lanes), s));
    v_store(a->lanes + VL, v_add(v_load(a->lanes + VL), q));
}

#define WINO_BY_K(kernel, table, type)                                                             \
    static void ISA(f32_##kernel)(int k, const struct type *args)                                  \
    {                                                                                              \
        const struct type a = *args;                                                               \
        if (k == 3)                                                                                \
            kernel##_row(6, wino_##table##3 [0], &a);                                              \
        else if (k == 5)                                                                           \
            kernel##_row(8, wino_##table##5 [0], &a);                                              \
        else                                                                                       \
            kernel##_row(10, wino_##table##7 [0], &a);                                             \
    }
WINO_BY_K(wino_in, b, wino_row)
WINO_BY_K(wino_out, a, wino_out)
