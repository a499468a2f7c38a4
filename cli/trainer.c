/* cli/trainer.c - see trainer.h.
 *
 * Three processes: this one, the supervisor, the worker. The supervisor has one thread and never touches
 * CUDA, so it can fork a worker again and again. Workers tell through a pipe, a struct cn_error a message:
 * code 0 when they have opened their device, else why they end for good. Each process ends with its
 * parent.
 */
#define _GNU_SOURCE
#include "cli/trainer.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"

enum { EXIT_AGAIN = 75 }; /* the card failed: start another */

struct trainer {
    pid_t supervisor;
    int told; /* pipe */
};

static struct worker *the_worker;
static volatile sig_atomic_t child, stopping;

static void on_worker_term(int sig)
{
    if (the_worker) worker_stop(the_worker);
}

static void on_supervisor_term(int sig)
{
    stopping = 1;
    if (child > 0) kill(child, SIGTERM);
}

/* SIGINT goes to the whole foreground group: the command stops in order, and its processes by SIGTERM. */
static void set_signals(void (*on_term)(int))
{
    struct sigaction term = {.sa_handler = on_term}, ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGTERM, &term, NULL);
    sigaction(SIGINT, &ignore, NULL);
    sigaction(SIGHUP, &ignore, NULL);
}

static void tell(int fd, const struct cn_error *e)
{
    ssize_t n = write(fd, e, sizeof *e); /* shorter than PIPE_BUF: in one piece */
    (void)n;
}

_Noreturn static void work(const struct worker_options *o, int fd)
{
    struct cn_error err = {0};
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    set_signals(on_worker_term);
    int rc = worker_create(&the_worker, o, &err);
    if (rc == 0) {
        tell(fd, &(struct cn_error){0});
        rc = worker_run(the_worker, &err);
        if (rc == CN_ENODEVICE) { /* what it lost has been handed back */
            cn_warn("run", "%s", err.text);
            _exit(EXIT_AGAIN); /* child */
        }
    }
    if (rc) tell(fd, &err);
    worker_destroy(the_worker);
    _exit(rc ? 1 : 0); /* child */
}

_Noreturn static void supervise(const struct worker_options *o, int fd)
{
    sigset_t term, before;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    set_signals(on_supervisor_term);
    for (;;) {
        int status = 0;
        sigprocmask(SIG_BLOCK, &term, &before); /* a stop finds either no child, or its number */
        pid_t pid = stopping ? -1 : fork();
        if (pid == 0) {
            sigprocmask(SIG_SETMASK, &before, NULL);
            work(o, fd);
        }
        child = pid;
        sigprocmask(SIG_SETMASK, &before, NULL);
        if (pid < 0) _exit(0); /* child */
        while (waitpid(pid, &status, 0) < 0) {
        }
        bool again = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_AGAIN;
        if (!again || stopping) _exit(0); /* child */
    }
}

/* The next message; CN_ECONNECT when nobody is left to send one. */
static int hear(struct trainer *t, struct cn_error *err)
{
    struct cn_error e;
    if (read(t->told, &e, sizeof e) != (ssize_t)sizeof e)
        return cn_fail(err, CN_ECONNECT, "the training process has ended; give the command again");
    if (e.code && err) *err = e;
    return e.code;
}

int trainer_start(struct trainer **out, const struct worker_options *o, struct cn_error *err)
{
    int fd[2];
    struct trainer *t = calloc(1, sizeof *t);
    if (!t) return cn_fail(err, CN_ENOMEM, "out of memory");
    if (pipe2(fd, O_CLOEXEC)) {
        free(t);
        return cn_fail_errno(err, "cannot make a pipe for the trainer");
    }
    t->told = fd[0];
    t->supervisor = fork();
    if (t->supervisor == 0) {
        close(fd[0]);
        supervise(o, fd[1]);
    }
    close(fd[1]);
    int rc = t->supervisor < 0 ? cn_fail_errno(err, "cannot start the trainer") : hear(t, err);
    if (rc) {
        trainer_stop(t);
        return rc;
    }
    *out = t;
    return 0;
}

int trainer_check(struct trainer *t, struct cn_error *err)
{
    struct pollfd p = {.fd = t->told, .events = POLLIN};
    return poll(&p, 1, 0) > 0 ? hear(t, err) : 0;
}

void trainer_ask_to_stop(struct trainer *t)
{
    if (t->supervisor > 0) kill(t->supervisor, SIGTERM);
}

void trainer_stop(struct trainer *t)
{
    if (!t) return;
    trainer_ask_to_stop(t);
    while (t->supervisor > 0 && waitpid(t->supervisor, NULL, 0) < 0) {
    }
    close(t->told);
    free(t);
}
