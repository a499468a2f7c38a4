/* cpu/train/ref_conv.c - 1-D convolution (cross-correlation, stride 1, zero padding), as plain
 * loops. The innermost loop runs over time so that a compiler can vectorise it. */
#include "cpu/train/context.h"
#include "cpu/train/ref.h"

#include <string.h>

/* The range of output positions t for which input position t + k - pad exists. */
static void conv_span(const struct nn_conv1d *a, int k, int *lo, int *hi)
{
    int shift = k - a->pad; /* input = output + shift */
    *lo = shift < 0 ? -shift : 0;
    *hi = a->tin - shift < a->tout ? a->tin - shift : a->tout;
    if (*hi < *lo) *hi = *lo;
}

/* One row of the batch: y [Cout, Tout]. */
static void conv_forward_row(void *arg, int item, int thread)
{
    const struct nn_conv1d *a = arg;
    const float *w = a->w + item / a->b * a->stride;
    const float *bias = a->bias ? a->bias + item / a->b * a->stride : NULL;
    const float *x = a->x + (size_t)item * a->cin * a->tin;
    float *y = a->y + (size_t)item * a->cout * a->tout;
    for (int co = 0; co < a->cout; co++, y += a->tout) {
        for (int t = 0; t < a->tout; t++) y[t] = bias ? bias[co] : 0;
        for (int ci = 0; ci < a->cin; ci++)
            for (int k = 0; k < a->k; k++) {
                int lo, hi;
                conv_span(a, k, &lo, &hi);
                const float *in = x + (size_t)ci * a->tin + k - a->pad;
                float c = w[((size_t)co * a->cin + ci) * a->k + k];
                for (int t = lo; t < hi; t++) y[t] += c * in[t];
            }
    }
}

int ref_conv1d_forward(struct nn_backend *be, const struct nn_conv1d *a)
{
    cn_pool_run(cpu_train_pool(be), a->m * a->b, conv_forward_row, (void *)a);
    return 0;
}

static void conv_dx_row(void *arg, int item, int thread)
{
    const struct nn_conv1d *a = arg;
    const float *w = a->w + item / a->b * a->stride;
    const float *dy = a->dy + (size_t)item * a->cout * a->tout;
    float *dx = a->dx + (size_t)item * a->cin * a->tin;
    if (!a->dx_add) memset(dx, 0, (size_t)a->cin * a->tin * sizeof *dx);
    for (int ci = 0; ci < a->cin; ci++)
        for (int co = 0; co < a->cout; co++)
            for (int k = 0; k < a->k; k++) {
                int lo, hi;
                conv_span(a, k, &lo, &hi);
                float *out = dx + (size_t)ci * a->tin + k - a->pad;
                const float *in = dy + (size_t)co * a->tout;
                float c = w[((size_t)co * a->cin + ci) * a->k + k];
                for (int t = lo; t < hi; t++) out[t] += c * in[t];
            }
}

/* The gradient of one output channel's weights, over the whole batch. */
static void conv_dw_channel(void *arg, int item, int thread)
{
    const struct nn_conv1d *a = arg;
    int member = item / a->cout, co = item % a->cout;
    float *dw = a->dw + member * a->stride + (size_t)co * a->cin * a->k;
    for (int ci = 0; ci < a->cin; ci++)
        for (int k = 0; k < a->k; k++) {
            int lo, hi;
            double sum = 0;
            conv_span(a, k, &lo, &hi);
            for (int r = member * a->b; r < (member + 1) * a->b; r++) {
                const float *x = a->x + ((size_t)r * a->cin + ci) * a->tin + k - a->pad;
                const float *dy = a->dy + ((size_t)r * a->cout + co) * a->tout;
                float part = 0;
                for (int t = lo; t < hi; t++) part += dy[t] * x[t];
                sum += part;
            }
            dw[ci * a->k + k] = (float)sum;
        }
    if (!a->dbias) return;
    double sum = 0;
    for (int r = member * a->b; r < (member + 1) * a->b; r++)
        for (int t = 0; t < a->tout; t++) sum += a->dy[((size_t)r * a->cout + co) * a->tout + t];
    a->dbias[member * a->stride + co] = (float)sum;
}

int ref_conv1d_backward(struct nn_backend *be, const struct nn_conv1d *a)
{
    cn_pool_run(cpu_train_pool(be), a->m * a->cout, conv_dw_channel, (void *)a);
    if (a->dx) cn_pool_run(cpu_train_pool(be), a->m * a->b, conv_dx_row, (void *)a);
    return 0;
}
