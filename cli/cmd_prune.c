/* cli/cmd_prune.c - `cinch prune`: removes structures, or zeros single weights, in rounds, fine-tuning after
 * each. A round is the very step that a worker takes for a grid's job. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/hash.h"
#include "cli/commands.h"
#include "cli/data.h"
#include "cli/grid.h"
#include "cli/rounds.h"
#include "cli/training.h"
#include "workers/steps.h"

#define MAX_CHECKPOINT (512u << 20)

static const char *const norm_names[] = {"L1", "L2", "taylor", NULL};
static const char *const unit_names[] = {"structure", "weight", NULL};
static const char *const schedule_names[] = {"geometric", "linear", "sensitivity", NULL};
enum { STRUCTURE, WEIGHT };

struct args {
    const char *model, *data, *recipe, *teacher, *device, *resume;
    struct cli_out out;
    double keep;
    int rounds, norm, unit, schedule, epochs, threads;
    uint64_t seed;
    struct cli_parting parting;
};

struct work {
    struct ecg_dataset *data;
    struct cli_device device;
    struct nn_recipe recipe; /* of the fine-tuning */
    struct nn_model *model, *teacher;
    struct nn_model *before; /* the round: what its checkpoint holds */
    struct cli_rounds rounds;
    struct cli_checkpoint checkpoint;
    char *resume;       /* the checkpoint's file, or NULL */
    float *mask;        /* of the round, unit weight; else NULL */
    size_t params_full; /* of the unpruned net */
    double best_score;
};

static int parse(struct cli *c, struct args *a, int argc, char **argv)
{
    const struct cli_option options[] = {
        OPT_TEXT("data", 0, &a->data, "DIR", "what to fine-tune on"),
        OPT_GAPS(c),
        OPT_SPLIT(&a->parting.split),
        OPT_REAL("keep", &a->keep, "F", "fraction of structures or weights left, in (0, 1]"),
        OPT_CHOICE("unit", &a->unit, "UNIT", unit_names,
                   "structure (default: they are really gone), weight (set to zero)"),
        OPT_INT("rounds", &a->rounds, "N", 1, 100, "in so many steps; 1"),
        OPT_CHOICE("schedule", &a->schedule, "S", schedule_names,
                   "what a round removes: geometric (default), linear, sensitivity"),
        OPT_CHOICE("norm", &a->norm, "NORM", norm_names, "L1 (default), L2, taylor"),
        OPT_TEXT("teacher", 0, &a->teacher, "FILE", "distil from this one in fine-tuning"),
        OPT_TEXT("recipe", 0, &a->recipe, "R", "paper (default), cinch, or a YAML file"),
        OPT_INT("epochs", &a->epochs, "N", 0, 100000, "of fine-tuning a round; 0: none"),
        OPT_U64("seed", &a->seed, "N", "keys everything random; 0"),
        OPT_INT("threads", &a->threads, "N", 1, 1024, "all cores; the result is the same"),
        OPT_TEXT("device", 0, &a->device, "D", "cpu (default), gpu, gpu:N"),
        OPT_TEXT("resume", 0, &a->resume, "FILE", "go on from the checkpoint that Ctrl-C leaves"),
        OPT_TEXT("out", 'o', &a->out.path, "FILE", "the pruned model, safetensors"),
        OPT_FORCE(&a->out),
        OPT_END};
    struct cli_use use = {
        "MODEL --data DIR --keep F -o MODEL [options]",
        "Removes the weakest channels, units or weights in rounds, and fine-tunes after each.",
        options,
        1,
        1,
        0,
        NULL};
    int rc = cli_parse(c, &use, argc, argv);
    if (rc) return rc;
    a->model = use.word[0];
    rc = cli_need(c, a->data, "--data");
    if (!rc && isnan(a->keep)) rc = cli_need(c, NULL, "--keep");
    if (!rc && !(a->keep > 0 && a->keep <= 1))
        rc =
            cn_fail(&c->err, CN_EINVALID,
                    "--keep is the fraction of structures left, in (0, 1]; %g is outside", a->keep);
    if (!rc && a->unit == WEIGHT && a->norm >= 0)
        rc = cn_fail(&c->err, CN_EINVALID,
                     "--norm ranks structures; single weights go by their size");
    if (a->norm < 0) a->norm = 0;
    if (!rc) rc = cli_need(c, a->out.path, "-o");
    a->out.form = CLI_FORM_MODEL;
    a->out.input[0] = a->model;
    a->out.input[1] = a->teacher;
    a->out.input[2] = a->data;
    a->out.input[3] = a->recipe;
    a->out.input[4] = a->resume;
    return rc ? rc : cli_out_check(c, &a->out);
}

static int full_params(struct cli *c, const struct nn_net *net, size_t *params)
{
    struct nn_net *full = NULL;
    struct nn_shape shape = {net->n_leads, net->n_samples, net->n_labels};
    int rc = nn_net_build(&full, net->name, net->full_width, net->n_widths, shape, &c->err);
    if (!rc) *params = full->n_params;
    nn_net_destroy(full);
    return rc;
}

static int load_inputs(struct cli *c, const struct args *a, struct work *w)
{
    struct nn_recipe base;
    int rc = nn_model_load(&w->model, a->model, &c->err);
    if (!rc) rc = grid_recipe(&base, a->recipe, w->model->net->name, &c->err);
    if (!rc) {
        if (a->epochs >= 0) base.finetune_epochs = a->epochs;
        nn_recipe_finetune(&base, &w->recipe);
        rc = full_params(c, w->model->net, &w->params_full);
    }
    if (!rc && a->teacher) rc = nn_model_load(&w->teacher, a->teacher, &c->err);
    if (!rc) rc = cli_device_open(c, a->device, a->threads, &w->device);
    if (!rc) rc = cli_dataset_open_as(c, a->data, &a->parting, &w->data);
    if (!rc) rc = cli_dataset_suits(c, w->data, w->model, a->model);
    if (!rc) rc = ecg_dataset_renormalise(w->data, w->model->mean, w->model->std, &c->err);
    if (!rc && w->teacher) rc = cli_teacher_suits(c, w->data, w->teacher, a->teacher);
    return rc;
}

/* Removes what round k of the plan removes. */
static int shrink(struct cli *c, const struct args *a, struct work *w, int k)
{
    Cinch__JobBase base = CINCH__JOB_BASE__INIT;
    Cinch__JobSpec spec = CINCH__JOB_SPEC__INIT;
    struct nn_model *smaller = NULL;
    base.prune_unit = (char *)unit_names[a->unit];
    base.prune_schedule = (char *)schedule_names[a->schedule];
    spec.common = &base;
    spec.norm = (char *)norm_names[a->norm];
    spec.keep = a->keep;
    spec.round = (uint32_t)k;
    spec.rounds = (uint32_t)a->rounds;
    free(w->mask);
    w->mask = NULL;
    int rc = step_prune(&smaller, &w->mask, w->model, &spec, w->device.backend, w->data, &c->err);
    if (rc) return rc;
    for (size_t i = 0; w->mask && i < smaller->net->n_params; i++) smaller->params[i] *= w->mask[i];
    nn_model_destroy(w->before);
    w->before = w->model;
    w->model = smaller;
    return 0;
}

static int hash_model(const struct nn_model *m, json_t *into, const char *key, struct cn_error *err)
{
    void *data;
    size_t n;
    struct cn_hash hash;
    char hex[CN_HASH_HEX];
    int rc = nn_model_bytes(m, &data, &n, err);
    if (rc) return rc;
    cn_hash_bytes(data, n, &hash);
    cn_hash_hex(&hash, hex);
    free(data);
    return json_object_set_new(into, key, json_string(hex))
               ? cn_fail(err, CN_ENOMEM, "out of memory")
               : 0;
}

/* All that changes the result: what a checkpoint of this pruning must agree with. */
static int start_rounds(struct cli *c, const struct args *a, struct work *w)
{
    char data[CN_HASH_HEX], *recipe = nn_recipe_json(&w->recipe);
    cn_hash_hex(&w->data->fingerprint, data);
    w->rounds.round = 1;
    w->rounds.asked =
        json_pack("{s:i, s:s, s:s, s:I, s:f, s:i, s:s, s:s, s:s}", "version", 1, "recipe",
                  recipe ? recipe : "", "data", data, "seed", (json_int_t)a->seed, "keep", a->keep,
                  "rounds", a->rounds, "unit", unit_names[a->unit], "norm", norm_names[a->norm],
                  "schedule", schedule_names[a->schedule]);
    int rc = recipe && w->rounds.asked ? 0 : cn_fail(&c->err, CN_ENOMEM, "out of memory");
    free(recipe);
    if (!rc) rc = hash_model(w->model, w->rounds.asked, "model", &c->err);
    if (!rc && w->teacher) rc = hash_model(w->teacher, w->rounds.asked, "teacher", &c->err);
    cli_checkpoint_start(&w->checkpoint, a->out.path, w->model->net->name, a->resume);
    return rc;
}

/* The net before the round in which the checkpoint was written takes the model's place. */
static int resume(struct cli *c, const struct args *a, struct work *w)
{
    struct nn_model *before = NULL;
    size_t n;
    if (!w->recipe.epochs)
        return cn_fail(&c->err, CN_EINVALID,
                       "--resume goes on with fine-tuning, and there is none: 0 epochs");
    int rc = cn_file_read(a->resume, MAX_CHECKPOINT, &w->resume, &n, &c->err);
    if (rc) return rc;
    rc = cli_rounds_unpack(&w->rounds, a->resume, w->resume, n, &before, &c->err);
    if (rc) return cn_fail_prefix(&c->err, "--resume");
    nn_model_destroy(w->model);
    w->model = before;
    return 0;
}

static int wrap(void *arg, const void *data, size_t n, void **out, size_t *out_n,
                struct cn_error *err)
{
    return cli_rounds_pack(arg, data, n, out, out_n, err);
}

/* A finished round is kept before the next one begins. */
static void keep_round(struct cli *c, struct work *w)
{
    void *data = NULL;
    size_t n;
    struct cli_checkpoint *ck = &w->checkpoint;
    w->rounds.round++;
    w->rounds.before = w->model;
    if (cli_rounds_pack(&w->rounds, NULL, 0, &data, &n, &ck->err) ||
        cli_checkpoint_write(ck, data, n))
        cli_say(c, "checkpoint not written: %s", ck->err.text);
    free(data);
}

static int fine_tune(struct cli *c, const struct args *a, struct work *w, int k)
{
    char label[64];
    if (!w->recipe.epochs) return 0;
    snprintf(label, sizeof label, "pruning round %d/%d", k, a->rounds);
    struct cli_training t = {.label = label,
                             .data = w->data,
                             .backend = w->device.backend,
                             .recipe = &w->recipe,
                             .seed = a->seed,
                             .model = w->model,
                             .teacher = w->teacher,
                             .mask = w->mask,
                             .checkpoint = &w->checkpoint,
                             .resume = w->rounds.training,
                             .resume_n = w->rounds.training_n,
                             .wrap = wrap,
                             .wrap_arg = &w->rounds};
    w->rounds.before = w->before;
    int rc = cli_train(c, &t);
    if (w->rounds.training && (rc == CN_EINVALID || rc == CN_ECORRUPT))
        cn_fail_prefix(&c->err, "--resume %s", a->resume);
    w->rounds.training = NULL;
    w->rounds.training_n = 0;
    w->best_score = t.best_score;
    if (!rc && k < a->rounds) keep_round(c, w);
    return rc;
}

static int answer(struct cli *c, const struct args *a, const struct work *w)
{
    const struct nn_net *net = w->model->net;
    double kept = step_kept(w->model, w->params_full);
    if (c->json) {
        json_t *widths = json_array();
        for (int i = 0; i < net->n_widths; i++)
            json_array_append_new(widths, json_integer(net->width[i]));
        return cli_answer_json(
            c, json_pack("{s:o, s:s, s:I, s:f, s:o, s:i, s:s, s:s, s:o, s:o}", "path",
                         cli_json_text(a->out.path), "net", net->name, "params",
                         (json_int_t)net->n_params, "kept", kept, "widths", widths, "rounds",
                         a->rounds, "unit", unit_names[a->unit], "schedule",
                         schedule_names[a->schedule], "norm",
                         a->unit == WEIGHT ? json_null() : json_string(norm_names[a->norm]),
                         "best_score", cli_json_real(w->best_score)));
    }
    char score[CLI_SCORE_TEXT];
    FILE *to = cli_out_words(&a->out);
    cli_print(to, "%s: %s, %.0f of %zu parameters left (%.2f %%), widths", a->out.path, net->name,
              kept * (double)w->params_full, w->params_full, kept * 100);
    for (int i = 0; i < net->n_widths; i++) cli_print(to, "%s%d", i ? "," : " ", net->width[i]);
    if (w->recipe.epochs) cli_print(to, ", %s", cli_score_text(w->best_score, score));
    fputc('\n', to);
    return 0;
}

static void release(struct work *w)
{
    nn_model_destroy(w->model);
    nn_model_destroy(w->before);
    nn_model_destroy(w->teacher);
    json_decref(w->rounds.asked);
    free(w->resume);
    free(w->mask);
    cli_device_close(&w->device);
    ecg_dataset_close(w->data);
}

int cmd_prune(struct cli *c, int argc, char **argv)
{
    struct args a = {
        .recipe = "paper", .device = "cpu", .epochs = -1, .rounds = 1, .norm = -1, .keep = NAN};
    struct work w = {.best_score = NAN};
    int rc = parse(c, &a, argc, argv);
    if (rc) return rc;
    rc = load_inputs(c, &a, &w);
    if (!rc) rc = start_rounds(c, &a, &w);
    if (!rc && a.resume) rc = resume(c, &a, &w);
    for (int k = w.rounds.round; !rc && k <= a.rounds; k++) {
        rc = shrink(c, &a, &w, k);
        if (!rc) rc = fine_tune(c, &a, &w, k);
    }
    if (!rc) rc = cli_save_model(c, &a.out, w.model);
    if (!rc) cli_checkpoint_done(&w.checkpoint);
    if (!rc) rc = answer(c, &a, &w);
    release(&w);
    return rc;
}
