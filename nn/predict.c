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

static int predict_batch(struct predictor *p, const struct ecg_dataset *d, const uint32_t *idx,
                         int b, float *out)
{
    size_t record = (size_t)p->net->n_leads * p->net->n_samples;
    size_t labels = (size_t)p->net->n_labels;
    struct nn_exec_pass pass = {.params = p->params, .b = b};
    pass.stride = (int64_t)p->net->n_floats;
    for (int r = 0; r < b; r++)
        memcpy(p->rows + (size_t)r * record, d->x + idx[r] * record, record * sizeof(float));
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
        if (predict_batch(&p, d, idx + at, b, out + (size_t)at * p.net->n_labels))
            rc = device_failed(be, err);
    }
    be->ops->release(be, p.params);
    nn_exec_destroy(p.ex);
    free(p.rows);
    return rc;
}
