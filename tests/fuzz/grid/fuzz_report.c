/* Fuzz target of a run's results: any JSON document ends in tables and CSV, or in a complaint. What stands in it comes out of
 * workers' messages; no control character of it reaches the terminal. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli/report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < 32 && text[i] != '\n' && text[i] != '\t' && text[i] != '\r')
            __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    json_t *doc = json_loadb((const char *)data, n, JSON_REJECT_DUPLICATES, NULL);
    struct report *r = NULL;
    struct cn_error err = {0};
    if (!doc) return 0;
    int rc = report_create(&r, doc, &err);
    if (rc && (r || rc != err.code || !*err.text)) __builtin_trap();
    if (!rc) {
        char *text = NULL;
        size_t size = 0;
        FILE *to = open_memstream(&text, &size);
        if (!to) abort();
        report_print(r, to);
        fflush(to);
        check(text, size);
        report_csv(r, to);
        fclose(to);
        free(text);
    }
    report_destroy(r);
    json_decref(doc);
    return 0;
}
