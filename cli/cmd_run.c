/* cli/cmd_run.c - `cinch run`: a whole grid in this process, to artifacts and a report in one folder.
 *
 * The queue and the blobs lie in OUT/.state, so that a run that was stopped goes on when the same
 * command is given again, and a grid that overlaps an earlier one in the same folder reuses its
 * results. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "cli/cmd_submit.h"
#include "cli/commands.h"
#include "cli/data.h"
#include "cli/embed.h"
#include "cli/fetch.h"
#include "cli/report.h"
#include "cli/service.h"
#include "cli/watch.h"
#include "cpu/measure/measure.h"
#include "workers/device.h"

#define MAX_GRID_BYTES (1u << 20)

struct args {
    const char *grid, *data, *out, *device;
    int slots;
    bool fresh, models, force;
    struct cli_outdir *dir; /* `out` */
};

static int parse(struct cli *c, struct args *a, int argc, char **argv)
{
    const struct cli_option options[] = {
        OPT_TEXT("data", 0, &a->data, "DIR", "a folder or known name; the grid's `data`"),
        OPT_GAPS(c),
        OPT_TEXT("out", 'o', &a->out, "OUT", "folder of the artifacts and the report"),
        OPT_INT("slots", &a->slots, "N", 1, 256, "trainings at once; as many as pay"),
        OPT_TEXT("device", 0, &a->device, "D", "cpu (default), gpu, gpu:N,.."),
        OPT_FLAG("fresh", 0, &a->fresh, "do not reuse results of an earlier run in OUT"),
        OPT_FLAG("models", 0, &a->models, "the checkpoints too (.safetensors)"),
        OPT_FLAG("force", 0, &a->force, "replace files in OUT that cinch did not write there"),
        OPT_END,
    };
    struct cli_use use = {
        "GRID --data DIR -o OUT [--slots N]",
        "Runs a grid from training to int8 artifacts, with everything inside this "
        "process. Stopped with\nCtrl-C, the same command goes on later.",
        options,
        1,
        1,
        0,
        NULL};
    int rc = cli_parse(c, &use, argc, argv);
    if (!rc) rc = cli_need(c, a->out, "-o");
    if (!rc) a->grid = use.word[0];
    return rc ? rc : cli_outdir_open(c, a->out, a->force, fetch_report_names, &a->dir);
}

/* What the run left behind: files and report in OUT; the answer on stdout. */
static int bring_home(struct cli *c, const struct args *a, struct pr_client *client,
                      const char *run, const char *state)
{
    json_t *doc = NULL;
    struct report *r = NULL;
    int what = FETCH_ARTIFACTS | (a->models ? FETCH_CHECKPOINTS : 0);
    int rc = fetch_run(c, client, run, a->dir, what, &doc);
    if (!rc) rc = fetch_write_report(c, doc, a->dir);
    size_t failed = json_array_size(json_object_get(doc, "failed"));
    if (!rc && c->json) {
        rc = cli_answer_json(c, json_incref(doc));
    } else if (!rc) {
        rc = report_create(&r, doc, &c->err);
        if (!rc) {
            report_print(r, stdout);
            cli_print(stdout, "\nartifacts and report: %s\n", a->out);
        }
        report_destroy(r);
    }
    if (!rc && !a->models && !failed && !json_array_size(json_object_get(doc, "artifacts")))
        cli_say(c, "nothing was measured; the same command with --models brings the trained nets");
    json_decref(doc);
    if (!rc && strcmp(state, "done"))
        rc = cn_fail(&c->err, CN_EINTERNAL, "%zu job%s failed; the report names them", failed,
                     failed == 1 ? "" : "s");
    return rc;
}

/* Nobody else could do the timing later, so what it needs must be here now. */
static int check_allocators(struct cli *c, const struct grid *g)
{
    for (int i = 0; g->latency && i < g->n_nets; i++) {
        enum measure_allocator a = measure_paper_allocator(g->net[i].name);
        char detail[256];
        for (int k = MEASURE_GLIBC; k <= MEASURE_TCMALLOC; k++)
            if (!strcmp(g->allocator, measure_allocator_names[k])) a = (enum measure_allocator)k;
        if (!measure_allocator_available(a, detail, sizeof detail))
            return cn_fail(&c->err, CN_ENOTFOUND,
                           "the grid times %s under %s, which is not here (%s); or say `latency: "
                           "{allocator: glibc}` or `latency: none`",
                           g->net[i].name, measure_allocator_names[a], detail);
    }
    return 0;
}

static int check_gpus(struct cli *c, const struct args *a, const struct grid *g)
{
    struct device_spec spec;
    int rc = device_parse(a->device, &spec, &c->err);
    if (rc || g->gpus == 1 || spec.n_gpus >= g->gpus) return rc;
    return cn_fail(&c->err, CN_EINVALID,
                   "the grid trains each job on %d GPUs: give them, as in --device gpu:0,1",
                   g->gpus);
}

static int run_grid(struct cli *c, const struct args *a, const struct grid *g, const char *text,
                    struct ecg_dataset *const *d)
{
    struct cn_hash fingerprint[2];
    char state[4096];
    struct embed *e = NULL;
    json_t *show = NULL;
    struct submit_answer n = {0};
    snprintf(state, sizeof state, "%s/.state", a->out);
    struct embed_options eo = {
        .state = state, .data = {d[0], d[1]}, .device = a->device, .slots = a->slots};
    struct cli_submit_how how = {
        .text = text, .dataset = d[0]->name, .fingerprint = fingerprint, .fresh = a->fresh};
    for (int i = 0; i < 2 && d[i]; i++) fingerprint[i] = d[i]->fingerprint;
    cli_catch_signals();
    int rc = cn_mkdirs(state, &c->err);
    if (!rc) rc = embed_start(c, &eo, &e);
    if (rc) return rc;
    struct pr_client *client = embed_client(e);
    rc = submit_grid(c, client, g, &how, &n);
    if (!rc) {
        cli_say(c, "%s: %d jobs%s, %d artifacts to come", g->name, n.jobs,
                n.reused ? " (some known already)" : "", n.cells);
        rc = watch_run(c, client, n.run, &show);
    }
    if (rc == CN_EINTERRUPTED)
        cn_fail(&c->err, rc, "stopped; give the same command again to go on");
    if (!rc) rc = bring_home(c, a, client, n.run, cli_text(show, "state"));
    json_decref(show);
    c->alive = NULL;
    embed_stop(e);
    return rc;
}

int cmd_run(struct cli *c, int argc, char **argv)
{
    struct args a = {.device = "cpu"};
    struct grid *g = NULL;
    struct ecg_dataset *d[2] = {NULL};
    char *text = NULL;
    size_t n = 0;
    int rc = parse(c, &a, argc, argv);
    if (rc) return rc;
    if (!getenv("CINCH_LOG")) cn_log_level(CN_WARN); /* the bar tells the rest */
    rc = cli_read_text(c, a.grid, MAX_GRID_BYTES, &text, &n);
    if (!rc) rc = grid_parse(&g, strcmp(a.grid, "-") ? a.grid : "stdin", text, n, &c->err);
    if (!rc && !a.data) a.data = *g->data ? g->data : "ptbxl";
    if (!rc) rc = check_allocators(c, g);
    if (!rc) rc = check_gpus(c, &a, g);
    for (int i = 0; !rc && i < (g->n_splits ? g->n_splits : 1); i++) {
        struct cli_parting how = cli_grid_parting(g, i);
        rc = cli_dataset_open_as(c, a.data, &how, &d[i]);
    }
    if (!rc) rc = run_grid(c, &a, g, text, d);
    for (int i = 0; i < 2; i++) ecg_dataset_close(d[i]);
    cli_outdir_close(a.dir);
    grid_destroy(g);
    free(text);
    return rc;
}
