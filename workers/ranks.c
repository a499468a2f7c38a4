/* ranks.c - see ranks.h: the caller's side, which writes a training down, starts the processes and
 * ends them.
 *
 * A process gets a folder: model.safetensors, recipe.json, and where there are any teacher.safetensors,
 * resume and mask; and its arguments: FOLDER DATASET SEED GPU RANK RANKS. It writes "ready" to its
 * standard output when it has read all of it, and then reads NCCL's id, 128 bytes, from its standard
 * input: ranks meet in NCCL only when all are able to, since that waits for ever for one that is not.
 */
#define _GNU_SOURCE
#include "workers/ranks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/place.h"
#include "workers/ranks_private.h"

#define READY_MS 60000 /* to load CUDA and read the inputs */
#define END_MS 3000    /* after rank 0 has ended */

extern char **environ;

struct child {
    pid_t pid; /* 0: none, or waited for */
    int in, out;
    int status; /* of waitpid */
    bool dead;
};

struct ranks {
    int n; /* with rank 0 */
    struct child child[DEVICE_MAX_GPUS];
    struct nn_backend *backend;
    char folder[256];
};

/* ---- writing the training down ---- */

static int put(const struct ranks *r, const char *name, const void *data, size_t n,
               struct cn_error *err)
{
    char path[320];
    snprintf(path, sizeof path, "%s/%s", r->folder, name);
    return data ? cn_file_write(path, data, n, err) : 0;
}

static int put_model(const struct ranks *r, const char *name, const struct nn_model *m,
                     struct cn_error *err)
{
    char path[320];
    snprintf(path, sizeof path, "%s/%s", r->folder, name);
    return m ? nn_model_save(m, path, err) : 0;
}

static int put_training(struct ranks *r, const struct nn_train *run, struct cn_error *err)
{
    const struct nn_train_member *m = &run->member[0];
    char *recipe = nn_recipe_json(run->recipe);
    if (!recipe) return cn_fail(err, CN_ENOMEM, "out of memory");
    int rc = cn_mkdirs(r->folder, err);
    if (!rc) rc = put(r, RANK_RECIPE, recipe, strlen(recipe), err);
    if (!rc) rc = put_model(r, RANK_MODEL, m->model, err);
    if (!rc) rc = put_model(r, RANK_TEACHER, m->teacher, err);
    if (!rc) rc = put(r, RANK_RESUME, m->resume, m->resume_n, err);
    if (!rc) rc = put(r, RANK_MASK, m->mask, m->model->net->n_params * sizeof(float), err);
    free(recipe);
    return rc;
}

/* ---- processes ---- */

/* $CINCH_RANK, or where programs keep it. */
static int find_program(char *path, size_t cap, struct cn_error *err)
{
    const char *given = getenv("CINCH_RANK");
    if (!given || !*given) return cn_place(path, cap, CN_PLACE_PROGRAM, "cinch-rank", err);
    snprintf(path, cap, "%s", given);
    return 0;
}

static int spawn(struct child *c, const char *program, char *const *argv, struct cn_error *err)
{
    int in[2] = {-1, -1}, out[2] = {-1, -1};
    posix_spawn_file_actions_t how;
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC)) {
        if (in[0] >= 0) close(in[0]);
        if (in[1] >= 0) close(in[1]);
        return cn_fail_errno(err, "cannot make a pipe for a rank");
    }
    posix_spawn_file_actions_init(&how);
    posix_spawn_file_actions_adddup2(&how, in[0], 0);
    posix_spawn_file_actions_adddup2(&how, out[1], 1);
    int rc = posix_spawn(&c->pid, program, &how, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&how);
    close(in[0]);
    close(out[1]);
    c->in = in[1];
    c->out = out[0];
    if (rc == 0) return 0;
    c->pid = 0;
    errno = rc;
    return cn_fail_errno(err, "cannot start %s", program);
}

static int start_children(struct ranks *r, const struct device *d, const struct nn_train *run,
                          struct cn_error *err)
{
    char program[3100], data[4096], word[5][24];
    int rc = find_program(program, sizeof program, err);
    if (rc) return rc;
    if (!run->data->mapping || ecg_dataset_path(run->data, data, sizeof data))
        return cn_fail(err, CN_EUNSUPPORTED,
                       "several GPUs need a dataset in a file; %s lies in memory", run->data->name);
    for (int i = 1; i < r->n && !rc; i++) {
        snprintf(word[0], sizeof word[0], "%" PRIu64, run->member[0].seed);
        snprintf(word[1], sizeof word[1], "%d", device_gpu(d, i));
        snprintf(word[2], sizeof word[2], "%d", i);
        snprintf(word[3], sizeof word[3], "%d", r->n);
        char *argv[] = {program, r->folder, data, word[0], word[1], word[2], word[3], NULL};
        rc = spawn(&r->child[i], program, argv, err);
    }
    return rc;
}

/* Looks whether the process has ended, without waiting. */
static bool has_ended(struct child *c)
{
    if (c->pid && waitpid(c->pid, &c->status, WNOHANG) == c->pid) {
        c->dead = true;
        c->pid = 0;
    }
    return !c->pid;
}

static int died(const struct child *c, int rank, struct cn_error *err)
{
    if (WIFSIGNALED(c->status))
        return cn_fail(err, CN_ECONNECT, "rank %d was killed by signal %d", rank,
                       WTERMSIG(c->status));
    if (WEXITSTATUS(c->status) == RANK_LOST)
        return cn_fail(err, CN_ENODEVICE, "the card of rank %d has failed (see the log)", rank);
    return cn_fail(err, CN_ECONNECT, "rank %d ended with status %d (its reason is in the log)",
                   rank, WEXITSTATUS(c->status));
}

static int wait_ready(struct ranks *r, struct cn_error *err)
{
    int64_t limit = cn_mono_ms() + READY_MS;
    for (int i = 1; i < r->n; i++) {
        struct child *c = &r->child[i];
        struct pollfd p = {.fd = c->out, .events = POLLIN};
        char word[8];
        int64_t left = limit - cn_mono_ms();
        int got = poll(&p, 1, left > 0 ? (int)left : 0);
        if (got == 0)
            return cn_fail(err, CN_ETIMEOUT, "rank %d was not ready within %d s", i,
                           READY_MS / 1000);
        if (got > 0 && read(c->out, word, sizeof word) > 0) continue;
        if (c->pid) waitpid(c->pid, &c->status, 0); /* its output is closed: it ends */
        c->pid = 0;
        return died(c, i, err);
    }
    return 0;
}

static int tell_id(struct ranks *r, const void *id, struct cn_error *err)
{
    for (int i = 1; i < r->n; i++)
        if (write(r->child[i].in, id, RANK_ID_BYTES) != RANK_ID_BYTES)
            return cn_fail(err, CN_ECONNECT, "rank %d has ended before the training began", i);
    return 0;
}

static void end_children(struct ranks *r, bool at_once)
{
    int64_t limit = cn_mono_ms() + (at_once ? 0 : END_MS);
    for (int i = 1; i < r->n; i++) {
        struct child *c = &r->child[i];
        if (c->in >= 0) close(c->in);
        if (c->out >= 0) close(c->out);
        while (!has_ended(c) && cn_mono_ms() < limit) cn_sleep_ms(20);
        if (!c->pid) continue;
        kill(c->pid, SIGKILL);
        waitpid(c->pid, &c->status, 0);
        c->pid = 0;
    }
}

/* ---- */

int ranks_open(struct ranks **out, struct device *d, int n, const char *scratch,
               struct nn_train *run, struct cn_error *err)
{
    char id[RANK_ID_BYTES];
    *out = NULL;
    if (!d || device_facts(d)->gpus < n)
        return cn_fail(err, CN_ENODEVICE,
                       "the job wants %d GPUs; this worker has %d: start it with "
                       "--gpu 0,1,..",
                       n, d ? device_facts(d)->gpus : 0);
    struct ranks *r = calloc(1, sizeof *r);
    if (!r) return cn_fail(err, CN_ENOMEM, "out of memory");
    r->n = n;
    for (int i = 0; i < n; i++) r->child[i].in = r->child[i].out = -1;
    snprintf(r->folder, sizeof r->folder, "%s/ranks", scratch);
    int rc = put_training(r, run, err);
    if (!rc) rc = start_children(r, d, run, err);
    if (!rc) rc = wait_ready(r, err);
    if (!rc) rc = device_nccl_id(d, id, err);
    if (!rc) rc = tell_id(r, id, err);
    struct device_rank who = {0, n, id, run->recipe->sync_batchnorm};
    if (!rc) rc = device_rank_backend(d, &who, &r->backend, err);
    if (rc) {
        ranks_close(r, 0, NULL);
        return rc;
    }
    cn_info("worker", "one job on %d GPUs", n);
    run->backend = r->backend;
    *out = r;
    return 0;
}

void ranks_close(struct ranks *r, int failed, struct cn_error *err)
{
    if (!r) return;
    struct cn_error why = {0};
    for (int i = 1; i < r->n && failed; i++)
        if (has_ended(&r->child[i]) && r->child[i].dead) died(&r->child[i], i, &why);
    /* rank 0 leaves first: with an error it aborts the communicator, and the others end by that */
    if (r->backend) r->backend->ops->destroy(r->backend);
    end_children(r, !r->backend);
    for (int i = 1; i < r->n && failed && !why.code; i++) /* its own card may be what failed */
        if (WIFEXITED(r->child[i].status) && WEXITSTATUS(r->child[i].status) == RANK_LOST)
            died(&r->child[i], i, &why);
    if (why.code && err) {
        struct cn_error both;
        cn_fail(&both, why.code, "%s; %s", why.text, err->text);
        *err = both;
    }
    cn_rmtree(r->folder, NULL);
    free(r);
}
