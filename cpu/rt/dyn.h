/* cpu/rt/dyn.h - the float arithmetic of LSTM_DYN and LINEAR_DYN, one rounding to float per step, so that
 * every lane of every vector and every FPU (C99 assignments round) computes the same bits; so do
 * LAYERNORM_F32 and MEAN_F32, which stand between the two (ref_f32.c). No step may
 * be fused with another: compile with -std=c99 or -ffp-contract=off.
 */
#ifndef CINCHRT_DYN_H
#define CINCHRT_DYN_H

#include "cpu/rt/fixed.h"
#include "cpu/rt/real.h"

/* How a vector was quantised: q = rint(x / scale) + zero. */
struct rt_dyn_range {
    float scale;
    int32_t zero;
};

/* From the smallest and largest value, zero among them. A range of nothing gets scale 0.1, as in
 * PyTorch. *inverse: 1 / scale. */
static inline struct rt_dyn_range rt_dyn_range_of(float lo, float hi, int qmax, float *inverse)
{
    struct rt_dyn_range r;
    float width = hi - lo, at;
    r.scale = width / (float)qmax;
    if (!(r.scale > 1e-30f) || !(r.scale < 1e30f)) r.scale = 0.1f;
    *inverse = 1.0f / r.scale;
    at = lo * *inverse;
    r.zero = rt_clamp(at < -1024.0f ? 1024 : (int)rt_rint(-at), 0, qmax);
    return r;
}

/* Quantises n floats to 0 .. qmax: PyTorch's rule for unsigned, asymmetric. */
static inline struct rt_dyn_range rt_dyn_quantise(const float *x, int n, int qmax, uint8_t *q)
{
    float lo = 0, hi = 0, inverse, v;
    struct rt_dyn_range r;
    int i;
    for (i = 0; i < n; i++) {
        if (x[i] < lo) lo = x[i];
        if (x[i] > hi) hi = x[i];
    }
    r = rt_dyn_range_of(lo, hi, qmax, &inverse);
    for (i = 0; i < n; i++) {
        v = x[i] * inverse;
        if (!(v > -1024.0f)) v = -1024.0f;
        if (!(v < 1024.0f)) v = 1024.0f;
        q[i] = (uint8_t)rt_clamp((int)rt_rint(v) + r.zero, 0, qmax);
    }
    return r;
}

/* 1 / (1 + 2^y): 2^y from its whole part and a polynomial of degree 5 (Chebyshev fit, relative error
 * 2e-7). dyn_lstm.inc.h has its twin in vectors. */
#define RT_DYN_LOG2E                                                                               \
    0x1.715476p+0f /* hexadecimal, for a wide FPU may keep more of a decimal constant */
#define RT_DYN_C1 0x1.62e43p-1f
#define RT_DYN_C2 0x1.ebfa4ap-3f
#define RT_DYN_C3 0x1.c6af6cp-5f
#define RT_DYN_C4 0x1.3cbf6cp-7f
#define RT_DYN_C5 0x1.5f0896p-10f
static inline float rt_dyn_logistic2(float y)
{
    float n, f, f2, p, a, b;
    int32_t bits;
    if (!(y > -125.0f)) y = -125.0f;
    if (!(y < 125.0f)) y = 125.0f;
    n = rt_rint(y);
    f = y - n;
    f2 = f * f;
    p = f * RT_DYN_C5;
    p = p + RT_DYN_C4;
    b = f * RT_DYN_C3;
    b = b + RT_DYN_C2;
    a = f * RT_DYN_C1;
    a = a + 1.0f;
    p = p * f2;
    p = p + b;
    p = p * f2;
    p = p + a;
    memcpy(&bits, &p, 4);
    bits += (int32_t)n * (1 << 23);
    memcpy(&p, &bits, 4);
    p = p + 1.0f;
    p = 1.0f / p;
    return p;
}

static inline float rt_dyn_sigmoid(float x)
{
    float y = x * -RT_DYN_LOG2E;
    return rt_dyn_logistic2(y);
}

static inline float rt_dyn_tanh(float x)
{
    float y = x * (-2 * RT_DYN_LOG2E), s = rt_dyn_logistic2(y);
    s = s + s;
    s = s - 1.0f;
    return s;
}

/* A gate's sum from the two integer ones. */
static inline float rt_dyn_gate(int32_t x, float sx, int32_t h, float sh, float bias)
{
    float a = (float)x, b = (float)h;
    a = a * sx;
    b = b * sh;
    a = a + b;
    a = a + bias;
    return a;
}

/* The four gates of a unit (input, forget, cell, output) and its cell: the new h. */
static inline float rt_dyn_unit(const float gate[4], float *cell)
{
    float keep = rt_dyn_sigmoid(gate[1]), put = rt_dyn_sigmoid(gate[0]), c = *cell, h;
    float g = rt_dyn_tanh(gate[2]);
    keep = keep * c;
    put = put * g;
    c = keep + put;
    *cell = c;
    h = rt_dyn_sigmoid(gate[3]);
    g = rt_dyn_tanh(c);
    h = h * g;
    return h;
}

#endif
