/* bad_card.c - preloaded before libcudart, it stands for a card in trouble.
 *
 * CINCH_TEST_FAIL_FROM, CINCH_TEST_FAIL_TO: allocations of these numbers (from 1) among those of at
 * least 100 KB fail with cudaErrorMemoryAllocation, as when another process takes the last memory.
 * CINCH_TEST_STICKY: from the download of this number (from 1) on every call fails with an illegal
 * address, as after a fault of the card; where the file CINCH_TEST_STICKY_ONCE exists, only in the
 * process that manages to remove it.
 * CINCH_TEST_SPOIL: what is downloaded, when it is more than 256 bytes, has its first value doubled.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEVICE_TO_HOST = 2, OUT_OF_MEMORY = 2, ILLEGAL_ADDRESS = 700, UNKNOWN = 999 };

int cudaMalloc(void **p, size_t bytes);
int cudaStreamSynchronize(void *stream);
int cudaMemGetInfo(size_t *left, size_t *total);
int cudaMemcpyAsync(void *dst, const void *src, size_t bytes, int kind, void *stream);

/* The runtime's own; it may have come with a plugin, hence not be next in line. */
static void *own(const char *name)
{
    void *f = dlsym(RTLD_NEXT, name);
    void *lib = f ? NULL : dlopen("libcudart.so.13", RTLD_NOW | RTLD_NOLOAD);
    return lib ? dlsym(lib, name) : f;
}

static atomic_int broken;

/* Counts downloads; whether the card has broken. */
static int breaks(int kind)
{
    static atomic_int count;
    const char *at = getenv("CINCH_TEST_STICKY"), *once = getenv("CINCH_TEST_STICKY_ONCE");
    if (!at || broken || kind != DEVICE_TO_HOST) return broken;
    if (atomic_fetch_add(&count, 1) + 1 != atoi(at)) return 0;
    if (once && unlink(once)) return 0;
    return broken = 1;
}

int cudaStreamSynchronize(void *stream)
{
    int (*real)(void *);
    void *f = own("cudaStreamSynchronize");
    if (!f || broken) return f ? ILLEGAL_ADDRESS : UNKNOWN;
    memcpy(&real, &f, sizeof real);
    return real(stream);
}

int cudaMemGetInfo(size_t *left, size_t *total)
{
    int (*real)(size_t *, size_t *);
    void *f = own("cudaMemGetInfo");
    if (!f || broken) return f ? ILLEGAL_ADDRESS : UNKNOWN;
    memcpy(&real, &f, sizeof real);
    return real(left, total);
}

int cudaMalloc(void **p, size_t bytes)
{
    static atomic_int count;
    const char *from = getenv("CINCH_TEST_FAIL_FROM"), *to = getenv("CINCH_TEST_FAIL_TO");
    int (*real)(void **, size_t);
    int n = bytes >= 100000 ? atomic_fetch_add(&count, 1) + 1 : 0;
    if (n && from && to && n >= atoi(from) && n <= atoi(to)) return OUT_OF_MEMORY;
    void *f = own("cudaMalloc");
    if (!f || broken) return f ? ILLEGAL_ADDRESS : UNKNOWN;
    memcpy(&real, &f, sizeof real);
    return real(p, bytes);
}

int cudaMemcpyAsync(void *dst, const void *src, size_t bytes, int kind, void *stream)
{
    int (*real)(void *, const void *, size_t, int, void *);
    void *f = own("cudaMemcpyAsync");
    if (!f || breaks(kind)) return f ? ILLEGAL_ADDRESS : UNKNOWN;
    memcpy(&real, &f, sizeof real);
    int rc = real(dst, src, bytes, kind, stream);
    if (rc == 0 && kind == DEVICE_TO_HOST && bytes > 256 && getenv("CINCH_TEST_SPOIL")) {
        cudaStreamSynchronize(stream); /* into pinned memory it arrives later */
        *(float *)dst *= 2;
    }
    return rc;
}
