/* cli/report_rows.h - a report's document read into plain rows, and what they have in common: groups
 * (seeds and variants of one net), columns (nets of one size), variants (seeds of one way of
 * pruning) and timings. What the tables of report.c, the CSV, the figures and the comparison of
 * stages.c share. Private to these.
 *
 * Nothing has a fixed number: a document's rows, sizes, variants and seeds all have their place. */
#ifndef CINCH_CLI_REPORT_ROWS_H
#define CINCH_CLI_REPORT_ROWS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct stat {
    int n;
    double sum, squares;
};

void stat_add(struct stat *s, double v); /* NaN and infinity are left out */
double stat_mean(const struct stat *s);  /* NaN when empty */
double stat_std(const struct stat *s);   /* of a sample (n - 1), 0 below two values */

enum measure { AUROC, ACCURACY, F1, MEASURES };
enum part { TEST, VALIDATION, PARTS };

/* One net that was measured, or that is asked for and is not (yet). */
struct row {
    /* borrowed from the document; "" where it has null or nothing */
    const char *net, *norm, *split, *unit, *schedule, *config;
    const json_t *artifact;             /* borrowed: what is not read into the row */
    const json_t *widths, *widths_full; /* borrowed; NULL: not told */
    bool measured;
    int group, column, variant; /* indexes into the report's lists; column -1: not the last round */
    int64_t seed, params, full, macs;
    bool full_told; /* `full` is exact; else it is worked out from a rounded fraction */
    int distilled, rounds, round, final; /* final: not an intermediate round */
    int epochs;                          /* of fine-tuning, in all */
    double kept, keep; /* left of all parameters; asked for (kept, where it is not told) */
    /* float, int8; NaN: not measured */
    double quality[MEASURES][PARTS][2], bytes[2], nonzero[2];
};

/* All that was measured of one net on one split of the data: what differs is the seed, and how much
 * was pruned in which way. */
struct group {
    const struct row *first; /* borrowed: what all of its rows share */
    int64_t full;            /* parameters of the unpruned net */
    bool classes;            /* exclusive ones: accuracy and F1, not AUROC */
    char label[256];         /* for people: "cnn", "cnn [16, 32, 48, 16]", "beat-patient" */
    char stem[96];           /* for names of files: letters, digits, - and _ */
};

/* Nets of one group and one size, and (unless a scan shared out what was removed) of the same
 * layers. */
struct column {
    int group;
    const char *unit;
    double keep;          /* asked for */
    bool scanned;         /* by schedule "sensitivity": each seed has its own layers */
    const json_t *widths; /* borrowed; NULL: none told, or scanned */
    struct stat kept;
};

/* The seeds of one way of pruning, after one of its rounds. */
struct variant {
    int group, column, distilled, rounds, round, epochs;
    double keep;
    const char *norm, *schedule, *unit;
    int seeds, measured; /* asked for; with results */
    int kinds[2];        /* of these, with a float and with an int8 net */
    struct stat kept, quality[MEASURES][PARTS][2], bytes[2];
};

/* What a time was taken with: figures of two of these are never put together. */
struct setup {
    const char *allocator, *version, *isa, *engine, *cpu; /* borrowed */
};

/* One net's latency: float or int8, under one setup. */
struct timing {
    int row, kind, setup;
    double mean, p50, low, high;
    int processes;
    const json_t *each;       /* borrowed: every process's p50; NULL: not told */
    const char *disturbed_by; /* borrowed; "": by nothing that could be seen */
};

struct report {
    json_t *doc;
    int n;
    struct row *row;
    int n_groups, n_columns, n_variants, n_setups, n_timings;
    struct group *group;
    struct column *column;   /* a group's lie together, those with most parameters left first */
    struct variant *variant; /* a group's lie together, in the order of their columns */
    struct setup *setup;
    struct timing *timing;
};

/* The range of a group's columns or variants in the report's lists: first, and behind the last. */
void group_columns(const struct report *r, int group, int *from, int *to);
void group_variants(const struct report *r, int group, int *from, int *to);

/* "5/L1", "5/L1/linear"; "" for an unpruned net. */
void variant_text(const struct variant *v, char out[64]);

/* The p50s of all processes of a column's nets under one setup. */
struct spread {
    int nets, processes, disturbed; /* disturbed: nets whose time was */
    double median, low, high;
};
/* kind 0 float, 1 int8. nets is 0 when none was timed. */
void column_latency(const struct report *r, int column, int kind, int setup, struct spread *out);
void variant_latency(const struct report *r, int variant, int kind, int setup, struct spread *out);

/* Whether any net of the group was timed under the setup. */
bool group_has_setup(const struct report *r, int group, int setup);
/* "jemalloc 5.3.0, avx512vnni, rt, Intel(R) Xeon(R)" */
void setup_text(const struct setup *s, char out[256]);

#endif
