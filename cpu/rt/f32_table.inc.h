/* cpu/rt/f32_table.inc.h - the float kernels of one instruction set; RT_ISA:
 * its name, unquoted. */
#define RT_TEXT2(x) #x
#define RT_TEXT(x) RT_TEXT2(x)
#define RT_CAT2(a, b) a##b
#define RT_CAT(a, b) RT_CAT2(a, b)
#define RT_SUFFIX "__" RT_TEXT(RT_ISA)

static const struct rt_kernel conv_kernel = {
    "f32_conv_" RT_TEXT(TILE_M) "x2v" RT_SUFFIX,
    f32_conv_pack_size,
    f32_conv_pack,
    f32_conv_scratch,
    f32_conv_run,
};
static const struct rt_kernel linear_kernel = {
    "f32_linear_1x2v" RT_SUFFIX, f32_conv_pack_size, f32_conv_pack, f32_conv_scratch, f32_conv_run,
};
static const struct rt_kernel mean_kernel = {
    "f32_mean_1v" RT_SUFFIX, rt_pack_nothing_size, rt_pack_nothing, 0, f32_mean_run,
};
static const struct rt_kernel lstm_kernel = {
    "f32_lstm_8v" RT_SUFFIX, f32_lstm_pack_size, f32_lstm_pack, f32_lstm_scratch, f32_lstm_run,
};
static const struct rt_kernel layernorm_kernel = {
    "f32_layernorm_1v" RT_SUFFIX, f32_norm_pack_size, f32_norm_pack, f32_norm_scratch, f32_norm_run,
};
static const uint8_t table_ops[] = {
    CINCHRT_CONV_F32, CINCHRT_LINEAR_F32, CINCHRT_MEAN_F32, CINCHRT_LSTM_F32, CINCHRT_LAYERNORM_F32,
};
static const struct rt_kernel *const table_kernels[] = {
    &conv_kernel, &linear_kernel, &mean_kernel, &lstm_kernel, &layernorm_kernel,
};

const struct rt_isa_table RT_CAT(rt_table_f32__, RT_ISA) = {
    table_kernels, table_ops, sizeof table_ops, 0, f32_transpose_input,
};
