/* lstm_cell.c - the pointwise part of the OpenBLAS LSTM, in a file of its own because it alone is
 * compiled for speed over exactness: that lets the compiler take libmvec's vector exp.
 */
#include <math.h>

#include "cpu/measure/engine_float.h"

void measure_lstm_cell(const float *restrict gates, float *restrict c, float *restrict h, int n)
{
    for (int j = 0; j < n; j++) {
        float i = 1.0f / (1.0f + expf(-gates[j]));
        float f = 1.0f / (1.0f + expf(-gates[n + j]));
        float g = 2.0f / (1.0f + expf(-2.0f * gates[2 * n + j])) - 1.0f;
        float o = 1.0f / (1.0f + expf(-gates[3 * n + j]));
        float cell = f * c[j] + i * g;
        c[j] = cell;
        h[j] = o * (2.0f / (1.0f + expf(-2.0f * cell)) - 1.0f);
    }
}
