/* device.c - see device.h. The plugin lies beside the programs, or where CINCH_GPU_PLUGIN says.
 */
#include "workers/device.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cpu/train/backend.h"
#include "gpu/gpu.h"

typedef int (*gpu_count_f)(int *, struct cn_error *);
typedef int (*gpu_describe_f)(int, struct cinch_gpu_info *, struct cn_error *);
typedef int (*gpu_create_f)(struct nn_backend **, const struct cinch_gpu_options *,
                            struct cn_error *);

struct device {
    struct device_facts facts;
    int gpu;
    void *plugin; /* NULL: CPU */
    gpu_create_f create;
};

int device_parse(const char *text, struct device_spec *out, struct cn_error *err)
{
    *out = (struct device_spec){DEVICE_CPU, 0};
    char rest;
    if (strcmp(text, "cpu") == 0) return 0;
    out->kind = DEVICE_AUTO;
    if (strcmp(text, "auto") == 0) return 0;
    out->kind = DEVICE_GPU;
    if (strcmp(text, "gpu") == 0) return 0;
    if (sscanf(text, "gpu:%d%c", &out->gpu, &rest) == 1 && out->gpu >= 0) return 0;
    return cn_fail(err, CN_EINVALID, "device '%s' is none of cpu, gpu, gpu:N, auto", text);
}

/* The plugin's path, or its bare name for the linker to search. */
static void plugin_path(char *out, size_t cap)
{
    const char *given = getenv("CINCH_GPU_PLUGIN");
    char self[3000];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash) *slash = 0;
    static const char *const beside[] = {"%s/cinch-gpu.so", "%s/../bin/cinch-gpu.so",
                                         "%s/../lib/cinch/cinch-gpu.so"};
    if (given && *given) {
        snprintf(out, cap, "%s", given);
        return;
    }
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        snprintf(out, cap, beside[i], self);
        if (access(out, R_OK) == 0) return;
    }
    snprintf(out, cap, "cinch-gpu.so");
}

/* dlsym gives a data pointer; ISO C wants the detour to make it a function. */
static int symbol(void *plugin, const char *name, void *function, struct cn_error *err)
{
    void *p = dlsym(plugin, name);
    memcpy(function, &p, sizeof p);
    return p ? 0
             : cn_fail(err, CN_EVERSION, "the GPU plugin has no %s: it belongs to another version",
                       name);
}

static int open_gpu(struct device *d, int ordinal, struct cn_error *err)
{
    char path[3100];
    plugin_path(path, sizeof path);
    d->plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!d->plugin)
        return cn_fail(err, CN_ENODEVICE,
                       "no GPU support: %s; build cinch where nvcc is installed, or use the CPU",
                       dlerror());
    gpu_count_f count;
    gpu_describe_f describe;
    struct cinch_gpu_info info = {0};
    int n = 0;
    int rc = symbol(d->plugin, "cinch_gpu_count", &count, err);
    if (rc == 0) rc = symbol(d->plugin, "cinch_gpu_describe", &describe, err);
    if (rc == 0) rc = symbol(d->plugin, "cinch_gpu_create", &d->create, err);
    if (rc == 0) rc = count(&n, err);
    if (rc == 0 && ordinal >= n)
        rc = cn_fail(err, CN_ENODEVICE, "no GPU %d: this machine has %d, counted from 0", ordinal,
                     n);
    if (rc == 0) rc = describe(ordinal, &info, err);
    if (rc) return rc;
    d->gpu = ordinal;
    d->facts.is_gpu = 1;
    d->facts.memory = info.memory;
    d->facts.capability = 10 * info.major + info.minor;
    snprintf(d->facts.name, sizeof d->facts.name, "%s", info.name);
    return 0;
}

int device_open(struct device **out, struct device_spec spec, struct cn_error *err)
{
    *out = NULL;
    struct device *d = calloc(1, sizeof *d);
    if (!d) return cn_fail(err, CN_ENOMEM, "out of memory for a device");
    struct cn_error why = {0};
    int rc = spec.kind == DEVICE_CPU ? 0 : open_gpu(d, spec.gpu, &why);
    if (rc && spec.kind == DEVICE_AUTO) {
        cn_info("device", "training on the CPU: %s", why.text);
        rc = 0;
    }
    if (rc) {
        device_close(d);
        return cn_fail(err, rc, "%s", why.text);
    }
    if (!d->facts.is_gpu) {
        if (d->plugin) dlclose(d->plugin);
        d->plugin = NULL;
        snprintf(d->facts.name, sizeof d->facts.name, "cpu");
    }
    *out = d;
    return 0;
}

void device_close(struct device *d)
{
    /* The plugin stays mapped: CUDA's own threads and exit handlers live in it. */
    free(d);
}

static void gpu_line(void *arg, const char *line)
{
    cn_info("gpu", "%s", line);
}

int device_backend(struct device *d, int threads, struct nn_backend **out, struct cn_error *err)
{
    if (d->facts.is_gpu) {
        struct cinch_gpu_options opt = {.device = d->gpu, .log = gpu_line};
        return d->create(out, &opt, err);
    }
    struct cpu_train_options opt = {.threads = threads > 0 ? threads : 1};
    return cpu_train_create(out, &opt, err);
}

const struct device_facts *device_facts(const struct device *d)
{
    return &d->facts;
}
