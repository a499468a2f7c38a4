/* bench/quant/bench_observer.c - speed of the histogram observer: 128 batches of 64 channels by 1,000 steps, as a convolution
 * behind a ReLU gives them, their range growing slowly; observed and searched, as calibration does. Beside PyTorch's
 * HistogramObserver (observer_peer.py, one thread) when a Python that has torch is named; processor time on both sides, the
 * least of three rounds that take turns.
 *
 * usage: bench_observer [PYTHON]      (or CINCH_PYTHON)
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cpu/quant/observer.h"

#define BATCHES 128
#define VALUES (64 * 1000)
#define ROUNDS 3

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Half of the values 0, the rest decaying; the range of batch b is 1 + b / 64 times the first's. */
static void fill(float *x, int b)
{
    static uint32_t state = 1;
    for (int i = 0; i < VALUES; i++) {
        state = state * 1664525u + 1013904223u;
        float u = (float)(state >> 8) * 0x1p-24f;
        x[i] = u < 0.5f ? 0 : -logf(2 - 2 * u + 1e-7f) * (1 + (float)b / 64);
    }
}

/* Seconds to observe all batches and search once; *range keeps the work alive. */
static double observe(const float *x, struct quant_range *range)
{
    struct quant_histogram *h;
    if (quant_histogram_create(&h, NULL)) return NAN;
    double start = cpu_seconds();
    for (int b = 0; b < BATCHES; b++)
        quant_histogram_observe(h, x + (size_t)b * VALUES, VALUES, NULL);
    *range = quant_histogram_search(h);
    double took = cpu_seconds() - start;
    quant_histogram_destroy(h);
    return took;
}

static double peer(const char *python)
{
    char line[512];
    double took = NAN;
    snprintf(line, sizeof line, "'%s' '%s/bench/quant/observer_peer.py' %d %d", python,
             CINCH_SOURCE_DIR, BATCHES, VALUES);
    FILE *f = popen(line, "r");
    if (!f || fscanf(f, "%lf", &took) != 1) took = NAN;
    if (f) pclose(f);
    return took;
}

int main(int argc, char **argv)
{
    const char *python = argc > 1 ? argv[1] : getenv("CINCH_PYTHON");
    float *x = malloc(sizeof *x * BATCHES * VALUES);
    struct quant_range range;
    double ours = INFINITY, theirs = INFINITY;
    if (!x) return 1;
    for (int b = 0; b < BATCHES; b++) fill(x + (size_t)b * VALUES, b);
    for (int r = 0; r < ROUNDS; r++) {
        ours = fmin(ours, observe(x, &range));
        if (python) theirs = fmin(theirs, peer(python));
    }
    printf("cinch    %7.1f ms, %.2f ns a value (covers %.3f .. %.3f)\n", ours * 1e3,
           ours * 1e9 / BATCHES / VALUES, (double)range.min, (double)range.max);
    if (!python)
        puts("PyTorch not measured: name a Python that has torch");
    else if (isinf(theirs))
        puts("PyTorch not measured: observer_peer.py does not run");
    else
        printf("PyTorch  %7.1f ms, cinch / PyTorch %.2f\n", theirs * 1e3, ours / theirs);
    free(x);
    return 0;
}
