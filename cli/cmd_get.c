/* cli/cmd_get.c - `cinch get` brings a run's files home, `cinch report` its figures. */
#include <stdio.h>

#include "cli/commands.h"
#include "cli/fetch.h"
#include "cli/report.h"
#include "cli/service.h"

static size_t count_paths(const json_t *doc, const char *key)
{
    static const char *const lists[] = {"artifacts", "models"};
    size_t n = 0;
    for (int k = 0; k < 2; k++) {
        const json_t *list = json_object_get(doc, lists[k]);
        for (size_t i = 0; i < json_array_size(list); i++)
            n += *cli_text(json_array_get(list, i), key) != 0;
    }
    return n;
}

static void print_got(const struct cli *c, const json_t *doc, const char *out, bool models)
{
    size_t artifacts = json_array_size(json_object_get(doc, "artifacts"));
    cli_print(stdout, "%s: %zu int8 and %zu float artifacts", out, count_paths(doc, "path_int8"),
              count_paths(doc, "path_float"));
    if (models) cli_print(stdout, ", %zu checkpoints", count_paths(doc, "path_model"));
    putchar('\n');
    size_t missing = json_array_size(json_object_get(doc, "missing"));
    size_t failed = json_array_size(json_object_get(doc, "failed"));
    if (artifacts && (missing || failed))
        cli_say(c,
                "that is not all: %zu of the run's nets are not measured%s, %zu jobs failed; "
                "`cinch report` says more",
                missing, failed ? "" : " yet", failed);
    if (!artifacts && failed)
        cli_say(c, "nothing is measured, and %zu jobs failed; `cinch report` names them", failed);
    else if (!artifacts && !models)
        cli_say(c, "nothing is measured (yet); where a grid says `measure: none`, --models brings "
                   "its trained nets");
}

int cmd_get(struct cli *c, int argc, char **argv)
{
    struct cli_remote remote = {0};
    const char *out = NULL;
    bool models = false, force = false;
    const struct cli_option options[] = {
        OPT_TEXT("out", 'o', &out, "OUT", "the folder; made when absent"),
        OPT_FLAG("models", 0, &models, "the checkpoints too (.safetensors)"),
        OPT_FLAG("force", 0, &force, "replace files that cinch did not write there"),
        OPT_REMOTE(&remote),
        OPT_END,
    };
    struct cli_use use = {"RUN -o OUT",
                          "Downloads the artifacts of a run. A download that was cut off goes on "
                          "where it stopped.",
                          options,
                          1,
                          1,
                          0,
                          NULL};
    struct pr_client *client = NULL;
    struct cli_outdir *dir = NULL;
    json_t *doc = NULL;
    int rc = cli_parse(c, &use, argc, argv);
    if (!rc) rc = cli_need(c, out, "-o");
    if (!rc) rc = cli_outdir_open(c, out, force, NULL, &dir);
    if (rc) return rc;
    int what = FETCH_ARTIFACTS | (models ? FETCH_CHECKPOINTS : 0);
    rc = cli_connect(c, &remote, &client);
    if (!rc) rc = fetch_run(c, client, use.word[0], dir, what, &doc);
    pr_client_close(client);
    cli_outdir_close(dir);
    if (rc) return rc;
    if (c->json) return cli_answer_json(c, doc);
    print_got(c, doc, out, models);
    json_decref(doc);
    return 0;
}

int cmd_report(struct cli *c, int argc, char **argv)
{
    struct cli_remote remote = {0};
    const char *out = NULL;
    bool force = false;
    const struct cli_option options[] = {
        OPT_TEXT("out", 'o', &out, "OUT", "also report.json, .csv, .txt and figures, here"),
        OPT_FLAG("force", 0, &force, "replace files that cinch did not write there"),
        OPT_REMOTE(&remote),
        OPT_END,
    };
    struct cli_use use = {"RUN [-o OUT]",
                          "The results of a run so far: quality, size and latency, float against "
                          "int8.",
                          options,
                          1,
                          1,
                          0,
                          NULL};
    struct pr_client *client = NULL;
    struct report *r = NULL;
    struct cli_outdir *dir = NULL;
    json_t *doc = NULL;
    int rc = cli_parse(c, &use, argc, argv);
    if (!rc && out) rc = cli_outdir_open(c, out, force, fetch_report_names, &dir);
    if (rc) return rc;
    rc = cli_connect(c, &remote, &client);
    if (!rc) rc = fetch_run(c, client, use.word[0], NULL, 0, &doc);
    pr_client_close(client);
    if (!rc && out) rc = fetch_write_report(c, doc, dir);
    cli_outdir_close(dir);
    if (!rc && c->json) return cli_answer_json(c, doc);
    if (!rc) rc = report_create(&r, doc, &c->err);
    if (!rc) report_print(r, stdout);
    report_destroy(r);
    json_decref(doc);
    return rc;
}
