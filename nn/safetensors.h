/* nn/safetensors.h - reading and writing the safetensors format. Private to this room. */
#ifndef CINCH_NN_SAFETENSORS_H
#define CINCH_NN_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define NN_ST_MAX_HEADER ((size_t)16 << 20) /* bytes */
#define NN_ST_MAX_TENSORS 4096
#define NN_ST_MAX_DIMS 8

enum nn_st_dtype { /* what numbers a tensor holds; integers are kept only to be passed over */
                   NN_ST_F32,
                   NN_ST_F16,
                   NN_ST_BF16,
                   NN_ST_F64,
                   NN_ST_INTEGER, /* BOOL, I8 .. U64 */
};

struct nn_st_tensor {
    char name[128];
    enum nn_st_dtype dtype;
    char dtype_name[8]; /* "I64" */
    int ndim;
    int64_t dim[NN_ST_MAX_DIMS];
    size_t count;
    size_t bytes;
    const void
        *data; /* of `bytes` bytes, little-endian, maybe unaligned; within the parsed bytes */
};

struct nn_st_meta { /* one string of __metadata__ */
    char key[32];
    const char *value;
};

struct nn_st; /* a parsed file; borrows the bytes */

/* Checks everything before use: sizes, JSON, names, shapes, and that the tensors fill the file
 * without gaps or overlaps. `name` stands in messages. Memory is bounded by the header's length, of
 * which NN_ST_MAX_HEADER is taken at most; time is linear in it. CN_ECORRUPT, CN_ELIMIT,
 * CN_EUNSUPPORTED (a type of numbers that is not listed above). */
int nn_st_parse(struct nn_st **out, const char *name, const void *data, size_t n,
                struct cn_error *err);
void nn_st_destroy(struct nn_st *st);
const struct nn_st_tensor *nn_st_find(const struct nn_st *st, const char *name); /* NULL: absent */
int nn_st_count(const struct nn_st *st);
const struct nn_st_tensor *nn_st_at(const struct nn_st *st, int i);    /* 0 <= i < nn_st_count */
const char *nn_st_meta_value(const struct nn_st *st, const char *key); /* NULL: absent */

/* The tensor's numbers as out[count] floats, exactly: F16 and BF16 always fit, F64 where it was
 * widened from float. CN_EUNSUPPORTED: integers; CN_EINVALID: an F64 that is no float. Finite or not
 * is the caller's question. `name` stands in messages. */
int nn_st_read(const struct nn_st_tensor *t, const char *name, float *out, struct cn_error *err);

/* malloc'ed *out of *n bytes. Tensors (NN_ST_INTEGER: bytes, U8; all others F32) and metadata stand in the order
 * given: same input, same bytes. */
int nn_st_write(const struct nn_st_tensor *tensor, int n_tensors, const struct nn_st_meta *meta,
                int n_meta, void **out, size_t *n, struct cn_error *err);

#endif
