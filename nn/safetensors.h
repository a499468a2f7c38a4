/* nn/safetensors.h - reading and writing the safetensors format. Private to this room. */
#ifndef CINCH_NN_SAFETENSORS_H
#define CINCH_NN_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define NN_ST_MAX_TENSORS 256

struct nn_st_tensor {
    char name[64];
    int ndim;
    int64_t dim[4];
    size_t count;
    const void *data; /* count floats, maybe unaligned: copy with memcpy */
};

struct nn_st_meta { /* one string of __metadata__ */
    char key[32];
    const char *value;
};

struct nn_st; /* a parsed file; borrows the bytes */

/* Checks everything before use: sizes, JSON, names, shapes, and that the tensors fill the file
 * without gaps or overlaps. `name` stands in messages. CN_ECORRUPT, CN_EUNSUPPORTED (a type other
 * than F32). */
int nn_st_parse(struct nn_st **out, const char *name, const void *data, size_t n,
                struct cn_error *err);
void nn_st_destroy(struct nn_st *st);
const struct nn_st_tensor *nn_st_find(const struct nn_st *st, const char *name); /* NULL: absent */
int nn_st_count(const struct nn_st *st);
size_t nn_st_floats(const struct nn_st *st);                           /* of all tensors */
const char *nn_st_meta_value(const struct nn_st *st, const char *key); /* NULL: absent */

/* malloc'ed *out of *n bytes. Tensors and metadata stand in the order given: same input, same
 * bytes. */
int nn_st_write(const struct nn_st_tensor *tensor, int n_tensors, const struct nn_st_meta *meta,
                int n_meta, void **out, size_t *n, struct cn_error *err);

#endif
