/* cli/fetch.h - bringing a run home: its report, and the files that the report names. */
#ifndef CINCH_CLI_FETCH_H
#define CINCH_CLI_FETCH_H

#include "cli/cli.h"
#include "proto/client.h"

enum fetch_what {
    FETCH_ARTIFACTS = 1,   /* .cinch files, float and int8 */
    FETCH_CHECKPOINTS = 2, /* .safetensors of the models that were measured */
};

/* Asks for the run's report, downloads what `what` says into `dir` (made when absent; NULL: nothing
 * is downloaded), and sets path_float, path_int8 and path_model of each artifact. Interrupted
 * downloads continue. *doc is a new reference. */
int fetch_run(struct cli *c, struct pr_client *client, const char *run, const char *dir, int what,
              json_t **doc);

/* Writes report.json, report.csv, report.txt and the figures into `dir`. */
int fetch_write_report(struct cli *c, const json_t *doc, const char *dir);

#endif
