/* coordinator/admin_private.h - what admin.c and backup.c share. */
#ifndef CINCH_COORDINATOR_ADMIN_PRIVATE_H
#define CINCH_COORDINATOR_ADMIN_PRIVATE_H

#include <sqlite3.h>

#include "base/hash.h"
#include "coordinator/admin.h"

int ad__open_db(const char *state, sqlite3 **db, struct cn_error *err);

/* Calls `each` once for every blob that something refers to, with words for what that is. */
int ad__each_blob(sqlite3 *db,
                  int (*each)(void *arg, const struct cn_hash *hash, int64_t size, const char *what,
                              struct cn_error *err),
                  void *arg, struct cn_error *err);

#endif
