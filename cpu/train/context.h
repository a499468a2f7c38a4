/* cpu/train/context.h - what the CPU backend keeps behind nn_backend.ctx. Private to this room. */
#ifndef CINCH_CPU_TRAIN_CONTEXT_H
#define CINCH_CPU_TRAIN_CONTEXT_H

#include "base/pool.h"
#include "nn/backend.h"

struct cpu_train {
    struct nn_backend be;      /* what the caller holds; be.ctx points back here */
    struct nn_backend_ops ops; /* filled at creation: the reference ops, then the fast ones */
    struct cn_pool *pool;
};

static inline struct cn_pool *cpu_train_pool(struct nn_backend *be)
{
    return ((struct cpu_train *)be->ctx)->pool;
}

#endif
