/* cpu/quant/observer.h - what range of real values an 8-bit tensor should cover.
 *
 * Observers watch tensors batch by batch and then name a scale and a zero point: q = round(x/scale)
 * + zero. They agree with PyTorch 2.15 (torch/ao/quantization/observer.py) in the zero point
 * exactly and in the scale to the last bit on every golden case (tests/golden/quant).
 */
#ifndef CINCH_CPU_QUANT_OBSERVER_H
#define CINCH_CPU_QUANT_OBSERVER_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define QUANT_BINS 2048

enum quant_scheme {
    QUANT_AFFINE,    /* any zero point: activations */
    QUANT_SYMMETRIC, /* zero point 0 (128 for unsigned): weights */
};

/* The integers to map to. */
struct quant_grid {
    enum quant_scheme scheme;
    int qmin, qmax; /* qmin < 0 means a signed type */
};

/* PyTorch's defaults: quint8 [0, 255], reduced [0, 127]; qint8 [-128, 127], reduced [-64, 63]. */
struct quant_grid quant_grid_default(int is_signed, int reduce_range, enum quant_scheme scheme);

struct quant_params {
    float scale; /* > 0 */
    int32_t zero;
};

/* Scale and zero point of a range; the range is widened to hold zero. min > max (nothing was seen)
 * gives 1 and 0. Both must be finite otherwise. */
struct quant_params quant_params_of(float min, float max, struct quant_grid grid);

/* MinMaxObserver, and one cell of PerChannelMinMaxObserver. Start with QUANT_RANGE_EMPTY. */
struct quant_range {
    float min, max;
};
#define QUANT_RANGE_EMPTY ((struct quant_range){INFINITY, -INFINITY})

/* Widens *r by x[n]. CN_EINVALID (with the index) when a value is NaN or infinite; *r is unchanged
 * then. */
int quant_range_observe(struct quant_range *r, const float *x, size_t n, struct cn_error *err);

/* r[channels]; x: [channels, n], one range each. */
int quant_channels_observe(struct quant_range *r, const float *x, int channels, size_t n,
                           struct cn_error *err);

/* HistogramObserver: 2048 bins over the range seen so far; when a batch widens the range the old
 * counts are spread 16-fold and re-binned. */
struct quant_histogram;
int quant_histogram_create(struct quant_histogram **out, struct cn_error *err);
void quant_histogram_destroy(struct quant_histogram *h); /* accepts NULL */

/* One batch x[n]; n = 0 changes nothing. Infinite values are left out, as PyTorch does; NaN is
 * CN_EINVALID, a range beyond 1e35 CN_ELIMIT; *h is unchanged then. */
int quant_histogram_observe(struct quant_histogram *h, const float *x, size_t n,
                            struct cn_error *err);

struct quant_range quant_histogram_range(const struct quant_histogram *h);

/* The range whose 256-step quantisation has the least expected squared error, by PyTorch's greedy
 * search from both ends. Empty while nothing was seen. */
struct quant_range quant_histogram_search(const struct quant_histogram *h);

/* Share of the observed values outside [r.min, r.max], 0..1, counted in whole bins. */
double quant_histogram_clipped(const struct quant_histogram *h, struct quant_range r);

#endif
