/* cpu/rt/i8__avxvnni.c - the int8 kernels for avxvnni, from the templates. */
#define RT_DOT_VNNI 1
#include "cpu/rt/vec256.h"

#define RT_ISA avxvnni
#define TILE_M 6
#include "cpu/rt/i8_conv.inc.h"
#include "cpu/rt/i8_lstm.inc.h"
#include "cpu/rt/i8_norm.inc.h"

#include "cpu/rt/dyn_lstm.inc.h" /* a template behind i8_conv.inc.h */
#include "cpu/rt/tables_isa.h"

#include "cpu/rt/i8_table.inc.h"
