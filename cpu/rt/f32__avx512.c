/* cpu/rt/f32__avx512.c - the float kernels for avx512, from the templates. */
#include "cpu/rt/vec512.h"

#define RT_ISA avx512
#define TILE_M 12
#include "cpu/rt/f32_conv.inc.h"
#include "cpu/rt/f32_lstm.inc.h"
#include "cpu/rt/tables_isa.h"

#include "cpu/rt/f32_table.inc.h"
