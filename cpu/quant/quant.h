/* cpu/quant/quant.h - from a trained model to a deployment artifact (.cinch).
 *
 * Folds BatchNorm, fuses Conv+ReLU(+MaxPool), runs calibration records through the folded float
 * net, picks scales and zero points, rounds the weights, and writes the file that cpu/rt runs.
 * docs/quantization.md has the formulas, the modes and what each technique is worth.
 */
#ifndef CINCH_CPU_QUANT_H
#define CINCH_CPU_QUANT_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "ecg/dataset.h"
#include "nn/model.h"

enum quant_mode {
    QUANT_PAPER, /* study A: 7-bit activations, histogram observer, LSTM quantised dynamically */
    QUANT_FULL,  /* 8 bits everywhere, static int8 LSTM with int16 cell */
    QUANT_BEST,  /* full, and whichever techniques lower the error on the calibration records */
    QUANT_FLOAT, /* float artifact: folded and fused, nothing rounded; needs no dataset */
};

/* "paper", "full", "best", "float"; NULL-terminated, indexed by enum quant_mode. */
extern const char *const quant_mode_names[];

/* A technique of mode `best`. */
enum quant_switch {
    QUANT_AUTO, /* on where it lowers the error on the calibration records (best); off in other
                   modes */
    QUANT_OFF,
    QUANT_ON, /* in full and best; paper refuses it */
};

struct quant_options {
    enum quant_mode mode;
    int calibration;  /* validation records to calibrate with; 0: 128; all of them when fewer */
    uint64_t seed;    /* chooses the records: Philox(seed, CN_RNG_CALIBRATE) */
    int reduce_range; /* 1: 7-bit activations (0..127) in full and best too; paper always has them */
    enum quant_switch bias_correction;
    enum quant_switch equalisation;                   /* cross-layer */
    enum quant_switch observer_choice;                /* per tensor, histogram or min/max */
    void (*progress)(void *arg, int done, int total); /* may be NULL */
    void *progress_arg;
};

#define QUANT_MAX_ROWS 64

/* One fused layer of the artifact. */
struct quant_row {
    char name[24];     /* of its first layer: "conv1", "lstm", "input" */
    char kind[24];     /* "conv+relu+pool", "linear", "input" */
    char observer[12]; /* "histogram", "minmax", "dynamic", "fixed", "" when the output is not
                          quantised */
    float min, max;    /* what the output reached on the calibration records */
    float scale;       /* of the output; 0: not quantised */
    int zero;
    double clipped;           /* share of output values outside the covered range */
    float weight_scale[2];    /* least and largest over output channels; 0, 0: no weights */
    double weight_snr_db;     /* of the rounded weights; +inf: exact or none */
    double snr_db;            /* of the layer's output, int8 against float net, over the
                                 calibration records; NaN: not measured (float) */
    int corrected, equalised; /* 1: bias corrected; input side equalised */
};

struct quant_report {
    enum quant_mode mode;
    int calibration; /* records used */
    uint64_t seed;
    double
        output_rmse; /* of the probabilities, artifact against float net, on the calibration records */
    int n;
    struct quant_row row[QUANT_MAX_ROWS];
};

struct quant_artifact {
    void *data; /* malloc'ed .cinch bytes; 64-byte aligned */
    size_t n;
    struct quant_report report;
};

/* Converts. `d` gives the calibration records (its validation part) and may be NULL in mode float.
 * Same model, data and options: same bytes. Errors: CN_EINVALID (a weight or activation that is not
 * finite, named; d of another shape than the net; no validation records), CN_ENOMEM. */
int quant_convert(struct quant_artifact *out, const struct nn_model *m, const struct ecg_dataset *d,
                  const struct quant_options *opt, struct cn_error *err);
void quant_artifact_release(struct quant_artifact *a); /* frees a->data; accepts a zeroed one */

/* The rows of the dataset that calibration uses: malloc'ed *idx (caller frees), *n of them,
 * distinct. */
int quant_calibration_rows(const struct ecg_dataset *d, int calibration, uint64_t seed,
                           uint32_t **idx, int *n, struct cn_error *err);

/* The report as JSON text, malloc'ed; NULL when out of memory. */
char *quant_report_json(const struct quant_report *r);

#endif
