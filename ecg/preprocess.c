/* ecg/preprocess.c - see preprocess.h. Filtering runs in double, the result is rounded to float32
 * once, and everything after (statistics, normalisation) starts from those floats, so that a record
 * read alone comes out with the bits that the cache holds. */
#include "ecg/preprocess.h"

#include <math.h>
#include <string.h>

#include "base/log.h"
#include "ecg/filter.h"

const char *const ecg_lead_name[ECG_PTBXL_LEADS] = {"I",  "II", "III", "AVR", "AVL", "AVF",
                                                    "V1", "V2", "V3",  "V4",  "V5",  "V6"};

#define MAINS_HZ 50

static int lead_to_float(const struct ecg_header *h, const char *file, int s, const int16_t *adc,
                         enum ecg_stage stage, float *x, struct cn_error *err)
{
    double mv[ECG_PTBXL_SAMPLES], scratch[ECG_PTBXL_SAMPLES + 64];
    int64_t held = ecg_signal_mv(h, s, adc + s * h->n_samples, mv, err);
    if (held < 0) return cn_fail_prefix(err, "%s", file);
    if (held)
        cn_warn("ecg", "%s: lead %s: %lld missing samples held at the last good value", file,
                h->signal[s].name, (long long)held);
    if (stage >= ECG_FILTERED) {
        ecg_highpass(mv, ECG_PTBXL_SAMPLES, scratch);
        ecg_moving_average(mv, ECG_PTBXL_SAMPLES, ECG_PTBXL_HZ / MAINS_HZ, scratch);
    }
    for (int t = 0; t < ECG_PTBXL_SAMPLES; t++) x[t] = (float)mv[t];
    return 0;
}

int ecg_preprocess(const struct ecg_header *h, const char *file, const int16_t *adc,
                   enum ecg_stage stage, const struct ecg_norm *norm, float *x,
                   struct cn_error *err)
{
    if (h->hz != ECG_PTBXL_HZ || h->n_samples != ECG_PTBXL_SAMPLES)
        return cn_fail(err, CN_EINVALID,
                       "%s: %lld samples at %g Hz; the 12-lead nets take %d samples at %d Hz "
                       "(PTB-XL's records100)",
                       file, (long long)h->n_samples, h->hz, ECG_PTBXL_SAMPLES, ECG_PTBXL_HZ);
    for (int lead = 0; lead < ECG_PTBXL_LEADS; lead++) {
        int s = ecg_signal_find(h, ecg_lead_name[lead]);
        if (s < 0)
            return cn_fail(err, CN_EINVALID, "%s: no lead named %s among its %d signals", file,
                           ecg_lead_name[lead], h->n_signals);
        int rc = lead_to_float(h, file, s, adc, stage, x + lead * ECG_PTBXL_SAMPLES, err);
        if (rc) return rc;
    }
    if (stage == ECG_NORMALISED) ecg_normalise(x, ECG_PTBXL_LEADS, ECG_PTBXL_SAMPLES, norm);
    return 0;
}

int ecg_preprocess_file(const char *path, enum ecg_stage stage, const struct ecg_norm *norm,
                        float *x, struct cn_error *err)
{
    struct ecg_record *r;
    int rc = ecg_record_read(&r, path, err);
    if (rc) return rc;
    rc = ecg_preprocess(&r->header, r->path, r->adc, stage, norm, x, err);
    ecg_record_destroy(r);
    return rc;
}

void ecg_normalise(float *x, int leads, int samples, const struct ecg_norm *norm)
{
    for (int l = 0; l < leads; l++)
        for (int t = 0; t < samples; t++, x++) *x = (*x - norm->mean[l]) / norm->std[l];
}
