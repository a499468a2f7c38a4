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

static int64_t lead_to_float(const struct ecg_record *r, int s, const struct ecg_prep *how,
                             float *x, struct cn_error *err)
{
    double mv[ECG_PTBXL_SAMPLES], scratch[ECG_PTBXL_SAMPLES + 64];
    int64_t bridged = ecg_signal_whole(r, s, &how->gaps, mv, err);
    if (bridged < 0) return bridged;
    if (how->stage >= ECG_FILTERED) {
        ecg_highpass(mv, ECG_PTBXL_SAMPLES, scratch);
        ecg_moving_average(mv, ECG_PTBXL_SAMPLES, ECG_PTBXL_HZ / MAINS_HZ, scratch);
    }
    for (int t = 0; t < ECG_PTBXL_SAMPLES; t++) x[t] = (float)mv[t];
    return bridged;
}

static int find_lead(const struct ecg_record *r, const char *name, struct cn_error *err)
{
    const struct ecg_header *h = &r->header;
    int s = ecg_signal_find(h, name);
    if (s < 0)
        return cn_fail(err, CN_EINVALID, "%s: no lead named %s among its %d signals", r->path, name,
                       h->n_signals);
    if (h->signal[s].twin)
        cn_warn("ecg", "%s: several signals are named %s; taking the first, of line %d", r->path,
                name, h->signal[s].line);
    return s;
}

int64_t ecg_preprocess(const struct ecg_record *r, const struct ecg_prep *how, float *x,
                       struct cn_error *err)
{
    const struct ecg_header *h = &r->header;
    int64_t bridged = 0;
    if (h->hz != ECG_PTBXL_HZ || h->n_samples != ECG_PTBXL_SAMPLES)
        return cn_fail(err, CN_EINVALID,
                       "%s: %lld samples at %.9g Hz; the 12-lead nets take %d samples at %d Hz "
                       "(PTB-XL's records100)",
                       r->path, (long long)h->n_samples, h->hz, ECG_PTBXL_SAMPLES, ECG_PTBXL_HZ);
    for (int lead = 0; lead < ECG_PTBXL_LEADS; lead++) {
        int s = find_lead(r, ecg_lead_name[lead], err);
        if (s < 0) return s;
        int64_t n = lead_to_float(r, s, how, x + lead * ECG_PTBXL_SAMPLES, err);
        if (n < 0) return n;
        bridged += n;
    }
    if (how->stage == ECG_NORMALISED)
        ecg_normalise(x, ECG_PTBXL_LEADS, ECG_PTBXL_SAMPLES, how->norm);
    return bridged;
}

int64_t ecg_preprocess_file(const char *path, const struct ecg_prep *how, float *x,
                            struct cn_error *err)
{
    struct ecg_record *r;
    int rc = ecg_record_read(&r, path, err);
    if (rc) return rc;
    int64_t bridged = ecg_preprocess(r, how, x, err);
    ecg_record_destroy(r);
    return bridged;
}

void ecg_normalise(float *x, int leads, int samples, const struct ecg_norm *norm)
{
    for (int l = 0; l < leads; l++)
        for (int t = 0; t < samples; t++, x++) *x = (*x - norm->mean[l]) / norm->std[l];
}
