/* cli/cmd_submit.c - `cinch submit`: checks a grid, makes sure that the coordinator has its
 * dataset, and files it as a run. */
#include "cli/cmd_submit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/data.h"
#include "cli/service.h"
#include "cli/submit.h"
#include "cli/upload.h"
#include "coordinator/expand.h"
#include "proto/check.h"

#define MAX_GRID_BYTES (1u << 20)

int submit_grid(struct cli *c, struct pr_client *client, const struct grid *g,
                const struct cli_submit_how *how, struct submit_answer *out)
{
    struct cli_submit *s = NULL;
    Cinch__Submitted *answer = NULL;
    int rc = cli_submit_create(&s, g, how, &c->err);
    if (!rc) rc = pr_call(client, PR_SUBMIT, cli_submit_message(s), PR_SUBMITTED, &answer, &c->err);
    if (!rc) {
        snprintf(out->run, sizeof out->run, "%s", answer->run);
        out->jobs = (int)answer->jobs;
        out->reused = (int)answer->reused;
        out->cells = (int)answer->cells;
        pr_free(answer);
    }
    cli_submit_destroy(s);
    return rc;
}

int submit_count(const Cinch__Submit *m, struct submit_answer *out, struct cn_error *err)
{
    struct ex_grid g = {0};
    int rc = pr_check(PR_SUBMIT, &m->base, err);
    if (!rc) rc = ex_expand(&g, m, 0, err);
    if (rc) return rc;
    memset(out, 0, sizeof *out);
    out->jobs = (int)g.n;
    out->cells = (int)g.cells;
    ex_clear(&g);
    return 0;
}

/* ------------------------------------------------------------------------------------- command */

struct args {
    const char *grid, *data;
    struct cli_remote remote;
    bool dry_run, fresh, paused;
    int priority, time_limit;
};

static int parse(struct cli *c, struct args *a, int argc, char **argv)
{
    const struct cli_option options[] = {
        OPT_TEXT("data", 0, &a->data, "DIR", "a folder to send when the coordinator lacks it"),
        OPT_GAPS(c),
        OPT_FLAG("dry-run", 0, &a->dry_run, "check the grid and count its jobs, file nothing"),
        OPT_FLAG("fresh", 0, &a->fresh, "do not reuse results of earlier runs"),
        OPT_FLAG("paused", 0, &a->paused, "file it, start nothing"),
        OPT_INT("priority", &a->priority, "N", -100, 100, "the grid's; higher goes first"),
        OPT_INT("time-limit", &a->time_limit, "S", 1, 31536000, "seconds for one job; none"),
        OPT_REMOTE(&a->remote),
        OPT_END};
    struct cli_use use = {"GRID [--data DIR] [options]",
                          "Files a grid as a run and prints its id; `cinch watch` follows it.",
                          options,
                          1,
                          1,
                          0,
                          NULL};
    int rc = cli_parse(c, &use, argc, argv);
    if (!rc) a->grid = use.word[0];
    return rc;
}

static int count_only(struct cli *c, const struct grid *g, const struct cli_submit_how *how)
{
    const struct cn_hash any[2] = {{{0}}, {{1}}}; /* the count does not depend on the dataset */
    struct cli_submit_how counted = *how;
    struct cli_submit *s = NULL;
    struct submit_answer n = {0};
    counted.fingerprint = any;
    int rc = cli_submit_create(&s, g, &counted, &c->err);
    if (!rc) rc = submit_count(cli_submit_message(s), &n, &c->err);
    cli_submit_destroy(s);
    if (rc) return rc;
    if (c->json)
        return cli_answer_json(c, json_pack("{s:n, s:s, s:i, s:i}", "run", "name", g->name, "jobs",
                                            n.jobs, "artifacts", n.cells));
    cli_print(stdout, "%s: %d jobs, %d artifacts; nothing was filed\n", g->name, n.jobs, n.cells);
    return 0;
}

static int answer(struct cli *c, const struct grid *g, const struct submit_answer *n)
{
    if (c->json)
        return cli_answer_json(c, json_pack("{s:s, s:s, s:i, s:i, s:i}", "run", n->run, "name",
                                            g->name, "jobs", n->jobs, "reused", n->reused,
                                            "artifacts", n->cells));
    cli_print(stdout, "%s: %s, %d jobs", n->run, g->name, n->jobs);
    if (n->reused) cli_print(stdout, " (%d of them known already)", n->reused);
    cli_print(stdout, ", %d artifacts to come; follow it with `cinch watch %s`\n", n->cells,
              n->run);
    return 0;
}

static int file_it(struct cli *c, const struct args *a, const struct grid *g,
                   struct cli_submit_how *how)
{
    struct pr_client *client = NULL;
    struct cn_hash fingerprint[2];
    char name[160];
    struct submit_answer n = {0};
    int rc = cli_connect(c, &a->remote, &client);
    for (int i = 0; !rc && i < (g->n_splits ? g->n_splits : 1); i++) {
        struct cli_parting p = cli_grid_parting(g, i);
        rc = cli_dataset_name(c, how->dataset, &p, name, sizeof name);
        if (rc) break;
        rc = a->data ? upload_dataset(c, client, a->data, how->dataset, &p, &fingerprint[i])
                     : upload_named(c, client, name, &fingerprint[i]);
    }
    how->fingerprint = fingerprint;
    if (!rc) rc = submit_grid(c, client, g, how, &n);
    pr_client_close(client);
    return rc ? rc : answer(c, g, &n);
}

int cmd_submit(struct cli *c, int argc, char **argv)
{
    struct args a = {.priority = -1000};
    struct grid *g = NULL;
    char *text = NULL;
    size_t n = 0;
    int rc = parse(c, &a, argc, argv);
    if (rc) return rc;
    rc = cli_read_text(c, a.grid, MAX_GRID_BYTES, &text, &n);
    if (!rc) rc = grid_parse(&g, strcmp(a.grid, "-") ? a.grid : "stdin", text, n, &c->err);
    if (!rc) {
        if (a.priority > -1000) g->priority = a.priority;
        struct cli_submit_how how = {.text = text,
                                     .dataset = *g->data ? g->data : "ptbxl",
                                     .fresh = a.fresh,
                                     .paused = a.paused,
                                     .dry_run = a.dry_run,
                                     .time_limit_s = a.time_limit};
        rc = a.dry_run ? count_only(c, g, &how) : file_it(c, &a, g, &how);
    }
    free(text);
    grid_destroy(g);
    return rc;
}
