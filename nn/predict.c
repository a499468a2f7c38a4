/* nn/predict.c - probabilities of a model on rows of a dataset (nn_predict of train.h).
 *
 * Records are gathered on the device, from the dataset where it lies there already or most of it is wanted,
 * else from a copy of CHUNK wanted rows at a time; a full batch's ops are recorded once and replayed; the
 * probabilities are fetched at the end of a chunk. A dataset that lies on a card in half precision is read
 * in half precision, as in training.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/exec.h"
#include "nn/recording.h"
#include "nn/train.h"

#define PREDICT_BATCH 64
#define CHUNK 1024 /* rows, of a dataset that is not there */

struct predictor {
    struct nn_backend *be;
    const struct nn_net *net;
    const struct ecg_dataset *d;
    struct nn_exec *ex;
    struct nn_recording full;
    int batch, chunk;
    int n; /* rows of the chunk in work */
    /* device */
    const void *shared; /* the dataset, attached; NULL: own_x */
    int half;
    float *own_x;    /* [chunk, leads, samples] */
    uint32_t *index; /* [chunk] */
    uint32_t *cursor;
    float *params, *p; /* p: [chunk, labels] */
};

/* ---- what is no number ---- */

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

static size_t record_of(const struct predictor *p)
{
    return (size_t)p->net->n_leads * (size_t)p->net->n_samples;
}

/* ---- where the records lie ---- */

/* Whether the whole dataset on the device is a good way to n of its rows. */
static int attach_pays(const struct predictor *p, int n)
{
    const struct nn_backend_ops *ops = p->be->ops;
    struct nn_memory memory;
    if (!ops->attach) return 0;
    if (!ops->memory) return 1; /* it is the host's own memory */
    if (ops->memory(p->be, p->d->x, (size_t)p->d->n * record_of(p), &memory)) return 0;
    return memory.data == 0 || (n > p->d->n / 2 && memory.data < memory.left / 2);
}

static int open_records(struct predictor *p, int n)
{
    const struct nn_backend_ops *ops = p->be->ops;
    size_t floats = (size_t)p->d->n * record_of(p);
    p->chunk = n;
    if (attach_pays(p, n)) return ops->attach(p->be, p->d->x, floats, &p->shared, &p->half);
    p->chunk = n < CHUNK ? n : CHUNK;
    return ops->alloc(p->be, (size_t)p->chunk * record_of(p) * sizeof(float), (void **)&p->own_x);
}

/* The chunk's rows can be gathered afterwards. */
static int put_chunk(struct predictor *p, const uint32_t *idx)
{
    const struct nn_backend_ops *ops = p->be->ops;
    size_t record = record_of(p);
    uint32_t own[CHUNK];
    int rc = 0;
    if (p->shared) return ops->upload(p->be, p->index, idx, (size_t)p->n * sizeof *idx);
    for (int r = 0; r < p->n && !rc; r++) {
        own[r] = (uint32_t)r;
        rc = ops->upload(p->be, p->own_x + (size_t)r * record, p->d->x + idx[r] * record,
                         record * sizeof(float));
    }
    return rc ? rc : ops->upload(p->be, p->index, own, (size_t)p->n * sizeof *own);
}

/* ---- predicting ---- */

static int predict_rows(struct predictor *p, int rows)
{
    const struct nn_backend_ops *ops = p->be->ops;
    struct nn_gather g = {.m = 1, .b = rows, .n = p->n, .index = p->index, .cursor = p->cursor};
    g.leads = p->net->n_leads;
    g.samples = p->net->n_samples;
    g.labels = p->net->n_labels;
    g.data_x = p->shared ? p->shared : p->own_x;
    g.half = p->half;
    g.x = nn_exec_input(p->ex);
    struct nn_exec_pass pass = {.params = p->params, .b = rows};
    pass.stride = (int64_t)p->net->n_floats;
    struct nn_probability q = {.rows = rows, .labels = g.labels, .m = 1, .total = p->chunk};
    q.cross_entropy = p->net->loss == NN_CROSS_ENTROPY;
    q.z = nn_exec_logits(p->ex);
    q.p = p->p;
    q.cursor = p->cursor;
    int rc = ops->gather(p->be, &g);
    if (!rc) rc = nn_exec_forward(p->ex, &pass);
    return rc ? rc : ops->probability(p->be, &q);
}

static int predict_full(void *predictor)
{
    struct predictor *p = predictor;
    return predict_rows(p, p->batch);
}

static int predict_chunk(struct predictor *p, const uint32_t *idx, float *out)
{
    const struct nn_backend_ops *ops = p->be->ops;
    int rc = put_chunk(p, idx);
    for (int at = 0; at < p->n && !rc; at += p->batch) {
        int rows = p->n - at < p->batch ? p->n - at : p->batch;
        uint32_t from = (uint32_t)at;
        rc = ops->upload(p->be, p->cursor, &from, sizeof from);
        if (rc) break;
        rc = rows < p->batch ? predict_rows(p, rows)
                             : nn_recording_run(&p->full, p->be, predict_full, p);
    }
    size_t bytes = (size_t)p->n * (size_t)p->net->n_labels * sizeof(float);
    return rc ? rc : ops->download(p->be, out, p->p, bytes);
}

static int put_model(struct predictor *p, const struct nn_model *m)
{
    const struct nn_backend_ops *ops = p->be->ops;
    size_t bytes = p->net->n_floats * sizeof(float);
    size_t labels = (size_t)p->net->n_labels, chunk = (size_t)p->chunk;
    int rc = ops->alloc(p->be, bytes, (void **)&p->params);
    if (!rc) rc = ops->upload(p->be, p->params, m->params, bytes);
    if (!rc) rc = ops->alloc(p->be, chunk * sizeof *p->index, (void **)&p->index);
    if (!rc) rc = ops->alloc(p->be, sizeof *p->cursor, (void **)&p->cursor);
    return rc ? rc : ops->alloc(p->be, chunk * labels * sizeof *p->p, (void **)&p->p);
}

/* The rows wanted are numbers. */
static int check_rows(const struct predictor *p, const uint32_t *idx, int n, struct cn_error *err)
{
    int rc = 0;
    for (int r = 0; r < n && !rc; r++)
        rc = nn_check_input(p->d->x + idx[r] * record_of(p), idx[r], p->net->n_leads,
                            p->net->n_samples, err);
    return rc;
}

static int check_answers(const struct predictor *p, const uint32_t *idx, int n, const float *out,
                         struct cn_error *err)
{
    int rc = 0;
    for (int r = 0; r < n && !rc; r++)
        rc = nn_check_probability(out + (size_t)r * (size_t)p->net->n_labels, idx[r],
                                  p->net->n_labels, err);
    return rc;
}

static void predictor_close(struct predictor *p)
{
    const struct nn_backend_ops *ops = p->be->ops;
    nn_recording_clear(&p->full, p->be);
    ops->release(p->be, p->params);
    ops->release(p->be, p->index);
    ops->release(p->be, p->cursor);
    ops->release(p->be, p->p);
    ops->release(p->be, p->own_x);
    nn_exec_destroy(p->ex);
    if (p->shared) ops->detach(p->be, p->shared);
}

static int check_shape(const struct nn_net *net, const struct ecg_dataset *d, struct cn_error *err)
{
    if (d->n_leads == net->n_leads && d->n_samples == net->n_samples &&
        d->n_labels == net->n_labels)
        return 0;
    return cn_fail(
        err, CN_EINVALID,
        "net %s reads %d leads of %d samples and gives %d labels; the dataset %s has %d, "
        "%d, %d",
        net->name, net->n_leads, net->n_samples, net->n_labels, d->name, d->n_leads, d->n_samples,
        d->n_labels);
}

int nn_predict(struct nn_backend *be, const struct nn_model *m, const struct ecg_dataset *d,
               const uint32_t *idx, int n, float *out, struct cn_error *err)
{
    struct predictor p = {.be = be, .net = m->net, .d = d};
    int rc = check_shape(p.net, d, err);
    if (!rc) rc = check_rows(&p, idx, n, err);
    if (rc || n < 1) return rc;
    p.batch = n < PREDICT_BATCH ? n : PREDICT_BATCH;
    rc = nn_exec_create(&p.ex, be, p.net, 1, p.batch, 0, err);
    if (!rc && (open_records(&p, n) || put_model(&p, m))) {
        rc = be->error.code;
        if (err) *err = be->error;
    }
    for (int at = 0; at < n && !rc; at += p.chunk) {
        p.n = n - at < p.chunk ? n - at : p.chunk;
        if (predict_chunk(&p, idx + at, out + (size_t)at * (size_t)p.net->n_labels)) {
            rc = be->error.code;
            if (err) *err = be->error;
        }
    }
    predictor_close(&p);
    return rc ? rc : check_answers(&p, idx, n, out, err);
}
