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
                          "priority: -3\n");
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
    bad("nets: [cnn]\nmeasure: finally\n", "2:10", "final");
    bad("nets: [cnn]\nquantize: {mode: papr}\n", "2:18", "did you mean 'paper'");
    bad("nets: [cnn]\nquantize: {calibration: 0}\n", "2:25", "calibration");
    bad("nets: [cnn]\nlatency: {allocator: jmalloc}\n", "2:22", "did you mean 'jemalloc'");
    bad("nets: [cnn]\nlatency: {runs: 0}\n", "2:17", "runs");
    bad("nets: [cnn]\npriority: 101\n", "2:11", "priority");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_name), cmocka_unit_test(defaults),   cmocka_unit_test(all_keys),
        cmocka_unit_test(short_forms),  cmocka_unit_test(complaints), cmocka_unit_test(recipe_file),
        cmocka_unit_test(message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
