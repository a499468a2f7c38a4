/* cli/grid.h - the grid file: YAML in, every number resolved and checked out. docs/man/cinch-grid.5
 * is its manual; the file's format stands at the top of grid.c. */
#ifndef CINCH_CLI_GRID_H
#define CINCH_CLI_GRID_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "ecg/dataset.h"
#include "nn/net.h"
#include "nn/prune.h"
#include "nn/recipe.h"

#define GRID_MAX_NETS 16
#define GRID_MAX_LIST 64
#define GRID_MAX_SEEDS 1000

enum grid_measure { GRID_FINAL, GRID_EVERY_ROUND, GRID_NONE };
enum grid_quantize { GRID_PAPER, GRID_FULL, GRID_BEST };
enum grid_unit { GRID_STRUCTURE, GRID_WEIGHT };

struct grid_net {
    char name[24];
    int n_widths; /* 0: the net's full widths */
    int width[NN_MAX_WIDTHS];
    struct nn_recipe recipe; /* `epochs` and `prune.epochs` already applied */
};

struct grid {
    char name[64]; /* of the run; default: the file's name without .yaml */
    char data[64]; /* a dataset's name; "" when the file names none */
    int n_splits;  /* of beats; 0: not a grid of beats */
    enum ecg_split split[2];
    bool drop_unlabelled; /* of PTB-XL */
    int n_nets;
    struct grid_net net[GRID_MAX_NETS];
    int n_seeds;
    uint64_t seed[GRID_MAX_SEEDS];
    int n_distill;
    bool distill[2];
    bool prune;
    int n_rounds, rounds[GRID_MAX_LIST];
    int n_keep;
    double keep[GRID_MAX_LIST]; /* fraction of structures or weights left, (0, 1] */
    int n_units;
    enum grid_unit unit[2];
    int n_schedules;
    enum nn_stages schedule[3];
    int total_epochs; /* of fine-tuning, shared by a variant's rounds; 0: each round has the recipe's */
    int n_norms;
    enum nn_norm norm[3];
    enum grid_measure measure;
    enum grid_quantize quantize;
    int calibration;    /* records that calibrate */
    char allocator[16]; /* paper, glibc, jemalloc, tcmalloc */
    int runs;           /* timed inferences; 0: the study's count for each net */
    bool latency;       /* false: `latency: none` */
    int priority;
    int gpus; /* cards that train one job together; 1 */
};

extern const char *const grid_split_names[]; /* enum ecg_split: random, patient; NULL-terminated */

/* Reads `path` into *out (malloc'ed, freed with grid_destroy). Complaints name file:line:column. */
int grid_load(struct grid **out, const char *path, struct cn_error *err);
/* The same from memory; `name` stands in messages. */
int grid_parse(struct grid **out, const char *name, const char *text, size_t n,
               struct cn_error *err);
void grid_destroy(struct grid *g); /* accepts NULL */

/* A recipe given on the command line: paper, cinch, or a YAML file. */
int grid_recipe(struct nn_recipe *r, const char *text, const char *net, struct cn_error *err);

#endif
