/* Fuzz target of cache files. The input is a cache file without the zeros that fill its header (bytes
 * 392 to 4095), so that mutations hit what matters. It is tried as it is, and with its hashes put
 * right. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ecg/cache.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define USED 392
#define HEADER 4096

static void use(const struct ecg_dataset *d)
{
    struct cn_error err = {0};
    uint32_t *idx;
    int count = 0, n;
    float weight[ECG_MAX_LABELS];
    volatile float last = d->x[(size_t)d->n * (size_t)d->n_leads * (size_t)d->n_samples - 1];
    (void)last;
    for (int part = ECG_TRAIN; part <= ECG_UNUSED; part++) {
        if (ecg_dataset_part(d, (enum ecg_part)part, &idx, &n, &err)) __builtin_trap();
        count += n;
        free(idx);
        ecg_dataset_class_weights(d, (enum ecg_part)part, weight);
        for (int l = 0; l < ECG_MAX_LABELS; l++)
            if (!isfinite(weight[l]) || weight[l] < 0) __builtin_trap();
    }
    if (count != d->n || strlen(d->name) >= sizeof d->name) __builtin_trap();
    for (int i = 0; i < d->n; i++)
        if (strlen(d->id[i]) >= sizeof d->id[i]) __builtin_trap();
}

static void check(const uint8_t *file, size_t n)
{
    struct ecg_dataset d;
    struct cn_error err = {0};
    int rc = ecg_cache_check(&d, "fuzz.ecg", file, n, &err);
    if (!rc)
        use(&d);
    else if (err.code != rc || !err.text[0])
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    size_t all = n < USED ? n : n - USED + HEADER;
    uint8_t *file = calloc(1, all ? all : 1);
    memcpy(file, data, n < USED ? n : USED);
    if (n > USED) memcpy(file + HEADER, data + USED, n - USED);
    check(file, all);
    ecg_cache_seal(file, all);
    check(file, all);
    free(file);
    return 0;
}
