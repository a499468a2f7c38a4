/* cli/progress.h - how far a command is: a bar with rate and time left on a terminal, a plain line
 * every ten seconds elsewhere, nothing in the first second and nothing under --quiet. On stderr. */
#ifndef CINCH_CLI_PROGRESS_H
#define CINCH_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/cli.h"

struct cli_progress {
    bool quiet, terminal, shown;
    char label[40];
    const char *unit;                    /* what `done` counts: "records", "jobs" */
    int64_t start_ms, first_ms, last_ms; /* started, first update, last line */
    double first; /* what the first update told (a resumed run): not part of the rate */
    bool started;
};

void cli_progress_start(struct cli_progress *p, const struct cli *c, const char *label,
                        const char *unit);
/* done of total (same unit); `note` (may be NULL) stands at the end of the line. */
void cli_progress_update(struct cli_progress *p, double done, double total, const char *note);
/* Takes the bar away. Safe to call twice. */
void cli_progress_end(struct cli_progress *p);

/* "1:05", "2:03:00"; "?" for a negative time. */
void cli_duration(double seconds, char out[24]);

#endif
