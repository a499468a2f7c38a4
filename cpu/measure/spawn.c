/* spawn.c - the caller's side of one process: starts a fresh cinch-lat under the asked allocator and
 * reads its one document.
 *
 * The allocator comes in by LD_PRELOAD and a plain library name, so that the dynamic linker's own
 * search finds it; whether it did is the child's to prove. Sanitised builds bring their own malloc
 * and cannot be preloaded under: there the child runs as it is and the answer names what was live.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/place.h"
#include "cpu/measure/spawn.h"

#define CHILD_LIMIT_MS                                                                             \
    (30 * 60 * 1000) /* resnet without any vector unit takes minutes, not hours */

const char *const measure_allocator_names[] = {"glibc", "jemalloc", "tcmalloc", "paper", NULL};
const char *const measure_engine_names[] = {"rt", "openblas", "onednn", NULL};

static const char *const preload[] = {"", "libjemalloc.so.2", "libtcmalloc_minimal.so.4"};

enum measure_allocator measure_paper_allocator(const char *net)
{
    return strcmp(net, "rnn") == 0 ? MEASURE_TCMALLOC : MEASURE_JEMALLOC;
}

int measure_paper_runs(const char *net)
{
    return strcmp(net, "rnn") == 0 || strcmp(net, "resnet") == 0 ? 2000 : 10000;
}

/* $CINCH_LAT, or where programs keep it. */
static int find_program(char *path, size_t cap, struct cn_error *err)
{
    const char *given = getenv("CINCH_LAT");
    if (!given || !*given) return cn_place(path, cap, CN_PLACE_PROGRAM, "cinch-lat", err);
    snprintf(path, cap, "%s", given);
    return access(path, X_OK) == 0 ? 0 : cn_fail_errno(err, "CINCH_LAT names %s", path);
}

/* The environment with our own LD_PRELOAD and one thread for every library. NULL: out of memory. */
static char **child_environment(const char *library)
{
    static const char *const replaced[] = {
        "LD_PRELOAD=", "OMP_NUM_THREADS=", "OPENBLAS_NUM_THREADS=", NULL};
    size_t n = 0, kept = 0;
    while (environ[n]) n++;
    char **env = calloc(n + 4, sizeof *env);
    if (!env) return NULL;
    for (size_t i = 0; i < n; i++) {
        bool skip = false;
        for (int k = 0; replaced[k]; k++)
            skip |= strncmp(environ[i], replaced[k], strlen(replaced[k])) == 0;
        if (!skip) env[kept++] = environ[i];
    }
    static char one_omp[] = "OMP_NUM_THREADS=1", one_blas[] = "OPENBLAS_NUM_THREADS=1";
    env[kept++] = one_omp;
    env[kept++] = one_blas;
    if (*library && !MEASURE_SANITISED) {
        static char lines[3][48];
        int which = strcmp(library, preload[MEASURE_JEMALLOC]) == 0 ? 1 : 2;
        snprintf(lines[which], sizeof lines[which], "LD_PRELOAD=%s", preload[which]);
        env[kept++] = lines[which];
    }
    return env;
}

struct child {
    pid_t pid;
    int in, out, errors; /* our ends of its stdin, stdout, stderr */
};

static void close_fd(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static int start(struct child *c, const char *library, struct cn_error *err)
{
    char path[3200];
    int rc = find_program(path, sizeof path, err);
    if (rc) return rc;
    int in[2] = {-1, -1}, out[2] = {-1, -1}, errors[2] = {-1, -1};
    char **env = child_environment(library);
    char *argv[] = {path, NULL};
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    if (!env || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) || pipe2(out, O_CLOEXEC) ||
        pipe2(errors, O_CLOEXEC)) {
        rc = cn_fail_errno(err, "cannot prepare cinch-lat");
    } else {
        posix_spawn_file_actions_adddup2(&files, in[0], 0);
        posix_spawn_file_actions_adddup2(&files, out[1], 1);
        posix_spawn_file_actions_adddup2(&files, errors[1], 2);
        errno = posix_spawn(&c->pid, path, &files, NULL, argv, env);
        if (errno) rc = cn_fail_errno(err, "cannot start %s", path);
    }
    posix_spawn_file_actions_destroy(&files);
    free(env);
    close_fd(&in[0]);
    close_fd(&out[1]);
    close_fd(&errors[1]);
    c->in = in[1];
    c->out = out[0];
    c->errors = errors[0];
    return rc;
}

/* Ends the child and adds the processor time that it took to *cpu_s. */
static void finish(struct child *c, bool hard, double *cpu_s)
{
    struct rusage u = {0};
    close_fd(&c->in);
    close_fd(&c->out);
    close_fd(&c->errors);
    if (c->pid <= 0) return;
    if (hard) kill(c->pid, SIGKILL);
    while (wait4(c->pid, NULL, 0, &u) < 0 && errno == EINTR) {
    }
    *cpu_s += (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
              (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* Appends what is there; closes the descriptor at its end. */
static int drain(int *fd, char *text, size_t cap, size_t *n)
{
    char waste[512];
    size_t room = cap - 1 - *n;
    ssize_t got = read(*fd, room ? text + *n : waste, room ? room : sizeof waste);
    if (got > 0 && room) *n += (size_t)got;
    if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN)) close_fd(fd);
    text[*n] = 0;
    return 0;
}

/* Reads both streams to their ends. */
static int listen_to(struct child *c, const struct measure_spec *spec, char *answer,
                     char errors[256], struct cn_error *err)
{
    size_t n = 0, n_errors = 0;
    int64_t deadline = cn_mono_ms() + CHILD_LIMIT_MS;
    answer[0] = errors[0] = 0;
    while (c->out >= 0 || c->errors >= 0) {
        struct pollfd p[2] = {{c->out, POLLIN, 0}, {c->errors, POLLIN, 0}};
        int ready = poll(p, 2, 200);
        if (ready < 0 && errno != EINTR) return cn_fail_errno(err, "cannot wait for cinch-lat");
        if (ready > 0 && p[0].revents) drain(&c->out, answer, MEASURE_ANSWER_LIMIT, &n);
        if (ready > 0 && p[1].revents) drain(&c->errors, errors, 256, &n_errors);
        if (spec->stop && spec->stop(spec->stop_arg))
            return cn_fail(err, CN_EINTERRUPTED, "the measurement was stopped on request");
        if (cn_mono_ms() > deadline)
            return cn_fail(err, CN_ETIMEOUT, "cinch-lat did not end within 30 minutes");
    }
    return 0;
}

int measure_ask(const char *request, const struct measure_spec *spec, char *answer, double *cpu_s,
                struct cn_error *err)
{
    struct child c = {.pid = 0, .in = -1, .out = -1, .errors = -1};
    char errors[256];
    int rc = start(&c, preload[spec->allocator], err);
    if (rc == 0) {
        size_t n = strlen(request);
        /* Smaller than the socket's buffer: taken at once, or the child is gone and its silence says
         * so below. */
        if (send(c.in, request, n, MSG_NOSIGNAL) != (ssize_t)n && errno != EPIPE)
            rc = cn_fail_errno(err, "cannot write to cinch-lat");
        close_fd(&c.in);
    }
    if (rc == 0) rc = listen_to(&c, spec, answer, errors, err);
    finish(&c, rc != 0, cpu_s);
    if (rc == 0 && !answer[0])
        rc = cn_fail(err, CN_EINTERNAL, "cinch-lat ended without an answer: %s", errors);
    return rc;
}

bool measure_allocator_available(enum measure_allocator a, char *detail, int cap)
{
    static const char *const package[] = {"", "libjemalloc2", "libtcmalloc-minimal4"};
    struct measure_spec spec = {.core = -1, .allocator = a};
    char *answer = malloc(MEASURE_ANSWER_LIMIT);
    double cpu_s = 0;
    bool ok = false;
    snprintf(detail, (size_t)cap, "cannot be tried");
    if (answer && a <= MEASURE_TCMALLOC &&
        measure_ask("{\"probe\": true}", &spec, answer, &cpu_s, NULL) == 0) {
        json_t *o = json_loads(answer, 0, NULL);
        const char *name = json_string_value(json_object_get(o, "name"));
        const char *version = json_string_value(json_object_get(o, "version"));
        ok = name && strcmp(name, measure_allocator_names[a]) == 0;
        if (ok)
            snprintf(detail, (size_t)cap, "%s", version ? version : "");
        else
            snprintf(detail, (size_t)cap, "install %s", package[a]);
        json_decref(o);
    }
    free(answer);
    return ok;
}
