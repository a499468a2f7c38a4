/* ecg/verify.h - reading every record of a dataset once, by the functions that build a cache of it, and
 * the caches that there are: what is sound here can be trained on, and what can't is named. */
#ifndef CINCH_ECG_VERIFY_H
#define CINCH_ECG_VERIFY_H

#include <stdint.h>

#include "base/error.h"
#include "ecg/dataset.h"
#include "ecg/registry.h"

struct ecg_verify {
    const char *dir;
    const char *cache_dir;                        /* as struct ecg_build's */
    struct ecg_gaps gaps;                         /* as a build with the same choice meets them */
    int threads;                                  /* ≤ 0: all cores */
    void (*problem)(void *arg, const char *text); /* may be NULL; in the records' order */
    void (*remark)(void *arg, const char *text);  /* may be NULL; see remarks.h */
    void (*progress)(void *arg, int done, int total); /* may be NULL; one thread at a time */
    void *arg;
};

struct ecg_verified {
    enum ecg_kind kind;
    int records, damaged;       /* how many there are, how many of them a build would refuse */
    int caches, damaged_caches; /* of those built with a default choice of options */
    int64_t bytes;              /* of signals read */
    int n_labels;               /* 5 */
    char label[ECG_MAX_LABELS][8];
    int count[11]
             [ECG_MAX_LABELS]; /* PTB-XL: [fold 1-10][label] records; MIT-BIH: [0][class] beats */
    int rows[11];              /* records per fold; MIT-BIH: [0] beats */
    int unlabelled;            /* PTB-XL records without a label */
    int unknown;               /* MIT-BIH: annotations with an undefined code */
    int remarks;               /* how many were told */
    int64_t bridged;           /* missing samples that were bridged */
};

/* 0 when a cache can be built of the folder; CN_ECORRUPT with the first problem in *err when some are not;
 * another code when the dataset could not be read at all. *out is filled either way. */
int ecg_verify(const struct ecg_verify *v, struct ecg_verified *out, struct cn_error *err);

#endif
