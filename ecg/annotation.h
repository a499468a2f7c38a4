/* ecg/annotation.h - WFDB annotation files in MIT format (.atr): beats, rhythm changes, notes.
 * Source: "annot(5)" of the WFDB Applications Guide. */
#ifndef CINCH_ECG_ANNOTATION_H
#define CINCH_ECG_ANNOTATION_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Annotation codes are 0-58: 0-49 are types known to WFDB or defined by a file, 50-58 no one has given a
 * meaning yet; 59-63 are the format's own. */
#define ECG_CODES 59
#define ECG_SYMBOL 16                    /* bytes of a symbol with its 0 */
#define ECG_ATR_LIMIT ((size_t)16 << 20) /* eight million annotations, 256 MiB in memory */

struct ecg_annotation {
    int64_t sample;
    uint8_t code;    /* 1-58; see ecg_code_symbol */
    int8_t subtype;  /* SUB, of this annotation alone */
    uint8_t channel; /* CHN, holds until changed */
    int8_t number;   /* NUM, holds until changed */
    uint32_t at;     /* byte in the file, for messages */
    uint8_t aux_len; /* bytes of the auxiliary string; 0: none */
    const char *aux; /* not 0-terminated; in ecg_annotations.data; NULL: none */
};

struct ecg_annotations {
    int n;
    struct ecg_annotation *of;
    char *data;           /* the file, owned; aux strings point into it */
    int count[ECG_CODES]; /* annotations per code */
    int unknown; /* annotations whose code WFDB does not define, whether the file does or not */
    double resolution; /* "## time resolution": counts per second; 0: times are samples */
    char defined[ECG_CODES][ECG_SYMBOL]; /* what the file itself calls a code; "": nothing */
};

/* The record that annotations belong to. */
struct ecg_timeline {
    int64_t n_samples; /* 0: not known */
    double hz;         /* > 0 */
};

/* The symbol of a code ("N", "V", "+"), or NULL where WFDB defines none. */
const char *ecg_code_symbol(int code);
int ecg_code_is_beat(int code);

/* Parses `n` bytes; takes over nothing, keeps pointers to aux strings into `data`. Times that the file
 * counts in another resolution become the nearest sample; the notes at its start that say so, and
 * those that define codes, are no annotations. CN_ECORRUPT for a file that ends within an annotation
 * or without the end mark, for a time before 0 or at or past the record's end, naming `file` and the
 * byte; CN_EINVALID for such a note that is malformed, CN_EUNSUPPORTED for one that gives another
 * meaning to a beat's code. */
int ecg_annotations_parse(struct ecg_annotations *a, const char *file, const uint8_t *data,
                          size_t n, const struct ecg_timeline *of, struct cn_error *err);
/* Reads PATH.atr-like files whole. */
int ecg_annotations_read(struct ecg_annotations *a, const char *path, const struct ecg_timeline *of,
                         struct cn_error *err);
void ecg_annotations_clear(struct ecg_annotations *a); /* accepts a zeroed one */

/* "code 42 'TP' (3 times), code 45 (1 times)": the codes that WFDB does not define, with the file's own
 * symbol where it has one; "" when there are none. */
void ecg_annotations_unknown(const struct ecg_annotations *a, char *out, size_t cap);

#endif
