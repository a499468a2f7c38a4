/* ecg/signal.h - from the converter's units to millivolts, and what becomes of samples that are
 * missing. Everything that trains on, infers from, verifies or shows a record comes through here. */
#ifndef CINCH_ECG_SIGNAL_H
#define CINCH_ECG_SIGNAL_H

#include <stdint.h>

#include "base/error.h"
#include "ecg/wfdb.h"

/* Voltages beyond this are no ECG, and sums of their squares would leave float32. */
#define ECG_MAX_MV 1e6

/* What `--gaps interpolate` bridges unless it says how much, in seconds. */
#define ECG_GAP_DEFAULT 0.2
#define ECG_GAP_MOST 10.0

/* How missing samples are met. */
struct ecg_gaps {
    double bridge; /* seconds: shorter gaps are bridged by a straight line; 0: none is, and a record
                      that lacks a sample is refused */
};

/* Reads "refuse", "interpolate" or "interpolate:SECONDS" (NULL: refuse). CN_EINVALID. */
int ecg_gaps_parse(struct ecg_gaps *g, const char *text, struct cn_error *err);

/* Signal `s` of a record in mV, out [n_samples]; missing samples are NaN. Returns how many are
 * missing. CN_EUNSUPPORTED when the unit is not a voltage (V with the prefixes n, u or a micro sign,
 * m, k), CN_EINVALID for a voltage beyond ECG_MAX_MV; both name file, line, record and signal.
 * A signal that is not calibrated is told once, as a warning. */
int64_t ecg_signal_mv(const struct ecg_record *r, int s, double *out, struct cn_error *err);

/* The same without a gap: short ones are bridged as `g` says, with a warning that counts them;
 * CN_EINVALID when one remains, naming the record, the signal, how many samples are missing, where
 * the first is and how to go on. Returns how many samples were bridged. */
int64_t ecg_signal_whole(const struct ecg_record *r, int s, const struct ecg_gaps *g, double *out,
                         struct cn_error *err);

#endif
