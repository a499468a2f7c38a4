/* nn/schedule.h - learning rates from step to step. Private to this room and its tests. */
#ifndef CINCH_NN_SCHEDULE_H
#define CINCH_NN_SCHEDULE_H

#include "nn/recipe.h"

struct nn_plateau { /* the part of a schedule that remembers; checkpoints hold it */
    double lr;      /* the rate now */
    double best;    /* lowest validation loss so far */
    int bad;        /* epochs since */
};

void nn_plateau_start(struct nn_plateau *p, const struct nn_recipe *r);

/* After each epoch: PyTorch's ReduceLROnPlateau(mode="min", threshold=1e-4 relative). */
void nn_plateau_epoch(struct nn_plateau *p, const struct nn_recipe *r, double val_loss);

/* The rate of batch `batch` (0-based, of `batches`) in epoch `epoch` (0-based). */
double nn_schedule_lr(const struct nn_recipe *r, const struct nn_plateau *p, int epoch, int batch,
                      int batches);

#endif
