/* cpu/quant/f32_kernels__avx2.c - see f32_body.h. */
#define TABLE quant_f32_avx2
#include "cpu/quant/f32_body.h"
