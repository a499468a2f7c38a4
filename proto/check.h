/* proto/check.h - what a decoded message must satisfy before anything looks at it: lengths, counts,
 * ranges, names. Pure functions over one message; what needs the coordinator's state is checked
 * there. */
#ifndef CINCH_PROTO_CHECK_H
#define CINCH_PROTO_CHECK_H

#include "proto/message.h"

/* CN_EINVALID or CN_ELIMIT with the field's name. Messages without bounds beyond their encoding
 * pass. */
int pr_check(int type, const ProtobufCMessage *body, struct cn_error *err);

/* The same for what the jobs of a run share, as it is kept: every word is one of a closed vocabulary
 * (proto/words.h). */
int pr_check_base(const Cinch__JobBase *base, struct cn_error *err);

/* 1: usable as a name: 1..PR_MAX_NAME characters of letters, digits and "._-+@:", not starting with
 * '.' or '-'. So a name is never a path. */
int pr_name_valid(const char *name);
/* 1: cn_text_clean(): UTF-8 of at most `limit` bytes without control characters other than tab, newline and
 * carriage return. */
int pr_text_valid(const char *text, size_t limit);

#endif
