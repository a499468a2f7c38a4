/* cpu/rt/vec256.h - the vector operations of the kernel templates (*.inc.h) in
 * 256 bits; see vec512.h.
 */
#ifndef CINCHRT_VEC256_H
#define CINCHRT_VEC256_H

#include <immintrin.h>
#include <stdint.h>

#define VL 8
typedef __m256i vi;
typedef __m256 vf;

#define v_load(p) _mm256_loadu_si256((const void *)(p))
#define v_store(p, v) _mm256_storeu_si256((void *)(p), v)
#define v_zero() _mm256_setzero_si256()
#define v_set32(x) _mm256_set1_epi32(x)
#define v_set16(x) _mm256_set1_epi16((short)(x))
#define v_add32(a, b) _mm256_add_epi32(a, b)
#define v_max32(a, b) _mm256_max_epi32(a, b)
#define v_min32(a, b) _mm256_min_epi32(a, b)
#define v_mullo32(a, b) _mm256_mullo_epi32(a, b)
#define v_srav32(a, n) _mm256_srav_epi32(a, n)
#define v_sra32(a, n) _mm256_sra_epi32(a, _mm_cvtsi32_si128(n))
#define v_sub32(a, b) _mm256_sub_epi32(a, b)
#define v_shl32(a, n) _mm256_sll_epi32(a, _mm_cvtsi32_si128(n))
#define v_slli32(a, n) _mm256_slli_epi32(a, n)
#define v_srai32(a, n) _mm256_srai_epi32(a, n)
#define v_mul64(a, b) _mm256_mul_epi32(a, b)
#define v_add64(a, b) _mm256_add_epi64(a, b)
#define v_low(a) _mm256_and_si256(a, _mm256_set1_epi64x(0xffffffff))
#define v_high(a) _mm256_srli_epi64(a, 32)
#define v_srlv64(a, n) _mm256_srlv_epi64(a, n)
#define v_sll64(a, n) _mm256_slli_epi64(a, n)
#define v_join(even, odd) _mm256_blend_epi32(even, odd, 0xaa)
#define v_adds16(a, b) _mm256_adds_epi16(a, b)
#define v_sub16(a, b) _mm256_sub_epi16(a, b)
#define v_add16(a, b) _mm256_add_epi16(a, b)
#define v_max16(a, b) _mm256_max_epi16(a, b)
#define v_min16(a, b) _mm256_min_epi16(a, b)
#define v_minu16(a, b) _mm256_min_epu16(a, b)
#define v_abs16(a) _mm256_abs_epi16(a)
#define v_sra16(a, n) _mm256_srai_epi16(a, n)
#define v_srl16(a, n) _mm256_srli_epi16(a, n)
#define v_sll16(a, n) _mm256_slli_epi16(a, n)
#define v_and(a, b) _mm256_and_si256(a, b)
#define v_mullo16(a, b) _mm256_mullo_epi16(a, b)
#define v_mulhrs(a, b) _mm256_mulhrs_epi16(a, b)
#define v_madd16(a, b) _mm256_madd_epi16(a, b)
#define v_packs32(a, b) _mm256_packs_epi32(a, b)
#define v_sign16(v, s) _mm256_sign_epi16(v, s)

static inline vi v_bcast32(const void *p)
{
    int32_t word;
    __builtin_memcpy(&word, p, 4);
    return _mm256_set1_epi32(word);
}

static inline int32_t v_sum32(vi v)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

static inline uint64_t v_sum64(vi v)
{
    __m128i s = _mm_add_epi64(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    return (uint64_t)_mm_cvtsi128_si64(s) + (uint64_t)_mm_extract_epi64(s, 1);
}

static inline void v_store_bytes16(void *p, vi v)
{
    __m128i b = _mm_packus_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storeu_si128(p, b);
}

static inline void v_store_part16(uint8_t *p, vi v, int n) /* n 12 or 16 */
{
    uint8_t all[16];
    v_store_bytes16(all, v);
    __builtin_memcpy(p, all, 8);
    __builtin_memcpy(p + 8, all + 8, 4);
    if (n > 12) __builtin_memcpy(p + 12, all + 12, 4);
}

static inline void v_store_bytes32(uint8_t *p, vi v, int n)
{
    __m128i w = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    __m128i b = _mm_packus_epi16(w, w);
    int32_t half;
    if (n == 8) {
        _mm_storel_epi64((void *)p, b);
    } else {
        half = _mm_cvtsi128_si32(b);
        __builtin_memcpy(p, &half, 4);
    }
}

static inline vi v_pick3(vi a, vi b, vi c)
{
    return _mm256_blend_epi32(_mm256_blend_epi32(a, b, 0x92), c, 0x24);
}

/* Lane i of a, b, c to words 3i, 3i + 1, 3i + 2. Each is turned so that a blend finds every word in
 * its place. */
static inline void v_store_by3(uint8_t *p, vi a, vi b, vi c)
{
    a = _mm256_permutevar8x32_epi32(a, _mm256_setr_epi32(0, 3, 6, 1, 4, 7, 2, 5));
    b = _mm256_permutevar8x32_epi32(b, _mm256_setr_epi32(5, 0, 3, 6, 1, 4, 7, 2));
    c = _mm256_permutevar8x32_epi32(c, _mm256_setr_epi32(2, 5, 0, 3, 6, 1, 4, 7));
    v_store(p, v_pick3(a, b, c));
    v_store(p + 32, v_pick3(c, a, b));
    v_store(p + 64, v_pick3(b, c, a));
}

#define v_widen_lo(v) _mm256_cvtepi16_epi32(_mm256_castsi256_si128(v))
#define v_widen_hi(v) _mm256_cvtepi16_epi32(_mm256_extracti128_si256(v, 1))
static inline vi v_narrow16(vi lo, vi hi)
{
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(lo, hi), 0xd8);
}
#define v_widen_bytes(p) _mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)(p)))

#ifdef RT_DOT_VNNI
static inline vi v_dot(vi acc, vi x, vi w) /* see vec512.h */
{
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(x), "xm"(w));
    return acc;
}
#else
#define v_dot(acc, x, w) _mm256_add_epi32(acc, _mm256_madd_epi16(x, w))
#endif

/* 32 entries of 16 bits as four byte tables of 16: low and high bytes of either
 * half. */
typedef struct {
    vi lo0, hi0, lo1, hi1;
} v_table32;

static inline v_table32 v_table_load(const int16_t *t)
{
    v_table32 r;
    uint8_t b[4][32];
    int i;
    for (i = 0; i < 32; i++) { /* both 128-bit lanes alike */
        b[0][i] = (uint8_t)t[i & 15];
        b[1][i] = (uint8_t)((uint16_t)t[i & 15] >> 8);
        b[2][i] = (uint8_t)t[16 + (i & 15)];
        b[3][i] = (uint8_t)((uint16_t)t[16 + (i & 15)] >> 8);
    }
    r.lo0 = v_load(b[0]), r.hi0 = v_load(b[1]), r.lo1 = v_load(b[2]), r.hi1 = v_load(b[3]);
    return r;
}

/* vpshufb yields 0 where bit 7 of its control is set: + 0x70 sets it for
 * indexes from 16 on, - 16 for those below; the idle byte of each 16-bit lane
 * gets 0x80. */
static inline vi v_lookup(v_table32 t, vi index)
{
    vi low = _mm256_add_epi16(index, _mm256_set1_epi16((short)0x8070));
    vi high = _mm256_or_si256(
        _mm256_and_si256(_mm256_sub_epi16(index, _mm256_set1_epi16(16)), _mm256_set1_epi16(0xff)),
        _mm256_set1_epi16((short)0x8000));
    vi low8 = _mm256_or_si256(_mm256_slli_epi16(low, 8), _mm256_set1_epi16(0x80));
    vi high8 = _mm256_or_si256(_mm256_slli_epi16(high, 8), _mm256_set1_epi16(0x80));
    vi a = _mm256_or_si256(_mm256_shuffle_epi8(t.lo0, low), _mm256_shuffle_epi8(t.hi0, low8));
    vi b = _mm256_or_si256(_mm256_shuffle_epi8(t.lo1, high), _mm256_shuffle_epi8(t.hi1, high8));
    return _mm256_or_si256(a, b);
}

#define vf_load(p) _mm256_loadu_ps(p)
#define vf_store(p, v) _mm256_storeu_ps(p, v)
#define vf_zero() _mm256_setzero_ps()
#define vf_set(x) _mm256_set1_ps(x)
#define vf_add(a, b) _mm256_add_ps(a, b)
#define vf_sub(a, b) _mm256_sub_ps(a, b)
#define vf_mul(a, b) _mm256_mul_ps(a, b)
#define vf_div(a, b) _mm256_div_ps(a, b)
#define vf_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define vf_fnma(a, b, c) _mm256_fnmadd_ps(a, b, c)
#define vf_max(a, b) _mm256_max_ps(a, b)
#define vf_min(a, b) _mm256_min_ps(a, b)
#define vf_from32(v) _mm256_cvtepi32_ps(v)
#define vf_round32(v) _mm256_cvtps_epi32(v)
#define vf_rint(v) _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)

static inline vf vf_scale2(vf v, vf n) /* |n| < 127 */
{
    vi e = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(v), e));
}

static inline float vf_sum(vf v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static inline float vf_least(vf v)
{
    __m128 s = _mm_min_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_min_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_min_ss(s, _mm_movehdup_ps(s)));
}

static inline float vf_most(vf v)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

static inline float f32_root(float x)
{
    return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x)));
}

static inline void vf_store_part(float *p, vf v, int n)
{
    if (n == VL)
        _mm256_storeu_ps(p, v);
    else
        _mm_storeu_ps(p, _mm256_castps256_ps128(v));
}

#endif
