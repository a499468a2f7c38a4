/* nn/st_scan.h - reads a safetensors header's JSON piece by piece, in the order of its bytes, without
 * building a tree: memory does not grow with the header, and time is one pass. Private to this room. */
#ifndef CINCH_NN_ST_SCAN_H
#define CINCH_NN_ST_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct st_scan {
    const char *file; /* for messages */
    const char *at, *end, *start;
    struct cn_error *err;
};

/* Fails with CN_ECORRUPT: "FILE: header, byte N: WHAT". */
int st_scan_fail(const struct st_scan *s, const char *what);

/* Skips white space; whether `c` comes next, which is then taken. */
bool st_scan_take(struct st_scan *s, char c);
/* Takes `c`, or fails. */
int st_scan_need(struct st_scan *s, char c);

/* After a value within [ ] or { }: *more 1 after a comma, 0 after `close`, which is taken. */
int st_scan_more(struct st_scan *s, char close, bool *more);

/* A string, UTF-8 with its escapes resolved: malloc'ed *out (caller frees). One with a NUL is refused. */
int st_scan_string(struct st_scan *s, char **out);
/* A string that fits into room bytes with its 0; a longer one fails with `what`. */
int st_scan_short(struct st_scan *s, char *out, size_t room, const char *what);
/* A string of which nothing is kept. */
int st_scan_skip_string(struct st_scan *s);

/* An integer in [0, 2^63). */
int st_scan_whole(struct st_scan *s, uint64_t *out);

/* Only white space is left. */
int st_scan_end(struct st_scan *s);

#endif
