/* cpu/quant/f32_body.h - body of the f32_kernels*.c files, which differ only in their compiler
 * flags and in TABLE. GCC vectors of 16 floats: one register with AVX-512, two with AVX2, four with
 * SSE. */
#include "cpu/quant/f32_kernels.h"

typedef float f32x16 __attribute__((vector_size(64)));
typedef float f32x16_at __attribute__((vector_size(64), aligned(4), may_alias)); /* anywhere */

/* Macros, since passing such vectors between functions has no one calling convention. */
#define LOAD(p) (*(const f32x16_at *)(p))
#define STORE(p, v) (*(f32x16_at *)(p) = (v))
#define SPLAT(v) ((f32x16){0} + (v))

/* `n` output channels from `c`, 32 steps from `t`. */
static inline __attribute__((always_inline)) void block(const struct quant_f32_conv *a, int c,
                                                        int t, int n)
{
    f32x16 acc[QUANT_C_BLOCK][2];
    int columns = a->cin * a->k;
    const float *w = a->w + (long)c * columns;
    for (int j = 0; j < n; j++) acc[j][0] = acc[j][1] = SPLAT(a->bias[c + j]);
    for (int i = 0; i < a->cin; i++) {
        const float *x = a->x + (long)i * a->x_stride + t;
        for (int k = 0; k < a->k; k++) {
            f32x16 x0 = LOAD(x + k), x1 = LOAD(x + k + 16);
            for (int j = 0; j < n; j++) {
                f32x16 v = SPLAT(w[(long)j * columns + i * a->k + k]);
                acc[j][0] += v * x0;
                acc[j][1] += v * x1;
            }
        }
    }
    for (int j = 0; j < n; j++) {
        STORE(a->y + (long)(c + j) * a->y_stride + t, acc[j][0]);
        STORE(a->y + (long)(c + j) * a->y_stride + t + 16, acc[j][1]);
    }
}

static void conv(const struct quant_f32_conv *a)
{
    for (int t = 0; t < a->t; t += QUANT_T_BLOCK) {
        int c = 0;
        for (; c + QUANT_C_BLOCK <= a->cout; c += QUANT_C_BLOCK) block(a, c, t, QUANT_C_BLOCK);
        for (; c < a->cout; c++) block(a, c, t, 1);
    }
}

static void axpys(float *y, const float *x, const float *w, int rows, int n)
{
    for (int at = 0; at < n; at += 64) {
        f32x16 acc[4];
        for (int v = 0; v < 4; v++) acc[v] = LOAD(y + at + 16 * v);
        for (int j = 0; j < rows; j++) {
            f32x16 s = SPLAT(x[j]);
            for (int v = 0; v < 4; v++) acc[v] += s * LOAD(w + (long)j * n + at + 16 * v);
        }
        for (int v = 0; v < 4; v++) STORE(y + at + 16 * v, acc[v]);
    }
}

const struct quant_f32_kernels TABLE = {conv, axpys};
