/* ecg/show.h - a stretch of a record for people: as CSV, or as SVG on ECG paper. */
#ifndef CINCH_ECG_SHOW_H
#define CINCH_ECG_SHOW_H

#include <stddef.h>

#include "base/error.h"
#include "ecg/preprocess.h"

struct ecg_strip {
    char record[128];
    int leads, samples;
    double hz;
    double start;                    /* seconds into the record */
    enum ecg_stage stage;            /* unit mV, or standard deviations when normalised */
    char lead[ECG_MAX_SIGNALS][128]; /* UTF-8, no two alike */
    float *x;                        /* [leads, samples]; NaN where a raw record has no value */
    int missing[ECG_MAX_SIGNALS];    /* how many of those there are in each lead */
    int64_t bridged;                 /* missing samples beyond ECG_RAW, all leads */
};

struct ecg_show {
    const char *path;            /* of the record, with or without .hea */
    enum ecg_stage stage;        /* beyond ECG_RAW: 12-lead records of 10 s at 100 Hz only */
    const struct ecg_norm *norm; /* for ECG_NORMALISED: a dataset's mean and std */
    struct ecg_gaps gaps;        /* beyond ECG_RAW: what becomes of missing samples */
    double start, seconds;       /* from where, how long; seconds ≤ 0: 10 */
};

/* *out is owned by the caller. */
int ecg_strip_load(struct ecg_strip **out, const struct ecg_show *s, struct cn_error *err);
void ecg_strip_destroy(struct ecg_strip *s); /* accepts NULL */

/* A whole document as malloc'ed text (caller frees), *n bytes without the final 0. CSV: a row of
 * names ("t" in seconds, then the leads), one row per sample, an empty field where there is no value.
 * SVG, where such a stretch is a gap in the line: every lead on a millimetre grid,
 * 25 mm/s and 10 mm/mV (normalised: 10 mm per 5 standard deviations). */
int ecg_strip_csv(const struct ecg_strip *s, char **text, size_t *n, struct cn_error *err);
int ecg_strip_svg(const struct ecg_strip *s, char **text, size_t *n, struct cn_error *err);

#endif
