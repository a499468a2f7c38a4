/* ecg/inputs.h - the files that a dataset is made of, and the two hashes that name it.
 *
 * The *fingerprint* names the content: it covers every input byte, the options and the version of
 * the preprocessing, and nothing about where or when, so it is the same on every machine. Reading
 * all inputs for it takes seconds. The *key* names the state of the folder: its real path and
 * every file's size, inode, mtime and ctime, which takes milliseconds. The cache remembers which
 * key led to which fingerprint; a key that is not known (a folder moved, copied or touched) costs
 * one reading of the inputs and no rebuild. ctime is in the key because a program can set mtime
 * back, but not ctime.
 */
#ifndef CINCH_ECG_INPUTS_H
#define CINCH_ECG_INPUTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/pool.h"
#include "ecg/wfdb.h"

struct ecg_input {
    char *file;             /* relative to the folder */
    struct cn_hash content; /* set by ecg_inputs_fingerprint */
};

struct ecg_inputs {
    char *dir;
    int n, cap;
    struct ecg_input *of; /* [n], in the dataset's own order */
    bool fingerprinted;   /* `content` is set */
};

int ecg_inputs_init(struct ecg_inputs *in, const char *dir, struct cn_error *err);
void ecg_inputs_clear(struct ecg_inputs *in); /* accepts a zeroed one */
int ecg_inputs_add(struct ecg_inputs *in, const char *file, struct cn_error *err);

/* `params` spells out everything else that shapes the result. CN_ENOTFOUND names a missing file. */
int ecg_inputs_key(const struct ecg_inputs *in, const char *params, struct cn_pool *pool,
                   struct cn_hash *key, struct cn_error *err);
int ecg_inputs_fingerprint(struct ecg_inputs *in, const char *params, struct cn_pool *pool,
                           struct cn_hash *fingerprint, struct cn_error *err);

/* Reads input `i` of at most `limit` bytes; out->data is the caller's. After ecg_inputs_fingerprint,
 * CN_ESTALE when the content is no longer what was fingerprinted. */
int ecg_inputs_read(const struct ecg_inputs *in, int i, size_t limit, struct ecg_bytes *out,
                    struct cn_error *err);

/* The inputs of one record, [first, first + n): as `arg`, ecg_inputs_reader makes them the files of
 * ecg_record_load. A file that is not among them is CN_EINVALID, since nothing but the inputs may
 * shape the result. */
struct ecg_record_inputs {
    const struct ecg_inputs *in;
    int first, n;
};
int ecg_inputs_reader(void *arg, const char *file, size_t limit, struct ecg_bytes *out,
                      struct cn_error *err);

#endif
