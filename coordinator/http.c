/* coordinator/http.c - the coordinator for browsers and monitors, to look at only: nothing here
 * changes anything.
 *
 *     GET /                    the dashboard page        GET /api/v1/status | runs | workers | data
 *     GET /metrics             Prometheus                GET /api/v1/runs/ID [/jobs | /report |
 * /log | /explain] GET /events              server-sent events        GET /api/v1/jobs/ID [/log |
 * /explain]
 *
 * libmicrohttpd runs one thread a connection; each puts its question to the loop and waits.
 * Loopback unless told otherwise. Every request needs the token of STATE/http.token, on loopback
 * too, since any account of the machine reaches that: as a bearer token, as ?token= (the link that
 * cinchd prints), or as the cookie that such a link sets. The cookie is made from the token by a
 * hash, because browsers send cookies to every port of a host. Against slow or hostile clients: few
 * connections, small headers, few streams of events, a connection that has not asked anything within
 * 10 s is cut, and one that was refused is closed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "coordinator/core.h"
#include "proto/check.h"

enum {
    CONNECTIONS = 64,
    PER_ADDRESS = 32,
    STREAMS = 16, /* of events */
    HEADER_BYTES = 16384,
    ASK_MS = 10000,    /* a connection must have asked by then */
    ANSWER_MS = 15000, /* the loop must have answered by then */
};

enum { Q_METRICS = 100, Q_EVENTS };

struct question {
    struct question *next;
    int what;             /* Cinch__Query__What, or the above */
    uint64_t after;       /* EVENTS */
    struct viewing v;     /* documents */
    struct buf answer;    /* the rest */
    bool done, abandoned; /* under the lock; abandoned: the loop frees it */
    pthread_cond_t ready;
};

struct visit { /* a connection that has not asked yet */
    int fd;
    int64_t since;
};

struct http {
    struct coordinator *c;
    struct MHD_Daemon *daemon;
    char url[128], link[256], token[80];
    char cookie_name[24], cookie[65]; /* what a browser that had the token sends */
    bool loopback;
    atomic_int streams;
    pthread_mutex_t lock;
    struct visit visit[CONNECTIONS * 2];
    atomic_int closing;
};

/* ---- questions */

static struct question *ask(struct coordinator *c, int what, const char *id, uint64_t after)
{
    struct question *q = calloc(1, sizeof *q);
    if (!q) return NULL;
    q->what = what;
    q->after = after;
    q->v.what = what;
    snprintf(q->v.id, sizeof q->v.id, "%s", id);
    pthread_cond_init(&q->ready, NULL);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ANSWER_MS / 1000;
    pthread_mutex_lock(&c->question_lock);
    struct question **last = &c->questions;
    while (*last) last = &(*last)->next;
    *last = q;
    uint64_t one = 1;
    int rc = write(c->wake_fd, &one, sizeof one) < 0 ? errno : 0;
    for (rc = 0; !q->done && !rc;)
        rc = pthread_cond_timedwait(&q->ready, &c->question_lock, &until);
    bool done = q->done;
    q->abandoned = !done;
    pthread_mutex_unlock(&c->question_lock);
    return done ? q : NULL;
}

static void free_question(struct question *q)
{
    if (!q) return;
    buf_free(&q->answer);
    view_clear(&q->v);
    pthread_cond_destroy(&q->ready);
    free(q);
}

/* Events after q->after as server-sent text; q->after moves on. */
static void answer_events(struct coordinator *c, struct question *q)
{
    uint64_t oldest = c->next_seq > CO_RING ? c->next_seq - CO_RING : 0;
    if (!q->after || q->after > c->next_seq) q->after = c->next_seq;
    if (q->after < oldest) q->after = oldest;
    for (int n = 0; q->after < c->next_seq && n < 500; q->after++) {
        const struct happening *h = &c->ring[q->after % CO_RING];
        if (!h->time) continue;
        buf_printf(&q->answer, "id: %llu\ndata: ", (unsigned long long)q->after);
        view_happening(c, q->after, h, &q->answer);
        buf_puts(&q->answer, "\n\n");
        n++;
    }
}

/* One turn; true: answered. */
static bool answer_one(struct coordinator *c, struct question *q)
{
    if (q->what == Q_METRICS)
        view_metrics(c, &q->answer);
    else if (q->what == Q_EVENTS)
        answer_events(c, q);
    else
        return view_part(c, &q->v);
    return true;
}

/* A turn for one that waits; long documents take several and go behind the others. */
bool http_answer(struct coordinator *c)
{
    pthread_mutex_lock(&c->question_lock);
    struct question *q = c->questions;
    if (q) c->questions = q->next;
    if (q && q->abandoned) {
        free_question(q);
    } else if (q && answer_one(c, q)) {
        q->done = true;
        pthread_cond_signal(&q->ready);
    } else if (q) {
        struct question **at = &c->questions;
        while (*at) at = &(*at)->next;
        q->next = NULL;
        *at = q;
    }
    bool more = c->questions != NULL;
    pthread_mutex_unlock(&c->question_lock);
    return more;
}

/* ---- answers */

static enum MHD_Result respond_with(struct MHD_Connection *con, unsigned code, const char *type,
                                    const char *text, size_t n, const char *cookie)
{
    struct MHD_Response *r =
        MHD_create_response_from_buffer(n, (void *)text, MHD_RESPMEM_MUST_COPY);
    if (!r) return MHD_NO;
    MHD_add_response_header(r, "Content-Type", type);
    MHD_add_response_header(r, "Cache-Control", "no-store");
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(
        r, "Content-Security-Policy",
        "default-src 'self'; style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; frame-ancestors 'none'");
    MHD_add_response_header(r, "Referrer-Policy", "no-referrer");
    if (cookie) MHD_add_response_header(r, "Set-Cookie", cookie);
    if (code == MHD_HTTP_UNAUTHORIZED) {
        MHD_add_response_header(r, "WWW-Authenticate", "Bearer");
        MHD_add_response_header(r, "Connection", "close");
    }
    enum MHD_Result ok = MHD_queue_response(con, code, r);
    MHD_destroy_response(r);
    return ok;
}

static enum MHD_Result respond(struct MHD_Connection *con, unsigned code, const char *type,
                               const char *text, size_t n)
{
    return respond_with(con, code, type, text, n, NULL);
}

static enum MHD_Result fail(struct MHD_Connection *con, unsigned code, const char *text)
{
    struct buf b = {0};
    buf_puts(&b, "{\"error\":");
    buf_json(&b, text);
    buf_puts(&b, "}\n");
    enum MHD_Result ok = b.text ? respond(con, code, "application/json", b.text, b.n) : MHD_NO;
    buf_free(&b);
    return ok;
}

static enum MHD_Result answer(struct http *h, struct MHD_Connection *con, int what, const char *id)
{
    struct question *q = ask(h->c, what, id, 0);
    if (!q) return fail(con, MHD_HTTP_SERVICE_UNAVAILABLE, "the coordinator is busy; ask again");
    enum MHD_Result ok;
    const struct buf *b = what == Q_METRICS ? &q->answer : &q->v.b;
    if (q->v.code)
        ok = fail(con, q->v.code == CN_ENOTFOUND ? MHD_HTTP_NOT_FOUND : MHD_HTTP_BAD_REQUEST,
                  q->v.error.text);
    else if (b->failed || !b->text)
        ok = fail(con, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory");
    else
        ok = respond(con, MHD_HTTP_OK,
                     what == Q_METRICS ? "text/plain; version=0.0.4" : "application/json", b->text,
                     b->n);
    free_question(q);
    return ok;
}

/* ---- server-sent events: the reader is asked for more until the connection ends */

struct stream {
    struct http *h;
    uint64_t after;
    struct buf pending;
    size_t sent;
    int64_t last;
};

static ssize_t stream_read(void *arg, uint64_t pos, char *out, size_t max)
{
    struct stream *s = arg;
    while (s->sent == s->pending.n) {
        if (atomic_load(&s->h->closing)) return MHD_CONTENT_READER_END_OF_STREAM;
        buf_free(&s->pending);
        s->sent = 0;
        struct question *q = ask(s->h->c, Q_EVENTS, "", s->after);
        if (q) {
            s->after = q->after;
            s->pending = q->answer;
            memset(&q->answer, 0, sizeof q->answer);
            free_question(q);
        }
        int64_t now = cn_mono_ms();
        if (!s->pending.n && now - s->last > 5000) buf_puts(&s->pending, ": alive\n\n");
        if (s->pending.n)
            s->last = now;
        else
            cn_sleep_ms(200);
    }
    size_t n = s->pending.n - s->sent < max ? s->pending.n - s->sent : max;
    memcpy(out, s->pending.text + s->sent, n);
    s->sent += n;
    return (ssize_t)n;
}

static void stream_free(void *arg)
{
    struct stream *s = arg;
    atomic_fetch_sub(&s->h->streams, 1);
    buf_free(&s->pending);
    free(s);
}

static enum MHD_Result events(struct http *h, struct MHD_Connection *con)
{
    if (atomic_fetch_add(&h->streams, 1) >= STREAMS) {
        atomic_fetch_sub(&h->streams, 1);
        return fail(con, MHD_HTTP_SERVICE_UNAVAILABLE, "too many follow the events; end some");
    }
    struct stream *s = calloc(1, sizeof *s);
    if (!s) {
        atomic_fetch_sub(&h->streams, 1);
        return MHD_NO;
    }
    const char *last = MHD_lookup_connection_value(con, MHD_HEADER_KIND, "Last-Event-ID");
    s->h = h;
    s->after = last ? strtoull(last, NULL, 10) + 1 : 0;
    s->last = cn_mono_ms();
    buf_puts(&s->pending, "retry: 2000\n\n");
    struct MHD_Response *r =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 8192, stream_read, s, stream_free);
    if (!r) {
        stream_free(s);
        return MHD_NO;
    }
    MHD_add_response_header(r, "Content-Type", "text/event-stream");
    MHD_add_response_header(r, "Cache-Control", "no-store");
    enum MHD_Result ok = MHD_queue_response(con, MHD_HTTP_OK, r);
    MHD_destroy_response(r);
    return ok;
}

/* ---- secrets */

static bool same(const char *given, const char *secret)
{
    return given && *secret && strlen(given) == strlen(secret) &&
           !sodium_memcmp(given, secret, strlen(secret));
}

static bool token_in(const struct http *h, const char *given)
{
    return same(given, h->token);
}

/* ---- the page: files of one flat folder, by plain names */

static const char *type_of(const char *name)
{
    static const char *const type[][2] = {{".html", "text/html; charset=utf-8"},
                                          {".js", "text/javascript"},
                                          {".css", "text/css"},
                                          {".svg", "image/svg+xml"}};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof type / sizeof *type; i++)
        if (!strcmp(type[i][0], dot)) return type[i][1];
    return "application/octet-stream";
}

static enum MHD_Result page(struct http *h, struct MHD_Connection *con, const char *name)
{
    char path[4096], *text;
    size_t n;
    if (!h->c->o.web || !pr_name_valid(name))
        return fail(con, MHD_HTTP_NOT_FOUND, "nothing here; see /api/v1/status");
    snprintf(path, sizeof path, "%s/%s", h->c->o.web, name);
    if (cn_file_read(path, 4 << 20, &text, &n, NULL))
        return fail(con, MHD_HTTP_NOT_FOUND, "no such page");
    char cookie[160];
    bool came = token_in(h, MHD_lookup_connection_value(con, MHD_GET_ARGUMENT_KIND, "token"));
    snprintf(cookie, sizeof cookie, "%s=%s; Path=/; HttpOnly; SameSite=Strict", h->cookie_name,
             h->cookie);
    enum MHD_Result ok =
        respond_with(con, MHD_HTTP_OK, type_of(name), text, n, came ? cookie : NULL);
    free(text);
    return ok;
}

/* ---- who may ask */

/* On loopback the name asked for must be loopback too: a web page elsewhere must not reach us
 * through its own name. */
static bool host_ok(struct MHD_Connection *con)
{
    const char *host = MHD_lookup_connection_value(con, MHD_HEADER_KIND, "Host");
    if (!host) return true;
    static const char *const good[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        size_t n = strlen(good[i]);
        if (!strncmp(host, good[i], n) && (!host[n] || host[n] == ':')) return true;
    }
    return false;
}

static bool may_ask(const struct http *h, struct MHD_Connection *con)
{
    if (h->loopback && !host_ok(con)) return false;
    if (h->c->o.http_open) return true;
    const char *bearer = MHD_lookup_connection_value(con, MHD_HEADER_KIND, "Authorization");
    if (bearer && !strncasecmp(bearer, "Bearer ", 7) && token_in(h, bearer + 7)) return true;
    return same(MHD_lookup_connection_value(con, MHD_COOKIE_KIND, h->cookie_name), h->cookie) ||
           token_in(h, MHD_lookup_connection_value(con, MHD_GET_ARGUMENT_KIND, "token"));
}

/* ---- routes */

static const struct {
    const char *path;
    int what;
} plain[] = {
    {"/metrics", Q_METRICS},
    {"/api/v1/status", CINCH__QUERY__WHAT__STATUS},
    {"/api/v1/runs", CINCH__QUERY__WHAT__LIST},
    {"/api/v1/workers", CINCH__QUERY__WHAT__WORKERS},
    {"/api/v1/data", CINCH__QUERY__WHAT__DATA},
};

static const struct {
    const char *tail;
    int what;
} tails[] = {
    {"", CINCH__QUERY__WHAT__SHOW},
    {"/jobs", CINCH__QUERY__WHAT__JOBS},
    {"/report", CINCH__QUERY__WHAT__REPORT},
    {"/log", CINCH__QUERY__WHAT__LOG},
    {"/explain", CINCH__QUERY__WHAT__EXPLAIN},
};

static enum MHD_Result route(struct http *h, struct MHD_Connection *con, const char *url)
{
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (!strcmp(url, plain[i].path)) return answer(h, con, plain[i].what, "");
    if (!strcmp(url, "/events")) return events(h, con);
    bool run = !strncmp(url, "/api/v1/runs/", 13);
    if (run || !strncmp(url, "/api/v1/jobs/", 13)) {
        char id[PR_MAX_NAME + 1] = "";
        const char *at = url + 13;
        size_t n = strcspn(at, "/");
        if (n && n < sizeof id) memcpy(id, at, n);
        for (size_t i = 0; *id && pr_name_valid(id) && i < sizeof tails / sizeof *tails; i++)
            if (!strcmp(at + n, tails[i].tail)) return answer(h, con, tails[i].what, id);
        return fail(con, MHD_HTTP_NOT_FOUND, "no such document");
    }
    return page(h, con, strcmp(url, "/") ? url + (*url == '/') : "index.html");
}

static void asked(struct http *h, struct MHD_Connection *con)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(con, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (!info) return;
    pthread_mutex_lock(&h->lock);
    for (size_t i = 0; i < sizeof h->visit / sizeof *h->visit; i++)
        if (h->visit[i].since && h->visit[i].fd == info->connect_fd) h->visit[i].since = 0;
    pthread_mutex_unlock(&h->lock);
}

/* Its signature is libmicrohttpd's. */
static enum MHD_Result handle(void *arg, struct MHD_Connection *con, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *n_data, void **state)
{
    struct http *h = arg;
    asked(h, con);
    if (strcmp(method, "GET") && strcmp(method, "HEAD"))
        return fail(con, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET");
    if (!may_ask(h, con))
        return fail(con, MHD_HTTP_UNAUTHORIZED,
                    "open the link that cinchd printed, or send the token of STATE/http.token as "
                    "Authorization: Bearer");
    return route(h, con, url);
}

static void connection(void *arg, struct MHD_Connection *con, void **state,
                       enum MHD_ConnectionNotificationCode code)
{
    struct http *h = arg;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(con, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (!info) return;
    pthread_mutex_lock(&h->lock);
    struct visit *free_slot = NULL;
    for (size_t i = 0; i < sizeof h->visit / sizeof *h->visit; i++) {
        struct visit *v = &h->visit[i];
        if (v->since && v->fd == info->connect_fd) v->since = 0;
        if (!v->since && !free_slot) free_slot = v;
    }
    if (code == MHD_CONNECTION_NOTIFY_STARTED && free_slot)
        *free_slot = (struct visit){info->connect_fd, cn_mono_ms()};
    pthread_mutex_unlock(&h->lock);
}

/* A request whose header drips in byte by byte is never idle; it is cut by its age instead. */
void http_tick(struct coordinator *c, int64_t now)
{
    struct http *h = c->http;
    if (!h) return;
    pthread_mutex_lock(&h->lock);
    for (size_t i = 0; i < sizeof h->visit / sizeof *h->visit; i++)
        if (h->visit[i].since && now - h->visit[i].since >
                                     (c->o.http_patience_ms > 0 ? c->o.http_patience_ms : ASK_MS)) {
            shutdown(h->visit[i].fd, SHUT_RDWR);
            h->visit[i].since = 0;
        }
    pthread_mutex_unlock(&h->lock);
}

/* ---- opening */

static int make_token(const char *path, struct cn_error *err)
{
    uint8_t raw[32];
    char hex[65];
    randombytes_buf(raw, sizeof raw);
    sodium_bin2hex(hex, sizeof hex, raw, sizeof raw);
    mode_t mask = umask(0077);
    int rc = cn_file_write(path, hex, 64, err);
    umask(mask);
    sodium_memzero(hex, sizeof hex);
    return rc;
}

/* One that others could read is no secret any more. */
static bool kept_well(const char *path)
{
    struct stat st;
    if (stat(path, &st)) return false;
    if (!(st.st_mode & 077)) return true;
    cn_warn("coordinator", "%s could be read by others: a new token is made", path);
    return false;
}

static int token_of(struct http *h, struct cn_error *err)
{
    char path[4096], *text;
    size_t n;
    snprintf(path, sizeof path, "%s/http.token", h->c->state_dir);
    int rc = kept_well(path) ? 0 : make_token(path, err);
    if (!rc) rc = cn_file_read(path, 256, &text, &n, err);
    if (rc) return rc;
    text[strcspn(text, "\r\n ")] = 0;
    if (strlen(text) < 16 || strlen(text) >= sizeof h->token)
        rc = cn_fail(err, CN_EINVALID, "%s: 16 to %zu characters are needed", path,
                     sizeof h->token - 1);
    else
        strcpy(h->token, text);
    sodium_memzero(text, n);
    free(text);
    return rc;
}

/* What the browser keeps says nothing about the token, and belongs to this port. */
static void make_cookie(struct http *h, unsigned port)
{
    uint8_t raw[32];
    crypto_generichash(raw, sizeof raw, (const uint8_t *)"cinch cookie", 12,
                       (const uint8_t *)h->token, strlen(h->token) < 64 ? strlen(h->token) : 64);
    sodium_bin2hex(h->cookie, sizeof h->cookie, raw, sizeof raw);
    snprintf(h->cookie_name, sizeof h->cookie_name, "cinch-%u", port);
    snprintf(h->link, sizeof h->link, "%s?token=%s", h->url, h->token);
}

/* "ADDR:PORT", ":PORT" or "PORT" */
static int parse_address(struct http *h, struct sockaddr_in *at, struct cn_error *err)
{
    const char *given = h->c->o.http, *colon = strrchr(given, ':');
    char addr[64] = "127.0.0.1", *end;
    if (colon && colon > given) snprintf(addr, sizeof addr, "%.*s", (int)(colon - given), given);
    if (!strcmp(addr, "localhost")) strcpy(addr, "127.0.0.1");
    unsigned long port = strtoul(colon ? colon + 1 : given, &end, 10);
    *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (*end || port > 65535 || inet_pton(AF_INET, addr, &at->sin_addr) != 1)
        return cn_fail(err, CN_EINVALID, "--http %s: give PORT or ADDRESS:PORT", given);
    h->loopback = (ntohl(at->sin_addr.s_addr) >> 24) == 127;
    return 0;
}

/* Where files are few, HTTP has an eighth of them. */
static unsigned connections(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur / 8 >= CONNECTIONS) return CONNECTIONS;
    return r.rlim_cur / 8 > 4 ? (unsigned)r.rlim_cur / 8 : 4;
}

int http_open(struct coordinator *c, struct cn_error *err)
{
    struct http *h = calloc(1, sizeof *h);
    if (!h) return cn_fail(err, CN_ENOMEM, "http: out of memory");
    h->c = c;
    c->http = h;
    pthread_mutex_init(&h->lock, NULL);
    struct sockaddr_in at;
    int rc = parse_address(h, &at, err);
    if (!rc && c->o.http_open && !h->loopback)
        rc = cn_fail(err, CN_EINVALID, "--http-open is for loopback; %s is open to others",
                     c->o.http);
    if (!rc && !c->o.http_open) rc = token_of(h, err);
    if (rc) return rc;
    unsigned most = connections(), share = most < PER_ADDRESS ? most : PER_ADDRESS;
    h->daemon = MHD_start_daemon(
        MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0, NULL,
        NULL, handle, h, MHD_OPTION_SOCK_ADDR, &at, MHD_OPTION_CONNECTION_LIMIT, most,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, share, MHD_OPTION_CONNECTION_TIMEOUT, 30u,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADER_BYTES, MHD_OPTION_NOTIFY_CONNECTION,
        connection, h, MHD_OPTION_END);
    if (!h->daemon) return cn_fail_errno(err, "--http %s: cannot listen", c->o.http);
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_BIND_PORT);
    char text[64];
    inet_ntop(AF_INET, &at.sin_addr, text, sizeof text);
    unsigned port = info ? info->port : ntohs(at.sin_port);
    snprintf(h->url, sizeof h->url, "http://%s:%u/", text, port);
    snprintf(h->link, sizeof h->link, "%s", h->url);
    if (!c->o.http_open) make_cookie(h, port);
    return 0;
}

void http_close(struct coordinator *c)
{
    struct http *h = c->http;
    if (!h) return;
    atomic_store(&h->closing, 1);
    /* threads that wait for an answer get none any more, but must not wait for it either */
    pthread_mutex_lock(&c->question_lock);
    for (struct question *q = c->questions; q; q = q->next) {
        q->v.code = cn_fail(&q->v.error, CN_EINTERRUPTED, "the coordinator is stopping");
        q->done = true;
        pthread_cond_signal(&q->ready);
    }
    c->questions = NULL;
    pthread_mutex_unlock(&c->question_lock);
    if (h->daemon) MHD_stop_daemon(h->daemon);
    pthread_mutex_destroy(&h->lock);
    sodium_memzero(h, sizeof *h);
    free(h);
    c->http = NULL;
}

const char *http_url(const struct coordinator *c)
{
    return c->http->url;
}

const char *http_link(const struct coordinator *c)
{
    return c->http->link;
}
