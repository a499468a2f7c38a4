/* cli/cmd_submit.c - `cinch submit`: checks a grid, makes sure that the coordinator has its
 * dataset, and files it as a run. */
#include "cli/cmd_submit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/commands.h"
#include "cli/data.h"
#include "cli/progress.h"
#include "cli/service.h"
#include "cli/submit.h"

#define MAX_GRID_BYTES (1u << 20)

static int on_upload(void *arg, uint64_t done, uint64_t total)
{
    cli_progress_update(arg, (double)done / 1e6, (double)total / 1e6, NULL);
    return cli_signalled();
}

static int known(struct cli *c, struct pr_client *client, const char *name,
                 const struct cn_hash *fingerprint, bool *has)
{
    Cinch__DataGet ask = CINCH__DATA_GET__INIT;
    Cinch__Dataset *answer = NULL;
    struct cn_error err = {0};
    if (fingerprint)
        ask.fingerprint = pr_hash_field(fingerprint);
    else
        ask.name = (char *)name;
    int rc = pr_call(client, PR_DATA_GET, &ask, PR_DATASET, &answer, &err);
    *has = !rc && (!fingerprint || answer->blob);
    if (!rc) pr_free(answer);
    if (rc == CN_ENOTFOUND) return 0;
    if (rc) c->err = err;
    return rc;
}

static int upload(struct cli *c, struct pr_client *client, const struct ecg_dataset *d,
                  const char *name)
{
    char path[4096], info[256];
    struct cn_hash hash;
    uint64_t size = 0;
    int rc = ecg_dataset_path(d, path, sizeof path);
    if (rc) return cn_fail(&c->err, rc, "the cache file of dataset %s cannot be named", d->name);
    struct cli_progress bar;
    cli_progress_start(&bar, c, "sending the dataset", "MB");
    struct pr_blob_progress progress = {on_upload, &bar};
    rc = pr_blob_put_file(client, path, &hash, &size, &progress, &c->err);
    cli_progress_end(&bar);
    if (rc) return rc;
    snprintf(info, sizeof info, "{\"records\": %d, \"leads\": %d, \"samples\": %d, \"labels\": %d}",
             d->n, d->n_leads, d->n_samples, d->n_labels);
    Cinch__DataAdd add = CINCH__DATA_ADD__INIT;
    Cinch__Blob blob = CINCH__BLOB__INIT;
    blob.role = "dataset";
    blob.hash = pr_hash_field(&hash);
    blob.size = size;
    add.name = (char *)name;
    add.fingerprint = pr_hash_field(&d->fingerprint);
    add.blob = &blob;
    add.info = info;
    add.replace = 1;
    return pr_call(client, PR_DATA_ADD, &add, PR_EMPTY, NULL, &c->err);
}

int submit_dataset(struct cli *c, struct pr_client *client, const char *data, const char *name,
                   struct cn_hash *fingerprint)
{
    struct ecg_dataset *d = NULL;
    bool has = false;
    int rc = cli_dataset_open(c, data, &d);
    if (rc) return rc;
    *fingerprint = d->fingerprint;
    rc = known(c, client, NULL, fingerprint, &has);
    if (!rc && !has) rc = upload(c, client, d, name);
    ecg_dataset_close(d);
    return rc;
}

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
    struct cli_submit *s = NULL;
    struct submit_answer n = {0};
    int rc = cli_submit_create(&s, g, how, &c->err);
    if (!rc) rc = submit_count(cli_submit_message(s), &n, &c->err);
    cli_submit_destroy(s);
    if (rc) return rc;
    if (c->json)
        return cli_answer_json(c, json_pack("{s:n, s:s, s:i, s:i}", "run", "name", g->name, "jobs",
                                            n.jobs, "artifacts", n.cells));
    printf("%s: %d jobs, %d artifacts; nothing was filed\n", g->name, n.jobs, n.cells);
    return 0;
}

static int answer(struct cli *c, const struct grid *g, const struct submit_answer *n)
{
    if (c->json)
        return cli_answer_json(c, json_pack("{s:s, s:s, s:i, s:i, s:i}", "run", n->run, "name",
                                            g->name, "jobs", n->jobs, "reused", n->reused,
                                            "artifacts", n->cells));
    printf("%s: %s, %d jobs", n->run, g->name, n->jobs);
    if (n->reused) printf(" (%d of them known already)", n->reused);
    printf(", %d artifacts to come; follow it with `cinch watch %s`\n", n->cells, n->run);
    return 0;
}

static int file_it(struct cli *c, const struct args *a, const struct grid *g,
                   struct cli_submit_how *how)
{
    struct pr_client *client = NULL;
    struct cn_hash fingerprint;
    struct submit_answer n = {0};
    int rc = cli_connect(c, &a->remote, &client);
    bool has = false;
    if (!rc && a->data) {
        rc = submit_dataset(c, client, a->data, how->dataset, &fingerprint);
        how->fingerprint = &fingerprint;
    } else if (!rc) {
        rc = known(c, client, how->dataset, NULL, &has);
        if (!rc && !has)
            rc = cn_fail(&c->err, CN_ENOTFOUND,
                         "the coordinator has no dataset '%s'; send one with --data DIR",
                         how->dataset);
    }
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
    rc = cn_file_read(a.grid, MAX_GRID_BYTES, &text, &n, &c->err);
    if (!rc) rc = grid_parse(&g, a.grid, text, n, &c->err);
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
