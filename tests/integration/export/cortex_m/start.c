/* Start of a program on qemu's mps2-an386 (Cortex-M4F): vectors, memory, FPU, main, and the end by semihosting. */
#include <stdint.h>
#include <string.h>

extern char data_from[], data_start[], data_end[], bss_start[], bss_end[];
void stack_top(void); /* an address, declared as what the vectors hold */
int main(void);
void put(const char *text);
void start(void);

static void semihost(int operation, const void *argument)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

void put(const char *text)
{
    semihost(4, text); /* SYS_WRITE0 */
}

void start(void)
{
    *(volatile uint32_t *)0xe000ed88 |= 0xfu << 20; /* CPACR: the FPU, before any float */
    __asm__ volatile("dsb\n\tisb");
    memcpy(data_start, data_from, (size_t)(data_end - data_start));
    memset(bss_start, 0, (size_t)(bss_end - bss_start));
    main();
    semihost(0x18, (const void *)0x20026); /* SYS_EXIT, ADP_Stopped_ApplicationExit */
    for (;;) {
    }
}

static void fault(void)
{
    semihost(0x18, (const void *)0x20024); /* an error: qemu ends with 1 */
}

__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    stack_top, start, fault, fault, fault, fault, fault,
};
