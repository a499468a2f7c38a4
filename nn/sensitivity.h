/* nn/sensitivity.h - how much of a pruning stage each layer gives, by how much it hurts.
 *
 * Each layer is pruned alone to a few fractions, without training, and the loss on validation
 * records says what that costs. A stage then takes weight by weight, or structure by structure,
 * where the curve is lowest: in the end all layers stand at about one cost, layers that hurt less
 * have given more, and the stage's total is met exactly. After Han et al., "Learning both weights and
 * connections for efficient neural networks", NIPS 2015, whose thresholds were chosen by such a scan.
 */
#ifndef CINCH_NN_SENSITIVITY_H
#define CINCH_NN_SENSITIVITY_H

#include "nn/backend.h"
#include "nn/model.h"
#include "nn/prune.h"

#define NN_SCAN_POINTS 4
extern const double nn_scan_fraction[NN_SCAN_POINTS]; /* of what is left, ascending in (0, 1) */

struct nn_scan_group { /* a width, or a layer's weights */
    int index;         /* of the width or layer */
    int64_t left;
    double
        hurt[NN_SCAN_POINTS]; /* growth of the mean loss with that fraction removed; may be < 0 */
};

struct nn_scan {
    int n;
    struct nn_scan_group group[NN_MAX_LAYERS];
};

/* What the scan reads. */
struct nn_scan_how {
    struct nn_backend *backend;
    const struct ecg_dataset *data; /* its validation part; where it has none, the training part */
    int records;                    /* at most so many of it, evenly spread; 0: 1024 */
};

/* One group a width. norm and score as for nn_prune. */
int nn_scan_structures(const struct nn_scan_how *how, const struct nn_model *m, enum nn_norm norm,
                       const double *score, struct nn_scan *out, struct cn_error *err);
/* One group a layer that has weights to prune. */
int nn_scan_weights(const struct nn_scan_how *how, const struct nn_model *m, struct nn_scan *out,
                    struct cn_error *err);

/* Shares `remove` out: take[g] of group g, Σ take = remove; at least one of each group stays.
 * CN_EINVALID when that is not possible. */
int nn_scan_share(const struct nn_scan *s, int64_t remove, int64_t *take, struct cn_error *err);

/* Both steps: how many structures each width keeps (keep: [n_widths]) so that `total` stay over all
 * of them, or weights each layer (keep: [n_layers]). More than there are: all stay. */
int nn_sensitivity_structures(const struct nn_scan_how *how, const struct nn_model *m,
                              enum nn_norm norm, const double *score, int64_t total, int *keep,
                              struct cn_error *err);
int nn_sensitivity_weights(const struct nn_scan_how *how, const struct nn_model *m, int64_t total,
                           size_t *keep, struct cn_error *err);

#endif
