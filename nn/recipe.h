/* nn/recipe.h - how to train: every number resolved. `paper` is study A's, `cinch` ours; a YAML
 * mapping may start from either (`base: paper`) and override. */
#ifndef CINCH_NN_RECIPE_H
#define CINCH_NN_RECIPE_H

#include "base/yaml.h"
#include "nn/backend.h"

enum nn_schedule { NN_CONSTANT, NN_COSINE, NN_PLATEAU, NN_ONE_CYCLE };

struct nn_recipe {
    char name[32]; /* paper, cinch, or a file's name */
    int epochs, batch;
    enum nn_optimiser optimiser;
    int nesterov;
    double lr, lr_min; /* first (largest) and floor */
    double momentum, weight_decay, beta1, beta2, eps;
    enum nn_schedule schedule;
    int period;    /* cosine: epochs to a restart; 0: all epochs. plateau: patience */
    double factor; /* plateau: × on no improvement */
    double warmup; /* one-cycle, cosine: share of all steps with a linear rise, 0..0.5 */
    int per_step;  /* 1: the schedule moves every batch, 0: every epoch */
    double
        ema; /* 0: off; else decay per step of the averaged weights that are evaluated and kept */
    double smooth, mixup;
    double aug_shift, aug_scale, aug_noise, aug_lead, aug_mask; /* units as in struct nn_scalars */
    double clip;                 /* largest gradient 2-norm, 0: off */
    double alpha;                /* distillation: weight of the hard loss, 0.4 */
    enum nn_precision precision; /* of a GPU's products; a CPU computes in fp32 whatever it says */
    int sync_batchnorm; /* jobs on several GPUs: BatchNorm statistics over all ranks' rows */
    int class_weights;  /* one-label tasks: weigh classes by inverse square root of frequency */
    /* fine-tuning after a pruning round */
    int finetune_epochs;
    double finetune_lr;
    int finetune_period;
};

/* The named recipe for a net ("paper", "cinch"); CN_EINVALID with the nearest name otherwise. */
int nn_recipe_named(struct nn_recipe *r, const char *name, const char *net, struct cn_error *err);
/* A recipe file or inline mapping. Unknown keys and impossible values are errors with line and
 * column. */
int nn_recipe_yaml(struct nn_recipe *r, const struct cn_yaml *map, const char *net,
                   struct cn_error *err);
/* The recipe of the fine-tuning that follows a pruning round: epochs, rate and period replaced. */
void nn_recipe_finetune(const struct nn_recipe *r, struct nn_recipe *out);
/* Canonical JSON text of all fields, malloc'ed: part of a job's key; and back. */
char *nn_recipe_json(const struct nn_recipe *r);
int nn_recipe_parse_json(struct nn_recipe *r, const char *json, struct cn_error *err);

#endif
