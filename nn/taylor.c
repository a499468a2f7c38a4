/* nn/taylor.c - the data-driven pruning criterion of prune.h: gradients of the training loss on some
 * training records, times the weights. */
#include <stdlib.h>
#include <string.h>

#include "nn/exec.h"
#include "nn/prune.h"

#define TAYLOR_BATCH 64

struct taylor {
    struct nn_backend *be;
    const struct nn_model *m;
    const struct ecg_dataset *d;
    struct nn_exec *ex;
    float *w, *g, *y, *loss; /* device */
    struct nn_scalars *s;    /* device */
    float *rows, *labels;    /* host, one batch */
    float *grads;            /* host [n_floats] */
    uint32_t *index;
    int n;
};

/* Σ gradient·weight over the weights of structure s of layer l: its rows in all its tensors. */
static double structure_sum(const struct taylor *t, const struct nn_layer *l, int s)
{
    const struct nn_net *net = t->m->net;
    double sum = 0;
    for (int k = 0; k < l->n_tensors; k++) {
        const struct nn_tensor *v = &net->tensor[l->tensor + k];
        int blocks = l->op == NN_LSTM ? 4 : 1;
        size_t row = v->count / (size_t)(blocks * l->cout);
        for (int b = 0; b < blocks; b++) {
            size_t at = v->offset + (size_t)(b * l->cout + s) * row;
            for (size_t i = at; i < at + row; i++) sum += (double)t->grads[i] * t->m->params[i];
        }
    }
    return sum;
}

/* Layers that share a width (a ResNet's branch and shortcut) go together, so their sums add up. */
static void add_scores(const struct taylor *t, double *score)
{
    const struct nn_net *net = t->m->net;
    for (int w = 0; w < net->n_widths; w++)
        for (int s = 0; s < net->width[w]; s++, score++) {
            double sum = 0;
            for (int i = 0; i < net->n_layers; i++)
                if (net->layer[i].width == w) sum += structure_sum(t, &net->layer[i], s);
            *score += sum * sum;
        }
}

static int taylor_batch(struct taylor *t, const uint32_t *index, int b)
{
    const struct nn_backend_ops *ops = t->be->ops;
    const struct nn_net *net = t->m->net;
    size_t record = (size_t)net->n_leads * net->n_samples, labels = (size_t)net->n_labels;
    for (int r = 0; r < b; r++) {
        memcpy(t->rows + (size_t)r * record, t->d->x + index[r] * record, record * 4);
        for (size_t l = 0; l < labels; l++)
            t->labels[(size_t)r * labels + l] = t->d->y[index[r] * labels + l];
    }
    struct nn_exec_pass pass = {t->w, t->g, (int64_t)net->n_floats, b, 1, t->s, 0};
    struct nn_loss_args loss = {.m = 1, .b = b, .labels = net->n_labels, .s = t->s, .y = t->y};
    loss.cross_entropy = net->loss == NN_CROSS_ENTROPY;
    loss.z = nn_exec_logits(t->ex);
    loss.dz = nn_exec_dlogits(t->ex);
    loss.loss = t->loss;
    int rc = ops->upload(t->be, nn_exec_input(t->ex), t->rows, (size_t)b * record * 4);
    if (!rc) rc = ops->upload(t->be, t->y, t->labels, (size_t)b * labels * 4);
    if (!rc) rc = nn_exec_forward(t->ex, &pass);
    if (!rc) rc = ops->loss(t->be, &loss);
    if (!rc) rc = nn_exec_backward(t->ex, &pass);
    return rc ? rc : ops->download(t->be, t->grads, t->g, net->n_floats * 4);
}

static int taylor_alloc(struct taylor *t, struct cn_error *err)
{
    const struct nn_backend_ops *ops = t->be->ops;
    const struct nn_net *net = t->m->net;
    const struct nn_scalars plain = {.alpha = 1, .step = 1};
    size_t flat = net->n_floats * 4, labels = (size_t)TAYLOR_BATCH * net->n_labels * 4;
    t->rows = malloc((size_t)TAYLOR_BATCH * net->n_leads * net->n_samples * 4);
    t->labels = malloc(labels);
    t->grads = malloc(flat);
    if (!t->rows || !t->labels || !t->grads) return cn_fail(err, CN_ENOMEM, "out of memory");
    int rc = nn_exec_create(&t->ex, t->be, net, 1, TAYLOR_BATCH, 1, err);
    if (rc) return rc;
    rc = ops->alloc(t->be, flat, (void **)&t->w);
    if (!rc) rc = ops->alloc(t->be, flat, (void **)&t->g);
    if (!rc) rc = ops->zero(t->be, t->g, flat);
    if (!rc) rc = ops->alloc(t->be, labels, (void **)&t->y);
    if (!rc) rc = ops->alloc(t->be, sizeof(float), (void **)&t->loss);
    if (!rc) rc = ops->alloc(t->be, sizeof plain, (void **)&t->s);
    if (!rc) rc = ops->upload(t->be, t->s, &plain, sizeof plain);
    if (rc && err) *err = t->be->error;
    return rc;
}

static void taylor_free(struct taylor *t)
{
    void *const device[] = {t->w, t->g, t->y, t->loss, t->s};
    for (size_t i = 0; i < sizeof device / sizeof *device; i++)
        t->be->ops->release(t->be, device[i]);
    nn_exec_destroy(t->ex);
    free(t->rows);
    free(t->labels);
    free(t->grads);
    free(t->index);
}

int nn_prune_taylor(struct nn_backend *be, const struct nn_model *m, const struct ecg_dataset *d,
                    int records, double *score, struct cn_error *err)
{
    struct taylor t = {.be = be, .m = m, .d = d};
    if (d->n_leads != m->net->n_leads || d->n_samples != m->net->n_samples ||
        d->n_labels != m->net->n_labels)
        return cn_fail(err, CN_EINVALID, "net %s does not fit the dataset %s", m->net->name,
                       d->name);
    int rc = ecg_dataset_part(d, ECG_TRAIN, &t.index, &t.n, err);
    if (!rc && t.n < 1)
        rc = cn_fail(err, CN_EINVALID, "the dataset %s has no training records", d->name);
    if (!rc) rc = taylor_alloc(&t, err);
    int n = records < t.n ? records : t.n, total = 0;
    for (int w = 0; w < m->net->n_widths; w++) total += m->net->width[w];
    for (int i = 0; i < total; i++) score[i] = 0;
    for (int at = 0; at < n && !rc; at += TAYLOR_BATCH) {
        int b = n - at < TAYLOR_BATCH ? n - at : TAYLOR_BATCH;
        /* batch statistics change the running ones: start from the model's at every batch */
        if (be->ops->upload(be, t.w, m->params, m->net->n_floats * 4) ||
            taylor_batch(&t, t.index + at, b)) {
            rc = be->error.code;
            if (err) *err = be->error;
        } else
            add_scores(&t, score);
    }
    taylor_free(&t);
    return rc;
}
