/* coordinator/listen.h - listening sockets from endpoints, as ZeroMQ writes them.
 *
 *     ipc://PATH               a Unix socket, mode 0600; a socket left behind there is replaced,
 *                              anything else is not
 *     ipc://@NAME              one without a file (Linux)
 *     tcp://HOST:PORT          HOST: an address, a name, a network interface or "*" (all, IPv4 and
 *                              IPv6); PORT: a number or "*" (a free one)
 */
#ifndef CINCH_COORDINATOR_LISTEN_H
#define CINCH_COORDINATOR_LISTEN_H

#include "base/error.h"

/* A non-blocking listening socket; *bound is the endpoint in full, malloc'ed. CN_EINVALID: not an
 * endpoint; CN_EIO and others: the system's answer. */
int listen_open(const char *endpoint, char **bound, struct cn_error *err);

#endif
