/* ecg/wfdb.h - records in PhysioNet's WFDB format: the text header (.hea) and the samples (.dat) in
 * formats 16 and 212, checksums verified. Source: "header(5)" and "signal(5)" of the WFDB
 * Applications Guide. */
#ifndef CINCH_ECG_WFDB_H
#define CINCH_ECG_WFDB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define ECG_MAX_SIGNALS 32
#define ECG_MAX_SAMPLES 100000000 /* per signal */

/* One signal line of a header. */
struct ecg_signal {
    char file[128]; /* as written: a name beside the header, never a path */
    int format;     /* 16 or 212 */
    int64_t offset; /* bytes to skip at the start of the file */
    double gain;    /* ADC units per physical unit; 200 where the header says 0 or nothing */
    int baseline;   /* ADC value of 0 physical units */
    char units[16]; /* "mV" where the header is silent */
    bool checked;   /* the header carries a checksum */
    int checksum;   /* 16-bit sum of all samples, signed */
    char name[64];  /* lead: "MLII", "AVR"; "" where absent */
    int line;       /* 1-based line in the header, for messages */
};

struct ecg_header {
    char record[64];
    int n_signals;
    double hz;         /* 250 where the header is silent, as WFDB */
    int64_t n_samples; /* per signal; 0: not stated */
    struct ecg_signal signal[ECG_MAX_SIGNALS];
};

/* Parses `n` bytes of header text; `file` stands in messages, which name file:line. LF or CR LF.
 * CN_EINVALID for a malformed line, CN_EUNSUPPORTED for several segments or another format. */
int ecg_header_parse(struct ecg_header *h, const char *file, const char *text, size_t n,
                     struct cn_error *err);

/* The bytes of one signal file. */
struct ecg_dat {
    const char *path; /* for messages */
    const uint8_t *data;
    size_t n;
};

/* Decodes the signals [first, first + count) of `h`, which lie interleaved in `dat`, into
 * out [count, h->n_samples] (h->n_samples > 0) and verifies their checksums. CN_ECORRUPT for a
 * truncated file or a wrong checksum, naming file, record, signal and header line. */
int ecg_dat_decode(const struct ecg_header *h, int first, int count, const struct ecg_dat *dat,
                   int16_t *out, struct cn_error *err);

struct ecg_record {
    struct ecg_header header; /* n_samples filled in where the header was silent */
    char path[512];           /* the header's, for messages */
    int16_t *adc;             /* [n_signals, n_samples] */
};

/* Reads a whole record. `path` is the record's path with or without ".hea" or ".dat". *out is owned
 * by the caller. */
int ecg_record_read(struct ecg_record **out, const char *path, struct cn_error *err);
void ecg_record_destroy(struct ecg_record *r); /* accepts NULL */

/* Signal `s` in mV, out [n_samples]; samples that the format marks as missing are held at the last
 * good value (the first good one at the start, 0 where there is none). Returns how many were
 * missing, or CN_EUNSUPPORTED when the unit is not a voltage. */
int64_t ecg_signal_mv(const struct ecg_header *h, int s, const int16_t *adc, double *out,
                      struct cn_error *err);

/* Index of the signal named `name` (any case), or -1. */
int ecg_signal_find(const struct ecg_header *h, const char *name);

#endif
