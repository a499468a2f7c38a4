/* cpu/rt/f32__avx2.c - the float kernels for avx2, from the templates. */
#include "cpu/rt/vec256.h"

#define RT_ISA avx2
#define TILE_M 6
#include "cpu/rt/f32_conv.inc.h"
#include "cpu/rt/f32_lstm.inc.h"
#include "cpu/rt/tables_isa.h"

#include "cpu/rt/f32_table.inc.h"
