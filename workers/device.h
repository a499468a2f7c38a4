/* workers/device.h - where to train: the CPU, or a GPU through the plugin cinch-gpu.so, which is
 * loaded only when it is asked for.
 */
#ifndef CINCH_WORKERS_DEVICE_H
#define CINCH_WORKERS_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nn/backend.h"

#define DEVICE_MAX_GPUS 8 /* of one worker */

enum device_kind { DEVICE_CPU, DEVICE_GPU, DEVICE_AUTO };

struct device_spec {
    enum device_kind kind;
    int n_gpus; /* 0: GPU 0. Several: for jobs that train on several; others use the first */
    int gpu[DEVICE_MAX_GPUS]; /* ordinals */
};

/* "cpu", "gpu", "gpu:N", "gpu:N,N,..", "auto". CN_EINVALID. */
int device_parse(const char *text, struct device_spec *out, struct cn_error *err);

/* "0" or "0,2,3" into out->gpu. CN_EINVALID. */
int device_parse_gpus(const char *text, struct device_spec *out, struct cn_error *err);

struct device;

/* DEVICE_GPU: CN_ENODEVICE when there is no plugin, driver or card, with what is missing.
 * DEVICE_AUTO takes the CPU then, and says so in the log. */
int device_open(struct device **out, struct device_spec spec, struct cn_error *err);
void device_close(struct device *d); /* accepts NULL; after all of its backends are destroyed */

/* One backend, for one thread at a time. threads: of a CPU backend. Destroy it with
 * (*out)->ops->destroy(*out). */
int device_backend(struct device *d, int threads, struct nn_backend **out, struct cn_error *err);

/* One of several GPUs that train a job together. */
struct device_rank {
    int rank, ranks;
    const void *nccl_id; /* 128 bytes, the same for all */
    int sync_batchnorm;
};
/* The backend of rank `who->rank`, on GPU number who->rank of the device, or on its only one. Waits for
 * all ranks. */
int device_rank_backend(struct device *d, const struct device_rank *who, struct nn_backend **out,
                        struct cn_error *err);
int device_nccl_id(struct device *d, void *id, struct cn_error *err); /* CN_EUNSUPPORTED */
int device_gpu(const struct device *d, int i); /* the ordinal of its i-th GPU */

/* The kernels that a GPU backend has chosen so far, op by op: a JSON array (cinch.proto, Heartbeat.engines)
 * of *n objects, malloc'ed. NULL: none, or out of memory. */
char *device_engines(struct device *d, struct nn_backend *be, int *n);

/* Whether a GPU has failed in a way that this process cannot get over; *err says how. The first time it
 * is also written down (losses.h), so that a card that fails again and again is not used any more. */
bool device_lost(struct device *d, struct cn_error *err);

/* Of GPU `gpu` of this machine, with the number of GPUs. CN_ENODEVICE says what is missing. */
struct cinch_gpu_info;
int device_gpu_info(int gpu, int *count, struct cinch_gpu_info *info, struct cn_error *err);

/* device_backend with one engine only (enum cinch_gpu_engine of gpu/gpu.h). */
int device_backend_by(struct device *d, int engine, struct nn_backend **out, struct cn_error *err);

struct device_facts {
    int is_gpu, gpus;
    char name[96];
    uint64_t memory; /* bytes of a GPU; 0 for the CPU */
    int capability;  /* 90 for 9.0; 0 for the CPU */
};
const struct device_facts *device_facts(const struct device *d);

#endif
