/* cpu/rt/i8_table.inc.h - the kernel table of one instruction set, from the
 * templates included before. RT_ISA: its name, unquoted; F32_KERNELS: its float
 * kernels, if it has any.
 */
#define RT_TEXT2(x) #x
#define RT_TEXT(x) RT_TEXT2(x)
#define RT_CAT2(a, b) a##b
#define RT_CAT(a, b) RT_CAT2(a, b)
#define RT_SUFFIX "__" RT_TEXT(RT_ISA)

static const struct rt_kernel conv_kernel = {
    "i8_conv_" RT_TEXT(TILE_M) "x2v" RT_SUFFIX,
    i8_conv_pack_size,
    i8_conv_pack,
    i8_conv_scratch,
    i8_conv_run,
};
static const struct rt_kernel linear_kernel = {
    "i8_linear_1x2v" RT_SUFFIX, i8_conv_pack_size, i8_conv_pack, i8_conv_scratch, i8_conv_run,
};
static const struct rt_kernel lstm_kernel = {
    "i8_lstm_8v" RT_SUFFIX, i8_lstm_pack_size, i8_lstm_pack, i8_lstm_scratch, i8_lstm_run,
};
static const struct rt_kernel layernorm_kernel = {
    "i8_layernorm_2v" RT_SUFFIX, i8_norm_pack_size, i8_norm_pack, i8_norm_scratch, i8_norm_run,
};
static const struct rt_kernel mean_kernel = {
    "i8_mean_2v" RT_SUFFIX, i8_nothing_size, i8_nothing, 0, i8_mean_run,
};
static const uint8_t table_ops[] = {
    CINCHRT_CONV_I8, CINCHRT_LINEAR_I8, CINCHRT_LSTM_I8, CINCHRT_LAYERNORM_I8, CINCHRT_MEAN_I8,
};
static const struct rt_kernel *const table_kernels[] = {
    &conv_kernel, &linear_kernel, &lstm_kernel, &layernorm_kernel, &mean_kernel,
};

const struct rt_isa_table RT_CAT(rt_table__, RT_ISA) = {
    table_kernels, table_ops, sizeof table_ops, i8_quantise_input, 0,
};
