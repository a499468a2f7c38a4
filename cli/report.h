/* cli/report.h - a run's results for people: tables, CSV, and figures.
 *
 * Input is the document of `report --json` (docs/man/cinch.1): {run, artifacts: [{net, seed, distilled,
 * rounds, norm, kept, ...}], failed: [...], missing: [...]}. Nothing here talks to the coordinator.
 */
#ifndef CINCH_CLI_REPORT_H
#define CINCH_CLI_REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "cli/cli.h"

struct report;

/* CN_EINVALID when the document is not a report. */
int report_create(struct report **out, const json_t *doc, struct cn_error *err);
void report_destroy(struct report *r); /* accepts NULL */

/* One table a net (its widths and recipe) and split of its data: rows F, Q (int8), FKD, QKD
 * (distilled), of AUROC, or of accuracy and macro-F1 where classes exclude each other; columns by
 * parameters left, folded to the width of the terminal (100 where `to` is none); cells
 * mean(deviation) as 0.9186(013), with the pruning variant as rounds/norm that is best on the
 * validation part; then sizes, latencies and multiplications. Where a column has more than one
 * variant, or a round between was measured, all of them are listed below. A time that was taken under
 * disturbance is marked ~. */
void report_print(const struct report *r, FILE *to);
/* One line an artifact, more where it was timed in several ways, and one for each that is missing. */
void report_csv(const struct report *r, FILE *to);
/* Latency and stored size against parameters left: writes NET-latency.svg and NET-size.svg, and the
 * .dat and .gp they were made from, into `dir`. Without gnuplot only the latter; *drawn says which.
 */
int report_figures(const struct report *r, const char *dir, bool *drawn, struct cn_error *err);

/* Runs gnuplot on a script of `dir`, there. `script` holds no quote: names of nets and files only.
 * false: gnuplot is not there, or failed. */
bool report_draw(const char *dir, const char *script);

/* "0.9186(013)" for mean 0.9186 and deviation 0.0013; without brackets when n < 2; "-" when n = 0.
 */
void report_cell(double mean, double std, int n, char out[32]);

#endif
