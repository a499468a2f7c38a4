/* ecg/annotation.c - reading MIT-format annotation files; see annotation.h.
 *
 * The file is a row of 16-bit little-endian words, code << 10 | interval. A code from 0 to 49 is an
 * annotation, `interval` samples after the one before. The others belong to the format:
 *     59 SKIP  the next four bytes are a 32-bit interval, high word first, that is added to the
 * time 60 NUM   `interval` becomes the number of this annotation and of those that follow 61 SUB
 * `interval` is the subtype of the annotation before 62 CHN   `interval` becomes the channel of
 * this annotation and of those that follow 63 AUX   `interval` bytes of text follow for the
 * annotation before, padded to an even count SKIP stands before its annotation, the other four
 * after it. A word of 0 ends the file.
 */
#define _GNU_SOURCE
#include "ecg/annotation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define FILE_LIMIT ((size_t)64 << 20)

enum { SKIP = 59, NUM = 60, SUB = 61, CHN = 62, AUX = 63 };

/* WFDB's codes (ecgcodes.h); beats are marked. */
static const struct {
    const char *symbol;
    int beat;
} codes[ECG_CODES] = {
    [0] = {" ", 0},   [1] = {"N", 1},  [2] = {"L", 1},  [3] = {"R", 1},  [4] = {"a", 1},
    [5] = {"V", 1},   [6] = {"F", 1},  [7] = {"J", 1},  [8] = {"A", 1},  [9] = {"S", 1},
    [10] = {"E", 1},  [11] = {"j", 1}, [12] = {"/", 1}, [13] = {"Q", 1}, [14] = {"~", 0},
    [16] = {"|", 0},  [18] = {"s", 0}, [19] = {"T", 0}, [20] = {"*", 0}, [21] = {"D", 0},
    [22] = {"\"", 0}, [23] = {"=", 0}, [24] = {"p", 0}, [25] = {"B", 1}, [26] = {"^", 0},
    [27] = {"t", 0},  [28] = {"+", 0}, [29] = {"u", 0}, [30] = {"?", 1}, [31] = {"!", 0},
    [32] = {"[", 0},  [33] = {"]", 0}, [34] = {"e", 1}, [35] = {"n", 1}, [36] = {"@", 0},
    [37] = {"x", 0},  [38] = {"f", 1}, [39] = {"(", 0}, [40] = {")", 0}, [41] = {"r", 1},
};

const char *ecg_code_symbol(int code)
{
    return code >= 0 && code < ECG_CODES ? codes[code].symbol : NULL;
}

int ecg_code_is_beat(int code)
{
    return code >= 0 && code < ECG_CODES && codes[code].beat;
}

/* --- parsing --------------------------------------------------------------------------------- */

struct reader {
    const char *file;
    const uint8_t *data;
    size_t n, at;
    int64_t time, n_samples;
    uint8_t channel;
    int8_t number;
    int cap;
};

static int truncated(const struct reader *r, struct cn_error *err, const char *where)
{
    return cn_fail(err, CN_ECORRUPT, "%s: truncated: ends %s after %zu bytes; fetch it again",
                   r->file, where, r->n);
}

static unsigned word_at(const struct reader *r, size_t at)
{
    return r->data[at] | (unsigned)r->data[at + 1] << 8;
}

static int skip_time(struct reader *r, struct cn_error *err)
{
    if (r->n - r->at < 4) return truncated(r, err, "within a SKIP");
    uint32_t v = (uint32_t)word_at(r, r->at) << 16 | word_at(r, r->at + 2);
    r->time += (int32_t)v;
    r->at += 4;
    return 0;
}

static int add(struct ecg_annotations *a, struct reader *r, unsigned code, size_t at,
               struct cn_error *err)
{
    if (r->time < 0 || (r->n_samples > 0 && r->time >= r->n_samples))
        return cn_fail(err, CN_ECORRUPT,
                       "%s: byte %zu: annotation %d stands at sample %lld, but the record has %lld "
                       "samples",
                       r->file, at, a->n, (long long)r->time, (long long)r->n_samples);
    if (a->n == r->cap) {
        int more = r->cap ? r->cap * 2 : 1024;
        void *grown = realloc(a->of, (size_t)more * sizeof *a->of);
        if (!grown) return cn_fail(err, CN_ENOMEM, "%s: out of memory", r->file);
        a->of = grown;
        r->cap = more;
    }
    a->of[a->n++] = (struct ecg_annotation){
        .sample = r->time, .code = (uint8_t)code, .channel = r->channel, .number = r->number};
    return 0;
}

/* A word that says more about the annotation before it. */
static int modify(struct ecg_annotations *a, struct reader *r, unsigned code, unsigned value,
                  struct cn_error *err)
{
    if (!a->n)
        return cn_fail(err, CN_ECORRUPT, "%s: byte %zu: a modifier before the first annotation",
                       r->file, r->at - 2);
    struct ecg_annotation *last = &a->of[a->n - 1];
    if (code == NUM) {
        last->number = r->number = (int8_t)value;
    } else if (code == SUB) {
        last->subtype = (int8_t)value;
    } else if (code == CHN) {
        last->channel = r->channel = (uint8_t)value;
    } else {
        size_t padded = (value + 1) & ~(size_t)1;
        if (r->n - r->at < padded) return truncated(r, err, "within an auxiliary string");
        if (value > 255)
            return cn_fail(err, CN_ECORRUPT, "%s: byte %zu: an auxiliary string of %u bytes",
                           r->file, r->at - 2, value);
        last->aux = (const char *)r->data + r->at;
        last->aux_len = (uint8_t)value;
        r->at += padded;
    }
    return 0;
}

static int parse(struct ecg_annotations *a, struct reader *r, struct cn_error *err)
{
    for (int rc = 0; !rc;) {
        if (r->n - r->at < 2) return truncated(r, err, "without the end mark");
        size_t at = r->at;
        unsigned word = word_at(r, at), code = word >> 10, value = word & 1023;
        r->at += 2;
        if (!word) break;
        if (code == SKIP) {
            rc = skip_time(r, err);
        } else if (code >= NUM) {
            rc = modify(a, r, code, value, err);
        } else if (code < ECG_CODES) {
            r->time += value;
            rc = add(a, r, code, at, err);
        } else {
            rc = cn_fail(err, CN_ECORRUPT, "%s: byte %zu: %u is no annotation code", r->file, at,
                         code);
        }
        if (rc) return rc;
    }
    return 0;
}

int ecg_annotations_parse(struct ecg_annotations *a, const char *file, const uint8_t *data,
                          size_t n, int64_t n_samples, struct cn_error *err)
{
    struct reader r = {.file = file, .data = data, .n = n, .n_samples = n_samples};
    memset(a, 0, sizeof *a);
    int rc = parse(a, &r, err);
    if (rc) {
        ecg_annotations_clear(a);
        return rc;
    }
    for (int i = 0; i < a->n; i++) {
        a->count[a->of[i].code]++;
        a->unknown += !codes[a->of[i].code].symbol;
    }
    return 0;
}

int ecg_annotations_read(struct ecg_annotations *a, const char *path, int64_t n_samples,
                         struct cn_error *err)
{
    char *data;
    size_t n = 0;
    memset(a, 0, sizeof *a);
    int rc = cn_file_read(path, FILE_LIMIT, &data, &n, err);
    if (rc) return rc;
    rc = ecg_annotations_parse(a, path, (const uint8_t *)data, n, n_samples, err);
    if (rc)
        free(data);
    else
        a->data = data;
    return rc;
}

void ecg_annotations_clear(struct ecg_annotations *a)
{
    free(a->of);
    free(a->data);
    memset(a, 0, sizeof *a);
}

void ecg_annotations_unknown(const struct ecg_annotations *a, char *out, size_t cap)
{
    size_t used = 0;
    out[0] = 0;
    for (int c = 0; c < ECG_CODES; c++) {
        if (codes[c].symbol || !a->count[c]) continue;
        int put = snprintf(out + used, cap - used, "%scode %d (%d times)", used ? ", " : "", c,
                           a->count[c]);
        used += put > 0 ? (size_t)put : 0;
        if (used >= cap) return;
    }
}
