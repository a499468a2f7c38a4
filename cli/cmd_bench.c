/* cli/cmd_bench.c - `cinch bench`: how long one inference takes, measured in a child of its own
 * (cpu/measure). Two files are timed in alternating blocks and compared. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/table.h"
#include "cpu/measure/measure.h"

static const char *const allocators[] = {"glibc", "jemalloc", "tcmalloc", "paper", "all", NULL};
enum { ALL = 4 };

struct args {
    const char *isa;
    int engine, allocator, runs, warmup, core, n;
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
        OPT_INT("warmup", &a->warmup, "N", 1, 1000000, "before them; 100"),
        OPT_TEXT("isa", 0, &a->isa, "NAME", "portable, avx2, ...; caps the kernels"),
        OPT_INT("core", &a->core, "N", 0, 4095, "the last one"),
        OPT_END};
    struct cli_use use = {"FILE.. [options]",
                          "Times single inferences: one thread, batch 1, a fresh process under the "
                          "allocator, pinned to a core.\nTwo files are compared by alternating "
                          "blocks.",
                          options,
                          1,
                          -1,
                          0,
                          NULL};
    int rc = cli_parse(c, &use, argc, argv);
    a->file = use.word;
    a->n = use.n_words;
    return rc;
}

/* Adds the figures of one measurement (one file, or two that were compared) to the answer. */
static void add(json_t *list, const struct measure_spec *spec, const struct measure_result *r)
{
    for (int i = 0; i < 2 && spec->file[i]; i++) {
        const struct measure_figures *f = &r->figures[i];
        json_t *o =
            json_pack("{s:s, s:s, s:s, s:s, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:i, s:i}", "file",
                      spec->file[i], "engine", r->engine, "isa", r->isa, "allocator", r->allocator,
                      "n", f->n, "mean_us", f->mean_us, "p50_us", f->p50_us, "p90_us", f->p90_us,
                      "p99_us", f->p99_us, "std_us", f->std_us, "min_us", f->min_us, "core",
                      r->core, "disturbed_blocks", f->disturbed);
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
                                .core = a->core};
    struct measure_result r = {0};
    int rc = measure_run(&spec, &r, &c->err);
    if (!rc) add(list, &spec, &r);
    measure_result_clear(&r);
    return rc;
}

static void print(const json_t *list)
{
    struct cli_table *t = cli_table_create(
        "FILE\tENGINE\tISA\tALLOCATOR\tN\tMEAN us\tP50\tP90\tP99\tSTD\tAGAINST THE FIRST",
        "llllrrrrrrl");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *o = json_array_get(list, i), *ci = json_object_get(o, "ratio_ci95");
        char ratio[64] = "";
        if (ci)
            snprintf(ratio, sizeof ratio, "x %.3f (%.3f .. %.3f)",
                     json_number_value(json_object_get(o, "ratio")),
                     json_number_value(json_array_get(ci, 0)),
                     json_number_value(json_array_get(ci, 1)));
#define TEXT(key) json_string_value(json_object_get(o, key))
#define REAL(key) json_number_value(json_object_get(o, key))
        cli_table_add(t, "%s\t%s\t%s\t%s\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%s", TEXT("file"),
                      TEXT("engine"), TEXT("isa"), TEXT("allocator"), REAL("n"), REAL("mean_us"),
                      REAL("p50_us"), REAL("p90_us"), REAL("p99_us"), REAL("std_us"), ratio);
#undef TEXT
#undef REAL
    }
    cli_table_print(t, stdout);
    cli_table_destroy(t);
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
                fprintf(stderr, "measuring %s under %s ...\r", a.file[i], allocators[k]);
            rc = measure_one(c, &a, i, step, k, list);
        }
    }
    if (isatty(2) && !c->quiet && !c->json) fprintf(stderr, "\033[K");
    if (!rc && c->json) return cli_answer_json(c, list);
    if (!rc) print(list);
    json_decref(list);
    return rc;
}
