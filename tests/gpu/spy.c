/* tests/gpu/spy.c - see spy.h. The runtime's functions are found behind these; those of cuDNN, cuBLAS and
 * NCCL, which the plugin looks up itself, by standing before dlsym. */
#define _GNU_SOURCE
#include "tests/gpu/spy.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes" /* they stand in for others' functions */

enum { NOT_READY = 600, LAUNCH_FAILURE = 719, UNKNOWN = 999, PINNED = 1 };

struct spy spy;
char (*spy_call)[160];
int spy_calls;
_Thread_local int spy_hang;
static _Thread_local int capturing, launches_here;

void spy_reset(void)
{
    memset(&spy, 0, sizeof spy);
    spy_hang = spy_calls = 0;
}

static void *(*real_dlsym(void))(void *, const char *)
{
    static void *(*f)(void *, const char *);
    if (!f) {
        void *p = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
        if (!p) p = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
        memcpy(&f, &p, sizeof f);
    }
    return f;
}

/* The runtime's own: it has come with the plugin, so it is not next in line. */
static void *own(const char *name)
{
    static void *lib;
    if (!lib) lib = dlopen("libcudart.so.13", RTLD_NOW | RTLD_NOLOAD);
    void *f = lib ? real_dlsym()(lib, name) : NULL;
    if (!f) {
        fprintf(stderr, "spy: no %s\n", name);
        abort();
    }
    return f;
}

#define REAL(name, type, ...)                                                                      \
    static type (*real)(__VA_ARGS__);                                                              \
    if (!real) {                                                                                   \
        void *f_ = own(name);                                                                      \
        memcpy(&real, &f_, sizeof real);                                                           \
    }                                                                                              \
    if (spy.fault) return spy.fault

struct dim3 {
    unsigned x, y, z;
};

struct attributes { /* cudaPointerAttributes of CUDA 13 */
    int type, device;
    void *device_p, *host_p;
    long reserved[8];
};

static int is_pinned(const void *host)
{
    struct attributes a = {0};
    int (*get)(void *, const void *), (*last)(void);
    void *f = own("cudaPointerGetAttributes"), *g = own("cudaGetLastError");
    memcpy(&get, &f, sizeof get);
    memcpy(&last, &g, sizeof last);
    int rc = get(&a, host);
    if (rc) last();
    return rc == 0 && a.type == PINNED;
}

static void look_at_copy(const void *dst, const void *src, int kind, const void *stream)
{
    if (kind == SPY_TO_DEVICE && !is_pinned(src)) spy.pageable++;
    if (kind == SPY_TO_HOST && !is_pinned(dst)) spy.pageable++;
    if (!stream) spy.default_stream++;
    spy.downloads += kind == SPY_TO_HOST;
    spy.in_capture_calls += capturing && kind != 3;
}

int cudaMemcpyAsync(void *dst, const void *src, size_t bytes, int kind, void *stream)
{
    REAL("cudaMemcpyAsync", int, void *, const void *, size_t, int, void *);
    look_at_copy(dst, src, kind, stream);
    return real(dst, src, bytes, kind, stream);
}

int cudaMemcpy(void *dst, const void *src, size_t bytes, int kind)
{
    REAL("cudaMemcpy", int, void *, const void *, size_t, int);
    look_at_copy(dst, src, kind, NULL);
    spy.blocking += spy_hang;
    return real(dst, src, bytes, kind);
}

int cudaMalloc(void **p, size_t bytes)
{
    REAL("cudaMalloc", int, void **, size_t);
    spy.in_capture_calls += capturing;
    return real(p, bytes);
}

int cudaFree(void *p)
{
    REAL("cudaFree", int, void *);
    spy.in_capture_calls += capturing;
    spy.blocking += spy_hang && p;
    return real(p);
}

int cudaStreamSynchronize(void *stream)
{
    REAL("cudaStreamSynchronize", int, void *);
    spy.blocking += spy_hang;
    spy.in_capture_calls += capturing;
    return real(stream);
}

int cudaEventSynchronize(void *event)
{
    REAL("cudaEventSynchronize", int, void *);
    spy.blocking += spy_hang;
    spy.in_capture_calls += capturing;
    return real(event);
}

int cudaStreamQuery(void *stream)
{
    REAL("cudaStreamQuery", int, void *);
    spy.in_capture_calls += capturing;
    return spy_hang ? NOT_READY : real(stream);
}

int cudaEventQuery(void *event)
{
    REAL("cudaEventQuery", int, void *);
    spy.in_capture_calls += capturing;
    return spy_hang ? NOT_READY : real(event);
}

int cudaStreamBeginCapture(void *stream, int mode)
{
    REAL("cudaStreamBeginCapture", int, void *, int);
    spy.captures_begun++;
    capturing = 1;
    launches_here = 0;
    return real(stream, mode);
}

int cudaStreamEndCapture(void *stream, void **graph)
{
    REAL("cudaStreamEndCapture", int, void *, void **);
    spy.captures_ended++;
    capturing = 0;
    int rc = real(stream, graph);
    if (rc == 0 && *graph) spy.graphs_made++;
    return rc;
}

int cudaGraphDestroy(void *graph)
{
    REAL("cudaGraphDestroy", int, void *);
    spy.graphs_made--;
    return real(graph);
}

int cudaGraphLaunch(void *graph, void *stream)
{
    REAL("cudaGraphLaunch", int, void *, void *);
    spy.launches_of_graphs++;
    return real(graph, stream);
}

static void keep_grid(struct dim3 g)
{
    unsigned v[3] = {g.x, g.y, g.z};
    for (int i = 0; i < 3; i++)
        if (v[i] > spy.most[i]) spy.most[i] = v[i];
    spy.blocks += (uint64_t)g.x * g.y * g.z;
}

int __cudaLaunchKernel(void *k, struct dim3 grid, struct dim3 block, void **args, size_t shared,
                       void *stream)
{
    REAL("__cudaLaunchKernel", int, void *, struct dim3, struct dim3, void **, size_t, void *);
    spy.launches++;
    if (!stream) spy.default_stream++;
    if (capturing && ++launches_here == spy.fail_launch_in_capture) {
        /* as the runtime would: the capture is spoilt, and the launch is refused */
        real(k, (struct dim3){0, 0, 0}, block, args, shared, stream);
        return LAUNCH_FAILURE;
    }
    if (!spy.dry) return real(k, grid, block, args, shared, stream);
    keep_grid(grid);
    return 0;
}

int cudaPeekAtLastError(void)
{
    REAL("cudaPeekAtLastError", int, void);
    return real();
}

int cudaGetLastError(void)
{
    REAL("cudaGetLastError", int, void);
    return real();
}

/* ---- libraries that the plugin looks up itself ---- */

static void *next_of(const char *name, void *f)
{
    static struct {
        char name[64];
        void *f;
    } all[64];
    static int n;
    for (int i = 0; i < n; i++)
        if (!strcmp(all[i].name, name)) return f ? (all[i].f = f) : all[i].f;
    if (!f || n == 64) return NULL;
    snprintf(all[n].name, sizeof all[n].name, "%s", name);
    return all[n++].f = f;
}

static int nccl_abort(void *comm)
{
    int (*real)(void *);
    void *f = next_of("ncclCommAbort", NULL);
    memcpy(&real, &f, sizeof real);
    spy_hang = 0;
    return real(comm);
}

struct id {
    char v[128];
};

static int nccl_init(void **comm, int n, struct id id, int rank)
{
    int (*real)(void **, int, struct id, int);
    void *f = next_of("ncclCommInitRank", NULL);
    memcpy(&real, &f, sizeof real);
    spy.blocking_nccl++;
    return real(comm, n, id, rank);
}

static int nccl_init_config(void **comm, int n, struct id id, int rank, void *config)
{
    int (*real)(void **, int, struct id, int, void *);
    void *f = next_of("ncclCommInitRankConfig", NULL);
    memcpy(&real, &f, sizeof real);
    int blocking;
    memcpy(&blocking, (char *)config + sizeof(size_t) + 2 * sizeof(unsigned), sizeof blocking);
    spy.blocking_nccl += blocking != 0;
    return real(comm, n, id, rank, config);
}

/* ---- calls that compute ---- */

static void note(const char *fmt, ...)
{
    va_list ap;
    if (!spy.keep_calls) return;
    if (!spy_call) spy_call = calloc(SPY_CALLS, sizeof *spy_call);
    if (!spy_call || spy_calls == SPY_CALLS) return;
    va_start(ap, fmt);
    vsnprintf(spy_call[spy_calls++], sizeof *spy_call, fmt, ap);
    va_end(ap);
}

static void *library(const char *name, const char *function)
{
    void *lib = dlopen(name, RTLD_NOW | RTLD_NOLOAD);
    return lib ? real_dlsym()(lib, function) : NULL;
}

static int math_of(void *conv)
{
    int (*get)(void *, int *), math = -1;
    void *f = library("libcudnn.so.9", "cudnnGetConvolutionMathType");
    memcpy(&get, &f, sizeof get);
    if (f) get(conv, &math);
    return math;
}

static void shape_of(void *tensor, int d[5])
{
    int (*get)(void *, int *, int *, int *, int *, int *, int *, int *, int *, int *), s[4];
    void *f = library("libcudnn.so.9", "cudnnGetTensor4dDescriptor");
    memcpy(&get, &f, sizeof get);
    memset(d, 0, 5 * sizeof *d);
    if (f) get(tensor, &d[0], &d[1], &d[2], &d[3], &d[4], &s[0], &s[1], &s[2], &s[3]);
}

#define ALIGNED(p) ((int)((uintptr_t)(p) % 256 == 0))

/* The three convolutions have one order of arguments; names are those of the forward one. */
static int conv_call(const char *name, void *h, const void *alpha, void *xd, const void *x,
                     void *wd, const void *w, void *conv, int algo, void *ws, size_t bytes,
                     const void *beta, void *yd, void *y)
{
    int (*real)(void *, const void *, void *, const void *, void *, const void *, void *, int,
                void *, size_t, const void *, void *, void *);
    void *f = next_of(name, NULL);
    int d[5];
    memcpy(&real, &f, sizeof real);
    shape_of(!strcmp(name, "cudnnConvolutionBackwardData") ? wd : xd, d);
    spy.math |= 1 << math_of(conv);
    note("%s type%d %dx%dx%d algo%d math%d work%zu aligned%d%d%d beta%g", name, d[0], d[1], d[2],
         d[4], algo, math_of(conv), bytes, ALIGNED(x), ALIGNED(w), ALIGNED(y),
         (double)*(const float *)beta);
    return real(h, alpha, xd, x, wd, w, conv, algo, ws, bytes, beta, yd, y);
}

#define CONV(function, name)                                                                       \
    static int function(void *h, const void *al, void *xd, const void *x, void *wd, const void *w, \
                        void *conv, int algo, void *ws, size_t bytes, const void *be, void *yd,    \
                        void *y)                                                                   \
    {                                                                                              \
        return conv_call(name, h, al, xd, x, wd, w, conv, algo, ws, bytes, be, yd, y);             \
    }
CONV(conv_forward, "cudnnConvolutionForward")
CONV(conv_data, "cudnnConvolutionBackwardData")
CONV(conv_filter, "cudnnConvolutionBackwardFilter")

struct perf { /* of all three convolutions */
    int algo, status;
    float time;
    size_t memory;
    int determinism, math, reserved[3];
};

/* What is offered comes with other math types than the descriptor's, as from a real library. */
static int offer(const char *name, void *h, void *a, void *b, void *c, void *d, int want, int *got,
                 struct perf *p)
{
    int (*real)(void *, void *, void *, void *, void *, int, int *, struct perf *);
    void *f = next_of(name, NULL);
    memcpy(&real, &f, sizeof real);
    int rc = real(h, a, b, c, d, want, got, p);
    for (int i = 0; rc == 0 && i < *got && spy.offer_math; i++) p[i].math = spy.offer_math - 1;
    return rc;
}

#define OFFER(function, name)                                                                      \
    static int function(void *h, void *a, void *b, void *c, void *d, int want, int *got,           \
                        struct perf *p)                                                            \
    {                                                                                              \
        return offer(name, h, a, b, c, d, want, got, p);                                           \
    }
OFFER(offer_forward, "cudnnGetConvolutionForwardAlgorithm_v7")
OFFER(offer_data, "cudnnGetConvolutionBackwardDataAlgorithm_v7")
OFFER(offer_filter, "cudnnGetConvolutionBackwardFilterAlgorithm_v7")

static int gemm(void *h, int ta, int tb, int m, int n, int k, const float *alpha, const float *a,
                int lda, long long sa, const float *b, int ldb, long long sb, const float *beta,
                float *c, int ldc, long long sc, int batch)
{
    int (*real)(void *, int, int, int, int, int, const float *, const float *, int, long long,
                const float *, int, long long, const float *, float *, int, long long, int);
    void *f = next_of("cublasSgemmStridedBatched", NULL);
    memcpy(&real, &f, sizeof real);
    note("gemm %d%d %dx%dx%d ld%d,%d,%d beta%g batch%d aligned%d%d%d", ta, tb, m, n, k, lda, ldb,
         ldc, (double)*beta, batch, ALIGNED(a), ALIGNED(b), ALIGNED(c));
    return real(h, ta, tb, m, n, k, alpha, a, lda, sa, b, ldb, sb, beta, c, ldc, sc, batch);
}

static int rnn_set(void *rnn, int algo, int cell, int bias, int dir, int input, int type,
                   int precision, int math, int in, int hidden, int proj, int layers, void *dropout,
                   unsigned flags)
{
    int (*real)(void *, int, int, int, int, int, int, int, int, int, int, int, int, void *,
                unsigned);
    void *f = next_of("cudnnSetRNNDescriptor_v8", NULL);
    memcpy(&real, &f, sizeof real);
    spy.rnn_math |= 1 << math;
    return real(rnn, algo, cell, bias, dir, input, type, precision, math, in, hidden, proj, layers,
                dropout, flags);
}

static int blas_math(void *h, int mode)
{
    int (*real)(void *, int);
    void *f = next_of("cublasSetMathMode", NULL);
    memcpy(&real, &f, sizeof real);
    spy.blas_math = mode;
    return real(h, mode);
}

static const struct {
    const char *name;
    void *f;
} stands[] = {{"ncclCommAbort", (void *)nccl_abort},
              {"ncclCommInitRank", (void *)nccl_init},
              {"ncclCommInitRankConfig", (void *)nccl_init_config},
              {"cudnnConvolutionForward", (void *)conv_forward},
              {"cudnnConvolutionBackwardData", (void *)conv_data},
              {"cudnnConvolutionBackwardFilter", (void *)conv_filter},
              {"cudnnGetConvolutionForwardAlgorithm_v7", (void *)offer_forward},
              {"cudnnGetConvolutionBackwardDataAlgorithm_v7", (void *)offer_data},
              {"cudnnGetConvolutionBackwardFilterAlgorithm_v7", (void *)offer_filter},
              {"cudnnSetRNNDescriptor_v8", (void *)rnn_set},
              {"cublasSetMathMode", (void *)blas_math},
              {"cublasSgemmStridedBatched", (void *)gemm}};

void *dlsym(void *lib, const char *name)
{
    void *f = real_dlsym()(lib, name);
    for (size_t i = 0; f && i < sizeof stands / sizeof *stands; i++)
        if (!strcmp(stands[i].name, name)) {
            next_of(name, f);
            return stands[i].f;
        }
    return f;
}
