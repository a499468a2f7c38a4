/* cli/fetch.h - bringing a run home: its report, and the files that the report names. */
#ifndef CINCH_CLI_FETCH_H
#define CINCH_CLI_FETCH_H

#include "cli/cli.h"
#include "cli/outdir.h"
#include "proto/client.h"

enum fetch_what {
    FETCH_ARTIFACTS = 1,   /* .cinch files, float and int8 */
    FETCH_CHECKPOINTS = 2, /* .safetensors of the models that were measured; of a run that measures
                            * nothing, of the nets that it trained */
};

/* Asks for the run's report, downloads what `what` says into `dir` (NULL when `what` is 0), and sets
 * path_float, path_int8 and path_model of each artifact; with FETCH_CHECKPOINTS the document of a run
 * that measures nothing gets "models", with path_model each. Interrupted downloads continue. *doc is
 * a new reference. */
int fetch_run(struct cli *c, struct pr_client *client, const char *run, struct cli_outdir *dir,
              int what, json_t **doc);

/* Writes report.json, report.csv, report.txt and the figures into `dir`, all or none. */
int fetch_write_report(struct cli *c, const json_t *doc, struct cli_outdir *dir);
extern const char *const fetch_report_names[]; /* the certain ones; NULL ends */

#endif
