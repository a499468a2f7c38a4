/* ecg/source.h - what dataset.c needs to know of a folder to build a cache from it. One
 * implementation per kind of folder: ptbxl_source.c, mitdb_source.c. Private to ecg/. */
#ifndef CINCH_ECG_SOURCE_H
#define CINCH_ECG_SOURCE_H

#include "base/error.h"
#include "ecg/cache.h"
#include "ecg/dataset.h"
#include "ecg/inputs.h"

struct ecg_source {
    struct ecg_inputs inputs;
    char params[96];          /* every option that shapes the result, in words */
    struct ecg_dataset shape; /* complete after prepare() but for the fingerprint */
    int items;                /* units of parallel work per pass */
    int passes;
    void *impl;

    /* Reads what is needed to know the shape. Called once, before a build. */
    int (*prepare)(struct ecg_source *s, struct cn_error *err);
    /* Called alone before each pass, fills tables and statistics; may be NULL. */
    int (*start)(struct ecg_source *s, int pass, struct ecg_cache_writer *w, struct cn_error *err);
    /* Does one item of a pass; called from several threads. */
    int (*item)(struct ecg_source *s, int pass, int item, struct ecg_cache_writer *w,
                struct cn_error *err);
    void (*destroy)(struct ecg_source *s); /* frees impl */
};

/* These fill a zeroed *s; on failure dataset.c still clears it. */
int ecg_ptbxl_source(struct ecg_source *s, const struct ecg_build *b, struct cn_error *err);
int ecg_mitdb_source(struct ecg_source *s, const struct ecg_build *b, struct cn_error *err);

#endif
