/* ecg/remarks.h - what a person should know of a dataset before trusting a score measured on it: records
 * that are there twice, patients on both sides of a split, parts that are empty. None of it stops
 * anything. */
#ifndef CINCH_ECG_REMARKS_H
#define CINCH_ECG_REMARKS_H

#include "base/error.h"
#include "ecg/source.h"

struct ecg_remarks {
    int n;
    char **line; /* [n], UTF-8, without a line end */
};

/* Of a source whose records were all read; those that could not be are left out. `rows` [enum ecg_part]
 * is what s->whole() filled. *r is the caller's, for ecg_remarks_clear. */
int ecg_remarks_make(struct ecg_remarks *r, const struct ecg_source *s, const int rows[4],
                     struct cn_error *err);
void ecg_remarks_clear(struct ecg_remarks *r); /* accepts a zeroed one */

/* Kept as text, a line each, beside a cache, so that they are told whenever it is used. */
int ecg_remarks_write(const struct ecg_remarks *r, const char *path, struct cn_error *err);
int ecg_remarks_read(struct ecg_remarks *r, const char *path, struct cn_error *err);

#endif
