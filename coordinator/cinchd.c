/* coordinator/cinchd.c - the coordinator's program. */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/guard.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/place.h"
#include "coordinator/admin.h"
#include "coordinator/coordinator.h"
#include "coordinator/listen.h"
#include "proto/client.h"

static const char usage[] =
    "cinchd - cinch's coordinator: keeps the queue, hands out jobs, collects results\n"
    "\n"
    "  cinchd --state DIR [--listen ENDPOINT].. [--http ADDR] [--web DIR]\n"
    "  cinchd check  --state DIR         verify the queue and every blob; exit 1 when something is "
    "wrong. A damaged\n"
    "                                    blob is put aside in DIR/quarantine, to be made again "
    "(also as --check)\n"
    "  cinchd gc     --state DIR         remove blobs that nothing refers to\n"
    "  cinchd backup --state DIR -o DIR [--link]\n"
    "                                    copy a state folder, also while a coordinator works on "
    "it; --link: blobs\n"
    "                                    get a second name instead of a second copy\n"
    "\n"
    "  --state DIR        queue, blobs and keys; made when absent\n"
    "  --listen ENDPOINT  ipc://PATH (guarded by file permissions) or tcp://ADDR:PORT (CURVE keys; "
    "cinch keys create);\n"
    "                     may be given up to 8 times; the local socket that cinch and the workers\n"
    "                     use is there as well, unless another ipc:// is given\n"
    "  --no-local         with --listen tcp://: no local socket\n"
    "  --socket-group G   accounts of group G may read and submit through ipc:// sockets\n"
    "  --http ADDR        [ADDRESS:]PORT: dashboard, /metrics, /api/v1, /events; loopback unless "
    "an address is given.\n"
    "                     Needs the token in DIR/http.token; the link that carries it goes to "
    "standard output\n"
    "  --http-open        on loopback without the token: for any account of this machine to read\n"
    "  --web DIR          the dashboard's folder; the one that belongs to this program\n"
    "  --lost SECONDS     silence after which a worker's jobs go elsewhere (10)\n"
    "  --reserve MB       room to leave on the disk: with less, no new work is accepted (64);\n"
    "                     what is coming in counts\n"
    "  --quota MB         what one user may keep here, in all: uploads from their first chunk on, "
    "results, recipes;\n"
    "                     who is over it can neither send nor submit (0: no limit)\n"
    "  --scrub MB         read all blobs again and again, so many MB a second, to find damaged "
    "ones (4; 0: never)\n"
    "  --group-access     the state folder's group may read it, but for the keys; else it is its "
    "owner's alone\n"
    "  --user-runs N      runs that one user may have that are not done (1000); a thousand times "
    "as "
    "many jobs\n"
    "  --quiet            only warnings and errors; no link\n"
    "\n"
    "Stops on SIGTERM or SIGINT; a coordinator started again on the same folder goes on where this "
    "one was.\n";

static struct coordinator *running;

static void on_signal(int sig)
{
    if (running) co_stop(running);
}

struct args {
    struct co_options o;
    const char *command, *out;
    bool no_local;
    bool quiet, link;
};

/* Takes the value of an option that has one. */
static const char *value(int argc, char **argv, int *i)
{
    if (*i + 1 < argc) return argv[++*i];
    fprintf(stderr, "cinchd: %s needs a value\n", argv[*i]);
    return NULL;
}

static int set_state(struct args *a, const char *v)
{
    a->o.state = v;
    return 0;
}

static int set_listen(struct args *a, const char *v)
{
    if (a->o.n_listen == CO_MAX_LISTEN) {
        fprintf(stderr, "cinchd: --listen at most %d times\n", CO_MAX_LISTEN);
        return 2;
    }
    a->o.listen[a->o.n_listen++] = v;
    return 0;
}

static int set_socket_group(struct args *a, const char *v)
{
    a->o.socket_group = v;
    return 0;
}

static int set_http(struct args *a, const char *v)
{
    a->o.http = v;
    return 0;
}

static int set_web(struct args *a, const char *v)
{
    a->o.web = v;
    return 0;
}

static int set_out(struct args *a, const char *v)
{
    a->out = v;
    return 0;
}

static int number(const char *name, const char *v, double lo, double hi, double *out)
{
    char *end;
    *out = strtod(v, &end);
    if (*v && !*end && *out >= lo && *out <= hi) return 0;
    fprintf(stderr, "cinchd: %s %s: a number from %g to %g is needed\n", name, v, lo, hi);
    return 2;
}

static int set_lost(struct args *a, const char *v)
{
    double s = 0;
    int rc = number("--lost", v, 1, 3600, &s);
    a->o.lost_ms = (int)(s * 1000);
    return rc;
}

static int set_user_runs(struct args *a, const char *v)
{
    double n = 0;
    int rc = number("--user-runs", v, 1, 100000, &n);
    a->o.user_runs = (int)n;
    return rc;
}

static int set_reserve(struct args *a, const char *v)
{
    double mb = 0;
    int rc = number("--reserve", v, 0, 1e6, &mb);
    a->o.reserve_mb = mb >= 1 ? (int)mb : -1;
    return rc;
}

static int set_quota(struct args *a, const char *v)
{
    double mb = 0;
    int rc = number("--quota", v, 0, 1e9, &mb);
    a->o.quota_mb = mb > 0 && mb < 1 ? 1 : (int)mb;
    return rc;
}

static int set_scrub(struct args *a, const char *v)
{
    double mb = 0;
    int rc = number("--scrub", v, 0, 1000, &mb);
    a->o.scrub_mb = mb >= 1 ? (int)mb : mb > 0 ? 1 : -1;
    return rc;
}

static const struct {
    const char *name;
    int (*set)(struct args *a, const char *v);
} option[] = {
    {"--state", set_state},
    {"--listen", set_listen},
    {"--http", set_http},
    {"--socket-group", set_socket_group},
    {"--web", set_web},
    {"--lost", set_lost},
    {"--reserve", set_reserve},
    {"--user-runs", set_user_runs},
    {"-o", set_out},
    {"--quota", set_quota},
    {"--scrub", set_scrub},
};

/* Options without a value. */
static bool set_flag(struct args *a, const char *name)
{
    bool link = !strcmp(name, "--link"), group = !strcmp(name, "--group-access");
    if (link) a->link = true;
    if (group) a->o.group_access = true;
    if (!strcmp(name, "--check")) a->command = "check";
    return link || group || !strcmp(name, "--check");
}

static int parse(struct args *a, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--quiet")) {
            cn_log_level(CN_WARN);
            a->quiet = true;
            continue;
        }
        if (!strcmp(argv[i], "--no-local")) {
            a->no_local = true;
            continue;
        }
        if (!strcmp(argv[i], "--http-open")) {
            a->o.http_open = 1;
            continue;
        }
        if (set_flag(a, argv[i])) continue;
        if (*argv[i] != '-') {
            a->command = argv[i];
            continue;
        }
        size_t k = 0, n = sizeof option / sizeof *option;
        while (k < n && strcmp(argv[i], option[k].name)) k++;
        if (k == n) {
            fprintf(stderr, "cinchd: unknown option %s; see cinchd --help\n", argv[i]);
            return 2;
        }
        const char *v = value(argc, argv, &i);
        int rc = v ? option[k].set(a, v) : 2;
        if (rc) return rc;
    }
    if (a->o.state) return 0;
    fprintf(stderr, "cinchd: --state DIR is needed; see cinchd --help\n");
    return 2;
}

static int fail(const struct cn_error *err)
{
    fprintf(stderr, "cinchd: %s\n", err->text);
    return err->code == CN_EINVALID ? 2 : err->code == CN_EREFUSED ? 4 : 1;
}

/* The link carries the token: it is printed for who started this program, and never logged. */
static void tell_link(const struct args *a)
{
    cn_info("cinchd", "http at %s%s", co_http(running),
            a->o.http_open ? ", open to every account of this machine" : "");
    if (a->quiet) return;
    printf("dashboard at %s\n", co_http_link(running));
    fflush(stdout);
}

/* Beside TCP there is the local socket, or nobody could make the first key. Where the user named a
 * local one it is that. One that another coordinator of this account has is left to it. */
static void listen_locally(struct args *a, char *local, size_t cap)
{
    const char *given = getenv("CINCH_COORDINATOR");
    bool only_tcp = a->o.n_listen > 0;
    for (int i = 0; i < a->o.n_listen; i++)
        if (strncmp(a->o.listen[i], "tcp://", 6)) return;
    if (only_tcp && (a->no_local || a->o.n_listen == CO_MAX_LISTEN)) return;
    if (given && *given && (!only_tcp || !strncmp(given, "ipc://", 6)))
        snprintf(local, cap, "%s", given);
    else
        pr_local_endpoint(local, cap);
    if (only_tcp && listen_taken(local))
        cn_warn("cinchd", "%s is another coordinator's: this one listens on TCP alone", local);
    else
        a->o.listen[a->o.n_listen++] = local;
}

static int serve(struct args *a)
{
    struct cn_error err;
    char local[512], web[4096];
    if (a->o.http && !a->o.web && !cn_place(web, sizeof web, CN_PLACE_WEB, "web", NULL))
        a->o.web = web;
    listen_locally(a, local, sizeof local);
    int rc = co_create(&running, &a->o, &err);
    if (rc) return fail(&err);
    for (int i = 0; i < a->o.n_listen; i++)
        cn_info("cinchd", "listening on %s", co_endpoint(running, i));
    if (co_http(running)) tell_link(a);
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    cn_notify("READY=1");
    rc = co_run(running, &err);
    cn_notify("STOPPING=1");
    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    co_destroy(running);
    return rc ? fail(&err) : 0;
}

static int admin(const struct args *a)
{
    struct cn_error err;
    int rc;
    if (!strcmp(a->command, "check")) {
        rc = ad_check(a->o.state, stdout, &err);
    } else if (!strcmp(a->command, "gc")) {
        rc = ad_gc(a->o.state, stdout, &err);
    } else if (!strcmp(a->command, "backup") && a->out) {
        rc = ad_backup(a->o.state, a->out, a->link, stdout, &err);
    } else {
        fprintf(stderr, "cinchd: no command '%s'%s; see cinchd --help\n", a->command,
                strcmp(a->command, "backup") ? "" : " without -o DIR");
        return 2;
    }
    return rc ? fail(&err) : 0;
}

static int run(int argc, char **argv)
{
    struct args a = {0};
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            fputs(usage, stdout);
            return 0;
        }
    int rc = parse(&a, argc, argv);
    if (rc) return rc;
    umask(a.o.group_access ? 0027 : 0077);
    cn_guard_secrets();
    return a.command ? admin(&a) : serve(&a);
}

int main(int argc, char **argv)
{
    struct cn_error lost;
    if (cn_std_open()) return 1;
    signal(SIGPIPE, SIG_IGN);
    int code = run(argc, argv);
    return !code && cn_stdout_end(&lost) ? fail(&lost) : code;
}
