/* nn/safetensors.c - the safetensors file format.
 *
 *   bytes 0-7    N, the length of the header, unsigned little-endian; here at most 16 MiB
 *   N bytes      JSON object, may end in spaces: name -> {"dtype": "F32", "shape": [..],
 *                "data_offsets": [begin, end]}, and "__metadata__" -> {key: string}
 *   the rest     the tensors' bytes, row-major little-endian; offsets count from here and cover the
 *                rest without gaps or overlaps
 *
 * https://github.com/huggingface/safetensors describes it. Float tensors are widened to float as they
 * are read; integers (PyTorch's counters) are checked and kept apart. cinch writes F32. Files come
 * from anywhere, so nothing is believed before it is checked, and the header is read in one pass
 * without a tree (nn/st_scan.h).
 */
#include "nn/safetensors.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/st_scan.h"

struct nn_st {
    int n, room;
    struct nn_st_tensor *tensor; /* [n] by name */
    int n_meta;
    struct nn_st_meta meta[8]; /* values owned; only those that cinch reads */
};

struct st_source {
    struct st_scan scan;
    const uint8_t *data;  /* after the header */
    uint64_t n, header;   /* bytes there, and of the header with its length */
    uint64_t tensors_end; /* the last one's */
};

static const struct {
    char name[8];
    enum nn_st_dtype dtype;
    int bytes;
} dtypes[] = {
    {"F32", NN_ST_F32, 4},     {"F16", NN_ST_F16, 2},      {"BF16", NN_ST_BF16, 2},
    {"F64", NN_ST_F64, 8},     {"BOOL", NN_ST_INTEGER, 1}, {"I8", NN_ST_INTEGER, 1},
    {"U8", NN_ST_INTEGER, 1},  {"I16", NN_ST_INTEGER, 2},  {"U16", NN_ST_INTEGER, 2},
    {"I32", NN_ST_INTEGER, 4}, {"U32", NN_ST_INTEGER, 4},  {"I64", NN_ST_INTEGER, 8},
    {"U64", NN_ST_INTEGER, 8},
};

/* The metadata that is kept; other tools' own is passed over. */
static const char *const kept[] = {
    "cinch", "cinch.meta", "cinch.checkpoint", "labels", "mean_mV", "std_mV", "hz", NULL};

/* Bytes of one number of the tensor; 0: of an unknown type. */
static int width_of(struct nn_st_tensor *t)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(dtypes[i].name, t->dtype_name)) continue;
        t->dtype = dtypes[i].dtype;
        return dtypes[i].bytes;
    }
    return 0;
}

static int read_shape(struct st_source *s, struct nn_st_tensor *t)
{
    bool more = true;
    int rc = st_scan_need(&s->scan, '[');
    if (rc || st_scan_take(&s->scan, ']')) return rc;
    while (!rc && more) {
        uint64_t d;
        rc = st_scan_whole(&s->scan, &d);
        if (rc) return rc;
        if (t->ndim == NN_ST_MAX_DIMS || d > INT32_MAX)
            return st_scan_fail(&s->scan, "a shape of more than 8 dimensions or of 2^31");
        t->dim[t->ndim++] = (int64_t)d;
        rc = st_scan_more(&s->scan, ']', &more);
    }
    return rc;
}

static int read_offsets(struct st_source *s, uint64_t at[2])
{
    int rc = st_scan_need(&s->scan, '[');
    if (!rc) rc = st_scan_whole(&s->scan, &at[0]);
    if (!rc) rc = st_scan_need(&s->scan, ',');
    if (!rc) rc = st_scan_whole(&s->scan, &at[1]);
    return rc ? rc : st_scan_need(&s->scan, ']');
}

/* The entry's three members, in any order, each once. */
static int read_entry(struct st_source *s, struct nn_st_tensor *t, uint64_t at[2])
{
    bool more = true;
    int seen = 0;
    int rc = st_scan_need(&s->scan, '{');
    while (!rc && more) {
        char key[16] = "";
        rc = st_scan_short(&s->scan, key, sizeof key, "a tensor has an unknown member");
        if (!rc) rc = st_scan_need(&s->scan, ':');
        int bit = !strcmp(key, "dtype") ? 1 : !strcmp(key, "shape") ? 2 : 4;
        if (!rc && (seen & bit || (bit == 4 && strcmp(key, "data_offsets"))))
            rc = st_scan_fail(&s->scan, "a tensor has a member twice, or an unknown one");
        seen |= bit;
        if (!rc && bit == 1)
            rc = st_scan_short(&s->scan, t->dtype_name, sizeof t->dtype_name, "an unknown dtype");
        if (!rc && bit == 2) rc = read_shape(s, t);
        if (!rc && bit == 4) rc = read_offsets(s, at);
        if (!rc) rc = st_scan_more(&s->scan, '}', &more);
    }
    if (!rc && seen != 7)
        rc = st_scan_fail(&s->scan, "a tensor lacks dtype, shape or data_offsets");
    return rc;
}

/* That shape, type and place fit each other and the file. */
static int check_entry(struct st_source *s, struct nn_st_tensor *t, const uint64_t at[2])
{
    const char *file = s->scan.file;
    struct cn_error *err = s->scan.err;
    int width = width_of(t);
    if (!width)
        return cn_fail(
            err, CN_EUNSUPPORTED,
            "%s: tensor '%s' is %s; F32, F16, BF16 and F64 are read, integers passed over", file,
            t->name, t->dtype_name);
    t->count = 1;
    for (int i = 0; i < t->ndim; i++)
        if (__builtin_mul_overflow(t->count, (size_t)t->dim[i], &t->count))
            return cn_fail(err, CN_ECORRUPT, "%s: tensor '%s' has an impossible shape", file,
                           t->name);
    if (__builtin_mul_overflow(t->count, (size_t)width, &t->bytes) || at[0] > at[1] ||
        at[1] - at[0] != t->bytes)
        return cn_fail(err, CN_ECORRUPT,
                       "%s: tensor '%s' lies at %llu-%llu, which does not fit its shape", file,
                       t->name, (unsigned long long)at[0], (unsigned long long)at[1]);
    t->data = s->data + (at[1] > s->n ? 0 : at[0]);
    if (at[1] > s->tensors_end) s->tensors_end = at[1];
    return 0;
}

/* A file that ends before its last tensor does: the usual damage, and worth a message of its own. */
static int check_truncated(const struct st_source *s)
{
    if (s->tensors_end <= s->n) return 0;
    return cn_fail(s->scan.err, CN_ECORRUPT,
                   "%s: truncated: its tensors end at byte %llu, but the file has only %llu; copy "
                   "or download it again",
                   s->scan.file, (unsigned long long)(s->header + s->tensors_end),
                   (unsigned long long)(s->header + s->n));
}

static int grow(struct nn_st *st, const struct st_source *s)
{
    if (st->n == NN_ST_MAX_TENSORS)
        return cn_fail(s->scan.err, CN_ELIMIT, "%s: more than %d tensors", s->scan.file,
                       NN_ST_MAX_TENSORS);
    if (st->n < st->room) return 0;
    int room = st->room ? 2 * st->room : 64;
    void *p = realloc(st->tensor, (size_t)room * sizeof *st->tensor);
    if (!p) return cn_fail(s->scan.err, CN_ENOMEM, "%s: out of memory", s->scan.file);
    st->tensor = p;
    st->room = room;
    return 0;
}

static int read_tensor(struct nn_st *st, struct st_source *s, const char *name)
{
    uint64_t at[2] = {0};
    int rc = grow(st, s);
    if (rc) return rc;
    struct nn_st_tensor *t = &st->tensor[st->n];
    memset(t, 0, sizeof *t);
    strcpy(t->name, name);
    rc = read_entry(s, t, at);
    if (!rc) rc = check_entry(s, t, at);
    st->n += !rc;
    return rc;
}

/* Keeps the value of a key that cinch reads. */
static int read_meta_value(struct nn_st *st, struct st_source *s, const char *key)
{
    int i = 0;
    while (kept[i] && strcmp(kept[i], key)) i++;
    if (!kept[i]) return st_scan_skip_string(&s->scan);
    if (nn_st_meta_value(st, key)) return st_scan_fail(&s->scan, "metadata has a key twice");
    char *value;
    int rc = st_scan_string(&s->scan, &value);
    if (rc) return rc;
    strcpy(st->meta[st->n_meta].key, key);
    st->meta[st->n_meta++].value = value;
    return 0;
}

static int read_metadata(struct nn_st *st, struct st_source *s)
{
    bool more = true;
    int rc = st_scan_need(&s->scan, '{');
    if (rc || st_scan_take(&s->scan, '}')) return rc;
    while (!rc && more) {
        char *key;
        rc = st_scan_string(&s->scan, &key);
        if (!rc) rc = st_scan_need(&s->scan, ':');
        if (!rc) rc = read_meta_value(st, s, key);
        if (!rc) rc = st_scan_more(&s->scan, '}', &more);
        free(key);
    }
    return rc;
}

static int read_header(struct nn_st *st, struct st_source *s)
{
    bool more = true, metadata = false;
    int rc = st_scan_need(&s->scan, '{');
    if (!rc && st_scan_take(&s->scan, '}')) return st_scan_end(&s->scan);
    while (!rc && more) {
        char name[sizeof st->tensor->name] = "";
        rc = st_scan_short(&s->scan, name, sizeof name, "a tensor's name is too long");
        if (!rc) rc = st_scan_need(&s->scan, ':');
        int about = !strcmp(name, "__metadata__");
        if (!rc && about && metadata) rc = st_scan_fail(&s->scan, "two __metadata__");
        if (!rc) rc = about ? read_metadata(st, s) : read_tensor(st, s, name);
        metadata |= about;
        if (!rc) rc = st_scan_more(&s->scan, '}', &more);
    }
    return rc ? rc : st_scan_end(&s->scan);
}

static int by_place(const void *a, const void *b)
{
    const struct nn_st_tensor *x = a, *y = b;
    const char *p = x->data, *q = y->data;
    return p != q ? (p > q) - (p < q) : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct nn_st_tensor *)a)->name, ((const struct nn_st_tensor *)b)->name);
}

/* The tensors cover the file once, and have names of their own. Leaves them sorted by name. */
static int check_tensors(struct nn_st *st, const struct st_source *s)
{
    uint64_t at = 0;
    int i = 0;
    if (st->n) qsort(st->tensor, (size_t)st->n, sizeof *st->tensor, by_place);
    for (; i < st->n && st->tensor[i].data == s->data + at; i++) at += st->tensor[i].bytes;
    if (i < st->n || at != s->n)
        return cn_fail(s->scan.err, CN_ECORRUPT,
                       "%s: tensors overlap or leave a gap at byte %llu of %llu", s->scan.file,
                       (unsigned long long)at, (unsigned long long)s->n);
    if (st->n) qsort(st->tensor, (size_t)st->n, sizeof *st->tensor, by_name);
    for (i = 1; i < st->n; i++)
        if (!by_name(&st->tensor[i - 1], &st->tensor[i]))
            return cn_fail(s->scan.err, CN_ECORRUPT, "%s: two tensors are called '%s'",
                           s->scan.file, st->tensor[i].name);
    return 0;
}

static int check_length(const char *name, size_t n, uint64_t header, struct cn_error *err)
{
    if (n < 10 || header < 2)
        return cn_fail(
            err, CN_ECORRUPT,
            "%s: not a safetensors file: its %zu bytes do not begin with the length of a "
            "header",
            name, n);
    if (header > NN_ST_MAX_HEADER)
        return cn_fail(
            err, CN_ECORRUPT,
            "%s: not a safetensors file, or not a net's: its header would take %llu bytes, of "
            "which %zu are read at most",
            name, (unsigned long long)header, NN_ST_MAX_HEADER);
    if (header > n - 8)
        return cn_fail(err, CN_ECORRUPT,
                       "%s: truncated within its header, which ends at byte %llu, but the file has "
                       "only %zu; copy or download it again",
                       name, (unsigned long long)(header + 8), n);
    return 0;
}

int nn_st_parse(struct nn_st **out, const char *name, const void *data, size_t n,
                struct cn_error *err)
{
    const uint8_t *b = data;
    uint64_t header = 0;
    *out = NULL;
    for (int i = 7; n >= 8 && i >= 0; i--) header = header << 8 | b[i];
    int rc = check_length(name, n, header, err);
    if (rc) return rc;
    const char *text = (const char *)b + 8;
    struct st_source s = {.scan = {name, text, text + header, text, err}};
    s.header = 8 + header;
    s.data = b + s.header;
    s.n = n - s.header;
    struct nn_st *st = calloc(1, sizeof *st);
    if (!st) return cn_fail(err, CN_ENOMEM, "%s: out of memory", name);
    rc = read_header(st, &s);
    if (!rc) rc = check_truncated(&s);
    if (!rc) rc = check_tensors(st, &s);
    if (rc)
        nn_st_destroy(st);
    else
        *out = st;
    return rc;
}

void nn_st_destroy(struct nn_st *st)
{
    if (!st) return;
    for (int i = 0; i < st->n_meta; i++) free((char *)st->meta[i].value);
    free(st->tensor);
    free(st);
}

const struct nn_st_tensor *nn_st_find(const struct nn_st *st, const char *name)
{
    struct nn_st_tensor key;
    if (!st->n || strlen(name) >= sizeof key.name) return NULL;
    strcpy(key.name, name);
    return bsearch(&key, st->tensor, (size_t)st->n, sizeof *st->tensor, by_name);
}

int nn_st_count(const struct nn_st *st)
{
    return st->n;
}

const struct nn_st_tensor *nn_st_at(const struct nn_st *st, int i)
{
    return &st->tensor[i];
}

const char *nn_st_meta_value(const struct nn_st *st, const char *key)
{
    for (int i = 0; i < st->n_meta; i++)
        if (!strcmp(st->meta[i].key, key)) return st->meta[i].value;
    return NULL;
}

/* IEEE half precision; every one is a float. */
static float half_float(uint16_t h)
{
    int exponent = h >> 10 & 31, fraction = h & 1023;
    float v = exponent == 31 ? (fraction ? NAN : INFINITY)
              : exponent     ? ldexpf((float)(1024 + fraction), exponent - 25)
                             : ldexpf((float)fraction, -24);
    return h & 0x8000 ? -v : v;
}

static float brain_float(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

int nn_st_read(const struct nn_st_tensor *t, const char *name, float *out, struct cn_error *err)
{
    const uint8_t *p = t->data;
    if (t->dtype == NN_ST_INTEGER)
        return cn_fail(err, CN_EUNSUPPORTED, "%s: tensor '%s' holds integers (%s), not weights",
                       name, t->name, t->dtype_name);
    if (t->dtype == NN_ST_F32) {
        memcpy(out, p, t->bytes);
        return 0;
    }
    for (size_t i = 0; i < t->count && t->dtype != NN_ST_F64; i++) {
        uint16_t h = (uint16_t)(p[2 * i] | p[2 * i + 1] << 8);
        out[i] = t->dtype == NN_ST_F16 ? half_float(h) : brain_float(h);
    }
    for (size_t i = 0; i < t->count && t->dtype == NN_ST_F64; i++) {
        double v;
        memcpy(&v, p + 8 * i, sizeof v);
        out[i] = (float)v;
        if ((double)out[i] != v && !isnan(v))
            return cn_fail(err, CN_EINVALID,
                           "%s: tensor '%s' is F64, and its value %zu, %.17g, is no float; save it "
                           "as F32",
                           name, t->name, i, v);
    }
    return 0;
}

/* Writing */

static size_t written_bytes(const struct nn_st_tensor *t)
{
    return t->count * (t->dtype == NN_ST_INTEGER ? 1 : sizeof(float));
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
        uint64_t end = *bytes + written_bytes(&tensor[i]);
        json_t *t = json_pack("{s:s, s:o, s:[I, I]}", "dtype",
                              tensor[i].dtype == NN_ST_INTEGER ? "U8" : "F32", "shape", shape,
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
        memcpy(at, tensor[i].data, written_bytes(&tensor[i]));
        at += written_bytes(&tensor[i]);
    }
    free(text);
    *out = b;
    *n = 8 + header + bytes;
    return 0;
}
