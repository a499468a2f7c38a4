/* nn/safetensors.c - the safetensors file format, float32 tensors only.
 *
 *   bytes 0-7    N, the length of the header, unsigned little-endian, at most 100 MB
 *   N bytes      JSON object, may end in spaces: name -> {"dtype": "F32", "shape": [..],
 *                "data_offsets": [begin, end]}, and "__metadata__" -> {key: string}
 *   the rest     the tensors' bytes, row-major little-endian; offsets count from here and cover the
 *                rest without gaps or overlaps
 *
 * https://github.com/huggingface/safetensors describes it. Files come from anywhere, so nothing is
 * believed before it is checked.
 */
#include "nn/safetensors.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define MAX_HEADER 100000000u

struct nn_st {
    json_t *root;
    int n;
    struct nn_st_tensor tensor[NN_ST_MAX_TENSORS];
    uint64_t begin[NN_ST_MAX_TENSORS];
};

struct st_source {
    const char *name;
    const uint8_t *data; /* after the header */
    uint64_t n;
    struct cn_error *err;
};

static int read_shape(const struct st_source *s, const char *key, const json_t *shape,
                      struct nn_st_tensor *t)
{
    if (!json_is_array(shape) || json_array_size(shape) > 4)
        return cn_fail(s->err, CN_ECORRUPT, "%s: tensor '%.60s' has no shape of up to 4 numbers",
                       s->name, key);
    t->count = 1;
    t->ndim = (int)json_array_size(shape);
    for (int i = 0; i < t->ndim; i++) {
        const json_t *d = json_array_get(shape, (size_t)i);
        t->dim[i] = json_integer_value(d);
        if (!json_is_integer(d) || t->dim[i] < 1 || t->dim[i] > INT32_MAX ||
            __builtin_mul_overflow(t->count, (size_t)t->dim[i], &t->count) ||
            t->count > s->n / sizeof(float))
            return cn_fail(s->err, CN_ECORRUPT, "%s: tensor '%.60s' has an impossible shape",
                           s->name, key);
    }
    return 0;
}

static int read_tensor(struct nn_st *st, const struct st_source *s, const char *key,
                       const json_t *v)
{
    if (st->n == NN_ST_MAX_TENSORS)
        return cn_fail(s->err, CN_ELIMIT, "%s: more than %d tensors", s->name, NN_ST_MAX_TENSORS);
    struct nn_st_tensor *t = &st->tensor[st->n];
    if (strlen(key) >= sizeof t->name)
        return cn_fail(s->err, CN_ECORRUPT, "%s: tensor name '%.60s...' is too long", s->name, key);
    strcpy(t->name, key);
    const char *dtype = json_string_value(json_object_get(v, "dtype"));
    if (!dtype) return cn_fail(s->err, CN_ECORRUPT, "%s: tensor '%s' has no dtype", s->name, key);
    if (strcmp(dtype, "F32"))
        return cn_fail(s->err, CN_EUNSUPPORTED, "%s: tensor '%s' is %.16s; only F32 is read",
                       s->name, key, dtype);
    int rc = read_shape(s, key, json_object_get(v, "shape"), t);
    if (rc) return rc;
    const json_t *at = json_object_get(v, "data_offsets");
    const json_t *from = json_array_get(at, 0), *to = json_array_get(at, 1);
    if (json_array_size(at) != 2 || !json_is_integer(from) || !json_is_integer(to))
        return cn_fail(s->err, CN_ECORRUPT, "%s: tensor '%s' has no data_offsets", s->name, key);
    json_int_t lo = json_integer_value(from), hi = json_integer_value(to);
    if (lo < 0 || hi < lo || (uint64_t)hi > s->n || (uint64_t)(hi - lo) != t->count * sizeof(float))
        return cn_fail(s->err, CN_ECORRUPT,
                       "%s: tensor '%s' lies at %lld-%lld, which does not fit its shape", s->name,
                       key, (long long)lo, (long long)hi);
    t->data = s->data + lo;
    st->begin[st->n++] = (uint64_t)lo;
    return 0;
}

/* A file that ends before its last tensor does: the usual damage, and worth a message of its own. */
static int check_length(const struct st_source *s, json_t *root, uint64_t tensors_at)
{
    const char *key;
    json_t *v;
    json_int_t end = 0;
    json_object_foreach(root, key, v)
    {
        json_int_t to = json_integer_value(json_array_get(json_object_get(v, "data_offsets"), 1));
        if (to > end) end = to;
    }
    if ((uint64_t)end <= s->n) return 0;
    return cn_fail(s->err, CN_ECORRUPT,
                   "%s: truncated: its tensors end at byte %llu, but the file has only %llu; copy "
                   "or download it again",
                   s->name, (unsigned long long)tensors_at + (unsigned long long)end,
                   (unsigned long long)(tensors_at + s->n));
}

/* Lengths fit; so offsets that are all different and sum up to the whole leave no gap. */
static int check_cover(const struct nn_st *st, const struct st_source *s)
{
    uint64_t at = 0;
    for (int done = 0; done < st->n; done++) {
        int next = -1;
        for (int i = 0; i < st->n && next < 0; i++)
            if (st->begin[i] == at) next = i;
        if (next < 0) break;
        at += st->tensor[next].count * sizeof(float);
    }
    if (at == s->n) return 0;
    return cn_fail(s->err, CN_ECORRUPT, "%s: tensors overlap or leave a gap at byte %llu of %llu",
                   s->name, (unsigned long long)at, (unsigned long long)s->n);
}

static int check_metadata(const struct st_source *s, json_t *meta)
{
    const char *key;
    json_t *v;
    if (!meta) return 0;
    if (!json_is_object(meta))
        return cn_fail(s->err, CN_ECORRUPT, "%s: __metadata__ is not an object", s->name);
    json_object_foreach(meta, key, v)
    {
        if (!json_is_string(v))
            return cn_fail(s->err, CN_ECORRUPT, "%s: metadata '%.60s' is not a string", s->name,
                           key);
    }
    return 0;
}

static int read_header(struct nn_st *st, const struct st_source *s, const char *text, size_t n)
{
    json_error_t je;
    const char *key;
    json_t *v;
    st->root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &je);
    if (!json_is_object(st->root))
        return cn_fail(s->err, CN_ECORRUPT, "%s: the safetensors header is not JSON: %s", s->name,
                       st->root ? "not an object" : je.text);
    int rc = check_metadata(s, json_object_get(st->root, "__metadata__"));
    if (!rc) rc = check_length(s, st->root, 8 + n);
    json_object_foreach(st->root, key, v)
    {
        if (!rc && strcmp(key, "__metadata__")) rc = read_tensor(st, s, key, v);
    }
    return rc ? rc : check_cover(st, s);
}

int nn_st_parse(struct nn_st **out, const char *name, const void *data, size_t n,
                struct cn_error *err)
{
    const uint8_t *b = data;
    uint64_t header = 0;
    *out = NULL;
    for (int i = 7; n >= 8 && i >= 0; i--) header = header << 8 | b[i];
    if (n < 10 || header < 2 || header > MAX_HEADER)
        return cn_fail(
            err, CN_ECORRUPT,
            "%s: not a safetensors file: its %zu bytes do not begin with the length of a "
            "header",
            name, n);
    if (header > n - 8)
        return cn_fail(err, CN_ECORRUPT,
                       "%s: truncated within its header, which ends at byte %llu, but the file has "
                       "only %zu; copy or download it again",
                       name, (unsigned long long)(header + 8), n);
    struct st_source s = {name, b + 8 + header, n - 8 - header, err};
    struct nn_st *st = calloc(1, sizeof *st);
    if (!st) return cn_fail(err, CN_ENOMEM, "%s: out of memory", name);
    int rc = read_header(st, &s, (const char *)b + 8, (size_t)header);
    if (rc)
        nn_st_destroy(st);
    else
        *out = st;
    return rc;
}

void nn_st_destroy(struct nn_st *st)
{
    if (!st) return;
    json_decref(st->root);
    free(st);
}

const struct nn_st_tensor *nn_st_find(const struct nn_st *st, const char *name)
{
    for (int i = 0; i < st->n; i++)
        if (!strcmp(st->tensor[i].name, name)) return &st->tensor[i];
    return NULL;
}

int nn_st_count(const struct nn_st *st)
{
    return st->n;
}

size_t nn_st_floats(const struct nn_st *st)
{
    size_t n = 0;
    for (int i = 0; i < st->n; i++) n += st->tensor[i].count;
    return n;
}

const char *nn_st_meta_value(const struct nn_st *st, const char *key)
{
    return json_string_value(json_object_get(json_object_get(st->root, "__metadata__"), key));
}

/* The header's JSON; NULL when out of memory or a string is not UTF-8. *bytes: of all tensors. */
static char *header_text(const struct nn_st_tensor *tensor, int n_tensors,
                         const struct nn_st_meta *meta, int n_meta, uint64_t *bytes)
{
    json_t *root = json_object(), *m = json_object();
    int bad = 0;
    *bytes = 0;
    for (int i = 0; i < n_meta; i++)
        bad |= json_object_set_new(m, meta[i].key, json_string(meta[i].value));
    bad |= json_object_set_new(root, "__metadata__", m);
    for (int i = 0; i < n_tensors; i++) {
        json_t *shape = json_array();
        for (int d = 0; d < tensor[i].ndim; d++)
            bad |= json_array_append_new(shape, json_integer(tensor[i].dim[d]));
        uint64_t end = *bytes + tensor[i].count * sizeof(float);
        json_t *t = json_pack("{s:s, s:o, s:[I, I]}", "dtype", "F32", "shape", shape,
                              "data_offsets", (json_int_t)*bytes, (json_int_t)end);
        bad |= json_object_set_new(root, tensor[i].name, t);
        *bytes = end;
    }
    char *text = bad ? NULL : json_dumps(root, JSON_COMPACT | JSON_PRESERVE_ORDER);
    json_decref(root);
    return text;
}

int nn_st_write(const struct nn_st_tensor *tensor, int n_tensors, const struct nn_st_meta *meta,
                int n_meta, void **out, size_t *n, struct cn_error *err)
{
    uint64_t bytes;
    *out = NULL;
    char *text = header_text(tensor, n_tensors, meta, n_meta, &bytes);
    if (!text) return cn_fail(err, CN_ENOMEM, "out of memory for a model's header");
    size_t length = strlen(text), header = (length + 7) / 8 * 8; /* tensors start aligned */
    uint8_t *b = malloc(8 + header + bytes);
    if (!b) {
        free(text);
        return cn_fail(err, CN_ENOMEM, "out of memory for a model of %llu bytes",
                       (unsigned long long)bytes);
    }
    for (int i = 0; i < 8; i++) b[i] = (uint8_t)((uint64_t)header >> 8 * i);
    memcpy(b + 8, text, length);
    memset(b + 8 + length, ' ', header - length);
    uint8_t *at = b + 8 + header;
    for (int i = 0; i < n_tensors; i++) {
        memcpy(at, tensor[i].data, tensor[i].count * sizeof(float));
        at += tensor[i].count * sizeof(float);
    }
    free(text);
    *out = b;
    *n = 8 + header + bytes;
    return 0;
}
