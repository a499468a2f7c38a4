/* coordinator/admin.h - what cinchd does to a state folder besides serving from it. */
#ifndef CINCH_COORDINATOR_ADMIN_H
#define CINCH_COORDINATOR_ADMIN_H

#include <stdbool.h>
#include <stdio.h>

#include "base/error.h"

/* Verifies the database (integrity, and that everything in it can be loaded) and every blob that it
 * refers to (there, its size, its hash). Works beside a running coordinator. Each finding is a line
 * on `out`; CN_ECORRUPT when there were any. A blob that does not fit its hash is put aside in
 * STATE/quarantine: the coordinator then has it made again, or says that it must be sent again. */
int ad_check(const char *state, FILE *out, struct cn_error *err);

/* Removes blobs and partial uploads that nothing refers to, and whatever old temporary files.
 * CN_EBUSY while a coordinator works on the folder: it could be about to refer to one. */
int ad_gc(const char *state, FILE *out, struct cn_error *err);

/* A consistent copy of `state` in the new folder `to`, folders 0700 and files 0600: database by SQLite's
 * online backup, blobs as files of their own, or with `links` as second names of the same ones. Keys go
 * with it. Also beside a running coordinator. What is missing or damaged is a line on `out`, and
 * CN_ECORRUPT; the copy then has everything else. */
int ad_backup(const char *state, const char *to, bool links, FILE *out, struct cn_error *err);

#endif
