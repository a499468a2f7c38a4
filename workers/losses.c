/* losses.c - see losses.h.
 *
 * $XDG_CACHE_HOME/cinch/gpu-losses-CARD.txt (else ~/.cache/cinch/..), one line a failure: seconds since
 * 1970, TAB, the boot's id, TAB, how. Failures of an earlier boot do not count: a restart of the machine
 * is what brings a card back that needs no repair.
 */
#include "workers/losses.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

#define BOOT_ID "/proc/sys/kernel/random/boot_id"

static void boot_id(char out[40])
{
    FILE *f = fopen(BOOT_ID, "r");
    if (!f || !fgets(out, 40, f)) snprintf(out, 40, "unknown");
    out[strcspn(out, "\n")] = 0;
    if (f) fclose(f);
}

/* 0, or CN_ENOTFOUND without a folder to keep it in. */
static int path_of(const char *card, char *path, size_t cap, bool make)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool xdg = cache && *cache;
    if (!xdg && !(home && *home)) return CN_ENOTFOUND;
    int n = snprintf(path, cap, "%s%s/cinch", xdg ? cache : home, xdg ? "" : "/.cache");
    if (n < 0 || (size_t)n + strlen(card) + 20 > cap) return CN_ENOTFOUND;
    if (make) cn_mkdirs(path, NULL);
    snprintf(path + n, cap - (size_t)n, "/gpu-losses-%s.txt", card);
    for (char *p = path + n + 1; *p; p++)
        if (*p == ':' || *p == '/' || *p == ' ') *p = '-';
    return 0;
}

void losses_note(const char *card, const char *how)
{
    char path[4096], boot[40];
    FILE *f = NULL;
    boot_id(boot);
    if (path_of(card, path, sizeof path, true) == 0) f = fopen(path, "a");
    if (!f) {
        cn_warn("device", "the failure of GPU %s cannot be written down", card);
        return;
    }
    fprintf(f, "%" PRId64 "\t%s\t%s\n", cn_wall_ms() / 1000, boot, how);
    fclose(f);
}

struct tally {
    int64_t last[LOSSES_MOST]; /* the latest failures of this boot, newest first */
    int n;
    bool out; /* so many of them, close together */
    char how[400];
};

static void count(struct tally *t, int64_t at, const char *how)
{
    memmove(t->last + 1, t->last, (LOSSES_MOST - 1) * sizeof *t->last);
    t->last[0] = at;
    if (t->n < LOSSES_MOST) t->n++;
    if (t->n < LOSSES_MOST || at - t->last[LOSSES_MOST - 1] > LOSSES_SPAN_S) return;
    t->out = true;
    snprintf(t->how, sizeof t->how, "%s", how);
}

int losses_check(const char *card, struct cn_error *err)
{
    char path[4096], boot[40], its[40], line[600], how[400];
    struct tally t = {.n = 0};
    int64_t at;
    if (path_of(card, path, sizeof path, false)) return 0;
    FILE *f = fopen(path, "r");
    boot_id(boot);
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "%" SCNd64 "\t%39s\t%399[^\n]", &at, its, how) == 3 &&
            strcmp(its, boot) == 0)
            count(&t, at, how);
    if (f) fclose(f);
    if (!t.out) return 0;
    return cn_fail(err, CN_ENODEVICE,
                   "GPU %s is out of service: it failed %d times within %d minutes (%s); look for "
                   "\"Xid\" in dmesg, then restart the machine or remove %s",
                   card, LOSSES_MOST, LOSSES_SPAN_S / 60, t.how, path);
}
