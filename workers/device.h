/* workers/device.h - where to train: the CPU, or a GPU through the plugin cinch-gpu.so, which is
 * loaded only when it is asked for.
 */
#ifndef CINCH_WORKERS_DEVICE_H
#define CINCH_WORKERS_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include "nn/backend.h"

enum device_kind { DEVICE_CPU, DEVICE_GPU, DEVICE_AUTO };

struct device_spec {
    enum device_kind kind;
    int gpu; /* ordinal */
};

/* "cpu", "gpu", "gpu:N", "auto". CN_EINVALID. */
int device_parse(const char *text, struct device_spec *out, struct cn_error *err);

struct device;

/* DEVICE_GPU: CN_ENODEVICE when there is no plugin, driver or card, with what is missing.
 * DEVICE_AUTO takes the CPU then, and says so in the log. */
int device_open(struct device **out, struct device_spec spec, struct cn_error *err);
void device_close(struct device *d); /* accepts NULL; after all of its backends are destroyed */

/* One backend, for one thread at a time. threads: of a CPU backend. Destroy it with
 * (*out)->ops->destroy(*out). */
int device_backend(struct device *d, int threads, struct nn_backend **out, struct cn_error *err);

struct device_facts {
    int is_gpu;
    char name[96];
    uint64_t memory; /* bytes of a GPU; 0 for the CPU */
    int capability;  /* 90 for 9.0; 0 for the CPU */
};
const struct device_facts *device_facts(const struct device *d);

#endif
