/* cpu/train/kernels__avx512.c - the kernels compiled for avx512. */
#include "cpu/train/kernels_impl.h"
