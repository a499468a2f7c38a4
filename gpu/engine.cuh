/* gpu/engine.cuh - which engine does an op of a shape: measured once, kept, written down. */
#ifndef CINCH_GPU_ENGINE_CUH
#define CINCH_GPU_ENGINE_CUH

#include "gpu/common.cuh"

/* Puts dispatching entries before the native ones of `t`, when the options ask for it and cuDNN is there. */
void gpu_engine_create(struct nn_backend *be, struct nn_backend_ops *t);
void gpu_engine_destroy(struct gpu_ctx *g);

#endif
