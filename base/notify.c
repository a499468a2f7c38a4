/* base/notify.c - see notify.h. Written out here, and not taken from libsystemd, because it is one
 * datagram. */
#include "base/notify.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void cn_notify(const char *state)
{
    const char *where = getenv("NOTIFY_SOCKET");
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    size_t n = where ? strlen(where) : 0;
    if (n < 2 || n >= sizeof at.sun_path || (*where != '/' && *where != '@')) return;
    memcpy(at.sun_path, where, n);
    if (*where == '@') at.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return;
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const void *)&at, length) < 0) {
        /* who asked does not listen any more: the work goes on */
    }
    close(fd);
}

/* A third of the time in which a sign of life is wanted, in ms; 0: none is. */
static int64_t period(void)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    if (!usec || (pid && strtoll(pid, NULL, 10) != (long long)getpid())) return 0;
    int64_t ms = strtoll(usec, NULL, 10) / 3000;
    return ms > 0 ? ms : 0;
}

void cn_notify_alive(int64_t now_ms)
{
    static _Atomic int64_t every = -1, next;
    int64_t p = atomic_load(&every);
    if (p < 0) atomic_store(&every, p = period());
    if (!p || now_ms < atomic_load(&next)) return;
    atomic_store(&next, now_ms + p);
    cn_notify("WATCHDOG=1");
}
