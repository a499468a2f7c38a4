/* cpu/train/lstm_impl.h - one step of an LSTM's gates, forward and backward, lanes = records, for
 * the instruction set of the including file. */
#include "cpu/train/math_impl.h"

static void ISA(f32_lstm_cell)(const struct lstm_cell *args)
{
    const struct lstm_cell a = *args;
    const int64_t q = a.h * a.stride; /* between gates */
    for (int u = 0; u < a.h; u++)
        for (int l = 0; l < a.lanes; l += VL) {
            int64_t at = u * a.stride + l;
            vf i = v_sigmoid(v_load(a.z + at)), f = v_sigmoid(v_load(a.z + q + at));
            vf g = v_tanh(v_load(a.z + 2 * q + at)), o = v_sigmoid(v_load(a.z + 3 * q + at));
            vf c = v_mul(i, g);
            if (a.c_prev) c = v_fma(f, v_load(a.c_prev + at), c);
            if (a.gate) {
                v_store(a.gate + at, i);
                v_store(a.gate + q + at, f);
                v_store(a.gate + 2 * q + at, g);
                v_store(a.gate + 3 * q + at, o);
            }
            v_store(a.c + at, c);
            v_store(a.hid + u * a.row + l, v_mul(o, v_tanh(c)));
        }
}

static void ISA(f32_lstm_cell_grad)(const struct lstm_cell_grad *args)
{
    const struct lstm_cell_grad a = *args;
    const int64_t q = a.h * a.stride, zq = a.h * a.row;
    const vf one = v_set(1.0f);
    for (int u = 0; u < a.h; u++)
        for (int l = 0; l < a.lanes; l += VL) {
            int64_t at = u * a.stride + l, z = u * a.row + l;
            vf i = v_load(a.gate + at), f = v_load(a.gate + q + at);
            vf g = v_load(a.gate + 2 * q + at), o = v_load(a.gate + 3 * q + at);
            vf tc = v_tanh(v_load(a.c + at)), dh = v_load(a.dh + z);
            vf before = a.c_prev ? v_load(a.c_prev + at) : v_zero();
            vf d = v_fma(v_mul(dh, o), v_fnma(tc, tc, one), v_load(a.dc + at));
            v_store(a.dz + z, v_mul(v_mul(d, g), v_mul(i, v_sub(one, i))));
            v_store(a.dz + zq + z, v_mul(v_mul(d, before), v_mul(f, v_sub(one, f))));
            v_store(a.dz + 2 * zq + z, v_mul(v_mul(d, i), v_fnma(g, g, one)));
            v_store(a.dz + 3 * zq + z, v_mul(v_mul(dh, tc), v_mul(o, v_sub(one, o))));
            v_store(a.dc + at, v_mul(d, f));
            v_store(a.hid + z, v_mul(o, tc));
        }
}

#if VL == 16
/* A tile of rows x cols, at most 16 x 16: four rounds of pairwise interleaving. */
INLINE void transpose_tile(const struct transpose_args *args, int r0, int c0, int rows, int cols)
{
    const float *x = args->x + r0 * args->xs + c0;
    float *y = args->y + c0 * args->ys + r0;
    int64_t xs = args->xs, ys = args->ys;
    vm in = v_first(cols), out = v_first(rows);
    __m512 r[16], s[16];
    UNROLL(16)
    for (int i = 0; i < 16; i++) {
        r[i] = i < rows ? _mm512_maskz_loadu_ps(in, x + i * xs) : v_zero();
        if (args->fetch && i < rows) __builtin_prefetch(x + i * xs + args->fetch, 0, 2);
    }
    UNROLL(8)
    for (int i = 0; i < 16; i += 2) {
        s[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        s[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    UNROLL(4)
    for (int i = 0; i < 16; i += 4) { /* pairs of floats as doubles */
        __m512d a = _mm512_castps_pd(s[i]), b = _mm512_castps_pd(s[i + 1]);
        __m512d c = _mm512_castps_pd(s[i + 2]), d = _mm512_castps_pd(s[i + 3]);
        r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    UNROLL(4)
    for (int i = 0; i < 4; i++) { /* 128-bit quarters: s[i + 4q] holds rows 4p + q, column 4q + i */
        s[i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0x88);
        s[4 + i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0xDD);
        s[8 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0x88);
        s[12 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0xDD);
    }
    UNROLL(4)
    for (int i = 0; i < 4; i++) { /* columns i, 8 + i, 4 + i, 12 + i */
        r[i] = _mm512_shuffle_f32x4(s[i], s[8 + i], 0x88);
        r[8 + i] = _mm512_shuffle_f32x4(s[i], s[8 + i], 0xDD);
        r[4 + i] = _mm512_shuffle_f32x4(s[4 + i], s[12 + i], 0x88);
        r[12 + i] = _mm512_shuffle_f32x4(s[4 + i], s[12 + i], 0xDD);
    }
    UNROLL(16)
    for (int i = 0; i < 16; i++)
        if (i < cols) _mm512_mask_storeu_ps(y + i * ys, out, r[i]);
}
#endif

/* y [cols, rows] = x [rows, cols] transposed. Rows may lie far apart, where no hardware prefetcher
 * follows: the column that a later call needs is fetched now. */
static void ISA(f32_transpose)(const struct transpose_args *a)
{
    int rows = a->rows, cols = a->cols;
    for (int r0 = 0; r0 < rows; r0 += 16)
        for (int c0 = 0; c0 < cols; c0 += 16) {
            int r1 = r0 + 16 < rows ? r0 + 16 : rows, c1 = c0 + 16 < cols ? c0 + 16 : cols;
#if VL == 16
            if (r1 - r0 == 16 && c1 - c0 == 16)
                transpose_tile(a, r0, c0, 16, 16);
            else
                transpose_tile(a, r0, c0, r1 - r0, c1 - c0);
#else
            for (int c = c0; c < c1; c++)
                for (int r = r0; r < r1; r++) a->y[c * a->ys + r] = a->x[r * a->xs + c];
#endif
        }
}
