/* coordinator/listen.h - listening sockets from endpoints, as ZeroMQ writes them.
 *
 *     ipc://PATH               a Unix socket; one left behind there is replaced,
 *                              anything else is not
 *     ipc://@NAME              one without a file (Linux)
 *     tcp://HOST:PORT          HOST: an address, a name, a network interface or "*" (all, IPv4 and
 *                              IPv6); PORT: a number or "*" (a free one)
 */
#ifndef CINCH_COORDINATOR_LISTEN_H
#define CINCH_COORDINATOR_LISTEN_H

#include <stdbool.h>

#include "base/error.h"

/* Whether somebody listens on an ipc:// endpoint now. */
bool listen_taken(const char *endpoint);

/* A non-blocking listening socket; a socket of ipc://PATH is mode 0600, or with `group` (a name; NULL:
 * none) 0660 and that group's. CN_EBUSY: somebody listens there. *bound is the endpoint in full, malloc'ed. CN_EINVALID: not an
 * endpoint; CN_EIO and others: the system's answer. */
int listen_open(const char *endpoint, const char *group, char **bound, struct cn_error *err);

#endif
