/* cpu/train/kernels__avx2.c - the kernels compiled for avx2. */
#include "cpu/train/kernels_impl.h"
