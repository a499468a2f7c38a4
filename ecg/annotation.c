/* ecg/annotation.c - reading MIT-format annotation files; see annotation.h.
 *
 * The file is a row of 16-bit little-endian words, code << 10 | interval. A code from 1 to 58 is an
 * annotation, `interval` counts after the one before; code 0 (NOTQRS) only moves the time. The others belong to the format:
 *     59 SKIP  the next four bytes are a signed 32-bit interval, high word first, added to the time
 *     60 NUM   `interval` becomes the number of this annotation and of those that follow
 *     61 SUB   `interval` is the subtype of the annotation before
 *     62 CHN   `interval` becomes the channel of this annotation and of those that follow
 *     63 AUX   `interval` bytes of text follow for the annotation before, padded to an even count
 * SKIP stands before its annotation, the other four after it. A word of 0 ends the file.
 *
 * Notes (code 22) at time 0 before anything else tell about the file:
 *     ## time resolution: R              times are counted R a second, not in samples
 *     ## annotation type definitions     then one note a code, "CODE SYMBOL DESCRIPTION", up to
 *     ## end of definitions
 */
#define _GNU_SOURCE
#include "ecg/annotation.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "ecg/wfdb.h"

enum { NOTE = 22, SKIP = 59, NUM = 60, SUB = 61, CHN = 62, AUX = 63 };

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
    int64_t time; /* in counts of the file */
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

static int add(struct ecg_annotations *a, struct reader *r, unsigned code, struct cn_error *err)
{
    if (a->n == r->cap) {
        int more = r->cap ? r->cap * 2 : 1024;
        void *grown = realloc(a->of, (size_t)more * sizeof *a->of);
        if (!grown) return cn_fail(err, CN_ENOMEM, "%s: out of memory", r->file);
        a->of = grown;
        r->cap = more;
    }
    a->of[a->n++] = (struct ecg_annotation){
        .sample = r->time,
        .code = (uint8_t)code,
        .channel = r->channel,
        .number = r->number,
        .at = (uint32_t)(r->at - 2),
    };
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
        unsigned word = word_at(r, r->at), code = word >> 10, value = word & 1023;
        r->at += 2;
        if (!word) break;
        if (code == SKIP) {
            rc = skip_time(r, err);
        } else if (code >= NUM) {
            rc = modify(a, r, code, value, err);
        } else {
            r->time += value;
            rc = add(a, r, code, err);
        }
        if (rc) return rc;
    }
    return 0;
}

/* --- notes about the file -------------------------------------------------------------------- */

#define RESOLUTION_NOTE "## time resolution:"

/* The text of a note at time 0 into out[256]; false when the annotation is none. */
static bool note_at_0(const struct ecg_annotation *a, char out[256])
{
    if (a->code != NOTE || a->sample != 0 || !a->aux) return false;
    size_t n = a->aux_len;
    while (n && (a->aux[n - 1] == 0 || a->aux[n - 1] == ' ')) n--; /* some writers count the 0 */
    memcpy(out, a->aux, n);
    out[n] = 0;
    return true;
}

static int set_resolution(struct ecg_annotations *a, const char *file, const char *text,
                          struct cn_error *err)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !(v > 0 && v < 1e9) || (a->resolution > 0 && a->resolution != v))
        return cn_fail(
            err, CN_EINVALID,
            "%s: its note '## time resolution: %.40s' is no frequency (or the second that "
            "differs); write the file again",
            file, text);
    a->resolution = v;
    return 0;
}

static bool is_beat_symbol(const char *symbol)
{
    for (int c = 0; c < ECG_CODES; c++)
        if (codes[c].beat && !strcmp(codes[c].symbol, symbol)) return true;
    return false;
}

/* "CODE SYMBOL DESCRIPTION" */
static int define_code(struct ecg_annotations *a, const char *file, const char *text,
                       struct cn_error *err)
{
    char *end;
    long code = strtol(text, &end, 10);
    const char *from = end + strspn(end, " \t");
    size_t n = strcspn(from, " \t");
    if (end == text || from == end || code < 0 || code >= ECG_CODES || !n || n >= ECG_SYMBOL)
        return cn_fail(err, CN_EINVALID,
                       "%s: its note '%.40s' defines no annotation type; expected a code from 0 to "
                       "%d, a symbol of up to %d bytes and a description",
                       file, text, ECG_CODES - 1, ECG_SYMBOL - 1);
    snprintf(a->defined[code], ECG_SYMBOL, "%.*s", (int)n, from);
    const char *known = codes[code].symbol;
    if (known && strcmp(known, a->defined[code]) != 0 &&
        (codes[code].beat || is_beat_symbol(a->defined[code])))
        return cn_fail(err, CN_EUNSUPPORTED,
                       "%s: gives code %ld, which is %s in WFDB, another meaning, '%s'; change the "
                       "file to a code from 42 to 49",
                       file, code, known, a->defined[code]);
    return 0;
}

enum note { OTHER, RESOLUTION, DEFINITIONS, END };

static enum note kind_of_note(const char *text)
{
    if (!strncmp(text, RESOLUTION_NOTE, sizeof RESOLUTION_NOTE - 1)) return RESOLUTION;
    if (!strcmp(text, "## annotation type definitions")) return DEFINITIONS;
    return strcmp(text, "## end of definitions") ? OTHER : END;
}

/* Words of code 0 were kept so that a modifier behind one changes no other annotation. */
static void drop_empty(struct ecg_annotations *a)
{
    int kept = 0;
    for (int i = 0; i < a->n; i++)
        if (a->of[i].code) a->of[kept++] = a->of[i];
    a->n = kept;
}

/* Takes the notes about the file off the list; other notes among them stay. */
static int take_notes(struct ecg_annotations *a, const char *file, struct cn_error *err)
{
    char text[256];
    bool defining = false;
    int kept = 0, i = 0, rc = 0;
    for (; !rc && i < a->n && note_at_0(&a->of[i], text); i++) {
        enum note kind = kind_of_note(text);
        if (kind == RESOLUTION)
            rc = set_resolution(a, file, text + sizeof RESOLUTION_NOTE - 1, err);
        else if (kind == OTHER && defining)
            rc = define_code(a, file, text, err);
        else if (kind == OTHER)
            a->of[kept++] = a->of[i];
        else
            defining = kind == DEFINITIONS;
    }
    if (!rc && defining)
        rc = cn_fail(err, CN_EINVALID, "%s: the note '## end of definitions' is missing", file);
    if (rc || kept == i) return rc;
    memmove(a->of + kept, a->of + i, (size_t)(a->n - i) * sizeof *a->of);
    a->n -= i - kept;
    return 0;
}

/* --- times ----------------------------------------------------------------------------------- */

/* Counts become samples, which must lie in the record. */
static int place(struct ecg_annotations *a, const char *file, const struct ecg_timeline *of,
                 struct cn_error *err)
{
    for (int i = 0; i < a->n; i++) {
        struct ecg_annotation *x = &a->of[i];
        int64_t count = x->sample;
        if (a->resolution > 0) x->sample = ecg_sample_at((double)count, of->hz / a->resolution);
        if (x->sample < 0 || (of->n_samples > 0 && x->sample >= of->n_samples))
            return cn_fail(err, CN_ECORRUPT,
                           "%s: byte %zu: annotation %d stands at sample %lld, but the record has "
                           "%lld samples",
                           file, (size_t)x->at, i, (long long)(x->sample < 0 ? count : x->sample),
                           (long long)of->n_samples);
    }
    return 0;
}

static void count_codes(struct ecg_annotations *a)
{
    for (int i = 0; i < a->n; i++) {
        int code = a->of[i].code;
        a->count[code]++;
        a->unknown += !codes[code].symbol;
    }
}

int ecg_annotations_parse(struct ecg_annotations *a, const char *file, const uint8_t *data,
                          size_t n, const struct ecg_timeline *of, struct cn_error *err)
{
    struct reader r = {.file = file, .data = data, .n = n};
    memset(a, 0, sizeof *a);
    int rc = parse(a, &r, err);
    if (!rc) {
        drop_empty(a);
        rc = take_notes(a, file, err);
    }
    if (!rc) rc = place(a, file, of, err);
    if (rc)
        ecg_annotations_clear(a);
    else
        count_codes(a);
    return rc;
}

int ecg_annotations_read(struct ecg_annotations *a, const char *path, const struct ecg_timeline *of,
                         struct cn_error *err)
{
    char *data;
    size_t n = 0;
    memset(a, 0, sizeof *a);
    int rc = cn_file_read(path, ECG_ATR_LIMIT, &data, &n, err);
    if (rc) return rc;
    rc = ecg_annotations_parse(a, path, (const uint8_t *)data, n, of, err);
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
        const char *own = a->defined[c], *quote = own[0] ? "'" : "";
        int put = snprintf(out + used, cap - used, "%scode %d%s%s%s%s (%d times)", used ? ", " : "",
                           c, own[0] ? " " : "", quote, own, quote, a->count[c]);
        used += put > 0 ? (size_t)put : 0;
        if (used >= cap) return;
    }
}
