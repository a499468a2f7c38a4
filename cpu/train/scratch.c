/* cpu/train/scratch.c - memory of the CPU backend. Blocks of megabytes are aligned to huge pages
 * and ask for them: rows of an activation lie a page apart, and 4 KiB pages would cost a TLB entry
 * each. */
#include "cpu/train/context.h"

#include <stdlib.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)

void *cpu_train_memory(size_t bytes)
{
    size_t align = bytes >= 2 * HUGE_PAGE ? HUGE_PAGE : 64;
    size_t rounded = (bytes + align - 1) / align * align;
    if (rounded < bytes) return NULL;
    void *p = aligned_alloc(align, rounded ? rounded : align);
    if (p && align == HUGE_PAGE) madvise(p, rounded, MADV_HUGEPAGE); /* a wish: failure is fine */
    return p;
}

static int grow(float **p, size_t n)
{
    free(*p);
    *p = cpu_train_memory(n * sizeof(float));
    return *p ? 0 : -1;
}

int cpu_train_scratch(struct nn_backend *be, size_t shared, size_t own)
{
    struct cpu_train *c = cpu_train_of(be);
    int bad = 0;
    if (shared > c->shared_n) {
        bad = grow(&c->shared, shared);
        c->shared_n = bad ? 0 : shared;
    }
    if (own > c->own_n && !bad) {
        for (int i = 0; i < cn_pool_threads(c->pool); i++) bad |= grow(&c->own[i], own);
        c->own_n = bad ? 0 : own;
    }
    if (!bad) return 0;
    return cn_fail(&be->error, CN_ENOMEM,
                   "out of memory: %zu MB of scratch for training; use a smaller batch",
                   (shared + own) * sizeof(float) >> 20);
}

void cpu_train_scratch_free(struct cpu_train *c)
{
    free(c->shared);
    for (int i = 0; c->own && i < cn_pool_threads(c->pool); i++) free(c->own[i]);
    free(c->own);
}
