/* cpu/measure/engine.h - what can be timed: a file opened by one of the engines; private to
 * cinch-lat. */
#ifndef CINCH_CPU_MEASURE_ENGINE_H
#define CINCH_CPU_MEASURE_ENGINE_H

#include "cpu/measure/measure.h"

struct measure_subject {
    char net[24], kind[8], isa[24];
    int leads, samples, labels;
    float *x;      /* [leads, samples] the input; owned */
    float *logits; /* [labels] of the last run; owned */
    void *model;   /* the engine's own */
};

struct measure_engine_ops {
    /* Fills all of *s but x and logits. isa: NULL for the best. */
    int (*open)(struct measure_subject *s, const char *file, const char *isa, struct cn_error *err);
    void (*run)(void *subject); /* one inference: s->x to s->logits */
    void (*close)(struct measure_subject *s);
};

extern const struct measure_engine_ops measure_engine_rt;
extern const struct measure_engine_ops measure_engine_openblas; /* cinch_measure_peers */
extern const struct measure_engine_ops measure_engine_onednn;   /* cinch_measure_peers */

/* What cinch-lat does: reads the parent's request (one JSON document), measures in this process,
 * and gives the answer (malloc'ed JSON; {"error": {code, text}} when it failed). `engines` is
 * indexed by enum measure_engine; NULL entries are not built in. NULL: out of memory. */
char *measure_child(const char *request, const struct measure_engine_ops *const engines[3]);

/* A file's net, for the defaults that depend on it. CN_EINVALID: neither a checkpoint nor an
 * artifact. */
int measure_net_of(const char *file, char net[24], struct cn_error *err);

/* A fixed input that looks like a normalised ECG: zero mean, unit variance, a spike per second.
 * x [leads, samples]. */
void measure_input(float *x, int leads, int samples);

#endif
