/* cpu/rt/table_names.h - names of kernels and tables in the templates, from RT_ISA (an instruction
 * set's name, unquoted) and TILE_M (the steps of a register tile), which the includer has defined. */
#ifndef CINCHRT_TABLE_NAMES_H
#define CINCHRT_TABLE_NAMES_H

#define RT_TEXT2(x) #x
#define RT_TEXT(x) RT_TEXT2(x)
#define RT_JOIN2(a, b) a##b
#define RT_JOIN(a, b) RT_JOIN2(a, b)

#define RT_NAME(stem) stem "__" RT_TEXT(RT_ISA)                      /* "i8_mean_2v__avx2" */
#define RT_NAME_TILED(stem, rest) RT_NAME(stem RT_TEXT(TILE_M) rest) /* "i8_conv_6x2v__avx2" */
#define RT_TABLE(prefix) RT_JOIN(prefix, RT_ISA)                     /* rt_table__avx2 */

#endif
