/* coordinator/buf.h - growing text, with JSON's escapes. */
#ifndef CINCH_COORDINATOR_BUF_H
#define CINCH_COORDINATOR_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct buf {
    char *text; /* always ends with 0, or NULL before the first addition */
    size_t n, cap;
    bool failed; /* out of memory: further additions do nothing */
};

void buf_add(struct buf *b, const char *text, size_t n);
void buf_puts(struct buf *b, const char *text);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_json(struct buf *b, const char *text); /* "text", quoted and escaped */
void buf_number(struct buf *b, double v);       /* null when not finite */
char *
buf_take(struct buf *b); /* the text, the caller frees; NULL when it failed; *b is empty after */
void buf_free(struct buf *b);

#endif
