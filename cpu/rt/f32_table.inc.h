/* cpu/rt/f32_table.inc.h - the float kernels of one instruction set; RT_ISA:
 * its name, unquoted. */
#include "cpu/rt/table_names.h"

static const struct rt_kernel conv_kernel = {
    RT_NAME_TILED("f32_conv_", "x2v"),
    f32_conv_pack_size,
    f32_conv_pack,
    f32_conv_scratch,
    f32_conv_run,
};
static const struct rt_kernel linear_kernel = {
    RT_NAME("f32_linear_1x2v"), f32_conv_pack_size, f32_conv_pack, f32_conv_scratch, f32_conv_run,
};
static const struct rt_kernel mean_kernel = {
    RT_NAME("f32_mean_1v"), rt_pack_nothing_size, rt_pack_nothing, 0, f32_mean_run,
};
static const struct rt_kernel lstm_kernel = {
    RT_NAME("f32_lstm_8v"), f32_lstm_pack_size, f32_lstm_pack, f32_lstm_scratch, f32_lstm_run,
};
static const struct rt_kernel layernorm_kernel = {
    RT_NAME("f32_layernorm_1v"), f32_norm_pack_size, f32_norm_pack, f32_norm_scratch, f32_norm_run,
};
static const uint8_t table_ops[] = {
    CINCHRT_CONV_F32, CINCHRT_LINEAR_F32, CINCHRT_MEAN_F32, CINCHRT_LSTM_F32, CINCHRT_LAYERNORM_F32,
};
static const struct rt_kernel *const table_kernels[] = {
    &conv_kernel, &linear_kernel, &mean_kernel, &lstm_kernel, &layernorm_kernel,
};

const struct rt_isa_table RT_TABLE(rt_table_f32__) = {
    table_kernels, table_ops, sizeof table_ops, 0, f32_transpose_input,
};
