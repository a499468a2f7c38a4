/* bench/recipes - trains a net under several recipes and seeds, and prints the best validation score
 * and the test score of the weights it chose: the tables of docs/recipes.md.
 *
 *   bench_recipes DATA NET[@KEEP] EPOCHS SEEDS THREADS RECIPE..
 *
 * With @KEEP (cnn@0.125) each trained net is pruned once to that fraction of its structures (L1) and
 * fine-tuned as the recipe says, and that is what the scores are of.
 * DATA: a folder as `cinch train --data` takes it. RECIPE: paper, cinch, a YAML file, or an inline
 * mapping such as '{base: cinch, lr: 2e-3}'. EPOCHS 0: the recipe's own. Every recipe
 * runs with seeds 1..SEEDS, and all of them are printed, then their mean and standard deviation.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cpu/train/backend.h"
#include "nn/metrics.h"
#include "nn/prune.h"
#include "nn/train.h"

struct bench {
    struct ecg_dataset *d;
    struct nn_backend *be;
    const char *arg; /* NET[@KEEP] */
    char net[24];
    double keep; /* 1: no pruning */
    int epochs, seeds;
};

static int read_recipe(const struct bench *b, const char *text, struct nn_recipe *r,
                       struct cn_error *err)
{
    struct cn_yaml *y;
    int rc;
    if (!strcmp(text, "paper") || !strcmp(text, "cinch"))
        return nn_recipe_named(r, text, b->net, err);
    if (text[0] == '{')
        rc = cn_yaml_parse(&y, "recipe", text, strlen(text), err);
    else
        rc = cn_yaml_load(&y, text, err);
    if (rc) return rc;
    rc = nn_recipe_yaml(r, y, b->net, err);
    cn_yaml_destroy(y);
    return rc;
}

/* Macro-AUROC, or macro-F1 for exclusive classes, on the test part. */
static int test_score(const struct bench *b, const struct nn_model *m, double *score,
                      struct cn_error *err)
{
    uint32_t *idx;
    int n, labels = b->d->n_labels;
    int rc = ecg_dataset_part(b->d, ECG_TEST, &idx, &n, err);
    if (rc) return rc;
    float *p = malloc((size_t)n * (size_t)labels * sizeof *p + 1);
    uint8_t *y = malloc((size_t)n * (size_t)labels + 1);
    if (!p || !y) rc = cn_fail(err, CN_ENOMEM, "out of memory");
    if (!rc) rc = nn_predict(b->be, m, b->d, idx, n, p, err);
    for (int i = 0; !rc && i < n; i++)
        memcpy(y + i * labels, b->d->y + idx[i] * (uint32_t)labels, (size_t)labels);
    if (!rc && b->d->task == ECG_ONE_LABEL) {
        struct nn_class_report r;
        nn_classify(p, y, n, labels, &r);
        *score = r.macro_f1;
    } else if (!rc) {
        struct nn_auroc_report r;
        nn_auroc_all(p, y, n, labels, 0, &r);
        *score = r.macro;
    }
    free(p);
    free(y);
    free(idx);
    return rc;
}

static int train(const struct bench *b, const struct nn_recipe *r, struct nn_train_member *m,
                 struct cn_error *err)
{
    struct nn_train t = {.backend = b->be, .data = b->d, .recipe = r, .m = 1, .member = m};
    return nn_train_run(&t, err);
}

/* One round of pruning and its fine-tuning. */
static int prune(const struct bench *b, const struct nn_recipe *r, struct nn_train_member *m,
                 struct cn_error *err)
{
    struct nn_recipe finetune;
    struct nn_model *small;
    int keep[NN_MAX_WIDTHS];
    for (int w = 0; w < m->model->net->n_widths; w++)
        keep[w] = nn_prune_keep(m->model->net->full_width[w], b->keep, 1, 1);
    int rc = nn_prune(&small, m->model, keep, NN_L1, NULL, err);
    if (rc) return rc;
    nn_model_destroy(m->model);
    m->model = small;
    nn_recipe_finetune(r, &finetune);
    return train(b, &finetune, m, err);
}

static int run_one(const struct bench *b, const struct nn_recipe *r, uint64_t seed, double out[2],
                   struct cn_error *err)
{
    struct nn_shape shape = {b->d->n_leads, b->d->n_samples, b->d->n_labels};
    struct nn_net *net;
    struct nn_train_member m = {.seed = seed};
    int rc = nn_net_build(&net, b->net, NULL, 0, shape, err);
    if (!rc) rc = nn_model_create(&m.model, net, seed, b->d, err);
    if (rc) return rc;
    int64_t began = cn_mono_ms();
    rc = train(b, r, &m, err);
    if (!rc && b->keep < 1) rc = prune(b, r, &m, err);
    if (!rc) rc = test_score(b, m.model, &out[1], err);
    out[0] = m.best_score;
    if (!rc)
        printf("| %s | %s | %d | %llu | %.4f | %.4f | %d | %.0f |\n", b->arg, r->name, r->epochs,
               (unsigned long long)seed, out[0], out[1], m.best_epoch,
               (double)(cn_mono_ms() - began) / 1000);
    fflush(stdout);
    nn_model_destroy(m.model);
    return rc;
}

static int run_recipe(const struct bench *b, const char *text, struct cn_error *err)
{
    struct nn_recipe r;
    double sum[2] = {0, 0}, square[2] = {0, 0}, spread[2];
    int rc = read_recipe(b, text, &r, err);
    if (!rc && b->epochs) r.epochs = b->epochs;
    for (int s = 1; s <= b->seeds && !rc; s++) {
        double score[2];
        rc = run_one(b, &r, (uint64_t)s, score, err);
        for (int k = 0; k < 2 && !rc; k++) {
            sum[k] += score[k];
            square[k] += score[k] * score[k];
        }
    }
    for (int k = 0; k < 2; k++) {
        double mean = sum[k] / b->seeds, n = b->seeds;
        spread[k] = n > 1 ? sqrt(fmax(0, (square[k] - n * mean * mean) / (n - 1))) : 0;
    }
    if (!rc)
        printf("| **%s** | %s | %d | mean of %d | **%.4f** ± %.4f | **%.4f** ± %.4f | | |\n",
               b->arg, text, r.epochs, b->seeds, sum[0] / b->seeds, spread[0], sum[1] / b->seeds,
               spread[1]);
    fflush(stdout);
    return rc;
}

int main(int argc, char **argv)
{
    struct cn_error err = {0};
    if (argc < 7) {
        fprintf(stderr, "usage: bench_recipes DATA NET[@KEEP] EPOCHS SEEDS THREADS RECIPE..\n");
        return 2;
    }
    struct bench b = {.arg = argv[2], .keep = 1, .epochs = atoi(argv[3]), .seeds = atoi(argv[4])};
    struct ecg_build build = {.dir = argv[1], .threads = atoi(argv[5])};
    struct cpu_train_options opt = {.threads = atoi(argv[5])};
    snprintf(b.net, sizeof b.net, "%.*s", (int)strcspn(b.arg, "@"), b.arg);
    if (strchr(b.arg, '@')) b.keep = atof(strchr(b.arg, '@') + 1);
    int rc = b.seeds < 1 ? cn_fail(&err, CN_EINVALID, "SEEDS must be at least 1") : 0;
    if (!rc) rc = ecg_dataset_open(&b.d, &build, &err);
    if (!rc) rc = cpu_train_create(&b.be, &opt, &err);
    if (!rc) {
        printf("| net | recipe | epochs | seed | validation | test | best epoch | seconds |\n");
        printf("|---|---|---|---|---|---|---|---|\n");
    }
    for (int i = 6; i < argc && !rc; i++) rc = run_recipe(&b, argv[i], &err);
    if (rc) fprintf(stderr, "bench_recipes: %s\n", err.text);
    if (b.be) b.be->ops->destroy(b.be);
    ecg_dataset_close(b.d);
    return rc ? 1 : 0;
}
