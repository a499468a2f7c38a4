/* cli/data.h - opening what --data names. */
#ifndef CINCH_CLI_DATA_H
#define CINCH_CLI_DATA_H

#include "cli/cli.h"
#include "ecg/dataset.h"

/* `data` is a folder, a cache file, or a name that `cinch data add` registered. Builds the cache
 * with a progress bar when it is absent. *out is owned by the caller (ecg_dataset_close). */
int cli_dataset_open(struct cli *c, const char *data, struct ecg_dataset **out);

/* What a net must fit: CN_EINVALID when leads, samples, labels or the kind of task differ. */
struct nn_net;
int cli_dataset_fits(struct cli *c, const struct ecg_dataset *d, const struct nn_net *net);

int cli_cores(void); /* that this process may use, at least 1 */

#endif
