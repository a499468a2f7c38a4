/* ecg/wfdb.h - records in PhysioNet's WFDB format: the text header (.hea), the samples (.dat, .mat and
 * whatever else a header names), checksums verified. Source: "header(5)" and "signal(5)" of the
 * WFDB Applications Guide. */
#ifndef CINCH_ECG_WFDB_H
#define CINCH_ECG_WFDB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define ECG_PATH_MAX 4096
#define ECG_MAX_SIGNALS 32
#define ECG_MAX_SAMPLES 100000000         /* per signal */
#define ECG_MAX_VALUES (INT64_C(1) << 30) /* of all signals together: 4 GiB in memory */
#define ECG_HEADER_LIMIT ((size_t)1 << 20)
#define ECG_DAT_LIMIT ((size_t)2 << 30)

/* In place of a sample that the file marks as missing; no format can hold it as a value. */
#define ECG_MISSING INT32_MIN

/* One signal line of a header. */
struct ecg_signal {
    char file[128];  /* as written: a name beside the header, never a path */
    int format;      /* one that ecg_format_known knows */
    int skew;        /* samples by which it lies later in the file than the others */
    int64_t offset;  /* bytes to skip at the start of the file */
    double gain;     /* ADC units per physical unit, finite, never 0 */
    bool calibrated; /* false: the header says 0 or nothing, and `gain` is WFDB's default, 200 */
    int baseline;    /* ADC value of 0 physical units; ADC zero where the header is silent */
    int initial;     /* the value before the first difference of format 8 */
    char units[24];  /* UTF-8; "mV" where the header is silent */
    bool checked;    /* the header carries a checksum */
    int checksum;    /* 16-bit sum of all samples as stored, signed */
    char
        name[128]; /* lead: "MLII", "AVR". UTF-8 without control characters; never empty ("signal 3"
                        where the header is silent), never equal to another's ("II", "II (2)") */
    bool named;    /* the header has a description */
    bool twin;     /* another signal of the header has the same description */
    int line;      /* 1-based line in the header, for messages */
};

struct ecg_header {
    char record[128]; /* as in the header, UTF-8 without control characters */
    int n_signals;
    double hz;         /* 250 where the header is silent, as WFDB */
    int64_t n_samples; /* per signal; 0: not stated */
    int latin1; /* line of the first text that was no UTF-8 and was taken for Latin-1, or 0 */
    int extra;  /* the first line behind the signals' that is none of theirs and no comment, or 0 */
    struct ecg_signal signal[ECG_MAX_SIGNALS];
};

/* Parses `n` bytes of header text; `file` stands in messages, which name file:line. LF or CR LF, a
 * byte order mark, comments that start with '#' after any blanks. Names and units that are not UTF-8
 * are taken for Latin-1 (ecg_record_load warns). CN_EINVALID for a malformed line or a gain that no voltage can
 * come from, CN_EUNSUPPORTED for several segments, several samples per frame or a format that
 * cannot be read. */
int ecg_header_parse(struct ecg_header *h, const char *file, const char *text, size_t n,
                     struct cn_error *err);

/* The bytes of one signal file. */
struct ecg_dat {
    const char *path; /* for messages */
    const uint8_t *data;
    size_t n;
};

bool ecg_format_known(int format);

/* The samples per signal that the `count` signals from `first` on have in `dat`, which they share:
 * what a header that does not state it means. CN_ECORRUPT when there is none, or when the file ends
 * within a sample of all signals. */
int64_t ecg_dat_length(const struct ecg_header *h, int first, int count, const struct ecg_dat *dat,
                       struct cn_error *err);

/* Decodes the signals [first, first + count) of `h`, which lie interleaved in `dat`, into
 * out [count, h->n_samples] (h->n_samples > 0) and verifies their checksums. Missing samples, and
 * those that a skewed signal lacks at its end, become ECG_MISSING. CN_ECORRUPT for a truncated file
 * or a wrong checksum, naming file, record, signal and header line. */
int ecg_dat_decode(const struct ecg_header *h, int first, int count, const struct ecg_dat *dat,
                   int32_t *out, struct cn_error *err);

struct ecg_record {
    struct ecg_header header; /* n_samples filled in where the header was silent */
    char path[ECG_PATH_MAX];  /* the header's, for messages */
    int32_t *adc;             /* [n_signals, n_samples]; ECG_MISSING where there is no value */
    int64_t bytes;            /* of all its signal files */
};

/* A file of a record as it was read: malloc'ed data of n bytes, and the path for messages. */
struct ecg_bytes {
    char path[ECG_PATH_MAX];
    char *data;
    size_t n;
};

/* Where a record's files come from. `read` fills *out with the file named `file`, which lies beside
 * the header; `limit` bounds its bytes. */
struct ecg_files {
    int (*read)(void *arg, const char *file, size_t limit, struct ecg_bytes *out,
                struct cn_error *err);
    void *arg;
};

/* Reads a whole record through `files`; `header` is the header's file name. This is the one way in
 * which records come in. *out is owned by the caller. */
int ecg_record_load(struct ecg_record **out, const char *header, const struct ecg_files *files,
                    struct cn_error *err);

/* The same from a folder of files: `path` is the record's path with or without ".hea", ".dat" or ".mat". */
int ecg_record_read(struct ecg_record **out, const char *path, struct cn_error *err);
void ecg_record_destroy(struct ecg_record *r); /* accepts NULL */

/* Index of the signal named `name` (any case), or -1. */
int ecg_signal_find(const struct ecg_header *h, const char *name);

/* The sample at `time` when `per_unit` samples are one unit of time: the nearest, halves go up. Every
 * place that turns time into samples comes here. -1 when that is no sample's number (negative, not
 * finite, above 2^53). */
int64_t ecg_sample_at(double time, double per_unit);

#endif
