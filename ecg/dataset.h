/* ecg/dataset.h - a preprocessed dataset: one mmap'ed cache file, ready for the trainer.
 *
 * Built once from PTB-XL or MIT-BIH files and keyed by the fingerprint of its inputs and of the
 * preprocessing, so that equal inputs give the same file and the same fingerprint on every machine.
 */
#ifndef CINCH_ECG_DATASET_H
#define CINCH_ECG_DATASET_H

#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "ecg/signal.h"

#define ECG_MAX_LEADS 12
#define ECG_MAX_LABELS 8

enum ecg_task {
    ECG_MULTI_LABEL = 1, /* y[i][l] in {0, 1}, any number of ones: sigmoid and BCE */
    ECG_ONE_LABEL = 2,   /* exactly one 1 per row: softmax and cross-entropy */
};

/* Which part a record belongs to. */
enum ecg_part { ECG_TRAIN = 0, ECG_VALIDATION = 1, ECG_TEST = 2, ECG_UNUSED = 3 };

struct ecg_dataset {
    char name[64];
    enum ecg_task task;
    int n;                         /* records (PTB-XL) or beats (MIT-BIH) */
    int n_leads;                   /* 12; 1 for beats */
    int n_samples;                 /* 1000; 260 for beats */
    int n_labels;                  /* 5 */
    float hz;                      /* 100; 360 */
    char label[ECG_MAX_LABELS][8]; /* NORM MI CD HYP STTC; N S V F Q */
    float mean[ECG_MAX_LEADS]; /* per lead, mV, over the training part, before normalisation; 0 for
                                  beats */
    float std[ECG_MAX_LEADS];  /* 1 for beats: each beat is z-scored by itself */
    struct cn_hash fingerprint;
    /* Borrowed from the mapping; valid until ecg_dataset_close. */
    const float *x;   /* [n, n_leads, n_samples], filtered and normalised */
    const uint8_t *y; /* [n, n_labels] */
    const uint8_t
        *fold; /* [n] 1-10 (PTB-XL strat_fold); beats: 1 train, 9 validation, 10 test, 0 unused */
    const uint8_t *part; /* [n] enum ecg_part */
    const char (
        *id)[24];  /* [n] record name, 0-terminated; beats: "100:37054" = record and R sample */
    void *mapping; /* private */
};

void ecg_dataset_close(struct ecg_dataset *d); /* accepts NULL; frees d */

/* Gives the samples another normalisation than the cache has: mean [n_leads], mV, and std [n_leads],
 * above 0, of the model that is to read them. Takes memory for all samples, unless they are the same.
 * CN_ENOMEM, or CN_EINVALID with the record and lead that would not stay finite; d is as it was. */
int ecg_dataset_renormalise(struct ecg_dataset *d, const float *mean, const float *std,
                            struct cn_error *err);

/* Indexes of the records of `part`, ascending: malloc'ed *idx (caller frees), *n of them. */
int ecg_dataset_part(const struct ecg_dataset *d, enum ecg_part part, uint32_t **idx, int *n,
                     struct cn_error *err);

/* Weights against class imbalance over `part`: all / (classes present * count of the class), as
 * scikit-learn's "balanced"; 0 for a class without a row and beyond n_labels. */
void ecg_dataset_class_weights(const struct ecg_dataset *d, enum ecg_part part,
                               float weight[ECG_MAX_LABELS]);

/* What to build from `dir`. */
struct ecg_build {
    const char *dir; /* a PTB-XL folder (ptbxl_database.csv) or a MIT-BIH folder (RECORDS or *.hea):
                        told apart by content */
    const char *cache_dir; /* NULL: $CINCH_CACHE, else $XDG_CACHE_HOME/cinch, else ~/.cache/cinch */
    int drop_unlabelled;   /* PTB-XL: leave out records without a diagnostic label */
    int split;             /* MIT-BIH: enum ecg_split */
    uint64_t seed;         /* MIT-BIH random split */
    struct ecg_gaps gaps;  /* what becomes of missing samples: refused, unless it says otherwise */
    int threads;           /* ≤ 0: all cores */
    void (*progress)(void *arg, int done,
                     int total); /* may be NULL; called from one thread at a time */
    void *progress_arg;
};

enum ecg_split { ECG_SPLIT_RANDOM = 0, ECG_SPLIT_INTER_PATIENT = 1 };

/* Opens the cache of `b`, building it first when it is absent. *out is owned by the caller
 * (ecg_dataset_close). Errors name file and line or record: CN_ENOTFOUND, CN_ECORRUPT (truncated
 * .dat, checksum), CN_EINVALID (CSV row). */
int ecg_dataset_open(struct ecg_dataset **out, const struct ecg_build *b, struct cn_error *err);

/* Opens the cache of `b` only where one is known for the folder as it is now; else *out is NULL. Builds
 * nothing and hashes nothing. */
int ecg_dataset_peek(struct ecg_dataset **out, const struct ecg_build *b, struct cn_error *err);

/* Opens a cache file by its path (a worker that was sent one). */
int ecg_dataset_map(struct ecg_dataset **out, const char *path, struct cn_error *err);

/* Where the cache file of `b` lies once built (for sending it to a worker); path has room for `cap`
 * bytes. */
int ecg_dataset_path(const struct ecg_dataset *d, char *path, int cap);

#endif
