/* Tests of recipes: study A's numbers, YAML with places, canonical JSON and back, fine-tuning. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nn/recipe.h"

static struct nn_recipe named(const char *name, const char *net)
{
    struct nn_recipe r;
    struct cn_error err;
    assert_int_equal(nn_recipe_named(&r, name, net, &err), 0);
    return r;
}

static int from_yaml(struct nn_recipe *r, const char *text, struct cn_error *err)
{
    struct cn_yaml *y;
    assert_int_equal(cn_yaml_parse(&y, "r.yaml", text, strlen(text), err), 0);
    int rc = nn_recipe_yaml(r, y, "cnn", err);
    cn_yaml_destroy(y);
    return rc;
}

static void paper_is_study_a(void **state)
{
    struct nn_recipe r = named("paper", "rnn");
    assert_true(r.optimiser == NN_ADAM && r.lr == 1e-3 && r.batch == 64 && r.alpha == 0.4);
    assert_true(r.schedule == NN_PLATEAU && r.factor == 0.5 && r.period == 10 && r.lr_min == 1e-5);
    r = named("paper", "cnn");
    assert_true(r.optimiser == NN_SGD && r.nesterov && r.momentum == 0.995 && r.batch == 64);
    assert_true(r.weight_decay == 0.007 && r.schedule == NN_COSINE && r.period == 30);
    assert_true(r.lr == 1e-3 && r.lr_min == 1e-6 && !r.per_step && r.warmup == 0);
    assert_true(r.ema == 0 && r.mixup == 0 && r.smooth == 0 && r.aug_shift == 0 && r.clip == 0);
    struct nn_recipe f;
    nn_recipe_finetune(&r, &f);
    assert_true(f.lr == 5e-4 && f.period == 20 && f.epochs == r.finetune_epochs);
    assert_true(f.momentum == 0.995);
    r = named("paper", "resnet");
    assert_true(r.optimiser == NN_ADAM && r.schedule == NN_COSINE && r.period == 5);
    assert_true(r.batch == 128 && r.lr == 1e-3 && r.lr_min == 1e-6);
    nn_recipe_finetune(&r, &f);
    assert_true(f.lr == 1e-3 && f.period == 5);
}

static void unknown_names(void **state)
{
    struct nn_recipe r;
    struct cn_error err;
    assert_int_equal(nn_recipe_named(&r, "papre", "cnn", &err), CN_EINVALID);
    assert_non_null(strstr(err.text, "did you mean 'paper'"));
    assert_int_equal(nn_recipe_named(&r, "paper", "vgg", &err), CN_EINVALID);
    assert_non_null(strstr(err.text, "no net 'vgg'"));
}

static void yaml_overrides(void **state)
{
    struct nn_recipe r;
    struct cn_error err;
    assert_int_equal(from_yaml(&r,
                               "base: cinch\nname: mine\nepochs: 7\nlr: 2e-3\noptimiser: sgd\n"
                               "nesterov: yes\nschedule: cosine\nperiod: 3\n",
                               &err),
                     0);
    struct nn_recipe base = named("cinch", "cnn");
    assert_string_equal(r.name, "mine");
    assert_true(r.epochs == 7 && r.lr == 2e-3 && r.optimiser == NN_SGD && r.nesterov == 1);
    assert_true(r.schedule == NN_COSINE && r.period == 3 && r.mixup == base.mixup);
    assert_int_equal(from_yaml(&r, "{}", &err), 0); /* paper is the base by default */
    assert_true(r.momentum == 0.995);
}

static void yaml_complaints(void **state)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"epochs: 3\nmomentun: 0.9\n",
         "r.yaml:2:1: unknown key 'momentun'; did you mean 'momentum'"},
        {"epochs: many\n", "r.yaml:1:9: epochs"},
        {"epochs: -1\n", "r.yaml:1:9: epochs"},
        {"batch: 0\n", "r.yaml:1:8: batch"},
        {"base: papr\n", "r.yaml:1:7: "},
        {"lr: fast\n", "r.yaml:1:5: lr"},
        {"lr: .inf\n", "r.yaml:1:5: lr"},
        {"alpha: 1.5\n", "r.yaml:1:8: alpha"},
        {"optimiser: adamm\n", "r.yaml:1:12: "},
        {"nesterov: maybe\n", "r.yaml:1:11: nesterov"},
        {"epochs: [1]\n", "r.yaml:1:9: epochs"},
        {"- paper\n", "r.yaml:1:1: a recipe is a mapping"},
        {"lr: 1e-4\nlr_min: 1e-3\n", "r.yaml:2:9: lr_min is above lr"},
        {"lr_min: 6e-4\n", "r.yaml:1:9: lr_min is above finetune_lr"},
        {"lr: 1e-7\n", "r.yaml:1:1: lr_min is above lr"},
        {"optimiser: adam\nnesterov: true\n", "r.yaml:2:11: nesterov belongs to the optimiser sgd"},
        {"momentum: 0\n", "nesterov needs a momentum"},
        {"lr: 0\nlr_min: 0\n", "r.yaml:1:5: lr 0 trains nothing"},
        {"lr: -0.1\n", "r.yaml:1:5: lr"},
        {"lr: nan\n", "r.yaml:1:5: lr"},
        {"lr: 1e999\n", "r.yaml:1:5: lr"},
        {"weight_decay: -1\n", "r.yaml:1:15: weight_decay"},
        {"alpha: -0.1\n", "r.yaml:1:8: alpha"},
        {"period: -1\n", "r.yaml:1:9: period"},
        {"epochs: 0\n", "r.yaml:1:9: epochs must be 1 or more"},
        {"base: cinch\nper_step: no\nschedule: plateau\n", "needs a period"},
        {"per_step: yes\nschedule: plateau\nperiod: 3\n", "r.yaml:1:11: the plateau schedule"},
        {"schedule: plateau\nperiod: 0\n", "r.yaml:2:9: the plateau schedule needs a period"},
        {"schedule: plateau\nfactor: 1\n", "r.yaml:2:9: a factor of 1"},
        {"factor: 0\n", "r.yaml:1:9: factor"},
        {"name: abcdefghijklmnopqrstuvwxyzabcdefghij\n", "r.yaml:1:7: name is longer"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct nn_recipe r;
        struct cn_error err;
        assert_int_equal(from_yaml(&r, bad[i].text, &err), CN_EINVALID);
        if (!strstr(err.text, bad[i].says)) fail_msg("'%s' lacks '%s'", err.text, bad[i].says);
    }
}

static void json_round_trip(void **state)
{
    static const char *const nets[] = {"rnn", "cnn", "resnet", "beat"};
    for (int i = 0; i < 8; i++) {
        struct nn_recipe r = named(i % 2 ? "paper" : "cinch", nets[i / 2]), back;
        struct cn_error err;
        r.lr *= 1.0 / 3; /* all digits must survive */
        char *text = nn_recipe_json(&r);
        assert_int_equal(nn_recipe_parse_json(&back, text, &err), 0);
        char *again = nn_recipe_json(&back);
        assert_string_equal(text, again);
        assert_true(back.lr == r.lr && back.epochs == r.epochs);
        free(text);
        free(again);
    }
}

/* A flag of a later version stands in JSON only when it is set: keys of older recipes do not change. */
static void later_flags(void **state)
{
    struct nn_recipe r, back;
    struct cn_error err;
    assert_int_equal(nn_recipe_named(&r, "paper", "cnn", &err), 0);
    char *plain = nn_recipe_json(&r);
    assert_null(strstr(plain, "sync_batchnorm"));
    assert_int_equal(nn_recipe_parse_json(&back, plain, &err), 0);
    assert_int_equal(back.sync_batchnorm, 0);
    r.sync_batchnorm = 1;
    char *text = nn_recipe_json(&r);
    assert_non_null(strstr(text, "\"sync_batchnorm\":1"));
    assert_int_equal(nn_recipe_parse_json(&back, text, &err), 0);
    assert_int_equal(back.sync_batchnorm, 1);
    *strstr(text, "\"sync_batchnorm\":1") = 'x'; /* not JSON any more */
    assert_int_equal(nn_recipe_parse_json(&back, text, &err), CN_EINVALID);
    free(plain);
    free(text);
}

static void json_complaints(void **state)
{
    struct nn_recipe r = named("paper", "cnn"), back;
    struct cn_error err;
    char *text = nn_recipe_json(&r);
    char *at = strstr(text, "\"batch\":64");
    at[8] = '0', at[9] = ' ';
    assert_int_equal(nn_recipe_parse_json(&back, text, &err), CN_EINVALID);
    assert_non_null(strstr(err.text, "batch"));
    memcpy(at, "\"bitch\":64", 10);
    assert_int_equal(nn_recipe_parse_json(&back, text, &err), CN_EINVALID);
    assert_int_equal(nn_recipe_parse_json(&back, "[]", &err), CN_EINVALID);
    assert_int_equal(nn_recipe_parse_json(&back, "{", &err), CN_EINVALID);
    assert_int_equal(nn_recipe_parse_json(&back, "{\"name\":\"x\"}", &err), CN_EINVALID);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paper_is_study_a), cmocka_unit_test(unknown_names),
        cmocka_unit_test(yaml_overrides),   cmocka_unit_test(yaml_complaints),
        cmocka_unit_test(later_flags),      cmocka_unit_test(json_round_trip),
        cmocka_unit_test(json_complaints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
