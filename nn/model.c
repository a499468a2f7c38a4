/* nn/model.c - see model.h.
 *
 * The file is safetensors (nn/safetensors.c) with the net's tensors under their own names and two
 * metadata strings: "cinch", a JSON object {net, shape: [leads, samples, labels], widths,
 * full_widths, labels, mean, std, hz}, and "cinch.meta", the model's free-form object. Every number
 * is checked against the net that it describes before it is used.
 */
#include "nn/model.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "nn/safetensors.h"

#define MAX_MODEL_BYTES ((size_t)4 << 30)

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

static int model_alloc(struct nn_model **out, struct nn_net *net, struct cn_error *err)
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
    for (int i = 0; i < ECG_MAX_LEADS; i++) m->std[i] = 1;
    return 0;
}

int nn_model_create(struct nn_model **out, struct nn_net *net, uint64_t seed,
                    const struct ecg_dataset *d, struct cn_error *err)
{
    int rc = model_alloc(out, net, err);
    if (rc) return rc;
    struct nn_model *m = *out;
    for (int i = 0; i < net->n_tensors; i++) init_tensor(net, i, seed, m->params);
    if (d) {
        memcpy(m->mean, d->mean, sizeof m->mean);
        memcpy(m->std, d->std, sizeof m->std);
        memcpy(m->label, d->label, sizeof m->label);
        m->hz = d->hz;
    }
    return 0;
}

int nn_model_copy(struct nn_model **out, const struct nn_model *m, struct cn_error *err)
{
    *out = NULL;
    struct nn_net *net = malloc(sizeof *net);
    if (!net) return cn_fail(err, CN_ENOMEM, "out of memory");
    *net = *m->net;
    int rc = model_alloc(out, net, err);
    if (rc) return rc;
    struct nn_model *c = *out;
    memcpy(c->params, m->params, net->n_floats * sizeof *c->params);
    memcpy(c->mean, m->mean, sizeof c->mean);
    memcpy(c->std, m->std, sizeof c->std);
    memcpy(c->label, m->label, sizeof c->label);
    c->hz = m->hz;
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

/* Reading */

struct model_source {
    const char *name;
    const json_t *about; /* the "cinch" object */
    struct cn_error *err;
};

/* Up to `most` integers of array `key`; returns how many, or a negative code. */
static int read_ints(const struct model_source *s, const char *key, int *v, int most)
{
    const json_t *a = json_object_get(s->about, key);
    if (!json_is_array(a) || json_array_size(a) > (size_t)most)
        return cn_fail(s->err, CN_ECORRUPT, "%s: '%s' is not a list of up to %d numbers", s->name,
                       key, most);
    for (size_t i = 0; i < json_array_size(a); i++) {
        json_int_t x = json_integer_value(json_array_get(a, i));
        if (!json_is_integer(json_array_get(a, i)) || x < 1 || x > INT32_MAX)
            return cn_fail(s->err, CN_ECORRUPT, "%s: '%s' holds something else than numbers ≥ 1",
                           s->name, key);
        v[i] = (int)x;
    }
    return (int)json_array_size(a);
}

static int read_floats(const struct model_source *s, const char *key, float *v)
{
    const json_t *a = json_object_get(s->about, key);
    for (size_t i = 0; i < json_array_size(a); i++) {
        const json_t *x = json_array_get(a, i);
        if (i >= ECG_MAX_LEADS || !json_is_number(x) || !isfinite((float)json_number_value(x)))
            return cn_fail(s->err, CN_ECORRUPT, "%s: '%s' is not a list of up to %d numbers",
                           s->name, key, ECG_MAX_LEADS);
        v[i] = (float)json_number_value(x);
    }
    return 0;
}

static int read_labels(const struct model_source *s, struct nn_model *m)
{
    const json_t *a = json_object_get(s->about, "labels");
    for (size_t i = 0; i < json_array_size(a); i++) {
        const char *text = json_string_value(json_array_get(a, i));
        if (i >= ECG_MAX_LABELS || !text || strlen(text) >= sizeof m->label[0])
            return cn_fail(s->err, CN_ECORRUPT, "%s: 'labels' is not a list of short names",
                           s->name);
        strcpy(m->label[i], text);
    }
    return 0;
}

static int read_net(const struct model_source *s, struct nn_net **net)
{
    int shape[3], width[NN_MAX_WIDTHS], full[NN_MAX_WIDTHS];
    const char *name = json_string_value(json_object_get(s->about, "net"));
    if (!name) return cn_fail(s->err, CN_ECORRUPT, "%s: names no net", s->name);
    int n_shape = read_ints(s, "shape", shape, 3);
    if (n_shape < 0) return n_shape;
    int n = read_ints(s, "widths", width, NN_MAX_WIDTHS);
    if (n < 0) return n;
    int n_full = read_ints(s, "full_widths", full, NN_MAX_WIDTHS);
    if (n_full < 0) return n_full;
    if (n_shape != 3 || n_full != n)
        return cn_fail(s->err, CN_ECORRUPT, "%s: shape or widths are incomplete", s->name);
    struct nn_shape want = {shape[0], shape[1], shape[2]};
    if (nn_net_build(net, name, width, n, want, s->err))
        return cn_fail_prefix(s->err, "%s", s->name);
    for (int i = 0; i < n; i++) {
        (*net)->full_width[i] = full[i];
        if (full[i] >= width[i]) continue;
        nn_net_destroy(*net);
        *net = NULL;
        return cn_fail(s->err, CN_ECORRUPT, "%s: width %d is larger than before pruning", s->name,
                       i + 1);
    }
    return 0;
}

static int read_tensors(const struct model_source *s, const struct nn_st *st, struct nn_model *m)
{
    const struct nn_net *net = m->net;
    for (int i = 0; i < net->n_tensors; i++) {
        const struct nn_tensor *t = &net->tensor[i];
        const struct nn_st_tensor *f = nn_st_find(st, t->name);
        int same = f && f->ndim == t->ndim;
        for (int d = 0; same && d < t->ndim; d++) same = f->dim[d] == t->dim[d];
        if (!same)
            return cn_fail(s->err, CN_ECORRUPT, "%s: tensor '%s' %s", s->name, t->name,
                           f ? "has another shape than the net's" : "is missing");
        memcpy(m->params + t->offset, f->data, t->count * sizeof(float));
    }
    if (nn_st_count(st) != net->n_tensors)
        return cn_fail(s->err, CN_ECORRUPT, "%s: holds %d tensors, the net %s has %d", s->name,
                       nn_st_count(st), net->name, net->n_tensors);
    for (size_t i = 0; i < net->n_floats; i++)
        if (!isfinite(m->params[i]))
            return cn_fail(s->err, CN_ECORRUPT, "%s: a parameter is not a finite number", s->name);
    return 0;
}

static int read_meta(const struct model_source *s, const struct nn_st *st, struct nn_model *m)
{
    const char *text = nn_st_meta_value(st, "cinch.meta");
    if (!text) return 0;
    json_t *meta = json_loads(text, 0, NULL);
    int object = json_is_object(meta);
    json_decref(meta);
    if (!object)
        return cn_fail(s->err, CN_ECORRUPT, "%s: 'cinch.meta' is not a JSON object", s->name);
    m->meta = strdup(text);
    return m->meta ? 0 : cn_fail(s->err, CN_ENOMEM, "%s: out of memory", s->name);
}

static int read_model(struct nn_model **out, const struct model_source *s, const struct nn_st *st)
{
    struct nn_net *net;
    int rc = read_net(s, &net);
    if (rc) return rc;
    if (net->n_floats != nn_st_floats(st)) { /* before memory is taken for it */
        rc = cn_fail(s->err, CN_ECORRUPT, "%s: holds %zu numbers; its net %s has %zu", s->name,
                     nn_st_floats(st), net->name, net->n_floats);
        nn_net_destroy(net);
        return rc;
    }
    rc = model_alloc(out, net, s->err);
    if (rc) return rc;
    struct nn_model *m = *out;
    rc = read_floats(s, "mean", m->mean);
    if (!rc) rc = read_floats(s, "std", m->std);
    for (int i = 0; !rc && i < ECG_MAX_LEADS; i++)
        if (m->std[i] <= 0)
            rc = cn_fail(s->err, CN_ECORRUPT, "%s: a lead's std is not above 0", s->name);
    if (!rc) rc = read_labels(s, m);
    if (!rc) rc = read_tensors(s, st, m);
    if (!rc) rc = read_meta(s, st, m);
    m->hz = (float)json_number_value(json_object_get(s->about, "hz"));
    return rc;
}

int nn_model_parse(struct nn_model **out, const char *name, const void *data, size_t n,
                   struct cn_error *err)
{
    struct nn_st *st;
    *out = NULL;
    int rc = nn_st_parse(&st, name, data, n, err);
    if (rc) return rc;
    const char *text = nn_st_meta_value(st, "cinch");
    json_t *about = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    struct model_source s = {name, about, err};
    if (json_is_object(about))
        rc = read_model(out, &s, st);
    else
        rc = cn_fail(err, CN_ECORRUPT,
                     "%s: a safetensors file, but not one of cinch's models (no 'cinch' metadata)",
                     name);
    if (rc) {
        nn_model_destroy(*out);
        *out = NULL;
    }
    json_decref(about);
    nn_st_destroy(st);
    return rc;
}

int nn_model_load(struct nn_model **out, const char *path, struct cn_error *err)
{
    char *data;
    size_t n;
    *out = NULL;
    int rc = cn_file_read(path, MAX_MODEL_BYTES, &data, &n, err);
    if (rc) return rc;
    rc = nn_model_parse(out, path, data, n, err);
    free(data);
    return rc;
}

/* Writing */

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
    int leads = net->n_leads < ECG_MAX_LEADS ? net->n_leads : ECG_MAX_LEADS;
    const int shape[3] = {net->n_leads, net->n_samples, net->n_labels};
    json_t *labels = json_array();
    for (int i = 0; i < net->n_labels && i < ECG_MAX_LABELS && m->label[i][0]; i++)
        json_array_append_new(labels, json_string(m->label[i]));
    json_t *about = json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "net", net->name, "shape",
                              json_ints(shape, 3), "widths", json_ints(net->width, net->n_widths),
                              "full_widths", json_ints(net->full_width, net->n_widths), "labels",
                              labels, "mean", json_floats(m->mean, leads), "std",
                              json_floats(m->std, leads), "hz", json_real(m->hz));
    /* nine digits bring every float back exactly */
    char *text = json_dumps(about, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
    json_decref(about);
    return text;
}

int nn_model_bytes(const struct nn_model *m, void **data, size_t *n, struct cn_error *err)
{
    const struct nn_net *net = m->net;
    struct nn_st_tensor list[NN_MAX_TENSORS];
    memset(list, 0, sizeof list);
    for (int i = 0; i < net->n_tensors; i++) {
        const struct nn_tensor *t = &net->tensor[i];
        strcpy(list[i].name, t->name);
        list[i].ndim = t->ndim;
        for (int d = 0; d < t->ndim; d++) list[i].dim[d] = t->dim[d];
        list[i].count = t->count;
        list[i].data = m->params + t->offset;
    }
    *data = NULL;
    char *about = about_text(m);
    if (!about) return cn_fail(err, CN_ENOMEM, "out of memory for a model's header");
    struct nn_st_meta meta[2] = {{"cinch", about}, {"cinch.meta", m->meta}};
    int rc = nn_st_write(list, net->n_tensors, meta, m->meta ? 2 : 1, data, n, err);
    free(about);
    return rc;
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
