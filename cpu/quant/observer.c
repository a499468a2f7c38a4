/* cpu/quant/observer.c - MinMaxObserver, PerChannelMinMaxObserver and HistogramObserver.
 *
 * Source: PyTorch 2.15, torch/ao/quantization/observer.py; the search is caffe2's NormMinimization.
 * Its results hang on single-precision rounding: the greedy search stops at the first increase of a
 * sum of 2,048 floats, so another order of summation may stop one step elsewhere and move the scale
 * by 5e-4. This file therefore keeps PyTorch's precision step by step: float32 elementwise, double
 * for cumulative sums, linspace with one fused multiply-add, and sums in the order of ATen's
 * cascade (8 lanes, 4 rows, blocks of 16). Unlike PyTorch the search never walks the bins again
 * from the start, and the floor division is exact arithmetic instead of fmod.
 */
#include "cpu/quant/observer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DST_BINS 256 /* of the quantised type, also for reduced ranges, as PyTorch */
#define UPSAMPLE 16
#define RANGE_LIMIT 1e35f /* 2048 times a value of the range must stay finite */

struct quant_histogram {
    float min, max; /* inf, -inf while empty */
    float count[QUANT_BINS];
};

struct quant_grid quant_grid_default(int is_signed, int reduce_range, enum quant_scheme scheme)
{
    struct quant_grid g = {scheme, 0, reduce_range ? 127 : 255};
    if (is_signed) {
        g.qmin = reduce_range ? -64 : -128;
        g.qmax = reduce_range ? 63 : 127;
    }
    return g;
}

struct quant_params quant_params_of(float min, float max, struct quant_grid grid)
{
    struct quant_params p = {1, 0};
    if (min > max) return p;
    const float eps = 1.1920928955078125e-07f; /* PyTorch's least scale */
    float lo = min < 0 ? min : 0, hi = max > 0 ? max : 0;
    if (grid.scheme == QUANT_SYMMETRIC) {
        float most = -lo > hi ? -lo : hi;
        p.scale = fmaxf(most / ((float)(grid.qmax - grid.qmin) / 2), eps);
        p.zero = grid.qmin < 0 ? 0 : (grid.qmin + grid.qmax + 1) / 2;
        return p;
    }
    p.scale = fmaxf((hi - lo) / (float)(grid.qmax - grid.qmin), eps);
    float zero = (float)grid.qmin - nearbyintf(lo / p.scale);
    if (zero < (float)grid.qmin) zero = (float)grid.qmin;
    if (zero > (float)grid.qmax) zero = (float)grid.qmax;
    p.zero = (int32_t)zero;
    return p;
}

int quant_range_observe(struct quant_range *r, const float *x, size_t n, struct cn_error *err)
{
    float lo = r->min, hi = r->max;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            return cn_fail(err, CN_EINVALID, "value %zu of the tensor is %s", i,
                           isnan(x[i]) ? "not a number" : "infinite");
        if (x[i] < lo) lo = x[i];
        if (x[i] > hi) hi = x[i];
    }
    r->min = lo;
    r->max = hi;
    return 0;
}

int quant_channels_observe(struct quant_range *r, const float *x, int channels, size_t n,
                           struct cn_error *err)
{
    for (int c = 0; c < channels; c++) {
        int rc = quant_range_observe(&r[c], x + (size_t)c * n, n, err);
        if (rc) return cn_fail_prefix(err, "channel %d", c);
    }
    return 0;
}

int quant_histogram_create(struct quant_histogram **out, struct cn_error *err)
{
    *out = calloc(1, sizeof **out);
    if (!*out) return cn_fail(err, CN_ENOMEM, "no memory for a histogram");
    (*out)->min = INFINITY;
    (*out)->max = -INFINITY;
    return 0;
}

void quant_histogram_destroy(struct quant_histogram *h)
{
    free(h);
}

/* torch.histc: equal bins over [min, max]; a range of no width becomes ±1 around it. Adds to
 * out[QUANT_BINS]. Infinite values are skipped. */
static void histc(const float *x, size_t n, float min, float max, uint32_t *out)
{
    if (min == max) {
        min -= 1;
        max += 1;
    }
    float width = max - min;
    for (size_t i = 0; i < n; i++) {
        if (!(x[i] >= min && x[i] <= max)) continue;
        int bin = (int)((x[i] - min) * (float)QUANT_BINS / width);
        out[bin < QUANT_BINS ? bin : QUANT_BINS - 1]++;
    }
}

/* Point i of torch.linspace(start, end, steps): from the nearer end, with one rounding. */
static float linspace(float start, float end, int steps, int i)
{
    float step = (end - start) / (float)(steps - 1);
    return i < steps / 2 ? fmaf(step, (float)i, start) : fmaf(-step, (float)(steps - 1 - i), end);
}

/* Re-bins h->count from [h->min, h->max] to [min, max] into out[QUANT_BINS]. */
static void upscale(const struct quant_histogram *h, float min, float max, float *out)
{
    const int fine = QUANT_BINS * UPSAMPLE;
    float half = 0.5f * ((h->max - h->min) / (float)fine);
    int bin = -1; /* boundaries at or below the point so far, less one */
    memset(out, 0, QUANT_BINS * sizeof *out);
    for (int i = 0; i < fine; i++) {
        float mid = linspace(h->min, h->max, fine + 1, i) + half;
        while (bin < QUANT_BINS && linspace(min, max, QUANT_BINS + 1, bin + 1) <= mid) bin++;
        int at = bin < 0 ? 0 : bin >= QUANT_BINS ? QUANT_BINS - 1 : bin;
        out[at] += h->count[i / UPSAMPLE] / (float)UPSAMPLE;
    }
}

static float sum_f32(const float *x);

/* Takes the batch's counts, made over the joint range [min, max], into the histogram. */
static void merge(struct quant_histogram *h, const float *batch, float min, float max)
{
    float old[QUANT_BINS];
    if (min == h->min && max == h->max) {
        memcpy(old, h->count, sizeof old);
    } else if (h->min == h->max) { /* one value so far: all of it goes to that value's bin */
        uint32_t one[QUANT_BINS] = {0};
        histc(&h->min, 1, min, max, one);
        float total = sum_f32(h->count);
        for (int i = 0; i < QUANT_BINS; i++) old[i] = (float)one[i] * total;
    } else {
        upscale(h, min, max, old);
    }
    for (int i = 0; i < QUANT_BINS; i++) h->count[i] = batch[i] + old[i];
    h->min = min;
    h->max = max;
}

int quant_histogram_observe(struct quant_histogram *h, const float *x, size_t n,
                            struct cn_error *err)
{
    struct quant_range r = {h->min, h->max};
    size_t finite = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(x[i]))
            return cn_fail(err, CN_EINVALID, "value %zu of the tensor is not a number", i);
        if (isinf(x[i])) continue;
        finite++;
        if (x[i] < r.min) r.min = x[i];
        if (x[i] > r.max) r.max = x[i];
    }
    if (finite == 0) return 0;
    if (r.min < -RANGE_LIMIT || r.max > RANGE_LIMIT)
        return cn_fail(err, CN_ELIMIT, "values reach from %g to %g, beyond ±%g", (double)r.min,
                       (double)r.max, (double)RANGE_LIMIT);
    uint32_t counts[QUANT_BINS] = {0};
    float batch[QUANT_BINS];
    histc(x, n, r.min, r.max, counts);
    for (int i = 0; i < QUANT_BINS; i++) batch[i] = (float)counts[i];
    if (h->min > h->max) {
        memcpy(h->count, batch, sizeof batch);
        h->min = r.min;
        h->max = r.max;
    } else {
        merge(h, batch, r.min, r.max);
    }
    return 0;
}

struct quant_range quant_histogram_range(const struct quant_histogram *h)
{
    return (struct quant_range){h->min, h->max};
}

/* Sum of 2048 floats in the order of ATen's cascade sum on 8-lane vectors: 64 blocks of 4 rows of 8
 * lanes; 16 blocks at a time go up a level. */
static float sum_f32(const float *x)
{
    float level[4][32] = {{0}};
    int block = 0;
    while (block < QUANT_BINS / 32) {
        for (int j = 0; j < 16; j++, block++)
            for (int k = 0; k < 32; k++) level[0][k] += x[block * 32 + k];
        for (int l = 1; l < 4; l++) {
            for (int k = 0; k < 32; k++) {
                level[l][k] += level[l - 1][k];
                level[l - 1][k] = 0;
            }
            if (block & (15 << (4 * l))) break;
        }
    }
    for (int l = 1; l < 4; l++)
        for (int k = 0; k < 32; k++) level[0][k] += level[l][k];
    float total = 0;
    for (int row = 1; row < 4; row++)
        for (int k = 0; k < 8; k++) level[0][k] += level[0][row * 8 + k];
    for (int k = 0; k < 8; k++) total += level[0][k];
    return total;
}

/* floor(a / b) within [0, DST_BINS - 1]; b > 0. Exact: the quotient's product fits a double. */
static float floor_div(float a, float b)
{
    float q = floorf(a / b);
    q = q < -1 ? -1 : q > DST_BINS ? DST_BINS : q;
    double rest = (double)a - (double)q * (double)b;
    q += rest < 0 ? -1.0f : rest >= (double)b ? 1.0f : 0.0f;
    return q < 0 ? 0 : q > DST_BINS - 1 ? DST_BINS - 1 : q;
}

/* Integral of x² over [begin, end] times the density. */
static float moment(float begin, float end, float density)
{
    return density * ((end * end * end - begin * begin * begin) / 3.0f);
}

/* Expected squared error when bins first..last are spread over 256 steps and the rest is clipped;
 * values are taken as uniform within their bin. */
static float quantization_error(const struct quant_histogram *h, int first, int last)
{
    double width = ((double)h->max - (double)h->min) / QUANT_BINS;
    double step = width * (last - first + 1) / DST_BINS;
    if (step == 0) return 0;
    float w = (float)width, s = (float)step, half = (float)(step / 2);
    float norm[QUANT_BINS];
    for (int i = 0; i < QUANT_BINS; i++) {
        float begin = (float)(i - first) * w, end = begin + w;
        float density = h->count[i] / w;
        float bin0 = floor_div(begin, s), bin1 = floor_div(end, s);
        float sum = moment(begin - (bin0 + 0.5f) * s, half, density);
        sum += (bin1 - bin0 - 1) * moment(-half, half, density);
        sum += moment(-half, end - (bin1 * s + half), density);
        norm[i] = sum;
    }
    return sum_f32(norm);
}

struct quant_range quant_histogram_search(const struct quant_histogram *h)
{
    const double step = 1e-5;
    if (h->min > h->max) return QUANT_RANGE_EMPTY;
    float cumulative[QUANT_BINS];
    double running = 0, total = sum_f32(h->count), alpha = 0, beta = 1;
    for (int i = 0; i < QUANT_BINS; i++) cumulative[i] = (float)(running += h->count[i]);
    int start = 0, end = QUANT_BINS - 1;
    float least = INFINITY;
    while (alpha < beta) {
        double next_alpha = alpha + step, next_beta = beta - step;
        int l = start, r = end;
        while (l < end && cumulative[l] < (float)(next_alpha * total)) l++;
        while (r > start && cumulative[r] > (float)(next_beta * total)) r--;
        int next_start = start, next_end = end;
        if (l - start > end - r) {
            next_start = l;
            alpha = next_alpha;
        } else {
            next_end = r;
            beta = next_beta;
        }
        if (next_start == start && next_end == end) continue;
        float error = quantization_error(h, next_start, next_end);
        if (error > least) break;
        least = error;
        start = next_start;
        end = next_end;
    }
    float width = (h->max - h->min) / (float)QUANT_BINS;
    return (struct quant_range){h->min + width * (float)start, h->min + width * (float)(end + 1)};
}

double quant_histogram_clipped(const struct quant_histogram *h, struct quant_range r)
{
    double out = 0, total = 0, width = ((double)h->max - (double)h->min) / QUANT_BINS;
    for (int i = 0; i < QUANT_BINS; i++) {
        double mid = (double)h->min + width * (i + 0.5);
        total += h->count[i];
        if (mid < (double)r.min || mid > (double)r.max) out += h->count[i];
    }
    return total > 0 ? out / total : 0;
}
