/* cpu/train/simd.h - one spelling of vector arithmetic for three instruction sets.
 *
 * The kernels of this room are written once, in *_impl.h, over the names below, and compiled three
 * times: kernels__avx512.c, kernels__avx2.c and kernels__portable.c (GCC's generic vectors, 16
 * bytes wide). Everything here is static; ISA(name) gives a kernel its suffix. A vector is `vf`
 * with VL floats; `vm` is a lane mask. MAX_ROWS x MAX_COLS accumulators is what the registers hold.
 * Partial vectors: the first n lanes, 0 < n <= VL; lanes beyond read as zero and are never touched
 * in memory.
 */
#ifndef CINCH_CPU_TRAIN_SIMD_H
#define CINCH_CPU_TRAIN_SIMD_H

#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define PASTE2(a, b) a##b
#define PASTE(a, b) PASTE2(a, b)
#define ISA(name) PASTE(name##__, ISA_NAME)
#define PRAGMA(x) _Pragma(#x)
#ifdef __clang__
#define UNROLL(n) PRAGMA(unroll n)
#else
#define UNROLL(n) PRAGMA(GCC unroll n)
#endif

#if defined(__AVX512F__)
#include <immintrin.h>
#define ISA_NAME avx512
#define VL 16
typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;

INLINE vm v_first(int n)
{
    return (vm)((1u << n) - 1u);
}
INLINE vf v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
INLINE void v_store(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
}
INLINE vf v_load_n(const float *p, int n)
{
    return _mm512_maskz_loadu_ps(v_first(n), p);
}
INLINE void v_store_n(float *p, vf v, int n)
{
    _mm512_mask_storeu_ps(p, v_first(n), v);
}
INLINE vf v_set(float f)
{
    return _mm512_set1_ps(f);
}
INLINE vf v_zero(void)
{
    return _mm512_setzero_ps();
}
INLINE vf v_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
INLINE vf v_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
INLINE vf v_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
INLINE vf v_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
INLINE vf v_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}
INLINE vf v_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}
INLINE vf v_sqrt(vf a)
{
    return _mm512_sqrt_ps(a);
}
INLINE vf v_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}
INLINE vf v_fnma(vf a, vf b, vf c)
{
    return _mm512_fnmadd_ps(a, b, c);
}
INLINE vm v_gt(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}
INLINE vm v_nan(vf a)
{
    return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
}
INLINE vm v_or(vm a, vm b)
{
    return a | b;
}
INLINE vf v_keep(vm m, vf a)
{
    return _mm512_maskz_mov_ps(m, a);
}
INLINE vf v_select(vm m, vf a, vf b)
{
    return _mm512_mask_mov_ps(b, m, a);
}
INLINE float v_sum(vf a)
{
    return _mm512_reduce_add_ps(a);
}
INLINE float v_hmax(vf a)
{
    return _mm512_reduce_max_ps(a);
}
/* 2^n for integral n in [-149, 128) */
INLINE vf v_exp2i(vf n)
{
    return _mm512_scalef_ps(_mm512_set1_ps(1.0f), n);
}
INLINE vf v_abs(vf a)
{
    return _mm512_abs_ps(a);
}
/* magnitude of a with the sign of b */
INLINE vf v_copysign(vf a, vf b)
{
    const __m512i sign = _mm512_set1_epi32(INT32_MIN);
    return _mm512_castsi512_ps(
        _mm512_ternarylogic_epi32(sign, _mm512_castps_si512(b), _mm512_castps_si512(a), 0xCA));
}

/* n lanes, however many: none for n <= 0 */
INLINE vf v_load_some(const float *p, int n)
{
    return n >= VL ? v_load(p) : n > 0 ? v_load_n(p, n) : v_zero();
}
/* lane i of out[j] = p[k*i + j], k = 2 or 3, for i < n; the other lanes are 0 */
INLINE void v_phases2(const float *p, int n, vf out[2])
{
    const vi even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    vf a = v_load_some(p, 2 * n), b = v_load_some(p + 16, 2 * n - 16);
    out[0] = _mm512_permutex2var_ps(a, even, b);
    out[1] = _mm512_permutex2var_ps(a, _mm512_add_epi32(even, _mm512_set1_epi32(1)), b);
}
INLINE void v_phases3(const float *p, int n, vf out[3])
{
    /* index 3i+j: the first two vectors hold 0..31, the third the rest */
    const vi three = _mm512_setr_epi32(0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 39, 42, 45);
    vf a = v_load_some(p, 3 * n), b = v_load_some(p + 16, 3 * n - 16);
    vf c = v_load_some(p + 32, 3 * n - 32);
    UNROLL(3)
    for (int j = 0; j < 3; j++) {
        vi at = _mm512_add_epi32(three, _mm512_set1_epi32(j));
        vm high = _mm512_cmpge_epi32_mask(at, _mm512_set1_epi32(32));
        vf low = _mm512_permutex2var_ps(a, at, b);
        out[j] = _mm512_mask_permutexvar_ps(low, high, at, c);
    }
}
/* lanes as unsigned bytes; values are small integers */
INLINE void v_store_u8(uint8_t *p, vf v, int n)
{
    __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v));
    if (n >= 16)
        _mm_storeu_si128((__m128i *)p, bytes);
    else
        _mm_mask_storeu_epi8(p, v_first(n), bytes);
}

#elif defined(__AVX2__)
#include <immintrin.h>
#define ISA_NAME avx2
#define VL 8
typedef __m256 vf;
typedef __m256i vi;
typedef __m256 vm;

INLINE vi v_first_i(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
INLINE vm v_first(int n)
{
    return _mm256_castsi256_ps(v_first_i(n));
}
INLINE vf v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
INLINE void v_store(float *p, vf v)
{
    _mm256_storeu_ps(p, v);
}
INLINE vf v_load_n(const float *p, int n)
{
    return _mm256_maskload_ps(p, v_first_i(n));
}
INLINE void v_store_n(float *p, vf v, int n)
{
    _mm256_maskstore_ps(p, v_first_i(n), v);
}
INLINE vf v_set(float f)
{
    return _mm256_set1_ps(f);
}
INLINE vf v_zero(void)
{
    return _mm256_setzero_ps();
}
INLINE vf v_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}
INLINE vf v_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}
INLINE vf v_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}
INLINE vf v_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}
INLINE vf v_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}
INLINE vf v_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}
INLINE vf v_sqrt(vf a)
{
    return _mm256_sqrt_ps(a);
}
INLINE vf v_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}
INLINE vf v_fnma(vf a, vf b, vf c)
{
    return _mm256_fnmadd_ps(a, b, c);
}
INLINE vm v_gt(vf a, vf b)
{
    return _mm256_cmp_ps(a, b, _CMP_GT_OQ);
}
INLINE vm v_nan(vf a)
{
    return _mm256_cmp_ps(a, a, _CMP_UNORD_Q);
}
INLINE vm v_or(vm a, vm b)
{
    return _mm256_or_ps(a, b);
}
INLINE vf v_keep(vm m, vf a)
{
    return _mm256_and_ps(m, a);
}
INLINE vf v_select(vm m, vf a, vf b)
{
    return _mm256_blendv_ps(b, a, m);
}
INLINE float v_sum(vf a)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}
INLINE float v_hmax(vf a)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
}
INLINE vf v_exp2i(vf n)
{
    __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(v_max(n, v_set(-127))), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(e, 23));
}
INLINE vf v_abs(vf a)
{
    return _mm256_andnot_ps(v_set(-0.0f), a);
}
INLINE vf v_copysign(vf a, vf b)
{
    const vf sign = v_set(-0.0f);
    return _mm256_or_ps(_mm256_andnot_ps(sign, a), _mm256_and_ps(sign, b));
}

#else
#include <math.h>
#define ISA_NAME portable
#define VL 4
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef vi vm;

INLINE vm v_first(int n)
{
    return (vi){0, 1, 2, 3} < (vi){n, n, n, n};
}
INLINE vf v_load(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void v_store(float *p, vf v)
{
    memcpy(p, &v, sizeof v);
}
INLINE vf v_load_n(const float *p, int n)
{
    vf v = {0, 0, 0, 0};
    for (int i = 0; i < VL; i++)
        if (i < n) v[i] = p[i];
    return v;
}
INLINE void v_store_n(float *p, vf v, int n)
{
    for (int i = 0; i < VL; i++)
        if (i < n) p[i] = v[i];
}
INLINE vf v_set(float f)
{
    return (vf){f, f, f, f};
}
INLINE vf v_zero(void)
{
    return (vf){0, 0, 0, 0};
}
INLINE vf v_add(vf a, vf b)
{
    return a + b;
}
INLINE vf v_sub(vf a, vf b)
{
    return a - b;
}
INLINE vf v_mul(vf a, vf b)
{
    return a * b;
}
INLINE vf v_div(vf a, vf b)
{
    return a / b;
}
INLINE vm v_gt(vf a, vf b)
{
    return a > b;
}
INLINE vm v_nan(vf a)
{
    return a != a;
}
INLINE vm v_or(vm a, vm b)
{
    return a | b;
}
INLINE vf v_keep(vm m, vf a)
{
    return (vf)((vi)a & m);
}
INLINE vf v_select(vm m, vf a, vf b)
{
    return (vf)(((vi)a & m) | ((vi)b & ~m));
}
INLINE vf v_max(vf a, vf b)
{
    return v_select(a > b, a, b);
}
INLINE vf v_min(vf a, vf b)
{
    return v_select(a < b, a, b);
}
INLINE vf v_sqrt(vf a)
{
    return (vf){sqrtf(a[0]), sqrtf(a[1]), sqrtf(a[2]), sqrtf(a[3])};
}
INLINE vf v_fma(vf a, vf b, vf c)
{
    return a * b + c;
}
INLINE vf v_fnma(vf a, vf b, vf c)
{
    return c - a * b;
}
INLINE float v_sum(vf a)
{
    return (a[0] + a[2]) + (a[1] + a[3]);
}
INLINE float v_hmax(vf a)
{
    float x = a[0] > a[1] ? a[0] : a[1], y = a[2] > a[3] ? a[2] : a[3];
    return x > y ? x : y;
}
INLINE vf v_exp2i(vf n)
{
    vf c = v_max(n, v_set(-127));
    vi e = {(int)c[0] + 127, (int)c[1] + 127, (int)c[2] + 127, (int)c[3] + 127};
    return (vf)(vi)((vi)e << 23);
}
INLINE vf v_abs(vf a)
{
    return (vf)((vi)a & INT32_MAX);
}
INLINE vf v_copysign(vf a, vf b)
{
    return (vf)(((vi)a & INT32_MAX) | ((vi)b & INT32_MIN));
}
#endif

#if VL != 16
INLINE void v_phases2(const float *p, int n, vf out[2])
{
    out[0] = out[1] = v_zero();
    for (int i = 0; i < VL && i < n; i++) {
        out[0][i] = p[2 * i];
        out[1][i] = p[2 * i + 1];
    }
}
INLINE void v_phases3(const float *p, int n, vf out[3])
{
    out[0] = out[1] = out[2] = v_zero();
    for (int i = 0; i < VL && i < n; i++) {
        out[0][i] = p[3 * i];
        out[1][i] = p[3 * i + 1];
        out[2][i] = p[3 * i + 2];
    }
}
INLINE void v_store_u8(uint8_t *p, vf v, int n)
{
    for (int i = 0; i < VL && i < n; i++) p[i] = (uint8_t)v[i];
}
#endif

/* Four vectors as a VL x 4 matrix: split4 makes them x[4q + j] of the 4*VL floats that they hold in a
 * row, join4 the reverse. Quarters of 128 bits and the floats in them are transposed in turn. */
INLINE void v_lanes4(vf v[4])
{
#if VL == 4
    vf ab = __builtin_shufflevector(v[0], v[1], 0, 4, 1, 5), AB;
    AB = __builtin_shufflevector(v[0], v[1], 2, 6, 3, 7);
    vf cd = __builtin_shufflevector(v[2], v[3], 0, 4, 1, 5), CD;
    CD = __builtin_shufflevector(v[2], v[3], 2, 6, 3, 7);
    v[0] = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    v[1] = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    v[2] = __builtin_shufflevector(AB, CD, 0, 1, 4, 5);
    v[3] = __builtin_shufflevector(AB, CD, 2, 3, 6, 7);
#else
#if VL == 16
#define UNPACK(half, type, a, b) _mm512_unpack##half##_##type(a, b)
#define AS_PD(a) _mm512_castps_pd(a)
#define AS_PS(a) _mm512_castpd_ps(a)
#else
#define UNPACK(half, type, a, b) _mm256_unpack##half##_##type(a, b)
#define AS_PD(a) _mm256_castps_pd(a)
#define AS_PS(a) _mm256_castpd_ps(a)
#endif
    vf ab = UNPACK(lo, ps, v[0], v[1]), cd = UNPACK(lo, ps, v[2], v[3]);
    vf AB = UNPACK(hi, ps, v[0], v[1]), CD = UNPACK(hi, ps, v[2], v[3]);
    v[0] = AS_PS(UNPACK(lo, pd, AS_PD(ab), AS_PD(cd)));
    v[1] = AS_PS(UNPACK(hi, pd, AS_PD(ab), AS_PD(cd)));
    v[2] = AS_PS(UNPACK(lo, pd, AS_PD(AB), AS_PD(CD)));
    v[3] = AS_PS(UNPACK(hi, pd, AS_PD(AB), AS_PD(CD)));
#undef UNPACK
#undef AS_PD
#undef AS_PS
#endif
}

/* split: lane q of vector i becomes quarter 4q + i of the row; join: the reverse. */
INLINE void v_quarters4(vf v[4], int split)
{
#if VL == 16
    vf a = _mm512_shuffle_f32x4(v[0], v[1], 0x44), b = _mm512_shuffle_f32x4(v[2], v[3], 0x44);
    vf c = _mm512_shuffle_f32x4(v[0], v[1], 0xEE), d = _mm512_shuffle_f32x4(v[2], v[3], 0xEE);
    v[0] = _mm512_shuffle_f32x4(a, b, 0x88);
    v[1] = _mm512_shuffle_f32x4(a, b, 0xDD);
    v[2] = _mm512_shuffle_f32x4(c, d, 0x88);
    v[3] = _mm512_shuffle_f32x4(c, d, 0xDD);
#elif VL == 8
    vf a = v[0], b = v[1], c = v[2], d = v[3];
    if (split) { /* rows a b c d hold quarters 01 23 45 67; vector i wants i and 4 + i */
        v[0] = _mm256_permute2f128_ps(a, c, 0x20);
        v[1] = _mm256_permute2f128_ps(a, c, 0x31);
        v[2] = _mm256_permute2f128_ps(b, d, 0x20);
        v[3] = _mm256_permute2f128_ps(b, d, 0x31);
    } else {
        v[0] = _mm256_permute2f128_ps(a, b, 0x20);
        v[1] = _mm256_permute2f128_ps(c, d, 0x20);
        v[2] = _mm256_permute2f128_ps(a, b, 0x31);
        v[3] = _mm256_permute2f128_ps(c, d, 0x31);
    }
#endif
}

INLINE void v_split4(vf v[4])
{
    v_quarters4(v, 1);
    v_lanes4(v);
}

INLINE void v_join4(vf v[4])
{
    v_lanes4(v);
    v_quarters4(v, 0);
}

/* VL/2 lanes of 64 bits; only their low halves count as factors */
typedef uint64_t vu __attribute__((vector_size(4 * VL)));
INLINE vu vu_mul32(vu a, vu b)
{
#if VL == 16
    return (vu)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif VL == 8
    return (vu)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#else
    return (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu);
#endif
}

/* out[i] = sum of v[i]'s lanes, four at once. */
#if VL == 16
INLINE void v_sum4(const vf v[4], float *out)
{
    vf ab = v_add(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    vf cd = v_add(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
    __m512d p = _mm512_castps_pd(ab), q = _mm512_castps_pd(cd);
    vf s = v_add(_mm512_castpd_ps(_mm512_unpacklo_pd(p, q)),
                 _mm512_castpd_ps(_mm512_unpackhi_pd(p, q)));
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(s), _mm512_extractf32x8_ps(s, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1)));
}
#elif VL == 8
INLINE void v_sum4(const vf v[4], float *out)
{
    vf s = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1)));
}
#else
INLINE void v_sum4(const vf v[4], float *out)
{
    for (int i = 0; i < 4; i++) out[i] = v_sum(v[i]);
}
#endif

/* Register blocks of the row kernels: rows (outputs) x cols (vectors of time). */
#if VL == 16
#define ROWS_MAX 12
#define ROWS_AT(cols) ((cols) <= 2 ? 12 : (cols) == 3 ? 8 : 6)
#define COLS_MAX 4
#define DOT_ROWS 4
#define DOT_COLS 6
#else
#define ROWS_MAX 6
#define ROWS_AT(cols) ((cols) <= 2 ? 6 : 4)
#define COLS_MAX 3
#define DOT_ROWS 3
#define DOT_COLS 4
#endif

INLINE vf v_load_tail(const float *p, int n)
{
    return n >= VL ? v_load(p) : v_load_n(p, n);
}
INLINE void v_store_tail(float *p, vf v, int n)
{
    if (n >= VL)
        v_store(p, v);
    else
        v_store_n(p, v, n);
}
INLINE int vectors(int n)
{
    return (n + VL - 1) / VL;
}

#endif
