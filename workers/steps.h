/* workers/steps.h - what a job's spec means in calls of nn/ and cpu/: the parts that executors
 * share.
 */
#ifndef CINCH_WORKERS_STEPS_H
#define CINCH_WORKERS_STEPS_H

#include "ecg/dataset.h"
#include "nn/backend.h"
#include "nn/metrics.h"
#include "nn/model.h"
#include "proto/message.h"

/* The unpruned net of a spec, as its grid asked for it. */
int step_full_net(struct nn_net **out, const Cinch__JobSpec *s, const struct ecg_dataset *d,
                  struct cn_error *err);
int step_full_params(size_t *out, const Cinch__JobSpec *s, const struct ecg_dataset *d,
                     struct cn_error *err);

/* That net, initialised from the spec's seed. */
int step_fresh_model(struct nn_model **out, const Cinch__JobSpec *s, const struct ecg_dataset *d,
                     struct cn_error *err);

/* Round s->round of s->rounds towards s->keep. Of structures: *out is a new, smaller model and *mask
 * NULL. Of single weights: *out is a copy and *mask [n_params] (malloc'ed, the caller's) says which
 * weights training keeps at zero. `be` and `d` score structures for norm "taylor" and layers
 * for schedule "sensitivity". */
int step_prune(struct nn_model **out, float **mask, const struct nn_model *m,
               const Cinch__JobSpec *s, struct nn_backend *be, const struct ecg_dataset *d,
               struct cn_error *err);

/* What is left of `full` parameters: weights that a mask holds at zero count as gone. */
double step_kept(const struct nn_model *m, size_t full);

/* CN_EINVALID when the net does not take this dataset's records or give its labels. */
int step_fits(const struct nn_net *net, const struct ecg_dataset *d, struct cn_error *err);

/* How good an artifact is on one part of the data. */
struct step_quality {
    int n; /* records; 0: all of the rest is undefined */
    struct nn_auroc_report auroc;
    struct nn_class_report classes; /* one-label data only */
};

/* On the test part and on the validation part (what a choice among nets goes by), and what one
 * inference takes. */
struct step_scores {
    struct step_quality test, validation;
    uint64_t macs, macs_nonzero; /* all, and those whose stored weight is not zero */
};
/* `threads` ≥ 1. *out is malloc'ed, the caller's to free. CN_ECORRUPT: the artifact cannot be
 * loaded. */
int step_artifact_scores(const void *artifact, size_t n, const struct ecg_dataset *d, int threads,
                         struct step_scores **out, struct cn_error *err);

#endif
