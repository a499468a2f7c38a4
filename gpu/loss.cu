/* gpu/loss.cu - hard and distillation loss with their gradient, from logits; probabilities.
 *
 * Per member: mean over the batch of alpha·hard + (1-alpha)·soft (nn/backend.h has the formulas).
 * With p = sigmoid(z) both BCE and KL([t,1-t] ‖ [p,1-p]) have the gradient p - target; with softmax
 * likewise. log p and log(1-p) are taken from softplus, so nothing overflows.
 */
#include "gpu/common.cuh"

enum { THREADS = 128 };

__device__ __forceinline__ float softplus(float z)
{
    return fmaxf(z, 0.0f) + log1pf(expf(-fabsf(z)));
}

__device__ __forceinline__ float sigmoid(float z)
{
    return z >= 0.0f ? 1.0f / (1.0f + expf(-z)) : expf(z) / (1.0f + expf(z));
}

/* t·log t, 0 at 0 */
__device__ __forceinline__ float xlogx(float t)
{
    return t > 0.0f ? t * logf(t) : 0.0f;
}

__device__ float row_bce(const struct nn_loss_args &a, int64_t row, float alpha, float scale)
{
    float loss = 0.0f;
    for (int l = 0; l < a.labels; l++) {
        int64_t e = row * a.labels + l;
        float z = a.z[e], y = a.y[e], p = sigmoid(z),
              w = alpha * (a.class_weight ? a.class_weight[l] : 1.0f);
        float lp = -softplus(-z), lq = -softplus(z), grad = w * (p - y);
        loss -= w * (y * lp + (1.0f - y) * lq);
        if (a.t && alpha < 1.0f) {
            float t = a.t[e];
            loss += (1.0f - alpha) * (xlogx(t) + xlogx(1.0f - t) - t * lp - (1.0f - t) * lq);
            grad += (1.0f - alpha) * (p - t);
        }
        if (a.dz) a.dz[e] = grad * scale;
    }
    return loss;
}

__device__ float row_cross_entropy(const struct nn_loss_args &a, int64_t row, float alpha,
                                   float scale)
{
    const float *z = a.z + row * a.labels, *y = a.y + row * a.labels;
    const float *t = a.t && alpha < 1.0f ? a.t + row * a.labels : NULL;
    float top = z[0], sum = 0.0f, loss = 0.0f, mass = 0.0f, soft = 0.0f;
    for (int l = 1; l < a.labels; l++) top = fmaxf(top, z[l]);
    for (int l = 0; l < a.labels; l++) sum += expf(z[l] - top);
    float lse = top + logf(sum);
    for (int l = 0; l < a.labels; l++) {
        float w = alpha * (a.class_weight ? a.class_weight[l] : 1.0f);
        loss -= w * y[l] * (z[l] - lse);
        mass += w * y[l];
        if (!t) continue;
        loss += (1.0f - alpha) * (xlogx(t[l]) - t[l] * (z[l] - lse));
        soft += t[l];
    }
    for (int l = 0; a.dz && l < a.labels; l++) {
        float w = alpha * (a.class_weight ? a.class_weight[l] : 1.0f), p = expf(z[l] - lse);
        float grad = mass * p - w * y[l];
        if (t) grad += (1.0f - alpha) * (soft * p - t[l]);
        a.dz[row * a.labels + l] = grad * scale;
    }
    return loss;
}

/* one block a member */
__global__ void __launch_bounds__(THREADS) f32_loss(struct nn_loss_args a)
{
    __shared__ float buf[32];
    int m = blockIdx.x;
    float alpha = a.t ? a.s[m].alpha : 1.0f, scale = 1.0f / (float)a.b, loss = 0.0f;
    for (int b = threadIdx.x; b < a.b; b += THREADS) {
        int64_t row = (int64_t)m * a.b + b;
        loss += a.cross_entropy ? row_cross_entropy(a, row, alpha, scale)
                                : row_bce(a, row, alpha, scale);
    }
    loss = block_sum(loss, buf) * scale;
    if (threadIdx.x) return;
    a.loss[m] = loss;
    if (a.bad && !isfinite(loss) && a.bad[m] == 0) a.bad[m] = a.s[m].step;
    if (a.loss_sum) a.loss_sum[m] += loss * (float)a.b;
}

__global__ void f32_probability(struct nn_probability a)
{
    int row = blockIdx.x * THREADS + threadIdx.x;
    if (row >= a.rows) return;
    const float *z = a.z + (int64_t)row * a.labels;
    int each = a.cursor ? a.rows / a.m : 1;
    int64_t to = a.cursor ? (int64_t)(row / each) * a.total + *a.cursor + row % each : row;
    float *p = a.p + to * a.labels;
    if (!a.cross_entropy) {
        for (int l = 0; l < a.labels; l++) p[l] = sigmoid(z[l]);
        return;
    }
    float top = z[0], sum = 0.0f;
    for (int l = 1; l < a.labels; l++) top = fmaxf(top, z[l]);
    for (int l = 0; l < a.labels; l++) sum += expf(z[l] - top);
    for (int l = 0; l < a.labels; l++) p[l] = expf(z[l] - top) / sum;
}

static int loss(struct nn_backend *be, const struct nn_loss_args *a)
{
    f32_loss<<<a->m, THREADS, 0, gpu_of(be)->stream>>>(*a);
    return gpu_launched(be, "loss");
}

static int probability(struct nn_backend *be, const struct nn_probability *a)
{
    f32_probability<<<gpu_blocks(a->rows, THREADS), THREADS, 0, gpu_of(be)->stream>>>(*a);
    return gpu_launched(be, "probability");
}

void gpu_loss_ops(struct nn_backend_ops *t)
{
    t->loss = loss;
    t->probability = probability;
}
