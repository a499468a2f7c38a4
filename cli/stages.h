/* cli/stages.h - pruning in several stages against pruning at once: what a grid that has both comes
 * to. */
#ifndef CINCH_CLI_STAGES_H
#define CINCH_CLI_STAGES_H

#include "cli/report.h"

/* Writes into `dir`, when the report has nets pruned in one round and in several rounds with equally
 * many epochs of fine-tuning in all: stages.md, a table for each net and split of the data with a row
 * a way of pruning, means and deviations over the seeds, and the difference to one round with its
 * interval; stages.dat and stages.gp; and stages.png, drawn from these where gnuplot is there (else
 * *drawn becomes false). */
int stages_write(const struct report *r, const char *dir, bool *drawn, struct cn_error *err);

/* The mean of n paired differences and the half width of its 95 % interval after Student; half is
 * NaN below two. */
void stages_interval(const double *difference, int n, double *mean, double *half);

#endif
