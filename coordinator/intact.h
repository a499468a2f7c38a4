/* coordinator/intact.h - which blobs are known to hold what their name says.
 *
 * A blob is read and hashed before it is served, or called complete, for the first time since the
 * start, and again whenever its file has changed since (inode, size, times). A disk that loses bits
 * without telling is not seen by this: that is what the scrub and the workers' reports are for.
 *
 * Large files are hashed in slices, so that whoever asks can serve others in between. Used by the
 * blobs' thread alone.
 */
#ifndef CINCH_COORDINATOR_INTACT_H
#define CINCH_COORDINATOR_INTACT_H

#include <stdbool.h>
#include <sys/stat.h>

#include "base/hash.h"

struct intact;

struct intact *in_create(void);
void in_destroy(struct intact *t); /* accepts NULL */

/* Whether the file that `st` describes was found to hold `hash`, and is as it was then. */
bool in_known(const struct intact *t, const struct cn_hash *hash, const struct stat *st);
/* It holds `hash`, as was just seen. */
void in_note(struct intact *t, const struct cn_hash *hash, const struct stat *st);
/* As in_known, and seen within the last 30 s. */
bool in_just_seen(const struct intact *t, const struct cn_hash *hash, const struct stat *st);
void in_forget(struct intact *t, const struct cn_hash *hash);

enum in_result {
    IN_MORE,    /* not at its end yet: ask again */
    IN_WHOLE,   /* noted, too */
    IN_DAMAGED, /* other bytes, or they cannot be read */
    IN_GONE,    /* no such file */
    IN_BUSY,    /* no memory or descriptor for it now */
};
/* Hashes up to `budget` bytes more of the file at `path`. cold: from the disk, not from what the kernel
 * remembers of it. */
enum in_result in_look(struct intact *t, const struct cn_hash *hash, const char *path,
                       uint64_t budget, bool cold);

#endif
