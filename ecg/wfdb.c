/* ecg/wfdb.c - WFDB headers; see wfdb.h.
 *
 * A header (.hea) is text. Lines whose first character other than blanks is '#' and empty ones are
 * comments. The first other line is
 *     record[/segments] signals [hz[/counter[(base)]] [samples [time [date]]]]
 * and one line per signal follows:
 *     file format[xN][:skew][+offset] [gain[(baseline)][/units] [resolution [zero [initial [checksum
 *     [blocksize [description]]]]]]]
 * Everything after `format` may be missing from some point on. Of these the counter, the time, the
 * date, the resolution and the block size change no sample, and are passed over. Signals with the
 * same file name stand together and lie interleaved in that file (samples.c).
 *
 * header(5) says that a header is ASCII, but old ones are Latin-1 and new ones UTF-8: what is shown to
 * people (record, units, description) is converted here, once; file names stay the bytes they are.
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

#include "base/text.h"

#define HZ_LEAST 1e-6
#define HZ_MOST 1e6
/* ADC units per physical unit: beyond these no voltage of a body can be meant */
#define GAIN_LEAST 1e-12
#define GAIN_MOST 1e12

/* --- words ----------------------------------------------------------------------------------- */

/* A line being read from left to right. */
struct cursor {
    const char *file;
    int line;
    char *at;
    int latin1; /* the first line that was not UTF-8 */
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

/* Text for people into out[cap]: UTF-8 without control characters; what is too long ends in "...". */
static int copy_text(struct cursor *c, const char *from, char *out, size_t cap,
                     struct cn_error *err)
{
    bool converted;
    char *text = cn_text_utf8(from, strlen(from), &converted);
    if (!text) return cn_fail(err, CN_ENOMEM, "%s: out of memory", c->file);
    for (char *p = text; *p; p++)
        if (*p == '\t') *p = ' ';
    if (converted && !c->latin1) c->latin1 = c->line;
    /* a character grows fourfold at most, where it is shown as \xNN */
    size_t room = 4 * strlen(text) + 1;
    char *shown = malloc(room);
    if (shown && cn_text_show(shown, room, text) < cap) {
        strcpy(out, shown);
    } else { /* cut, which is said by the dots */
        size_t n = cn_text_show(out, cap - 3, text);
        memcpy(out + n, "...", 4);
    }
    free(shown);
    free(text);
    return 0;
}

/* --- the record line ------------------------------------------------------------------------- */

/* hz[/counter[(base)]] */
static int frequency_word(struct ecg_header *h, struct cursor *c, const char *w,
                          struct cn_error *err)
{
    char *end;
    h->hz = strtod(w, &end);
    if (end == w || !(h->hz >= HZ_LEAST && h->hz < HZ_MOST))
        return bad(c, err, "bad sampling frequency", w);
    if (*end == '/') {
        const char *counter = end + 1;
        if (!isfinite(strtod(counter, &end)) || end == counter)
            return bad(c, err, "bad counter frequency", w);
        if (*end == '(') {
            const char *base = end + 1;
            if (!isfinite(strtod(base, &end)) || end == base || *end++ != ')')
                return bad(c, err, "bad base counter value", w);
        }
    }
    return *end ? bad(c, err, "bad sampling frequency", w) : 0;
}

static int signal_count(struct ecg_header *h, struct cursor *c, struct cn_error *err)
{
    long long v = 0;
    int rc = number_word(c, "bad number of signals", 1, INT_MAX, &v, err);
    if (rc > 0) return bad(c, err, "missing number of signals after", h->record);
    if (rc) return rc;
    if (v > ECG_MAX_SIGNALS)
        return cn_fail(err, CN_ELIMIT, "%s:%d: %lld signals; records of up to %d can be read",
                       c->file, c->line, v, ECG_MAX_SIGNALS);
    h->n_signals = (int)v;
    return 0;
}

static int record_line(struct ecg_header *h, struct cursor *c, struct cn_error *err)
{
    char *w = next_word(c);
    if (!w) return bad(c, err, "missing record name", "");
    if (strchr(w, '/'))
        return cn_fail(
            err, CN_EUNSUPPORTED,
            "%s:%d: record '%.40s' has several segments, which cannot be read together; "
            "give one of the records that the lines below name, or join them first (WFDB's "
            "xform does)",
            c->file, c->line, w);
    int rc = copy_text(c, w, h->record, sizeof h->record, err);
    if (!rc) rc = signal_count(h, c, err);
    if (rc) return rc;
    h->hz = 250;
    w = next_word(c);
    if (!w) return 0;
    rc = frequency_word(h, c, w, err);
    if (rc) return rc;
    long long v = 0;
    rc = number_word(c, "bad number of samples", 0, ECG_MAX_SAMPLES, &v, err);
    h->n_samples = v;
    return rc < 0 ? rc : 0;
}

/* --- signal lines ---------------------------------------------------------------------------- */

static int no_format(const struct cursor *c, long long format, struct cn_error *err)
{
    bool flac = format == 508 || format == 516 || format == 524;
    return cn_fail(
        err, CN_EUNSUPPORTED,
        "%s:%d: signal format %lld%s cannot be read; formats 8, 16, 24, 32, 61, 80, 160, "
        "212, 310 and 311 can: convert the record to format 16 or 32 (WFDB's xform does)",
        c->file, c->line, format, flac ? " (compressed)" : "");
}

/* format[xN][:skew][+offset] */
static int format_word(struct ecg_signal *s, struct cursor *c, char *w, struct cn_error *err)
{
    char *end;
    long long format, v;
    if (whole_number(w, &end, 0, 100000, &format)) return bad(c, err, "bad signal format", w);
    if (!ecg_format_known((int)format)) return no_format(c, format, err);
    s->format = (int)format;
    while (*end) {
        char kind = *end, *digits = end + 1;
        if (!strchr("x:+", kind) || !isdigit((unsigned char)*digits) ||
            whole_number(digits, &end, 0, INT_MAX, &v))
            return bad(c, err, "bad signal format", w);
        if (kind == 'x' && v > 1)
            return cn_fail(err, CN_EUNSUPPORTED,
                           "%s:%d: signal format '%.40s': %lld samples per frame cannot be read; "
                           "resample the record to one rate first (WFDB's xform does)",
                           c->file, c->line, w, v);
        if (kind == ':' && v > ECG_MAX_SAMPLES) return bad(c, err, "bad skew", w);
        if (kind == ':') s->skew = (int)v;
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
    if (end == w) return bad(c, err, "bad gain", w);
    s->calibrated = s->gain != 0;
    if (s->gain == 0) s->gain = 200; /* "uncalibrated": WFDB's default */
    if (*end == '(') {
        if (whole_number(end + 1, &end, INT_MIN, INT_MAX, &v) || *end != ')')
            return bad(c, err, "bad baseline", w);
        s->baseline = (int)v;
        *has_baseline = true;
        end++;
    }
    if (*end == '/' && (!end[1] || strlen(end + 1) >= sizeof s->units))
        return bad(c, err, "bad units", end + 1);
    if (*end == '/') return copy_text(c, end + 1, s->units, sizeof s->units, err);
    return *end ? bad(c, err, "bad gain", w) : 0;
}

/* Told only once the signal's name is known. */
static int check_gain(const struct ecg_signal *s, const struct cursor *c, struct cn_error *err)
{
    if (isfinite(s->gain) && fabs(s->gain) >= GAIN_LEAST && fabs(s->gain) <= GAIN_MOST) return 0;
    return cn_fail(
        err, CN_EINVALID,
        "%s:%d: signal %s: bad gain: with %g units of the converter per %s its samples are "
        "no voltages; put the header right",
        c->file, c->line, s->name[0] ? s->name : s->file, s->gain, s->units);
}

/* resolution zero initial checksum blocksize description: each may be missing, then so is the rest */
static int signal_tail(struct ecg_signal *s, struct cursor *c, bool has_baseline,
                       struct cn_error *err)
{
    long long v = 0;
    int rc = number_word(c, "bad ADC resolution", 0, 64, &v, err);
    if (!rc) rc = number_word(c, "bad ADC zero", INT_MIN, INT_MAX, &v, err);
    if (!rc) s->initial = (int)v;
    if (!rc && !has_baseline) s->baseline = (int)v;
    if (!rc) rc = number_word(c, "bad initial value", INT_MIN, INT_MAX, &v, err);
    if (!rc) s->initial = (int)v;
    if (!rc) rc = number_word(c, "bad checksum", -65536, 65536, &v, err);
    if (!rc) {
        s->checked = true;
        s->checksum = (int16_t)(uint16_t)v;
        rc = number_word(c, "bad block size", 0, INT_MAX, &v, err);
    }
    if (rc) return rc < 0 ? rc : 0;
    while (*c->at == ' ' || *c->at == '\t') c->at++;
    s->named = *c->at != 0;
    return copy_text(c, c->at, s->name, sizeof s->name, err);
}

/* The name of a file beside the header. */
static int file_word(struct ecg_signal *s, struct cursor *c, struct cn_error *err)
{
    char *w = next_word(c);
    if (!w) return bad(c, err, "missing file name", "");
    if (strchr(w, '/') || !strcmp(w, "-") || !strcmp(w, "~") || w[0] == '.')
        return bad(c, err, "the signal file must lie beside its header:", w);
    size_t n = strlen(w);
    if (n >= sizeof s->file) return bad(c, err, "bad file name", w);
    memcpy(s->file, w, n + 1);
    return 0;
}

static int signal_line(struct ecg_signal *s, struct cursor *c, struct cn_error *err)
{
    s->line = c->line;
    s->gain = 200;
    strcpy(s->units, "mV");
    int rc = file_word(s, c, err);
    if (rc) return rc;
    char *w = next_word(c);
    if (!w) return bad(c, err, "missing format after", s->file);
    rc = format_word(s, c, w, err);
    if (rc) return rc;
    w = next_word(c);
    if (!w) return 0;
    bool has_baseline = false;
    rc = gain_word(s, c, w, &has_baseline, err);
    if (!rc) rc = signal_tail(s, c, has_baseline, err);
    return rc ? rc : check_gain(s, c, err);
}

/* --- all lines together ---------------------------------------------------------------------- */

/* Signals of one file stand together and are stored alike. */
static int check_groups(const struct ecg_header *h, const char *file, struct cn_error *err)
{
    for (int s = 1; s < h->n_signals; s++) {
        const struct ecg_signal *sig = &h->signal[s], *last = sig - 1;
        bool same = !strcmp(sig->file, last->file);
        if (same && (sig->format != last->format || sig->offset != last->offset))
            return cn_fail(err, CN_EINVALID,
                           "%s:%d: signals in one file differ in format or offset", file,
                           sig->line);
        for (int k = 0; !same && k < s; k++)
            if (!strcmp(sig->file, h->signal[k].file))
                return cn_fail(
                    err, CN_EINVALID,
                    "%s:%d: the signals of '%s' do not stand together; order the lines by "
                    "file",
                    file, sig->line, sig->file);
    }
    return 0;
}

static bool taken(const struct ecg_header *h, int s, const char *name)
{
    for (int k = 0; k < h->n_signals; k++)
        if (k != s && !strcmp(h->signal[k].name, name)) return true;
    return false;
}

/* Leads are told apart by name from here on: "II" and "II (2)". */
static void make_names_distinct(struct ecg_header *h)
{
    for (int s = 0; s < h->n_signals; s++)
        for (int k = 0; k < h->n_signals; k++)
            if (k != s && h->signal[s].named && h->signal[k].named &&
                !strcasecmp(h->signal[k].name, h->signal[s].name))
                h->signal[s].twin = true;
    for (int s = 0; s < h->n_signals; s++) {
        struct ecg_signal *sig = &h->signal[s];
        char name[sizeof sig->name];
        if (!sig->named) snprintf(sig->name, sizeof sig->name, "signal %d", s);
        snprintf(name, sizeof name, "%s", sig->name);
        for (int k = 0, n = 2; k < s; k++) {
            if (strcasecmp(h->signal[k].name, name) != 0) continue;
            do { /* at most as many turns as there are signals */
                char tail[16];
                int put = snprintf(tail, sizeof tail, " (%d)", n++);
                size_t keep = strlen(sig->name), most = sizeof name - 1 - (size_t)put;
                if (keep > most) keep = most;
                while (keep && ((unsigned char)sig->name[keep] & 0xc0) == 0x80) keep--;
                snprintf(name, sizeof name, "%.*s%s", (int)keep, sig->name, tail);
            } while (taken(h, s, name));
            k = -1;
        }
        strcpy(sig->name, name);
    }
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
        while (*start == ' ' || *start == '\t') start++;
        if (*start && *start != '#') return start;
    }
    return NULL;
}

static int parse_lines(struct ecg_header *h, const char *file, char *text, struct cn_error *err)
{
    struct cursor c = {.file = file};
    if (!strncmp(text, "\xef\xbb\xbf", 3)) text += 3; /* a byte order mark */
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
    h->latin1 = c.latin1;
    h->extra = !rc && next_line(&text, &c.line) ? c.line : 0;
    if (!rc) rc = check_groups(h, file, err);
    if (!rc) make_names_distinct(h);
    return rc;
}

int ecg_header_parse(struct ecg_header *h, const char *file, const char *text, size_t n,
                     struct cn_error *err)
{
    memset(h, 0, sizeof *h);
    if (n > ECG_HEADER_LIMIT)
        return cn_fail(err, CN_ELIMIT, "%s: a WFDB header of %zu bytes", file, n);
    if (memchr(text, 0, n))
        return cn_fail(err, CN_EINVALID, "%s: not a WFDB header (holds a 0 byte)", file);
    char *copy = strndup(text, n);
    if (!copy) return cn_fail(err, CN_ENOMEM, "%s: out of memory", file);
    int rc = parse_lines(h, file, copy, err);
    free(copy);
    return rc;
}
