/* ecg/registry.h - datasets by name (`cinch data add`), what lies in a folder, and records by name.
 *
 * The registry is a folder, $CINCH_DATA, else $XDG_DATA_HOME/cinch, else ~/.local/share/cinch, with
 * one small file datasets/NAME per dataset that holds the dataset's absolute path.
 */
#ifndef CINCH_ECG_REGISTRY_H
#define CINCH_ECG_REGISTRY_H

#include <stddef.h>

#include "base/error.h"

enum ecg_kind { ECG_NO_DATA, ECG_PTBXL, ECG_MITDB };

/* What kind of dataset lies in `dir`: PTB-XL where ptbxl_database.csv is, MIT-BIH where a header
 * has an .atr beside it. */
enum ecg_kind ecg_folder_kind(const char *dir);
const char *ecg_kind_name(enum ecg_kind kind); /* "ptbxl", "mitdb", "-" */

struct ecg_named {
    char name[64];
    char *dir; /* absolute */
};

struct ecg_registry {
    int n;
    struct ecg_named *of; /* [n], by name */
};

/* Names `dir`, which must hold a dataset; a name that exists is pointed to the new folder. Names
 * are 1-63 letters, digits, '.', '_', '-', and start with a letter or digit. CN_EINVALID,
 * CN_ENOTFOUND. */
int ecg_registry_add(const char *name, const char *dir, struct cn_error *err);
int ecg_registry_remove(const char *name, struct cn_error *err);
int ecg_registry_list(struct ecg_registry **out, struct cn_error *err); /* caller destroys */
void ecg_registry_destroy(struct ecg_registry *r);                      /* accepts NULL */

/* The folder of `data`: itself when it is a folder, else the one registered under that name.
 * CN_ENOTFOUND names the nearest registered name and says how to add one. */
int ecg_data_dir(const char *data, char *dir, size_t cap, struct cn_error *err);

/* The path, without ".hea", of a record: `record` itself when it is a path of one; else a record of
 * `data` (a folder or registered name; NULL: every registered dataset) by its name ("00547_lr",
 * "208") or, in PTB-XL, its ecg_id ("547"). */
int ecg_record_locate(const char *data, const char *record, char *path, size_t cap,
                      struct cn_error *err);

#endif
