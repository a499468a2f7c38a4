/* nulltool - the null worker and a bare client as a program, for tests that kill processes.
 *
 *     nulltool worker --connect E [--key F] [--name N] [--slots N] [--epochs N] [--epoch-ms N] [--checkpoint N] [--fail PER_MILLE]
 *     nulltool submit --connect E [--seeds N] [--fresh 1]    prints the run's id; a grid with both kinds, rounds 1 and 2
 *     nulltool query --connect E WHAT [ID]                   prints JSON
 *     nulltool key --connect E NAME ROLE FILE                makes a key
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "harness.h"

static atomic_int stop;

static void on_signal(int sig)
{
    atomic_store(&stop, 1);
}

struct tool {
    struct null_options o;
    int seeds, fresh;
    const char *rest[8];
    int n_rest;
};

static int parse(struct tool *t, int argc, char **argv)
{
    for (int i = 2; i < argc; i++) {
        if (argv[i][0] != '-') {
            if (t->n_rest < 8) t->rest[t->n_rest++] = argv[i];
            continue;
        }
        if (i + 1 == argc) return 2;
        const char *name = argv[i] + 2, *v = argv[++i];
        if (!strcmp(name, "connect")) t->o.endpoint = v;
        if (!strcmp(name, "key")) t->o.key_file = v;
        if (!strcmp(name, "name")) t->o.name = v;
        if (!strcmp(name, "slots")) t->o.slots = atoi(v);
        if (!strcmp(name, "epochs")) t->o.epochs = atoi(v);
        if (!strcmp(name, "epoch-ms")) t->o.epoch_ms = atoi(v);
        if (!strcmp(name, "checkpoint")) t->o.checkpoint_every = atoi(v);
        if (!strcmp(name, "fail")) t->o.fail_per_mille = atoi(v);
        if (!strcmp(name, "seeds")) t->seeds = atoi(v);
        if (!strcmp(name, "fresh")) t->fresh = atoi(v);
    }
    return t->o.endpoint ? 0 : 2;
}

static int client(struct tool *t, const char *what, struct cn_error *err)
{
    struct pr_client *c;
    struct pr_connect how = {.endpoint = t->o.endpoint,
                             .key_file = t->o.key_file,
                             .user = "tester",
                             .timeout_ms = 15000};
    int rc = pr_client_open(&c, &how, err);
    if (rc) return rc;
    if (!strcmp(what, "submit")) {
        struct grid g = {.name = "chaos",
                         .seeds = t->seeds,
                         .distill = true,
                         .fresh = t->fresh,
                         .rounds = {1, 2},
                         .keep = {0.5},
                         .norms = {"L1"}};
        Cinch__Submitted *s = NULL;
        rc = submit_grid(c, &g, &s, err);
        if (!rc) printf("%s\n", s->run);
        pr_free(s);
    } else if (!strcmp(what, "query")) {
        char *json = NULL;
        rc = pr_query(c, (Cinch__Query__What)atoi(t->rest[0]), t->n_rest > 1 ? t->rest[1] : NULL,
                      &json, err);
        if (!rc) puts(json);
        free(json);
    } else {
        struct pr_key k;
        Cinch__KeyCreate q = CINCH__KEY_CREATE__INIT;
        Cinch__KeyCreated *made = NULL;
        rc = pr_key_make(&k, t->rest[0], t->rest[1], err);
        q.name = k.name;
        q.role = k.role;
        q.public_ = k.public_key;
        if (!rc) rc = pr_call(c, PR_KEY_CREATE, &q, PR_KEY_CREATED, &made, err);
        if (!rc) snprintf(k.server, sizeof k.server, "%s", made->server);
        if (!rc) rc = pr_key_save(&k, t->rest[2], err);
        pr_free(made);
    }
    pr_client_close(c);
    return rc;
}

int main(int argc, char **argv)
{
    struct tool t = {.o = {.slots = 1, .epochs = 5, .core = -1, .stop = &stop}, .seeds = 2};
    struct cn_error err = {0};
    if (argc < 3 || parse(&t, argc, argv)) return 2;
    cn_log_level(CN_WARN);
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    int rc = !strcmp(argv[1], "worker") ? null_run(&t.o, &err) : client(&t, argv[1], &err);
    if (rc) fprintf(stderr, "nulltool: %s\n", err.text);
    return rc != 0;
}
