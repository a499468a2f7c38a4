/* bad_card.c - preloaded before libcudart, it stands for a card in trouble.
 *
 * CINCH_TEST_FAIL_FROM, CINCH_TEST_FAIL_TO: allocations of these numbers (from 1) among those of at
 * least 100 KB fail with cudaErrorMemoryAllocation, as when another process takes the last memory.
 * CINCH_TEST_SPOIL: what is downloaded, when it is more than 256 bytes, has its first value doubled.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { DEVICE_TO_HOST = 2, OUT_OF_MEMORY = 2, UNKNOWN = 999 };

int cudaMalloc(void **p, size_t bytes);
int cudaMemcpyAsync(void *dst, const void *src, size_t bytes, int kind, void *stream);

/* The runtime's own; it may have come with a plugin, hence not be next in line. */
static void *own(const char *name)
{
    void *f = dlsym(RTLD_NEXT, name);
    void *lib = f ? NULL : dlopen("libcudart.so.13", RTLD_NOW | RTLD_NOLOAD);
    return lib ? dlsym(lib, name) : f;
}

int cudaMalloc(void **p, size_t bytes)
{
    static atomic_int count;
    const char *from = getenv("CINCH_TEST_FAIL_FROM"), *to = getenv("CINCH_TEST_FAIL_TO");
    int (*real)(void **, size_t);
    int n = bytes >= 100000 ? atomic_fetch_add(&count, 1) + 1 : 0;
    if (n && from && to && n >= atoi(from) && n <= atoi(to)) return OUT_OF_MEMORY;
    void *f = own("cudaMalloc");
    if (!f) return UNKNOWN;
    memcpy(&real, &f, sizeof real);
    return real(p, bytes);
}

int cudaMemcpyAsync(void *dst, const void *src, size_t bytes, int kind, void *stream)
{
    int (*real)(void *, const void *, size_t, int, void *);
    void *f = own("cudaMemcpyAsync");
    if (!f) return UNKNOWN;
    memcpy(&real, &f, sizeof real);
    int rc = real(dst, src, bytes, kind, stream);
    if (rc == 0 && kind == DEVICE_TO_HOST && bytes > 256 && getenv("CINCH_TEST_SPOIL"))
        *(float *)dst *= 2;
    return rc;
}
