/* tests/unit/rt/rt_make.h - writes .cinch files with random weights, for tests and benchmarks of
 * the runtime. Weights and multipliers are drawn so that activations fill their ranges, now and
 * then saturating.
 */
#ifndef CINCH_TESTS_RT_MAKE_H
#define CINCH_TESTS_RT_MAKE_H

#include "cpu/rt/format.h"

struct rt_make {
    uint64_t seed; /* the generator's state */
    uint64_t seed_of_file;
    int qmax; /* 255 or 127 */
    struct cinchrt_file_header h;
    struct cinchrt_file_layer layer[CINCHRT_MAX_LAYERS];
    uint8_t *block[CINCHRT_MAX_LAYERS]; /* owned */
    size_t bytes[CINCHRT_MAX_LAYERS];
    uint32_t time[CINCHRT_MAX_LAYERS]; /* of the layer's output */
};

/* The generator, for tests that need more of it. */
uint32_t rt_make_random(struct rt_make *k);
double rt_make_uniform(struct rt_make *k, double lo, double hi);

void rt_make_begin(struct rt_make *k, uint64_t seed, int leads, int samples, int labels);

/* Appends a layer and draws its data. Fields left 0 in `f` that the op needs (zero, qmax, scale,
 * cin, cin1) are filled in; in1 must be CINCHRT_NO_INPUT or a layer. Returns the layer's index. */
int rt_make_layer(struct rt_make *k, struct cinchrt_file_layer f);

/* The whole file; the caller frees it. */
uint8_t *rt_make_end(struct rt_make *k, size_t *n);

/* A zoo net ("rnn", "cnn", "resnet", "beat") at these widths (NULL: full), kind enum cinchrt_kind.
 */
uint8_t *rt_make_net(const char *net, int kind, const int *widths, int qmax, uint64_t seed,
                     size_t *n);

/* Sets this share of the weights of every layer of a plain file to zero, in place. */
void rt_make_zeros(uint8_t *file, size_t n, double share, uint64_t seed);

/* The same net with its layers stored sparse where that is smaller; the caller frees it. */
uint8_t *rt_make_sparse(const uint8_t *file, size_t n, size_t *sparse_n);

/* Makes the CRC right again. */
void rt_make_seal(uint8_t *file, size_t n);

/* Fills x with n values that look like a normalised ECG: smooth, with peaks. */
void rt_make_signal(uint64_t seed, float *x, int leads, int samples);

#endif
