/* The AMX kernels, on emulated tiles (amx_shim.h), against the portable ones: test_rt_isa.c once more, for this instruction
 * set alone. The rest of such a layer is AVX512-VNNI, so a CPU with that is needed. */
#define RT_FIRST_ISA CINCHRT_ISA_AMX
#include "tests/unit/rt/test_rt_isa.c"
