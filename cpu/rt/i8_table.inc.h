/* cpu/rt/i8_table.inc.h - the kernel table of one instruction set, from the templates included before.
 * RT_ISA: its name, unquoted.
 */
#define RT_TEXT2(x) #x
#define RT_TEXT(x) RT_TEXT2(x)
#define RT_CAT2(a, b) a##b
#define RT_CAT(a, b) RT_CAT2(a, b)

static const struct rt_kernel conv_kernel = {
    "i8_conv_" RT_TEXT(TILE_M) "x2v__" RT_TEXT(RT_ISA),
    i8_conv_pack_size,
    i8_conv_pack,
    i8_conv_scratch,
    i8_conv_run,
};
static const struct rt_kernel linear_kernel = {
    "i8_linear_1x2v__" RT_TEXT(RT_ISA),
    i8_conv_pack_size,
    i8_conv_pack,
    i8_conv_scratch,
    i8_conv_run,
};
static const uint8_t table_ops[] = {CINCHRT_CONV_I8, CINCHRT_LINEAR_I8};
static const struct rt_kernel *const table_kernels[] = {&conv_kernel, &linear_kernel};

const struct rt_isa_table RT_CAT(rt_table__, RT_ISA) = {
    table_kernels, table_ops, sizeof table_ops, 0, 0,
};
