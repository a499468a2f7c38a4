/* base/text.h - text that comes from outside: is it UTF-8, may it be shown.
 *
 * Names, comments and descriptions come out of files and messages that strangers wrote. What is stored
 * is checked with cn_text_clean(); what is shown to a person goes through cn_text_show(), which
 * cn_fail() and cn_log() do for everything they are given. Unsafe are the control characters C0
 * (but tab, newline and carriage return inside a text), DEL and C1, the line separators U+2028 and
 * U+2029, and the characters that turn the direction of writing (U+202A to 202E, U+2066 to 2069). */
#ifndef CINCH_BASE_TEXT_H
#define CINCH_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes (1-4) of the UTF-8 sequence at the NUL-terminated s; 0 when there is none (overlong forms
 * and surrogates are not UTF-8). */
int cn_utf8_length(const char *s);

/* Whether all of `s` is UTF-8. */
bool cn_utf8_valid(const char *s);

/* Whether `s` is UTF-8 of at most `limit` bytes without an unsafe character. Tab, newline and
 * carriage return pass. */
bool cn_text_clean(const char *s, size_t limit);

/* Copies `s` for showing: unsafe characters, newline and carriage return become \n, \r, \x1b or
 * \u202e, tabs stay, bytes that are no UTF-8 become \xe9. At most `room` bytes with the
 * terminating 0, never cut inside a character. Returns the bytes written without the 0. */
size_t cn_text_show(char *out, size_t room, const char *s);

/* The same in place, for a buffer of `room` bytes. */
void cn_text_show_in_place(char *s, size_t room);

/* `n` bytes as malloc'ed UTF-8 (caller frees; NULL when out of memory or at a 0 byte among them):
 * as they are if they are UTF-8, else taken for Latin-1 (*converted true; may be NULL). */
char *cn_text_utf8(const char *s, size_t n, bool *converted);

#endif
