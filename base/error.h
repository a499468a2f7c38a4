/* base/error.h - how every fallible function in cinch reports failure.
 *
 * A function that can fail returns 0 or a negative code from the list below, and writes one human
 * sentence (what, where, and what to do) into the caller's `struct cn_error`. The pointer may be
 * NULL when the caller does not want the text. Nothing in a library exits or aborts. Needs only
 * libc and base/text.c, so that gpu/ can use it.
 */
#ifndef CINCH_BASE_ERROR_H
#define CINCH_BASE_ERROR_H

#include <stddef.h>

/* One list gives the enum, the names and the texts. Append only: codes travel in messages and
 * stores. */
#define CN_ERROR_MAP(X)                                                                            \
    X(1, NOMEM, "out of memory")                                                                   \
    X(2, IO, "input or output failed")                                                             \
    X(3, NOTFOUND, "not found")                                                                    \
    X(4, INVALID, "invalid value")                                                                 \
    X(5, CORRUPT, "corrupt or truncated data")                                                     \
    X(6, VERSION, "unsupported version")                                                           \
    X(7, LIMIT, "limit exceeded")                                                                  \
    X(8, CONNECT, "cannot connect")                                                                \
    X(9, REFUSED, "permission refused")                                                            \
    X(10, STALE, "stale attempt")                                                                  \
    X(11, CANCELLED, "cancelled")                                                                  \
    X(12, DIVERGED, "loss is not finite")                                                          \
    X(13, NODEVICE, "no such device")                                                              \
    X(14, NOSPACE, "no space left")                                                                \
    X(15, BUSY, "in use by another process")                                                       \
    X(16, UNSUPPORTED, "not supported")                                                            \
    X(17, TIMEOUT, "timed out")                                                                    \
    X(18, INTERNAL, "internal error")                                                              \
    X(19, EXISTS, "already exists")                                                                \
    X(20, INTERRUPTED, "stopped on request")

enum cn_code {
#define X(n, name, text) CN_E##name = -(n),
    CN_ERROR_MAP(X)
#undef X
};

struct cn_error {
    int code;       /* 0 or enum cn_code */
    char text[480]; /* one sentence, no newline at the end */
};

/* Fills *err (may be NULL) and returns `code`, so that callers write `return cn_fail(err, CN_EIO,
 * "...")`. Control characters and what is no UTF-8 in the text are written as \x1b (base/text.h). */
int cn_fail(struct cn_error *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* As cn_fail with CN_EIO (CN_ENOTFOUND for ENOENT, CN_ENOSPACE for ENOSPC, CN_ENOMEM for ENOMEM,
 * CN_EREFUSED for EACCES and EPERM) and ": strerror(errno)" appended; keeps errno. Returns the
 * code. */
int cn_fail_errno(struct cn_error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Puts "prefix: " before the text of an error that is passed up; returns err's code (CN_EINTERNAL
 * if err is NULL). */
int cn_fail_prefix(struct cn_error *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

const char *cn_code_name(int code); /* "CORRUPT"; "?" for unknown */
const char *cn_code_text(int code); /* "corrupt or truncated data" */

#endif
