/* Fuzz target of YAML: any bytes end in a tree whose nodes know their places, or in one complaint; and a tree that is a map is
 * read as the recipe of each net, which ends in figures inside their ranges or in a complaint with a place. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/yaml.h"
#include "nn/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void complaint(int rc, const struct cn_error *err)
{
    if (rc != err->code || !*err->text || !cn_text_clean(err->text, sizeof err->text))
        __builtin_trap();
}

static void walk(const struct cn_yaml *y, int depth)
{
    if (y->line < 1 || y->column < 1 || depth > 64) __builtin_trap();
    if (y->kind == CN_YAML_SCALAR && !y->text) __builtin_trap();
    for (int i = 0; i < y->n; i++) {
        walk(y->item[i], depth + 1);
        if (y->kind == CN_YAML_MAP && cn_yaml_get(y, y->key[i]->text) != y->item[i])
            __builtin_trap(); /* a key that stood twice */
    }
}

static void as_recipe(const struct cn_yaml *y, const char *net)
{
    struct nn_recipe r;
    struct cn_error err = {0};
    int rc = nn_recipe_yaml(&r, y, net, &err);
    if (rc) {
        complaint(rc, &err);
        return;
    }
    if (!isfinite(r.lr) || r.lr < 0 || r.epochs < 0) __builtin_trap();
    char *json = nn_recipe_json(&r);
    struct nn_recipe back;
    if (json && nn_recipe_parse_json(&back, json, &err)) __builtin_trap();
    free(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct cn_yaml *root = NULL;
    struct cn_error err = {0};
    int rc = cn_yaml_parse(&root, "fuzz.yaml", (const char *)data, n, &err);
    if (rc) {
        if (root) __builtin_trap();
        complaint(rc, &err);
        return 0;
    }
    if (n < 20000) walk(root, 0);
    static const char *const nets[] = {"cnn", "rnn", "resnet", "beat"};
    for (int i = 0; i < 4 && root->kind == CN_YAML_MAP; i++) as_recipe(root, nets[i]);
    cn_yaml_destroy(root);
    return 0;
}
