/* ecg/ptbxl.h - PTB-XL's two tables: which records there are, their folds and diagnostic
 * super-classes. */
#ifndef CINCH_ECG_PTBXL_H
#define CINCH_ECG_PTBXL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define ECG_PTBXL_LABELS 5

extern const char *const ecg_ptbxl_label[ECG_PTBXL_LABELS]; /* NORM MI CD HYP STTC */

struct ecg_ptbxl_row {
    int ecg_id;
    int fold;                        /* strat_fold, 1-10 */
    int line;                        /* in ptbxl_database.csv, for messages */
    uint8_t label[ECG_PTBXL_LABELS]; /* 0 or 1 */
    char patient[80]; /* patient_id where the table has that column, in one form; "": not known */
    char file[64];    /* filename_lr: "records100/00000/00001_lr"; plain UTF-8 */
};

struct ecg_ptbxl {
    int n;
    struct ecg_ptbxl_row *row; /* [n], in the table's order */
};

/* Reads ptbxl_database.csv and scp_statements.csv of `dir`. An SCP code counts when
 * scp_statements.csv says diagnostic == 1, whatever its likelihood; codes that are not in that
 * table are ignored, as PTB-XL's own example does. CN_EINVALID names file:line and field. *out is
 * owned by the caller. */
int ecg_ptbxl_load(struct ecg_ptbxl **out, const char *dir, bool drop_unlabelled,
                   struct cn_error *err);

/* A table in memory: text [n], followed by one writable byte; it is cut in place. */
struct ecg_table {
    const char *file; /* for messages */
    char *text;
    size_t n;
};

/* The same from two tables in memory: scp_statements.csv and ptbxl_database.csv. */
int ecg_ptbxl_parse(struct ecg_ptbxl **out, const struct ecg_table *statements,
                    const struct ecg_table *database, bool drop_unlabelled, struct cn_error *err);
void ecg_ptbxl_destroy(struct ecg_ptbxl *p); /* accepts NULL */

#endif
