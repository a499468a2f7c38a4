/* nn/model.h - a net with its parameters, and its file: safetensors.
 *
 * The header's __metadata__ holds what a reader needs to use the tensors: "cinch" is JSON with net,
 * shape, widths, full widths, labels and normalisation; "cinch.meta" is the free-form JSON object
 * below.
 */
#ifndef CINCH_NN_MODEL_H
#define CINCH_NN_MODEL_H

#include <stdbool.h>

#include "ecg/dataset.h"
#include "nn/net.h"

struct nn_model {
    struct nn_net *net;       /* owned */
    float *params;            /* owned: [net->n_floats], tensors at their offsets */
    float mean[NN_MAX_LEADS]; /* normalisation of the input, per lead, mV */
    float std[NN_MAX_LEADS];
    float hz;
    char label[NN_MAX_LABELS][8];
    bool
        unsaid; /* the file (another tool's) names no normalisation; mean 0 and std 1 stand there */
    char *meta; /* owned JSON object text, may be NULL. Training writes {"recipe": {..}, "seed":
                   "n", "history": [{"epoch", "train_loss", "val_loss", "val_score", "lr"}..],
                   "best_epoch", "best_score"}; undefined scores are null */
};

/* PyTorch's default initialisation (uniform ±1/sqrt(fan_in); BatchNorm 1 and 0; running mean 0,
 * variance 1), drawn from Philox(seed, CN_RNG_INIT). `d` gives labels and normalisation; may be
 * NULL. */
int nn_model_create(struct nn_model **out, struct nn_net *net /* taken */, uint64_t seed,
                    const struct ecg_dataset *d, struct cn_error *err);
/* Takes labels, rate and normalisation from the dataset. */
void nn_model_adopt(struct nn_model *m, const struct ecg_dataset *d);
/* A model without parameters' values; takes `net`, on failure too. */
int nn_model_alloc(struct nn_model **out, struct nn_net *net, struct cn_error *err);
int nn_model_copy(struct nn_model **out, const struct nn_model *m, struct cn_error *err);
void nn_model_destroy(struct nn_model *m); /* accepts NULL */

/* Multiply-accumulates of one inference whose weight is not zero, of the whole net and per layer
 * (layer_macs NULL or net->n_layers long): nn_net_macs with a pruned model's zeros left out. What is
 * left by structured pruning counts in both. */
uint64_t nn_model_macs_nonzero(const struct nn_model *m, uint64_t *layer_macs);

/* Reads a file of cinch's or another tool's: docs/training.md says which names and types of numbers are
 * understood. Every number is checked: what it describes exists, it is finite, sums with it stay so.
 * CN_ECORRUPT, CN_EUNSUPPORTED, CN_EINVALID with the file, the tensor and the value's index. */
int nn_model_load(struct nn_model **out, const char *path, struct cn_error *err);
int nn_model_parse(struct nn_model **out, const char *name, const void *data, size_t n,
                   struct cn_error *err);
int nn_model_save(const struct nn_model *m, const char *path, struct cn_error *err);
/* CN_ECORRUPT: a parameter is not finite. malloc'ed *data of *n bytes; the caller frees. Same model, same bytes. */
int nn_model_bytes(const struct nn_model *m, void **data, size_t *n, struct cn_error *err);

/* The same with bytes of the caller's behind the weights, as a tensor "cinch.extra" of U8, which all
 * readers of models pass over; n_extra 0: none. */
int nn_model_bytes_with(const struct nn_model *m, const void *extra, size_t n_extra, void **data,
                        size_t *n, struct cn_error *err);
/* Those bytes, borrowed from `data`; *n_extra 0: the file has none. As nn_model_parse. */
int nn_model_extra(const char *name, const void *data, size_t n, const void **extra,
                   size_t *n_extra, struct cn_error *err);

#endif
