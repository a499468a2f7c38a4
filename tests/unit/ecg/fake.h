/* Small made-up datasets in temporary folders, and the checks that all tests of ecg/ share. */
#ifndef TESTS_UNIT_ECG_FAKE_H
#define TESTS_UNIT_ECG_FAKE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"

/* The call must succeed, or fail with this code and a text that holds `part`. */
void must(int rc, const struct cn_error *err);
void must_fail(int rc, int code, const struct cn_error *err, const char *part);

/* An empty folder of this test program, BUILD/tests/ecg-PID/NAME; the same buffer each call with the
 * same name is not kept: copy it. */
void fake_folder(char out[256], const char *name);
void fake_clear(void); /* removes all of them */

void fake_write(const char *path, const void *data, size_t n);
void fake_text(const char *dir, const char *file, const char *text);
void fake_replace(const char *path, const char *from, const char *to); /* `from` must be there */

void fake_flip(const char *path, long at); /* the low bit of one byte */

/* A PTB-XL folder of n records in folds 1, 2, .. 10, 1, ..; record i has the labels of code i % 6:
 * NORM, IMI, IRBBB, LVH, NDT, SR (none). Odd headers have CR LF. */
void fake_ptbxl(const char *dir, int n);
int16_t fake_sample(int record, int lead, int t); /* what lies in the .dat */

/* A MIT-BIH record of `n` samples in format 212 with two leads named a and b, and annotations at
 * 200, 500, 800, .. whose codes are taken in turn from `codes`. */
void fake_beats(const char *dir, const char *record, int n, const char *a, const char *b,
                const char *codes);
int16_t fake_beat_sample(int lead, int t);

#endif
