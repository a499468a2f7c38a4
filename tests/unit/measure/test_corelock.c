/* Tests of the core locks between real processes: a measurement waits until the process that
 * computes has left its core, and the process comes back afterwards. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "cpu/measure/corelock.h"

static char folder[64];

static int setup(void **state)
{
    snprintf(folder, sizeof folder, "/tmp/corelock-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    return setenv("XDG_RUNTIME_DIR", folder, 1);
}

static int teardown(void **state)
{
    return cn_rmtree(folder, NULL);
}

static int may_run_on(pid_t pid, int core)
{
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(pid, sizeof set, &set), 0);
    return CPU_ISSET(core, &set);
}

/* A process that computes: watches cores until it is killed. Says on the pipe when it watches. */
static pid_t start_computing(int one_core)
{
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (one_core >= 0) {
            cpu_set_t set;
            CPU_ZERO(&set);
            CPU_SET(one_core, &set);
            sched_setaffinity(0, sizeof set, &set);
        }
        struct corewatch *w;
        if (corewatch_start(&w, NULL)) _exit(1);
        corewatch_enter(w);
        if (write(ready[1], "x", 1) != 1) _exit(1);
        /* Writes a byte per millisecond of "work"; stops writing while it must pause. */
        for (;;) {
            corewatch_pause_point(w);
            if (write(ready[1], ".", 1) != 1) _exit(1);
            cn_sleep_ms(1);
        }
    }
    close(ready[1]);
    char c;
    for (int i = 0; i < 2; i++) assert_int_equal(read(ready[0], &c, 1), 1); /* it works by now */
    close(STDIN_FILENO);
    assert_int_equal(dup2(ready[0], STDIN_FILENO), STDIN_FILENO); /* the pipe, for work_seen */
    close(ready[0]);
    return pid;
}

static int cores_of(void)
{
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    return CPU_COUNT(&set);
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void computing_leaves_the_measured_core_and_returns(void **state)
{
    if (cores_of() < 2) skip();
    signal(SIGPIPE, SIG_IGN);
    int core = corelock_default_core();
    pid_t pid = start_computing(-1);
    assert_true(may_run_on(pid, core));
    struct corelock *l;
    assert_int_equal(corelock_take(&l, core, NULL), 0);
    /* The lock is granted only after every thread of the other process has left. */
    assert_false(may_run_on(pid, core));
    corelock_drop(l);
    for (int i = 0; i < 1000 && !may_run_on(pid, core); i++) cn_sleep_ms(20);
    assert_true(may_run_on(pid, core));
    end(pid);
}

/* A process that keeps `core` until it is killed; a lock taken here would be inherited by fork. */
static pid_t start_keeper(int core)
{
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct corelock *kept;
        if (corelock_reserve(&kept, core, NULL) || write(ready[1], "x", 1) != 1) _exit(1);
        for (;;) pause();
    }
    char c;
    assert_int_equal(read(ready[0], &c, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void a_kept_core_stays_free_until_its_keeper_goes(void **state)
{
    if (cores_of() < 2) skip();
    int core = corelock_default_core();
    pid_t keeper = start_keeper(core);
    struct corelock *other;
    struct cn_error err;
    assert_int_equal(corelock_reserve(&other, core, &err), CN_EBUSY);
    pid_t pid = start_computing(-1);
    assert_false(may_run_on(pid, core)); /* from its first moment on */
    struct corelock *l;
    assert_int_equal(corelock_take(&l, core, NULL), 0); /* measuring on a kept core works */
    corelock_drop(l);
    cn_sleep_ms(300);
    assert_false(may_run_on(pid, core));
    end(keeper);
    for (int i = 0; i < 1000 && !may_run_on(pid, core); i++) cn_sleep_ms(20);
    assert_true(may_run_on(pid, core));
    end(pid);
}

/* With one core the work pauses instead: after the lock is ours, nothing more is written. */
static void on_one_core_computing_pauses(void **state)
{
    int core = corelock_default_core();
    pid_t pid = start_computing(core);
    struct corelock *l;
    assert_int_equal(corelock_take(&l, core, NULL), 0);
    char buffer[65536];
    struct pollfd p = {STDIN_FILENO, POLLIN, 0};
    while (poll(&p, 1, 0) > 0) /* what it wrote before */
        assert_true(read(STDIN_FILENO, buffer, sizeof buffer) > 0);
    assert_int_equal(poll(&p, 1, 300), 0);
    corelock_drop(l);
    assert_true(read(STDIN_FILENO, buffer, 1) == 1); /* blocks until it works again */
    end(pid);
}

static void a_killed_measurer_frees_the_core(void **state)
{
    int core = corelock_default_core();
    pid_t pid = fork();
    if (pid == 0) {
        struct corelock *l;
        if (corelock_take(&l, core, NULL)) _exit(1);
        raise(SIGKILL);
    }
    waitpid(pid, NULL, 0);
    struct corelock *l;
    assert_int_equal(corelock_take(&l, core, NULL), 0);
    corelock_drop(l);
}

static void a_lock_folder_that_is_none_is_refused(void **state)
{
    char path[128];
    snprintf(path, sizeof path, "%s/taken", folder);
    assert_int_equal(cn_mkdirs(path, NULL), 0);
    setenv("XDG_RUNTIME_DIR", path, 1);
    strcat(path, "/cinch");
    assert_int_equal(cn_file_write(path, "x", 1, NULL), 0);
    struct corelock *l;
    struct cn_error err = {0};
    assert_int_equal(corelock_take(&l, 0, &err), CN_EREFUSED);
    assert_non_null(strstr(err.text, path));
    setenv("XDG_RUNTIME_DIR", folder, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(computing_leaves_the_measured_core_and_returns),
        cmocka_unit_test(a_kept_core_stays_free_until_its_keeper_goes),
        cmocka_unit_test(on_one_core_computing_pauses),
        cmocka_unit_test(a_killed_measurer_frees_the_core),
        cmocka_unit_test(a_lock_folder_that_is_none_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
