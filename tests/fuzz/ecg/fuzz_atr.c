/* Fuzz target of annotation files; the input's length gives the record's. */
#include <string.h>

#include "ecg/annotation.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const int64_t length[] = {0, 1000, 650000, (int64_t)1 << 40};
    struct ecg_annotations a;
    struct cn_error err = {0};
    char unknown[64];
    int64_t limit = length[n / 2 % 4];
    int rc =
        ecg_annotations_parse(&a, "fuzz.atr", data, n, &(struct ecg_timeline){limit, 360}, &err);
    if (rc) {
        if (a.of || err.code != rc || !err.text[0]) __builtin_trap();
        return 0;
    }
    unsigned sum = 0;
    for (int i = 0; i < a.n; i++) {
        const struct ecg_annotation *of = &a.of[i];
        if (of->sample < 0 || (limit && of->sample >= limit) || of->code >= ECG_CODES)
            __builtin_trap();
        if (of->at + 1 >= n) __builtin_trap();
        for (int k = 0; k < of->aux_len; k++) sum += (unsigned char)of->aux[k];
    }
    for (int c = 0; c < ECG_CODES; c++)
        if (!memchr(a.defined[c], 0, ECG_SYMBOL)) __builtin_trap();
    ecg_annotations_unknown(&a, unknown, sizeof unknown);
    if (strlen(unknown) >= sizeof unknown || (a.unknown == 0) != !unknown[0]) __builtin_trap();
    ecg_annotations_clear(&a);
    return sum == 1 ? 0 : 0;
}
