/* ecg/mitdb.h - beats of the MIT-BIH Arrhythmia Database: windows around the R peak, AAMI classes,
 * and the two ways to split them. */
#ifndef CINCH_ECG_MITDB_H
#define CINCH_ECG_MITDB_H

#include <stdint.h>

#include "base/error.h"
#include "ecg/annotation.h"
#include "ecg/dataset.h"
#include "ecg/wfdb.h"

#define ECG_BEAT_BEFORE 99
#define ECG_BEAT_AFTER 160
#define ECG_BEAT_SAMPLES (ECG_BEAT_BEFORE + 1 + ECG_BEAT_AFTER) /* 260 */
#define ECG_MITDB_HZ 360
#define ECG_CLASSES 5

extern const char *const ecg_class_name[ECG_CLASSES]; /* N S V F Q */

/* ANSI/AAMI EC57 class of an annotation code: 0-4, or -1 when it is no beat. */
int ecg_beat_class(int code);

/* The signal that beats are taken from: MLII, else the record's first, which *missing tells. */
int ecg_beat_lead(const struct ecg_header *h, int *missing);

/* Whether the window around sample `r` lies inside a record of `n_samples`. */
int ecg_beat_fits(int64_t n_samples, int64_t r);

/* One beat, z-scored by itself: x [260] from mV [n_samples] around sample `r`; 0 when the window
 * does not fit into the record, else 1. A flat window gives zeros. */
int ecg_beat_cut(const double *mv, int64_t n_samples, int64_t r, float *x);

/* Part of a record in the inter-patient split of de Chazal, O'Dwyer, Reilly 2004: DS1 trains (four
 * of its records, 124, 205, 220 and 223, validate), DS2 tests, everything else is unused: the paced
 * 102, 104, 107 and 217, and records that are not in the database. */
enum ecg_part ecg_inter_patient_part(const char *record);

#endif
