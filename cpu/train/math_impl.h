/* cpu/train/math_impl.h - exp, sigmoid and tanh in vectors, for the instruction set of the
 * including file.
 *
 * exp: x = n ln 2 + r with |r| <= ln 2 / 2, ln 2 in two pieces; e^r by the degree-6 polynomial of
 * Cephes' expf (Moshier). sigmoid = 1 / (1 + e^-x). tanh: Cephes' odd polynomial below 0.625, else
 * 1 - 2 / (e^2|x| + 1). Each stays within a few units in the last place of the true value (the test
 * has the bounds). NaN passes through.
 */
#include "cpu/train/kernels.h"
#include "cpu/train/simd.h"

/* For |x| <= 88; beyond, the callers clamp. */
INLINE vf v_exp(vf x)
{
    const vf magic = v_set(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    vf n = v_sub(v_fma(x, v_set(1.44269504088896341f), magic), magic);
    vf r = v_fnma(n, v_set(0.693359375f), x);
    r = v_fnma(n, v_set(-2.12194440e-4f), r);
    vf p = v_set(1.9875691500e-4f);
    p = v_fma(p, r, v_set(1.3981999507e-3f));
    p = v_fma(p, r, v_set(8.3334519073e-3f));
    p = v_fma(p, r, v_set(4.1665795894e-2f));
    p = v_fma(p, r, v_set(1.6666665459e-1f));
    p = v_fma(p, r, v_set(5.0000001201e-1f));
    p = v_add(v_fma(p, v_mul(r, r), r), v_set(1.0f));
    return v_mul(p, v_exp2i(n));
}

INLINE vf v_sigmoid(vf x)
{
    /* min and max keep their second operand when it is NaN */
    vf z = v_min(v_set(87.0f), v_max(v_set(-87.0f), x));
    return v_div(v_set(1.0f), v_add(v_set(1.0f), v_exp(v_sub(v_zero(), z))));
}

INLINE vf v_tanh(vf x)
{
    vf a = v_abs(x), s = v_mul(x, x);
    vf p = v_set(-5.70498872745e-3f);
    p = v_fma(p, s, v_set(2.06390887954e-2f));
    p = v_fma(p, s, v_set(-5.37397155531e-2f));
    p = v_fma(p, s, v_set(1.33314422036e-1f));
    p = v_fma(p, s, v_set(-3.33332819422e-1f));
    vf small = v_fma(v_mul(p, s), x, x);
    vf e = v_exp(v_min(v_set(20.0f), v_add(a, a)));
    vf big = v_sub(v_set(1.0f), v_div(v_set(2.0f), v_add(e, v_set(1.0f))));
    return v_select(v_gt(a, v_set(0.625f)), v_copysign(big, x), small);
}

#define MATH_ARRAY(name)                                                                           \
    static void ISA(f32_##name)(const float *x, float *y, int64_t n)                               \
    {                                                                                              \
        for (int64_t i = 0; i < n; i += VL) {                                                      \
            int m = n - i < VL ? (int)(n - i) : VL;                                                \
            v_store_tail(y + i, v_##name(v_load_tail(x + i, m)), m);                               \
        }                                                                                          \
    }
MATH_ARRAY(sigmoid)
MATH_ARRAY(tanh)
