/* cpu/train/ref_norm.c - batch normalisation and layer normalisation, as plain loops. Statistics
 * are summed in double, in two passes. */
#include "cpu/train/context.h"
#include "cpu/train/ref.h"

#include <math.h>

/* Mean and biased variance of channel `c` of member `m` over batch and time. */
static void channel_moments(const struct nn_batchnorm *a, int m, int c, double *mean, double *var)
{
    double sum = 0, square = 0, n = (double)a->b * a->t;
    for (int pass = 0; pass < 2; pass++)
        for (int r = m * a->b; r < (m + 1) * a->b; r++) {
            const float *x = a->x + ((size_t)r * a->c + c) * a->t;
            for (int t = 0; t < a->t; t++) {
                if (pass == 0)
                    sum += x[t];
                else
                    square += (x[t] - sum / n) * (x[t] - sum / n);
            }
        }
    *mean = sum / n;
    *var = square / n;
}

static void batchnorm_forward_channel(void *arg, int item, int thread)
{
    const struct nn_batchnorm *a = arg;
    int m = item / a->c, c = item % a->c;
    int64_t p = m * a->stride + c;
    double mean = a->running_mean[p], var = a->running_var[p];
    if (a->train) {
        double n = (double)a->b * a->t;
        channel_moments(a, m, c, &mean, &var);
        a->save_mean[item] = (float)mean;
        a->save_rstd[item] = (float)(1 / sqrt(var + a->eps));
        double unbiased = n > 1 ? var * n / (n - 1) : var;
        a->running_mean[p] = (float)((1 - a->momentum) * a->running_mean[p] + a->momentum * mean);
        a->running_var[p] = (float)((1 - a->momentum) * a->running_var[p] + a->momentum * unbiased);
    }
    float scale = (float)(a->w[p] / sqrt(var + a->eps));
    float shift = (float)(a->bias[p] - mean * scale);
    for (int r = m * a->b; r < (m + 1) * a->b; r++) {
        size_t at = ((size_t)r * a->c + c) * a->t;
        for (int t = 0; t < a->t; t++) a->y[at + t] = a->x[at + t] * scale + shift;
    }
}

int ref_batchnorm_forward(struct nn_backend *be, const struct nn_batchnorm *a)
{
    cn_pool_run(cpu_train_pool(be), a->m * a->c, batchnorm_forward_channel, (void *)a);
    return 0;
}

static void batchnorm_backward_channel(void *arg, int item, int thread)
{
    const struct nn_batchnorm *a = arg;
    int m = item / a->c, c = item % a->c;
    int64_t p = m * a->stride + c;
    double sum = 0, dot = 0, n = (double)a->b * a->t;
    float mean = a->save_mean[item], rstd = a->save_rstd[item];
    for (int r = m * a->b; r < (m + 1) * a->b; r++) {
        size_t at = ((size_t)r * a->c + c) * a->t;
        for (int t = 0; t < a->t; t++) {
            sum += a->dy[at + t];
            dot += (double)a->dy[at + t] * ((a->x[at + t] - mean) * rstd);
        }
    }
    a->dw[p] = (float)dot;
    a->dbias[p] = (float)sum;
    if (!a->dx) return;
    float g = a->w[p] * rstd, mean_dy = (float)(sum / n), mean_dot = (float)(dot / n);
    for (int r = m * a->b; r < (m + 1) * a->b; r++) {
        size_t at = ((size_t)r * a->c + c) * a->t;
        for (int t = 0; t < a->t; t++) {
            float xhat = (a->x[at + t] - mean) * rstd;
            a->dx[at + t] = g * (a->dy[at + t] - mean_dy - xhat * mean_dot);
        }
    }
}

int ref_batchnorm_backward(struct nn_backend *be, const struct nn_batchnorm *a)
{
    cn_pool_run(cpu_train_pool(be), a->m * a->c, batchnorm_backward_channel, (void *)a);
    return 0;
}

static void layernorm_forward_row(void *arg, int item, int thread)
{
    const struct nn_layernorm *a = arg;
    const float *w = a->w + item / a->b * a->stride, *bias = a->bias + item / a->b * a->stride;
    const float *x = a->x + (size_t)item * a->c * a->t;
    float *y = a->y + (size_t)item * a->c * a->t;
    for (int t = 0; t < a->t; t++) {
        double mean = 0, var = 0;
        for (int c = 0; c < a->c; c++) mean += x[(size_t)c * a->t + t];
        mean /= a->c;
        for (int c = 0; c < a->c; c++) {
            double d = x[(size_t)c * a->t + t] - mean;
            var += d * d;
        }
        double rstd = 1 / sqrt(var / a->c + a->eps);
        if (a->save_mean) a->save_mean[(size_t)item * a->t + t] = (float)mean;
        if (a->save_rstd) a->save_rstd[(size_t)item * a->t + t] = (float)rstd;
        for (int c = 0; c < a->c; c++) {
            size_t at = (size_t)c * a->t + t;
            y[at] = (float)((x[at] - mean) * rstd) * w[c] + bias[c];
        }
    }
}

int ref_layernorm_forward(struct nn_backend *be, const struct nn_layernorm *a)
{
    cn_pool_run(cpu_train_pool(be), a->m * a->b, layernorm_forward_row, (void *)a);
    return 0;
}

static void layernorm_dx_row(void *arg, int item, int thread)
{
    const struct nn_layernorm *a = arg;
    const float *w = a->w + item / a->b * a->stride;
    size_t base = (size_t)item * a->c * a->t;
    for (int t = 0; t < a->t; t++) {
        float mean = a->save_mean[(size_t)item * a->t + t];
        float rstd = a->save_rstd[(size_t)item * a->t + t];
        double sum = 0, dot = 0;
        for (int c = 0; c < a->c; c++) {
            size_t at = base + (size_t)c * a->t + t;
            double g = (double)a->dy[at] * w[c];
            sum += g;
            dot += g * ((a->x[at] - mean) * rstd);
        }
        for (int c = 0; c < a->c; c++) {
            size_t at = base + (size_t)c * a->t + t;
            double xhat = (a->x[at] - mean) * rstd;
            a->dx[at] = (float)(rstd * ((double)a->dy[at] * w[c] - (sum + xhat * dot) / a->c));
        }
    }
}

static void layernorm_dw_channel(void *arg, int item, int thread)
{
    const struct nn_layernorm *a = arg;
    int m = item / a->c, c = item % a->c;
    double sum = 0, dot = 0;
    for (int r = m * a->b; r < (m + 1) * a->b; r++)
        for (int t = 0; t < a->t; t++) {
            size_t at = ((size_t)r * a->c + c) * a->t + t, s = (size_t)r * a->t + t;
            sum += a->dy[at];
            dot += (double)a->dy[at] * ((a->x[at] - a->save_mean[s]) * a->save_rstd[s]);
        }
    a->dw[m * a->stride + c] = (float)dot;
    a->dbias[m * a->stride + c] = (float)sum;
}

int ref_layernorm_backward(struct nn_backend *be, const struct nn_layernorm *a)
{
    cn_pool_run(cpu_train_pool(be), a->m * a->c, layernorm_dw_channel, (void *)a);
    if (a->dx) cn_pool_run(cpu_train_pool(be), a->m * a->b, layernorm_dx_row, (void *)a);
    return 0;
}
