/* cpu/train/ref_loss.c - the training losses and their gradients, from logits so that nothing
 * overflows, with response-based distillation; and probabilities from logits. */
#include "cpu/train/context.h"
#include "cpu/train/ref.h"

#include <math.h>

/* -[y·log p + (1-y)·log(1-p)] with p = sigmoid(z). */
static double bce_of_logit(double z, double y)
{
    return (z > 0 ? z : 0) - z * y + log1p(exp(-fabs(z)));
}

static double x_log_x(double x)
{
    return x > 0 ? x * log(x) : 0; /* its limit at 0 */
}

/* Loss of one row; dz (may be NULL) receives its gradient × scale. */
static double loss_row_bce(const struct nn_loss_args *a, int row, double alpha, float *dz)
{
    double loss = 0;
    for (int l = 0; l < a->labels; l++) {
        size_t at = (size_t)row * a->labels + l;
        double z = a->z[at], y = a->y[at], cw = a->class_weight ? a->class_weight[l] : 1;
        double p = 1 / (1 + exp(-z));
        double g = alpha * cw * (p - y);
        loss += alpha * cw * bce_of_logit(z, y);
        if (a->t && alpha < 1) {
            double t = a->t[at];
            loss += (1 - alpha) * (bce_of_logit(z, t) + x_log_x(t) + x_log_x(1 - t));
            g += (1 - alpha) * (p - t);
        }
        if (dz) dz[l] = (float)(g / a->b);
    }
    return loss;
}

static double log_sum_exp(const float *z, int n)
{
    double top = z[0], sum = 0;
    for (int l = 1; l < n; l++) top = z[l] > top ? z[l] : top;
    for (int l = 0; l < n; l++) sum += exp(z[l] - top);
    return top + log(sum);
}

static double loss_row_ce(const struct nn_loss_args *a, int row, double alpha, float *dz)
{
    const float *z = a->z + (size_t)row * a->labels, *y = a->y + (size_t)row * a->labels;
    const float *t = a->t && alpha < 1 ? a->t + (size_t)row * a->labels : NULL;
    double lse = log_sum_exp(z, a->labels), loss = 0, hard = 0, soft = 0;
    for (int l = 0; l < a->labels; l++) {
        double cw = a->class_weight ? a->class_weight[l] : 1, logp = z[l] - lse;
        hard += cw * y[l];
        loss -= alpha * cw * y[l] * logp;
        if (t) {
            soft += t[l];
            loss += (1 - alpha) * (x_log_x(t[l]) - t[l] * logp);
        }
    }
    for (int l = 0; dz && l < a->labels; l++) {
        double cw = a->class_weight ? a->class_weight[l] : 1, p = exp(z[l] - lse);
        double g = alpha * (hard * p - cw * y[l]);
        if (t) g += (1 - alpha) * (soft * p - t[l]);
        dz[l] = (float)(g / a->b);
    }
    return loss;
}

static void loss_member(void *arg, int item, int thread)
{
    const struct nn_loss_args *a = arg;
    double sum = 0, alpha = a->t ? a->s[item].alpha : 1;
    for (int r = item * a->b; r < (item + 1) * a->b; r++) {
        float *dz = a->dz ? a->dz + (size_t)r * a->labels : NULL;
        sum += a->cross_entropy ? loss_row_ce(a, r, alpha, dz) : loss_row_bce(a, r, alpha, dz);
    }
    a->loss[item] = (float)(sum / a->b);
    if (a->loss_sum) a->loss_sum[item] += (float)sum;
    if (a->bad && !a->bad[item] && !isfinite(a->loss[item])) a->bad[item] = a->s[item].step;
}

int ref_loss(struct nn_backend *be, const struct nn_loss_args *a)
{
    cn_pool_run(cpu_train_pool(be), a->m, loss_member, (void *)a);
    return 0;
}

/* Where row r of z goes. */
static size_t row_of(const struct nn_probability *a, int r)
{
    if (!a->cursor) return (size_t)r;
    int each = a->rows / a->m;
    return (size_t)(r / each) * (size_t)a->total + *a->cursor + (size_t)(r % each);
}

int ref_probability(struct nn_backend *be, const struct nn_probability *a)
{
    for (int r = 0; r < a->rows; r++) {
        const float *z = a->z + (size_t)r * a->labels;
        float *p = a->p + row_of(a, r) * (size_t)a->labels;
        double lse = a->cross_entropy ? log_sum_exp(z, a->labels) : 0;
        for (int l = 0; l < a->labels; l++)
            p[l] = (float)(a->cross_entropy ? exp(z[l] - lse) : 1 / (1 + exp(-(double)z[l])));
    }
    return 0;
}
