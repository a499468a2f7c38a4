/* tests/gpu/pair.h - the CPU's reference backend and the GPU plugin side by side: buffers that
 * exist on both, and their comparison. */
#ifndef CINCH_TESTS_GPU_PAIR_H
#define CINCH_TESTS_GPU_PAIR_H

#include <stddef.h>

#include "gpu/gpu.h"
#include "nn/backend.h"

enum { CPU, GPU, BOTH };

struct pair_buf {
    size_t n; /* floats */
    void *dev[BOTH];
};

extern struct nn_backend *pair_be[BOTH];
extern int (*pair_gpu_create)(struct nn_backend **, const struct cinch_gpu_options *,
                              struct cn_error *);
extern int (*pair_gpu_describe)(int, struct cinch_gpu_info *, struct cn_error *);

/* Loads the plugin and makes both backends. 0, or 77 (with a line on stderr) when there is no
 * plugin or no device. */
int pair_open(void);
void pair_close(void); /* frees every buffer too */

/* n floats on both sides, equal: uniform in [lo, hi), or NaN when lo > hi (memory that an op must
 * write). */
struct pair_buf pair_new(size_t n, float lo, float hi);
struct pair_buf pair_from(const void *data, size_t bytes);
void pair_release_all(void);

#define AT(buf, i) ((float *)(buf).dev[i])

/* The largest |cpu - gpu| over the largest |cpu|; a NaN on one side alone counts as 1e30. */
double pair_difference(struct pair_buf b);

/* Fails the test, naming op and place, when it is over `bound`. */
void pair_equal(const char *what, struct pair_buf b, double bound);
void pair_ok(int rc, int i, const char *what);

#endif
