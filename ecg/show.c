/* ecg/show.c - see show.h. The SVG has the paper's conventions: a fine line every millimetre (40
 * ms, 0.1 mV), a strong one every five, each lead's name at its left, one lead below the other. */
#define _GNU_SOURCE
#include "ecg/show.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "ecg/csv.h"

#define MM_PER_SECOND 25.0
#define MM_PER_MV 10.0
#define MM_PER_STD 2.0
#define LEAD_MM 30.0 /* height of a lead's band */
#define MARGIN_MM 10.0
#define MAX_SECONDS 600.0

/* --- loading --------------------------------------------------------------------------------- */

static int alloc_strip(struct ecg_strip **out, const struct ecg_header *h, int leads, int samples,
                       struct cn_error *err)
{
    struct ecg_strip *s = calloc(1, sizeof *s);
    if (s) s->x = malloc((size_t)leads * (size_t)samples * sizeof *s->x);
    if (!s || !s->x) {
        free(s);
        return cn_fail(err, CN_ENOMEM, "record %s: out of memory", h->record);
    }
    snprintf(s->record, sizeof s->record, "%s", h->record);
    s->leads = leads;
    s->samples = samples;
    s->hz = h->hz;
    *out = s;
    return 0;
}

/* Which samples are asked for: [*first, *first + *count), inside the record. */
static int choose(const struct ecg_show *show, const struct ecg_record *r, int64_t *first,
                  int64_t *count, struct cn_error *err)
{
    const struct ecg_header *h = &r->header;
    double seconds = show->seconds > 0 ? show->seconds : 10, length = (double)h->n_samples / h->hz;
    *first = ecg_sample_at(show->start, h->hz);
    if (!(show->start >= 0) || *first < 0 || *first >= h->n_samples)
        return cn_fail(err, CN_EINVALID, "%s: lasts %.1f s; cannot start at %g s", r->path, length,
                       show->start);
    if (!(seconds <= MAX_SECONDS))
        return cn_fail(err, CN_EINVALID, "%g s is more than the %g s that can be shown at once",
                       seconds, MAX_SECONDS);
    *count = ecg_sample_at(seconds, h->hz);
    if (*count < 1) *count = 1;
    if (*count > h->n_samples - *first) *count = h->n_samples - *first;
    return 0;
}

static int load_raw(struct ecg_strip **out, const struct ecg_show *show, const struct ecg_record *r,
                    struct cn_error *err)
{
    const struct ecg_header *h = &r->header;
    int64_t first = 0, count = 0;
    int rc = choose(show, r, &first, &count, err);
    if (rc) return rc;
    double *mv = malloc((size_t)h->n_samples * sizeof *mv);
    rc = mv ? alloc_strip(out, h, h->n_signals, (int)count, err)
            : cn_fail(err, CN_ENOMEM, "%s: out of memory", r->path);
    for (int l = 0; !rc && l < h->n_signals; l++) {
        int64_t missing = ecg_signal_mv(r, l, mv, err);
        if (missing < 0) rc = (int)missing;
        strcpy((*out)->lead[l], h->signal[l].name);
        for (int64_t t = 0; !rc && t < count; t++) {
            (*out)->x[l * count + t] = (float)mv[first + t];
            (*out)->missing[l] += isnan(mv[first + t]) != 0;
        }
        if (!rc && (*out)->missing[l])
            cn_warn("ecg", "%s: lead %s: %d samples are missing", r->path, h->signal[l].name,
                    (*out)->missing[l]);
    }
    if (!rc) (*out)->start = (double)first / h->hz;
    free(mv);
    return rc;
}

/* Leaves samples [first, first + count) of each lead. */
static void cut(struct ecg_strip *s, int64_t first, int64_t count)
{
    for (int l = 0; l < s->leads; l++)
        memmove(s->x + l * count, s->x + (int64_t)l * s->samples + first,
                (size_t)count * sizeof *s->x);
    s->samples = (int)count;
    s->start = (double)first / s->hz;
}

static int load_stage(struct ecg_strip **out, const struct ecg_show *show,
                      const struct ecg_record *r, struct cn_error *err)
{
    const struct ecg_prep how = {show->stage, show->norm, show->gaps};
    int64_t first = 0, count = 0;
    int rc = choose(show, r, &first, &count, err);
    if (!rc) rc = alloc_strip(out, &r->header, ECG_PTBXL_LEADS, ECG_PTBXL_SAMPLES, err);
    if (rc) return rc;
    for (int l = 0; l < ECG_PTBXL_LEADS; l++)
        snprintf((*out)->lead[l], sizeof(*out)->lead[l], "%s", ecg_lead_name[l]);
    (*out)->bridged = ecg_preprocess(r, &how, (*out)->x, err);
    if ((*out)->bridged < 0) return (int)(*out)->bridged;
    cut(*out, first, count);
    return 0;
}

int ecg_strip_load(struct ecg_strip **out, const struct ecg_show *show, struct cn_error *err)
{
    *out = NULL;
    if (show->stage == ECG_NORMALISED && !show->norm)
        return cn_fail(err, CN_EINVALID,
                       "%s: the normalised stage needs a dataset to take mean and deviation from",
                       show->path);
    struct ecg_record *r;
    int rc = ecg_record_read(&r, show->path, err);
    if (rc) return rc;
    rc = show->stage == ECG_RAW ? load_raw(out, show, r, err) : load_stage(out, show, r, err);
    ecg_record_destroy(r);
    if (rc) {
        ecg_strip_destroy(*out);
        *out = NULL;
        return rc;
    }
    (*out)->stage = show->stage;
    return 0;
}

void ecg_strip_destroy(struct ecg_strip *s)
{
    if (!s) return;
    free(s->x);
    free(s);
}

/* --- documents ------------------------------------------------------------------------------- */

static int finish(FILE *f, char **text, struct cn_error *err)
{
    int bad = ferror(f);
    if (!fclose(f) && !bad) return 0;
    free(*text);
    *text = NULL;
    return cn_fail(err, CN_ENOMEM, "out of memory");
}

/* The shortest decimal that reads back as the same float; nothing for no value. */
static void put_float(FILE *f, float v)
{
    char text[32];
    if (isnan(v)) return;
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)v);
        if (strtof(text, NULL) == v) break;
    }
    fputs(text, f);
}

int ecg_strip_csv(const struct ecg_strip *s, char **text, size_t *n, struct cn_error *err)
{
    FILE *f = open_memstream(text, n);
    if (!f) return cn_fail(err, CN_ENOMEM, "out of memory");
    fputs("t", f);
    for (int l = 0; l < s->leads; l++) {
        fputc(',', f);
        ecg_csv_put(f, s->lead[l]);
    }
    for (int t = 0; t < s->samples; t++) {
        fprintf(f, "\n%.9g", s->start + t / s->hz);
        for (int l = 0; l < s->leads; l++) {
            fputc(',', f);
            put_float(f, s->x[(size_t)l * (size_t)s->samples + (size_t)t]);
        }
    }
    fputs("\n", f);
    return finish(f, text, err);
}

/* Text for XML; it has no control characters (wfdb.h). */
static void put_text(FILE *f, const char *s)
{
    for (; *s; s++) {
        if (*s == '<')
            fputs("&lt;", f);
        else if (*s == '&')
            fputs("&amp;", f);
        else
            fputc(*s, f);
    }
}

static void put_paper(FILE *f, double width, double height)
{
    fprintf(
        f,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%gmm\" height=\"%gmm\" "
        "viewBox=\"0 0 %g %g\">\n<defs>\n"
        "<pattern id=\"mm\" width=\"1\" height=\"1\" patternUnits=\"userSpaceOnUse\">"
        "<path d=\"M1 0H0V1\" fill=\"none\" stroke=\"#f6c9c9\" stroke-width=\"0.1\"/></pattern>\n"
        "<pattern id=\"cm\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\">"
        "<rect width=\"5\" height=\"5\" fill=\"url(#mm)\"/>"
        "<path d=\"M5 0H0V5\" fill=\"none\" stroke=\"#e89a9a\" stroke-width=\"0.2\"/></pattern>\n"
        "</defs>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff8f6\"/>\n"
        "<rect width=\"100%%\" height=\"100%%\" fill=\"url(#cm)\"/>\n",
        width, height, width, height);
}

/* Samples [from, to) of a lead, where 0 is at height `zero`. */
struct stretch {
    int from, to;
    double zero, mm_per_unit;
};

static void put_line(FILE *f, const struct ecg_strip *s, const float *x, const struct stretch *l)
{
    fputs("<polyline fill=\"none\" stroke=\"#111\" stroke-width=\"0.25\" "
          "stroke-linejoin=\"round\" points=\"",
          f);
    for (int t = l->from; t < l->to; t++)
        fprintf(f, "%s%.2f,%.2f", t > l->from ? " " : "", MARGIN_MM + t / s->hz * MM_PER_SECOND,
                l->zero - (double)x[t] * l->mm_per_unit);
    fputs("\"/>\n", f);
}

static void put_lead(FILE *f, const struct ecg_strip *s, int l, double mm_per_unit)
{
    const float *x = s->x + (size_t)l * (size_t)s->samples;
    double zero = MARGIN_MM + LEAD_MM * (l + 0.5);
    fprintf(f, "<text x=\"1\" y=\"%g\" font-family=\"sans-serif\" font-size=\"3\">", zero - 4);
    put_text(f, s->lead[l]);
    fputs("</text>\n", f);
    for (int t = 0, end; t < s->samples; t = end) {
        end = t + 1;
        if (isnan(x[t])) continue;
        while (end < s->samples && !isnan(x[end])) end++;
        put_line(f, s, x, &(struct stretch){t, end, zero, mm_per_unit});
    }
}

int ecg_strip_svg(const struct ecg_strip *s, char **text, size_t *n, struct cn_error *err)
{
    static const char *const stage[] = {"raw", "filtered", "normalised"};
    int normalised = s->stage == ECG_NORMALISED;
    double width = 2 * MARGIN_MM + s->samples / s->hz * MM_PER_SECOND;
    double height = 2 * MARGIN_MM + s->leads * LEAD_MM;
    FILE *f = open_memstream(text, n);
    if (!f) return cn_fail(err, CN_ENOMEM, "out of memory");
    put_paper(f, width, height);
    fputs("<text x=\"1\" y=\"5\" font-family=\"sans-serif\" font-size=\"3.5\">", f);
    put_text(f, s->record);
    fprintf(f, ", %s, from %g s; 25 mm/s, %s</text>\n", stage[s->stage], s->start,
            normalised ? "10 mm per 5 standard deviations" : "10 mm/mV");
    for (int l = 0; l < s->leads; l++) put_lead(f, s, l, normalised ? MM_PER_STD : MM_PER_MV);
    fputs("</svg>\n", f);
    return finish(f, text, err);
}
