/* cpu/rt/fixed.h - the integer arithmetic of format.h's rules, one function
 * each. The vector kernels reproduce exactly these. All shifts of negative
 * numbers are arithmetic (every compiler this runs on does that; test_rt_fixed
 * checks it).
 */
#ifndef CINCHRT_FIXED_H
#define CINCHRT_FIXED_H

#include <stdint.h>
#include <string.h>

#include "cpu/rt/tables.h"

/* A requantisation multiplier m * 2^-s. */
struct rt_mult {
    int32_t m; /* 2^23 <= m < 2^24 */
    int32_t s; /* 1..62 */
};

/* Decodes a float32's bits; 0 when it is no positive normal number with s
 * in 1..62. */
static inline int rt_mult_decode(uint32_t bits, struct rt_mult *out)
{
    int exponent = (int)(bits >> 23); /* the sign lies above: negative numbers give > 255 */
    int s = 150 - exponent;
    if (exponent == 0 || exponent >= 255 || s < 1 || s > 62) return 0;
    out->m = (int32_t)((bits & 0x7fffffu) | 0x800000u);
    out->s = s;
    return 1;
}

static inline int32_t rt_rq(int32_t a, struct rt_mult k)
{
    return (int32_t)(((int64_t)a * k.m + ((int64_t)1 << (k.s - 1))) >> k.s);
}

static inline int32_t rt_clamp(int32_t v, int32_t lo, int32_t hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

static inline int32_t rt_sat16(int64_t v)
{
    return v < -32768 ? -32768 : v > 32767 ? 32767 : (int32_t)v;
}

static inline int32_t rt_mulhrs(int32_t a, int32_t b) /* both in int16's range, not both -32768 */
{
    return (a * b + (1 << 14)) >> 15;
}

/* The 16-bit multiplier of the LSTM's rows. */
static inline int32_t rt_mult16_m(uint16_t v)
{
    return 2048 | (v & 2047);
}
static inline int32_t rt_mult16_s(uint16_t v)
{
    return 30 - (v >> 11);
}
static inline int32_t rt_rq16(int32_t a, uint16_t v) /* saturated to int16 */
{
    int s = rt_mult16_s(v);
    return rt_sat16(((int64_t)a * rt_mult16_m(v) + ((int64_t)1 << (s - 1))) >> s);
}

/* a in Q3.12 -> Q15. Largest error 2^-11.8. */
static inline int32_t rt_tanh16(int32_t a)
{
    int32_t u = a < 0 ? (a == -32768 ? 32767 : -a) : a;
    int32_t i = u >> 10, f = (u & 1023) << 5;
    int32_t y = rt_tanh_c0[i] + rt_mulhrs(f, rt_tanh_c1[i] + rt_mulhrs(f, rt_tanh_c2[i]));
    return a < 0 ? -y : y;
}

static inline int32_t rt_sig16(int32_t v) /* v in Q4.11 -> Q15 */
{
    return 16384 + (rt_tanh16(v) >> 1);
}

/* Index of the highest set bit; v > 0. */
static inline int rt_top_bit(uint64_t v)
{
#if defined(__GNUC__)
    return 63 - __builtin_clzll(v);
#else
    int n = 0;
    while (v >>= 1) n++;
    return n;
#endif
}

/* Integer reciprocal standard deviation for LAYERNORM_I8: *r (2^13..2^14) and
 * *s with r * 2^-s near 2^10 * c / sqrt(d). d = C*S2 - S1^2 + 10737*C^2, so d
 * >= 10737*c*c and s stays in 9..20. A table gives 1/sqrt to 1 %, one Newton
 * step in integers the rest: error below 2^-12.
 */
static inline void rt_rstd(uint64_t d, uint32_t c, int32_t *r, int32_t *s)
{
    int shift =
        (rt_top_bit(d) - 30) & ~1; /* d = dn * 2^shift with dn in [2^30, 2^32), shift even */
    uint32_t dn = (uint32_t)(shift < 0 ? d << -shift : d >> shift), y0, w;
    uint64_t scaled;
    int t;
    y0 = rt_root_start[(dn >> 25) - 32];                           /* Q15 of 1/sqrt(dn / 2^32) */
    w = (3u << 30) - (uint32_t)(((uint64_t)dn * (y0 * y0)) >> 32); /* Q30 of 3 - a*y^2 */
    scaled = (((uint64_t)y0 * w) >> 31) * c; /* c / sqrt(dn) * 2^31, at least 2^15 */
    t = rt_top_bit(scaled) - 13;
    *r = (int32_t)(scaled >> t);
    *s = 21 + shift / 2 - t; /* 2^10 * 2^-31 * 2^(-shift/2) * 2^t */
}

#endif
