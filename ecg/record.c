/* ecg/record.c - a whole WFDB record from its files: the header, then every signal file that it names;
 * see wfdb.h. Where the files come from (a folder, the inputs of a dataset with their hashes) is
 * the caller's; what is accepted is decided here, for all of them. */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/log.h"
#include "ecg/wfdb.h"

/* How many signals from `first` on share its file. */
static int group_size(const struct ecg_header *h, int first)
{
    int n = 1;
    while (first + n < h->n_signals && !strcmp(h->signal[first + n].file, h->signal[first].file))
        n++;
    return n;
}

/* Room for all signals, once the first group's file has shown that the length is real. */
static int make_room(struct ecg_record *r, struct cn_error *err)
{
    int64_t all = r->header.n_samples * r->header.n_signals;
    if (r->adc) return 0;
    if (all > ECG_MAX_VALUES)
        return cn_fail(err, CN_ELIMIT, "%s: %d signals x %lld samples; at most %lld in all",
                       r->path, r->header.n_signals, (long long)r->header.n_samples,
                       (long long)ECG_MAX_VALUES);
    r->adc = malloc((size_t)all * sizeof *r->adc);
    return r->adc ? 0 : cn_fail(err, CN_ENOMEM, "%s: out of memory", r->path);
}

static int decode_group(struct ecg_record *r, int first, int count, const struct ecg_dat *dat,
                        struct cn_error *err)
{
    struct ecg_header *h = &r->header;
    if (!h->n_samples) {
        int64_t n = ecg_dat_length(h, first, count, dat, err);
        if (n < 0) return (int)n;
        h->n_samples = n;
    }
    /* no format needs less than a byte a sample: what is shorter is refused by the decoder, and no
     * memory is taken for it */
    int rc = (int64_t)dat->n >= h->n_samples * count ? make_room(r, err) : 0;
    return rc ? rc
              : ecg_dat_decode(h, first, count, dat, r->adc ? r->adc + first * h->n_samples : NULL,
                               err);
}

static int read_group(struct ecg_record *r, int first, int count, const struct ecg_files *files,
                      struct cn_error *err)
{
    struct ecg_bytes *b = calloc(1, sizeof *b);
    if (!b) return cn_fail(err, CN_ENOMEM, "%s: out of memory", r->path);
    const struct ecg_signal *sig = &r->header.signal[first];
    int rc = files->read(files->arg, sig->file, ECG_DAT_LIMIT, b, err);
    if (rc) cn_fail_prefix(err, "%s:%d", r->path, sig->line);
    struct ecg_dat dat = {b->path, (const uint8_t *)b->data, b->n};
    if (!rc) rc = decode_group(r, first, count, &dat, err);
    r->bytes += (int64_t)b->n;
    free(b->data);
    free(b);
    return rc;
}

static int read_header(struct ecg_record *r, const char *name, const struct ecg_files *files,
                       struct cn_error *err)
{
    struct ecg_bytes *b = calloc(1, sizeof *b);
    if (!b) return cn_fail(err, CN_ENOMEM, "%s: out of memory", name);
    int rc = files->read(files->arg, name, ECG_HEADER_LIMIT, b, err);
    if (!rc) memcpy(r->path, b->path, sizeof r->path);
    if (!rc) rc = ecg_header_parse(&r->header, b->path, b->data, b->n, err);
    if (!rc && r->header.latin1)
        cn_warn("ecg", "%s:%d: the text is not UTF-8; taken for Latin-1", b->path,
                r->header.latin1);
    if (!rc && r->header.extra)
        cn_warn("ecg",
                "%s:%d: the header tells of %d signals; this line and what follows are passed over",
                b->path, r->header.extra, r->header.n_signals);
    free(b->data);
    free(b);
    return rc;
}

int ecg_record_load(struct ecg_record **out, const char *header, const struct ecg_files *files,
                    struct cn_error *err)
{
    *out = NULL;
    struct ecg_record *r = calloc(1, sizeof *r);
    if (!r) return cn_fail(err, CN_ENOMEM, "%s: out of memory", header);
    int rc = read_header(r, header, files, err);
    for (int s = 0, count; !rc && s < r->header.n_signals; s += count) {
        count = group_size(&r->header, s);
        rc = read_group(r, s, count, files, err);
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

/* --- from a folder --------------------------------------------------------------------------- */

/* The folder with its slash, or "". */
struct folder {
    char path[ECG_PATH_MAX];
};

static int read_beside(void *arg, const char *file, size_t limit, struct ecg_bytes *out,
                       struct cn_error *err)
{
    const struct folder *dir = arg;
    if (snprintf(out->path, sizeof out->path, "%s%s", dir->path, file) >= (int)sizeof out->path)
        return cn_fail(err, CN_EINVALID, "%s%s: path too long", dir->path, file);
    return cn_file_read(out->path, limit, &out->data, &out->n, err);
}

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), m = strlen(tail);
    return n > m && !strcmp(s + n - m, tail);
}

int ecg_record_read(struct ecg_record **out, const char *path, struct cn_error *err)
{
    struct folder dir;
    char name[ECG_PATH_MAX];
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t n = strlen(base);
    if (ends_with(base, ".hea") || ends_with(base, ".dat") || ends_with(base, ".mat")) n -= 4;
    *out = NULL;
    if (strlen(path) + 5 > sizeof name) return cn_fail(err, CN_EINVALID, "%s: path too long", path);
    snprintf(dir.path, sizeof dir.path, "%.*s", (int)(base - path), path);
    snprintf(name, sizeof name, "%.*s.hea", (int)n, base);
    return ecg_record_load(out, name, &(struct ecg_files){read_beside, &dir}, err);
}

/* --- looking things up ----------------------------------------------------------------------- */

int ecg_signal_find(const struct ecg_header *h, const char *name)
{
    for (int s = 0; s < h->n_signals; s++)
        if (!strcasecmp(h->signal[s].name, name)) return s;
    return -1;
}

int64_t ecg_sample_at(double time, double per_unit)
{
    double exact = time * per_unit;
    /* a half in decimals, as 0.285 s at 100 Hz, may lie an ulp below one in binary */
    double at = floor(exact + 0.5 + fabs(exact) * 4e-16);
    return at >= 0 && at <= 9007199254740992.0 ? (int64_t)at : -1;
}
