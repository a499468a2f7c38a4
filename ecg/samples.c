/* ecg/samples.c - the signal files of WFDB: bytes to samples; see wfdb.h. Source: signal(5).
 *
 * Signals that share a file lie interleaved in it, sample by sample, behind `offset` bytes. All numbers
 * are little-endian two's complement but where noted, and the smallest value of a format marks a
 * missing sample.
 *     8    one byte: the difference to the sample before; the first to the header's initial value.
 *          Has no mark for missing samples
 *     16   two bytes
 *     24   three bytes
 *     32   four bytes
 *     61   two bytes, big-endian
 *     80   one byte, offset binary: 128 is 0
 *     160  two bytes, offset binary: 32768 is 0
 *     212  two 12-bit samples in three bytes: low byte of the first; low nibble = high bits of the
 *          first, high nibble = high bits of the second; low byte of the second
 *     310  three 10-bit samples in two 16-bit words: bits 1-10 of the first, bits 1-10 of the second,
 *          bits 11-15 of the first (low) with bits 11-15 of the second (high)
 *     311  three 10-bit samples in 32 bits, from the lowest bit on
 * A file may end within such a pack: after two bytes of a 212 that has one sample, say. The
 * checksum is the sum of a signal's samples, missing ones as they are stored, modulo 2^16.
 */
#include <string.h>

#include "base/log.h"
#include "ecg/wfdb.h"

struct format {
    int code;
    int pack;    /* samples in a pack */
    int tail[4]; /* bytes that hold 0, 1, .. pack samples */
    int32_t missing;
};

static const struct format formats[] = {
    {8, 1, {0, 1}, ECG_MISSING},  {16, 1, {0, 2}, INT16_MIN}, {24, 1, {0, 3}, -8388608},
    {32, 1, {0, 4}, INT32_MIN},   {61, 1, {0, 2}, INT16_MIN}, {80, 1, {0, 1}, -128},
    {160, 1, {0, 2}, INT16_MIN},  {212, 2, {0, 2, 3}, -2048}, {310, 3, {0, 2, 4, 4}, -512},
    {311, 3, {0, 2, 3, 4}, -512},
};

static const struct format *format_of(int code)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (formats[i].code == code) return &formats[i];
    return NULL;
}

bool ecg_format_known(int format)
{
    return format_of(format) != NULL;
}

static int64_t bytes_of(const struct format *f, int64_t samples)
{
    return samples / f->pack * f->tail[f->pack] + f->tail[samples % f->pack];
}

/* How many samples `bytes` hold; a pack that is begun gives those that are whole. */
static int64_t samples_of(const struct format *f, int64_t bytes)
{
    int64_t n = bytes / f->tail[f->pack] * f->pack;
    int rest = (int)(bytes % f->tail[f->pack]), k = 0;
    while (k + 1 < f->pack && f->tail[k + 1] <= rest) k++;
    return n + k;
}

int64_t ecg_dat_length(const struct ecg_header *h, int first, int count, const struct ecg_dat *dat,
                       struct cn_error *err)
{
    const struct ecg_signal *sig = &h->signal[first];
    const struct format *f = format_of(sig->format);
    int64_t bytes = (int64_t)dat->n - sig->offset, n = bytes > 0 ? samples_of(f, bytes) : 0;
    if (n < count) return cn_fail(err, CN_ECORRUPT, "%s: holds no samples", dat->path);
    /* what is left may only fill the last pack up */
    if (n % count >= f->pack || bytes - bytes_of(f, n) > 0)
        return cn_fail(err, CN_ECORRUPT,
                       "%s: %zu bytes are no whole number of samples of %d signals in format %d: "
                       "fetch it again, or state the number of samples in the header of record %s",
                       dat->path, dat->n, count, sig->format, h->record);
    if (n / count > ECG_MAX_SAMPLES)
        return cn_fail(err, CN_ELIMIT, "%s: more than %d samples per signal", dat->path,
                       ECG_MAX_SAMPLES);
    return n / count;
}

/* --- decoding -------------------------------------------------------------------------------- */

/* `n` samples of each of `count` interleaved signals from `bytes`. */
struct run {
    const uint8_t *bytes;
    int count;
    int64_t n;
    int32_t *out; /* [count, n] */
};

static void decode_16(const struct run *r)
{
    const uint8_t *p = r->bytes;
    for (int64_t t = 0; t < r->n; t++)
        for (int s = 0; s < r->count; s++, p += 2)
            r->out[s * r->n + t] = (int16_t)(uint16_t)(p[0] | p[1] << 8);
}

/* The low `bits` of v as two's complement. */
static int32_t extend(uint32_t v, int bits)
{
    uint32_t sign = UINT32_C(1) << (bits - 1);
    return (int32_t)((v & (sign - 1)) - (v & sign));
}

static void decode_212(const struct run *r)
{
    const uint8_t *p = r->bytes;
    int s = 0;
    int64_t t = 0, total = r->n * r->count;
    for (int64_t i = 0; i < total; i++) {
        uint32_t v = i & 1 ? p[2] | (p[1] & 0xf0u) << 4 : p[0] | (p[1] & 0x0fu) << 8;
        if (i & 1) p += 3;
        r->out[s * r->n + t] = extend(v, 12);
        if (++s == r->count) s = 0, t++;
    }
}

/* The k-th sample of the pack at p, whose bytes beyond that sample need not be there. */
static int32_t packed(int format, const uint8_t *p, int k)
{
    switch (format) {
    case 24:
        return extend(p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16, 24);
    case 32:
        return extend(p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24, 32);
    case 61:
        return extend(p[1] | (uint32_t)p[0] << 8, 16);
    case 80:
        return p[0] - 128;
    case 160:
        return (p[0] | p[1] << 8) - 32768;
    case 310:
        if (k < 2) return extend((p[2 * k] | (uint32_t)p[2 * k + 1] << 8) >> 1, 10);
        return extend((uint32_t)p[1] >> 3 | (uint32_t)(p[3] >> 3) << 5, 10);
    default: /* 311: 10 bits from bit 10 k on */
        return extend((p[k] | (uint32_t)p[k + 1] << 8) >> 2 * k, 10);
    }
}

static void decode_packs(const struct run *r, const struct format *f)
{
    const uint8_t *p = r->bytes;
    int s = 0, k = 0;
    int64_t t = 0, total = r->n * r->count;
    for (int64_t i = 0; i < total; i++) {
        r->out[s * r->n + t] = packed(f->code, p, k);
        if (++k == f->pack) k = 0, p += f->tail[f->pack];
        if (++s == r->count) s = 0, t++;
    }
}

static void decode_differences(const struct run *r, const struct ecg_signal *sig)
{
    for (int s = 0; s < r->count; s++) {
        uint32_t v = (uint32_t)sig[s].initial;
        for (int64_t t = 0; t < r->n; t++) {
            v += (uint32_t)(int8_t)r->bytes[t * r->count + s];
            r->out[s * r->n + t] = (int32_t)v;
        }
    }
}

static void decode(const struct run *r, const struct format *f, const struct ecg_signal *sig)
{
    if (f->code == 16)
        decode_16(r);
    else if (f->code == 212)
        decode_212(r);
    else if (f->code == 8)
        decode_differences(r, sig);
    else
        decode_packs(r, f);
}

/* --- what the samples are -------------------------------------------------------------------- */

static int check_sum(const struct ecg_header *h, int s, const struct ecg_dat *dat, const int32_t *x,
                     struct cn_error *err)
{
    const struct ecg_signal *sig = &h->signal[s];
    uint16_t sum = 0;
    for (int64_t t = 0; t < h->n_samples; t++) sum = (uint16_t)(sum + (uint32_t)x[t]);
    if (!sig->checked || (int16_t)sum == sig->checksum) return 0;
    return cn_fail(err, CN_ECORRUPT,
                   "%s: record %s, signal %d (%s): checksum %d, but line %d of its header says %d; "
                   "the file is damaged, fetch it again",
                   dat->path, h->record, s, sig->name, (int16_t)sum, sig->line, sig->checksum);
}

/* Marks missing samples, and moves a skewed signal to its place in time. */
static void settle(const struct ecg_header *h, int s, int32_t missing, int32_t *x)
{
    int64_t n = h->n_samples, skew = h->signal[s].skew < n ? h->signal[s].skew : n;
    if (missing != ECG_MISSING)
        for (int64_t t = 0; t < n; t++)
            if (x[t] == missing) x[t] = ECG_MISSING;
    if (!skew) return;
    memmove(x, x + skew, (size_t)(n - skew) * sizeof *x);
    for (int64_t t = n - skew; t < n; t++) x[t] = ECG_MISSING;
}

int ecg_dat_decode(const struct ecg_header *h, int first, int count, const struct ecg_dat *dat,
                   int32_t *out, struct cn_error *err)
{
    const struct ecg_signal *sig = &h->signal[first];
    const struct format *f = format_of(sig->format);
    int64_t need = sig->offset + bytes_of(f, h->n_samples * count);
    if ((int64_t)dat->n < need)
        return cn_fail(err, CN_ECORRUPT,
                       "%s: truncated: %zu bytes, but the header of record %s promises %lld (%d "
                       "signals x %lld samples in format %d); fetch it again",
                       dat->path, dat->n, h->record, (long long)need, count,
                       (long long)h->n_samples, sig->format);
    int64_t there = samples_of(f, (int64_t)dat->n - sig->offset) / count;
    if (there > h->n_samples)
        cn_warn("ecg",
                "%s: holds %lld samples per signal; the %lld that the header of record %s states "
                "are taken",
                dat->path, (long long)there, (long long)h->n_samples, h->record);
    decode(&(struct run){dat->data + sig->offset, count, h->n_samples, out}, f, sig);
    for (int s = 0; s < count; s++) {
        int rc = check_sum(h, first + s, dat, out + s * h->n_samples, err);
        if (rc) return rc;
        settle(h, first + s, f->missing, out + s * h->n_samples);
    }
    return 0;
}
