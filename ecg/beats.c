/* ecg/beats.c - see beats.h. */
#include "ecg/beats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"

static int check_record(const struct ecg_record *r, struct cn_error *err)
{
    const struct ecg_header *h = &r->header;
    if (h->hz == ECG_MITDB_HZ && h->n_samples >= ECG_BEAT_SAMPLES) return 0;
    return cn_fail(err, CN_EINVALID,
                   "%s: %lld samples at %g Hz; nets that classify beats take records of at least "
                   "%d samples at %d Hz (as MIT-BIH's) with annotations of the R peaks",
                   r->path, (long long)h->n_samples, h->hz, ECG_BEAT_SAMPLES, ECG_MITDB_HZ);
}

static int read_annotations(struct ecg_annotations *a, const struct ecg_record *r,
                            const char *given, struct cn_error *err)
{
    char own[sizeof r->path];
    int stem = (int)strlen(r->path) - 4; /* it ends with .hea */
    snprintf(own, sizeof own, "%.*s.atr", stem, r->path);
    if (!given && !cn_file_exists(own))
        return cn_fail(err, CN_ENOTFOUND,
                       "%s: no such file; beats are classified around annotated R peaks: put the "
                       "record's annotations there or name them with --annotations FILE",
                       own);
    return ecg_annotations_read(a, given ? given : own, r->header.n_samples, err);
}

static int allocate(struct ecg_beats *b, int n, struct cn_error *err)
{
    b->sample = malloc(((size_t)n + 1) * sizeof *b->sample);
    b->code = malloc((size_t)n + 1);
    b->x = malloc(((size_t)n * ECG_BEAT_SAMPLES + 1) * sizeof *b->x);
    return b->sample && b->code && b->x ? 0 : cn_fail(err, CN_ENOMEM, "out of memory");
}

/* Cuts every annotated beat from mV [n_samples]. */
static void cut(struct ecg_beats *b, const struct ecg_annotations *a, const double *mv,
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

static void tell(const struct ecg_beats *b, const struct ecg_record *r,
                 const struct ecg_annotations *a)
{
    char unknown[256];
    if (b->lead_missing) cn_warn("ecg", "%s: no lead MLII; taking its first, %s", r->path, b->lead);
    ecg_annotations_unknown(a, unknown, sizeof unknown);
    if (unknown[0])
        cn_warn("ecg", "%s: %d annotations with codes that WFDB does not define left out: %s",
                r->path, a->unknown, unknown);
}

static int read_beats(struct ecg_beats *b, const struct ecg_record *r,
                      const struct ecg_annotations *a, struct cn_error *err)
{
    const struct ecg_header *h = &r->header;
    int lead = ecg_beat_lead(h, &b->lead_missing);
    snprintf(b->lead, sizeof b->lead, "%s", h->signal[lead].name);
    tell(b, r, a);
    double *mv = malloc((size_t)h->n_samples * sizeof *mv);
    int rc = mv ? allocate(b, a->n, err) : cn_fail(err, CN_ENOMEM, "%s: out of memory", r->path);
    if (!rc) {
        int64_t held = ecg_signal_mv(h, lead, r->adc + lead * h->n_samples, mv, err);
        if (held < 0) rc = (int)held;
        if (held > 0)
            cn_warn("ecg", "%s: lead %s: %lld missing samples held at the last good value", r->path,
                    b->lead, (long long)held);
    }
    if (!rc) cut(b, a, mv, h->n_samples);
    free(mv);
    if (!rc && !b->n)
        rc = cn_fail(
            err, CN_EINVALID,
            "%s: none of its %d annotations is a beat whose window (%d samples before the R "
            "peak, %d after it) lies inside the record",
            r->path, a->n, ECG_BEAT_BEFORE, ECG_BEAT_AFTER);
    return rc;
}

int ecg_beats_read(struct ecg_beats *b, const char *record, const char *annotations,
                   struct cn_error *err)
{
    struct ecg_record *r;
    struct ecg_annotations a = {0};
    memset(b, 0, sizeof *b);
    int rc = ecg_record_read(&r, record, err);
    if (rc) return rc;
    rc = check_record(r, err);
    if (!rc) rc = read_annotations(&a, r, annotations, err);
    if (!rc) rc = read_beats(b, r, &a, err);
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
