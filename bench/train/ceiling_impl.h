/* bench/train/ceiling_impl.h - the most multiply-adds that one core does, for the instruction set of
 * the including file: chains of fused multiply-adds on registers only, enough of them to hide the
 * latency. */
#include "bench/train/ceiling.h"
#include "cpu/train/simd.h"

#if VL == 16
#define CHAINS 24
#else
#define CHAINS 12
#endif

double ISA(ceiling_burst)(long rounds)
{
    vf acc[CHAINS], x = v_set(0.9999f), y = v_set(1e-6f);
    UNROLL(24)
    for (int c = 0; c < CHAINS; c++) acc[c] = v_set((float)c);
    for (long i = 0; i < rounds; i++) {
        UNROLL(24)
        for (int c = 0; c < CHAINS; c++) acc[c] = v_fma(acc[c], x, y);
    }
    vf sum = acc[0];
    UNROLL(24)
    for (int c = 1; c < CHAINS; c++) sum = v_add(sum, acc[c]);
    volatile float sink = v_sum(sum);
    (void)sink;
    return (double)rounds * CHAINS * VL;
}
