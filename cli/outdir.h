/* cli/outdir.h - the door of results that fill a folder (`-o OUT` of run, get and report).
 *
 * Commands are given again on the same folder: a run goes on, a report grows. So what cinch wrote
 * there may be replaced by it, and everything else is kept: a file of the user's, or one of ours that
 * was changed since, is replaced only with --force. The folder's `.cinch-files` lists what was written,
 * a line a file: BLAKE2b-256 in hexadecimal, a space, the name in the folder. A file whose bytes are
 * those that would be written is left alone. */
#ifndef CINCH_CLI_OUTDIR_H
#define CINCH_CLI_OUTDIR_H

#include "base/hash.h"
#include "cli/cli.h"

struct cli_outdir;

/* Before any work: whether files can be made in `dir`, which may be absent yet and is then made by
 * the first file. `names`: files that are certain to come (NULL ends; may be NULL): CN_EEXISTS where
 * one of them must not be replaced. */
int cli_outdir_open(struct cli *c, const char *dir, bool force, const char *const *names,
                    struct cli_outdir **out);
void cli_outdir_close(struct cli_outdir *d); /* accepts NULL */
const char *cli_outdir_path(const struct cli_outdir *d);

/* Whether a file of these bytes may be put at `name`: 0, or CN_EEXISTS. *there (may be NULL): it lies
 * there already. Makes the folder. */
int cli_outdir_may(struct cli *c, struct cli_outdir *d, const char *name,
                   const struct cn_hash *hash, bool *there);
/* How many files with other bytes lay where cli_outdir_may said yes: they are replaced. */
size_t cli_outdir_replaced(const struct cli_outdir *d);
/* Lists a file that is there now or will be. */
int cli_outdir_note(struct cli *c, struct cli_outdir *d, const char *name,
                    const struct cn_hash *hash);

/* Puts all files of the folder `from` (and of folders in it) there: all, or none where one of them
 * must not be replaced. */
int cli_outdir_take(struct cli *c, struct cli_outdir *d, const char *from);

#endif
