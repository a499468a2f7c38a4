/* gpu/product.cu - see product.cuh. */
#include "gpu/product.cuh"

#include <cuda_bf16.h>

enum { ALIGN = 256, THREADS = 256 };

__global__ void f32_to_bf16(int64_t n, const float *__restrict__ from,
                            __nv_bfloat16 *__restrict__ to)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) to[i] = __float2bfloat16(from[i]);
}

__global__ void bf16_to_f32(int64_t n, int add, const __nv_bfloat16 *__restrict__ from,
                            float *__restrict__ to)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) to[i] = (add ? to[i] : 0.0f) + __bfloat162float(from[i]);
}

void *gpu_work(struct nn_backend *be, size_t bytes)
{
    struct gpu_ctx *g = gpu_of(be);
    if (bytes <= g->work_bytes) return g->work;
    if (gpu_not_capturing(be, "a library's workspace must grow")) return NULL;
    gpu_retire(be, g->work, g->work_bytes);
    g->work = NULL;
    g->work_bytes = 0;
    cudaError_t e = gpu_take(g->device, bytes, &g->work);
    if (e != cudaSuccess) {
        gpu_fail(be, e, "a library's workspace");
        return NULL;
    }
    g->work_bytes = bytes;
    return g->work;
}

static size_t whole_bytes(int64_t n, size_t each)
{
    return ((size_t)n * each + ALIGN - 1) / ALIGN * ALIGN;
}

static int is_aligned(const void *p)
{
    return (uintptr_t)p % ALIGN == 0;
}

static int copy_in(struct nn_backend *be, const struct gpu_product *p, int64_t n, const float *from,
                   void *to)
{
    if (!p->bf16) return be->ops->copy(be, to, from, (size_t)n * sizeof *from);
    f32_to_bf16<<<gpu_blocks(n, THREADS), THREADS, 0, gpu_of(be)->stream>>>(n, from,
                                                                            (__nv_bfloat16 *)to);
    return gpu_launched(be, "bf16");
}

int gpu_product_begin(struct nn_backend *be, struct gpu_product *p)
{
    const float *at[3] = {p->in[0], p->in[1], p->out};
    int64_t n[3] = {p->n_in[0], p->n_in[1], p->n_out};
    size_t size[3], all = p->work_bytes;
    for (int i = 0; i < 3; i++) {
        int moved = p->bf16 || !is_aligned(at[i]);
        size[i] = moved ? whole_bytes(n[i], p->bf16 ? 2 : sizeof(float)) : 0;
        all += size[i];
    }
    char *w = (char *)gpu_work(be, all);
    if (!w && all) return be->error.code;
    p->a = size[0] ? w : (const void *)p->in[0];
    p->b = size[1] ? w + size[0] : (const void *)p->in[1];
    p->c = size[2] ? w + size[0] + size[1] : (void *)p->out;
    p->work = w + size[0] + size[1] + size[2];
    p->beta = p->add && !p->bf16; /* in bf16 the sum is made when the result is widened */
    int rc = size[0] ? copy_in(be, p, n[0], p->in[0], (void *)p->a) : 0;
    if (!rc && size[1]) rc = copy_in(be, p, n[1], p->in[1], (void *)p->b);
    if (!rc && size[2] && p->beta) rc = copy_in(be, p, n[2], p->out, p->c);
    return rc;
}

int gpu_product_end(struct nn_backend *be, const struct gpu_product *p)
{
    if (p->c == p->out) return 0;
    if (!p->bf16) return be->ops->copy(be, p->out, p->c, (size_t)p->n_out * sizeof(float));
    bf16_to_f32<<<gpu_blocks(p->n_out, THREADS), THREADS, 0, gpu_of(be)->stream>>>(
        p->n_out, p->add, (const __nv_bfloat16 *)p->c, p->out);
    return gpu_launched(be, "bf16");
}
