/* tests/unit/cputrain/common.h - what the CPU backend's tests share: backends of every instruction
 * set that this CPU has, arrays of reproducible random numbers, and comparisons. */
#ifndef TEST_CPUTRAIN_COMMON_H
#define TEST_CPUTRAIN_COMMON_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include "cpu/train/backend.h"

#define MAX_ISA 3

/* A backend of that kind; NULL when this CPU lacks the instruction set. Fails the test on any other
 * error. */
struct nn_backend *backend_of(const char *isa, int threads);
void backend_free(struct nn_backend *be);

/* "portable", "avx2", "avx512" as far as this CPU has them; returns how many. */
int isa_list(const char *out[MAX_ISA]);

/* n floats, uniform in [-1, 1), from Philox(seed); freed by arrays_free. Sentinels stand behind
 * them. */
float *array_random(size_t n, uint64_t seed);
float *array_filled(size_t n, float value);
/* Frees all arrays; fails when a sentinel was overwritten. */
void arrays_free(void);

/* A draw in [lo, hi]. */
int pick(uint64_t seed, int index, int lo, int hi);

/* ||got - want|| <= tol * ||want|| + tiny; prints where on failure. */
void assert_close(const char *what, const float *got, const float *want, size_t n, double tol);
void assert_same_bits(const char *what, const float *a, const float *b, size_t n);

#endif
