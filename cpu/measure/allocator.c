/* allocator.c - which malloc is live, proved from inside the process.
 *
 * LD_PRELOAD fails silently (a missing library is only a line on stderr, a static or sanitised
 * program ignores it), so nobody believes the environment. Three witnesses: the file that holds the
 * `malloc` the linker bound, the version that the allocator itself reports through its own entry
 * points, and a test allocation that must show up in its counters.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/measure/timing.h"

#define TEST_BYTES (3 << 20) /* larger than any thread cache, so that every counter moves */

typedef int (*mallctl_f)(const char *, void *, size_t *, void *, size_t);
typedef const char *(*tc_version_f)(int *, int *, const char **);
typedef int (*tc_property_f)(const char *, size_t *);

/* dlsym gives a data pointer; ISO C wants the detour to make it a function. */
static void find(const char *name, void *function)
{
    void *p = dlsym(RTLD_DEFAULT, name);
    memcpy(function, &p, sizeof p);
}

static size_t jemalloc_count(mallctl_f ctl)
{
    uint64_t n = 0;
    size_t size = sizeof n;
    return ctl("thread.allocated", &n, &size, NULL, 0) == 0 ? (size_t)n : 0;
}

static size_t tcmalloc_count(tc_property_f property)
{
    size_t n = 0;
    return property && property("generic.current_allocated_bytes", &n) ? n : 0;
}

static size_t glibc_count(void)
{
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

static size_t count(mallctl_f ctl, tc_property_f property)
{
    return ctl ? jemalloc_count(ctl) : property ? tcmalloc_count(property) : glibc_count();
}

void measure_allocator_proof(struct measure_proof *out)
{
    memset(out, 0, sizeof *out);
    void *(*bound)(size_t) = NULL;
    mallctl_f ctl = NULL;
    tc_version_f version = NULL;
    tc_property_f property = NULL;
    find("malloc", &bound);
    find("mallctl", &ctl);
    find("tc_version", &version);
    find("MallocExtension_GetNumericProperty", &property);
    Dl_info where;
    void *address;
    memcpy(&address, &bound, sizeof address);
    if (bound && dladdr(address, &where) && where.dli_fname)
        snprintf(out->library, sizeof out->library, "%s", where.dli_fname);

    if (ctl) {
        const char *text = NULL;
        size_t size = sizeof text;
        snprintf(out->name, sizeof out->name, "jemalloc");
        if (ctl("version", &text, &size, NULL, 0) == 0 && text)
            snprintf(out->version, sizeof out->version, "%s", text);
    } else if (version) {
        int major, minor;
        const char *patch;
        snprintf(out->name, sizeof out->name, "tcmalloc");
        snprintf(out->version, sizeof out->version, "%s", version(&major, &minor, &patch));
    } else {
        bool libc = strstr(out->library, "libc.so") || strstr(out->library, "libc-");
        snprintf(out->name, sizeof out->name, libc ? "glibc" : "other");
        snprintf(out->version, sizeof out->version, "%s", gnu_get_libc_version());
    }
    size_t before = count(ctl, property);
    char *volatile p = malloc(TEST_BYTES);
    if (p) p[0] = p[TEST_BYTES - 1] = 1;
    out->counted = p && count(ctl, property) >= before + TEST_BYTES;
    free(p);
}
