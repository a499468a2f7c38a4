/* base/text.c - UTF-8 and what is unsafe on a terminal; see text.h. The forms of UTF-8 are those of
 * RFC 3629, table 3-7 of the Unicode standard. */
#include "base/text.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool continues(unsigned char c)
{
    return (c & 0xc0) == 0x80;
}

int cn_utf8_length(const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    if (s[0] < 0x80) return 1;
    if (s[0] < 0xc2 || s[0] > 0xf4 || !continues(s[1])) return 0;
    if (s[0] < 0xe0) return 2;
    if (!continues(s[2])) return 0;
    if (s[0] < 0xf0) {
        bool overlong = s[0] == 0xe0 && s[1] < 0xa0, surrogate = s[0] == 0xed && s[1] > 0x9f;
        return overlong || surrogate ? 0 : 3;
    }
    bool overlong = s[0] == 0xf0 && s[1] < 0x90, beyond = s[0] == 0xf4 && s[1] > 0x8f;
    return overlong || beyond || !continues(s[3]) ? 0 : 4;
}

bool cn_utf8_valid(const char *s)
{
    for (int n; *s; s += n)
        if (!(n = cn_utf8_length(s))) return false;
    return true;
}

/* The character of the `n` bytes at s. */
static uint32_t code_point(const char *text, int n)
{
    const unsigned char *s = (const unsigned char *)text;
    if (n == 1) return s[0];
    uint32_t c = s[0] & (0xffu >> (n + 1));
    for (int i = 1; i < n; i++) c = c << 6 | (s[i] & 0x3f);
    return c;
}

/* Whether a terminal or a reader could be misled by it. */
static bool unsafe(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 ||
           (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0x200e ||
           c == 0x200f || c == 0xfeff || (c & 0xfffe) == 0xfffe; /* no characters, nor XML's */
}

bool cn_text_clean(const char *s, size_t limit)
{
    if (strnlen(s, limit + 1) > limit) return false;
    for (int n; *s; s += n) {
        if (!(n = cn_utf8_length(s))) return false;
        if (*s != '\t' && *s != '\n' && *s != '\r' && unsafe(code_point(s, n))) return false;
    }
    return true;
}

/* How the character of `n` bytes at s (0: a byte that is no UTF-8) is shown; the bytes of it. */
static int shown(char out[8], const char *s, int n)
{
    uint32_t c = n ? code_point(s, n) : (unsigned char)*s;
    if (c == '\n') return snprintf(out, 8, "\\n");
    if (c == '\r') return snprintf(out, 8, "\\r");
    if (c == '\t' || (n && !unsafe(c))) {
        memcpy(out, s, (size_t)n);
        return n;
    }
    return snprintf(out, 8, c < 0x100 ? "\\x%02x" : "\\u%04x", (unsigned)c & 0xffff);
}

size_t cn_text_show(char *out, size_t room, const char *s)
{
    size_t used = 0;
    while (room && *s) {
        char form[8];
        int n = cn_utf8_length(s), k = shown(form, s, n);
        if (used + (size_t)k >= room) break;
        memcpy(out + used, form, (size_t)k);
        used += (size_t)k;
        s += n ? n : 1;
    }
    if (room) out[used] = 0;
    return used;
}

/* Nothing in it needs another form. */
static bool plain(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s >= 0x7f || ((unsigned char)*s < 0x20 && *s != '\t')) return false;
    return true;
}

void cn_text_show_in_place(char *s, size_t room)
{
    if (plain(s)) return;
    char copy[1024], *from = strlen(s) < sizeof copy ? copy : malloc(strlen(s) + 1);
    if (!from) { /* no room for a faithful form: what is unsafe goes */
        for (; *s; s++)
            if ((unsigned char)*s < 0x20 || (unsigned char)*s >= 0x7f) *s = '?';
        return;
    }
    cn_text_show(s, room, strcpy(from, s));
    if (from != copy) free(from);
}

char *cn_text_utf8(const char *s, size_t n, bool *converted)
{
    if (converted) *converted = false;
    if (memchr(s, 0, n)) return NULL;
    char *out = malloc(2 * n + 1);
    if (!out) return NULL;
    memcpy(out, s, n);
    out[n] = 0;
    if (cn_utf8_valid(out)) return out;
    char *to = out;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x80) *to++ = (char)(0xc0 | c >> 6);
        *to++ = (char)(c < 0x80 ? c : 0x80 | (c & 0x3f));
    }
    *to = 0;
    if (converted) *converted = true;
    return out;
}
