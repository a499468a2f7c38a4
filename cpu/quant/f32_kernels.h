/* cpu/quant/f32_kernels.h - the two float loops of calibration that take time, once per instruction
 * set. All variants do the same roundings in the same order (no fused multiply-add), so calibration
 * and with it the artifact has the same bytes on every CPU. */
#ifndef CINCH_CPU_QUANT_F32_KERNELS_H
#define CINCH_CPU_QUANT_F32_KERNELS_H

#define QUANT_T_BLOCK 32 /* time steps per inner block: rows are padded to a multiple of it */
#define QUANT_C_BLOCK 4  /* output channels per inner block */

struct quant_f32_conv {
    int cin, cout, k, t;
    int x_stride;      /* floats between rows of x; ≥ round_up(t, QUANT_T_BLOCK) + k - 1 */
    int y_stride;      /* ≥ round_up(t, QUANT_T_BLOCK) */
    const float *x;    /* [cin, x_stride], padded with zeros on the left already */
    const float *w;    /* [cout, cin, k] */
    const float *bias; /* [cout] */
    float *y;          /* [round_up(cout, QUANT_C_BLOCK), y_stride] */
};

struct quant_f32_kernels {
    void (*conv)(const struct quant_f32_conv *a);
    /* y[n] += Σ_j x[j] · w[j][n]; n a multiple of 64, w rows `n` apart */
    void (*axpys)(float *y, const float *x, const float *w, int rows, int n);
};

extern const struct quant_f32_kernels quant_f32_portable;
#ifdef __x86_64__
extern const struct quant_f32_kernels quant_f32_avx2, quant_f32_avx512;
#endif
const struct quant_f32_kernels *quant_f32_best(void); /* for this CPU */

#endif
