/* The grid parser: defaults, what multiplies, and every complaint with its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "cli/grid.h"
#include "cli/submit.h"
#include "proto/check.h"
#include "proto/spec.h"

static struct grid *good(const char *text)
{
    struct grid *g = NULL;
    struct cn_error err = {0};
    if (grid_parse(&g, "folder/g.yaml", text, strlen(text), &err)) fail_msg("%s", err.text);
    return g;
}

/* The grid must be refused with a message that holds `part`, at g.yaml:`place`. */
static void bad(const char *text, const char *place, const char *part)
{
    struct grid *g = NULL;
    struct cn_error err = {0};
    char at[64];
    snprintf(at, sizeof at, "g.yaml:%s:", place);
    assert_int_equal(grid_parse(&g, "g.yaml", text, strlen(text), &err), CN_EINVALID);
    assert_null(g);
    if (!strstr(err.text, at) || !strstr(err.text, part))
        fail_msg("expected '%s' and '%s' in: %s", at, part, err.text);
}

static void defaults(void **state)
{
    struct grid *g = good("nets: cnn\n");
    struct nn_recipe paper;
    assert_string_equal(g->name, "g");
    assert_string_equal(g->data, "");
    assert_int_equal(g->n_nets, 1);
    assert_int_equal(g->net[0].n_widths, 0);
    assert_int_equal(g->n_seeds, 1);
    assert_int_equal(g->seed[0], 0);
    assert_int_equal(g->n_distill, 1);
    assert_false(g->distill[0]);
    assert_false(g->prune);
    assert_int_equal(g->measure, GRID_FINAL);
    assert_int_equal(g->quantize, GRID_PAPER);
    assert_int_equal(g->calibration, 128);
    assert_string_equal(g->allocator, "paper");
    assert_int_equal(g->runs, 0);
    assert_int_equal(g->priority, 0);
    assert_int_equal(g->gpus, 1);
    assert_int_equal(nn_recipe_named(&paper, "paper", "cnn", NULL), 0);
    assert_memory_equal(&g->net[0].recipe, &paper, sizeof paper);
    grid_destroy(g);
}

/* The file's name stands for the run's, as far as a name may hold it. */
static void default_name(void **state)
{
    struct grid *g = NULL;
    const char *text = "nets: cnn\n";
    assert_int_equal(grid_parse(&g, "a/my grid (2).v1.yaml", text, strlen(text), NULL), 0);
    assert_string_equal(g->name, "my-grid--2-.v1");
    grid_destroy(g);
    assert_int_equal(grid_parse(&g, ".yaml", text, strlen(text), NULL), 0);
    assert_string_equal(g->name, "grid");
    grid_destroy(g);
}

static void all_keys(void **state)
{
    struct grid *g = good("name: study-a-small\n"
                          "data: ptbxl\n"
                          "nets: [cnn, rnn, {net: cnn, widths: [16, 32, 48, 16]}]\n"
                          "seeds: [3, 5]\n"
                          "recipe: cinch\n"
                          "epochs: 60\n"
                          "distill: [false, true]\n"
                          "prune:\n"
                          "  rounds: [1, 5, 10]\n"
                          "  keep: [0.75, 0.5, 1]\n"
                          "  norm: [L1, L2]\n"
                          "  epochs: 20\n"
                          "measure: every-round\n"
                          "quantize: {mode: full, calibration: 64}\n"
                          "latency: {allocator: glibc, runs: 500}\n"
                          "priority: -3\n"
                          "gpus: 4\n");
    assert_string_equal(g->name, "study-a-small");
    assert_string_equal(g->data, "ptbxl");
    assert_int_equal(g->n_nets, 3);
    assert_int_equal(g->net[2].n_widths, 4);
    assert_int_equal(g->net[2].width[2], 48);
    assert_int_equal(g->n_seeds, 2);
    assert_int_equal(g->seed[1], 5);
    assert_int_equal(g->net[1].recipe.epochs, 60);
    assert_int_equal(g->net[1].recipe.finetune_epochs, 20);
    assert_int_equal(g->n_distill, 2);
    assert_true(g->distill[1]);
    assert_true(g->prune);
    assert_int_equal(g->n_rounds, 3);
    assert_int_equal(g->rounds[2], 10);
    assert_int_equal(g->n_keep, 3);
    assert_true(g->keep[2] == 1);
    assert_int_equal(g->n_norms, 2);
    assert_int_equal(g->norm[1], NN_L2);
    assert_int_equal(g->measure, GRID_EVERY_ROUND);
    assert_int_equal(g->quantize, GRID_FULL);
    assert_int_equal(g->calibration, 64);
    assert_string_equal(g->allocator, "glibc");
    assert_int_equal(g->runs, 500);
    assert_int_equal(g->priority, -3);
    assert_int_equal(g->gpus, 4);
    grid_destroy(g);
}

/* The keys of study B. */
static void stages(void **state)
{
    struct grid *g = good("nets: [beat]\n"
                          "split: [random, patient]\n"
                          "prune:\n"
                          "  rounds: [1, 3]\n"
                          "  keep: 0.4\n"
                          "  unit: [weight, structure]\n"
                          "  schedule: [linear, geometric, sensitivity]\n"
                          "  total_epochs: 10\n");
    assert_int_equal(g->n_splits, 2);
    assert_int_equal(g->split[0], ECG_SPLIT_RANDOM);
    assert_int_equal(g->split[1], ECG_SPLIT_INTER_PATIENT);
    assert_int_equal(g->n_units, 2);
    assert_int_equal(g->unit[0], GRID_WEIGHT);
    assert_int_equal(g->n_schedules, 3);
    assert_int_equal(g->schedule[0], NN_STAGES_LINEAR);
    assert_int_equal(g->schedule[2], NN_STAGES_SENSITIVITY);
    assert_int_equal(g->total_epochs, 10);
    grid_destroy(g);
    g = good("nets: [beat]\n"); /* beats are split at random unless told otherwise */
    assert_int_equal(g->n_splits, 1);
    assert_int_equal(g->split[0], ECG_SPLIT_RANDOM);
    grid_destroy(g);
    g = good("nets: [cnn, rnn, resnet]\nunlabelled: drop\n"
             "prune: {unit: weight, schedule: sensitivity, keep: 0.3, rounds: 2}\n");
    assert_int_equal(g->n_splits, 0);
    assert_true(g->drop_unlabelled);
    assert_int_equal(g->n_units, 1);
    assert_int_equal(g->total_epochs, 0);
    grid_destroy(g);
    g = good("nets: [cnn]\nunlabelled: keep\nprune: {keep: 0.3}\n");
    assert_false(g->drop_unlabelled);
    assert_int_equal(g->n_units, 1);
    assert_int_equal(g->unit[0], GRID_STRUCTURE);
    assert_int_equal(g->n_schedules, 1);
    assert_int_equal(g->schedule[0], NN_STAGES_GEOMETRIC);
    grid_destroy(g);
}

static void short_forms(void **state)
{
    struct grid *g = good("nets: [rnn]\nseeds: 4\nquantize: best\nlatency: none\nprune: none\n"
                          "recipe: {base: paper, epochs: 7, lr: 0.01}\n");
    assert_int_equal(g->n_seeds, 4);
    assert_int_equal(g->seed[3], 3);
    assert_int_equal(g->quantize, GRID_BEST);
    assert_false(g->latency);
    assert_false(g->prune);
    assert_int_equal(g->net[0].recipe.epochs, 7);
    assert_true(g->net[0].recipe.lr == 0.01);
    grid_destroy(g);
}

static void complaints(void **state)
{
    bad("name: x\n", "1:1", "`nets` is missing");
    bad("nets: [cnn]\nepoch: 3\n", "2:1", "did you mean 'epochs'");
    bad("nets: [cnn]\nzebra: 3\n", "2:1", "unknown key 'zebra'");
    bad("nets: [cnn, rn]\n", "1:13", "did you mean 'rnn'");
    bad("nets: []\n", "1:7", "empty list");
    bad("nets: [cnn, cnn]\n", "1:13", "twice");
    bad("nets: [[cnn]]\n", "1:8", "a net is a name");
    bad("nets: {net: cnn, width: [1]}\n", "1:18", "did you mean 'widths'");
    bad("nets: {net: cnn, widths: [16, 32]}\n", "1:26", "width");
    bad("nets: {net: cnn, widths: [16, 32, 0, 8]}\n", "1:35", "widths");
    bad("nets: [cnn]\nseeds: 0\n", "2:8", "seeds");
    bad("nets: [cnn]\nseeds: [1, 1]\n", "2:12", "twice");
    bad("nets: [cnn]\nseeds: three\n", "2:8", "seeds");
    bad("nets: [cnn]\nseeds: [-1]\n", "2:9", "seeds");
    bad("nets: [cnn]\nepochs: 0\n", "2:9", "epochs");
    bad("nets: [cnn]\nepochs: 2.5\n", "2:9", "epochs");
    bad("nets: [cnn]\ndistill: perhaps\n", "2:10", "distill");
    bad("nets: [cnn]\ndistill: [true, true]\n", "2:17", "twice");
    bad("nets: [cnn]\nprune: 3\n", "2:8", "prune is a mapping");
    bad("nets: [cnn]\nprune: {keep: 0}\n", "2:15", "(0, 1]");
    bad("nets: [cnn]\nprune: {keep: [0.5, 1.5]}\n", "2:21", "(0, 1]");
    bad("nets: [cnn]\nprune: {keep: -0.5}\n", "2:15", "(0, 1]");
    bad("nets: [cnn]\nprune: {keep: .nan}\n", "2:15", "keep");
    bad("nets: [cnn]\nprune: {rounds: 0}\n", "2:17", "rounds");
    bad("nets: [cnn]\nprune:\n  norm: L3\n", "3:9", "norm");
    bad("nets: [cnn]\nprune:\n  norms: L1\n", "3:3", "did you mean 'norm'");
    bad("nets: [beat]\nsplit: patients\n", "2:8", "did you mean 'patient'");
    bad("nets: [beat]\nsplit: [random, random]\n", "2:17", "twice");
    bad("nets: [beat]\nsplit: []\n", "2:8", "empty list");
    bad("nets: [cnn]\nsplit: patient\n", "2:8", "folds");
    bad("nets: [beat]\nunlabelled: drop\n", "2:13", "PTB-XL");
    bad("nets: [cnn]\nunlabelled: maybe\n", "2:13", "keep");
    bad("nets: [cnn]\nprune: {unit: filter}\n", "2:15", "structure");
    bad("nets: [cnn]\nprune: {unit: [weight, weight]}\n", "2:24", "twice");
    bad("nets: [cnn]\nprune: {keep: [0.5, 0.5000001]}\n", "2:21", "twice");
    bad("nets: [cnn]\nprune: {schedule: geometrical}\n", "2:19", "did you mean 'geometric'");
    bad("nets: [cnn]\nprune: {schedule: [linear, linear]}\n", "2:28", "twice");
    bad("nets: [cnn]\nprune: {total_epochs: 0}\n", "2:23", "total_epochs");
    bad("nets: [cnn]\nprune: {rounds: [1, 5], total_epochs: 4}\n", "2:39", "5 rounds");
    bad("nets: [cnn]\nprune: {epochs: 2, total_epochs: 4}\n", "2:34", "give one");
    bad("nets: [cnn]\nprune: {unit: weight, norm: L2}\n", "2:29", "leave it out");
    bad("nets: [cnn]\nprune: {unit: weight, norm: [L1, L2]}\n", "2:29", "leave it out");
    bad("nets: [cnn]\nmeasure: finally\n", "2:10", "final");
    bad("nets: [cnn]\nquantize: {mode: papr}\n", "2:18", "did you mean 'paper'");
    bad("nets: [cnn]\nquantize: {calibration: 0}\n", "2:25", "calibration");
    bad("nets: [cnn]\nlatency: {allocator: jmalloc}\n", "2:22", "did you mean 'jemalloc'");
    bad("nets: [cnn]\nlatency: {runs: 0}\n", "2:17", "runs");
    bad("nets: [cnn]\npriority: 101\n", "2:11", "priority");
    bad("nets: [cnn]\ngpus: 9\n", "2:7", "gpus");
    bad("nets: [cnn]\ngpus: 3\n", "2:7", "shared evenly");
    bad("nets: [cnn]\nrecipe: papr\n", "2:9", "paper");
    bad("nets: [cnn]\nrecipe: {epoch: 3}\n", "2:10", "did you mean 'epochs'");
    bad("nets: [cnn]\nrecipe: missing.yaml\n", "2:9", "missing.yaml");
    bad("nets: [cnn]\nname: a/b\n", "2:7", "name");
    bad("nets: [cnn]\nname: a b\n", "2:7", "name");
    bad("nets: [cnn]\ndata: some/folder\n", "2:7", "--data");
    bad("nets: [cnn\n", "2:1", "");
    bad("- cnn\n", "1:1", "mapping");
    bad("nets: [cnn]\nnets: [rnn]\n", "2:1", "twice");
}

/* A recipe file named in a grid is looked for beside the grid. */
static void recipe_file(void **state)
{
    char dir[] = "/tmp/cinch-grid-XXXXXX", path[128];
    struct grid *g = NULL;
    struct cn_error err = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/mine.yaml", dir);
    const char *recipe = "base: cinch\nepochs: 9\n", *grid = "nets: cnn\nrecipe: mine.yaml\n";
    assert_int_equal(cn_file_write(path, recipe, strlen(recipe), NULL), 0);
    snprintf(path, sizeof path, "%s/g.yaml", dir);
    assert_int_equal(cn_file_write(path, grid, strlen(grid), NULL), 0);
    if (grid_load(&g, path, &err)) fail_msg("%s", err.text);
    assert_int_equal(g->net[0].recipe.epochs, 9);
    grid_destroy(g);
    assert_int_equal(cn_rmtree(dir, NULL), 0);
    assert_int_equal(grid_load(&g, path, &err), CN_ENOTFOUND);
}

/* The message carries plain numbers: `paper` is resolved for each net. */
static void message(void **state)
{
    struct grid *g = good("nets: [cnn, rnn]\nseeds: 2\ndistill: [false, true]\n"
                          "prune: {rounds: [1, 5], keep: [0.5]}\n");
    struct cli_submit *s = NULL;
    struct cli_submit_how how = {.text = "the text", .dataset = "ptbxl", .paused = true};
    assert_int_equal(cli_submit_create(&s, g, &how, NULL), 0);
    const Cinch__Submit *m = cli_submit_message(s);
    assert_int_equal(m->n_nets, 2);
    assert_string_equal(m->nets[0]->allocators[0], "jemalloc");
    assert_string_equal(m->nets[1]->allocators[0], "tcmalloc");
    assert_int_equal(m->nets[0]->latency_runs, 10000);
    assert_int_equal(m->nets[1]->latency_runs, 2000);
    assert_int_equal(m->n_seeds, 2);
    assert_int_equal(m->n_distill, 2);
    assert_int_equal(m->prune->n_rounds, 2);
    assert_int_equal(m->nonce.len, 16);
    assert_int_equal(m->fingerprint.len, 0);
    assert_string_equal(m->dataset, "ptbxl");
    assert_string_equal(m->grid, "the text");
    assert_true(m->paused);
    assert_string_not_equal(m->nets[0]->recipe, m->nets[0]->finetune);
    cli_submit_destroy(s);
    grid_destroy(g);
}

/* Splits and the recipes of every number of epochs travel with the grid. */
static void message_of_stages(void **state)
{
    struct grid *g = good("nets: [beat]\nsplit: [patient, random]\n"
                          "prune: {rounds: [1, 3, 5], keep: 0.4, total_epochs: 10, unit: weight,\n"
                          "        schedule: [geometric, linear]}\n");
    const struct cn_hash fingerprint[2] = {{{5}}, {{6}}};
    struct cli_submit *s = NULL;
    struct cli_submit_how how = {.dataset = "mitdb", .fingerprint = fingerprint};
    struct cn_error err = {0};
    assert_int_equal(cli_submit_create(&s, g, &how, NULL), 0);
    const Cinch__Submit *m = cli_submit_message(s);
    if (pr_check(PR_SUBMIT, &m->base, &err)) fail_msg("%s", err.text);
    assert_int_equal(m->n_splits, 2);
    assert_string_equal(m->splits[0]->name, "patient");
    assert_int_equal(m->splits[1]->fingerprint.data[0], 6);
    assert_int_equal(m->fingerprint.data[0], 5);
    assert_int_equal(m->prune->total_epochs, 10);
    assert_string_equal(m->prune->units[0], "weight");
    assert_string_equal(m->prune->schedules[1], "linear");
    assert_string_equal(m->nets[0]->finetune, "");
    /* 10; 4, 3, 3; 2 each */
    assert_int_equal(m->nets[0]->n_finetunes, 4);
    for (size_t i = 0; i < 4; i++) {
        struct nn_recipe r;
        const Cinch__Finetune *f = m->nets[0]->finetunes[i];
        assert_int_equal(nn_recipe_parse_json(&r, f->recipe, NULL), 0);
        assert_int_equal(r.epochs, f->epochs);
    }
    assert_non_null(pr_finetune(m->nets[0], 3));
    assert_null(pr_finetune(m->nets[0], 5));
    cli_submit_destroy(s);
    grid_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_name),      cmocka_unit_test(defaults),
        cmocka_unit_test(all_keys),          cmocka_unit_test(short_forms),
        cmocka_unit_test(complaints),        cmocka_unit_test(recipe_file),
        cmocka_unit_test(message),           cmocka_unit_test(stages),
        cmocka_unit_test(message_of_stages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
