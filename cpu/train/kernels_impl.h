/* cpu/train/kernels_impl.h - all kernels and their table, for the instruction set of the including
 * file. */
#include "cpu/train/elt_impl.h"
#include "cpu/train/list_impl.h"
#include "cpu/train/lstm_impl.h"
#include "cpu/train/rows_impl.h"
#include "cpu/train/wino_impl.h"

#define STRING2(x) #x
#define STRING(x) STRING2(x)

const struct cpu_kernels ISA(cpu_kernels) = {
    .isa = STRING(ISA_NAME),
    .row_blocks = ISA(f32_row_blocks),
    .rows = ISA(f32_rows),
    .dots = ISA(f32_dots),
    .lane_sums = ISA(f32_lane_sums),
    .wino_in = ISA(f32_wino_in),
    .wino_steps = ISA(f32_wino_steps),
    .wino_out = ISA(f32_wino_out),
    .pool = ISA(f32_pool),
    .unpool = ISA(f32_unpool),
    .bn_forward = ISA(f32_bn_forward),
    .bn_reduce = ISA(f32_bn_reduce),
    .bn_expand = ISA(f32_bn_expand),
    .bn_list = ISA(f32_bn_list),
    .ln_forward = ISA(f32_ln_forward),
    .ln_backward = ISA(f32_ln_backward),
    .sigmoid = ISA(f32_sigmoid),
    .tanh = ISA(f32_tanh),
    .lstm_cell = ISA(f32_lstm_cell),
    .lstm_cell_grad = ISA(f32_lstm_cell_grad),
    .transpose = ISA(f32_transpose),
    .relu = ISA(f32_relu),
    .relu_grad = ISA(f32_relu_grad),
    .add = ISA(f32_add),
    .axpy = ISA(f32_axpy),
    .dot = ISA(f32_dot),
    .sum = ISA(f32_sum),
    .max_at = ISA(f32_max_at),
    .sgd = ISA(f32_sgd),
    .adam = ISA(f32_adam),
    .philox = ISA(u32_philox),
    .noise = ISA(f32_noise),
    .average = ISA(f32_average),
};
