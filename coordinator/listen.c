/* coordinator/listen.c - see listen.h. */
#define _GNU_SOURCE
#include "coordinator/listen.h"

#include <errno.h>
#include <grp.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 1024 };

static int refuse(const char *endpoint, int fd, struct cn_error *err)
{
    int rc = cn_fail(err, CN_EIO, "cannot listen on %s: %s", endpoint, strerror(errno));
    if (fd >= 0) close(fd);
    return rc;
}

/* ---- ipc */

/* The address of ipc://PATH or ipc://@NAME; its bytes, or 0: too long, or nothing. */
static socklen_t address_of(const char *endpoint, struct sockaddr_un *at)
{
    const char *path = endpoint + 6;
    size_t n = strlen(path);
    *at = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (!n || n >= sizeof at->sun_path) return 0;
    memcpy(at->sun_path, path, n);
    if (*path == '@') at->sun_path[0] = 0;
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
}

bool listen_taken(const char *endpoint)
{
    struct sockaddr_un at;
    socklen_t n = address_of(endpoint, &at);
    int fd = n ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
    if (fd < 0) return false;
    bool taken = !connect(fd, (void *)&at, n) || errno == EAGAIN; /* EAGAIN: many wait there */
    close(fd);
    return taken;
}

/* Lets the group in. Nothing is changed that is so already: a service may be forbidden to. */
static int give_to_group(const char *endpoint, const char *group, struct cn_error *err)
{
    const char *path = endpoint + 6;
    struct group room, *g = NULL;
    char text[65536];
    struct stat st;
    if (*path == '@')
        return cn_fail(err, CN_EINVALID, "--socket-group %s: %s is no file that a group can own",
                       group, endpoint);
    if (getgrnam_r(group, &room, text, sizeof text, &g) || !g)
        return cn_fail(err, CN_EINVALID, "--socket-group %s: there is no such group", group);
    if (stat(path, &st) || (st.st_gid != g->gr_gid && chown(path, (uid_t)-1, g->gr_gid)) ||
        chmod(path, 0660))
        return cn_fail_errno(err, "--socket-group %s: cannot give %s to it", group, path);
    return 0;
}

static int listen_ipc(const char *endpoint, const char *group, char **bound, struct cn_error *err)
{
    struct sockaddr_un at;
    const char *path = endpoint + 6;
    socklen_t n = address_of(endpoint, &at);
    if (!n)
        return cn_fail(err, CN_EINVALID,
                       "--listen %s: the path of a socket has 1 to %zu bytes, this one has %zu",
                       endpoint, sizeof at.sun_path - 1, strlen(path));
    struct stat st;
    if (*path != '@' && !lstat(path, &st)) {
        if (!S_ISSOCK(st.st_mode))
            return cn_fail(err, CN_EEXISTS, "--listen %s: that is a file; give another path",
                           endpoint);
        if (listen_taken(endpoint))
            return cn_fail(err, CN_EBUSY,
                           "--listen %s: another coordinator listens there; stop it, or give "
                           "another path",
                           endpoint);
        unlink(path);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return refuse(endpoint, fd, err);
    mode_t mask = umask(0177); /* the socket is guarded by its permissions alone */
    int bad = bind(fd, (void *)&at, n) || listen(fd, BACKLOG);
    umask(mask);
    if (bad) return refuse(endpoint, fd, err);
    int rc = group ? give_to_group(endpoint, group, err) : 0;
    if (rc) {
        close(fd);
        if (*path != '@') unlink(path);
        return rc;
    }
    *bound = strdup(endpoint);
    return fd;
}

/* ---- tcp */

/* HOST and PORT of tcp://HOST:PORT; an IPv6 address stands in brackets. */
static int split(const char *endpoint, char host[256], char port[16], struct cn_error *err)
{
    const char *from = endpoint + 6, *colon = strrchr(from, ':');
    size_t n = colon ? (size_t)(colon - from) : 0;
    if (n >= 2 && *from == '[' && from[n - 1] == ']') {
        from++;
        n -= 2;
    }
    const char *p = colon ? colon + 1 : "";
    unsigned long number = strtoul(p, NULL, 10);
    bool good = !strcmp(p, "*") || (*p && strspn(p, "0123456789") == strlen(p) && number < 65536);
    if (!n || n >= 256 || !good)
        return cn_fail(err, CN_EINVALID, "--listen %s: give tcp://ADDRESS:PORT", endpoint);
    memcpy(host, from, n);
    host[n] = 0;
    snprintf(port, 16, "%lu", *p == '*' ? 0 : number);
    return 0;
}

/* The address of a network interface of that name. */
static bool of_interface(const char *name, const char *port, struct sockaddr_storage *at,
                         socklen_t *n)
{
    struct ifaddrs *all, *i;
    if (getifaddrs(&all)) return false;
    for (i = all; i; i = i->ifa_next)
        if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET && !strcmp(i->ifa_name, name)) break;
    if (i) {
        struct sockaddr_in v4;
        memcpy(&v4, i->ifa_addr, sizeof v4);
        v4.sin_port = htons((uint16_t)atoi(port));
        memcpy(at, &v4, sizeof v4);
        *n = sizeof v4;
    }
    freeifaddrs(all);
    return i != NULL;
}

static int resolve(const char *endpoint, const char *host, const char *port,
                   struct sockaddr_storage *at, socklen_t *n, struct cn_error *err)
{
    if (of_interface(host, port, at, n)) return 0;
    struct addrinfo hint = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM}, *found;
    bool all = !strcmp(host, "*");
    if (all) hint.ai_family = AF_INET6;
    int bad = getaddrinfo(all ? NULL : host, port, &hint, &found);
    if (bad) return cn_fail(err, CN_EINVALID, "--listen %s: %s", endpoint, gai_strerror(bad));
    memcpy(at, found->ai_addr, found->ai_addrlen);
    *n = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

static void write_address(const struct sockaddr_storage *at, socklen_t n, const char *asked,
                          char out[400])
{
    char host[256], port[16];
    int flags = NI_NUMERICHOST | NI_NUMERICSERV;
    if (getnameinfo((const void *)at, n, host, sizeof host, port, sizeof port, flags)) {
        snprintf(out, 400, "%s", asked);
        return;
    }
    snprintf(out, 400, strchr(host, ':') ? "tcp://[%s]:%s" : "tcp://%s:%s", host, port);
}

static int listen_tcp(const char *endpoint, char **bound, struct cn_error *err)
{
    char host[256], port[16], text[400];
    struct sockaddr_storage at;
    socklen_t n;
    int rc = split(endpoint, host, port, err);
    if (!rc) rc = resolve(endpoint, host, port, &at, &n, err);
    if (rc) return rc;
    int fd = socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1, zero = 0;
    if (fd < 0 && at.ss_family == AF_INET6 && !strcmp(host, "*")) { /* a machine without IPv6 */
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
        memcpy(&at, &v4, n = sizeof v4);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    }
    if (fd < 0) return refuse(endpoint, fd, err);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (at.ss_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    if (bind(fd, (void *)&at, n) || listen(fd, BACKLOG)) return refuse(endpoint, fd, err);
    n = sizeof at;
    getsockname(fd, (void *)&at, &n);
    write_address(&at, n, endpoint, text);
    *bound = strdup(text);
    return fd;
}

int listen_open(const char *endpoint, const char *group, char **bound, struct cn_error *err)
{
    int fd = !strncmp(endpoint, "ipc://", 6) ? listen_ipc(endpoint, group, bound, err)
                                             : listen_tcp(endpoint, bound, err);
    if (fd >= 0 && !*bound) {
        close(fd);
        return cn_fail(err, CN_ENOMEM, "out of memory");
    }
    return fd;
}
