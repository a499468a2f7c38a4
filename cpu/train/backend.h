/* cpu/train/backend.h - the CPU backend of nn/backend.h. */
#ifndef CINCH_CPU_TRAIN_BACKEND_H
#define CINCH_CPU_TRAIN_BACKEND_H

#include "nn/backend.h"

struct cpu_train_options {
    int threads;     /* ≥ 1 */
    const char *isa; /* NULL: CINCH_ISA, else the best this CPU has; "portable", "avx2", "avx512",
                        or "ref": the plain loops */
};

/* *out is owned by the caller and destroyed with (*out)->ops->destroy(*out). */
int cpu_train_create(struct nn_backend **out, const struct cpu_train_options *opt,
                     struct cn_error *err);

#endif
