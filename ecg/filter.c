/* ecg/filter.c - zero-phase filtering; see filter.h.
 *
 * Each filter runs over the signal extended at both ends by its point reflection (2 x[0] - x[k]),
 * forward, then backward, each time starting from the state that a constant input would have left;
 * then the extensions are cut off. Method: F. Gustafsson, "Determining the initial states in
 * forward-backward filtering", IEEE Trans. Signal Processing 44(4), 1996, in the form SciPy gives
 * it.
 *
 * The high-pass coefficients are constants and not computed here, because the last bit of tan()
 * differs between C libraries and every machine must build the same cache. tests/unit/ecg derives
 * them again from the Butterworth polynomial.
 */
#include "ecg/filter.h"

#include <assert.h>
#include <string.h>

/* One second-order section: y = b0 x + b1 x1 + b2 x2 - a1 y1 - a2 y2. */
struct section {
    double b[3], a[2];
};

/* 5th-order Butterworth high-pass, 0.5 Hz at 100 Hz; a first-order section, then two pairs. */
#define SECTIONS 3
static const struct section highpass[SECTIONS] = {
    {{0x1.e69f86c0b294dp-1, -0x1.e69f86c0b294dp-1, 0x0.0p+0}, {-0x1.f0299ac0eedd1p-1, 0x0.0p+0}},
    {{0x1.0000000000000p+0, -0x1.0000000000000p+1, 0x1.0000000000000p+0},
     {-0x1.f310b09fbec75p+0, 0x1.e69f86c8821fcp-1}},
    {{0x1.0000000000000p+0, -0x1.0000000000000p+1, 0x1.0000000000000p+0},
     {-0x1.fad3ee5566cbcp+0, 0x1.f627f88250195p-1}},
};

/* SciPy's padding: 3 * (2 * sections + 1 - sections of first order). */
#define HIGHPASS_PAD 18

/* The state in which a section answers a constant input of 1 with its steady output: transposed
 * direct form II, z0 = g - b0, z1 = b2 - a2 g with the gain g at 0 Hz. */
static double steady_state(const struct section *s, double z[2])
{
    double gain = (s->b[0] + s->b[1] + s->b[2]) / (1 + s->a[0] + s->a[1]);
    z[0] = gain - s->b[0];
    z[1] = s->b[2] - s->a[1] * gain;
    return gain;
}

static void reflect_ends(const double *x, int n, int pad, double *ext)
{
    for (int i = 0; i < pad; i++) {
        ext[i] = 2 * x[0] - x[pad - i];
        ext[pad + n + i] = 2 * x[n - 1] - x[n - 2 - i];
    }
    memcpy(ext + pad, x, (size_t)n * sizeof *x);
}

/* Runs the cascade over x [n] in steps of `step` (1 forward from the first, -1 backward from the
 * last). */
static void cascade(double *x, int n, int step)
{
    double z[SECTIONS][2], level = step > 0 ? x[0] : x[n - 1];
    for (int s = 0; s < SECTIONS; s++) {
        double gain = steady_state(&highpass[s], z[s]);
        z[s][0] *= level;
        z[s][1] *= level;
        level *= gain;
    }
    for (int i = 0, at = step > 0 ? 0 : n - 1; i < n; i++, at += step) {
        double v = x[at];
        for (int s = 0; s < SECTIONS; s++) {
            const struct section *f = &highpass[s];
            double y = f->b[0] * v + z[s][0];
            z[s][0] = f->b[1] * v - f->a[0] * y + z[s][1];
            z[s][1] = f->b[2] * v - f->a[1] * y;
            v = y;
        }
        x[at] = v;
    }
}

void ecg_highpass(double *x, int n, double *scratch)
{
    assert(n >= ECG_FILTER_MIN);
    reflect_ends(x, n, HIGHPASS_PAD, scratch);
    cascade(scratch, n + 2 * HIGHPASS_PAD, 1);
    cascade(scratch, n + 2 * HIGHPASS_PAD, -1);
    memcpy(x, scratch + HIGHPASS_PAD, (size_t)n * sizeof *x);
}

/* y[i] = mean of x[i], x[i-1], .. x[i-width+1], where what lies before the first is taken as the
 * first; in place. */
static void mean_backwards(double *x, int n, int width, int step)
{
    double *last = step > 0 ? x + n - 1 : x; /* the sample that is filtered first */
    for (int i = n - 1; i >= 0; i--, last -= step) {
        double sum = 0;
        for (int k = 0; k < width; k++) sum += last[-step * (k < i ? k : i)];
        *last = sum / width;
    }
}

void ecg_moving_average(double *x, int n, int width, double *scratch)
{
    int pad = 3 * width;
    assert(n >= ECG_FILTER_MIN && width >= 1 && pad < n);
    reflect_ends(x, n, pad, scratch);
    mean_backwards(scratch, n + 2 * pad, width, 1);
    mean_backwards(scratch, n + 2 * pad, width, -1);
    memcpy(x, scratch + pad, (size_t)n * sizeof *x);
}
