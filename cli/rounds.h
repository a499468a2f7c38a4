/* cli/rounds.h - the checkpoint of a pruning in rounds: from which round, and from where in its
 * fine-tuning, the same command goes on.
 *
 * It is a model's file, that of the net before the round, so that every command reads it; beside the
 * weights it carries what the pruning was asked for, and the round's training checkpoint if there is
 * one. What a round removes follows from the net before it, so it need not be kept. */
#ifndef CINCH_CLI_ROUNDS_H
#define CINCH_CLI_ROUNDS_H

#include <jansson.h>

#include "nn/model.h"

struct cli_rounds {
    json_t *asked; /* owned: all that changes the result, an object whose every member must agree;
                      "rounds" among them */
    int round;     /* 1-based: the one under way */
    const struct nn_model *before; /* borrowed: the net before it */
    const void *training; /* borrowed: the training's checkpoint to go on from; NULL: none */
    size_t training_n;
};

/* malloc'ed *out (the caller frees): a checkpoint; `training` NULL: the round has not begun. */
int cli_rounds_pack(const struct cli_rounds *r, const void *training, size_t n, void **out,
                    size_t *out_n, struct cn_error *err);

/* Reads a checkpoint of the same pruning: r->round, r->training (within `data`) and *before (the
 * caller's). CN_EINVALID: it is none, or of another pruning (which member differs); CN_ECORRUPT.
 * `name` stands in messages. */
int cli_rounds_unpack(struct cli_rounds *r, const char *name, const void *data, size_t n,
                      struct nn_model **before, struct cn_error *err);

#endif
