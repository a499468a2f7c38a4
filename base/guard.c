/* base/guard.c - see guard.h. */
#include "base/guard.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(SANITIZED)
void cn_guard_secrets(void)
{
}
#else
void cn_guard_secrets(void)
{
    const char *asked = getenv("CINCH_DUMPABLE");
    if (asked && !strcmp(asked, "1")) return;
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}
#endif
