/* ecg/filter.h - the two zero-phase filters of the 100 Hz ECG: a 5th-order Butterworth high-pass at
 * 0.5 Hz against baseline wander, and a moving average one 50 Hz mains period wide. Both equal
 * SciPy's `sosfiltfilt` and `filtfilt` with their default odd extension. */
#ifndef CINCH_ECG_FILTER_H
#define CINCH_ECG_FILTER_H

/* Shortest signal both accept, in samples (longer than their extension). */
#define ECG_FILTER_MIN 32

/* x [n], sampled at 100 Hz, is filtered in place; scratch [n + 36]. n ≥ ECG_FILTER_MIN. */
void ecg_highpass(double *x, int n, double *scratch);

/* x [n] in place; width in samples (2 at 100 Hz), 1 ≤ width ≤ n / 4; scratch [n + 6 * width]. */
void ecg_moving_average(double *x, int n, int width, double *scratch);

#endif
