/* gpu/backend.cu - the CUDA backend's life: device, stream, memory, graphs; and what the card is.
 */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mutex>

#include "gpu/common.cuh"
#include "gpu/cudnn.cuh"
#include "gpu/engine.cuh"
#include "gpu/libs.cuh"
#include "gpu/nccl.cuh"
#include "gpu/wait.cuh"

struct gpu_block {
    void *p;
    size_t bytes;
    struct gpu_block *next;
};

struct nn_graph {
    cudaGraph_t graph;
    cudaGraphExec_t exec;
};

int gpu_not_capturing(struct nn_backend *be, const char *what)
{
    if (!gpu_of(be)->capturing) return 0;
    return cn_fail(&be->error, CN_EINTERNAL,
                   "gpu %d: %s while a step is captured; run the step once before",
                   gpu_of(be)->device, what);
}

static int code_of(cudaError_t e)
{
    switch (e) {
    case cudaErrorMemoryAllocation:
        return CN_ENOMEM;
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorStubLibrary:
    case cudaErrorInsufficientDriver:
        return CN_ENODEVICE;
    default:
        return CN_EINTERNAL;
    }
}

static struct {
    std::mutex lock;
    int is, device;
    struct cn_error why;
} lost;

/* Errors after which the runtime answers every call of the process with the same one. */
static int is_sticky(cudaError_t e)
{
    switch (e) {
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorContained:
    case cudaErrorTensorMemoryLeak:
    case cudaErrorUnknown:
        return 1;
    default:
        return 0;
    }
}

/* An error of that kind may also come from what a call was to run (a graph whose collective lost a rank): only
 * a context that answers a plain question with an error too is spoilt. */
static void note_lost(int device, cudaError_t e, const char *what)
{
    size_t left, total;
    if (!is_sticky(e) || !is_sticky(cudaMemGetInfo(&left, &total))) return;
    std::lock_guard<std::mutex> hold(lost.lock);
    if (lost.is) return;
    lost.is = 1;
    lost.device = device;
    cn_fail(&lost.why, CN_ENODEVICE, "gpu %d: %s: %s", device, what, cudaGetErrorString(e));
}

int cinch_gpu_lost(int *device, struct cn_error *why)
{
    std::lock_guard<std::mutex> hold(lost.lock);
    *device = lost.device;
    if (lost.is && why) *why = lost.why;
    return lost.is;
}

int gpu_fail(struct nn_backend *be, cudaError_t e, const char *what)
{
    cudaGetLastError(); /* a sticky error comes back by itself; others must not fail the next op */
    note_lost(gpu_of(be)->device, e, what);
    if (be->error.code) return be->error.code;
    return cn_fail(&be->error, code_of(e), "gpu %d: %s: %s", gpu_of(be)->device, what,
                   cudaGetErrorString(e));
}

void gpu_log(struct gpu_ctx *g, const char *fmt, ...)
{
    if (!g->opt.log) return;
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    g->opt.log(g->opt.log_arg, line);
}

static void free_blocks(struct gpu_ctx *g, struct gpu_block **list)
{
    while (*list) {
        struct gpu_block *b = *list;
        *list = b->next;
        gpu_give(g->device, b->p, b->bytes);
        free(b);
    }
}

void gpu_retire(struct nn_backend *be, void *p, size_t bytes)
{
    struct gpu_ctx *g = gpu_of(be);
    if (!p || gpu_drain(be)) return;
    struct gpu_block *b = g->graphs ? (struct gpu_block *)malloc(sizeof *b) : NULL;
    if (g->graphs && !b) return; /* out of memory: better lost than overwritten */
    if (!b) {
        gpu_give(g->device, p, bytes);
        return;
    }
    b->p = p;
    b->bytes = bytes;
    b->next = g->retired;
    g->retired = b;
}

void *gpu_scratch(struct nn_backend *be, size_t bytes)
{
    struct gpu_ctx *g = gpu_of(be);
    if (bytes <= g->scratch_bytes) return g->scratch;
    if (gpu_not_capturing(be, "scratch must grow")) return NULL;
    gpu_retire(be, g->scratch, g->scratch_bytes);
    g->scratch = NULL;
    g->scratch_bytes = 0;
    cudaError_t e = gpu_take(g->device, bytes, &g->scratch);
    if (e != cudaSuccess) {
        gpu_fail(be, e, "scratch memory");
        return NULL;
    }
    g->scratch_bytes = bytes;
    return g->scratch;
}

static int gpu_alloc(struct nn_backend *be, size_t bytes, void **p)
{
    struct gpu_ctx *g = gpu_of(be);
    *p = NULL;
    if (bytes == 0) bytes = 64;
    int rc = gpu_not_capturing(be, "an allocation");
    if (rc) return rc;
    if (g->limit && g->used + bytes > g->limit)
        return cn_fail(&be->error, CN_ENOMEM, "gpu %d: %zu MB over this job's share of %zu MB",
                       g->device, (g->used + bytes) >> 20, g->limit >> 20);
    struct gpu_block *b = (struct gpu_block *)malloc(sizeof *b);
    if (!b) return cn_fail(&be->error, CN_ENOMEM, "out of memory");
    cudaError_t e = gpu_take(g->device, bytes, &b->p);
    if (e != cudaSuccess) {
        free(b);
        return gpu_fail(be, e, "memory");
    }
    b->bytes = bytes;
    b->next = g->blocks;
    g->blocks = b;
    g->used += bytes;
    *p = b->p;
    return 0;
}

static void gpu_release(struct nn_backend *be, void *p)
{
    struct gpu_ctx *g = gpu_of(be);
    for (struct gpu_block **at = &g->blocks; p && *at; at = &(*at)->next) {
        struct gpu_block *b = *at;
        if (b->p != p) continue;
        *at = b->next;
        g->used -= b->bytes;
        if (!gpu_drain(be)) gpu_give(g->device, b->p, b->bytes);
        free(b);
        return;
    }
}

static int gpu_copy(struct nn_backend *be, void *dst, const void *src, size_t bytes)
{
    cudaError_t e = cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, gpu_of(be)->stream);
    return e == cudaSuccess ? 0 : gpu_fail(be, e, "copy");
}

static int gpu_zero(struct nn_backend *be, void *dst, size_t bytes)
{
    cudaError_t e = cudaMemsetAsync(dst, 0, bytes, gpu_of(be)->stream);
    return e == cudaSuccess ? 0 : gpu_fail(be, e, "zero");
}

static int gpu_sync(struct nn_backend *be)
{
    return gpu_wait(be, "kernels");
}

/* Ends what is being recorded; NULL when nothing usable has come of it. */
static cudaGraph_t end_recording(struct gpu_ctx *g, cudaError_t *e)
{
    cudaGraph_t graph = NULL;
    *e = cudaStreamEndCapture(g->stream, &graph);
    g->capturing = 0;
    if (*e == cudaSuccess || !graph) return graph;
    cudaGraphDestroy(graph);
    return NULL;
}

static int gpu_capture_begin(struct nn_backend *be)
{
    cudaError_t e = cudaStreamBeginCapture(gpu_of(be)->stream, cudaStreamCaptureModeThreadLocal);
    if (e != cudaSuccess) return gpu_fail(be, e, "graph capture");
    gpu_of(be)->capturing = 1;
    return 0;
}

static int gpu_capture_end(struct nn_backend *be, struct nn_graph **out)
{
    *out = NULL;
    cudaError_t e;
    cudaGraph_t graph = end_recording(gpu_of(be), &e);
    cudaGraphExec_t exec = NULL;
    if (e == cudaSuccess) e = cudaGraphInstantiate(&exec, graph, 0);
    struct nn_graph *g = e == cudaSuccess ? (struct nn_graph *)calloc(1, sizeof *g) : NULL;
    if (!g) {
        if (exec) cudaGraphExecDestroy(exec);
        if (graph) cudaGraphDestroy(graph);
        return e == cudaSuccess ? cn_fail(&be->error, CN_ENOMEM, "out of memory")
                                : gpu_fail(be, e, "graph capture");
    }
    g->graph = graph;
    g->exec = exec;
    gpu_of(be)->graphs++;
    *out = g;
    return 0;
}

/* What was recorded has not run, so nothing but the error has to be forgotten. */
static void gpu_capture_drop(struct nn_backend *be)
{
    struct gpu_ctx *g = gpu_of(be);
    cudaError_t e;
    cudaGraph_t graph = g->capturing ? end_recording(g, &e) : NULL;
    if (graph) cudaGraphDestroy(graph);
    cudaGetLastError();
    gpu_nccl_forget(g);
    gpu_log(g, "no graph, kernels are launched one by one: %s", be->error.text);
    memset(&be->error, 0, sizeof be->error);
}

static int gpu_replay(struct nn_backend *be, struct nn_graph *g)
{
    cudaError_t e = cudaGraphLaunch(g->exec, gpu_of(be)->stream);
    int rc = e != cudaSuccess && gpu_of(be)->nccl ? gpu_nccl_check(be, 0) : 0; /* a lost rank? */
    if (rc) cudaGetLastError();
    if (rc) return rc;
    return e == cudaSuccess ? 0 : gpu_fail(be, e, "graph launch");
}

static void gpu_graph_destroy(struct nn_backend *be, struct nn_graph *g)
{
    if (!g) return;
    if (!gpu_drain(be)) {
        cudaGraphExecDestroy(g->exec);
        cudaGraphDestroy(g->graph);
    }
    free(g);
    if (--gpu_of(be)->graphs == 0 && !gpu_of(be)->stuck)
        free_blocks(gpu_of(be), &gpu_of(be)->retired);
}

/* A card that does not come to an end would hold up every call that frees: its memory is left to the
 * end of the process. */
static void free_device_side(struct nn_backend *be)
{
    struct gpu_ctx *g = gpu_of(be);
    cudaSetDevice(g->device); /* the caller may be another thread than the one that worked */
    gpu_nccl_destroy(be);     /* first: kernels that wait for a lost rank end with it */
    if (g->stream && gpu_drain(be)) return;
    gpu_engine_destroy(g);
    free_blocks(g, &g->blocks);
    free_blocks(g, &g->retired);
    gpu_give(g->device, g->scratch, g->scratch_bytes);
    gpu_give(g->device, g->work, g->work_bytes);
    gpu_stage_destroy(g->stage);
    if (g->stream) cudaStreamDestroy(g->stream);
}

static void gpu_destroy(struct nn_backend *be)
{
    if (!be) return;
    free_device_side(be);
    free(gpu_of(be));
    free((void *)be->ops);
    free(be);
}

static int gpu_set_precision(struct nn_backend *be, enum nn_precision p)
{
    gpu_of(be)->opt.precision = p;
    return gpu_cudnn_set_precision(be);
}

static void fill_table(struct nn_backend_ops *t)
{
    t->name = "gpu";
    t->destroy = gpu_destroy;
    t->alloc = gpu_alloc;
    t->release = gpu_release;
    t->copy = gpu_copy;
    t->zero = gpu_zero;
    t->sync = gpu_sync;
    t->set_precision = gpu_set_precision;
    t->capture_begin = gpu_capture_begin;
    t->capture_end = gpu_capture_end;
    t->replay = gpu_replay;
    t->capture_drop = gpu_capture_drop;
    t->graph_destroy = gpu_graph_destroy;
    gpu_conv_ops(t);
    gpu_batchnorm_ops(t);
    gpu_simple_ops(t);
    gpu_lstm_ops(t);
    gpu_layernorm_ops(t);
    gpu_linear_ops(t);
    gpu_loss_ops(t);
    gpu_update_ops(t);
    gpu_gather_ops(t);
    gpu_data_ops(t);
    gpu_copy_ops(t);
}

int cinch_gpu_count(int *n, struct cn_error *err)
{
    *n = 0;
    cudaError_t e = cudaGetDeviceCount(n);
    if (e == cudaSuccess && *n > 0) return 0;
    *n = 0;
    cudaGetLastError();
    switch ((int)e) {
    case cudaErrorStubLibrary: /* 34 */
        return cn_fail(err, CN_ENODEVICE,
                       "no GPU: the CUDA driver found is the toolkit's stub; take lib64/stubs out "
                       "of LD_LIBRARY_PATH");
    case cudaErrorInsufficientDriver: /* 35 */
        return cn_fail(err, CN_ENODEVICE,
                       "no GPU: the NVIDIA driver is missing or older than CUDA 13 needs (580); "
                       "install it, or use --cpu");
    case cudaSuccess:
    case cudaErrorNoDevice: /* 100 */
        return cn_fail(err, CN_ENODEVICE,
                       "no GPU: the driver sees no device (CUDA_VISIBLE_DEVICES? container without "
                       "--gpus?); use --cpu");
    default:
        return cn_fail(err, CN_ENODEVICE, "no GPU: %s", cudaGetErrorString(e));
    }
}

/* What is good to know about the board; what the runtime does not tell stays 0. */
static void describe_board(int device, int devices, struct cinch_gpu_info *info)
{
    typedef cudaError_t (*attribute_f)(int *, enum cudaDeviceP2PAttr, int, int);
    void *runtime = dlopen("libcudart.so.13", RTLD_NOW | RTLD_NOLOAD); /* not every one has it */
    attribute_f attribute =
        runtime ? (attribute_f)dlsym(runtime, "cudaDeviceGetP2PAttribute") : NULL;
    cudaDeviceGetAttribute(&info->ecc, cudaDevAttrEccEnabled, device);
    if (cudaDeviceGetPCIBusId(info->pci, sizeof info->pci, device) != cudaSuccess) *info->pci = 0;
    for (int other = 0; other < devices; other++) {
        int reach = 0, rank = 0;
        if (other == device || cudaDeviceCanAccessPeer(&reach, device, other) != cudaSuccess ||
            !reach)
            continue;
        if (attribute) attribute(&rank, cudaDevP2PAttrPerformanceRank, device, other);
        if (!info->peers++ || rank < info->best_link) info->best_link = rank;
    }
    cudaGetLastError();
}

int cinch_gpu_describe(int device, struct cinch_gpu_info *info, struct cn_error *err)
{
    int n;
    memset(info, 0, sizeof *info);
    int rc = cinch_gpu_count(&n, err);
    if (rc) return rc;
    if (device < 0 || device >= n)
        return cn_fail(err, CN_ENODEVICE, "gpu %d: there are %d GPUs here, numbered from 0", device,
                       n);
    struct cudaDeviceProp p;
    cudaError_t e = cudaGetDeviceProperties(&p, device);
    if (e == cudaSuccess) e = cudaSetDevice(device);
    if (e == cudaSuccess) e = cudaMemGetInfo(&info->memory_free, &info->memory);
    if (e != cudaSuccess) {
        note_lost(device, e, "properties");
        return cn_fail(err, CN_ENODEVICE, "gpu %d: %s", device, cudaGetErrorString(e));
    }
    snprintf(info->name, sizeof info->name, "%.95s", p.name);
    info->major = p.major;
    info->minor = p.minor;
    info->sms = p.multiProcessorCount;
    info->shared_per_block = p.sharedMemPerBlock;
    cudaRuntimeGetVersion(&info->runtime);
    cudaDriverGetVersion(&info->driver);
    info->cublas = gpu_libs_get()->cublas;
    info->cudnn = gpu_libs_get()->cudnn;
    info->nccl = gpu_libs_get()->nccl;
    snprintf(info->missing, sizeof info->missing, "%s", gpu_libs_get()->why);
    describe_board(device, n, info);
    int khz = 0, mem_khz = 0, bits = 0;
    cudaDeviceGetAttribute(&khz, cudaDevAttrClockRate, device);
    cudaDeviceGetAttribute(&mem_khz, cudaDevAttrMemoryClockRate, device);
    cudaDeviceGetAttribute(&bits, cudaDevAttrGlobalMemoryBusWidth, device);
    cudaGetLastError();
    int lanes = p.major == 8 && p.minor == 0
                    ? 64
                    : 128; /* fp32 lanes an SM: GA100 has 64, its successors 128 */
    info->fp32_tflops = 2.0 * lanes * p.multiProcessorCount * khz * 1e3 / 1e12;
    info->memory_gbs = 2.0 * mem_khz * 1e3 * bits / 8 / 1e9;
    return 0;
}

/* CINCH_GPU_ENGINE=native|cudnn overrides the choice by measuring, for tests and for bug reports. */
static enum cinch_gpu_engine engine_of(const struct cinch_gpu_options *opt)
{
    const char *v = getenv("CINCH_GPU_ENGINE");
    if (opt->engine != CINCH_ENGINE_AUTO || !v) return opt->engine;
    if (!strcmp(v, "native")) return CINCH_ENGINE_NATIVE;
    return !strcmp(v, "cudnn") ? CINCH_ENGINE_CUDNN : CINCH_ENGINE_AUTO;
}

int cinch_gpu_create(struct nn_backend **out, const struct cinch_gpu_options *opt,
                     struct cn_error *err)
{
    *out = NULL;
    struct cinch_gpu_info info;
    int rc = cinch_gpu_describe(opt->device, &info, err);
    if (rc) return rc;
    struct nn_backend *be = (struct nn_backend *)calloc(1, sizeof *be);
    struct gpu_ctx *g = (struct gpu_ctx *)calloc(1, sizeof *g);
    struct nn_backend_ops *t = (struct nn_backend_ops *)calloc(1, sizeof *t);
    if (!be || !g || !t) {
        free(be);
        free(g);
        free(t);
        return cn_fail(err, CN_ENOMEM, "out of memory");
    }
    g->device = opt->device;
    g->opt = *opt;
    g->opt.engine = engine_of(opt);
    g->sms = info.sms;
    g->limit = opt->memory_limit;
    be->ctx = g;
    fill_table(t);
    be->ops = t;
    cudaError_t e = cudaStreamCreateWithFlags(&g->stream, cudaStreamNonBlocking);
    if (e != cudaSuccess) {
        rc = cn_fail(err, code_of(e), "gpu %d: %s", opt->device, cudaGetErrorString(e));
        gpu_destroy(be);
        return rc;
    }
    rc = gpu_stage_create(be);
    if (!rc) gpu_engine_create(be, t);
    if (!rc) rc = gpu_nccl_create(be, t);
    if (rc) {
        if (err) *err = be->error;
        gpu_destroy(be);
        return rc;
    }
    *out = be;
    return 0;
}
