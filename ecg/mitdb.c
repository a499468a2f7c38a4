/* ecg/mitdb.c - see mitdb.h. */
#include "ecg/mitdb.h"

#include <math.h>
#include <string.h>

const char *const ecg_class_name[ECG_CLASSES] = {"N", "S", "V", "F", "Q"};

/* Symbols of each class, in the order of the names. ANSI/AAMI EC57; what MIT-BIH does not use (B,
 * n, r, ?) goes where WFDB's own tables put it. */
static const char *const class_symbols[ECG_CLASSES] = {"NLRejB", "AaJSn", "VEr", "F", "/fQ?"};

int ecg_beat_class(int code)
{
    const char *symbol = ecg_code_symbol(code);
    if (!symbol || !ecg_code_is_beat(code)) return -1;
    for (int c = 0; c < ECG_CLASSES; c++)
        if (strchr(class_symbols[c], symbol[0])) return c;
    return -1;
}

int ecg_beat_lead(const struct ecg_header *h, int *missing)
{
    int s = ecg_signal_find(h, "MLII");
    *missing = s < 0;
    return s < 0 ? 0 : s;
}

int ecg_beat_fits(int64_t n_samples, int64_t r)
{
    return r >= ECG_BEAT_BEFORE && r + ECG_BEAT_AFTER < n_samples;
}

int ecg_beat_cut(const double *mv, int64_t n_samples, int64_t r, float *x)
{
    if (!ecg_beat_fits(n_samples, r)) return 0;
    const double *from = mv + r - ECG_BEAT_BEFORE;
    double sum = 0, squares = 0;
    for (int t = 0; t < ECG_BEAT_SAMPLES; t++) sum += from[t];
    double mean = sum / ECG_BEAT_SAMPLES;
    for (int t = 0; t < ECG_BEAT_SAMPLES; t++) squares += (from[t] - mean) * (from[t] - mean);
    double std = sqrt(squares / ECG_BEAT_SAMPLES);
    /* a window that does not move leaves only rounding behind */
    int flat = !(std > 1e-9);
    for (int t = 0; t < ECG_BEAT_SAMPLES; t++) x[t] = flat ? 0 : (float)((from[t] - mean) / std);
    return 1;
}

static int listed(const char *const *list, const char *record)
{
    for (; *list; list++)
        if (!strcmp(*list, record)) return 1;
    return 0;
}

enum ecg_part ecg_inter_patient_part(const char *record)
{
    static const char *const train[] = {"101", "106", "108", "109", "112", "114", "115",
                                        "116", "118", "119", "122", "201", "203", "207",
                                        "208", "209", "215", "230", NULL};
    static const char *const validation[] = {"124", "205", "220", "223", NULL};
    static const char *const test[] = {"100", "103", "105", "111", "113", "117", "121", "123",
                                       "200", "202", "210", "212", "213", "214", "219", "221",
                                       "222", "228", "231", "232", "233", "234", NULL};
    if (listed(train, record)) return ECG_TRAIN;
    if (listed(validation, record)) return ECG_VALIDATION;
    return listed(test, record) ? ECG_TEST : ECG_UNUSED;
}
