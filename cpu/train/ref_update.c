/* cpu/train/ref_update.c - optimiser steps (SGD with momentum, Adam, AdamW: PyTorch's arithmetic)
 * and the running average of weights. */
#include "cpu/train/context.h"
#include "cpu/train/ref.h"

#include <math.h>

#define UPDATE_CHUNK 8192 /* floats per item */

struct update_job {
    const struct nn_update *a;
    int chunks;
    float scale[NN_MAX_GANG]; /* of the gradient, by clipping */
};

/* PyTorch's clip_grad_norm_: the gradient is scaled by clip / (norm + 1e-6) when that is below 1.
 */
static float update_clip(const struct nn_update *a, int m)
{
    const float *g = a->g + m * a->stride;
    double square = 0;
    for (int64_t i = 0; i < a->p; i++) square += (double)g[i] * g[i];
    double scale = a->clip / (sqrt(square) + 1e-6);
    return scale < 1 ? (float)scale : 1;
}

static void sgd_span(const struct nn_update *a, const struct nn_scalars *s, float scale, int64_t lo,
                     int64_t hi)
{
    for (int64_t i = lo; i < hi; i++) {
        float g = a->g[i] * scale + s->weight_decay * a->w[i];
        a->m1[i] = s->momentum * a->m1[i] + g;
        g = a->nesterov ? g + s->momentum * a->m1[i] : a->m1[i];
        a->w[i] -= s->lr * g;
    }
}

static void adam_span(const struct nn_update *a, const struct nn_scalars *s, float scale,
                      int64_t lo, int64_t hi)
{
    double c1 = 1 - pow(s->beta1, s->step), c2 = 1 - pow(s->beta2, s->step);
    float rate = (float)(s->lr / c1), root = (float)sqrt(c2);
    float shrink = a->kind == NN_ADAMW ? 1 - s->lr * s->weight_decay : 1;
    float l2 = a->kind == NN_ADAM ? s->weight_decay : 0;
    for (int64_t i = lo; i < hi; i++) {
        float w = a->w[i] * shrink, g = a->g[i] * scale + l2 * a->w[i];
        a->m1[i] = s->beta1 * a->m1[i] + (1 - s->beta1) * g;
        a->m2[i] = s->beta2 * a->m2[i] + (1 - s->beta2) * g * g;
        a->w[i] = w - rate * a->m1[i] / (sqrtf(a->m2[i]) / root + s->eps);
    }
}

static void update_chunk(void *arg, int item, int thread)
{
    const struct update_job *j = arg;
    const struct nn_update *a = j->a;
    int m = item / j->chunks;
    int64_t lo = (int64_t)(item % j->chunks) * UPDATE_CHUNK;
    int64_t hi = lo + UPDATE_CHUNK < a->p ? lo + UPDATE_CHUNK : a->p, base = m * a->stride;
    if (a->kind == NN_SGD)
        sgd_span(a, &a->s[m], j->scale[m], base + lo, base + hi);
    else
        adam_span(a, &a->s[m], j->scale[m], base + lo, base + hi);
    for (int64_t i = lo; a->mask && i < hi; i++) a->w[base + i] *= a->mask[(int64_t)m * a->p + i];
}

int ref_update(struct nn_backend *be, const struct nn_update *a)
{
    struct update_job j = {.a = a, .chunks = (int)((a->p + UPDATE_CHUNK - 1) / UPDATE_CHUNK)};
    for (int m = 0; m < a->m; m++) j.scale[m] = a->clip > 0 ? update_clip(a, m) : 1;
    cn_pool_run(cpu_train_pool(be), a->m * j.chunks, update_chunk, &j);
    return 0;
}

int ref_average(struct nn_backend *be, const struct nn_average *a)
{
    for (int m = 0; m < a->m; m++) {
        float ema = a->s[m].ema;
        const float *w = a->w + m * a->stride;
        float *avg = a->avg + m * a->stride;
        for (int64_t i = 0; i < a->n; i++)
            avg[i] = ema > 0 ? ema * avg[i] + (1 - ema) * w[i] : w[i];
    }
    return 0;
}
