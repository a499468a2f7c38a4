/* coordinator/expand.h - a submitted grid as a set of keyed jobs.
 *
 * For every split of the dataset, net and seed: `train`; when the grid distils, `distill` taught by
 * it; for every pruning variant (distilled or not, unit, schedule, rounds, keep, norm) a chain of
 * `prune` rounds, each from the one before, taught by `train` when distilled; and an `evaluate` of
 * the unpruned nets and of each variant's last (or every) round. Equal keys are one job: so what variants, runs and users have in
 * common is done once, and no cell is lost or repeated.
 */
#ifndef CINCH_COORDINATOR_EXPAND_H
#define CINCH_COORDINATOR_EXPAND_H

#include <stdatomic.h>

#include "base/hash.h"
#include "proto/spec.h"

struct ex_job {
    struct cn_hash key;
    uint64_t seed;
    double keep;
    const char *norm;                /* borrowed from the Submit; "" */
    uint32_t base;                   /* index into ex_grid.base */
    uint32_t parent[PR_MAX_PARENTS]; /* index + 1 into ex_grid.job; 0 none */
    uint32_t rounds, round;
    uint8_t kind, distilled;
};

struct ex_base {
    struct cn_hash hash, fingerprint; /* of the base; of its dataset */
    uint8_t *body;                    /* packed JobBase */
    uint32_t n_body;
    uint64_t gpu_bytes;
    uint32_t gpus;
    char **allocators; /* borrowed from the Submit */
    uint32_t n_allocators;
};

struct ex_grid {
    struct ex_job *job; /* parents come first; keys are distinct */
    uint32_t n, cap;
    struct ex_base *base;
    uint32_t n_bases;
    uint32_t cells; /* artifacts: evaluations */
    uint32_t *table, table_size;
};

/* `s` has passed pr_check and carries its fingerprint; it must outlive the grid. nonce: 0, or the
 * run's own when fresh. CN_ELIMIT: more than PR_MAX_JOBS. */
int ex_expand(struct ex_grid *g, const Cinch__Submit *s, uint32_t nonce, struct cn_error *err);
/* The same in another thread: CN_EINTERRUPTED soon after *stop is set. */
int ex_expand_until(struct ex_grid *g, const Cinch__Submit *s, uint32_t nonce,
                    const atomic_bool *stop, struct cn_error *err);
void ex_clear(struct ex_grid *g);

#endif
