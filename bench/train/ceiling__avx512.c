/* bench/train/ceiling__avx512.c - the ceiling, compiled for avx512. */
#include "bench/train/ceiling_impl.h"
