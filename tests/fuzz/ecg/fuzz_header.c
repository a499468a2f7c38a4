/* Fuzz target of WFDB headers and samples: up to the first 0 byte the input is a header, what follows
 * is the signal file. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "ecg/signal.h"
#include "ecg/wfdb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define FEW 100000 /* samples in all: keeps the memory small */

/* The signals of the first file, all of them: nothing but finite voltages and gaps comes out. */
static void decode(struct ecg_record *r, int count, const struct ecg_dat *dat)
{
    struct cn_error err = {0};
    struct ecg_gaps gaps = {0.2};
    const struct ecg_header *h = &r->header;
    r->adc = malloc((size_t)h->n_samples * (size_t)count * sizeof *r->adc);
    double *mv = malloc((size_t)h->n_samples * sizeof *mv);
    bool sound = !ecg_dat_decode(h, 0, count, dat, r->adc, &err);
    for (int s = 0; sound && s < count; s++) {
        int64_t missing = ecg_signal_mv(r, s, mv, &err), seen = 0;
        for (int64_t t = 0; missing >= 0 && t < h->n_samples; t++) {
            if (isinf(mv[t]) || isnan(mv[t]) != (r->adc[s * h->n_samples + t] == ECG_MISSING))
                __builtin_trap();
            seen += isnan(mv[t]) != 0;
        }
        if (missing >= 0 && seen != missing) __builtin_trap();
        int64_t bridged = ecg_signal_whole(r, s, &gaps, mv, &err);
        for (int64_t t = 0; bridged >= 0 && t < h->n_samples; t++)
            if (!isfinite(mv[t])) __builtin_trap();
    }
    free(mv);
    free(r->adc);
}

static void check_header(const struct ecg_header *h)
{
    if (h->n_signals < 1 || h->n_signals > ECG_MAX_SIGNALS || !(h->hz > 0)) __builtin_trap();
    if (!cn_text_clean(h->record, sizeof h->record)) __builtin_trap();
    for (int s = 0; s < h->n_signals; s++) {
        const struct ecg_signal *sig = &h->signal[s];
        if (strchr(sig->file, '/') || !isfinite(sig->gain) || sig->gain == 0 || !sig->name[0] ||
            !ecg_format_known(sig->format) || !cn_text_clean(sig->name, sizeof sig->name) ||
            !cn_text_clean(sig->units, sizeof sig->units))
            __builtin_trap();
        for (int k = 0; k < s; k++)
            if (!strcmp(sig->name, h->signal[k].name)) __builtin_trap();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct ecg_record r;
    struct cn_error err = {0};
    const uint8_t *zero = n ? memchr(data, 0, n) : NULL;
    size_t text = zero ? (size_t)(zero - data) : n;
    struct ecg_header *h = &r.header;
    cn_log_level(CN_SILENT);
    int rc = ecg_header_parse(h, "fuzz.hea", (const char *)data, text, &err);
    if (rc) {
        if (err.code != rc || !err.text[0]) __builtin_trap();
        return 0;
    }
    check_header(h);
    if (!zero) return 0;
    struct ecg_dat dat = {"fuzz.dat", zero + 1, n - text - 1};
    int count = 1;
    while (count < h->n_signals && !strcmp(h->signal[count].file, h->signal[0].file)) count++;
    int64_t there = ecg_dat_length(h, 0, count, &dat, &err);
    if (!h->n_samples && there > 0) h->n_samples = there;
    if (h->n_samples > 0 && h->n_samples * count <= FEW) decode(&r, count, &dat);
    return 0;
}
