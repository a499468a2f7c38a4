/* ecg/preprocess.h - one 12-lead record from file to network input, the same way for the cache, for
 * `infer` and for `data show`. */
#ifndef CINCH_ECG_PREPROCESS_H
#define CINCH_ECG_PREPROCESS_H

#include "base/error.h"
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

/* x [12, 1000] from decoded samples `adc` [n_signals, 1000] up to `stage`, float32 mV (unit-free
 * when normalised). Leads are found by name. `norm` may be NULL below ECG_NORMALISED. CN_EINVALID
 * when a lead is missing or the record is not 100 Hz x 1000 samples; `file` stands in messages. */
int ecg_preprocess(const struct ecg_header *h, const char *file, const int16_t *adc,
                   enum ecg_stage stage, const struct ecg_norm *norm, float *x,
                   struct cn_error *err);

/* The same from a record's path (with or without .hea): bit for bit what the cache holds. */
int ecg_preprocess_file(const char *path, enum ecg_stage stage, const struct ecg_norm *norm,
                        float *x, struct cn_error *err);

/* x [leads, samples] in place: (x - mean) / std per lead. */
void ecg_normalise(float *x, int leads, int samples, const struct ecg_norm *norm);

#endif
