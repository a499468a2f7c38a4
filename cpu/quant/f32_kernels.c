/* cpu/quant/f32_kernels.c - see f32_body.h. */
#define TABLE quant_f32_portable
#include "cpu/quant/f32_body.h"

const struct quant_f32_kernels *quant_f32_best(void)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return &quant_f32_avx512;
    /* no CPU with both lacks f16c, and clang 14 cannot ask for it */
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &quant_f32_avx2;
#endif
    return &quant_f32_portable;
}
