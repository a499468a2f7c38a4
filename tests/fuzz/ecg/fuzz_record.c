/* Fuzz target of whole records: up to the first 0 byte the input is a header, then two bytes say how long
 * the signal file is (every file that the header names has these bytes), then come the signal file and
 * the annotations. What is accepted is cut into beats, as infer and training do. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "ecg/beats.h"
#include "ecg/preprocess.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct input {
    const uint8_t *header, *dat, *atr;
    size_t header_n, dat_n, atr_n;
};

static int give(void *arg, const char *file, size_t limit, struct ecg_bytes *out,
                struct cn_error *err)
{
    const struct input *in = arg;
    int header = !strcmp(file, "fuzz.hea");
    out->n = header ? in->header_n : in->dat_n;
    if (out->n > limit) return cn_fail(err, CN_ELIMIT, "%s: too long", file);
    snprintf(out->path, sizeof out->path, "%s", file);
    out->data = malloc(out->n + 1);
    memcpy(out->data, header ? in->header : in->dat, out->n);
    out->data[out->n] = 0;
    return 0;
}

static void split(struct input *in, const uint8_t *data, size_t n)
{
    const uint8_t *zero = n ? memchr(data, 0, n) : NULL;
    *in = (struct input){.header = data, .header_n = zero ? (size_t)(zero - data) : n};
    size_t left = n - in->header_n;
    if (left < 3) return;
    in->dat = data + in->header_n + 3;
    in->dat_n = (size_t)(zero[1] | zero[2] << 8);
    if (in->dat_n > left - 3) in->dat_n = left - 3;
    in->atr = in->dat + in->dat_n;
    in->atr_n = left - 3 - in->dat_n;
}

static void all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) __builtin_trap();
}

static void cut_beats(const struct ecg_record *r, const struct input *in)
{
    struct ecg_annotations a;
    struct ecg_beats b;
    struct ecg_gaps gaps = {in->atr_n % 2 ? 0.2 : 0};
    struct cn_error err = {0};
    const struct ecg_timeline of = {r->header.n_samples, r->header.hz};
    if (ecg_beats_accept(&r->header, r->path, &err)) return;
    if (ecg_annotations_parse(&a, "fuzz.atr", in->atr, in->atr_n, &of, &err)) return;
    if (!ecg_beats_cut(&b, r, &a, &gaps, &err)) {
        all_finite(b.x, (size_t)b.n * ECG_BEAT_SAMPLES);
        ecg_beats_clear(&b);
    }
    ecg_annotations_clear(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static float x[ECG_PTBXL_LEADS * ECG_PTBXL_SAMPLES];
    struct ecg_record *r;
    struct cn_error err = {0};
    struct input in;
    cn_log_level(CN_SILENT);
    split(&in, data, n);
    int rc = ecg_record_load(&r, "fuzz.hea", &(struct ecg_files){give, &in}, &err);
    if (rc) {
        if (r || err.code != rc || !err.text[0]) __builtin_trap();
        return 0;
    }
    cut_beats(r, &in);
    struct ecg_prep how = {.stage = ECG_FILTERED};
    if (ecg_preprocess(r, &how, x, &err) >= 0) all_finite(x, sizeof x / sizeof *x);
    ecg_record_destroy(r);
    return 0;
}
