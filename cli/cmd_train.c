/* cli/cmd_train.c - `cinch train`: one net, from initialisation to its best weights. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/commands.h"
#include "cli/data.h"
#include "cli/grid.h"
#include "cli/training.h"

#define MAX_CHECKPOINT (256u << 20)

struct args {
    const char *net, *data, *recipe, *widths, *teacher, *device, *resume;
    struct cli_out out;
    uint64_t seed;
    int epochs, threads;
    struct cli_parting parting;
};

struct work {
    struct ecg_dataset *data;
    struct cli_device device;
    struct nn_recipe recipe;
    struct nn_model *model, *teacher;
    char *resume;
    size_t resume_n;
    struct cli_checkpoint checkpoint;
};

static int parse(struct cli *c, struct args *a, int argc, char **argv)
{
    const struct cli_option options[] = {
        OPT_TEXT("net", 0, &a->net, "NET", "cnn, rnn, resnet, ..."),
        OPT_TEXT("data", 0, &a->data, "DIR", "a PTB-XL or MIT-BIH folder, or a known name"),
        OPT_GAPS(c),
        OPT_SPLIT(&a->parting.split),
        OPT_TEXT("recipe", 0, &a->recipe, "R", "paper (default), cinch, or a YAML file"),
        OPT_U64("seed", &a->seed, "N", "keys everything random; 0"),
        OPT_INT("epochs", &a->epochs, "N", 0, 100000, "the recipe's; 0 writes the initialised net"),
        OPT_TEXT("widths", 0, &a->widths, "A,B,..", "structures per layer; full"),
        OPT_TEXT("teacher", 0, &a->teacher, "FILE", "distil from this checkpoint"),
        OPT_INT("threads", &a->threads, "N", 1, 1024, "all cores; the result is the same"),
        OPT_TEXT("device", 0, &a->device, "D", "cpu (default), gpu, gpu:N"),
        OPT_TEXT("resume", 0, &a->resume, "FILE", "go on from a checkpoint"),
        OPT_TEXT("out", 'o', &a->out.path, "FILE", "the trained model, safetensors"),
        OPT_FORCE(&a->out),
        OPT_END};
    struct cli_use use = {"--net NET --data DIR -o MODEL.safetensors [options]",
                          "Trains one net and keeps the weights that were best on the validation "
                          "part. Ctrl-C leaves a\ncheckpoint that --resume takes.",
                          options,
                          0,
                          0,
                          0,
                          NULL};
    int rc = cli_parse(c, &use, argc, argv);
    if (!rc) rc = cli_need(c, a->net, "--net");
    if (!rc) rc = cli_need(c, a->data, "--data");
    if (!rc) rc = cli_need(c, a->out.path, "-o");
    a->out.form = CLI_FORM_MODEL;
    a->out.input[0] = a->teacher;
    a->out.input[1] = a->resume;
    a->out.input[2] = a->data;
    a->out.input[3] = a->recipe;
    return rc ? rc : cli_out_check(c, &a->out);
}

/* The net before any work on the data, so that a typing error costs no minute. */
static int build_net(struct cli *c, const struct args *a, struct nn_shape shape,
                     struct nn_net **net)
{
    int widths[NN_MAX_WIDTHS], n = 0, rc = 0;
    if (a->widths) rc = cli_int_list(c, a->widths, "--widths", 4096, widths, NN_MAX_WIDTHS, &n);
    if (!rc) rc = nn_net_build(net, a->net, a->widths ? widths : NULL, n, shape, &c->err);
    return rc;
}

static int load_inputs(struct cli *c, const struct args *a, struct work *w)
{
    struct nn_net *net = NULL;
    struct nn_shape none = {0};
    int rc = build_net(c, a, none, &net);
    nn_net_destroy(net);
    if (!rc) rc = grid_recipe(&w->recipe, a->recipe, a->net, &c->err);
    if (!rc && a->epochs >= 0) w->recipe.epochs = a->epochs;
    if (!rc && a->resume && !w->recipe.epochs)
        rc = cn_fail(&c->err, CN_EINVALID,
                     "--epochs 0 writes the initialised net; there is nothing that --resume could "
                     "go on from");
    if (!rc && a->teacher) rc = nn_model_load(&w->teacher, a->teacher, &c->err);
    if (!rc && a->resume)
        rc = cn_file_read(a->resume, MAX_CHECKPOINT, &w->resume, &w->resume_n, &c->err);
    if (!rc) rc = cli_device_open(c, a->device, a->threads, &w->device);
    if (!rc) rc = cli_dataset_open_as(c, a->data, &a->parting, &w->data);
    if (!rc && w->teacher) rc = cli_teacher_suits(c, w->data, w->teacher, a->teacher);
    return rc;
}

static int create_model(struct cli *c, const struct args *a, struct work *w)
{
    struct nn_net *net = NULL;
    struct nn_shape none = {0};
    int rc = build_net(c, a, none, &net);
    if (!rc && (rc = cli_dataset_fits(c, w->data, net))) nn_net_destroy(net);
    if (!rc) rc = nn_model_create(&w->model, net, a->seed, w->data, &c->err);
    return rc;
}

static int answer(struct cli *c, const struct args *a, const struct work *w,
                  const struct cli_training *t)
{
    if (c->json)
        return cli_answer_json(
            c,
            json_pack("{s:o, s:s, s:I, s:I, s:i, s:i, s:o, s:b, s:o, s:o}", "path",
                      cli_json_text(a->out.path), "net", w->model->net->name, "params",
                      (json_int_t)w->model->net->n_params, "seed", (json_int_t)a->seed, "epochs",
                      w->recipe.epochs, "best_epoch", t->best_epoch, "best_score",
                      cli_json_real(t->best_score), "distilled", w->teacher != NULL, "seconds",
                      cli_json_real(t->seconds), "records_per_s", cli_json_real(t->records_per_s)));
    FILE *to = cli_out_words(&a->out);
    const struct nn_net *net = w->model->net;
    char score[CLI_SCORE_TEXT];
    if (!w->recipe.epochs)
        cli_print(to, "%s: %s initialised, %zu parameters, not trained\n", a->out.path, net->name,
                  net->n_params);
    else
        cli_print(to, "%s: %s, %zu parameters, %s %d epochs %s %d: %s (%.1f s, %.0f records/s)\n",
                  a->out.path, net->name, net->n_params, isfinite(t->best_score) ? "best of" : "of",
                  w->recipe.epochs, isfinite(t->best_score) ? "was" : "the weights after",
                  t->best_epoch, cli_score_text(t->best_score, score), t->seconds,
                  t->records_per_s);
    return 0;
}

static void start_checkpoint(const struct cli *c, const struct args *a, struct work *w)
{
    char path[4096];
    cli_checkpoint_start(&w->checkpoint, a->out.path, w->model->net->name, a->resume);
    if (*cli_checkpoint_other(&w->checkpoint, path))
        cli_say(c,
                "%s is there already and stays as it is; if it is the checkpoint of this training, "
                "`--resume %s` goes on from it",
                path, path);
}

static int train(struct cli *c, const struct args *a, struct work *w)
{
    char label[64];
    snprintf(label, sizeof label, "training %s", a->net);
    start_checkpoint(c, a, w);
    struct cli_training t = {.label = label,
                             .data = w->data,
                             .backend = w->device.backend,
                             .recipe = &w->recipe,
                             .seed = a->seed,
                             .model = w->model,
                             .teacher = w->teacher,
                             .checkpoint = &w->checkpoint,
                             .resume = w->resume,
                             .resume_n = w->resume_n,
                             .best_score = NAN};
    int rc = w->recipe.epochs ? cli_train(c, &t) : 0;
    if (a->resume && (rc == CN_EINVALID || rc == CN_ECORRUPT))
        cn_fail_prefix(&c->err, "--resume %s", a->resume);
    if (!rc) rc = cli_save_model(c, &a->out, w->model);
    if (!rc) cli_checkpoint_done(&w->checkpoint);
    return rc ? rc : answer(c, a, w, &t);
}

static void release(struct work *w)
{
    nn_model_destroy(w->model);
    nn_model_destroy(w->teacher);
    cli_device_close(&w->device);
    ecg_dataset_close(w->data);
    free(w->resume);
}

int cmd_train(struct cli *c, int argc, char **argv)
{
    struct args a = {.recipe = "paper", .device = "cpu", .epochs = -1};
    struct work w = {0};
    int rc = parse(c, &a, argc, argv);
    if (rc) return rc;
    rc = load_inputs(c, &a, &w);
    if (!rc) rc = create_model(c, &a, &w);
    if (!rc) rc = train(c, &a, &w);
    release(&w);
    return rc;
}
