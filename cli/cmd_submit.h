/* cli/cmd_submit.h - the steps of filing a run that `submit` and `run` share. */
#ifndef CINCH_CLI_CMD_SUBMIT_H
#define CINCH_CLI_CMD_SUBMIT_H

#include "cli/cli.h"
#include "cli/submit.h"
#include "proto/client.h"

struct submit_answer {
    char run[32]; /* "r12" */
    int jobs, reused, cells;
};

/* Files the grid. */
int submit_grid(struct cli *c, struct pr_client *client, const struct grid *g,
                const struct cli_submit_how *how, struct submit_answer *out);
/* What the coordinator would make of the message, without one. */
int submit_count(const Cinch__Submit *m, struct submit_answer *out, struct cn_error *err);

#endif
