/* cpu/rt/i8_table.inc.h - the int8 kernels of one instruction set, from the
 * templates included before. RT_ISA: its name, unquoted. */
#include "cpu/rt/table_names.h"

static const struct rt_kernel conv_kernel = {
    RT_NAME_TILED("i8_conv_", "x2v"), i8_conv_pack_size, i8_conv_pack, i8_conv_scratch, i8_conv_run,
};
static const struct rt_kernel linear_kernel = {
    RT_NAME("i8_linear_1x2v"), i8_conv_pack_size, i8_conv_pack, i8_conv_scratch, i8_conv_run,
};
static const struct rt_kernel lstm_kernel = {
    RT_NAME("i8_lstm_8v"), i8_lstm_pack_size, i8_lstm_pack, i8_lstm_scratch, i8_lstm_run,
};
static const struct rt_kernel layernorm_kernel = {
    RT_NAME("i8_layernorm_2v"), i8_norm_pack_size, i8_norm_pack, i8_norm_scratch, i8_norm_run,
};
static const struct rt_kernel mean_kernel = {
    RT_NAME("i8_mean_2v"), i8_nothing_size, i8_nothing, 0, i8_mean_run,
};
static const struct rt_kernel dyn_lstm_kernel = {
    RT_NAME("dyn_lstm_8v"), dyn_pack_size, dyn_pack, dyn_scratch, dyn_run,
};
static const uint8_t table_ops[] = {
    CINCHRT_CONV_I8,      CINCHRT_LINEAR_I8, CINCHRT_LSTM_I8,
    CINCHRT_LAYERNORM_I8, CINCHRT_MEAN_I8,   CINCHRT_LSTM_DYN,
};
static const struct rt_kernel *const table_kernels[] = {
    &conv_kernel, &linear_kernel, &lstm_kernel, &layernorm_kernel, &mean_kernel, &dyn_lstm_kernel,
};

const struct rt_isa_table RT_TABLE(rt_table__) = {
    table_kernels, table_ops, sizeof table_ops, i8_quantise_input, 0,
};
