/* cli/embed.h - a coordinator and its workers inside this process, for `cinch run`: the same code as
 * the separate programs, over in-process sockets. A trainer on a GPU is a process beside it
 * (cli/trainer.h). */
#ifndef CINCH_CLI_EMBED_H
#define CINCH_CLI_EMBED_H

#include "cli/cli.h"
#include "ecg/dataset.h"
#include "proto/client.h"

struct embed;

struct embed_options {
    const char *state;                 /* folder of the queue and the blobs; made when absent */
    const struct ecg_dataset *data[2]; /* borrowed by the workers; the second may be NULL */
    const char *device;                /* "cpu", "gpu", "gpu:N" */
    int slots;                         /* trainings at once; 0: the workers' own choice */
};

/* To be called while this process has a single thread. Starts all threads and connects a client to them. CN_EBUSY: another `cinch run` or cinchd works on
 * this state folder. */
int embed_start(struct cli *c, const struct embed_options *o, struct embed **out);
struct pr_client *embed_client(struct embed *e); /* borrowed */
/* Running jobs finish their batch and checkpoint; then everything ends. Accepts NULL. */
void embed_stop(struct embed *e);

#endif
