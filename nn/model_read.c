/* nn/model_read.c - a model out of a safetensors file (nn/model.h): cinch's own, which says what it is,
 * or another tool's, of which the net is found by its tensors' names (nn/names.h) and its widths by
 * their shapes. Every number is checked against the net that it describes before it is used.
 *
 * A file without "cinch" metadata may carry four strings that ONNX exports carry too: labels, mean_mV,
 * std_mV (comma-separated, one entry a label or lead) and hz.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/text.h"
#include "nn/check.h"
#include "nn/model.h"
#include "nn/names.h"
#include "nn/safetensors.h"

#define MAX_MODEL_BYTES ((size_t)4 << 30)
/* mV: what a normalisation can be made of (ecg/ptbxl_source.c, ecg/signal.c) */
#define LEAST_STD 1e-9f
#define MOST_MV 1e6f
#define MAX_JSON ((size_t)4 << 20) /* of a metadata string: a history of some ten thousand epochs */

struct model_source {
    const char *name;
    const struct nn_st *st;
    const json_t *about; /* the "cinch" object, or NULL */
    struct cn_error *err;
};

static json_t *json_of(const char *text)
{
    if (!text || strlen(text) > MAX_JSON) return NULL;
    return json_loads(text, JSON_REJECT_DUPLICATES, NULL);
}

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

/* The net that the metadata describes. */
static int described_net(const struct model_source *s, struct nn_net **net)
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

/* The file's float tensors by the net's own order: of[i] is tensor i, NULL where it is missing. Stops at
 * the first that is no tensor of the net, or a second time: *odd. */
static bool match_tensors(const struct nn_st *st, const struct nn_net *net,
                          const struct nn_st_tensor *of[NN_MAX_TENSORS],
                          const struct nn_st_tensor **odd)
{
    memset(of, 0, NN_MAX_TENSORS * sizeof *of);
    for (int i = 0; i < nn_st_count(st); i++) {
        const struct nn_st_tensor *t = *odd = nn_st_at(st, i);
        if (nn_names_counter(t->name)) continue;
        int at = nn_names_find(net, t->name);
        if (at < 0 && t->dtype == NN_ST_INTEGER) continue;
        if (at < 0 || of[at]) return false;
        of[at] = t;
    }
    *odd = NULL;
    return true;
}

/* Widths, leads and labels as the tensors' shapes have them; 0: impossible ones. */
static bool measure_net(const struct nn_net *net, const struct nn_st_tensor *const *of, int *width,
                        struct nn_shape *shape)
{
    for (int i = 0; i < net->n_layers; i++) {
        const struct nn_layer *l = &net->layer[i];
        if (l->op != NN_CONV1D && l->op != NN_LSTM && l->op != NN_LINEAR) continue;
        const struct nn_st_tensor *t = of[l->tensor];
        if (!t || t->ndim < 2) return false;
        int64_t rows = l->op == NN_LSTM ? t->dim[0] / 4 : t->dim[0];
        if (rows > 4096 || t->dim[1] > 4096 * 1000) return false;
        if (l->width >= 0) width[l->width] = (int)rows;
        if (i == net->n_layers - 1) shape->n_labels = (int)rows;
        if (i == 0) shape->n_leads = (int)t->dim[1];
    }
    return true;
}

/* The one net all of whose tensors' names the file has, and no other's, with the file's widths. */
static int guessed_net(const struct model_source *s, struct nn_net **out)
{
    const struct nn_st_tensor *of[NN_MAX_TENSORS], *odd;
    int width[NN_MAX_WIDTHS] = {0};
    *out = NULL;
    for (int i = 0; nn_net_names()[i]; i++) {
        const char *name = nn_net_names()[i];
        struct nn_net *full;
        struct nn_shape shape = {0};
        int rc = nn_net_build(&full, name, NULL, 0, shape, s->err);
        if (rc) return rc;
        int n = full->n_widths, found = match_tensors(s->st, full, of, &odd);
        for (int k = 0; k < full->n_tensors; k++) found = found && of[k];
        found = found && measure_net(full, of, width, &shape);
        nn_net_destroy(full);
        if (!found) continue;
        rc = nn_net_build(out, name, width, n, shape, s->err);
        return rc ? cn_fail_prefix(s->err, "%s", s->name) : 0;
    }
    if (nn_st_meta_value(s->st, "cinch.checkpoint"))
        return cn_fail(s->err, CN_EINVALID,
                       "%s: the checkpoint of a training that has not ended, no net yet; `cinch "
                       "train --resume` goes on from it",
                       s->name);
    return cn_fail(
        s->err, CN_ECORRUPT,
        "%s: a safetensors file without 'cinch' metadata, whose tensors' names and shapes are "
        "those of no net (docs/training.md lists the names)",
        s->name);
}

/* Before memory is taken for it: every tensor is there once and has the net's shape. */
static int check_shapes(const struct model_source *s, const struct nn_net *net,
                        const struct nn_st_tensor *of[NN_MAX_TENSORS])
{
    const struct nn_st_tensor *odd;
    if (!match_tensors(s->st, net, of, &odd))
        return cn_fail(s->err, CN_ECORRUPT, "%s: holds tensor '%s', which net %s %s", s->name,
                       odd->name, net->name,
                       nn_names_find(net, odd->name) < 0
                           ? strstr(odd->name, "conv") && strstr(odd->name, ".bias")
                                 ? "has not: take a bias before BatchNorm off its running_mean"
                                 : "has not"
                           : "has under another name already");
    for (int i = 0; i < net->n_tensors; i++) {
        const struct nn_tensor *t = &net->tensor[i];
        int same = of[i] && of[i]->ndim == t->ndim;
        for (int d = 0; same && d < t->ndim; d++) same = of[i]->dim[d] == t->dim[d];
        if (!same)
            return cn_fail(s->err, CN_ECORRUPT, "%s: tensor '%s' %s", s->name,
                           of[i] ? of[i]->name : t->name,
                           of[i] ? "has another shape than the net's" : "is missing");
    }
    return 0;
}

/* One number a lead; where the key is absent, v stays. */
static int read_floats(const struct model_source *s, const char *key, float *v, int leads)
{
    const json_t *a = json_object_get(s->about, key);
    bool sound = !a || (json_is_array(a) && json_array_size(a) == (size_t)leads);
    for (size_t i = 0; sound && i < json_array_size(a); i++) {
        const json_t *x = json_array_get(a, i);
        sound = json_is_number(x) && isfinite((float)json_number_value(x));
        v[i] = (float)json_number_value(x);
    }
    return sound ? 0
                 : cn_fail(s->err, CN_ECORRUPT, "%s: '%s' is not a list of %d numbers, one a lead",
                           s->name, key, leads);
}

/* Label i; each is clean text on one line that no other label has. */
static int take_label(const struct model_source *s, struct nn_model *m, size_t i, const char *text)
{
    if (i >= (size_t)m->net->n_labels || !text || !*text || !cn_text_clean(text, 7) ||
        strpbrk(text, "\t\r\n"))
        return cn_fail(s->err, CN_ECORRUPT,
                       "%s: 'labels' is not a list of up to %d names of 1 to 7 bytes", s->name,
                       m->net->n_labels);
    for (size_t k = 0; k < i; k++)
        if (!strcmp(m->label[k], text))
            return cn_fail(s->err, CN_ECORRUPT, "%s: two labels are called '%s'", s->name, text);
    strcpy(m->label[i], text);
    return 0;
}

static int read_about(const struct model_source *s, struct nn_model *m)
{
    const json_t *labels = json_object_get(s->about, "labels"), *hz;
    int rc = read_floats(s, "mean", m->mean, m->net->n_leads);
    if (!rc) rc = read_floats(s, "std", m->std, m->net->n_leads);
    for (size_t i = 0; !rc && i < json_array_size(labels); i++)
        rc = take_label(s, m, i, json_string_value(json_array_get(labels, i)));
    if (!rc && labels && !json_is_array(labels)) rc = take_label(s, m, 0, NULL);
    hz = json_object_get(s->about, "hz");
    if (!rc && hz && !json_is_number(hz))
        rc = cn_fail(s->err, CN_ECORRUPT, "%s: 'hz' is not a number", s->name);
    m->hz = (float)json_number_value(hz);
    m->unsaid = !json_object_get(s->about, "mean") || !json_object_get(s->about, "std");
    return rc;
}

/* A comma-separated list of n numbers. */
static int read_list(const struct model_source *s, const char *key, float *v, int n)
{
    const char *p = nn_st_meta_value(s->st, key);
    for (int i = 0; p && i < n; i++) {
        char *end;
        v[i] = strtof(p, &end);
        if (end == p || !isfinite(v[i]) || *end != (i + 1 < n ? ',' : 0))
            return cn_fail(s->err, CN_ECORRUPT, "%s: metadata '%s' is not a list of %d numbers",
                           s->name, key, n);
        p = end + 1;
    }
    return 0;
}

/* What a file of another tool says. */
static int read_plain_about(const struct model_source *s, struct nn_model *m)
{
    const char *labels = nn_st_meta_value(s->st, "labels");
    int rc = read_list(s, "mean_mV", m->mean, m->net->n_leads);
    if (!rc) rc = read_list(s, "std_mV", m->std, m->net->n_leads);
    if (!rc) rc = read_list(s, "hz", &m->hz, 1);
    for (size_t i = 0; !rc && labels && *labels; i++) {
        char one[16];
        size_t n = strcspn(labels, ",");
        snprintf(one, sizeof one, "%.*s", n < sizeof one ? (int)n : (int)sizeof one, labels);
        rc = take_label(s, m, i, one);
        labels += n + (labels[n] == ',');
    }
    m->unsaid = !nn_st_meta_value(s->st, "mean_mV") || !nn_st_meta_value(s->st, "std_mV");
    return rc;
}

static int check_about(const struct model_source *s, const struct nn_model *m)
{
    for (int i = 0; i < NN_MAX_LEADS; i++)
        if (!(m->std[i] >= LEAST_STD && m->std[i] <= MOST_MV && fabsf(m->mean[i]) <= MOST_MV))
            return cn_fail(s->err, CN_ECORRUPT,
                           "%s: lead %d's std is %g and its mean %g mV, which no recording has: a "
                           "std lies above 0, both within %g mV",
                           s->name, i + 1, (double)m->std[i], (double)m->mean[i], (double)MOST_MV);
    if (!(m->hz >= 0 && m->hz <= 1e6f))
        return cn_fail(s->err, CN_ECORRUPT, "%s: 'hz' is %g", s->name, (double)m->hz);
    return 0;
}

static int read_meta(const struct model_source *s, struct nn_model *m)
{
    const char *text = nn_st_meta_value(s->st, "cinch.meta");
    if (!text) return 0;
    json_t *meta = json_of(text);
    int object = json_is_object(meta);
    json_decref(meta);
    if (!object)
        return cn_fail(s->err, CN_ECORRUPT, "%s: 'cinch.meta' is not a JSON object", s->name);
    m->meta = strdup(text);
    return m->meta ? 0 : cn_fail(s->err, CN_ENOMEM, "%s: out of memory", s->name);
}

static int read_model(struct nn_model **out, const struct model_source *s)
{
    const struct nn_st_tensor *of[NN_MAX_TENSORS];
    struct nn_net *net;
    int rc = s->about ? described_net(s, &net) : guessed_net(s, &net);
    if (rc) return rc;
    rc = check_shapes(s, net, of);
    if (rc) {
        nn_net_destroy(net);
        return rc;
    }
    rc = nn_model_alloc(out, net, s->err);
    if (rc) return rc;
    struct nn_model *m = *out;
    for (int i = 0; !rc && i < net->n_tensors; i++)
        rc = nn_st_read(of[i], s->name, m->params + net->tensor[i].offset, s->err);
    if (!rc) rc = s->about ? read_about(s, m) : read_plain_about(s, m);
    if (!rc) rc = check_about(s, m);
    if (!rc) rc = read_meta(s, m);
    return rc ? rc : nn_model_check(m, s->name, s->err);
}

int nn_model_parse(struct nn_model **out, const char *name, const void *data, size_t n,
                   struct cn_error *err)
{
    struct nn_st *st;
    *out = NULL;
    int rc = nn_st_parse(&st, name, data, n, err);
    if (rc) return rc;
    const char *text = nn_st_meta_value(st, "cinch");
    json_t *about = json_of(text);
    struct model_source s = {name, st, about, err};
    if (text && !json_is_object(about))
        rc = cn_fail(err, CN_ECORRUPT, "%s: its 'cinch' metadata is not a JSON object", name);
    else
        rc = read_model(out, &s);
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
