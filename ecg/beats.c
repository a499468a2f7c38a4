/* ecg/beats.c - see beats.h. */
#include "ecg/beats.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

int ecg_beats_accept(const struct ecg_header *h, const char *path, struct cn_error *err)
{
    if (h->hz == ECG_MITDB_HZ && h->n_samples >= ECG_BEAT_SAMPLES) return 0;
    return cn_fail(err, CN_EINVALID,
                   "%s: %lld samples at %.9g Hz; nets that classify beats take records of at least "
                   "%d samples at %d Hz (as MIT-BIH's) with annotations of the R peaks",
                   path, (long long)h->n_samples, h->hz, ECG_BEAT_SAMPLES, ECG_MITDB_HZ);
}

static int allocate(struct ecg_beats *b, int n, struct cn_error *err)
{
    b->sample = malloc(((size_t)n + 1) * sizeof *b->sample);
    b->code = malloc((size_t)n + 1);
    b->x = malloc(((size_t)n * ECG_BEAT_SAMPLES + 1) * sizeof *b->x);
    return b->sample && b->code && b->x ? 0 : cn_fail(err, CN_ENOMEM, "out of memory");
}

/* Cuts every annotated beat from mV [n_samples]. */
static void cut_all(struct ecg_beats *b, const struct ecg_annotations *a, const double *mv,
                    int64_t n_samples)
{
    for (int i = 0; i < a->n; i++) {
        const struct ecg_annotation *at = &a->of[i];
        if (ecg_beat_class(at->code) < 0) continue;
        if (!ecg_beat_cut(mv, n_samples, at->sample, b->x + (size_t)b->n * ECG_BEAT_SAMPLES)) {
            b->left_out++;
            continue;
        }
        b->sample[b->n] = at->sample;
        b->code[b->n++] = at->code;
    }
}

static void tell(const struct ecg_beats *b, int lead, const struct ecg_record *r,
                 const struct ecg_annotations *a)
{
    char unknown[256];
    if (b->lead_missing)
        cn_warn("ecg", "%s: record %s has no lead MLII; taking its first, %s", r->path,
                r->header.record, b->lead);
    else if (r->header.signal[lead].twin)
        cn_warn("ecg", "%s: several signals are named %s; taking the first, of line %d", r->path,
                b->lead, r->header.signal[lead].line);
    ecg_annotations_unknown(a, unknown, sizeof unknown);
    if (unknown[0])
        cn_warn("ecg", "%s: %d annotations with codes that WFDB does not define left out: %s",
                r->path, a->unknown, unknown);
    if (b->left_out)
        cn_debug("ecg", "%s: %d beats too near to an end left out", r->path, b->left_out);
}

int ecg_beats_cut(struct ecg_beats *b, const struct ecg_record *r, const struct ecg_annotations *a,
                  const struct ecg_gaps *g, struct cn_error *err)
{
    const struct ecg_header *h = &r->header;
    memset(b, 0, sizeof *b);
    int lead = ecg_beat_lead(h, &b->lead_missing);
    snprintf(b->lead, sizeof b->lead, "%s", h->signal[lead].name);
    double *mv = malloc((size_t)h->n_samples * sizeof *mv);
    int rc = mv ? allocate(b, a->n, err) : cn_fail(err, CN_ENOMEM, "%s: out of memory", r->path);
    if (!rc) {
        b->bridged = ecg_signal_whole(r, lead, g, mv, err);
        rc = b->bridged < 0 ? (int)b->bridged : 0;
    }
    if (!rc) {
        cut_all(b, a, mv, h->n_samples);
        tell(b, lead, r, a);
    }
    free(mv);
    if (rc) ecg_beats_clear(b);
    return rc;
}

/* z-scores of the converter's units: doubles that differ in their last bits become one float. */
static void score(const int32_t *adc, int64_t n, double sign, float *z)
{
    double sum = 0, squares = 0;
    int64_t there = 0;
    for (int64_t t = 0; t < n; t++)
        if (adc[t] != ECG_MISSING) sum += adc[t], there++;
    double mean = there ? sum / (double)there : 0;
    for (int64_t t = 0; t < n; t++)
        if (adc[t] != ECG_MISSING) squares += (adc[t] - mean) * (adc[t] - mean);
    double std = squares > 0 ? sqrt(squares / (double)there) : 1;
    for (int64_t t = 0; t < n; t++)
        z[t] = adc[t] == ECG_MISSING ? INFINITY : (float)(sign * (adc[t] - mean) / std);
}

int ecg_beats_lead_hash(const struct ecg_record *r, struct cn_hash *out, struct cn_error *err)
{
    const struct ecg_header *h = &r->header;
    int missing, lead = ecg_beat_lead(h, &missing);
    float *z = malloc(((size_t)h->n_samples + 1) * sizeof *z);
    if (!z) return cn_fail(err, CN_ENOMEM, "%s: out of memory", r->path);
    score(r->adc + lead * h->n_samples, h->n_samples, h->signal[lead].gain < 0 ? -1 : 1, z);
    cn_hash_bytes(z, (size_t)h->n_samples * sizeof *z, out);
    free(z);
    return 0;
}

static int read_annotations(struct ecg_annotations *a, const struct ecg_record *r,
                            const char *given, struct cn_error *err)
{
    char own[sizeof r->path];
    int stem = (int)strlen(r->path) - 4; /* it ends with .hea */
    snprintf(own, sizeof own, "%.*s.atr", stem, r->path);
    const struct ecg_timeline of = {r->header.n_samples, r->header.hz};
    int rc = ecg_annotations_read(a, given ? given : own, &of, err);
    if (rc != CN_ENOTFOUND || given) return rc;
    return cn_fail(err, CN_ENOTFOUND,
                   "%s: no such file; beats are classified around annotated R peaks: put the "
                   "record's annotations there or name them with --annotations FILE",
                   own);
}

int ecg_beats_read(struct ecg_beats *b, const char *record, const char *annotations,
                   const struct ecg_gaps *g, struct cn_error *err)
{
    struct ecg_record *r;
    struct ecg_annotations a = {0};
    memset(b, 0, sizeof *b);
    int rc = ecg_record_read(&r, record, err);
    if (rc) return rc;
    rc = ecg_beats_accept(&r->header, r->path, err);
    if (!rc) rc = read_annotations(&a, r, annotations, err);
    if (!rc) rc = ecg_beats_cut(b, r, &a, g, err);
    if (!rc && !b->n)
        rc = cn_fail(
            err, CN_EINVALID,
            "%s: none of its %d annotations is a beat whose window (%d samples before the R "
            "peak, %d after it) lies inside the record",
            r->path, a.n, ECG_BEAT_BEFORE, ECG_BEAT_AFTER);
    ecg_annotations_clear(&a);
    ecg_record_destroy(r);
    if (rc) ecg_beats_clear(b);
    return rc;
}

void ecg_beats_clear(struct ecg_beats *b)
{
    free(b->sample);
    free(b->code);
    free(b->x);
    memset(b, 0, sizeof *b);
}
