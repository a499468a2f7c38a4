/* cpu/rt/amx.c - may this process use AMX? Its 8 KB of tiles are part of a thread's state only after
 * the process asked for them: on Linux by arch_prctl(ARCH_REQ_XCOMP_PERM, 18), the tile data's number in XCR0
 * (Documentation/arch/x86/xstate.rst). A kernel that does not know the call, or refuses, means no.
 * The permission is the process's, later threads included; asking again costs a system call and changes nothing.
 */
#include "cpu/rt/model.h"
#include "cpu/rt/tables_isa.h"

#if defined RT_X86 && defined __linux__
static int permitted(void)
{
    long result;
    __asm__ volatile("syscall" /* 158: arch_prctl */
                     : "=a"(result)
                     : "a"(158L), "D"(0x1023L), "S"(18L)
                     : "rcx", "r11", "memory");
    return result == 0;
}
#else
static int permitted(void)
{
    return 0;
}
#endif

int rt_amx_usable(uint32_t cpuid7_edx, uint32_t xcr0)
{
    if ((cpuid7_edx >> 24 & 3) != 3) return 0; /* AMX-TILE, AMX-INT8 */
    if ((xcr0 & 0x60000) != 0x60000) return 0; /* the system keeps their state */
    return permitted();
}
