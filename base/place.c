/* base/place.c - see place.h. The folders of an installation come from the build (GNUInstallDirs);
 * each is below the prefix, or absolute where whoever configured the build gave it so. */
#include "base/place.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Folders of programs. A program in one of them has the prefix above it. */
static const char *const of_programs[] = {CINCH_BINDIR, CINCH_HELPERDIR};

/* Where each kind of part is, in the order of looking: @ is the running program's folder, % the
 * prefix. */
static const char *const look[][4] = {
    [CN_PLACE_PROGRAM] = {"@", "@/../bin", "%/" CINCH_HELPERDIR},
    [CN_PLACE_PLUGIN] = {"@", "@/../bin", "%/" CINCH_PLUGINDIR},
    [CN_PLACE_WEB] = {"%/" CINCH_SHAREDIR, "@/.."},
};

/* The folder of the running program. */
static int own_folder(char *out, size_t cap, struct cn_error *err)
{
    ssize_t n = readlink("/proc/self/exe", out, cap - 1);
    if (n < 0) return cn_fail_errno(err, "cannot read /proc/self/exe");
    out[n] = 0;
    char *slash = strrchr(out, '/');
    if (slash) *slash = 0;
    return 0;
}

/* The prefix of an installation that has its programs in `folder`; false when `folder` is none of
 * them. */
static bool prefix_of(const char *folder, char *out, size_t cap)
{
    size_t n = strlen(folder);
    for (size_t i = 0; i < sizeof of_programs / sizeof *of_programs; i++) {
        const char *below = of_programs[i];
        size_t m = strlen(below);
        if (*below == '/' || m >= n || strcmp(folder + n - m, below) || folder[n - m - 1] != '/')
            continue;
        snprintf(out, cap, "%.*s", (int)(n - m - 1), folder);
        return true;
    }
    return false;
}

int cn_place(char *out, size_t cap, enum cn_place what, const char *name, struct cn_error *err)
{
    char self[3000], prefix[3000];
    int rc = own_folder(self, sizeof self, err);
    if (rc) return rc;
    bool installed = prefix_of(self, prefix, sizeof prefix);
    for (const char *const *at = look[what]; *at; at++) {
        const char *rest = *at + 1;
        bool absolute = **at == '%' && rest[1] == '/'; /* "%/" and an absolute folder */
        if (**at == '%' && !absolute && !installed) continue;
        const char *root = absolute ? "" : **at == '@' ? self : prefix;
        int n = snprintf(out, cap, "%s%s/%s", root, rest + absolute, name);
        if (n > 0 && (size_t)n < cap && access(out, what == CN_PLACE_PROGRAM ? X_OK : R_OK) == 0)
            return 0;
    }
    return cn_fail(err, CN_ENOTFOUND, "no %s beside %s: build it, or install cinch whole", name,
                   self);
}
