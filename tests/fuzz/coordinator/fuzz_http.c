/* Fuzz target of HTTP: a coordinator in this process, with a small queue, gets the input as the bytes of one connection on loopback.
 * Whatever it was, what comes back is nothing or an answer of HTTP whose body, where it is said to be JSON, is JSON; and the next
 * connection is served. The token is not asked for, so that requests reach the documents. */
#include <arpa/inet.h>
#include <jansson.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "coordinator/coordinator.h"

enum { ROOM = 1 << 18, WAIT_MS = 2000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct coordinator *c;
static char folder[64];
static struct sockaddr_in at = {.sin_family = AF_INET};

static void must(int ok, const char *what)
{
    if (ok) return;
    fprintf(stderr, "fuzz_http: %s\n", what);
    __builtin_trap();
}

static void clean_up(void)
{
    co_destroy(c);
    cn_rmtree(folder, NULL);
}

static void prepare(void)
{
    struct cn_error err = {0};
    unsigned port = 0;
    cn_log_level(CN_SILENT);
    snprintf(folder, sizeof folder, "%s/fuzz-http-%ld",
             cn_dir_exists("/dev/shm") ? "/dev/shm" : "/tmp", (long)getpid());
    struct co_options o = {.state = folder,
                           .http = "0",
                           .http_open = true,
                           .http_patience_ms = 500,
                           .web = CINCH_WEB,
                           .reserve_mb = -1};
    must(!co_create(&c, &o, &err) && !co_start(c, &err), err.text);
    must(sscanf(co_http(c), "http://127.0.0.1:%u", &port) == 1, "no port");
    at.sin_port = htons((uint16_t)port);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    atexit(clean_up);
}

/* Sends the bytes on a connection of their own; what comes back until its end, or until nothing has come for a while. */
static size_t talk(const void *data, size_t n, char *answer)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(fd >= 0 && !connect(fd, (struct sockaddr *)&at, sizeof at), "the door is closed");
    size_t sent = 0, got = 0;
    for (ssize_t k;
         sent < n && (k = send(fd, (const char *)data + sent, n - sent, MSG_NOSIGNAL)) > 0;)
        sent += (size_t)k;
    shutdown(fd, SHUT_WR);
    struct pollfd p = {fd, POLLIN, 0};
    while (got < ROOM - 1 && poll(&p, 1, WAIT_MS) > 0) {
        ssize_t k = recv(fd, answer + got, ROOM - 1 - got, 0);
        if (k <= 0) break;
        got += (size_t)k;
        if (strstr(answer, "text/event-stream")) break; /* goes on for ever */
    }
    close(fd);
    answer[got] = 0;
    return got;
}

/* The first answer's body, where the head says JSON and its length. */
static void check(const char *answer, size_t n)
{
    if (!n) return;
    must(!strncmp(answer, "HTTP/1.", 7), "an answer that is none");
    const char *end = strstr(answer, "\r\n\r\n"),
               *type = strstr(answer, "Content-Type: application/json"),
               *length = strstr(answer, "Content-Length: ");
    if (!end || !type || type > end || !length || length > end) return;
    size_t body = strtoul(length + 16, NULL, 10);
    if ((size_t)(answer + n - (end + 4)) < body || !body)
        return; /* a HEAD, or cut by our own room */
    json_t *doc = json_loadb(end + 4, body, 0, NULL);
    must(doc != NULL, "a body that is no JSON");
    json_decref(doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char plain[] =
        "GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    static char answer[ROOM];
    static unsigned turn;
    if (!c) prepare();
    check(answer, talk(data, n, answer));
    if (++turn % 16) return 0;
    size_t k = 0;
    bool served = false;
    for (int i = 0; !served && i < 100;
         i++) { /* places of streams that we left are free within seconds */
        if (i) usleep(100000);
        k = talk(plain, sizeof plain - 1, answer);
        served = k > 12 && !strncmp(answer, "HTTP/1.1 200", 12);
    }
    must(served, "a plain question is not answered");
    check(answer, k);
    return 0;
}
