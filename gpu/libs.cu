/* gpu/libs.cu - see libs.cuh. A library counts as there only when every function that we call is in it. */
#include "gpu/libs.cuh"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include <mutex>

static struct gpu_libs libs;

static void missing(const char *what, const char *why)
{
    size_t n = strlen(libs.why);
    snprintf(libs.why + n, sizeof libs.why - n, "%s%s (%.80s)", n ? "; " : "", what, why);
}

static void *open_first(const char *const *names)
{
    void *lib = NULL;
    for (; *names && !lib; names++) lib = dlopen(*names, RTLD_NOW | RTLD_LOCAL);
    return lib;
}

#define X(f)                                                                                       \
    if (ok && !(*(void **)&libs.f = dlsym(lib, #f))) {                                             \
        missing(#f, "not in the library found");                                                   \
        ok = 0;                                                                                    \
    }

#ifdef CINCH_HAVE_CUDNN
static void load_cublas(void)
{
    const char *names[] = {"libcublas.so.13", "libcublas.so", NULL};
    void *lib = open_first(names);
    int ok = lib != NULL;
    if (!lib) missing("cuBLAS", dlerror());
    CINCH_CUBLAS_LIST(X)
    if (ok) libs.cublas = 1; /* its version needs a handle: gpu/cudnn.cu asks */
}

static void load_cudnn(void)
{
    const char *names[] = {"libcudnn.so.9", "libcudnn.so", NULL};
    void *lib = open_first(names);
    int ok = lib != NULL;
    if (!lib) missing("cuDNN", dlerror());
    CINCH_CUDNN_LIST(X)
    if (ok) libs.cudnn = (int)libs.cudnnGetVersion();
}
#endif

#ifdef CINCH_HAVE_NCCL
static void load_nccl(void)
{
    const char *names[] = {"libnccl.so.2", "libnccl.so", NULL};
    void *lib = open_first(names);
    int ok = lib != NULL;
    if (!lib) missing("NCCL", dlerror());
    CINCH_NCCL_LIST(X)
    if (ok && libs.ncclGetVersion(&libs.nccl) != ncclSuccess) libs.nccl = 0;
}
#endif
#undef X

const struct gpu_libs *gpu_libs_get(void)
{
    static std::once_flag once;
    std::call_once(once, [] {
#ifdef CINCH_HAVE_CUDNN
        load_cublas();
        load_cudnn();
#else
        missing("cuDNN and cuBLAS", "no headers when this plugin was built");
#endif
#ifdef CINCH_HAVE_NCCL
        load_nccl();
#else
        missing("NCCL", "no header when this plugin was built");
#endif
    });
    return &libs;
}
