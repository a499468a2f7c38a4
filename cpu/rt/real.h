/* cpu/rt/real.h - exp, sigmoid, tanh, 1/sqrt and rounding in plain C, because
 * the runtime links no libm, and LayerNorm's steps in float. exp and what is made
 * of it have an accuracy near 1e-15 relative. Used at the float ends of a net, by
 * the portable float kernels and by the C export.
 */
#ifndef CINCHRT_REAL_H
#define CINCHRT_REAL_H

#include <stdint.h>
#include <string.h>

/* e^x, held at e^709 above and 0 below -745; NaN gives NaN. x = n ln 2 + r, |r|
 * <= ln2/2, Taylor to r^13. */
static inline double rt_exp(double x)
{
    double r, p = 0;
    int64_t bits;
    int n, i;
    if (!(x > -745.0)) return x == x ? 0.0 : x;
    if (x > 709.0) x = 709.0;
    r = x * 1.4426950408889634;
    n = (int)(r < 0 ? r - 0.5 : r + 0.5);
    r = x - n * 0.6931471803691238; /* ln 2 in two pieces: n times the first is
                                     exact */
    r -= n * 1.9082149292705877e-10;
    for (i = 13; i > 0; i--) p = (p + 1.0) * r / i;
    if (n < -1000) { /* the result is subnormal or nearly: scale in two steps */
        bits = (int64_t)(n + 200 + 1023) << 52;
        memcpy(&r, &bits, 8);
        return (p + 1.0) * r * 6.223015277861142e-61; /* 2^-200 */
    }
    bits = (int64_t)(n + 1023) << 52;
    memcpy(&r, &bits, 8);
    return (p + 1.0) * r;
}

static inline double rt_sigmoid(double x)
{
    double e = rt_exp(x < 0 ? x : -x);
    return x < 0 ? e / (1 + e) : 1 / (1 + e);
}

static inline double rt_tanh(double x)
{
    return 2 * rt_sigmoid(2 * x) - 1;
}

/* 1/sqrt(x), x > 0 and normal: a first guess from the exponent, five Newton
 * steps. */
static inline double rt_rsqrt(double x)
{
    int64_t bits;
    double y;
    int i;
    memcpy(&bits, &x, 8);
    bits = 0x5fe6eb50c7b537a9 - (bits >> 1);
    memcpy(&y, &bits, 8);
    for (i = 0; i < 5; i++) y *= 1.5 - 0.5 * x * y * y;
    return y;
}

/* The root of x, correctly rounded as SQRTSS rounds it; x > 0 and normal. The midpoint between two
 * floats squares exactly in double, so comparing with it tells which is nearer. */
static inline float rt_rootf(float x)
{
    double near = (double)x * rt_rsqrt((double)x), middle;
    float r = (float)near, up, down;
    uint32_t bits;
    if (!(x < 3.4e38f)) return x;
    memcpy(&bits, &r, 4);
    bits += 1;
    memcpy(&up, &bits, 4);
    bits -= 2;
    memcpy(&down, &bits, 4);
    middle = ((double)r + (double)up) / 2;
    if (middle * middle < (double)x) return up;
    middle = ((double)r + (double)down) / 2;
    return middle * middle > (double)x ? down : r;
}

#define RT_NORM_LANES 16 /* sums: channel c belongs to number c % 16, whatever the vectors' width */

static inline float rt_lanes_sum(float s[RT_NORM_LANES])
{
    int n, i;
    for (n = RT_NORM_LANES / 2; n; n /= 2)
        for (i = 0; i < n; i++) {
            float two = s[i] + s[i + n];
            s[i] = two;
        }
    return s[0];
}

/* LayerNorm in float, one rounding per step: the mean and reciprocal standard deviation of a row. The vector
 * kernels have the same bits. */
static inline void rt_norm_moments(const float *x, int n, float *mean, float *rstd)
{
    float sum[RT_NORM_LANES] = {0}, square[RT_NORM_LANES] = {0}, v, mu, root;
    int c;
    for (c = 0; c < n; c++) {
        v = sum[c % RT_NORM_LANES] + x[c];
        sum[c % RT_NORM_LANES] = v;
    }
    v = rt_lanes_sum(sum);
    mu = v / (float)n;
    for (c = 0; c < n; c++) {
        float d = x[c] - mu, d2 = d * d;
        v = square[c % RT_NORM_LANES] + d2;
        square[c % RT_NORM_LANES] = v;
    }
    v = rt_lanes_sum(square);
    v = v / (float)n;
    v = v + 1e-5f;
    root = rt_rootf(v);
    *mean = mu;
    *rstd = 1.0f / root;
}

static inline float rt_norm_value(float x, float mean, float rstd, float gamma, float beta)
{
    float v = x - mean;
    v = v * rstd;
    v = v * gamma;
    v = v + beta;
    return v;
}

/* Round to the nearest integer, ties to even; |x| < 2^22. Two roundings to
 * float, nothing else, so that wide FPU registers change nothing (C99
 * assignments round). */
static inline float rt_rint(float x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23 */
    float up = x + magic;
    float down = up - magic;
    return down;
}

#endif
