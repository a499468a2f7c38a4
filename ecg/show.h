/* ecg/show.h - a stretch of a record for people: as CSV, or as SVG on ECG paper. */
#ifndef CINCH_ECG_SHOW_H
#define CINCH_ECG_SHOW_H

#include <stddef.h>

#include "base/error.h"
#include "ecg/preprocess.h"

struct ecg_strip {
    char record[64];
    int leads, samples;
    double hz;
    double start;         /* seconds into the record */
    enum ecg_stage stage; /* unit mV, or standard deviations when normalised */
    char lead[ECG_MAX_SIGNALS][16];
    float *x; /* [leads, samples] */
};

struct ecg_show {
    const char *path;            /* of the record, with or without .hea */
    enum ecg_stage stage;        /* beyond ECG_RAW: 12-lead records of 10 s at 100 Hz only */
    const struct ecg_norm *norm; /* for ECG_NORMALISED: a dataset's mean and std */
    double start, seconds;       /* ECG_RAW: from where, how long; seconds ≤ 0: 10 */
};

/* *out is owned by the caller. */
int ecg_strip_load(struct ecg_strip **out, const struct ecg_show *s, struct cn_error *err);
void ecg_strip_destroy(struct ecg_strip *s); /* accepts NULL */

/* A whole document as malloc'ed text (caller frees), *n bytes without the final 0. CSV: a row of
 * names ("t" in seconds, then the leads), one row per sample. SVG: every lead on a millimetre grid,
 * 25 mm/s and 10 mm/mV (normalised: 10 mm per 5 standard deviations). */
int ecg_strip_csv(const struct ecg_strip *s, char **text, size_t *n, struct cn_error *err);
int ecg_strip_svg(const struct ecg_strip *s, char **text, size_t *n, struct cn_error *err);

#endif
