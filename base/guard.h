/* base/guard.h - a process that holds keys: nobody looks into it, and no core file keeps them. */
#ifndef CINCH_BASE_GUARD_H
#define CINCH_BASE_GUARD_H

/* From here on no core file is written, and other processes of the same account can neither trace this
 * one nor read its memory. Call it before a key is read; again does nothing. CINCH_DUMPABLE=1 in the
 * environment leaves it out, for a debugger; so does a build with a sanitizer, which traces itself. */
void cn_guard_secrets(void);

#endif
