/* cpu/rt/vec512.h - the vector operations of the kernel templates (*.inc.h) in
 * 512 bits. The includer defines RT_DOT_VNNI when the file is compiled with
 * VNNI. vec256.h is its twin; keep them alike.
 */
#ifndef CINCHRT_VEC512_H
#define CINCHRT_VEC512_H

#include <immintrin.h>
#include <stdint.h>

#define VL 16 /* 32-bit lanes */
typedef __m512i vi;
typedef __m512 vf;

#define v_load(p) _mm512_loadu_si512((const void *)(p))
#define v_store(p, v) _mm512_storeu_si512((void *)(p), v)
#define v_zero() _mm512_setzero_si512()
#define v_set32(x) _mm512_set1_epi32(x)
#define v_set16(x) _mm512_set1_epi16((short)(x))
#define v_add32(a, b) _mm512_add_epi32(a, b)
#define v_max32(a, b) _mm512_max_epi32(a, b)
#define v_min32(a, b) _mm512_min_epi32(a, b)
#define v_mullo32(a, b) _mm512_mullo_epi32(a, b)
#define v_srav32(a, n) _mm512_srav_epi32(a, n)
#define v_sra32(a, n) _mm512_sra_epi32(a, _mm_cvtsi32_si128(n))
#define v_sub32(a, b) _mm512_sub_epi32(a, b)
#define v_shl32(a, n) _mm512_sll_epi32(a, _mm_cvtsi32_si128(n))
#define v_slli32(a, n) _mm512_slli_epi32(a, n)
#define v_srai32(a, n) _mm512_srai_epi32(a, n)
#define v_mul64(a, b) _mm512_mul_epi32(a, b) /* even lanes, 32 x 32 -> 64 */
#define v_add64(a, b) _mm512_add_epi64(a, b)
#define v_low(a) _mm512_and_si512(a, _mm512_set1_epi64(0xffffffff))
#define v_high(a) _mm512_srli_epi64(a, 32)
#define v_srlv64(a, n) _mm512_srlv_epi64(a, n)
#define v_sll64(a, n) _mm512_slli_epi64(a, n)
#define v_join(even, odd) _mm512_mask_blend_epi32(0xaaaa, even, odd)
#define v_adds16(a, b) _mm512_adds_epi16(a, b)
#define v_sub16(a, b) _mm512_sub_epi16(a, b)
#define v_add16(a, b) _mm512_add_epi16(a, b)
#define v_max16(a, b) _mm512_max_epi16(a, b)
#define v_min16(a, b) _mm512_min_epi16(a, b)
#define v_minu16(a, b) _mm512_min_epu16(a, b)
#define v_abs16(a) _mm512_abs_epi16(a)
#define v_sra16(a, n) _mm512_srai_epi16(a, n)
#define v_srl16(a, n) _mm512_srli_epi16(a, n)
#define v_sll16(a, n) _mm512_slli_epi16(a, n)
#define v_and(a, b) _mm512_and_si512(a, b)
#define v_mullo16(a, b) _mm512_mullo_epi16(a, b)
#define v_mulhrs(a, b) _mm512_mulhrs_epi16(a, b)
#define v_madd16(a, b) _mm512_madd_epi16(a, b)
#define v_packs32(a, b) _mm512_packs_epi32(a, b) /* within 128-bit lanes */
#define v_sum32(a) _mm512_reduce_add_epi32(a)
#define v_sum64(a) (uint64_t) _mm512_reduce_add_epi64(a)

/* The 32-bit word at p in every lane. The address is only 1-byte aligned. */
static inline vi v_bcast32(const void *p)
{
    int32_t word;
    __builtin_memcpy(&word, p, 4);
    return _mm512_set1_epi32(word);
}

/* sign(s) * v per 16-bit lane; v = 0 where s = 0. */
static inline vi v_sign16(vi v, vi s)
{
    return _mm512_mask_sub_epi16(v, _mm512_movepi16_mask(s), _mm512_setzero_si512(), v);
}

/* 16-bit lanes 0..255 -> bytes, 32 of them. */
static inline void v_store_bytes16(void *p, vi v)
{
    _mm256_storeu_si256(p, _mm512_cvtepi16_epi8(v));
}

/* The same, only the first n, a multiple of 4. */
static inline void v_store_part16(uint8_t *p, vi v, int n)
{
    _mm256_mask_storeu_epi32(p, (__mmask8)((1 << (n >> 2)) - 1), _mm512_cvtepi16_epi8(v));
}

/* The lowest byte of each 32-bit lane; n bytes, a multiple of 4, at most VL. */
static inline void v_store_bytes32(uint8_t *p, vi v, int n)
{
    __m128i b = _mm512_cvtepi32_epi8(v);
    if (n == 16)
        _mm_storeu_si128((void *)p, b);
    else
        _mm_mask_storeu_epi32(p, (__mmask8)((1 << (n >> 2)) - 1), b);
}

/* Lane i of a, b, c to words 3i, 3i + 1, 3i + 2. */
static inline void v_store_by3(uint8_t *p, vi a, vi b, vi c)
{
    vi ab0 = _mm512_setr_epi32(0, 16, 0, 1, 17, 0, 2, 18, 0, 3, 19, 0, 4, 20, 0, 5);
    vi ab1 = _mm512_setr_epi32(21, 0, 6, 22, 0, 7, 23, 0, 8, 24, 0, 9, 25, 0, 10, 26);
    vi ab2 = _mm512_setr_epi32(0, 11, 27, 0, 12, 28, 0, 13, 29, 0, 14, 30, 0, 15, 31, 0);
    vi c0 = _mm512_setr_epi32(0, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 3, 0, 0, 4, 0);
    vi c1 = _mm512_setr_epi32(0, 5, 0, 0, 6, 0, 0, 7, 0, 0, 8, 0, 0, 9, 0, 0);
    vi c2 = _mm512_setr_epi32(10, 0, 0, 11, 0, 0, 12, 0, 0, 13, 0, 0, 14, 0, 0, 15);
    vi q = _mm512_permutex2var_epi32(a, ab0, b);
    v_store(p, _mm512_mask_permutexvar_epi32(q, 0x4924, c0, c));
    q = _mm512_permutex2var_epi32(a, ab1, b);
    v_store(p + 64, _mm512_mask_permutexvar_epi32(q, 0x2492, c1, c));
    q = _mm512_permutex2var_epi32(a, ab2, b);
    v_store(p + 128, _mm512_mask_permutexvar_epi32(q, 0x9249, c2, c));
}

/* Signed 16-bit -> 32-bit, lower and upper half of the lanes. */
#define v_widen_lo(v) _mm512_cvtepi16_epi32(_mm512_castsi512_si256(v))
#define v_widen_hi(v) _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(v, 1))
/* The inverse, saturating, in order. */
static inline vi v_narrow16(vi lo, vi hi)
{
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtsepi32_epi16(lo)),
                              _mm512_cvtsepi32_epi16(hi), 1);
}
/* Unsigned bytes -> 16-bit lanes. */
#define v_widen_bytes(p) _mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *)(p)))

#ifdef RT_DOT_VNNI
/* As an instruction and not the intrinsic: compilers (gcc 12 is one) copy and
 * spill the sums of a large tile around the latter. */
static inline vi v_dot(vi acc, vi x, vi w)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "vm"(w));
    return acc;
}
#else
#define v_dot(acc, x, w) _mm512_add_epi32(acc, _mm512_madd_epi16(x, w))
#endif

/* 32-entry table of 16-bit values. */
typedef struct {
    vi v;
} v_table32;
static inline v_table32 v_table_load(const int16_t *t)
{
    v_table32 r = {_mm512_loadu_si512((const void *)t)};
    return r;
}
#define v_lookup(t, index) _mm512_permutexvar_epi16(index, (t).v)

/* Float. */
#define vf_load(p) _mm512_loadu_ps(p)
#define vf_store(p, v) _mm512_storeu_ps(p, v)
#define vf_zero() _mm512_setzero_ps()
#define vf_set(x) _mm512_set1_ps(x)
#define vf_add(a, b) _mm512_add_ps(a, b)
#define vf_sub(a, b) _mm512_sub_ps(a, b)
#define vf_mul(a, b) _mm512_mul_ps(a, b)
#define vf_div(a, b) _mm512_div_ps(a, b)
#define vf_fma(a, b, c) _mm512_fmadd_ps(a, b, c)   /* a*b + c */
#define vf_fnma(a, b, c) _mm512_fnmadd_ps(a, b, c) /* c - a*b */
#define vf_max(a, b) _mm512_max_ps(a, b)
#define vf_min(a, b) _mm512_min_ps(a, b)
#define vf_round32(v) _mm512_cvtps_epi32(v) /* to the nearest, ties to even */
#define vf_sum(v) _mm512_reduce_add_ps(v)
#define vf_least(v) _mm512_reduce_min_ps(v)
#define vf_most(v) _mm512_reduce_max_ps(v)
#define vf_from32(v) _mm512_cvtepi32_ps(v)
#define vf_rint(v) _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define vf_scale2(v, n) _mm512_scalef_ps(v, n) /* v * 2^n */

static inline float f32_root(float x)
{
    return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
}

/* n floats, a multiple of 4, at most VL. */
static inline void vf_store_part(float *p, vf v, int n)
{
    if (n == VL)
        _mm512_storeu_ps(p, v);
    else
        _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v);
}

#endif
