/* bench/rt/sparse__avx512vnni.c - see sparse.h. */
#include "bench/rt/sparse.h"

#include <immintrin.h>
#include <string.h>

#define VL 16
#define UNROLL _Pragma("GCC unroll 8")
#define CHAINS 8 /* vectors of sums that stay in registers */

/* 16 n steps of output channel o. The sums of every (8 / n)-th weight stand apart, so that eight chains of
 * additions hide each other's latency. */
static inline __attribute__((always_inline)) void f32_steps(const struct sparse_layer *l, int o,
                                                            const float *x, float *row, int n)
{
    const int chains = CHAINS / n, end = l->start[o + 1];
    __m512 acc[CHAINS];
    UNROLL
    for (int v = 0; v < CHAINS; v++)
        acc[v] = v < n ? _mm512_set1_ps(l->bias[o]) : _mm512_setzero_ps();
    int i = l->start[o];
    for (; i + chains <= end; i += chains) UNROLL
    for (int c = 0; c < chains; c++) {
        __m512 b = _mm512_castsi512_ps(_mm512_set1_epi32(l->weight[i + c]));
        const float *at = x + l->offset[i + c];
        UNROLL
        for (int v = 0; v < n; v++)
            acc[c * n + v] = _mm512_fmadd_ps(b, _mm512_loadu_ps(at + v * VL), acc[c * n + v]);
    }
    for (; i < end; i++) {
        __m512 b = _mm512_castsi512_ps(_mm512_set1_epi32(l->weight[i]));
        const float *at = x + l->offset[i];
        UNROLL
        for (int v = 0; v < n; v++)
            acc[v] = _mm512_fmadd_ps(b, _mm512_loadu_ps(at + v * VL), acc[v]);
    }
    UNROLL
    for (int c = 1; c < chains; c++) UNROLL
    for (int v = 0; v < n; v++) acc[v] = _mm512_add_ps(acc[v], acc[c * n + v]);
    UNROLL
    for (int v = 0; v < n; v++)
        _mm512_storeu_ps(row + v * VL, _mm512_max_ps(acc[v], _mm512_setzero_ps()));
}

static void pool2(const float *row, float *y, int tout)
{
    const __m512i even =
        _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    for (int t = 0; t < tout; t += VL, row += 2 * VL) {
        __m512 a = _mm512_loadu_ps(row), b = _mm512_loadu_ps(row + VL);
        _mm512_storeu_ps(y + t, _mm512_max_ps(_mm512_permutex2var_ps(a, even, b),
                                              _mm512_permutex2var_ps(a, odd, b)));
    }
}

/* Every third step, from three vectors: 11 (10) of 32 come from the first two, the rest from the third. */
static void pool3(const float *row, float *y, int tout)
{
    __m512i low[3], high[3];
    __mmask16 rest[3];
    for (int p = 0; p < 3; p++) {
        int32_t first[VL], second[VL];
        rest[p] = 0;
        for (int i = 0; i < VL; i++) {
            int at = 3 * i + p;
            first[i] = at < 32 ? at : 0;
            second[i] = at < 32 ? 0 : at - 32;
            if (at >= 32) rest[p] |= (__mmask16)(1u << i);
        }
        low[p] = _mm512_loadu_si512(first);
        high[p] = _mm512_loadu_si512(second);
    }
    for (int t = 0; t < tout; t += VL, row += 3 * VL) {
        __m512 a = _mm512_loadu_ps(row), b = _mm512_loadu_ps(row + VL);
        __m512 c = _mm512_loadu_ps(row + 2 * VL), best = _mm512_setzero_ps();
        for (int p = 0; p < 3; p++) {
            __m512 v = _mm512_permutex2var_ps(a, low[p], b);
            best = _mm512_max_ps(best, _mm512_mask_permutexvar_ps(v, rest[p], high[p], c));
        }
        _mm512_storeu_ps(y + t, best);
    }
}

void sparse_conv_f32(const struct sparse_layer *l, const float *x, float *y, int stride)
{
    float row[2048];
    for (int o = 0; o < l->cout; o++, y += stride) {
        int t = 0;
        for (; t + 3 * VL < l->t; t += 4 * VL) f32_steps(l, o, x + t, row + t, 4);
        for (; t + VL < l->t; t += 2 * VL) f32_steps(l, o, x + t, row + t, 2);
        for (; t < l->t; t += VL) f32_steps(l, o, x + t, row + t, 1);
        if (l->pool == 2)
            pool2(row, y, l->tout);
        else if (l->pool == 3)
            pool3(row, y, l->tout);
        else
            memcpy(y, row, sizeof *y * (size_t)l->tout);
    }
}

void sparse_transpose(const float *from, int rows, int from_stride, float *to, int to_stride)
{
    for (int t = 0; t < rows; t += 4)
        for (int c = 0; c < from_stride; c += 4) {
            const float *at = from + (size_t)t * (size_t)from_stride + c;
            float *y = to + (size_t)c * (size_t)to_stride + t;
            __m128 a = _mm_loadu_ps(at), b = _mm_loadu_ps(at + from_stride);
            __m128 d = _mm_loadu_ps(at + 2 * from_stride), e = _mm_loadu_ps(at + 3 * from_stride);
            _MM_TRANSPOSE4_PS(a, b, d, e);
            _mm_storeu_ps(y, a);
            _mm_storeu_ps(y + to_stride, b);
            _mm_storeu_ps(y + 2 * to_stride, d);
            _mm_storeu_ps(y + 3 * to_stride, e);
        }
}

static inline __attribute__((always_inline)) void i8_steps(const struct sparse_layer *l, int o,
                                                           const uint8_t *x, int32_t *sums, int n)
{
    const int chains = CHAINS / n, end = l->start[o + 1];
    __m512i acc[CHAINS];
    UNROLL
    for (int v = 0; v < CHAINS; v++) acc[v] = _mm512_setzero_si512();
    int i = l->start[o];
    for (; i + chains <= end; i += chains) UNROLL
    for (int c = 0; c < chains; c++) {
        __m512i b = _mm512_set1_epi32(l->weight[i + c]);
        const uint8_t *at = x + l->offset[i + c];
        UNROLL
        for (int v = 0; v < n; v++)
            acc[c * n + v] =
                _mm512_dpbusd_epi32(acc[c * n + v], _mm512_loadu_si512(at + v * 4 * VL), b);
    }
    for (; i < end; i++) {
        __m512i b = _mm512_set1_epi32(l->weight[i]);
        const uint8_t *at = x + l->offset[i];
        UNROLL
        for (int v = 0; v < n; v++)
            acc[v] = _mm512_dpbusd_epi32(acc[v], _mm512_loadu_si512(at + v * 4 * VL), b);
    }
    UNROLL
    for (int c = 1; c < chains; c++) UNROLL
    for (int v = 0; v < n; v++) acc[v] = _mm512_add_epi32(acc[v], acc[c * n + v]);
    UNROLL
    for (int v = 0; v < n; v++) _mm512_storeu_si512(sums + v * VL, acc[v]);
}

void sparse_conv_i8(const struct sparse_layer *l, const uint8_t *x, int32_t *sums, int stride)
{
    for (int o = 0; o < l->cout; o++, sums += stride) {
        int t = 0;
        for (; t + 3 * VL < l->t; t += 4 * VL) i8_steps(l, o, x + 4 * t, sums + t, 4);
        for (; t + VL < l->t; t += 2 * VL) i8_steps(l, o, x + 4 * t, sums + t, 2);
        for (; t < l->t; t += VL) i8_steps(l, o, x + 4 * t, sums + t, 1);
    }
}

void sparse_linear_f32(const struct sparse_layer *l, const float *x, float *y)
{
    for (int o = 0; o < l->cout; o++) {
        int i = l->start[o], end = l->start[o + 1];
        __m512 acc = _mm512_setzero_ps();
        for (; i < end; i += VL) {
            __mmask16 m = end - i >= VL ? 0xffff : (__mmask16)((1u << (end - i)) - 1);
            __m512i at = _mm512_maskz_loadu_epi32(m, l->offset + i);
            __m512 w = _mm512_castsi512_ps(_mm512_maskz_loadu_epi32(m, l->weight + i));
            acc =
                _mm512_fmadd_ps(w, _mm512_mask_i32gather_ps(_mm512_setzero_ps(), m, at, x, 4), acc);
        }
        y[o] = l->bias[o] + _mm512_reduce_add_ps(acc);
    }
}

void sparse_linear_i8(const struct sparse_layer *l, const uint8_t *x, int32_t *sums)
{
    for (int o = 0; o < l->cout; o++) {
        int32_t a = 0, b = 0, c = 0, d = 0;
        int i = l->start[o], end = l->start[o + 1];
        for (; i + 4 <= end; i += 4) {
            a += l->weight[i] * x[l->offset[i]];
            b += l->weight[i + 1] * x[l->offset[i + 1]];
            c += l->weight[i + 2] * x[l->offset[i + 2]];
            d += l->weight[i + 3] * x[l->offset[i + 3]];
        }
        for (; i < end; i++) a += l->weight[i] * x[l->offset[i]];
        sums[o] = a + b + c + d;
    }
}
