/* cli/training.h - one model trained in this process: the part that `train` and `prune` share. */
#ifndef CINCH_CLI_TRAINING_H
#define CINCH_CLI_TRAINING_H

#include "cli/checkpoint.h"
#include "cli/cli.h"
#include "cli/out.h"
#include "nn/train.h"
#include "workers/device.h"

struct cli_training {
    const char *label; /* of the progress bar: "training cnn" */
    const struct ecg_dataset *data;
    struct nn_backend *backend;
    const struct nn_recipe *recipe;
    uint64_t seed;
    struct nn_model *model;            /* in: initial weights; out: the best ones */
    const struct nn_model *teacher;    /* or NULL */
    const float *mask;                 /* or NULL: weights that stay zero, as nn_train_member's */
    struct cli_checkpoint *checkpoint; /* written every minute and at Ctrl-C; NULL: none */
    const void *resume;                /* a checkpoint's bytes, or NULL */
    size_t resume_n;
    /* NULL, or makes what is written of a checkpoint's n bytes: malloc'ed *out. */
    int (*wrap)(void *arg, const void *data, size_t n, void **out, size_t *out_n,
                struct cn_error *err);
    void *wrap_arg;
    /* out */
    double best_score, seconds, records_per_s;
    int best_epoch, epochs;
};

/* CN_EINTERRUPTED after Ctrl-C: the checkpoint is on disk and the message says how to go on. The
 * checkpoint stays until the caller, having saved the model, calls cli_checkpoint_done. */
int cli_train(struct cli *c, struct cli_training *t);

/* "validation 0.9012"; in words where no record, or records of one kind only, were there to judge by. */
#define CLI_SCORE_TEXT 96
const char *cli_score_text(double score, char out[CLI_SCORE_TEXT]);

/* Writes the model through the door of results. */
int cli_save_model(struct cli *c, const struct cli_out *out, const struct nn_model *m);

/* Where to compute: --device with its backend. */
struct cli_device {
    struct device *device;
    struct nn_backend *backend;
};

/* "cpu", or "gpu" and "gpu:N" where the plugin, a driver and a card are there (else CN_ENODEVICE).
 * threads: of a CPU, 0: all cores. */
int cli_device_open(struct cli *c, const char *name, int threads, struct cli_device *out);
void cli_device_close(struct cli_device *d); /* accepts a zeroed one */

#endif
