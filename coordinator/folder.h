/* coordinator/folder.h - the state folder as a place on the disk: who may look into it, folders that
 * are safe once made, and whether the last coordinator ended in order.
 *
 *     STATE/queue.db, -wal, -shm   the queue (store.h)
 *     STATE/blobs, partial         models, checkpoints, datasets; on their way in (blobs.h)
 *     STATE/quarantine             what did not fit its hash, put aside
 *     STATE/server.key, http.token the coordinator's secrets, never open to a group
 *     STATE/lock                   held while somebody works here
 *     STATE/running                there while a coordinator works, and after one that did not end in order
 */
#ifndef CINCH_COORDINATOR_FOLDER_H
#define CINCH_COORDINATOR_FOLDER_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

/* Makes what is missing, and takes away what others may do with it: folders 0700 and files 0600, or,
 * with `group`, 0750 and 0640 but for the secrets. Only what cinch makes there, and is one's own. */
int fo_open(const char *state, bool group, struct cn_error *err);

/* The mode of what is made in it: 0600 or 0640. */
mode_t fo_file_mode(void);

/* Makes one folder, 0700 or 0750, and syncs the one it lies in. Fine when it is there. */
int fo_make(const char *path, struct cn_error *err);

/* fsync of a folder: the names in it are safe. */
int fo_sync(const char *path, struct cn_error *err);

/* Notes that a coordinator works here; *unclean: another one did, and has not ended in order. */
int fo_begin(const char *state, bool *unclean, struct cn_error *err);
void fo_end(const char *state);

#endif
