/* cpu/train/ref_linear.c - the fully connected layer, as plain loops. */
#include "cpu/train/context.h"
#include "cpu/train/ref.h"

static void linear_forward_row(void *arg, int item, int thread)
{
    const struct nn_linear *a = arg;
    int64_t p = item / a->b * a->stride;
    const float *x = a->x + (size_t)item * a->in;
    for (int o = 0; o < a->out; o++) {
        const float *w = a->w + p + (int64_t)o * a->in;
        float z = 0;
        for (int i = 0; i < a->in; i++) z += w[i] * x[i];
        a->y[(size_t)item * a->out + o] = z + a->bias[p + o];
    }
}

int ref_linear_forward(struct nn_backend *be, const struct nn_linear *a)
{
    cn_pool_run(cpu_train_pool(be), a->m * a->b, linear_forward_row, (void *)a);
    return 0;
}

static void linear_dx_row(void *arg, int item, int thread)
{
    const struct nn_linear *a = arg;
    const float *w = a->w + item / a->b * a->stride, *dy = a->dy + (size_t)item * a->out;
    float *dx = a->dx + (size_t)item * a->in;
    for (int i = 0; i < a->in; i++) dx[i] = 0;
    for (int o = 0; o < a->out; o++)
        for (int i = 0; i < a->in; i++) dx[i] += dy[o] * w[(int64_t)o * a->in + i];
}

static void linear_dw_output(void *arg, int item, int thread)
{
    const struct nn_linear *a = arg;
    int m = item / a->out, o = item % a->out;
    float *dw = a->dw + m * a->stride + (int64_t)o * a->in;
    double sum = 0;
    for (int i = 0; i < a->in; i++) dw[i] = 0;
    for (int r = m * a->b; r < (m + 1) * a->b; r++) {
        float g = a->dy[(size_t)r * a->out + o];
        const float *x = a->x + (size_t)r * a->in;
        for (int i = 0; i < a->in; i++) dw[i] += g * x[i];
        sum += g;
    }
    a->dbias[m * a->stride + o] = (float)sum;
}

int ref_linear_backward(struct nn_backend *be, const struct nn_linear *a)
{
    cn_pool_run(cpu_train_pool(be), a->m * a->out, linear_dw_output, (void *)a);
    if (a->dx) cn_pool_run(cpu_train_pool(be), a->m * a->b, linear_dx_row, (void *)a);
    return 0;
}
