/* device.c - see device.h. The plugin lies beside the programs, or where CINCH_GPU_PLUGIN says.
 */
#include "workers/device.h"

#include <dlfcn.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/place.h"
#include "cpu/train/backend.h"
#include "gpu/gpu.h"
#include "workers/losses.h"

typedef int (*gpu_count_f)(int *, struct cn_error *);
typedef int (*gpu_describe_f)(int, struct cinch_gpu_info *, struct cn_error *);
typedef int (*gpu_create_f)(struct nn_backend **, const struct cinch_gpu_options *,
                            struct cn_error *);

typedef int (*gpu_id_f)(void *, struct cn_error *);
typedef int (*gpu_lost_f)(int *, struct cn_error *);
typedef void (*gpu_choices_f)(struct nn_backend *,
                              void (*)(void *, const struct cinch_gpu_choice *), void *);

struct device {
    struct device_facts facts;
    struct device_spec spec;
    void *plugin; /* NULL: CPU */
    gpu_create_f create;
    gpu_id_f nccl_id;
    gpu_choices_f choices;
    gpu_lost_f lost;
    char pci[DEVICE_MAX_GPUS][32];
    atomic_bool told; /* that one was lost */
};

int device_parse_gpus(const char *text, struct device_spec *out, struct cn_error *err)
{
    out->n_gpus = 0;
    for (const char *p = text; out->n_gpus < DEVICE_MAX_GPUS; p++) {
        char *end;
        long v = strtol(p, &end, 10);
        bool twice = false;
        for (int i = 0; i < out->n_gpus; i++) twice |= out->gpu[i] == v;
        if (end == p || *p < '0' || *p > '9' || v > 63 || twice) break;
        out->gpu[out->n_gpus++] = (int)v;
        if (!*end) return 0;
        if (*end != ',') break;
        p = end;
    }
    return cn_fail(err, CN_EINVALID,
                   "'%s' is no list of up to %d different GPU numbers, such as 0,1", text,
                   DEVICE_MAX_GPUS);
}

int device_parse(const char *text, struct device_spec *out, struct cn_error *err)
{
    *out = (struct device_spec){DEVICE_CPU, 0, {0}};
    if (strcmp(text, "cpu") == 0) return 0;
    out->kind = DEVICE_AUTO;
    if (strcmp(text, "auto") == 0) return 0;
    out->kind = DEVICE_GPU;
    if (strcmp(text, "gpu") == 0) return 0;
    if (strncmp(text, "gpu:", 4) == 0 && device_parse_gpus(text + 4, out, NULL) == 0) return 0;
    return cn_fail(err, CN_EINVALID, "device '%s' is none of cpu, gpu, gpu:N, gpu:N,N,.., auto",
                   text);
}

/* The plugin's path, or its bare name for the linker to search. */
static void plugin_path(char *out, size_t cap)
{
    const char *given = getenv("CINCH_GPU_PLUGIN");
    if (given && *given)
        snprintf(out, cap, "%s", given);
    else if (cn_place(out, cap, CN_PLACE_PLUGIN, "cinch-gpu.so", NULL))
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

static int load_plugin(void **plugin, struct cn_error *err)
{
    char path[3100];
    plugin_path(path, sizeof path);
    *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (*plugin) return 0;
    return cn_fail(err, CN_ENODEVICE,
                   "no GPU support: %s; build cinch where nvcc is installed, or use the CPU",
                   dlerror());
}

static int ask_plugin(void *plugin, int gpu, int *count, struct cinch_gpu_info *info,
                      struct cn_error *err)
{
    gpu_count_f number;
    gpu_describe_f describe;
    *count = 0;
    int rc = symbol(plugin, "cinch_gpu_count", &number, err);
    if (rc == 0) rc = symbol(plugin, "cinch_gpu_describe", &describe, err);
    if (rc == 0) rc = number(count, err);
    if (rc == 0 && gpu >= *count)
        rc = cn_fail(err, CN_ENODEVICE, "no GPU %d: this machine has %d, counted from 0", gpu,
                     *count);
    return rc ? rc : describe(gpu, info, err);
}

int device_gpu_info(int gpu, int *count, struct cinch_gpu_info *info, struct cn_error *err)
{
    void *plugin; /* stays: CUDA's own threads and exit handlers live in it */
    int rc = load_plugin(&plugin, err);
    return rc ? rc : ask_plugin(plugin, gpu, count, info, err);
}

static int open_gpu(struct device *d, struct cn_error *err)
{
    struct cinch_gpu_info info = {0};
    int n = 0, rc = load_plugin(&d->plugin, err);
    if (rc == 0) rc = symbol(d->plugin, "cinch_gpu_create", &d->create, err);
    if (rc == 0) rc = symbol(d->plugin, "cinch_gpu_nccl_id", &d->nccl_id, err);
    if (rc == 0) rc = symbol(d->plugin, "cinch_gpu_choices", &d->choices, err);
    if (rc == 0) rc = symbol(d->plugin, "cinch_gpu_lost", &d->lost, err);
    if (d->spec.n_gpus == 0) d->spec.n_gpus = 1; /* number 0 */
    for (int i = d->spec.n_gpus - 1; i >= 0 && rc == 0; i--) {
        rc = ask_plugin(d->plugin, d->spec.gpu[i], &n, &info, err); /* the first one's stay */
        if (rc == 0) snprintf(d->pci[i], sizeof d->pci[i], "%s", info.pci);
        if (rc == 0) rc = losses_check(d->pci[i], err);
    }
    if (rc) return rc;
    d->facts.is_gpu = 1;
    d->facts.gpus = d->spec.n_gpus;
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
    d->spec = spec;
    int rc = spec.kind == DEVICE_CPU ? 0 : open_gpu(d, &why);
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

int device_backend_by(struct device *d, int engine, struct nn_backend **out, struct cn_error *err)
{
    struct cinch_gpu_options opt = {.device = device_gpu(d, 0), .log = gpu_line};
    opt.engine = (enum cinch_gpu_engine)engine;
    return d->create(out, &opt, err);
}

int device_backend(struct device *d, int threads, struct nn_backend **out, struct cn_error *err)
{
    if (d->facts.is_gpu) {
        struct cinch_gpu_options opt = {.device = d->spec.gpu[0], .log = gpu_line};
        return d->create(out, &opt, err);
    }
    struct cpu_train_options opt = {.threads = threads > 0 ? threads : 1};
    return cpu_train_create(out, &opt, err);
}

int device_gpu(const struct device *d, int i)
{
    return d->spec.gpu[i < d->spec.n_gpus ? i : 0];
}

int device_nccl_id(struct device *d, void *id, struct cn_error *err)
{
    return d->nccl_id(id, err);
}

int device_rank_backend(struct device *d, const struct device_rank *who, struct nn_backend **out,
                        struct cn_error *err)
{
    struct cinch_gpu_options opt = {.device = device_gpu(d, who->rank), .log = gpu_line};
    opt.ranks = who->ranks;
    opt.rank = who->rank;
    opt.nccl_id = who->nccl_id;
    opt.sync_batchnorm = who->sync_batchnorm;
    return d->create(out, &opt, err);
}

bool device_lost(struct device *d, struct cn_error *err)
{
    int gpu = 0;
    if (!d || !d->lost || !d->lost(&gpu, err)) return false;
    for (int i = 0; i < d->spec.n_gpus; i++)
        if (d->spec.gpu[i] == gpu && !atomic_exchange(&d->told, true))
            losses_note(d->pci[i], err->text);
    return true;
}

static void add_choice(void *arg, const struct cinch_gpu_choice *c)
{
    json_array_append_new(arg, json_pack("{s:s, s:s, s:f, s:f, s:f}", "op", c->op, "engine",
                                         c->cudnn ? "cudnn" : "native", "native_us",
                                         (double)c->native_us, "cudnn_us", (double)c->cudnn_us,
                                         "difference", (double)c->difference));
}

char *device_engines(struct device *d, struct nn_backend *be, int *n)
{
    *n = 0;
    if (!d || !d->choices || !be) return NULL;
    json_t *list = json_array();
    d->choices(be, add_choice, list);
    *n = (int)json_array_size(list);
    char *text = *n ? json_dumps(list, JSON_COMPACT | JSON_REAL_PRECISION(4)) : NULL;
    json_decref(list);
    return text;
}

const struct device_facts *device_facts(const struct device *d)
{
    return &d->facts;
}
