/* gpu/nccl.cu - data parallel training; see nccl.cuh.
 *
 * Every rank holds all parameters and trains on its share of each batch; gradients are averaged, so weights stay equal on all
 * ranks. Backward announces finished gradients from the last layer to the first (grad_ready); neighbouring ranges are joined
 * until BUCKET floats wait, then summed on a second stream while backward goes on. grad_wait sends the rest, joins the streams
 * and divides by the number of ranks. All of it can be captured into a graph.
 *
 * The communicator is a non-blocking one: joining, leaving and every call return at once, and we look after them with
 * a time limit; a blocking one waits for a lost rank for ever.
 */
#include "gpu/nccl.cuh"

#include <stdlib.h>
#include <string.h>

#include "gpu/libs.cuh"
#include "gpu/wait.cuh"

#ifdef CINCH_HAVE_NCCL

enum { BUCKET = 64 * 1024, JOIN_S = 60, FEW = 4 * NN_MAX_GANG };

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

/* ncclSuccess, ncclInProgress, or what went wrong. */
static ncclResult_t health(struct gpu_nccl *c)
{
    ncclResult_t r = ncclSuccess;
    ncclResult_t q = gpu_libs_get()->ncclCommGetAsyncError(c->comm, &r);
    return q != ncclSuccess ? q : r;
}

/* What a call that returned r comes to, within limit_s. ncclInProgress: not within it. */
static ncclResult_t settled(struct gpu_nccl *c, ncclResult_t r, double limit_s)
{
    double limit = gpu_now_s() + limit_s;
    while (r == ncclInProgress && gpu_now_s() <= limit) {
        r = health(c);
        if (r == ncclInProgress) gpu_nap();
    }
    return r;
}

int gpu_nccl_abort(struct nn_backend *be)
{
    struct gpu_nccl *c = gpu_of(be)->nccl;
    if (!c || !c->comm) return -1;
    gpu_libs_get()->ncclCommAbort(c->comm);
    c->comm = NULL;
    return 0;
}

/* An abort frees, which a capture forbids: there it is left to the end of the backend. */
static int abandon(struct nn_backend *be, ncclResult_t r, const char *what)
{
    if (!gpu_of(be)->capturing) gpu_nccl_abort(be);
    return nccl_fail(be, r, what);
}

/* After a collective: 0, or the ranks are abandoned. */
static int sent(struct nn_backend *be, ncclResult_t r, const char *what)
{
    r = settled(gpu_of(be)->nccl, r, gpu_patience_s(gpu_of(be)));
    return r == ncclSuccess ? 0 : abandon(be, r == ncclInProgress ? ncclSystemError : r, what);
}

static int has_ranks(struct nn_backend *be)
{
    if (gpu_of(be)->nccl->comm) return 0;
    return nccl_fail(be, ncclRemoteError, "the ranks have parted");
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
    int rc = has_ranks(be);
    if (rc) return rc;
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
    return sent(be, r, "sum of gradients");
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
    int rc = has_ranks(be);
    if (rc) return rc;
    ncclResult_t r = gpu_libs_get()->ncclAllGather(mine, all, n, ncclFloat, gpu_of(be)->nccl->comm,
                                                   gpu_of(be)->stream);
    return sent(be, r, "gather");
}

int gpu_nccl_sum(struct nn_backend *be, float *v, size_t n)
{
    int rc = has_ranks(be);
    if (rc) return rc;
    ncclResult_t r = gpu_libs_get()->ncclAllReduce(v, v, n, ncclFloat, ncclSum,
                                                   gpu_of(be)->nccl->comm, gpu_of(be)->stream);
    return sent(be, r, "sum");
}

static int rank_sum(struct nn_backend *be, float *v, int n)
{
    float *few = gpu_of(be)->nccl->few;
    if (n > FEW) return cn_fail(&be->error, CN_ELIMIT, "rank_sum of %d values", n);
    int rc = be->ops->upload(be, few, v, (size_t)n * sizeof *v);
    if (!rc) rc = gpu_nccl_sum(be, few, (size_t)n);
    return rc ? rc : be->ops->download(be, v, few, (size_t)n * sizeof *v);
}

int gpu_nccl_check(struct nn_backend *be, int late)
{
    struct gpu_nccl *c = gpu_of(be)->nccl;
    ncclResult_t r = c && c->comm ? health(c) : ncclSuccess;
    if (r != ncclSuccess && r != ncclInProgress) return abandon(be, r, "a rank was lost");
    return late ? abandon(be, ncclSystemError, "a rank is silent") : 0;
}

void gpu_nccl_forget(struct gpu_ctx *g)
{
    if (!g->nccl) return;
    g->nccl->lo = g->nccl->hi = 0;
    g->nccl->n_sent = 0;
}

static int join(struct nn_backend *be)
{
    struct gpu_ctx *g = gpu_of(be);
    struct gpu_nccl *c = g->nccl;
    ncclUniqueId id;
    ncclConfig_t how = NCCL_CONFIG_INITIALIZER;
    how.blocking = 0;
    memcpy(&id, g->opt.nccl_id, sizeof id);
    ncclResult_t r =
        gpu_libs_get()->ncclCommInitRankConfig(&c->comm, g->opt.ranks, id, g->opt.rank, &how);
    if (r == ncclInProgress)
        r = settled(c, r, g->opt.fail_after_s > 0 ? g->opt.fail_after_s : JOIN_S);
    if (r == ncclSuccess) return 0;
    return abandon(be, r == ncclInProgress ? ncclSystemError : r,
                   r == ncclInProgress ? "not all ranks have come" : "joining the other ranks");
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
    int rc = join(be);
    if (rc) return rc;
    t->grad_ready = grad_ready;
    t->grad_wait = grad_wait;
    t->rank_sum = rank_sum;
    be->ranks = g->opt.ranks;
    be->rank = g->opt.rank;
    return 0;
}

/* In order, with a limit: the others may have gone without a word. */
static void leave(struct nn_backend *be)
{
    const struct gpu_libs *l = gpu_libs_get();
    struct gpu_nccl *c = gpu_of(be)->nccl;
    ncclResult_t r = settled(c, l->ncclCommFinalize(c->comm), gpu_patience_s(gpu_of(be)));
    if (r == ncclSuccess)
        l->ncclCommDestroy(c->comm);
    else
        l->ncclCommAbort(c->comm);
    c->comm = NULL;
}

void gpu_nccl_destroy(struct nn_backend *be)
{
    struct gpu_ctx *g = gpu_of(be);
    struct gpu_nccl *c = g->nccl;
    if (!c) return;
    if (c->comm && be->error.code)
        gpu_nccl_abort(be);
    else if (c->comm)
        leave(be);
    if (gpu_drain(be)) return;
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

int gpu_nccl_check(struct nn_backend *be, int late)
{
    (void)be, (void)late;
    return 0;
}

int gpu_nccl_abort(struct nn_backend *be)
{
    (void)be;
    return -1;
}

void gpu_nccl_forget(struct gpu_ctx *g)
{
    (void)g;
}

int gpu_nccl_create(struct nn_backend *be, struct nn_backend_ops *t)
{
    (void)t;
    if (gpu_of(be)->opt.ranks <= 1) return 0;
    return cn_fail(&be->error, CN_EUNSUPPORTED, "several GPUs need NCCL: %s", gpu_libs_get()->why);
}

void gpu_nccl_destroy(struct nn_backend *be)
{
    (void)be;
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
