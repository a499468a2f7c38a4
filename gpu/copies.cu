/* gpu/copies.cu - copies between host and card, on the backend's stream, by way of pinned memory.
 *
 * A copy from or to pageable memory blocks inside the runtime until the stream has come to it, where no
 * time limit holds (gpu/wait.cuh), and a copy on the default stream is ordered after nothing that we do.
 * Small uploads (a step's scalars) take the next of SLOTS slots, so the host runs that many steps ahead;
 * larger ones go through two buffers in turn, one filled while the other travels. A download is copied
 * out of the first buffer when it has arrived. An event behind each upload says when its memory is free
 * again.
 */
#include <stdlib.h>
#include <string.h>

#include "gpu/wait.cuh"

enum { SLOTS = 64, SLOT = 8 << 10, BULKS = 2, BULK = 4 << 20, PLACES = SLOTS + BULKS };

struct place {
    char *p;            /* pinned */
    cudaEvent_t passed; /* behind the copy that read it last */
    int busy;
};

struct gpu_stage {
    char *memory;               /* pinned, all of it */
    struct place place[PLACES]; /* slots, then bulks */
    int next_slot, next_bulk;
};

int gpu_stage_create(struct nn_backend *be)
{
    struct gpu_stage *s = (struct gpu_stage *)calloc(1, sizeof *s);
    if (!s) return cn_fail(&be->error, CN_ENOMEM, "out of memory");
    gpu_of(be)->stage = s;
    size_t bytes = (size_t)SLOTS * SLOT + (size_t)BULKS * BULK;
    cudaError_t e = cudaHostAlloc((void **)&s->memory, bytes, cudaHostAllocDefault);
    char *at = s->memory;
    for (int i = 0; i < PLACES && e == cudaSuccess; at += i++ < SLOTS ? SLOT : BULK) {
        s->place[i].p = at;
        e = cudaEventCreateWithFlags(&s->place[i].passed, cudaEventDisableTiming);
    }
    return e == cudaSuccess ? 0 : gpu_fail(be, e, "pinned host memory");
}

void gpu_stage_destroy(struct gpu_stage *s)
{
    if (!s) return;
    for (int i = 0; i < PLACES; i++)
        if (s->place[i].passed) cudaEventDestroy(s->place[i].passed);
    if (s->memory) cudaFreeHost(s->memory);
    free(s);
}

/* Pinned memory for `bytes` (at most BULK) that no earlier copy reads any more. */
static int take_place(struct nn_backend *be, size_t bytes, struct place **out)
{
    struct gpu_stage *s = gpu_of(be)->stage;
    struct place *p = bytes <= SLOT ? &s->place[s->next_slot++ % SLOTS]
                                    : &s->place[SLOTS + s->next_bulk++ % BULKS];
    *out = p;
    int rc = p->busy ? gpu_wait_event(be, p->passed, "upload") : 0;
    p->busy = 0;
    return rc;
}

static int upload_part(struct nn_backend *be, void *dst, const void *src, size_t bytes)
{
    struct place *p;
    cudaStream_t st = gpu_of(be)->stream;
    int rc = take_place(be, bytes, &p);
    if (rc) return rc;
    memcpy(p->p, src, bytes);
    cudaError_t e = cudaMemcpyAsync(dst, p->p, bytes, cudaMemcpyHostToDevice, st);
    if (e == cudaSuccess) e = cudaEventRecord(p->passed, st);
    p->busy = 1;
    return e == cudaSuccess ? 0 : gpu_fail(be, e, "upload");
}

static int download_part(struct nn_backend *be, void *dst, const void *src, size_t bytes)
{
    struct place *p;
    int rc = take_place(be, bytes, &p);
    if (rc) return rc;
    cudaError_t e = cudaMemcpyAsync(p->p, src, bytes, cudaMemcpyDeviceToHost, gpu_of(be)->stream);
    rc = e == cudaSuccess ? gpu_wait(be, "download") : gpu_fail(be, e, "download");
    if (!rc) memcpy(dst, p->p, bytes);
    return rc;
}

static int in_parts(struct nn_backend *be, void *dst, const void *src, size_t bytes,
                    int (*part)(struct nn_backend *, void *, const void *, size_t))
{
    int rc = gpu_not_capturing(be, "a copy from or to the host");
    for (size_t at = 0; at < bytes && !rc; at += BULK) {
        size_t n = bytes - at < BULK ? bytes - at : BULK;
        rc = part(be, (char *)dst + at, (const char *)src + at, n);
    }
    return rc;
}

static int upload(struct nn_backend *be, void *dst, const void *src, size_t bytes)
{
    return in_parts(be, dst, src, bytes, upload_part);
}

static int download(struct nn_backend *be, void *dst, const void *src, size_t bytes)
{
    return in_parts(be, dst, src, bytes, download_part);
}

void gpu_copy_ops(struct nn_backend_ops *t)
{
    t->upload = upload;
    t->download = download;
}
