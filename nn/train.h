/* nn/train.h - the training loop: a gang of models, a dataset, a recipe, a backend. It never sees a
 * job, a socket or a file: progress and checkpoints leave through callbacks. */
#ifndef CINCH_NN_TRAIN_H
#define CINCH_NN_TRAIN_H

#include <stdbool.h>

#include "ecg/dataset.h"
#include "nn/backend.h"
#include "nn/model.h"
#include "nn/recipe.h"

struct nn_epoch {       /* one line of a training curve */
    int epoch, epochs;  /* 1-based, of */
    int batch, batches; /* within the epoch: progress between epochs */
    bool epoch_done;    /* the figures below are valid */
    double train_loss, val_loss;
    double val_score; /* macro-AUROC (multi-label) or macro-F1 (one label); NaN when undefined */
    double lr;
    double records_per_s;
    bool best; /* this epoch's weights are the best so far */
};

struct nn_train_events { /* any may be NULL; called from the training thread; `member` in [0, m) */
    void *arg;
    void (*progress)(void *arg, int member, const struct nn_epoch *e);
    /* A checkpoint of one member, safetensors bytes, valid during the call. Every
     * `checkpoint_every_s` and at a stop. Non-zero: stop. */
    int (*checkpoint)(void *arg, int member, const void *data, size_t n);
    double checkpoint_every_s; /* 0: only at a stop; < 0: after every epoch */
    /* 0 go on; 1 stop after this batch with a checkpoint (CN_EINTERRUPTED); 2 this member leaves,
     * without one (CN_ECANCELLED). */
    int (*poll)(void *arg, int member);
};

struct nn_train_member {
    struct nn_model
        *model; /* in: initial weights; out: best (by validation) weights, meta holds the history */
    uint64_t seed;
    const struct nn_model *teacher; /* NULL: none */
    const void
        *resume; /* NULL, or a checkpoint's bytes: continues with the bits of an undisturbed run */
    size_t resume_n;
    bool
        or_afresh; /* a checkpoint that is damaged or of another training is left out, with a warning */
    const float *mask;     /* NULL, or [n_params] of 0/1: unstructured pruning */
    int result;            /* out: 0 or enum cn_code */
    struct cn_error error; /* out */
    double best_score;     /* out: validation */
    int best_epoch;
};

/* With a backend that is one of several ranks every rank calls nn_train_run with the same models,
 * seeds, data, recipe and resume: each trains on its share of every batch, gradients and running
 * statistics are averaged, and all end with the same weights: those of one rank up to the order of
 * sums, where BatchNorm is synchronised (recipe) or absent. Only rank 0's events are called; what it
 * decides holds for all. `m` is 1 then, and the batch must be divisible by the ranks. */
struct nn_train {
    struct nn_backend *backend;
    const struct ecg_dataset *data;
    const struct nn_recipe *recipe; /* shared by the gang */
    int m;                          /* 1 .. NN_MAX_GANG members of equal shapes */
    struct nn_train_member *member;
    struct nn_train_events events;
};

/* 0 when every member ended well; else the first member's code (each has its own in member[i]). */
int nn_train_run(struct nn_train *t, struct cn_error *err);

/* What a training will take of a device, before it takes any. Bytes. */
struct nn_need {
    size_t activations; /* of a step: all M members, forward and backward */
    size_t state;       /* parameters, gradients, moments, averages; teachers' answers */
    size_t data;        /* the dataset, where it is not there yet */
    size_t working;     /* what kernels want besides, at a guess */
    size_t total;
    size_t left, device; /* that may be taken now; of the whole device. 0, 0: not counted (a CPU) */
};

/* For the first m members of a gang. */
int nn_train_need(const struct nn_train *run, int m, struct nn_need *out, struct cn_error *err);

/* Probabilities [n, labels] of the model on rows `idx` of the dataset; out is the caller's. CN_EINVALID: a
 * sample or a probability is not finite (which, of which row). */
int nn_predict(struct nn_backend *be, const struct nn_model *m, const struct ecg_dataset *d,
               const uint32_t *idx, int n, float *out, struct cn_error *err);

/* The place of the first of n numbers that is not finite; n: none. */
size_t nn_not_finite(const float *v, size_t n);
/* The two borders of an inference, for engines besides nn_predict: row `row` of samples x [leads,
 * samples], and its probabilities p [labels]. CN_EINVALID. */
int nn_check_input(const float *x, uint32_t row, int leads, int samples, struct cn_error *err);
int nn_check_probability(const float *p, uint32_t row, int labels, struct cn_error *err);

#endif
