/* Fuzz target of model files and checkpoints: any bytes end in a model that can be written and read
 * again with the same bytes, in a state, or in a complaint; never in a crash or a leak. Built with
 * -fsanitize=fuzzer under CINCH_FUZZ, and with replay.c's main for the normal tests. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "nn/checkpoint.h"
#include "nn/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void round_trip(const struct nn_model *m)
{
    struct nn_model *back;
    struct cn_error err = {0};
    void *bytes, *again;
    size_t n, k;
    if (nn_model_bytes(m, &bytes, &n, &err)) return; /* out of memory */
    if (nn_model_parse(&back, "again", bytes, n, &err)) __builtin_trap();
    if (nn_model_bytes(back, &again, &k, &err) == 0) {
        if (n != k || memcmp(bytes, again, n)) __builtin_trap();
        free(again);
    }
    free(bytes);
    nn_model_destroy(back);
}

/* The training that the corpus' checkpoint belongs to (make_corpus.py). */
static void as_checkpoint(const uint8_t *data, size_t n)
{
    static const int width[] = {2, 1, 2, 1};
    static const struct cn_hash fingerprint;
    struct nn_net *net;
    struct nn_state s;
    struct nn_recipe r = {.epochs = 3, .lr = 1e-3};
    struct cn_error err = {0};
    if (nn_net_build(&net, "cnn", width, 4, (struct nn_shape){0}, &err)) return;
    struct nn_identity id = {net, "{}", 7, 10, &fingerprint, NULL, NULL};
    if (!nn_state_create(&s, net, &r, &err)) {
        int rc = nn_checkpoint_read(&s, &id, r.epochs, data, n, &err);
        if (rc && (rc != err.code || !err.text[0])) __builtin_trap();
        if (!rc && (s.epoch > r.epochs || s.n_history > r.epochs)) __builtin_trap();
        nn_state_free(&s);
    }
    nn_net_destroy(net);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct nn_model *m = NULL;
    struct cn_error err = {0};
    int rc = nn_model_parse(&m, "fuzz", data, n, &err);
    if (rc && (m || rc != err.code || !err.text[0])) __builtin_trap();
    if (!rc) round_trip(m);
    nn_model_destroy(m);
    as_checkpoint(data, n);
    return 0;
}
