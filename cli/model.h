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
    const float *mean, *std; /* [leads], mV */
    const char *label[ECG_MAX_LABELS];
    uint64_t params, macs, macs_nonzero;
};

/* CN_ENOTFOUND, or CN_ECORRUPT for a damaged file of either kind or neither. */
int cli_model_open(struct cli *c, const char *path, struct cli_model *m);
void cli_model_close(struct cli_model *m); /* accepts a zeroed one */

/* Shapes and labels must be the dataset's. */
int cli_model_fits(struct cli *c, const struct cli_model *m, const struct ecg_dataset *d);

/* Probabilities out[n, labels] of rows idx[n] of `d`; where the model was trained with another
 * normalisation than the dataset has, rows are renormalised. threads ≤ 0: all cores. */
int cli_model_predict(struct cli *c, const struct cli_model *m, const struct ecg_dataset *d,
                      const uint32_t *idx, int n, int threads, float *out);

#endif
