/* nn/gang.h - the device side of a training: a gang's buffers, one step, one validation. Private to
 * this room; nn/train.c decides when. */
#ifndef CINCH_NN_GANG_H
#define CINCH_NN_GANG_H

#include "nn/checkpoint.h"
#include "nn/exec.h"
#include "nn/recording.h"
#include "nn/train.h"

struct nn_gang {
    struct nn_backend *be;
    const struct nn_net *net;
    const struct ecg_dataset *data;
    const struct nn_recipe *recipe;
    int m, batch; /* members; rows of a full batch, over all ranks */
    int rows_max; /* rows of a batch that this rank ever runs: what `ex` is planned for */
    int n_train, n_val;
    int64_t stride;                  /* floats between members in every flat array */
    uint32_t *rows_train, *rows_val; /* host */

    /* Device. */
    const float *data_x; /* [N, leads, samples], attached or own_x */
    int half;            /* 1: data_x is in half precision */
    float *own_x;
    float *data_y;                    /* [N, labels] */
    uint32_t *index_train;            /* [n_train] */
    uint32_t *index_val;              /* [n_val] */
    float *teacher;                   /* [M, n_train, labels], or NULL */
    float *mask;                      /* [M, P], or NULL */
    float *class_weight;              /* [labels], or NULL */
    float *w, *g, *m1, *m2, *average; /* [M, stride]; m2 NULL for SGD, average NULL without */
    struct nn_scalars *scalars;       /* [M] */
    float *loss, *loss_sum;           /* [M] */
    uint32_t *bad;                    /* [M] */
    float *y, *t;                     /* [M, rows_max, labels] */
    /* Several ranks and mixup, whose pairs lie anywhere in the batch: all of it, [M, batch, ...]. */
    struct nn_scalars *wide_scalars;
    float *wide_x, *wide_y, *wide_t;
    float sum_told[NN_MAX_GANG]; /* several ranks: losses so far, over all of them, as last told */
    struct nn_exec *ex;
    struct nn_recording step; /* of a full batch */
    struct nn_recording look; /* at a full batch of validation rows */
    uint32_t *cursor;         /* device: where in index_val it stands */
    float *probability;       /* device [M, n_val, labels] */
};

/* Members' teachers, masks and sizes come from `t`; parameters and moments are loaded with
 * nn_gang_put. On failure nothing remains. */
int nn_gang_create(struct nn_gang *g, const struct nn_train *t, const int *who, int m,
                   struct cn_error *err);
void nn_gang_destroy(struct nn_gang *g); /* accepts a zeroed one */

int nn_gang_put(struct nn_gang *g, int member, const struct nn_state *s);
int nn_gang_get(struct nn_gang *g, int member, struct nn_state *s); /* waits */

/* One optimiser step of all members; scalars [M] are this step's, `rows` the batch's over all ranks.
 * Each rank runs rows/ranks of them, its own; where that does not divide (the end of an epoch) all
 * ranks run all of them, which gives the same average. */
int nn_gang_step(struct nn_gang *g, const struct nn_scalars *scalars, int rows);

/* Steps whose loss was the first not finite [M], 0: none yet; and losses so far, both over all ranks.
 * Waits; all ranks call it alike. */
int nn_gang_losses(struct nn_gang *g, uint32_t *bad, float *loss_sum);
int nn_gang_zero_losses(struct nn_gang *g);

/* The weights that are judged and kept: the average where there is one. probability
 * [M, n_val, labels] and loss [M] (mean) are the host's. Waits. */
int nn_gang_validate(struct nn_gang *g, float *probability, double *loss);
int nn_gang_keep(struct nn_gang *g, int member, float *best); /* [n_floats] */

#endif
