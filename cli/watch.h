/* cli/watch.h - following a run until it ends. */
#ifndef CINCH_CLI_WATCH_H
#define CINCH_CLI_WATCH_H

#include "cli/cli.h"
#include "proto/client.h"

/* Shows progress on stderr (lines that update on a terminal, one line every few seconds elsewhere,
 * nothing under --quiet) until the run is done, failed or cancelled. *show is its last SHOW
 * document, a new reference. CN_EINTERRUPTED after Ctrl-C: the run goes on without us, and *show is
 * what was seen last, or NULL. */
int watch_run(struct cli *c, struct pr_client *client, const char *run, json_t **show);

#endif
