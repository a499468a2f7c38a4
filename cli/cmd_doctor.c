/* cli/cmd_doctor.c - `cinch doctor`: what this machine has, what is missing, and how to get it.
 *
 * Each check yields a line: ok, warn (works, but worse) or missing (some command will not work),
 * with the step that mends it. Nothing is changed. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/commands.h"
#include "cli/data.h"
#include "cli/doctor.h"
#include "cli/service.h"
#include "cli/table.h"
#include "cpu/measure/measure.h"
#include "cpu/rt/cinchrt.h"
#include "ecg/registry.h"

static const char *const verdicts[] = {"ok", "warn", "missing"};

void doctor_note(struct doctor *d, const char *check, enum doctor_verdict v, const char *fix,
                 const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    json_t *o = json_pack("{s:s, s:s, s:s}", "check", check, "state", verdicts[v], "detail", text);
    if (fix) json_object_set_new(o, "fix", json_string(fix));
    json_array_append_new(d->list, o);
}

/* ------------------------------------------------------------------------------------- machine */

static void check_cpu(struct doctor *d)
{
    int cores = cli_cores();
    double gb = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / 1e9;
    const char *cpu = cli_text(d->machine, "cpu");
    doctor_note(d, "cpu", DOCTOR_OK, NULL, "%s, %d core%s usable, kernels up to %s",
                *cpu ? cpu : "unknown", cores, cores == 1 ? "" : "s",
                cinchrt_isa_name(cinchrt_isa_best()));
    doctor_note(d, "memory", gb < 2 ? DOCTOR_WARN : DOCTOR_OK,
                gb < 2 ? "the whole PTB-XL wants 2 GB" : NULL, "%.1f GB", gb);
}

static void check_governor(struct doctor *d)
{
    const char *g = cli_text(d->machine, "governor");
    const json_t *turbo = json_object_get(d->machine, "turbo");
    if (!*g)
        doctor_note(d, "governor", DOCTOR_WARN,
                    "a virtual machine shows none; timings are relative, compare within one run",
                    "the kernel shows no frequency governor");
    else if (strcmp(g, "performance"))
        doctor_note(d, "governor", DOCTOR_WARN, "sudo cpupower frequency-set -g performance",
                    "%s: timings will wander", g);
    else
        doctor_note(d, "governor", DOCTOR_OK, NULL, "%s", g);
    if (json_is_boolean(turbo) || json_is_string(turbo))
        doctor_note(d, "turbo", DOCTOR_OK, NULL, "%s",
                    json_is_string(turbo) ? json_string_value(turbo)
                    : json_is_true(turbo) ? "on"
                                          : "off");
}

static void check_load(struct doctor *d)
{
    double load[3] = {0};
    int cores = cli_cores();
    if (getloadavg(load, 3) < 1) return;
    bool busy = load[0] > 0.5 * cores;
    doctor_note(d, "load", busy ? DOCTOR_WARN : DOCTOR_OK,
                busy ? "measure latencies when the machine is quiet" : NULL, "%.2f on %d cores",
                load[0], cores);
}

static void check_allocators(struct doctor *d)
{
    static const char *const package[] = {"", "sudo apt-get install libjemalloc2",
                                          "sudo apt-get install libtcmalloc-minimal4"};
    for (int a = MEASURE_GLIBC; a <= MEASURE_TCMALLOC; a++) {
        char detail[256] = "";
        bool there = measure_allocator_available((enum measure_allocator)a, detail, sizeof detail);
        doctor_note(d, measure_allocator_names[a], there ? DOCTOR_OK : DOCTOR_MISSING,
                    there || a == MEASURE_GLIBC ? NULL : package[a], "%s",
                    there ? *detail ? detail : "live in a test child" : detail);
    }
}

static bool in_path(const char *program)
{
    const char *path = getenv("PATH");
    char file[4096];
    while (path && *path) {
        int n = (int)strcspn(path, ":");
        snprintf(file, sizeof file, "%.*s/%s", n, path, program);
        if (!access(file, X_OK)) return true;
        path += n + (path[n] == ':');
    }
    return false;
}

static void check_tools(struct doctor *d)
{
    bool gnuplot = in_path("gnuplot");
    doctor_note(d, "gnuplot", gnuplot ? DOCTOR_OK : DOCTOR_WARN,
                gnuplot ? NULL : "sudo apt-get install gnuplot-nox",
                gnuplot ? "report draws figures" : "report writes figures as data only");
}

static void check_gpu(struct doctor *d)
{
    char *text = NULL;
    size_t n = 0;
    if (cn_file_read("/proc/driver/nvidia/version", 65536, &text, &n, NULL)) {
        doctor_note(d, "gpu", DOCTOR_WARN, "none is needed; training uses the CPU",
                    "no NVIDIA driver is loaded");
        return;
    }
    text[strcspn(text, "\n")] = 0;
    doctor_note(d, "gpu", DOCTOR_OK, NULL, "%s", text);
    free(text);
}

/* ------------------------------------------------------------------------- data and coordinator */

static void check_data(struct doctor *d)
{
    struct ecg_registry *reg = NULL;
    struct cn_error err = {0};
    static const char *const get =
        "download https://physionet.org/content/ptb-xl/ and name its folder: cinch data add ptbxl "
        "DIR (a sample lies in cinch's samples/)";
    if (ecg_registry_list(&reg, &err)) {
        doctor_note(d, "data", DOCTOR_WARN, get, "%s", err.text);
        return;
    }
    if (!reg->n) doctor_note(d, "data", DOCTOR_WARN, get, "no dataset has a name yet");
    for (int i = 0; i < reg->n; i++) {
        enum ecg_kind kind = ecg_folder_kind(reg->of[i].dir);
        doctor_note(d, "data", kind == ECG_NO_DATA ? DOCTOR_MISSING : DOCTOR_OK,
                    kind == ECG_NO_DATA ? "cinch data add NAME DIR with the folder's new place"
                                        : NULL,
                    "%s: %s in %s", reg->of[i].name, ecg_kind_name(kind), reg->of[i].dir);
    }
    ecg_registry_destroy(reg);
}

static void check_cache(struct doctor *d)
{
    const char *own = getenv("CINCH_CACHE"), *xdg = getenv("XDG_CACHE_HOME"),
               *home = getenv("HOME");
    char dir[4096];
    struct cn_error err = {0};
    struct statvfs fs;
    if (own && *own)
        snprintf(dir, sizeof dir, "%s", own);
    else if (xdg && *xdg)
        snprintf(dir, sizeof dir, "%s/cinch", xdg);
    else
        snprintf(dir, sizeof dir, "%s/.cache/cinch", home ? home : "");
    if (cn_mkdirs(dir, &err) || access(dir, W_OK) || statvfs(dir, &fs)) {
        doctor_note(d, "cache", DOCTOR_MISSING, "point CINCH_CACHE to a folder that can be written",
                    "%s cannot be written", dir);
        return;
    }
    double gb = (double)fs.f_bavail * (double)fs.f_frsize / 1e9;
    doctor_note(d, "cache", gb < 2 ? DOCTOR_WARN : DOCTOR_OK,
                gb < 2 ? "the whole PTB-XL takes 1.1 GB" : NULL, "%s, %.1f GB free", dir, gb);
}

static void check_coordinator(struct doctor *d, const struct cli_remote *r)
{
    struct cli probe = {.quiet = true};
    struct pr_client *client = NULL;
    json_t *doc = NULL;
    if (cli_connect(&probe, r, &client)) {
        doctor_note(d, "coordinator", DOCTOR_WARN,
                    "`cinch run` needs none; for a service: cinchd --state DIR", "%s",
                    probe.err.text);
        return;
    }
    if (cli_query(&probe, client, CINCH__QUERY__WHAT__WORKERS, NULL, &doc)) {
        doctor_note(d, "coordinator", DOCTOR_WARN, NULL, "%s", probe.err.text);
    } else {
        size_t n = json_array_size(json_object_get(doc, "workers"));
        doctor_note(d, "coordinator", n ? DOCTOR_OK : DOCTOR_WARN,
                    n ? NULL : "start workers: cinch-train --cpu, cinch-eval",
                    "answers; %zu worker%s", n, n == 1 ? "" : "s");
    }
    json_decref(doc);
    pr_client_close(client);
}

/* -------------------------------------------------------------------------------------- command */

static void print(const json_t *list)
{
    static const enum cli_colour colour[] = {CLI_GREEN, CLI_YELLOW, CLI_RED};
    struct cli_table *t = cli_table_create("\tCHECK\tFOUND", "lll");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *o = json_array_get(list, i);
        const char *state = cli_text(o, "state"), *fix = cli_text(o, "fix");
        int v = !strcmp(state, "ok")     ? DOCTOR_OK
                : !strcmp(state, "warn") ? DOCTOR_WARN
                                         : DOCTOR_MISSING;
        cli_table_add(t, "%s\t%s\t%s", state, cli_text(o, "check"), cli_text(o, "detail"));
        cli_table_colour(t, 0, colour[v]);
        if (*fix) cli_table_add(t, "\t\t  -> %s", fix);
    }
    cli_table_print(t, stdout);
    cli_table_destroy(t);
}

static void check_all(struct doctor *d, const struct cli_remote *remote)
{
    check_cpu(d);
    check_governor(d);
    check_load(d);
    check_allocators(d);
    check_tools(d);
    check_gpu(d);
    check_data(d);
    check_cache(d);
    check_coordinator(d, remote);
}

static int answer(struct doctor *d, json_t *cards)
{
    if (d->c->json)
        return cli_answer_json(d->c, json_pack("{s:O, s:O, s:O}", "checks", d->list, "machine",
                                               d->machine, "gpus", cards));
    print(d->list);
    return 0;
}

int cmd_doctor(struct cli *c, int argc, char **argv)
{
    struct cli_remote remote = {0};
    bool gpu = false;
    const struct cli_option options[] = {
        OPT_REMOTE(&remote),
        OPT_FLAG("gpu", 0, &gpu, "the GPUs, their driver and libraries instead"), OPT_END};
    struct cli_use use = {
        "", "What this machine has, what is missing, and how to get it.", options, 0, 0, 0, NULL};
    int rc = cli_parse(c, &use, argc, argv);
    if (rc) return rc;
    char *text = measure_machine_json(-1);
    struct doctor d = {c, json_array(), text ? json_loads(text, 0, NULL) : NULL};
    json_t *cards = NULL;
    free(text);
    if (!d.machine) d.machine = json_object();
    if (gpu)
        rc = doctor_gpus(&d, &cards);
    else
        check_all(&d, &remote);
    if (!cards) cards = json_array();
    if (!rc) rc = answer(&d, cards);
    json_decref(cards);
    json_decref(d.list);
    json_decref(d.machine);
    return rc;
}
