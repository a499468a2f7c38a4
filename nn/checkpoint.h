/* nn/checkpoint.h - everything one member of a training needs to go on, as bytes. Private to this
 * room and its tests. */
#ifndef CINCH_NN_CHECKPOINT_H
#define CINCH_NN_CHECKPOINT_H

#include "nn/schedule.h"
#include "nn/train.h"

struct nn_point { /* one epoch of the history */
    int epoch;    /* 1-based */
    double train_loss, val_loss, val_score, lr;
};

/* The host's side of one member. */
struct nn_state {
    int epoch, batch; /* 0-based, of the next step */
    uint32_t step;    /* steps done */
    float loss_sum;   /* of the epoch so far */
    struct nn_plateau plateau;
    int best_epoch; /* 1-based; 0: none yet */
    double best_score, best_loss;
    int n_history;
    struct nn_point *history; /* [recipe->epochs], owned */
    /* Owned host copies. [n_floats]: params, average, best; [n_params]: moments. */
    float *params, *m1, *m2, *average, *best;
};

/* What a checkpoint must agree with. */
struct nn_identity {
    const struct nn_net *net;
    const char *recipe; /* canonical JSON */
    uint64_t seed;
    int data_n; /* training records */
    const struct cn_hash *data;
    const struct cn_hash *teacher, *mask; /* NULL: none */
};

int nn_state_create(struct nn_state *s, const struct nn_net *net, const struct nn_recipe *r,
                    struct cn_error *err);
void nn_state_free(struct nn_state *s); /* what it owns; accepts a zeroed one */

/* malloc'ed *data; the caller frees. Same state, same bytes. */
int nn_checkpoint_write(const struct nn_state *s, const struct nn_identity *id, void **data,
                        size_t *n, struct cn_error *err);
/* Into a created state. CN_ECORRUPT: damaged; CN_EINVALID: of another net, recipe, seed,
 * dataset, teacher or mask. */
int nn_checkpoint_read(struct nn_state *s, const struct nn_identity *id, int epochs,
                       const void *data, size_t n, struct cn_error *err);

/* The history as a JSON array text, malloc'ed; NULL: out of memory. */
char *nn_history_json(const struct nn_state *s);

#endif
