/* ecg/preprocess.h - one 12-lead record from file to network input, the same way for the cache, for
 * `infer` and for `data show`. */
#ifndef CINCH_ECG_PREPROCESS_H
#define CINCH_ECG_PREPROCESS_H

#include "base/error.h"
#include "ecg/signal.h"
#include "ecg/wfdb.h"

#define ECG_PTBXL_LEADS 12
#define ECG_PTBXL_SAMPLES 1000
#define ECG_PTBXL_HZ 100

/* The order of leads in every 12-lead array: I II III AVR AVL AVF V1 .. V6. */
extern const char *const ecg_lead_name[ECG_PTBXL_LEADS];

enum ecg_stage { ECG_RAW, ECG_FILTERED, ECG_NORMALISED };

/* Per-lead statistics of the training part, in mV (struct ecg_dataset has them). */
struct ecg_norm {
    const float *mean; /* [12] */
    const float *std;  /* [12] */
};

/* How far a record is taken. */
struct ecg_prep {
    enum ecg_stage stage;
    const struct ecg_norm *norm; /* may be NULL below ECG_NORMALISED */
    struct ecg_gaps gaps;        /* missing samples: see signal.h */
};

/* x [12, 1000] from a record up to a stage, float32 mV (unit-free when normalised), every number of
 * it finite. Leads are found by name. Returns how many missing samples were bridged. CN_EINVALID when
 * a lead is missing, when a gap is left or when the record is not 100 Hz x 1000 samples. */
int64_t ecg_preprocess(const struct ecg_record *r, const struct ecg_prep *how, float *x,
                       struct cn_error *err);

/* The same from a record's path (with or without .hea): bit for bit what the cache holds. */
int64_t ecg_preprocess_file(const char *path, const struct ecg_prep *how, float *x,
                            struct cn_error *err);

/* x [leads, samples] in place: (x - mean) / std per lead. */
void ecg_normalise(float *x, int leads, int samples, const struct ecg_norm *norm);

#endif
