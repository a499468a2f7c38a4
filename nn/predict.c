/* nn/predict.c - probabilities of a model on rows of a dataset (nn_predict of train.h). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/exec.h"
#include "nn/train.h"

#define PREDICT_BATCH 64

struct predictor {
    struct nn_backend *be;
    const struct nn_net *net;
    struct nn_exec *ex;
    float *params; /* device */
    float *rows;   /* host [batch, leads, samples] */
};

static int device_failed(const struct nn_backend *be, struct cn_error *err)
{
    if (err) *err = be->error;
    return be->error.code;
}

size_t nn_not_finite(const float *v, size_t n)
{
    size_t i = 0;
    for (; i + 64 <= n; i += 64) { /* in vectors: records pass here */
        uint32_t u[64], bad = 0;
        memcpy(u, v + i, sizeof u);
        for (int k = 0; k < 64; k++) bad |= (u[k] & 0x7f800000) == 0x7f800000;
        if (bad) break;
    }
    while (i < n && isfinite(v[i])) i++;
    return i;
}

int nn_check_input(const float *x, uint32_t row, int leads, int samples, struct cn_error *err)
{
    size_t all = (size_t)leads * (size_t)samples, at = nn_not_finite(x, all);
    if (at == all) return 0;
    return cn_fail(err, CN_EINVALID, "input %u: sample %zu of lead %zu is %g, not a finite number",
                   row + 1, at % (size_t)samples + 1, at / (size_t)samples + 1, (double)x[at]);
}

static int copy_rows(struct predictor *p, const struct ecg_dataset *d, const uint32_t *idx, int b,
                     struct cn_error *err)
{
    size_t record = (size_t)p->net->n_leads * p->net->n_samples;
    int rc = 0;
    for (int r = 0; r < b && !rc; r++) {
        const float *x = d->x + idx[r] * record;
        rc = nn_check_input(x, idx[r], p->net->n_leads, p->net->n_samples, err);
        memcpy(p->rows + (size_t)r * record, x, record * sizeof(float));
    }
    return rc;
}

int nn_check_probability(const float *p, uint32_t row, int labels, struct cn_error *err)
{
    size_t at = nn_not_finite(p, (size_t)labels);
    if (at == (size_t)labels) return 0;
    return cn_fail(
        err, CN_EINVALID,
        "input %u: the probability of label %zu is %g, not a finite number: the weights or the "
        "input are too large for sums in float",
        row + 1, at + 1, (double)p[at]);
}

static int predict_batch(struct predictor *p, int b, float *out)
{
    size_t record = (size_t)p->net->n_leads * p->net->n_samples;
    size_t labels = (size_t)p->net->n_labels;
    struct nn_exec_pass pass = {.params = p->params, .b = b};
    pass.stride = (int64_t)p->net->n_floats;
    float *z = nn_exec_logits(p->ex);
    struct nn_probability q = {b, (int)labels, p->net->loss == NN_CROSS_ENTROPY, z, z};
    const struct nn_backend_ops *ops = p->be->ops;
    int rc = ops->upload(p->be, nn_exec_input(p->ex), p->rows, (size_t)b * record * sizeof(float));
    if (!rc) rc = nn_exec_forward(p->ex, &pass);
    if (!rc) rc = ops->probability(p->be, &q);
    if (!rc) rc = ops->download(p->be, out, z, (size_t)b * labels * sizeof(float));
    return rc;
}

static int predictor_open(struct predictor *p, const struct nn_model *m, int batch,
                          struct cn_error *err)
{
    size_t bytes = p->net->n_floats * sizeof(float);
    size_t record = (size_t)p->net->n_leads * p->net->n_samples;
    p->rows = malloc((size_t)batch * record * sizeof(float));
    if (!p->rows) return cn_fail(err, CN_ENOMEM, "out of memory");
    int rc = nn_exec_create(&p->ex, p->be, p->net, 1, batch, 0, err);
    if (rc) return rc;
    if (p->be->ops->alloc(p->be, bytes, (void **)&p->params)) return device_failed(p->be, err);
    if (p->be->ops->upload(p->be, p->params, m->params, bytes)) return device_failed(p->be, err);
    return 0;
}

int nn_predict(struct nn_backend *be, const struct nn_model *m, const struct ecg_dataset *d,
               const uint32_t *idx, int n, float *out, struct cn_error *err)
{
    struct predictor p = {.be = be, .net = m->net};
    if (d->n_leads != p.net->n_leads || d->n_samples != p.net->n_samples ||
        d->n_labels != p.net->n_labels)
        return cn_fail(err, CN_EINVALID,
                       "net %s reads %d leads of %d samples and gives %d labels; the dataset %s "
                       "has %d, %d, %d",
                       p.net->name, p.net->n_leads, p.net->n_samples, p.net->n_labels, d->name,
                       d->n_leads, d->n_samples, d->n_labels);
    int batch = n < PREDICT_BATCH ? (n > 0 ? n : 1) : PREDICT_BATCH;
    int rc = predictor_open(&p, m, batch, err);
    for (int at = 0; at < n && !rc; at += batch) {
        int b = n - at < batch ? n - at : batch;
        float *own = out + (size_t)at * p.net->n_labels;
        rc = copy_rows(&p, d, idx + at, b, err);
        if (!rc && predict_batch(&p, b, own)) rc = device_failed(be, err);
        for (int r = 0; r < b && !rc; r++)
            rc = nn_check_probability(own + (size_t)r * p.net->n_labels, idx[at + r],
                                      p.net->n_labels, err);
    }
    be->ops->release(be, p.params);
    nn_exec_destroy(p.ex);
    free(p.rows);
    return rc;
}
