/* ecg/beats.h - the beats of one record, cut and z-scored as the cache of beats holds them: what
 * `cinch infer` reads. */
#ifndef CINCH_ECG_BEATS_H
#define CINCH_ECG_BEATS_H

#include "base/error.h"
#include "ecg/mitdb.h"

struct ecg_beats {
    char lead[64];    /* the signal that they were cut from */
    int lead_missing; /* 1: the record has no MLII, and `lead` is its first signal */
    int n;
    int64_t *sample; /* [n] of the R peak, ascending as annotated */
    uint8_t *code;   /* [n] what the annotation says; see ecg_code_symbol */
    float *x;        /* [n, ECG_BEAT_SAMPLES] */
    int left_out;    /* beats nearer to an end of the record than their window reaches */
};

/* Reads a record's beats. `record`: its path, with or without ".hea"; `annotations`: the file that
 * says where the R peaks are, or NULL for the record's own .atr. *b is the caller's, for
 * ecg_beats_clear. Errors name the file: CN_ENOTFOUND (no annotations), CN_EINVALID (not
 * ECG_MITDB_HZ, too short, no beat among the annotations), and those of ecg_record_read and
 * ecg_annotations_read. */
int ecg_beats_read(struct ecg_beats *b, const char *record, const char *annotations,
                   struct cn_error *err);
void ecg_beats_clear(struct ecg_beats *b); /* accepts a zeroed one */

#endif
