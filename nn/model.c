/* nn/model.c - see model.h.
 *
 * The file is safetensors (nn/safetensors.c) with the net's tensors under their own names and two
 * metadata strings: "cinch", a JSON object {net, shape: [leads, samples, labels], widths,
 * full_widths, labels, mean, std, hz}, and "cinch.meta", the model's free-form object.
 * nn/model_read.c reads it.
 */
#include "nn/model.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "nn/check.h"
#include "nn/safetensors.h"

/* PyTorch's bound of the uniform initialisation of one tensor; 0: not drawn. */
static float init_bound(const struct nn_layer *l)
{
    switch (l->op) {
    case NN_CONV1D:
        return 1 / sqrtf((float)(l->cin * l->k));
    case NN_LINEAR:
        return 1 / sqrtf((float)(l->cin * l->tin));
    case NN_LSTM:
        return 1 / sqrtf((float)l->cout);
    default:
        return 0;
    }
}

static void init_tensor(const struct nn_net *net, int index, uint64_t seed, float *params)
{
    const struct nn_tensor *t = &net->tensor[index];
    const struct nn_layer *l = &net->layer[t->layer];
    float bound = init_bound(l);
    int role = index - l->tensor; /* weight, bias, running_mean, running_var */
    for (size_t i = t->offset; i < t->offset + t->count; i++) {
        float u = cn_rng_uniform(cn_rng(seed, CN_RNG_INIT, 0, i).v[0]);
        params[i] = bound > 0 ? (2 * u - 1) * bound : role == 0 || role == 3;
    }
}

int nn_model_alloc(struct nn_model **out, struct nn_net *net, struct cn_error *err)
{
    struct nn_model *m = calloc(1, sizeof *m);
    float *params = calloc(net->n_floats, sizeof *params);
    *out = m;
    if (!m || !params) {
        free(m);
        free(params);
        nn_net_destroy(net);
        *out = NULL;
        return cn_fail(err, CN_ENOMEM, "out of memory for a net of %zu parameters", net->n_params);
    }
    m->net = net;
    m->params = params;
    for (int i = 0; i < NN_MAX_LEADS; i++) m->std[i] = 1;
    return 0;
}

int nn_model_create(struct nn_model **out, struct nn_net *net, uint64_t seed,
                    const struct ecg_dataset *d, struct cn_error *err)
{
    int rc = nn_model_alloc(out, net, err);
    if (rc) return rc;
    struct nn_model *m = *out;
    for (int i = 0; i < net->n_tensors; i++) init_tensor(net, i, seed, m->params);
    if (d) nn_model_adopt(m, d);
    return 0;
}

void nn_model_adopt(struct nn_model *m, const struct ecg_dataset *d)
{
    memcpy(m->mean, d->mean, sizeof d->mean);
    memcpy(m->std, d->std, sizeof d->std);
    memcpy(m->label, d->label, sizeof d->label);
    m->hz = d->hz;
    m->unsaid = false;
}

int nn_model_copy(struct nn_model **out, const struct nn_model *m, struct cn_error *err)
{
    *out = NULL;
    struct nn_net *net = malloc(sizeof *net);
    if (!net) return cn_fail(err, CN_ENOMEM, "out of memory");
    *net = *m->net;
    int rc = nn_model_alloc(out, net, err);
    if (rc) return rc;
    struct nn_model *c = *out;
    memcpy(c->params, m->params, net->n_floats * sizeof *c->params);
    memcpy(c->mean, m->mean, sizeof c->mean);
    memcpy(c->std, m->std, sizeof c->std);
    memcpy(c->label, m->label, sizeof c->label);
    c->hz = m->hz;
    c->unsaid = m->unsaid;
    c->meta = m->meta ? strdup(m->meta) : NULL;
    if (m->meta && !c->meta) {
        nn_model_destroy(c);
        *out = NULL;
        return cn_fail(err, CN_ENOMEM, "out of memory");
    }
    return 0;
}

void nn_model_destroy(struct nn_model *m)
{
    if (!m) return;
    nn_net_destroy(m->net);
    free(m->params);
    free(m->meta);
    free(m);
}

/* Tensors of a layer that its input is multiplied with, first in its list. */
static int matrices_of(const struct nn_layer *l)
{
    return l->op == NN_LSTM ? 2 : l->op == NN_CONV1D || l->op == NN_LINEAR ? 1 : 0;
}

uint64_t nn_model_macs_nonzero(const struct nn_model *m, uint64_t *layer_macs)
{
    const struct nn_net *net = m->net;
    uint64_t sum = 0;
    for (int i = 0; i < net->n_layers; i++) {
        const struct nn_layer *l = &net->layer[i];
        uint64_t weights = 0;
        for (int k = 0; k < matrices_of(l); k++) {
            const struct nn_tensor *t = &net->tensor[l->tensor + k];
            for (size_t j = 0; j < t->count; j++) weights += m->params[t->offset + j] != 0;
        }
        /* every weight serves each output step once; a linear layer has one */
        if (layer_macs) layer_macs[i] = weights * (uint64_t)l->tout;
        sum += weights * (uint64_t)l->tout;
    }
    return sum;
}

/* Writing */

#define EXTRA "cinch.extra"

static json_t *json_ints(const int *v, int n)
{
    json_t *a = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(a, json_integer(v[i]));
    return a;
}

static json_t *json_floats(const float *v, int n)
{
    json_t *a = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(a, json_real(v[i]));
    return a;
}

/* The "cinch" object's text; NULL when out of memory. */
static char *about_text(const struct nn_model *m)
{
    const struct nn_net *net = m->net;
    const int shape[3] = {net->n_leads, net->n_samples, net->n_labels};
    json_t *labels = json_array();
    for (int i = 0; i < net->n_labels && m->label[i][0]; i++)
        json_array_append_new(labels, json_string(m->label[i]));
    json_t *about = json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "net", net->name, "shape",
                              json_ints(shape, 3), "widths", json_ints(net->width, net->n_widths),
                              "full_widths", json_ints(net->full_width, net->n_widths), "labels",
                              labels, "mean", json_floats(m->mean, net->n_leads), "std",
                              json_floats(m->std, net->n_leads), "hz", json_real(m->hz));
    if (m->unsaid) {
        json_object_del(about, "mean");
        json_object_del(about, "std");
    }
    /* nine digits bring every float back exactly */
    char *text = json_dumps(about, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
    json_decref(about);
    return text;
}

int nn_model_bytes(const struct nn_model *m, void **data, size_t *n, struct cn_error *err)
{
    return nn_model_bytes_with(m, NULL, 0, data, n, err);
}

int nn_model_bytes_with(const struct nn_model *m, const void *extra, size_t n_extra, void **data,
                        size_t *n, struct cn_error *err)
{
    const struct nn_net *net = m->net;
    *data = NULL;
    struct nn_st_tensor list[NN_MAX_TENSORS + 1];
    int rc = nn_params_check(net, m->params, net->n_floats, "a model to be written", err);
    if (rc) return rc;
    memset(list, 0, sizeof list);
    for (int i = 0; i < net->n_tensors; i++) {
        const struct nn_tensor *t = &net->tensor[i];
        strcpy(list[i].name, t->name);
        list[i].ndim = t->ndim;
        for (int d = 0; d < t->ndim; d++) list[i].dim[d] = t->dim[d];
        list[i].count = t->count;
        list[i].data = m->params + t->offset;
    }
    list[net->n_tensors] = (struct nn_st_tensor){.name = EXTRA,
                                                 .dtype = NN_ST_INTEGER,
                                                 .ndim = 1,
                                                 .dim = {(int64_t)n_extra},
                                                 .count = n_extra,
                                                 .data = extra};
    char *about = about_text(m);
    if (!about) return cn_fail(err, CN_ENOMEM, "out of memory for a model's header");
    struct nn_st_meta meta[2] = {{"cinch", about}, {"cinch.meta", m->meta}};
    rc = nn_st_write(list, net->n_tensors + (n_extra > 0), meta, m->meta ? 2 : 1, data, n, err);
    free(about);
    return rc;
}

int nn_model_extra(const char *name, const void *data, size_t n, const void **extra,
                   size_t *n_extra, struct cn_error *err)
{
    struct nn_st *st;
    int rc = nn_st_parse(&st, name, data, n, err);
    if (rc) return rc;
    const struct nn_st_tensor *t = nn_st_find(st, EXTRA);
    bool there = t && t->dtype == NN_ST_INTEGER && t->count == t->bytes;
    *extra = there ? t->data : NULL;
    *n_extra = there ? t->bytes : 0;
    nn_st_destroy(st);
    return 0;
}

int nn_model_save(const struct nn_model *m, const char *path, struct cn_error *err)
{
    void *data;
    size_t n;
    int rc = nn_model_bytes(m, &data, &n, err);
    if (rc) return rc;
    rc = cn_file_write(path, data, n, err);
    free(data);
    return rc;
}
