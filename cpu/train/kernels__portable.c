/* cpu/train/kernels__portable.c - the kernels compiled for portable. */
#include "cpu/train/kernels_impl.h"
