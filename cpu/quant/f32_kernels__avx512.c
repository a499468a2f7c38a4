/* cpu/quant/f32_kernels__avx512.c - see f32_body.h. */
#define TABLE quant_f32_avx512
#include "cpu/quant/f32_body.h"
