/* base/error.c - error codes, names and texts from one list; see error.h. A text quotes what strangers wrote,
 * so each is made safe to show (base/text.h) where it is written. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

int cn_fail(struct cn_error *err, int code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        err->code = code;
        vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
        cn_text_show_in_place(err->text, sizeof err->text);
    }
    return code;
}

static int code_of_errno(int e)
{
    switch (e) {
    case ENOENT:
        return CN_ENOTFOUND;
    case ENOSPC:
    case EDQUOT:
        return CN_ENOSPACE;
    case ENOMEM:
        return CN_ENOMEM;
    case EACCES:
    case EPERM:
        return CN_EREFUSED;
    default:
        return CN_EIO;
    }
}

int cn_fail_errno(struct cn_error *err, const char *fmt, ...)
{
    int saved = errno;
    int code = code_of_errno(saved);
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        err->code = code;
        vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
        size_t n = strlen(err->text);
        snprintf(err->text + n, sizeof err->text - n, ": %s", strerror(saved));
        cn_text_show_in_place(err->text, sizeof err->text);
    }
    errno = saved;
    return code;
}

int cn_fail_prefix(struct cn_error *err, const char *fmt, ...)
{
    if (!err) return CN_EINTERNAL;
    char old[sizeof err->text];
    memcpy(old, err->text, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    size_t n = strlen(err->text);
    snprintf(err->text + n, sizeof err->text - n, ": %s", old);
    cn_text_show_in_place(err->text, sizeof err->text);
    return err->code;
}

const char *cn_code_name(int code)
{
    switch (code) {
#define X(n, name, text)                                                                           \
    case -(n):                                                                                     \
        return #name;
        CN_ERROR_MAP(X)
#undef X
    default:
        return "?";
    }
}

const char *cn_code_text(int code)
{
    switch (code) {
#define X(n, name, text)                                                                           \
    case -(n):                                                                                     \
        return text;
        CN_ERROR_MAP(X)
#undef X
    default:
        return "unknown error";
    }
}
