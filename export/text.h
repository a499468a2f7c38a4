/* export/text.h - a growing buffer. The first failure to grow sticks; check it once at the end. */
#ifndef CINCH_EXPORT_TEXT_H
#define CINCH_EXPORT_TEXT_H

#include <stddef.h>
#include <stdint.h>

struct export_text {
    char *data; /* owned; 0-terminated while not failed */
    size_t n, room;
    int failed;
};

void export_add(struct export_text *t, const void *data, size_t n);
void export_printf(struct export_text *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void export_text_release(struct export_text *t);

#endif
