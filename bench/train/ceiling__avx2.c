/* bench/train/ceiling__avx2.c - the ceiling, compiled for avx2. */
#include "bench/train/ceiling_impl.h"
