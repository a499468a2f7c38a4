/* Fuzz target of the grid parser: any bytes, read as a grid file, end in a grid that passes its own
 * limits or in a complaint; never in a crash or a leak. Built with -fsanitize=fuzzer under
 * CINCH_FUZZ, and with replay.c's main for the normal tests. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli/grid.h"
#include "cli/submit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct grid *g = NULL;
    struct cn_error err = {0};
    int rc = grid_parse(&g, "fuzz.yaml", (const char *)data, n, &err);
    if (rc) {
        if (g || !err.text[0] || err.code != rc) __builtin_trap();
        return 0;
    }
    struct cli_submit *s = NULL;
    struct cli_submit_how how = {.dataset = "x"};
    if (g->n_nets < 1 || g->n_seeds < 1 || g->n_distill < 1) __builtin_trap();
    for (int i = 0; i < g->n_keep; i++)
        if (!(g->keep[i] > 0 && g->keep[i] <= 1)) __builtin_trap();
    if (cli_submit_create(&s, g, &how, &err)) __builtin_trap();
    cli_submit_destroy(s);
    grid_destroy(g);
    return 0;
}
