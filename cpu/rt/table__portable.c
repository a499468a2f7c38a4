/* cpu/rt/table__portable.c - the portable set: every operation, the last resort
 * of all others. */
#include "cpu/rt/ref.h"
#include "cpu/rt/tables_isa.h"

static const uint8_t ops[] = {
    CINCHRT_CONV_I8,      CINCHRT_LINEAR_I8,     CINCHRT_MEAN_I8,    CINCHRT_LSTM_I8,
    CINCHRT_LAYERNORM_I8, CINCHRT_CONV_F32,      CINCHRT_LINEAR_F32, CINCHRT_MEAN_F32,
    CINCHRT_LSTM_F32,     CINCHRT_LAYERNORM_F32, CINCHRT_LINEAR_DYN, CINCHRT_LSTM_DYN,
};
static const struct rt_kernel *const kernels[] = {
    &rt_i8_conv__portable,       &rt_i8_linear__portable,    &rt_i8_mean__portable,
    &rt_i8_lstm__portable,       &rt_i8_layernorm__portable, &rt_f32_conv__portable,
    &rt_f32_linear__portable,    &rt_f32_mean__portable,     &rt_f32_lstm__portable,
    &rt_f32_layernorm__portable, &rt_dyn_linear__portable,   &rt_dyn_lstm__portable,
};

const struct rt_isa_table rt_table__portable = {
    kernels, ops, sizeof ops, rt_quantise__portable, rt_transpose__portable,
};
