/* cli/data.h - opening what --data names. */
#ifndef CINCH_CLI_DATA_H
#define CINCH_CLI_DATA_H

#include "cli/cli.h"
#include "ecg/dataset.h"

/* `data` is a folder, a cache file, or a name that `cinch data add` registered. Builds the cache
 * with a progress bar when it is absent. *out is owned by the caller (ecg_dataset_close). */
int cli_dataset_open(struct cli *c, const char *data, struct ecg_dataset **out);

/* The same, put together in other ways than the usual one. */
struct cli_parting {
    int split;            /* of beats: enum ecg_split */
    bool drop_unlabelled; /* of PTB-XL */
};
/* CN_EINVALID when `data` is a cache file, whose parts are as they are, or when the folder's kind of
 * data knows no such choice. */
int cli_dataset_open_as(struct cli *c, const char *data, const struct cli_parting *how,
                        struct ecg_dataset **out);
/* What a coordinator knows a dataset so parted by: NAME, NAME@patient, NAME@labelled, and where --gaps
 * bridges, NAME@gaps0.2. CN_EINVALID for a malformed --gaps. */
int cli_dataset_name(struct cli *c, const char *name, const struct cli_parting *how, char *out,
                     size_t cap);
#define OPT_GAPS(c)                                                                                \
    OPT_TEXT("gaps", 0, &(c)->gaps, "HOW",                                                         \
             "missing samples: refuse (default), interpolate[:SECONDS] (0.2)")
#define OPT_SPLIT(out)                                                                             \
    OPT_CHOICE("split", out, "S", grid_split_names, "of beats: random (default), patient")

/* What a net must fit: CN_EINVALID when leads, samples, labels or the kind of task differ. */
struct nn_net;
int cli_dataset_fits(struct cli *c, const struct ecg_dataset *d, const struct nn_net *net);

/* What the model of file `path` must fit: that, and CN_EINVALID where labels differ by name or place, or
 * the rate differs. What the file does not name (labels, normalisation) is taken from the dataset. */
struct nn_model;
int cli_dataset_suits(struct cli *c, const struct ecg_dataset *d, struct nn_model *m,
                      const char *path);

/* The same of a teacher, with a warning where it would see the signals by another normalisation. */
int cli_teacher_suits(struct cli *c, const struct ecg_dataset *d, struct nn_model *m,
                      const char *path);

/* The i-th way in which a grid parts its dataset. */
struct grid;
struct cli_parting cli_grid_parting(const struct grid *g, int i);

int cli_cores(void); /* that this process may use, at least 1 */

#endif
