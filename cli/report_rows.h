/* cli/report_rows.h - a report's artifacts as plain rows, and figures over seeds: what the tables of
 * report.c and the comparison of stages.c share. Private to these. */
#ifndef CINCH_CLI_REPORT_ROWS_H
#define CINCH_CLI_REPORT_ROWS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define MAX_GROUPS 32

struct row {
    /* borrowed from the document; "" where it has null or nothing */
    const char *net, *norm, *split, *unit, *schedule;
    const json_t *artifact; /* borrowed: what is not read into the row */
    int group;              /* index into report.group */
    int64_t seed, params, full, macs;
    int distilled, rounds, final; /* final: not an intermediate round */
    int epochs;                   /* of fine-tuning, in all */
    double kept, keep; /* left of all parameters; asked for (kept, where it is not told) */
    /* float, int8; NaN: not measured */
    double auroc[2], accuracy[2], f1[2], bytes[2], latency[2], nonzero[2];
};

/* Nets of one name, one full size and one split of the data share a table. */
struct group {
    const char *net, *split;
    int64_t full; /* parameters of the unpruned net */
    bool classes; /* exclusive ones: accuracy and F1, not AUROC */
    char label[64];
};

struct report {
    json_t *doc;
    int n;
    struct row *row;
    int n_groups;
    struct group group[MAX_GROUPS];
};

struct stat {
    int n;
    double sum, squares;
};

void stat_add(struct stat *s, double v); /* NaN and infinity are left out */
double stat_mean(const struct stat *s);  /* NaN when empty */
double stat_std(const struct stat *s);   /* of a sample (n - 1), 0 below two values */

#endif
