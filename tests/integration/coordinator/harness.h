/* harness.h - what the coordinator's integration tests share: one in this process, clients, null
 * workers, grids. */
#ifndef CINCH_TESTS_HARNESS_H
#define CINCH_TESTS_HARNESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/coordinator.h"
#include "null_worker.h"
#include "proto/client.h"

struct fixture_worker {
    struct null_options o;
    pthread_t thread;
    atomic_int stop;
    bool running;
};

struct fixture {
    char dir[64], state[80], ipc[96];
    struct coordinator *c;
    struct pr_client *client;
    struct fixture_worker worker[8];
    int n_workers;
    atomic_long done;
    struct cn_error err;
};

/* A coordinator on a fresh folder; `more` adds endpoints and options (may be NULL). */
void fixture_open(struct fixture *f, const struct co_options *more);
void fixture_start(struct fixture *f,
                   const struct co_options *more); /* ... on the folder as it is */
void fixture_stop(struct fixture *f);              /* coordinator and client; workers go on */
void fixture_worker(struct fixture *f, struct null_options o);
void fixture_stop_workers(struct fixture *f);
void fixture_close(struct fixture *f);

struct grid {
    const char *name;
    int seeds, first_seed;
    bool distill, fresh, every_round, never, paused;
    int rounds[4];
    double keep[4];
    const char *norms[4];
    int priority, time_limit_s;
};
/* Fails the test when it is refused; freed with pr_free. */
Cinch__Submitted *fixture_submit(struct fixture *f, const struct grid *g);
/* The code instead; *reply may be NULL. */
int submit_grid(struct pr_client *c, const struct grid *g, Cinch__Submitted **reply,
                struct cn_error *err);
void fixture_wait(struct fixture *f, const char *run, const char *state, int seconds);
int count(const char *text, const char *what);
char *ask(struct fixture *f, Cinch__Query__What what, const char *id); /* the caller frees */

#endif
