/* cli/cmd_bench.c - `cinch bench`: how long one inference takes, measured in fresh processes
 * (cpu/measure). Two files are timed in alternating blocks and compared. A time that was taken under
 * disturbance is marked with ~ and told in words below the table; an allocator of `all` that is not
 * on this machine keeps its line, which says what to install. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/table.h"
#include "cpu/measure/corelock.h"
#include "cpu/measure/measure.h"

static const char *const allocators[] = {"glibc", "jemalloc", "tcmalloc", "paper", "all", NULL};
enum { ALL = 4 };

struct args {
    const char *isa;
    int engine, allocator, runs, processes, warmup, core, n;
    char **file;
};

static int parse(struct cli *c, struct args *a, int argc, char **argv)
{
    const struct cli_option options[] = {
        OPT_CHOICE("engine", &a->engine, "E", measure_engine_names,
                   "rt (default), onednn, openblas"),
        OPT_CHOICE("allocator", &a->allocator, "A", allocators,
                   "glibc, jemalloc, tcmalloc, paper (default), all"),
        OPT_INT("runs", &a->runs, "N", 1, 10000000, "timed inferences; the study's count"),
        OPT_INT("processes", &a->processes, "N", 1, MEASURE_MAX_PROCESSES,
                "fresh processes that share them; 5"),
        OPT_INT("warmup", &a->warmup, "N", 1, 1000000, "before them; 100"),
        OPT_TEXT("isa", 0, &a->isa, "NAME", "portable, avx2, ...; caps the kernels"),
        OPT_INT("core", &a->core, "N", 0, 4095, "the last one"),
        OPT_END};
    struct cli_use use = {
        "FILE.. [options]",
        "Times single inferences: one thread, batch 1, in fresh processes under the "
        "allocator, pinned to a core.\nTwo files are compared by alternating "
        "blocks. ~ marks what was taken under disturbance.",
        options,
        1,
        -1,
        0,
        NULL};
    int rc = cli_parse(c, &use, argc, argv);
    a->file = use.word;
    a->n = use.n_words;
    return rc || a->core < 0 ? rc : corelock_check_core(a->core, &c->err);
}

/* Adds the figures of one measurement (one file, or two that were compared) to the answer. */
static int add(struct cli *c, json_t *list, const struct measure_spec *spec,
               const struct measure_result *r)
{
    for (int i = 0; i < 2 && spec->file[i]; i++) {
        json_t *o = json_pack("{s:o}", "file", cli_json_text(spec->file[i])),
               *f = measure_figures_json(r, i);
        if (!o || !f || json_object_update(o, f)) {
            json_decref(o);
            json_decref(f);
            return cn_fail(&c->err, CN_ENOMEM, "out of memory for figures");
        }
        json_decref(f);
        json_object_set_new(o, "disturbed_blocks", json_integer(r->figures[i].disturbed));
        if (spec->file[1] && i == 1) {
            json_object_set_new(o, "ratio", cli_json_real(1 / r->ratio));
            json_object_set_new(o, "ratio_ci95",
                                json_pack("[o, o]", cli_json_real(1 / r->ratio_ci95[1]),
                                          cli_json_real(1 / r->ratio_ci95[0])));
        }
        if (r->json && i == 0) {
            json_t *all = json_loads(r->json, 0, NULL), *machine = json_object_get(all, "machine");
            if (machine) json_object_set(o, "machine", machine);
            json_decref(all);
        }
        json_array_append_new(list, o);
    }
    return 0;
}

/* The line of a file that could not be measured: every member is there, and why. */
static void add_missing(json_t *list, const struct measure_spec *spec, const char *why)
{
    static const char *const figures[] = {"isa",        "mean_us",     "p50_us",
                                          "p50_low_us", "p50_high_us", "p90_us",
                                          "p99_us",     "std_us",      NULL};
    for (int i = 0; i < 2 && spec->file[i]; i++) {
        json_t *o = json_pack("{s:o, s:s, s:s, s:i, s:s}", "file", cli_json_text(spec->file[i]),
                              "engine", measure_engine_names[spec->engine], "allocator",
                              allocators[spec->allocator], "n", 0, "missing", why);
        for (int k = 0; figures[k]; k++) json_object_set_new(o, figures[k], json_null());
        json_array_append_new(list, o);
    }
}

static int measure_one(struct cli *c, const struct args *a, int first, int count, int allocator,
                       json_t *list)
{
    struct measure_spec spec = {.file = {a->file[first], count > 1 ? a->file[first + 1] : NULL},
                                .engine = (enum measure_engine)a->engine,
                                .allocator = (enum measure_allocator)allocator,
                                .isa = a->isa,
                                .warmup = a->warmup,
                                .runs = a->runs,
                                .processes = a->processes,
                                .core = a->core};
    struct measure_result r = {0};
    char detail[256], why[400];
    if (a->allocator == ALL && allocator != MEASURE_GLIBC && /* which is always there */
        !measure_allocator_available(spec.allocator, detail, sizeof detail)) {
        snprintf(why, sizeof why, "%s is not here: %s", allocators[allocator], detail);
        add_missing(list, &spec, why);
        return 0;
    }
    int rc = measure_run(&spec, &r, &c->err);
    if (!rc && a->core >= 0 && (!r.pinned || r.core != a->core))
        rc = cn_fail(&c->err, CN_EIO, "--core %d: the measurement was not let onto it", a->core);
    if (!rc) rc = add(c, list, &spec, &r);
    measure_result_clear(&r);
    return rc;
}

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static double real(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static void print_line(struct cli_table *t, const json_t *o)
{
    const json_t *ci = json_object_get(o, "ratio_ci95");
    const char *mark = *text(o, "disturbed_by") ? "~" : "";
    char ratio[64] = "";
    if (*text(o, "missing")) {
        cli_table_add(t, "%s\t%s\t-\t%s\t0\tmissing\t-\t-\t-\t-\t-", text(o, "file"),
                      text(o, "engine"), text(o, "allocator"));
        return;
    }
    if (ci)
        snprintf(ratio, sizeof ratio, "x %.3f (%.3f .. %.3f)%s", real(o, "ratio"),
                 json_number_value(json_array_get(ci, 0)), json_number_value(json_array_get(ci, 1)),
                 mark);
    cli_table_add(t, "%s\t%s\t%s\t%s\t%.0f\t%.2f%s\t%.2f .. %.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%s",
                  text(o, "file"), text(o, "engine"), text(o, "isa"), text(o, "allocator"),
                  real(o, "n"), real(o, "p50_us"), mark, real(o, "p50_low_us"),
                  real(o, "p50_high_us"), real(o, "p90_us"), real(o, "p99_us"), real(o, "mean_us"),
                  real(o, "std_us"), ratio);
}

/* What the table's columns are, what is missing in it, and what disturbed whom. */
static void print_legend(const json_t *list)
{
    int processes = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        int n = (int)real(json_array_get(list, i), "processes");
        if (n > processes) processes = n;
    }
    if (processes > 1)
        cli_print(
            stdout,
            "\nmicroseconds; percentiles: the median of %d processes' own, SPREAD: their least "
            "and most p50;\nMEAN and STD: of all N runs\n",
            processes);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *o = json_array_get(list, i);
        if (*text(o, "missing"))
            cli_print(stdout, "missing: %s under %s: %s\n", text(o, "file"), text(o, "allocator"),
                      text(o, "missing"));
        if (*text(o, "disturbed_by"))
            cli_print(stdout, "~ %s under %s was disturbed: %s\n", text(o, "file"),
                      text(o, "allocator"), text(o, "disturbed_by"));
    }
}

static void print(const json_t *list)
{
    struct cli_table *t = cli_table_create(
        "FILE\tENGINE\tISA\tALLOCATOR\tN\tP50 us\tSPREAD\tP90\tP99\tMEAN\tSTD\tAGAINST THE FIRST",
        "llllrrrrrrrl");
    for (size_t i = 0; i < json_array_size(list); i++) print_line(t, json_array_get(list, i));
    cli_table_print(t, stdout);
    cli_table_destroy(t);
    print_legend(list);
}

int cmd_bench(struct cli *c, int argc, char **argv)
{
    struct args a = {.engine = MEASURE_RT, .allocator = MEASURE_PAPER, .core = -1};
    int rc = parse(c, &a, argc, argv);
    if (rc) return rc;
    json_t *list = json_array();
    int step = a.n == 2 ? 2 : 1; /* exactly two: compared */
    int from = a.allocator == ALL ? MEASURE_GLIBC : a.allocator;
    int to = a.allocator == ALL ? MEASURE_TCMALLOC : a.allocator;
    for (int i = 0; !rc && i < a.n; i += step) {
        for (int k = from; !rc && k <= to; k++) {
            if (!c->quiet && !c->json && isatty(2))
                cli_print(stderr, "measuring %s under %s ...\r", a.file[i], allocators[k]);
            rc = measure_one(c, &a, i, step, k, list);
        }
    }
    if (isatty(2) && !c->quiet && !c->json) fprintf(stderr, "\033[K");
    if (!rc && c->json) return cli_answer_json(c, list);
    if (!rc) print(list);
    json_decref(list);
    return rc;
}
