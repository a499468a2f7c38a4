/* cpu/rt/isa.c - which instruction sets there are, and which kernel serves an
 * operation.
 *
 * Each set's file exports one constant table; a set that lacks an operation
 * falls to the next weaker one that this CPU has. The CPU is asked at every
 * load: there is no state to keep.
 */
#include "cpu/rt/model.h"
#include "cpu/rt/tables_isa.h"

#ifdef RT_X86
#include <cpuid.h>

static uint32_t xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static int cpu_has(enum cinchrt_isa isa)
{
    uint32_t a, b, c, d, ecx1, b7, d7, a71 = 0;
    uint32_t xcr;
    if (!__get_cpuid(1, &a, &b, &ecx1, &d) || !(ecx1 & bit_OSXSAVE)) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c, &d7)) return 0;
    if (a >= 1) __get_cpuid_count(7, 1, &a71, &b, &d, &a);
    xcr = xcr0();
    if ((xcr & 6) != 6 || !(ecx1 & bit_FMA) || !(b7 & bit_AVX2)) return 0;
    if (isa == CINCHRT_ISA_AVX2) return 1;
    if (isa == CINCHRT_ISA_AVXVNNI) return (a71 >> 4 & 1) != 0;
    if ((xcr & 0xe6) != 0xe6 || !(b7 & bit_AVX512F) || !(b7 & bit_AVX512BW) ||
        !(b7 & bit_AVX512VL) || !(b7 & bit_AVX512DQ))
        return 0;
    if (isa == CINCHRT_ISA_AVX512) return 1;
    if (!(c & bit_AVX512VNNI)) return 0;
    if (isa == CINCHRT_ISA_AVX512VNNI) return 1;
    return rt_amx_usable(d7, xcr);
}
#else
static int cpu_has(enum cinchrt_isa isa)
{
    (void)isa;
    return 0;
}
#endif

const struct rt_isa_table *rt_table_of(enum cinchrt_isa isa, int which)
{
    switch (isa) {
    case CINCHRT_ISA_PORTABLE:
        return which ? 0 : &rt_table__portable;
#ifdef RT_X86
    case CINCHRT_ISA_AVX2:
        return which ? &rt_table_f32__avx2 : &rt_table__avx2;
    case CINCHRT_ISA_AVXVNNI:
        return which ? 0 : &rt_table__avxvnni;
    case CINCHRT_ISA_AVX512:
        return which ? &rt_table_f32__avx512 : &rt_table__avx512;
    case CINCHRT_ISA_AVX512VNNI:
        return which ? 0 : &rt_table__avx512vnni;
    case CINCHRT_ISA_AMX:
        return which ? 0 : &rt_table__amx;
#endif
    default:
        return 0;
    }
}

int cinchrt_isa_available(enum cinchrt_isa isa)
{
    if (!rt_table_of(isa, 0)) return 0;
    return isa == CINCHRT_ISA_PORTABLE || cpu_has(isa);
}

enum cinchrt_isa cinchrt_isa_best(void)
{
    int isa = CINCHRT_ISA_COUNT - 1;
    while (isa > 0 && !cinchrt_isa_available((enum cinchrt_isa)isa)) isa--;
    return (enum cinchrt_isa)isa;
}

const struct rt_kernel *rt_kernel_for(enum cinchrt_isa isa, int op)
{
    int level, which, i;
    for (level = isa; level >= 0; level--)
        for (which = 0; which < 2; which++) {
            const struct rt_isa_table *t = rt_table_of((enum cinchrt_isa)level, which);
            if (!t || !cinchrt_isa_available((enum cinchrt_isa)level)) continue;
            for (i = 0; i < t->n; i++)
                if (t->ops[i] == op) return t->kernels[i];
        }
    return 0;
}

static const char *const isa_names[CINCHRT_ISA_COUNT] = {"portable", "avx2",       "avxvnni",
                                                         "avx512",   "avx512vnni", "amx"};

const char *cinchrt_isa_name(enum cinchrt_isa isa)
{
    return (int)isa >= 0 && (int)isa < CINCHRT_ISA_COUNT ? isa_names[isa] : "?";
}

int cinchrt_isa_parse(const char *name, enum cinchrt_isa *isa)
{
    int i;
    if (!name || !isa) return CINCHRT_EARG;
    for (i = 0; i < CINCHRT_ISA_COUNT; i++)
        if (strcmp(name, isa_names[i]) == 0) {
            *isa = (enum cinchrt_isa)i;
            return 0;
        }
    return CINCHRT_EISA;
}
