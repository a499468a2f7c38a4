/* cli/upload.h - datasets that the coordinator is to have. */
#ifndef CINCH_CLI_UPLOAD_H
#define CINCH_CLI_UPLOAD_H

#include "cli/cli.h"
#include "cli/data.h"
#include "proto/client.h"

/* Whether the coordinator holds a copy of the dataset with this fingerprint. */
int upload_known(struct cli *c, struct pr_client *client, const struct cn_hash *fingerprint,
                 bool *has);
/* The fingerprint of the dataset that the coordinator knows by `name`; CN_ENOTFOUND. */
int upload_named(struct cli *c, struct pr_client *client, const char *name,
                 struct cn_hash *fingerprint);

/* Opens `data` (building its cache), and sends it under `name` (cli_dataset_name of it and `how`)
 * unless the coordinator has it. */
int upload_dataset(struct cli *c, struct pr_client *client, const char *data, const char *name,
                   const struct cli_parting *how, struct cn_hash *fingerprint);

#endif
