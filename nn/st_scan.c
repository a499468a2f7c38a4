/* nn/st_scan.c - see st_scan.h. The grammar is RFC 8259's; of strings only the ends are found here, and
 * Jansson resolves and checks them one by one. */
#include "nn/st_scan.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

int st_scan_fail(const struct st_scan *s, const char *what)
{
    return cn_fail(s->err, CN_ECORRUPT, "%s: the safetensors header, byte %zu: %s", s->file,
                   (size_t)(s->at - s->start), what);
}

static void space(struct st_scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
        s->at++;
}

bool st_scan_take(struct st_scan *s, char c)
{
    space(s);
    if (s->at == s->end || *s->at != c) return false;
    s->at++;
    return true;
}

int st_scan_need(struct st_scan *s, char c)
{
    char what[] = "not JSON: 'x' is missing";
    if (st_scan_take(s, c)) return 0;
    *strchr(what, 'x') = c;
    return st_scan_fail(s, what);
}

int st_scan_more(struct st_scan *s, char close, bool *more)
{
    *more = st_scan_take(s, ',');
    return *more ? 0 : st_scan_need(s, close);
}

/* Past the quote that ends the string begun at s->at; *from: its first quote. */
static int find_end(struct st_scan *s, const char **from)
{
    space(s);
    *from = s->at;
    if (s->at == s->end || *s->at != '"') return st_scan_fail(s, "not JSON: a string is missing");
    for (const char *p = s->at + 1; p < s->end; p++) {
        if ((unsigned char)*p < 0x20) break;
        if (*p == '\\') {
            p++;
        } else if (*p == '"') {
            s->at = p + 1;
            return 0;
        }
    }
    return st_scan_fail(s, "not JSON: a string has no end");
}

int st_scan_string(struct st_scan *s, char **out)
{
    const char *from;
    json_error_t je;
    *out = NULL;
    int rc = find_end(s, &from);
    if (rc) return rc;
    json_t *v = json_loadb(from, (size_t)(s->at - from), JSON_DECODE_ANY, &je);
    if (!v) return st_scan_fail(s, "not JSON: a string is not UTF-8, or has an impossible escape");
    *out = strdup(json_string_value(v));
    json_decref(v);
    return *out ? 0 : cn_fail(s->err, CN_ENOMEM, "%s: out of memory", s->file);
}

int st_scan_short(struct st_scan *s, char *out, size_t room, const char *what)
{
    char *text;
    int rc = st_scan_string(s, &text);
    if (!rc && strlen(text) >= room) rc = st_scan_fail(s, what);
    if (!rc) strcpy(out, text);
    free(text);
    return rc;
}

int st_scan_skip_string(struct st_scan *s)
{
    char *text;
    int rc = st_scan_string(s, &text);
    free(text);
    return rc;
}

int st_scan_whole(struct st_scan *s, uint64_t *out)
{
    space(s);
    const char *from = s->at;
    for (*out = 0; s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++) {
        if (*out > (INT64_MAX - 9) / 10) return st_scan_fail(s, "a number is too large");
        *out = *out * 10 + (uint64_t)(*s->at - '0');
    }
    if (s->at == from || (*from == '0' && s->at - from > 1) ||
        (s->at < s->end && strchr(".eE", *s->at)))
        return st_scan_fail(s, "a number is not whole, or below 0");
    return 0;
}

int st_scan_end(struct st_scan *s)
{
    space(s);
    return s->at == s->end ? 0 : st_scan_fail(s, "not JSON: something stands behind its end");
}
