/* gpu/wait.cu - see wait.cuh.
 *
 * One card's kernels end by themselves, or the driver ends them with an error, so a backend that is alone
 * may block in the runtime. A collective whose partner is gone spins for ever and every blocking call of
 * the runtime with it (synchronise, a copy from or to pageable memory, free): with ranks the host only
 * ever looks and sleeps, until the limit.
 */
#include "gpu/wait.cuh"

#include <time.h>

#include "gpu/nccl.cuh"

enum { FAIL_AFTER_S = 10, NAP_NS = 50000 };

double gpu_now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void gpu_nap(void)
{
    struct timespec nap = {0, NAP_NS};
    nanosleep(&nap, NULL);
}

double gpu_patience_s(const struct gpu_ctx *g)
{
    return g->opt.fail_after_s > 0 ? g->opt.fail_after_s : FAIL_AFTER_S;
}

static cudaError_t look(const struct gpu_ctx *g, cudaEvent_t event)
{
    return event ? cudaEventQuery(event) : cudaStreamQuery(g->stream);
}

static cudaError_t block(const struct gpu_ctx *g, cudaEvent_t event)
{
    return event ? cudaEventSynchronize(event) : cudaStreamSynchronize(g->stream);
}

int gpu_wait_event(struct nn_backend *be, cudaEvent_t event, const char *what)
{
    struct gpu_ctx *g = gpu_of(be);
    int rc = gpu_not_capturing(be, what);
    if (rc) return rc;
    cudaError_t e = g->opt.ranks > 1 ? cudaErrorNotReady : block(g, event);
    double limit = gpu_now_s() + gpu_patience_s(g);
    while (e == cudaErrorNotReady) {
        e = look(g, event);
        if (e != cudaErrorNotReady) break;
        rc = gpu_nccl_check(be, gpu_now_s() > limit);
        if (rc) return rc;
        gpu_nap();
    }
    return e == cudaSuccess ? 0 : gpu_fail(be, e, what);
}

int gpu_wait(struct nn_backend *be, const char *what)
{
    return gpu_wait_event(be, NULL, what);
}

int gpu_drain(struct nn_backend *be)
{
    struct gpu_ctx *g = gpu_of(be);
    if (g->stuck || g->capturing) return -1;
    cudaError_t e = g->opt.ranks > 1 ? cudaErrorNotReady : block(g, NULL);
    double limit = gpu_now_s() + gpu_patience_s(g);
    while (e == cudaErrorNotReady && !g->stuck) {
        e = look(g, NULL);
        if (e != cudaErrorNotReady) break;
        if (gpu_now_s() > limit && !gpu_nccl_abort(be))
            limit += gpu_patience_s(g); /* its kernels end now */
        else if (gpu_now_s() > limit)
            g->stuck = 1;
        gpu_nap();
    }
    cudaGetLastError();
    return g->stuck;
}
