/* cpu/measure/engine_float.h - the parts of the float yardsticks; private to engine_float.c. */
#ifndef CINCH_CPU_MEASURE_ENGINE_FLOAT_H
#define CINCH_CPU_MEASURE_ENGINE_FLOAT_H

#include "cpu/measure/engine.h"
#include "cpu/quant/graph.h"

/* One LSTM step from its gates [4H] (i f g o, before the non-linearities): c and h [H] are
 * replaced. */
void measure_lstm_cell(const float *gates, float *c, float *h, int n);

/* oneDNN's primitives for a graph's convolutions and LSTMs; everything is made here, once. */
struct measure_dnnl;
int measure_dnnl_create(struct measure_dnnl **out, const struct quant_graph *g,
                        struct cn_error *err);
void measure_dnnl_destroy(struct measure_dnnl *d); /* accepts NULL */
/* Node i: x [cin, tin] -> y [cout, tmid], with bias, without ReLU. */
void measure_dnnl_conv(struct measure_dnnl *d, int node, const float *x, float *y);
/* Node i: x [T, cin] -> y [T, H]. */
void measure_dnnl_lstm(struct measure_dnnl *d, int node, const float *x, float *y);

#endif
