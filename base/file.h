/* base/file.h - whole files: read, map, write so that a reader or a crash never sees half of one.
 */
#ifndef CINCH_BASE_FILE_H
#define CINCH_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Opens a regular file for reading: a descriptor (the caller closes it), *size its bytes (may be
 * NULL). Folders, pipes, sockets and devices are CN_EINVALID, and none of them is waited for: every
 * file that somebody names is read through here, cn_file_read or cn_map_open. */
int cn_file_open(const char *path, int64_t *size, struct cn_error *err);

/* Reads all of `path` into malloc'ed *data (caller frees; a 0 byte follows the content). Refuses
 * more than `limit` bytes. */
int cn_file_read(const char *path, size_t limit, char **data, size_t *n, struct cn_error *err);

/* Writes through a temporary name in the same folder, fsync, rename, fsync of the folder: all or
 * nothing. Where `path` is a symbolic link, the link stays and the file that it points to is written;
 * a character device or a FIFO is written into. CN_EINVALID for a folder, a socket or a disk. */
int cn_file_write(const char *path, const void *data, size_t n, struct cn_error *err);

/* The same, but CN_EEXISTS where there is a file already; that holds against other processes too. */
int cn_file_write_new(const char *path, const void *data, size_t n, struct cn_error *err);

/* Whether such a write can be expected to succeed; for the start of long work. Nothing remains. */
int cn_file_probe(const char *path, struct cn_error *err);

/* Where a file that is written to `path` ends: links are followed, also one that points to nothing yet.
 * malloc'ed (caller frees); NULL with *err filled. */
char *cn_file_target(const char *path, struct cn_error *err);

/* Renames and syncs the folder: afterwards the name is safe. Both in one file system. */
int cn_file_rename(const char *from, const char *to, struct cn_error *err);

/* The first in pieces. On failure or abandon nothing remains. */
struct cn_writer;
int cn_writer_open(struct cn_writer **w, const char *path, struct cn_error *err);
int cn_writer_add(struct cn_writer *w, const void *data, size_t n, struct cn_error *err);
int cn_writer_commit(struct cn_writer *w, struct cn_error *err); /* frees w, whatever it returns */
void cn_writer_abandon(struct cn_writer *w);                     /* frees w; accepts NULL */

/* Read-only mapping of a whole file. */
struct cn_map {
    const uint8_t *data;
    size_t n;
};
int cn_map_open(struct cn_map *m, const char *path,
                struct cn_error *err); /* an empty file is an error */
void cn_map_close(struct cn_map *m);   /* accepts a zeroed map */

int cn_mkdirs(const char *path, struct cn_error *err); /* like mkdir -p, mode 0777 & ~umask */
int cn_rmtree(const char *path, struct cn_error *err); /* like rm -rf; does not follow links */
bool cn_file_exists(const char *path);
bool cn_dir_exists(const char *path);

/* First act of main: descriptors 0 to 2 are taken, so that no file that is opened later becomes
 * stdout. -1 where even that is impossible. */
int cn_std_open(void);
/* Last act of main: CN_EIO or CN_ENOSPACE unless all that was printed reached the file, pipe or
 * terminal. */
int cn_stdout_end(struct cn_error *err);

#endif
