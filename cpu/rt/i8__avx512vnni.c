/* cpu/rt/i8__avx512vnni.c - the int8 kernels for avx512vnni, from the
 * templates. */
#define RT_DOT_VNNI 1
#include "cpu/rt/vec512.h"

#define RT_ISA avx512vnni
#define TILE_M 12
#include "cpu/rt/i8_conv.inc.h"
#include "cpu/rt/i8_lstm.inc.h"
#include "cpu/rt/i8_norm.inc.h"

#include "cpu/rt/dyn_lstm.inc.h" /* a template behind i8_conv.inc.h */
#include "cpu/rt/tables_isa.h"

#include "cpu/rt/i8_table.inc.h"
