/* cli/selftest.h - `cinch selftest`: what a machine computes, checked against what it should be, as
 * lines of one report. Shared by the CPU's and the GPU's parts. */
#ifndef CINCH_CLI_SELFTEST_H
#define CINCH_CLI_SELFTEST_H

#include "cli/cli.h"
#include "ecg/dataset.h"
#include "nn/backend.h"

struct selftest {
    struct cli *c;
    bool quick; /* small shapes */
    bool talk; /* each check is said at once: the page itself goes elsewhere than to the terminal */
    json_t *checks; /* [{group, name, ok, detail, ..figures}] */
    int failed;
};

/* Adds a check; figures (taken, may be NULL) are merged into its object. */
void selftest_note(struct selftest *s, const char *group, const char *name, bool ok,
                   json_t *figures, const char *fmt, ...) __attribute__((format(printf, 6, 7)));

/* One backend under test. */
struct selftest_side {
    const char *name; /* "native" */
    struct nn_backend *be;
    int only_dnn; /* 1: runs only ops that cuDNN has */
};

/* Every op of the training on all sides: side 0 is believed, the others must agree with it within a
 * tolerance; all are timed. One check an op and direction. */
void selftest_ops(struct selftest *s, const char *group, const struct selftest_side *side, int n);

/* A made-up dataset that a net can learn: [n] records of the shape. Freed with selftest_data_free. */
int selftest_data(struct ecg_dataset **out, int n, int leads, int samples, struct cn_error *err);
void selftest_data_free(struct ecg_dataset *d); /* accepts NULL */

/* Trains a small net for a few epochs; loss of the last one. model: NULL, or where the trained one goes
 * (the caller's). */
struct nn_model;
int selftest_train(struct nn_backend *be, const char *net, const struct ecg_dataset *d,
                   double *loss, struct nn_model **model, struct cn_error *err);

/* The two parts. 0 when all could be run, whatever it showed. */
int selftest_cpu(struct selftest *s);
struct device_spec;
int selftest_gpu(struct selftest *s, const struct device_spec *spec);

#endif
