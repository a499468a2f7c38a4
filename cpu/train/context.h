/* cpu/train/context.h - what the CPU backend keeps behind nn_backend.ctx. Private to this room. */
#ifndef CINCH_CPU_TRAIN_CONTEXT_H
#define CINCH_CPU_TRAIN_CONTEXT_H

#include <stddef.h>

#include "base/pool.h"
#include "cpu/train/kernels.h"
#include "nn/backend.h"

struct cpu_train {
    struct nn_backend be;        /* what the caller holds; be.ctx points back here */
    struct nn_backend_ops ops;   /* filled at creation: the reference ops, then the fast ones */
    struct cn_pool *pool;        /* owned */
    const struct cpu_kernels *k; /* NULL: the reference loops only */
    /* Scratch memory of the op that runs: one block for all threads, one for each. They grow at
     * first use of a shape and are kept, so a training step allocates nothing. */
    float *shared;
    size_t shared_n;
    float **own; /* [threads] */
    size_t own_n;
};

static inline struct cpu_train *cpu_train_of(struct nn_backend *be)
{
    return be->ctx;
}

static inline struct cn_pool *cpu_train_pool(struct nn_backend *be)
{
    return cpu_train_of(be)->pool;
}

/* Memory for `bytes`, 64-byte aligned, on huge pages where it is large; NULL when out of memory.
 * Freed with free(). */
void *cpu_train_memory(size_t bytes);

/* Makes room for an op: c->shared of at least `shared` floats and c->own[i] of `own` for each
 * thread; contents undefined. 0, or CN_ENOMEM in be->error. */
int cpu_train_scratch(struct nn_backend *be, size_t shared, size_t own);
void cpu_train_scratch_free(struct cpu_train *c);

/* Cuts the next `n` floats, 64-byte aligned, off a scratch block; with *p NULL it only counts. */
struct cpu_train_cut {
    float *base; /* NULL while measuring */
    size_t used;
};
static inline float *cpu_train_take(struct cpu_train_cut *cut, size_t n)
{
    float *p = cut->base ? cut->base + cut->used : NULL;
    cut->used += (n + 15) & ~(size_t)15;
    return p;
}

#endif
