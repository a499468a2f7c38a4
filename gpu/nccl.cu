/* gpu/nccl.cu - data parallel training; see nccl.cuh.
 *
 * Every rank holds all parameters and trains on its share of each batch; gradients are averaged, so weights stay equal on all
 * ranks. Backward announces finished gradients from the last layer to the first (grad_ready); neighbouring ranges are joined
 * until BUCKET floats wait, then summed on a second stream while backward goes on. grad_wait sends the rest, joins the streams
 * and divides by the number of ranks. All of it can be captured into a graph.
 */
#include "gpu/nccl.cuh"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gpu/libs.cuh"

#ifdef CINCH_HAVE_NCCL

enum { BUCKET = 64 * 1024, FAIL_AFTER_S = 10, FEW = 4 * NN_MAX_GANG };

struct gpu_nccl {
    ncclComm_t comm;
    cudaStream_t stream; /* of the sums */
    cudaEvent_t ready, done;
    float *few;  /* device: what rank_sum carries */
    float *grad; /* the waiting range: grad[lo, hi) */
    int64_t lo, hi;
    /* what was summed in this step, to be divided: ranges of gradients */
    struct {
        float *p;
        int64_t n;
    } sent[512];
    int n_sent;
};

static int nccl_fail(struct nn_backend *be, ncclResult_t r, const char *what)
{
    if (be->error.code) return be->error.code;
    int code = r == ncclRemoteError || r == ncclSystemError ? CN_ECONNECT : CN_EINTERNAL;
    return cn_fail(&be->error, code, "gpu %d, rank %d of %d: NCCL: %s: %s", gpu_of(be)->device,
                   gpu_of(be)->opt.rank, gpu_of(be)->opt.ranks, what,
                   gpu_libs_get()->ncclGetErrorString(r));
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

int cinch_gpu_nccl_id(void *id, struct cn_error *err)
{
    const struct gpu_libs *l = gpu_libs_get();
    if (!l->nccl) return cn_fail(err, CN_EUNSUPPORTED, "several GPUs need NCCL: %s", l->why);
    ncclResult_t r = l->ncclGetUniqueId((ncclUniqueId *)id);
    if (r != ncclSuccess) return cn_fail(err, CN_EINTERNAL, "NCCL: %s", l->ncclGetErrorString(r));
    return 0;
}

__global__ void f32_divide(int64_t n, float by, float *v)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) v[i] /= by;
}

/* Sends the waiting range, after what the main stream has computed so far. */
static int flush(struct nn_backend *be)
{
    struct gpu_ctx *g = gpu_of(be);
    struct gpu_nccl *c = g->nccl;
    if (c->hi == c->lo) return 0;
    float *p = c->grad + c->lo;
    int64_t n = c->hi - c->lo;
    c->lo = c->hi = 0;
    if (c->n_sent == (int)(sizeof c->sent / sizeof *c->sent))
        return cn_fail(&be->error, CN_ELIMIT, "gpu %d: too many gradient ranges in a step",
                       g->device);
    c->sent[c->n_sent].p = p;
    c->sent[c->n_sent++].n = n;
    cudaError_t e = cudaEventRecord(c->ready, g->stream);
    if (e == cudaSuccess) e = cudaStreamWaitEvent(c->stream, c->ready, 0);
    if (e != cudaSuccess) return gpu_fail(be, e, "gradient exchange");
    ncclResult_t r =
        gpu_libs_get()->ncclAllReduce(p, p, (size_t)n, ncclFloat, ncclSum, c->comm, c->stream);
    return r == ncclSuccess ? 0 : nccl_fail(be, r, "sum of gradients");
}

static int grad_ready(struct nn_backend *be, float *grad, int64_t offset, int64_t count)
{
    struct gpu_nccl *c = gpu_of(be)->nccl;
    int joins = c->hi > c->lo && c->grad == grad && (offset + count == c->lo || offset == c->hi);
    int rc = joins ? 0 : flush(be);
    if (rc) return rc;
    if (!joins) {
        c->grad = grad;
        c->lo = offset;
        c->hi = offset + count;
    } else if (offset < c->lo)
        c->lo = offset;
    else
        c->hi = offset + count;
    return c->hi - c->lo >= BUCKET ? flush(be) : 0;
}

static int grad_wait(struct nn_backend *be)
{
    struct gpu_ctx *g = gpu_of(be);
    struct gpu_nccl *c = g->nccl;
    int rc = flush(be);
    if (rc) return rc;
    cudaError_t e = cudaEventRecord(c->done, c->stream);
    if (e == cudaSuccess) e = cudaStreamWaitEvent(g->stream, c->done, 0);
    if (e != cudaSuccess) return gpu_fail(be, e, "gradient exchange");
    for (int i = 0; i < c->n_sent; i++)
        f32_divide<<<gpu_blocks(c->sent[i].n, 256), 256, 0, g->stream>>>(
            c->sent[i].n, (float)g->opt.ranks, c->sent[i].p);
    c->n_sent = 0;
    return gpu_launched(be, "gradient average");
}

int gpu_nccl_gather(struct nn_backend *be, const float *mine, float *all, size_t n)
{
    ncclResult_t r = gpu_libs_get()->ncclAllGather(mine, all, n, ncclFloat, gpu_of(be)->nccl->comm,
                                                   gpu_of(be)->stream);
    return r == ncclSuccess ? 0 : nccl_fail(be, r, "gather");
}

int gpu_nccl_sum(struct nn_backend *be, float *v, size_t n)
{
    ncclResult_t r = gpu_libs_get()->ncclAllReduce(v, v, n, ncclFloat, ncclSum,
                                                   gpu_of(be)->nccl->comm, gpu_of(be)->stream);
    return r == ncclSuccess ? 0 : nccl_fail(be, r, "sum");
}

static int rank_sum(struct nn_backend *be, float *v, int n)
{
    float *few = gpu_of(be)->nccl->few;
    if (n > FEW) return cn_fail(&be->error, CN_ELIMIT, "rank_sum of %d values", n);
    int rc = be->ops->upload(be, few, v, (size_t)n * sizeof *v);
    if (!rc) rc = gpu_nccl_sum(be, few, (size_t)n);
    return rc ? rc : be->ops->download(be, v, few, (size_t)n * sizeof *v);
}

static int abandon(struct nn_backend *be, ncclResult_t r, const char *what)
{
    struct gpu_nccl *c = gpu_of(be)->nccl;
    gpu_libs_get()->ncclCommAbort(c->comm);
    c->comm = NULL;
    return nccl_fail(be, r, what);
}

/* Success, or ncclInProgress, or what went wrong. */
static ncclResult_t health(struct gpu_nccl *c)
{
    ncclResult_t r = ncclSuccess;
    ncclResult_t q = gpu_libs_get()->ncclCommGetAsyncError(c->comm, &r);
    return q != ncclSuccess ? q : r;
}

int gpu_wait(struct nn_backend *be, const char *what)
{
    struct gpu_ctx *g = gpu_of(be);
    if (!g->nccl || !g->nccl->comm) {
        cudaError_t e = cudaStreamSynchronize(g->stream);
        return e == cudaSuccess ? 0 : gpu_fail(be, e, what);
    }
    double limit = now_s() + (g->opt.fail_after_s > 0 ? g->opt.fail_after_s : FAIL_AFTER_S);
    for (;;) {
        cudaError_t e = cudaStreamQuery(g->stream);
        if (e == cudaSuccess) return 0;
        if (e != cudaErrorNotReady) return gpu_fail(be, e, what);
        ncclResult_t r = health(g->nccl);
        if (r != ncclSuccess && r != ncclInProgress) return abandon(be, r, "a rank was lost");
        if (now_s() > limit) return abandon(be, ncclSystemError, "a rank is silent");
        struct timespec nap = {0, 50000};
        nanosleep(&nap, NULL);
    }
}

int gpu_nccl_create(struct nn_backend *be, struct nn_backend_ops *t)
{
    struct gpu_ctx *g = gpu_of(be);
    const struct gpu_libs *l = gpu_libs_get();
    if (g->opt.ranks <= 1) return 0;
    if (!l->nccl) return cn_fail(&be->error, CN_EUNSUPPORTED, "several GPUs need NCCL: %s", l->why);
    if (!g->opt.nccl_id || g->opt.rank < 0 || g->opt.rank >= g->opt.ranks)
        return cn_fail(&be->error, CN_EINVALID,
                       "rank %d of %d: a shared id is needed, and ranks count from 0", g->opt.rank,
                       g->opt.ranks);
    struct gpu_nccl *c = (struct gpu_nccl *)calloc(1, sizeof *c);
    if (!c) return cn_fail(&be->error, CN_ENOMEM, "out of memory");
    g->nccl = c;
    cudaError_t e = cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking);
    if (e == cudaSuccess) e = cudaEventCreateWithFlags(&c->ready, cudaEventDisableTiming);
    if (e == cudaSuccess) e = cudaEventCreateWithFlags(&c->done, cudaEventDisableTiming);
    if (e == cudaSuccess) e = cudaMalloc(&c->few, FEW * sizeof *c->few);
    if (e != cudaSuccess) return gpu_fail(be, e, "gradient exchange");
    ncclUniqueId id;
    memcpy(&id, g->opt.nccl_id, sizeof id);
    ncclResult_t r = l->ncclCommInitRank(&c->comm, g->opt.ranks, id, g->opt.rank);
    if (r != ncclSuccess) return nccl_fail(be, r, "joining the other ranks");
    t->grad_ready = grad_ready;
    t->grad_wait = grad_wait;
    t->rank_sum = rank_sum;
    be->ranks = g->opt.ranks;
    be->rank = g->opt.rank;
    return 0;
}

void gpu_nccl_destroy(struct gpu_ctx *g, int failed)
{
    struct gpu_nccl *c = g->nccl;
    if (!c) return;
    if (c->comm && failed)
        gpu_libs_get()->ncclCommAbort(c->comm);
    else if (c->comm)
        gpu_libs_get()->ncclCommDestroy(c->comm);
    cudaFree(c->few);
    if (c->ready) cudaEventDestroy(c->ready);
    if (c->done) cudaEventDestroy(c->done);
    if (c->stream) cudaStreamDestroy(c->stream);
    free(c);
    g->nccl = NULL;
}

#else

int cinch_gpu_nccl_id(void *id, struct cn_error *err)
{
    (void)id;
    return cn_fail(err, CN_EUNSUPPORTED, "several GPUs need NCCL: %s", gpu_libs_get()->why);
}

int gpu_wait(struct nn_backend *be, const char *what)
{
    cudaError_t e = cudaStreamSynchronize(gpu_of(be)->stream);
    return e == cudaSuccess ? 0 : gpu_fail(be, e, what);
}

int gpu_nccl_create(struct nn_backend *be, struct nn_backend_ops *t)
{
    (void)t;
    if (gpu_of(be)->opt.ranks <= 1) return 0;
    return cn_fail(&be->error, CN_EUNSUPPORTED, "several GPUs need NCCL: %s", gpu_libs_get()->why);
}

void gpu_nccl_destroy(struct gpu_ctx *g, int failed)
{
    (void)g, (void)failed;
}

int gpu_nccl_gather(struct nn_backend *be, const float *mine, float *all, size_t n)
{
    (void)mine, (void)all, (void)n;
    return cn_fail(&be->error, CN_EUNSUPPORTED, "built without NCCL");
}

int gpu_nccl_sum(struct nn_backend *be, float *v, size_t n)
{
    (void)v, (void)n;
    return cn_fail(&be->error, CN_EUNSUPPORTED, "built without NCCL");
}

#endif
