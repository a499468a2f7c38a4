/* ecg/annotation.h - WFDB annotation files in MIT format (.atr): beats, rhythm changes, notes.
 * Source: "annot(5)" of the WFDB Applications Guide. */
#ifndef CINCH_ECG_ANNOTATION_H
#define CINCH_ECG_ANNOTATION_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define ECG_CODES 50 /* annotation codes are 0-49; the rest of the 6 bits are for the format */

struct ecg_annotation {
    int64_t sample;
    uint8_t code;    /* 0-49; see ecg_code_symbol */
    int8_t subtype;  /* SUB, of this annotation alone */
    uint8_t channel; /* CHN, holds until changed */
    int8_t number;   /* NUM, holds until changed */
    uint8_t aux_len; /* bytes of the auxiliary string; 0: none */
    const char *aux; /* not 0-terminated; in ecg_annotations.data; NULL: none */
};

struct ecg_annotations {
    int n;
    struct ecg_annotation *of;
    char *data;           /* the file, owned; aux strings point into it */
    int count[ECG_CODES]; /* annotations per code */
    int unknown;          /* annotations whose code WFDB does not define */
};

/* The symbol of a code ("N", "V", "+"), or NULL where WFDB defines none. */
const char *ecg_code_symbol(int code);
int ecg_code_is_beat(int code);

/* Parses `n` bytes; takes over nothing, keeps pointers to aux strings into `data`. `n_samples` > 0
 * is the record's length. CN_ECORRUPT for a file that ends within an annotation or without the end
 * mark, for a time before 0 or at or past n_samples, naming `file` and the byte. */
int ecg_annotations_parse(struct ecg_annotations *a, const char *file, const uint8_t *data,
                          size_t n, int64_t n_samples, struct cn_error *err);
/* Reads PATH.atr-like files whole. */
int ecg_annotations_read(struct ecg_annotations *a, const char *path, int64_t n_samples,
                         struct cn_error *err);
void ecg_annotations_clear(struct ecg_annotations *a); /* accepts a zeroed one */

/* "code 42 (3 times), code 45 (once)": the undefined codes, or "" when there are none. */
void ecg_annotations_unknown(const struct ecg_annotations *a, char *out, size_t cap);

#endif
