/* cli/submit.h - from a resolved grid to the one message that files it. */
#ifndef CINCH_CLI_SUBMIT_H
#define CINCH_CLI_SUBMIT_H

#include "base/hash.h"
#include "cli/grid.h"
#include "proto/cinch.pb-c.h"

struct cli_submit; /* the message and all it points to */

/* What the grid does not say. */
struct cli_submit_how {
    const char *text; /* the grid file, kept by the coordinator for `show`; may be NULL */
    const char *dataset;
    const struct cn_hash *fingerprint; /* NULL: the coordinator looks `dataset` up by name. With
                                          splits in the grid: [n_splits], of each */
    bool fresh, dry_run, paused;
    int time_limit_s; /* per job, 0: none */
};

int cli_submit_create(struct cli_submit **out, const struct grid *g,
                      const struct cli_submit_how *how, struct cn_error *err);
const Cinch__Submit *cli_submit_message(const struct cli_submit *s); /* borrowed */
void cli_submit_destroy(struct cli_submit *s);                       /* accepts NULL */

#endif
