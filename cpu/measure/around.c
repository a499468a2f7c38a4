/* around.c - see around.h. Counts are in ticks of 10 ms, so a share is believed only when it makes
 * FEWEST ticks: a measurement of some milliseconds shows nothing here. */
#include "cpu/measure/around.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FEWEST 4             /* ticks that count as a fact */
#define OTHER_WORK 0.05      /* of the timed core's time, not the measurement's own */
#define STOLEN 0.01          /* of the timed core's time */
#define SIBLING_WORK 0.05    /* of its hyperthread's time */
#define NEIGHBOURS_WORK 0.25 /* of all other cores' time */

static void add_core(const char *line, int core, int sibling, struct around_look *out)
{
    int n;
    double v[8] = {0};
    if (sscanf(line, "cpu%d %lf %lf %lf %lf %lf %lf %lf %lf", &n, &v[0], &v[1], &v[2], &v[3], &v[4],
               &v[5], &v[6], &v[7]) < 6)
        return;
    /* user nice system idle iowait irq softirq steal */
    double busy = v[0] + v[1] + v[2] + v[5] + v[6], all = busy + v[3] + v[4] + v[7];
    if (n == core) {
        out->known = true;
        out->own_busy = busy;
        out->own_steal = v[7];
        out->own = all;
    } else if (n == sibling) {
        out->sibling_busy = busy;
        out->sibling = all;
    } else {
        out->others_busy += busy;
        out->others += all;
    }
}

void around_parse(const char *text, int core, int sibling, struct around_look *out)
{
    memset(out, 0, sizeof *out);
    for (const char *line = text; line && *line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (!strncmp(line, "cpu", 3) && line[3] != ' ') add_core(line, core, sibling, out);
    }
}

/* The other hyperthread of a core, -1: none, or not told. The list is "2,66" or "2-3". */
static int sibling_of(int core)
{
    char path[128];
    int a = -1, b = -1;
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list",
             core);
    FILE *f = fopen(path, "re");
    int n = f ? fscanf(f, "%d%*[,-]%d", &a, &b) : 0;
    if (f) fclose(f);
    return n < 2 ? -1 : a == core ? b : a;
}

void around_look_now(int core, struct around_look *out)
{
    size_t cap = 1 << 20;
    char *text = malloc(cap);
    FILE *f = text ? fopen("/proc/stat", "re") : NULL;
    size_t n = f ? fread(text, 1, cap - 1, f) : 0;
    memset(out, 0, sizeof *out);
    if (text) text[n] = 0;
    if (n) around_parse(text, core, sibling_of(core), out);
    if (f) fclose(f);
    free(text);
}

void around_say(char *words, size_t cap, const char *fmt, ...)
{
    size_t n = strlen(words);
    va_list ap;
    va_start(ap, fmt);
    if (n + 2 < cap) {
        if (n) n += (size_t)snprintf(words + n, cap - n, "; ");
        vsnprintf(words + n, cap - n, fmt, ap);
    }
    va_end(ap);
}

/* Says `fmt` with the share when it is one worth the name. */
static bool worth(double part, double all, double limit)
{
    return part >= FEWEST && all > 0 && part / all >= limit;
}

void around_words(const struct around_look *before, const struct around_look *after, int core,
                  double cpu_s, double ticks_per_s, char *words, size_t cap)
{
    if (!before->known || !after->known) return;
    double own = after->own - before->own;
    double foreign = after->own_busy - before->own_busy - cpu_s * ticks_per_s;
    double steal = after->own_steal - before->own_steal;
    double sibling = after->sibling - before->sibling;
    double sibling_busy = after->sibling_busy - before->sibling_busy;
    double others = after->others - before->others;
    double others_busy = after->others_busy - before->others_busy;
    if (worth(foreign, own, OTHER_WORK))
        around_say(words, cap, "other work took %.0f %% of core %d", 100 * foreign / own, core);
    if (worth(steal, own, STOLEN))
        around_say(words, cap, "the hypervisor took %.0f %% of core %d", 100 * steal / own, core);
    if (worth(sibling_busy, sibling, SIBLING_WORK))
        around_say(words, cap, "the core's other hyperthread was busy for %.0f %%",
                   100 * sibling_busy / sibling);
    if (worth(others_busy, others, NEIGHBOURS_WORK))
        around_say(words, cap, "the other cores were busy for %.0f %%", 100 * others_busy / others);
}
