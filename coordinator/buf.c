/* coordinator/buf.c - see buf.h. */
#include "coordinator/buf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

static bool room(struct buf *b, size_t more)
{
    if (b->failed) return false;
    if (b->n + more + 1 <= b->cap) return true;
    size_t cap = b->cap * 2 > b->n + more + 1 ? b->cap * 2 : b->n + more + 256;
    char *grown = realloc(b->text, cap);
    if (!grown) {
        b->failed = true;
        return false;
    }
    b->text = grown;
    b->cap = cap;
    return true;
}

void buf_add(struct buf *b, const char *text, size_t n)
{
    if (!room(b, n)) return;
    memcpy(b->text + b->n, text, n);
    b->n += n;
    b->text[b->n] = 0;
}

void buf_puts(struct buf *b, const char *text)
{
    buf_add(b, text, strlen(text));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !room(b, (size_t)n)) return;
    va_start(ap, fmt);
    vsnprintf(b->text + b->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->n += (size_t)n;
}

/* One character beyond ASCII: as it is, or escaped where a terminal or an editor would obey it.
 * Returns its bytes. */
static size_t put_wide(struct buf *b, const char *c)
{
    char one[5] = "";
    size_t n = (size_t)cn_utf8_length(c);
    if (!n) {
        buf_puts(b, "\\ufffd");
        return 1;
    }
    memcpy(one, c, n);
    if (cn_text_clean(one, n))
        buf_add(b, one, n);
    else if (n == 2)
        buf_printf(b, "\\u%04x", (one[0] & 0x1fu) << 6 | (one[1] & 0x3fu));
    else
        buf_printf(b, "\\u%04x", (one[0] & 0xfu) << 12 | (one[1] & 0x3fu) << 6 | (one[2] & 0x3fu));
    return n;
}

void buf_json(struct buf *b, const char *text)
{
    buf_add(b, "\"", 1);
    for (const char *c = text; *c;) {
        size_t plain = 0;
        while (c[plain] >= 32 && c[plain] < 127 && c[plain] != '"' && c[plain] != '\\') plain++;
        buf_add(b, c, plain);
        c += plain;
        if ((unsigned char)*c >= 128) {
            c += put_wide(b, c);
            continue;
        }
        if (!*c) break;
        if (*c == '"' || *c == '\\')
            buf_printf(b, "\\%c", *c);
        else if (*c == '\n')
            buf_puts(b, "\\n");
        else
            buf_printf(b, "\\u%04x", (unsigned)*c);
        c++;
    }
    buf_add(b, "\"", 1);
}

void buf_number(struct buf *b, double v)
{
    if (isfinite(v))
        buf_printf(b, "%.9g", v);
    else
        buf_puts(b, "null");
}

char *buf_take(struct buf *b)
{
    char *text = b->failed ? NULL : b->text;
    if (b->failed) free(b->text);
    if (!b->failed && !text) text = strdup("");
    memset(b, 0, sizeof *b);
    return text;
}

void buf_free(struct buf *b)
{
    free(b->text);
    memset(b, 0, sizeof *b);
}
