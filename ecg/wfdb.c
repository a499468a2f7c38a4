/* ecg/wfdb.c - reading WFDB headers and samples; see wfdb.h.
 *
 * A header (.hea) is text. Lines that start with '#' and empty ones are comments. The first other
 * line is
 *     record[/segments] signals [hz[/counter[(base)]] [samples [time [date]]]]
 * and one line per signal follows:
 *     file format[xN][:skew][+offset] [gain[(baseline)][/units] [resolution [zero [first [checksum
 *     [blocksize [description]]]]]]]
 * Everything after `format` may be missing from some point on. Signals with the same file name lie
 * interleaved in it, sample by sample:
 *     16   two bytes, little-endian, two's complement
 *     212  two 12-bit samples in three bytes: low byte of the first; low nibble = high bits of the
 *          first, high nibble = high bits of the second; low byte of the second
 * The smallest value of a format marks a missing sample. The checksum is the sum of a signal's
 * samples modulo 2^16.
 */
#define _GNU_SOURCE
#include "ecg/wfdb.h"

#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"

#define HEADER_LIMIT (1u << 20)
#define DAT_LIMIT ((size_t)2 << 30)

/* --- the header ------------------------------------------------------------------------------ */

/* A line being read from left to right. */
struct cursor {
    const char *file;
    int line;
    char *at;
};

static int bad(const struct cursor *c, struct cn_error *err, const char *what, const char *word)
{
    return cn_fail(err, CN_EINVALID, "%s:%d: %s '%.40s' in the WFDB header", c->file, c->line, what,
                   word);
}

/* The next word, or NULL at the end of the line. */
static char *next_word(struct cursor *c)
{
    char *p = c->at;
    while (*p == ' ' || *p == '\t') p++;
    if (!*p) return NULL;
    char *end = p;
    while (*end && *end != ' ' && *end != '\t') end++;
    c->at = *end ? end + 1 : end;
    *end = 0;
    return p;
}

static int whole_number(const char *s, char **end, long long lo, long long hi, long long *out)
{
    if (!isdigit((unsigned char)*s) && *s != '-' && *s != '+') return -1;
    long long v = strtoll(s, end, 10);
    if (*end == s || v < lo || v > hi) return -1;
    *out = v;
    return 0;
}

static int number_word(struct cursor *c, const char *what, long long lo, long long hi,
                       long long *out, struct cn_error *err)
{
    char *end, *w = next_word(c);
    if (!w) return 1; /* absent */
    if (whole_number(w, &end, lo, hi, out) || *end) return bad(c, err, what, w);
    return 0;
}

static int copy_word(struct cursor *c, const char *what, const char *w, size_t n, char *out,
                     size_t cap, struct cn_error *err)
{
    if (n == 0 || n >= cap) return bad(c, err, what, w);
    memcpy(out, w, n);
    out[n] = 0;
    return 0;
}

static int record_line(struct ecg_header *h, struct cursor *c, struct cn_error *err)
{
    char *w = next_word(c);
    if (!w) return bad(c, err, "missing record name", "");
    if (strchr(w, '/'))
        return cn_fail(err, CN_EUNSUPPORTED,
                       "%s:%d: record '%.40s' has several segments; only single-segment records "
                       "can be read",
                       c->file, c->line, w);
    int rc = copy_word(c, "bad record name", w, strlen(w), h->record, sizeof h->record, err);
    if (rc) return rc;
    long long v = 0;
    rc = number_word(c, "bad number of signals", 1, ECG_MAX_SIGNALS, &v, err);
    if (rc > 0) return bad(c, err, "missing number of signals after", h->record);
    if (rc) return rc;
    h->n_signals = (int)v;
    h->hz = 250;
    w = next_word(c);
    if (!w) return 0;
    char *end;
    h->hz = strtod(w, &end);
    if (end == w || (*end && *end != '/') || !(h->hz > 0 && h->hz < 1e6))
        return bad(c, err, "bad sampling frequency", w);
    v = 0;
    rc = number_word(c, "bad number of samples", 0, ECG_MAX_SAMPLES, &v, err);
    h->n_samples = v;
    return rc < 0 ? rc : 0;
}

/* format[xN][:skew][+offset] */
static int format_word(struct ecg_signal *s, struct cursor *c, char *w, struct cn_error *err)
{
    char *end;
    long long format, v;
    if (whole_number(w, &end, 0, 100000, &format)) return bad(c, err, "bad signal format", w);
    if (format != 16 && format != 212)
        return cn_fail(err, CN_EUNSUPPORTED,
                       "%s:%d: signal format %lld cannot be read; formats 16 and 212 can", c->file,
                       c->line, format);
    s->format = (int)format;
    while (*end) {
        char kind = *end, *digits = end + 1;
        if (!strchr("x:+", kind) || whole_number(digits, &end, 0, INT_MAX, &v))
            return bad(c, err, "bad signal format", w);
        if ((kind == 'x' && v > 1) || (kind == ':' && v != 0))
            return cn_fail(
                err, CN_EUNSUPPORTED,
                "%s:%d: signal format '%.40s': several samples per frame and skew cannot "
                "be read",
                c->file, c->line, w);
        if (kind == '+') s->offset = v;
    }
    return 0;
}

/* gain[(baseline)][/units]; *has_baseline tells whether it was there */
static int gain_word(struct ecg_signal *s, struct cursor *c, char *w, bool *has_baseline,
                     struct cn_error *err)
{
    char *end;
    long long v;
    s->gain = strtod(w, &end);
    if (end == w || !isfinite(s->gain) || fabs(s->gain) > 1e12) return bad(c, err, "bad gain", w);
    if (s->gain == 0) s->gain = 200; /* "uncalibrated": WFDB's default */
    if (*end == '(') {
        if (whole_number(end + 1, &end, INT_MIN / 2, INT_MAX / 2, &v) || *end != ')')
            return bad(c, err, "bad baseline", w);
        s->baseline = (int)v;
        *has_baseline = true;
        end++;
    }
    if (*end == '/')
        return copy_word(c, "bad units", end + 1, strlen(end + 1), s->units, sizeof s->units, err);
    return *end ? bad(c, err, "bad gain", w) : 0;
}

/* resolution zero first checksum blocksize description: each may be missing, then so is the rest */
static int signal_tail(struct ecg_signal *s, struct cursor *c, bool has_baseline,
                       struct cn_error *err)
{
    long long v = 0;
    int rc = number_word(c, "bad ADC resolution", 0, 64, &v, err);
    if (!rc) rc = number_word(c, "bad ADC zero", INT_MIN / 2, INT_MAX / 2, &v, err);
    if (!rc && !has_baseline) s->baseline = (int)v;
    if (!rc) rc = number_word(c, "bad initial value", INT_MIN / 2, INT_MAX / 2, &v, err);
    if (!rc) rc = number_word(c, "bad checksum", -65536, 65536, &v, err);
    if (!rc) {
        s->checked = true;
        s->checksum = (int16_t)(uint16_t)v;
        rc = number_word(c, "bad block size", 0, INT_MAX / 2, &v, err);
    }
    if (rc) return rc < 0 ? rc : 0;
    while (*c->at == ' ' || *c->at == '\t') c->at++;
    snprintf(s->name, sizeof s->name, "%s", c->at);
    return 0;
}

static int signal_line(struct ecg_signal *s, struct cursor *c, struct cn_error *err)
{
    s->line = c->line;
    s->gain = 200;
    strcpy(s->units, "mV");
    char *w = next_word(c);
    if (!w) return bad(c, err, "missing file name", "");
    if (strchr(w, '/') || !strcmp(w, "-") || !strcmp(w, "~") || w[0] == '.')
        return bad(c, err, "the signal file must lie beside its header:", w);
    int rc = copy_word(c, "bad file name", w, strlen(w), s->file, sizeof s->file, err);
    if (rc) return rc;
    w = next_word(c);
    if (!w) return bad(c, err, "missing format after", s->file);
    rc = format_word(s, c, w, err);
    if (rc) return rc;
    w = next_word(c);
    if (!w) return 0;
    bool has_baseline = false;
    rc = gain_word(s, c, w, &has_baseline, err);
    return rc ? rc : signal_tail(s, c, has_baseline, err);
}

/* Cuts the next line that is not a comment out of the text; NULL at its end. */
static char *next_line(char **text, int *line)
{
    while (*text && **text) {
        char *start = *text, *end = strchr(start, '\n');
        *text = end ? end + 1 : NULL;
        if (end) *end = 0;
        ++*line;
        size_t n = strlen(start);
        while (n && strchr("\r \t", start[n - 1])) start[--n] = 0;
        if (n && start[0] != '#') return start;
    }
    return NULL;
}

static int parse_lines(struct ecg_header *h, const char *file, char *text, struct cn_error *err)
{
    struct cursor c = {.file = file};
    c.at = next_line(&text, &c.line);
    if (!c.at) return cn_fail(err, CN_EINVALID, "%s: empty WFDB header", file);
    int rc = record_line(h, &c, err);
    for (int s = 0; !rc && s < h->n_signals; s++) {
        c.at = next_line(&text, &c.line);
        if (!c.at)
            return cn_fail(err, CN_EINVALID, "%s:%d: the header ends after %d of %d signal lines",
                           file, c.line, s, h->n_signals);
        rc = signal_line(&h->signal[s], &c, err);
    }
    return rc;
}

int ecg_header_parse(struct ecg_header *h, const char *file, const char *text, size_t n,
                     struct cn_error *err)
{
    memset(h, 0, sizeof *h);
    if (n > HEADER_LIMIT) return cn_fail(err, CN_ELIMIT, "%s: a WFDB header of %zu bytes", file, n);
    if (memchr(text, 0, n))
        return cn_fail(err, CN_EINVALID, "%s: not a WFDB header (holds a 0 byte)", file);
    char *copy = strndup(text, n);
    if (!copy) return cn_fail(err, CN_ENOMEM, "%s: out of memory", file);
    int rc = parse_lines(h, file, copy, err);
    free(copy);
    return rc;
}

/* --- the samples ----------------------------------------------------------------------------- */

static int64_t bytes_of(int format, int64_t samples)
{
    return format == 16 ? samples * 2 : samples / 2 * 3 + (samples & 1) * 2;
}

static void decode_16(const uint8_t *p, int count, int64_t n, int16_t *out)
{
    for (int64_t t = 0; t < n; t++)
        for (int s = 0; s < count; s++, p += 2)
            out[s * n + t] = (int16_t)(uint16_t)(p[0] | p[1] << 8);
}

static int16_t extend_12(unsigned v)
{
    return (int16_t)((v & 0x7ff) - (v & 0x800));
}

static void decode_212(const uint8_t *p, int count, int64_t n, int16_t *out)
{
    int s = 0;
    int64_t t = 0, total = n * count;
    for (int64_t i = 0; i < total; i++) {
        unsigned v = i & 1 ? p[2] | (p[1] & 0xf0u) << 4 : p[0] | (p[1] & 0x0fu) << 8;
        if (i & 1) p += 3;
        out[s * n + t] = extend_12(v);
        if (++s == count) s = 0, t++;
    }
}

static int check_sums(const struct ecg_header *h, int first, int count, const struct ecg_dat *dat,
                      const int16_t *out, struct cn_error *err)
{
    for (int s = 0; s < count; s++) {
        const struct ecg_signal *sig = &h->signal[first + s];
        const int16_t *x = out + s * h->n_samples;
        uint16_t sum = 0;
        for (int64_t t = 0; t < h->n_samples; t++) sum = (uint16_t)(sum + (uint16_t)x[t]);
        if (sig->checked && (int16_t)sum != sig->checksum)
            return cn_fail(err, CN_ECORRUPT,
                           "%s: record %s, signal %d (%s): checksum %d, but line %d of its header "
                           "says %d; the file is damaged, fetch it again",
                           dat->path, h->record, first + s, sig->name, (int16_t)sum, sig->line,
                           sig->checksum);
    }
    return 0;
}

int ecg_dat_decode(const struct ecg_header *h, int first, int count, const struct ecg_dat *dat,
                   int16_t *out, struct cn_error *err)
{
    const struct ecg_signal *sig = &h->signal[first];
    int64_t need = sig->offset + bytes_of(sig->format, h->n_samples * count);
    if ((int64_t)dat->n < need)
        return cn_fail(err, CN_ECORRUPT,
                       "%s: truncated: %zu bytes, but the header of record %s promises %lld (%d "
                       "signals x %lld samples in format %d); fetch it again",
                       dat->path, dat->n, h->record, (long long)need, count,
                       (long long)h->n_samples, sig->format);
    const uint8_t *p = dat->data + sig->offset;
    if (sig->format == 16)
        decode_16(p, count, h->n_samples, out);
    else
        decode_212(p, count, h->n_samples, out);
    return check_sums(h, first, count, dat, out, err);
}

/* --- whole records --------------------------------------------------------------------------- */

/* How many signals from `first` on share its file. */
static int group_size(const struct ecg_header *h, int first)
{
    int n = 1;
    while (first + n < h->n_signals && !strcmp(h->signal[first + n].file, h->signal[first].file))
        n++;
    return n;
}

static int read_group(struct ecg_record *r, int first, int count, struct cn_error *err)
{
    struct ecg_header *h = &r->header;
    const struct ecg_signal *sig = &h->signal[first];
    for (int s = 1; s < count; s++)
        if (sig[s].format != sig->format || sig[s].offset != sig->offset)
            return cn_fail(err, CN_EINVALID, "%s:%d: signals in one file differ in format", r->path,
                           sig[s].line);
    char path[768], *data = NULL;
    const char *slash = strrchr(r->path, '/');
    int folder = slash ? (int)(slash - r->path) + 1 : 0;
    snprintf(path, sizeof path, "%.*s%s", folder, r->path, sig->file);
    struct ecg_dat dat = {.path = path};
    int rc = cn_file_read(path, DAT_LIMIT, &data, &dat.n, err);
    if (rc) return rc;
    dat.data = (const uint8_t *)data;
    if (!h->n_samples) {
        int64_t left = (int64_t)dat.n - sig->offset;
        h->n_samples = left <= 0 ? 0 : (sig->format == 16 ? left / 2 : left / 3 * 2) / count;
    }
    if (!r->adc && h->n_samples && (int64_t)dat.n >= bytes_of(sig->format, h->n_samples))
        r->adc = malloc((size_t)h->n_samples * (size_t)h->n_signals * sizeof *r->adc);
    if (!h->n_samples)
        rc = cn_fail(err, CN_ECORRUPT, "%s: holds no samples", path);
    else if (!r->adc && (int64_t)dat.n >= bytes_of(sig->format, h->n_samples))
        rc = cn_fail(err, CN_ENOMEM, "%s: out of memory", path);
    else
        rc = ecg_dat_decode(h, first, count, &dat, r->adc + first * h->n_samples, err);
    free(data);
    return rc;
}

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), m = strlen(tail);
    return n > m && !strcmp(s + n - m, tail);
}

static int header_path(const char *path, char *out, size_t cap, struct cn_error *err)
{
    size_t n = strlen(path);
    if (ends_with(path, ".hea") || ends_with(path, ".dat")) n -= 4;
    if (n + 5 > cap) return cn_fail(err, CN_EINVALID, "%s: path too long", path);
    snprintf(out, cap, "%.*s.hea", (int)n, path);
    return 0;
}

int ecg_record_read(struct ecg_record **out, const char *path, struct cn_error *err)
{
    *out = NULL;
    struct ecg_record *r = calloc(1, sizeof *r);
    if (!r) return cn_fail(err, CN_ENOMEM, "%s: out of memory", path);
    char *text = NULL;
    size_t n = 0;
    int rc = header_path(path, r->path, sizeof r->path, err);
    if (!rc) rc = cn_file_read(r->path, HEADER_LIMIT, &text, &n, err);
    if (!rc) rc = ecg_header_parse(&r->header, r->path, text, n, err);
    free(text);
    for (int s = 0, count; !rc && s < r->header.n_signals; s += count) {
        count = group_size(&r->header, s);
        rc = read_group(r, s, count, err);
    }
    if (rc) {
        ecg_record_destroy(r);
        return rc;
    }
    *out = r;
    return 0;
}

void ecg_record_destroy(struct ecg_record *r)
{
    if (!r) return;
    free(r->adc);
    free(r);
}

/* --- physical units -------------------------------------------------------------------------- */

static double millivolts_per(const char *unit)
{
    static const struct {
        const char *unit;
        double mv;
    } known[] = {{"mV", 1}, {"uV", 1e-3}, {"V", 1e3}, {"nV", 1e-6}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(unit, known[i].unit)) return known[i].mv;
    return 0;
}

int64_t ecg_signal_mv(const struct ecg_header *h, int s, const int16_t *adc, double *out,
                      struct cn_error *err)
{
    const struct ecg_signal *sig = &h->signal[s];
    double unit = millivolts_per(sig->units);
    if (unit == 0)
        return cn_fail(err, CN_EUNSUPPORTED,
                       "record %s, signal %d (%s): unit '%s' is not a voltage (V, mV, uV, nV)",
                       h->record, s, sig->name, sig->units);
    const int16_t missing = sig->format == 16 ? INT16_MIN : -2048;
    int64_t held = 0, t = 0;
    while (t < h->n_samples && adc[t] == missing) t++;
    int16_t last = t < h->n_samples ? adc[t] : (int16_t)sig->baseline;
    for (t = 0; t < h->n_samples; t++) {
        if (adc[t] == missing)
            held++;
        else
            last = adc[t];
        out[t] = (last - sig->baseline) / sig->gain * unit;
    }
    return held;
}

int ecg_signal_find(const struct ecg_header *h, const char *name)
{
    for (int s = 0; s < h->n_signals; s++)
        if (!strcasecmp(h->signal[s].name, name)) return s;
    return -1;
}
