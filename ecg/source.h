/* ecg/source.h - what dataset.c needs to know of a folder to build a cache from it, and verify.c to
 * check it. One implementation per kind of folder: ptbxl_source.c, mitdb_source.c. What a source's
 * check() accepts is what its build accepts, for they read a record by the same function. Private to
 * ecg/. */
#ifndef CINCH_ECG_SOURCE_H
#define CINCH_ECG_SOURCE_H

#include "base/error.h"
#include "ecg/cache.h"
#include "ecg/dataset.h"
#include "ecg/inputs.h"

#define ECG_SOURCE_LABELS 5 /* of both kinds */

/* One record of a folder. Name, patient and fold are known from the start, the rest once it was read. */
struct ecg_item {
    char name[64];
    char patient[80]; /* who it is of; "": not known */
    int fold;         /* 1-10; 0: it has none of its own */
    bool read;
    int64_t bytes;                /* of its signal files */
    int64_t bridged;              /* missing samples */
    int unknown;                  /* annotations with a code that WFDB does not define */
    int rows;                     /* of the dataset */
    int count[ECG_SOURCE_LABELS]; /* rows with each label */
    struct cn_hash samples;       /* of what the rows are made from: equal for copies */
};

struct ecg_source {
    struct ecg_inputs inputs;
    char params[128];         /* every option that shapes the result, in words */
    struct ecg_dataset shape; /* complete after prepare() but for the fingerprint */
    int items;                /* units of parallel work per pass */
    struct ecg_item *item_of; /* [items] */
    int passes;
    void *impl;

    /* Reads one record whole, as a build does, into item_of[item]; called from several threads. */
    int (*check)(struct ecg_source *s, int item, struct cn_error *err);
    /* What holds for the folder as a whole once all records were read (by prepare() or check()):
     * there is something to train on. Fills rows[enum ecg_part]. */
    int (*whole)(struct ecg_source *s, int rows[4], struct cn_error *err);

    /* Reads what is needed to know the shape. Called once, before a build. */
    int (*prepare)(struct ecg_source *s, struct cn_error *err);
    /* Called alone before each pass, fills tables and statistics; may be NULL. */
    int (*start)(struct ecg_source *s, int pass, struct ecg_cache_writer *w, struct cn_error *err);
    /* Does one item of a pass; called from several threads. */
    int (*item)(struct ecg_source *s, int pass, int item, struct ecg_cache_writer *w,
                struct cn_error *err);
    void (*destroy)(struct ecg_source *s); /* frees impl */
};

/* These fill a zeroed *s, as does the one that picks among them by what lies in the folder; on failure
 * the caller still clears it. */
int ecg_ptbxl_source(struct ecg_source *s, const struct ecg_build *b, struct cn_error *err);
int ecg_mitdb_source(struct ecg_source *s, const struct ecg_build *b, struct cn_error *err);
int ecg_source_open(struct ecg_source *s, const struct ecg_build *b, struct cn_error *err);
void ecg_source_clear(struct ecg_source *s); /* accepts a zeroed one */

/* Adds the way of meeting gaps to s->params, unless it is the usual one, which has no name there so
 * that fingerprints stay what they are. */
void ecg_source_gaps(struct ecg_source *s, const struct ecg_build *b);

#endif
