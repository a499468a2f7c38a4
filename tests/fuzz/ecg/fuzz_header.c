/* Fuzz target of WFDB headers and samples: up to the first 0 byte the input is a header, what follows
 * is the signal file. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ecg/wfdb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define FEW 100000 /* samples in all: keeps the memory small */

static void decode(const struct ecg_header *h, const uint8_t *data, size_t n)
{
    struct cn_error err = {0};
    struct ecg_dat dat = {"fuzz.dat", data, n};
    size_t all = (size_t)h->n_samples * (size_t)h->n_signals;
    int16_t *adc = malloc(all * sizeof *adc);
    double *mv = malloc((size_t)h->n_samples * sizeof *mv);
    if (!ecg_dat_decode(h, 0, h->n_signals, &dat, adc, &err))
        for (int s = 0; s < h->n_signals; s++) {
            int64_t held = ecg_signal_mv(h, s, adc + s * h->n_samples, mv, &err);
            if (held > h->n_samples) __builtin_trap();
            for (int64_t t = 0; held >= 0 && t < h->n_samples; t++)
                if (isnan(mv[t])) __builtin_trap();
        }
    free(mv);
    free(adc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct ecg_header h;
    struct cn_error err = {0};
    const uint8_t *zero = n ? memchr(data, 0, n) : NULL;
    size_t text = zero ? (size_t)(zero - data) : n;
    int rc = ecg_header_parse(&h, "fuzz.hea", (const char *)data, text, &err);
    if (rc) {
        if (err.code != rc || !err.text[0]) __builtin_trap();
        return 0;
    }
    if (h.n_signals < 1 || h.n_signals > ECG_MAX_SIGNALS || !(h.hz > 0)) __builtin_trap();
    for (int s = 0; s < h.n_signals; s++)
        if (strchr(h.signal[s].file, '/') || h.signal[s].gain == 0) __builtin_trap();
    if (zero && h.n_samples > 0 && h.n_samples * h.n_signals <= FEW)
        decode(&h, zero + 1, n - text - 1);
    return 0;
}
