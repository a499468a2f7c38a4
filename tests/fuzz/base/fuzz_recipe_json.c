/* Fuzz target of recipes as they travel in jobs and lie in checkpoints (JSON): any text ends in figures that are written and read
 * again as the same text, or in a complaint. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "nn/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct nn_recipe r, back;
    struct cn_error err = {0};
    char *text = malloc(n + 1);
    if (!text) return 0;
    memcpy(text, data, n);
    text[n] = 0;
    int rc = nn_recipe_parse_json(&r, text, &err);
    if (rc && (rc != err.code || !*err.text)) __builtin_trap();
    if (!rc) {
        char *once = nn_recipe_json(&r);
        if (!once || nn_recipe_parse_json(&back, once, &err)) __builtin_trap();
        char *twice = nn_recipe_json(&back);
        if (!twice || strcmp(once, twice)) __builtin_trap();
        free(once);
        free(twice);
    }
    free(text);
    return 0;
}
