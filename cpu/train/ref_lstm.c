/* cpu/train/ref_lstm.c - one LSTM layer with PyTorch's gate order (i, f, g, o) and two bias
 * vectors, as plain loops over time; backward is full back-propagation through time.
 *
 * save is [M, B, 5H, T]: the four gates after their non-linearities and the cell state, of every
 * step. Backward overwrites the gates with the gradients of their pre-activations and then sums the
 * weight gradients from those.
 */
#include "cpu/train/context.h"
#include "cpu/train/ref.h"

#include <math.h>
#include <string.h>

#define LSTM_MAX_H 4096 /* the widest layer that nn_net_build gives */

static float lstm_sigmoid(float z)
{
    return 1 / (1 + expf(-z));
}

int64_t ref_lstm_save_floats(struct nn_backend *be, const struct nn_lstm *a)
{
    return (int64_t)a->m * a->b * 5 * a->h * a->t;
}

/* Pre-activation of gate row j at step t. y is this row's output so far. */
static float lstm_preactivation(const struct nn_lstm *a, int item, int j, int t)
{
    int64_t p = item / a->b * a->stride;
    const float *x = a->x + (size_t)item * a->c * a->t, *y = a->y + (size_t)item * a->h * a->t;
    float z = a->b_ih[p + j] + a->b_hh[p + j];
    for (int c = 0; c < a->c; c++)
        z += a->w_ih[p + (int64_t)j * a->c + c] * x[(size_t)c * a->t + t];
    for (int k = 0; t > 0 && k < a->h; k++)
        z += a->w_hh[p + (int64_t)j * a->h + k] * y[(size_t)k * a->t + t - 1];
    return z;
}

static void lstm_forward_row(void *arg, int item, int thread)
{
    const struct nn_lstm *a = arg;
    int h = a->h;
    size_t steps = (size_t)a->t;
    float cell[LSTM_MAX_H];
    float *y = a->y + (size_t)item * h * steps;
    float *save = a->save ? a->save + (size_t)item * 5 * h * steps : NULL;
    memset(cell, 0, (size_t)h * sizeof *cell);
    for (size_t t = 0; t < steps; t++)
        for (int u = 0; u < h; u++) {
            float i = lstm_sigmoid(lstm_preactivation(a, item, u, (int)t));
            float f = lstm_sigmoid(lstm_preactivation(a, item, h + u, (int)t));
            float g = tanhf(lstm_preactivation(a, item, 2 * h + u, (int)t));
            float o = lstm_sigmoid(lstm_preactivation(a, item, 3 * h + u, (int)t));
            cell[u] = f * cell[u] + i * g;
            y[u * steps + t] = o * tanhf(cell[u]);
            if (!save) continue;
            const float kept[5] = {i, f, g, o, cell[u]};
            for (int q = 0; q < 5; q++) save[(size_t)(q * h + u) * steps + t] = kept[q];
        }
}

int ref_lstm_forward(struct nn_backend *be, const struct nn_lstm *a)
{
    if (a->h > LSTM_MAX_H)
        return cn_fail(&be->error, CN_ELIMIT, "LSTM wider than %d units", LSTM_MAX_H);
    cn_pool_run(cpu_train_pool(be), a->m * a->b, lstm_forward_row, (void *)a);
    return 0;
}

/* Turns unit u's gates at step t into gradients of their pre-activations. dh: gradient of the
 * output; *dc: of the cell, carried to step t - 1. */
static void lstm_unit_backward(const struct nn_lstm *a, float *save, int u, int t, float dh,
                               float *dc)
{
    size_t steps = (size_t)a->t, h = (size_t)a->h;
    float *gate[4];
    for (size_t q = 0; q < 4; q++) gate[q] = save + (q * h + (size_t)u) * steps + t;
    const float *cell = save + (4 * h + (size_t)u) * steps + t;
    float i = *gate[0], f = *gate[1], g = *gate[2], o = *gate[3], tc = tanhf(*cell);
    float before = t > 0 ? cell[-1] : 0;
    float d = *dc + dh * o * (1 - tc * tc);
    *gate[0] = d * g * i * (1 - i);
    *gate[1] = d * before * f * (1 - f);
    *gate[2] = d * i * (1 - g * g);
    *gate[3] = dh * tc * o * (1 - o);
    *dc = d * f;
}

static void lstm_backward_row(void *arg, int item, int thread)
{
    const struct nn_lstm *a = arg;
    int h = a->h;
    size_t steps = (size_t)a->t;
    int64_t p = item / a->b * a->stride;
    float dc[LSTM_MAX_H], dh[LSTM_MAX_H];
    float *save = a->save + (size_t)item * 5 * h * steps;
    const float *dy = a->dy + (size_t)item * h * steps;
    memset(dc, 0, (size_t)h * sizeof *dc);
    memset(dh, 0, (size_t)h * sizeof *dh);
    for (int t = a->t - 1; t >= 0; t--) {
        for (int u = 0; u < h; u++)
            lstm_unit_backward(a, save, u, t, dh[u] + dy[u * steps + t], &dc[u]);
        memset(dh, 0, (size_t)h * sizeof *dh);
        for (int j = 0; j < 4 * h; j++) {
            float g = save[j * steps + t];
            const float *w = a->w_hh + p + (int64_t)j * h;
            for (int k = 0; k < h; k++) dh[k] += g * w[k];
        }
    }
    if (!a->dx) return;
    for (int c = 0; c < a->c; c++) {
        float *dx = a->dx + ((size_t)item * a->c + c) * steps;
        memset(dx, 0, steps * sizeof *dx);
        for (int j = 0; j < 4 * h; j++) {
            float w = a->w_ih[p + (int64_t)j * a->c + c];
            for (size_t t = 0; t < steps; t++) dx[t] += save[j * steps + t] * w;
        }
    }
}

/* Σ over the batch and t ≥ lag of dgate[t]·in[t - lag], in one fixed order. */
static float lstm_dot(const struct nn_lstm *a, int m, int j, const float *in, int width, int lag)
{
    double sum = 0;
    for (int r = m * a->b; r < (m + 1) * a->b; r++) {
        const float *g = a->save + ((size_t)r * 5 * a->h + j) * a->t;
        const float *v = in + (size_t)r * width * a->t;
        float part = 0;
        for (int t = lag; t < a->t; t++) part += g[t] * v[t - lag];
        sum += part;
    }
    return (float)sum;
}

static void lstm_dw_gate(void *arg, int item, int thread)
{
    const struct nn_lstm *a = arg;
    int m = item / (4 * a->h), j = item % (4 * a->h);
    int64_t p = m * a->stride;
    for (int c = 0; c < a->c; c++)
        a->dw_ih[p + (int64_t)j * a->c + c] = lstm_dot(a, m, j, a->x + (size_t)c * a->t, a->c, 0);
    for (int k = 0; k < a->h; k++)
        a->dw_hh[p + (int64_t)j * a->h + k] = lstm_dot(a, m, j, a->y + (size_t)k * a->t, a->h, 1);
    double sum = 0;
    for (int r = m * a->b; r < (m + 1) * a->b; r++)
        for (int t = 0; t < a->t; t++) sum += a->save[((size_t)r * 5 * a->h + j) * a->t + t];
    a->db_ih[p + j] = a->db_hh[p + j] = (float)sum;
}

int ref_lstm_backward(struct nn_backend *be, const struct nn_lstm *a)
{
    cn_pool_run(cpu_train_pool(be), a->m * a->b, lstm_backward_row, (void *)a);
    cn_pool_run(cpu_train_pool(be), a->m * 4 * a->h, lstm_dw_gate, (void *)a);
    return 0;
}
