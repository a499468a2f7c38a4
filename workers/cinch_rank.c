/* cinch_rank.c - cinch-rank, the process of one further rank of a training on several GPUs; started by
 * a worker only (ranks.c, which says what it is given). It ends with its parent. Its exit status is
 * 0, or 1 with a line on stderr, or RANK_LOST when its card has failed. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "nn/train.h"
#include "workers/device.h"
#include "workers/ranks_private.h"

#define LIMIT ((size_t)1 << 30)

struct given {
    const char *folder;
    struct nn_recipe recipe;
    struct nn_model *model, *teacher;
    struct ecg_dataset *data;
    char *resume, *mask;
    size_t resume_n, mask_n;
};

static const char *path_in(const struct given *g, const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", g->folder, name);
    return path;
}

static int read_given(struct given *g, const char *dataset, struct cn_error *err)
{
    char *recipe = NULL;
    size_t n = 0;
    int rc = cn_file_read(path_in(g, RANK_RECIPE), LIMIT, &recipe, &n, err);
    if (!rc) rc = nn_recipe_parse_json(&g->recipe, recipe, err);
    free(recipe);
    if (!rc) rc = nn_model_load(&g->model, path_in(g, RANK_MODEL), err);
    if (!rc && cn_file_exists(path_in(g, RANK_TEACHER)))
        rc = nn_model_load(&g->teacher, path_in(g, RANK_TEACHER), err);
    if (!rc && cn_file_exists(path_in(g, RANK_RESUME)))
        rc = cn_file_read(path_in(g, RANK_RESUME), LIMIT, &g->resume, &g->resume_n, err);
    if (!rc && cn_file_exists(path_in(g, RANK_MASK)))
        rc = cn_file_read(path_in(g, RANK_MASK), LIMIT, &g->mask, &g->mask_n, err);
    if (!rc && g->mask && g->mask_n != g->model->net->n_params * sizeof(float))
        rc = cn_fail(err, CN_ECORRUPT, "the mask is not that of the model");
    return rc ? rc : ecg_dataset_map(&g->data, dataset, err);
}

/* Says that all is there and waits for the others: NCCL's id comes when every rank is ready. */
static int meet(char *id, struct cn_error *err)
{
    if (write(1, "ready\n", 6) != 6) return cn_fail_errno(err, "cannot tell the worker");
    for (size_t n = 0; n < RANK_ID_BYTES;) {
        ssize_t got = read(0, id + n, RANK_ID_BYTES - n);
        if (got <= 0) return cn_fail(err, CN_ECONNECT, "the worker has given up");
        n += (size_t)got;
    }
    return 0;
}

static int run(const struct given *g, struct nn_backend *be, uint64_t seed, struct cn_error *err)
{
    struct nn_train_member m = {.model = g->model,
                                .seed = seed,
                                .teacher = g->teacher,
                                .resume = g->resume,
                                .resume_n = g->resume_n,
                                .or_afresh = true,
                                .mask = (const float *)(const void *)g->mask};
    struct nn_train t = {
        .backend = be, .data = g->data, .recipe = &g->recipe, .m = 1, .member = &m};
    return nn_train_run(&t, err);
}

int main(int argc, char **argv)
{
    struct cn_error err = {0};
    struct given g = {0};
    struct device *d = NULL;
    struct nn_backend *be = NULL;
    char id[RANK_ID_BYTES];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, SIG_IGN); /* the worker stops in order, and this with it */
    signal(SIGTERM, SIG_IGN);
    if (argc != 7) {
        fprintf(stderr, "cinch-rank is started by cinch-train --gpu 0,1,..\n");
        return 2;
    }
    g.folder = argv[1];
    struct device_spec spec = {.kind = DEVICE_GPU, .n_gpus = 1, .gpu = {atoi(argv[4])}};
    struct device_rank who = {atoi(argv[5]), atoi(argv[6]), id, 0};
    int rc = read_given(&g, argv[2], &err);
    who.sync_batchnorm = g.recipe.sync_batchnorm;
    if (!rc) rc = device_open(&d, spec, &err);
    if (!rc) rc = meet(id, &err);
    if (!rc) rc = device_rank_backend(d, &who, &be, &err);
    if (!rc) rc = run(&g, be, strtoull(argv[3], NULL, 10), &err);
    struct cn_error why;
    bool lost = rc && device_lost(d, &why);
    if (be) be->ops->destroy(be);
    device_close(d);
    ecg_dataset_close(g.data);
    nn_model_destroy(g.model);
    nn_model_destroy(g.teacher);
    free(g.resume);
    free(g.mask);
    if (rc && rc != CN_EINTERRUPTED) /* which is how a stop of rank 0 looks from here */
        cn_warn("rank", "rank %d of %d: %s", who.rank, who.ranks, err.text);
    return lost ? RANK_LOST : rc && rc != CN_EINTERRUPTED;
}
