/* nn/need.c - how much device memory a training will take (nn_train_need of train.h).
 *
 * Activations come from the same plan that nn/exec.c will place; state is counted from what
 * nn/gang.c allocates. What kernels want besides (partial sums, cuDNN's workspaces, the copies of
 * a first trial of both engines) is not known before they run: an allowance of a quarter of the
 * activations and 16 MB stands for it. A training that takes more all the same fails with CN_ENOMEM
 * and is tried again with less beside it (workers/slot.c).
 */
#include <string.h>

#include "nn/exec.h"
#include "nn/train.h"

#define ALLOWANCE ((size_t)16 << 20)

static int rows_of(const struct ecg_dataset *d, enum ecg_part part)
{
    int n = 0;
    for (int i = 0; i < d->n; i++) n += d->part[i] == part;
    return n;
}

static size_t state_bytes(const struct nn_net *net, const struct nn_recipe *r, int m)
{
    size_t arrays = 3; /* weights, gradients, first moment */
    arrays += r->optimiser != NN_SGD;
    arrays += r->ema > 0;
    return arrays * (size_t)m * net->n_floats * sizeof(float);
}

int nn_train_need(const struct nn_train *run, int m, struct nn_need *out, struct cn_error *err)
{
    struct nn_backend *be = run->backend;
    const struct nn_net *net = run->member[0].model->net;
    const struct nn_recipe *r = run->recipe;
    const struct ecg_dataset *d = run->data;
    struct nn_memory memory;
    size_t n_train = (size_t)rows_of(d, ECG_TRAIN), labels = (size_t)d->n_labels;
    size_t floats = (size_t)d->n * (size_t)d->n_leads * (size_t)d->n_samples;
    int teacher = 0;
    for (int i = 0; i < m; i++) teacher |= run->member[i].teacher != NULL;
    memset(out, 0, sizeof *out);
    if (!be->ops->memory) return 0;
    int ranks = be->ranks > 1 ? be->ranks : 1;
    int batch = r->batch % ranks ? r->batch : r->batch / ranks;
    if ((size_t)batch > n_train && n_train) batch = (int)n_train;
    int rc = nn_exec_need(be, net, m, batch, 1, &out->activations, err);
    if (!rc && be->ops->memory(be, d->x, floats, &memory)) {
        rc = be->error.code;
        if (err) *err = be->error;
    }
    if (rc) return rc;
    out->state = state_bytes(net, r, m) + (size_t)d->n * (labels + 1) * sizeof(float);
    out->state += (size_t)m * (size_t)rows_of(d, ECG_VALIDATION) * labels * sizeof(float);
    if (teacher) out->state += (size_t)m * n_train * labels * sizeof(float);
    out->data = memory.data;
    out->working = out->activations / 4 + ALLOWANCE;
    out->total = out->activations + out->state + out->data + out->working;
    out->left = memory.left;
    out->device = memory.total;
    return 0;
}
