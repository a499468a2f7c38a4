/* cli/model.h - a FILE of the command line: a checkpoint (.safetensors) or an artifact (.cinch),
 * told apart by content, and used the same way. */
#ifndef CINCH_CLI_MODEL_H
#define CINCH_CLI_MODEL_H

#include "cli/cli.h"
#include "cpu/rt/cinchrt.h"
#include "ecg/dataset.h"
#include "nn/model.h"

struct cli_model {
    const char *path;         /* borrowed */
    struct nn_model *net;     /* a checkpoint, else NULL */
    struct cinchrt_model *rt; /* an artifact, else NULL */
    void *memory;             /* of rt */
    size_t bytes;             /* of the file */
    /* the same facts of both */
    const char *name; /* "cnn" */
    const char *kind; /* "float", "int8" */
    int leads, samples, labels, softmax;
    float hz;
    const float *mean, *std;          /* [leads], mV */
    const char *label[NN_MAX_LABELS]; /* every label has a name of its own */
    char number[NN_MAX_LABELS][8];    /* "#3", where the file names none */
    uint64_t params, macs, macs_nonzero;
};

/* CN_ENOTFOUND, or CN_ECORRUPT for a damaged file of either kind or neither. */
int cli_model_open(struct cli *c, const char *path, struct cli_model *m);
void cli_model_close(struct cli_model *m); /* accepts a zeroed one */

/* A checkpoint that names no normalisation takes the dataset's, with its labels, if the shapes are the
 * same; says so. Else nothing. */
void cli_model_adopt(struct cli *c, struct cli_model *m, const struct ecg_dataset *d);
/* CN_EINVALID for a checkpoint that names no normalisation: raw records need one. */
int cli_model_normalises(struct cli *c, const struct cli_model *m);

/* CN_EINVALID for a model that says to be made for another sampling rate. */
int cli_model_rate(struct cli *c, const struct cli_model *m, double hz);

/* Shapes, labels and rate must be the dataset's. */
int cli_model_fits(struct cli *c, const struct cli_model *m, const struct ecg_dataset *d);

/* Probabilities out[n, labels] of rows idx[n] of `d`; where the model was trained with another
 * normalisation than the dataset has, rows are renormalised. threads ≤ 0: all cores. */
int cli_model_predict(struct cli *c, const struct cli_model *m, const struct ecg_dataset *d,
                      const uint32_t *idx, int n, int threads, float *out);

#endif
