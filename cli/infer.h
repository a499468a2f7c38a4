/* cli/infer.h - what the two kinds of `cinch infer` share. Private to the command. */
#ifndef CINCH_CLI_INFER_H
#define CINCH_CLI_INFER_H

#include <jansson.h>

#include "cli/cli.h"
#include "cli/model.h"

struct infer_args {
    const char *data;        /* where records are looked for by name; NULL: everywhere known */
    const char *annotations; /* of the one record; NULL: its own */
    int n;
    char **record; /* [n] paths or names */
};

/* Probabilities p[n, labels] of inputs x[n, leads, samples], by either kind of model. */
int infer_rows(struct cli *c, const struct cli_model *m, const float *x, int n, float *p);

/* {"NORM": 0.1, ..} of one row p[labels]. */
json_t *infer_probability(const struct cli_model *m, const float *p);

/* Classifies every annotated beat of each record and answers. */
int infer_beats(struct cli *c, const struct infer_args *a, const struct cli_model *m);

#endif
