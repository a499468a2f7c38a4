/* gpu/data.cu - the dataset on the device: once for all backends of the process, in fp32 or, where
 * that is too much, in half precision; and how much memory is left.
 *
 * Half precision is taken when fp32 would need more than half of what is left: jobs want memory too.
 * Signals are normalised, so rounding to 11 bits of fraction moves them by 5e-4 of their size at most.
 * CINCH_GPU_DATA=fp32|fp16 overrides the choice. CINCH_GPU_MEMORY=MB bounds what a process takes of a
 * device, for cards that are shared with others.
 */
#include <cuda_fp16.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>
#include <mutex>

#include "gpu/wait.cuh"

enum { THREADS = 256, CHUNK = 1 << 20, MAX_DEVICES = 64 };

struct resident {
    const float *host;
    size_t n;
    int device, half, users;
    void *p;
    struct resident *next;
};

static std::mutex lock;
static struct resident *residents;
static std::atomic<size_t> taken[MAX_DEVICES]; /* by this process through gpu_take */

/* ---- memory ---- */

static size_t cap_bytes(void)
{
    const char *v = getenv("CINCH_GPU_MEMORY");
    return v && *v ? (size_t)strtoull(v, NULL, 10) << 20 : 0;
}

cudaError_t gpu_take(int device, size_t bytes, void **p)
{
    std::atomic<size_t> &mine = taken[device % MAX_DEVICES];
    size_t cap = cap_bytes();
    *p = NULL;
    if (mine.fetch_add(bytes) + bytes > cap && cap) {
        mine -= bytes;
        return cudaErrorMemoryAllocation;
    }
    cudaError_t e = cudaMalloc(p, bytes);
    if (e != cudaSuccess) {
        mine -= bytes;
        *p = NULL;
        cudaGetLastError(); /* the next call must not fail by it */
    }
    return e;
}

void gpu_give(int device, void *p, size_t bytes)
{
    if (!p) return;
    cudaFree(p);
    taken[device % MAX_DEVICES] -= bytes;
}

static int memory_left(struct nn_backend *be, size_t *left, size_t *total)
{
    struct gpu_ctx *g = gpu_of(be);
    cudaError_t e = cudaMemGetInfo(left, total);
    if (e != cudaSuccess) return gpu_fail(be, e, "memory");
    size_t cap = cap_bytes(), used = taken[g->device % MAX_DEVICES];
    if (cap && cap < used + *left) *left = used < cap ? cap - used : 0;
    if (g->limit && g->limit < g->used + *left) *left = g->used < g->limit ? g->limit - g->used : 0;
    return 0;
}

/* ---- the dataset ---- */

static struct resident *find(const float *host, size_t n, int device)
{
    struct resident *r = residents;
    while (r && (r->host != host || r->n != n || r->device != device)) r = r->next;
    return r;
}

static int choose_half(size_t n, size_t left)
{
    const char *v = getenv("CINCH_GPU_DATA");
    if (v && !strcmp(v, "fp32")) return 0;
    if (v && !strcmp(v, "fp16")) return 1;
    return n * sizeof(float) > left / 2;
}

__global__ void __launch_bounds__(THREADS) f32_to_half(int n, const float *in, __half *out)
{
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i < n) out[i] = __float2half_rn(fminf(fmaxf(in[i], -65504.0f), 65504.0f));
}

/* By way of a buffer of CHUNK floats, which is freed again. */
static int upload_half(struct nn_backend *be, const struct resident *r)
{
    float *part = NULL;
    cudaStream_t st = gpu_of(be)->stream;
    cudaError_t e = cudaMalloc(&part, CHUNK * sizeof *part);
    int rc = e == cudaSuccess ? 0 : gpu_fail(be, e, "dataset upload");
    for (size_t at = 0; at < r->n && !rc; at += CHUNK) {
        int k = (int)(r->n - at < CHUNK ? r->n - at : CHUNK);
        rc = be->ops->upload(be, part, r->host + at, k * sizeof *part);
        if (rc) break;
        f32_to_half<<<gpu_blocks(k, THREADS), THREADS, 0, st>>>(k, part, (__half *)r->p + at);
        rc = gpu_launched(be, "dataset upload");
    }
    if (!gpu_drain(be)) cudaFree(part);
    return rc;
}

static size_t bytes_of(const struct resident *r)
{
    return r->n * (r->half ? sizeof(__half) : sizeof(float));
}

/* Uploads on be's stream and waits for it: other backends read the copy from streams of their own. */
static int fill(struct nn_backend *be, struct resident *r)
{
    cudaError_t e = gpu_take(r->device, bytes_of(r), &r->p);
    if (e != cudaSuccess) return gpu_fail(be, e, "dataset upload");
    int rc = r->half ? upload_half(be, r) : be->ops->upload(be, r->p, r->host, bytes_of(r));
    if (!rc) rc = gpu_wait(be, "dataset upload");
    if (rc && !gpu_drain(be)) gpu_give(r->device, r->p, bytes_of(r));
    return rc;
}

static int add(struct nn_backend *be, const float *host, size_t n, struct resident **out)
{
    size_t left, total;
    int rc = memory_left(be, &left, &total);
    if (rc) return rc;
    struct resident *r = (struct resident *)calloc(1, sizeof *r);
    if (!r) return cn_fail(&be->error, CN_ENOMEM, "out of memory");
    r->host = host;
    r->n = n;
    r->device = gpu_of(be)->device;
    r->half = choose_half(n, left);
    rc = fill(be, r);
    if (rc) {
        free(r);
        return rc;
    }
    gpu_log(gpu_of(be), "dataset: %.1f MB on the card in %s (%.0f of %.0f MB were free)",
            (double)bytes_of(r) * 1e-6, r->half ? "half precision" : "fp32", (double)left * 1e-6,
            (double)total * 1e-6);
    r->next = residents;
    residents = *out = r;
    return 0;
}

static int attach(struct nn_backend *be, const float *host, size_t n, const void **p, int *half)
{
    int rc = gpu_not_capturing(be, "a dataset's upload");
    if (rc) return rc;
    std::lock_guard<std::mutex> hold(lock);
    struct resident *r = find(host, n, gpu_of(be)->device);
    rc = r ? 0 : add(be, host, n, &r);
    if (rc) return rc;
    r->users++;
    *p = r->p;
    *half = r->half;
    return 0;
}

static void detach(struct nn_backend *be, const void *p)
{
    if (!p) return;
    int stuck = gpu_drain(be);
    std::lock_guard<std::mutex> hold(lock);
    for (struct resident **at = &residents; *at; at = &(*at)->next) {
        struct resident *r = *at;
        if (r->p != p) continue;
        if (--r->users > 0) return;
        *at = r->next;
        if (!stuck) gpu_give(r->device, r->p, bytes_of(r));
        free(r);
        return;
    }
}

static int memory(struct nn_backend *be, const float *host, size_t n, struct nn_memory *out)
{
    std::lock_guard<std::mutex> hold(lock);
    struct resident *r = find(host, n, gpu_of(be)->device);
    memset(out, 0, sizeof *out);
    int rc = memory_left(be, &out->left, &out->total);
    out->half = r ? r->half : choose_half(n, out->left);
    out->data = r ? 0 : n * (out->half ? sizeof(__half) : sizeof(float));
    return rc;
}

void gpu_data_ops(struct nn_backend_ops *t)
{
    t->attach = attach;
    t->detach = detach;
    t->memory = memory;
}
