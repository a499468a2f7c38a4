/* tests/unit/cputrain/common.c - see common.h. */
#include "tests/unit/cputrain/common.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

#define MAX_ARRAYS 256
#define GUARD 16 /* sentinels behind every array */
#define SENTINEL 12345.5f

static struct {
    float *p;
    size_t n;
} arrays[MAX_ARRAYS];
static int n_arrays;

struct nn_backend *backend_of(const char *isa, int threads)
{
    struct nn_backend *be;
    struct cn_error err;
    struct cpu_train_options opt = {.threads = threads, .isa = isa};
    int rc = cpu_train_create(&be, &opt, &err);
    if (rc == CN_EUNSUPPORTED) return NULL;
    if (rc) fail_msg("cpu_train_create(%s): %s", isa, err.text);
    return be;
}

void backend_free(struct nn_backend *be)
{
    be->ops->destroy(be);
}

int isa_list(const char *out[MAX_ISA])
{
    static const char *const all[MAX_ISA] = {"portable", "avx2", "avx512"};
    int n = 0;
    for (int i = 0; i < MAX_ISA; i++) {
        struct nn_backend *be = backend_of(all[i], 1);
        if (!be) continue;
        backend_free(be);
        out[n++] = all[i];
    }
    return n;
}

static float *array_new(size_t n)
{
    assert_true(n_arrays < MAX_ARRAYS);
    float *p = aligned_alloc(64, ((n + GUARD) * sizeof *p + 63) / 64 * 64);
    assert_non_null(p);
    arrays[n_arrays].p = p;
    arrays[n_arrays++].n = n;
    for (size_t i = n; i < n + GUARD; i++) p[i] = SENTINEL;
    return p;
}

float *array_filled(size_t n, float value)
{
    float *p = array_new(n);
    for (size_t i = 0; i < n; i++) p[i] = value;
    return p;
}

float *array_random(size_t n, uint64_t seed)
{
    float *p = array_new(n);
    for (size_t i = 0; i < n; i += 4) {
        cn_rng4 r = cn_rng(seed, 1000, 0, i / 4);
        for (size_t k = i; k < i + 4 && k < n; k++) p[k] = 2 * cn_rng_uniform(r.v[k - i]) - 1;
    }
    return p;
}

void arrays_free(void)
{
    int broken = 0;
    for (int a = 0; a < n_arrays; a++) {
        for (size_t i = 0; i < GUARD; i++) broken += arrays[a].p[arrays[a].n + i] != SENTINEL;
        free(arrays[a].p);
    }
    n_arrays = 0;
    if (broken) fail_msg("a kernel wrote behind an array");
}

int pick(uint64_t seed, int index, int lo, int hi)
{
    cn_rng4 r = cn_rng(seed, 1001, 0, (uint64_t)index);
    return lo + (int)(r.v[0] % (uint32_t)(hi - lo + 1));
}

void assert_close(const char *what, const float *got, const float *want, size_t n, double tol)
{
    double diff = 0, norm = 0, worst = -1;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - want[i]);
        if (!(d <= worst)) {
            worst = d;
            at = i;
        }
        diff += d * d;
        norm += (double)want[i] * want[i];
    }
    if (!(sqrt(diff) <= tol * sqrt(norm) + 1e-30))
        fail_msg("%s: relative error %.3g > %.3g; worst at %zu of %zu: %.9g, not %.9g", what,
                 sqrt(diff / norm), tol, at, n, (double)got[at], (double)want[at]);
}

void assert_same_bits(const char *what, const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, sizeof *a))
            fail_msg("%s: bits differ at %zu of %zu: %.9g and %.9g", what, i, n, (double)a[i],
                     (double)b[i]);
}
