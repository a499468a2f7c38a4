/* fail_malloc.c - preloaded before libcudart: allocations number CINCH_TEST_FAIL_FROM to
 * CINCH_TEST_FAIL_TO (from 1) of at least 100 KB fail with cudaErrorMemoryAllocation, as they do when
 * another process takes the card's last memory. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

int cudaMalloc(void **p, size_t bytes);

int cudaMalloc(void **p, size_t bytes)
{
    static atomic_int count;
    const char *from = getenv("CINCH_TEST_FAIL_FROM"), *to = getenv("CINCH_TEST_FAIL_TO");
    int (*real)(void **, size_t);
    int n = bytes >= 100000 ? atomic_fetch_add(&count, 1) + 1 : 0;
    if (n && from && to && n >= atoi(from) && n <= atoi(to)) return 2;
    void *next = dlsym(RTLD_NEXT, "cudaMalloc");
    if (!next) { /* the runtime came with a plugin */
        void *lib = dlopen("libcudart.so.13", RTLD_NOW | RTLD_NOLOAD);
        next = lib ? dlsym(lib, "cudaMalloc") : NULL;
    }
    if (!next) return 999;
    memcpy(&real, &next, sizeof real);
    return real(p, bytes);
}
