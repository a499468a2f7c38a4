/* ecg/beats.h - the beats of one record, cut and z-scored: what `cinch infer` reads, and what the cache
 * of beats is made of. */
#ifndef CINCH_ECG_BEATS_H
#define CINCH_ECG_BEATS_H

#include "base/error.h"
#include "base/hash.h"
#include "ecg/mitdb.h"
#include "ecg/signal.h"

struct ecg_beats {
    char lead[128];   /* the signal that they were cut from */
    int lead_missing; /* 1: the record has no MLII, and `lead` is its first signal */
    int n;
    int64_t *sample; /* [n] of the R peak, ascending as annotated */
    uint8_t *code;   /* [n] what the annotation says; see ecg_code_symbol */
    float *x;        /* [n, ECG_BEAT_SAMPLES] */
    int64_t bridged; /* missing samples of the lead */
    int left_out;    /* beats nearer to an end of the record than their window reaches */
};

/* CN_EINVALID unless a record can hold beats: ECG_MITDB_HZ and a window long. `path` stands in the
 * message. */
int ecg_beats_accept(const struct ecg_header *h, const char *path, struct cn_error *err);

/* Cuts the beats of a record that ecg_beats_accept accepts around its annotations. A record without a
 * beat is no error. Missing samples in the lead are met as `g` says; b->bridged counts them. Tells
 * in warnings what was taken in place of something else, and what was left out. */
int ecg_beats_cut(struct ecg_beats *b, const struct ecg_record *r, const struct ecg_annotations *a,
                  const struct ecg_gaps *g, struct cn_error *err);

/* The shape of the lead that beats are cut from, whatever is annotated and at whatever gain: equal for
 * copies of a recording. CN_ENOMEM. */
int ecg_beats_lead_hash(const struct ecg_record *r, struct cn_hash *out, struct cn_error *err);

/* Reads a record's beats. `record`: its path, with or without ".hea"; `annotations`: the file that
 * says where the R peaks are, or NULL for the record's own .atr. *b is the caller's, for
 * ecg_beats_clear. Errors name the file: CN_ENOTFOUND (no annotations), CN_EINVALID (not
 * ECG_MITDB_HZ, too short, a gap, no beat among the annotations), and those of ecg_record_read and
 * ecg_annotations_read. */
int ecg_beats_read(struct ecg_beats *b, const char *record, const char *annotations,
                   const struct ecg_gaps *g, struct cn_error *err);
void ecg_beats_clear(struct ecg_beats *b); /* accepts a zeroed one */

#endif
