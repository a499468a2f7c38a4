/* ecg/cache.h - the cache file of a dataset: writing it row by row, checking and mapping it. The
 * format is specified at the top of cache.c. */
#ifndef CINCH_ECG_CACHE_H
#define CINCH_ECG_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "ecg/dataset.h"

struct ecg_cache_writer;

/* Starts a cache file for `shape` (name, task, sizes, labels, fingerprint; its pointers are not
 * read) under the temporary name PATH.part, which the caller has locked. Reserves the disk space:
 * CN_ENOSPACE comes here. */
int ecg_cache_create(struct ecg_cache_writer **out, const char *path,
                     const struct ecg_dataset *shape, struct cn_error *err);

/* Writes or reads back rows [first, first + rows) of x [rows, leads, samples]. Different rows from
 * different threads at once are fine. */
int ecg_cache_put(struct ecg_cache_writer *w, int first, int rows, const float *x,
                  struct cn_error *err);
int ecg_cache_get(struct ecg_cache_writer *w, int first, int rows, float *x, struct cn_error *err);

/* BLAKE2b-256 of a row's bytes as they were put last; those of the rows behind it follow. */
const struct cn_hash *ecg_cache_row_hash(const struct ecg_cache_writer *w, int row);

/* The tables to fill before the commit; zeroed at first. */
struct ecg_cache_tables {
    uint8_t *y;     /* [n, labels] */
    uint8_t *fold;  /* [n] */
    uint8_t *part;  /* [n] */
    char (*id)[24]; /* [n] */
};
struct ecg_cache_tables ecg_cache_tables(struct ecg_cache_writer *w);

/* Statistics for the header: [leads] each. Until then mean is 0 and std 1. */
void ecg_cache_stats(struct ecg_cache_writer *w, const float *mean, const float *std);

/* Finishes: fsync, rename to its name. Frees w, whatever it returns. */
int ecg_cache_commit(struct ecg_cache_writer *w, struct cn_error *err);
void ecg_cache_abandon(struct ecg_cache_writer *w); /* removes the file; accepts NULL */

/* Checks the bytes of a cache file (header, sizes, tables; not x) and fills *d with pointers into
 * them. CN_ECORRUPT or CN_EVERSION; `path` stands in messages. */
int ecg_cache_check(struct ecg_dataset *d, const char *path, const uint8_t *data, size_t n,
                    struct cn_error *err);

/* Recomputes the hashes in the header of a cache file's bytes; the fuzzer uses it to get past them.
 */
void ecg_cache_seal(uint8_t *data, size_t n);

/* Verifies the samples too, by reading all of them. CN_ECORRUPT. */
int ecg_cache_check_samples(const struct ecg_dataset *d, struct cn_error *err);

#endif
