/* coordinator/guest.h - who comes through a local socket from another account (`cinchd --socket-group`).
 *
 * The coordinator's own account and root may do everything there and say which user they speak for. A
 * guest is who the kernel says, under the login name, and may read and submit: no worker (its results
 * would have to be believed) and no admin.
 */
#ifndef CINCH_COORDINATOR_GUEST_H
#define CINCH_COORDINATOR_GUEST_H

#include <stdbool.h>

#include "proto/limits.h"

/* True, and the account, when the other end of a connected Unix socket is neither this account nor
 * root; an end that cannot be known counts as one. */
bool guest_of(int fd, unsigned *uid);

/* The login name, or "uid-N" where there is none or it could not be a user's name here. */
void guest_name(unsigned uid, char name[PR_MAX_NAME + 1]);

#endif
