/* bench/train/ceiling__portable.c - the ceiling, compiled for portable. */
#include "bench/train/ceiling_impl.h"
