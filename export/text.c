/* export/text.c - see text.h. */
#include "export/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int make_room(struct export_text *t, size_t n)
{
    if (t->failed || n > SIZE_MAX / 4 - t->n) t->failed = 1;
    if (t->failed) return 0;
    if (t->n + n + 1 <= t->room) return 1;
    size_t room = 2 * (t->n + n + 1);
    char *data = realloc(t->data, room);
    if (!data) {
        t->failed = 1;
        return 0;
    }
    t->data = data;
    t->room = room;
    return 1;
}

void export_add(struct export_text *t, const void *data, size_t n)
{
    if (!make_room(t, n)) return;
    if (n) memcpy(t->data + t->n, data, n);
    t->n += n;
    t->data[t->n] = 0;
}

void export_printf(struct export_text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0) t->failed = 1;
    if (n < 0 || !make_room(t, (size_t)n)) return;
    va_start(args, fmt);
    vsnprintf(t->data + t->n, (size_t)n + 1, fmt, args);
    va_end(args);
    t->n += (size_t)n;
}

void export_text_release(struct export_text *t)
{
    free(t->data);
    *t = (struct export_text){0};
}
