/* cli/upload.h - datasets that the coordinator is to have. */
#ifndef CINCH_CLI_UPLOAD_H
#define CINCH_CLI_UPLOAD_H

#include "cli/cli.h"
#include "proto/client.h"

/* Whether the coordinator holds a copy of the dataset with this fingerprint, or (fingerprint NULL)
 * knows one called `name`. */
int upload_known(struct cli *c, struct pr_client *client, const char *name,
                 const struct cn_hash *fingerprint, bool *has);

/* Opens `data` (building its cache), and sends it under `name` unless the coordinator has it. */
int upload_dataset(struct cli *c, struct pr_client *client, const char *data, const char *name,
                   struct cn_hash *fingerprint);

#endif
