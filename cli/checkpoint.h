/* cli/checkpoint.h - the file from which a training of this process can go on after a stop.
 *
 * It lies beside the model to come, as m.checkpoint.safetensors of m.safetensors, or under the next
 * free name (m.checkpoint-2.safetensors): what a training did not write itself, be it another one's
 * checkpoint or a model of that name, it neither replaces nor removes. The one it resumed from counts
 * as its own where it has such a name. */
#ifndef CINCH_CLI_CHECKPOINT_H
#define CINCH_CLI_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

struct cli_checkpoint {
    char stem[4000]; /* of all its names */
    char path[4096]; /* of the file that is its own; "" before the first */
    dev_t dev;       /* ... which is known by these */
    ino_t ino;
    bool written;        /* in this process */
    struct cn_error err; /* of the last write, code 0 when it went well */
};

/* `out`: the model to come; `net`: names the checkpoint where that is no plain file (a pipe);
 * `resume`: what the training goes on from, or NULL. */
void cli_checkpoint_start(struct cli_checkpoint *ck, const char *out, const char *net,
                          const char *resume);
/* A file that is no checkpoint of this training but has the first name for it; "" when none. */
const char *cli_checkpoint_other(const struct cli_checkpoint *ck, char path[4096]);
int cli_checkpoint_write(struct cli_checkpoint *ck, const void *data, size_t n);
/* The model is safe: removes the training's own file. */
void cli_checkpoint_done(struct cli_checkpoint *ck);

#endif
