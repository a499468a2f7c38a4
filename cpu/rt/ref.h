/* cpu/rt/ref.h - the portable kernels, and what they share. */
#ifndef CINCHRT_REF_H
#define CINCHRT_REF_H

#include "cpu/rt/model.h"
#include "cpu/rt/real.h"

extern const struct rt_kernel rt_i8_conv__portable, rt_i8_linear__portable, rt_i8_mean__portable;
extern const struct rt_kernel rt_i8_lstm__portable, rt_i8_layernorm__portable;
extern const struct rt_kernel rt_f32_conv__portable, rt_f32_linear__portable, rt_f32_mean__portable;
extern const struct rt_kernel rt_f32_lstm__portable, rt_f32_layernorm__portable;
extern const struct rt_kernel rt_dyn_linear__portable, rt_dyn_lstm__portable;

void rt_quantise__portable(const struct rt_edge *e, const float *x, uint8_t *rows);
void rt_transpose__portable(const struct rt_edge *e, const float *x, float *rows);

/* For layers without weights. */
size_t rt_pack_nothing_size(const struct cinchrt_model *m, const struct rt_layer *l);
void rt_pack_nothing(const struct cinchrt_model *m, const struct rt_layer *l, const uint8_t *block,
                     void *dst);

#endif
