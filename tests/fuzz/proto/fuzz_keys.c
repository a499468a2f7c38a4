/* Fuzz target of key files: any bytes end in a key whose parts are what proto/keys.h promises, or in a complaint that shows
 * none of the file's control characters. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "proto/check.h"
#include "proto/keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct pr_key k;
    struct cn_error err = {0};
    char *text = malloc(n + 1);
    if (!text) return 0;
    memcpy(text, data, n);
    text[n] = 0;
    int rc = pr_key_parse(&k, "fuzz.key", text, &err);
    if (rc && (rc != err.code || !cn_text_clean(err.text, sizeof err.text))) __builtin_trap();
    if (!rc && (!pr_name_valid(k.name) || !pr_z85_valid(k.public_key) || !pr_z85_valid(k.secret)))
        __builtin_trap();
    pr_key_wipe(&k);
    free(text);
    return 0;
}
