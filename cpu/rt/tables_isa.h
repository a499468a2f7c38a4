/* cpu/rt/tables_isa.h - the kernel tables that exist in this build. */
#ifndef CINCHRT_TABLES_ISA_H
#define CINCHRT_TABLES_ISA_H

#include "cpu/rt/model.h"

/* Vector kernels are compiled for x86-64 only; -DCINCHRT_PORTABLE_ONLY leaves
 * them out. */
#if defined(__x86_64__) && !defined(CINCHRT_PORTABLE_ONLY)
#define RT_X86 1
#endif

extern const struct rt_isa_table rt_table__portable;
extern const struct rt_isa_table rt_table__avx2;
extern const struct rt_isa_table rt_table__avxvnni;
extern const struct rt_isa_table rt_table__avx512;
extern const struct rt_isa_table rt_table__avx512vnni;
extern const struct rt_isa_table rt_table__amx;
extern const struct rt_isa_table rt_table_f32__avx2;
extern const struct rt_isa_table rt_table_f32__avx512;

#endif
