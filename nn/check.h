/* nn/check.h - the door that every model's numbers pass, on their way in and out. Private to this room. */
#ifndef CINCH_NN_CHECK_H
#define CINCH_NN_CHECK_H

#include "nn/model.h"

/* Every parameter is finite, no variance is below 0, and no sum within the net can leave float's
 * range for inputs up to NN_CHECK_INPUT. CN_ECORRUPT with the tensor or layer. `name`: the file. */
#define NN_CHECK_INPUT 1000.0 /* of a normalised input: standard deviations */
int nn_model_check(const struct nn_model *m, const char *name, struct cn_error *err);

/* The first part alone, of a flat vector [n_floats], or of the first n of it (n_params). */
int nn_params_check(const struct nn_net *net, const float *params, size_t n, const char *name,
                    struct cn_error *err);

#endif
