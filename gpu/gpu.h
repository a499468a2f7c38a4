/* gpu/gpu.h - the CUDA backend of nn/backend.h, built as a plugin (cinch-gpu.so) that a worker
 * loads only when it is asked for a GPU, so the same programs run where no CUDA is installed.
 *
 * The plugin needs the CUDA runtime alone; cuBLAS, cuDNN and NCCL are looked for when it starts,
 * and what is missing is said and done without.
 */
#ifndef CINCH_GPU_H
#define CINCH_GPU_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "base/error.h"
#include "nn/backend.h"

enum cinch_gpu_engine { CINCH_ENGINE_AUTO = 0, CINCH_ENGINE_NATIVE = 1, CINCH_ENGINE_CUDNN = 2 };

struct cinch_gpu_options {
    int device;                  /* ordinal among the visible devices */
    enum nn_precision precision; /* at first; a recipe may set another */
    enum cinch_gpu_engine engine;
    size_t memory_limit; /* bytes this backend may allocate; 0: all that is free */
    void (*log)(void *arg, const char *line); /* may be NULL: choices, missing libraries */
    void *log_arg;
    /* data parallel: ranks of one job; 0 or 1: alone */
    int ranks, rank;
    const void *nccl_id; /* 128 bytes from cinch_gpu_nccl_id, the same for all ranks */
    int sync_batchnorm;  /* 1: BatchNorm statistics over all ranks */
    int fail_after_s;    /* a silent rank ends the attempt after so long; 0: 10 */
};

struct cinch_gpu_info {
    char name[96];
    int major, minor; /* compute capability */
    int sms;
    int runtime, driver;     /* 13000 */
    int cublas, cudnn, nccl; /* versions, 0: not there */
    size_t memory, memory_free;
    size_t shared_per_block;
    double fp32_tflops; /* from clock and SM count */
    double memory_gbs;  /* from bus width and memory clock; 0 when the driver does not say */
    int ecc;            /* 1: on */
    int peers;          /* other visible GPUs whose memory this one reaches directly */
    int best_link; /* the runtime's performance rank of the best of these links; 0: the best kind */
    char pci[32];  /* "0000:65:00.0" */
    char missing[256]; /* libraries that are not there, and why; "" when all are */
};

/* *n devices; 0 and CN_ENODEVICE with a one-line explanation when there is no GPU or no driver
 * (status 34, 35, 100). */
int cinch_gpu_count(int *n, struct cn_error *err);
int cinch_gpu_describe(int device, struct cinch_gpu_info *info, struct cn_error *err);

/* *out is destroyed with (*out)->ops->destroy(*out). Several backends may live on one device: each
 * has its stream. */
int cinch_gpu_create(struct nn_backend **out, const struct cinch_gpu_options *opt,
                     struct cn_error *err);

/* 128 bytes that all ranks of one job must share. CN_EUNSUPPORTED without NCCL. */
int cinch_gpu_nccl_id(void *id, struct cn_error *err);

/* 1: a GPU has failed in a way that no call of this process will get over (an illegal address, an
 * uncorrectable memory error, a launch that timed out); *device is its ordinal and *why says how. Such a
 * process is of no use any more and must end. */
int cinch_gpu_lost(int *device, struct cn_error *why);

/* What a backend has chosen for an op of a shape. */
struct cinch_gpu_choice {
    const char *op;            /* "conv1d forward fp32 b64 c12>32 t1000 k3 p0" */
    int cudnn;                 /* 0: native */
    float native_us, cudnn_us; /* 0: not measured */
    float difference;          /* between the two, of the largest value */
};
/* Every op and shape that this backend has met and had a choice for; nothing without cuDNN. */
void cinch_gpu_choices(struct nn_backend *be,
                       void (*each)(void *arg, const struct cinch_gpu_choice *c), void *arg);

#ifdef __cplusplus
}
#endif

#endif
