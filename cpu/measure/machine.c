/* machine.c - the facts without which a latency means nothing: CPU, governor, turbo, frequencies,
 * load, kernel, hypervisor, clock. What this machine does not tell is null, never a guess.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "cpu/measure/measure.h"

/* The first line of a file, without its newline; false when it cannot be read. */
static bool first_line(const char *path, char *out, int cap)
{
    FILE *f = fopen(path, "re");
    if (!f) return false;
    bool ok = fgets(out, cap, f) != NULL;
    fclose(f);
    if (ok) out[strcspn(out, "\n")] = 0;
    return ok;
}

static json_t *file_text(const char *path)
{
    char line[128];
    return first_line(path, line, sizeof line) ? json_string(line) : json_null();
}

static json_t *file_number(const char *path, double scale)
{
    char line[64];
    if (!first_line(path, line, sizeof line)) return json_null();
    char *end;
    double v = strtod(line, &end);
    return end == line ? json_null() : json_real(v * scale);
}

/* Turbo under either driver: intel_pstate says what is off, cpufreq what is on. */
static json_t *turbo(void)
{
    char line[16];
    if (first_line("/sys/devices/system/cpu/intel_pstate/no_turbo", line, sizeof line))
        return json_boolean(line[0] == '0');
    if (first_line("/sys/devices/system/cpu/cpufreq/boost", line, sizeof line))
        return json_boolean(line[0] == '1');
    return json_null();
}

static json_t *core_file(int core, const char *name, double scale)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cpufreq/%s", core, name);
    return scale == 0 ? file_text(path) : file_number(path, scale);
}

/* Model name, frequency now, and whether a hypervisor stands between us and the core. */
static void cpu_facts(json_t *o)
{
    char line[8192];
    FILE *f = fopen("/proc/cpuinfo", "re");
    json_t *name = NULL, *mhz = NULL, *virtual = NULL;
    while (f && fgets(line, sizeof line, f)) {
        char *value = strchr(line, ':');
        if (!value) continue;
        value += strspn(value, ": \t");
        value[strcspn(value, "\n")] = 0;
        if (!name && strncmp(line, "model name", 10) == 0) name = json_string(value);
        if (!mhz && strncmp(line, "cpu MHz", 7) == 0) mhz = json_real(atof(value));
        if (!virtual && strncmp(line, "flags", 5) == 0)
            virtual = json_boolean(strstr(value, " hypervisor") != NULL);
    }
    if (f) fclose(f);
    json_object_set_new(o, "cpu", name ? name : json_null());
    json_object_set_new(o, "cpuinfo_mhz", mhz ? mhz : json_null());
    json_object_set_new(o, "virtual", virtual ? virtual : json_null());
}

/* Time that a hypervisor took from all cores since boot, in seconds. */
static json_t *steal_s(void)
{
    char line[256];
    unsigned long long v[8];
    if (!first_line("/proc/stat", line, sizeof line) ||
        sscanf(line, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3],
               &v[4], &v[5], &v[6], &v[7]) != 8)
        return json_null();
    return json_real((double)v[7] / (double)sysconf(_SC_CLK_TCK));
}

static json_t *load(void)
{
    double v[3];
    if (getloadavg(v, 3) != 3) return json_null();
    return json_pack("[f,f,f]", v[0], v[1], v[2]);
}

char *measure_machine_json(int core)
{
    json_t *o = json_object();
    if (!o) return NULL;
    if (core < 0) core = 0;
    struct utsname u;
    struct timespec res = {0};
    clock_getres(CLOCK_MONOTONIC, &res);
    cpu_facts(o);
    json_object_set_new(o, "cores", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    json_object_set_new(o, "governor", core_file(core, "scaling_governor", 0));
    json_object_set_new(o, "driver", core_file(core, "scaling_driver", 0));
    json_object_set_new(o, "mhz_now", core_file(core, "scaling_cur_freq", 1e-3));
    json_object_set_new(o, "mhz_min", core_file(core, "scaling_min_freq", 1e-3));
    json_object_set_new(o, "mhz_max", core_file(core, "scaling_max_freq", 1e-3));
    json_object_set_new(o, "turbo", turbo());
    json_object_set_new(o, "smt", file_number("/sys/devices/system/cpu/smt/active", 1));
    json_object_set_new(o, "isolated", file_text("/sys/devices/system/cpu/isolated"));
    json_object_set_new(o, "load", load());
    json_object_set_new(o, "steal_s", steal_s());
    json_object_set_new(o, "kernel", uname(&u) == 0 ? json_string(u.release) : json_null());
    json_object_set_new(
        o, "clocksource",
        file_text("/sys/devices/system/clocksource/clocksource0/current_clocksource"));
    json_object_set_new(o, "clock_resolution_ns",
                        json_real((double)res.tv_sec * 1e9 + (double)res.tv_nsec));
    char *text = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(10));
    json_decref(o);
    return text;
}
