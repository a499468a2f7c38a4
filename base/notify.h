/* base/notify.h - what a service manager is told: systemd's notification protocol, one datagram to the
 * socket that NOTIFY_SOCKET names (sd_notify(3)). Where nobody asked to be told nothing happens. */
#ifndef CINCH_BASE_NOTIFY_H
#define CINCH_BASE_NOTIFY_H

#include <stdint.h>

/* "READY=1", "STOPPING=1", "STATUS=text", several with newlines between them. Any thread. */
void cn_notify(const char *state);

/* The loop that must not hang calls this each time around; now_ms as cn_mono_ms() gives it. Says
 * "WATCHDOG=1" three times in the span of WATCHDOG_USEC, when that is for this process. Any thread. */
void cn_notify_alive(int64_t now_ms);

#endif
